//! The schedules behind the contract that concern this core, one test each, headed by the section's number.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // helpers of tests

mod common;

use bytes::Bytes;
use common::{
    Image, Node, accept, accepted, b, empty_promise, entry, heartbeat, n, noop, prepare, promise, text,
};
use paxos::{Message, Options};
use replog::{
    Body, Configuration, ConfigurationAt, Effect, Entry, Index, Input, LogId, LogOp, Phase, ReplicatedLog,
    Role, Span, Stamp, Ticket,
};
use std::time::Duration;

/// §1: 1. n1 proposes X in its ballot; 2. it crashes before the ballot is durable; 3. restarted, it proposes Y in the same
/// one. Whatever point of its writes survives, no ballot is proposed in twice.
#[test]
fn s1_no_ballot_is_led_twice() {
    let mut p = Node::new(1, 3, Options::default());
    let mut led = Vec::new();
    for survives in [false, true, false, true] {
        let ballot = p.campaign();
        for peer in [2, 3] {
            p.tell(peer, empty_promise(ballot, Index(0)), vec![]);
        }
        if survives {
            p.sync();
            assert_eq!(p.core.status().role, Role::Leader);
            led.push(ballot);
        }
        assert_eq!(p.sent("Accept").is_empty(), !survives);
        p.crash();
    }
    assert!(led[0] < led[1]);
}

/// §3: 1. L1 streams a snapshot at 100; 2. F learns up to 150 from L2 and applies it; 3. the old stream ends.
#[test]
fn s3_a_snapshot_never_takes_the_state_back() {
    let r = b(2, 3);
    let mut f = Node::new(2, 3, Options::default());
    f.tell(3, accept(r, 0), (1..=150).map(|i| entry(i, r, r, "x")).collect());
    f.tell(3, heartbeat(r, 150), vec![]);
    assert_eq!(f.commit(), Some(150));
    let at = LogId::new(b(1, 1), Index(100));
    f.give(Input::SnapshotReceived { from: n(1), epoch: b(1, 1), at, configurations: vec![] });
    assert!(!f.out.iter().any(|e| matches!(e, Effect::Install { .. } | Effect::Persist { .. })));
    // One beyond its prefix counts, whoever sent it and whenever: what it holds was chosen.
    let at = LogId::new(r, Index(160));
    f.give(Input::SnapshotReceived { from: n(1), epoch: b(1, 1), at, configurations: vec![] });
    let persist = f.out.iter().position(|e| matches!(e, Effect::Persist { .. }));
    let install = f.out.iter().position(|e| matches!(e, Effect::Install { .. }));
    assert!(persist.is_some() && persist < install);
    assert_eq!(f.core.status().committed, Index(160));
}

/// §8: (5, n1) and (5, n2) are two legal reigns; entries tell them apart.
#[test]
fn s8_two_reigns_of_one_round() {
    let mut a = Node::new(3, 3, Options::textbook());
    a.tell(1, accept(b(5, 1), 0), vec![noop(1, b(5, 1), b(5, 1))]);
    assert_eq!(a.core.status().epoch, b(5, 1));
    a.tell(2, accept(b(5, 2), 0), vec![noop(1, b(5, 1), b(5, 2)), noop(2, b(5, 2), b(5, 2))]);
    a.tell(2, heartbeat(b(5, 2), 2), vec![]);
    assert_eq!((a.core.status().epoch, a.core.status().leader), (b(5, 2), Some(n(2))));
    let ids: Vec<_> = a.written.entries.values().map(|e| e.id.epoch).collect();
    assert_eq!(ids, [b(5, 1), b(5, 2)]);
    a.tell(1, accept(b(5, 1), 0), vec![]);
    assert_eq!(a.sent("Reject").len(), 1);
}

