//! Elections forced under load: the leader is killed (SIGKILL) or frozen (SIGSTOP) while writers on the survivors write
//! by an open-loop plan.
//!
//! ```text
//!  fault ──► detected ──► elected ──► serving ──► committed ──► replied
//!            └──────── the survivors' own logs ────────────┘    └ generator
//! ```
//!
//! Writers are connected to the survivors only: what is measured is the servers' outage, not how quickly a client
//! library walks its list. `replied` is the first success after `serving`, or, where no log tells that, the end of
//! the longest gap.
//! A trial ends when writes flow again; then the old leader is started or thawed and the cluster must be whole.

use crate::cluster::{ClientPath, Cluster, Step};
use crate::lab::{self, Lab};
use crate::load::{Outcome, Probe};
use crate::record::ElectionTrial;
use crate::witness::Witness;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Longest outage waited for.
const LONGEST: Duration = Duration::from_secs(40);
/// How long is looked at after the fault at least.
const AT_LEAST: Duration = Duration::from_millis(1200);
/// Successes that show that load flows.
const FLOWING: u64 = 100;

/// What is done to the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL: its connections are reset at once.
    Kill,
    /// SIGSTOP: its connections stay open and silent.
    Freeze,
}

impl Fault {
    /// Name in the records.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::Freeze => "freeze",
        }
    }
}

/// One trial on a running cluster, which is whole again afterwards.
///
/// # Errors
/// No recovery within [`LONGEST`], or a cluster that does not become whole again.
pub(crate) fn trial(
    lab: &Lab,
    cluster: &mut Cluster<'_>,
    fault: Fault,
    trial: usize,
) -> Result<ElectionTrial> {
    lab.say(&format!("{} {} of the leader, trial {}", cluster.system.name(), fault.name(), trial + 1));
    let leader = cluster.leader()?;
    let survivors: Vec<SocketAddr> =
        cluster.nodes.iter().filter(|n| n.id != leader).map(|n| n.client).collect();
    let space = lab::space(cluster, &format!("election-{}-{trial}", fault.name()), 8)?;
    let witness = match cluster.system.path() {
        ClientPath::Jute => {
            Some(Witness::open(&cluster.clients(), &format!("witness-{}-{trial}", fault.name()))?)
        }
        ClientPath::EtcdGateway => None,
    };
    let plan = lab::foreground(cluster, survivors, LONGEST + AT_LEAST);
    let (path, probe) = (cluster.system.path(), Probe::default());
    let marks: Vec<(usize, u64)> = cluster.nodes.iter().map(|n| (n.id, log_length(n))).collect();
    let (outcome, struck) = std::thread::scope(|scope| {
        let load = scope.spawn(|| lab::drive(path, &plan, &space, &probe));
        let struck = strike(cluster, leader, fault, &probe);
        probe.stop.store(true, Ordering::Relaxed);
        let outcome = load.join().map_err(|_| anyhow::anyhow!("the generator panicked"))?;
        anyhow::Ok((outcome?, struck?))
    })?;
    let steps = steps_since(cluster, leader, &marks, struck.unix_us);
    let record = record(cluster.system.name(), fault, trial, &outcome, &struck, &steps);
    heal(cluster, leader, fault)?;
    Ok(ElectionTrial { session_kept: witness.map(Witness::survived), ..record })
}

struct Struck {
    at: Instant,
    unix_us: i64,
}

/// Waits until load flows, strikes, and waits until it flows again.
fn strike(cluster: &mut Cluster<'_>, leader: usize, fault: Fault, probe: &Probe) -> Result<Struck> {
    let acked = || probe.acked.load(Ordering::Relaxed);
    let since = Instant::now();
    while acked() < 3 * FLOWING {
        ensure!(since.elapsed() < Duration::from_secs(30), "no load flows before the fault");
        std::thread::sleep(Duration::from_millis(5));
    }
    let struck = Struck { at: Instant::now(), unix_us: unix_now_us() };
    let node = cluster.node(leader)?;
    match fault {
        Fault::Kill => node.kill(),
        Fault::Freeze => node.freeze()?,
    }
    let mut before = acked();
    loop {
        std::thread::sleep(Duration::from_millis(300));
        let now = acked();
        // Flowing for 300 ms, long enough after the fault for the outage to have begun.
        if struck.at.elapsed() >= AT_LEAST && now >= before + FLOWING / 2 {
            return Ok(struck);
        }
        ensure!(struck.at.elapsed() < LONGEST, "no write succeeded within {LONGEST:?} after the fault");
        before = now;
    }
}

