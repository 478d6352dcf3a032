//! Broadcast: phase 2, Accept/Accepted, many slots in flight, and the heartbeats around it.
//!
//! ```text
//!  leader     propose ─► write(t) ∥ Accept + entries ─────────────► acceptors: write, then Accepted (cumulative)
//!             chosen when a replication quorum, each after its own fsync, accepted it in this ballot
//!             Commit ∥ Decide (or the bound rides on the next Accept)
//! ```
//!
//! Acceptors take slots in any order within the window above their own prefix, so a lost Accept delays the prefix, not
//! the slots behind it. `Accepted` says everything that was accepted in the ballot, so a lost one costs nothing.
//! Heartbeats make good what was lost: the answer says what has arrived, and what was sent before the heartbeat and has
//! not is sent again; the heartbeat says what the leader knows, and an acceptor that knows better says so.

use crate::slots::Run;
use crate::state::{Gate, Leading, Transfer};
use crate::{Message, Paxos};
use alloc::{vec, vec::Vec};
use bytes::Bytes;
use replog::{
    Body, Entry, Epoch, Index, LogId, NodeId, Phase, QuorumPhase, Refusal, Room, Span, Stamp, Time, Token,
    mutant,
};

impl Paxos {
    /// No-ops and configurations that may lie beyond two windows.
    const OPEN_NOOPS: u64 = 1024;

    /// How many more commands the leader takes.
    pub(crate) fn room(&self) -> Room {
        let Some(leading) = self.leading.as_ref().filter(|l| l.transfer.is_none()) else {
            return Room::default();
        };
        if self.phase != Phase::Broadcast {
            return Room::default();
        }
        let limits = &self.options.limits;
        let open = leading.last.0.saturating_sub(self.slots.committed().0);
        let open = u32::try_from(open).unwrap_or(u32::MAX);
        let bytes = limits.window_bytes.saturating_sub(self.slots.bytes());
        if self.options.classic {
            let idle = open == 0 && leading.waiting.is_empty();
            return if idle { Room { commands: 1, bytes } } else { Room::default() };
        }
        Room { commands: limits.window_commands.saturating_sub(open), bytes }
    }

    pub(crate) fn on_propose(&mut self, stamp: Stamp, commands: Vec<Bytes>) {
        let reign = self.reign;
        if self.phase != Phase::Broadcast {
            return;
        }
        let Some(leading) = &mut self.leading else { return };
        let ballot = leading.ballot;
        let mut index = leading.last;
        let entries = commands.into_iter().map(|command| {
            index = index.next();
            Entry { id: LogId::new(reign, index), ballot, stamp, body: Body::Command(command) }
        });
        if self.options.classic {
            leading.waiting.extend(entries);
            return;
        }
        let entries = entries.collect();
        self.propose_entries(entries);
    }

    /// Proposes entries in the next slots: accepts them itself and notes where frames end.
    pub(crate) fn propose_entries(&mut self, entries: Vec<Entry>) {
        let Some(leading) = &mut self.leading else { return };
        if leading.last == self.slots.committed() {
            leading.progress = self.now;
        }
        for entry in &entries {
            let bytes = entry.bytes();
            if leading.frame_fill + u64::from(bytes) > self.options.limits.frame_bytes
                && leading.frame_fill > 0
            {
                leading.cuts.push(leading.last);
                leading.frame_fill = 0;
            }
            leading.frame_fill += u64::from(bytes);
            leading.last = entry.id.index;
            if mutant!(PaxosOwnAckUndurable) {
                leading.own = leading.last;
            }
            self.slots.put(entry.id, entry.ballot, bytes);
        }
        self.established = self.established.max(leading.ballot);
        self.write(entries);
    }

    /// Classic mode, phase 1 of the next command.
    // spec: paxos-simple §2: both phases for every value. The ballot rises, the reign stays (contract point 10)
    pub(crate) fn prepare_classic(&mut self) {
        let Some(leading) = &self.leading else { return };
        let idle = leading.last == self.slots.committed() && self.discovery.is_none();
        let wants = self.options.classic && idle && !leading.waiting.is_empty();
        if wants
            && self.phase == Phase::Broadcast
            && let Some(ballot) = self.next_ballot()
        {
            self.prepare(ballot, self.reign, false);
        }
    }

