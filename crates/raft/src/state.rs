//! The replica's state: what is durable, what role it plays, and what a step has gathered.
//!
//! ```text
//!                 timeout            PreVote quorum          vote quorum + own term durable
//!   Following ──────────► Canvassing ──────────────► Running ──────────────────► Leading
//!       ▲                    ▲   │ timeout              │ timeout                  │
//!       │                    └───┴──────────────────────┘                          │
//!       └── a current leader, or a higher term; no quorum, no progress ◄───────────┘
//! ```
// spec: raft §5.1 figure 4, with the pre-candidate of thesis §9.6

use crate::log::Log;
use crate::message::Message;
use crate::options::Options;
use crate::progress::Progress;
use crate::read::{Forward, PendingRead};
use crate::transfer::Transfer;
use crate::writes::Writes;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use replog::{
    ConfigurationAt, Epoch, HardState, Index, LogId, NodeId, Phase, Rng, Role, Span, Stamp, Ticket, Time,
};

/// The four states of a replica. Learners and observers never leave the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Standing {
    /// Follows a leader, or waits for one.
    Following,
    /// Asks whether it would be elected.
    Canvassing,
    /// Asks for votes.
    Running,
    /// Leads.
    Leading,
}

/// Why an election was begun; decides how soon a lost one is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Cause {
    /// Nothing was heard for a timeout.
    Silence,
    /// The link to the leader broke.
    LinkLoss,
    /// The leader asked for it.
    Handover,
}

/// A campaign: who answered what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Campaign {
    /// Answers of this round, own vote included.
    pub(crate) answers: Vec<(NodeId, bool)>,
    pub(crate) cause: Cause,
    /// Rounds lost since the leader was.
    pub(crate) lost: u32,
    /// Every answer is in and there is no quorum: the timer was shortened already.
    pub(crate) settled: bool,
}

/// What is owed to the leader at the end of the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Answer {
    pub(crate) matched: Index,
    pub(crate) round: u64,
    pub(crate) sync: bool,
}

/// What only a follower knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Following {
    /// Our log equals the leader's up to here.
    pub(crate) verified: Index,
    /// Level with the leader once since it leads.
    pub(crate) level: bool,
    /// Answer to appends with entries: waits for the disk.
    pub(crate) ack: Option<Answer>,
    /// Answer to heartbeats: does not wait.
    pub(crate) beat: Option<Answer>,
    /// Barriers that the leader was asked for.
    pub(crate) forwards: Vec<Forward>,
    /// When damaged entries were last asked for.
    pub(crate) refetched: Option<Time>,
}

/// What only a leader knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Leading {
    /// Index of the no-op with which the reign begins.
    pub(crate) term_start: Index,
    pub(crate) peers: Vec<Progress>,
    pub(crate) heartbeat_at: Time,
    pub(crate) check_at: Time,
    /// When the commit index last moved, or entries became outstanding.
    pub(crate) progressed: Time,
    /// Latest round; every append carries it.
    pub(crate) round: u64,
    /// When the rounds not yet confirmed began (leases only).
    pub(crate) rounds: VecDeque<(u64, Time)>,
    /// End of the lease.
    pub(crate) lease_until: Option<Time>,
    /// A successor was told to campaign: no lease any more in this term.
    pub(crate) lease_void: bool,
    /// Barriers that wait for the first commit of the term.
    pub(crate) early: Vec<PendingRead>,
    /// Barriers that wait for their round.
    pub(crate) reads: VecDeque<PendingRead>,
    /// New barriers want a round in this step.
    pub(crate) wants_round: bool,
    pub(crate) transfer: Option<Transfer>,
    /// Someone's position moved: look whether more is committed.
    pub(crate) moved: bool,
}

/// A message to be sent at the end of the step, behind its `Persist`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Outgoing {
    pub(crate) to: NodeId,
    pub(crate) message: Message,
    pub(crate) attach: Option<Span>,
    pub(crate) after: Ticket,
}

/// What was last reported by `Effect::Phase`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reported {
    pub(crate) role: Role,
    pub(crate) phase: Phase,
    pub(crate) epoch: Epoch,
    pub(crate) leader: Option<NodeId>,
}

