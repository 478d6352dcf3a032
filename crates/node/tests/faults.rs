//! What goes wrong around a node: bad frames, silent links, foreign directories, failing and full disks.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use bytes::Bytes;
use common::proxy::proxy;
use common::{Ensemble, Journal, Protocol, until};
use node::{Application, NodeConfig, Secret, StartError};
use raft::Raft;
use replog::{Configuration, Limits, NodeId, Role};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use wal::{Crash, MemDisk, WalOptions};

/// Three nodes; the third dials the first through a proxy.
fn with_proxy(link_timeout: Duration) -> (Ensemble<Raft>, Arc<common::proxy::Faults>) {
    let (address, faults) = proxy();
    let ensemble = Ensemble::start_with(3, Limits::default(), move |c| {
        c.link_timeout = link_timeout;
        c.ping_interval = link_timeout / 4;
        if c.id == NodeId(3) {
            let peer = c.peers.iter_mut().find(|p| p.id == NodeId(1)).unwrap();
            peer.addresses = vec!["no-such-host.invalid:1".into(), address.to_string()];
        }
    });
    faults.lead_to(ensemble.members[0].address);
    let linked = || ensemble.members[2].app.links.lock().contains(&(NodeId(1), true));
    until("a link through the proxy", linked);
    (ensemble, faults)
}

// requirement: fault row 42, a corrupt frame on a peer link
#[test]
fn a_corrupt_frame_takes_the_link_down_and_nothing_else() {
    let (ensemble, faults) = with_proxy(Duration::from_secs(4));
    ensemble.propose(0, 100);
    let bad = || ensemble.members.iter().map(|m| m.handle().counters().link_faults).sum::<u64>();
    let came_up = || ensemble.members[2].app.links.lock().iter().filter(|l| **l == (NodeId(1), true)).count();
    for round in 1..=3 {
        faults.corrupt.store(true, Ordering::SeqCst);
        // Heartbeats alone must show it, whichever byte was hit.
        until("the corruption to be noticed", || bad() >= round as u64);
        until("another link", || came_up() > round);
    }
    ensemble.propose(100, 100);
    ensemble.settle(200);
}

// requirement: connections that died without a word
#[test]
fn a_silent_link_is_taken_down_and_comes_back() {
    let (ensemble, faults) = with_proxy(Duration::from_millis(400));
    let down = || ensemble.members[2].app.links.lock().contains(&(NodeId(1), false));
    assert!(!down(), "pings keep an idle link up");
    faults.silent.store(true, Ordering::SeqCst);
    until("the link to go down", down);
    faults.silent.store(false, Ordering::SeqCst);
    until("the link to come back", || {
        ensemble.members[2].app.links.lock().last() == Some(&(NodeId(1), true))
    });
    ensemble.propose(0, 10);
    ensemble.settle(10);
}

// requirement: fault row 34, a cloned directory or a wrong id; and a directory of another protocol
#[test]
fn a_foreign_directory_is_refused() {
    let mut ensemble = Ensemble::<Raft>::start(1);
    ensemble.propose(0, 1);
    ensemble.kill(0);
    let start = |change: &dyn Fn(&mut NodeConfig)| {
        let mut config = ensemble.config(0);
        change(&mut config);
        let app: Arc<dyn Application> = Arc::<Journal>::default();
        node::start::<Raft>(config, Raft::options(Limits::default()), app).map(drop)
    };
    let refused = |result: Result<(), StartError>, says: &str| match result {
        Err(e @ StartError::Identity(_)) => assert!(e.to_string().contains(says), "{e}"),
        other => panic!("{other:?}"),
    };
    refused(start(&|c| c.id = NodeId(2)), "belongs to server n1");
    refused(start(&|c| c.cluster = 77), "cluster");
    let app: Arc<dyn Application> = Arc::<Journal>::default();
    let zab = node::start::<zab::Zab>(ensemble.config(0), zab::Options::default(), app).map(drop);
    refused(zab, "belongs to protocol raft");
    let unsound = start(&|c| c.configuration = Configuration::default());
    assert!(matches!(unsound, Err(StartError::Config(_))), "{unsound:?}");
    start(&|_| {}).unwrap();
}

