//! What is right must pass: generated histories, with and without faults.

use history::testing::{Wanted, generate};
use history::{
    CreateMode, Event, EventKind, Header, History, Op, Outcome, Reply, Stat, WatchMode, What, check_all,
    jsonl,
};

fn connected(session: i64) -> What {
    What::Connected { session, server: 1, timeout_ms: 5000, resumed: false, seen: 0 }
}

fn ask(call: u64, session: i64, op: Op) -> What {
    What::Invoke { call, session, op }
}

fn end(call: u64, zxid: i64, reply: Reply) -> What {
    What::Return { call, zxid, outcome: Outcome::Ok(reply) }
}

fn create(path: &str, mode: CreateMode) -> Op {
    Op::Create { path: path.into(), data: String::new(), mode }
}

fn made(path: &str) -> Reply {
    Reply::Created { path: path.into(), stat: None }
}

#[test]
fn valid_histories_are_clean() {
    // More of them now and then: SEEDS=2000 cargo test -p history --release.
    let seeds = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(40);
    for faults in [false, true] {
        for exact_reads in [true, false] {
            for seed in 0..seeds {
                let history = generate(Wanted { seed, operations: 400, faults, exact_reads });
                let checked = check_all(&history);
                if !checked.findings.is_empty() {
                    let mut text = Vec::new();
                    jsonl::write(&history, &mut text).unwrap();
                    std::fs::write(std::env::temp_dir().join("false-alarm.history.jsonl"), text).unwrap();
                }
                assert_eq!(checked.findings, [], "faults {faults}, exact {exact_reads}, seed {seed}");
            }
        }
    }
}

#[test]
fn holders_and_items_are_judged_and_overlaps_counted() {
    let wanted = |seed| Wanted { seed, operations: 400, faults: true, exact_reads: true };
    let all = (0..20).map(|seed| check_all(&generate(wanted(seed))));
    let (judged, overlaps) = all.fold((0, 0), |(judged, overlaps), checked| {
        (judged + checked.coverage["C11"].judged, overlaps + checked.overlaps)
    });
    assert!(judged > 100, "{judged}");
    // A client whose session expired without its knowledge, and another who took the lock.
    assert!(overlaps > 0);
}

/// A service that does not say which change an event tells of (ZooKeeper 3.8): two clients, one persistent watch on /a,
/// and `told` of the two changes of it.
fn without_zxids(told: usize) -> History {
    let path = || "/a".to_owned();
    let (mode, data) = (CreateMode::Persistent, "v".to_owned());
    let created = Reply::Created { path: path(), stat: None };
    let mut whats = vec![
        (1, connected(1)),
        (2, connected(2)),
        (1, ask(1, 1, Op::AddWatch { path: path(), mode: WatchMode::Persistent })),
        (1, end(1, 2, Reply::Nothing)),
        (2, ask(2, 2, Op::Create { path: path(), data, mode })),
        (2, end(2, 3, created)),
        (2, ask(3, 2, Op::Delete { path: path(), version: -1 })),
        (2, end(3, 4, Reply::Nothing)),
    ];
    for kind in [EventKind::Created, EventKind::Deleted].into_iter().take(told) {
        whats.push((1, What::Watch { session: 1, zxid: -1, kind, path: path() }));
    }
    whats.push((1, ask(4, 1, Op::Sync { path: path() })));
    whats.push((1, end(4, 4, Reply::Nothing)));
    let event = |(at_us, (client, what))| Event { at_us, client, what };
    History { header: Header::default(), events: (0..).zip(whats).map(event).collect() }
}

/// Client 1 comes, and leaves (`closes`) or is cut off for good; client 2 writes after the faults.
fn left_alone(closes: bool) -> History {
    let mut whats = vec![(0, 1, connected(1)), (0, 2, connected(2))];
    if closes {
        whats.extend([(1, 1, ask(1, 1, Op::Close)), (2, 1, end(1, 3, Reply::Nothing))]);
    }
    let path = || "/a".to_owned();
    let create = Op::Create { path: path(), data: String::new(), mode: CreateMode::Persistent };
    whats.extend([
        (3, 1, What::Disconnected),
        (10, 0, What::Healed),
        (11, 2, ask(2, 2, create)),
        (12, 2, end(2, 4, Reply::Created { path: path(), stat: None })),
        (60_000_000, 2, ask(3, 2, Op::Close)),
        (60_000_001, 2, end(3, 5, Reply::Nothing)),
    ]);
    let event = |(at_us, client, what)| Event { at_us, client, what };
    History { header: Header::default(), events: whats.into_iter().map(event).collect() }
}

