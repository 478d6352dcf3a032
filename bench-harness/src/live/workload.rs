//! The random load of a recording client, after reliability.md section 2.
//!
//! ```text
//!  /reg/0..9     set, compare-and-set, create, delete, reads, watches      C1 C3 C4 C5 C8
//!  /bank/0..5    transfers: a multi of two sets with versions              C9
//!  /set/…        created once, never touched again                        C2
//!  /seq/s…       sequential nodes, some ephemeral, some deleted            C6
//!  /eph/0..5     ephemerals that all clients want                          C7
//!  /lock, /q     a lock and a queue (history::recipe)                      C11
//! ```
//!
//! Values are unique in a run (`client.counter`), balances carry such a tag behind the amount. A client believes what
//! it last read or wrote: versions and balances come from there, so that most compare-and-sets succeed and some do not.

use super::chance::Chance;
use super::source::{Next, Source};
use history::recipe::{LOCK, LOCKED, Lock, QUEUE, Queue};
use history::{CreateMode, Op, Outcome, Reply, WatchMode};
use std::collections::BTreeMap;
use std::time::Duration;

/// Registers.
const REGISTERS: u64 = 10;
/// Accounts.
const ACCOUNTS: u64 = 6;
/// What an account holds at first.
pub(crate) const OPENING: i64 = 100;
/// Names that ephemerals compete for.
const NAMES: u64 = 6;

/// Nodes above all others.
pub(crate) const PARENTS: [&str; 8] = ["/reg", "/bank", "/set", "/seq", "/eph", LOCK, LOCKED, QUEUE];

/// What has to exist before the load begins.
pub(crate) fn foundation() -> Vec<Op> {
    let node = |path: String, data: String| Op::Create { path, data, mode: CreateMode::Persistent };
    let parents = PARENTS.iter().map(|p| node((*p).to_owned(), String::new()));
    let accounts = (0..ACCOUNTS).map(|i| node(format!("/bank/{i}"), format!("{OPENING} opening{i}")));
    parents.chain(accounts).collect()
}

/// The amount in an account's data.
pub(crate) fn amount(data: &str) -> Option<i64> {
    data.split(' ').next()?.parse().ok()
}

/// What a client believes of a node.
#[derive(Clone, Debug)]
struct Belief {
    data: String,
    version: i32,
}

/// Random operations of one client.
#[derive(Debug)]
pub(crate) struct Workload {
    client: u32,
    chance: Chance,
    counter: u64,
    think: Duration,
    depth: usize,
    naps: bool,
    /// Whether lasting watches may lie on paths that also get one-shot ones: ZooKeeper before 3.9 forgets one of the
    /// two there (ZOOKEEPER-4466, which C8 found in a run of 3.8).
    pub(crate) mixes_watches: bool,
    beliefs: BTreeMap<String, Belief>,
    numbered: Vec<String>,
    lock: Lock,
    queue: Queue,
    follow_up: Option<Op>,
    acts: u64,
}

impl Workload {
    /// The load of `client`, which pauses about `think` between operations.
    pub(crate) fn new(client: u32, chance: Chance, think: Duration, depth: usize, naps: bool) -> Self {
        Self {
            client,
            chance,
            counter: 0,
            think,
            depth,
            naps,
            mixes_watches: true,
            beliefs: BTreeMap::new(),
            numbered: Vec::new(),
            lock: Lock::new(client),
            queue: Queue::default(),
            follow_up: None,
            acts: 0,
        }
    }

    fn value(&mut self) -> String {
        self.counter += 1;
        format!("{}.{}", self.client, self.counter)
    }

    fn register(&mut self) -> String {
        format!("/reg/{}", self.chance.below(REGISTERS))
    }

    /// A node worth reading.
    fn readable(&mut self) -> String {
        match self.chance.below(10) {
            0..=5 => self.register(),
            6 | 7 => format!("/bank/{}", self.chance.below(ACCOUNTS)),
            8 => format!("/eph/{}", self.chance.below(NAMES)),
            _ => self.chance.pick(&self.numbered).cloned().unwrap_or_else(|| "/seq".to_owned()),
        }
    }

    /// The version that the client believes in, or any, or (seldom) a wrong one.
    fn version(&mut self, path: &str) -> i32 {
        let believed = self.beliefs.get(path).map_or(-1, |b| b.version);
        match self.chance.below(10) {
            0..=4 => -1,
            5..=8 => believed,
            _ => believed + 1,
        }
    }

