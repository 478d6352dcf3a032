//! Rules that implementations of Raft broke, by their number in the project's list of protocol traps (section 2).
//! Traps that are claims of the paper or the thesis are tested there: 1, 4 and 16 in `safety`, 7 and 8 in `reads`,
//! 9 to 12, 17 and 19 in `thesis`. Trap 20 (applied index stored with the state) concerns the layer above.

use crate::lab::{Lab, Packet, entry, hardened, id, n, textbook};
use raft::{Message, Options};
use replog::{
    Body, Configuration, ConfigurationAt, Entry, Epoch, HardState, Index, Input, LogId, LogOp, Notice,
    ReadMode, Refusal, ReplicatedLog as _, Role, Setup, Time, Token,
};

fn deadline(lab: &Lab, of: u32) -> Option<Time> {
    lab.core(n(of)).deadline()
}

fn hand(lab: &mut Lab, from: u32, to: u32, message: Message, entries: Vec<Entry>) {
    lab.hand(Packet { from: n(from), to: n(to), message, entries });
}

fn append(term: u32, prev: LogId, commit: u64) -> Message {
    let (term, commit) = (Epoch::of(term), Index(commit));
    Message::AppendEntries { term, prev, commit, round: 0, sync: false }
}

/// Highest position that `by` says to hold, in the messages under way.
fn claimed(lab: &Lab, by: u32) -> Option<Index> {
    let packets = lab.pool.iter().filter(|p| p.from == n(by));
    packets
        .filter_map(|p| match p.message {
            Message::Appended { matched, .. } => Some(matched),
            _ => None,
        })
        .max()
}

