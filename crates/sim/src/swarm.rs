//! Random schedules: a seed draws a cluster, a load, a set of faults, and 5 to 40 steps.
//!
//! Swarm testing (Groce et al., ISSTA 2012): a seed does not draw from all kinds of fault, it first draws *which* kinds
//! it may use. Runs with few kinds reach states that a mixture of everything never leaves standing. One seed in four
//! is a pair of named schedules instead, one after the other with the first one's fault still there; the seeds go
//! through all pairs (row 43 of the fault matrix).
//!
//! What no protocol survives is not drawn:
//!
//! * data of a majority of voters lost: directories are wiped, replaced or rot on one minority, drawn beforehand;
//! * disks that lie without a trace (a lost last write, an old backup): whoever forgot what it acknowledged may, with
//!   one more node out of reach, elect a leader without it. Rows 27 and 34 show them with nothing else broken.

use crate::schedule::{
    Action, ClusterPlan, CrashKind, Expect, Schedule, Step, Switches, Target, Trigger, Variant, Workload,
};
use replog::Rng;

/// Bound on the recovery after everything healed, Tₑ.
const RECOVERY_TE: f64 = 20.0;
/// The same where commands go one or a few at a time.
const SLOW_RECOVERY_TE: f64 = 120.0;

/// A kind of fault that a seed may or may not use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Crash,
    CrashAtWrite,
    Handover,
    Pause,
    Damage,
    Cut,
    OneWay,
    Groups,
    Flicker,
    Noise,
    SlowDisk,
    FullDisk,
    FailingDisk,
    Clocks,
    Snapshots,
    Clients,
}

const KINDS: [Kind; 16] = [
    Kind::Crash,
    Kind::CrashAtWrite,
    Kind::Handover,
    Kind::Pause,
    Kind::Damage,
    Kind::Cut,
    Kind::OneWay,
    Kind::Groups,
    Kind::Flicker,
    Kind::Noise,
    Kind::SlowDisk,
    Kind::FullDisk,
    Kind::FailingDisk,
    Kind::Clocks,
    Kind::Snapshots,
    Kind::Clients,
];

/// The schedule of a seed.
#[must_use]
pub fn draw(seed: u64) -> Schedule {
    if seed % 4 == 3
        && let Some(pair) = pair(seed / 4)
    {
        return pair;
    }
    Swarm::new(seed).schedule()
}

struct Swarm {
    rng: Rng,
    voters: u32,
    observers: u32,
    /// Voters, a minority, whose data may suffer; observers may always.
    victims: Vec<u32>,
    kinds: Vec<Kind>,
    switches: Switches,
}

