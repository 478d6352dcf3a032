//! Zab as a sans-IO state machine behind the replicated-log contract.
//!
//! | ours | here |
//! |---|---|
//! | `Epoch` | epoch, high word of the zxid |
//! | `promised` | acceptedEpoch |
//! | `voted_for` | the leader followed in acceptedEpoch |
//! | `established` | currentEpoch: set once the synchronised history is durable |
//! | `Index`, `LogId` | ordinal of a transaction; the zxid follows by the epoch-start table |
//! | propose / acknowledge / commit | PROPOSAL / ACK / COMMIT |
//! | `Role` | LOOKING, LEADING, FOLLOWING, (learner), OBSERVING |
//! | `Phase` | 0 fast leader election, 1 discovery, 2 synchronisation, 3 broadcast |
//! | read barrier | sync with a quorum round (ZOOKEEPER-1675) |
//!
//! Sources: Junqueira, Reed, Serafini: "Zab: High-performance broadcast for primary-backup systems" (DSN 2011), cited
//! as `zab-dsn11`; ZooKeeper's fast leader election, cited as `zookeeper FastLeaderElection`.
//!
//! Invariants, checked by [`invariant`]:
//! * `established ≤ promised`, `base ≤ committed ≤ last`;
//! * a leader acts in its epoch only when that is durable, and counts itself only for what is durable;
//! * synchronised history durable → `established` → ack of NEWLEADER, in one write;
//! * nothing at or below the committed index is ever truncated.
//!
//! Elections need no durable write and no promise: an election only guesses, discovery decides.

#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod broadcast;
mod discovery;
mod election;
mod history;
pub mod invariant;
mod membership;
pub mod message;
pub mod options;
mod read;
mod snapshot;
mod state;
mod sync;

pub use message::{Message, Notification, PeerState, Vote};
pub use options::{FinalizeWait, Options, SyncSearch};

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;
use history::History;
use replog::{
    Body, Configuration, Effect, Effects, Entry, Epoch, Guarantees, HardState, Index, Input, LogId, LogOp,
    NodeId, Phase, Refusal, ReplicatedLog, Rng, Role, Room, Setup, Span, Status, Ticket, Time, Violation,
    mutant,
};
use state::{FollowerStage, InFlight, LeaderStage, Link, State, Work};

type Out = Effects<Message>;

/// A Zab replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Zab {
    id: NodeId,
    options: Options,
    rng: Rng,
    configuration: Configuration,
    may_vote: bool,
    damaged: Vec<Span>,
    hard: HardState,
    log: History,
    committed: Index,
    /// The commit that the driver knows.
    told: Index,
    /// Newest snapshot of this replica.
    snapshot: LogId,
    /// Snapshots that are being sent: the log above them stays.
    transfers: BTreeMap<NodeId, LogId>,
    ticket: Ticket,
    durable: Ticket,
    writes: VecDeque<InFlight>,
    /// Last index that is durable here.
    durable_index: Index,
    links: BTreeMap<NodeId, Link>,
    /// Peers whose link broke and is not back.
    gone: BTreeSet<NodeId>,
    /// Learners whose link broke while this replica leads, and when.
    departed: BTreeMap<NodeId, Time>,
    /// Refetched entries that are not durable yet.
    refills: VecDeque<(Ticket, Span)>,
    /// Logical clock of elections.
    round: u64,
    /// The vote with which the present leader was chosen.
    elected: Vote,
    session: u64,
    /// Reigns in a row that ended before they were an election timeout old.
    short_reigns: u32,
    /// When this replica stands again after such a reign; until then it votes and does not stand.
    stands_at: Option<Time>,
    /// Round trip among the voters, smoothed.
    rtt: Option<Duration>,
    now: Time,
    state: State,
    noted: Option<(Role, Phase, Epoch, Option<NodeId>)>,
    work: Work,
    probes: u64,
}

impl ReplicatedLog for Zab {
    type Message = Message;
    type Options = Options;
    const NAME: &'static str = "zab";
    const GUARANTEES: Guarantees = Guarantees { primary_order: true, fifo_links: true };

