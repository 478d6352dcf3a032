//! Corners that a random run seldom turns: each test spells out one schedule and what may not come of it.

use crate::lab::{Lab, entries, hardened, id, n, textbook};
use raft::{Message, Options};
use replog::{
    Configuration, ConfigurationAt, Entry, EntryMeta, Epoch, HardState, Index, Input, LogId, NodeId, Notice,
    ReadMode, Refusal, Role, Setup, Token,
};
use std::time::Duration;

/// Server 1 with a log of term 1 in which the entries at these indexes configure so many voters.
fn configured(at_start: Vec<ConfigurationAt>, in_log: &[(usize, u32)]) -> Lab {
    let mut metas: Vec<EntryMeta> = entries(&[1, 1, 1, 1]).iter().map(Entry::meta).collect();
    for (index, voters) in in_log {
        metas[index - 1].configuration = Some(Box::new(Configuration::of_voters((1..=*voters).map(NodeId))));
    }
    opened(at_start, metas, Epoch::of(1), hardened())
}

/// Server 1 of three, alone so far, on this log.
fn opened(at_start: Vec<ConfigurationAt>, metas: Vec<EntryMeta>, promised: Epoch, options: Options) -> Lab {
    let mut lab = Lab::new(3, options.clone());
    lab.drop_all();
    lab.open(Setup {
        id: n(1),
        seed: 1,
        configurations: at_start,
        hard_state: HardState { promised, ..HardState::default() },
        base: LogId::ZERO,
        snapshot: LogId::ZERO,
        entries: metas,
        damaged: Vec::new(),
        may_vote: true,
        options,
    });
    lab
}

/// Whom n1 asks for its vote once it hears nobody.
fn asked(lab: &mut Lab) -> Vec<u32> {
    lab.pass(n(1), Duration::from_secs(5));
    let asked = lab.take(|p| matches!(p.message, Message::PreVote { .. }));
    let mut asked: Vec<u32> = asked.iter().map(|p| p.to.0).collect();
    asked.sort_unstable();
    asked.dedup();
    asked
}

/// Thesis §4.1: the newest configuration in the log is in force from the start, committed or not.
#[test]
fn a_start_takes_the_newest_configuration_of_the_log() {
    let of = |voters: u32| Configuration::of_voters((1..=voters).map(NodeId));
    assert_eq!(asked(&mut configured(Vec::new(), &[(2, 3)])), [2, 3], "nobody else says who votes");
    let first = || vec![ConfigurationAt { from: Index::ZERO, configuration: of(3) }];
    assert_eq!(asked(&mut configured(first(), &[(2, 2)])), [2]);
    let mut alone = configured(first(), &[(2, 2), (4, 1)]);
    alone.expire(n(1));
    alone.sync(n(1));
    assert_eq!(alone.status(n(1)).role, Role::Leader, "it is a quorum by itself");
}

fn voters(count: u32) -> Vec<ConfigurationAt> {
    vec![ConfigurationAt {
        from: Index::ZERO,
        configuration: Configuration::of_voters((1..=count).map(NodeId)),
    }]
}

/// Thesis §3.10: whoever is to be elected must know the configuration that elects it.
#[test]
fn no_transfer_while_a_configuration_may_be_rolled_back() {
    let mut lab = configured(voters(3), &[(4, 3)]);
    lab.campaign(n(1), &[n(1), n(2), n(3)]);
    assert!(lab.leads(n(1)) && lab.status(n(1)).committed < Index(4));
    lab.input(n(1), Input::Transfer { token: Token(1), to: Some(n(2)) });
    let refused = |x: &Notice| matches!(x, Notice::Refused { token: Token(1), why: Refusal::Busy });
    assert!(lab.servers[&n(1)].notices.iter().any(refused));
}

/// Terms are 32 bits (they are half of a zxid). After the last one nobody can be elected, and nothing wraps around.
#[test]
fn after_the_last_term_nobody_campaigns() {
    for promised in [Epoch::of(u32::MAX), Epoch::of(u32::MAX - 1)] {
        let mut lab = opened(voters(3), Vec::new(), promised, textbook());
        lab.pass(n(1), Duration::from_secs(5));
        assert_eq!(lab.term(n(1)), u32::MAX);
        let asked = lab.take(|p| matches!(p.message, Message::RequestVote { .. }));
        assert_eq!(asked.is_empty(), promised == Epoch::of(u32::MAX));
    }
}

fn readable(lab: &Lab, by: u32) -> usize {
    let notices = lab.servers[&n(by)].notices.iter();
    notices.filter(|notice| matches!(notice, Notice::Readable { .. })).count()
}

