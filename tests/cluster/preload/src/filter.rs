//! The seccomp filter: which system calls become SIGSYS.
#![allow(unsafe_code)]

use libc::{c_long, sock_filter, sock_fprog};

use crate::raw::PASS;

/// Calls that change files, on both architectures.
const STOPPED: [c_long; 30] = [
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_sync,
    libc::SYS_syncfs,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_ftruncate,
    libc::SYS_truncate,
    libc::SYS_fallocate,
    libc::SYS_mkdirat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_io_uring_setup,
    libc::SYS_close_range,
    libc::SYS_io_submit,
];

/// Calls of old that only x86 has.
#[cfg(target_arch = "x86_64")]
const OLD: [c_long; 9] = [
    libc::SYS_open,
    libc::SYS_creat,
    libc::SYS_dup2,
    libc::SYS_rename,
    libc::SYS_unlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_link,
    libc::SYS_symlink,
];
#[cfg(target_arch = "aarch64")]
const OLD: [c_long; 0] = [];

const NUMBER: u32 = 0;
const fn arg_low(n: u32) -> u32 {
    16 + 8 * n
}

fn load(offset: u32) -> sock_filter {
    sock_filter { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: offset }
}

fn jump(how: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: (libc::BPF_JMP | how | libc::BPF_K) as u16, jt, jf, k }
}

fn answer(k: u32) -> sock_filter {
    sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k }
}

/// Traps unless the sixth argument is the mark of a call of our own.
fn trap_unless_ours() -> [sock_filter; 6] {
    [
        load(arg_low(5)),
        jump(libc::BPF_JEQ, PASS as u32, 0, 2),
        load(arg_low(5) + 4),
        jump(libc::BPF_JEQ, (PASS >> 32) as u32, 1, 0),
        answer(libc::SECCOMP_RET_TRAP),
        answer(libc::SECCOMP_RET_ALLOW),
    ]
}

/// fcntl that duplicates, and mmap that shares and writes a file, are told by their arguments; all others by number.
fn program() -> Vec<sock_filter> {
    let mut out = vec![load(NUMBER)];
    for number in STOPPED.iter().chain(&OLD) {
        out.push(jump(libc::BPF_JEQ, *number as u32, 0, 6));
        out.extend(trap_unless_ours());
    }
    out.push(jump(libc::BPF_JEQ, libc::SYS_fcntl as u32, 0, 10));
    out.push(load(arg_low(1)));
    out.push(jump(libc::BPF_JEQ, libc::F_DUPFD_CLOEXEC as u32, 2, 0));
    out.push(jump(libc::BPF_JEQ, libc::F_DUPFD as u32, 1, 0));
    out.push(answer(libc::SECCOMP_RET_ALLOW));
    out.extend(trap_unless_ours());
    out.push(jump(libc::BPF_JEQ, libc::SYS_mmap as u32, 0, 7));
    out.push(load(arg_low(3)));
    out.push(jump(libc::BPF_JSET, libc::MAP_SHARED as u32, 0, 3));
    out.push(jump(libc::BPF_JSET, libc::MAP_ANONYMOUS as u32, 2, 0));
    out.push(load(arg_low(2)));
    out.push(jump(libc::BPF_JSET, libc::PROT_WRITE as u32, 1, 0));
    out.push(answer(libc::SECCOMP_RET_ALLOW));
    out.push(answer(libc::SECCOMP_RET_TRAP));
    out.push(answer(libc::SECCOMP_RET_ALLOW));
    out
}

/// Installs the filter for this thread and all that it starts. False where the kernel refuses.
pub fn install() -> bool {
    let mut program = program();
    let described = sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program outlives the call, which copies it.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const described) == 0
    }
}
