//! The contract's surface: dispatching inputs, running timers, and emitting what a step gathered.
//!
//! ```text
//!   inputs ─► on_… ─► timers ─► finish: count ─► rounds ─► messages ─► Persist, Install, Sends, Commit, Phase
//! ```
//!
//! Inputs come before timers: a node that was paused hears the news before it acts on the clock.

use crate::broadcast::propose;
use crate::invariant;
use crate::message::Message;
use crate::options::Options;
use crate::state::{Outgoing, Raft, Reported, Standing};
use crate::sync::Append;
use alloc::vec::Vec;
use replog::{
    Effect, Effects, Entry, Guarantees, HardState, Input, Message as _, NodeId, Phase, Refusal,
    ReplicatedLog, Role, Setup, Span, Status, Time, Violation, mutant,
};

impl ReplicatedLog for Raft {
    type Message = Message;
    type Options = Options;
    const NAME: &'static str = "raft";
    // Terms never decrease along a log, and a leader appends only behind everything that its log holds: whatever of
    // it commits, commits behind all that it proposed before (log matching), and behind all earlier reigns.
    const GUARANTEES: Guarantees = Guarantees { primary_order: true, fifo_links: false };

    fn open(setup: Setup<Options>, now: Time, out: &mut Effects<Message>) -> Self {
        let mut raft = Raft::restored(setup, now);
        raft.settle_configs(out);
        raft.arm_first_timer();
        raft.finish(out);
        raft
    }

    fn step(&mut self, now: Time, batch: &mut Vec<Input<Message>>, out: &mut Effects<Message>) {
        self.now = self.now.max(now);
        for input in batch.drain(..) {
            self.on_input(input, out);
        }
        self.run_timers(out);
        self.finish(out);
    }

    fn deadline(&self) -> Option<Time> {
        let Some(lead) = &self.lead else {
            let reads = self.following.forwards.iter().filter_map(|f| f.asked).min();
            let reads = reads.map(|at| at + self.options.timing.heartbeat);
            return Some(reads.map_or(self.election_at, |at| at.min(self.election_at)));
        };
        let timing = &self.options.timing;
        let stall =
            self.writes.oldest().map(|at| at + timing.disk_stall + core::time::Duration::from_nanos(1));
        let transfer = lead.transfer.map(|t| t.until);
        let check = self.options.checks_quorum().then_some(lead.check_at);
        [stall, transfer, check].into_iter().flatten().chain([lead.heartbeat_at]).min()
    }

    fn status(&self) -> Status {
        let view = self.view();
        Status {
            role: view.role,
            phase: view.phase,
            epoch: view.epoch,
            leader: view.leader,
            last: self.log.last(),
            committed: self.committed,
            room: self.room(),
        }
    }

    fn check(&self) -> Result<(), Violation> {
        invariant::check(self)
    }
}

impl Raft {
    fn on_input(&mut self, input: Input<Message>, out: &mut Effects<Message>) {
        match input {
            Input::Message { from, message, entries } => self.on_message(from, message, entries, out),
            Input::Propose { .. } => propose(self, input),
            Input::Persisted(ticket) => {
                self.writes.persisted(ticket);
                if let Some(lead) = self.lead.as_mut() {
                    lead.moved = true;
                } else {
                    self.count_answers();
                }
            }
            Input::Peer { node, connected } => self.on_link(node, connected),
            Input::Read { token, mode } => self.on_read(token, mode, out),
            Input::Reconfigure { token, .. } => {
                out.push(Effect::Refused { token, why: Refusal::Unsupported })
            }
            Input::Transfer { token, to } => self.on_transfer(token, to, out),
            Input::Unsent { to, from } => self.on_unsent(to, from),
            Input::SnapshotTaken { at } => self.on_snapshot_taken(at),
            Input::SnapshotReceived { from, epoch, at, configurations } => {
                // It may be the first word from a new reign, and no entry is of a later term than the own.
                if epoch > self.term() {
                    self.on_higher_term(epoch, out);
                }
                self.on_snapshot_received(from, at, configurations, out);
            }
            Input::SnapshotSent { to, at, whole } => self.on_snapshot_sent(to, at, whole),
            Input::Damaged(span) => self.on_damaged(span, out),
        }
    }

    fn on_message(
        &mut self,
        from: NodeId,
        message: Message,
        entries: Vec<Entry>,
        out: &mut Effects<Message>,
    ) {
        let epoch = message.epoch();
        if let Message::RequestVote { transfer, .. } = message
            && self.ignores_vote_request(transfer)
        {
            out.push(Effect::Ignored { from, why: "a leader is alive" });
            return;
        }
        if epoch > self.term() && (message.is_binding() || mutant!(PreVoteTermAdopted)) {
            // spec: raft §5.1
            self.on_higher_term(epoch, out);
        }
        if epoch < self.term() && message.is_binding() {
            self.on_older_term(from, &message, out);
            return;
        }
        match message {
            Message::PreVote { term, last } => self.on_pre_vote(from, term, last),
            Message::PreVoteReply { term, granted } => self.on_pre_vote_reply(from, term, granted),
            Message::RequestVote { term, last, .. } => self.on_request_vote(from, term, last),
            Message::Vote { granted, .. } => self.on_vote(from, granted),
            Message::AppendEntries { term, prev, commit, round, sync } => {
                self.on_append(from, Append { term, prev, commit, round, sync }, entries, out);
            }
            Message::Appended { matched, round, counts, .. } => {
                self.on_appended(from, matched, round, counts, out)
            }
            Message::Mismatch { probed, hint, round, .. } => self.on_mismatch(from, probed, hint, round),
            Message::Commit { term, commit } => {
                if self.on_leader_contact(from, term, out) {
                    self.on_commit(commit, out);
                }
            }
            Message::Stale { .. } => {}
            Message::TimeoutNow { .. } => self.on_timeout_now(from, out),
            Message::ReadIndex { id, .. } => self.on_read_index(from, id),
            Message::ReadIndexReply { id, at, .. } => self.on_read_index_reply(from, id, at, out),
            Message::Refetch { span, .. } => self.on_refetch(from, span, out),
        }
    }