/// §9: 1. A promises b2 and names X accepted in b1; 2. while that waits for its fsync, X is overwritten in b3. The label
/// travels with the value, so the late promise vouches for nothing that it does not carry.
#[test]
fn s9_labels_travel_with_values() {
    let mut p = Node::new(1, 3, Options::default());
    let ballot = p.campaign_above(2);
    p.sync();
    let x = entry(1, b(1, 3), b(1, 3), "X");
    let y = entry(1, b(9, 2), b(9, 2), "Y");
    p.tell(2, promise(ballot, 0, std::slice::from_ref(&x)), vec![y]);
    assert_eq!(p.core.status().role, Role::Electing, "a body of another ballot is not what was promised");
    p.tell(2, promise(ballot, 0, std::slice::from_ref(&x)), vec![x]);
    assert_eq!(text(&p.written.entries[&Index(1)]), "X");
}

/// §12: an acceptor writes at most a window beyond its chosen prefix; no-ops pass, or a full window could never commit.
#[test]
fn s12_the_window_bounds_what_is_accepted() {
    let r = b(1, 1);
    let mut options = Options::default();
    options.limits.window_commands = 4;
    let mut a = Node::new(2, 3, options.clone());
    a.tell(1, accept(r, 0), (2..=9).map(|i| entry(i, r, r, "x")).collect());
    assert_eq!(a.log(0).into_iter().map(|(i, ..)| i).collect::<Vec<_>>(), [2, 3, 4]);
    a.tell(1, accept(r, 0), vec![noop(10, r, r)]);
    assert_eq!(a.log(4).len(), 1);
    let mut p = Node::new(1, 3, options);
    p.lead(&[2]);
    assert_eq!(p.core.status().room.commands, 4);
    p.propose(&["a", "b", "c"]);
    assert_eq!(p.core.status().room.commands, 1);
    // By bytes as well.
    let mut options = Options::default();
    options.limits.window_bytes = 100;
    let mut a = Node::new(2, 3, options);
    a.tell(1, accept(r, 0), (1..=9).map(|i| entry(i, r, r, "x")).collect());
    assert_eq!(a.log(0).len(), 3);
}

/// §12: with a full window of old values and any number of failed reigns, a new leader still opens its reign.
#[test]
fn s12_a_full_window_still_elects() {
    let mut options = Options::default();
    options.limits.window_commands = 4;
    let old = b(1, 3);
    let held: Vec<Entry> = (1..=4).map(|i| entry(i, old, old, "x")).collect();
    let image = Image {
        hard: replog::HardState { promised: old, established: old, ..replog::HardState::default() },
        base: LogId::ZERO,
        entries: held.iter().map(|e| (e.id.index, e.clone())).collect(),
    };
    let mut p = Node::on(image, 1, Configuration::of_voters((1..=3).map(n)), options);
    for _ in 0..3 {
        let ballot = p.campaign();
        p.sync();
        p.tell(2, empty_promise(ballot, Index(0)), vec![]);
        p.sync();
        p.crash();
    }
    let ballot = p.campaign();
    p.sync();
    p.tell(2, empty_promise(ballot, Index(0)), vec![]);
    p.sync();
    assert_eq!(p.core.status().last.index, Index(8), "four values and four no-ops");
    p.tell(2, accepted(ballot, 8), vec![]);
    assert_eq!((p.commit(), p.core.status().phase), (Some(8), Phase::Broadcast));
}

