//! sync: how a follower's log becomes the leader's (paper §5.3): the consistency check, conflict hints, truncation;
//! on the leader, the first probe until the logs meet.
//!
//! ```text
//!   leader   1 1 1 4 4 5 5 6 6 │6        probe prev = 6:9
//!   follower 1 1 1 2 2 2 3 3 3           refuses, hint: last entry not above term 6 → 3:9
//!                                        leader: last entry ≤ 9 not above term 3 → 1:3; the next probe meets
//! ```
//!
//! Each probe skips at least one whole term on one of the sides: O(terms) round trips, not O(entries).
//!
//! Invariants: nothing at or below the commit index is ever removed, and no entry that equals the leader's;
//! `verified` never exceeds what the leader of the current term was seen to hold.

use crate::message::Message;
use crate::state::{Answer, Raft, Standing};
use alloc::vec::Vec;
use replog::{Body, Effect, Effects, Entry, Epoch, Index, LogId, NodeId, Span, Ticket, mutant};

/// The fields of an `AppendEntries`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Append {
    pub(crate) term: Epoch,
    pub(crate) prev: LogId,
    pub(crate) commit: Index,
    pub(crate) round: u64,
    pub(crate) sync: bool,
}

/// Whether `entries` can follow `prev` in a log of a leader in `term`: contiguous, with terms that never decrease.
fn is_well_formed(append: &Append, entries: &[Entry]) -> bool {
    let mut before = append.prev;
    for entry in entries {
        if entry.id.index != before.index.next()
            || entry.id.epoch < before.epoch
            || entry.id.epoch > append.term
        {
            return false;
        }
        before = entry.id;
    }
    append.prev.epoch <= append.term
}

impl Raft {
    /// A message of the current term's leader: follow it.
    pub(crate) fn on_leader_contact(
        &mut self,
        from: NodeId,
        term: Epoch,
        out: &mut Effects<Message>,
    ) -> bool {
        if self.standing == Standing::Leading || self.leader.is_some_and(|l| l != from && term == self.term())
        {
            out.push(Effect::Ignored { from, why: "second leader of one term" });
            return false;
        }
        self.become_follower(term, Some(from), out);
        self.contact = Some(self.now);
        self.reset_election_timer();
        true
    }

    /// Entries or a heartbeat from the leader of the current term.
    // spec: raft §5.3, figure 2 "AppendEntries receiver"
    pub(crate) fn on_append(
        &mut self,
        from: NodeId,
        append: Append,
        entries: Vec<Entry>,
        out: &mut Effects<Message>,
    ) {
        if !is_well_formed(&append, &entries) {
            out.push(Effect::Ignored { from, why: "malformed append" });
            return;
        }
        if !self.on_leader_contact(from, append.term, out) {
            return;
        }
        if !self.meets(append.prev) {
            self.refuse(from, append);
            return;
        }
        let matched = entries.last().map_or(append.prev.index, |e| e.id.index);
        let is_heartbeat = entries.is_empty();
        if !self.take_entries(from, entries, out) {
            return;
        }
        let following = &mut self.following;
        following.verified = following.verified.max(matched);
        let answer = Answer { matched, round: append.round, sync: append.sync };
        let slot = if is_heartbeat { &mut following.beat } else { &mut following.ack };
        let before = slot.unwrap_or(answer);
        *slot = Some(Answer {
            matched: matched.max(before.matched),
            round: append.round.max(before.round),
            sync: append.sync,
        });
        self.on_commit(append.commit, out);
    }

    /// The leader's commit index. It covers only what is known to equal the leader's log.
    pub(crate) fn on_commit(&mut self, commit: Index, out: &mut Effects<Message>) {
        // 1. we hold 2:9, uncommitted; 2. the leader of 3 committed 3:9 without us; 3. its "commit 9" overtakes the
        // append that would replace our entry: only the verified part of our log may be believed.
        let known =
            if mutant!(RaftBoundUnverified) { self.log.last().index } else { self.following.verified };
        self.commit_to(commit.min(known), out);
        if self.committed >= commit && self.log.term_at(self.committed) == Some(self.term()) {
            self.following.level = true;
        }
    }

