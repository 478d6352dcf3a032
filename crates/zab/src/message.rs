//! What Zab replicas say to each other, in the paper's and ZooKeeper's words.
//!
//! ```text
//!  phase 0  NOTIFICATION ⇄                                everyone with everyone
//!  phase 1  FOLLOWERINFO →  ← LEADERINFO   ACKEPOCH →     learner → leader, leader → learner
//!  phase 2  ← DIFF | TRUNC | SNAP  ← CATCHUP*  ← NEWLEADER   ACK-NEWLEADER →   ← UPTODATE
//!  phase 3  ← PROPOSAL   ACK →   ← COMMIT   (observers: ← INFORM)   ← PING  PONG →
//! ```
//!
//! Lanes: all that a learner says about itself is gated on its last write, so its acks never overtake each other or
//! the handshake of a new session. All that a leader says leaves ungated, after its epoch is durable. So each side
//! uses one lane, and one lane is FIFO.
//!
//! A message never says how many entries ride with it: the driver may cut the attachment.

pub use crate::history::Table;
use alloc::boxed::Box;
use alloc::vec::Vec;
use replog::{Epoch, Index, LogId, NodeId, Phase, Span, Token};
use serde::{Deserialize, Serialize};

/// A vote: for whom, and how recent that candidate is.
///
/// The derived order is the one of the protocol: the epoch first, then the log, then the id. Comparing the zxid alone
/// elects a stale leader (trap 1.1).
// spec: zookeeper FastLeaderElection.totalOrderPredicate; zab-dsn11 §4.1
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Vote {
    /// peerEpoch: the candidate's `established` epoch; of a settled vote the epoch that its leader leads.
    pub epoch: Epoch,
    /// zxid: the candidate's last entry.
    pub last: LogId,
    /// The candidate.
    pub node: NodeId,
}

/// What the sender of a notification is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PeerState {
    /// Looking for a leader.
    Looking,
    /// Follows the node that it names.
    Following,
    /// Leads.
    Leading,
}

/// One word in an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Notification {
    /// The sender's state.
    pub state: PeerState,
    /// The sender's logical clock: number of the election that it is in, or that its leader came from.
    pub round: u64,
    /// Its vote, or the settled leader.
    pub vote: Vote,
    /// Whether the candidate may lead, as far as the sender knows: it reaches a quorum and its log is whole.
    pub eligible: bool,
    /// Whether the sender's vote counts: false for observers, learners and voters that lost their disk.
    pub counts: bool,
    /// Whether an answer is wanted. Answers never ask, or two looking replicas would answer each other for ever.
    pub ask: bool,
}