/// §14: one step over a whole batch gives one Persist, and per peer one gated and one ungated message.
#[test]
fn s14_a_batch_gives_one_write_and_one_answer() {
    let r = b(1, 1);
    let message = |message, entries| Input::Message { from: n(1), message, entries };
    let mut a = Node::new(2, 3, Options::default());
    a.step(vec![
        message(accept(r, 0), vec![entry(1, r, r, "a")]),
        message(heartbeat(r, 1), vec![]),
        message(accept(r, 1), vec![entry(2, r, r, "b"), entry(3, r, r, "c")]),
        message(accept(r, 2), vec![entry(4, r, r, "d")]),
    ]);
    let persists: Vec<_> = a
        .out
        .iter()
        .filter_map(|e| if let Effect::Persist { ops, .. } = e { Some(ops) } else { None })
        .collect();
    assert_eq!(persists.len(), 1);
    assert!(matches!(&persists[0][..], [LogOp::Write(w), LogOp::HardState(_)] if w.len() == 4));
    let gates =
        a.out.iter().filter_map(|e| if let Effect::Send { after, .. } = e { Some(*after) } else { None });
    let gates = gates.collect::<Vec<_>>();
    assert_eq!(gates, [Ticket::NONE, Ticket(1)], "the heartbeat's answer does not wait for the disk");
    assert_eq!(a.commit(), Some(2));

    let mut p = Node::new(1, 3, Options::default());
    let ballot = p.lead(&[2]);
    let propose =
        |text: &'static [u8]| Input::Propose { stamp: Stamp(1), commands: vec![Bytes::from_static(text)] };
    let word = Input::Message { from: n(3), message: accepted(ballot, 1), entries: vec![] };
    p.step(vec![propose(b"a"), word, propose(b"b")]);
    assert_eq!(p.out.iter().filter(|e| matches!(e, Effect::Persist { .. })).count(), 1);
    let spans: Vec<_> = p.sends("Accept").into_iter().map(|s| (s.0, s.2, s.3)).collect();
    let span = Span::new(Index(2), Index(3));
    assert_eq!(spans, [(n(2), span, Ticket::NONE), (n(3), span, Ticket::NONE)]);
}

/// §14: a frame's worth at a time, by counted bytes.
#[test]
fn s14_frames_are_cut_where_they_are_full() {
    let mut options = Options::default();
    options.limits.frame_bytes = 120; // two entries of 48 + 1
    let mut p = Node::new(1, 2, options);
    p.lead(&[2]);
    p.propose(&["a", "b", "c", "d", "e"]);
    let spans: Vec<_> =
        p.sends("Accept").into_iter().filter_map(|s| s.2).map(|s| (s.from.0, s.to.0)).collect();
    assert_eq!(spans, [(2, 3), (4, 5), (6, 6)]);
    // What the driver cut nevertheless is sent on.
    p.give(Input::Unsent { to: n(2), from: Index(5) });
    assert_eq!(p.sends("Accept")[0].2, Span::new(Index(5), Index(6)));
}

/// §14: after a pause the news counts before the clock.
#[test]
fn s14_inputs_come_before_timers() {
    let r = b(1, 1);
    let mut a = Node::new(2, 3, Options::default());
    a.tell(1, heartbeat(r, 0), vec![]);
    a.sync();
    a.pass(10_000);
    a.tell(1, heartbeat(r, 0), vec![]);
    assert!(a.sent("Query").is_empty() && a.sent("Prepare").is_empty());
    assert_eq!(a.core.status().role, Role::Follower);
    a.pass(10_000);
    a.step(vec![]);
    assert!(!a.sent("Query").is_empty());
}

/// §17: a snapshot brings the configuration with it.
#[test]
fn s17_configurations_come_with_the_snapshot() {
    let mut a = Node::new(2, 3, Options::default());
    let configuration = Configuration::of_voters((1..=3).map(n)).with_observers([n(4)]);
    let brought = ConfigurationAt { from: Index(7), configuration: configuration.clone() };
    let at = LogId::new(b(1, 1), Index(9));
    a.give(Input::SnapshotReceived { from: n(1), epoch: b(1, 1), at, configurations: vec![brought] });
    let told = Effect::Configured { at: Index(7), configuration, settled: true };
    assert!(a.out.contains(&told));
    a.tell(4, Message::Fetch { promised: b(1, 1), from: Index(1), held: vec![] }, vec![]);
    assert!(!a.ignored().contains(&"not a member"));
}

/// §18: a leader whose own disk hangs cedes by its deadline although everybody answers.
#[test]
fn s18_a_hanging_disk_ends_the_reign() {
    let mut p = Node::new(1, 3, Options::default());
    let ballot = p.lead(&[2]);
    p.propose(&["x"]); // never durable
    let stall = Options::default().timing.disk_stall;
    let start = p.now;
    while p.core.status().role == Role::Leader {
        p.wait();
        if let Some(Message::Heartbeat { round, .. }) = p.sent("Heartbeat").first().cloned() {
            for peer in [2, 3] {
                let (arrived, committed) = (Index(2), Index(1));
                p.tell(peer, Message::Alive { ballot, round, arrived, committed, counts: true }, vec![]);
                p.tell(peer, accepted(ballot, 2), vec![]);
            }
        }
    }
    let took = p.now.since(start);
    assert!(took >= stall && took < stall + Duration::from_millis(300), "{took:?}");
    p.wait();
    assert!(p.sent("Query").is_empty() && p.sent("Prepare").is_empty(), "nor does it stand again");
}

