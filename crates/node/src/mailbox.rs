//! How other threads reach the core thread.
//!
//! Everything lies behind one lock that is held for a push or a swap. A thread that pushes wakes the core only if
//! it sleeps: a wake is a system call, and a core that works finds the push before it goes to sleep.
//!
//! ```text
//!  pusher                         core
//!  1. lock, push, unlock          a. asleep := true
//!  2. if asleep.swap(false)       b. look again; if something is there: asleep := false, go on
//!        wake                     c. return to the runtime
//! ```
//! 1 before 2 and a before b, all sequentially consistent: either the core sees the push at b, or the pusher sees
//! `asleep` at 2. None is lost.

use crate::snapshots::SnapshotEvent;
use bytes::Bytes;
use parking_lot::Mutex;
use replog::{NodeId, Ticket};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::Waker;

/// What waits for the core thread.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    /// Commands to propose, in order.
    pub(crate) proposals: Vec<Bytes>,
    /// Application messages to send, in order.
    pub(crate) messages: Vec<(NodeId, Bytes)>,
    /// Read barriers.
    pub(crate) barriers: Vec<u64>,
    /// A wish to hand leadership over.
    pub(crate) transfer: Option<Option<NodeId>>,
    /// Everything up to here is durable.
    pub(crate) durable: Ticket,
    /// Snapshots taken, received, sent.
    pub(crate) snapshots: Vec<SnapshotEvent>,
    /// The graceful end was asked for.
    pub(crate) shutdown: bool,
    /// The immediate end was asked for.
    pub(crate) stop: bool,
    /// Nobody takes anything any more.
    closed: bool,
}

/// The lock and the wake.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    inbox: Mutex<Inbox>,
    filled: AtomicBool,
    asleep: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Mailbox {
    /// Puts something in and wakes the core if it sleeps.
    pub(crate) fn put(&self, put: impl FnOnce(&mut Inbox)) {
        let mut inbox = self.inbox.lock();
        if inbox.closed {
            return;
        }
        put(&mut inbox);
        drop(inbox);
        self.nudge();
    }

    /// The core has ended: whatever comes is dropped.
    pub(crate) fn close(&self) {
        *self.inbox.lock() = Inbox { closed: true, ..Inbox::default() };
    }

    /// Makes the core take a turn.
    pub(crate) fn nudge(&self) {
        self.filled.store(true, SeqCst);
        if self.asleep.swap(false, SeqCst)
            && let Some(waker) = &*self.waker.lock()
        {
            waker.wake_by_ref();
        }
    }

    /// Swaps the content out; `into` must be empty. False if nothing was there.
    pub(crate) fn take(&self, into: &mut Inbox) -> bool {
        if !self.filled.swap(false, SeqCst) {
            return false;
        }
        let mut inbox = self.inbox.lock();
        // The flags stay: a second look at them must not undo the first.
        into.shutdown = inbox.shutdown;
        into.stop = inbox.stop;
        into.durable = inbox.durable;
        std::mem::swap(&mut *inbox, into);
        true
    }

    /// Declares the core asleep. False if there is something to do first.
    pub(crate) fn sleep(&self, waker: &Waker) -> bool {
        {
            let mut slot = self.waker.lock();
            if slot.as_ref().is_none_or(|w| !w.will_wake(waker)) {
                *slot = Some(waker.clone());
            }
        }
        self.asleep.store(true, SeqCst);
        if self.filled.load(SeqCst) {
            self.asleep.store(false, SeqCst);
            return false;
        }
        true
    }

    /// The core runs, whoever woke it.
    pub(crate) fn awake(&self) {
        self.asleep.store(false, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn only_a_sleeper_is_woken_and_only_once() {
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let count = || wakes.0.load(Ordering::SeqCst);
        let mailbox = Mailbox::default();
        mailbox.put(|i| i.barriers.push(1));
        assert!(!mailbox.sleep(&waker), "something is there");
        let mut inbox = Inbox::default();
        assert!(mailbox.take(&mut inbox));
        assert_eq!(inbox.barriers, [1]);
        assert!(mailbox.sleep(&waker));
        assert_eq!(count(), 0);
        mailbox.put(|i| i.barriers.push(2));
        mailbox.put(|i| i.barriers.push(3));
        assert_eq!(count(), 1);
        inbox.barriers.clear();
        assert!(mailbox.take(&mut inbox));
        assert_eq!(inbox.barriers, [2, 3]);
        assert!(!mailbox.take(&mut Inbox::default()));
    }

    #[test]
    fn the_end_is_not_forgotten() {
        let mailbox = Mailbox::default();
        mailbox.put(|i| i.shutdown = true);
        for _ in 0..2 {
            let mut inbox = Inbox::default();
            mailbox.nudge();
            assert!(mailbox.take(&mut inbox));
            assert!(inbox.shutdown);
        }
    }
}
