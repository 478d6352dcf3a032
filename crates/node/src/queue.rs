//! How the core thread hands work to a thread that blocks: a list under a lock, taken whole by its one consumer, so
//! that batches form by themselves. A push wakes the consumer only if it waits.

use parking_lot::{Condvar, Mutex};
use replog::Ticket;

#[derive(Debug)]
struct State<T> {
    items: Vec<T>,
    closed: bool,
}

/// A queue with many producers and one consumer. Bounded by its producers.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { state: Mutex::new(State { items: Vec::new(), closed: false }), filled: Condvar::new() }
    }
}

impl<T> Queue<T> {
    /// Appends one item. Dropped if the queue is closed.
    pub(crate) fn push(&self, item: T) {
        let mut state = self.state.lock();
        if !state.closed {
            state.items.push(item);
            drop(state);
            self.filled.notify_one();
        }
    }

    /// Appends several; does not wake for none.
    pub(crate) fn extend(&self, items: Vec<T>) {
        if items.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        if state.items.is_empty() {
            state.items = items;
        } else {
            state.items.extend(items);
        }
        drop(state);
        self.filled.notify_one();
    }

    /// Waits for items and swaps all of them into `into`, which must be empty. False once the queue is closed and
    /// empty.
    pub(crate) fn take(&self, into: &mut Vec<T>) -> bool {
        let mut state = self.state.lock();
        while state.items.is_empty() {
            if state.closed {
                return false;
            }
            self.filled.wait(&mut state);
        }
        std::mem::swap(&mut state.items, into);
        true
    }

    /// No more items; what is there is still taken, unless `discard`.
    pub(crate) fn close(&self, discard: bool) {
        let mut state = self.state.lock();
        state.closed = true;
        if discard {
            state.items.clear();
        }
        drop(state);
        self.filled.notify_all();
    }

    /// Whether [`Self::close`] was called.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }
}

/// How far the log is durable, for threads that wait for it.
#[derive(Debug, Default)]
pub(crate) struct Durable {
    state: Mutex<(Ticket, bool)>,
    moved: Condvar,
}

impl Durable {
    /// Everything up to `ticket` is durable.
    pub(crate) fn reach(&self, ticket: Ticket) {
        let mut state = self.state.lock();
        state.0 = state.0.max(ticket);
        drop(state);
        self.moved.notify_all();
    }

    /// It will go no further.
    pub(crate) fn close(&self) {
        self.state.lock().1 = true;
        self.moved.notify_all();
    }

    /// Waits until `ticket` is durable. False if that will not come.
    pub(crate) fn wait(&self, ticket: Ticket) -> bool {
        let mut state = self.state.lock();
        while state.0 < ticket && !state.1 {
            self.moved.wait(&mut state);
        }
        state.0 >= ticket
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    #[test]
    fn everything_pushed_is_taken_in_order() {
        let queue = Arc::new(Queue::default());
        let consumer = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                let (mut all, mut batch) = (Vec::new(), Vec::new());
                while queue.take(&mut batch) {
                    all.append(&mut batch);
                }
                all
            })
        };
        for i in 0..500 {
            queue.push(2 * i);
            queue.extend(vec![2 * i + 1]);
        }
        queue.close(false);
        queue.push(7);
        assert_eq!(consumer.join().unwrap(), (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn durable_waits_for_the_ticket_or_the_end() {
        let durable = Arc::new(Durable::default());
        let waiter = {
            let durable = Arc::clone(&durable);
            thread::spawn(move || (durable.wait(Ticket(3)), durable.wait(Ticket(5))))
        };
        durable.reach(Ticket(4));
        durable.close();
        assert_eq!(waiter.join().unwrap(), (true, false));
    }
}