    /// Whether our log holds `prev`.
    fn meets(&self, prev: LogId) -> bool {
        // Everything committed is in every leader's log (leader completeness), purged or not.
        prev.index <= self.committed || self.holds(prev)
    }

    fn holds(&self, id: LogId) -> bool {
        self.log.term_at(id.index) == Some(id.epoch)
    }

    fn refuse(&mut self, to: NodeId, append: Append) {
        let floor = self.log.id_at(self.committed).unwrap_or(self.log.base());
        let hint = self.log.last_not_above(append.prev.index, append.prev.epoch).unwrap_or(floor);
        let hint = if hint.index < floor.index { floor } else { hint };
        let (term, probed, round) = (self.term(), append.prev.index, append.round);
        self.send_in_term(to, Message::Mismatch { term, probed, hint, round });
    }

    /// Stores what is new. Returns false if the leader contradicts what is committed.
    fn take_entries(&mut self, from: NodeId, mut entries: Vec<Entry>, out: &mut Effects<Message>) -> bool {
        self.take_refetched(&entries);
        // Common case first: everything is new. Otherwise skip what we hold: removing a *matching* entry behind
        // `prev` would take back an acknowledgement (protocol-traps 2.3):
        // 1. append (prev 4, entries 5 6) and then (prev 4, entry 5) arrive, reordered or repeated;
        // 2. whoever truncates behind the second one loses 6, which it acknowledged and which may be committed.
        let new = entries
            .iter()
            .position(|e| e.id.index > self.committed && (!self.holds(e.id) || mutant!(TruncateMatching)));
        let Some(new) = new else { return true };
        let fresh = if new == 0 { entries } else { entries.split_off(new) };
        let Some(first) = fresh.first().map(|e| e.id) else { return true };
        // What is committed is not compared (`meets`): a peer that contradicts it must not bring terms out of order.
        if self.log.term_at(first.index.prev()).is_some_and(|before| before > first.epoch) {
            out.push(Effect::Ignored { from, why: "leader contradicts what is committed" });
            return false;
        }
        if first.index <= self.log.last().index {
            if first.index <= self.following.verified && !mutant!(TruncateMatching) {
                out.push(Effect::Ignored { from, why: "leader contradicts itself" });
                return false;
            }
            self.truncate(first.index, out);
        }
        for entry in &fresh {
            self.log.append(entry.id, entry.bytes());
            self.stamp = self.stamp.max(entry.stamp);
            if let Body::Config(configuration, _) = &entry.body {
                self.on_config_appended(entry.id.index, (**configuration).clone(), out);
            }
        }
        self.writes.write(fresh);
        true
    }

    /// Drops the log from `from` on: it conflicts with the leader's.
    fn truncate(&mut self, from: Index, out: &mut Effects<Message>) {
        assert!(from > self.committed, "{}: truncation at {from} below commit {}", self.id, self.committed);
        self.log.truncate(from);
        self.writes.truncate(from);
        self.damaged.retain_mut(|span| {
            span.to = span.to.min(from.prev());
            span.from <= span.to
        });
        self.on_config_truncated(from, out);
    }

    /// Writes damaged entries again that came back from the leader.
    fn take_refetched(&mut self, entries: &[Entry]) {
        if self.damaged.is_empty() {
            return;
        }
        let is_wanted =
            |e: &Entry| self.damaged.iter().any(|span| span.contains(e.id.index)) && self.holds(e.id);
        let found: Vec<Entry> = entries.iter().filter(|e| is_wanted(e)).cloned().collect();
        for entry in found {
            self.heal(entry.id.index);
            self.writes.write(alloc::vec![entry]);
        }
    }

