//! One test per trap of the list of rules that Zab implementations broke, headed by its number there. A trap about
//! another layer (fuzzy snapshots: 23) has none here.

mod common;

use common::*;
use replog::{
    Effect, Epoch, HardState, Index, Input, LogOp, NodeId, Phase, ReplicatedLog, Role, Span, Ticket, Token,
    Voter,
};
use std::time::Duration;
use zab::{FinalizeWait, Message, PeerState};

/// Trap 1: the epoch outranks the log. requirement: S23
#[test]
fn trap_1_the_vote_with_the_later_epoch_wins_over_the_longer_log() {
    let mut s = Solo::open(with_log(3, 3, &[1, 1, 1, 1, 1], 1, 0));
    s.link([1, 2]);
    s.hear(1, Message::Notification(looking(1, vote(2, (1, 2), 1))));
    assert_eq!(s.told(2).unwrap().vote, vote(2, (1, 2), 1));
    s.hear(2, Message::Notification(looking(1, vote(1, (1, 9), 2))));
    assert_eq!(s.told(1).map(|t| t.vote.node), None, "a longer log of an older epoch changes nothing");
}

/// Trap 2: rounds are not epochs. Older: ignored, but told ours. Newer: taken over, old votes forgotten.
#[test]
fn trap_2_votes_of_other_rounds_do_not_count() {
    let mut s = Solo::open(setup(3, 3));
    s.link([1, 2]);
    s.hear(1, Message::Notification(looking(7, vote(0, (0, 0), 1))));
    assert_eq!(s.zab.election_round(), 7);
    let me = s.told(1).unwrap().vote;
    assert_eq!(me.node, NodeId(3), "its own vote is better");
    s.hear(2, Message::Notification(looking(6, me)));
    assert_eq!(s.role(), Role::Electing, "a vote of round 6 elects nobody in round 7");
    assert_eq!(s.ignored(), ["vote of an older round"]);
    assert_eq!(s.told(2).unwrap().round, 7, "the late one is told the round");
    s.hear(2, Message::Notification(looking(7, me)));
    s.hear(1, Message::Notification(looking(7, me)));
    assert_eq!(s.role(), Role::Leader);
}

/// Trap 3: a newcomer joins on a quorum's word and the leader's own. requirement: S25, S38
#[test]
fn trap_3_a_newcomer_needs_a_quorum_and_the_leaders_own_word() {
    let following = |node| Message::Notification(settled(PeerState::Following, 9, vote(5, (5, 5), node)));
    let leading = |node| Message::Notification(settled(PeerState::Leading, 9, vote(5, (5, 5), node)));
    let mut s = Solo::open(setup(5, 5));
    s.link([1, 2, 3, 4]);
    s.hear(1, following(4)).hear(2, following(4)).hear(3, following(4));
    assert_eq!(s.role(), Role::Electing, "three followers of a leader that may be gone");
    s.hear(4, leading(4));
    assert_eq!((s.role(), s.zab.status().leader), (Role::Follower, Some(NodeId(4))));
    assert_eq!(s.zab.election_round(), 9, "it takes over their round");

    let mut s = Solo::open(setup(5, 5));
    s.link([1, 2, 3, 4]);
    s.hear(4, leading(4)).hear(3, following(4));
    assert_eq!(s.role(), Role::Electing, "an old leader with one follower is no majority");
}

/// Trap 4: notifications are sent again with a bounded back-off; the finalize wait is 200 ms only if asked for.
#[test]
fn trap_4_notifications_are_repeated_within_bounds() {
    let mut s = Solo::open(setup(1, 3));
    s.link([2]);
    let mut gaps = Vec::new();
    let mut last = s.now;
    while gaps.len() < 8 {
        s.now = replog::ReplicatedLog::deadline(&s.zab).unwrap();
        s.step(Vec::new());
        if s.told(2).is_some() {
            gaps.push(s.now.since(last));
            last = s.now;
        }
    }
    assert_eq!(gaps[0], Duration::from_millis(200));
    assert!(gaps.iter().all(|g| *g <= Duration::from_secs(2)), "{gaps:?}");

    for (wait, at_once) in [(FinalizeWait::Adaptive, true), (FinalizeWait::ZOOKEEPER, false)] {
        let mut setup = setup(3, 3);
        setup.options.finalize_wait = wait;
        let mut s = Solo::open(setup);
        s.link([1, 2]);
        let me = s.told(1).unwrap().vote;
        s.hear(1, Message::Notification(looking(1, me))).hear(2, Message::Notification(looking(1, me)));
        assert_eq!(s.role() == Role::Leader, at_once);
        s.wait(Duration::from_millis(199));
        assert_eq!(s.role() == Role::Leader, at_once);
        s.wait(Duration::from_millis(1));
        assert_eq!(s.role(), Role::Leader);
    }
}