    /// A message from the past. Whoever believes to lead or to campaign there is told.
    fn on_older_term(&mut self, from: NodeId, message: &Message, out: &mut Effects<Message>) {
        out.push(Effect::Ignored { from, why: "older term" });
        let term = self.term();
        match message {
            Message::AppendEntries { .. } => self.send_in_term(from, Message::Stale { term }),
            Message::RequestVote { .. } => self.send_in_term(from, Message::Vote { term, granted: false }),
            // Refused by someone who is behind: no vote, but an answer.
            Message::PreVoteReply { term, granted } => self.on_pre_vote_reply(from, *term, *granted),
            _ => {}
        }
    }

    fn on_link(&mut self, node: NodeId, connected: bool) {
        self.links.retain(|&n| n != node);
        if connected {
            self.links.push(node);
        }
        if let Some(lead) = self.lead.as_mut()
            && let Some(peer) = lead.peers.iter_mut().find(|p| p.node == node)
        {
            peer.reconnect(connected);
            peer.beat = connected;
        }
        if connected {
            self.ask_for_votes(Some(node));
        } else {
            self.on_link_lost(node);
        }
    }

    fn on_damaged(&mut self, span: Span, out: &mut Effects<Message>) {
        self.damaged.push(span);
        self.damaged.sort_unstable();
        if self.standing == Standing::Leading {
            self.cede(out);
        } else {
            self.become_waiting();
        }
    }

    fn run_timers(&mut self, out: &mut Effects<Message>) {
        if self.lead.is_some() {
            self.check_reign(out);
            if self.lead.as_ref().is_some_and(|lead| self.now >= lead.heartbeat_at) {
                self.on_heartbeat_due();
            }
        } else if self.now >= self.election_at {
            if self.has_overslept(self.election_at) {
                self.election_at = self.now + self.options.timing.heartbeat;
            } else {
                self.on_election_timeout(out);
            }
        }
    }

    /// Tells of a reign that began and ended within this step.
    // 1. The vote that wins term 28 and an append of term 29 lie in one batch; 2. the step writes 28's no-op and cuts it
    // off again; 3. whoever looks at steps from outside finds an entry of a term that nobody led.
    fn report_lost_reign(&mut self, out: &mut Effects<Message>) {
        let Some(epoch) = self.won.take().filter(|_| self.lead.is_none()) else { return };
        let view = Reported { role: Role::Leader, phase: Phase::Sync, epoch, leader: Some(self.id) };
        self.reported = Some(view);
        out.push(Effect::Phase { role: view.role, phase: view.phase, epoch, leader: view.leader });
    }

    /// Emits what the step gathered. The order of the effects is the order in which they are true.
    fn finish(&mut self, out: &mut Effects<Message>) {
        self.report_lost_reign(out);
        if self.lead.is_some() {
            self.count_replicas(out);
            self.turn_rounds(out);
            self.drive_transfer(out);
            self.serve_followers(out);
        } else {
            self.ask_for_damaged();
            self.send_forwards();
            self.answer_leader();
        }
        let voted_for = self.hard.voted_for.filter(|_| !mutant!(VoteForgotten));
        // A log that lost its tail keeps the hint that proves it (`Replica::open`) until it has caught up.
        let committed = self.committed.max(self.hard.committed);
        let hard = HardState { committed, voted_for, ..self.hard };
        if let Some((ticket, ops)) = self.writes.flush(self.now, hard) {
            out.push(Effect::Persist { ticket, ops });
            if let Some(at) = self.install.take() {
                out.push(Effect::Install { at, after: ticket });
            }
        }
        for Outgoing { to, message, attach, after } in self.outgoing.drain(..) {
            out.push(Effect::Send { to, message, attach, after });
        }
        // A damaged entry cannot be applied; it comes back before anything behind it is told. What was told before is
        // applied, or waits in memory.
        let damage = self.damaged.iter().find(|span| span.to > self.told);
        let readable = damage.map_or(self.committed, |span| span.from.prev());
        let upto = self.committed.min(readable);
        if upto > self.told {
            self.told = upto;
            out.push(Effect::Commit { upto });
        }
        let view = self.view();
        if self.reported != Some(view) {
            self.reported = Some(view);
            let Reported { role, phase, epoch, leader } = view;
            out.push(Effect::Phase { role, phase, epoch, leader });
        }
    }
}
