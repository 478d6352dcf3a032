//! The scenarios that every backend passes. Each is a function over the protocol; [`conformance_suite!`] makes
//! tests of them.

use super::random::converged;
use super::{Cluster, ClusterOptions, Crash, KeepEntries};
use crate::{Index, NodeId, Phase, ReadMode, ReplicatedLog, Role};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(20);

fn three<P: ReplicatedLog>(seed: u64) -> Cluster<P> {
    Cluster::new(ClusterOptions::new(seed, 3))
}

fn await_leader<P: ReplicatedLog>(c: &mut Cluster<P>) -> NodeId {
    assert!(c.run_until(LONG, |c| c.leader().is_some()), "no leader\n{}", c.story());
    c.leader().expect("just found")
}

/// Commits `n` commands and waits until every live, connected node of `on` has applied them.
fn commit_on<P: ReplicatedLog>(c: &mut Cluster<P>, n: u64, on: &[NodeId]) {
    let leader = await_leader(c);
    let before = c.state(leader).commands;
    c.propose_to(leader, n);
    let on = on.to_vec();
    let done = c.run_until(LONG, |c| on.iter().all(|id| c.state(*id).commands >= before + n));
    assert!(done, "{n} commands were not applied on {on:?}\n{}", c.story());
}

fn commit<P: ReplicatedLog>(c: &mut Cluster<P>, n: u64) {
    let live = c.live();
    commit_on(c, n, &live);
}

fn await_convergence<P: ReplicatedLog>(c: &mut Cluster<P>) {
    assert!(c.run_until(LONG, converged), "not converged\n{}", c.story());
}

fn others<P: ReplicatedLog>(c: &Cluster<P>, id: NodeId) -> Vec<NodeId> {
    c.nodes().into_iter().filter(|n| *n != id).collect()
}

/// One leader, followers that know it, in ensembles of 1, 2, 3, 5 and 7.
pub fn elects_one_leader<P: ReplicatedLog>() {
    for voters in [1, 2, 3, 5, 7] {
        for seed in 0..5 {
            let mut c = Cluster::<P>::new(ClusterOptions::new(seed, voters));
            let leader = await_leader(&mut c);
            let settled = c.run_until(LONG, |c| {
                c.nodes().iter().all(|n| {
                    c.status(*n).is_some_and(|s| s.leader == Some(leader) && s.phase == Phase::Broadcast)
                })
            });
            assert!(settled, "not everybody follows {leader}\n{}", c.story());
        }
    }
}

/// Commands commit in the order in which they were proposed and are applied everywhere.
pub fn commits_in_order<P: ReplicatedLog>() {
    let mut c = three::<P>(1);
    for n in [1, 1, 10, 100, 1000] {
        commit(&mut c, n);
    }
    let commands: Vec<u64> = c
        .ledger()
        .entries()
        .filter_map(|e| match &e.body {
            crate::Body::Command(b) => Some(u64::from_be_bytes(b[..8].try_into().expect("8 bytes"))),
            _ => None,
        })
        .collect();
    assert_eq!(commands, (1..=1112).collect::<Vec<_>>());
}

/// A steady cluster keeps its leader: idle for ten minutes, then under load.
pub fn never_elects_without_a_cause<P: ReplicatedLog>() {
    let mut c = three::<P>(2);
    commit(&mut c, 1);
    let reigns = c.counters().reigns;
    c.run_for(Duration::from_secs(600));
    for _ in 0..100 {
        commit(&mut c, 50);
    }
    assert_eq!(c.counters().reigns, reigns, "{}", c.story());
}

/// The leader dies in each way; the others elect and lose nothing; it comes back and catches up.
pub fn survives_leader_crashes<P: ReplicatedLog>() {
    for seed in 0..10 {
        let mut c = three::<P>(seed);
        commit(&mut c, 10);
        for crash in [Crash::Kill, Crash::Power] {
            let old = await_leader(&mut c);
            c.propose_to(old, 5); // may or may not survive
            c.crash(old, crash);
            let rest = others(&c, old);
            commit_on(&mut c, 10, &rest);
            assert_ne!(c.leader(), Some(old));
            c.restart(old);
            commit(&mut c, 1);
            await_convergence(&mut c);
        }
    }
}

