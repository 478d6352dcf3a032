//! broadcast: steady replication (paper §5.3, §5.4.2; thesis §10.2): proposing, sending, counting, committing.
//!
//! ```text
//!   propose ─► Persist ∥ AppendEntries ─► … Appended … ─► quorum ─► Commit ∥ Message::Commit
//! ```
//!
//! * Within a durable term appends leave in parallel with the leader's own write; the leader counts itself only up
//!   to what its own disk holds.
//! * Only entries of the current term are counted; older ones commit below them (figure 8):
//!   1. S1 leads in 2, stores 2:2 on S2, crashes; S5 leads in 3 with votes of S3 S4, stores 3:2 alone, crashes;
//!   2. S1 leads in 4, stores 2:2 on S3: a majority. If it now counted 2:2 as committed …
//!   3. … and crashed, S5 could lead in 5 (3:2 is above 2:2) and overwrite it.
//! * One step sends a peer one ungated frame for each frame's worth of entries.
//!
//! Invariants: `matched ≤ last` for all peers; the commit index never decreases.

use crate::log::Log;
use crate::message::Message;
use crate::progress::{Flow, Progress};
use crate::state::{Outgoing, Raft};
use alloc::vec::Vec;
use replog::{
    Body, Effect, Effects, Entry, Epoch, Index, Input, LogId, NodeId, Room, Span, Stamp, Ticket, Time, mutant,
};

/// Entries of unknown size asked for in one catch-up span; the driver cuts them at a frame.
const CATCH_UP_ENTRIES: u64 = 8192;

/// What is the same for all followers while a step's messages are made.
struct Desk<'a> {
    log: &'a Log,
    term: Epoch,
    committed: Index,
    round: u64,
    serving: bool,
    eager: bool,
    snapshot: LogId,
    frame_bytes: u64,
    inflight_bytes: u64,
    now: Time,
    outgoing: &'a mut Vec<Outgoing>,
}

impl Raft {
    /// Commands to replicate.
    pub(crate) fn on_propose(&mut self, stamp: Stamp, commands: impl ExactSizeIterator<Item = Body>) {
        let Some(lead) = self.lead.as_mut() else { return };
        if self.log.last().index == self.committed {
            lead.progressed = self.now;
        }
        let epoch = self.hard.promised;
        let mut entries = Vec::with_capacity(commands.len());
        for body in commands {
            let id = LogId { epoch, index: self.log.last().index.next() };
            let entry = Entry { id, ballot: epoch, stamp, body };
            self.log.append(id, entry.bytes());
            entries.push(entry);
        }
        self.stamp = self.stamp.max(stamp);
        self.writes.write(entries);
    }

    /// A follower holds our log up to `matched`, or at least is alive.
    pub(crate) fn on_appended(
        &mut self,
        from: NodeId,
        matched: Index,
        round: u64,
        counts: bool,
        out: &mut Effects<Message>,
    ) {
        let now = self.now;
        let Some(lead) = self.lead.as_mut() else { return };
        let Some(peer) = lead.peers.iter_mut().find(|p| p.node == from) else { return };
        if matched > self.log.last().index || round > lead.round {
            out.push(Effect::Ignored { from, why: "acknowledges what was never sent" });
            return;
        }
        peer.heard = now;
        peer.counts = counts;
        peer.round = peer.round.max(round);
        lead.moved |= peer.on_matched(matched);
    }

    /// Part of an attachment was not sent.
    pub(crate) fn on_unsent(&mut self, to: NodeId, from: Index) {
        let Some(lead) = self.lead.as_mut() else { return };
        if let Some(peer) = lead.peers.iter_mut().find(|p| p.node == to) {
            peer.on_unsent(from);
        }
    }