/// Trap 5: a voter of weight 0 is never elected, however good its vote.
#[test]
fn trap_5_zero_weight_never_wins() {
    let mut setup = setup(1, 3);
    setup.configurations[0].configuration.voters[2] = Voter { node: NodeId(3), weight: 0 };
    let mut s = Solo::open(setup);
    s.link([2, 3]);
    s.hear(3, Message::Notification(looking(1, vote(9, (9, 9), 3))));
    s.hear(2, Message::Notification(looking(1, vote(9, (9, 9), 3))));
    s.wait(Duration::from_secs(1));
    assert_ne!(s.zab.status().leader, Some(NodeId(3)));
    s.hear(2, Message::Notification(looking(1, vote(0, (0, 0), 2))));
    s.wait(Duration::from_millis(200));
    assert_eq!(s.zab.status().leader, Some(NodeId(2)));
}

/// Trap 6: acceptedEpoch is durable on LEADERINFO, currentEpoch only with the synchronised history.
#[test]
fn trap_6_promised_and_established_are_two_values() {
    let mut s = Solo::open(with_log(1, 3, &[1, 1], 1, 0));
    s.follow(3, 5);
    let hard = s.zab.hard_state();
    assert_eq!((hard.promised.round, hard.established.round), (5, 1));
    assert_eq!(s.sent(3)[0].2, s.last, "ACKEPOCH waits for the promise");
    assert!(
        matches!(&s.ops()[..], [LogOp::HardState(h)] if h.promised == Epoch::of(5) && h.voted_for == Some(n(3)))
    );
    s.hear(3, Message::Diff { epoch: Epoch::of(5), after: id(1, 2) });
    assert_eq!(s.zab.hard_state().established.round, 1);
    s.hear(3, Message::NewLeader { epoch: Epoch::of(5), committed: Index(0), last: id(1, 2) });
    assert_eq!(s.zab.hard_state().established.round, 5);
}

/// Trap 7: equal epoch promised to another leader: may be synchronised, does not count. Smaller: refused.
#[test]
fn trap_7_a_promise_counts_once() {
    for (promised_to, epoch, counts) in [(Some(2), 5, Some(false)), (Some(3), 5, Some(true)), (None, 4, None)]
    {
        let mut setup = with_log(1, 3, &[1], 1, 0);
        setup.hard_state.promised = Epoch::of(5);
        setup.hard_state.voted_for = promised_to.map(n);
        let mut s = Solo::open(setup);
        s.link([3]);
        s.hear(3, Message::Notification(looking(1, vote(9, (9, 9), 3)))).wait(Duration::from_millis(200));
        let session = 1;
        s.hear(3, Message::LeaderInfo { session, epoch: Epoch::of(epoch) });
        match (counts, s.sent(3).first()) {
            (Some(counts), Some((Message::AckEpoch(ack), ..))) => assert_eq!(ack.counts, counts),
            (None, _) => assert_eq!(s.role(), Role::Electing, "a leader of an older epoch is refused"),
            other => panic!("{other:?}"),
        }
    }
    // And the leader does not count it.
    let mut s = Solo::open(setup(3, 3));
    let epoch = s.announce(&[1, 2], 0);
    let ack = zab::message::AckEpoch {
        session: 1,
        epoch: Epoch::of(epoch),
        counts: false,
        established: Epoch::ZERO,
        table: table(&[]),
    };
    s.hear(1, Message::AckEpoch(Box::new(ack)));
    assert_eq!(s.phase(), Phase::Discovery);
    s.ack_epoch(2, epoch, 0, &[]);
    assert_eq!(s.phase(), Phase::Sync);
    assert!(s.kinds(1).contains(&"NEWLEADER"), "but it is synchronised");
}