    fn open(mut setup: Setup<Options>, now: Time, out: &mut Out) -> Self {
        let gap = history::cut_at_gap(setup.base, &mut setup.entries);
        let log = History::new(setup.base, &setup.entries);
        let beyond = setup.snapshot.index > log.last().index;
        let hint = setup.hard_state.committed.min(log.last().index);
        let committed = hint.max(setup.snapshot.index).max(log.base().index);
        let last = log.last();
        let own = Vote { epoch: setup.hard_state.established, last, node: setup.id };
        let mut zab = Self {
            id: setup.id,
            rng: Rng::new(setup.seed ^ u64::from(setup.id.0)),
            configuration: membership::latest(&setup.configurations, &setup.entries),
            // What it once acknowledged behind a gap is not known any more: as after a lost disk.
            may_vote: setup.may_vote && gap.is_none(),
            damaged: setup
                .damaged
                .into_iter()
                .filter_map(|s| history::above(s, setup.snapshot.index))
                .filter_map(|s| Span::new(s.from, s.to.min(last.index)))
                .collect(),
            hard: setup.hard_state,
            log,
            committed,
            told: setup.snapshot.index,
            snapshot: setup.snapshot,
            transfers: BTreeMap::new(),
            ticket: Ticket::NONE,
            durable: Ticket::NONE,
            writes: VecDeque::new(),
            durable_index: last.index,
            links: BTreeMap::new(),
            gone: BTreeSet::new(),
            departed: BTreeMap::new(),
            refills: VecDeque::new(),
            round: 0,
            elected: own,
            session: 0,
            short_reigns: 0,
            stands_at: None,
            rtt: None,
            now,
            state: State::Looking(election::idle(own, now)),
            noted: None,
            work: Work::default(),
            probes: 0,
            options: setup.options,
        };
        if let Some(from) = gap.filter(|from| *from > zab.snapshot.index) {
            zab.work.ops.push(LogOp::Truncate { from });
        }
        if beyond {
            // The log ends below the state: go on from the state, and say so on disk.
            zab.purge(zab.snapshot);
        }
        zab.become_looking(out);
        zab.finish(out);
        zab
    }

    fn step(&mut self, now: Time, batch: &mut Vec<Input<Message>>, out: &mut Out) {
        self.now = self.now.max(now);
        for input in batch.drain(..) {
            self.on_input(input, out);
        }
        self.on_time(out);
        self.finish(out);
    }

    fn deadline(&self) -> Option<Time> {
        match &self.state {
            State::Looking(_) => self.looking_deadline(),
            State::Following(f) => {
                let silent = f.heard + f.timeout;
                let refetch = (!self.damaged.is_empty()).then_some(f.refetch_at);
                let stuck = f.patience(&self.options.timing);
                Some(f.lost.unwrap_or(silent).min(refetch.unwrap_or(silent)).min(stuck.unwrap_or(silent)))
            }
            State::Leading(_) => self.leading_deadline(),
        }
    }

    fn status(&self) -> Status {
        let (role, phase, epoch, leader) = self.position();
        Status {
            role,
            phase,
            epoch,
            leader,
            last: self.log.last(),
            committed: self.committed,
            room: self.room(),
        }
    }

    fn check(&self) -> Result<(), Violation> {
        invariant::check(self)
    }
}

impl Zab {
    /// Entries that ZooKeeper's search looked at so far; 1 per synchronisation with epoch tables.
    #[must_use]
    pub fn sync_probes(&self) -> u64 {
        self.probes
    }

    /// The logical clock of elections.
    #[must_use]
    pub fn election_round(&self) -> u64 {
        self.round
    }

