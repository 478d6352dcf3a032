//! Read-only operations: section 8 of the Raft paper, §6.4 of the thesis.

use crate::lab::{Lab, hardened, n};
use raft::{Message, Options};
use replog::conformance::{Cluster, ClusterOptions};
use replog::{Index, Input, Notice, ReadMode, ReplicatedLog as _, Time, Token};
use std::time::Duration;

fn ask(lab: &mut Lab, by: u32, token: u64, mode: ReadMode) {
    lab.input(n(by), Input::Read { token: Token(token), mode });
}

fn readable(lab: &Lab, by: u32) -> Vec<(u64, u64)> {
    let notices = lab.servers[&n(by)].notices.iter();
    notices
        .filter_map(|x| match x {
            Notice::Readable { token, at, .. } => Some((token.0, at.0)),
            _ => None,
        })
        .collect()
}

fn until(lab: &Lab, by: u32) -> Option<Time> {
    lab.servers[&n(by)].notices.iter().rev().find_map(|x| match x {
        Notice::Readable { until, .. } => Some(*until),
        _ => None,
    })?
}

fn refused(lab: &Lab, by: u32) -> Vec<u64> {
    let notices = lab.servers[&n(by)].notices.iter();
    notices
        .filter_map(|x| match x {
            Notice::Refused { token, .. } => Some(token.0),
            _ => None,
        })
        .collect()
}

/// §8 A leader exchanges heartbeats with a majority before it answers; one round serves all that waited.
#[test]
fn s8_a_barrier_costs_one_round_for_the_whole_batch() {
    let mut lab = Lab::new(3, hardened());
    lab.elect(n(1));
    lab.propose(n(1), 4);
    lab.settle(&[n(1), n(2), n(3)]);
    let server = lab.server(n(1)).replica.as_mut().unwrap();
    (1..=5).for_each(|t| server.push(Input::Read { token: Token(t), mode: ReadMode::Quorum }));
    lab.turn(n(1));
    assert!(readable(&lab, 1).is_empty());
    assert_eq!((lab.pool.len(), lab.count("AppendEntries")), (2, 2));
    lab.deliver(n(1), n(2));
    lab.deliver(n(2), n(1));
    assert_eq!(readable(&lab, 1), [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]);
}

/// §8 An answer to an older round confirms nothing that was asked later.
#[test]
fn s8_answers_from_before_the_question_do_not_count() {
    let mut lab = Lab::new(3, hardened());
    lab.elect(n(1));
    lab.pass(n(1), lab.options.timing.heartbeat * 2);
    lab.deliver(n(1), n(2));
    let old = lab.take(|p| p.from == n(2));
    assert!(!old.is_empty());
    ask(&mut lab, 1, 7, ReadMode::Quorum);
    lab.drop_all();
    old.into_iter().for_each(|p| lab.hand(p));
    assert!(readable(&lab, 1).is_empty());
    // The round is repeated with the next heartbeat, so a lost message only delays it.
    lab.pass(n(1), lab.options.timing.heartbeat * 2);
    lab.settle(&[n(1), n(3)]);
    assert_eq!(readable(&lab, 1).len(), 1);
}

/// §8, protocol-traps 2.7: a new leader answers only once an entry of its own term is committed.
#[test]
fn s8_a_new_leader_waits_for_its_first_commit() {
    let mut lab = Lab::new(3, hardened());
    lab.elect(n(1));
    lab.propose(n(1), 3);
    lab.deliver(n(1), n(2));
    lab.sync(n(2));
    lab.sync(n(1));
    lab.deliver(n(2), n(1));
    let committed = lab.status(n(1)).committed;
    assert_eq!(committed, Index(4), "acknowledged; n2 does not know yet");
    lab.drop_all();
    lab.crash(n(1));
    lab.link(n(2), n(1), false);
    lab.link(n(3), n(1), false);
    lab.campaign(n(2), &[n(2), n(3)]);
    assert!(lab.leads(n(2)));
    assert_eq!(lab.status(n(2)).committed, Index(1), "it does not know what is committed");
    ask(&mut lab, 2, 1, ReadMode::Quorum);
    lab.deliver(n(2), n(3));
    lab.deliver(n(3), n(2));
    assert!(readable(&lab, 2).is_empty());
    lab.settle(&[n(2), n(3)]);
    assert_eq!(readable(&lab, 2), [(1, 5)], "behind everything that was acknowledged");
}

