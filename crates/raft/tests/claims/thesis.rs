//! The claims of Ongaro's thesis that the paper leaves out: transfer (§3.10), disruption (§4.2.3), CheckQuorum
//! (§6.2), PreVote (§9.6); and what they do together.

use crate::lab::{Lab, hardened, is_vote, n, textbook};
use raft::{Message, Options, Raft};
use replog::conformance::{Cluster, ClusterOptions, Crash};
use replog::{Input, NodeId, Notice, Phase, Refusal, ReplicatedLog as _, Role, Token};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

fn transfer(lab: &mut Lab, by: u32, to: Option<u32>) {
    lab.input(n(by), Input::Transfer { token: Token(1), to: to.map(NodeId) });
}

fn refusals(lab: &Lab, by: u32) -> Vec<Refusal> {
    let notices = lab.servers[&n(by)].notices.iter();
    notices
        .filter_map(|x| match x {
            Notice::Refused { why, .. } => Some(*why),
            _ => None,
        })
        .collect()
}

/// §3.10 The leader stops taking proposals, brings the target level, and tells it to campaign.
#[test]
fn t3_10_the_target_is_brought_level_first() {
    let mut lab = Lab::new(3, hardened());
    lab.elect(n(1));
    lab.propose(n(1), 5);
    lab.take(|p| p.to == n(2));
    lab.settle(&[n(1), n(3)]);
    assert!(lab.status(n(1)).room.commands > 0);
    transfer(&mut lab, 1, Some(2));
    assert_eq!(lab.status(n(1)).room.commands, 0, "paused");
    assert_eq!(lab.count("TimeoutNow"), 0, "n2 is behind");
    lab.pass(n(1), lab.options.timing.heartbeat * 2);
    let last = lab.status(n(1)).last;
    for _ in 0..20 {
        if lab.count("TimeoutNow") > 0 {
            assert_eq!(lab.status(n(2)).last, last, "told before it was level");
        }
        lab.deliver(n(1), n(2));
        lab.sync(n(2));
        lab.deliver(n(2), n(1));
        lab.sync(n(1));
    }
    lab.settle(&[n(1), n(2), n(3)]);
    assert!(lab.leads(n(2)), "although n3 hears a leader: the old one asked for it");
}

/// §3.10 A transfer that takes longer than an election timeout is given up.
#[test]
fn t3_10_a_transfer_to_a_dead_target_is_given_up() {
    let mut lab = Lab::new(3, hardened());
    lab.elect(n(1));
    lab.crash(n(2));
    transfer(&mut lab, 1, Some(2));
    transfer(&mut lab, 1, Some(3));
    assert_eq!(refusals(&lab, 1), [Refusal::Busy], "one at a time");
    for _ in 0..12 {
        lab.pass(n(1), lab.options.timing.heartbeat);
        lab.settle(&[n(1), n(3)]);
    }
    assert_eq!(refusals(&lab, 1), [Refusal::Busy, Refusal::Unsafe]);
    assert!(lab.leads(n(1)) && lab.status(n(1)).room.commands > 0, "and the leader goes on");
}

/// §3.10 Who may not lead is not told to.
#[test]
fn t3_10_only_voters_take_over() {
    let mut lab = Lab::new(3, hardened());
    lab.configuration = lab.configuration.clone().with_observers([n(9)]);
    lab.elect(n(1));
    transfer(&mut lab, 1, Some(1));
    transfer(&mut lab, 1, Some(9));
    transfer(&mut lab, 2, Some(3));
    assert_eq!(refusals(&lab, 1), [Refusal::Unsafe, Refusal::Unsafe]);
    assert_eq!(refusals(&lab, 2), [Refusal::NoLeader]);
    transfer(&mut lab, 1, None);
    lab.settle(&[n(1), n(2), n(3)]);
    assert!(lab.leads(n(2)) || lab.leads(n(3)));
}

/// §3.10 The hand-over costs a round and an fsync, not a timeout.
#[test]
fn t3_10_a_transfer_is_faster_than_a_timeout() {
    for seed in 0..20 {
        let mut c = Cluster::<Raft>::new(ClusterOptions::new(seed, 5));
        assert!(c.run_until(LONG, |c| c.leader().is_some()));
        c.propose(10);
        c.run_for(Duration::from_millis(50));
        let (old, start) = (c.leader().unwrap(), c.now());
        c.transfer(old, None);
        assert!(c.run_until(LONG, |c| c.leader().is_some_and(|l| l != old)));
        assert!(c.now().since(start) < Duration::from_millis(5), "{:?}", c.now().since(start));
    }
}

