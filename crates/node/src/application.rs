//! What sits on top of a node: the replicated state machine and whoever listens to roles, links and barriers.

use crate::NodeHandle;
use bytes::Bytes;
use replog::{Entry, Epoch, Index, LogId, NodeId, Phase, Refusal, Role, Status};
use std::io;
use std::time::Instant;

/// A consistent cut of the state, made by [`Application::freeze`] and written later by another thread. It must not
/// change after it was made; copy-on-write makes that cheap.
pub type FrozenState = Box<dyn FnOnce(&mut dyn io::Write) -> io::Result<()> + Send>;

/// The replicated state machine and its surroundings.
///
/// The comment of each function names the thread that calls it. Functions of the core thread hold up heartbeats:
/// they hand over and return, within microseconds, and never wait for the apply thread.
pub trait Application: Send + Sync + 'static {
    /// The node's handle, before any other call except the recovering [`Self::install`]. Caller of
    /// `start`.
    fn on_start(&self, _handle: &NodeHandle) {}

    /// Applies committed entries: in order, each once per process run, contiguous from the installed snapshot on.
    /// At most 1,024 entries at a time. Apply thread.
    fn apply(&self, entries: &[Entry]);

    /// The same for a few entries on the core thread, if that takes microseconds: nobody holds what it needs, and none of
    /// the entries may be long in the doing. False: nothing was done, and [`Self::apply`] gets them. Core thread, while
    /// the apply thread is idle.
    fn apply_at_once(&self, _entries: &[Entry]) -> bool {
        false
    }

    /// Freezes the state after the last applied entry. Cheap: it stands between two `apply`. Apply thread.
    fn freeze(&self) -> FrozenState;

    /// Replaces the state by the snapshot taken at `at`. Apply thread, or the caller of `start` while it
    /// recovers.
    ///
    /// # Errors
    /// What reading fails with, or [`io::ErrorKind::InvalidData`] if the bytes are no state. While recovering,
    /// an older snapshot is tried; a running node stops by `on_fatal`.
    fn install(&self, at: LogId, from: &mut dyn io::Read) -> io::Result<()>;

    /// An application message of a peer, in the order sent. Core thread.
    ///
    /// `message` is a slice of the receive buffer (up to 256 KiB): what is kept for long should be copied out.
    fn on_message(&self, from: NodeId, message: Bytes);

    /// Role, phase, epoch or leader changed. Core thread.
    fn on_view(&self, view: &View);

    /// The link to `peer` came up or went down. Application messages are delivered only in between. Core thread.
    fn on_link(&self, peer: NodeId, up: bool);

    /// The answer to [`NodeHandle::barrier`]. Core thread.
    fn on_barrier(&self, token: u64, outcome: Result<Barrier, Refusal>);
}

/// A read barrier that is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Barrier {
    /// Serve the read once this index is applied.
    pub at: Index,
    /// If given, the clock must be below this *after* the read and before the reply: the lease that covers it.
    pub until: Option<Instant>,
}

/// What a replica believes about itself and its leader.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Role.
    pub role: Role,
    /// Phase.
    pub phase: Phase,
    /// Current epoch.
    pub epoch: Epoch,
    /// The leader, if one is known; this node itself if it leads.
    pub leader: Option<NodeId>,
    /// Last entry of the log, durable or not.
    pub last: LogId,
    /// Committed prefix.
    pub committed: Index,
    /// Followers: the last word of their leader. Leaders: the last time at which a replication quorum had been
    /// heard. Others: as it was before.
    ///
    /// A lower bound: a message counts from the moment at which its link was last found empty, because a process
    /// that was stopped for a minute reads minute-old messages when it goes on. So it lags the truth by up to one
    /// heartbeat. Any core message counts, whether or not it makes progress.
    pub contact: Instant,
}

impl View {
    /// The view of a replica that knows nothing yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self::of(Status::default(), now)
    }

    /// A core's status as a view; `contact`: see the field.
    #[must_use]
    pub fn of(status: Status, contact: Instant) -> Self {
        let Status { role, phase, epoch, leader, last, committed, .. } = status;
        Self { role, phase, epoch, leader, last, committed, contact }
    }

    /// Whether this replica leads and takes proposals.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        self.role == Role::Leader && self.phase == Phase::Broadcast
    }
}
