//! The one clock and the one list: everything that clients ask and see, in the order in which it happened.
//!
//! The time of an event is read while the list is locked, so the list is sorted by time, and an answer that was
//! received before another question was asked stands before it. An invocation is recorded before its first byte
//! leaves, an answer after its last byte has come: the interval in the history contains the real one.

use history::{Event, FORMAT, Header, History, What};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Records a run.
#[derive(Debug)]
pub(crate) struct Recorder {
    since: Instant,
    events: Mutex<Vec<Event>>,
    calls: AtomicU64,
    /// What no server may do, noticed by a client while it reads.
    broken: Mutex<Vec<String>>,
}

impl Default for Recorder {
    fn default() -> Self {
        let (events, broken) = (Mutex::default(), Mutex::default());
        Self { since: Instant::now(), events, calls: AtomicU64::new(1), broken }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recorder {
    /// µs since the run began.
    pub(crate) fn now_us(&self) -> u64 {
        self.since.elapsed().as_micros() as u64
    }

    /// Records that this happened now, to this client; when that was.
    pub(crate) fn record(&self, client: u32, what: What) -> u64 {
        let mut events = locked(&self.events);
        let at_us = self.now_us();
        events.push(Event { at_us, client, what });
        at_us
    }

    /// A number for a call.
    pub(crate) fn call(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes what no server may do on the wire.
    pub(crate) fn broken(&self, client: u32, what: &str) {
        let mut broken = locked(&self.broken);
        if broken.len() < 100 {
            broken.push(format!("client {client} at {} µs: {what}", self.now_us()));
        }
    }

    /// What was noted.
    pub(crate) fn all_broken(&self) -> Vec<String> {
        locked(&self.broken).clone()
    }

    /// Looks at what is recorded so far.
    pub(crate) fn look<T>(&self, at: impl FnOnce(&[Event]) -> T) -> T {
        at(&locked(&self.events))
    }

    /// The history; the recorder is empty afterwards.
    pub(crate) fn take(&self, header: Header) -> History {
        let header = Header { format: FORMAT.to_owned(), ..header };
        History { header, events: std::mem::take(&mut *locked(&self.events)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_the_order_of_time_whoever_writes() {
        let recorder = Recorder::default();
        std::thread::scope(|scope| {
            for client in 1..=4 {
                let recorder = &recorder;
                scope.spawn(move || {
                    for _ in 0..200 {
                        recorder.record(client, What::Disconnected);
                    }
                });
            }
        });
        let history = recorder.take(Header::default());
        assert_eq!((history.events.len(), history.header.format.as_str()), (800, FORMAT));
        assert!(history.events.is_sorted_by_key(|e| e.at_us));
    }
}
