//! What a plan leaves open is drawn from its seed: the shape of the cluster, of its network and disks, and of the load.

use crate::schedule::{Switches, Variant};
use crate::{Backend, Plan};
use replog::{Configuration, Limits, NodeId, Rng, Timing};
use std::time::Duration;

const US: u64 = 1_000;

/// A plan without anything left open. Times in ns unless they say otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) configuration: Configuration,
    pub(crate) nodes: usize,
    pub(crate) voters: u32,
    pub(crate) variant: Variant,
    pub(crate) switches: Switches,
    pub(crate) latency: u64,
    pub(crate) jitter: u64,
    pub(crate) fsync: u64,
    pub(crate) fsync_spread: u64,
    /// A snapshot every so many entries.
    pub(crate) snapshot_every: u64,
    pub(crate) drift_per_mille: u32,
    pub(crate) timing: Timing,
    pub(crate) limits: Limits,
    /// The longest election timeout.
    pub(crate) election: u64,
    pub(crate) clients: u32,
    /// Operations a second, all clients together.
    pub(crate) rate: u32,
    pub(crate) session_ms: u32,
    pub(crate) tail: u64,
}

impl Settings {
    pub(crate) fn of(plan: &Plan) -> Self {
        // Every draw is made, also where the plan decides: what one field says must not change the others.
        let mut rng = Rng::new(plan.seed ^ 0x005E_7714_6500_0000);
        let (cluster, load) = (&plan.schedule.cluster, &plan.schedule.workload);
        let voters = draw(cluster.voters, if rng.below(5) < 2 { 5 } else { 3 }).clamp(1, 7);
        let observers = draw(cluster.observers, u32::from(rng.one_in(5))).min(4);
        let variant = draw(cluster.variant, Variant::Hardened);
        let latency = draw(cluster.latency_us, [50, 100, 200, 500, 1000, 2000][rng.below(6) as usize]) * US;
        let jitter = draw(cluster.jitter_us, [0, 20, 100, 1000, 3000][rng.below(5) as usize]) * US;
        let fsync = draw(cluster.fsync_us, [100, 200, 500, 1000, 4000][rng.below(5) as usize]).max(1) * US;
        let snapshots = [40, 150, 500, 2000, 20_000][rng.below(5) as usize];
        let snapshot_every = draw(cluster.snapshot_every, snapshots).max(2);
        let keep_entries = draw(cluster.keep_entries, [0, 10, 100, 1000][rng.below(4) as usize]);
        let drift_per_mille = draw(cluster.drift_per_mille, [0, 0, 1, 10][rng.below(4) as usize]).min(500);
        let clients = draw(load.clients, 2 + rng.below(7) as u32).max(1);
        let rate = draw(load.rate, [30, 60, 100, 150][rng.below(4) as usize]).max(1);
        let session_ms = draw(load.timeout_ms, [1500, 3000, 6000][rng.below(3) as usize]);
        let frame_bytes = [4096, 65_536, 256 << 10][rng.below(3) as usize];
        let switches = cluster.switches.clone();
        let window_commands = draw(switches.window_commands, Limits::default().window_commands);
        let frame_bytes = draw(switches.frame_bytes, frame_bytes);
        let limits = Limits { keep_entries, frame_bytes, window_commands, ..Limits::default() };
        let timing = Timing::default();
        let election = nanos(timing.election_timeout + timing.election_spread);
        let configuration = Configuration::of_voters((1..=voters).map(NodeId))
            .with_observers((voters + 1..=voters + observers).map(NodeId));
        // Zab counts on majorities: a quorum that elected somebody and lost a member cannot go on (see Switches).
        let configuration = match plan.backend {
            Backend::Zab => configuration,
            Backend::Raft | Backend::Paxos => switches.quorums(configuration, voters),
        };
        Self {
            configuration,
            nodes: (voters + observers) as usize,
            voters,
            variant,
            switches,
            latency,
            jitter,
            fsync,
            fsync_spread: fsync / 2,
            snapshot_every,
            drift_per_mille,
            timing,
            limits,
            election,
            clients,
            rate,
            session_ms,
            tail: load.tail_ms * 1_000_000,
        }
    }
}

fn draw<T>(given: Option<T>, drawn: T) -> T {
    given.unwrap_or(drawn)
}

/// A duration in ns.
pub(crate) fn nanos(of: Duration) -> u64 {
    u64::try_from(of.as_nanos()).unwrap_or(u64::MAX)
}
