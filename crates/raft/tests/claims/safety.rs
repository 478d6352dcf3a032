//! The claims of the Raft paper's sections 5.2 to 5.4, one test each, as schedules.

use crate::lab::{Lab, entry, hardened, id, n, textbook};
use raft::Message;
use replog::{Index, LogOp};

/// §5.2 Election safety: a server votes once per term, first come, first served; two candidates of one term split.
// requirement: S37
#[test]
fn s5_2_at_most_one_leader_per_term() {
    let mut lab = Lab::new(4, textbook());
    lab.expire(n(1));
    lab.expire(n(4));
    assert_eq!((lab.term(n(1)), lab.term(n(4))), (1, 1));
    lab.deliver(n(1), n(2));
    lab.deliver(n(4), n(2));
    lab.deliver(n(4), n(3));
    lab.deliver(n(1), n(3));
    lab.settle(&[n(1), n(2), n(3), n(4)]);
    assert!(!lab.leads(n(1)) && !lab.leads(n(4)), "two votes each of four: split");
    // The next timeout breaks the tie.
    lab.elect(n(1));
    assert_eq!(lab.term(n(1)), 2);
}

/// §5.2 A vote survives a restart: the voter does not vote again in the term.
#[test]
fn s5_2_a_vote_is_durable_before_it_is_told() {
    let mut lab = Lab::new(3, textbook());
    lab.expire(n(1));
    lab.deliver(n(1), n(2));
    assert!(lab.take(|p| p.from == n(2)).is_empty(), "the vote waits for its fsync");
    lab.sync(n(2));
    assert_eq!(lab.count("Vote"), 1);
    lab.crash(n(2));
    lab.start(n(2));
    lab.drop_all();
    lab.expire(n(3));
    lab.deliver(n(3), n(2));
    lab.sync(n(2));
    let votes = lab.take(|p| p.from == n(2) && p.to == n(3));
    assert!(matches!(votes[0].message, Message::Vote { granted: false, .. }), "{votes:?}");
}

/// §5.2 A candidate that hears a leader of its own term follows it.
#[test]
fn s5_2_a_candidate_follows_the_winner() {
    let mut lab = Lab::new(3, textbook());
    lab.expire(n(3));
    lab.campaign(n(1), &[n(1), n(2)]);
    assert!(lab.leads(n(1)));
    lab.drop_all();
    lab.expire(n(1));
    lab.deliver(n(1), n(3));
    assert_eq!(lab.status(n(3)).leader, Some(n(1)));
}

/// §5.1, §5.2 Requests of an older term are refused, and the refusal deposes the sender.
// requirement: S38, S39
#[test]
fn s5_2_a_deposed_leader_learns_from_the_next_term() {
    let mut lab = Lab::new(3, textbook());
    lab.elect(n(1));
    lab.campaign(n(2), &[n(2), n(3)]);
    assert!(lab.leads(n(1)) && lab.leads(n(2)), "two leaders, of two terms");
    lab.drop_all();
    lab.propose(n(1), 1);
    let log = lab.log(n(3));
    lab.deliver(n(1), n(3));
    assert_eq!(lab.log(n(3)), log, "the stale leader's entry is refused");
    lab.sync(n(3));
    lab.deliver(n(3), n(1));
    assert!(!lab.leads(n(1)), "textbook: it learns of its end from the first answer of a later term");
    assert_eq!(lab.term(n(1)), 2);
}

/// §5.2 A Raft server follows whoever leads its own term and reaches it first, even a deposed leader: it has no
/// majority's word to compare. What it may not do is let anything commit.
// requirement: S38
#[test]
fn s5_2_a_newcomer_follows_a_stale_leader_harmlessly() {
    let mut lab = Lab::new(3, textbook());
    lab.elect(n(1));
    // n3 misses the second election.
    lab.campaign(n(2), &[n(2), n(3)]);
    lab.settle(&[n(2), n(3)]);
    lab.crash(n(3));
    lab.server(n(3)).disk.wipe();
    lab.drop_all();
    lab.start_as(n(3), false);
    lab.propose(n(1), 1);
    lab.settle(&[n(1), n(3)]);
    lab.pass(n(1), lab.options.timing.heartbeat * 3);
    lab.settle(&[n(1), n(3)]);
    assert_eq!(lab.status(n(3)).leader, Some(n(1)), "it follows the stale leader");
    assert_eq!(lab.status(n(1)).committed, Index(1), "which commits nothing with a wiped voter's help");
}

