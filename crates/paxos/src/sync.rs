//! Sync: what the winner of phase 1 re-proposes, and how everybody else learns what was chosen.
//!
//! The winner proposes, in its own ballot and before any new command, a value for every slot above its prefix: the one
//! of the highest ballot, or a no-op, and on top the no-op that begins its reign. When that one is chosen, the reign is
//! open (`Phase::Broadcast`): reads may be served, commands are taken.
//!
//! ```text
//!  follower, prefix 40, holds 41-45 (e3)             leader or any other replica, prefix 60
//!       ── Fetch {from 41, held [41-45 e3]} ──►
//!       ◄── Chosen {ids [41-45 e3]} + bodies 46… ──   equal ids are equal values: no body is sent for them
//! ```
//!
//! Catch-up is by index and pulled: the receiver knows its holes, the sender keeps no state. One request is under way
//! at a time; below the sender's base a snapshot answers it (snapshot.rs).

use crate::broadcast::is_of;
use crate::discovery::noop;
use crate::slots::Run;
use crate::state::Leading;
use crate::{Message, Paxos};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use replog::{Entry, Epoch, Index, LogId, NodeId, Phase, Role, Span, Time};

/// A catch-up request under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fetching {
    pub(crate) from_node: NodeId,
    pub(crate) again: Time,
}

impl Paxos {
    /// Phase 1 is won: lead.
    pub(crate) fn win(&mut self, values: Vec<Entry>) {
        let committed = self.slots.committed();
        let Some(discovery) = self.discovery.take() else { return };
        let goes_on = discovery.reign != discovery.ballot && values.is_empty();
        if goes_on && discovery.found_nothing(committed) {
            self.propose_classic(discovery.ballot);
            return;
        }
        // Classic mode: somebody else led in between. A new reign begins; barriers of the old one do not carry over.
        self.fail_leader_reads();
        let waiting = self.leading.take().map_or_else(VecDeque::new, |l| l.waiting);
        let ballot = discovery.ballot;
        let first = Index(committed.0 + values.len() as u64 + 1);
        self.leading = Some(Leading {
            ballot,
            first,
            last: committed,
            own: committed,
            marks: VecDeque::new(),
            round: 0,
            beats: VecDeque::new(),
            next_beat: self.now + self.options.timing.heartbeat,
            progress: self.now,
            since: self.now,
            transfer: None,
            cuts: Vec::new(),
            frame_fill: 0,
            beat_now: true,
            recount: true,
            sent: committed,
            waiting,
        });
        for peer in &mut self.peers {
            peer.reset(committed.next());
            if let Some(prefix) = discovery.prefix_of(peer.node) {
                peer.heard = Some(self.now);
                peer.committed = peer.committed.max(prefix);
            }
        }
        self.become_leader(ballot);
        let mut entries = values;
        entries.push(noop(ballot, first));
        self.propose_entries(entries);
    }

    fn become_leader(&mut self, reign: Epoch) {
        self.role = Role::Leader;
        self.phase = Phase::Sync;
        self.reign = reign;
        self.leader = Some(self.id);
        self.deadline = None;
        self.attempts = 0;
        self.fetching = None;
        self.bound = Index::ZERO;
    }

    /// Follows `leader` in `reign` from now on.
    pub(crate) fn become_follower(&mut self, leader: NodeId, reign: Epoch) {
        self.step_down();
        self.discovery = None;
        self.asking = None;
        self.role = self.follower_role();
        self.phase = Phase::Sync;
        self.reign = reign;
        self.leader = Some(leader);
        self.leader_connected = true;
        self.leader_has_quorum = true;
        self.fetching = None;
        self.bound = Index::ZERO;
        self.fail_pending_reads();
    }

    /// Asks `node` for what is chosen after the own prefix, unless that is under way.
    pub(crate) fn fetch(&mut self, node: NodeId) {
        if self.fetching.as_ref().is_some_and(|f| f.again > self.now && f.from_node == node) {
            return;
        }
        let damaged = self.repairable();
        let from = damaged.map_or(self.slots.committed().next(), |d| d.min(self.slots.committed().next()));
        self.fetching =
            Some(Fetching { from_node: node, again: self.now + self.options.timing.heartbeat * 2 });
        let held = if damaged.is_none() { self.slots.held().to_vec() } else { Vec::new() };
        self.send(node, Message::Fetch { promised: self.promised, from, held });
    }

    /// The first damaged slot that others may still have.
    // 1. Slot 14 of a follower with prefix 52 rots; the leader's log begins at 20, its snapshot is at 50; 2. "fetch
    // from 14" is answered by that snapshot, which is behind the follower: dropped; 3. it asks from 14 again, for ever,
    // and never for 53. Rule: damage that nobody can repair waits for the own next snapshot, which covers it.
    fn repairable(&self) -> Option<Index> {
        let ends_above = self.slots.damaged().iter().find(|s| s.to > self.unrepairable)?;
        Some(ends_above.from.max(self.unrepairable.next()))
    }