/// One Raft replica. See the crate's head for the vocabulary.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Raft {
    pub(crate) id: NodeId,
    pub(crate) options: Options,
    /// False after the disk was lost: a learner, whatever the configuration says.
    pub(crate) may_vote: bool,
    pub(crate) rng: Rng,
    pub(crate) now: Time,
    pub(crate) hard: HardState,
    pub(crate) log: Log,
    pub(crate) writes: Writes,
    /// The last committed configuration and all after it.
    pub(crate) configs: Vec<ConfigurationAt>,
    /// How many of `configs` were reported as settled.
    pub(crate) settled: usize,
    pub(crate) committed: Index,
    /// What `Effect::Commit` told; lags behind `committed` only at damaged entries.
    pub(crate) told: Index,
    /// Newest snapshot of our own.
    pub(crate) snapshot: LogId,
    pub(crate) damaged: Vec<Span>,
    /// Highest stamp seen, for no-ops.
    pub(crate) stamp: Stamp,
    pub(crate) links: Vec<NodeId>,
    pub(crate) standing: Standing,
    pub(crate) leader: Option<NodeId>,
    /// Last word of a leader that binds us to it.
    pub(crate) contact: Option<Time>,
    pub(crate) election_at: Time,
    /// The last timer ran late and was put off once: we were not running, so silence proves nothing.
    pub(crate) overslept: bool,
    pub(crate) campaign: Campaign,
    pub(crate) following: Following,
    pub(crate) lead: Option<Box<Leading>>,
    /// Gathered by the step, empty between steps.
    pub(crate) outgoing: Vec<Outgoing>,
    pub(crate) install: Option<LogId>,
    pub(crate) reported: Option<Reported>,
    /// Won in this step.
    pub(crate) won: Option<Epoch>,
    /// The write that makes the last install durable.
    pub(crate) installing: Ticket,
}

impl Raft {
    /// The current term.
    pub(crate) fn term(&self) -> Epoch {
        self.hard.promised
    }

    /// Queues a message behind this step's `Persist`.
    pub(crate) fn send(&mut self, to: NodeId, message: Message, after: Ticket) {
        self.outgoing.push(Outgoing { to, message, attach: None, after });
    }

    /// Queues a message that speaks for the current term and says nothing else about us.
    pub(crate) fn send_in_term(&mut self, to: NodeId, message: Message) {
        let after = self.writes.term_gate();
        self.send(to, message, after);
    }

    /// Changes term and vote; durable with this step's `Persist`.
    pub(crate) fn set_term(&mut self, term: Epoch, voted_for: Option<NodeId>) {
        assert!(
            term >= self.hard.promised,
            "{}: term went back from {} to {term}",
            self.id,
            self.hard.promised
        );
        if (term, voted_for) != (self.hard.promised, self.hard.voted_for) {
            self.hard.promised = term;
            self.hard.voted_for = voted_for;
            self.writes.change_hard_state();
        }
    }

    /// Whether the link to `node` is up.
    pub(crate) fn is_linked(&self, node: NodeId) -> bool {
        self.links.contains(&node)
    }

    /// Whether the own disk has not finished a write for longer than allowed.
    pub(crate) fn is_stalled(&self) -> bool {
        self.writes.oldest().is_some_and(|since| self.now.since(since) > self.options.timing.disk_stall)
    }

    /// The role and phase that the rest of the system sees.
    pub(crate) fn view(&self) -> Reported {
        let (role, phase) = match self.standing {
            Standing::Leading if self.is_serving() => (Role::Leader, Phase::Broadcast),
            Standing::Leading => (Role::Leader, Phase::Sync),
            Standing::Running => (Role::Electing, Phase::Discovery),
            Standing::Canvassing => (Role::Electing, Phase::Election),
            Standing::Following => {
                let role = self.following_role();
                match (self.leader, self.following.level) {
                    (Some(_), true) => (role, Phase::Broadcast),
                    (Some(_), false) => (role, Phase::Sync),
                    (None, _) if role == Role::Follower => (Role::Electing, Phase::Election),
                    (None, _) => (role, Phase::Election),
                }
            }
        };
        Reported { role, phase, epoch: self.term(), leader: self.leader }
    }

    fn following_role(&self) -> Role {
        let config = self.config();
        if config.observers.contains(&self.id) {
            Role::Observer
        } else if self.may_vote && config.is_voter(self.id) {
            Role::Follower
        } else {
            Role::Learner
        }
    }

    /// Whether a leader has committed in its own term, so that what it believes committed is all there is.
    pub(crate) fn is_serving(&self) -> bool {
        self.lead.as_ref().is_some_and(|lead| self.committed >= lead.term_start)
    }
}
