//! One test per claim of the papers, headed by its section.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // helpers of tests

mod common;

use common::{Node, accept, accepted, b, empty_promise, entry, n, noop, prepare, promise};
use paxos::{Message, Options, Paxos};
use replog::conformance::{Cluster, ClusterOptions, Crash};
use replog::{Configuration, Index, Input, NodeId, Phase, QuorumRule, ReplicatedLog, Role, Span, Ticket};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(30);

fn cluster(seed: u64, voters: u32, options: Options) -> Cluster<Paxos> {
    let mut o = ClusterOptions::new(seed, voters);
    o.protocol = options;
    Cluster::new(o)
}

fn lead(c: &mut Cluster<Paxos>) -> NodeId {
    assert!(c.run_until(LONG, |c| c.leader().is_some()), "{}", c.story());
    c.leader().unwrap()
}

/// Paxos Made Simple §2.2, P1: an acceptor must accept the first proposal that it receives, even without a Prepare.
#[test]
fn p1_the_first_proposal_is_accepted() {
    let mut a = Node::new(2, 3, Options::default());
    a.tell(1, accept(b(1, 1), 0), vec![entry(1, b(1, 1), b(1, 1), "x")]);
    assert_eq!(a.log(0), [(1, "x".into(), b(1, 1))]);
    assert!(matches!(a.sent("Accepted")[..], [Message::Accepted { upto: Index(1), .. }]));
}

/// Paxos Made Simple §2.2, P1a: an acceptor accepts ballot n iff it has not promised a higher one.
#[test]
fn p1a_a_promise_refuses_lower_ballots_only() {
    let mut a = Node::new(3, 3, Options::default());
    a.tell(2, prepare(b(5, 2)), vec![]);
    a.sync();
    a.tell(1, accept(b(5, 1), 0), vec![entry(1, b(5, 1), b(5, 1), "x")]);
    assert!(a.log(0).is_empty());
    assert!(matches!(a.sent("Reject")[..], [Message::Reject { promised, .. }] if promised == b(5, 2)));
    a.tell(2, accept(b(5, 2), 0), vec![entry(1, b(5, 2), b(5, 2), "y")]);
    assert_eq!(a.log(0), [(1, "y".into(), b(5, 2))]);
    // Higher than promised: accepting is promising.
    a.tell(1, accept(b(6, 1), 0), vec![entry(1, b(6, 1), b(6, 1), "z")]);
    assert_eq!(a.written.hard.promised, b(6, 1));
}

/// Paxos Made Simple §2.2, phase 1 (b): the answer names the highest-numbered proposal accepted, and an older Prepare is
/// answered by a rejection.
#[test]
fn phase_1b_reports_what_was_accepted() {
    let mut a = Node::new(3, 3, Options::textbook());
    a.tell(1, accept(b(1, 1), 0), vec![entry(1, b(1, 1), b(1, 1), "x"), entry(2, b(1, 1), b(1, 1), "y")]);
    a.tell(2, accept(b(2, 2), 0), vec![entry(2, b(2, 2), b(2, 2), "z")]);
    a.tell(1, prepare(b(3, 1)), vec![]);
    let [(_, Message::Promise { held, ballot, .. }, span, _)] = &a.sends("Promise")[..] else {
        panic!("no promise")
    };
    assert_eq!(*ballot, b(3, 1));
    let shown: Vec<_> = held.iter().map(|r| (r.from.0, r.to.0, r.ballot)).collect();
    assert_eq!(shown, [(1, 1, b(1, 1)), (2, 2, b(2, 2))]);
    let bodies: Vec<_> = a.attached(*span).iter().map(common::text).collect();
    assert_eq!(bodies, ["x", "z"]);
    a.tell(2, prepare(b(2, 2)), vec![]);
    assert_eq!(a.sent("Reject").len(), 1);
}

