//! What Raft replicas say to each other (paper, figure 2 and 13; thesis §3.10, §6.4, §9.6).
//!
//! ```text
//!  Election   PreVote ⇄ PreVoteReply
//!  Discovery  RequestVote ⇄ Vote                       TimeoutNow (transfer)
//!  Sync       AppendEntries ⇄ Appended | Mismatch      until a follower is known to be level
//!  Broadcast  AppendEntries ⇄ Appended    Commit       ReadIndex ⇄ ReadIndexReply
//! ```
//!
//! Entries ride outside the message; it never says how many. The encoding is frozen once released.

use replog::{Epoch, Index, LogId, Phase, Span};
use serde::{Deserialize, Serialize};

/// One message. `term` is the sender's current term unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Message {
    /// Would you vote for me in `term`? Changes nothing durable, and `term` is never adopted.
    PreVote {
        /// The term that the sender would campaign in: one more than its own.
        term: Epoch,
        /// Last entry of its log.
        last: LogId,
    },
    /// Answer to `PreVote`.
    PreVoteReply {
        /// Granted: the term asked about. Refused: the sender's own term.
        term: Epoch,
        /// Whether it would.
        granted: bool,
    },
    /// Vote for me. The only message that may overtake the write of its own term.
    RequestVote {
        /// The candidate's term.
        term: Epoch,
        /// Last entry of its log; durable.
        last: LogId,
        /// The old leader asked for this election: voters need not wait for it.
        transfer: bool,
    },
    /// Answer to `RequestVote`.
    Vote {
        /// The voter's term.
        term: Epoch,
        /// Whether the vote was given; durable.
        granted: bool,
    },
    /// Log replication; without entries, a heartbeat that is answered at once.
    AppendEntries {
        /// The leader's term.
        term: Epoch,
        /// The entry before those that ride along.
        prev: LogId,
        /// The leader's commit index.
        commit: Index,
        /// Latest round of the leader that began before this was sent (ReadIndex, leases).
        round: u64,
        /// The follower is not known to be level yet: cost of synchronisation.
        sync: bool,
    },
    /// The follower's log equals the leader's up to `matched`, durably.
    Appended {
        /// The follower's term.
        term: Epoch,
        /// How far.
        matched: Index,
        /// Round of the message answered.
        round: u64,
        /// False: its disk was lost since it last voted, do not count it in quorums.
        counts: bool,
        /// As in the message answered.
        sync: bool,
    },
    /// The follower has another entry at `probed`, or none.
    Mismatch {
        /// The follower's term.
        term: Epoch,
        /// Index of the `prev` refused.
        probed: Index,
        /// Its last entry at or below `probed` whose term is not above the refused one's: nothing between can match.
        hint: LogId,
        /// Round of the message answered.
        round: u64,
    },
    /// The commit index moved; not answered.
    Commit {
        /// The leader's term.
        term: Epoch,
        /// Its commit index.
        commit: Index,
    },
    /// You act in an older term.
    Stale {
        /// The sender's term.
        term: Epoch,
    },
    /// Campaign now: the leader hands over.
    TimeoutNow {
        /// The leader's term.
        term: Epoch,
    },
    /// A follower asks for a read barrier.
    ReadIndex {
        /// The follower's term.
        term: Epoch,
        /// The follower's name for a batch of barriers.
        id: u64,
    },
    /// Answer to `ReadIndex`.
    ReadIndexReply {
        /// The leader's term.
        term: Epoch,
        /// As asked.
        id: u64,
        /// Reads may be served from here on.
        at: Index,
    },
    /// These committed entries are damaged on the sender's disk: send them again.
    Refetch {
        /// The sender's term.
        term: Epoch,
        /// Which.
        span: Span,
    },
}

impl replog::Message for Message {
    fn kind(&self) -> &'static str {
        match self {
            Self::PreVote { .. } => "PreVote",
            Self::PreVoteReply { .. } => "PreVoteReply",
            Self::RequestVote { .. } => "RequestVote",
            Self::Vote { .. } => "Vote",
            Self::AppendEntries { .. } => "AppendEntries",
            Self::Appended { .. } => "Appended",
            Self::Mismatch { .. } => "Mismatch",
            Self::Commit { .. } => "Commit",
            Self::Stale { .. } => "Stale",
            Self::TimeoutNow { .. } => "TimeoutNow",
            Self::ReadIndex { .. } => "ReadIndex",
            Self::ReadIndexReply { .. } => "ReadIndexReply",
            Self::Refetch { .. } => "Refetch",
        }
    }

    fn phase(&self) -> Phase {
        match self {
            Self::PreVote { .. } | Self::PreVoteReply { .. } | Self::Stale { .. } => Phase::Election,
            Self::RequestVote { .. } | Self::Vote { .. } | Self::TimeoutNow { .. } => Phase::Discovery,
            Self::AppendEntries { sync: true, .. }
            | Self::Appended { sync: true, .. }
            | Self::Mismatch { .. }
            | Self::Refetch { .. } => Phase::Sync,
            Self::AppendEntries { .. }
            | Self::Appended { .. }
            | Self::Commit { .. }
            | Self::ReadIndex { .. }
            | Self::ReadIndexReply { .. } => Phase::Broadcast,
        }
    }

    fn epoch(&self) -> Epoch {
        match self {
            Self::PreVote { term, .. }
            | Self::PreVoteReply { term, .. }
            | Self::RequestVote { term, .. }
            | Self::Vote { term, .. }
            | Self::AppendEntries { term, .. }
            | Self::Appended { term, .. }
            | Self::Mismatch { term, .. }
            | Self::Commit { term, .. }
            | Self::Stale { term }
            | Self::TimeoutNow { term }
            | Self::ReadIndex { term, .. }
            | Self::ReadIndexReply { term, .. }
            | Self::Refetch { term, .. } => *term,
        }
    }
}

impl Message {
    /// Whether the epoch of the message is one that its receiver has to catch up with. A pre-vote's is a question
    /// about the future.
    // spec: raft-thesis §9.6
    pub(crate) fn is_binding(&self) -> bool {
        !matches!(self, Self::PreVote { .. } | Self::PreVoteReply { granted: true, .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use replog::Message as _;

    #[test]
    fn only_questions_about_the_future_bind_nobody() {
        let term = Epoch::of(7);
        let last = LogId::ZERO;
        assert!(!Message::PreVote { term, last }.is_binding());
        assert!(!Message::PreVoteReply { term, granted: true }.is_binding());
        assert!(Message::PreVoteReply { term, granted: false }.is_binding());
        assert!(Message::Stale { term }.is_binding());
    }

    #[test]
    fn catching_up_is_a_cost_of_synchronisation() {
        let append = |sync| Message::AppendEntries {
            term: Epoch::of(1),
            prev: LogId::ZERO,
            commit: Index(0),
            round: 0,
            sync,
        };
        assert_eq!((append(true).phase(), append(false).phase()), (Phase::Sync, Phase::Broadcast));
        assert_eq!((append(true).kind(), append(true).epoch()), ("AppendEntries", Epoch::of(1)));
    }
}