// requirement: a log that is gone while snapshots remain has forgotten its votes (fault row 33)
#[test]
fn a_lost_log_is_noticed() {
    let mut ensemble = Ensemble::<Raft>::start_with(1, Limits::default(), |c| c.snap_count = 20);
    ensemble.propose(0, 50);
    until("a snapshot", || ensemble.members[0].handle().counters().snapshots_taken > 0);
    ensemble.kill(0);
    std::fs::remove_dir_all(ensemble.members[0].dir.join("log")).unwrap();
    let app: Arc<dyn Application> = Arc::<Journal>::default();
    let result = node::start::<Raft>(ensemble.config(0), raft::Options::default(), app).map(drop);
    assert!(matches!(result, Err(StartError::LogLost { .. })), "{result:?}");
}

// requirement: a damaged newest snapshot gives way to the one before, without a gap to the log (fault row 26)
#[test]
fn the_log_reaches_back_to_the_snapshot_before_the_newest() {
    let limits = Limits { keep_entries: 0, ..Limits::default() };
    let mut ensemble = Ensemble::<Raft>::start_with(1, limits, |c| c.snap_count = 20);
    for round in 0..4 {
        let taken = || ensemble.members[0].handle().counters().snapshots_taken;
        let before = taken();
        ensemble.propose(round * 50, 50);
        until("a snapshot", || taken() > before);
    }
    // What follows the snapshot's notice in the log is durable behind the purge.
    ensemble.propose(200, 3);
    ensemble.settle(203);
    ensemble.kill(0);
    let folder = ensemble.members[0].dir.join("snapshots");
    let names = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path());
    let newest = names.filter(|p| p.extension().is_some_and(|e| e == "snap")).max().unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&newest, bytes).unwrap();
    ensemble.restart(0);
    ensemble.settle(203);
}

/// Overwrites 600 bytes of the oldest log file, a quarter into what was written.
fn rot(log: &std::path::Path) {
    let names = std::fs::read_dir(log).unwrap().map(|f| f.unwrap().path());
    let oldest = names.filter(|p| p.extension().is_some_and(|e| e == "log")).min().unwrap();
    let mut bytes = std::fs::read(&oldest).unwrap();
    let from = bytes.iter().rposition(|b| *b != 0).unwrap() / 4;
    bytes[from..from + 600].fill(0xa5);
    std::fs::write(&oldest, bytes).unwrap();
}

// requirement: ids lost below the own snapshot cost neither the vote nor the start (fault row 24)
#[test]
fn damage_below_the_snapshot_costs_nothing() {
    let mut ensemble = Ensemble::<Raft>::start_with(3, Limits::default(), |c| {
        c.snap_count = 100;
        c.wal.reserve_bytes = 0;
    });
    let away = ensemble.follower();
    // One is written at a time, and none begins without an entry: a slow disk takes fewer of them.
    let mut total = 0;
    while ensemble.members[away].handle().counters().snapshots_taken < 2 {
        assert!(total < 10_000, "{total} entries and no second snapshot");
        ensemble.propose(total, 100);
        total += 100;
        ensemble.settle(total);
    }
    ensemble.kill(away);
    rot(&ensemble.members[away].dir.join("log"));
    ensemble.restart(away);
    let view = || ensemble.members[away].handle().view();
    until("a leader", || view().leader.is_some());
    assert_eq!(view().role, Role::Follower, "{:?}", view());
    ensemble.propose(total, 10);
    ensemble.settle(total + 10);
}

// requirement: a voter that lost its disk follows as a learner until it is admitted (fault row 33)
#[test]
fn a_wiped_node_that_may_not_vote_follows() {
    let mut ensemble = Ensemble::<Raft>::start_with(3, Limits::default(), |c| {
        c.may_vote = !c.data_dir.join("wiped").exists();
    });
    ensemble.propose(0, 100);
    let away = ensemble.follower();
    ensemble.kill(away);
    let dir = ensemble.members[away].dir.clone();
    std::fs::remove_dir_all(&dir).unwrap();
    std::fs::create_dir_all(dir.join("wiped")).unwrap();
    ensemble.restart(away);
    ensemble.propose(100, 100);
    ensemble.settle(200);
    assert_eq!(ensemble.members[away].handle().view().role, Role::Learner);
}

