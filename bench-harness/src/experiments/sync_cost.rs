//! What it costs to bring a follower up to date that missed writes: by log, and by snapshot.
//!
//! ```text
//!  kill a follower ─► m writes on the others ─► foreground (open loop) ─► start it ─► it holds what was committed then
//! ```
//!
//! `log`: enough of the log is kept to send what is missing. `snapshot`: it is not, so the whole state goes over. Each
//! needs its own settings, hence its own cluster. Time counts from the start of the process, so it includes its own
//! start and recovery; the row with 0 missed writes shows how much that is.

use crate::cluster::fourletter::srvr;
use crate::cluster::{ClientPath, Cluster, System, Tuning};
use crate::lab::{self, Lab};
use crate::load::{Op, Outcome, Plan, Probe, histogram};
use crate::record::SyncTrial;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Longest catch-up waited for.
const LONGEST: Duration = Duration::from_secs(120);
/// Foreground before the follower returns.
const BEFORE: Duration = Duration::from_millis(1500);

/// How the follower is made to catch up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// Missing entries.
    Log,
    /// The whole state.
    Snapshot,
}

impl By {
    /// Name in the records.
    pub(crate) fn name(self) -> &'static str {
        match self {
            By::Log => "log",
            By::Snapshot => "snapshot",
        }
    }

    fn tuning(self, missed: u64) -> Tuning {
        match self {
            By::Log => Tuning { snapshot_every: 10_000_000, log_kept: 1_000_000 },
            // Often enough that the missing part is inside a snapshot and purged from the log.
            By::Snapshot => Tuning { snapshot_every: (missed / 4).clamp(100, 10_000), log_kept: 0 },
        }
    }
}

/// One trial on a cluster of its own.
///
/// # Errors
/// A cluster that does not start, a follower that does not catch up.
pub(crate) fn trial(lab: &Lab, system: &dyn System, by: By, missed: u64) -> Result<SyncTrial> {
    ensure!(system.path() == ClientPath::Jute, "{} does not tell how far a server is", system.name());
    lab.say(&format!("{} follower missed {missed}, by {}", system.name(), by.name()));
    let mut cluster = Cluster::start(system, &lab.base, &by.tuning(missed))?;
    let space = lab::space(&cluster, "sync", 64)?;
    let leader = cluster.leader()?;
    let follower = cluster.nodes.iter().map(|n| n.id).find(|id| *id != leader).context("no follower")?;
    cluster.node(follower)?.kill();
    let others: Vec<_> = cluster.nodes.iter().filter(|n| n.id != follower).map(|n| n.client).collect();
    if missed > 0 {
        let plan = Plan {
            limit: Some(missed),
            warmup: Duration::ZERO,
            ..Plan::closed(&others, Op::Set, 64, 16, Duration::from_secs(120))
        };
        let outcome = lab::drive(system.path(), &plan, &space, &Probe::default())?;
        ensure!(outcome.failed() == 0, "{} of {missed} writes failed", outcome.failed());
    }
    let plan = lab::foreground(&cluster, others, LONGEST + BEFORE);
    let probe = Probe::default();
    let leads_before = lab::counters(&cluster, leader);
    let (outcome, rejoin) = std::thread::scope(|scope| {
        let load = scope.spawn(|| lab::drive(system.path(), &plan, &space, &probe));
        std::thread::sleep(BEFORE);
        let rejoin = rejoin(&mut cluster, leader, follower);
        probe.stop.store(true, Ordering::Relaxed);
        let outcome = load.join().map_err(|_| anyhow::anyhow!("the generator panicked"))?;
        anyhow::Ok((outcome?, rejoin?))
    })?;
    let leads_after = lab::counters(&cluster, leader);
    let grown = |key: &str| Some(leads_after.get(key)? - leads_before.get(key)?);
    let follows = &rejoin.counters;
    let (before, during) = latencies(&outcome, &rejoin);
    Ok(SyncTrial {
        system: system.name().to_owned(),
        by: by.name().to_owned(),
        missed,
        seconds: rejoin.took.as_secs_f64(),
        bytes: received(follows, "bytes").map(|b| b + grown("snapshot_bytes_sent").unwrap_or(0.0)),
        messages: received(follows, "messages"),
        fsyncs: follows.get("log_fsyncs").or_else(|| follows.get("cnt_fsynctime")).copied(),
        snapshots: grown("snapshots_sent"),
        p99_before_ms: before,
        p99_during_ms: during.0,
        gap_ms: during.1,
        failed: outcome.failed(),
    })
}

struct Rejoin {
    at: Instant,
    took: Duration,
    /// The follower's, when it held what was committed at its start.
    counters: BTreeMap<String, f64>,
}

/// What a server received from its peers since its start, whatever they call it: where a protocol's catch-up ends and
/// its broadcast begins is its own affair. What the foreground wrote meanwhile is in it, for every system alike.
fn received(counters: &BTreeMap<String, f64>, unit: &str) -> Option<f64> {
    let suffix = format!("_{unit}_received");
    let of_peers = counters.iter().filter(|(key, _)| key.starts_with("peer_") && key.ends_with(&suffix));
    of_peers.map(|(_, n)| *n).reduce(|a, b| a + b)
}

fn rejoin(cluster: &mut Cluster<'_>, leader: usize, follower: usize) -> Result<Rejoin> {
    let states = cluster.states();
    let goal = states.iter().find(|(id, _)| *id == leader).map(|(_, s)| s.zxid).context("no leader")?;
    let at = Instant::now();
    let node = cluster.node(follower)?;
    node.start()?;
    while srvr(node.client).is_none_or(|s| s.zxid < goal) {
        ensure!(
            at.elapsed() < LONGEST,
            "the follower did not catch up within {LONGEST:?}:\n{}",
            node.log_tail()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    let took = at.elapsed();
    Ok(Rejoin { at, took, counters: lab::counters(cluster, follower) })
}

/// What the foreground felt, in ms: p99 before, and (p99, longest gap) during.
fn latencies(outcome: &Outcome, rejoin: &Rejoin) -> (f64, (f64, f64)) {
    let from = rejoin.at.saturating_duration_since(outcome.started).as_nanos() as u64;
    let to = from + rejoin.took.as_nanos() as u64;
    let (mut before, mut during) = (histogram(), histogram());
    for (done, latency) in outcome.acks.iter().zip(&outcome.ack_latencies) {
        if *done < from {
            before.saturating_record(*latency);
        } else if *done <= to {
            during.saturating_record(*latency);
        }
    }
    let (gap_from, gap_to) = outcome.longest_gap(from, to);
    let ms = |h: &hdrhistogram::Histogram<u64>| h.value_at_percentile(99.0) as f64 / 1e6;
    (ms(&before), (ms(&during), (gap_to - gap_from) as f64 / 1e6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_came_from_peers_is_counted_and_nothing_else() {
        let counters = [
            ("peer_sync_bytes_received", 10.0),
            ("peer_broadcast_bytes_received", 5.0),
            ("peer_sync_messages_received", 2.0),
            ("peer_sync_bytes_sent", 100.0),
            ("packets_received", 7.0),
        ];
        let counters = counters.map(|(key, n)| (key.to_owned(), n)).into();
        assert_eq!(received(&counters, "bytes"), Some(15.0));
        assert_eq!(received(&counters, "messages"), Some(2.0));
        assert_eq!(received(&BTreeMap::new(), "bytes"), None);
    }
}
