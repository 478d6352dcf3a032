//! An ensemble in one process, on loopback and temporary directories (or memory disks).

#![allow(dead_code, unreachable_pub)]

pub mod proxy;

use bytes::Bytes;
use node::{Application, Barrier, Fatal, FrozenState, Node, NodeConfig, NodeHandle, Peer, View, start_on};
use parking_lot::Mutex;
use replog::{Body, Configuration, Entry, Limits, LogId, NodeId, Refusal, ReplicatedLog, Role};
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use wal::{Disk, FileDisk};

/// The bound of every wait: far beyond what a healthy ensemble needs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `holds`, and says what for if it never does.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// A state machine that remembers every command.
#[derive(Default)]
pub struct Journal {
    state: Mutex<State>,
    pub messages: Mutex<Vec<(NodeId, Bytes)>>,
    pub links: Mutex<Vec<(NodeId, bool)>>,
    pub views: Mutex<Vec<View>>,
    pub barriers: Mutex<Vec<(u64, Result<Barrier, Refusal>)>>,
    pub fatal: Mutex<Vec<String>>,
    pub largest_batch: AtomicU64,
}

#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct State {
    pub at: LogId,
    pub commands: Vec<Bytes>,
}

impl Journal {
    pub fn state(&self) -> State {
        self.state.lock().clone()
    }

    pub fn count(&self) -> usize {
        self.state.lock().commands.len()
    }
}

impl Application for Journal {
    fn apply(&self, entries: &[Entry]) {
        let mut state = self.state.lock();
        for entry in entries {
            assert_eq!(entry.id.index, state.at.index.next(), "a gap in what is applied");
            state.at = entry.id;
            if let Body::Command(command) = &entry.body {
                state.commands.push(Bytes::copy_from_slice(command));
            }
        }
        self.largest_batch.fetch_max(entries.len() as u64, Ordering::Relaxed);
    }

    fn freeze(&self) -> FrozenState {
        let state = self.state();
        Box::new(move |to| {
            for command in &state.commands {
                to.write_all(&(command.len() as u32).to_le_bytes())?;
                to.write_all(command)?;
            }
            Ok(())
        })
    }

    fn install(&self, at: LogId, from: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes)?;
        let mut rest = &bytes[..];
        let mut commands = Vec::new();
        while let Some((size, tail)) = rest.split_first_chunk::<4>() {
            let (command, tail) = tail.split_at(u32::from_le_bytes(*size) as usize);
            commands.push(Bytes::copy_from_slice(command));
            rest = tail;
        }
        *self.state.lock() = State { at, commands };
        Ok(())
    }

    fn on_message(&self, from: NodeId, message: Bytes) {
        self.messages.lock().push((from, message));
    }

    fn on_view(&self, view: &View) {
        self.views.lock().push(*view);
    }

    fn on_link(&self, peer: NodeId, up: bool) {
        self.links.lock().push((peer, up));
    }

    fn on_barrier(&self, token: u64, outcome: Result<Barrier, Refusal>) {
        self.barriers.lock().push((token, outcome));
    }
}

/// What the shared tests need to know of a protocol.
pub trait Protocol: ReplicatedLog + Send + 'static {
    fn options(limits: Limits) -> Self::Options;
}

impl Protocol for raft::Raft {
    fn options(limits: Limits) -> raft::Options {
        raft::Options { limits, ..raft::Options::default() }
    }
}

impl Protocol for zab::Zab {
    fn options(limits: Limits) -> zab::Options {
        zab::Options { limits, ..zab::Options::default() }
    }
}

impl Protocol for paxos::Paxos {
    fn options(limits: Limits) -> paxos::Options {
        paxos::Options { limits, ..paxos::Options::default() }
    }
}

/// One member, running or not.
pub struct Member<D: Disk> {
    pub id: NodeId,
    pub disk: D,
    pub dir: PathBuf,
    pub address: SocketAddr,
    pub app: Arc<Journal>,
    pub node: Option<Node>,
}

impl<D: Disk> Member<D> {
    pub fn handle(&self) -> &NodeHandle {
        self.node.as_ref().expect("running").handle()
    }

    pub fn is_leading(&self) -> bool {
        self.node.as_ref().is_some_and(|n| n.handle().view().is_leading())
    }
}

/// Changes to the default configuration of each member.
pub type Adjust = Box<dyn Fn(&mut NodeConfig)>;

/// An ensemble; ids from 1.
pub struct Ensemble<P: Protocol, D: Disk = FileDisk> {
    pub members: Vec<Member<D>>,
    pub limits: Limits,
    pub adjust: Adjust,
    _dir: tempfile::TempDir,
    _protocol: std::marker::PhantomData<P>,
}

