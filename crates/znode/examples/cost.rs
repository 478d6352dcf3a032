//! What the state machine costs: time per command and per read, memory per node, time to freeze and to write a
//! snapshot. `cargo run --release -p znode --example cost [nodes]`. Figures of one run, not a statistic.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a measurement may stop where it is wrong")]

use bytes::{Bytes, BytesMut};
use jute::{Acl, CreateRequest, DeleteRequest, Jute as _, MultiOp, OpCode, SetDataRequest, encode_multi};
use std::hint::black_box;
use std::time::{Duration, Instant};
use znode::{At, Command, Epoch, Identities, Machine, Origin, Outcome, Request, WatchTables};

const BATCH: u64 = 1000;

/// Time that this thread spends on a processor, so that other programs do not count; wall time where unknown.
struct Clock(Option<Duration>, Instant);

impl Clock {
    fn now() -> Self {
        Self(on_cpu(), Instant::now())
    }

    fn elapsed(&self) -> Duration {
        self.0.and_then(|begin| Some(on_cpu()? - begin)).unwrap_or_else(|| self.1.elapsed())
    }
}

fn on_cpu() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split(' ').next()?.parse().ok()?))
}

struct Feed {
    machine: Machine,
    identities: Identities,
    number: u64,
}

impl Feed {
    fn new() -> Self {
        let mut feed =
            Self { machine: Machine::new(), identities: Identities::new([("ip", "127.0.0.1")]), number: 0 };
        let mut out = BytesMut::new();
        Command::OpenStream { server: 1, nonce: 0 }.encode(&mut out);
        feed.apply(&out.freeze());
        let open = feed.command(Request::OpenSession { session: 1, timeout_ms: 1, password: [0; 16] });
        feed.apply(&open);
        feed
    }

    fn command(&mut self, request: Request) -> Bytes {
        self.number += 1;
        let mut out = BytesMut::with_capacity(256);
        Command::Request { origin: Origin { server: 1, stream: 1, number: self.number }, request }
            .encode(&mut out);
        out.freeze()
    }

    fn op(&mut self, opcode: OpCode, body: Bytes) -> Bytes {
        let identities = self.identities.clone();
        self.command(Request::Op { session: 1, attachment: 2, opcode: opcode.code(), identities, body })
    }

    fn apply(&mut self, command: &Bytes) -> znode::Applied {
        let at = At { epoch: Epoch::new(1, 0), index: self.machine.last_index() + 1, time_ms: 1 };
        self.machine.apply(at, command)
    }

    /// Applies `count` commands made by `make`, timing only `apply`.
    fn time(&mut self, what: &str, count: u64, mut make: impl FnMut(u64) -> (OpCode, Bytes)) {
        let mut spent = Duration::ZERO;
        let mut at = 0;
        while at < count {
            let commands: Vec<_> = (at..count.min(at + BATCH)).map(&mut make).collect();
            let commands: Vec<_> = commands.into_iter().map(|(opcode, body)| self.op(opcode, body)).collect();
            at += BATCH;
            let begin = Clock::now();
            for command in &commands {
                let applied = self.apply(command);
                assert!(matches!(applied.outcome, Outcome::Done(_)), "{applied:?}");
            }
            spent += begin.elapsed();
        }
        report(what, spent, count);
    }
}

fn report(what: &str, spent: Duration, count: u64) {
    println!("{what:<44} {:>8.0} ns", spent.as_nanos() as f64 / count as f64);
}

/// Resident bytes, where the system tells.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn path(i: u64) -> String {
    format!("/bench/node-{i:010}")
}

fn create(path: &str) -> Bytes {
    let data = Some(Bytes::from(vec![7; 100]));
    CreateRequest { path: path.into(), data, acl: vec![Acl::open()], flags: 0 }.to_bytes()
}

fn set(path: &str) -> Bytes {
    SetDataRequest { path: path.into(), data: Some(Bytes::from(vec![8; 100])), version: -1 }.to_bytes()
}

/// A fixed walk over the nodes that is not their order.
fn scattered(i: u64, nodes: u64) -> u64 {
    i.wrapping_mul(0x9e37_79b9_7f4a_7c15) % nodes
}

