//! The rules that implementations of Multi-Paxos broke, one test each, headed by the number in the list of traps.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // helpers of tests

mod common;

use common::{Image, Node, accept, accepted, b, empty_promise, entry, heartbeat, n, noop, prepare, promise};
use paxos::{Message, Options, Run};
use replog::{
    Configuration, Effect, HardState, Index, Input, LogId, Phase, ReplicatedLog, Role, Span, Ticket, Token,
};
use std::collections::BTreeMap;

fn holding(id: u32, entries: &[replog::Entry], hard: HardState) -> Node {
    let entries: BTreeMap<_, _> = entries.iter().map(|e| (e.id.index, e.clone())).collect();
    let image = Image { hard, base: LogId::ZERO, entries };
    Node::on(image, id, Configuration::of_voters((1..=3).map(n)), Options::default())
}

/// Trap 3.1: what was promised and accepted survives a crash; what was not durable was never said.
#[test]
fn trap_1_promises_and_acceptances_are_durable() {
    let mut a = Node::new(2, 3, Options::textbook());
    a.tell(1, prepare(b(4, 1)), vec![]);
    a.sync();
    a.tell(1, accept(b(4, 1), 0), vec![entry(1, b(4, 1), b(4, 1), "x")]);
    a.sync();
    a.crash();
    a.tell(3, prepare(b(3, 3)), vec![]);
    assert_eq!(a.sent("Reject").len(), 1, "the promise of 4.1 is remembered");
    a.tell(3, prepare(b(5, 3)), vec![]);
    let [(_, Message::Promise { held, .. }, span, gate)] = &a.sends("Promise")[..] else {
        panic!("no promise")
    };
    assert_eq!(held.len(), 1);
    assert_eq!(common::text(&a.attached(*span)[0]), "x");
    assert_eq!(*gate, a.ticket);
    a.crash(); // before the write of 5.3: nothing was said
    a.tell(1, prepare(b(4, 1)), vec![]);
    assert_eq!(a.sent("Promise").len(), 1);
}

/// Trap 3.2: phase 1 covers every slot from the first unchosen one; the promise carries all of them and says where the
/// responder's chosen prefix and its purged part end.
#[test]
fn trap_2_a_promise_carries_the_whole_suffix() {
    let r = b(1, 1);
    let mut a = Node::new(2, 3, Options::textbook());
    let entries = (1..=9).filter(|i| *i != 6).map(|i| entry(i, r, r, "x")).collect();
    a.tell(1, accept(r, 4), entries);
    a.give(Input::SnapshotTaken { at: LogId::new(r, Index(3)) });
    a.tell(3, prepare(b(2, 3)), vec![]);
    let promises = a.sends("Promise");
    let Message::Promise { committed, held, .. } = &promises[0].1 else { panic!("no promise") };
    assert_eq!(*committed, Index(4));
    let shown: Vec<_> = held.iter().map(|h| (h.from.0, h.to.0)).collect();
    assert_eq!(shown, [(5, 5), (7, 9)]);
    let bodies: usize = promises.iter().map(|p| a.attached(p.2).len()).sum();
    assert_eq!(bodies, 4, "bodies above the prefix, on as many messages as there are stretches");
    // What the proposer holds already is not sent to it.
    let have = vec![Run { from: Index(7), to: Index(9), epoch: r, ballot: r }];
    a.tell(3, Message::Prepare { ballot: b(2, 3), reign: b(2, 3), have, handed: false }, vec![]);
    assert_eq!(a.sends("Promise")[0].2, Span::new(Index(5), Index(5)));
}

/// Trap 3.3: the own accepted value counts as a promise too, its body comes back from the log; all that is constrained is
/// proposed under the new ballot before anything new.
#[test]
fn trap_3_own_acceptances_are_re_proposed() {
    let r = b(1, 3);
    let own = [entry(1, r, r, "mine"), entry(3, r, r, "also")];
    let mut p = holding(1, &own, HardState { promised: r, established: r, ..HardState::default() });
    let ballot = p.campaign();
    p.sync();
    let better = entry(3, r, b(1, 4), "also");
    p.tell(2, promise(ballot, 0, std::slice::from_ref(&better)), vec![better]);
    let shown: Vec<_> = p.log(0).into_iter().map(|(i, t, at)| (i, t, at == ballot)).collect();
    assert_eq!(
        shown,
        [(1, "mine".into(), true), (2, "-".into(), true), (3, "also".into(), true), (4, "-".into(), true)]
    );
    assert_eq!(
        p.core.status().room.commands,
        0,
        "nothing new before the suffix and the reign's no-op are chosen"
    );
    assert_eq!(p.core.status().phase, Phase::Sync);
    p.sync();
    p.tell(2, accepted(ballot, 4), vec![]);
    assert_eq!(p.core.status().phase, Phase::Broadcast);
}