/// §18: progress, not contact, makes a live quorum: the followers answer heartbeats but write nothing.
#[test]
fn s18_a_leader_whose_followers_hang_cedes() {
    let mut p = Node::new(1, 3, Options::default());
    let ballot = p.lead(&[2]);
    p.propose(&["x"]);
    p.sync();
    let mut said = true;
    while p.core.status().role == Role::Leader {
        p.wait();
        if let Some(Message::Heartbeat { round, quorum, .. }) = p.sent("Heartbeat").first().cloned() {
            said = quorum;
            for peer in [2, 3] {
                let (arrived, committed) = (Index(2), Index(1));
                p.tell(peer, Message::Alive { ballot, round, arrived, committed, counts: true }, vec![]);
            }
        }
        assert!(p.now.0 < 20_000_000_000, "it never cedes");
    }
    assert!(said, "while it led it claimed what it believed");
}

/// §20: what is offered beyond a lost leadership is dropped without a word; its server sends it again.
#[test]
fn s20_proposals_to_a_follower_are_dropped() {
    let mut a = Node::new(2, 3, Options::default());
    a.tell(1, heartbeat(b(1, 1), 0), vec![]);
    assert_eq!(a.core.status().room.commands, 0);
    a.propose(&["x"]);
    assert!(a.out.is_empty(), "{:?}", a.out);
}

/// Damaged or foreign peer input is ignored with a reason, never believed.
#[test]
fn foreign_input_is_ignored() {
    let r = b(1, 1);
    let mut a = Node::new(2, 3, Options::default());
    a.tell(3, accept(r, 0), vec![entry(1, r, r, "x")]);
    assert_eq!(a.ignored(), ["a leader's word in a foreign ballot"]);
    a.tell(7, heartbeat(b(1, 7), 0), vec![]);
    assert_eq!(a.ignored(), ["not a member"]);
    a.tell(1, accept(r, 0), vec![entry(1, r, b(9, 9), "x"), entry(2, b(7, 7), r, "y")]);
    assert!(a.log(0).is_empty(), "entries of another ballot than the message's");
    a.tell(3, prepare(b(4, 1)), vec![]);
    assert_eq!(a.ignored(), ["prepare with a foreign ballot"]);
    let mut descending = vec![entry(2, r, r, "b"), entry(1, r, r, "a")];
    a.tell(1, accept(r, 0), std::mem::take(&mut descending));
    assert_eq!(a.log(0).len(), 1, "entries are ascending");
    let config = Entry { body: Body::Config(Box::default(), Bytes::new()), ..entry(3, r, r, "") };
    a.tell(1, accept(r, 0), vec![config]);
    assert_eq!(a.log(2).len(), 1, "a configuration is an entry like any other here");
}

/// The loss of a link shortens the wait for a leader, unless links are not to be looked at.
#[test]
fn a_lost_link_hurries_an_election_if_it_may() {
    for looks in [true, false] {
        let mut options = Options::default();
        if !looks {
            options.timing.link_loss_spread = Duration::MAX;
        }
        let (mut f, ballot) = (Node::new(2, 3, options.clone()), b(1, 1));
        f.tell(1, accept(ballot, 0), vec![noop(1, ballot, ballot)]);
        f.sync();
        let before = f.core.deadline().unwrap();
        f.give(Input::Peer { node: n(1), connected: false });
        let after = f.core.deadline().unwrap();
        let spread = options.timing.link_loss_spread;
        assert_eq!(after < before && after <= f.now + spread.min(Duration::from_secs(9)), looks);
    }
}