    /// Classic mode, phase 2 of the command that waited.
    pub(crate) fn propose_classic(&mut self, ballot: Epoch) {
        let Some(leading) = &mut self.leading else { return };
        leading.ballot = ballot;
        let Some(mut entry) = leading.waiting.pop_front() else { return };
        // The reign may have changed while the command waited: a value is named by who proposes it, and where.
        entry.id = LogId::new(self.reign, leading.last.next());
        entry.ballot = ballot;
        self.propose_entries(vec![entry]);
    }

    /// Checks that a leader's message may be obeyed, and follows that leader.
    pub(crate) fn obeys(&mut self, from: NodeId, ballot: Epoch, reign: Epoch) -> bool {
        if self.leader == Some(from) && ballot == self.promised && reign == self.reign {
            return true;
        }
        self.hear_round(ballot);
        if from.0 != ballot.proposer || from.0 != reign.proposer || reign > ballot || from == self.id {
            self.ignore(from, "a leader's word in a foreign ballot");
            return false;
        }
        if ballot < self.promised && !mutant!(PromiseTakenBack) {
            // Also one that lost its vote: 1. n4, cut off, prepares 2.4 alone; 2. its log rots, it may not vote until it
            // has caught up, nor prepare; 3. n2 leads 1.2 with a quorum that never heard of 2.4, and n4 obeys nothing
            // below 2.4: it would follow nobody, and never catch up, until some day another election goes beyond 2.4.
            if self.configuration.is_voter(self.id) {
                self.send(from, Message::Reject { ballot, promised: self.promised });
            }
            self.ignore(from, "older ballot");
            return false;
        }
        self.promise(ballot);
        if self.leader != Some(from) || reign != self.reign {
            self.become_follower(from, reign);
            self.on_contact();
        }
        true
    }

    // spec: paxos-simple §2.2 phase 2 (b), P1a: accepts unless it promised a higher ballot
    pub(crate) fn on_accept(
        &mut self,
        from: NodeId,
        message: (Epoch, Epoch, Index),
        mut entries: Vec<Entry>,
    ) {
        let (ballot, reign, committed) = message;
        if !self.obeys(from, ballot, reign) {
            return;
        }
        if self.leader_has_quorum {
            // As a heartbeat, without drawing a new spread for every frame.
            self.contact = self.now;
            let patience = self.now + self.options.timing.election_timeout;
            self.deadline = self.deadline.map(|d| d.max(patience));
        }
        self.hear_bound(committed);
        let mut highest = Index::ZERO;
        entries.retain(|entry| {
            let sound = entry.ballot == ballot && entry.id.epoch <= ballot && entry.id.index > highest;
            let new = sound && self.accepts(entry);
            if new {
                highest = entry.id.index;
                self.slots.put(entry.id, ballot, entry.bytes());
            }
            new
        });
        if !entries.is_empty() {
            self.established = self.established.max(ballot);
        }
        self.write(entries);
        self.out.accepted = Some(from);
    }

    /// Whether an entry of the present ballot is new here and lies within the window.
    // Contract schedule 12: without a window, an acceptor with one hole accepts 100,000 slots above it, and the next
    // promise never fits a frame. No-ops and configurations pass, or a full window could never be committed.
    fn accepts(&self, entry: &Entry) -> bool {
        let index = entry.id.index;
        if index <= self.slots.committed() {
            return false;
        }
        if let Some(run) = self.slots.run_at(index) {
            return run.ballot < entry.ballot || self.slots.is_damaged(index);
        }
        let limits = &self.options.limits;
        let ahead = index.0 - self.slots.committed().0;
        let window = u64::from(limits.window_commands);
        match entry.body {
            Body::Command(_) => ahead <= window && self.slots.bytes() < limits.window_bytes,
            // There is one for each reign that chose nothing, and for each hole.
            Body::Noop | Body::Config(..) => ahead <= 2 * window + Self::OPEN_NOOPS,
        }
    }

