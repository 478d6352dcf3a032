//! What clients ask for: a few hot nodes, a bank, a queue, ephemerals, and watches on all of them.
//!
//! ```text
//!  /k0 … /k49     created, set, compared and set, deleted, read            C1-C5, C8
//!  /bank/a0 … a3  transfers by multi: the sum never changes                C9
//!  /q/n-          sequential nodes, some of them ephemeral                 C6
//!  /e/…           ephemerals                                               C7
//!  /lock, /q      a lock and a queue (history::recipe)                      C11
//! ```
//!
//! Every written value is unique, but for the bank's balances.

use history::recipe::{LOCK, LOCKED, Lock, QUEUE, Queue};
use history::{CreateMode, Op, Outcome, Reply, WatchMode};
use replog::Rng;
use std::collections::BTreeMap;

/// Accounts of the bank, and what each begins with.
const ACCOUNTS: u64 = 4;
const BALANCE: i64 = 100;
/// Sequential nodes that a client leaves standing.
const STANDING: usize = 12;

/// What one client knows and wants.
#[derive(Debug)]
pub(crate) struct Wishes {
    client: u32,
    written: u64,
    /// Path → data and version as last read.
    seen: BTreeMap<String, (String, i32)>,
    /// Sequential nodes of its own making.
    own: Vec<String>,
    lock: Lock,
    queue: Queue,
    /// To be asked before anything else, the last one first.
    pub(crate) first: Vec<Op>,
}

impl Wishes {
    pub(crate) fn new(client: u32) -> Self {
        Self {
            client,
            written: 0,
            seen: BTreeMap::new(),
            own: Vec::new(),
            lock: Lock::new(client),
            queue: Queue::default(),
            first: Vec::new(),
        }
    }

    /// What somebody has to make before the rest makes sense.
    pub(crate) fn found(&mut self) {
        let make = |path: &str, data: String| Op::Create {
            path: path.to_owned(),
            data,
            mode: CreateMode::Persistent,
        };
        let accounts = (0..ACCOUNTS).map(|a| make(&format!("/bank/a{a}"), BALANCE.to_string()));
        let mut bank = vec![make("/bank", String::new())];
        bank.extend(accounts);
        self.first.push(Op::Multi { ops: bank });
        self.first.extend([QUEUE, "/e", LOCK, LOCKED].map(|path| make(path, String::new())));
    }

    /// The next operation.
    pub(crate) fn next(&mut self, keys: u64, rng: &mut Rng) -> Op {
        if let Some(op) = self.first.pop() {
            return op;
        }
        let key = format!("/k{}", rng.below(keys));
        match rng.below(100) {
            0..=19 => self.set(key, rng),
            20..=30 => self.create(key, CreateMode::Persistent),
            31..=37 => Op::Delete { version: self.expected(&key, rng), path: key },
            38..=42 => self.lock.ask(),
            43..=55 => {
                let path = if rng.one_in(4) { format!("/bank/a{}", rng.below(ACCOUNTS)) } else { key };
                Op::Get { path, watch: rng.below(10) < 3 }
            }
            56..=61 => Op::Exists { path: key, watch: rng.below(10) < 4 },
            62..=67 => {
                let path = ["/", QUEUE, "/e", "/bank"][rng.below(4) as usize].to_owned();
                Op::Children { path, watch: rng.below(10) < 3 }
            }
            68..=72 => {
                self.first.push(Op::Get { path: key.clone(), watch: false });
                Op::Sync { path: key }
            }
            73..=80 => self.transfer(rng),
            81..=83 => self.several(key, rng),
            84..=91 => self.enqueue(rng),
            92..=95 => self.create(format!("/e/x{}", rng.below(keys)), CreateMode::Ephemeral),
            96..=97 => Op::Delete { path: format!("/e/x{}", rng.below(keys)), version: -1 },
            98 => {
                let path = if rng.one_in(3) { "/q".to_owned() } else { key };
                let mode = if rng.one_in(2) { WatchMode::Persistent } else { WatchMode::Recursive };
                Op::AddWatch { path, mode }
            }
            _ if rng.one_in(6) => Op::Close,
            _ => Op::Exists { path: format!("/e/x{}", rng.below(keys)), watch: true },
        }
    }

