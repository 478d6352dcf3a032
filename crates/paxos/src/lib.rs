//! Multi-Paxos as a sans-IO state machine behind the replicated-log contract.
//!
//! After Lamport, *Paxos Made Simple* (2001), §2 for one slot and §3 for the log; van Renesse and Altinbuken, *Paxos
//! Made Moderately Complex* (2015); Chandra, Griesemer and Redstone, *Paxos Made Live* (2007); Howard, Malkhi and
//! Spiegelman, *Flexible Paxos* (2016).
//!
//! | ours | here |
//! |---|---|
//! | `Epoch`: reign of one leader | ballot (round, proposer); two proposers may share a round |
//! | `promised` | promised ballot |
//! | `established` | highest accepted ballot |
//! | `Index` | slot |
//! | `LogId` | slot + ballot of the first proposal: names a value |
//! | `Entry::ballot` | ballot of the last acceptance |
//! | propose / acknowledge / commit / apply | Accept / Accepted / chosen / execute |
//! | `Role` | proposer in phase 1, distinguished proposer, acceptor, learner |
//! | `Phase::Election` | failure detection, ballot choice |
//! | `Phase::Discovery` | phase 1: Prepare/Promise |
//! | `Phase::Sync` | re-proposal, hole filling, catch-up |
//! | `Phase::Broadcast` | phase 2 |
//!
//! ```text
//!  Electing ── phase 1 won ──► Leader/Sync ── no-op of the reign chosen ──► Leader/Broadcast
//!     ▲ └───── a leader speaks ──► Follower/Sync ── an entry of the reign chosen here ──► Follower/Broadcast
//!     └───────────── silence, lost link, higher ballot, no quorum, hanging disk ──────────┘
//! ```
//!
//! It is safe under loss, duplication and reordering: every message is cumulative or can be asked for again.

#![cfg_attr(not(test), no_std)]
#![warn(missing_docs)]

extern crate alloc;

mod broadcast;
mod discovery;
mod election;
mod invariant;
mod membership;
mod message;
mod options;
mod read;
mod slots;
mod snapshot;
mod state;
mod sync;

pub use message::Message;
pub use options::Options;
pub use slots::Run;
pub use state::Paxos;

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use replog::{
    Effects, Entry, Guarantees, Index, Input, NodeId, Phase, ReplicatedLog, Rng, Role, Setup, Status, Ticket,
    Time, Violation,
};

impl ReplicatedLog for Paxos {
    type Message = Message;
    type Options = Options;
    const NAME: &'static str = "paxos";
    const GUARANTEES: Guarantees = Guarantees { primary_order: false, fifo_links: false };

    fn open(setup: Setup<Options>, now: Time, out: &mut Effects<Message>) -> Self {
        let mut paxos = Self::recover(setup, now);
        paxos.deadline = paxos.first_deadline();
        paxos.flush(out);
        paxos
    }

    fn step(&mut self, now: Time, batch: &mut Vec<Input<Message>>, out: &mut Effects<Message>) {
        self.now = now;
        for input in batch.drain(..) {
            self.on_input(input);
        }
        self.on_time();
        if self.leading.is_none() {
            self.settle_bound();
        }
        self.flush_reads();
        self.flush(out);
    }

    fn deadline(&self) -> Option<Time> {
        let own = if self.leading.is_some() { self.leader_deadline() } else { self.deadline };
        let discovery = self.discovery.as_ref().map(|d| d.retry_at);
        let fetching = self.fetching.as_ref().map(|f| f.again);
        [own, discovery, fetching, self.read_deadline()].into_iter().flatten().min()
    }

    fn status(&self) -> Status {
        Status {
            role: self.role,
            phase: self.phase,
            epoch: self.reign_shown(),
            leader: self.leader,
            last: self.slots.last(),
            committed: self.slots.committed(),
            room: self.room(),
        }
    }

    fn check(&self) -> Result<(), Violation> {
        self.violation().map_or(Ok(()), Err)
    }
}

impl Paxos {
    /// The state that follows from what is durable.
    fn recover(setup: Setup<Options>, now: Time) -> Self {
        let hard = setup.hard_state;
        let configuration = setup.configurations.last().map(|c| c.configuration.clone()).unwrap_or_default();
        let mut slots = slots::Slots::new(setup.base);
        let mut promised = hard.promised.max(hard.established);
        for span in &setup.damaged {
            slots.damage(*span);
        }
        let damaged = |i: Index| setup.damaged.iter().any(|s| s.contains(i));
        for entry in setup.entries.iter().filter(|e| e.id.index > setup.base.index) {
            // A chosen entry that was fetched may carry a ballot above the promise: promising it is always allowed.
            promised = promised.max(entry.ballot);
            slots.put(entry.id, entry.ballot, entry.bytes);
        }
        for entry in setup.entries.iter().filter(|e| damaged(e.id.index)) {
            slots.damage(replog::Span { from: entry.id.index, to: entry.id.index });
        }
        if setup.snapshot.index > setup.base.index && slots.end_where(|_| true) < setup.snapshot.index {
            // The log was not durable up to the snapshot: the snapshot counts.
            slots.install(setup.snapshot);
        }
        let known = hard.committed.max(setup.snapshot.index).min(slots.end_where(|_| true));
        slots.commit(known.max(slots.committed()));
        let lease_guard = if setup.options.lease { now + setup.options.timing.election_timeout } else { now };
        let peers = membership::peers_of(&configuration, setup.id);
        let mut paxos = Self {
            id: setup.id,
            rng: Rng::new(setup.seed),
            now,
            may_vote: setup.may_vote,
            peers,
            slots,
            snapshot: setup.snapshot,
            promised,
            established: hard.established,
            // Damage hides the end of what the hint covers.
            written: replog::HardState { committed: hard.committed.min(known), ..hard },
            role: Role::Electing,
            phase: Phase::Election,
            reign: replog::Epoch::ZERO,
            leader: None,
            bound: Index::ZERO,
            told: (Role::Electing, Phase::Election, promised, None),
            told_committed: setup.snapshot.index,
            ticket: Ticket::NONE,
            durable: Ticket::NONE,
            unfinished: VecDeque::new(),
            contact: now,
            deadline: None,
            leader_connected: false,
            leader_has_quorum: false,
            attempts: 0,
            highest_round: promised.round,
            lease_guard,
            asking: None,
            questions: 0,
            discovery: None,
            leading: None,
            fetching: None,
            unrepairable: Index::ZERO,
            reads: read::Reads::new(setup.seed),
            out: state::Out::default(),
            configuration,
            options: setup.options,
        };
        paxos.role = paxos.idle_role();
        paxos
    }