/// Paxos Made Simple §2.2, P2c: the value of the highest ballot among the promises, not the most frequent one.
#[test]
fn p2c_the_highest_ballot_decides() {
    let mut p = Node::new(1, 5, Options::default());
    let ballot = p.campaign_above(5);
    p.sync();
    let old = entry(1, b(1, 2), b(1, 2), "old");
    let new = entry(1, b(2, 3), b(3, 3), "new");
    p.tell(2, promise(ballot, 0, std::slice::from_ref(&old)), vec![old.clone()]);
    assert_eq!(p.core.status().role, Role::Electing);
    p.tell(3, promise(ballot, 0, std::slice::from_ref(&new)), vec![new]);
    assert_eq!(p.core.status().role, Role::Leader);
    // The first proposer's label stays, the ballot of acceptance is the new one; on top the no-op of the reign.
    assert_eq!(p.log(0), [(1, "new".into(), ballot), (2, "-".into(), ballot)]);
    assert_eq!(p.written.entries[&Index(1)].id.epoch, b(2, 3));
}

/// Paxos Made Simple §2.2, P2b: what a majority accepted survives every later proposer, whichever quorum it asks.
#[test]
fn p2b_a_chosen_value_is_never_replaced() {
    for seed in 0..5 {
        let mut c = cluster(seed, 3, Options::default());
        let old = lead(&mut c);
        c.propose(5);
        assert!(c.run_until(LONG, |c| c.ledger().top() >= Index(6)));
        // The cluster compares every later apply with what was chosen first.
        c.crash(old, Crash::Power);
        let new = lead(&mut c);
        assert_ne!(new, old);
        c.propose(5);
        assert!(c.run_until(LONG, |c| c.ledger().top() >= Index(12)));
        c.restart(old);
        assert!(c.run_until(LONG, |c| c.applied(old).index == c.ledger().top()));
    }
}

/// Paxos Made Simple §2.3: learners (observers) are told what was chosen and accept nothing.
#[test]
fn learners_are_told_what_is_chosen() {
    let configuration = Configuration::of_voters([1, 2, 3].map(NodeId)).with_observers([NodeId(4)]);
    let mut leader = Node::in_configuration(1, configuration.clone(), Options::default());
    let ballot = leader.lead(&[2]);
    leader.propose(&["x"]);
    assert!(leader.sends("Accept").iter().all(|(to, ..)| *to != n(4)));
    leader.sync();
    leader.tell(2, accepted(ballot, 2), vec![]);
    let [(to, chosen, span, _)] = &leader.sends("Chosen")[..] else { panic!("the learner is not told") };
    assert_eq!((*to, *span), (n(4), Span::new(Index(2), Index(2))));
    let mut learner = Node::in_configuration(4, configuration, Options::default());
    learner.tell(1, common::heartbeat(ballot, 0), vec![]);
    let first = Message::Chosen { promised: ballot, committed: Index(1), ids: vec![], push: true };
    learner.tell(1, first, vec![noop(1, ballot, ballot)]);
    learner.tell(1, chosen.clone(), leader.attached(*span));
    assert_eq!(learner.commit(), Some(2));
    assert_eq!(learner.core.status().role, Role::Observer);
}

/// Paxos Made Simple §2.4: two proposers that pre-empt each other come to an end, because they back off at random.
#[test]
fn duelling_proposers_make_progress() {
    for seed in 0..20 {
        let mut o = ClusterOptions::new(seed, 5);
        o.protocol = Options::textbook();
        // Everybody times out at the same moment.
        o.protocol.timing.election_spread = Duration::from_micros(1);
        o.network.jitter = Duration::from_millis(1);
        let mut c = Cluster::<Paxos>::new(o);
        lead(&mut c);
        c.propose(1);
        assert!(c.run_until(LONG, |c| c.ledger().entries().count() >= 2), "seed {seed}\n{}", c.story());
    }
}