    /// What is durable or about to be.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.hard
    }

    fn on_input(&mut self, input: Input<Message>, out: &mut Out) {
        match input {
            Input::Message { from, message, entries } => {
                if let Some(link) = self.links.get_mut(&from) {
                    link.heard = self.now;
                }
                self.on_message(from, message, entries, out);
            }
            Input::Peer { node, connected } => self.on_peer(node, connected, out),
            Input::Propose { stamp, commands } => {
                self.on_propose(stamp, commands.into_iter().map(Body::Command));
            }
            Input::Read { token, mode: _ } => self.on_read(token, out),
            Input::Reconfigure { token, .. } => {
                out.push(Effect::Refused { token, why: Refusal::Unsupported });
            }
            Input::Transfer { token, to } => self.on_transfer(token, to, out),
            Input::Persisted(ticket) => self.on_persisted(ticket, out),
            Input::Unsent { to, from } => self.on_unsent(to, from, out),
            Input::SnapshotTaken { at } => self.on_snapshot_taken(at),
            Input::SnapshotReceived { from, epoch, at, configurations } => {
                self.on_snapshot_received(from, epoch, at, &configurations, out);
            }
            Input::SnapshotSent { to, at, whole } => self.on_snapshot_sent(to, at, whole),
            Input::Damaged(span) => self.on_damaged(span, out),
        }
    }

    fn on_message(&mut self, from: NodeId, message: Message, entries: Vec<Entry>, out: &mut Out) {
        match message {
            Message::Proposal { epoch, committed } | Message::Inform { epoch, committed } => {
                self.on_entries(from, epoch, committed, entries, false, out);
            }
            Message::Catchup { epoch, committed } => {
                self.on_entries(from, epoch, committed, entries, true, out);
            }
            Message::Ack { epoch, upto } => self.on_ack(from, epoch, upto, out),
            Message::Commit { epoch, upto } => self.on_commit(from, epoch, upto, out),
            Message::Ping { epoch, seq, rtt_us } => self.on_ping(from, epoch, seq, rtt_us, out),
            Message::Pong { epoch, seq, upto } => self.on_pong(from, epoch, seq, upto, out),
            Message::Notification(n) => self.on_notification(from, n, out),
            Message::FollowerInfo { session, promised, counts } => {
                self.on_follower_info(from, session, promised, counts, out);
            }
            Message::LeaderInfo { session, epoch } => self.on_leader_info(from, session, epoch, out),
            Message::AckEpoch(ack) => self.on_ack_epoch(from, *ack, out),
            Message::Diff { epoch, after } => self.on_sync_start(from, epoch, sync::Start::Diff(after), out),
            Message::Trunc { epoch, to } => self.on_sync_start(from, epoch, sync::Start::Trunc(to), out),
            Message::Snap { epoch, at } => self.on_sync_start(from, epoch, sync::Start::Snap(at), out),
            Message::NewLeader { epoch, committed, last } => {
                self.on_new_leader(from, epoch, committed, last, out);
            }
            Message::AckNewLeader { epoch, upto } => self.on_ack_new_leader(from, epoch, upto, out),
            Message::UpToDate { epoch, committed } => self.on_up_to_date(from, epoch, committed, out),
            Message::ReadAsk { epoch, tokens } => self.on_read_ask(from, epoch, tokens, out),
            Message::ReadIndex { epoch, at, tokens } => self.on_read_index(from, epoch, at, tokens, out),
            Message::Resign { epoch, round, to } => self.on_resign(from, epoch, round, to, out),
            Message::Fetch { epoch, span } => self.on_fetch(from, epoch, span, out),
            Message::Refill { epoch } => self.on_refill(from, epoch, entries, out),
        }
    }

    fn on_peer(&mut self, node: NodeId, connected: bool, out: &mut Out) {
        if connected {
            self.links.insert(node, Link { heard: self.now });
            self.gone.remove(&node);
        } else {
            self.links.remove(&node);
            self.gone.insert(node);
        }
        match &self.state {
            State::Following(_) | State::Leading(_) if mutant!(SessionSurvivesLink) => {}
            State::Looking(_) => self.looking_peer(node, connected, out),
            State::Following(_) => self.following_peer(node, connected, out),
            // A broken link ends the session: what was under way is lost, and nothing of it may be sent on (trap
            // 1.20).
            State::Leading(_) => self.drop_learner(node),
        }
    }

    fn on_persisted(&mut self, ticket: Ticket, out: &mut Out) {
        self.durable = self.durable.max(ticket);
        while let Some(last) = self.writes.front().filter(|w| w.ticket <= ticket).map(|w| w.last) {
            self.durable_index = last;
            self.writes.pop_front();
        }
        self.settle_refills();
        match &self.state {
            State::Looking(_) => self.looking_persisted(out),
            State::Following(_) => {}
            State::Leading(_) => self.leading_persisted(out),
        }
    }

    /// Timers, after the news.
    fn on_time(&mut self, out: &mut Out) {
        match &self.state {
            State::Looking(_) => self.looking_time(out),
            State::Following(_) => self.following_time(out),
            State::Leading(_) => self.leading_time(out),
        }
    }

    /// Emits what the step gathered: one `Persist`, the sends, an install, the commit.
    fn finish(&mut self, out: &mut Out) {
        self.flush_learners(out);
        self.flush_follower();
        if !self.work.tells.is_empty() {
            self.flush_tells();
        }
        if !self.work.ops.is_empty() {
            if self.hard.committed < self.committed {
                // A hint for restarts; it follows the entries that it covers in the write stream, so it never leads.
                self.write_hard_state();
            }
            let ops = core::mem::take(&mut self.work.ops);
            self.ticket = self.ticket.next();
            self.writes.push_back(InFlight {
                ticket: self.ticket,
                last: self.log.last().index,
                at: self.now,
            });
            out.push(Effect::Persist { ticket: self.ticket, ops });
        }
        for send in self.work.sends.drain(..) {
            out.push(Effect::Send {
                to: send.to,
                message: send.message,
                attach: send.attach,
                after: send.after,
            });
        }
        if let Some(at) = self.work.install.take() {
            out.push(Effect::Install { at, after: self.ticket });
            self.told = self.told.max(at.index);
        }
        let upto = self.readable();
        if upto > self.told {
            self.told = upto;
            out.push(Effect::Commit { upto });
            self.log.settle(self.committed);
        }
        self.note(out);
    }

    /// The ticket that covers everything asked to be written so far, this step's part included.
    fn written(&self) -> Ticket {
        if self.work.ops.is_empty() { self.ticket } else { self.ticket.next() }
    }

    /// Queues the hard state, with the commit hint.
    fn write_hard_state(&mut self) {
        // A log that lost its tail keeps the hint that proves it (`Replica::open`) until it has caught up.
        self.hard.committed = self.hard.committed.max(self.committed);
        let established = if mutant!(EpochForgotten) { Epoch::ZERO } else { self.hard.established };
        self.work.ops.push(LogOp::HardState(HardState { established, ..self.hard }));
    }

    /// Drops the log above `to`.
    fn truncate(&mut self, to: Index) {
        assert!(
            to >= self.committed,
            "{} would truncate to {to}, below its commit {} (epoch {})",
            self.id,
            self.committed,
            self.hard.established
        );
        self.log.truncate(to);
        self.durable_index = self.durable_index.min(to);
        for write in &mut self.writes {
            write.last = write.last.min(to);
        }
        self.damaged = self.damaged.iter().filter_map(|s| Span::new(s.from, s.to.min(to))).collect();
        self.work.ops.push(LogOp::Truncate { from: to.next() });
    }

    /// The committed prefix as far as its bodies can be read.
    fn readable(&self) -> Index {
        match self.damaged.iter().map(|s| s.from.prev()).min() {
            Some(whole) => self.committed.min(whole),
            None => self.committed,
        }
    }

    fn room(&self) -> Room {
        let State::Leading(leading) = &self.state else { return Room::default() };
        if leading.stage != LeaderStage::Broadcasting || leading.transfer.is_some() {
            return Room::default();
        }
        let limits = &self.options.limits;
        let last = self.log.last().index;
        let open = u32::try_from(last.0.saturating_sub(self.committed.0)).unwrap_or(u32::MAX);
        Room {
            commands: limits.window_commands.saturating_sub(open),
            bytes: limits.window_bytes.saturating_sub(self.log.bytes(self.committed, last)),
        }
    }

    fn position(&self) -> (Role, Phase, Epoch, Option<NodeId>) {
        match &self.state {
            State::Looking(_) => (Role::Electing, Phase::Election, self.hard.promised, None),
            State::Following(f) => {
                let phase = match f.stage {
                    FollowerStage::Joining => Phase::Discovery,
                    FollowerStage::Serving => Phase::Broadcast,
                    _ => Phase::Sync,
                };
                let epoch = if f.epoch == Epoch::ZERO { self.hard.promised } else { f.epoch };
                (self.following_role(), phase, epoch, Some(f.leader))
            }
            State::Leading(l) => {
                let phase = match l.stage {
                    LeaderStage::Syncing => Phase::Sync,
                    LeaderStage::Broadcasting => Phase::Broadcast,
                    _ => Phase::Discovery,
                };
                let epoch = if l.epoch == Epoch::ZERO { self.hard.promised } else { l.epoch };
                (Role::Leader, phase, epoch, Some(self.id))
            }
        }
    }

    /// Tells the driver when role, phase, epoch or leader changed.
    fn note(&mut self, out: &mut Out) {
        let position = self.position();
        if self.noted != Some(position) {
            self.noted = Some(position);
            let (role, phase, epoch, leader) = position;
            out.push(Effect::Phase { role, phase, epoch, leader });
        }
    }

    fn ignore(from: NodeId, why: &'static str, out: &mut Out) {
        out.push(Effect::Ignored { from, why });
    }
}