/// A snapshot of what is not known to be chosen here, or older than the last one, lets nothing of the log go.
#[test]
fn a_snapshot_counts_once_and_up_to_what_is_chosen() {
    let mut options = Options::default();
    options.limits.keep_entries = 0;
    let mut p = Node::new(1, 3, options);
    let ballot = p.lead(&[2]);
    p.propose(&["a", "b"]);
    p.sync();
    let purged = |p: &Node| {
        p.out.iter().any(|e| matches!(e, Effect::Persist { ops, .. } if ops.iter().any(|op| matches!(op, LogOp::Purge { .. }))))
    };
    p.give(Input::SnapshotTaken { at: LogId::new(ballot, Index(3)) });
    assert!(!purged(&p), "3 is accepted here alone");
    p.tell(2, accepted(ballot, 3), vec![]);
    assert_eq!(p.commit(), Some(3));
    p.give(Input::SnapshotTaken { at: LogId::new(ballot, Index(2)) });
    assert!(purged(&p));
    p.give(Input::SnapshotTaken { at: LogId::new(ballot, Index(1)) });
    assert!(!purged(&p));
    assert_eq!(p.written.base.index, Index(2));
}

/// §12 of the contract: a transfer is the leader's word, in its own ballot, to an acceptor whose log is whole.
#[test]
fn only_the_leader_hands_over_and_only_to_who_may_lead() {
    let r = b(1, 3);
    let follower = || {
        let mut f = Node::new(2, 3, Options::default());
        f.tell(3, accept(r, 0), vec![noop(1, r, r), entry(2, r, r, "x")]);
        f.sync();
        f
    };
    let hands_over = |f: &mut Node, from: u32, ballot| {
        f.tell(from, Message::Lead { ballot }, vec![]);
        !f.sent("Prepare").is_empty()
    };
    assert!(hands_over(&mut follower(), 3, r));
    assert!(!hands_over(&mut follower(), 3, b(9, 3)), "another ballot");
    assert!(!hands_over(&mut follower(), 1, r), "another server");
    let mut damaged = follower();
    damaged.give(Input::Damaged(Span { from: Index(2), to: Index(2) }));
    assert!(!hands_over(&mut damaged, 3, r), "it cannot say what it accepted");
}

/// Promises of servers that do not vote count for nothing; they follow as what the configuration says they are.
#[test]
fn a_learner_neither_promises_nor_leads() {
    let configuration = Configuration { learners: vec![n(4)], ..Configuration::of_voters((1..=3).map(n)) };
    let mut p = Node::in_configuration(1, configuration.clone(), Options::default());
    let ballot = p.campaign();
    p.sync();
    p.tell(4, empty_promise(ballot, Index(0)), vec![]);
    assert_eq!((p.ignored(), p.core.status().role), (vec!["promise of who does not vote"], Role::Electing));
    p.tell(3, empty_promise(ballot, Index(0)), vec![]);
    assert_eq!(p.core.status().role, Role::Leader);
    let mut learner = Node::in_configuration(4, configuration, Options::default());
    learner.tell(1, accept(ballot, 0), vec![noop(1, ballot, ballot)]);
    assert_eq!(learner.core.status().role, Role::Learner);
}

/// Rounds are 32 bits. After the last one nobody prepares: a second ballot of the same round would take a promise back.
#[test]
fn after_the_last_round_nobody_prepares() {
    for round in [u32::MAX, u32::MAX - 1] {
        let promised = b(round, 3);
        let hard = replog::HardState { promised, established: b(1, 3), ..replog::HardState::default() };
        let image = Image { hard, base: LogId::ZERO, entries: std::collections::BTreeMap::new() };
        let mut p = Node::on(image, 1, Configuration::of_voters((1..=3).map(n)), Options::textbook());
        let mut prepared = 0;
        for _ in 0..8 {
            let before = p.now;
            p.wait();
            assert!(p.now > before, "it waits, it does not spin");
            prepared += p.sent("Prepare").len();
        }
        assert_eq!(prepared > 0, round < u32::MAX);
    }
}
