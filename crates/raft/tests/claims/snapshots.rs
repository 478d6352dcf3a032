//! The claims of section 7 of the Raft paper: snapshots, sent and received.

use crate::lab::{Lab, entries, hardened, id, n};
use raft::{Message, Options};
use replog::{
    Configuration, ConfigurationAt, Epoch, HardState, Index, Input, LogId, LogOp, Notice, Setup, Span,
};

fn few_kept() -> Options {
    let mut options = hardened();
    options.limits.keep_entries = 2;
    options
}

fn configurations() -> Vec<ConfigurationAt> {
    vec![ConfigurationAt { from: Index::ZERO, configuration: Configuration::of_voters((1..=3).map(n)) }]
}

fn received(lab: &mut Lab, to: u32, epoch: u32, at: LogId) {
    let input =
        Input::SnapshotReceived { from: n(1), epoch: Epoch::of(epoch), at, configurations: configurations() };
    lab.input(n(to), input);
}

fn accepted(lab: &Lab, by: u32) -> Vec<LogId> {
    let notices = lab.servers[&n(by)].notices.iter();
    notices
        .filter_map(|x| match x {
            Notice::InstallAccepted { at } => Some(*at),
            _ => None,
        })
        .collect()
}

fn streams(lab: &Lab, by: u32) -> Vec<(u32, LogId)> {
    let notices = lab.servers[&n(by)].notices.iter();
    notices
        .filter_map(|x| match x {
            Notice::SendSnapshot { to, at } => Some((to.0, *at)),
            _ => None,
        })
        .collect()
}

/// A leader of three with 20 entries and a snapshot at 18; n3 has seen only the first two.
fn lagging() -> Lab {
    let mut lab = Lab::new(3, few_kept());
    lab.elect(n(1));
    lab.propose(n(1), 1);
    lab.settle(&[n(1), n(2), n(3)]);
    lab.link(n(1), n(3), false);
    lab.propose(n(1), 18);
    lab.settle(&[n(1), n(2)]);
    lab.drop_all();
    lab.input(n(1), Input::SnapshotTaken { at: id(1, 18) });
    lab.sync(n(1));
    lab
}

/// §7 The log below a snapshot goes, but not what followers that are a little behind still want.
#[test]
fn s7_a_snapshot_lets_the_log_go() {
    let mut lab = lagging();
    let purges: Vec<LogOp> = lab.servers[&n(1)].writes.iter().flat_map(|w| w.ops.clone()).collect();
    assert!(purges.contains(&LogOp::Purge { upto: id(1, 16) }), "{purges:?}");
    // A snapshot of what is not committed, or not ours, is not believed.
    let before = lab.servers[&n(1)].writes.len();
    lab.input(n(1), Input::SnapshotTaken { at: id(1, 99) });
    lab.input(n(1), Input::SnapshotTaken { at: id(9, 19) });
    assert_eq!(lab.servers[&n(1)].writes.len(), before);
}

/// §7 A follower that needs what is gone gets the snapshot, then the entries behind it.
#[test]
fn s7_a_follower_too_far_behind_gets_a_snapshot() {
    let mut lab = lagging();
    lab.link(n(1), n(3), true);
    lab.settle(&[n(1), n(3)]);
    assert_eq!(streams(&lab, 1), [(3, id(1, 18))]);
    // Heartbeats go on while it loads.
    lab.pass(n(1), lab.options.timing.heartbeat * 2);
    assert!(
        lab.pool.iter().any(|p| p.to == n(3) && p.message == heartbeat_to_a_loading_follower(&p.message))
    );
    lab.settle(&[n(1), n(3)]);
    received(&mut lab, 3, 1, id(1, 18));
    assert_eq!(accepted(&lab, 3), [id(1, 18)]);
    assert!(lab.take(|p| p.from == n(3)).is_empty(), "the answer waits for the disk");
    lab.sync(n(3));
    lab.settle(&[n(1), n(3)]);
    lab.input(n(1), Input::SnapshotSent { to: n(3), at: id(1, 18), whole: true });
    lab.settle(&[n(1), n(3)]);
    assert_eq!(lab.status(n(3)).committed, Index(20));
    assert_eq!(lab.servers[&n(3)].applied.iter().map(|e| e.id.index.0).collect::<Vec<_>>(), [1, 2, 19, 20]);
    assert_eq!(streams(&lab, 1).len(), 1, "one transfer is enough");
}