/// Trap 8: newEpoch = max(promised over a quorum, own included) + 1, durable before it is announced.
#[test]
fn trap_8_the_new_epoch_is_above_all_promises_and_durable() {
    let mut s = Solo::open(with_log(3, 3, &[1], 4, 0));
    s.link([1, 2]);
    let me = s.told(1).unwrap().vote;
    s.hear(1, Message::Notification(looking(1, me))).hear(2, Message::Notification(looking(1, me)));
    s.hear(1, Message::FollowerInfo { session: 1, promised: Epoch::of(7), counts: true });
    assert!(
        matches!(&s.ops()[..], [LogOp::HardState(HardState { promised, .. })] if *promised == Epoch::of(8))
    );
    assert!(s.sent(1).is_empty(), "not announced before it is durable");
    s.fsync();
    assert_eq!(s.kinds(1), ["LEADERINFO"]);
}

/// Trap 9: history durable → currentEpoch → ACK of NEWLEADER (ZOOKEEPER-3911, 4643, 4646, 4685, 3023).
#[test]
fn trap_9_history_then_epoch_then_ack() {
    let mut s = Solo::open(with_log(1, 3, &[1], 1, 0));
    s.follow(3, 5).fsync();
    let epoch = Epoch::of(5);
    s.step(vec![
        Input::Message { from: n(3), message: Message::Diff { epoch, after: id(1, 1) }, entries: vec![] },
        Input::Message {
            from: n(3),
            message: Message::Catchup { epoch, committed: Index(0) },
            entries: entries(2, &[1, 2]),
        },
        Input::Message {
            from: n(3),
            message: Message::NewLeader { epoch, committed: Index(0), last: id(2, 3) },
            entries: vec![],
        },
        Input::Message {
            from: n(3),
            message: Message::Proposal { epoch, committed: Index(0) },
            entries: entries(4, &[5]),
        },
    ]);
    let ops = s.ops();
    assert!(matches!(&ops[0], LogOp::Write(e) if e.len() == 2), "{ops:?}");
    assert!(matches!(&ops[1], LogOp::HardState(h) if h.established == epoch), "{ops:?}");
    assert!(matches!(&ops[2], LogOp::Write(e) if e[0].id == id(5, 4)), "{ops:?}");
    // The proposal's ack does not overtake NEWLEADER's: one lane, one ticket.
    assert_eq!(s.kinds(3), ["ACK-NEWLEADER", "ACK"]);
    assert!(s.sent(3).iter().all(|(_, _, after)| *after == s.last));
}

/// Trap 10: COMMIT may refer to a proposal that was queued before NEWLEADER (ZOOKEEPER-4394).
#[test]
fn trap_10_a_commit_may_cover_what_came_before_new_leader() {
    let mut s = Solo::open(with_log(1, 3, &[1], 1, 0));
    s.follow(3, 5).fsync();
    let epoch = Epoch::of(5);
    s.hear(3, Message::Diff { epoch, after: id(1, 1) });
    s.hear_with(3, Message::Catchup { epoch, committed: Index(0) }, entries(2, &[5, 5]));
    s.hear(3, Message::NewLeader { epoch, committed: Index(0), last: id(5, 3) });
    s.hear(3, Message::Commit { epoch, upto: Index(3) });
    assert_eq!(s.committed(), Some(3));
}

/// Trap 11: nothing of an old session is written after a new election (ZOOKEEPER-4712).
#[test]
fn trap_11_an_old_leader_writes_nothing_after_the_next_election() {
    let mut s = Solo::open(with_log(1, 3, &[1], 1, 0));
    s.follow(3, 5).fsync();
    let epoch = Epoch::of(5);
    s.hear(3, Message::Diff { epoch, after: id(1, 1) });
    s.wait(Duration::from_secs(2));
    assert_eq!(s.role(), Role::Electing);
    s.hear_with(3, Message::Catchup { epoch, committed: Index(2) }, entries(2, &[5]));
    assert!(s.ops().is_empty());
    assert_eq!(s.committed(), None);
}

