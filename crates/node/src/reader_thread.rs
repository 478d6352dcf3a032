//! The reader thread: attachments that are no longer in memory come from the log, off the core thread. One per node,
//! asleep unless a follower is far behind.

use crate::handle::Shared;
use crate::queue::Queue;
use parking_lot::Mutex;
use replog::{Entry, LogReader, Message, Missing, ReadRequest, Span};
use std::sync::Arc;
use wal::{Disk, WalReader};

/// The answer to a request.
pub(crate) type Answer<M> = (ReadRequest<M>, Result<Vec<Entry>, Missing>);

/// Requests and answers.
pub(crate) struct Reads<M> {
    pub(crate) requests: Queue<ReadRequest<M>>,
    answers: Mutex<Vec<Answer<M>>>,
    damaged: Mutex<Vec<Span>>,
}

impl<M> Default for Reads<M> {
    fn default() -> Self {
        Self { requests: Queue::default(), answers: Mutex::default(), damaged: Mutex::default() }
    }
}

impl<M> Reads<M> {
    /// Answers since the last call.
    pub(crate) fn answers(&self) -> Vec<Answer<M>> {
        std::mem::take(&mut *self.answers.lock())
    }

    /// Positions found damaged since the last call.
    pub(crate) fn damaged(&self) -> Vec<Span> {
        std::mem::take(&mut *self.damaged.lock())
    }
}

/// What the thread works with.
pub(crate) struct ReaderThread<M, D: Disk> {
    pub(crate) reads: Arc<Reads<M>>,
    pub(crate) reader: WalReader<D>,
    pub(crate) frame_bytes: u64,
    pub(crate) shared: Arc<Shared>,
}

impl<M: Message, D: Disk> ReaderThread<M, D> {
    /// Runs until the queue is closed.
    pub(crate) fn run(self) {
        let mut batch = Vec::new();
        while self.reads.requests.take(&mut batch) {
            for request in batch.drain(..) {
                let found = self.reader.read(request.span, self.frame_bytes);
                if found.is_err() {
                    self.reads.damaged.lock().extend(self.reader.take_damaged());
                }
                self.reads.answers.lock().push((request, found));
                self.shared.mailbox.nudge();
            }
        }
    }
}