/// Contract schedule 12: while the log's disk hangs, a follower takes one snapshot and no more.
#[test]
fn s7_a_hung_disk_holds_one_install() {
    let mut lab = lagging();
    lab.link(n(1), n(3), true);
    received(&mut lab, 3, 1, id(1, 18));
    received(&mut lab, 3, 1, id(1, 30));
    received(&mut lab, 3, 1, id(1, 40));
    assert_eq!(accepted(&lab, 3), [id(1, 18)]);
    lab.sync(n(3));
    received(&mut lab, 3, 1, id(1, 40));
    assert_eq!(accepted(&lab, 3), [id(1, 18), id(1, 40)]);
}

fn heartbeat_to_a_loading_follower(like: &Message) -> Message {
    match like {
        Message::AppendEntries { term, commit, round, .. } => {
            let (term, commit, round) = (*term, *commit, *round);
            Message::AppendEntries { term, prev: LogId::ZERO, commit, round, sync: true }
        }
        _ => Message::Stale { term: Epoch::ZERO },
    }
}

/// §7 A broken transfer begins anew, at the follower's next sign of life.
#[test]
fn s7_a_broken_transfer_begins_anew() {
    let mut lab = lagging();
    lab.link(n(1), n(3), true);
    lab.settle(&[n(1), n(3)]);
    lab.input(n(1), Input::SnapshotSent { to: n(3), at: id(1, 18), whole: false });
    assert_eq!(streams(&lab, 1).len(), 1, "not at once: the link may be dead");
    lab.pass(n(1), lab.options.timing.heartbeat * 2);
    lab.settle(&[n(1), n(3)]);
    assert_eq!(streams(&lab, 1).len(), 2);
}

/// Contract schedule 15: the log behind a snapshot under way is kept until it has arrived.
#[test]
fn s7_the_log_behind_a_transfer_is_kept() {
    let mut lab = lagging();
    lab.link(n(1), n(3), true);
    lab.settle(&[n(1), n(3)]);
    lab.propose(n(1), 30);
    lab.settle(&[n(1), n(2)]);
    lab.drop_all();
    lab.input(n(1), Input::SnapshotTaken { at: id(1, 45) });
    let base = |lab: &Lab| {
        let ops = lab.servers[&n(1)].writes.iter().flat_map(|w| &w.ops);
        let purged = ops.filter_map(|op| match op {
            LogOp::Purge { upto } => Some(upto.index.0),
            _ => None,
        });
        purged.max()
    };
    assert_eq!(base(&lab), Some(18));
    received(&mut lab, 3, 1, id(1, 18));
    lab.settle(&[n(1), n(3)]);
    lab.input(n(1), Input::SnapshotSent { to: n(3), at: id(1, 18), whole: true });
    lab.settle(&[n(1), n(2), n(3)]);
    assert_eq!(base(&lab), Some(43));
    assert_eq!(lab.status(n(3)).committed, Index(50), "by one snapshot and the log");
}

/// §7 If the log holds the snapshot's last entry, what follows it stays.
#[test]
fn s7_a_suffix_that_agrees_is_kept() {
    let mut lab = Lab::with_logs(&[&[1; 3], &[1; 3], &[1, 1, 1, 1, 1]], few_kept());
    received(&mut lab, 3, 1, id(1, 3));
    let write = lab.servers[&n(3)].writes.last().unwrap().clone();
    assert!(write.ops.contains(&LogOp::Purge { upto: id(1, 3) }));
    assert!(!write.ops.iter().any(|op| matches!(op, LogOp::Truncate { .. })));
    assert_eq!(lab.status(n(3)).last, id(1, 5));
    assert_eq!(lab.status(n(3)).committed, Index(3));
}

