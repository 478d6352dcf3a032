//! Ids and times. Every number that travels between crates has its own type; none is a `usize`.

use core::fmt;
use core::ops::{Add, Sub};
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// A server of the ensemble: the `N` of `server.N` and the content of `myid`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u32);

/// The reign of one leader: Zab's epoch, Raft's term, Paxos's ballot. Ordered by round, then proposer.
///
/// Zab and Raft keep `proposer` at 0: one round has one leader there. In Multi-Paxos (5, node 1) and (5, node 2)
/// are two legal reigns, so the proposer is part of the id.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch {
    /// The round: high word of a zxid under Zab. 0 means "none yet".
    pub round: u32,
    /// The proposer that owns the round (Multi-Paxos), 0 elsewhere.
    pub proposer: u32,
}

impl Epoch {
    /// Before any leader.
    pub const ZERO: Self = Self { round: 0, proposer: 0 };

    /// The epoch `round` of a protocol that has one leader per round.
    #[must_use]
    pub const fn of(round: u32) -> Self {
        Self { round, proposer: 0 }
    }
}

/// Dense position in the log; the first entry has index 1, 0 is "before the log".
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Index(pub u64);

impl Index {
    /// Before the first entry.
    pub const ZERO: Self = Self(0);

    /// The next position. Saturates at the end of the number space, which 10⁶ entries/s reach in 580,000 years.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The position before, [`Index::ZERO`] at the start.
    #[must_use]
    pub const fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// Identity of an entry: the epoch of its first proposal and its position.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogId {
    /// Epoch of the leader that first proposed the entry.
    pub epoch: Epoch,
    /// Its position.
    pub index: Index,
}

impl LogId {
    /// Before the first entry.
    pub const ZERO: Self = Self { epoch: Epoch::ZERO, index: Index::ZERO };

    /// The id of the entry at `index` first proposed in `epoch`.
    #[must_use]
    pub const fn new(epoch: Epoch, index: Index) -> Self {
        Self { epoch, index }
    }
}

/// Number of a `Persist`, increasing by one; completions are cumulative. 0 is "nothing to wait for".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ticket(pub u64);

impl Ticket {
    /// Waits for nothing: always durable.
    pub const NONE: Self = Self(0);

    /// The ticket after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Name that the driver gives to a request of its own (read barrier, transfer, reconfiguration).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Token(pub u64);

/// The leader's wall clock at proposal, in milliseconds since the Unix epoch. Never decides anything in a core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp(pub u64);

/// A moment on the node's monotonic clock, in nanoseconds since an arbitrary start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Time(pub u64);

impl Time {
    /// Time that passed since `earlier`, zero if it lies in the future.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;
    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Time {
    type Output = Self;
    fn sub(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Epoch {
    /// `5`, or `5.2` when a proposer owns the round.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.proposer == 0 {
            write!(f, "{}", self.round)
        } else {
            write!(f, "{}.{}", self.round, self.proposer)
        }
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for LogId {
    /// `epoch:index`, as in `5:17`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.index)
    }
}
