//! What can be done to a history. Each changes as little as it can.

mod case;
mod recipes;

pub use case::Case;
use history::{CreateMode, Event, EventKind, Op, Outcome, Reply, Stat, What};

pub struct Corruption {
    pub name: &'static str,
    pub checker: &'static str,
    /// Whether it needs a history in which connections break and sessions expire.
    pub faults: bool,
    /// False: there is no place for it.
    pub apply: fn(&mut Case) -> bool,
}

const fn plain(name: &'static str, checker: &'static str, apply: fn(&mut Case) -> bool) -> Corruption {
    Corruption { name, checker, faults: false, apply }
}

const fn faulty(name: &'static str, checker: &'static str, apply: fn(&mut Case) -> bool) -> Corruption {
    Corruption { name, checker, faults: true, apply }
}

pub const ALL: &[Corruption] = &[
    plain("swapped zxids", "C1", swapped_zxids),
    plain("one zxid twice", "C1", one_zxid_twice),
    plain("zxid from before the call", "C1", zxid_from_before),
    plain("set tells a wrong version", "C1", |c| c.stat_of(is_set, |stat| stat.version += 1)),
    plain("set tells a wrong czxid", "C1", |c| c.stat_of(is_set, |stat| stat.czxid += 1)),
    plain("failed delete called done", "C1", |c| {
        c.outcome_of(
            |op, out| matches!(op, Op::Delete { .. }) && error(out) == Some(-101),
            |out| {
                *out = Outcome::Ok(Reply::Nothing);
            },
        )
    }),
    plain("done set called failed", "C1", |c| {
        c.outcome_of(
            |op, out| is_set(op) && error(out).is_none(),
            |out| {
                *out = Outcome::Error(-103);
            },
        )
    }),
    plain("done create called a duplicate", "C1", |c| {
        c.outcome_of(
            |op, out| is_made(op, "/set/") && error(out).is_none(),
            |out| *out = Outcome::Error(-110),
        )
    }),
    plain("acknowledged node missing at the end", "C2", |c| c.final_names(|names| drop(names.pop()))),
    plain("node at the end that nobody made", "C2", |c| c.final_names(|names| names.push("ghost".into()))),
    plain("content at the end that nobody wrote", "C2", |c| c.final_data(|data| *data = "ghost".into())),
    plain("older content at the end", "C2", |c| c.final_data(|data| *data = "100".into())),
    plain("final read finds nothing", "C2", final_nothing),
    plain("answers of a session swapped", "C3", answers_swapped),
    plain("an answer from an older state", "C3", |c| c.zxid_of(is_read, |zxid| zxid - 30)),
    faulty("time runs backwards after a reconnect", "C3", backwards_after_reconnect),
    plain("an old node after a new one", "C3", |c| c.reread(|stat| stat.mzxid -= 1)),
    plain("stale content", "C4", |c| c.data_of("/a", |data, _| *data = "stale".into())),
    plain("stale version", "C4", |c| c.data_of("/a", |_, stat| stat.version -= 1)),
    plain("a node denied", "C4", |c| {
        c.outcome_of(
            |op, out| reads(op, "/a") && error(out).is_none(),
            |out| {
                *out = Outcome::Error(-101);
            },
        )
    }),
    plain("more names than children", "C4", |c| c.names_of(|names, _| names.push("ghost".into()))),
    plain("a name left out", "C4", |c| {
        c.names_of(|names, stat| {
            names.pop();
            stat.num_children -= 1;
        })
    }),
    plain("another time for one zxid", "C4", |c| c.data_of("/a", |_, stat| stat.mtime += 1)),
    plain("a write that nobody asked for", "C4", write_nobody_asked_for),
    plain("stale after a sync", "C5", |c| c.zxid_of(|op| matches!(op, Op::Sync { .. }), |zxid| zxid - 40)),
    plain("a sequential name twice", "C6", |c| sequential(c, |name| name - 1)),
    plain("a sequential number skipped", "C6", |c| sequential(c, |name| name + 3)),
    plain("a sequential name without number", "C6", |c| {
        c.outcome_of(
            |op, out| is_sequential(op) && error(out).is_none(),
            |out| {
                if let Outcome::Ok(Reply::Created { path, .. }) = out {
                    path.truncate(path.len() - 10);
                }
            },
        )
    }),
    plain("a session id given twice", "C7", session_twice),
    faulty("a closed session resumed", "C7", closed_resumed),
    faulty("a closed session still writes", "C7", closed_writes),
    plain("an ephemeral gone while its session lives", "C7", |c| {
        c.outcome_of(|op, out| reads(op, "/e/l") && owned(out), |out| *out = Outcome::Error(-101))
    }),
    plain("an ephemeral that outlives its session", "C7", ephemeral_outlives),
    plain("expiry under heartbeats", "C7", early_expiry),
    plain("a session answered long after its end", "C7", answered_after_end),
    plain("an event lost", "C8", event_lost),
    plain("an event twice", "C8", event_twice),
    plain("an event too late", "C8", event_late),
    plain("an event before the watch", "C8", event_unasked),
    plain("an event of another kind", "C8", |c| {
        c.event(|_, kind, _| {
            *kind = if *kind == EventKind::Created { EventKind::DataChanged } else { EventKind::Created };
        })
    }),
    plain("events out of order", "C8", events_swapped),
    plain("an event without a change", "C8", |c| c.event(|zxid, _, _| *zxid -= 1)),
    faulty("an event missed across a reconnect", "C8", missed_across_reconnect),
    faulty("an event made up without need", "C8", made_up),
    plain("half a multi", "C9", half_a_multi),
    plain("a failed multi that blames another", "C9", |c| {
        c.multi(|results| {
            if results.len() == 3 && results[0] == Outcome::Error(-103) {
                results[0] = Outcome::Error(0);
                results[1] = Outcome::Error(-103);
                return true;
            }
            false
        })
    }),
    plain("a failed multi that did a part", "C9", |c| {
        c.multi(|results| {
            let failed = results.len() == 3 && results[0] == Outcome::Error(-103);
            if failed {
                results[2] = Outcome::Ok(Reply::Stat(Stat::default()));
            }
            failed
        })
    }),
    plain("a multi done called failed", "C9", |c| {
        c.multi(|results| {
            let done = !results.iter().any(|one| matches!(one, Outcome::Error(_)));
            if done {
                results.iter_mut().for_each(|one| *one = Outcome::Error(-2));
                results[0] = Outcome::Error(-103);
            }
            done
        })
    }),
    plain("an older ticket holds the lock again", "C11", recipes::older_ticket),
    plain("work of one who held the lock before", "C11", recipes::late_work),
    plain("an item had twice", "C11", recipes::item_twice),
    plain("a client that stays without an answer", "C14", no_answer_after_healing),
];