#[test]
fn who_has_closed_its_session_needs_no_write() {
    let found = |closes| check_all(&left_alone(closes)).findings.iter().any(|f| f.checker == "C14");
    assert!(!found(true) && found(false));
}

#[test]
fn events_that_do_not_name_their_change_count_for_lasting_watches() {
    assert_eq!(check_all(&without_zxids(2)).findings, []);
    let findings = check_all(&without_zxids(1)).findings;
    assert!(findings.iter().any(|f| f.checker == "C8" && f.text.contains("not told")), "{findings:?}");
}

/// Three numbered creations without an answer, and client 4 who watches: the event of the second names `told`, a read
/// shows the third one's content in `/q/n-0000000001`.
fn numbered_unseen(told: Option<&str>) -> History {
    let create = |path: &str, data: &str, mode| Op::Create { path: path.into(), data: data.into(), mode };
    let (plain, own, lasting) =
        (CreateMode::Persistent, CreateMode::EphemeralSequential, CreateMode::PersistentSequential);
    let event =
        |zxid, path: &str| What::Watch { session: 4, zxid, kind: EventKind::Created, path: path.into() };
    let second = "/q/n-0000000001";
    let stat = Stat { czxid: 7, mzxid: 7, pzxid: 7, data_length: 1, ..Stat::default() };
    let mut whats: Vec<_> = (1..=4).map(|client| (client, connected(i64::from(client)))).collect();
    whats.extend([
        (4, ask(1, 4, create("/q", "", plain))),
        (4, end(1, 4, Reply::Created { path: "/q".into(), stat: None })),
        (4, ask(2, 4, Op::AddWatch { path: "/q".into(), mode: WatchMode::Recursive })),
        (4, end(2, 5, Reply::Nothing)),
    ]);
    for (client, data, mode) in [(1, "a", own), (2, "b", own), (3, "c", lasting)] {
        whats.push((client, ask(u64::from(client) + 9, i64::from(client), create("/q/n-", data, mode))));
    }
    whats.extend((1..=3).map(|client| (client, What::Unknown { call: u64::from(client) + 9 })));
    whats.push((4, event(6, "/q/n-0000000000")));
    whats.extend(told.map(|path| (4, event(7, path))));
    whats.extend([
        (4, ask(20, 4, Op::Get { path: second.into(), watch: false })),
        (4, end(20, 7, Reply::Data { data: "c".into(), stat })),
    ]);
    let event = |(at_us, (client, what))| Event { at_us, client, what };
    let header = Header { exact_reads: true, ..Header::default() };
    History { header, events: (0..).zip(whats).map(event).collect() }
}

/// What was seen to be made is what was made, whatever number the model would have given it.
///
/// Found by the simulator: C8, `sim replay 1375 --backend zab`.
#[test]
fn a_number_that_was_seen_is_the_number() {
    assert_eq!(check_all(&numbered_unseen(Some("/q/n-0000000001"))).findings, []);
    let findings = check_all(&numbered_unseen(None)).findings;
    let owed = |text: &str| text.contains("not told") && text.contains("/q/n-0000000001");
    assert!(findings.iter().any(|f| f.checker == "C8" && owed(&f.text)), "{findings:?}");
}

/// Session 1 owns `/e/a` and ends at zxid 5, where client 2 sees it go; its multi at 6 is refused, or not.
fn multi_after_the_end(refused: bool) -> History {
    let set = Op::Set { path: "/e".into(), data: "v".into(), version: -1 };
    let result = if refused {
        Outcome::Error(-112)
    } else {
        let stat =
            Stat { czxid: 3, mzxid: 6, version: 1, cversion: 2, pzxid: 5, data_length: 1, ..Stat::default() };
        Outcome::Ok(Reply::Stat(stat))
    };
    let whats = vec![
        (1, connected(1)),
        (2, connected(2)),
        (2, ask(1, 2, create("/e", CreateMode::Persistent))),
        (2, end(1, 3, made("/e"))),
        (1, ask(2, 1, create("/e/a", CreateMode::Ephemeral))),
        (1, end(2, 4, made("/e/a"))),
        (2, ask(3, 2, Op::Exists { path: "/e/a".into(), watch: true })),
        (
            2,
            end(
                3,
                4,
                Reply::Stat(Stat { czxid: 4, mzxid: 4, pzxid: 4, ephemeral_owner: 1, ..Stat::default() }),
            ),
        ),
        (1, ask(4, 1, Op::Multi { ops: vec![set] })),
        (2, What::Watch { session: 2, zxid: 5, kind: EventKind::Deleted, path: "/e/a".into() }),
        (1, end(4, 6, Reply::Multi(vec![result]))),
    ];
    let event = |(at_us, (client, what))| Event { at_us, client, what };
    let header = Header { exact_reads: true, ..Header::default() };
    History { header, events: (0..).step_by(2_000_000).zip(whats).map(event).collect() }
}