/// ACKEPOCH: what a learner promised and holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AckEpoch {
    /// Echo of FOLLOWERINFO's session.
    pub session: u64,
    /// The epoch acknowledged.
    pub epoch: Epoch,
    /// Whether it counts as a promise (trap 1.7).
    pub counts: bool,
    /// currentEpoch.
    pub established: Epoch,
    /// The epoch-start table of its log, which ends with its last entry.
    pub table: Table,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Message {
    /// Phase 0.
    Notification(Notification),
    /// A learner asks to be let in. Opens a session: what the leader sent before it is void.
    FollowerInfo {
        /// Number of the session, chosen by the learner.
        session: u64,
        /// acceptedEpoch.
        promised: Epoch,
        /// Whether its acks count.
        counts: bool,
    },
    /// The leader's new epoch.
    LeaderInfo {
        /// Echo.
        session: u64,
        /// newEpoch.
        epoch: Epoch,
    },
    /// The learner's promise and history.
    AckEpoch(Box<AckEpoch>),
    /// The learner's log is a prefix of the leader's and ends at `after`: what is missing follows.
    Diff {
        /// The leader's epoch.
        epoch: Epoch,
        /// Where it goes on.
        after: LogId,
    },
    /// The learner's log agrees up to `to` only: it drops what lies above. What is missing follows.
    Trunc {
        /// The leader's epoch.
        epoch: Epoch,
        /// Last entry that stays.
        to: LogId,
    },
    /// A snapshot is on its way on a connection of its own; what is missing above follows.
    Snap {
        /// The leader's epoch.
        epoch: Epoch,
        /// Where it was taken.
        at: LogId,
    },
    /// Entries of a catch-up; acknowledged by everyone, so that one span is in flight.
    Catchup {
        /// The leader's epoch.
        epoch: Epoch,
        /// What the leader knows to be committed.
        committed: Index,
    },
    /// The learner now holds the leader's history; proposals follow in the same lane.
    NewLeader {
        /// The leader's epoch.
        epoch: Epoch,
        /// What the leader knows to be committed.
        committed: Index,
        /// Where the history ends: what the learner has above it goes.
        last: LogId,
    },
    /// History and `established` are durable up to `upto`.
    AckNewLeader {
        /// The epoch.
        epoch: Epoch,
        /// Last entry.
        upto: Index,
    },
    /// Serve.
    UpToDate {
        /// The leader's epoch.
        epoch: Epoch,
        /// The leader's latest commit.
        committed: Index,
    },
    /// New entries.
    Proposal {
        /// The leader's epoch.
        epoch: Epoch,
        /// Commit that rides along.
        committed: Index,
    },
    /// Everything up to `upto` is durable here.
    Ack {
        /// The leader's epoch.
        epoch: Epoch,
        /// Cumulative.
        upto: Index,
    },
    /// Everything up to `upto` is committed.
    Commit {
        /// The leader's epoch.
        epoch: Epoch,
        /// Cumulative.
        upto: Index,
    },
    /// Committed entries for an observer.
    Inform {
        /// The leader's epoch.
        epoch: Epoch,
        /// Commit that rides along.
        committed: Index,
    },
    /// Heartbeat and read round.
    Ping {
        /// The leader's epoch.
        epoch: Epoch,
        /// Number of the round.
        seq: u64,
        /// The round trip that the leader measures, in microseconds; adapts the finalize wait of all.
        rtt_us: u32,
    },
    /// Still following in `epoch`.
    Pong {
        /// The leader's epoch.
        epoch: Epoch,
        /// Echo.
        seq: u64,
        /// Durable progress; the only one that observers report in broadcast.
        upto: Index,
    },
    /// Read barriers of a follower.
    ReadAsk {
        /// The leader's epoch.
        epoch: Epoch,
        /// The follower's names for them.
        tokens: Vec<Token>,
    },
    /// Serve these reads once `at` is applied.
    ReadIndex {
        /// The leader's epoch.
        epoch: Epoch,
        /// Index to wait for.
        at: Index,
        /// Which.
        tokens: Vec<Token>,
    },
    /// The sender stops leading: elect, or follow `to`, which it names as its successor.
    Resign {
        /// The epoch that ends.
        epoch: Epoch,
        /// The election round that begins.
        round: u64,
        /// Successor of a hand-over.
        to: Option<NodeId>,
    },
    /// A learner cannot read these positions any more (bit rot).
    Fetch {
        /// The leader's epoch.
        epoch: Epoch,
        /// Which.
        span: Span,
    },
    /// Entries that a learner asked for.
    Refill {
        /// The leader's epoch.
        epoch: Epoch,
    },
}

