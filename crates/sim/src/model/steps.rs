//! Steps of one node, each taken once.
//!
//! What a node does next depends on itself and on what happens to it, and on nothing else in the world. There are far
//! fewer pairs of those than states of the world, which are combinations of them: so the real core takes each step
//! once, and what came of it is kept by the prints of both.
//!
//! ```text
//!   World ── (node, Stimulus) ──► kept? ──► Step: the node after it · its packets · what it applied
//!                                   └ no ──► the core, in node.rs
//! ```
//!
//! Equal prints mean equal futures (print.rs), as they do for states of the world: a kept step of another moment
//! differs from the one not taken in the absolute time of the node's clock alone. The tests compare walks that keep
//! with walks that do not.

use super::node::{Doings, Node};
use super::print::plain;
use super::{Modelled, Scope};
use replog::{Entry, Frame, NodeId};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Steps kept; a few KB each. Beyond that, all are dropped and taken anew.
const KEPT: usize = 1_000_000;

/// A message under way.
#[derive(Debug)]
pub(super) struct Packet<M> {
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) frame: Frame<M>,
    pub(super) print: u64,
}

/// Something that happens to a node.
pub(super) enum Stimulus<'a, M> {
    /// It starts on what is durable.
    Open,
    /// Power cut: of the unsynced writes this many survive.
    Crash(usize),
    Deliver(&'a Packet<M>),
    /// The oldest write reaches the disk.
    Sync,
    Timeout,
    /// A command of these bytes.
    Propose(u8),
    /// The link to a peer came up or went down.
    Link(NodeId, bool),
}

impl<M> Stimulus<'_, M> {
    fn print(&self, id: NodeId) -> u64 {
        let (tag, value) = match self {
            Self::Open => (0, 0),
            Self::Crash(keep) => (1, *keep as u64),
            Self::Deliver(packet) => (2, packet.print),
            Self::Sync => (3, 0),
            Self::Timeout => (4, 0),
            Self::Propose(byte) => (5, u64::from(*byte)),
            Self::Link(peer, up) => (6, u64::from(peer.0) << 1 | u64::from(*up)),
        };
        plain(&(id, tag, value))
    }
}

/// What came of a stimulus.
#[derive(Debug)]
pub(super) struct Step<P: Modelled> {
    pub(super) node: Arc<Node<P>>,
    /// Sent, whether or not a link carries it.
    pub(super) packets: Vec<Arc<Packet<P::Message>>>,
    pub(super) applied: Vec<Entry>,
    /// A broken invariant of the core, or its panic.
    pub(super) broken: Option<String>,
}

/// By the prints of node and stimulus.
type Kept<P> = HashMap<(u64, u64), Arc<Step<P>>>;

/// Takes steps, under one scope.
pub(super) struct Steps<P: Modelled> {
    pub(super) scope: Scope,
    kept: RwLock<Kept<P>>,
    /// How many to keep.
    room: usize,
}

impl<P: Modelled> Steps<P> {
    /// None taken yet.
    pub(super) fn new(scope: &Scope) -> Self {
        Self { scope: scope.clone(), kept: RwLock::default(), room: KEPT }
    }

    /// Takes every step anew: to compare.
    #[cfg(test)]
    pub(super) fn forgetful(scope: &Scope) -> Self {
        Self { room: 0, ..Self::new(scope) }
    }

    /// What comes of `stimulus` at `node`.
    pub(super) fn take(&self, node: &Arc<Node<P>>, stimulus: &Stimulus<'_, P::Message>) -> Arc<Step<P>> {
        let key = (node.print(), stimulus.print(node.id()));
        let found = self.kept.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(step) = found {
            return step;
        }
        let step = Arc::new(self.compute(node, stimulus));
        if self.room > 0 {
            let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
            if kept.len() >= self.room {
                kept.clear();
            }
            kept.insert(key, Arc::clone(&step));
        }
        step
    }

    fn compute(&self, node: &Node<P>, stimulus: &Stimulus<'_, P::Message>) -> Step<P> {
        let mut node = node.clone();
        let id = node.id();
        let Doings { frames, applied, broken } = node.take(stimulus, &self.scope);
        let packet = |(to, frame): (NodeId, Frame<P::Message>)| {
            let print = plain(&(id, to, &frame));
            Arc::new(Packet { from: id, to, frame, print })
        };
        let packets = frames.into_iter().map(packet).collect();
        Step { node: Arc::new(node), packets, applied, broken }
    }
}
