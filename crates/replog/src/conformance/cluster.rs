//! The virtual cluster: nodes, disks and network on virtual time.

use super::events::{Event, Events};
use super::host::Host;
use super::invariants::Invariants;
use super::network::{Network, NetworkOptions, Packet};
use super::{Counters, Crash, Ledger, State};
use crate::{
    Configuration, Frame, Index, Input, LogId, NodeId, Phase, ReadMode, ReplicatedLog, Rng, Role, Status,
    Time, Token,
};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct ClusterOptions<O> {
    /// Decides everything that is random.
    pub seed: u64,
    /// The voters and observers.
    pub configuration: Configuration,
    /// The protocol's options.
    pub protocol: O,
    /// The network.
    pub network: NetworkOptions,
    /// Least duration of an fsync.
    pub fsync: Duration,
    /// Random addition (0..spread).
    pub fsync_spread: Duration,
    /// A node takes a snapshot after this many entries.
    pub snapshot_every: Option<u64>,
    /// Frame budget of the driver.
    pub frame_bytes: u64,
}

impl<O: Default> ClusterOptions<O> {
    /// `voters` voters, ids from 1, default network (100 µs) and disk (200 µs per fsync), no snapshots.
    #[must_use]
    pub fn new(seed: u64, voters: u32) -> Self {
        Self {
            seed,
            configuration: Configuration::of_voters((1..=voters).map(NodeId)),
            protocol: O::default(),
            network: NetworkOptions::default(),
            fsync: Duration::from_micros(200),
            fsync_spread: Duration::ZERO,
            snapshot_every: None,
            frame_bytes: 256 << 10,
        }
    }
}

/// The cluster.
#[derive(Clone, Debug)]
pub struct Cluster<P: ReplicatedLog> {
    pub(crate) options: ClusterOptions<P::Options>,
    pub(crate) now: Time,
    pub(crate) rng: Rng,
    pub(crate) hosts: BTreeMap<NodeId, Host<P>>,
    pub(super) events: Events<P::Message>,
    /// Links and their faults.
    pub network: Network,
    pub(crate) ledger: Ledger,
    pub(super) counters: Counters,
    pub(super) invariants: Invariants,
    story: VecDeque<String>,
    /// Lines of the story kept, for golden scripts all of them.
    pub story_limit: usize,
    next_command: u64,
    next_token: u64,
}

impl<P: ReplicatedLog> Cluster<P> {
    /// Starts all nodes; links come up one latency later.
    #[must_use]
    pub fn new(options: ClusterOptions<P::Options>) -> Self {
        let mut cluster = Self {
            now: Time(1_000_000_000),
            rng: Rng::new(options.seed),
            hosts: BTreeMap::new(),
            events: Events::default(),
            network: Network::new(options.network.clone(), P::GUARANTEES.fifo_links),
            ledger: Ledger::default(),
            counters: Counters::default(),
            invariants: Invariants::default(),
            story: VecDeque::new(),
            story_limit: 400,
            next_command: 0,
            next_token: 0,
            options,
        };
        for id in cluster.options.configuration.members() {
            cluster.hosts.insert(id, Host::new(id, cluster.options.configuration.clone()));
        }
        for id in cluster.nodes() {
            cluster.restart(id);
        }
        cluster
    }

    // ---- queries -------------------------------------------------------------------------------------------