    /// Counts: is more committed than we knew?
    // spec: raft §5.4.2
    pub(crate) fn count_replicas(&mut self, out: &mut Effects<Message>) {
        let Some(lead) = self.lead.as_mut().filter(|lead| lead.moved) else { return };
        lead.moved = false;
        let Some(lead) = self.lead.as_ref() else { return };
        let durable =
            if mutant!(RaftOwnAckUndurable) { self.log.last().index } else { self.writes.durable_index() };
        let own = if self.may_vote { durable } else { Index::ZERO };
        let reached = self.config().replicated(|node| {
            if node == self.id {
                return own;
            }
            lead.peers.iter().find(|p| p.node == node && p.counts).map_or(Index::ZERO, |p| p.matched)
        });
        let is_own = self.log.term_at(reached) == Some(self.term()) || mutant!(CountOldTerms);
        if reached > self.committed && is_own {
            self.commit_to(reached, out);
            let now = self.now;
            if let Some(lead) = self.lead.as_mut() {
                lead.progressed = now;
            }
        }
    }

    /// Everything up to `index` holds the chosen value in our log.
    pub(crate) fn commit_to(&mut self, index: Index, out: &mut Effects<Message>) {
        if index > self.committed {
            let last = self.log.last().index;
            assert!(index <= last, "{}: commit {index} beyond the end {last}", self.id);
            self.committed = index;
            self.settle_configs(out);
        }
    }

    /// How much more a leader takes.
    pub(crate) fn room(&self) -> Room {
        let is_paused = self.lead.as_ref().is_none_or(|lead| lead.transfer.is_some());
        if is_paused || !self.is_serving() {
            return Room::default();
        }
        let limits = &self.options.limits;
        let last = self.log.last().index;
        let ahead = u32::try_from(last.0 - self.committed.0).unwrap_or(u32::MAX);
        let bytes = self.log.bytes_between(self.committed, last).unwrap_or(limits.window_bytes);
        Room {
            commands: limits.window_commands.saturating_sub(ahead),
            bytes: limits.window_bytes.saturating_sub(bytes),
        }
    }

    /// Marks who is due for a heartbeat.
    pub(crate) fn on_heartbeat_due(&mut self) {
        let (now, interval) = (self.now, self.options.timing.heartbeat);
        let has_lease = self.options.lease_length().is_some();
        let Some(lead) = self.lead.as_mut() else { return };
        lead.heartbeat_at = now + interval;
        lead.wants_round |= has_lease || !lead.reads.is_empty();
        // Appends are contact for the follower, answers for us; a slow disk delays the answers, so ask as well.
        let is_due = |p: &Progress| now.since(p.sent) >= interval || now.since(p.heard) >= interval;
        for peer in &mut lead.peers {
            peer.beat |= is_due(peer);
            if peer.flow == (Flow::Probe { sent: true }) {
                // The probe or its answer may be lost: ask again, and do not count on the entries that rode along.
                peer.probed_upto = Index::ZERO;
                peer.beat = true;
            }
        }
    }

    /// Makes the messages of this step for all followers.
    pub(crate) fn serve_followers(&mut self, out: &mut Effects<Message>) {
        let serving = self.is_serving();
        let Some(lead) = self.lead.as_mut() else { return };
        let mut desk = Desk {
            log: &self.log,
            term: self.hard.promised,
            committed: self.committed,
            round: lead.round,
            serving,
            eager: self.options.eager_commit,
            snapshot: self.snapshot,
            frame_bytes: self.options.limits.frame_bytes,
            inflight_bytes: self.options.inflight_bytes,
            now: self.now,
            outgoing: &mut self.outgoing,
        };
        for peer in &mut lead.peers {
            if peer.connected {
                desk.serve(peer, out);
            }
        }
    }
}