    /// `index` is readable again.
    fn heal(&mut self, index: Index) {
        let Some(at) = self.damaged.iter().position(|span| span.contains(index)) else { return };
        let span = self.damaged.remove(at);
        let parts = [Span::new(span.from, index.prev()), Span::new(index.next(), span.to)];
        for part in parts.into_iter().flatten().rev() {
            self.damaged.insert(at, part);
        }
    }

    /// Asks the leader for damaged entries, at most once per heartbeat.
    pub(crate) fn ask_for_damaged(&mut self) {
        let (Some(leader), Some(&span)) = (self.leader, self.damaged.first()) else { return };
        let heartbeat = self.options.timing.heartbeat;
        let asked = self.following.refetched;
        if self.standing == Standing::Following && asked.is_none_or(|at| self.now.since(at) >= heartbeat) {
            self.following.refetched = Some(self.now);
            self.send_in_term(leader, Message::Refetch { term: self.term(), span });
        }
    }

    /// Sends what is owed to the leader for this step's appends and heartbeats.
    pub(crate) fn answer_leader(&mut self) {
        let Some(leader) = self.leader.filter(|_| self.standing == Standing::Following) else { return };
        let (term, counts) = (self.term(), self.may_vote);
        if let Some(Answer { matched, round, sync }) = self.following.ack.take() {
            let log_gate =
                if mutant!(AppendAckBeforeDurable) { Ticket::NONE } else { self.writes.log_gate(matched) };
            let after = self.writes.term_gate().max(log_gate);
            self.send(leader, Message::Appended { term, matched, round, counts, sync }, after);
        }
        if let Some(Answer { matched, round, sync }) = self.following.beat.take() {
            // Contact must not wait for the disk, so it claims no more than what is durable now.
            let claims_all = mutant!(HeartbeatClaimsUndurable);
            let matched = if claims_all { matched } else { matched.min(self.writes.durable_index()) };
            self.send_in_term(leader, Message::Appended { term, matched, round, counts, sync });
        }
    }

    /// A follower refused `probed`.
    pub(crate) fn on_mismatch(&mut self, from: NodeId, probed: Index, hint: LogId, round: u64) {
        let (now, log) = (self.now, &self.log);
        let Some(lead) = self.lead.as_mut() else { return };
        let Some(peer) = lead.peers.iter_mut().find(|p| p.node == from) else { return };
        peer.heard = now;
        peer.round = peer.round.max(round.min(lead.round));
        if peer.is_current_refusal(probed) && hint.index <= probed {
            // Below our base: `next` falls onto it, and the sender finds that only a snapshot helps.
            if hint.index < peer.matched {
                peer.forget();
            }
            let meet = log.last_not_above(hint.index, hint.epoch).map_or(Index::ZERO, |id| id.index);
            peer.probe(meet.min(probed.prev()).next());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use replog::Stamp;

    fn entry(term: u32, index: u64) -> Entry {
        let id = LogId::new(Epoch::of(term), Index(index));
        Entry { id, ballot: id.epoch, stamp: Stamp(0), body: Body::Noop }
    }

    #[test]
    fn appends_must_be_what_a_leader_can_hold() {
        let prev = LogId::new(Epoch::of(2), Index(4));
        let append = Append { term: Epoch::of(3), prev, commit: Index(0), round: 0, sync: false };
        assert!(is_well_formed(&append, &[]));
        assert!(is_well_formed(&append, &[entry(2, 5), entry(3, 6)]));
        for wrong in [vec![entry(2, 6)], vec![entry(2, 5), entry(2, 7)], vec![entry(1, 5)], vec![entry(4, 5)]]
        {
            assert!(!is_well_formed(&append, &wrong), "{wrong:?}");
        }
        let future = Append { prev: LogId::new(Epoch::of(4), Index(4)), ..append };
        assert!(!is_well_formed(&future, &[]));
    }
}