/// §4.2.3 A server that hears a leader leaves RequestVote alone, its term included.
#[test]
fn t4_2_3_a_disruptive_server_is_ignored() {
    for stickiness in [true, false] {
        let mut lab = Lab::new(3, Options { stickiness, pre_vote: false, ..hardened() });
        lab.elect(n(1));
        lab.link(n(1), n(3), false);
        lab.drop_all();
        lab.expire(n(3)); // n3 does not hear the leader and campaigns
        lab.deliver(n(3), n(2));
        lab.sync(n(2));
        assert_eq!(
            lab.term(n(2)) > 1,
            !stickiness,
            "without stickiness the term spreads and deposes the leader"
        );
    }
}

/// §4.2.3, and its limit: whoever lost the link to the leader is not bound to it any more.
#[test]
fn a_lost_link_shortens_the_wait_and_lifts_stickiness() {
    let mut lab = Lab::new(3, hardened());
    lab.elect(n(1));
    lab.crash(n(1));
    lab.link(n(2), n(1), false);
    lab.link(n(3), n(1), false);
    let wait = lab.core(n(2)).deadline().unwrap().since(lab.servers[&n(2)].now);
    assert!(wait <= lab.options.timing.link_loss_spread, "{wait:?}");
    lab.expire(n(2));
    lab.settle(&[n(2), n(3)]);
    assert!(lab.leads(n(2)));
}

/// If only the link broke, and the leader lives, nothing happens but a refused pre-vote.
#[test]
fn a_lost_link_to_a_living_leader_costs_nothing() {
    let mut lab = Lab::new(3, hardened());
    lab.elect(n(1));
    lab.link(n(1), n(3), false);
    for _ in 0..10 {
        lab.expire(n(3));
        lab.settle(&[n(1), n(2), n(3)]);
    }
    assert!(lab.leads(n(1)));
    assert!(lab.ids().iter().all(|s| lab.term(*s) == 1), "no term was raised");
    lab.link(n(1), n(3), true);
    lab.settle(&[n(1), n(2), n(3)]);
    assert_eq!(lab.status(n(3)).leader, Some(n(1)));
}

/// §6.2 A leader that hears no majority steps down; textbook Raft does not notice.
// requirement: S39
#[test]
fn t6_2_check_quorum_ends_a_cut_off_reign() {
    for options in [hardened(), textbook()] {
        let check_quorum = options.check_quorum;
        let mut lab = Lab::new(3, options);
        lab.elect(n(1));
        lab.pass(n(1), Duration::from_secs(30));
        assert_eq!(lab.leads(n(1)), !check_quorum);
    }
}

/// §6.2 Contact with a majority, itself included, is enough.
#[test]
fn t6_2_one_of_two_followers_suffices() {
    let mut lab = Lab::new(3, hardened());
    lab.elect(n(1));
    for _ in 0..100 {
        lab.pass(n(1), lab.options.timing.heartbeat);
        lab.settle(&[n(1), n(2)]);
        lab.drop_all();
    }
    assert!(lab.leads(n(1)));
}

/// protocol-traps 2.19: heartbeats alone do not make a live quorum.
#[test]
fn followers_whose_disks_hang_are_not_a_quorum() {
    let mut lab = Lab::new(3, hardened());
    lab.elect(n(1));
    lab.propose(n(1), 1);
    lab.sync(n(1));
    for _ in 0..60 {
        lab.pass(n(1), lab.options.timing.heartbeat);
        for follower in [n(2), n(3)] {
            lab.deliver(n(1), follower); // answered at once, but never synced
            lab.deliver(follower, n(1));
        }
    }
    assert!(!lab.leads(n(1)), "nothing was committed for six seconds");
}

