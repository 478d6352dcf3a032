//! The only thing that sends. Two FIFO lanes per peer: messages that wait for a ticket, and messages that do not.
//!
//! ```text
//!            gated   ─ ack(t7) ─ vote(t6) ─►┐   head leaves when its ticket is durable
//!  core ──►                                 ├──► link (FIFO between up and down)
//!            ungated ─ ping ─ proposal ────►┘   leaves at once, may overtake
//! ```
//!
//! A message lost on our side (overflow) takes the link down, and what waits here for a dead link dies with it:
//! 1. a gated ack of the old link would leave on the new one, ahead of the re-sync handshake;
//! 2. a dropped PROPOSAL 6 followed by a delivered PROPOSAL 7 is a gap that a FIFO protocol cannot see.

use crate::{Entry, NodeId, Ticket, mutant};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

/// One message on its way, with the entries that ride along.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame<M> {
    /// The message.
    pub message: M,
    /// Its entries.
    pub entries: Vec<Entry>,
}

/// Whether a link is usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkState {
    /// Messages are queued and drained.
    Up,
    /// Messages are dropped.
    Down,
    /// It was up and ran over its bound: the driver must take it down.
    Overflown,
}

/// Counters of one outbox, since its creation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxStats {
    /// Messages handed to links.
    pub sent: u64,
    /// Messages dropped for want of a link.
    pub dropped: u64,
}

#[derive(Clone, Debug)]
struct Slot<M> {
    after: Ticket,
    bytes: u64,
    /// `None`: its entries are being read from the log; it and all behind it in its lane wait.
    frame: Option<Frame<M>>,
    key: u64,
}

#[derive(Clone, Debug)]
struct Lanes<M> {
    state: LinkState,
    gated: VecDeque<Slot<M>>,
    ungated: VecDeque<Slot<M>>,
    bytes: u64,
}

/// What decides the future; the name of a place matters only while its entries are being read.
impl<M: Hash> Hash for Slot<M> {
    fn hash<H: Hasher>(&self, to: &mut H) {
        let place = self.frame.is_none().then_some(self.key);
        (self.after, &self.frame, place).hash(to);
    }
}

impl<M: Hash> Hash for Lanes<M> {
    fn hash<H: Hasher>(&self, to: &mut H) {
        (self.state, &self.gated, &self.ungated).hash(to);
    }
}

/// All peers' lanes.
#[derive(Clone, Debug)]
pub struct Outbox<M> {
    peers: BTreeMap<NodeId, Lanes<M>>,
    durable: Ticket,
    limit_bytes: u64,
    next_key: u64,
    stats: OutboxStats,
}

/// Counters are left out: two outboxes that hold the same go on alike.
impl<M: Hash> Hash for Outbox<M> {
    fn hash<H: Hasher>(&self, to: &mut H) {
        (&self.peers, self.durable).hash(to);
    }
}

impl<M> Outbox<M> {
    /// At most `limit_bytes` may wait for one peer before its link is given up.
    #[must_use]
    pub fn new(limit_bytes: u64) -> Self {
        Self {
            peers: BTreeMap::new(),
            durable: Ticket::NONE,
            limit_bytes,
            next_key: 0,
            stats: OutboxStats::default(),
        }
    }

    /// The link to `node` came up or went down; either way nothing old survives.
    pub fn set_link(&mut self, node: NodeId, up: bool) {
        let state = if up { LinkState::Up } else { LinkState::Down };
        let lanes = Lanes { state, gated: VecDeque::new(), ungated: VecDeque::new(), bytes: 0 };
        if let Some(old) = self.peers.insert(node, lanes) {
            self.stats.dropped += (old.gated.len() + old.ungated.len()) as u64;
        }
    }

    /// The state of the link to `node`.
    #[must_use]
    pub fn link(&self, node: NodeId) -> LinkState {
        self.peers.get(&node).map_or(LinkState::Down, |l| l.state)
    }

    /// Everything up to `ticket` is durable.
    pub fn persisted(&mut self, ticket: Ticket) {
        let ticket = if mutant!(GateOneEarly) { ticket.next() } else { ticket };
        self.durable = self.durable.max(ticket);
    }

    /// Queues a complete message.
    pub fn push(&mut self, to: NodeId, message: M, entries: Vec<Entry>, after: Ticket) {
        let bytes = entries.iter().map(|e| u64::from(e.bytes())).sum();
        self.enqueue(to, after, bytes, Some(Frame { message, entries }));
    }

    /// Keeps the place of a message whose entries are being read; the key names it in [`Self::fill`]. `None` if
    /// there is no link.
    pub fn reserve(&mut self, to: NodeId, after: Ticket) -> Option<u64> {
        self.enqueue(to, after, 0, None)
    }

    /// Puts the message of a reserved place, or with `None` gives the place up. Ignored if the link changed.
    pub fn fill(&mut self, to: NodeId, key: u64, frame: Option<Frame<M>>) {
        let Some(lanes) = self.peers.get_mut(&to) else { return };
        for lane in [&mut lanes.gated, &mut lanes.ungated] {
            let Some(at) = lane.iter().position(|s| s.key == key) else { continue };
            match frame {
                Some(frame) => {
                    if let Some(slot) = lane.get_mut(at) {
                        slot.bytes = frame.entries.iter().map(|e| u64::from(e.bytes())).sum();
                        lanes.bytes += slot.bytes;
                        slot.frame = Some(frame);
                    }
                }
                None => drop(lane.remove(at)),
            }
            return;
        }
    }