/// Trap 3.3: a promise whose bodies have not all arrived does not win.
#[test]
fn trap_3_bodies_are_awaited() {
    let mut p = Node::new(1, 3, Options::default());
    let ballot = p.campaign_above(1);
    p.sync();
    let r = b(1, 3);
    let held = [entry(1, r, r, "a"), entry(2, r, r, "b")];
    p.tell(2, promise(ballot, 0, &held), vec![held[0].clone()]);
    assert_eq!(p.core.status().role, Role::Electing);
    p.wait();
    let Some(Message::Prepare { have, .. }) = p.sent("Prepare").first().cloned() else {
        panic!("asks again")
    };
    assert_eq!(have.iter().map(|h| h.from.0).collect::<Vec<_>>(), [1], "and says what it has");
    p.tell(2, promise(ballot, 0, &held), vec![held[1].clone()]);
    assert_eq!(p.core.status().role, Role::Leader);
    assert_eq!(p.log(0).into_iter().map(|(_, t, _)| t).collect::<Vec<_>>(), ["a", "b", "-"]);
}

/// Trap 3.4: slots that the responder knows as chosen, or purged, are not empty: the proposer catches up first.
#[test]
fn trap_4_purged_slots_are_not_empty() {
    let mut p = Node::new(1, 3, Options::default());
    let ballot = p.campaign_above(1);
    p.sync();
    let r = b(1, 3);
    p.tell(2, Message::Promise { ballot, committed: Index(3), base: Index(2), held: vec![] }, vec![]);
    assert!(p.log(0).is_empty(), "no no-op is put into 1-3");
    assert!(matches!(p.sent("Fetch")[..], [Message::Fetch { from: Index(1), .. }]));
    let at = LogId::new(r, Index(2));
    let received = Input::SnapshotReceived { from: n(2), epoch: r, at, configurations: vec![] };
    let took = p.give(received).iter().any(|e| matches!(e, Effect::Install { .. }));
    assert!(took);
    assert!(matches!(p.sent("Fetch")[..], [Message::Fetch { from: Index(3), .. }]));
    let chosen = Message::Chosen { promised: ballot, committed: Index(3), ids: vec![], push: false };
    p.tell(2, chosen, vec![entry(3, r, r, "c")]);
    assert_eq!(p.core.status().role, Role::Leader);
    assert_eq!(
        p.log(2).into_iter().map(|(i, t, _)| (i, t)).collect::<Vec<_>>(),
        [(3, "c".into()), (4, "-".into())]
    );
}

/// Trap 3.4, the other side: who is asked for purged slots answers with a snapshot, once, and keeps the log from there.
#[test]
fn trap_4_purged_slots_are_answered_by_a_snapshot() {
    let r = b(1, 1);
    let mut options = Options::default();
    options.limits.keep_entries = 2;
    let mut a = Node::new(2, 3, options);
    a.tell(1, accept(r, 9), (1..=9).map(|i| entry(i, r, r, "x")).collect());
    a.tell(1, heartbeat(r, 9), vec![]);
    assert_eq!(a.core.status().committed, Index(9));
    a.give(Input::SnapshotTaken { at: LogId::new(r, Index(6)) });
    assert_eq!(a.written.base.index, Index(4));
    let fetch = |from| Message::Fetch { promised: r, from: Index(from), held: vec![] };
    let sent = |node: &Node| {
        node.out
            .iter()
            .filter(|e| matches!(e, Effect::SendSnapshot { at, .. } if at.index == Index(6)))
            .count()
    };
    a.tell(3, fetch(2), vec![]);
    assert_eq!(sent(&a), 1);
    a.tell(3, fetch(2), vec![]);
    assert_eq!(sent(&a), 0, "one at a time");
    // Contract schedule 15: the log above the snapshot stays while it travels.
    a.give(Input::SnapshotTaken { at: LogId::new(r, Index(9)) });
    assert_eq!(a.written.base.index, Index(6));
    a.give(Input::SnapshotSent { to: n(3), at: LogId::new(r, Index(6)), whole: true });
    assert_eq!(a.written.base.index, Index(7));
    a.tell(3, fetch(8), vec![]);
    assert_eq!(a.sends("Chosen")[0].2, Span::new(Index(8), Index(9)));
}