    fn operation(&mut self) -> Op {
        if let Some(op) = self.follow_up.take() {
            return op;
        }
        let watch = self.chance.percent(18);
        match self.chance.weighted([22, 19, 8, 6, 9, 4, 5, 10, 6, 4, 6, 2, 4, 3, 5, 4, 1].into_iter()) {
            0 => {
                let (path, data) = (self.register(), self.value());
                let version = self.version(&path);
                Op::Set { path, data, version }
            }
            1 => Op::Get { path: self.readable(), watch },
            2 => Op::Exists { path: self.readable(), watch },
            3 => {
                // The long lists seldom: a history of them would be nothing else.
                let few = if self.chance.percent(95) { &["/reg", "/bank", "/eph"][..] } else { &PARENTS };
                let parent = self.chance.pick(few).copied().unwrap_or("/reg");
                Op::Children { path: parent.to_owned(), watch }
            }
            4 => Op::Create { path: self.register(), data: self.value(), mode: CreateMode::Persistent },
            5 => {
                let path = self.register();
                let version = self.version(&path);
                Op::Delete { path, version }
            }
            6 => {
                let path = self.readable();
                self.follow_up = Some(Op::Get { path: path.clone(), watch });
                Op::Sync { path }
            }
            7 => self.transfer(),
            8 => {
                let mode = if self.chance.percent(40) {
                    CreateMode::EphemeralSequential
                } else {
                    CreateMode::PersistentSequential
                };
                Op::Create { path: "/seq/s".to_owned(), data: self.value(), mode }
            }
            9 => match self.chance.take(&mut self.numbered) {
                Some(path) => Op::Delete { path, version: -1 },
                None => Op::Sync { path: "/seq".to_owned() },
            },
            10 => {
                let path = format!("/eph/{}", self.chance.below(NAMES));
                Op::Create { path, data: self.value(), mode: CreateMode::Ephemeral }
            }
            11 => Op::Delete { path: format!("/eph/{}", self.chance.below(NAMES)), version: -1 },
            12 => {
                let data = self.value();
                Op::Create { path: format!("/set/{data}"), data, mode: CreateMode::Persistent }
            }
            13 => self.bundle(),
            14 => self.lock.ask(),
            15 => self.queueing(),
            _ => self.lasting_watch(),
        }
    }

    /// Moves an amount between two accounts, if both are known; else reads one of them.
    fn transfer(&mut self) -> Op {
        let from = self.chance.below(ACCOUNTS);
        let to = (from + 1 + self.chance.below(ACCOUNTS - 1)) % ACCOUNTS;
        let (from, to) = (format!("/bank/{from}"), format!("/bank/{to}"));
        let known = |path: &str| {
            let belief = self.beliefs.get(path)?;
            Some((amount(&belief.data)?, belief.version))
        };
        let (Some((has, v)), Some((had, w))) = (known(&from), known(&to)) else {
            let path = if known(&from).is_none() { from } else { to };
            return Op::Get { path, watch: false };
        };
        let sum = self.chance.between(1, 9) as i64;
        let (debit, credit) = (self.value(), self.value());
        // Both beliefs are used up: whatever comes of it, the next transfer reads again.
        self.beliefs.remove(&from);
        self.beliefs.remove(&to);
        Op::Multi {
            ops: vec![
                Op::Set { path: from, data: format!("{} {debit}", has - sum), version: v },
                Op::Set { path: to, data: format!("{} {credit}", had + sum), version: w },
            ],
        }
    }

    /// A multi that mixes kinds; it often fails, as a whole.
    fn bundle(&mut self) -> Op {
        let (checked, written, made) = (self.register(), self.register(), self.value());
        let version = self.version(&checked);
        let mut ops = vec![
            Op::Check { path: checked, version },
            Op::Create { path: format!("/set/{made}"), data: made, mode: CreateMode::Persistent },
        ];
        let data = self.value();
        ops.push(if self.chance.percent(60) {
            Op::Set { path: written, data, version: -1 }
        } else {
            Op::Delete { path: written, version: -1 }
        });
        Op::Multi { ops }
    }

    /// Takes the first item that it knows of, or looks for one, or puts one in.
    fn queueing(&mut self) -> Op {
        match self.queue.take() {
            Some(op) => op,
            None if self.chance.percent(50) => Op::Children { path: QUEUE.to_owned(), watch: false },
            None => {
                let mode = CreateMode::PersistentSequential;
                Op::Create { path: format!("{QUEUE}/n-"), data: self.value(), mode }
            }
        }
    }