fn is_set(op: &Op) -> bool {
    matches!(op, Op::Set { path, .. } if path == "/a" || path == "/b")
}

fn is_read(op: &Op) -> bool {
    matches!(op, Op::Get { .. } | Op::Exists { .. } | Op::Children { .. })
}

fn reads(op: &Op, at: &str) -> bool {
    matches!(op, Op::Get { path, .. } | Op::Exists { path, .. } if path == at)
}

fn is_made(op: &Op, below: &str) -> bool {
    matches!(op, Op::Create { path, .. } if path.starts_with(below))
}

fn is_sequential(op: &Op) -> bool {
    matches!(op, Op::Create { mode: CreateMode::PersistentSequential | CreateMode::EphemeralSequential, .. })
}

fn is_write(op: &Op) -> bool {
    matches!(op, Op::Create { .. } | Op::Delete { .. } | Op::Set { .. } | Op::Multi { .. })
}

fn error(outcome: &Outcome) -> Option<i32> {
    match outcome {
        Outcome::Error(code) => Some(*code),
        Outcome::Ok(_) => None,
    }
}

fn owned(outcome: &Outcome) -> bool {
    let stat = match outcome {
        Outcome::Ok(Reply::Stat(stat) | Reply::Data { stat, .. }) => stat,
        _ => return false,
    };
    stat.ephemeral_owner != 0
}

fn swapped_zxids(case: &mut Case) -> bool {
    let writes = case.writes();
    let (first, last) = (writes[0], writes[writes.len() - 1]);
    let (a, b) = (case.zxid(first), case.zxid(last));
    *case.answer(first).0 = b;
    *case.answer(last).0 = a;
    true
}

fn one_zxid_twice(case: &mut Case) -> bool {
    let writes = case.writes();
    let zxid = case.zxid(writes[0]);
    *case.answer(writes[1]).0 = zxid;
    true
}

