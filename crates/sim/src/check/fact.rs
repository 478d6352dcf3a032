//! What the checks are told: facts about nodes, free of protocol types.
//!
//! ```text
//!  WorldEvent<P> ──watch.rs──► Event { at, node, life, Fact } ──► Logs (what each node wrote, what of it is durable)
//!                                                           └──► the checks, each a small state machine
//! ```
//!
//! Checks see facts only, so each is tested by a handful of hand-made ones, violations included.

use crate::Violation;
use crate::schedule::CrashKind;
use replog::{
    Configuration, Entry, EntryMeta, Epoch, HardState, Index, LogId, LogOp, NodeId, Phase, Role, Span,
    Status, Ticket,
};

/// One fact.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// µs of virtual time.
    pub at_us: u64,
    /// Whose.
    pub node: NodeId,
    /// Number of the node's process, from 1.
    pub life: u32,
    /// What.
    pub fact: Fact<'a>,
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Fact<'a> {
    /// The process opened its core on what the disk held.
    Started {
        /// The hard state found.
        hard: HardState,
        /// The base of the log found.
        base: LogId,
        /// The snapshot loaded.
        snapshot: LogId,
        /// The entries found.
        entries: &'a [EntryMeta],
        /// The disk is whole, as far as the node can tell, and its voice counts.
        whole: bool,
        /// The members, as far as the snapshot and the bootstrap know.
        members: Option<&'a Configuration>,
    },
    /// The core reported a role; a reign may begin and end within one step.
    Reported {
        /// Its role.
        role: Role,
        /// Its phase.
        phase: Phase,
        /// Its epoch.
        epoch: Epoch,
    },
    /// The core stepped.
    Stepped {
        /// Before.
        before: &'a Status,
        /// After.
        after: &'a Status,
    },
    /// A write was handed to the log.
    Wrote {
        /// Its ticket.
        ticket: Ticket,
        /// What.
        ops: &'a [LogOp],
    },
    /// Everything up to the ticket is durable.
    Durable {
        /// The highest.
        ticket: Ticket,
    },
    /// A message that says this about its sender left it.
    Said {
        /// Receiver.
        to: NodeId,
        /// What.
        claim: Claim<'a>,
    },
    /// A message that says this was given to the core.
    Heard {
        /// Sender.
        from: NodeId,
        /// What.
        claim: Claim<'a>,
    },
    /// The link to a peer came up or went down.
    Link {
        /// The other end.
        peer: NodeId,
        /// Up or down.
        up: bool,
    },
    /// Committed entries were applied.
    Applied {
        /// They, ascending.
        entries: &'a [Entry],
    },
    /// The state after it applied `index`.
    State {
        /// Last entry applied.
        index: Index,
        /// Its zxid.
        zxid: i64,
        /// Rolling hash of the state.
        digest: u64,
    },
    /// The state was replaced by a snapshot.
    Installed {
        /// Last entry inside it.
        at: LogId,
    },
    /// A snapshot is durable.
    Snapshot {
        /// Last entry inside it.
        at: LogId,
        /// Hash of its bytes.
        hash: u64,
    },
    /// What lies in queues and on the disk.
    Load {
        /// The figures.
        load: Load,
        /// Whether nothing is under way: no fault, no load, for long enough to come to rest.
        calm: bool,
    },
    /// A fault began or ended.
    Disturbed,
    /// The process ended.
    Crashed {
        /// How.
        how: CrashKind,
    },
    /// The disk holds something else than this node wrote.
    Replaced,
}

impl Fact<'_> {
    /// The epoch in which the node is with this, if the fact says so.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        match *self {
            Self::Reported { epoch, .. } => Some(epoch),
            Self::Stepped { after, .. } => Some(after.epoch),
            Self::Said { claim: Claim::Leads { reign, .. }, .. } => Some(reign),
            _ => None,
        }
    }
}

/// What a message says about its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim<'a> {
    /// My vote in `epoch` is yours.
    Vote {
        /// Term, or Zab's new epoch.
        epoch: Epoch,
    },
    /// I accept nothing from an epoch below.
    Promise {
        /// The epoch or ballot.
        epoch: Epoch,
    },
    /// What I accepted above my chosen prefix (Paxos).
    Held {
        /// The ballot promised with it.
        ballot: Epoch,
        /// End of the prefix.
        committed: Index,
        /// Everything above.
        runs: &'a [paxos::Run],
    },
    /// My log holds this entry, and it is the last.
    Last {
        /// Its id.
        id: LogId,
    },
    /// I hold everything up to `upto` as the leader of `epoch` has it.
    Ack {
        /// In which epoch or ballot.
        epoch: Epoch,
        /// How far.
        upto: Index,
        /// Whether it is to be counted.
        counts: bool,
    },
    /// I also accepted these in `epoch`, beyond a hole (Paxos).
    AckSpan {
        /// The ballot.
        epoch: Epoch,
        /// Which.
        span: Span,
    },
    /// The history of `epoch` is mine (Zab's ACK-NEWLEADER).
    Established {
        /// The epoch.
        epoch: Epoch,
    },
    /// I am going to lead `epoch` (Zab's LEADERINFO).
    Announces {
        /// The epoch.
        epoch: Epoch,
    },
    /// I lead.
    Leads {
        /// The reign.
        reign: Epoch,
        /// The ballot acted in: the reign, but for classic Paxos.
        ballot: Epoch,
    },
}

/// What a node holds in memory and on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Messages that wait for peers.
    pub outbox_messages: u64,
    /// Bytes of entries kept in memory.
    pub recent_bytes: u64,
    /// Writes that are not durable.
    pub pending_writes: u64,
    /// Committed entries that wait for the state machine.
    pub unapplied: u64,
    /// Proposals that wait for room.
    pub proposals: u64,
    /// Entries of the log above its base.
    pub log_entries: u64,
    /// Files beside the log: snapshots, staged and unfinished ones.
    pub snapshots: u64,
}

/// A broken rule, without its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// `C13 election safety`.
    pub checker: &'static str,
    /// What is wrong.
    pub text: String,
}

impl Broken {
    /// At this moment.
    #[must_use]
    pub fn at(self, at_us: u64) -> Violation {
        Violation { checker: self.checker.to_owned(), text: self.text, at_us }
    }
}

/// What a check answers.
pub type Verdict = Result<(), Broken>;

/// `holds`, or else the rule is broken.
pub(crate) fn require(holds: bool, checker: &'static str, text: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(Broken { checker, text: text() }) }
}