    /// A write that succeeds in any state: how a client shows that the service takes writes.
    pub(crate) fn probe(&mut self) -> Op {
        Op::Create { path: "/p-".to_owned(), data: self.value(), mode: CreateMode::EphemeralSequential }
    }

    /// An answer, in the order of the questions; `None`: there will be none.
    pub(crate) fn answered(&mut self, op: &Op, outcome: Option<&Outcome>) {
        self.lock.answered(op, outcome);
        self.queue.answered(op, outcome);
        match (op, outcome) {
            (Op::Get { path, .. }, Some(Outcome::Ok(Reply::Data { data, stat }))) => {
                self.seen.insert(path.clone(), (data.clone(), stat.version));
            }
            (Op::Create { .. }, Some(Outcome::Ok(Reply::Created { path, .. })))
                if path.starts_with("/q/n-") =>
            {
                self.own.push(path.clone());
            }
            _ => {}
        }
    }

    fn value(&mut self) -> String {
        self.written += 1;
        format!("c{}-{}", self.client, self.written)
    }

    fn expected(&self, path: &str, rng: &mut Rng) -> i32 {
        if rng.one_in(2) { self.seen.get(path).map_or(-1, |(_, version)| *version) } else { -1 }
    }

    fn set(&mut self, path: String, rng: &mut Rng) -> Op {
        Op::Set { version: self.expected(&path, rng), data: self.value(), path }
    }

    fn create(&mut self, path: String, mode: CreateMode) -> Op {
        Op::Create { path, data: self.value(), mode }
    }

    fn several(&mut self, key: String, rng: &mut Rng) -> Op {
        let version = self.expected(&key, rng);
        let ops = vec![
            Op::Check { path: key.clone(), version },
            Op::Set { path: key.clone(), data: self.value(), version: -1 },
            Op::Create { path: format!("{key}/m"), data: self.value(), mode: CreateMode::Persistent },
            Op::Delete { path: format!("{key}/m"), version: -1 },
        ];
        Op::Multi { ops }
    }

    fn enqueue(&mut self, rng: &mut Rng) -> Op {
        if let Some(op) = self.queue.take() {
            return op;
        }
        if self.own.len() > STANDING {
            return Op::Delete { path: self.own.swap_remove(0), version: -1 };
        }
        let mode =
            if rng.one_in(3) { CreateMode::EphemeralSequential } else { CreateMode::PersistentSequential };
        self.create("/q/n-".to_owned(), mode)
    }

    /// Moves money between two accounts as they were last seen; reads them first if they were not.
    fn transfer(&mut self, rng: &mut Rng) -> Op {
        let from = rng.below(ACCOUNTS);
        let to = (from + 1 + rng.below(ACCOUNTS - 1)) % ACCOUNTS;
        let paths = [format!("/bank/a{from}"), format!("/bank/a{to}")];
        let known = paths.each_ref().map(|p| {
            self.seen.remove(p).and_then(|(data, version)| Some((data.parse::<i64>().ok()?, version)))
        });
        let [Some((has, of_from)), Some((gets, of_to))] = known else {
            let [from, to] = paths;
            self.first.push(Op::Get { path: to, watch: false });
            return Op::Get { path: from, watch: false };
        };
        let amount = 1 + i64::try_from(rng.below(10)).unwrap_or(0);
        let [from, to] = paths;
        let set = |path, balance: i64, version| Op::Set { path, data: balance.to_string(), version };
        Op::Multi { ops: vec![set(from, has - amount, of_from), set(to, gets + amount, of_to)] }
    }
}