/// Every node dies at once and every acknowledged entry is still there afterwards.
pub fn survives_power_loss_of_all<P: ReplicatedLog>() {
    for seed in 0..10 {
        let mut c = three::<P>(seed);
        commit(&mut c, 20);
        c.propose(7);
        for id in c.nodes() {
            c.crash(id, Crash::Power);
        }
        for id in c.nodes() {
            c.restart(id);
        }
        commit(&mut c, 1);
        await_convergence(&mut c);
    }
}

/// A cut-off leader commits nothing, stops leading by itself, and follows after the heal.
pub fn a_minority_leader_steps_down<P: ReplicatedLog>() {
    let mut c = three::<P>(3);
    commit(&mut c, 5);
    let old = await_leader(&mut c);
    let applied = c.applied(old);
    c.isolate(old);
    c.propose_to(old, 5);
    let rest = others(&c, old);
    let moved = c.run_until(LONG, |c| {
        rest.iter()
            .any(|n| c.status(*n).is_some_and(|s| s.role == Role::Leader && s.phase == Phase::Broadcast))
    });
    assert!(moved, "the majority elects\n{}", c.story());
    let stepped = c.run_until(LONG, |c| c.status(old).is_some_and(|s| s.role != Role::Leader));
    assert!(stepped, "the minority leader learns that it has no quorum\n{}", c.story());
    assert_eq!(c.applied(old), applied, "and committed nothing meanwhile");
    commit_on(&mut c, 5, &rest);
    c.heal();
    commit(&mut c, 1);
    await_convergence(&mut c);
}

/// Uncommitted entries of deposed leaders disappear, or are chosen, but never differ.
pub fn diverged_logs_agree_again<P: ReplicatedLog>() {
    for seed in 0..10 {
        let mut c = Cluster::<P>::new(ClusterOptions::new(seed, 5));
        commit(&mut c, 3);
        for _ in 0..4 {
            let old = await_leader(&mut c);
            c.isolate(old);
            c.propose_to(old, 20);
            c.run_for(Duration::from_millis(5));
            let rest = others(&c, old);
            assert!(
                c.run_until(LONG, |c| c.leader().is_some_and(|l| l != old)),
                "no new leader\n{}",
                c.story()
            );
            commit_on(&mut c, 10, &rest);
            c.heal();
            c.run_for(Duration::from_millis(c.rng.clone().below(50)));
        }
        commit(&mut c, 1);
        await_convergence(&mut c);
    }
}

/// A follower that missed entries catches up from the log.
pub fn catches_up_by_log<P: ReplicatedLog>() {
    for missed in [1, 10, 1000, 5000] {
        let mut c = three::<P>(missed);
        commit(&mut c, 1);
        let leader = await_leader(&mut c);
        let lagging = others(&c, leader)[0];
        c.crash(lagging, Crash::Kill);
        let live = c.live();
        for _ in 0..missed.div_ceil(1000) {
            commit_on(&mut c, missed.min(1000), &live);
        }
        c.restart(lagging);
        await_convergence(&mut c);
        assert_eq!(c.counters().installs, 0, "by log, not by snapshot");
    }
}

/// A follower that missed what was purged catches up by snapshot, then by log; and so does a wiped one.
pub fn catches_up_by_snapshot<P: ReplicatedLog>(keep_entries: KeepEntries<P>) {
    for wiped in [false, true] {
        let mut options = ClusterOptions::<P::Options>::new(7, 3);
        keep_entries(&mut options.protocol, 10);
        options.snapshot_every = Some(100);
        let mut c = Cluster::<P>::new(options);
        commit(&mut c, 1);
        let leader = await_leader(&mut c);
        let lagging = others(&c, leader)[0];
        c.crash(lagging, Crash::Kill);
        let live = c.live();
        for _ in 0..10 {
            commit_on(&mut c, 97, &live);
        }
        if wiped {
            c.restart_wiped(lagging);
        } else {
            c.restart(lagging);
        }
        await_convergence(&mut c);
        assert_eq!(c.counters().installs, 1, "at most one full install per rejoin\n{}", c.story());
        commit(&mut c, 10);
        c.crash(lagging, Crash::Power);
        c.restart(lagging);
        commit(&mut c, 10);
        await_convergence(&mut c);
    }
}