impl<P: Protocol> Ensemble<P, FileDisk> {
    pub fn start(n: u32) -> Self {
        Self::start_with(n, Limits::default(), |_| {})
    }

    pub fn start_with(n: u32, limits: Limits, adjust: impl Fn(&mut NodeConfig) + 'static) -> Self {
        Self::start_on(n, limits, adjust, |_| FileDisk)
    }
}

impl<P: Protocol, D: Disk> Ensemble<P, D> {
    pub fn start_on(
        n: u32,
        limits: Limits,
        adjust: impl Fn(&mut NodeConfig) + 'static,
        disk: impl Fn(u32) -> D,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listeners: Vec<TcpListener> = (0..n).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let members = (1..=n).zip(&listeners).map(|(id, listener)| Member {
            id: NodeId(id),
            disk: disk(id),
            dir: dir.path().join(id.to_string()),
            address: listener.local_addr().unwrap(),
            app: Arc::default(),
            node: None,
        });
        let members = members.collect();
        let adjust: Adjust = Box::new(adjust);
        let mut this = Self { members, limits, adjust, _dir: dir, _protocol: std::marker::PhantomData };
        for (at, listener) in listeners.into_iter().enumerate() {
            this.start_member(at, Some(listener));
        }
        this
    }

    pub fn config(&self, at: usize) -> NodeConfig {
        let me = &self.members[at];
        let everybody = self.members.iter().map(|m| m.id);
        let mut config = NodeConfig::new(me.id, me.dir.clone(), Configuration::of_voters(everybody));
        let others = self.members.iter().filter(|m| m.id != me.id);
        config.peers = others.map(|m| Peer { id: m.id, addresses: vec![m.address.to_string()] }).collect();
        config.listen = me.address.to_string();
        config.seed = Some(u64::from(me.id.0));
        let app = Arc::clone(&me.app);
        config.on_fatal = Arc::new(move |fatal: &Fatal| app.fatal.lock().push(fatal.to_string()));
        (self.adjust)(&mut config);
        config
    }

    fn start_member(&mut self, at: usize, listener: Option<TcpListener>) {
        let mut config = self.config(at);
        config.listener = listener;
        let options = P::options(self.limits.clone());
        let member = &mut self.members[at];
        let app: Arc<dyn Application> = Arc::<Journal>::clone(&member.app);
        member.node = Some(start_on::<P, D>(config, options, app, member.disk.clone()).unwrap());
    }

    /// Ends a member as a crash would.
    pub fn kill(&mut self, at: usize) {
        self.members[at].node = None;
    }

    /// Starts a member that was killed: with an empty state machine, as a new process has it.
    pub fn restart(&mut self, at: usize) {
        self.members[at].app = Arc::default();
        // The observer of fatal errors moves to the new state machine by `config`.
        self.start_member(at, None);
    }

    pub fn leader(&self) -> usize {
        let mut found = None;
        until("a leader", || {
            found = self.members.iter().position(Member::is_leading);
            found.is_some()
        });
        found.unwrap()
    }

    pub fn follower(&self) -> usize {
        let leader = self.leader();
        (0..self.members.len()).find(|m| *m != leader && self.members[*m].node.is_some()).unwrap()
    }

    /// Proposes `count` commands, numbered from `first`, again wherever leadership goes, until all are applied by
    /// the leader; duplicates are fine.
    pub fn propose(&self, first: usize, count: usize) {
        let commands: Vec<Bytes> =
            (first..first + count).map(|i| Bytes::from(format!("command {i}"))).collect();
        let last = commands.last().cloned().unwrap();
        let mut asked: Option<(usize, Instant)> = None;
        until("the commands to be applied", || {
            let Some(leader) = self.members.iter().position(Member::is_leading) else { return false };
            let member = &self.members[leader];
            let late = |(who, at): (usize, Instant)| who != leader || at.elapsed() > Duration::from_secs(3);
            if asked.is_none_or(late) {
                member.handle().propose(commands.clone());
                asked = Some((leader, Instant::now()));
            }
            member.app.state.lock().commands.iter().rev().take(count * 2).any(|c| *c == last)
        });
    }

    /// Waits until all running members hold the same, at least `count` commands.
    pub fn settle(&self, count: usize) -> State {
        let mut first = State::default();
        until("all members to hold the same", || {
            let mut running = self.members.iter().filter(|m| m.node.is_some());
            first = running.next().unwrap().app.state();
            first.commands.len() >= count && running.all(|m| m.app.state() == first)
        });
        first
    }

    pub fn roles(&self) -> Vec<Role> {
        self.members.iter().map(|m| m.handle().view().role).collect()
    }
}
