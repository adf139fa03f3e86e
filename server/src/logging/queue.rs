//! The lines between those who log and the thread that writes: one buffer that is filled and one that is written.
//! The lock is held for a copy of a line or the swap of the two, never during a write.

use std::io::Write;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(super) struct Queue {
    /// Bytes that may wait.
    limit: usize,
    inner: Mutex<Inner>,
    /// Something to write, or the end.
    filled: Condvar,
    /// Something was written.
    written: Condvar,
}

#[derive(Default)]
struct Inner {
    waiting: Vec<u8>,
    /// Bytes ever taken in, and of those the bytes ever written.
    taken: u64,
    done: u64,
    /// Lines ever dropped, and of those the ones the log has told of.
    dropped: u64,
    told: u64,
    closed: bool,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, inner: Mutex::default(), filled: Condvar::new(), written: Condvar::new() }
    }

    /// A panic while a line is copied leaves at worst half a line: the log goes on.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a line in, or drops and counts it where there is no room. Never waits for a write.
    pub(super) fn push(&self, line: &[u8]) {
        let mut inner = self.lock();
        if inner.waiting.len() + line.len() > self.limit {
            inner.dropped += 1;
            return;
        }
        let was_empty = inner.waiting.is_empty();
        inner.waiting.extend_from_slice(line);
        inner.taken += line.len() as u64;
        drop(inner);
        if was_empty {
            self.filled.notify_one();
        }
    }

    #[cfg(test)]
    pub(super) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Ends [`Queue::write_to`] once everything is written.
    #[cfg(test)]
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    /// Waits until what was taken in before the call is written; false after `patience`.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut inner = self.lock();
        let target = inner.taken;
        while inner.done < target {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            inner = self.written.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// The writing thread. `tell` words the line about dropped lines. An output that fails loses its lines: there is
    /// nowhere left to say so.
    pub(super) fn write_to(&self, outputs: &mut [Box<dyn Write + Send>], tell: impl Fn(u64) -> Vec<u8>) {
        let mut batch = Vec::new();
        loop {
            let missed = {
                let mut inner = self.lock();
                while inner.waiting.is_empty() {
                    if inner.closed {
                        return;
                    }
                    inner = self.filled.wait(inner).unwrap_or_else(PoisonError::into_inner);
                }
                std::mem::swap(&mut inner.waiting, &mut batch);
                let missed = inner.dropped - inner.told;
                inner.told = inner.dropped;
                missed
            };
            let mut put = |bytes: &[u8]| {
                for output in outputs.iter_mut() {
                    let _ = output.write_all(bytes);
                }
            };
            put(&batch);
            if missed > 0 {
                put(&tell(missed));
            }
            for output in outputs.iter_mut() {
                let _ = output.flush();
            }
            self.lock().done += batch.len() as u64;
            self.written.notify_all();
            batch.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, mpsc};

    use super::*;

    /// A pipe that nobody reads until it is opened.
    struct Stuck {
        open: mpsc::Receiver<()>,
        seen: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Once the other end is gone the pipe stays open.
            let _ = self.open.recv();
            let _ = self.seen.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_output_drops_and_counts_and_tells() {
        let queue = Arc::new(Queue::new(10));
        let (open, opened) = mpsc::channel();
        let (seen, lines) = mpsc::channel();
        let writer = Arc::clone(&queue);
        let thread = std::thread::spawn(move || {
            let mut outputs: Vec<Box<dyn Write + Send>> = vec![Box::new(Stuck { open: opened, seen })];
            writer.write_to(&mut outputs, |n| format!("dropped {n}\n").into_bytes());
        });
        // Whether or not the writer has taken the first line yet, at most three lines of five bytes find room.
        let mut pushed = 0;
        while queue.dropped() == 0 {
            queue.push(b"line\n");
            pushed += 1;
        }
        assert!(pushed <= 4, "{pushed} lines of 5 bytes in a queue of 10 and one batch");
        assert!(!queue.flush(Duration::ZERO));
        drop(open);
        assert!(queue.flush(Duration::from_secs(30)));
        queue.close();
        thread.join().expect("ends");
        let text = String::from_utf8(lines.iter().flatten().collect()).expect("text");
        assert_eq!(text.matches("line\n").count(), pushed - 1);
        assert_eq!(text.matches("dropped 1\n").count(), 1, "{text}");
    }

    #[test]
    fn nothing_to_flush_is_flushed() {
        assert!(Queue::new(1).flush(Duration::ZERO));
    }
}