    /// Notes a commit bound of the present leader.
    fn hear_bound(&mut self, committed: Index) {
        if committed > self.bound {
            self.bound = committed;
            // What the bound covers counts before the window of what came with it is judged.
            let reign = self.reign;
            let end = self.slots.end_where(|r| is_of(r, reign)).min(committed);
            self.commit(end);
        }
    }

    pub(crate) fn on_decide(&mut self, from: NodeId, ballot: Epoch, reign: Epoch, committed: Index) {
        if self.obeys(from, ballot, reign) {
            self.hear_bound(committed);
        }
    }

    pub(crate) fn on_accepted(&mut self, from: NodeId, word: (Epoch, Index, Index, bool), more: Vec<Span>) {
        let (ballot, upto, committed, counts) = word;
        let (now, chosen) = (self.now, self.slots.committed());
        let Some(leading) =
            self.leading.as_mut().filter(|l| l.ballot == ballot || mutant!(ForeignBallotCounts))
        else {
            self.ignore(from, "accepted in another ballot");
            return;
        };
        // The last acceptors of a slot that is chosen already need not be counted.
        leading.recount |= upto > chosen || !more.is_empty();
        if let Some(peer) = self.peer_mut(from) {
            peer.heard = Some(now);
            peer.counts = counts;
            peer.committed = peer.committed.max(committed);
            if upto >= peer.upto {
                peer.upto = upto;
                peer.more = more;
            }
        }
    }

    pub(crate) fn on_heartbeat(
        &mut self,
        from: NodeId,
        ids: (Epoch, Epoch, u64),
        said: (Index, bool, Index),
    ) {
        let (ballot, reign, round) = ids;
        let (committed, quorum, acked) = said;
        if !self.obeys(from, ballot, reign) {
            return;
        }
        self.leader_has_quorum = quorum;
        if quorum {
            self.on_contact();
        }
        if self.options.lease {
            // Whatever this leader makes of the answer, it may count it towards a lease.
            self.lease_guard = self.lease_guard.max(self.now + self.options.timing.election_timeout);
        }
        self.hear_bound(committed);
        let arrived = self.slots.end_where(|r| r.ballot == ballot);
        self.send(
            from,
            Message::Alive {
                ballot,
                round,
                arrived,
                committed: self.slots.committed(),
                counts: self.counts(),
            },
        );
        if arrived > acked && self.configuration.is_voter(self.id) {
            self.out.accepted = Some(from);
        }
    }

    pub(crate) fn on_alive(&mut self, from: NodeId, ids: (Epoch, u64), said: (Index, Index, bool)) {
        let (ballot, round) = ids;
        let (arrived, committed, counts) = said;
        let (now, reign, me) = (self.now, self.reign, self.id.0);
        if self.leading.is_none() || ballot < reign || ballot.proposer != me {
            self.ignore(from, "answer to an old heartbeat");
            return;
        }
        let Some(peer) = self.peer_mut(from) else { return };
        peer.heard = Some(now);
        peer.counts = counts;
        peer.committed = peer.committed.max(committed);
        peer.round = peer.round.max(round);
        let (at_round, sent) = peer.next_at_beat;
        if at_round == round && peer.votes && arrived.next() < sent {
            peer.next = peer.next.min(arrived.next().max(peer.upto.next()));
        }
    }

    pub(crate) fn on_transfer(&mut self, token: Token, to: Option<NodeId>) {
        let until = self.now + self.options.timing.election_timeout;
        let Some(leading) = &self.leading else {
            self.refuse(token, Refusal::NoLeader);
            return;
        };
        if leading.transfer.is_some() {
            self.refuse(token, Refusal::Busy);
            return;
        }
        let able = self.peers.iter().filter(|p| p.votes && p.counts && p.connected);
        let target = match to {
            Some(node) => able.map(|p| p.node).find(|n| *n == node),
            None => able.max_by_key(|p| (p.upto, p.node)).map(|p| p.node),
        };
        match (target, &mut self.leading) {
            (Some(to), Some(leading)) => leading.transfer = Some(Transfer { token, to, until, sent: false }),
            _ => self.refuse(token, Refusal::Unsafe),
        }
    }