fn zxid_from_before(case: &mut Case) -> bool {
    let writes = case.writes();
    let last = writes[writes.len() - 1];
    *case.answer(last).0 -= 50;
    true
}

fn final_nothing(case: &mut Case) -> bool {
    let end = case.end();
    for index in end..case.history.events.len() {
        if let What::Return { call, .. } = case.history.events[index].what
            && reads(case.op(call).0, "/set")
        {
            *case.answer(index).1 = Outcome::Error(-101);
            return true;
        }
    }
    false
}

fn answers_swapped(case: &mut Case) -> bool {
    // Two calls of one session under way at once.
    let all = case.answered();
    for (i, (a, from, to)) in all.iter().enumerate() {
        for (b, other, later) in all.iter().skip(i + 1).take(6) {
            if case.op(*a).1 == case.op(*b).1 && from < other && other < to && to < later {
                let (first, second) = (case.what(*to).clone(), case.what(*later).clone());
                *case.what(*to) = second;
                *case.what(*later) = first;
                return true;
            }
        }
    }
    false
}

fn backwards_after_reconnect(case: &mut Case) -> bool {
    let connected = case.history.events.iter().enumerate().find_map(|(at, event)| match event.what {
        What::Connected { session, resumed: true, seen, .. } if seen > 0 => Some((at, session, seen)),
        _ => None,
    });
    let Some((at, session, seen)) = connected else { return false };
    let answer =
        case.answered().into_iter().find(|(call, from, _)| *from > at && case.op(*call).1 == session);
    let Some((.., to)) = answer else { return false };
    *case.answer(to).0 = seen - 1;
    true
}

fn write_nobody_asked_for(case: &mut Case) -> bool {
    // The write disappears from the history; what it wrote is read.
    for (call, from, to) in case.answered() {
        if !is_set(case.op(call).0)
            || error(case.answer(to).1).is_some()
            || from < case.history.events.len() / 3
        {
            continue;
        }
        let zxid = case.zxid(to);
        let read = case.answered().into_iter().any(|(_, _, at)| {
            at != to
                && matches!(case.answer(at).1, Outcome::Ok(Reply::Data { stat, .. }) if stat.mzxid == zxid)
        });
        if read {
            case.history.events.remove(to);
            case.history.events.remove(from);
            return true;
        }
    }
    false
}

fn sequential(case: &mut Case, change: fn(i64) -> i64) -> bool {
    let found = case.late(|op, out| is_sequential(op) && error(out).is_none());
    let Some(to) = found else { return false };
    let Outcome::Ok(Reply::Created { path, .. }) = case.answer(to).1 else { return false };
    let at = path.len() - 10;
    let number: i64 = path[at..].parse().unwrap();
    *path = format!("{}{:010}", &path[..at], change(number));
    number > 0
}

fn session_twice(case: &mut Case) -> bool {
    let mut connected = case.history.events.iter().enumerate().filter_map(|(at, event)| match event.what {
        What::Connected { session, .. } => Some((at, session)),
        _ => None,
    });
    let (first, second) = (connected.next(), connected.next());
    let (Some((_, id)), Some((at, _))) = (first, second) else { return false };
    if let What::Connected { session, .. } = case.what(at) {
        *session = id;
    }
    true
}

/// The answer to a close: (its place, the session, the client).
fn closed(case: &mut Case) -> Option<(usize, i64, u32)> {
    let mut all = case.answered().into_iter();
    let (call, _, to) = all.find(|(call, ..)| matches!(case.op(*call).0, Op::Close))?;
    Some((to, case.op(call).1, case.history.events[to].client))
}

fn closed_resumed(case: &mut Case) -> bool {
    let Some((to, session, client)) = closed(case) else { return false };
    let seen = case.zxid(to);
    let what = What::Connected { session, server: 1, timeout_ms: 4000, resumed: true, seen };
    case.insert(to + 2, client, what);
    true
}

fn closed_writes(case: &mut Case) -> bool {
    let Some((to, session, _)) = closed(case) else { return false };
    let end = case.zxid(to);
    let mut own = case.answered().into_iter().filter(|(call, _, at)| *at < to && case.op(*call).1 == session);
    let last = own.rfind(|(call, ..)| is_write(case.op(*call).0));
    let Some((.., last)) = last else { return false };
    // Its last write and the close change places in the order of zxids.
    let before = case.zxid(last);
    *case.answer(last).0 = end;
    *case.answer(to).0 = before;
    true
}