impl Swarm {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x7377_6172_6d21);
        let voters = match rng.below(20) {
            0 => 1,
            1..=11 => 3,
            12 => 4,
            13..=18 => 5,
            _ => 7,
        };
        let observers = if rng.one_in(4) { 1 + below(&mut rng, 2) } else { 0 };
        let mut victims: Vec<u32> = (1..=voters).collect();
        while victims.len() > (voters as usize - 1) / 2 {
            let out = rng.below(victims.len() as u64);
            victims.swap_remove(usize::try_from(out).unwrap_or(0));
        }
        victims.extend(voters + 1..=voters + observers);
        let mut kinds: Vec<Kind> = KINDS.into_iter().filter(|_| rng.one_in(2)).collect();
        if kinds.len() < 2 {
            kinds.extend([Kind::Crash, Kind::Groups]);
        }
        let switches = Switches::draw(seed, voters);
        if victims.is_empty() || switches.election_quorum.is_some() {
            kinds.retain(|k| *k != Kind::Damage);
        }
        if kinds.is_empty() {
            kinds.push(Kind::Crash);
        }
        Self { rng, voters, observers, victims, kinds, switches }
    }

    fn schedule(mut self) -> Schedule {
        let cluster = self.cluster();
        let mut workload = Workload {
            clients: Some(2 + below(&mut self.rng, 9)),
            rate: Some(20 + below(&mut self.rng, 120)),
            timeout_ms: Some(4000 + below(&mut self.rng, 8000)),
            tail_ms: 500 + self.rng.below(3000),
        };
        let count = 5 + self.rng.below(36);
        let mut steps = Vec::new();
        for n in 0..count {
            let when = if n == 0 { Trigger::At(2500 + self.rng.below(1000)) } else { self.trigger() };
            let act = if n > 0 && self.rng.below(100) < 35 { self.relief() } else { self.fault() };
            steps.push(Step { when, act: cluster.switches.assumed(act) });
        }
        let recovery = if cluster.switches.is_slow() { SLOW_RECOVERY_TE } else { RECOVERY_TE };
        if cluster.switches.classic == Some(true) {
            // One command at a time: more than this only queues.
            workload.rate = workload.rate.map(|rate| rate.min(40));
        }
        Schedule {
            name: "swarm".to_owned(),
            rows: vec![43],
            about: format!("{:?}", self.kinds),
            exact: false,
            cluster,
            workload,
            steps,
            expect: Expect { commit_within_te: Some(recovery), ..Expect::default() },
        }
    }

    fn cluster(&mut self) -> ClusterPlan {
        let r = &mut self.rng;
        let snapshots = r.one_in(2);
        let switches = self.switches.clone();
        let mut cluster = ClusterPlan {
            voters: Some(self.voters),
            observers: Some(self.observers),
            variant: Some(if r.below(100) < 85 { Variant::Hardened } else { Variant::Textbook }),
            latency_us: Some(50 + r.below(2000)),
            jitter_us: Some(if r.one_in(2) { r.below(3000) } else { 0 }),
            fsync_us: Some(100 + r.below(6000)),
            snapshot_every: snapshots.then(|| 20 + r.below(150)),
            keep_entries: Some(r.below(60)),
            drift_per_mille: Some(if r.one_in(3) { below(r, 100) } else { 0 }),
            switches,
        };
        if cluster.switches.lease == Some(true) {
            cluster.drift_per_mille = cluster.drift_per_mille.map(|d| d.min(Switches::DRIFT));
        }
        cluster
    }

    fn trigger(&mut self) -> Trigger {
        let r = &mut self.rng;
        match r.below(20) {
            0 => Trigger::Leader {},
            1 => Trigger::Electing {},
            2 => Trigger::Committed(1 + r.below(60)),
            3 if r.one_in(3) => Trigger::LagOver(10 + r.below(60)),
            3 if r.one_in(2) => Trigger::SnapshotTaken {},
            3 => Trigger::NoLeader {},
            // Many steps close together, some far apart.
            4..=8 => Trigger::After(r.below(50)),
            9..=14 => Trigger::After(r.below(600)),
            _ => Trigger::After(r.below(3500)),
        }
    }

    fn node(&mut self) -> Target {
        match self.rng.below(12) {
            0..=4 => Target::Leader,
            5 | 6 => Target::Follower,
            7 => Target::BestFollower,
            8 => Target::WorstFollower,
            _ => Target::Any,
        }
    }

    /// Two targets; two times `any` is left to the world, which takes different nodes.
    fn two(&mut self) -> (Target, Target) {
        let a = self.node();
        let b = if a == Target::Leader { Target::Follower } else { Target::Any };
        (a, b)
    }

    fn how(&mut self) -> CrashKind {
        match self.rng.below(3) {
            0 => CrashKind::Kill,
            1 => CrashKind::Power,
            _ => CrashKind::Torn,
        }
    }

    /// A step that mends.
    fn relief(&mut self) -> Action {
        match self.rng.below(10) {
            0..=3 => Action::Restart { node: Target::Down },
            4 => Action::Restart { node: Target::All },
            5 | 6 => Action::Heal {},
            7 => Action::MendDisk { node: Target::All },
            _ => Action::Resume { node: Target::Down },
        }
    }

    fn fault(&mut self) -> Action {
        let at = self.rng.below(self.kinds.len() as u64);
        let kind = usize::try_from(at).ok().and_then(|n| self.kinds.get(n)).copied().unwrap_or(Kind::Crash);
        match kind {
            Kind::Crash | Kind::CrashAtWrite | Kind::Handover | Kind::Pause => self.process_fault(kind),
            Kind::Damage => self.damage(),
            Kind::Cut | Kind::OneWay | Kind::Groups | Kind::Flicker | Kind::Noise => self.network_fault(kind),
            Kind::SlowDisk | Kind::FullDisk | Kind::FailingDisk => self.disk_fault(kind),
            Kind::Clocks | Kind::Snapshots | Kind::Clients => self.other_fault(kind),
        }
    }

    fn process_fault(&mut self, kind: Kind) -> Action {
        let node = self.node();
        let how = self.how();
        match kind {
            Kind::Crash if self.rng.one_in(12) => Action::Crash { node: Target::All, how },
            Kind::Crash => Action::Crash { node, how },
            Kind::CrashAtWrite => Action::CrashAtWrite { node, operations: 1 + self.rng.below(40), how },
            Kind::Handover if self.rng.one_in(2) => Action::Stop { node },
            Kind::Handover => Action::Transfer {},
            _ if self.rng.one_in(4) => {
                let period_ms = 20 + self.rng.below(400);
                Action::Starve { node, ms: 1 + self.rng.below(period_ms - 1), period_ms }
            }
            _ => Action::Pause { node },
        }
    }

    fn damage(&mut self) -> Action {
        let at = self.rng.below(self.victims.len() as u64);
        let id = usize::try_from(at).ok().and_then(|n| self.victims.get(n)).copied().unwrap_or(1);
        let node = Target::Node(id);
        match self.rng.below(6) {
            0 => Action::Wipe { node },
            1..=3 => Action::RotLog { node },
            _ => Action::RotSnapshot { node, all: self.rng.one_in(3) },
        }
    }

    fn network_fault(&mut self, kind: Kind) -> Action {
        let node = self.node();
        let (a, b) = self.two();
        let r = &mut self.rng;
        match kind {
            Kind::Cut => Action::Cut { a, b },
            Kind::OneWay => match r.below(3) {
                0 => Action::CutOneWay { from: a, to: b },
                1 => Action::Deafen { node },
                _ => Action::Mute { node },
            },
            Kind::Groups => match r.below(4) {
                0 if self.voters >= 3 => Action::Split { with_leader: below(r, self.voters - 1) },
                1 if self.voters >= 3 => Action::HubOnly { hub: node },
                _ => Action::Isolate { node },
            },
            Kind::Flicker => match r.below(5) {
                0 => Action::Flap { a, b, period_ms: 50 + r.below(900) },
                1 => Action::Swizzle { gap_ms: 20 + r.below(400) },
                2 => Action::CorruptFrame { a, b },
                _ => Action::BreakLink { a, b },
            },
            _ if r.one_in(2) => Action::Noise {
                loss: if r.one_in(2) { below(r, 150) } else { 0 },
                duplicate: below(r, 150),
                reorder: below(r, 150),
            },
            _ => Action::Slow {
                latency_ms: r.below(120),
                jitter_ms: if r.one_in(2) { r.below(300) } else { 0 },
                bytes_per_second: if r.one_in(2) { 100_000 + r.below(2_000_000) } else { 0 },
            },
        }
    }

    fn disk_fault(&mut self, kind: Kind) -> Action {
        let node = if self.rng.one_in(8) { Target::All } else { self.node() };
        let r = &mut self.rng;
        match kind {
            Kind::SlowDisk if r.one_in(2) => Action::SlowDisk { node, factor: 2 + r.below(300) },
            Kind::SlowDisk => Action::StallDisk { node, ms: 100 + r.below(8000) },
            Kind::FullDisk => Action::FillDisk { node, room: r.below(100_000) },
            _ => Action::FailFsync { node: self.node() },
        }
    }

    fn other_fault(&mut self, kind: Kind) -> Action {
        let node = self.node();
        let r = &mut self.rng;
        match kind {
            Kind::Clocks if r.one_in(2) => {
                let ms = i64::try_from(r.below(7_200_000)).unwrap_or(0) - 3_600_000;
                Action::ClockJump { node, ms }
            }
            Kind::Clocks => Action::ClockRate { node, per_mille: 900 + below(r, 201) },
            Kind::Snapshots => Action::Snapshot { node },
            _ => match r.below(8) {
                0..=3 => Action::DropClients { count: 1 + below(r, 6) },
                4 | 5 => Action::StopClients { count: 1 + below(r, 3), ms: 200 + r.below(12_000) },
                6 => Action::SlowReaders { count: 1 + below(r, 3), ms: 200 + r.below(4000) },
                _ => Action::KillClients { count: 1 },
            },
        }
    }
}