/// Trap 3.5, contract schedule 1: nothing is proposed under a ballot before it is durable; the question may overlap.
#[test]
fn trap_5_accept_waits_for_the_own_ballot() {
    let mut p = Node::new(1, 3, Options::default());
    let ballot = p.campaign();
    assert_eq!(
        p.sends("Prepare").iter().map(|s| s.3).max(),
        Some(Ticket::NONE),
        "the question leaves at once"
    );
    p.tell(2, empty_promise(ballot, Index(0)), vec![]);
    p.tell(3, empty_promise(ballot, Index(0)), vec![]);
    assert_eq!(p.core.status().role, Role::Electing, "two promises, but the own ballot is not on disk");
    assert!(p.sent("Accept").is_empty());
    p.sync();
    assert_eq!(p.core.status().role, Role::Leader);
    assert_eq!(p.sent("Accept").len(), 2);
    // And its own acceptance counts only when it is durable.
    p.tell(2, accepted(ballot, 1), vec![]);
    assert_eq!(p.commit(), None);
    p.sync();
    assert_eq!(p.commit(), Some(1));
}

/// Trap 3.5: a pre-empted proposer waits a random, growing time before it tries again.
#[test]
fn trap_5_a_pre_empted_proposer_backs_off() {
    let mut waits = Vec::new();
    let mut p = Node::new(1, 3, Options::textbook());
    for round in 1..6 {
        let ballot = p.campaign();
        let before = p.now;
        p.tell(2, Message::Reject { ballot, promised: b(100 * round, 2) }, vec![]);
        waits.push(p.core.deadline().unwrap().since(before));
    }
    assert!(waits.iter().all(|w| !w.is_zero()));
    waits.dedup();
    assert_eq!(waits.len(), 5, "no two waits are equal: {waits:?}");
    assert!(waits.iter().max() > waits.first());
}

/// Trap 3.6: a lost Decide is made good by the next heartbeat, also in a quiet log.
#[test]
fn trap_6_the_last_decide_is_said_again() {
    let mut leader = Node::new(1, 3, Options::default());
    let ballot = leader.lead(&[2]);
    leader.propose(&["x"]);
    leader.sync();
    leader.tell(2, accepted(ballot, 2), vec![]);
    assert_eq!(leader.sent("Decide").len(), 2);
    leader.wait();
    assert!(matches!(leader.sent("Heartbeat")[..], [Message::Heartbeat { committed: Index(2), .. }, _]));
    // Without the eager push, the bound rides on heartbeats and Accepts alone.
    let mut lazy = Node::new(1, 3, Options { eager_commit: false, ..Options::default() });
    let ballot = lazy.lead(&[2]);
    lazy.propose(&["x"]);
    lazy.sync();
    lazy.tell(2, accepted(ballot, 2), vec![]);
    assert!(lazy.sent("Decide").is_empty());
    lazy.propose(&["y"]);
    assert!(matches!(lazy.sent("Accept")[..], [Message::Accept { committed: Index(2), .. }, _]));
}