    fn lasting_watch(&mut self) -> Op {
        if !self.mixes_watches {
            // Nothing else is ever watched there.
            Op::AddWatch { path: "/".to_owned(), mode: WatchMode::Recursive }
        } else if self.chance.percent(50) {
            Op::AddWatch { path: self.register(), mode: WatchMode::Persistent }
        } else {
            let path = if self.chance.percent(50) { "/reg" } else { "/eph" };
            Op::AddWatch { path: path.to_owned(), mode: WatchMode::Recursive }
        }
    }

    fn believe(&mut self, path: &str, data: &str, version: i32) {
        self.beliefs.insert(path.to_owned(), Belief { data: data.to_owned(), version });
    }
}

impl Source for Workload {
    fn next(&mut self, _: i64) -> Next {
        self.acts += 1;
        // Every other call is the pause after an operation.
        if self.acts.is_multiple_of(2) && self.follow_up.is_none() {
            let mean = self.think.as_micros() as u64;
            return Next::Wait(Duration::from_micros(self.chance.below(2 * mean + 1)));
        }
        match self.chance.below(1000) {
            0..=3 => Next::Hop,
            4 | 5 => Next::Ask(Op::Close),
            6 if self.naps => Next::Nap(self.chance.ms(100, 4000)),
            _ => Next::Ask(self.operation()),
        }
    }

    fn answered(&mut self, op: &Op, outcome: Option<&Outcome>) {
        self.lock.answered(op, outcome);
        self.queue.answered(op, outcome);
        match (op, outcome) {
            (Op::Get { path, .. }, Some(Outcome::Ok(Reply::Data { data, stat }))) => {
                self.believe(path, data, stat.version);
            }
            (Op::Set { path, data, .. }, Some(Outcome::Ok(Reply::Stat(stat)))) => {
                self.believe(path, data, stat.version);
            }
            (Op::Create { .. }, Some(Outcome::Ok(Reply::Created { path, .. })))
                if path.starts_with("/seq/") && self.numbered.len() < 50 =>
            {
                self.numbered.push(path.clone());
            }
            (Op::Create { path, data, .. }, Some(Outcome::Ok(_))) => self.believe(path, data, 0),
            (Op::Set { path, .. } | Op::Delete { path, .. } | Op::Get { path, .. }, _) => {
                self.beliefs.remove(path);
            }
            _ => {}
        }
    }

    fn is_done(&self) -> bool {
        false
    }

    fn depth(&self) -> usize {
        self.depth
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use history::Stat;
    use std::collections::BTreeSet;

    fn drawn(count: usize) -> Vec<Op> {
        let mut load = Workload::new(3, Chance::new(1, 3), Duration::from_millis(10), 4, true);
        let mut ops = Vec::new();
        while ops.len() < count {
            if let Next::Ask(op) = load.next(1) {
                if let Op::Get { path, .. } = &op {
                    let data =
                        if path.starts_with("/bank") { format!("{OPENING} x") } else { "v".to_owned() };
                    let stat = Stat { version: 4, ..Stat::default() };
                    load.answered(&op, Some(&Outcome::Ok(Reply::Data { data, stat })));
                }
                ops.push(op);
            }
        }
        ops
    }

    #[test]
    fn every_kind_of_operation_comes_and_values_are_unique() {
        let ops = drawn(4000);
        let kinds: BTreeSet<_> = ops.iter().map(std::mem::discriminant).map(|d| format!("{d:?}")).collect();
        // create, delete, set, get, exists, children, sync, multi, addWatch, close
        assert_eq!(kinds.len(), 10, "{kinds:?}");
        let values: Vec<_> = ops
            .iter()
            .filter_map(|op| match op {
                Op::Set { data, .. } | Op::Create { data, .. } => Some(data),
                _ => None,
            })
            .collect();
        assert_eq!(values.iter().collect::<BTreeSet<_>>().len(), values.len());
        assert!(ops.iter().all(|op| history::wire::request(op).is_some()));
    }

    #[test]
    fn transfers_keep_the_sum() {
        let mut transfers = 0;
        for op in drawn(4000) {
            let Op::Multi { ops } = op else { continue };
            let [Op::Set { data: a, path: p, version: 4 }, Op::Set { data: b, path: q, version: 4 }] =
                &ops[..]
            else {
                continue;
            };
            transfers += 1;
            assert_ne!(p, q);
            assert_eq!(amount(a).unwrap() + amount(b).unwrap(), 2 * OPENING);
        }
        assert!(transfers > 50, "{transfers}");
    }
}