/// Paxos Made Simple §2.5: the promise is on stable storage before the response is sent; so is what was accepted.
#[test]
fn answers_wait_for_stable_storage() {
    let mut a = Node::new(2, 3, Options::default());
    a.tell(1, prepare(b(1, 1)), vec![]);
    assert_eq!(a.sends("Promise")[0].3, a.ticket);
    assert_eq!(a.written.hard.promised, b(1, 1));
    a.tell(1, accept(b(1, 1), 0), vec![entry(1, b(1, 1), b(1, 1), "x")]);
    assert_eq!(a.sends("Accepted")[0].3, a.ticket);
    assert_eq!(a.ticket, Ticket(2));
    // A repeated question is answered behind the same writes.
    a.tell(1, prepare(b(1, 1)), vec![]);
    assert_eq!(a.sends("Promise")[0].3, Ticket(2));
}

/// Paxos Made Simple §2.5: a proposer never uses a ballot twice, and two proposers never share one.
#[test]
fn ballots_are_used_once() {
    let mut p = Node::new(1, 3, Options::default());
    let first = p.lead(&[2]);
    p.crash();
    let second = p.campaign();
    assert!(second.round > first.round && second.proposer == first.proposer);
    let mut q = Node::new(2, 3, Options::default());
    q.tell(1, prepare(second), vec![]);
    q.sync();
    let third = q.campaign();
    assert!(third > second && third.proposer == 2);
}

/// Paxos Made Simple §3: a new leader runs phase 1 once for infinitely many slots, fills gaps with no-ops, proposes the
/// constrained slots first, and then new commands before the old ones are chosen.
#[test]
fn one_phase_1_for_the_whole_suffix() {
    let mut p = Node::new(1, 3, Options::default());
    let ballot = p.campaign_above(5);
    p.sync();
    let held = [entry(2, b(1, 2), b(1, 2), "two"), entry(4, b(1, 2), b(1, 2), "four")];
    p.tell(2, promise(ballot, 0, &held), held.to_vec());
    let shown: Vec<_> = p.log(0).into_iter().map(|(i, t, _)| (i, t)).collect();
    assert_eq!(
        shown,
        [(1, "-".into()), (2, "two".into()), (3, "-".into()), (4, "four".into()), (5, "-".into())]
    );
    assert_eq!(p.sends("Accept")[0].2, Span::new(Index(1), Index(5)));
    p.sync();
    p.tell(2, accepted(ballot, 5), vec![]);
    assert_eq!(p.commit(), Some(5));
    // Many in flight, and no further Prepare.
    for command in ["a", "b", "c"] {
        p.propose(&[command]);
        assert_eq!(p.sent("Accept").len(), 2);
        assert!(p.sent("Prepare").is_empty());
    }
    assert_eq!(p.core.status().last.index, Index(8));
}

/// Paxos Made Simple §3: slots are chosen in any order, executed in order.
#[test]
fn slots_are_accepted_out_of_order_and_executed_in_order() {
    let mut a = Node::new(2, 3, Options::default());
    let ballot = b(1, 1);
    a.tell(1, accept(ballot, 0), vec![entry(3, ballot, ballot, "c")]);
    let said = Message::Accepted {
        ballot,
        upto: Index(0),
        more: vec![Span { from: Index(3), to: Index(3) }],
        committed: Index(0),
        counts: true,
    };
    assert_eq!(a.sent("Accepted"), [said]);
    a.tell(1, accept(ballot, 3), vec![entry(1, ballot, ballot, "a")]);
    assert_eq!(a.commit(), Some(1), "slot 2 is missing");
    a.tell(1, accept(ballot, 3), vec![entry(2, ballot, ballot, "b")]);
    assert_eq!(a.commit(), Some(3));
}