/// Trap 3.6: catch-up is by index, and sends no body for a slot whose id the asker holds already.
#[test]
fn trap_6_catch_up_by_index() {
    let r = b(1, 3);
    let mut a = Node::new(2, 3, Options::textbook());
    a.tell(3, accept(r, 0), vec![entry(1, r, r, "a"), entry(2, r, r, "b")]);
    let l = b(2, 1);
    a.tell(1, heartbeat(l, 3), vec![]);
    let [Message::Fetch { from, held, .. }] = &a.sent("Fetch")[..] else { panic!("no fetch") };
    assert_eq!((*from, held.len()), (Index(1), 1));
    let mut server = Node::new(1, 3, Options::textbook());
    let other = [entry(1, r, l, "a"), entry(2, b(1, 2), l, "B"), entry(3, l, l, "c")];
    server.tell(3, accept(b(3, 3), 3), vec![]);
    server.crash();
    server =
        holding(1, &other, HardState { promised: l, established: l, committed: Index(3), voted_for: None });
    server.tell(2, Message::Fetch { promised: l, from: *from, held: held.clone() }, vec![]);
    let [(_, chosen, span, _)] = &server.sends("Chosen")[..] else { panic!("no answer") };
    assert_eq!(*span, Span::new(Index(2), Index(3)), "slot 1 has the same id");
    a.tell(1, chosen.clone(), server.attached(*span));
    assert_eq!(a.commit(), Some(3));
    assert_eq!(a.log(0).into_iter().map(|(_, t, _)| t).collect::<Vec<_>>(), ["a", "B", "c"]);
}

/// Trap 3.6: only the hole is sent; what the asker accepted behind it is confirmed by the bound or by id.
#[test]
fn trap_6_only_the_hole_is_sent() {
    let mut leader = Node::new(1, 3, Options::default());
    let ballot = leader.lead(&[2]);
    leader.propose(&["b", "c", "d", "e"]);
    leader.sync();
    leader.tell(2, accepted(ballot, 5), vec![]);
    let mut f = Node::new(3, 3, Options::default());
    let sent: Vec<_> = leader.written.entries.values().cloned().collect();
    f.tell(1, accept(ballot, 0), vec![sent[0].clone(), sent[3].clone(), sent[4].clone()]);
    f.tell(1, heartbeat(ballot, 5), vec![]);
    assert_eq!(f.commit(), Some(1));
    let fetch = f.sent("Fetch").remove(0);
    leader.tell(3, fetch, vec![]);
    let (_, chosen, span, _) = leader.sends("Chosen").remove(0);
    assert_eq!(span, Span::new(Index(2), Index(3)));
    f.tell(1, chosen, leader.attached(span));
    assert_eq!(f.commit(), Some(5));
}

/// Trap 3.6: an Accept that was lost is sent again after the next heartbeat's answer.
#[test]
fn trap_6_a_lost_accept_is_sent_again() {
    let mut leader = Node::new(1, 3, Options::default());
    let ballot = leader.lead(&[2]);
    leader.propose(&["x", "y"]);
    leader.wait();
    let Some(Message::Heartbeat { round, .. }) = leader.sent("Heartbeat").first().cloned() else {
        panic!("no beat")
    };
    let alive = |arrived| Message::Alive {
        ballot,
        round,
        arrived: Index(arrived),
        committed: Index(1),
        counts: true,
    };
    leader.tell(2, alive(3), vec![]);
    assert!(leader.sent("Accept").is_empty(), "all has arrived");
    leader.tell(3, alive(1), vec![]);
    let again: Vec<_> = leader.sends("Accept").into_iter().map(|(to, _, span, _)| (to, span)).collect();
    assert_eq!(again, [(n(3), Span::new(Index(2), Index(3)))]);
}

/// Trap 3.7: later slots on a new connection are not taken for the next ones: a hole stays a hole.
#[test]
fn trap_7_a_hole_is_not_closed_by_what_comes_later() {
    let r = b(1, 1);
    let mut a = Node::new(2, 3, Options::default());
    a.tell(1, accept(r, 0), vec![entry(1, r, r, "a")]);
    a.give(Input::Peer { node: n(1), connected: false });
    a.give(Input::Peer { node: n(1), connected: true });
    a.tell(1, accept(r, 4), vec![entry(4, r, r, "d")]);
    assert_eq!(a.core.status().last.index, Index(1));
    assert_eq!(a.commit(), Some(1));
    assert!(matches!(a.sent("Fetch")[..], [Message::Fetch { from: Index(2), .. }]));
}

