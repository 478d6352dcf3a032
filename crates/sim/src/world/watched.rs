//! The white-box checks under crashes and cuts: many small runs without clients, only to watch the cores.

use super::{Simulated, World};
use crate::schedule::{ClusterPlan, CrashKind, Schedule, Variant, Workload};
use crate::{Backend, Plan, Violation};
use bytes::Bytes;
use replog::Rng;

fn plan(backend: Backend, seed: u64) -> Plan {
    let variant = if seed % 3 == 2 { Variant::Textbook } else { Variant::Hardened };
    let schedule = Schedule {
        name: "watched".to_owned(),
        rows: Vec::new(),
        about: String::new(),
        exact: false,
        cluster: ClusterPlan { variant: Some(variant), ..ClusterPlan::default() },
        workload: Workload::default(),
        steps: Vec::new(),
        expect: crate::schedule::Expect::default(),
    };
    Plan { backend, seed, schedule }
}

/// Per backend. More were run by hand: 80 of each, clean.
const SEEDS: u64 = 6;

/// Nodes that are down start, cuts end.
fn heal<P: Simulated>(world: &mut World<'_, P>) {
    for i in 0..world.hosts.len() {
        world.start(i);
    }
    for (a, b) in world.net.cuts() {
        world.net.set_cut(a, b, false);
    }
}

/// One fault or repair.
fn disturb<P: Simulated>(world: &mut World<'_, P>, chance: &mut Rng) {
    let count = world.hosts.len();
    let node = |chance: &mut Rng| chance.below(count as u64) as usize;
    match chance.below(8) {
        0 | 1 => {
            let kinds = [CrashKind::Kill, CrashKind::Power, CrashKind::Torn];
            let how = kinds[chance.below(3) as usize];
            let i = node(chance);
            world.crash(i, how);
        }
        2 | 3 => {
            for i in 0..count {
                world.start(i);
            }
        }
        4 | 5 => {
            let (a, b) = (node(chance), node(chance));
            let both = chance.one_in(2);
            world.net.set_cut(a, b, a != b);
            world.net.set_cut(b, a, a != b && both);
        }
        6 => heal(world),
        _ => {
            let (a, b) = (node(chance), node(chance));
            if a != b {
                world.break_link(a, b);
            }
        }
    }
}

/// 20 s under faults, then 20 s of rest, a load on whoever leads; entries applied, and the first violation.
fn torture<P: Simulated>(plan: &Plan) -> (u64, Option<Violation>) {
    let mut world = World::<P>::new(plan, None);
    let mut chance = Rng::new(plan.seed ^ 0x7047_7572);
    for number in 0..800_u64 {
        let until = world.now + 50_000_000;
        while world.advance(until) {}
        if world.violation.is_some() {
            break;
        }
        if number >= 400 {
            heal(&mut world);
        } else if chance.one_in(6) {
            disturb(&mut world, &mut chance);
        }
        // An old leader that does not know it yet is given commands too.
        for i in 0..world.hosts.len() {
            if let Some(process) = &world.hosts[i].process {
                let command = |n: u64| Bytes::copy_from_slice(&(number * 8 + n).to_be_bytes());
                process.handle.propose((0..chance.below(4)).map(command).collect());
                world.poke(i);
            }
        }
    }
    (world.ledger.top(), world.violation)
}

fn run(backend: Backend, seed: u64) -> (u64, Option<Violation>) {
    let plan = plan(backend, seed);
    match backend {
        Backend::Zab => torture::<zab::Zab>(&plan),
        Backend::Raft => torture::<raft::Raft>(&plan),
        Backend::Paxos => torture::<paxos::Paxos>(&plan),
    }
}

// requirement: S28
#[test]
fn the_checks_find_nothing_in_sound_cores() {
    let mut found = Vec::new();
    for backend in Backend::ALL {
        let mut applied = 0;
        for seed in 0..SEEDS {
            let (top, violation) = run(backend, seed);
            applied += top;
            found.extend(violation.map(|v| {
                format!("{} seed {seed}: {} at {}: {}", backend.name(), v.checker, v.at_us, v.text)
            }));
        }
        assert!(applied > 300 * SEEDS, "{}: {applied} entries", backend.name());
    }
    assert!(found.is_empty(), "{} of {}:\n{}", found.len(), 3 * SEEDS, found.join("\n"));
}