/// protocol-traps 2.19, etcd #7617: a leader whose own disk hangs cedes, and somebody with a disk takes over.
#[test]
fn a_leader_whose_disk_hangs_cedes() {
    let mut lab = Lab::new(3, hardened());
    lab.elect(n(1));
    lab.propose(n(1), 1);
    let start = lab.servers[&n(1)].now;
    for _ in 0..100 {
        lab.pass(n(1), lab.options.timing.heartbeat);
        lab.deliver(n(1), n(2));
        lab.deliver(n(1), n(3));
        lab.settle(&[n(2), n(3)]);
        lab.deliver(n(2), n(1));
        lab.deliver(n(3), n(1));
        if !lab.leads(n(1)) {
            break;
        }
    }
    let stalled = lab.servers[&n(1)].now.since(start);
    assert!(
        stalled >= lab.options.timing.disk_stall && stalled < lab.options.timing.disk_stall * 2,
        "{stalled:?}"
    );
    lab.settle(&[n(2), n(3)]);
    assert!(lab.leads(n(2)) || lab.leads(n(3)));
    // It does not campaign while its disk hangs.
    lab.drop_all();
    lab.pass(n(1), Duration::from_secs(20));
    assert!(!lab.pool.iter().any(|p| p.from == n(1) && is_vote(&p.message)));
}

/// §9.6 A cut-off server raises no term, so its return disturbs nobody.
#[test]
fn t9_6_a_cut_off_server_returns_quietly() {
    for pre_vote in [true, false] {
        let mut lab = Lab::new(3, Options { pre_vote, ..hardened() });
        lab.elect(n(1));
        lab.drop_all();
        for _ in 0..10 {
            lab.expire(n(3));
            lab.sync(n(3));
            lab.drop_all();
        }
        assert_eq!(lab.term(n(3)) == 1, pre_vote);
        lab.pass(n(1), lab.options.timing.heartbeat);
        lab.settle(&[n(1), n(2), n(3)]);
        lab.pass(n(1), lab.options.timing.heartbeat);
        lab.settle(&[n(1), n(2), n(3)]);
        assert_eq!(lab.leads(n(1)), pre_vote, "without PreVote the returning term deposes the leader");
    }
}

/// §9.6, protocol-traps 2.11: answering a pre-vote writes nothing and adopts nothing.
#[test]
fn t9_6_pre_votes_leave_no_trace() {
    let mut lab = Lab::new(3, hardened());
    let writes = |lab: &Lab| lab.ids().iter().map(|s| lab.servers[s].writes.len()).sum::<usize>();
    let before = writes(&lab);
    lab.expire(n(1));
    assert_eq!(lab.count("PreVote"), 2);
    lab.deliver(n(1), n(2));
    lab.deliver(n(1), n(3));
    assert_eq!(writes(&lab), before);
    assert!(lab.ids().iter().all(|s| lab.term(*s) == 0));
    // Two pre-candidates may both be granted: a pre-vote is not a vote.
    lab.expire(n(3));
    lab.deliver(n(3), n(2));
    let granted = lab.pool.iter().filter(|p| p.from == n(2));
    assert_eq!(
        granted.filter(|p| matches!(p.message, Message::PreVoteReply { granted: true, .. })).count(),
        2
    );
}

/// §9.6 A pre-vote is refused to a log that would not be voted for.
#[test]
fn t9_6_pre_votes_compare_logs() {
    let mut lab = Lab::with_logs(&[&[1], &[1, 1], &[1, 1]], hardened());
    for _ in 0..5 {
        lab.expire(n(1));
        lab.settle(&[n(1), n(2), n(3)]);
    }
    assert_eq!(lab.term(n(1)), 1, "never became a candidate");
    lab.expire(n(2));
    lab.settle(&[n(1), n(2), n(3)]);
    assert!(lab.leads(n(2)));
}

/// protocol-traps 2.10: a candidate that was cut off after it won a pre-vote asks again before it raises its term.
#[test]
fn t9_6_each_timeout_begins_with_a_pre_vote() {
    let mut lab = Lab::new(3, hardened());
    lab.expire(n(1));
    lab.settle(&[n(1)]);
    lab.deliver(n(1), n(2));
    lab.deliver(n(2), n(1));
    assert_eq!((lab.term(n(1)), lab.status(n(1)).phase), (1, Phase::Discovery));
    lab.drop_all();
    for _ in 0..10 {
        lab.sync(n(1));
        lab.expire(n(1));
        lab.drop_all();
    }
    assert_eq!((lab.term(n(1)), lab.status(n(1)).phase), (1, Phase::Election));
}

/// Partial partitions (Omni-Paxos, EuroSys 2023). Quorum loss: the leader is left with one link, to the hub.
#[test]
fn partial_partition_quorum_loss_recovers() {
    for seed in 0..20 {
        let (mut c, leader) = led(seed, 5);
        let hub = c.nodes().into_iter().find(|x| *x != leader).unwrap();
        for a in c.nodes() {
            for b in c.nodes() {
                if a < b && a != hub && b != hub {
                    c.cut(a, b);
                }
            }
        }
        let found = c.run_until(LONG, |c| c.status(hub).is_some_and(|s| s.role == Role::Leader));
        assert!(found, "only the hub reaches a quorum\n{}", c.story());
        makes_progress(&mut c, hub);
    }
}