// requirement: fault row 28, fsync returns an error once: the node stops, the others go on
#[test]
fn a_failed_sync_ends_the_node() {
    let wal = WalOptions { segment_bytes: 1 << 20, reserve_bytes: 0, ..WalOptions::default() };
    let mut ensemble = Ensemble::<Raft, MemDisk>::start_on(
        3,
        Limits::default(),
        move |c| c.wal = wal.clone(),
        |_| MemDisk::new(),
    );
    ensemble.propose(0, 100);
    let broken = ensemble.leader();
    ensemble.members[broken].disk.fail_next_sync();
    ensemble.members[broken].handle().propose(vec![Bytes::from_static(b"unlucky")]);
    let fatal = || ensemble.members[broken].app.fatal.lock().clone();
    until("the fatal error", || !fatal().is_empty());
    assert!(fatal()[0].contains("cannot be written"), "{:?}", fatal());
    ensemble.members[broken].node.take().unwrap().join();
    ensemble.propose(100, 100);
    ensemble.members[broken].disk.crash(Crash::PowerLoss);
    ensemble.restart(broken);
    ensemble.settle(200);
}

// requirement: fault row 29, a full disk: clear error, goes on when there is room again
#[test]
fn a_full_disk_is_waited_out() {
    let wal = WalOptions { segment_bytes: 64 << 10, reserve_bytes: 0, ..WalOptions::default() };
    let ensemble = Ensemble::<Raft, MemDisk>::start_on(
        3,
        Limits::default(),
        move |c| c.wal = wal.clone(),
        |_| MemDisk::new(),
    );
    ensemble.propose(0, 100);
    let full = ensemble.follower();
    ensemble.members[full].disk.set_capacity(Some(0));
    ensemble.propose(100, 3000);
    // What fits the segment that it had reserved: 64 KiB of 3,000 × more than 100 bytes.
    let behind = ensemble.members[full].handle().counters().appended_entries;
    assert!(behind < 1000, "it wrote {behind} entries to a full disk");
    assert!(ensemble.members[full].app.fatal.lock().is_empty());
    ensemble.members[full].disk.set_capacity(None);
    ensemble.settle(3100);
}

// requirement: peer handshakes are authenticated when a secret is configured
#[test]
fn who_does_not_know_the_secret_stays_out() {
    let ensemble = Ensemble::<Raft>::start_with(3, Limits::default(), |c| {
        let secret = if c.id == NodeId(3) { b"guess".to_vec() } else { b"secret".to_vec() };
        c.secret = Some(Secret::new(secret));
    });
    let insiders = &ensemble.members[..2];
    until("a leader among those who know it", || insiders.iter().any(common::Member::is_leading));
    until("the stranger to be refused", || insiders.iter().all(|m| m.handle().counters().refused > 0));
    assert!(ensemble.members[2].app.links.lock().is_empty());
}

// requirement: contact is known and grows old (sessions are closed by it)
#[test]
fn contact_is_fresh_while_connected_and_grows_old_alone() {
    let mut ensemble = Ensemble::<Raft>::start(3);
    let leader = ensemble.leader();
    ensemble.propose(0, 1);
    let age = |at: usize| ensemble.members[at].handle().view().contact.elapsed();
    until("fresh contact everywhere", || (0..3).all(|at| age(at) < Duration::from_millis(300)));
    let others: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
    for at in others {
        ensemble.kill(at);
    }
    let cut = Instant::now();
    until("time to pass", || cut.elapsed() > Duration::from_millis(500));
    let contact = ensemble.members[leader].handle().view().contact;
    assert!(contact <= cut + Duration::from_millis(50), "a quorum was heard after it was gone");
}