/// Trap 12: a follower that bounces in the middle of a DIFF reports what it has and gets the rest (ZOOKEEPER-4785).
#[test]
fn trap_12_a_bounce_in_the_middle_of_a_diff_loses_nothing() {
    let mut s = Solo::open(with_log(3, 3, &[1, 1, 1, 1], 1, 4));
    let epoch = s.announce(&[1, 2], 1);
    s.ack_epoch(1, epoch, 1, &[1]).ack_epoch(2, epoch, 1, &[1, 1, 1, 1]).fsync();
    s.ack_new_leader(2, epoch, 4);
    assert_eq!(s.phase(), Phase::Broadcast);
    s.unlink(1).link([1]);
    s.hear(1, Message::FollowerInfo { session: 2, promised: Epoch::of(epoch), counts: true });
    let ack = zab::message::AckEpoch {
        session: 2,
        epoch: Epoch::of(epoch),
        counts: true,
        established: Epoch::of(1),
        table: table(&[1, 1]),
    };
    s.hear(1, Message::AckEpoch(Box::new(ack)));
    assert_eq!(s.kinds(1), ["DIFF", "CATCHUP", "NEWLEADER"]);
    assert_eq!(s.sent(1)[1].1, Span::new(Index(3), Index(4)));
}

/// Trap 13: entries with a hole are not accepted, in the message or at the end of the log (ZOOKEEPER-4925).
#[test]
fn trap_13_no_hole_is_accepted() {
    let mut s = Solo::open(with_log(1, 3, &[1], 1, 0));
    s.follow(3, 5).fsync();
    let epoch = Epoch::of(5);
    s.hear(3, Message::Diff { epoch, after: id(1, 1) });
    s.hear(3, Message::NewLeader { epoch, committed: Index(0), last: id(1, 1) }).fsync();
    s.hear_with(3, Message::Proposal { epoch, committed: Index(9) }, entries(3, &[5]));
    assert_eq!((s.ignored(), s.ops().len()), (vec!["entries beyond the end of the log"], 0));
    let mut torn = entries(2, &[5, 5, 5]);
    torn.remove(1);
    s.hear_with(3, Message::Proposal { epoch, committed: Index(9) }, torn);
    assert_eq!((s.ignored(), s.ops().len()), (vec!["entries with a hole"], 0));
    assert_eq!(s.zab.status().last, id(1, 1));
    assert!(s.zab.status().committed <= Index(1), "a bound covers what is here");
}

/// Trap 14: what is sent to whom. requirement: S27, S28
#[test]
fn trap_14_diff_trunc_or_both() {
    let cases: [(&[u32], &[&str]); 4] = [
        (&[1, 1, 2, 2], &["DIFF", "NEWLEADER"]),
        (&[1, 1, 2], &["DIFF", "CATCHUP", "NEWLEADER"]),
        (&[1, 1, 1], &["TRUNC", "CATCHUP", "NEWLEADER"]),
        (&[1, 1], &["DIFF", "CATCHUP", "NEWLEADER"]),
    ];
    for (log, expected) in cases {
        let mut s = Solo::open(with_log(3, 3, &[1, 1, 2, 2], 2, 0));
        let epoch = s.announce(&[1, 2], 2);
        s.ack_epoch(2, epoch, 1, log);
        assert_eq!(s.kinds(2), expected, "{log:?}");
    }
    // Ahead of the leader within its last epoch: TRUNC alone. It established less, so it is not better.
    let mut s = Solo::open(with_log(3, 3, &[1, 1, 2, 2], 2, 0));
    let epoch = s.announce(&[1, 2], 2);
    s.ack_epoch(2, epoch, 1, &[1, 1, 2, 2, 2]);
    assert_eq!(s.kinds(2), ["TRUNC", "NEWLEADER"]);
    // Purged: SNAP.
    let mut purged = with_log(3, 3, &[], 2, 4);
    (purged.base, purged.snapshot) = (id(2, 4), id(2, 4));
    let mut s = Solo::open(purged);
    let epoch = s.announce(&[1, 2], 2);
    s.ack_epoch(2, epoch, 1, &[1, 1]);
    assert_eq!(s.kinds(2), ["SNAP"]);
    assert!(s.out.contains(&Effect::SendSnapshot { to: n(2), at: id(2, 4) }));
}