fn below(rng: &mut Rng, n: u32) -> u32 {
    u32::try_from(rng.below(n.into())).unwrap_or(0)
}

/// The n-th pair of named schedules, one after the other.
fn pair(n: u64) -> Option<Schedule> {
    let fit: Vec<Schedule> = Schedule::named().ok()?.into_iter().filter(|s| !forgets(s)).collect();
    let count = fit.len() as u64;
    // Neighbours in `n` differ in both partners, so that a few hundred seeds already mix all rows.
    let (a, b) = (n % count, (n / count + n) % count);
    let first = fit.get(usize::try_from(a).ok()?)?;
    let second = fit.get(usize::try_from(b).ok()?)?.clone().perturbed(n + 1);
    if damages(first) && damages(&second) {
        return None;
    }
    let mut both = first.clone().perturbed(n + 1);
    let (c, d) = (&mut both.cluster, second.cluster);
    c.voters = c.voters.max(d.voters);
    c.fsync_us = c.fsync_us.or(d.fsync_us);
    c.snapshot_every = c.snapshot_every.or(d.snapshot_every);
    c.keep_entries = c.keep_entries.or(d.keep_entries);
    both.workload.clients = both.workload.clients.max(second.workload.clients);
    both.workload.tail_ms = 3000;
    let mut rng = Rng::new(n ^ 0x7061_6972);
    for (place, mut step) in second.steps.into_iter().enumerate() {
        if place == 0 {
            step.when = Trigger::After(rng.below(2500));
        }
        both.steps.push(step);
    }
    both.name = "swarm".to_owned();
    both.about = format!("{} and {}", first.name, second.name);
    both.rows = vec![43];
    both.expect = Expect { commit_within_te: Some(RECOVERY_TE), ..Expect::default() };
    both.check().is_ok().then_some(both)
}

