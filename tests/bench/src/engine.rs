//! The epoll loop: one thread, all connections. It never sleeps past a given time and never holds answers back.

use crate::conn::Conn;
use crate::tx::{Failure, Handler, Tx};
use crate::{clock, interrupt};
use anyhow::{Result, bail, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

const EVENTS: usize = 256;
const SETTINGS_TIMEOUT: Duration = Duration::from_secs(10);
/// No wait is longer, so that a signal is seen.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

pub struct Engine {
    epoll: OwnedFd,
    conns: Vec<Conn>,
    writable: Vec<bool>,
    events: Vec<epoll::Event>,
}

/// For phases in which no answer is expected.
struct Nobody;

impl Handler for Nobody {
    fn message(&mut self, _: &mut Tx, _: u32, _: &[u8]) {}
    fn ended(&mut self, _: &mut Tx, _: u32, _: Result<(), Failure>) {}
}

impl Engine {
    /// Opens `count` connections and waits for every server's SETTINGS.
    pub fn connect(addr: SocketAddr, count: usize) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut conns = Vec::with_capacity(count);
        for i in 0..count {
            let mut conn = Conn::connect(addr, i)?;
            conn.flush()?;
            epoll::add(&epoll, &conn.sock, epoll::EventData::new_u64(i as u64), epoll::EventFlags::IN)?;
            conns.push(conn);
        }
        let mut engine = Self { epoll, conns, writable: vec![false; count], events: Vec::with_capacity(EVENTS) };
        let deadline = clock::now() + SETTINGS_TIMEOUT.as_nanos() as u64;
        while !engine.conns.iter().all(|c| c.ready) {
            ensure!(clock::now() < deadline, "the server at {addr} sent no HTTP/2 SETTINGS");
            engine.turn(&mut Nobody, LONGEST_WAIT)?;
        }
        Ok(engine)
    }

    pub fn len(&self) -> usize {
        self.conns.len()
    }

    pub fn tx(&mut self, index: usize) -> &mut Tx {
        &mut self.conns[index].tx
    }

    /// Octets read from all connections so far.
    pub fn received(&self) -> u64 {
        self.conns.iter().map(|c| c.received).sum()
    }

    /// Fails when the server allows fewer concurrent streams on a connection.
    pub fn need_streams(&self, per_conn: usize) -> Result<()> {
        match self.conns.iter().map(|c| c.tx.max_streams as usize).min() {
            Some(max) if max < per_conn => {
                bail!("the server allows {max} streams a connection, {per_conn} are needed")
            }
            _ => Ok(()),
        }
    }

    /// Stops reading a connection for good, as a client does that hangs.
    pub fn never_read(&mut self, index: usize) -> Result<()> {
        self.conns[index].flush()?;
        Ok(epoll::delete(&self.epoll, &self.conns[index].sock)?)
    }

    /// Sends what waits, then handles what has come, waiting at most `wait` for something.
    pub fn turn<H: Handler>(&mut self, handler: &mut H, wait: Duration) -> Result<()> {
        if interrupt::requested() {
            bail!("interrupted");
        }
        for i in 0..self.conns.len() {
            if !self.conns[i].stuck && !self.conns[i].tx.out.is_empty() {
                self.flush(i)?;
            }
        }
        let timeout = Timespec { tv_sec: 0, tv_nsec: wait.min(LONGEST_WAIT).as_nanos() as _ };
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        for n in 0..self.events.len() {
            let event = self.events[n];
            let i = event.data.u64() as usize;
            let flags = event.flags;
            if flags != epoll::EventFlags::OUT {
                self.conns[i].read(handler, clock::now)?;
            }
            self.flush(i)?;
        }
        Ok(())
    }

    fn flush(&mut self, i: usize) -> Result<()> {
        let conn = &mut self.conns[i];
        conn.flush()?;
        if conn.stuck != self.writable[i] {
            self.writable[i] = conn.stuck;
            let flags = if conn.stuck { epoll::EventFlags::IN | epoll::EventFlags::OUT } else { epoll::EventFlags::IN };
            epoll::modify(&self.epoll, &conn.sock, epoll::EventData::new_u64(i as u64), flags)?;
        }
        Ok(())
    }
}