/// A multi says in its results that its session was over.
///
/// Found by the simulator: C4, `sim replay 7 --backend zab --row 13 --variant textbook`.
#[test]
fn a_refused_multi_shows_no_living_session() {
    assert_eq!(check_all(&multi_after_the_end(true)).findings, []);
    assert_ne!(check_all(&multi_after_the_end(false)).findings, []);
}

/// Session 1 makes `/e/a` and closes without an answer; it is told that it is over. Session 2 may have made `/e/a`
/// again (`other`), and client 3 lists it.
fn made_again(other: bool) -> History {
    let mut whats = vec![
        (1, connected(1)),
        (2, connected(2)),
        (3, connected(3)),
        (3, ask(1, 3, create("/e", CreateMode::Persistent))),
        (3, end(1, 4, made("/e"))),
        (1, ask(2, 1, create("/e/a", CreateMode::Ephemeral))),
        (1, end(2, 5, made("/e/a"))),
        (1, ask(3, 1, Op::Close)),
    ];
    if other {
        whats.push((2, ask(4, 2, create("/e/a", CreateMode::Ephemeral))));
        whats.push((2, What::Unknown { call: 4 }));
    }
    let stat = Stat { czxid: 4, mzxid: 4, pzxid: 7, cversion: 3, num_children: 1, ..Stat::default() };
    let names = vec!["a".to_owned()];
    whats.extend([
        (1, What::Unknown { call: 3 }),
        (1, What::Expired { session: 1 }),
        (2, What::Disconnected),
        (2, What::Connected { session: 2, server: 2, timeout_ms: 5000, resumed: true, seen: 3 }),
        (3, ask(5, 3, create("/b", CreateMode::Persistent))),
        (3, end(5, 8, made("/b"))),
        (2, ask(7, 2, Op::Exists { path: "/b".into(), watch: false })),
        (2, end(7, 8, Reply::Stat(Stat { czxid: 8, mzxid: 8, pzxid: 8, ..Stat::default() }))),
        (3, ask(6, 3, Op::Children { path: "/e".into(), watch: false })),
        (3, end(6, 8, Reply::Children { names, stat })),
    ]);
    let event = |(at_us, (client, what))| Event { at_us, client, what };
    let header = Header { exact_reads: true, ..Header::default() };
    History { header, events: (0..).zip(whats).map(event).collect() }
}

/// The end of a session takes what it made, not what somebody made after it.
///
/// Found by the simulator: C4, `sim replay 33 --backend raft --row 21`.
#[test]
fn what_was_made_after_a_session_may_be_there() {
    assert_eq!(check_all(&made_again(true)).findings, []);
    assert_ne!(check_all(&made_again(false)).findings, []);
}

