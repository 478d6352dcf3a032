//! Replicated entries per second and the latency of one at a time, over three processes on loopback with fsync on:
//! `cargo run --release -p node --example load -- raft 1024 5` (protocol, outstanding commands, seconds).
//!
//! The leader's own process makes the load: as many commands as were applied are proposed again, so the figure is
//! that of the driver and the core, without clients.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use bytes::Bytes;
use node::{Application, Barrier, FrozenState, NodeConfig, NodeHandle, Peer, View};
use parking_lot::{Condvar, Mutex};
use replog::{Body, Configuration, Entry, LogId, NodeId, Refusal, ReplicatedLog};
use std::io;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const COMMAND_BYTES: usize = 100;

#[derive(Default)]
struct Load {
    handle: Mutex<Option<NodeHandle>>,
    outstanding: usize,
    state: Mutex<Figures>,
    leads: Condvar,
}

#[derive(Default)]
struct Figures {
    leading: bool,
    applied: u64,
    proposed_at: Option<Instant>,
    micros: Vec<u64>,
}

impl Load {
    fn propose(&self, count: usize) {
        let handle = self.handle.lock().clone().unwrap();
        handle.propose(vec![Bytes::from_static(&[7; COMMAND_BYTES]); count]);
    }
}

impl Application for Load {
    fn on_start(&self, handle: &NodeHandle) {
        *self.handle.lock() = Some(handle.clone());
    }

    fn apply(&self, entries: &[Entry]) {
        let commands = entries.iter().filter(|e| matches!(e.body, Body::Command(_))).count();
        let mut state = self.state.lock();
        state.applied += commands as u64;
        if !state.leading || commands == 0 {
            return;
        }
        if self.outstanding == 1
            && let Some(at) = state.proposed_at.replace(Instant::now())
        {
            state.micros.push(u64::try_from(at.elapsed().as_micros()).unwrap());
        }
        drop(state);
        self.propose(commands);
    }

    fn freeze(&self) -> FrozenState {
        Box::new(|_| Ok(()))
    }

    fn install(&self, _at: LogId, from: &mut dyn io::Read) -> io::Result<()> {
        io::copy(from, &mut io::sink()).map(drop)
    }

    fn on_message(&self, _from: NodeId, _message: Bytes) {}
    fn on_link(&self, _peer: NodeId, _up: bool) {}
    fn on_barrier(&self, _token: u64, _outcome: Result<Barrier, Refusal>) {}

    fn on_view(&self, view: &View) {
        self.state.lock().leading = view.is_leading();
        if view.is_leading() {
            self.leads.notify_all();
        }
    }
}

fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after = stat.rsplit(')').next().unwrap();
    let ticks: Vec<u64> = after.split_whitespace().skip(11).take(2).map(|t| t.parse().unwrap()).collect();
    Duration::from_millis(ticks.iter().sum::<u64>() * 10)
}

fn member<P: ReplicatedLog + Send + 'static>(
    id: u32,
    ports: &[u16],
    dir: &str,
    outstanding: usize,
    seconds: u64,
) {
    let ids = (1..).map(NodeId).take(ports.len());
    let all: Vec<(NodeId, String)> = ids.zip(ports.iter().map(|p| format!("127.0.0.1:{p}"))).collect();
    let mut config = NodeConfig::new(
        NodeId(id),
        format!("{dir}/{id}").into(),
        Configuration::of_voters(all.iter().map(|a| a.0)),
    );
    config.listen = all.iter().find(|a| a.0.0 == id).unwrap().1.clone();
    let others = all.into_iter().filter(|a| a.0.0 != id);
    config.peers = others.map(|(id, address)| Peer { id, addresses: vec![address] }).collect();
    config.snap_count = u64::MAX;
    config.snap_bytes = u64::MAX;
    let load = Arc::new(Load { outstanding, ..Load::default() });
    let app: Arc<dyn Application> = Arc::<Load>::clone(&load);
    let node = node::start::<P>(config, P::Options::default(), app).unwrap();
    let mut state = load.state.lock();
    let _ = load.leads.wait_for(&mut state, Duration::from_secs(2));
    let leads = state.leading;
    drop(state);
    std::thread::sleep(Duration::from_millis(500));
    let (before, counters, begun) = (cpu(), node.handle().counters(), Instant::now());
    if leads && outstanding > 0 {
        load.propose(outstanding);
    }
    std::thread::sleep(Duration::from_secs(seconds));
    let (elapsed, used, after) = (begun.elapsed(), cpu() - before, node.handle().counters());
    let mut state = load.state.lock();
    let rate = state.applied as f64 / elapsed.as_secs_f64();
    let syncs = after.fsyncs - counters.fsyncs;
    println!(
        "n{id} {} {rate:.0} entries/s, cpu {:.1} %, {syncs} fsyncs of {:.0} µs, {} steps, {} reads, {} writes",
        if leads { "leader  " } else { "follower" },
        100.0 * used.as_secs_f64() / elapsed.as_secs_f64(),
        (after.log_nanos - counters.log_nanos) as f64 / 1000.0 / syncs.max(1) as f64,
        after.steps - counters.steps,
        after.socket_reads - counters.socket_reads,
        after.socket_writes - counters.socket_writes,
    );
    state.micros.sort_unstable();
    if let (Some(median), Some(p99)) =
        (state.micros.get(state.micros.len() / 2), state.micros.get(state.micros.len() * 99 / 100))
    {
        println!("   latency of one: median {median} µs, p99 {p99} µs");
    }
    drop(state);
    // The leader leaves first, so that nobody elects.
    if !leads {
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let text = |at: usize, default: &str| args.get(at).cloned().unwrap_or_else(|| default.into());
    let (protocol, outstanding, seconds) = (text(1, "raft"), text(2, "1024"), text(3, "5"));
    if let (Some(id), Some(dir), Some(ports)) = (args.get(4), args.get(5), args.get(6)) {
        let ports: Vec<u16> = ports.split(',').map(|p| p.parse().unwrap()).collect();
        let (id, outstanding, seconds) =
            (id.parse().unwrap(), outstanding.parse().unwrap(), seconds.parse().unwrap());
        match protocol.as_str() {
            "raft" => member::<raft::Raft>(id, &ports, dir, outstanding, seconds),
            "zab" => member::<zab::Zab>(id, &ports, dir, outstanding, seconds),
            _ => member::<paxos::Paxos>(id, &ports, dir, outstanding, seconds),
        }
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let sockets: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let ports: Vec<String> = sockets.iter().map(|s| s.local_addr().unwrap().port().to_string()).collect();
    drop(sockets);
    let children = (1..=3).map(|id| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([&protocol, &outstanding, &seconds, &id.to_string()]);
        command.arg(dir.path()).arg(ports.join(",")).stdin(Stdio::null()).spawn().unwrap()
    });
    for mut child in children.collect::<Vec<_>>() {
        child.wait().unwrap();
    }
}