/// Chained: B–C is cut, B leads, A hears both. No livelock, and at most one change of the leader.
#[test]
fn partial_partition_chained_is_stable() {
    for seed in 0..20 {
        let (mut c, leader) = led(seed, 3);
        let cut = c.nodes().into_iter().find(|x| *x != leader).unwrap();
        let reigns = c.counters().reigns;
        c.cut(leader, cut);
        c.run_for(Duration::from_secs(60));
        assert!(c.counters().reigns <= reigns + 1, "{} reigns", c.counters().reigns - reigns);
        let leader = c.leader().unwrap();
        makes_progress(&mut c, leader);
    }
}

/// Asymmetric: the leader is heard and hears nobody. CheckQuorum ends it; textbook Raft is stuck for ever.
#[test]
fn a_deaf_leader_steps_down() {
    for hardened in [true, false] {
        let mut options = ClusterOptions::<Options>::new(5, 3);
        if !hardened {
            options.protocol = Options::textbook();
        }
        let mut c = Cluster::<Raft>::new(options);
        assert!(c.run_until(LONG, |c| c.leader().is_some()));
        c.run_for(Duration::from_millis(200));
        let leader = c.leader().unwrap();
        c.nodes().into_iter().filter(|x| *x != leader).for_each(|x| c.cut_one_way(x, leader));
        let moved = c.run_until(LONG, |c| c.leader().is_some_and(|l| l != leader));
        assert_eq!(moved, hardened);
    }
}

/// The figures: outage after a kill at most 200 ms, after a freeze at most 2.5 s, no election without a cause.
// requirement: S36
#[test]
fn outages_stay_within_their_bounds() {
    for seed in 0..60 {
        let (mut c, old) = led(seed, 3);
        let start = c.now();
        let bound = if seed % 2 == 0 {
            c.crash(old, Crash::Kill);
            Duration::from_millis(200)
        } else {
            c.pause(old);
            Duration::from_millis(2500)
        };
        assert!(c.run_until(LONG, |c| c.leader().is_some_and(|l| l != old)));
        let leader = c.leader().unwrap();
        makes_progress(&mut c, leader);
        assert!(c.now().since(start) <= bound, "seed {seed}: {:?}\n{}", c.now().since(start), c.story());
    }
}

/// experiments.md §1: messages and fsyncs per commit of a steady leader, one round in flight.
#[test]
fn costs_per_commit_equal_the_prediction() {
    for (voters, eager) in [(3, true), (5, true), (7, true), (3, false), (5, false)] {
        let mut options = ClusterOptions::<Options>::new(3, voters);
        options.protocol.eager_commit = eager;
        let mut c = Cluster::<Raft>::new(options);
        assert!(c.run_until(LONG, |c| c.leader().is_some()));
        let leader = c.leader().unwrap();
        makes_progress(&mut c, leader);
        c.run_for(Duration::from_millis(3));
        let (messages, fsyncs) = (c.counters().messages(), c.fsyncs());
        const ROUNDS: u64 = 40; // 40 × 1 ms: no heartbeat falls into it
        for _ in 0..ROUNDS {
            c.propose(4);
            c.run_for(Duration::from_millis(1));
        }
        let others = u64::from(voters) - 1;
        let each = if eager { 3 * others } else { 2 * others };
        assert_eq!(c.counters().messages() - messages, ROUNDS * each, "{voters} voters, eager {eager}");
        assert_eq!(c.fsyncs() - fsyncs, ROUNDS * u64::from(voters));
    }
}

fn led(seed: u64, voters: u32) -> (Cluster<Raft>, NodeId) {
    let mut c = Cluster::<Raft>::new(ClusterOptions::new(seed, voters));
    assert!(c.run_until(LONG, |c| c.leader().is_some()));
    c.propose(5);
    c.run_for(Duration::from_millis(100 + seed * 7));
    let leader = c.leader().unwrap();
    (c, leader)
}

fn makes_progress(c: &mut Cluster<Raft>, leader: NodeId) {
    let top = c.ledger().top();
    c.propose_to(leader, 3);
    assert!(c.run_until(LONG, |c| c.ledger().top().0 >= top.0 + 3), "no progress\n{}", c.story());
}