/// §7 If the log disagrees, all of it goes, in the same write as the base (contract schedule 4).
#[test]
fn s7_a_log_that_disagrees_goes_at_once() {
    let mut lab = Lab::with_logs(&[&[1; 3], &[1; 3], &[1, 1, 1, 1, 1]], few_kept());
    received(&mut lab, 3, 4, id(3, 4));
    let write = lab.servers[&n(3)].writes.last().unwrap().clone();
    assert!(write.ops.contains(&LogOp::Truncate { from: Index(1) }), "{write:?}");
    assert!(write.ops.contains(&LogOp::Purge { upto: id(3, 4) }));
    assert_eq!(lab.status(n(3)).last, id(3, 4));
    assert_eq!(lab.term(n(3)), 4, "it shows that there is a later term");
    // Before that write is durable nothing of the old log is claimed.
    let term = Epoch::of(4);
    let prev = LogId::ZERO;
    let message = Message::AppendEntries { term, prev, commit: Index(4), round: 1, sync: true };
    lab.drop_all();
    lab.hand(crate::lab::Packet { from: n(1), to: n(3), message, entries: Vec::new() });
    lab.sync(n(3));
    for packet in lab.take(|p| p.from == n(3)) {
        if let Message::Appended { matched, .. } = packet.message {
            assert!(matched == Index::ZERO || matched == Index(4), "claimed {matched}");
        }
    }
}

/// Contract schedule 3: a snapshot that comes late does not take the state back in time.
#[test]
fn s7_an_old_snapshot_is_dropped() {
    let mut lab = Lab::new(3, few_kept());
    lab.elect(n(1));
    lab.propose(n(1), 9);
    lab.settle(&[n(1), n(2), n(3)]);
    let writes = lab.servers[&n(3)].writes.len();
    received(&mut lab, 3, 1, id(1, 5));
    received(&mut lab, 3, 1, id(1, 10));
    assert!(accepted(&lab, 3).is_empty());
    assert_eq!(lab.servers[&n(3)].writes.len(), writes);
    received(&mut lab, 1, 1, id(1, 50));
    assert!(accepted(&lab, 1).is_empty(), "a leader holds everything committed already");
}

/// §7 After a restart between snapshot and log the log's base follows the snapshot.
#[test]
fn s7_a_state_ahead_of_the_log_moves_its_base() {
    let mut lab = Lab::new(3, few_kept());
    let hard_state = HardState { promised: Epoch::of(2), ..HardState::default() };
    let setup = Setup {
        id: n(3),
        seed: 9,
        configurations: configurations(),
        hard_state,
        base: LogId::ZERO,
        snapshot: id(2, 8),
        entries: entries(&[1, 1]).iter().map(replog::Entry::meta).collect(),
        damaged: Vec::new(),
        may_vote: true,
        options: few_kept(),
    };
    lab.open(setup);
    assert_eq!((lab.status(n(3)).last, lab.status(n(3)).committed), (id(2, 8), Index(8)));
    assert!(lab.servers[&n(3)].writes[0].ops.contains(&LogOp::Purge { upto: id(2, 8) }));
}