/// Whether a schedule makes a node forget without a trace, or damages a majority.
fn forgets(s: &Schedule) -> bool {
    s.steps.iter().any(|step| {
        matches!(
            step.act,
            Action::Misdirect { .. }
                | Action::LoseWrite { .. }
                | Action::RestoreBackup { .. }
                | Action::RotMajority {}
        )
    })
}

/// Whether a schedule damages data.
fn damages(s: &Schedule) -> bool {
    s.steps.iter().any(|step| {
        matches!(
            step.act,
            Action::Wipe { .. }
                | Action::CloneFrom { .. }
                | Action::RotLog { .. }
                | Action::RotSnapshot { .. }
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn every_seed_draws_a_sound_schedule() {
        let mut actions: BTreeMap<&str, u32> = BTreeMap::new();
        for seed in 0..2000 {
            let s = draw(seed);
            assert_eq!(s.check(), Ok(()), "seed {seed}: {s}");
            assert_eq!(s, draw(seed));
            assert!(!forgets(&s), "seed {seed}");
            for step in &s.steps {
                *actions.entry(step.act.name()).or_default() += 1;
            }
        }
        // All 43 but the four that no protocol survives, and backups, which only restoring makes interesting.
        assert_eq!(actions.len(), 43 - 5, "{actions:?}");
    }

    #[test]
    fn data_suffers_on_a_minority_only() {
        for seed in 0..4000 {
            let s = draw(seed);
            let voters = s.cluster.voters.unwrap_or(3);
            let mut hurt = BTreeSet::new();
            for step in &s.steps {
                if let Action::Wipe { node } | Action::RotLog { node } | Action::RotSnapshot { node, .. } =
                    step.act
                    && !s.about.contains(" and ")
                {
                    let Target::Node(id) = node else { panic!("seed {seed}: {node:?}") };
                    if id <= voters {
                        hurt.insert(id);
                    }
                }
            }
            assert!(hurt.len() * 2 < voters as usize, "seed {seed}: {hurt:?} of {voters}");
        }
    }

    #[test]
    fn pairs_go_through_all_schedules() {
        let about: BTreeSet<String> = (0..2000).map(|n| draw(n * 4 + 3).about).collect();
        let whole = about.iter().filter(|a| a.contains(" and ")).count();
        assert!(whole > 1500, "{whole} different pairs");
    }
}