/// Rounds that nobody answers pile up to a bound; the barriers that began them are all answered in the end.
// requirement: S33
#[test]
fn many_rounds_without_an_answer_cost_no_barrier() {
    let mut options = hardened();
    options.lease = Some(Duration::from_millis(100));
    let mut lab = Lab::new(3, options);
    lab.elect(n(1));
    for token in 1..=70 {
        lab.input(n(1), Input::Read { token: Token(token), mode: ReadMode::Quorum });
    }
    assert_eq!(readable(&lab, 1), 0);
    lab.settle(&[n(1), n(2), n(3)]);
    assert_eq!(readable(&lab, 1), 70);
}

/// A lease rests on voters that stay with their leader: without stickiness a lease read costs a round like any other.
#[test]
fn no_lease_without_stickiness() {
    for stickiness in [true, false] {
        let mut options = hardened();
        options.lease = Some(Duration::from_millis(100));
        options.stickiness = stickiness;
        let mut lab = Lab::new(3, options);
        lab.elect(n(1));
        lab.input(n(1), Input::Read { token: Token(1), mode: ReadMode::Quorum });
        lab.settle(&[n(1), n(2), n(3)]);
        lab.input(n(1), Input::Read { token: Token(2), mode: ReadMode::Lease });
        assert_eq!(readable(&lab, 1), 1 + usize::from(stickiness));
        lab.settle(&[n(1), n(2), n(3)]);
        assert_eq!(readable(&lab, 1), 2);
    }
}

fn accepted(lab: &Lab, by: u32) -> usize {
    let notices = lab.servers[&n(by)].notices.iter();
    notices.filter(|notice| matches!(notice, Notice::InstallAccepted { .. })).count()
}

/// What a leader of this term sends was committed in it or before: a snapshot of a later term is nobody's.
#[test]
fn a_snapshot_of_a_term_to_come_is_not_taken() {
    let mut lab = Lab::new(3, hardened());
    lab.elect(n(1));
    let snapshot = |at: LogId| Input::SnapshotReceived {
        from: n(1),
        epoch: Epoch::of(1),
        at,
        configurations: Vec::new(),
    };
    lab.input(n(3), snapshot(id(9, 30)));
    assert_eq!(accepted(&lab, 3), 0);
    // One of the present term that says nothing of members leaves them as they are.
    lab.input(n(3), snapshot(id(1, 30)));
    assert_eq!(accepted(&lab, 3), 1);
    lab.sync(n(3));
    lab.drop_all();
    [1, 2].iter().for_each(|peer| lab.link(n(3), n(*peer), false));
    [1, 2].iter().for_each(|peer| lab.link(n(3), n(*peer), true));
    lab.pass(n(3), Duration::from_secs(5));
    let asked = lab.take(|p| p.from == n(3) && matches!(p.message, Message::PreVote { .. }));
    assert!(asked.iter().any(|p| p.to == n(1)) && asked.iter().any(|p| p.to == n(2)), "{asked:?}");
}

/// What the driver could not send to a follower that gets a snapshot is in that snapshot: no second stream, no probe.
#[test]
fn entries_that_did_not_go_out_before_a_snapshot_are_forgotten() {
    let mut options = hardened();
    options.limits.keep_entries = 2;
    let mut lab = Lab::new(3, options);
    lab.elect(n(1));
    lab.link(n(1), n(3), false);
    lab.propose(n(1), 18);
    lab.settle(&[n(1), n(2)]);
    lab.drop_all();
    lab.input(n(1), Input::SnapshotTaken { at: id(1, 18) });
    lab.sync(n(1));
    lab.link(n(1), n(3), true);
    lab.settle(&[n(1), n(3)]);
    let streams = |lab: &Lab| {
        let notices = lab.servers[&n(1)].notices.iter();
        notices.filter(|notice| matches!(notice, Notice::SendSnapshot { .. })).count()
    };
    assert_eq!(streams(&lab), 1);
    lab.input(n(1), Input::Unsent { to: n(3), from: Index(17) });
    assert_eq!((streams(&lab), lab.count("AppendEntries")), (1, 0));
}

/// The wait after a lost campaign is drawn from a spread that doubles. Where there is none it would be over at once, the
/// next campaign be refused, and so on without end (`sim model`, hardened, a crash and a loss).
#[test]
fn without_a_spread_a_refused_campaign_waits_for_its_timer() {
    let mut options = hardened();
    options.timing.link_loss_spread = Duration::ZERO;
    let mut lab = Lab::new(3, options);
    lab.elect(n(1));
    lab.link(n(1), n(3), false);
    let mut asked = 0;
    for _ in 0..5 {
        lab.step(n(3));
        let questions = lab.take(|p| p.from == n(3) && matches!(p.message, Message::PreVote { .. }));
        asked += questions.len();
        questions.into_iter().for_each(|packet| lab.hand(packet));
        lab.settle(&[n(2), n(3)]);
    }
    assert_eq!(asked, 1, "n2 hears its leader and refuses; the clock of n3 stands still");
}
