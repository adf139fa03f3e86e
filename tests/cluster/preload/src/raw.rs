//! System calls that the filter lets through, and the registers of one that it did not.
#![allow(unsafe_code)]

use libc::{c_long, ucontext_t};

/// The sixth argument of a call of our own. None of the calls that the filter stops has one that the kernel reads.
pub const PASS: u64 = 0x6b65_6570_7374_6f6e;

/// A system call as the registers hold it.
#[derive(Clone, Copy)]
pub struct Call {
    pub number: c_long,
    pub args: [u64; 6],
}

/// Carries out `number` and answers as the kernel does: a negative errno for a failure.
pub fn call(number: c_long, args: [u64; 5]) -> i64 {
    let [a, b, c, d, e] = args;
    // SAFETY: the arguments are a caught call's own, or describe memory and strings that the caller holds.
    unsafe {
        let kept = *libc::__errno_location();
        let result = libc::syscall(number, a, b, c, d, e, PASS);
        let failed = *libc::__errno_location();
        *libc::__errno_location() = kept;
        if result == -1 { -i64::from(failed) } else { result }
    }
}

/// The call that was stopped.
#[cfg(target_arch = "x86_64")]
pub fn stopped(context: &ucontext_t) -> Call {
    let reg = |r: i32| context.uc_mcontext.gregs[r as usize] as u64;
    let args = [libc::REG_RDI, libc::REG_RSI, libc::REG_RDX, libc::REG_R10, libc::REG_R8, libc::REG_R9].map(reg);
    Call { number: reg(libc::REG_RAX) as c_long, args }
}

/// Makes the stopped call answer `result`.
#[cfg(target_arch = "x86_64")]
pub fn answer(context: &mut ucontext_t, result: i64) {
    context.uc_mcontext.gregs[libc::REG_RAX as usize] = result;
}

/// The call that was stopped.
#[cfg(target_arch = "aarch64")]
pub fn stopped(context: &ucontext_t) -> Call {
    let regs = &context.uc_mcontext.regs;
    Call { number: regs[8] as c_long, args: [regs[0], regs[1], regs[2], regs[3], regs[4], regs[5]] }
}

/// Makes the stopped call answer `result`.
#[cfg(target_arch = "aarch64")]
pub fn answer(context: &mut ucontext_t, result: i64) {
    context.uc_mcontext.regs[0] = result as u64;
}