/// Trap 15: nothing committed is cut, whatever a leader says, and nothing at a point that is not here.
#[test]
fn trap_15_trunc_never_cuts_what_is_committed() {
    for to in [id(1, 1), id(3, 2)] {
        let mut s = Solo::open(with_log(1, 3, &[1, 1, 1], 1, 2));
        s.follow(3, 5).fsync();
        s.hear(3, Message::Trunc { epoch: Epoch::of(5), to });
        assert!(s.ops().is_empty());
        assert_eq!(s.role(), Role::Electing);
    }
}

/// Trap 16: progress is what arrived, never what the leader has (ZOOKEEPER-2355).
#[test]
fn trap_16_progress_advances_with_each_entry() {
    let mut s = Solo::open(with_log(1, 3, &[1], 1, 0));
    s.follow(3, 5).fsync();
    let epoch = Epoch::of(5);
    s.hear(3, Message::Diff { epoch, after: id(1, 1) });
    s.hear_with(3, Message::Catchup { epoch, committed: Index(4) }, entries(2, &[1]));
    assert_eq!((s.zab.status().last, s.committed()), (id(1, 2), Some(2)));
    assert!(matches!(s.sent(3)[0].0, Message::Ack { upto: Index(2), .. }));
    s.hear(3, Message::NewLeader { epoch, committed: Index(4), last: id(1, 4) });
    assert!(s.sent(3).is_empty(), "NEWLEADER is not acknowledged with a part of the history");
}

/// Trap 17: a leader never sends a part of what it no longer has (ZOOKEEPER-4352, 2846): the snapshot goes instead,
/// also when the driver finds the entries gone on the way.
#[test]
fn trap_17_a_purged_log_is_not_sent_in_part() {
    let mut setup = with_log(3, 3, &[1; 8], 1, 8);
    setup.options.limits.keep_entries = 2;
    let mut s = Solo::open(setup);
    let epoch = s.announce(&[1, 2], 1);
    s.ack_epoch(2, epoch, 1, &[1; 8]).fsync();
    s.ack_new_leader(2, epoch, 8);
    s.ack_epoch(1, epoch, 1, &[1, 1]);
    assert_eq!(s.sent(1)[1].1, Span::new(Index(3), Index(8)), "still in the log");
    s.step(vec![Input::SnapshotTaken { at: id(1, 6) }]);
    assert_eq!(s.ops(), [LogOp::Purge { upto: id(1, 4) }]);
    s.step(vec![Input::Unsent { to: n(1), from: Index(3) }]);
    assert_eq!(s.kinds(1), ["SNAP"]);
    assert!(s.out.contains(&Effect::SendSnapshot { to: n(1), at: id(1, 6) }));
    // What the transfer needs stays (contract schedule 15).
    s.propose(3).fsync().hear(2, Message::Ack { epoch: Epoch::of(epoch), upto: Index(11) });
    s.step(vec![Input::SnapshotTaken { at: id(epoch, 11) }]);
    assert_eq!(s.ops()[0], LogOp::Purge { upto: id(1, 6) });
}

/// What does not go out twice from one place is missing here: no third attempt, a snapshot.
///
/// Found by the simulator: the memory ran out, `sim replay 2128 --backend zab`.
#[test]
fn what_cannot_be_read_is_not_sent_again_for_ever() {
    let mut s = Solo::open(with_log(3, 3, &[1; 8], 1, 8));
    s.lead(&[1, 2], &[1; 8]);
    s.step(vec![Input::SnapshotTaken { at: id(1, 8) }]);
    s.propose(4);
    let unsent = || vec![Input::Unsent { to: n(1), from: Index(10) }];
    s.step(unsent());
    let again: Vec<_> = s.sent(1).iter().map(|(_, span, _)| *span).collect();
    assert_eq!(again, [Span::new(Index(10), Index(12))], "a frame may have been lost on the way");
    s.step(unsent());
    assert!(s.out.contains(&Effect::SendSnapshot { to: n(1), at: id(1, 8) }), "{:?}", s.out);
    assert_eq!(s.kinds(1), ["SNAP"]);
    s.propose(1);
    assert!(s.sent(1).is_empty(), "nothing behind it while it is on its way: {:?}", s.out);
}