/// A node restarts from every durable prefix of its write stream, in the middle of load and elections.
pub fn restarts_from_every_durable_prefix<P: ReplicatedLog>() {
    for more in 0..6 {
        for seed in 0..6 {
            let mut c = three::<P>(seed);
            c.options.fsync = Duration::from_millis(3); // so that several writes wait for one sync
            commit(&mut c, 5);
            for _ in 0..6 {
                let victim = NodeId(1 + (c.rng.below(3)) as u32);
                c.propose(8);
                let pause = Duration::from_micros(c.rng.below(6000));
                c.run_for(pause);
                c.crash_keeping(victim, more);
                c.run_for(pause);
                c.restart(victim);
                c.run_for(Duration::from_millis(1 + seed * 7));
            }
            commit(&mut c, 1);
            await_convergence(&mut c);
        }
    }
}

/// Observers replicate, never count in a quorum, and their loss is not noticed.
pub fn observers_replicate_and_never_count<P: ReplicatedLog>() {
    let mut options = ClusterOptions::<P::Options>::new(5, 3);
    let observers = [NodeId(4), NodeId(5)];
    options.configuration = options.configuration.with_observers(observers);
    let mut c = Cluster::<P>::new(options);
    commit(&mut c, 10);
    assert!(observers.iter().all(|o| c.status(*o).is_some_and(|s| s.role == Role::Observer)));
    let leader = await_leader(&mut c);
    let reigns = c.counters().reigns;
    observers.iter().for_each(|o| c.crash(*o, Crash::Kill));
    commit(&mut c, 10);
    assert_eq!(c.counters().reigns, reigns);
    observers.iter().for_each(|o| c.restart(*o));
    commit(&mut c, 1);
    // With one voter left, two observers do not make a quorum.
    for id in others(&c, leader) {
        if !observers.contains(&id) {
            c.crash(id, Crash::Kill);
        }
    }
    let top = c.ledger().top();
    c.propose_to(leader, 1);
    c.run_for(Duration::from_secs(10));
    assert_eq!(c.ledger().top(), top, "observers counted\n{}", c.story());
}

/// Leadership moves on request without losing a command, faster than by a timeout.
pub fn transfers_leadership<P: ReplicatedLog>() {
    for seed in 0..10 {
        let mut c = three::<P>(seed);
        commit(&mut c, 10);
        let old = await_leader(&mut c);
        let target = others(&c, old)[(seed % 2) as usize];
        c.run_for(Duration::from_millis(50));
        c.transfer(old, Some(target));
        let moved = c.run_until(LONG, |c| c.leader() == Some(target));
        assert!(moved, "leadership did not move to {target}\n{}", c.story());
        commit(&mut c, 10);
        await_convergence(&mut c);
    }
}

/// Barriers on every replica cover what was applied anywhere before (the cluster checks); a cut-off one gets none.
pub fn read_barriers_are_fresh<P: ReplicatedLog>() {
    let mut c = three::<P>(4);
    commit(&mut c, 10);
    for round in 0..20 {
        c.propose(round % 5);
        let asked: Vec<(NodeId, u64)> =
            c.nodes().into_iter().map(|n| (n, c.read(n, ReadMode::Quorum))).collect();
        let all =
            c.run_until(LONG, |c| asked.iter().all(|(n, t)| c.passed(*n, *t).is_some() || c.refused(*n, *t)));
        assert!(all, "barriers were not answered\n{}", c.story());
        assert!(
            asked.iter().all(|(n, t)| c.passed(*n, *t).is_some()),
            "refused in a steady cluster\n{}",
            c.story()
        );
    }
    let old = await_leader(&mut c);
    c.isolate(old);
    let token = c.read(old, ReadMode::Quorum);
    c.run_for(Duration::from_secs(10));
    assert_eq!(c.passed(old, token), None, "a cut-off leader served a barrier");
}

/// A frozen leader is replaced; when it wakes up it neither commits nor serves before it knows better.
pub fn a_frozen_leader_is_replaced<P: ReplicatedLog>() {
    for seed in 0..10 {
        let mut c = three::<P>(seed);
        commit(&mut c, 5);
        let old = await_leader(&mut c);
        c.pause(old);
        let rest = others(&c, old);
        commit_on(&mut c, 5, &rest);
        c.propose_to(old, 3);
        c.read(old, ReadMode::Quorum);
        c.resume(old);
        commit(&mut c, 1);
        await_convergence(&mut c);
    }
}