    /// Tells the successor to prepare once it holds everything; gives up after an election timeout.
    fn advance_transfer(&mut self) {
        let Some(leading) = &mut self.leading else { return };
        let Some(transfer) = &mut leading.transfer else { return };
        let (to, token, last, ballot) = (transfer.to, transfer.token, leading.last, leading.ballot);
        if self.now >= transfer.until {
            leading.transfer = None;
            self.refuse(token, Refusal::NoLeader);
            return;
        }
        let caught_up = self.peers.iter().any(|p| p.node == to && p.upto >= last);
        if caught_up && !transfer.sent && self.slots.committed() == last {
            transfer.sent = true;
            self.send(to, Message::Lead { ballot });
            if self.options.lease {
                // Its heartbeats would extend the very leases that the successor must wait for.
                self.step_down();
            }
        }
    }

    pub(crate) fn on_lead(&mut self, from: NodeId, ballot: Epoch) {
        if ballot != self.promised
            || self.leader != Some(from)
            || !self.counts()
            || !self.slots.damaged().is_empty()
        {
            self.ignore(from, "asked to lead by another than the leader");
            return;
        }
        self.become_proposer(true);
    }

    /// Wants a heartbeat to everybody in this step.
    pub(crate) fn beat(&mut self, _cause: NodeId) {
        if let Some(leading) = &mut self.leading {
            leading.beat_now = true;
        }
    }

    /// The leader's timers.
    pub(crate) fn on_leader_time(&mut self) {
        let now = self.now;
        let heartbeat = self.options.timing.heartbeat;
        let Some(leading) = self.leading.as_mut().filter(|l| now >= l.next_beat) else { return };
        leading.next_beat = now + heartbeat;
        leading.beat_now = true;
        if leading.last == self.slots.committed() {
            leading.progress = now;
        }
        self.cede_if_useless();
        if self.leading.is_some() && !self.slots.damaged().is_empty() {
            let able = self.peers.iter().filter(|p| p.connected).max_by_key(|p| p.committed);
            if let Some(node) = able.map(|p| p.node) {
                self.fetch(node);
            }
        }
    }

    /// What a leader does at the end of each step: counts, commits, sends.
    pub(crate) fn flush_leader(&mut self) {
        if self.leading.as_ref().is_some_and(|l| l.recount) {
            self.recount();
        }
        self.prepare_classic();
        self.advance_transfer();
        self.assign_reads();
        if self.leading.is_none() {
            return;
        }
        self.send_proposals();
        if self.leading.as_ref().is_some_and(|l| l.beat_now) {
            self.send_beats();
        }
        self.release_reads();
    }

    fn recount(&mut self) {
        let chosen = self.chosen_upto();
        let now = self.now;
        let Some(leading) = &mut self.leading else { return };
        leading.recount = false;
        if chosen > self.slots.committed() {
            leading.progress = now;
            if self.phase == Phase::Sync && chosen >= leading.first {
                self.phase = Phase::Broadcast;
            }
            self.slots.commit(chosen);
        }
    }