impl Desk<'_> {
    fn serve(&mut self, peer: &mut Progress, out: &mut Effects<Message>) {
        if peer.flow != Flow::Snapshot && self.log.id_at(peer.next.prev()).is_none() {
            self.begin_snapshot(peer, out);
        }
        match peer.flow {
            Flow::Probe { sent: false } => self.probe(peer),
            Flow::Replicate => self.replicate(peer),
            Flow::Probe { sent: true } | Flow::Snapshot => {}
        }
        if peer.beat {
            peer.beat = false;
            self.append(peer, None);
        }
        // A follower commits up to what it has verified, so telling it more than was sent is useless.
        if self.eager && peer.told < self.committed && !peer.is_syncing() {
            peer.told = self.committed;
            let message = Message::Commit { term: self.term, commit: self.committed };
            self.outgoing.push(Outgoing { to: peer.node, message, attach: None, after: Ticket::NONE });
        }
    }

    /// One message with at most a frame of entries; its answer decides how it goes on.
    fn probe(&mut self, peer: &mut Progress) {
        let last = self.log.last().index;
        let end = self.log.frame_end(peer.next, self.frame_bytes);
        let end = end.unwrap_or_else(|| last.min(Index(peer.next.0.saturating_add(CATCH_UP_ENTRIES))));
        let span = Span::new(peer.next, end);
        peer.probed_upto = span.map_or(Index::ZERO, |s| s.to);
        self.append(peer, span);
        peer.flow = Flow::Probe { sent: true };
        peer.beat = false;
    }

    /// Everything that fits: counted frames back to back, or one uncounted span.
    fn replicate(&mut self, peer: &mut Progress) {
        let last = self.log.last().index;
        while peer.next <= last && peer.catch_up.is_none() {
            if let Some(end) = self.log.frame_end(peer.next, self.frame_bytes) {
                let under_way = self.log.bytes_between(peer.matched, peer.next.prev());
                if under_way.is_none_or(|bytes| bytes >= self.inflight_bytes)
                    && peer.matched.next() < peer.next
                {
                    return;
                }
                self.append(peer, Span::new(peer.next, end));
                peer.next = end.next();
            } else {
                if peer.matched.next() < peer.next {
                    return;
                }
                let end = self.log.counted_from().prev().min(Index(peer.next.0 + CATCH_UP_ENTRIES));
                let Some(span) = Span::new(peer.next, end) else { return };
                peer.catch_up = Some(span);
                self.append(peer, Some(span));
                peer.next = end.next();
            }
        }
    }

    fn append(&mut self, peer: &mut Progress, attach: Option<Span>) {
        // While a snapshot is under way nothing is known about its log; index 0 always matches.
        let prev = match (peer.flow, attach) {
            (Flow::Snapshot, _) => LogId::ZERO,
            (_, Some(span)) => self.log.id_at(span.from.prev()).unwrap_or(LogId::ZERO),
            (_, None) => self.log.id_at(peer.next.prev()).unwrap_or(LogId::ZERO),
        };
        let message = Message::AppendEntries {
            term: self.term,
            prev,
            commit: self.committed,
            round: self.round,
            sync: !self.serving || peer.is_syncing(),
        };
        peer.sent = self.now;
        if peer.flow == Flow::Replicate {
            peer.told = peer.told.max(self.committed);
        }
        self.outgoing.push(Outgoing { to: peer.node, message, attach, after: Ticket::NONE });
    }

    /// It needs entries that are gone.
    // spec: raft §7
    fn begin_snapshot(&mut self, peer: &mut Progress, out: &mut Effects<Message>) {
        if peer.streaming.is_none() && self.snapshot.index >= self.log.base().index {
            peer.streaming = Some(self.snapshot);
            out.push(Effect::SendSnapshot { to: peer.node, at: self.snapshot });
        }
        peer.flow = Flow::Snapshot;
        peer.catch_up = None;
        // Contact, so that it does not campaign while it loads.
        peer.beat = true;
    }
}

/// The bodies of proposed commands, for [`Raft::on_propose`].
pub(crate) fn propose(raft: &mut Raft, input: Input<Message>) {
    if let Input::Propose { stamp, commands } = input {
        raft.on_propose(stamp, commands.into_iter().map(Body::Command));
    }
}