/// Trap 3.8: a read is answered only after a quorum's word that came later, and never before the reign's own no-op.
#[test]
fn trap_8_reads_wait_for_the_own_reign_and_a_round() {
    let mut p = Node::new(1, 3, Options::default());
    let ballot = p.campaign();
    p.sync();
    p.tell(2, empty_promise(ballot, Index(0)), vec![]);
    p.give(Input::Read { token: Token(1), mode: replog::ReadMode::Quorum });
    let beat = |node: &Node| match node.sent("Heartbeat").first() {
        Some(Message::Heartbeat { round, .. }) => Some(*round),
        _ => None,
    };
    let readable = |node: &Node| node.out.iter().any(|e| matches!(e, Effect::Readable { .. }));
    let alive =
        |round| Message::Alive { ballot, round, arrived: Index(1), committed: Index(0), counts: true };
    p.tell(2, alive(1), vec![]);
    assert!(!readable(&p), "the reign's no-op is not chosen");
    p.sync();
    p.tell(2, accepted(ballot, 1), vec![]);
    let round = beat(&p).expect("the barrier's round");
    assert!(!readable(&p));
    p.tell(2, alive(round - 1), vec![]);
    assert!(!readable(&p), "an older round says nothing");
    p.tell(2, alive(round), vec![]);
    assert!(
        p.out.iter().any(|e| matches!(e, Effect::Readable { token: Token(1), at: Index(1), until: None }))
    );
}

/// Trap 3.9: membership is not changed by this core, and it says so.
#[test]
fn trap_9_reconfiguration_is_refused() {
    let mut p = Node::new(1, 3, Options::default());
    p.lead(&[2]);
    let target = Configuration::of_voters([1, 2].map(n));
    p.give(Input::Reconfigure { token: Token(5), target, command: bytes::Bytes::new() });
    let refused = Effect::Refused { token: Token(5), why: replog::Refusal::Unsupported };
    assert!(p.out.contains(&refused));
}

/// Trap 3.10: a replica that cannot read what it accepted promises nothing and leads nothing until it is repaired.
#[test]
fn trap_10_damage_is_repaired_before_anything_is_promised() {
    let r = b(1, 1);
    let held = [entry(1, r, r, "a"), entry(2, r, r, "b"), entry(3, r, r, "c")];
    let mut a =
        holding(2, &held, HardState { promised: r, established: r, committed: Index(3), voted_for: None });
    a.damaged = vec![Span { from: Index(2), to: Index(2) }];
    a.crash();
    assert_eq!(a.core.status().committed, Index(1), "what cannot be read is not applied");
    a.tell(3, prepare(b(2, 3)), vec![]);
    assert!(a.sent("Promise").is_empty());
    for _ in 0..5 {
        a.wait();
        assert!(a.sent("Prepare").is_empty() && a.sent("Query").is_empty());
    }
    a.tell(1, heartbeat(r, 3), vec![]);
    assert!(matches!(a.sent("Fetch")[..], [Message::Fetch { from: Index(2), .. }]));
    let chosen = Message::Chosen { promised: r, committed: Index(3), ids: vec![], push: false };
    a.tell(1, chosen, vec![entry(2, r, r, "b"), entry(3, r, r, "c")]);
    assert_eq!(a.commit(), Some(3));
    a.pass(5000);
    a.tell(3, prepare(b(2, 3)), vec![]);
    assert_eq!(a.sent("Promise").len(), 1);
}

/// Trap 3.11: a leader that says it has no quorum does not count as alive.
#[test]
fn trap_11_a_leader_without_a_quorum_is_not_alive() {
    let beat = |quorum| Message::Heartbeat {
        ballot: b(1, 1),
        reign: b(1, 1),
        committed: Index(0),
        quorum,
        round: 1,
        acked: Index(0),
    };
    let mut a = Node::new(2, 5, Options::default());
    let query = Message::Query { promised: b(1, 1), number: 9 };
    a.tell(1, beat(true), vec![]);
    a.tell(3, query.clone(), vec![]);
    assert!(matches!(a.sent("Answer")[..], [Message::Answer { hears: true, .. }]));
    a.tell(3, prepare(b(2, 3)), vec![]);
    assert!(a.sent("Promise").is_empty(), "loyal to a leader that works");
    a.tell(1, beat(false), vec![]);
    a.tell(3, query, vec![]);
    assert!(matches!(a.sent("Answer")[..], [Message::Answer { hears: false, .. }]));
    a.tell(3, prepare(b(2, 3)), vec![]);
    assert_eq!(a.sent("Promise").len(), 1);
}