/// Client 1 makes /e/b and has no answer; client 2 makes /e/c, reads /e, deletes /e/b, makes /e/d, and reads /e.
///
/// Found by the generator: C4 (`SEEDS=1500`, seed 1316). The deletion counted for the model, which had no /e/b, as nothing.
#[test]
fn a_node_that_was_made_unseen_counts_when_it_goes() {
    let make = |path: &str| create(path, CreateMode::Persistent);
    let numbers = |pzxid, cversion, num_children| {
        Reply::Stat(Stat { czxid: 2, mzxid: 2, pzxid, cversion, num_children, ..Stat::default() })
    };
    let read = || Op::Exists { path: "/e".into(), watch: false };
    let whats = [
        (1, connected(1)),
        (2, connected(2)),
        (2, ask(1, 2, make("/e"))),
        (2, end(1, 2, made("/e"))),
        (1, ask(2, 1, make("/e/b"))),
        (1, What::Unknown { call: 2 }),
        (1, What::Disconnected),
        (1, What::Connected { session: 1, server: 2, timeout_ms: 5000, resumed: true, seen: 1 }),
        (2, ask(3, 2, make("/e/c"))),
        (2, end(3, 4, made("/e/c"))),
        (2, ask(4, 2, read())),
        (2, end(4, 4, numbers(4, 2, 2))),
        (2, ask(5, 2, Op::Delete { path: "/e/b".into(), version: -1 })),
        (2, end(5, 5, Reply::Nothing)),
        (2, ask(6, 2, make("/e/d"))),
        (2, end(6, 6, made("/e/d"))),
        (2, ask(7, 2, read())),
        (2, end(7, 6, numbers(6, 4, 2))),
    ];
    let events = (0..).zip(whats).map(|(at_us, (client, what))| Event { at_us, client, what }).collect();
    let header = Header { exact_reads: true, ..Header::default() };
    assert_eq!(check_all(&History { header, events }).findings, []);
}

/// Session 1 (timeout 5 s) owns `/e/a`. It is answered every `every_ms` from 1 s on, at 6 s at the latest, and is over
/// at 6.5 s, where client 2 sees `/e/a` go. Its client is on another server from `moved_ms` on.
fn ended_at_once(every_ms: u64, moved_ms: Option<u64>) -> History {
    let mut whats = vec![
        (0, 1, connected(1)),
        (0, 2, connected(2)),
        (1, 2, ask(1, 2, create("/e", CreateMode::Persistent))),
        (2, 2, end(1, 3, made("/e"))),
        (3, 1, ask(2, 1, create("/e/a", CreateMode::Ephemeral))),
        (4, 1, end(2, 4, made("/e/a"))),
        (5, 2, ask(3, 2, Op::Children { path: "/e".into(), watch: true })),
    ];
    let stat = Stat { czxid: 3, mzxid: 3, pzxid: 4, cversion: 1, num_children: 1, ..Stat::default() };
    whats.push((6, 2, end(3, 4, Reply::Children { names: vec!["a".into()], stat })));
    for ms in (1000..=6000).step_by(every_ms as usize) {
        if moved_ms.is_some_and(|moved| (moved..moved + every_ms).contains(&ms)) {
            whats.push((ms, 1, What::Disconnected));
            let server = 2;
            whats.push((
                ms,
                1,
                What::Connected { session: 1, server, timeout_ms: 5000, resumed: true, seen: 4 },
            ));
        }
        whats.push((ms + 1, 1, What::Ping { session: 1, sent_us: ms * 1000 }));
    }
    let gone = What::Watch { session: 2, zxid: 5, kind: EventKind::ChildrenChanged, path: "/e".into() };
    whats.push((6500, 2, gone));
    let none = Stat { czxid: 3, mzxid: 3, pzxid: 5, cversion: 2, ..Stat::default() };
    whats.push((6501, 2, ask(4, 2, Op::Children { path: "/e".into(), watch: false })));
    whats.push((6502, 2, end(4, 5, Reply::Children { names: Vec::new(), stat: none })));
    let event = |(ms, client, what)| Event { at_us: ms * 1000, client, what };
    let header = Header { exact_reads: true, ..Header::default() };
    History { header, events: whats.into_iter().map(event).collect() }
}

/// A client that comes back after most of its timeout, on a server that cannot tell the leader, may lose its session at
/// any moment; one that is heard all the time may not.
///
/// Found by the simulator: C7, `sim replay 4762 --backend zab` and `sim replay 16342 --backend paxos`.
#[test]
fn only_what_the_leader_must_have_heard_of_protects_a_session() {
    assert_eq!(check_all(&ended_at_once(5000, None)).findings, []);
    // 1. S1, cut off, answers at 3 s and lets its client go. 2. The client comes to S2 just before the end does.
    assert_eq!(check_all(&ended_at_once(1500, Some(5000))).findings, []);
    for heard in [ended_at_once(500, None), ended_at_once(500, Some(2500))] {
        let findings = check_all(&heard).findings;
        assert!(findings.iter().any(|f| f.checker == "C7" && f.text.contains("is over")), "{findings:?}");
    }
}