/// Whoever looks from outside sees every reign: the vote that wins term 2 and an append of term 3 come in one batch.
#[test]
fn a_reign_that_ends_within_its_first_step_is_told() {
    let mut lab = Lab::with_logs(&[&[1], &[1], &[1]], textbook());
    lab.expire(n(1));
    lab.sync(n(1));
    lab.drop_all();
    assert_eq!((lab.term(n(1)), lab.leads(n(1))), (2, false));
    lab.server(n(1)).notices.clear();
    let vote = Message::Vote { term: Epoch::of(2), granted: true };
    let replica = lab.server(n(1)).replica.as_mut().unwrap();
    replica.push(Input::Message { from: n(2), message: vote, entries: vec![] });
    replica.push(Input::Message { from: n(3), message: append(3, id(1, 1), 0), entries: vec![] });
    lab.turn(n(1));
    let told = lab.servers[&n(1)].notices.iter().filter_map(|x| match x {
        Notice::Phase { role, epoch, .. } => Some((*role, epoch.round)),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [(Role::Leader, 2), (Role::Follower, 3)]);
}

/// Trap 1: a new leader has an entry of its own to count.
#[test]
fn trap_1_a_reign_begins_with_a_no_op() {
    let mut lab = Lab::with_logs(&[&[1], &[1], &[1]], hardened());
    lab.elect(n(1));
    let last = lab.servers[&n(1)].applied.last().unwrap();
    assert_eq!((last.id, &last.body), (id(2, 2), &Body::Noop));
}

/// Trap 2: only a vote given, or the current leader, resets the timer.
#[test]
fn trap_2_what_resets_the_timer() {
    let mut lab = Lab::with_logs(&[&[1, 1], &[1, 1], &[1]], textbook());
    let before = deadline(&lab, 2);
    lab.server(n(2)).now = lab.servers[&n(2)].now + std::time::Duration::from_millis(10);
    hand(
        &mut lab,
        3,
        2,
        Message::RequestVote { term: Epoch::of(2), last: id(1, 1), transfer: false },
        vec![],
    );
    assert_eq!(deadline(&lab, 2), before, "a vote refused");
    hand(&mut lab, 3, 2, append(1, LogId::ZERO, 0), vec![]);
    assert_eq!(deadline(&lab, 2), before, "a leader of an older term");
    hand(&mut lab, 3, 2, Message::PreVote { term: Epoch::of(3), last: id(1, 2) }, vec![]);
    assert_eq!(deadline(&lab, 2), before, "a pre-vote");
    hand(
        &mut lab,
        1,
        2,
        Message::RequestVote { term: Epoch::of(2), last: id(1, 2), transfer: false },
        vec![],
    );
    let granted = deadline(&lab, 2);
    assert_ne!(granted, before, "a vote given");
    hand(&mut lab, 1, 2, append(2, id(1, 2), 0), vec![]);
    assert_ne!(deadline(&lab, 2), granted, "the current leader");
}

/// Trap 3: an append that ends before our log does removes nothing that matches.
#[test]
fn trap_3_a_matching_suffix_stays() {
    let mut lab = Lab::new(3, textbook());
    hand(&mut lab, 1, 2, append(1, LogId::ZERO, 0), crate::lab::entries(&[1, 1, 1, 1]));
    lab.sync(n(2));
    assert_eq!(claimed(&lab, 2), Some(Index(4)));
    hand(&mut lab, 1, 2, append(1, LogId::ZERO, 0), crate::lab::entries(&[1, 1]));
    hand(&mut lab, 1, 2, append(1, id(1, 1), 0), vec![]);
    assert_eq!(lab.log(n(2)), [1, 1, 1, 1], "4 was acknowledged and may be committed");
    // A new leader may begin further down; it holds the same entries.
    hand(&mut lab, 3, 2, append(2, LogId::ZERO, 0), crate::lab::entries(&[1, 1]));
    assert_eq!(lab.log(n(2)), [1, 1, 1, 1]);
    let cut = |op: &LogOp| matches!(op, LogOp::Truncate { .. });
    assert!(!lab.servers[&n(2)].writes.iter().flat_map(|w| &w.ops).any(cut));
}

/// Trap 5, contract schedule 1: the votes of others do not make a leader whose own term is not durable.
#[test]
fn trap_5_nobody_leads_in_a_term_that_it_may_forget() {
    let mut lab = Lab::new(3, textbook());
    lab.expire(n(1)); // 1. n1 campaigns in 1; the write stays in its log thread
    for voter in [n(2), n(3)] {
        lab.deliver(n(1), voter);
        lab.sync(voter);
        lab.deliver(voter, n(1)); // both grant: a quorum without n1's own vote
    }
    assert!(!lab.leads(n(1)), "2. it must not propose yet");
    assert_eq!(lab.count("AppendEntries"), 0);
    lab.crash(n(1));
    lab.start(n(1));
    assert_eq!(lab.term(n(1)), 0, "it has forgotten");
    lab.sync(n(1));
    lab.expire(n(1)); // 3. again in 1: the voters grant again, and now it is one reign, not two
    lab.settle(&[n(1), n(2), n(3)]);
    assert!(lab.leads(n(1)));
    let logs: Vec<Vec<u32>> = lab.ids().into_iter().map(|s| lab.log(s)).collect();
    assert_eq!(logs, vec![vec![1]; 3]);
}

/// Trap 5: no entry of a term reaches the disk before the term does.
#[test]
fn trap_5_the_term_is_written_before_its_entries() {
    let mut lab = Lab::new(3, textbook());
    hand(&mut lab, 1, 2, append(4, LogId::ZERO, 0), vec![entry(4, 1)]);
    let ops: Vec<LogOp> = lab.servers[&n(2)].writes.iter().flat_map(|w| w.ops.clone()).collect();
    let term = ops.iter().position(|op| matches!(op, LogOp::HardState(h) if h.promised == Epoch::of(4)));
    let entries = ops.iter().position(|op| matches!(op, LogOp::Write(_)));
    assert!(term.is_some() && term < entries, "{ops:?}");
    assert_eq!(claimed(&lab, 2), None);
}

/// Trap 6: the question may overlap the write of its term, the candidate's own vote counts only when durable.
#[test]
fn trap_6_the_own_vote_counts_when_it_is_durable() {
    let mut lab = Lab::new(3, textbook());
    lab.expire(n(1));
    assert_eq!(lab.count("RequestVote"), 2, "asked at once");
    lab.deliver(n(1), n(2));
    lab.sync(n(2));
    lab.deliver(n(2), n(1));
    assert!(!lab.leads(n(1)));
    lab.sync(n(1));
    assert!(lab.leads(n(1)));
}

/// Trap 6, contract schedule 1, second form: the log that a candidate claims is durable before it asks.
#[test]
fn trap_6_a_candidate_claims_only_a_durable_log() {
    let mut lab = Lab::new(3, textbook());
    hand(&mut lab, 1, 2, append(1, LogId::ZERO, 0), vec![entry(1, 1)]);
    lab.expire(n(2));
    assert_eq!(lab.status(n(2)).role, Role::Electing);
    assert_eq!(lab.count("RequestVote"), 0, "entry 1 is still in the log thread");
    lab.sync(n(2));
    assert_eq!(lab.count("RequestVote"), 2);
}

/// Trap 13: a configuration counts from its append and is rolled back with its entry.
#[test]
fn trap_13_configurations_come_and_go_with_their_entries() {
    let mut lab = Lab::new(3, textbook());
    lab.elect(n(1));
    let mut configuration = Configuration::of_voters((1..=3).map(n));
    configuration.learners = vec![n(7)];
    let body = Body::Config(Box::new(configuration.clone()), bytes::Bytes::new());
    let changed = Entry { body, ..entry(1, 2) };
    hand(&mut lab, 1, 2, append(1, id(1, 1), 1), vec![changed]);
    let configured = |lab: &Lab| -> Vec<(u64, usize, bool)> {
        let notices = lab.servers[&n(2)].notices.iter();
        notices
            .filter_map(|x| match x {
                Notice::Configured { at, configuration, settled } => {
                    Some((at.0, configuration.learners.len(), *settled))
                }
                _ => None,
            })
            .skip(1)
            .collect()
    };
    assert_eq!(configured(&lab), [(2, 1, false)]);
    hand(&mut lab, 3, 2, append(2, id(1, 1), 1), vec![entry(2, 2)]);
    assert_eq!(configured(&lab), [(2, 1, false), (0, 0, true)], "back to the one before");
    hand(
        &mut lab,
        3,
        2,
        append(2, id(2, 2), 1),
        vec![Entry { body: Body::Config(Box::new(configuration), bytes::Bytes::new()), ..entry(2, 3) }],
    );
    hand(&mut lab, 3, 2, append(2, id(2, 3), 3), vec![]);
    assert_eq!(configured(&lab)[2..], [(3, 1, false), (3, 1, true)], "settled once committed");
}

/// Traps 13, 14: what this core cannot change safely it refuses to change.
#[test]
fn trap_14_reconfiguration_is_refused() {
    let mut lab = Lab::new(3, hardened());
    lab.elect(n(1));
    let target = Configuration::of_voters([n(1)]);
    lab.input(n(1), Input::Reconfigure { token: Token(4), target, command: bytes::Bytes::new() });
    let refused = |x: &Notice| matches!(x, Notice::Refused { token: Token(4), why: Refusal::Unsupported });
    assert!(lab.servers[&n(1)].notices.iter().any(refused));
}

/// Trap 15: a leader serves the snapshot that it started from, even if it never took one; and membership comes
/// with it.
#[test]
fn trap_15_a_leader_serves_the_snapshot_it_started_from() {
    let mut lab = Lab::new(3, hardened());
    let configurations =
        vec![ConfigurationAt { from: Index(3), configuration: Configuration::of_voters((1..=3).map(n)) }];
    for server in [1, 2] {
        lab.open(Setup {
            id: n(server),
            seed: u64::from(server),
            configurations: configurations.clone(),
            hard_state: HardState { promised: Epoch::of(1), ..HardState::default() },
            base: id(1, 30),
            snapshot: id(1, 30),
            entries: Vec::new(),
            damaged: Vec::new(),
            may_vote: true,
            options: hardened(),
        });
    }
    lab.campaign(n(1), &[n(1), n(2)]);
    lab.settle(&[n(1), n(2), n(3)]);
    let asked = |x: &Notice| matches!(x, Notice::SendSnapshot { to, at } if *to == n(3) && *at == id(1, 30));
    assert!(lab.servers[&n(1)].notices.iter().any(asked));
    let epoch = lab.status(n(1)).epoch;
    lab.input(n(3), Input::SnapshotReceived { from: n(1), epoch, at: id(1, 30), configurations });
    let configured = |x: &Notice| matches!(x, Notice::Configured { at: Index(3), settled: true, .. });
    assert!(lab.servers[&n(3)].notices.iter().any(configured));
    lab.input(n(1), Input::SnapshotSent { to: n(3), at: id(1, 30), whole: true });
    lab.settle(&[n(1), n(2), n(3)]);
    assert_eq!(lab.status(n(3)).committed, Index(31));
}

/// Trap 18: a server whose disk was lost neither votes nor counts, but replicates.
#[test]
fn trap_18_a_wiped_server_is_a_learner() {
    let mut lab = Lab::new(3, hardened());
    lab.elect(n(1));
    lab.propose(n(1), 3);
    lab.settle(&[n(1), n(2), n(3)]);
    lab.crash(n(3));
    lab.server(n(3)).disk.wipe();
    lab.drop_all();
    lab.link(n(1), n(3), false);
    lab.start_as(n(3), false);
    lab.settle(&[n(1), n(3)]);
    lab.pass(n(1), lab.options.timing.heartbeat * 3);
    lab.settle(&[n(1), n(3)]);
    assert_eq!(lab.status(n(3)).role, Role::Learner);
    assert_eq!(lab.log(n(3)).len(), 4, "what it once acknowledged is sent again");
    // Its word does not commit anything …
    let committed = lab.status(n(1)).committed;
    lab.propose(n(1), 1);
    lab.settle(&[n(1), n(3)]);
    assert_eq!(lab.log(n(3)).len(), 5);
    assert_eq!(lab.status(n(1)).committed, committed);
    lab.input(n(1), Input::Read { token: Token(1), mode: ReadMode::Quorum });
    lab.settle(&[n(1), n(3)]);
    assert!(!lab.servers[&n(1)].notices.iter().any(|x| matches!(x, Notice::Readable { .. })));
    // … and elects nobody, itself included.
    lab.crash(n(1));
    lab.link(n(2), n(1), false);
    lab.link(n(3), n(1), false);
    lab.drop_all();
    for _ in 0..5 {
        lab.expire(n(2));
        lab.expire(n(3));
        lab.settle(&[n(2), n(3)]);
    }
    assert!(!lab.leads(n(2)) && !lab.leads(n(3)));
    assert_eq!(lab.term(n(2)), 1, "its pre-vote would only raise terms");
}

/// Trap 18: asked directly, it does not vote either.
#[test]
fn trap_18_a_wiped_server_gives_no_vote() {
    for may_vote in [true, false] {
        let mut lab = Lab::new(3, textbook());
        lab.crash(n(3));
        lab.start_as(n(3), may_vote);
        lab.expire(n(1));
        lab.settle(&[n(1), n(3)]);
        assert_eq!(lab.leads(n(1)), may_vote);
    }
}

/// Trap 21: the completion of an old write does not acknowledge what replaced it.
#[test]
fn trap_21_a_late_completion_acknowledges_nothing_new() {
    let mut lab = Lab::new(5, textbook());
    // 1. Term 1: entries 1 and 2, written with one ticket, not durable.
    hand(&mut lab, 1, 3, append(1, LogId::ZERO, 0), vec![entry(1, 1), entry(1, 2)]);
    let first = lab.servers[&n(3)].written;
    // 2. Term 2 replaces entry 2: another ticket.
    hand(&mut lab, 2, 3, append(2, id(1, 1), 0), vec![entry(2, 2)]);
    assert!(lab.servers[&n(3)].written > first);
    lab.drop_all();
    // 3. The first write completes.
    let server = lab.server(n(3));
    server.disk.sync(first);
    server.replica.as_mut().unwrap().persisted(first);
    lab.turn(n(3));
    // 4. A heartbeat asks how far it is: 1, although its log and that write both reach 2.
    lab.drop_all();
    hand(&mut lab, 2, 3, append(2, id(2, 2), 0), vec![]);
    // Its answer acts in term 2, which is not durable either.
    assert_eq!(claimed(&lab, 3), None);
    lab.sync(n(3));
    let claims: Vec<u64> = lab
        .take(|p| p.from == n(3))
        .into_iter()
        .filter_map(|p| match p.message {
            Message::Appended { matched, .. } => Some(matched.0),
            _ => None,
        })
        .collect();
    // The acknowledgement of 2 waited for its own write; the heartbeat's answer was made before that.
    assert_eq!(claims, [2, 1], "claimed entry 2 before its own write was durable");
}

/// Trap 21: a leader counts its own entry when its own disk has it, not when an older write ends.
#[test]
fn trap_21_a_leader_counts_itself_by_ticket() {
    let mut lab = Lab::new(3, textbook());
    lab.elect(n(1));
    lab.propose(n(1), 1);
    let first = lab.servers[&n(1)].written;
    lab.propose(n(1), 1);
    lab.deliver(n(1), n(2));
    lab.sync(n(2));
    lab.deliver(n(2), n(1));
    assert_eq!(lab.status(n(1)).committed, Index(1), "one copy on a disk");
    let server = lab.server(n(1));
    server.disk.sync(first);
    server.replica.as_mut().unwrap().persisted(first);
    lab.turn(n(1));
    assert_eq!(lab.status(n(1)).committed, Index(2));
    lab.sync(n(1));
    assert_eq!(lab.status(n(1)).committed, Index(3));
}

/// Trap 22: half of the servers are not a majority, for reads neither.
#[test]
fn trap_22_reads_need_a_majority() {
    let mut lab = Lab::new(4, textbook());
    lab.elect(n(1));
    lab.input(n(1), Input::Read { token: Token(1), mode: ReadMode::Quorum });
    let passed = |lab: &Lab| lab.servers[&n(1)].notices.iter().any(|x| matches!(x, Notice::Readable { .. }));
    lab.settle(&[n(1), n(2)]);
    assert!(!passed(&lab), "two of four");
    lab.settle(&[n(1), n(2), n(3)]);
    assert!(passed(&lab));
}

/// Contract schedule 14: contact does not wait for the disk, the acknowledgement does.
#[test]
fn a_slow_disk_does_not_look_dead() {
    let mut lab = Lab::new(3, hardened());
    lab.elect(n(1));
    lab.propose(n(1), 1);
    lab.deliver(n(1), n(2));
    assert_eq!(claimed(&lab, 2), None, "entry 2 is not durable");
    lab.pass(n(1), lab.options.timing.heartbeat * 2);
    lab.deliver(n(1), n(2));
    assert_eq!(claimed(&lab, 2), Some(Index(1)), "alive, with what is durable");
}

/// Contract schedule 12: the window bounds what is proposed, and a full one still lets a new leader's no-op pass.
#[test]
fn a_full_window_does_not_stop_a_new_leader() {
    let mut options = hardened();
    options.limits.window_commands = 4;
    let mut lab = Lab::new(3, options);
    lab.elect(n(1));
    assert_eq!(lab.status(n(1)).room.commands, 4);
    lab.propose(n(1), 4);
    assert_eq!(lab.status(n(1)).room.commands, 0);
    lab.deliver(n(1), n(2));
    lab.sync(n(2));
    lab.crash(n(1));
    lab.link(n(2), n(1), false);
    lab.link(n(3), n(1), false);
    lab.drop_all();
    lab.campaign(n(2), &[n(2), n(3)]);
    assert_eq!(lab.status(n(2)).last.index, Index(6), "five uncommitted entries and the no-op");
    assert_eq!(lab.status(n(2)).room.commands, 0);
    lab.settle(&[n(2), n(3)]);
    assert_eq!(lab.status(n(2)).committed, Index(6));
    assert_eq!(lab.status(n(2)).room.commands, 4);
}

/// A step's batch gives one write and, per peer, one message for each frame's worth.
#[test]
fn a_batch_is_one_write_and_one_message_per_frame() {
    let mut options: Options = hardened();
    options.limits.frame_bytes = 10 * 52;
    let mut lab = Lab::new(3, options);
    lab.elect(n(1));
    let before = lab.servers[&n(1)].writes.len();
    let server = lab.server(n(1)).replica.as_mut().unwrap();
    for _ in 0..5 {
        let commands = (0..5).map(|_| bytes::Bytes::from_static(b"four")).collect();
        server.push(Input::Propose { stamp: replog::Stamp(0), commands });
    }
    lab.turn(n(1));
    assert_eq!(lab.servers[&n(1)].writes.len() - before, 1);
    let sizes: Vec<usize> = lab.take(|p| p.to == n(2)).iter().map(|p| p.entries.len()).collect();
    assert_eq!(sizes, [10, 10, 5]);
    // The follower answers all three with one acknowledgement when they arrive together.
    for packet in lab.take(|p| p.to == n(3)) {
        let Packet { from, message, entries, .. } = packet;
        lab.server(n(3)).replica.as_mut().unwrap().push(Input::Message { from, message, entries });
    }
    lab.turn(n(3));
    lab.sync(n(3));
    assert_eq!(lab.take(|p| p.from == n(3)).len(), 1);
}