/// A learner that holds all asks for an old entry that is damaged on its disk and purged here: it gets the snapshot,
/// what it acknowledged above it is counted again, and the reign goes on.
///
/// Found by the simulator: an invariant, `sim replay 56 --backend zab` (also 6, 44 and 8).
#[test]
fn a_snapshot_for_a_learner_that_is_ahead_of_it_counts_again() {
    let mut setup = with_log(3, 3, &[1; 8], 1, 8);
    setup.options.limits.keep_entries = 2;
    let mut s = Solo::open(setup);
    let epoch = Epoch::of(s.lead(&[1, 2], &[1; 8]));
    s.propose(3).fsync();
    for learner in [1, 2] {
        s.hear(learner, Message::Ack { epoch, upto: Index(11) });
    }
    s.step(vec![Input::SnapshotTaken { at: id(1, 8) }]);
    assert_eq!(s.ops()[0], LogOp::Purge { upto: id(1, 6) });
    let span = Span::new(Index(3), Index(3)).unwrap();
    s.hear(2, Message::Fetch { epoch, span });
    assert!(s.out.contains(&Effect::SendSnapshot { to: n(2), at: id(1, 8) }), "{:?}", s.out);
    s.hear(2, Message::Ack { epoch, upto: Index(11) });
    assert_eq!(
        s.sent(2).last().and_then(|sent| sent.1),
        Span::new(Index(9), Index(11)),
        "from the snapshot on"
    );
    s.propose(1).fsync().hear(2, Message::Ack { epoch, upto: Index(12) });
    assert_eq!((s.role(), s.committed()), (Role::Leader, Some(12)));
}

/// Trap 18: a snapshot counts when log and state moved in one durable write; a half-received one never does.
#[test]
fn trap_18_a_snapshot_is_durable_before_it_is_acknowledged() {
    let mut s = Solo::open(with_log(1, 3, &[1, 1, 2], 1, 1));
    s.follow(3, 5).fsync();
    let epoch = Epoch::of(5);
    s.hear(3, Message::Snap { epoch, at: id(3, 9) });
    assert!(s.ops().is_empty(), "nothing happens before it has arrived whole");
    let received =
        |epoch| Input::SnapshotReceived { from: n(3), epoch, at: id(3, 9), configurations: Vec::new() };
    s.step(vec![received(Epoch::of(4))]);
    assert!(s.ops().is_empty(), "a stream of an older reign is dropped");
    s.step(vec![received(epoch)]);
    assert_eq!(s.ops()[0], LogOp::Truncate { from: Index(2) }, "the log disagrees above the commit");
    assert_eq!(s.ops()[1], LogOp::Purge { upto: id(3, 9) });
    assert!(s.out.contains(&Effect::Install { at: id(3, 9), after: s.last }));
    assert!(matches!(s.sent(3)[0], (Message::Ack { upto: Index(9), .. }, None, after) if after == s.last));
    // `sim replay 29 --backend zab` (swarm): the answer to a heartbeat leaves at once, and counts as an ack.
    let pong = |s: &Solo| matches!(s.sent(3)[0].0, Message::Pong { upto: Index(9), .. });
    s.hear(3, Message::Ping { epoch, seq: 1, rtt_us: 0 });
    assert!(!pong(&s), "the purge is not durable yet: {:?}", s.out);
    s.fsync().hear(3, Message::Ping { epoch, seq: 2, rtt_us: 0 });
    assert!(pong(&s), "{:?}", s.out);
}

/// Trap 19: proposals are forwarded from NEWLEADER on, not from its ack on.
#[test]
fn trap_19_proposals_follow_new_leader() {
    let mut s = Solo::open(setup(3, 3));
    let epoch = s.announce(&[1, 2], 0);
    s.ack_epoch(2, epoch, 0, &[]).fsync();
    s.ack_new_leader(2, epoch, 0);
    s.propose(1);
    s.ack_epoch(1, epoch, 0, &[]);
    assert_eq!(s.kinds(1), ["DIFF", "CATCHUP", "NEWLEADER"], "1 is inside the history");
    s.propose(1);
    assert_eq!(s.kinds(1), ["PROPOSAL"], "2 comes before the ack");
    let lanes: Vec<Ticket> = s.sent(1).iter().map(|(_, _, after)| *after).collect();
    assert_eq!(lanes, [Ticket::NONE], "in the lane of NEWLEADER");
    s.fsync().hear(2, Message::Ack { epoch: Epoch::of(epoch), upto: Index(2) });
    assert!(s.sent(1).is_empty(), "commits wait for UPTODATE");
    s.ack_new_leader(1, epoch, 1);
    assert!(matches!(s.sent(1)[0].0, Message::UpToDate { committed: Index(2), .. }), "the latest commit");
}