    /// A follower's prefix after news from its leader: commits what the bound covers, fetches the rest.
    // Trap 3.14, contract schedule 10: 1. A holds slot 9 = X of ballot 1, chosen nowhere; 2. the leader of ballot 2
    // has Y chosen in slot 9 by B and C; 3. "chosen up to 9" reaches A. The bound covers only what A accepted from this
    // leader in this reign: there the leader proposes one value per slot. All else is compared or fetched.
    pub(crate) fn settle_bound(&mut self) {
        let reign = self.reign;
        if self.bound > self.slots.committed() {
            let end = self.slots.end_where(|r| is_of(r, reign)).min(self.bound);
            self.commit(end);
        }
        if let Some(leader) = self.leader
            && leader != self.id
            && (self.bound > self.slots.committed() || self.repairable().is_some())
        {
            self.fetch(leader);
        }
    }

    /// Moves the chosen prefix.
    pub(crate) fn commit(&mut self, upto: Index) {
        if upto <= self.slots.committed() {
            return;
        }
        self.slots.commit(upto);
        self.on_prefix_moved();
    }

    /// A follower is in step once an entry of this reign is chosen in its own log.
    pub(crate) fn on_prefix_moved(&mut self) {
        if self.phase == Phase::Sync
            && self.leading.is_none()
            && self.slots.committed_id().epoch == self.reign
        {
            self.phase = Phase::Broadcast;
        }
    }

    pub(crate) fn on_fetch(&mut self, from: NodeId, promised: Epoch, first: Index, held: &[Run]) {
        self.hear_round(promised);
        let committed = self.slots.committed();
        if first > committed {
            self.ignore(from, "fetch beyond what is chosen");
            return;
        }
        if first <= self.slots.base().index {
            self.start_snapshot(from);
            return;
        }
        let mut ids = Vec::new();
        let mut next = first;
        for run in self.slots.chosen_runs(first, committed) {
            // The asker's equal ids, as long as they go on without a gap.
            while let Some(same) =
                held.iter().find(|h| h.from <= next && next <= h.to && h.epoch == run.epoch && next <= run.to)
            {
                let to = same.to.min(run.to);
                ids.push(Run { from: next, to, epoch: run.epoch, ballot: Epoch::ZERO });
                next = to.next();
            }
            if next <= run.to {
                break;
            }
        }
        // Bodies up to what cannot be read here, or to what the asker holds beyond its hole: that is confirmed by id.
        let unreadable = self.slots.damaged().iter().map(|s| s.from);
        let known = held.iter().filter(|h| h.from > next && self.slots.epoch_at(h.from) == Some(h.epoch));
        let stop = unreadable.chain(known.map(|h| h.from)).min();
        let end = stop.map_or(committed, |s| s.prev().min(committed));
        let span = Span::new(next, end);
        if ids.is_empty() && span.is_none() {
            self.ignore(from, "fetch of damaged slots");
            return;
        }
        let message = Message::Chosen { promised: self.promised, committed, ids, push: false };
        self.send_with(from, message, span);
    }

    pub(crate) fn on_chosen(
        &mut self,
        from: NodeId,
        promised: Epoch,
        committed: Index,
        ids: &[Run],
        mut entries: Vec<Entry>,
    ) {
        self.hear_round(promised);
        if self.leading.is_some() && committed > self.slots.committed() && !entries.is_empty() {
            // 1. L leads in b5; 2. others choose slot 20 = Y in b6; 3. L learns that and tells its followers "chosen up
            // to 20" in b5, where F accepted 20 = X. A leader never learns from others: whoever does is deposed.
            let beyond = entries.last().is_some_and(|e| e.id.index > self.slots.committed());
            if beyond {
                self.step_down();
            }
        }
        let before = (self.slots.committed(), self.slots.damaged().len());
        for run in ids {
            let end = self.slots.end_where(|r| r.epoch == run.epoch).min(run.to);
            if run.from <= self.slots.committed().next() && self.leading.is_none() {
                self.commit(end);
            }
        }
        let mut end = self.slots.committed();
        entries.retain(|entry| self.learns(entry, committed, &mut end));
        self.write(entries);
        self.commit(end);
        if before != (self.slots.committed(), self.slots.damaged().len()) {
            self.fetching = None;
        }
        if self.discovery.is_some() {
            self.try_win();
        } else if committed > self.slots.committed() && self.leading.is_none() {
            self.fetch(from);
        }
    }

    /// Takes one chosen entry; whether it must be written. `end` is the last slot known to be chosen, gaplessly.
    fn learns(&mut self, entry: &Entry, committed: Index, end: &mut Index) -> bool {
        let LogId { epoch, index } = entry.id;
        if index <= self.slots.committed() {
            let damaged =
                self.slots.is_damaged(index) && self.slots.epoch_at(index).is_none_or(|e| e == epoch);
            self.slots.repair(index);
            return damaged;
        }
        if index != end.next() || index > committed {
            return false;
        }
        *end = index;
        let same = self.slots.run_at(index).is_some_and(|r| r.epoch == epoch);
        if same && !self.slots.is_damaged(index) {
            return false;
        }
        self.slots.put(entry.id, entry.ballot, entry.bytes());
        true
    }
}