/// Two of five nodes fail at a time, again and again.
pub fn five_nodes_survive_two_failures<P: ReplicatedLog>() {
    for seed in 0..5 {
        let mut c = Cluster::<P>::new(ClusterOptions::new(seed, 5));
        for round in 0..6 {
            commit(&mut c, 5);
            let down = [NodeId(1 + round % 5), NodeId(1 + (round + 2) % 5)];
            down.iter().for_each(|n| c.crash(*n, if round % 2 == 0 { Crash::Kill } else { Crash::Power }));
            let live = c.live();
            commit_on(&mut c, 5, &live);
            down.iter().for_each(|n| c.restart(*n));
        }
        commit(&mut c, 1);
        await_convergence(&mut c);
    }
}

/// Nothing commits without a quorum, and service resumes after the heal.
pub fn no_quorum_no_commit<P: ReplicatedLog>() {
    let mut c = Cluster::<P>::new(ClusterOptions::new(9, 4));
    commit(&mut c, 3);
    c.partition(&[&[NodeId(1), NodeId(2)], &[NodeId(3), NodeId(4)]]);
    c.run_for(Duration::from_millis(10));
    let top = c.ledger().top();
    for id in c.nodes() {
        c.propose_to(id, 2);
    }
    c.run_for(Duration::from_secs(10));
    assert_eq!(c.ledger().top(), top, "two of four committed\n{}", c.story());
    c.hosts.values_mut().for_each(|h| h.waiting.clear());
    c.heal();
    commit(&mut c, 1);
    await_convergence(&mut c);
}

/// Large and many entries pass in frames that the driver cuts, at any frame size.
pub fn frames_are_cut_and_continued<P: ReplicatedLog>() {
    for frame_bytes in [1, 100, 5000] {
        let mut options = ClusterOptions::<P::Options>::new(frame_bytes, 3);
        options.frame_bytes = frame_bytes;
        let mut c = Cluster::<P>::new(options);
        commit(&mut c, 50);
        let leader = await_leader(&mut c);
        let lagging = others(&c, leader)[1];
        c.crash(lagging, Crash::Kill);
        c.propose_sized(60, 300);
        let top = c.ledger().top();
        assert!(c.run_until(LONG, |c| c.ledger().top() >= Index(top.0 + 60)), "{}", c.story());
        c.restart(lagging);
        await_convergence(&mut c);
    }
}

/// `seeds` random runs.
pub fn random_runs<P: ReplicatedLog>(
    seeds: core::ops::Range<u64>,
    rounds: u32,
    keep_entries: KeepEntries<P>,
) {
    for seed in seeds {
        let _ = super::random_run::<P>(seed, rounds, keep_entries);
    }
}

/// `seeds` random runs whose faults come together.
pub fn storm_runs<P: ReplicatedLog>(seeds: core::ops::Range<u64>, rounds: u32, keep_entries: KeepEntries<P>) {
    for seed in seeds {
        let _ = super::storm_run::<P>(seed, rounds, keep_entries);
    }
}

/// Makes a test of every scenario for a backend: `conformance_suite!(zab::Zab);`. The backend's options have a
/// field `limits: Limits`.
#[macro_export]
macro_rules! conformance_suite {
    ($protocol:ty) => {
        $crate::conformance_suite!(@each $protocol;
            elects_one_leader, commits_in_order, never_elects_without_a_cause, survives_leader_crashes,
            survives_power_loss_of_all, a_minority_leader_steps_down, diverged_logs_agree_again, catches_up_by_log,
            restarts_from_every_durable_prefix, observers_replicate_and_never_count, transfers_leadership,
            read_barriers_are_fresh, a_frozen_leader_is_replaced, five_nodes_survive_two_failures,
            no_quorum_no_commit, frames_are_cut_and_continued);

        #[test]
        fn catches_up_by_snapshot() {
            $crate::conformance::catches_up_by_snapshot::<$protocol>(|o, keep| o.limits.keep_entries = keep);
        }

        #[test]
        fn random_runs() {
            $crate::conformance::random_runs::<$protocol>(0..60, 40, |o, keep| o.limits.keep_entries = keep);
        }

        #[test]
        fn storm_runs() {
            $crate::conformance::storm_runs::<$protocol>(0..40, 8, |o, keep| o.limits.keep_entries = keep);
        }
    };
    (@each $protocol:ty; $($name:ident),*) => {
        $(#[test]
        fn $name() {
            $crate::conformance::$name::<$protocol>();
        })*
    };
}