    /// All node ids.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        self.hosts.keys().copied().collect()
    }

    /// Nodes that run (paused ones too).
    #[must_use]
    pub fn live(&self) -> Vec<NodeId> {
        self.hosts.values().filter(|h| h.replica.is_some()).map(|h| h.id).collect()
    }

    /// The virtual time.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    /// A node's status, if it runs.
    #[must_use]
    pub fn status(&self, id: NodeId) -> Option<Status> {
        self.hosts[&id].replica.as_ref().map(crate::Replica::status)
    }

    /// A node's core, if it runs.
    #[must_use]
    pub fn core(&self, id: NodeId) -> Option<&P> {
        self.hosts[&id].replica.as_ref().map(crate::Replica::core)
    }

    /// The last entry that a node applied.
    #[must_use]
    pub fn applied(&self, id: NodeId) -> LogId {
        self.hosts[&id].applied()
    }

    /// A node's modelled state.
    #[must_use]
    pub fn state(&self, id: NodeId) -> State {
        self.hosts[&id].state
    }

    /// A node's disk.
    #[must_use]
    pub fn disk(&self, id: NodeId) -> &super::MemoryDisk {
        &self.hosts[&id].disk
    }

    /// What was chosen.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Exact costs so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Fsyncs of all nodes so far.
    #[must_use]
    pub fn fsyncs(&self) -> u64 {
        self.hosts.values().map(|h| h.disk.fsyncs()).sum()
    }

    /// The serving leader of the highest epoch, among live nodes that are not paused.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        let serving = self.hosts.values().filter(|h| !h.paused).filter_map(|h| {
            let s = h.replica.as_ref()?.status();
            (s.role == Role::Leader && s.phase == Phase::Broadcast).then_some((s.epoch, h.id))
        });
        serving.max().map(|(_, id)| id)
    }

    /// The last lines of what happened.
    #[must_use]
    pub fn story(&self) -> String {
        self.story.iter().cloned().collect::<Vec<_>>().join("\n")
    }

    /// Takes the story so far (for golden scripts).
    pub fn take_story(&mut self) -> Vec<String> {
        self.story.drain(..).collect()
    }

    // ---- faults and inputs ---------------------------------------------------------------------------------

    /// Takes a node down.
    pub fn crash(&mut self, id: NodeId, crash: Crash) {
        self.note(format!("{id} crash {crash:?}"));
        let Some(host) = self.hosts.get_mut(&id) else { return };
        if host.replica.take().is_none() {
            return;
        }
        host.disk.crash(crash, &mut self.rng);
        for peer in self.nodes() {
            if self.network.disconnect(id, peer) && crash == Crash::Kill && !self.network.is_cut(id, peer) {
                self.notice_disconnect(peer, id);
            } else if crash == Crash::Power {
                // Nobody resets the connection: the peer finds out by silence, or when the node dials again.
            }
        }
    }

    /// Starts a node on what its disk holds.
    pub fn restart(&mut self, id: NodeId) {
        self.start(id, true);
    }

    /// Starts a node whose disk was wiped, as a member that must not vote.
    pub fn restart_wiped(&mut self, id: NodeId) {
        if let Some(host) = self.hosts.get_mut(&id) {
            host.disk.wipe();
            host.configurations = Host::<P>::new(id, self.options.configuration.clone()).configurations;
        }
        self.start(id, false);
    }

    /// Takes a node down keeping the synced prefix and `more` writes behind it: any durable point can be visited.
    pub fn crash_keeping(&mut self, id: NodeId, more: usize) {
        self.note(format!("{id} crash keeping {more}"));
        let Some(host) = self.hosts.get_mut(&id) else { return };
        host.replica = None;
        host.disk.keep(more);
        for peer in self.nodes() {
            if self.network.disconnect(id, peer) {
                self.notice_disconnect(peer, id);
            }
        }
    }

    fn start(&mut self, id: NodeId, may_vote: bool) {
        let (options, frame) = (self.options.protocol.clone(), self.options.frame_bytes);
        let (seed, now) = (self.options.seed, self.now);
        let Some(host) = self.hosts.get_mut(&id) else { return };
        assert!(host.replica.is_none(), "{id} is already running");
        host.start(options, frame, seed, may_vote, now);
        let loaded = host.state;
        self.note(format!("{id} start at {}", loaded.last));
        if loaded != State::default()
            && let Err(why) = self.ledger.check_snapshot(&loaded)
        {
            self.fail(id, &why);
        }
        for peer in self.nodes() {
            if peer != id {
                self.schedule_connect(id, peer);
            }
        }
        self.turn(id);
    }

    /// A paused node keeps its inputs and its clock runs on (SIGSTOP).
    pub fn pause(&mut self, id: NodeId) {
        self.note(format!("{id} pause"));
        self.hosts.get_mut(&id).expect("a member").paused = true;
    }

    /// Ends a pause: the node takes what has arrived, then its timers.
    pub fn resume(&mut self, id: NodeId) {
        self.note(format!("{id} resume"));
        self.hosts.get_mut(&id).expect("a member").paused = false;
        self.turn(id);
    }

    /// Nothing passes from `from` to `to`; nobody is told.
    pub fn cut_one_way(&mut self, from: NodeId, to: NodeId) {
        self.note(format!("cut {from} -> {to}"));
        self.network.cut(from, to);
    }

    /// Nothing passes between `a` and `b`; nobody is told.
    pub fn cut(&mut self, a: NodeId, b: NodeId) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Cuts every link between different groups. Nodes in no group are cut off from all.
    pub fn partition(&mut self, groups: &[&[NodeId]]) {
        let group = |n: NodeId| groups.iter().position(|g| g.contains(&n));
        let nodes = self.nodes();
        for &a in &nodes {
            for &b in &nodes {
                if a < b && (group(a) != group(b) || group(a).is_none()) {
                    self.cut(a, b);
                }
            }
        }
    }

    /// Cuts `id` off from everybody.
    pub fn isolate(&mut self, id: NodeId) {
        for peer in self.nodes() {
            if peer != id {
                self.cut(id, peer);
            }
        }
    }

    /// Ends all cuts; the links concerned are new sessions.
    pub fn heal(&mut self) {
        self.note("heal".to_owned());
        for (a, b) in self.network.heal() {
            self.break_link(a, b);
            self.schedule_connect(a, b);
        }
    }

    /// Breaks the link between `a` and `b` once; both ends are told and it comes back.
    pub fn break_link(&mut self, a: NodeId, b: NodeId) {
        if self.network.disconnect(a, b) {
            self.notice_disconnect(a, b);
            self.notice_disconnect(b, a);
            self.schedule_connect(a, b);
        }
    }

    /// Offers `n` new commands to `to`.
    pub fn propose_to(&mut self, to: NodeId, n: u64) {
        for _ in 0..n {
            self.next_command += 1;
            let command = Bytes::copy_from_slice(&self.next_command.to_be_bytes());
            self.hosts.get_mut(&to).expect("a member").waiting.push_back(command);
        }
        self.turn(to);
    }

    /// Offers `n` new commands of `bytes` bytes each to the leader, if there is one.
    pub fn propose_sized(&mut self, n: u64, bytes: usize) {
        let Some(to) = self.leader() else { return };
        for _ in 0..n {
            self.next_command += 1;
            let mut body = vec![0; bytes.max(8)];
            body[..8].copy_from_slice(&self.next_command.to_be_bytes());
            self.hosts.get_mut(&to).expect("a member").waiting.push_back(Bytes::from(body));
        }
        self.turn(to);
    }

    /// Offers `n` new commands to the leader, if there is one.
    pub fn propose(&mut self, n: u64) {
        if let Some(leader) = self.leader() {
            self.propose_to(leader, n);
        }
    }

    /// Asks `id` for a read barrier. Its answer is checked for freshness when it comes.
    pub fn read(&mut self, id: NodeId, mode: ReadMode) -> u64 {
        self.next_token += 1;
        let (token, top) = (self.next_token, self.ledger.top());
        let host = self.hosts.get_mut(&id).expect("a member");
        host.barriers.insert(token, top);
        if let Some(replica) = &mut host.replica {
            replica.push(Input::Read { token: Token(token), mode });
        }
        self.turn(id);
        token
    }

    /// The index at which barrier `token` of `id` is passed, once it is and that index is applied.
    #[must_use]
    pub fn passed(&self, id: NodeId, token: u64) -> Option<Index> {
        let host = &self.hosts[&id];
        host.readable.get(&token).copied().filter(|at| host.state.last.index >= *at)
    }

    /// Whether barrier or transfer `token` was refused by `id`.
    #[must_use]
    pub fn refused(&self, id: NodeId, token: u64) -> bool {
        self.hosts[&id].refused.contains(&token)
    }

    /// Gives `id` any input, for tests of single rules.
    pub fn input(&mut self, id: NodeId, input: Input<P::Message>) {
        if let Some(replica) = self.hosts.get_mut(&id).and_then(|h| h.replica.as_mut()) {
            replica.push(input);
        }
        self.turn(id);
    }

    /// Asks `id` to hand leadership over.
    pub fn transfer(&mut self, id: NodeId, to: Option<NodeId>) -> u64 {
        self.next_token += 1;
        let token = Token(self.next_token);
        self.input(id, Input::Transfer { token, to });
        token.0
    }

    // ---- time ----------------------------------------------------------------------------------------------

    /// Lets `duration` pass.
    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.events.next_at().is_some_and(|at| at <= end) {
            self.advance();
        }
        self.now = end;
    }

    /// Runs until `done` holds, at most `limit`; whether it does.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            if done(self) {
                return true;
            }
            match self.events.next_at() {
                Some(at) if at <= end => self.advance(),
                _ => {
                    self.now = end;
                    return done(self);
                }
            }
        }
    }

    fn advance(&mut self) {
        let Some((at, event)) = self.events.pop() else { return };
        self.now = self.now.max(at);
        match event {
            Event::Deliver(packet) => self.deliver(packet),
            Event::Synced { node, life, ticket } => self.synced(node, life, ticket),
            Event::Timer { node, life, generation } => {
                let host = &self.hosts[&node];
                if (host.life, host.timer) == (life, generation) && host.replica.is_some() {
                    self.step(node);
                }
            }
            Event::SnapshotArrives { from, to, epoch, state, configurations } => {
                let whole = self.network.session(from, to).is_some() && !self.network.is_cut(from, to);
                if whole {
                    self.receive_snapshot(from, to, epoch, state, configurations);
                }
                self.input(from, Input::SnapshotSent { to, at: state.last, whole });
            }
            Event::Connect(a, b) => self.connect(a, b),
            Event::Disconnected { node, life, peer } => {
                let host = self.hosts.get_mut(&node).expect("a member");
                if host.life == life
                    && self.network.session(node, peer).is_none()
                    && let Some(replica) = &mut host.replica
                {
                    replica.set_link(peer, false);
                    self.turn(node);
                }
            }
        }
    }

    // ---- links ---------------------------------------------------------------------------------------------

    fn schedule_connect(&mut self, a: NodeId, b: NodeId) {
        let at = self.now + self.rng.duration(self.options.network.latency, Duration::from_millis(2));
        self.events.schedule(at, Event::Connect(a.min(b), a.max(b)));
    }

    fn connect(&mut self, a: NodeId, b: NodeId) {
        let up = |n| self.hosts[&n].replica.is_some();
        if !up(a) || !up(b) {
            return; // whoever starts next dials
        }
        if self.network.is_cut(a, b) || self.network.is_cut(b, a) {
            let at = self.now + Duration::from_millis(50);
            self.events.schedule(at, Event::Connect(a, b));
            return;
        }
        if self.network.session(a, b).is_some() {
            return;
        }
        self.network.connect(a, b);
        for (id, peer) in [(a, b), (b, a)] {
            if let Some(replica) = self.hosts.get_mut(&id).and_then(|h| h.replica.as_mut()) {
                if replica.outbox().link(peer) != crate::LinkState::Down {
                    replica.set_link(peer, false); // the old session ended unnoticed
                }
                replica.set_link(peer, true);
            }
        }
        self.turn(a);
        self.turn(b);
    }

    fn notice_disconnect(&mut self, node: NodeId, peer: NodeId) {
        let life = self.hosts[&node].life;
        let at = self.now + self.options.network.latency;
        self.events.schedule(at, Event::Disconnected { node, life, peer });
    }

    fn deliver(&mut self, packet: Packet<P::Message>) {
        let Packet { from, to, session, frame } = packet;
        if self.network.session(from, to) != Some(session) || self.network.is_cut(from, to) {
            return;
        }
        let Some(replica) = self.hosts.get_mut(&to).and_then(|h| h.replica.as_mut()) else { return };
        let Frame { message, entries } = frame;
        replica.push(Input::Message { from, message, entries });
        self.turn(to);
    }

    // ---- story ---------------------------------------------------------------------------------------------

    pub(crate) fn note(&mut self, line: String) {
        if self.story.len() >= self.story_limit {
            self.story.pop_front();
        }
        let ms = (self.now.0.saturating_sub(1_000_000_000)) as f64 / 1e6;
        self.story.push_back(format!("{ms:10.3} {line}"));
    }

    pub(crate) fn fail(&self, id: NodeId, why: &str) -> ! {
        panic!("{} seed {} node {id}: {why}\n{}", P::NAME, self.options.seed, self.story());
    }
}