fn ephemeral_outlives(case: &mut Case) -> bool {
    // A session that made one is closed; another one still sees it.
    for (call, from, to) in case.answered() {
        let (op, session) = case.op(call);
        let (true, Op::Create { data, .. }) = (is_sequential(op), op) else { continue };
        let data = data.clone();
        let Outcome::Ok(Reply::Created { path, stat: Some(stat) }) = case.answer(to).1.clone() else {
            continue;
        };
        let client = case.history.events[from].client;
        let (last, ..) = *case.answered().last().unwrap();
        let (reader, other) = (case.history.events.last().unwrap().client, case.op(last).1);
        if stat.ephemeral_owner != session || other == session {
            continue;
        }
        let zxid = case.answered().into_iter().map(|(.., to)| case.zxid(to)).max().unwrap() + 1;
        let read = Op::Get { path, watch: false };
        let end = case.history.events.len();
        let closed = Outcome::Ok(Reply::Nothing);
        case.insert(end, client, What::Invoke { call: 9001, session, op: Op::Close });
        case.insert(end + 1, client, What::Return { call: 9001, zxid, outcome: closed });
        case.insert(end + 2, client, What::Disconnected);
        case.insert(end + 3, reader, What::Invoke { call: 9002, session: other, op: read });
        let outcome = Outcome::Ok(Reply::Data { data, stat });
        case.insert(end + 4, reader, What::Return { call: 9002, zxid, outcome });
        return true;
    }
    false
}

/// A session that made an ephemeral and is not the last one to be answered, the ephemeral, the last one and its client, and
/// the highest zxid.
fn holder(case: &mut Case) -> Option<(i64, String, i64, u32, i64)> {
    let (last, ..) = *case.answered().last()?;
    let (other, client) = (case.op(last).1, case.history.events.last()?.client);
    let mut found = None;
    let mut zxid = 0;
    for (call, _, to) in case.answered() {
        let (op, session) = case.op(call);
        let made = is_sequential(op) && session != other;
        zxid = zxid.max(case.zxid(to));
        if let Outcome::Ok(Reply::Created { path, stat: Some(stat) }) = case.answer(to).1
            && made
            && stat.ephemeral_owner == session
        {
            found = Some((session, path.clone()));
        }
    }
    let (session, path) = found?;
    Some((session, path, other, client, zxid))
}

fn early_expiry(case: &mut Case) -> bool {
    // A session is heard all the time; with a write of another in between, somebody is told that its node went.
    let Some((session, path, other, client, zxid)) = holder(case) else { return false };
    let at_us = case.history.events.last().unwrap().at_us;
    let mut push = |after_ms: u64, what| {
        case.history.events.push(Event { at_us: at_us + after_ms * 1000, client, what });
    };
    for ms in (10..10_000).step_by(300) {
        push(ms + 1, What::Ping { session, sent_us: at_us + ms * 1000 });
    }
    let op = Op::Delete { path: "/nowhere/x".into(), version: -1 };
    push(10_030, What::Invoke { call: 9001, session: other, op });
    push(10_040, What::Return { call: 9001, zxid: zxid + 1, outcome: Outcome::Error(-101) });
    push(10_060, What::Watch { session: other, zxid: zxid + 2, kind: EventKind::Deleted, path });
    true
}

fn answered_after_end(case: &mut Case) -> bool {
    // Somebody is told that a silent session's node went; half a minute later its client is still answered.
    let Some((session, path, other, client, zxid)) = holder(case) else { return false };
    let at_us = case.history.events.last().unwrap().at_us;
    let mut push = |after_ms: u64, what| {
        case.history.events.push(Event { at_us: at_us + after_ms * 1000, client, what });
    };
    push(20_000, What::Watch { session: other, zxid: zxid + 2, kind: EventKind::Deleted, path });
    push(50_001, What::Ping { session, sent_us: at_us + 50_000_000 });
    true
}

fn event_lost(case: &mut Case) -> bool {
    // One after which its connection still gets an answer.
    for at in case.events() {
        let (client, zxid) = (case.history.events[at].client, case.zxid(at));
        let rest = &case.history.events[at + 1..];
        let next = rest.iter().filter(|event| event.client == client);
        let next =
            next.take_while(|event| !matches!(event.what, What::Disconnected)).find_map(|event| match event
                .what
            {
                What::Return { zxid, .. } => Some(zxid),
                _ => None,
            });
        if next.is_some_and(|next| next >= zxid) {
            case.history.events.remove(at);
            return true;
        }
    }
    false
}

