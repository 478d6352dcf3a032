//! What is going to happen: by time, then by the order in which it was scheduled.
//!
//! The heap holds 24 bytes per event; the events themselves lie in a slab and are not moved while the heap is sorted.

use super::client::ClientEvent;
use super::faults::Later;
use super::network::Packet;
use super::snapshots::Arrival;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A node, as its place among the hosts, in one life of its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    /// Place among the hosts.
    pub(crate) host: usize,
    /// Number of the process.
    pub(crate) life: u32,
}

#[derive(Debug)]
pub(crate) enum Event<M> {
    /// A frame reaches its receiver.
    Frame(Packet<M>),
    /// The core takes a turn: its inbox is not empty, or its timer is due.
    Turn(Life),
    /// The core's timer.
    Timer(Life),
    /// The log's sync is through.
    Synced(Life),
    /// The log tries again: the disk was full.
    Retry(Life),
    /// The apply thread gets to what waits for it.
    Apply(Life),
    /// Links are looked after: pings, silence.
    Care(Life),
    /// The service looks at its clock.
    Upkeep(Life),
    /// A snapshot's bytes are on the disk.
    SnapshotWritten(Life),
    /// A snapshot's last sync is through.
    SnapshotSynced(Life),
    /// A stream of a snapshot ends.
    Stream(Box<Arrival>),
    /// A pair of nodes tries to connect.
    Dial(usize, usize),
    /// A cut between two nodes has ended: what it held goes on.
    Release(usize, usize),
    /// A client, or one of its connections.
    Client(ClientEvent),
    /// A fault that repeats, or ends by itself.
    Later(Later),
}

/// The queue.
#[derive(Debug)]
pub(crate) struct Events<M> {
    heap: BinaryHeap<Reverse<(u64, u64, u32)>>,
    slab: Vec<Option<Event<M>>>,
    free: Vec<u32>,
    order: u64,
}

impl<M> Default for Events<M> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), slab: Vec::new(), free: Vec::new(), order: 0 }
    }
}

impl<M> Events<M> {
    pub(crate) fn schedule(&mut self, at: u64, event: Event<M>) {
        self.order += 1;
        let place = match self.free.pop() {
            Some(place) => {
                self.slab[place as usize] = Some(event);
                place
            }
            None => {
                self.slab.push(Some(event));
                u32::try_from(self.slab.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.heap.push(Reverse((at, self.order, place)));
    }

    pub(crate) fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    pub(crate) fn pop(&mut self) -> Option<(u64, Event<M>)> {
        let Reverse((at, _, place)) = self.heap.pop()?;
        self.free.push(place);
        self.slab[place as usize].take().map(|event| (at, event))
    }
}
