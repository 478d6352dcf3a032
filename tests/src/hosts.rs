//! The cluster under a script: replicas, disks, mail under way; every change writes a line.

use bytes::Bytes;
use replog::conformance::MemoryDisk;
use replog::{
    Body, Committed, Configuration, ConfigurationAt, Entry, Epoch, Frame, Index, Input, LogId, LogOp,
    Message, NodeId, Notice, Replica, ReplicatedLog, Setup, Stamp, Ticket, Time, Write,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Applied commands, oldest first: the modelled state.
type State = Vec<(LogId, String)>;

pub(crate) struct Host<P: ReplicatedLog> {
    pub(crate) replica: Option<Replica<P>>,
    pub(crate) disk: MemoryDisk,
    pub(crate) clock: Time,
    pub(crate) last: LogId,
    pub(crate) state: State,
    /// Accepted and own snapshots.
    snapshots: BTreeMap<LogId, State>,
    staged: BTreeMap<LogId, State>,
    issued: Ticket,
}

struct Mail<P: ReplicatedLog> {
    from: NodeId,
    to: NodeId,
    frame: Frame<P::Message>,
}

pub(crate) struct Hosts<P: ReplicatedLog> {
    pub(crate) hosts: BTreeMap<NodeId, Host<P>>,
    mail: Vec<Mail<P>>,
    streams: Vec<(NodeId, NodeId, LogId, Epoch)>,
    cuts: BTreeSet<(NodeId, NodeId)>,
    configuration: Configuration,
    options: P::Options,
    pub(crate) out: String,
}

fn text(body: &Body) -> String {
    match body {
        Body::Noop => "noop".to_owned(),
        Body::Command(b) => String::from_utf8_lossy(b).into_owned(),
        Body::Config(..) => "config".to_owned(),
    }
}

fn range(entries: &[Entry]) -> String {
    match entries {
        [] => String::new(),
        [one] => format!("{}={}", one.id, text(&one.body)),
        [first, .., last] => format!("{}..{}", first.id, last.id),
    }
}

fn ops(ops: &[LogOp]) -> String {
    let one = |op: &LogOp| match op {
        LogOp::HardState(h) => {
            let voted = h.voted_for.map_or_else(|| "-".to_owned(), |n| n.to_string());
            format!("hard({}, {voted}, {}, {})", h.promised, h.established, h.committed)
        }
        LogOp::Write(entries) => format!("+{}", range(entries)),
        LogOp::Truncate { from } => format!("truncate≥{from}"),
        LogOp::Purge { upto } => format!("purge≤{upto}"),
    };
    ops.iter().map(one).collect::<Vec<_>>().join(" ")
}

impl<P: ReplicatedLog> Hosts<P> {
    pub(crate) fn new(voters: u32, observers: u32, options: P::Options) -> Self {
        let configuration = Configuration::of_voters((1..=voters).map(NodeId))
            .with_observers((voters + 1..=voters + observers).map(NodeId));
        let hosts = configuration.members().into_iter().map(|id| {
            let host = Host {
                replica: None,
                disk: MemoryDisk::default(),
                clock: Time(1_000_000_000),
                last: LogId::ZERO,
                state: State::new(),
                snapshots: BTreeMap::new(),
                staged: BTreeMap::new(),
                issued: Ticket::NONE,
            };
            (id, host)
        });
        Self {
            hosts: hosts.collect(),
            mail: Vec::new(),
            streams: Vec::new(),
            cuts: BTreeSet::new(),
            configuration,
            options,
            out: String::new(),
        }
    }

    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.hosts.keys().copied().collect()
    }

    pub(crate) fn say(&mut self, line: &str) {
        let _ = writeln!(self.out, "{line}");
    }

    fn replica(&mut self, id: NodeId) -> Option<&mut Replica<P>> {
        self.hosts.get_mut(&id)?.replica.as_mut()
    }

    // ---- life and links ---------------------------------------------------------------------------------

    pub(crate) fn start(&mut self, id: NodeId) {
        let (configuration, options) = (self.configuration.clone(), self.options.clone());
        let host = self.hosts.get_mut(&id).expect("a member");
        let recovered = host.disk.durable().recovered();
        let (snapshot, state) =
            host.snapshots.last_key_value().map_or((LogId::ZERO, State::new()), |(at, s)| (*at, s.clone()));
        (host.last, host.state, host.issued) = (snapshot, state, Ticket::NONE);
        let setup = Setup {
            id,
            seed: u64::from(id.0),
            configurations: vec![ConfigurationAt { from: Index::ZERO, configuration }],
            hard_state: recovered.hard_state,
            base: recovered.base,
            snapshot,
            entries: recovered.entries,
            damaged: Vec::new(),
            may_vote: true,
            options,
        };
        host.replica = Some(Replica::open(setup, 256 << 10, host.clock));
        self.carry_out(id);
        for peer in self.ids() {
            self.connect(id, peer);
        }
    }

    pub(crate) fn connect(&mut self, a: NodeId, b: NodeId) {
        if a == b
            || self.cuts.contains(&(a, b))
            || self.hosts[&b].replica.is_none()
            || self.hosts[&a].replica.is_none()
        {
            return;
        }
        for (id, peer) in [(a, b), (b, a)] {
            if let Some(r) = self.replica(id) {
                r.set_link(peer, true);
            }
            self.step(id);
        }
    }

    pub(crate) fn disconnect(&mut self, a: NodeId, b: NodeId) {
        self.lose(Some(a), Some(b));
        self.lose(Some(b), Some(a));
        for (id, peer) in [(a, b), (b, a)] {
            if let Some(r) = self.replica(id) {
                r.set_link(peer, false);
            }
            self.step(id);
        }
    }

    pub(crate) fn crash(&mut self, id: NodeId, keep: usize) {
        let host = self.hosts.get_mut(&id).expect("a member");
        host.replica = None;
        host.disk.keep(keep);
        let base = host.disk.durable().base;
        let staged = std::mem::take(&mut host.staged);
        host.snapshots.extend(staged.into_iter().filter(|(at, _)| at.index <= base.index));
        for peer in self.ids() {
            if peer != id && !self.cuts.contains(&(id, peer)) {
                self.disconnect(peer, id);
            }
        }
        self.mail.retain(|m| m.from != id && m.to != id);
    }

    pub(crate) fn partition(&mut self, groups: &[Vec<NodeId>]) {
        let group = |n: NodeId| groups.iter().position(|g| g.contains(&n));
        for a in self.ids() {
            for b in self.ids() {
                if a != b && (group(a) != group(b) || group(a).is_none()) {
                    self.cuts.insert((a, b));
                }
            }
        }
        let cuts = self.cuts.clone();
        self.mail.retain(|m| !cuts.contains(&(m.from, m.to)));
    }

    pub(crate) fn heal(&mut self) {
        for (a, b) in std::mem::take(&mut self.cuts) {
            if a < b {
                self.disconnect(a, b);
                self.connect(a, b);
            }
        }
    }

    // ---- mail -------------------------------------------------------------------------------------------

    pub(crate) fn deliver(&mut self, from: Option<NodeId>, to: Option<NodeId>, n: usize) -> usize {
        let matches = |m: &Mail<P>| from.is_none_or(|f| f == m.from) && to.is_none_or(|t| t == m.to);
        let mut under_way = std::mem::take(&mut self.mail);
        let mut taken = Vec::new();
        let mut kept = Vec::new();
        for m in under_way.drain(..) {
            if matches(&m) && taken.len() < n { taken.push(m) } else { kept.push(m) }
        }
        self.mail = kept;
        let count = taken.len();
        for m in taken {
            let Frame { message, entries } = m.frame;
            if let Some(r) = self.replica(m.to) {
                r.push(Input::Message { from: m.from, message, entries });
            }
            self.step(m.to);
        }
        count + self.deliver_streams()
    }

    fn deliver_streams(&mut self) -> usize {
        let streams = std::mem::take(&mut self.streams);
        let count = streams.len();
        for (from, to, at, epoch) in streams {
            let whole = !self.cuts.contains(&(from, to)) && self.hosts[&to].replica.is_some();
            if whole {
                let state = self.hosts[&from].snapshots[&at].clone();
                let configurations =
                    vec![ConfigurationAt { from: Index::ZERO, configuration: self.configuration.clone() }];
                self.hosts.get_mut(&to).expect("a member").staged.insert(at, state);
                self.input(to, Input::SnapshotReceived { from, epoch, at, configurations });
            }
            self.input(from, Input::SnapshotSent { to, at, whole });
        }
        count
    }

    pub(crate) fn lose(&mut self, from: Option<NodeId>, to: Option<NodeId>) {
        self.mail.retain(|m| !(from.is_none_or(|f| f == m.from) && to.is_none_or(|t| t == m.to)));
    }

    // ---- one node ---------------------------------------------------------------------------------------

    pub(crate) fn input(&mut self, id: NodeId, input: Input<P::Message>) {
        if let Some(r) = self.replica(id) {
            r.push(input);
        }
        self.step(id);
    }

    pub(crate) fn propose(&mut self, id: NodeId, values: Vec<String>) {
        let commands = values.into_iter().map(Bytes::from).collect();
        self.input(id, Input::Propose { stamp: Stamp(0), commands });
    }

    /// Moves the clock of `id` to its next deadline; false if it has none.
    pub(crate) fn tick(&mut self, id: NodeId) -> bool {
        let host = self.hosts.get_mut(&id).expect("a member");
        let Some(at) = host.replica.as_ref().and_then(Replica::deadline) else { return false };
        host.clock = host.clock.max(at);
        self.step(id);
        true
    }

    /// Completes the writes of `id`; false if there are none.
    pub(crate) fn fsync(&mut self, id: NodeId) -> bool {
        let host = self.hosts.get_mut(&id).expect("a member");
        if !host.disk.is_dirty() {
            return false;
        }
        let ticket = host.disk.written_ticket();
        host.disk.sync(ticket);
        if let Some(r) = &mut host.replica {
            r.persisted(ticket);
        }
        self.say(&format!("{id} synced t{}", ticket.0));
        self.step(id);
        true
    }

    pub(crate) fn snapshot(&mut self, id: NodeId) {
        let host = self.hosts.get_mut(&id).expect("a member");
        let (at, state) = (host.last, host.state.clone());
        host.snapshots.insert(at, state);
        self.say(&format!("{id} snapshot {at}"));
        self.input(id, Input::SnapshotTaken { at });
    }

    fn step(&mut self, id: NodeId) {
        for turn in 0.. {
            assert!(turn < 1000, "{id} never comes to rest:\n{}", self.out);
            let host = self.hosts.get_mut(&id).expect("a member");
            let Some(r) = &mut host.replica else { return };
            r.step(host.clock);
            if let Err(v) = r.core().check() {
                panic!("{id} {}: {}\n{}", v.rule, v.detail, self.out);
            }
            self.carry_out(id);
            if !self.hosts[&id].replica.as_ref().is_some_and(Replica::has_input) {
                return;
            }
        }
    }

    fn carry_out(&mut self, id: NodeId) {
        self.carry_out_notices(id);
        let host = self.hosts.get_mut(&id).expect("a member");
        let writes = host.replica.as_mut().map(Replica::take_writes).unwrap_or_default();
        for write in writes {
            let Write { ticket, ops: list } = &write;
            assert_eq!(*ticket, host.issued.next(), "tickets rise by one");
            host.issued = *ticket;
            let _ = writeln!(self.out, "{id} writes t{}: {}", ticket.0, ops(list));
            host.disk.append(write);
        }
        let host = self.hosts.get_mut(&id).expect("a member");
        if let Some(r) = &mut host.replica {
            for request in r.take_reads() {
                let found = host.disk.read(request.span, 256 << 10);
                r.read_done(request, found);
            }
        }
        self.carry_out_sends(id);
        self.carry_out_applies(id);
    }

    fn carry_out_sends(&mut self, id: NodeId) {
        for to in self.ids() {
            let mut frames = Vec::new();
            if let Some(r) = self.replica(id) {
                r.drain(to, u64::MAX, &mut frames);
            }
            for frame in frames {
                let entries = range(&frame.entries);
                let entries = if entries.is_empty() { entries } else { format!(" [{entries}]") };
                let lost = if self.cuts.contains(&(id, to)) { " ⇥ lost" } else { "" };
                self.say(&format!("{id} → {to} {:?}{entries}{lost}", frame.message));
                debug_assert!(!frame.message.kind().is_empty());
                if lost.is_empty() {
                    self.mail.push(Mail { from: id, to, frame });
                }
            }
        }
    }

    fn carry_out_applies(&mut self, id: NodeId) {
        loop {
            let host = self.hosts.get_mut(&id).expect("a member");
            let Some(r) = &mut host.replica else { return };
            let disk = &host.disk;
            match r.take_committed(u64::MAX, |span, max| disk.read(span, max)) {
                None => return,
                Some(Committed::Install(at)) => {
                    let state = host.staged.remove(&at).expect("a staged snapshot");
                    (host.last, host.state) = (at, state.clone());
                    host.snapshots.insert(at, state);
                    self.say(&format!("{id} installs {at}"));
                }
                Some(Committed::Entries(entries)) => {
                    for e in &entries {
                        host.last = e.id;
                        host.state.push((e.id, text(&e.body)));
                    }
                    self.say(&format!("{id} applies {}", range(&entries)));
                }
            }
        }
    }

    fn carry_out_notices(&mut self, id: NodeId) {
        let Some(r) = self.replica(id) else { return };
        for notice in r.take_notices() {
            let line = match notice {
                Notice::SendSnapshot { to, at } => {
                    let epoch = self.replica(id).map(|r| r.status().epoch).unwrap_or_default();
                    self.streams.push((id, to, at, epoch));
                    format!("{id} ⇉ {to} snapshot {at}")
                }
                Notice::InstallAccepted { at } => format!("{id} accepts snapshot {at}"),
                Notice::Readable { token, at, .. } => format!("{id} barrier {} passed at {at}", token.0),
                Notice::Refused { token, why } => format!("{id} refuses {}: {why:?}", token.0),
                Notice::Phase { role, phase, epoch, leader } => {
                    let leader = leader.map_or_else(|| "?".to_owned(), |l| l.to_string());
                    format!("{id}@{epoch} {role:?} {phase:?} ⇨ {leader}")
                }
                Notice::Configured { at, .. } => format!("{id} configured from {at}"),
                Notice::Ignored { from, why } => format!("{id} ignores {from}: {why}"),
                Notice::Overflown(peer) => format!("{id} overflows to {peer}"),
            };
            self.say(&line);
        }
    }
}
