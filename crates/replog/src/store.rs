//! What a durable log offers. `wal` implements it on files, the conformance suite in memory.

use crate::{Entry, EntryMeta, HardState, LogId, LogOp, Span};
use alloc::vec::Vec;

/// The durable log of one replica: one write stream.
///
/// Contract: `append` calls reach the disk in call order, each call is all or nothing, and after a crash the
/// durable image is a prefix of the calls. `open` functions of implementations sync what they found before they
/// report it: bytes in the page cache survive a killed process, not a power cut.
pub trait LogStore {
    /// What can go wrong. After an error nothing more may be written: the process stops (a page that failed to
    /// sync is marked clean, a retry would lie).
    type Error;
    /// A handle that other threads read from.
    type Reader: LogReader;

    /// Writes the ops of one `Persist`. Not durable until [`LogStore::sync`] returns.
    ///
    /// # Errors
    /// The disk refused or is full; nothing of this call is visible after recovery.
    fn append(&mut self, ops: &[LogOp]) -> Result<(), Self::Error>;

    /// Makes everything appended so far durable.
    ///
    /// # Errors
    /// The disk failed: stop the process.
    fn sync(&mut self) -> Result<(), Self::Error>;

    /// A reader of committed entries.
    fn reader(&self) -> Self::Reader;
}

/// Reads entries back, from any thread.
pub trait LogReader {
    /// The entries of `span` from its start, as many as fit `max_bytes` (at least one), contiguous.
    ///
    /// # Errors
    /// [`Missing`] when the first of them is not there (purged, or never written).
    fn read(&self, span: Span, max_bytes: u64) -> Result<Vec<Entry>, Missing>;
}

/// The first entry of the span is not in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing;

/// What a log holds when it is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The last hard state written.
    pub hard_state: HardState,
    /// The base: entries at or below were purged.
    pub base: LogId,
    /// Every entry above the base, ascending. Contiguous in Raft and Zab; may have holes in Paxos.
    pub entries: Vec<EntryMeta>,
    /// Positions whose bytes are damaged although valid records follow: to be fetched from a quorum.
    pub damaged: Vec<Span>,
}
