//! A bench for single schedules: cores are stepped, messages delivered and disks synced one by one, by hand.
//!
//! Nothing happens by itself. Every node has its own clock, which stands still unless the test moves it: no timer
//! fires that the schedule does not name.
#![allow(unreachable_pub)]

use bytes::Bytes;
use raft::{Message, Options, Raft};
use replog::conformance::MemoryDisk;
use replog::{
    Body, Committed, Configuration, ConfigurationAt, Entry, EntryMeta, Epoch, Frame, HardState, Index, Input,
    LogId, LogOp, NodeId, Notice, Replica, ReplicatedLog, Role, Setup, Stamp, Status, Ticket, Time, Write,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// A message under way.
#[derive(Clone, Debug)]
pub struct Packet {
    pub from: NodeId,
    pub to: NodeId,
    pub message: Message,
    pub entries: Vec<Entry>,
}

/// One server.
pub struct Server {
    pub replica: Option<Replica<Raft>>,
    pub disk: MemoryDisk,
    pub now: Time,
    pub written: Ticket,
    /// Ids of what it applied, in order, snapshots aside.
    pub applied: Vec<Entry>,
    pub notices: Vec<Notice>,
    /// Every `Persist` of this life.
    pub writes: Vec<Write>,
}

/// The bench.
pub struct Lab {
    pub servers: BTreeMap<NodeId, Server>,
    pub pool: Vec<Packet>,
    pub options: Options,
    pub configuration: Configuration,
    life: u64,
}

pub fn n(id: u32) -> NodeId {
    NodeId(id)
}

pub fn id(epoch: u32, index: u64) -> LogId {
    LogId::new(Epoch::of(epoch), Index(index))
}

pub fn entry(epoch: u32, index: u64) -> Entry {
    let body = Body::Command(Bytes::from(format!("{epoch}:{index}")));
    Entry { id: id(epoch, index), ballot: Epoch::of(epoch), stamp: Stamp(0), body }
}

/// Entries of these terms from index 1 on.
pub fn entries(terms: &[u32]) -> Vec<Entry> {
    (1..).zip(terms).map(|(i, &t)| entry(t, i)).collect()
}

impl Lab {
    /// `voters` servers with empty disks, all linked.
    pub fn new(voters: u32, options: Options) -> Self {
        Self::with_logs(&vec![&[][..]; voters as usize], options)
    }

    /// One server per log; a log is given by the terms of its entries. Everybody has
    /// heard of the highest of them.
    pub fn with_logs(logs: &[&[u32]], options: Options) -> Self {
        let voters = (1..).zip(logs).map(|(i, _)| NodeId(i));
        let mut lab = Self {
            servers: BTreeMap::new(),
            pool: Vec::new(),
            options,
            configuration: Configuration::of_voters(voters),
            life: 0,
        };
        // Whoever led in a term had a quorum that knows of it; everybody knowing is the simplest such history.
        let promised = Epoch::of(logs.iter().flat_map(|log| log.iter()).copied().max().unwrap_or(0));
        for (i, terms) in (1..).zip(logs) {
            let mut disk = MemoryDisk::default();
            let hard = LogOp::HardState(HardState { promised, ..HardState::default() });
            disk.append(Write { ticket: Ticket(1), ops: vec![hard, LogOp::Write(entries(terms))] });
            disk.sync(Ticket(1));
            let server = Server {
                replica: None,
                disk,
                now: Time(1_000_000_000),
                written: Ticket::NONE,
                applied: Vec::new(),
                notices: Vec::new(),
                writes: Vec::new(),
            };
            lab.servers.insert(NodeId(i), server);
        }
        for id in lab.ids() {
            lab.start(id);
        }
        lab
    }

    pub fn ids(&self) -> Vec<NodeId> {
        self.servers.keys().copied().collect()
    }

    pub fn server(&mut self, id: NodeId) -> &mut Server {
        self.servers.get_mut(&id).unwrap()
    }

    fn replica(&mut self, id: NodeId) -> &mut Replica<Raft> {
        self.server(id).replica.as_mut().unwrap()
    }

    pub fn core(&self, id: NodeId) -> &Raft {
        self.servers[&id].replica.as_ref().unwrap().core()
    }

    pub fn status(&self, id: NodeId) -> Status {
        self.core(id).status()
    }

    pub fn leads(&self, id: NodeId) -> bool {
        self.status(id).role == Role::Leader
    }

    pub fn term(&self, id: NodeId) -> u32 {
        self.status(id).epoch.round
    }

    /// Terms of the log as the disk will have it.
    pub fn log(&mut self, id: NodeId) -> Vec<u32> {
        let span = replog::Span { from: Index(1), to: Index(u64::MAX - 1) };
        let found = self.server(id).disk.read(span, u64::MAX).unwrap_or_default();
        found.iter().map(|e| e.id.epoch.round).collect()
    }

    /// Starts a server on what its disk holds, with links to all that run.
    pub fn start(&mut self, id: NodeId) {
        self.start_as(id, true);
    }

    pub fn start_as(&mut self, id: NodeId, may_vote: bool) {
        self.life += 1;
        let (options, life, configuration) = (self.options.clone(), self.life, self.configuration.clone());
        let server = self.server(id);
        let recovered = server.disk.durable().recovered();
        let entries: Vec<EntryMeta> = recovered.entries;
        let setup = Setup {
            id,
            seed: life * 77,
            configurations: vec![ConfigurationAt { from: Index::ZERO, configuration }],
            hard_state: recovered.hard_state,
            base: recovered.base,
            snapshot: recovered.base,
            entries,
            damaged: Vec::new(),
            may_vote,
            options,
        };
        self.open(setup);
    }

    /// Opens a server on any setup.
    pub fn open(&mut self, setup: Setup<Options>) {
        let id = setup.id;
        let server = self.server(id);
        let frame_bytes = setup.options.limits.frame_bytes;
        server.replica = Some(Replica::open(setup, frame_bytes, server.now));
        server.written = Ticket::NONE;
        server.applied.clear();
        server.notices.clear();
        server.writes.clear();
        self.carry_out(id);
        for peer in self.ids() {
            if peer != id && self.servers[&peer].replica.is_some() {
                self.link(id, peer, true);
            }
        }
    }

    /// The process ends; the disk keeps what was synced. Its messages under way stay under way.
    pub fn crash(&mut self, id: NodeId) {
        let server = self.server(id);
        server.replica = None;
        server.disk.keep(0);
    }

    pub fn link(&mut self, a: NodeId, b: NodeId, up: bool) {
        for (x, y) in [(a, b), (b, a)] {
            if self.servers[&x].replica.is_some() {
                self.replica(x).set_link(y, up);
                self.turn(x);
            }
        }
    }

    /// Gives `id` an input and lets it step.
    pub fn input(&mut self, id: NodeId, input: Input<Message>) {
        self.replica(id).push(input);
        self.turn(id);
    }

    pub fn propose(&mut self, id: NodeId, commands: u32) {
        let commands = (0..commands).map(|i| Bytes::from(i.to_be_bytes().to_vec())).collect();
        self.input(id, Input::Propose { stamp: Stamp(1), commands });
    }

    /// One turn at the server's own clock. Does not sync.
    pub fn turn(&mut self, id: NodeId) {
        while self.replica(id).has_input() {
            self.step(id);
        }
    }

    /// One step, even without input.
    pub fn step(&mut self, id: NodeId) {
        let now = self.servers[&id].now;
        self.replica(id).step(now);
        if let Err(v) = self.core(id).check() {
            panic!("{id} {}: {}", v.rule, v.detail);
        }
        self.carry_out(id);
    }

    fn carry_out(&mut self, id: NodeId) {
        let peers = self.ids();
        let mut frames: Vec<(NodeId, Frame<Message>)> = Vec::new();
        let server = self.server(id);
        let Some(replica) = server.replica.as_mut() else { return };
        for write in replica.take_writes() {
            server.written = write.ticket;
            server.writes.push(write.clone());
            server.disk.append(write);
        }
        for request in replica.take_reads() {
            let found = server.disk.read(request.span, 256 << 10);
            replica.read_done(request, found);
        }
        server.notices.extend(replica.take_notices());
        for peer in peers {
            let mut drained = Vec::new();
            replica.drain(peer, u64::MAX, &mut drained);
            frames.extend(drained.into_iter().map(|f| (peer, f)));
        }
        let disk = &server.disk;
        while let Some(batch) = replica.take_committed(u64::MAX, |span, max| disk.read(span, max)) {
            if let Committed::Entries(entries) = batch {
                server.applied.extend(entries);
            }
        }
        let packed =
            frames.into_iter().map(|(to, f)| Packet { from: id, to, message: f.message, entries: f.entries });
        self.pool.extend(packed);
    }

    /// The disk of `id` finishes everything written so far.
    pub fn sync(&mut self, id: NodeId) {
        let server = self.server(id);
        if server.disk.is_dirty() {
            server.disk.sync(server.written);
        }
        let ticket = server.written;
        self.replica(id).persisted(ticket);
        self.turn(id);
    }

    /// Moves the clock of `id` to its next deadline and lets it step.
    pub fn expire(&mut self, id: NodeId) {
        let at = self.core(id).deadline().unwrap();
        let server = self.server(id);
        server.now = server.now.max(at);
        self.step(id);
        self.turn(id);
    }

    /// Lets time pass for `id` alone, deadline by deadline.
    pub fn pass(&mut self, id: NodeId, duration: Duration) {
        let end = self.servers[&id].now + duration;
        while self.core(id).deadline().is_some_and(|at| at <= end) {
            self.expire(id);
        }
        self.server(id).now = end;
    }

    /// Takes the messages under way for which `which` holds.
    pub fn take(&mut self, which: impl Fn(&Packet) -> bool) -> Vec<Packet> {
        let (taken, left) = std::mem::take(&mut self.pool).into_iter().partition(which);
        self.pool = left;
        taken
    }

    pub fn drop_all(&mut self) {
        self.pool.clear();
    }

    /// Hands over one message.
    pub fn hand(&mut self, packet: Packet) {
        let Packet { from, to, message, entries } = packet;
        if self.servers[&to].replica.is_some() {
            self.input(to, Input::Message { from, message, entries });
        }
    }

    /// Delivers what is under way from `from` to `to`, in order.
    pub fn deliver(&mut self, from: NodeId, to: NodeId) {
        for packet in self.take(|p| p.from == from && p.to == to) {
            self.hand(packet);
        }
    }

    /// Delivers and syncs among `among` until nothing moves; messages to others stay under way.
    pub fn settle(&mut self, among: &[NodeId]) {
        for _ in 0..10_000 {
            let packets = self.take(|p| among.contains(&p.from) && among.contains(&p.to));
            let quiet = packets.is_empty();
            packets.into_iter().for_each(|p| self.hand(p));
            let dirty: Vec<NodeId> =
                among.iter().copied().filter(|s| self.servers[s].disk.is_dirty()).collect();
            dirty.iter().for_each(|s| self.sync(*s));
            if quiet && dirty.is_empty() {
                return;
            }
        }
        panic!("never settles");
    }

    /// `id` times out until it campaigns, and gets the votes of `voters` (which may include itself).
    pub fn campaign(&mut self, id: NodeId, voters: &[NodeId]) {
        let before = self.term(id);
        for _ in 0..10 {
            self.expire(id);
            if self.status(id).role == Role::Electing {
                break;
            }
        }
        let mut among = voters.to_vec();
        if !among.contains(&id) {
            among.push(id);
        }
        // Only the questions and the votes: appends of the new reign stay under way.
        for _ in 0..6 {
            for packet in
                self.take(|p| among.contains(&p.from) && among.contains(&p.to) && is_vote(&p.message))
            {
                self.hand(packet);
            }
            for server in among.clone() {
                if !self.leads(server) {
                    self.sync(server);
                }
            }
        }
        assert!(self.term(id) > before || !self.leads(id), "a new reign has a new term");
    }

    /// A leader of everybody, with its no-op committed and applied everywhere.
    pub fn elect(&mut self, id: NodeId) {
        let all = self.ids();
        if self.options.lease.is_some() {
            // Who just started keeps the word that it may have given before.
            let timeout = self.options.timing.election_timeout;
            all.iter()
                .filter(|s| **s != id)
                .for_each(|s| self.server(*s).now = self.servers[s].now + timeout);
        }
        self.campaign(id, &all);
        assert!(self.leads(id), "{id} was not elected");
        self.settle(&all);
        assert!(all.iter().all(|s| self.status(*s).leader == Some(id)));
    }

    /// Messages under way of this kind.
    pub fn count(&self, kind: &str) -> usize {
        use replog::Message as _;
        self.pool.iter().filter(|p| p.message.kind() == kind).count()
    }
}

pub fn is_vote(message: &Message) -> bool {
    matches!(
        message,
        Message::PreVote { .. }
            | Message::PreVoteReply { .. }
            | Message::RequestVote { .. }
            | Message::Vote { .. }
    )
}

/// The paper's protocol, with timers that never interfere.
pub fn textbook() -> Options {
    Options::textbook()
}

pub fn hardened() -> Options {
    Options::default()
}