/// Paxos Made Moderately Complex §2.3: different acceptors may choose different slots; holes at different acceptors do
/// not stop the prefix.
#[test]
fn every_slot_has_a_quorum_of_its_own() {
    let mut p = Node::new(1, 3, Options::default());
    let ballot = p.lead(&[2]);
    p.propose(&["a", "b", "c"]); // slots 2, 3, 4
    p.sync();
    let more = vec![Span { from: Index(4), to: Index(4) }];
    p.tell(2, Message::Accepted { ballot, upto: Index(2), more, committed: Index(1), counts: true }, vec![]);
    assert_eq!(p.commit(), Some(2));
    let more = vec![Span { from: Index(3), to: Index(3) }];
    p.tell(3, Message::Accepted { ballot, upto: Index(1), more, committed: Index(1), counts: true }, vec![]);
    assert_eq!(p.commit(), Some(4), "3 by n3, 4 by n2");
}

/// Paxos Made Simple §2.2: chosen means that a majority accepted it in one ballot. What was accepted in an earlier reign of
/// the same proposer does not count in its next one.
#[test]
fn acceptances_count_in_their_own_ballot_only() {
    let mut p = Node::new(1, 5, Options::default());
    let first = p.lead(&[2, 3]);
    p.propose(&["x"]);
    p.sync();
    p.tell(2, accepted(first, 2), vec![]);
    assert_eq!(p.commit(), None, "two of five");
    p.tell(4, Message::Reject { ballot: first, promised: b(first.round + 1, 4) }, vec![]);
    let second = p.campaign();
    p.sync();
    for peer in [2, 3] {
        p.tell(peer, empty_promise(second, Index(1)), vec![]);
    }
    assert_eq!(p.core.status().role, Role::Leader);
    p.sync();
    // Late words of the first reign, and one of the second: not a majority in either.
    p.tell(3, accepted(first, 2), vec![]);
    p.tell(4, accepted(first, 2), vec![]);
    p.tell(5, accepted(second, 2), vec![]);
    assert_eq!(p.core.status().committed, Index(1));
    p.tell(3, accepted(second, 2), vec![]);
    assert_eq!(p.commit(), Some(2));
}

/// Flexible Paxos §3: a replication quorum of 2 in 4 commits with half of the servers down, an election needs 3.
#[test]
fn flexible_quorums_need_only_intersect() {
    let mut configuration = Configuration::of_voters((1..=4).map(NodeId));
    configuration.rule = QuorumRule::Flexible { election: 3, replication: 2 };
    assert!(configuration.is_sound());
    let mut o = ClusterOptions::<Options>::new(3, 4);
    o.configuration = configuration;
    let mut c = Cluster::<Paxos>::new(o);
    let leader = lead(&mut c);
    let rest: Vec<NodeId> = c.nodes().into_iter().filter(|x| *x != leader).collect();
    c.crash(rest[0], Crash::Kill);
    c.crash(rest[1], Crash::Kill);
    let top = c.ledger().top();
    c.propose(5);
    assert!(
        c.run_until(LONG, |c| c.ledger().top() >= Index(top.0 + 5)),
        "two of four replicate\n{}",
        c.story()
    );
    assert_eq!(c.leader(), Some(leader));
    c.crash(leader, Crash::Kill);
    c.restart(rest[0]);
    c.run_for(Duration::from_secs(10));
    assert_eq!(c.leader(), None, "two of four elect nobody");
    c.restart(rest[1]);
    lead(&mut c);
    c.propose(1);
    assert!(c.run_until(LONG, |c| c.ledger().top() >= Index(top.0 + 6)));
}

/// Paxos Made Live §4.2 (and trap 3.10): a replica that lost its disk follows without counting.
#[test]
fn a_wiped_voter_does_not_count() {
    let mut leader = Node::new(1, 3, Options::default());
    let ballot = leader.lead(&[2]);
    let mut wiped = Node::new(2, 3, Options::default());
    wiped.may_vote = false;
    wiped.crash();
    assert_eq!(wiped.core.status().role, Role::Learner);
    assert_eq!(wiped.core.deadline(), None, "it never stands for election");
    wiped.tell(3, prepare(b(9, 3)), vec![]);
    assert!(wiped.sent("Promise").is_empty());
    wiped.tell(1, accept(ballot, 0), vec![noop(1, ballot, ballot)]);
    let word = wiped.sent("Accepted");
    assert!(matches!(word[..], [Message::Accepted { counts: false, .. }]));
    leader.propose(&["x"]);
    leader.sync();
    leader.tell(
        2,
        Message::Accepted { ballot, upto: Index(2), more: vec![], committed: Index(1), counts: false },
        vec![],
    );
    assert_eq!(leader.commit(), None);
    leader.tell(3, accepted(ballot, 2), vec![]);
    assert_eq!(leader.commit(), Some(2));
}

