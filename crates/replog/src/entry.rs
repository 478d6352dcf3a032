//! Entries, and what a core writes: [`LogOp`]s in the order in which they must reach the disk.

use crate::{Configuration, Epoch, Index, LogId, NodeId, Stamp};
use alloc::boxed::Box;
use alloc::vec::Vec;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One position of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// Epoch of its first proposer, and its index.
    pub id: LogId,
    /// Epoch in which it was last accepted. Equal to `id.epoch` in Zab and Raft; a later ballot in Paxos after a
    /// re-proposal. It travels with the value: a promise that paired an old label with a new value would let a
    /// later proposer choose wrongly.
    pub ballot: Epoch,
    /// The leader's clock when it was proposed.
    pub stamp: Stamp,
    /// What it holds.
    pub body: Body,
}

/// What an entry holds. A core never looks inside the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Body {
    /// Nothing: the entry with which a reign begins (Raft), or a filled hole (Paxos). Uses up no zxid.
    Noop,
    /// A command for the state machine.
    Command(Bytes),
    /// A configuration change together with the client's command that asked for it, so that
    /// `/zookeeper/config` changes at the same index.
    Config(Box<Configuration>, Bytes),
}

impl Entry {
    /// Fixed cost of an entry on the wire and in windows, in bytes, besides its body.
    pub const OVERHEAD_BYTES: u32 = 48;

    /// Size counted against windows and frames: body plus [`Self::OVERHEAD_BYTES`].
    #[must_use]
    pub fn bytes(&self) -> u32 {
        let body = match &self.body {
            Body::Noop => 0,
            Body::Command(b) => b.len(),
            Body::Config(_, b) => b.len() + 256,
        };
        Self::OVERHEAD_BYTES.saturating_add(u32::try_from(body).unwrap_or(u32::MAX))
    }

    /// What a core needs to know of it after a restart.
    #[must_use]
    pub fn meta(&self) -> EntryMeta {
        EntryMeta {
            id: self.id,
            ballot: self.ballot,
            bytes: self.bytes(),
            configuration: match &self.body {
                Body::Config(c, _) => Some(c.clone()),
                _ => None,
            },
        }
    }
}

/// An entry without its body: what [`crate::Setup`] holds for each durable entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EntryMeta {
    /// As [`Entry::id`].
    pub id: LogId,
    /// As [`Entry::ballot`].
    pub ballot: Epoch,
    /// As [`Entry::bytes`].
    pub bytes: u32,
    /// The configuration, if the entry is one.
    pub configuration: Option<Box<Configuration>>,
}

/// The few words of a core that must survive a crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HardState {
    /// Highest epoch promised: acceptedEpoch, currentTerm, promised ballot.
    pub promised: Epoch,
    /// Who got the vote in `promised` (Raft), or is followed in it (Zab).
    pub voted_for: Option<NodeId>,
    /// Zab's currentEpoch: set once the history of that epoch is durable. Paxos: highest accepted ballot.
    pub established: Epoch,
    /// A hint for restarts: known committed when this was written. Lags, never leads.
    pub committed: Index,
}

/// One write. The order of `LogOp`s in the code is the order on disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LogOp {
    /// Replaces the hard state.
    HardState(HardState),
    /// Puts entries at their indexes, replacing what is there. Raft and Zab write contiguously; Paxos may leave
    /// holes inside its window.
    Write(Vec<Entry>),
    /// Drops every entry at or above `from`. Never at or below the committed index.
    Truncate {
        /// First index to go.
        from: Index,
    },
    /// Moves the base of the log: entries at or below `upto` may be forgotten, entries above stay. `upto` may lie
    /// beyond the end (after a snapshot install).
    Purge {
        /// The new base.
        upto: LogId,
    },
}

/// An inclusive, non-empty range of positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Span {
    /// First position.
    pub from: Index,
    /// Last position, at least `from`.
    pub to: Index,
}

impl Span {
    /// `from..=to`, or `None` if that is empty.
    #[must_use]
    pub fn new(from: Index, to: Index) -> Option<Self> {
        (from <= to).then_some(Self { from, to })
    }

    /// Number of positions.
    #[must_use]
    pub const fn count(self) -> u64 {
        self.to.0 - self.from.0 + 1
    }

    /// Whether `index` lies inside.
    #[must_use]
    pub fn contains(self, index: Index) -> bool {
        self.from <= index && index <= self.to
    }
}