/// §6.4 of the thesis: followers ask the leader, and the answer waits for a round as well.
#[test]
fn t6_4_followers_ask_the_leader() {
    let mut lab = Lab::new(3, hardened());
    lab.elect(n(1));
    lab.propose(n(1), 2);
    lab.settle(&[n(1), n(2)]);
    lab.drop_all();
    ask(&mut lab, 3, 1, ReadMode::Quorum);
    ask(&mut lab, 3, 2, ReadMode::Quorum);
    lab.deliver(n(3), n(1));
    assert_eq!(lab.count("ReadIndexReply"), 0);
    lab.settle(&[n(1), n(2)]);
    lab.deliver(n(1), n(3));
    assert_eq!(readable(&lab, 3), [(1, 3), (2, 3)]);
    // Lost questions are asked again.
    ask(&mut lab, 3, 3, ReadMode::Quorum);
    lab.drop_all();
    lab.pass(n(1), lab.options.timing.heartbeat);
    lab.pass(n(3), lab.options.timing.heartbeat);
    lab.settle(&[n(1), n(2), n(3)]);
    assert_eq!(readable(&lab, 3).len(), 3);
}

/// §6.4 A leader that was replaced without knowing it confirms nothing.
#[test]
fn t6_4_a_deposed_leader_serves_nothing() {
    let mut lab = Lab::new(3, crate::lab::textbook());
    lab.elect(n(1));
    lab.campaign(n(2), &[n(2), n(3)]);
    lab.settle(&[n(2), n(3)]);
    lab.propose(n(2), 1);
    lab.settle(&[n(2), n(3)]);
    lab.drop_all();
    assert!(lab.leads(n(1)));
    ask(&mut lab, 1, 1, ReadMode::Quorum);
    ask(&mut lab, 1, 2, ReadMode::Lease);
    lab.settle(&[n(1), n(2), n(3)]);
    assert!(readable(&lab, 1).is_empty());
    assert_eq!(refused(&lab, 1), [1, 2]);
}

/// Who has no leader says so at once; who loses it as well.
#[test]
fn without_a_leader_barriers_are_refused() {
    let mut lab = Lab::new(3, hardened());
    ask(&mut lab, 2, 1, ReadMode::Quorum);
    assert_eq!(refused(&lab, 2), [1]);
    lab.elect(n(1));
    ask(&mut lab, 2, 2, ReadMode::Quorum);
    lab.drop_all();
    lab.link(n(1), n(2), false);
    lab.expire(n(2));
    lab.expire(n(2));
    assert_eq!(refused(&lab, 2), [1, 2]);
}

fn leases() -> Options {
    Options { lease: Some(Duration::from_millis(100)), ..hardened() }
}

/// §6.4.1 A lease lasts an election timeout less the clocks' error, from the moment its round was sent.
#[test]
fn t6_4_1_a_lease_counts_from_the_sending_of_its_round() {
    let mut lab = Lab::new(3, leases());
    lab.elect(n(1));
    lab.pass(n(1), lab.options.timing.heartbeat);
    let sent = lab.servers[&n(1)].now;
    let round = lab.take(|p| p.from == n(1));
    lab.pass(n(1), Duration::from_millis(50));
    round.into_iter().for_each(|p| lab.hand(p));
    lab.settle(&[n(1), n(2), n(3)]);
    ask(&mut lab, 1, 1, ReadMode::Lease);
    assert_eq!(readable(&lab, 1).len(), 1, "no round");
    assert_eq!(until(&lab, 1), Some(sent + Duration::from_millis(900)));
    // Nothing heard for longer than the lease: a round again.
    lab.pass(n(1), Duration::from_millis(851));
    ask(&mut lab, 1, 2, ReadMode::Lease);
    assert_eq!(readable(&lab, 1).len(), 1);
}

