//! Valid histories on demand: a tiny coordination service that cannot fail, and clients that do everything.
//!
//! ```text
//!  log:      [open 1] [open 2] [1: create /a] [2: set /a] [end 1] …        the order of the log is the order of zxids
//!  server A  ─────────────────────────────────►                            applies late, fires watches as it applies,
//!  server B  ───────────►                                                  answers its clients from its own state
//! ```
//!
//! The same [`Model`] as the checkers' is used here: what is tested with these histories is the checkers' bookkeeping, not
//! ZooKeeper's semantics (those are tested against the real services' histories).

mod server;

use crate::model::Model;
use crate::recipe::{LOCK, LOCKED, Lock, QUEUE, Queue};
use crate::record::{CreateMode, Event, EventKind, FORMAT, Header, History, Op, Outcome, WatchMode, What};
use server::{Command, ONCE, PERSISTENT, RECURSIVE, Server};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What is to be generated.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Decides everything.
    pub seed: u64,
    /// Operations, about.
    pub operations: usize,
    /// Whether connections break, sessions expire and outcomes are lost.
    pub faults: bool,
    /// As [`Header::exact_reads`].
    pub exact_reads: bool,
}

/// A valid history.
#[must_use]
pub fn generate(wanted: Wanted) -> History {
    let mut world = World::new(wanted);
    world.set_up();
    while world.calls < wanted.operations as u64 {
        world.step();
    }
    world.wind_up();
    let header = Header {
        format: FORMAT.into(),
        system: "reference model".into(),
        seed: Some(wanted.seed),
        exact_reads: wanted.exact_reads,
        strict_sync: true,
        tick_ms: 500,
        election_ms: 1000,
        ..Header::default()
    };
    History { header, events: world.events }
}

const SERVERS: usize = 3;
const CLIENTS: u32 = 4;
const TIMEOUT_MS: u64 = 4000;

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end.max(1)
    }
    fn one_of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        let at = self.below(all.len() as u64) as usize;
        all.get(at).copied().unwrap_or_default()
    }
    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

struct Entry {
    zxid: i64,
    time_ms: i64,
    command: Command,
    /// Who is waiting: (client, connection, call).
    origin: Option<(u32, u64, u64)>,
}

#[derive(Default)]
struct Client {
    session: i64,
    server: usize,
    connection: u64,
    connected: bool,
    seen: i64,
    alive_us: u64,
    pending: VecDeque<(u64, Op)>,
    own: BTreeMap<String, u8>,
    kids: BTreeSet<String>,
    absent: BTreeSet<String>,
    /// What it knows of the lock; made when it is first needed.
    lock: Option<Lock>,
    queue: Queue,
}

struct World {
    wanted: Wanted,
    rng: Rng,
    now_us: u64,
    log: Vec<Entry>,
    servers: Vec<Server>,
    clients: Vec<Client>,
    events: Vec<Event>,
    calls: u64,
    sessions: i64,
    connections: u64,
}