/// Paxos Made Live §5.1 (master leases): reads without a round, until the lease ends, and not after.
#[test]
fn a_lease_serves_reads_until_it_ends() {
    let mut p = Node::new(1, 3, Options { lease: true, ..Options::default() });
    p.pass(2000); // leases of a forgotten leader
    let ballot = p.lead(&[2]);
    p.wait(); // a heartbeat round
    let sent_at = p.now;
    let Some(Message::Heartbeat { round, .. }) = p.sent("Heartbeat").first().cloned() else {
        panic!("no beat")
    };
    p.pass(50);
    let alive = Message::Alive { ballot, round, arrived: Index(1), committed: Index(1), counts: true };
    p.tell(2, alive, vec![]);
    let read = Input::Read { token: replog::Token(7), mode: replog::ReadMode::Lease };
    let until = sent_at + Duration::from_millis(900);
    let served = |e: &replog::Effect<Message>| matches!(e, replog::Effect::Readable { until: Some(u), at: Index(1), .. } if *u == until);
    assert!(p.give(read.clone()).iter().any(served), "{:?}", p.out);
    p.pass(900);
    assert!(!p.give(read).iter().any(|e| matches!(e, replog::Effect::Readable { .. })));
}

/// Paxos Made Live §5.1: acceptors promise nobody else while a lease may hold, counted from the receipt.
#[test]
fn a_lease_binds_the_acceptors() {
    let mut a = Node::new(2, 3, Options { lease: true, stickiness: false, ..Options::default() });
    a.tell(3, prepare(b(1, 3)), vec![]);
    assert!(a.sent("Promise").is_empty(), "it may have forgotten a lease");
    a.pass(1001);
    a.tell(1, common::heartbeat(b(1, 1), 0), vec![]);
    a.pass(999);
    a.tell(3, prepare(b(2, 3)), vec![]);
    assert!(a.sent("Promise").is_empty());
    a.pass(2);
    a.tell(3, prepare(b(2, 3)), vec![]);
    assert_eq!(a.sent("Promise").len(), 1);
}

/// Paxos Made Simple §3 and requirement S42: in a steady reign a command costs one round, 3(N-1) messages with the
/// decision told at once and 2(N-1) with it riding; the classic protocol pays the phase 1 each time.
// requirement: S42
#[test]
fn a_stable_leader_spares_the_first_round() {
    let per_command = |options: Options| {
        let mut o = ClusterOptions::new(11, 3);
        // No heartbeat falls into the count.
        o.protocol = options;
        o.protocol.timing.heartbeat = Duration::from_secs(20);
        o.protocol.timing.election_timeout = Duration::from_secs(60);
        o.protocol.timing.election_spread = Duration::from_millis(1);
        let mut c = Cluster::<Paxos>::new(o);
        lead(&mut c);
        c.run_for(Duration::from_millis(50));
        let (messages, fsyncs, reigns) = (c.counters().messages(), c.fsyncs(), c.counters().reigns);
        let start = c.now();
        for _ in 0..10 {
            let top = c.ledger().top();
            c.propose(1);
            assert!(c.run_until(LONG, |c| c.ledger().top() > top));
        }
        let each = c.now().since(start) / 10;
        c.run_for(Duration::from_millis(50));
        assert_eq!(c.counters().reigns, reigns, "a ballot per command is not a reign per command");
        ((c.counters().messages() - messages) as f64 / 10.0, (c.fsyncs() - fsyncs) as f64 / 10.0, each)
    };
    let riding = per_command(Options { eager_commit: false, ..Options::default() });
    let eager = per_command(Options::default());
    let classic = per_command(Options { classic: true, ..Options::default() });
    // d = 100 µs, F = 200 µs.
    assert_eq!(riding, (4.0, 3.0, Duration::from_micros(400)));
    assert_eq!(eager, (6.0, 3.0, Duration::from_micros(400)));
    assert_eq!(classic, (10.0, 6.0, Duration::from_micros(800)));
}