/// Contract schedule 19: damaged entries come back from the leader; nothing behind them is told before, and their
/// owner does not campaign meanwhile.
#[test]
fn damaged_entries_are_fetched_again() {
    let mut lab = Lab::new(3, hardened());
    lab.elect(n(1));
    lab.propose(n(1), 9);
    lab.settle(&[n(1), n(2), n(3)]);
    lab.crash(n(3));
    let recovered = lab.servers[&n(3)].disk.durable().recovered();
    let setup = Setup {
        id: n(3),
        seed: 5,
        configurations: configurations(),
        hard_state: HardState { committed: Index(9), ..recovered.hard_state },
        base: LogId::ZERO,
        snapshot: LogId::ZERO,
        entries: recovered.entries,
        damaged: Span::new(Index(4), Index(6)).into_iter().collect(),
        may_vote: true,
        options: hardened(),
    };
    lab.drop_all();
    lab.open(setup);
    assert_eq!(lab.servers[&n(3)].applied.len(), 3, "what lies behind the damage is not applied");
    lab.drop_all();
    lab.pass(n(3), lab.options.timing.election_timeout * 4);
    assert_eq!(lab.count("PreVote") + lab.count("RequestVote"), 0, "it does not campaign");
    lab.pass(n(1), lab.options.timing.heartbeat * 2);
    lab.settle(&[n(1), n(3)]);
    assert_eq!(lab.servers[&n(3)].applied.len(), 10);
    let ops: Vec<LogOp> = lab.servers[&n(3)].writes.iter().flat_map(|w| w.ops.clone()).collect();
    let rewritten: Vec<u64> = ops
        .iter()
        .filter_map(|op| match op {
            LogOp::Write(entries) => Some(entries.iter().map(|e| e.id.index.0)),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(rewritten, [4, 5, 6]);
    lab.link(n(1), n(3), false);
    lab.expire(n(3));
    assert_eq!(lab.count("PreVote"), 1, "healed, it may campaign again");
}

/// Damage below what was applied holds nothing up: it only has to be mended before the log is needed again.
#[test]
fn damage_below_the_applied_state_holds_nothing_up() {
    let mut lab = Lab::new(3, hardened());
    lab.elect(n(1));
    lab.propose(n(1), 5);
    lab.settle(&[n(1), n(2), n(3)]);
    lab.input(n(3), Input::Damaged(Span { from: Index(2), to: Index(3) }));
    let refetches = lab.take(|p| matches!(p.message, Message::Refetch { .. }));
    assert_eq!(refetches.len(), 1, "lost");
    lab.propose(n(1), 1);
    lab.settle(&[n(1), n(2), n(3)]);
    assert_eq!(lab.servers[&n(3)].applied.len(), 7, "although 2 and 3 are not back yet");
}

/// A leader whose log is damaged hands over.
#[test]
fn a_damaged_leader_cedes() {
    let mut lab = Lab::new(3, hardened());
    lab.elect(n(1));
    lab.propose(n(1), 3);
    lab.settle(&[n(1), n(2), n(3)]);
    lab.input(n(1), Input::Damaged(Span { from: Index(2), to: Index(2) }));
    assert!(!lab.leads(n(1)));
    lab.settle(&[n(1), n(2), n(3)]);
    assert!(lab.leads(n(2)) || lab.leads(n(3)), "the most suitable voter takes over at once");
}

/// Ids missing in the middle of the log are a lost disk: what was acknowledged is not known any more.
#[test]
fn a_log_with_a_gap_does_not_vote() {
    let mut lab = Lab::new(3, hardened());
    let mut metas: Vec<_> = entries(&[1; 6]).iter().map(replog::Entry::meta).collect();
    metas.remove(3);
    let setup = Setup {
        id: n(3),
        seed: 5,
        configurations: configurations(),
        hard_state: HardState { promised: Epoch::of(1), ..HardState::default() },
        base: LogId::ZERO,
        snapshot: LogId::ZERO,
        entries: metas,
        damaged: Vec::new(),
        may_vote: true,
        options: hardened(),
    };
    lab.open(setup);
    assert_eq!(lab.status(n(3)).role, replog::Role::Learner);
    assert!(lab.servers[&n(3)].writes[0].ops.contains(&LogOp::Truncate { from: Index(4) }));
}