/// §5.3 Log matching, figure 7: whatever a follower's log looks like, it becomes the leader's.
#[test]
fn s5_3_figure_7_every_log_becomes_the_leaders() {
    let leader: &[u32] = &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let followers: [&[u32]; 6] = [
        &[1, 1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ];
    let mut logs = vec![leader];
    logs.extend(followers);
    let mut lab = Lab::with_logs(&logs, textbook());
    // n1 knows of no term above 6; its first campaign may be refused by n5 (7), the second one is not.
    let all = lab.ids();
    for _ in 0..3 {
        if !lab.leads(n(1)) {
            lab.campaign(n(1), &all);
        }
    }
    assert!(lab.leads(n(1)), "a b e f and itself vote");
    lab.settle(&all);
    lab.pass(n(1), lab.options.timing.heartbeat * 2); // the commit index rides a heartbeat
    lab.settle(&all);
    let term = lab.term(n(1));
    let expected: Vec<u32> = leader.iter().copied().chain([term]).collect();
    for server in lab.ids() {
        assert_eq!(lab.log(server), expected, "{server}");
        assert_eq!(lab.status(server).committed, Index(11));
    }
}

/// §5.3 A conflict is found with one probe per differing term, not one per entry.
// requirement: S40
#[test]
fn s5_3_probes_are_bounded_by_terms() {
    let mut leader = vec![1; 100];
    leader.extend(vec![6; 1000]);
    let mut follower = vec![1; 100];
    (2..=5).for_each(|t| follower.extend(vec![t; 200]));
    let mut lab = Lab::with_logs(&[&leader, &follower, &leader], textbook());
    lab.campaign(n(1), &[n(1), n(3)]);
    let mut refused = 0;
    for _ in 0..40 {
        lab.deliver(n(1), n(2));
        lab.sync(n(2));
        refused += lab.pool.iter().filter(|p| matches!(p.message, Message::Mismatch { .. })).count();
        lab.deliver(n(2), n(1));
        lab.sync(n(1));
    }
    assert_eq!(lab.log(n(2)), lab.log(n(1)));
    assert!(refused <= 5, "{refused} refusals for 4 foreign terms and 800 entries");
}

/// §5.3 Appends are idempotent: repeated and reordered ones change nothing.
#[test]
fn s5_3_appends_may_repeat_and_overtake() {
    let mut lab = Lab::new(3, textbook());
    lab.elect(n(1));
    for _ in 0..4 {
        lab.propose(n(1), 2);
    }
    let mut appends = lab.take(|p| p.to == n(2));
    assert_eq!(appends.len(), 4, "pipelined: nobody waits for an answer");
    appends.reverse();
    let again: Vec<_> = appends.iter().cloned().chain(appends.iter().rev().cloned()).collect();
    again.into_iter().chain(appends).for_each(|p| lab.hand(p));
    assert_eq!(lab.log(n(2)), lab.log(n(1)));
    lab.settle(&[n(1), n(2)]);
    assert_eq!(lab.status(n(1)).committed, Index(9));
}

/// §5.4.1 A candidate whose log lacks a committed entry cannot win.
#[test]
fn s5_4_1_voters_refuse_older_logs() {
    let mut lab = Lab::new(3, textbook());
    lab.elect(n(1));
    lab.propose(n(1), 1);
    lab.settle(&[n(1), n(2)]);
    assert_eq!(lab.status(n(1)).committed, Index(2), "committed without n3");
    lab.drop_all();
    for _ in 0..3 {
        lab.campaign(n(3), &[n(1), n(2), n(3)]);
        assert!(!lab.leads(n(3)));
    }
    lab.campaign(n(2), &[n(2), n(3)]);
    assert!(lab.leads(n(2)));
}

/// §5.4.3 Leader completeness: whoever leads later holds what was committed, over many reigns.
#[test]
fn s5_4_3_every_later_leader_holds_what_was_committed() {
    let mut lab = Lab::new(5, textbook());
    lab.elect(n(1));
    let mut committed = 1;
    for round in 0..20u32 {
        let leader = n(1 + round % 5);
        let voters = [leader, n(1 + (round + 1) % 5), n(1 + (round + 3) % 5)];
        lab.crash(leader); // it may believe to lead since an earlier term
        lab.start(leader);
        for _ in 0..3 {
            if !lab.leads(leader) {
                lab.campaign(leader, &voters);
            }
        }
        if !lab.leads(leader) {
            lab.drop_all();
            continue;
        }
        assert!(lab.status(leader).last.index.0 > committed, "{leader} lacks what was committed");
        lab.drop_all();
        lab.expire(leader);
        lab.propose(leader, 1 + round % 3);
        lab.settle(&voters);
        lab.pass(leader, lab.options.timing.heartbeat * 2);
        lab.settle(&voters);
        committed = committed.max(lab.status(leader).committed.0);
        lab.drop_all();
    }
    assert!(committed > 10, "the schedule commits something: {committed}");
}

/// §5.4.2, figure 8: an entry of an older term is not committed by counting its copies; it goes down with a later
/// leader (d), or commits below an entry of the current term (e).
// requirement: S41
#[test]
fn s5_4_2_figure_8_old_entries_commit_only_below_new_ones() {
    for covered in [false, true] {
        // (a, b) S1 led in 2 and left 2:2 on S2; S5 led in 3 and holds 3:2 alone.
        let logs: [&[u32]; 5] = [&[1, 2], &[1, 2], &[1], &[1], &[1, 3]];
        let mut lab = Lab::with_logs(&logs, textbook());
        // (c) S1 leads in a later term with votes of S2 S3 S4, and copies 2:2 to S3, but not its no-op.
        let voters = [n(1), n(2), n(3), n(4)];
        for _ in 0..3 {
            if !lab.leads(n(1)) {
                lab.campaign(n(1), &voters);
            }
        }
        assert!(lab.leads(n(1)));
        let term = lab.term(n(1));
        lab.drop_all();
        lab.pass(n(1), lab.options.timing.heartbeat * 2);
        for _ in 0..4 {
            for mut packet in lab.take(|p| [n(2), n(3)].contains(&p.to) && p.from == n(1)) {
                if !covered {
                    packet.entries.retain(|e| e.id.epoch.round < term);
                }
                lab.hand(packet);
            }
            for server in [n(1), n(2), n(3)] {
                lab.sync(server);
                lab.deliver(server, n(1));
            }
        }
        assert_eq!(lab.log(n(3)).get(..2), Some(&[1, 2][..]), "2:2 is on a majority");
        let committed = lab.status(n(1)).committed;
        lab.crash(n(1));
        lab.drop_all();
        for _ in 0..6 {
            if !lab.leads(n(5)) {
                lab.campaign(n(5), &[n(2), n(3), n(4), n(5)]);
            }
        }
        if covered {
            // (e) the no-op on top is on a majority: 2:2 is committed, and S5 cannot win.
            assert_eq!(committed, Index(3));
            assert!(!lab.leads(n(5)));
        } else {
            // (d) nothing was committed, and S5 may overwrite 2:2.
            assert_eq!(committed, Index::ZERO, "2:2 was counted");
            assert!(lab.leads(n(5)));
            lab.pass(n(5), lab.options.timing.heartbeat * 2);
            lab.settle(&[n(2), n(3), n(4), n(5)]);
            assert_eq!(lab.log(n(3)).get(..2), Some(&[1, 3][..]));
        }
    }
}

/// §5.4.3 State machine safety: a commit index that overtakes the entries applies nothing that the leader of the
/// term was not seen to hold (contract schedule 10).
#[test]
fn s5_4_3_a_commit_that_overtakes_its_entries_applies_nothing_wrong() {
    // n3 holds 2:2 of a deposed leader; n1 commits 3:2 (no-op) with n2.
    let mut lab = Lab::with_logs(&[&[1], &[1], &[1, 2]], textbook());
    for _ in 0..3 {
        if !lab.leads(n(1)) {
            lab.campaign(n(1), &[n(1), n(2)]);
        }
    }
    lab.settle(&[n(1), n(2)]);
    assert_eq!(lab.status(n(1)).committed, Index(2));
    lab.drop_all();
    let term = lab.status(n(1)).epoch;
    let commit = Message::Commit { term, commit: Index(2) };
    lab.hand(crate::lab::Packet { from: n(1), to: n(3), message: commit, entries: Vec::new() });
    assert_eq!(lab.status(n(3)).committed, Index::ZERO);
    assert!(lab.servers[&n(3)].applied.is_empty());
    lab.pass(n(1), lab.options.timing.heartbeat * 3);
    lab.settle(&[n(1), n(2), n(3)]);
    lab.pass(n(1), lab.options.timing.heartbeat * 3);
    lab.settle(&[n(1), n(2), n(3)]);
    assert_eq!(lab.servers[&n(3)].applied.len(), 2);
    assert_eq!(lab.servers[&n(3)].applied[1].id.epoch, term);
}

/// §5.3 A leader never overwrites or removes entries of its own log; a follower removes only what conflicts.
#[test]
fn s5_3_only_conflicts_are_removed() {
    let mut lab = Lab::with_logs(&[&[1, 1], &[1, 1], &[1, 1, 1, 1]], textbook());
    for _ in 0..3 {
        if !lab.leads(n(1)) {
            lab.campaign(n(1), &[n(1), n(2)]);
        }
    }
    lab.settle(&[n(1), n(2)]);
    lab.pass(n(1), lab.options.timing.heartbeat * 3);
    lab.settle(&[n(1), n(2), n(3)]);
    let cuts = |lab: &Lab, s| -> Vec<Index> {
        let ops = lab.servers[&s].writes.iter().flat_map(|w| &w.ops);
        ops.filter_map(|op| match op {
            LogOp::Truncate { from } => Some(*from),
            _ => None,
        })
        .collect()
    };
    assert!(cuts(&lab, n(1)).is_empty() && cuts(&lab, n(2)).is_empty());
    assert_eq!(cuts(&lab, n(3)), [Index(3)], "1:1 and 1:2 match and stay");
}

/// §5.5 Crashes of followers are handled by retrying for ever; a restarted one is where its disk is.
#[test]
fn s5_5_a_restarted_follower_continues() {
    let mut lab = Lab::new(3, hardened());
    lab.elect(n(1));
    lab.propose(n(1), 5);
    lab.deliver(n(1), n(2));
    lab.crash(n(2)); // before its fsync
    lab.settle(&[n(1), n(3)]);
    assert_eq!(lab.status(n(1)).committed, Index(6));
    lab.drop_all();
    lab.start(n(2));
    lab.settle(&[n(1), n(2), n(3)]);
    assert_eq!(lab.log(n(2)), lab.log(n(1)));
    assert_eq!(lab.status(n(2)).committed, Index(6));
}

/// Malformed entries of a peer change nothing.
#[test]
fn entries_that_cannot_be_a_leaders_are_ignored() {
    let mut lab = Lab::new(3, textbook());
    lab.elect(n(1));
    let term = lab.status(n(1)).epoch;
    let append = |prev| Message::AppendEntries { term, prev, commit: Index(99), round: 1, sync: false };
    let wrong = [
        (append(id(1, 1)), vec![entry(1, 3)]),              // a gap behind prev
        (append(id(1, 1)), vec![entry(1, 2), entry(1, 4)]), // a gap inside
        (append(id(1, 1)), vec![entry(9, 2)]),              // of a term that has not come
        (append(id(1, 1)), vec![entry(0, 2)]),              // terms that decrease
        (append(id(9, 1)), vec![]),
    ];
    for (message, entries) in wrong {
        lab.hand(crate::lab::Packet { from: n(1), to: n(2), message, entries });
        assert_eq!(lab.log(n(2)), [1]);
    }
}