fn main() {
    let nodes: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(200_000);
    let mut feed = Feed::new();
    feed.time("apply create (parent)", 1, |_| (OpCode::Create, create("/bench")));
    let before = resident();
    feed.time("apply create, 100 bytes", nodes, |i| (OpCode::Create, create(&path(i))));
    let grown = resident() - before;
    println!("{:<44} {:>8} bytes", "memory per node", grown / nodes);
    feed.time("apply set, one node", nodes, |_| (OpCode::SetData, set(&path(5))));
    feed.time("apply set, scattered nodes", nodes, |i| (OpCode::SetData, set(&path(scattered(i, nodes)))));
    feed.time("apply multi of 3 sets", nodes / 4, |i| {
        let one = |i| {
            let data = Some(Bytes::from_static(&[1; 100]));
            MultiOp::SetData(SetDataRequest { path: path(scattered(i, nodes)).into(), data, version: -1 })
        };
        let mut body = Vec::new();
        encode_multi(&[one(i), one(i + 1), one(i + 2)], &mut body);
        (OpCode::Multi, body.into())
    });
    reads(&feed.machine, nodes);
    watches(&feed.machine, nodes);

    let begin = Clock::now();
    let frozen = feed.machine.clone();
    report("clone (freeze)", begin.elapsed(), 1);
    feed.time("apply set, scattered, just after a clone", nodes, |i| {
        (OpCode::SetData, set(&path(scattered(i, nodes))))
    });
    let mut bytes = Vec::new();
    let begin = Clock::now();
    frozen.write_snapshot(&mut bytes).expect("memory takes all");
    report("write a snapshot, per node", begin.elapsed(), nodes);
    drop(frozen);
    let begin = Clock::now();
    let read = Machine::read_snapshot(&mut &bytes[..]).expect("just written");
    report("read a snapshot, per node", begin.elapsed(), nodes);
    drop(read);
    feed.time("apply delete", nodes, |i| {
        (OpCode::Delete, DeleteRequest { path: path(nodes - 1 - i).into(), version: -1 }.to_bytes())
    });
}

fn reads(machine: &Machine, nodes: u64) {
    let who = Identities::new([("ip", "127.0.0.1")]);
    let paths: Vec<_> = (0..nodes).map(|i| path(scattered(i, nodes))).collect();
    let begin = Clock::now();
    for _ in 0..nodes {
        black_box(machine.data(black_box(&paths[5]), &who).expect("it exists"));
    }
    report("get, one node", begin.elapsed(), nodes);
    let begin = Clock::now();
    for path in &paths {
        black_box(machine.data(path, &who).expect("it exists"));
    }
    report("get, scattered nodes", begin.elapsed(), nodes);
    let begin = Clock::now();
    let children = machine.children("/bench", &who).expect("it exists");
    let bytes: usize = children.names().map(str::len).sum();
    black_box(bytes);
    report("children, per child", begin.elapsed(), nodes);
}

fn watches(machine: &Machine, nodes: u64) {
    let mut tables = WatchTables::default();
    let who = Identities::NONE;
    let paths: Vec<_> = (0..nodes).map(|i| path(scattered(i, nodes))).collect();
    let before = resident();
    let begin = Clock::now();
    for (i, path) in paths.iter().enumerate() {
        tables.watch_data(i as u64 % 100, path);
    }
    report("leave a data watch", begin.elapsed(), nodes);
    println!("{:<44} {:>8} bytes", "memory per watch", (resident() - before) / nodes);
    let change = |path: &str| znode::Change {
        kind: znode::ChangeKind::DataChanged,
        path: path.into(),
        acl: znode::AclRef::default(),
        parent_acl: znode::AclRef::default(),
    };
    let changes: Vec<_> = paths.iter().map(|path| change(path)).collect();
    let mut told = 0;
    let begin = Clock::now();
    for change in &changes {
        tables.fire(change, |_, acl| machine.may_read(acl, &who), |_, _, to| told += to.len());
    }
    report("fire a data watch", begin.elapsed(), nodes);
    assert!(told > 0 && tables.is_empty());
    let begin = Clock::now();
    for change in &changes {
        tables.fire(change, |_, _| true, |_, _, to| told += to.len());
    }
    report("fire with no watches", begin.elapsed(), nodes);
    tables.add(1, "/elsewhere", jute::AddWatchMode::Persistent);
    let begin = Clock::now();
    for change in &changes {
        tables.fire(change, |_, _| true, |_, _, to| told += to.len());
    }
    report("fire past one watch elsewhere", begin.elapsed(), nodes);
}