    /// Takes what may leave for `to` now, at most about `max_bytes` (at least one message).
    pub fn drain(&mut self, to: NodeId, max_bytes: u64, into: &mut Vec<Frame<M>>) {
        let durable = if mutant!(AckBeforeFsync) { Ticket(u64::MAX) } else { self.durable };
        let Some(lanes) = self.peers.get_mut(&to) else { return };
        if lanes.state != LinkState::Up {
            return;
        }
        let mut taken = 0;
        for lane in [&mut lanes.ungated, &mut lanes.gated] {
            while taken < max_bytes
                && lane.front().is_some_and(|s| s.after <= durable && s.frame.is_some())
                && let Some(slot) = lane.pop_front()
            {
                taken += slot.bytes + 64;
                lanes.bytes -= slot.bytes;
                self.stats.sent += 1;
                into.extend(slot.frame);
            }
        }
    }

    /// Whether something may leave for `to` now.
    #[must_use]
    pub fn is_ready(&self, to: NodeId) -> bool {
        self.peers.get(&to).is_some_and(|lanes| {
            let ready = |s: &Slot<M>| s.after <= self.durable && s.frame.is_some();
            lanes.state == LinkState::Up
                && (lanes.ungated.front().is_some_and(ready) || lanes.gated.front().is_some_and(ready))
        })
    }

    /// Peers that were ever linked.
    pub fn peers(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.peers.keys().copied()
    }

    /// Messages that wait, for all peers together.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.peers.values().map(|l| (l.gated.len() + l.ungated.len()) as u64).sum()
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> OutboxStats {
        self.stats
    }

    fn enqueue(&mut self, to: NodeId, after: Ticket, bytes: u64, frame: Option<Frame<M>>) -> Option<u64> {
        let Some(lanes) = self.peers.get_mut(&to).filter(|l| l.state == LinkState::Up) else {
            self.stats.dropped += 1;
            return None;
        };
        lanes.bytes += bytes;
        if lanes.bytes > self.limit_bytes {
            lanes.state = LinkState::Overflown;
            self.stats.dropped += 1;
            return None;
        }
        self.next_key += 1;
        let slot = Slot { after, bytes, frame, key: self.next_key };
        let lane = if after == Ticket::NONE { &mut lanes.ungated } else { &mut lanes.gated };
        lane.push_back(slot);
        Some(self.next_key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: NodeId = NodeId(2);

    fn drained(o: &mut Outbox<&'static str>) -> Vec<&'static str> {
        let mut frames = Vec::new();
        o.drain(PEER, u64::MAX, &mut frames);
        frames.into_iter().map(|f| f.message).collect()
    }

    fn linked() -> Outbox<&'static str> {
        let mut o = Outbox::new(1 << 20);
        o.set_link(PEER, true);
        o
    }

    #[test]
    fn gated_messages_wait_for_their_ticket_and_keep_their_order() {
        let mut o = linked();
        o.push(PEER, "vote", Vec::new(), Ticket(2));
        o.push(PEER, "ack", Vec::new(), Ticket(1));
        o.push(PEER, "ping", Vec::new(), Ticket::NONE);
        assert_eq!(o.waiting(), 3);
        assert_eq!(drained(&mut o), ["ping"]);
        assert_eq!(o.waiting(), 2);
        o.persisted(Ticket(1));
        assert!(drained(&mut o).is_empty(), "ack may not overtake vote");
        o.persisted(Ticket(2));
        assert_eq!(drained(&mut o), ["vote", "ack"]);
    }

    /// Contract schedule 13 (c): 1. ack gated on ticket 1; 2. link drops and returns; 3. ticket 1 becomes durable;
    /// 4. the ack must not leave on the new link.
    #[test]
    fn nothing_survives_its_link() {
        let mut o = linked();
        o.push(PEER, "ack", Vec::new(), Ticket(1));
        o.set_link(PEER, false);
        o.push(PEER, "lost", Vec::new(), Ticket::NONE);
        o.set_link(PEER, true);
        o.persisted(Ticket(1));
        assert!(drained(&mut o).is_empty());
        assert_eq!(o.stats().dropped, 2);
    }

    #[test]
    fn a_read_in_progress_holds_back_its_lane_only() {
        let mut o = linked();
        let key = o.reserve(PEER, Ticket::NONE).unwrap();
        o.push(PEER, "after", Vec::new(), Ticket::NONE);
        o.push(PEER, "gated", Vec::new(), Ticket(1));
        o.persisted(Ticket(1));
        assert_eq!(drained(&mut o), ["gated"]);
        o.fill(PEER, key, Some(Frame { message: "catch-up", entries: Vec::new() }));
        assert_eq!(drained(&mut o), ["catch-up", "after"]);
    }

    #[test]
    fn overflow_is_reported_as_a_link_to_take_down() {
        let mut o = Outbox::new(0);
        o.set_link(PEER, true);
        let entry = Entry {
            id: crate::LogId::ZERO,
            ballot: crate::Epoch::ZERO,
            stamp: crate::Stamp(0),
            body: crate::Body::Noop,
        };
        o.push(PEER, "big", alloc::vec![entry], Ticket::NONE);
        assert_eq!(o.link(PEER), LinkState::Overflown);
        assert!(drained(&mut o).is_empty());
    }
}
