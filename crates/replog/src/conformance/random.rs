//! One seed, one random run: a safety phase under faults, then everything heals and the cluster must make progress.

use super::{Cluster, ClusterOptions, Crash, NetworkOptions};
use crate::{Index, NodeId, ReadMode, ReplicatedLog};
use std::time::Duration;

/// Sets `limits.keep_entries` of a protocol's options, so that small runs meet snapshots.
pub type KeepEntries<P> = fn(&mut <P as ReplicatedLog>::Options, u64);

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RandomReport {
    /// Entries chosen.
    pub chosen: u64,
    /// Crashes.
    pub crashes: u64,
    /// Cuts of links.
    pub cuts: u64,
    /// Pauses.
    pub pauses: u64,
    /// Messages sent.
    pub messages: u64,
    /// Snapshots installed.
    pub installs: u64,
    /// Reigns.
    pub reigns: u64,
    /// Virtual time.
    pub simulated: Duration,
    /// Virtual time from the last heal to a commit applied everywhere.
    pub recovery: Duration,
}

/// Runs `rounds` random faults with load on 3 or 5 voters (and sometimes an observer), then heals.
///
/// # Panics
/// On any violation, with the story of the last events; the seed reproduces it.
#[must_use]
pub fn random_run<P: ReplicatedLog>(seed: u64, rounds: u32, keep_entries: KeepEntries<P>) -> RandomReport {
    let mut cluster = random_cluster::<P>(seed, keep_entries);
    let mut report = RandomReport::default();
    let start = cluster.now();
    for _ in 0..rounds {
        fault(&mut cluster, &mut report);
        load(&mut cluster);
        let pause = cluster.rng.duration(Duration::from_millis(1), Duration::from_millis(800));
        cluster.run_for(pause);
    }
    recover(&mut cluster, &mut report);
    let counters = cluster.counters();
    report.chosen = cluster.ledger().top().0;
    report.messages = counters.messages();
    report.installs = counters.installs;
    report.reigns = counters.reigns;
    report.simulated = cluster.now().since(start);
    report
}

fn random_cluster<P: ReplicatedLog>(seed: u64, keep_entries: KeepEntries<P>) -> Cluster<P> {
    let mut rng = crate::Rng::new(seed ^ 0x5EED);
    let voters = if rng.one_in(3) { 5 } else { 3 };
    let mut options = ClusterOptions::<P::Options>::new(seed, voters);
    if rng.one_in(3) {
        options.configuration = options.configuration.with_observers([NodeId(voters + 1)]);
    }
    let lossy = rng.one_in(2);
    options.network = NetworkOptions {
        latency: rng.duration(Duration::from_micros(50), Duration::from_millis(2)),
        jitter: if rng.one_in(2) { Duration::from_millis(3) } else { Duration::ZERO },
        loss_per_mille: if lossy { if P::GUARANTEES.fifo_links { 2 } else { 30 } } else { 0 },
        duplicate_per_mille: if lossy { 20 } else { 0 },
    };
    options.fsync_spread = rng.duration(Duration::ZERO, Duration::from_millis(8));
    keep_entries(&mut options.protocol, rng.below(60));
    options.snapshot_every = rng.one_in(2).then(|| 20 + rng.below(100));
    options.frame_bytes = if rng.one_in(3) { 200 } else { 4096 };
    Cluster::new(options)
}

fn load<P: ReplicatedLog>(cluster: &mut Cluster<P>) {
    let n = cluster.rng.below(12);
    cluster.propose(n);
    let live = cluster.live();
    if cluster.rng.one_in(3) && !live.is_empty() {
        let id = live[cluster.rng.below(live.len() as u64) as usize];
        cluster.read(id, ReadMode::Quorum);
    }
}

fn pick<P: ReplicatedLog>(cluster: &mut Cluster<P>) -> NodeId {
    // The leader is the interesting victim: take it half of the time.
    if cluster.rng.one_in(2)
        && let Some(leader) = cluster.leader()
    {
        return leader;
    }
    let nodes = cluster.nodes();
    nodes[cluster.rng.below(nodes.len() as u64) as usize]
}

fn fault<P: ReplicatedLog>(cluster: &mut Cluster<P>, report: &mut RandomReport) {
    let victim = pick(cluster);
    match cluster.rng.below(12) {
        0 | 1 => {
            let kind = if cluster.rng.one_in(2) { Crash::Kill } else { Crash::Power };
            cluster.crash(victim, kind);
            report.crashes += 1;
        }
        2..=4 => {
            let down: Vec<NodeId> =
                cluster.nodes().into_iter().filter(|n| cluster.status(*n).is_none()).collect();
            if !down.is_empty() {
                let id = down[cluster.rng.below(down.len() as u64) as usize];
                cluster.restart(id);
            }
        }
        5 => {
            cluster.isolate(victim);
            report.cuts += 1;
        }
        6 => {
            let other = pick(cluster);
            if other != victim {
                if cluster.rng.one_in(2) {
                    cluster.cut(victim, other);
                } else {
                    cluster.cut_one_way(victim, other);
                }
                report.cuts += 1;
            }
        }
        7 | 8 => cluster.heal(),
        9 => {
            if cluster.status(victim).is_some() {
                cluster.pause(victim);
                report.pauses += 1;
            }
        }
        10 => resume_all(cluster),
        _ => {
            let other = pick(cluster);
            if other != victim {
                cluster.break_link(victim, other);
            }
        }
    }
}

fn resume_all<P: ReplicatedLog>(cluster: &mut Cluster<P>) {
    for id in cluster.nodes() {
        if cluster.hosts[&id].paused && cluster.hosts[&id].replica.is_some() {
            cluster.resume(id);
        }
    }
}

pub(super) fn recover<P: ReplicatedLog>(cluster: &mut Cluster<P>, report: &mut RandomReport) {
    cluster.network.options.loss_per_mille = 0;
    cluster.network.options.duplicate_per_mille = 0;
    cluster.heal();
    resume_all(cluster);
    for id in cluster.nodes() {
        if cluster.status(id).is_none() {
            cluster.restart(id);
        }
    }
    let healed = cluster.now();
    let elected = cluster.run_until(Duration::from_secs(60), |c| c.leader().is_some());
    assert!(
        elected,
        "liveness: no leader 60 s after the last heal, seed {}\n{}",
        cluster.options.seed,
        cluster.story()
    );
    cluster.hosts.values_mut().for_each(|h| h.waiting.clear());
    let before = cluster.ledger().top();
    // A leader may still change hands once after the heal: offer the commands again until one is through.
    let mut committed = false;
    for _ in 0..30 {
        cluster.propose(1);
        committed = cluster.run_until(Duration::from_secs(2), |c| c.ledger().top() > before && converged(c));
        if committed {
            break;
        }
    }
    assert!(
        committed,
        "liveness: not converged 60 s after the last heal, seed {}: {:?}\n{}",
        cluster.options.seed,
        cluster.nodes().iter().map(|n| (*n, cluster.applied(*n), cluster.status(*n))).collect::<Vec<_>>(),
        cluster.story()
    );
    report.recovery = cluster.now().since(healed);
}

/// Whether every node has applied everything that any node has.
pub(crate) fn converged<P: ReplicatedLog>(cluster: &Cluster<P>) -> bool {
    let top: Index = cluster.ledger().top();
    cluster.nodes().iter().all(|n| cluster.applied(*n).index == top)
}