/// Contract point 10: classic mode raises ballots, not epochs.
#[test]
fn classic_mode_raises_only_the_ballot() {
    let mut p = Node::new(1, 3, Options { classic: true, ..Options::default() });
    let reign = p.lead(&[2]);
    assert_eq!(p.core.status().room.commands, 1);
    p.propose(&["x"]);
    let Some(Message::Prepare { ballot, reign: told, .. }) = p.sent("Prepare").first().cloned() else {
        panic!("no phase 1")
    };
    assert!(ballot > reign && told == reign && p.sent("Accept").is_empty());
    assert_eq!(p.core.status().room.commands, 0);
    p.sync();
    p.tell(2, empty_promise(ballot, Index(1)), vec![]);
    assert_eq!(p.sent("Accept").len(), 2);
    p.sync();
    p.tell(2, accepted(ballot, 2), vec![]);
    assert_eq!(p.commit(), Some(2));
    assert_eq!(p.written.entries[&Index(2)].id.epoch, reign);
    assert_eq!(p.written.entries[&Index(2)].ballot, ballot);
    let status = p.core.status();
    assert_eq!((status.epoch, status.role, status.phase), (reign, Role::Leader, Phase::Broadcast));
    // An acceptor that hears of the next ballot before the last decision refuses that one: no reason to stop leading.
    p.propose(&["y"]);
    let Some(Message::Prepare { ballot: next, .. }) = p.sent("Prepare").last().cloned() else {
        panic!("no phase 1")
    };
    p.tell(3, Message::Reject { ballot, promised: next }, vec![]);
    p.sync();
    p.tell(3, empty_promise(next, Index(2)), vec![]);
    p.sync();
    p.tell(3, accepted(next, 3), vec![]);
    assert_eq!(p.commit(), Some(3));
    assert_eq!(p.core.status().epoch, reign);
    // A foreign ballot is one.
    p.tell(2, Message::Reject { ballot: next, promised: b(next.round + 1, 2) }, vec![]);
    assert_eq!(p.core.status().role, Role::Electing);
    // A follower stays in the reign.
    let mut f = Node::new(3, 3, Options { classic: true, ..Options::default() });
    f.tell(1, accept(reign, 1), vec![noop(1, reign, reign)]);
    f.tell(1, Message::Prepare { ballot, reign, have: vec![], handed: false }, vec![]);
    assert_eq!(f.sent("Promise").len(), 1);
    assert_eq!((f.core.status().leader, f.core.status().epoch), (Some(n(1)), reign));
}

/// A voter that lost its vote still tells a leader below its promise: it obeys nothing lower, and cannot raise a ballot
/// itself, so nobody else would ever bring it back.
#[test]
fn a_voter_without_a_vote_refuses_lower_ballots_aloud() {
    let mut a = Node::new(3, 3, Options::textbook());
    a.tell(2, prepare(b(5, 2)), vec![]);
    a.sync();
    a.may_vote = false;
    a.crash();
    a.tell(1, common::heartbeat(b(4, 1), 0), vec![]);
    assert!(matches!(a.sent("Reject")[..], [Message::Reject { promised, .. }] if promised == b(5, 2)));
    a.tell(1, common::heartbeat(b(6, 1), 0), vec![]);
    assert_eq!(a.core.status().leader, Some(n(1)));
}