    /// Sends each acceptor the slots that it was not sent yet, and everybody what was chosen.
    fn send_proposals(&mut self) {
        let committed = self.slots.committed();
        let (reign, promised) = (self.reign, self.promised);
        let sync = self.phase == Phase::Sync;
        let eager = self.options.eager_commit;
        let Self { leading: Some(leading), peers, out, .. } = self else { return };
        let ballot = leading.ballot;
        let window = u64::from(self.options.limits.window_commands);
        let step_first = first_of_step(leading);
        for peer in peers.iter_mut().filter(|p| p.connected) {
            if !peer.votes {
                // A learner is told what is chosen, as it is chosen.
                if let Some(span) = Span::new(peer.next, committed) {
                    let message = Message::Chosen { promised, committed, ids: Vec::new(), push: true };
                    out.sends.push((peer.node, message, Some(span), Gate::Open));
                    peer.next = committed.next();
                }
                continue;
            }
            peer.next = peer.next.max(committed.next());
            let accept = Message::Accept { ballot, reign, committed, sync };
            if peer.next <= leading.last {
                peer.bound = committed;
            } else if eager && peer.bound < committed {
                peer.bound = committed;
                out.sends.push((peer.node, Message::Decide { ballot, reign, committed }, None, Gate::Open));
            }
            // It would refuse them all: they lie beyond its window. First it fetches what is chosen.
            if peer.committed.0.saturating_add(window) < committed.0 {
                continue;
            }
            // New entries are cut into frames by their counted bytes; a backlog goes as one span, cut by the driver.
            let backlog = step_first.is_none_or(|first| peer.next < first);
            for cut in leading.cuts.iter().filter(|_| !backlog).chain(core::iter::once(&leading.last)) {
                if let Some(span) = Span::new(peer.next, *cut) {
                    out.sends.push((peer.node, accept.clone(), Some(span), Gate::Open));
                    peer.next = cut.next();
                }
            }
        }
        leading.cuts.clear();
        leading.frame_fill = 0;
        leading.sent = leading.last;
    }

    fn send_beats(&mut self) {
        let quorum = self.hears_quorum() && !self.is_stuck() || mutant!(PaxosLeaderWithoutQuorum);
        let committed = if mutant!(DecideNotRepeated) { Index::ZERO } else { self.slots.committed() };
        let (now, reign, ballot) = (self.now, self.reign, self.promised);
        if self.options.lease {
            self.lease_guard = self.lease_guard.max(now + self.options.timing.election_timeout);
        }
        let lease = self.options.lease;
        let Self { leading: Some(leading), peers, out, .. } = self else { return };
        leading.beat_now = false;
        leading.round += 1;
        let round = leading.round;
        if lease {
            leading.beats.push_back((round, now));
            if leading.beats.len() > 64 {
                leading.beats.pop_front();
            }
        }
        for peer in peers.iter_mut().filter(|p| p.connected) {
            peer.next_at_beat = (round, peer.next);
            peer.bound = committed;
            let acked = peer.upto;
            let message = Message::Heartbeat { ballot, reign, committed, quorum, round, acked };
            out.sends.push((peer.node, message, None, Gate::Open));
        }
    }

    /// Highest heartbeat round that a replication quorum answered.
    pub(crate) fn answered_round(&self) -> u64 {
        let mut rounds: Vec<u64> =
            self.peers.iter().filter(|p| p.votes && p.counts).map(|p| p.round).collect();
        rounds.push(self.leading.as_ref().map_or(0, |l| l.round));
        rounds.sort_unstable();
        let answered = |round: u64| {
            self.is_quorum(QuorumPhase::Replication, |n| {
                n == self.id || self.peer(n).is_some_and(|p| p.counts && p.round >= round)
            })
        };
        rounds.into_iter().rev().find(|r| answered(*r)).unwrap_or(0)
    }

    /// When the leader must be stepped next.
    pub(crate) fn leader_deadline(&self) -> Option<Time> {
        let leading = self.leading.as_ref()?;
        let transfer = leading.transfer.as_ref().map_or(leading.next_beat, |t| t.until);
        Some(leading.next_beat.min(transfer))
    }
}

/// Whether a slot was accepted from the leader of `reign`, in that reign: there it proposes one value per slot.
pub(crate) fn is_of(run: &Run, reign: Epoch) -> bool {
    (run.ballot >= reign && run.ballot.proposer == reign.proposer) || mutant!(BoundIsLicence)
}

/// First slot proposed in this step.
fn first_of_step(leading: &Leading) -> Option<Index> {
    (leading.sent < leading.last).then(|| leading.sent.next())
}