impl World {
    fn new(wanted: Wanted) -> Self {
        let server = || Server {
            model: Model::new(),
            applied: 0,
            zxid: 0,
            data: BTreeMap::new(),
            child: BTreeMap::new(),
        };
        Self {
            wanted,
            rng: Rng(wanted.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            now_us: 0,
            log: Vec::new(),
            servers: (0..SERVERS).map(|_| server()).collect(),
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            events: Vec::new(),
            calls: 0,
            sessions: 0x100,
            connections: 0,
        }
    }

    fn record(&mut self, client: u32, what: What) {
        self.now_us += 1 + self.rng.below(200);
        self.events.push(Event { at_us: self.now_us, client, what });
    }

    fn client(&mut self, client: u32) -> &mut Client {
        let index = (client as usize).saturating_sub(1) % self.clients.len();
        self.clients.get_mut(index).unwrap_or_else(|| unreachable!("there are clients"))
    }

    fn server(&mut self, server: usize) -> &mut Server {
        let index = server % SERVERS;
        self.servers.get_mut(index).unwrap_or_else(|| unreachable!("there are servers"))
    }

    fn append(&mut self, command: Command, origin: Option<(u32, u64, u64)>) {
        let epoch = 1 + self.log.len() as i64 / 400;
        let last = self.log.last().map_or(0, |entry| entry.zxid);
        let zxid = if last >> 32 < epoch { epoch << 32 | 1 } else { last + 1 };
        let time_ms = 1_000_000 + (self.now_us / 1000) as i64;
        self.log.push(Entry { zxid, time_ms, command, origin });
    }

    fn connect(&mut self, client: u32) {
        let server = self.rng.below(SERVERS as u64) as usize;
        let resumed = self.client(client).session != 0;
        self.append(Command::Session, None);
        self.apply_all(server);
        self.connections += 1;
        let connection = self.connections;
        if !resumed {
            self.sessions += 1;
        }
        let (fresh, now) = (self.sessions, self.now_us);
        let known = self.client(client);
        if !resumed {
            *known = Client { session: fresh, ..Client::default() };
        }
        (known.server, known.connection, known.connected, known.alive_us) = (server, connection, true, now);
        let (session, seen) = (known.session, known.seen);
        let server = server as u32 + 1;
        self.record(client, What::Connected { session, server, timeout_ms: TIMEOUT_MS, resumed, seen });
        if resumed {
            let relative = seen;
            let known = self.client(client);
            let of = |mode| {
                move |own: &BTreeMap<String, u8>| -> Vec<String> {
                    own.iter().filter(|(_, modes)| *modes & mode != 0).map(|(path, _)| path.clone()).collect()
                }
            };
            let op = Op::SetWatches {
                relative,
                data: of(ONCE)(&known.own),
                exist: known.absent.iter().cloned().collect(),
                child: known.kids.iter().cloned().collect(),
                persistent: of(PERSISTENT)(&known.own),
                recursive: of(RECURSIVE)(&known.own),
            };
            self.ask(client, op);
        }
    }

    fn ask(&mut self, client: u32, op: Op) {
        self.calls += 1;
        let call = self.calls;
        let known = self.client(client);
        let (session, connection, server) = (known.session, known.connection, known.server);
        self.record(client, What::Invoke { call, session, op: op.clone() });
        if matches!(op, Op::Sync { .. }) {
            // Before it is in line: an answer to an earlier write must not take it along.
            self.apply_all(server);
        }
        self.client(client).pending.push_back((call, op.clone()));
        if is_write(&op) {
            self.append(Command::Op { session, op }, Some((client, connection, call)));
        }
        self.answer_reads(client);
    }

    /// Answers what stands at the front of a client's queue and is no write.
    fn answer_reads(&mut self, client: u32) {
        loop {
            let known = self.client(client);
            let Some((call, op)) = known.pending.front().cloned().filter(|(_, op)| !is_write(op)) else {
                break;
            };
            known.pending.pop_front();
            let (server, connection, session) = (known.server, known.connection, known.session);
            let (outcome, made_up) = self.server(server).read(connection, &op);
            for (kind, path) in made_up {
                self.told(client, kind, &path);
                self.record(client, What::Watch { session, zxid: -1, kind, path });
            }
            let zxid = self.server(server).zxid;
            self.reply(client, call, zxid, outcome, &op);
        }
    }

    fn reply(&mut self, client: u32, call: u64, zxid: i64, outcome: Outcome, op: &Op) {
        let known = self.client(client);
        known.seen = known.seen.max(zxid);
        if let Some(lock) = &mut known.lock {
            lock.answered(op, Some(&outcome));
        }
        known.queue.answered(op, Some(&outcome));
        match (op, &outcome) {
            (Op::Get { path, watch: true }, Outcome::Ok(_))
            | (Op::Exists { path, watch: true }, Outcome::Ok(_)) => {
                *known.own.entry(path.clone()).or_default() |= ONCE;
            }
            (Op::Exists { path, watch: true }, _) => drop(known.absent.insert(path.clone())),
            (Op::Children { path, watch: true }, Outcome::Ok(_)) => drop(known.kids.insert(path.clone())),
            (Op::AddWatch { path, mode }, _) => {
                let mode = if *mode == WatchMode::Persistent { PERSISTENT } else { RECURSIVE };
                *known.own.entry(path.clone()).or_default() |= mode;
            }
            _ => {}
        }
        let ended = matches!(op, Op::Close);
        self.record(client, What::Return { call, zxid, outcome });
        if ended {
            self.record(client, What::Disconnected);
            *self.client(client) = Client::default();
        }
    }

    /// The client takes an event in: what it was waiting for is over.
    fn told(&mut self, client: u32, kind: EventKind, path: &str) {
        let known = self.client(client);
        if kind != EventKind::ChildrenChanged {
            if let Some(modes) = known.own.get_mut(path) {
                *modes &= !ONCE;
            }
            known.absent.remove(path);
        }
        if matches!(kind, EventKind::ChildrenChanged | EventKind::Deleted) {
            known.kids.remove(path);
        }
    }

    fn apply_all(&mut self, server: usize) {
        while self.apply_one(server) {}
    }

    /// One more entry on a server: events first, then the answer.
    fn apply_one(&mut self, server: usize) -> bool {
        let at = self.server(server).applied;
        let Some(entry) = self.log.get(at) else { return false };
        let (zxid, time_ms, command, origin) =
            (entry.zxid, entry.time_ms, entry.command.clone(), entry.origin);
        let on = self.server(server);
        (on.applied, on.zxid) = (at + 1, zxid);
        let (outcome, changes) = on.apply(zxid, time_ms, &command);
        let told: Vec<(u64, EventKind, String)> = changes.iter().flat_map(|change| on.fire(change)).collect();
        for (connection, kind, path) in told {
            let Some(client) = self.client_of(connection) else { continue };
            let session = self.client(client).session;
            self.told(client, kind, &path);
            self.record(client, What::Watch { session, zxid, kind, path });
        }
        if let Some((client, connection, call)) = origin
            && self.client_of(connection) == Some(client)
            && self.client(client).server % SERVERS == server % SERVERS
            && let Some((_, op)) = self.client(client).pending.pop_front()
        {
            self.reply(client, call, zxid, outcome, &op);
            self.answer_reads(client);
        }
        if let Command::Expire { session } = command
            && let Some(client) = (1..=CLIENTS).find(|c| {
                let known = self.client(*c);
                known.session == session && known.connected && known.server % SERVERS == server % SERVERS
            })
        {
            self.disconnect(client);
        }
        true
    }

    fn client_of(&mut self, connection: u64) -> Option<u32> {
        (1..=CLIENTS).find(|client| {
            let known = self.client(*client);
            known.connected && known.connection == connection
        })
    }

    fn disconnect(&mut self, client: u32) {
        let mut closing = false;
        for (call, op) in std::mem::take(&mut self.client(client).pending) {
            closing |= matches!(op, Op::Close);
            if let Some(lock) = &mut self.client(client).lock {
                lock.answered(&op, None);
            }
            self.record(client, What::Unknown { call });
        }
        self.client(client).connected = false;
        let connection = self.client(client).connection;
        self.servers.iter_mut().for_each(|server| server.forget(connection));
        self.record(client, What::Disconnected);
        if closing {
            *self.client(client) = Client::default();
        }
    }

    fn set_up(&mut self) {
        (1..=CLIENTS).for_each(|client| self.connect(client));
        for path in ["/a", "/b", QUEUE, "/bank", "/bank/x", "/bank/y", "/e", "/set", LOCK, LOCKED] {
            self.ask(1, Op::Create { path: path.into(), data: "100".into(), mode: CreateMode::Persistent });
            self.apply_all(self.clients.first().map_or(0, |client| client.server));
        }
    }

    fn step(&mut self) {
        let client = 1 + self.rng.below(u64::from(CLIENTS)) as u32;
        match self.rng.below(100) {
            0..=54 => {
                let server = self.rng.below(SERVERS as u64) as usize;
                for _ in 0..=self.rng.below(4) {
                    self.apply_one(server);
                }
            }
            55..=56 if self.wanted.faults && self.client(client).connected => {
                self.disconnect(client);
                if self.rng.chance(25) {
                    self.expire(client);
                }
            }
            _ if !self.client(client).connected => self.connect(client),
            _ if self.client(client).pending.len() < 3 && !self.is_closing(client) => {
                let op = self.draw(client);
                self.ask(client, op);
            }
            _ => {}
        }
    }

    fn is_closing(&mut self, client: u32) -> bool {
        self.client(client).pending.iter().any(|(_, op)| matches!(op, Op::Close))
    }

    /// Its session ends for want of heartbeats, and it learns of that.
    fn expire(&mut self, client: u32) {
        self.now_us += (TIMEOUT_MS + 600) * 1000;
        let session = self.client(client).session;
        if session == 0 {
            return;
        }
        self.append(Command::Expire { session }, None);
        let told = self.rng.chance(70);
        if told {
            let server = self.rng.below(SERVERS as u64) as usize;
            self.apply_all(server);
            self.record(client, What::Expired { session });
        }
        *self.client(client) = Client::default();
        // The others stay alive meanwhile, and so on servers that are not behind for as long.
        (0..SERVERS).for_each(|server| self.apply_all(server));
        for other in (1..=CLIENTS).filter(|other| *other != client) {
            let (session, sent_us) = (self.client(other).session, self.now_us);
            if self.client(other).connected {
                self.record(other, What::Ping { session, sent_us });
            }
        }
    }

    fn draw(&mut self, client: u32) -> Op {
        let data = format!("{}", self.calls);
        let path = |rng: &mut Rng| rng.one_of(&["/a", "/b", "/a/k", "/b/k", "/e/l", "/missing"]).to_owned();
        let watch = self.rng.chance(40);
        match self.rng.below(100) {
            0..=7 => self.client(client).lock.get_or_insert_with(|| Lock::new(client)).ask(),
            8..=14 => Op::Get { path: path(&mut self.rng), watch },
            15..=22 => Op::Exists { path: path(&mut self.rng), watch },
            23..=30 => Op::Children { path: self.rng.one_of(&["/a", "/q", "/e", "/set"]).into(), watch },
            31..=44 => {
                let version = if self.rng.chance(30) { self.rng.below(4) as i32 } else { -1 };
                Op::Set { path: path(&mut self.rng), data, version }
            }
            45..=52 => Op::Create { path: path(&mut self.rng), data, mode: CreateMode::Persistent },
            53..=58 => Op::Create { path: "/e/l".into(), data, mode: CreateMode::Ephemeral },
            59..=64 => Op::Create { path: "/q/n-".into(), data, mode: CreateMode::EphemeralSequential },
            65..=69 => Op::Create { path: "/q/p-".into(), data, mode: CreateMode::PersistentSequential },
            70..=73 => {
                Op::Create { path: format!("/set/{client}-{data}"), data, mode: CreateMode::Persistent }
            }
            74..=80 => {
                let taken = self.client(client).queue.take();
                taken.unwrap_or_else(|| Op::Delete { path: path(&mut self.rng), version: -1 })
            }
            81..=86 => {
                let amount = self.rng.below(50);
                let part = |path: &str, amount| Op::Set { path: path.into(), data: amount, version: -1 };
                let ops = vec![
                    Op::Check { path: "/bank".into(), version: if self.rng.chance(80) { 0 } else { 1 } },
                    part("/bank/x", format!("{amount}")),
                    part("/bank/y", format!("{}", 200 - amount)),
                ];
                Op::Multi { ops }
            }
            87..=91 => Op::Get { path: self.rng.one_of(&["/bank/x", "/bank/y"]).into(), watch },
            92..=94 => Op::Sync { path: "/".into() },
            95..=96 => Op::AddWatch {
                path: self.rng.one_of(&["/a", "/q", "/"]).into(),
                mode: if watch { WatchMode::Persistent } else { WatchMode::Recursive },
            },
            97 if self.wanted.faults && self.rng.chance(30) => Op::Close,
            _ => Op::Exists { path: "/".into(), watch: false },
        }
    }

    fn wind_up(&mut self) {
        (0..SERVERS).for_each(|server| self.apply_all(server));
        self.record(0, What::Healed);
        for client in 1..=CLIENTS {
            let server = self.client(client).server;
            self.apply_all(server);
            if !self.client(client).connected {
                self.connect(client);
            }
            let data = format!("last {client}");
            self.ask(client, Op::Set { path: "/a".into(), data, version: -1 });
            self.ask(client, Op::Sync { path: "/".into() });
            let server = self.client(client).server;
            self.apply_all(server);
        }
        self.record(0, What::Final);
        for client in 1..=CLIENTS {
            self.ask(client, Op::Sync { path: "/".into() });
            for path in ["/set", "/q", "/a", "/bank/x", "/bank/y"] {
                self.ask(client, Op::Children { path: path.into(), watch: false });
                self.ask(client, Op::Get { path: path.into(), watch: false });
            }
        }
    }
}

fn is_write(op: &Op) -> bool {
    matches!(op, Op::Create { .. } | Op::Delete { .. } | Op::Set { .. } | Op::Multi { .. } | Op::Close)
}
