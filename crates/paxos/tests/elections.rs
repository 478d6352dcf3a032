//! Elections: with a cause they are quick, without one there are none, whatever part of the network is missing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // helpers of tests

use paxos::{Options, Paxos};
use replog::conformance::{Cluster, ClusterOptions, Crash};
use replog::{Index, NodeId, Phase, Role};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(30);

fn cluster(seed: u64, voters: u32) -> Cluster<Paxos> {
    Cluster::new(ClusterOptions::new(seed, voters))
}

fn lead(c: &mut Cluster<Paxos>) -> NodeId {
    assert!(c.run_until(LONG, |c| c.leader().is_some()), "{}", c.story());
    c.leader().unwrap()
}

fn commit(c: &mut Cluster<Paxos>, n: u64) -> bool {
    let top = c.ledger().top();
    c.propose(n);
    c.run_until(Duration::from_secs(5), |c| c.ledger().top() >= Index(top.0 + n))
}

fn others(c: &Cluster<Paxos>, id: NodeId) -> Vec<NodeId> {
    c.nodes().into_iter().filter(|n| *n != id).collect()
}

/// Cuts all links but those of `hub`: it must lead, and commit.
fn hub_leads(c: &mut Cluster<Paxos>, hub: NodeId) {
    for a in others(c, hub) {
        for b in others(c, hub).into_iter().filter(|b| a < *b) {
            c.cut(a, b);
        }
    }
    let moved = c.run_until(Duration::from_secs(10), |c| c.leader() == Some(hub));
    assert!(moved, "{}", c.story());
    assert!(commit(c, 3), "{}", c.story());
}

/// From a fault to the next commit.
fn outage(c: &mut Cluster<Paxos>, old: NodeId) -> Duration {
    let start = c.now();
    let moved = c.run_until(LONG, |c| c.leader().is_some_and(|l| l != old));
    assert!(moved, "{}", c.story());
    assert!(commit(c, 1), "{}", c.story());
    c.now().since(start)
}

/// A started cluster serves within a quarter of a second.
#[test]
fn a_cluster_starts_quickly() {
    for seed in 0..20 {
        let mut c = cluster(seed, 3);
        let start = c.now();
        lead(&mut c);
        assert!(c.now().since(start) < Duration::from_millis(250), "{}", c.story());
    }
}

/// A killed leader resets its connections: the outage is the random wait and two rounds, within 200 ms.
#[test]
fn a_killed_leader_is_replaced_within_200_ms() {
    let mut worst = Duration::ZERO;
    for seed in 0..40 {
        let mut c = cluster(seed, 3);
        let old = lead(&mut c);
        assert!(commit(&mut c, 5));
        c.run_for(Duration::from_millis(seed * 7));
        c.crash(old, Crash::Kill);
        worst = worst.max(outage(&mut c, old));
    }
    assert!(worst < Duration::from_millis(200), "{worst:?}");
}

/// A frozen leader keeps its connections: it is missed after the election timeout, within 2.5 s.
#[test]
fn a_frozen_leader_is_replaced_within_2500_ms() {
    for seed in 0..20 {
        let mut c = cluster(seed, 3);
        let old = lead(&mut c);
        assert!(commit(&mut c, 5));
        c.pause(old);
        let took = outage(&mut c, old);
        assert!(took < Duration::from_millis(2500), "{took:?}\n{}", c.story());
    }
}

/// Who was cut off for a minute comes back without deposing anybody, its ballot not raised.
#[test]
fn a_returning_voter_disturbs_nobody() {
    for seed in 0..10 {
        let mut c = cluster(seed, 3);
        let leader = lead(&mut c);
        assert!(commit(&mut c, 3));
        let lost = others(&c, leader)[(seed % 2) as usize];
        let (reigns, epoch) = (c.counters().reigns, c.status(leader).unwrap().epoch);
        c.isolate(lost);
        c.run_for(Duration::from_secs(60));
        assert!(commit(&mut c, 3));
        c.heal();
        assert!(c.run_until(LONG, |c| c.applied(lost).index == c.ledger().top()), "{}", c.story());
        c.run_for(Duration::from_secs(5));
        assert_eq!((c.counters().reigns, c.leader()), (reigns, Some(leader)), "{}", c.story());
        assert_eq!(c.status(lost).unwrap().epoch, epoch);
    }
}

/// The textbook protocol has no such manners: the same schedule costs a reign.
#[test]
fn the_textbook_protocol_is_disturbed() {
    let mut o = ClusterOptions::new(1, 3);
    o.protocol = Options::textbook();
    let mut c = Cluster::<Paxos>::new(o);
    let leader = lead(&mut c);
    let reigns = c.counters().reigns;
    let lost = others(&c, leader)[0];
    c.isolate(lost);
    c.run_for(Duration::from_secs(60));
    c.heal();
    c.run_for(Duration::from_secs(10));
    lead(&mut c);
    assert!(c.counters().reigns > reigns);
}