fn event_twice(case: &mut Case) -> bool {
    let Some(at) = case.events().first().copied() else { return false };
    let event = case.history.events[at].clone();
    case.insert(at + 1, event.client, event.what);
    true
}

fn event_late(case: &mut Case) -> bool {
    for at in case.events() {
        let (client, zxid) = (case.history.events[at].client, case.zxid(at));
        let next = (at + 1..case.history.events.len()).find(|next| {
            let event = &case.history.events[*next];
            event.client == client && matches!(event.what, What::Return { .. } | What::Disconnected)
        });
        if let Some(next) = next.filter(|next| case.zxid(*next) >= zxid) {
            let event = case.history.events[at].what.clone();
            case.insert(next + 1, client, event);
            case.history.events.remove(at);
            return true;
        }
    }
    false
}

fn event_unasked(case: &mut Case) -> bool {
    // Of a node that is just being made, at the right zxid, just before the answer.
    for (call, _, to) in case.answered() {
        let (op, session) = case.op(call);
        let Op::Create { path, .. } = op.clone() else { continue };
        if !path.starts_with("/set/") || error(case.answer(to).1).is_some() {
            continue;
        }
        let (client, zxid, path) = (case.history.events[to].client, case.zxid(to), path);
        let mut events = case.history.events[..to].iter().filter(|event| event.client == client);
        if !events.any(|e| matches!(&e.what, What::Invoke { op: Op::AddWatch { .. }, .. })) {
            case.insert(to, client, What::Watch { session, zxid, kind: EventKind::Created, path });
            return true;
        }
    }
    false
}

fn events_swapped(case: &mut Case) -> bool {
    let all = case.events();
    for (a, b) in all.iter().zip(all.iter().skip(1)) {
        if case.history.events[*a].client == case.history.events[*b].client && case.zxid(*a) < case.zxid(*b) {
            let (first, second) = (case.what(*a).clone(), case.what(*b).clone());
            *case.what(*a) = second;
            *case.what(*b) = first;
            return true;
        }
    }
    false
}

fn missed_across_reconnect(case: &mut Case) -> bool {
    // Of a path that no call without an answer may have changed.
    let open = |path: &str| {
        let unanswered = case.calls.iter().filter(|(_, (_, to))| to.is_none());
        unanswered.map(|(call, _)| format!("{:?}", case.op(*call).0)).any(|op| op.contains(path))
    };
    let found = case
        .history
        .events
        .iter()
        .position(|e| matches!(&e.what, What::Watch { zxid: -1, path, .. } if !open(path)));
    if let Some(at) = found {
        case.history.events.remove(at);
    }
    found.is_some()
}

fn made_up(case: &mut Case) -> bool {
    for (call, from, to) in case.answered() {
        if let (Op::SetWatches { .. }, session) = case.op(call) {
            let client = case.history.events[from].client;
            let what = What::Watch { session, zxid: -1, kind: EventKind::Deleted, path: "/set".into() };
            case.insert(to, client, what);
            return true;
        }
    }
    false
}

fn half_a_multi(case: &mut Case) -> bool {
    let mut multis = Vec::new();
    for (call, _, to) in case.answered() {
        let zxid = case.zxid(to);
        if matches!(case.op(call).0, Op::Multi { .. }) {
            multis.push(zxid);
        } else if reads(case.op(call).0, "/bank/y")
            && let Outcome::Ok(Reply::Data { data, stat }) = case.answer(to).1
            && multis.contains(&stat.mzxid)
            && multis.len() > 3
        {
            *data = "7777".into();
            stat.version -= 1;
            stat.data_length = 4;
            return true;
        }
    }
    false
}

fn no_answer_after_healing(case: &mut Case) -> bool {
    let healed = case.history.events.iter().position(|event| event.what == What::Healed).unwrap();
    let client = case.history.events.last().unwrap().client;
    for index in healed..case.history.events.len() {
        if case.history.events[index].client == client
            && let What::Return { call, .. } = case.history.events[index].what
        {
            *case.what(index) = What::Unknown { call };
        }
    }
    let at_us = case.history.events.last().unwrap().at_us + 60_000_000;
    case.history.events.push(Event { at_us, client: 0, what: What::Fault { text: "the end".into() } });
    true
}
