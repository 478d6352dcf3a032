//! Three nodes in one process on loopback, for each protocol: elect, replicate, crash, restart, catch up.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use bytes::Bytes;
use common::{Ensemble, Protocol, until};
use replog::{Limits, NodeId, Role};
use std::sync::atomic::Ordering;

fn replicates<P: Protocol>() {
    let ensemble = Ensemble::<P>::start(3);
    ensemble.propose(0, 2000);
    let state = ensemble.settle(2000);
    assert_eq!(state.commands[..3], ["command 0", "command 1", "command 2"].map(Bytes::from));
    let leader = &ensemble.members[ensemble.leader()];
    let counters = leader.handle().counters();
    assert!(counters.fsyncs < 1500, "group commit: {counters:?}");
    assert!(leader.app.largest_batch.load(Ordering::Relaxed) > 1, "batches form by themselves");
    // A follower that joins late gets them in the synchronisation phase.
    let sent: u64 = counters.sent.iter().map(|t| t.entries).sum();
    assert!(sent >= 4000, "{counters:?}");
}

fn survives_its_leader<P: Protocol>() {
    let mut ensemble = Ensemble::<P>::start(3);
    ensemble.propose(0, 300);
    let old = ensemble.leader();
    ensemble.settle(300);
    ensemble.kill(old);
    ensemble.propose(300, 300);
    ensemble.settle(600);
    ensemble.restart(old);
    let state = ensemble.settle(600);
    for i in 0..600 {
        let command = Bytes::from(format!("command {i}"));
        assert!(state.commands.contains(&command), "{i} was acknowledged and is lost");
    }
}

fn survives_a_crash_of_all<P: Protocol>() {
    let mut ensemble = Ensemble::<P>::start(3);
    ensemble.propose(0, 500);
    let before = ensemble.settle(500);
    for at in 0..3 {
        ensemble.kill(at);
    }
    for at in 0..3 {
        ensemble.restart(at);
    }
    let after = ensemble.settle(500);
    assert_eq!(after.commands[..500], before.commands[..500]);
}

fn catches_up_by_snapshot<P: Protocol>() {
    let limits = Limits { keep_entries: 20, ..Limits::default() };
    let mut ensemble = Ensemble::<P>::start_with(3, limits, |c| c.snap_count = 200);
    ensemble.propose(0, 100);
    let away = ensemble.follower();
    ensemble.kill(away);
    // The log is purged up to the last snapshot but one. None is begun while one is written, so how many a thousand
    // commands bring is the disk's affair.
    let mut count = 100;
    let taken = || ensemble.members[ensemble.leader()].handle().counters().snapshots_taken;
    while count < 1100 || taken() < 3 {
        assert!(count < 20_000, "{} snapshots after {count} commands", taken());
        ensemble.propose(count, 100);
        count += 100;
    }
    ensemble.settle(count);
    ensemble.restart(away);
    ensemble.settle(count);
    let installed = ensemble.members[away].handle().counters().snapshots_installed;
    assert!(installed >= 1, "it came by the log");
    // And its own restart begins from the snapshot that it received, or a later one.
    ensemble.kill(away);
    ensemble.restart(away);
    ensemble.settle(count);
}

fn hands_over_before_it_ends<P: Protocol>() {
    let mut ensemble = Ensemble::<P>::start(3);
    ensemble.propose(0, 10);
    ensemble.settle(10);
    let old = ensemble.leader();
    let node = ensemble.members[old].node.take().unwrap();
    node.handle().shutdown();
    let seen = ensemble.members[old].app.clone();
    node.join();
    let views = seen.views.lock();
    assert_ne!(views.last().unwrap().role, Role::Leader, "{views:?}");
    drop(views);
    ensemble.propose(10, 10);
    ensemble.settle(20);
}

fn passes_barriers<P: Protocol>() {
    let ensemble = Ensemble::<P>::start(3);
    ensemble.propose(0, 5);
    ensemble.settle(5);
    let committed = ensemble.members[ensemble.leader()].handle().view().committed;
    for (token, member) in (7..).zip(&ensemble.members) {
        let answer = || member.app.barriers.lock().iter().rev().find(|(t, _)| *t == token).copied();
        until("a barrier", || match answer() {
            Some((_, Ok(barrier))) => {
                assert!(barrier.at >= committed, "{barrier:?} is before {committed}");
                true
            }
            // Refused (an election under way), or not asked yet.
            Some((_, Err(_))) | None => {
                let asked = member.app.barriers.lock().len();
                member.handle().barrier(token);
                until("an answer", || member.app.barriers.lock().len() > asked);
                false
            }
        });
    }
}

fn stands_alone<P: Protocol>() {
    let mut ensemble = Ensemble::<P>::start(1);
    ensemble.propose(0, 100);
    ensemble.kill(0);
    ensemble.restart(0);
    ensemble.propose(100, 1);
    assert_eq!(ensemble.settle(101).commands.len(), 101);
}

macro_rules! for_each_protocol {
    ($($test:ident),* $(,)?) => {
        mod with_raft { $(#[test] fn $test() { super::$test::<raft::Raft>(); })* }
        mod with_zab { $(#[test] fn $test() { super::$test::<zab::Zab>(); })* }
        mod with_paxos { $(#[test] fn $test() { super::$test::<paxos::Paxos>(); })* }
    };
}

for_each_protocol!(
    replicates,
    survives_its_leader,
    survives_a_crash_of_all,
    catches_up_by_snapshot,
    hands_over_before_it_ends,
    passes_barriers,
    stands_alone,
);

#[test]
fn application_messages_keep_their_order_and_die_with_the_link() {
    let mut ensemble = Ensemble::<raft::Raft>::start(3);
    until("links", || ensemble.members[0].app.links.lock().len() == 2);
    until("links", || ensemble.members[2].app.links.lock().len() == 2);
    for i in 0..1000u32 {
        ensemble.members[2].handle().send(NodeId(1), Bytes::from(i.to_le_bytes().to_vec()));
    }
    let got = || ensemble.members[0].app.messages.lock().clone();
    until("messages", || got().len() == 1000);
    for (i, (from, message)) in (0..1000u32).zip(got()) {
        assert_eq!((from, &message[..]), (NodeId(3), &i.to_le_bytes()[..]));
    }
    ensemble.kill(0);
    until("the link to go down", || ensemble.members[2].app.links.lock().contains(&(NodeId(1), false)));
    ensemble.members[2].handle().send(NodeId(1), Bytes::from_static(b"lost"));
    ensemble.restart(0);
    until("the link to come up", || ensemble.members[2].app.links.lock().last() == Some(&(NodeId(1), true)));
    ensemble.members[2].handle().send(NodeId(1), Bytes::from_static(b"new"));
    until("a message", || !ensemble.members[0].app.messages.lock().is_empty());
    assert_eq!(ensemble.members[0].app.messages.lock()[0].1, "new");
}
