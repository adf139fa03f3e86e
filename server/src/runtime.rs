//! The threads that serve connections. By default one current-thread runtime per core, connections dealt out in
//! turn, answers returned through each thread's lane; `--runtime=multi` uses one work-stealing runtime instead.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, watch};

use crate::lanes::{Lane, Lanes};

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;
/// Made on one thread, run on another: what a connection needs is created where it lives.
type Start = Box<dyn FnOnce() -> Task + Send>;

/// Connections handed to a thread that it has not started yet.
const UNSTARTED_CONNECTIONS: usize = 1024;

/// The serving threads. Dropping it stops them.
pub struct Workers {
    starts: Vec<mpsc::Sender<Start>>,
    threads: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    next: usize,
}

/// How connections are spread over cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A current-thread runtime per core.
    Local,
    /// One runtime that moves tasks between its threads.
    Multi,
}

impl Workers {
    /// Starts `cores` serving threads.
    ///
    /// # Errors
    /// When a thread or its runtime can't be made.
    pub fn start(layout: Layout, cores: usize) -> io::Result<(Self, Lanes)> {
        let (stop, stopped) = watch::channel(false);
        let (count, threads_each) = match layout {
            Layout::Local => (cores, None),
            Layout::Multi => (1, Some(cores)),
        };
        let (lanes, ends) = match layout {
            Layout::Local => Lanes::new(count),
            Layout::Multi => (Lanes::default(), Vec::new()),
        };
        let mut ends = ends.into_iter();
        let mut workers = Self { starts: Vec::new(), threads: Vec::new(), stop, next: 0 };
        for number in 0..count {
            let runtime = match threads_each {
                None => tokio::runtime::Builder::new_current_thread().enable_all().build()?,
                Some(n) => tokio::runtime::Builder::new_multi_thread().worker_threads(n).enable_all().build()?,
            };
            let (tx, rx) = mpsc::channel(UNSTARTED_CONNECTIONS);
            let (lane, stopped) = (ends.next(), stopped.clone());
            let name = format!("serve-{number}");
            let thread = std::thread::Builder::new().name(name).spawn(move || {
                runtime.block_on(serve(rx, lane, stopped));
                // Open connections end with their runtime; blocking reads in flight are not waited for.
                runtime.shutdown_background();
            })?;
            workers.starts.push(tx);
            workers.threads.push(thread);
        }
        Ok((workers, lanes))
    }

    /// How many places there are to run things.
    pub fn threads(&self) -> usize {
        self.starts.len()
    }

    /// Runs `start` on the next thread in turn. Waits while that thread has too many unstarted ones.
    pub async fn spawn(&mut self, start: impl FnOnce() -> Task + Send + 'static) {
        let n = self.next;
        self.next = (n + 1) % self.starts.len();
        // A thread that is gone means that the member stops; so does its connection.
        drop(self.starts[n].send(Box::new(start)).await);
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

async fn serve(mut starts: mpsc::Receiver<Start>, lane: Option<Lane>, mut stopped: watch::Receiver<bool>) {
    if let Some(lane) = lane {
        tokio::spawn(lane.run());
    }
    loop {
        tokio::select! {
            start = starts.recv() => match start {
                Some(start) => drop(tokio::spawn(start())),
                None => return,
            },
            _ = stopped.wait_for(|stop| *stop) => return,
        }
    }
}
