//! Who watches a world: white-box checks are told everything that nodes do, in order, and may object.
//!
//! ```text
//!  Started ─► (Received* Reported* Stepped Wrote* Sent* Applied* …)* ─► Durable … ─► Crashed ─► Started …
//! ```
//!
//! Observers cost nothing while there is none. They see cores and messages of their protocol by type.

use crate::Violation;
use crate::check::Load;
use crate::schedule::CrashKind;
use replog::{Entry, Epoch, Index, LogId, LogOp, NodeId, Phase, ReplicatedLog, Role, Setup, Status, Ticket};
use std::time::Duration;

/// A white-box check.
pub trait Observer<P: ReplicatedLog> {
    /// `event` has just happened. The first objection ends the run.
    ///
    /// # Errors
    /// The rule that is broken.
    fn on_event(&mut self, event: &WorldEvent<'_, P>) -> Result<(), Violation>;

    /// The run has ended, everything healed.
    ///
    /// # Errors
    /// The rule that is broken.
    fn on_end(&mut self, _at_us: u64) -> Result<(), Violation> {
        Ok(())
    }
}

/// Something that happened at a node.
#[derive(Debug)]
pub struct WorldEvent<'a, P: ReplicatedLog> {
    /// Virtual time since the run began.
    pub at: Duration,
    /// Where.
    pub node: NodeId,
    /// Number of the node's process, from 1.
    pub life: u32,
    /// What.
    pub what: Happening<'a, P>,
}

impl<P: ReplicatedLog> WorldEvent<'_, P> {
    /// A violation at this moment.
    #[must_use]
    pub fn violation(&self, checker: &str, text: String) -> Violation {
        let at_us = u64::try_from(self.at.as_micros()).unwrap_or(u64::MAX);
        Violation { checker: checker.to_owned(), text, at_us }
    }
}

/// What happened.
#[derive(Debug)]
pub enum Happening<'a, P: ReplicatedLog> {
    /// The process opened its core on what its disk held.
    Started {
        /// What it was given.
        setup: &'a Setup<P::Options>,
        /// The core.
        core: &'a P,
    },
    /// The core stepped.
    Stepped {
        /// Before.
        before: &'a Status,
        /// After.
        after: &'a Status,
        /// The core, after.
        core: &'a P,
    },
    /// The core reported a role, in the order of its reports; between two steps it may have had several.
    Reported {
        /// Its role.
        role: Role,
        /// Its phase.
        phase: Phase,
        /// Its epoch.
        epoch: Epoch,
    },
    /// A write was handed to the log.
    Wrote {
        /// Its ticket.
        ticket: Ticket,
        /// What is written.
        ops: &'a [LogOp],
    },
    /// Everything up to this ticket is durable, and the core is going to hear of it.
    Durable {
        /// The highest.
        ticket: Ticket,
    },
    /// A frame left.
    Sent {
        /// Receiver.
        to: NodeId,
        /// Unique in the run.
        id: u64,
        /// The message.
        message: &'a P::Message,
        /// Entries that ride along.
        entries: &'a [Entry],
    },
    /// A frame was given to the core.
    Received {
        /// Sender.
        from: NodeId,
        /// As of [`Happening::Sent`].
        id: u64,
        /// The message.
        message: &'a P::Message,
        /// Entries that ride along.
        entries: &'a [Entry],
    },
    /// The link to a peer came up or went down.
    Link {
        /// The other end.
        peer: NodeId,
        /// Up or down.
        up: bool,
    },
    /// Committed entries were applied, in order.
    Applied {
        /// They.
        entries: &'a [Entry],
    },
    /// The state after it applied, loaded or installed something.
    State {
        /// Last entry inside it.
        index: Index,
        /// Its zxid.
        zxid: i64,
        /// Its digest.
        digest: u64,
    },
    /// The state was replaced by the snapshot at this position.
    Installed {
        /// Last entry inside it.
        at: LogId,
    },
    /// An own snapshot is durable.
    SnapshotTaken {
        /// Last entry inside it.
        at: LogId,
        /// Hash of the state's bytes in it.
        hash: u64,
    },
    /// A look at what the node holds; told a few times a second while nothing is in the way.
    Load {
        /// The figures; those of the log come from elsewhere.
        load: Load,
        /// Nothing has been in the way for long enough to come to rest.
        calm: bool,
    },
    /// A fault is in force somewhere; told as long as one is.
    Disturbed,
    /// The process ended.
    Crashed {
        /// How; [`CrashKind::Kill`] also for a graceful end.
        how: CrashKind,
    },
    /// The data directory is no longer what this node wrote: emptied, another's, or an old one.
    DiskReplaced,
}