/// Chained: 1-2-3 with the ends apart. The leader at one end keeps its quorum, the other end does not depose it.
#[test]
fn a_chain_keeps_its_leader() {
    for seed in 0..10 {
        let mut c = cluster(seed, 3);
        let leader = lead(&mut c);
        assert!(commit(&mut c, 3));
        let far = others(&c, leader)[1];
        let reigns = c.counters().reigns;
        c.cut(leader, far);
        for _ in 0..30 {
            assert!(commit(&mut c, 1), "{}", c.story());
            c.run_for(Duration::from_secs(1));
        }
        assert_eq!(c.counters().reigns, reigns, "{}", c.story());
    }
}

/// Quorum loss: everybody is connected to the hub only, and the leader is not the hub. It must hand the reign to the hub,
/// although its heartbeats still reach it.
#[test]
fn the_hub_takes_over_when_only_it_has_a_quorum() {
    for seed in 0..10 {
        let mut c = cluster(seed, 5);
        let leader = lead(&mut c);
        assert!(commit(&mut c, 3));
        let hub = others(&c, leader)[0];
        hub_leads(&mut c, hub);
    }
}

/// Constrained election: the hub lags behind. It leads nevertheless, and catches up first.
#[test]
fn a_lagging_hub_can_lead() {
    for seed in 0..10 {
        let mut c = cluster(seed, 5);
        let leader = lead(&mut c);
        let hub = others(&c, leader)[2];
        c.isolate(hub);
        assert!(commit(&mut c, 200));
        c.heal();
        hub_leads(&mut c, hub);
    }
}

/// One direction of the link between leader and follower is gone: the reign stays or moves once, and commits go on.
#[test]
fn a_one_way_cut_does_not_livelock() {
    for seed in 0..10 {
        for outward in [false, true] {
            let mut c = cluster(seed, 3);
            let leader = lead(&mut c);
            assert!(commit(&mut c, 1));
            let other = others(&c, leader)[0];
            let reigns = c.counters().reigns;
            if outward {
                c.cut_one_way(leader, other)
            } else {
                c.cut_one_way(other, leader)
            }
            for _ in 0..20 {
                lead(&mut c);
                assert!(commit(&mut c, 1), "{}", c.story());
                c.run_for(Duration::from_secs(1));
            }
            assert!(c.counters().reigns <= reigns + 1, "{}", c.story());
        }
    }
}

/// A leader that is handed over costs no timeout.
#[test]
fn a_transfer_takes_milliseconds() {
    for seed in 0..10 {
        let mut c = cluster(seed, 3);
        let old = lead(&mut c);
        assert!(commit(&mut c, 5));
        c.run_for(Duration::from_millis(200));
        let start = c.now();
        c.transfer(old, None);
        assert!(c.run_until(LONG, |c| c.leader().is_some_and(|l| l != old)), "{}", c.story());
        assert!(c.now().since(start) < Duration::from_millis(10), "{}", c.story());
    }
}

/// A transfer to who is not there is refused, and the leader takes commands again.
#[test]
fn a_transfer_that_fails_is_given_up() {
    let mut c = cluster(4, 3);
    let leader = lead(&mut c);
    let target = others(&c, leader)[0];
    let token = c.transfer(leader, Some(NodeId(9)));
    assert!(c.refused(leader, token));
    c.cut(leader, target);
    let token = c.transfer(leader, Some(target));
    assert!(c.run_until(LONG, |c| c.refused(leader, token)), "{}", c.story());
    assert_eq!(c.leader(), Some(leader));
    assert!(commit(&mut c, 3));
}

/// With a slow disk under load nobody is taken for dead.
#[test]
fn a_slow_disk_is_no_cause() {
    let mut o = ClusterOptions::<Options>::new(5, 3);
    o.fsync = Duration::from_millis(400);
    o.fsync_spread = Duration::from_millis(800);
    let mut c = Cluster::<Paxos>::new(o);
    lead(&mut c);
    let reigns = c.counters().reigns;
    for _ in 0..200 {
        c.propose(100);
        c.run_for(Duration::from_millis(50));
    }
    assert_eq!(c.counters().reigns, reigns, "{}", c.story());
    assert!(c.run_until(LONG, |c| c.ledger().top() > Index(20_000)), "{}", c.ledger().top());
}

/// A follower is in Broadcast once an entry of the reign is chosen in its own log.
#[test]
fn followers_report_their_phase() {
    let mut c = cluster(6, 5);
    let leader = lead(&mut c);
    let settled = c.run_until(LONG, |c| {
        others(c, leader).iter().all(|n| {
            let s = c.status(*n).unwrap();
            (s.role, s.phase, s.leader) == (Role::Follower, Phase::Broadcast, Some(leader))
        })
    });
    assert!(settled, "{}", c.story());
}