/// Trap 20: a broken link is a new session; nothing passes from the old one.
#[test]
fn trap_20_a_broken_link_ends_the_session() {
    let mut s = Solo::open(setup(1, 3));
    s.follow(3, 5).fsync();
    let epoch = Epoch::of(5);
    s.hear(3, Message::Diff { epoch, after: id(0, 0) });
    s.hear(3, Message::NewLeader { epoch, committed: Index(0), last: id(0, 0) }).fsync();
    s.unlink(3);
    s.link([3]);
    assert_eq!(s.kinds(3), ["FOLLOWERINFO"], "it asks again, without an election");
    let session = s.session(3);
    s.hear_with(3, Message::Proposal { epoch, committed: Index(0) }, entries(1, &[5]));
    assert!(s.ops().is_empty(), "a proposal of the old session");
    s.hear(3, Message::LeaderInfo { session: session - 1, epoch });
    assert_eq!(s.ignored(), ["leader info of another session"]);
    s.hear(3, Message::LeaderInfo { session, epoch });
    assert_eq!(s.kinds(3), ["ACKEPOCH"]);
}

/// Trap 21: epochs fence; the counter is a dense 64-bit index, so no epoch is spent on its overflow.
#[test]
fn trap_21_an_older_epoch_is_fenced() {
    let mut s = Solo::open(setup(3, 3));
    let epoch = s.lead(&[1, 2], &[]);
    s.propose(1).fsync();
    s.hear(1, Message::Ack { epoch: Epoch::of(epoch - 1), upto: Index(1) });
    assert_eq!((s.ignored(), s.committed()), (vec!["ack of another epoch"], None));
    s.hear(1, Message::Ack { epoch: Epoch::of(epoch), upto: Index(1) });
    assert_eq!(s.committed(), Some(1));
}

/// Trap 22: a read barrier asks a quorum *after* it came. requirement: S33
#[test]
fn trap_22_a_read_barrier_is_a_quorum_round() {
    let mut s = Solo::open(setup(3, 3));
    let epoch = Epoch::of(s.lead(&[1, 2], &[]));
    s.wait(Duration::from_millis(100));
    let Message::Ping { seq: old, .. } = *s.sent(1)[0].0 else { panic!("{:?}", s.out) };
    s.step(vec![Input::Read { token: Token(7), mode: replog::ReadMode::Quorum }]);
    let Message::Ping { seq, .. } = *s.sent(1)[0].0 else { panic!("{:?}", s.out) };
    assert!(seq > old);
    let readable = |s: &Solo| s.out.iter().any(|e| matches!(e, Effect::Readable { token: Token(7), .. }));
    s.hear(1, Message::Pong { epoch, seq: old, upto: Index(0) });
    assert!(!readable(&s), "an answer to an older round proves nothing");
    s.hear(1, Message::Pong { epoch, seq, upto: Index(0) });
    assert!(readable(&s));
}

/// Whoever lost its disk is heard, and counts for nothing: a leader that hears nobody else leaves.
///
/// 1. n1 was wiped and follows without a vote. 2. n2 is cut off for a while and looks. 3. n3 goes on leading, because it
///    hears n1; n2 will not join on the word of a leader alone. Nothing commits, for ever (`sim replay 221 --backend zab`).
// requirement: S26
#[test]
fn a_leader_that_hears_only_a_wiped_server_leaves() {
    let mut s = Solo::open(setup(3, 3));
    let epoch = Epoch::of(s.lead(&[2], &[]));
    s.link([1]);
    s.hear(1, Message::FollowerInfo { session: 1, promised: Epoch::ZERO, counts: false });
    let mut left = false;
    for seq in 1..40 {
        s.wait(Duration::from_millis(100));
        left |= s.role() != Role::Leader;
        if left {
            break;
        }
        s.hear(1, Message::Pong { epoch, seq, upto: Index(0) });
    }
    assert!(left, "{:?}", s.out);
}
