//! The event queue: by time, then by the order in which things were scheduled.

use super::State;
use super::network::Packet;
use crate::{ConfigurationAt, Epoch, NodeId, Ticket, Time};
use std::cmp::Ordering;
use std::collections::BinaryHeap;

#[derive(Clone, Debug)]
pub(crate) enum Event<M> {
    Deliver(Packet<M>),
    /// An fsync of `node`'s incarnation covers everything up to `ticket`.
    Synced {
        node: NodeId,
        life: u64,
        ticket: Ticket,
    },
    Timer {
        node: NodeId,
        life: u64,
        generation: u64,
    },
    /// A snapshot stream ends.
    SnapshotArrives {
        from: NodeId,
        to: NodeId,
        epoch: Epoch,
        state: State,
        configurations: Vec<ConfigurationAt>,
    },
    /// The pair tries to connect (again).
    Connect(NodeId, NodeId),
    /// One end notices that the pair's session is gone.
    Disconnected {
        node: NodeId,
        life: u64,
        peer: NodeId,
    },
}

#[derive(Clone, Debug)]
struct Scheduled<M> {
    at: Time,
    order: u64,
    event: Event<M>,
}

impl<M> PartialEq for Scheduled<M> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl<M> Eq for Scheduled<M> {}
impl<M> PartialOrd for Scheduled<M> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<M> Ord for Scheduled<M> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order)) // BinaryHeap pops the greatest: reverse
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Events<M> {
    heap: BinaryHeap<Scheduled<M>>,
    order: u64,
}

impl<M> Default for Events<M> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), order: 0 }
    }
}

impl<M> Events<M> {
    pub(crate) fn schedule(&mut self, at: Time, event: Event<M>) {
        self.order += 1;
        self.heap.push(Scheduled { at, order: self.order, event });
    }

    pub(crate) fn next_at(&self) -> Option<Time> {
        self.heap.peek().map(|s| s.at)
    }

    pub(crate) fn pop(&mut self) -> Option<(Time, Event<M>)> {
        self.heap.pop().map(|s| (s.at, s.event))
    }
}
