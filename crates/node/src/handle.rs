//! What the server holds of a running node. It knows no protocol type.

use crate::mailbox::{Inbox, Mailbox};
use crate::watchdog::Pulse;
use crate::{Counters, View, counters::Stats};
use bytes::Bytes;
use parking_lot::Mutex;
use replog::NodeId;
use std::sync::Arc;
use std::time::Instant;

/// What all threads of a node share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) id: NodeId,
    pub(crate) mailbox: Mailbox,
    pub(crate) stats: Stats,
    pub(crate) view: Mutex<View>,
    pub(crate) pulse: Pulse,
}

impl Shared {
    pub(crate) fn new(id: NodeId, now: Instant) -> Self {
        Self {
            id,
            mailbox: Mailbox::default(),
            stats: Stats::default(),
            view: Mutex::new(View::new(now)),
            pulse: Pulse::default(),
        }
    }
}

/// A handle to a running node; cheap to clone, usable from any thread. Calls on a stopped node do nothing.
#[derive(Clone, Debug)]
pub struct NodeHandle(pub(crate) Arc<Shared>);

/// What was asked of a node since its mail was last taken.
#[derive(Debug, Default)]
pub struct Mail {
    /// Commands to propose, in order.
    pub proposals: Vec<Bytes>,
    /// Application messages, in order.
    pub messages: Vec<(NodeId, Bytes)>,
    /// Read barriers.
    pub barriers: Vec<u64>,
    /// A wish to hand leadership over.
    pub transfer: Option<Option<NodeId>>,
    /// The graceful end.
    pub shutdown: bool,
}

/// For a driver other than [`crate::start`]: the simulator, which carries out by itself what an application asks for.
impl NodeHandle {
    /// A handle without threads behind it.
    #[must_use]
    pub fn detached(id: NodeId, now: Instant) -> Self {
        Self(Arc::new(Shared::new(id, now)))
    }

    /// What was asked for since the last call; `None` if nothing was.
    #[must_use]
    pub fn take_mail(&self) -> Option<Mail> {
        let mut inbox = Inbox::default();
        self.0.mailbox.take(&mut inbox).then(|| Mail {
            proposals: inbox.proposals,
            messages: inbox.messages,
            barriers: inbox.barriers,
            transfer: inbox.transfer,
            shutdown: inbox.shutdown,
        })
    }

    /// What [`Self::view`] says from now on.
    pub fn set_view(&self, view: View) {
        *self.0.view.lock() = view;
    }
}

impl NodeHandle {
    /// This node.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.0.id
    }

    /// Offers commands to the core, in order, as soon as there is room; dropped if this node does not lead by then.
    /// No answer: whoever took a command holds it until it is applied. The queue is not bounded here but by what
    /// the callers have outstanding.
    pub fn propose(&self, mut commands: Vec<Bytes>) {
        if commands.is_empty() {
            return;
        }
        self.0.mailbox.put(|inbox| {
            if inbox.proposals.is_empty() {
                inbox.proposals = commands;
            } else {
                inbox.proposals.append(&mut commands);
            }
        });
    }

    /// Sends an application message to a peer: in order, lost together with the link, dropped without one. At most
    /// [`crate::NodeConfig::max_frame_bytes`]; a longer one takes the link down.
    pub fn send(&self, to: NodeId, message: Bytes) {
        self.0.mailbox.put(|inbox| inbox.messages.push((to, message)));
    }

    /// Asks for a read barrier that covers every write acknowledged before this call. Answered by
    /// [`crate::Application::on_barrier`] with the same `token`, which must be below 2⁶³.
    pub fn barrier(&self, token: u64) {
        self.0.mailbox.put(|inbox| inbox.barriers.push(token));
    }

    /// Hands leadership over to `to`, or to the most suitable voter. Nothing happens if this node does not lead.
    pub fn transfer(&self, to: Option<NodeId>) {
        self.0.mailbox.put(|inbox| inbox.transfer = Some(to));
    }

    /// What this replica believes now.
    #[must_use]
    pub fn view(&self) -> View {
        *self.0.view.lock()
    }

    /// A reading of all counters.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.0.stats.read()
    }

    /// Asks for a graceful end and returns at once: leadership is handed over first, the log is flushed. Wait for
    /// it with `Node::join`.
    pub fn shutdown(&self) {
        self.0.mailbox.put(|inbox| inbox.shutdown = true);
    }
}