    fn on_input(&mut self, input: Input<Message>) {
        match input {
            Input::Message { from, message, entries } => self.on_message(from, message, entries),
            Input::Peer { node, connected } => self.on_peer(node, connected),
            Input::Propose { stamp, commands } => self.on_propose(stamp, commands),
            Input::Read { token, mode } => self.on_read(token, mode),
            Input::Reconfigure { token, .. } => self.on_reconfigure(token),
            Input::Transfer { token, to } => self.on_transfer(token, to),
            Input::Persisted(ticket) => self.on_persisted(ticket),
            Input::Unsent { to, from } => self.on_unsent(to, from),
            Input::SnapshotTaken { at } => self.on_snapshot_taken(at),
            Input::SnapshotReceived { from, at, configurations, .. } => {
                self.on_snapshot_received(from, at, configurations);
            }
            Input::SnapshotSent { to, at, whole } => self.on_snapshot_sent(to, at, whole),
            Input::Damaged(span) => self.slots.damage(span),
        }
    }

    fn on_message(&mut self, from: NodeId, message: Message, entries: Vec<Entry>) {
        if let Message::Recall { ballot } = message {
            if from == self.id {
                self.on_recall(ballot, entries);
            }
            return;
        }
        if from == self.id || !self.configuration.is_member(from) {
            self.ignore(from, "not a member");
            return;
        }
        match message {
            Message::Query { promised, number } => self.on_query(from, promised, number),
            Message::Answer { promised, number, hears } => self.on_answer(from, promised, number, hears),
            Message::Prepare { ballot, reign, have, handed } => {
                self.on_prepare(from, ballot, reign, &have, handed);
            }
            Message::Promise { ballot, committed, held, .. } => {
                self.on_promise(from, ballot, committed, held, entries);
            }
            Message::Reject { ballot, promised } => self.on_reject(from, ballot, promised),
            Message::Accept { ballot, reign, committed, .. } => {
                self.on_accept(from, (ballot, reign, committed), entries);
            }
            Message::Accepted { ballot, upto, more, committed, counts } => {
                self.on_accepted(from, (ballot, upto, committed, counts), more);
            }
            Message::Decide { ballot, reign, committed } => self.on_decide(from, ballot, reign, committed),
            Message::Heartbeat { ballot, reign, committed, quorum, round, acked } => {
                self.on_heartbeat(from, (ballot, reign, round), (committed, quorum, acked));
            }
            Message::Alive { ballot, round, arrived, committed, counts } => {
                self.on_alive(from, (ballot, round), (arrived, committed, counts));
            }
            Message::Fetch { promised, from: first, held } => self.on_fetch(from, promised, first, &held),
            Message::Chosen { promised, committed, ids, .. } => {
                self.on_chosen(from, promised, committed, &ids, entries);
            }
            Message::ReadAsk { reign, number } => self.on_read_ask(from, reign, number),
            Message::ReadAt { number, at, .. } => self.on_read_at(from, number, at),
            Message::Lead { ballot } => self.on_lead(from, ballot),
            Message::Recall { .. } => {}
        }
    }

    /// Entries that did not go out with their message.
    fn on_unsent(&mut self, to: NodeId, from: Index) {
        if to == self.id {
            self.on_recall_cut(from);
            return;
        }
        let committed = self.slots.committed();
        if self.leading.is_some() {
            // Chosen slots are the receiver's to fetch: it hears the bound and knows what it lacks.
            if let Some(peer) = self.peer_mut(to).filter(|p| p.votes && from > committed) {
                peer.next = peer.next.min(from);
            }
        } else if from > committed {
            self.on_promise_cut(to, from);
        }
    }

    /// Runs the timers that are due.
    fn on_time(&mut self) {
        self.on_leader_time();
        self.on_read_time();
        if self.fetching.as_ref().is_some_and(|f| f.again <= self.now) {
            self.fetching = None;
            if self.discovery.is_some() {
                self.try_win();
            }
        }
        if self.discovery.as_ref().is_some_and(|d| d.retry_at <= self.now) {
            self.retry_prepare();
        }
        if self.leading.is_none() && self.deadline.is_some_and(|d| d <= self.now) {
            self.on_election_timeout();
        }
    }
}