/// protocol-traps 2.8: voters that are bound to a leader do not vote for another, not even after a lost link or a
/// restart, while a lease may run on their word.
#[test]
fn t6_4_1_nobody_votes_while_a_lease_may_run() {
    let mut lab = Lab::new(3, leases());
    lab.elect(n(1));
    lab.link(n(1), n(2), false);
    lab.link(n(1), n(3), false);
    let wait = lab.core(n(2)).deadline().unwrap().since(lab.servers[&n(2)].now);
    assert!(wait >= lab.options.timing.election_timeout, "{wait:?}");
    lab.crash(n(3));
    lab.start(n(3));
    lab.link(n(1), n(3), false);
    lab.drop_all();
    lab.expire(n(2));
    lab.settle(&[n(2), n(3)]);
    assert!(!lab.leads(n(2)), "n3 restarted and still keeps its word");
    lab.pass(n(3), lab.options.timing.election_timeout);
    lab.expire(n(2));
    lab.settle(&[n(2), n(3)]);
    assert!(lab.leads(n(2)) || lab.leads(n(3)));
}

/// protocol-traps 2.8: a later term heard of by chance does not release a voter from the lease that runs on its word.
#[test]
fn t6_4_1_a_later_term_does_not_release_voters() {
    let mut lab = Lab::new(3, leases());
    lab.elect(n(1));
    lab.pass(n(1), lab.options.timing.heartbeat);
    lab.settle(&[n(1), n(2), n(3)]);
    let (term, last) = (replog::Epoch::of(7), lab.status(n(3)).last);
    let stale = Message::Stale { term };
    lab.hand(crate::lab::Packet { from: n(3), to: n(2), message: stale, entries: Vec::new() });
    assert_eq!(lab.term(n(2)), 7);
    let term = replog::Epoch::of(8);
    let ask = Message::RequestVote { term, last, transfer: false };
    lab.hand(crate::lab::Packet { from: n(3), to: n(2), message: ask, entries: Vec::new() });
    assert_eq!(lab.term(n(2)), 7, "n1 may still serve under its lease");
}

/// protocol-traps 2.7, 2.8: once a successor was told to campaign there is no lease any more, even if the transfer
/// is given up: the message may still be under way.
#[test]
fn t6_4_1_a_transfer_ends_the_lease_for_good() {
    let mut lab = Lab::new(3, leases());
    lab.elect(n(1));
    lab.pass(n(1), lab.options.timing.heartbeat);
    lab.settle(&[n(1), n(2), n(3)]);
    lab.input(n(1), Input::Transfer { token: Token(9), to: Some(n(2)) });
    let told = lab.take(|p| matches!(p.message, Message::TimeoutNow { .. }));
    assert_eq!(told.len(), 1);
    for _ in 0..30 {
        lab.pass(n(1), lab.options.timing.heartbeat);
        lab.take(|p| matches!(p.message, Message::TimeoutNow { .. }));
        lab.settle(&[n(1), n(2), n(3)]);
    }
    assert!(lab.leads(n(1)) && refused(&lab, 1) == [9], "given up");
    ask(&mut lab, 1, 1, ReadMode::Lease);
    assert!(readable(&lab, 1).is_empty(), "served under a lease that a late TimeoutNow can break");
    lab.settle(&[n(1), n(2), n(3)]);
    assert_eq!(readable(&lab, 1).len(), 1, "by a round");
    assert_eq!(until(&lab, 1), None);
}

/// Barriers on all replicas under load and leader changes are fresh (the cluster checks each of them).
#[test]
fn barriers_stay_fresh_over_leader_changes() {
    for seed in 0..20 {
        let mut options = ClusterOptions::<Options>::new(seed, 3);
        options.protocol = if seed % 2 == 0 { hardened() } else { leases() };
        let mut c = Cluster::<raft::Raft>::new(options);
        for round in 0..12 {
            assert!(c.run_until(Duration::from_secs(60), |c| c.leader().is_some()));
            let leader = c.leader().unwrap();
            c.propose(3);
            for node in c.nodes() {
                c.read(node, if round % 2 == 0 { ReadMode::Quorum } else { ReadMode::Lease });
            }
            match round % 4 {
                0 => drop(c.transfer(leader, None)),
                1 => c.pause(leader),
                2 => c.isolate(leader),
                _ => c.break_link(leader, n(1 + leader.0 % 3)),
            }
            c.run_for(Duration::from_millis(700 + 130 * round));
            c.resume(leader);
            c.heal();
        }
    }
}