impl replog::Message for Message {
    fn kind(&self) -> &'static str {
        match self {
            Self::Notification(_) => "NOTIFICATION",
            Self::FollowerInfo { .. } => "FOLLOWERINFO",
            Self::LeaderInfo { .. } => "LEADERINFO",
            Self::AckEpoch(_) => "ACKEPOCH",
            Self::Diff { .. } => "DIFF",
            Self::Trunc { .. } => "TRUNC",
            Self::Snap { .. } => "SNAP",
            Self::Catchup { .. } => "CATCHUP",
            Self::NewLeader { .. } => "NEWLEADER",
            Self::AckNewLeader { .. } => "ACK-NEWLEADER",
            Self::UpToDate { .. } => "UPTODATE",
            Self::Proposal { .. } => "PROPOSAL",
            Self::Ack { .. } => "ACK",
            Self::Commit { .. } => "COMMIT",
            Self::Inform { .. } => "INFORM",
            Self::Ping { .. } => "PING",
            Self::Pong { .. } => "PONG",
            Self::ReadAsk { .. } => "SYNC",
            Self::ReadIndex { .. } => "SYNC-REPLY",
            Self::Resign { .. } => "RESIGN",
            Self::Fetch { .. } => "FETCH",
            Self::Refill { .. } => "REFILL",
        }
    }

    fn phase(&self) -> Phase {
        match self {
            Self::Notification(_) | Self::Resign { .. } => Phase::Election,
            Self::FollowerInfo { .. } | Self::LeaderInfo { .. } | Self::AckEpoch(_) => Phase::Discovery,
            Self::Diff { .. }
            | Self::Trunc { .. }
            | Self::Snap { .. }
            | Self::Catchup { .. }
            | Self::NewLeader { .. }
            | Self::AckNewLeader { .. }
            | Self::UpToDate { .. }
            | Self::Fetch { .. }
            | Self::Refill { .. } => Phase::Sync,
            Self::Proposal { .. }
            | Self::Ack { .. }
            | Self::Commit { .. }
            | Self::Inform { .. }
            | Self::Ping { .. }
            | Self::Pong { .. }
            | Self::ReadAsk { .. }
            | Self::ReadIndex { .. } => Phase::Broadcast,
        }
    }

    fn epoch(&self) -> Epoch {
        match self {
            Self::Notification(n) => n.vote.epoch,
            Self::AckEpoch(a) => a.epoch,
            Self::FollowerInfo { promised: epoch, .. }
            | Self::LeaderInfo { epoch, .. }
            | Self::Diff { epoch, .. }
            | Self::Trunc { epoch, .. }
            | Self::Snap { epoch, .. }
            | Self::Catchup { epoch, .. }
            | Self::NewLeader { epoch, .. }
            | Self::AckNewLeader { epoch, .. }
            | Self::UpToDate { epoch, .. }
            | Self::Proposal { epoch, .. }
            | Self::Ack { epoch, .. }
            | Self::Commit { epoch, .. }
            | Self::Inform { epoch, .. }
            | Self::Ping { epoch, .. }
            | Self::Pong { epoch, .. }
            | Self::ReadAsk { epoch, .. }
            | Self::ReadIndex { epoch, .. }
            | Self::Resign { epoch, .. }
            | Self::Fetch { epoch, .. }
            | Self::Refill { epoch } => *epoch,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use replog::Message as _;

    fn vote(epoch: u32, last: (u32, u64), node: u32) -> Vote {
        Vote {
            epoch: Epoch::of(epoch),
            last: LogId::new(Epoch::of(last.0), Index(last.1)),
            node: NodeId(node),
        }
    }

    /// Trap 1.1. requirement: S23
    #[test]
    fn votes_compare_epoch_then_log_then_id() {
        assert!(vote(2, (1, 1), 1) > vote(1, (1, 9), 3), "the established epoch outranks a longer log");
        assert!(vote(2, (2, 1), 1) > vote(2, (1, 9), 3), "the entry's epoch outranks its index");
        assert!(vote(2, (2, 5), 1) > vote(2, (2, 4), 3), "the longer log outranks the id");
        assert!(vote(2, (2, 5), 3) > vote(2, (2, 5), 1), "ids break ties");
    }

    #[test]
    fn messages_are_small() {
        assert!(core::mem::size_of::<Message>() <= 64, "{}", core::mem::size_of::<Message>());
        assert_eq!(Message::Commit { epoch: Epoch::of(3), upto: Index(1) }.epoch(), Epoch::of(3));
    }
}