fn heal(cluster: &mut Cluster<'_>, leader: usize, fault: Fault) -> Result<()> {
    let node = cluster.node(leader)?;
    match fault {
        Fault::Kill => node.start()?,
        Fault::Freeze => node.thaw()?,
    }
    // A thawed leader may still answer as one: wait until exactly one leads.
    let since = Instant::now();
    cluster.wait_serving(Duration::from_secs(60)).context("after the old leader came back")?;
    while cluster.states().iter().filter(|(_, s)| s.mode == "leader").count() > 1 {
        ensure!(since.elapsed() < Duration::from_secs(30), "two servers call themselves leader");
        std::thread::sleep(Duration::from_millis(20));
    }
    cluster.wait_writable(Duration::from_secs(30))?;
    std::thread::sleep(Duration::from_millis(300));
    Ok(())
}

fn log_length(node: &crate::cluster::Node) -> u64 {
    std::fs::metadata(node.log_path()).map_or(0, |m| m.len())
}

/// The first time of each step among the survivors, µs after the fault.
fn steps_since(
    cluster: &Cluster<'_>,
    leader: usize,
    marks: &[(usize, u64)],
    fault_us: i64,
) -> BTreeMap<Step, i64> {
    let mut first = BTreeMap::new();
    for node in cluster.nodes.iter().filter(|n| n.id != leader) {
        let log = std::fs::read(node.log_path()).unwrap_or_default();
        let from = marks.iter().find(|(id, _)| *id == node.id).map_or(0, |(_, length)| *length as usize);
        let text = String::from_utf8_lossy(log.get(from..).unwrap_or_default()).into_owned();
        for (at, step) in cluster.system.steps(&text) {
            // Logs round down to their resolution (ZooKeeper: 1 ms).
            let after = (at - fault_us).max(0);
            if at > fault_us - 1_500 {
                first.entry(step).and_modify(|t: &mut i64| *t = after.min(*t)).or_insert(after);
            }
        }
    }
    first
}

fn record(
    system: &str,
    fault: Fault,
    trial: usize,
    outcome: &Outcome,
    struck: &Struck,
    steps: &BTreeMap<Step, i64>,
) -> ElectionTrial {
    let fault_ns = struck.at.saturating_duration_since(outcome.started).as_nanos() as u64;
    let end_ns = outcome.acks.last().copied().unwrap_or(fault_ns).max(fault_ns);
    let (gap_from, gap_to) = outcome.longest_gap(fault_ns, end_ns);
    let at = |step: Step| steps.get(&step).map(|us| *us as f64 / 1e3);
    // Where the logs tell when a leader serves again, the first success after that; else the end of the outage.
    let serving_ns = steps.get(&Step::Serving).map(|us| fault_ns + us.unsigned_abs() * 1_000);
    let replied_ns =
        serving_ns.map_or(Some(gap_to), |from| outcome.acks.iter().copied().find(|t| *t >= from));
    ElectionTrial {
        system: system.to_owned(),
        fault: fault.name().to_owned(),
        trial,
        detected_ms: at(Step::Detected),
        elected_ms: at(Step::Elected),
        serving_ms: at(Step::Serving),
        committed_ms: at(Step::Committed),
        replied_ms: replied_ns.map(|t| t.saturating_sub(fault_ns) as f64 / 1e6),
        gap_ms: (gap_to - gap_from) as f64 / 1e6,
        p99_ms: outcome.latency_us(99.0) / 1e3,
        ok: outcome.ok,
        errors: outcome.errors.values().sum(),
        unknown: outcome.unknown,
        dropped: outcome.dropped,
        expired: outcome.expired,
        session_kept: None,
    }
}

/// µs since the Unix epoch.
fn unix_now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
}