/// Trap 3.12: the snapshot's id is slot and epoch; what lies above it and was accepted stays.
/// Contract schedule 4: 1. slot 12 is chosen by {A, B}; 2. A installs a snapshot at 10; 3. the next phase 1 asks {A, C}.
#[test]
fn trap_12_an_install_keeps_what_was_accepted_above() {
    let r = b(1, 3);
    let mut a = Node::new(1, 3, Options::textbook());
    a.tell(3, accept(r, 0), (1..=5).chain([12]).map(|i| entry(i, r, r, "x")).collect());
    let at = LogId::new(r, Index(10));
    a.give(Input::SnapshotReceived { from: n(3), epoch: r, at, configurations: vec![] });
    assert_eq!(a.written.base, at);
    assert_eq!(a.log(10).len(), 1);
    let install = a
        .out
        .iter()
        .find_map(|e| if let Effect::Install { at, after } = e { Some((*at, *after)) } else { None });
    assert_eq!(install, Some((at, a.ticket)), "it waits for the write that moves the base");
    a.sync();
    for (crash, round) in [(false, 2), (true, 3)] {
        if crash {
            a.crash();
        }
        a.tell(2, prepare(b(round, 2)), vec![]);
        let Some(Message::Promise { held, committed, .. }) = a.sent("Promise").first().cloned() else {
            panic!("no promise")
        };
        assert_eq!((committed, held[0].from), (Index(10), Index(12)));
    }
}

/// Trap 3.13 lies above the core. Trap 3.14, contract schedule 10: a commit bound is no licence to apply what lies there.
#[test]
fn trap_14_a_bound_covers_only_the_leaders_own_ballot() {
    let mut a = Node::new(1, 3, Options::textbook());
    a.tell(2, accept(b(1, 2), 0), vec![entry(1, b(1, 2), b(1, 2), "X")]);
    // The leader of ballot 2 had Y chosen there by the others; its Accept was lost, the bound arrives.
    for word in [
        heartbeat(b(2, 3), 1),
        Message::Decide { ballot: b(2, 3), reign: b(2, 3), committed: Index(1) },
        accept(b(2, 3), 1),
    ] {
        a.tell(3, word, vec![]);
        assert_eq!(a.commit(), None);
        assert_eq!(a.core.status().committed, Index(0));
    }
    let chosen = Message::Chosen { promised: b(2, 3), committed: Index(1), ids: vec![], push: false };
    a.tell(3, chosen, vec![entry(1, b(2, 3), b(2, 3), "Y")]);
    assert_eq!((a.commit(), a.log(0)[0].1.as_str()), (Some(1), "Y"));
}

/// Trap 3.14, the leader's side: it learns from nobody. Whoever is told more than it knows was deposed.
#[test]
fn trap_14_a_leader_learns_from_nobody() {
    let mut p = Node::new(1, 3, Options::default());
    p.lead(&[2]);
    p.propose(&["X"]);
    let chosen = Message::Chosen { promised: b(9, 3), committed: Index(2), ids: vec![], push: false };
    p.tell(3, chosen, vec![entry(2, b(9, 3), b(9, 3), "Y")]);
    assert_ne!(p.core.status().role, Role::Leader);
    assert!(p.sent("Decide").is_empty() && p.sent("Heartbeat").is_empty());
}

/// Trap 3.15: a value of a deposed leader may be chosen late; it keeps the epoch of its first proposal, behind entries of
/// later reigns, so that the state machine can void what died with that reign.
#[test]
fn trap_15_a_late_value_keeps_the_epoch_of_its_reign() {
    let (old, mid) = (b(1, 3), b(2, 2));
    let mut p = holding(
        1,
        &[noop(1, mid, mid)],
        HardState { promised: mid, established: mid, ..HardState::default() },
    );
    let ballot = p.campaign();
    p.sync();
    let late = entry(2, old, old, "expire");
    p.tell(3, promise(ballot, 0, std::slice::from_ref(&late)), vec![late]);
    let epochs: Vec<_> = p.written.entries.values().map(|e| e.id.epoch).collect();
    assert_eq!(epochs, [mid, old, ballot]);
}
