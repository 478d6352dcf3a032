//! Power failures, killed processes, torn and misdirected writes, rot, full disks, failing syncs.
//!
//! The rule under test: after any crash the log holds the state after some prefix of the appended writes, no shorter
//! than what a `sync` had covered; and rot is reported, never cut, never read back as something else.
// spec: reliability §1 rows 21-25, 27-30

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test that panics has failed")]

mod common;

use common::*;
use proptest::prelude::*;
use replog::{Index, LogOp, LogReader, LogStore, NodeId, Recovered, Span};
use wal::{Crash, Disk, Identity, MemDisk, Wal, WalError, WalOptions};

/// Writes that touch everything: several segments, overwriting, truncation, purge, votes.
fn writes() -> Vec<Vec<LogOp>> {
    vec![
        vec![LogOp::HardState(hard(1, 0))],
        vec![LogOp::Write(entries(1, 1, 4, 200))],
        vec![LogOp::Write(entries(1, 5, 9, 400)), LogOp::HardState(hard(1, 4))],
        vec![LogOp::Write(entries(1, 10, 12, 300))],
        vec![LogOp::HardState(hard(2, 6))],
        vec![LogOp::Truncate { from: Index(11) }, LogOp::Write(entries(2, 11, 14, 350))],
        vec![LogOp::Purge { upto: id(1, 8) }, LogOp::HardState(hard(2, 10))],
        vec![LogOp::Write(entries(2, 15, 24, 300))],
        vec![LogOp::Write(entries(2, 25, 25, 20)), LogOp::HardState(hard(3, 20))],
        vec![LogOp::Purge { upto: id(2, 21) }],
        vec![LogOp::Write(entries(3, 26, 27, 50))],
    ]
}

/// Runs the writes, a sync after every second one, until the disk stops. How many were synced and appended.
fn run(disk: &MemDisk, writes: &[Vec<LogOp>]) -> (usize, usize) {
    let (mut synced, mut appended) = (0, 0);
    let Ok((mut wal, _)) = open(disk) else { return (0, 0) };
    for ops in writes {
        if wal.append(ops).is_err() {
            // The frame was never in the buffer, but what came before it may have reached the disk.
            return (synced, appended);
        }
        appended += 1;
        if appended % 2 == 0 {
            if wal.sync().is_err() {
                break;
            }
            synced = appended;
        }
    }
    (synced, appended)
}

fn crashes() -> Vec<Crash> {
    let mut all = vec![Crash::Kill, Crash::PowerLoss];
    all.extend([1, 60, 113, 500, 2000].map(Crash::Torn));
    all.extend((0..6).map(Crash::Sectors));
    all
}

fn check(recovered: &Recovered, states: &[Model], at_least: usize, at_most: usize) -> usize {
    let fits = (at_least..=at_most).find(|k| states[*k].matches(recovered));
    fits.unwrap_or_else(|| panic!("no prefix in {at_least}..={at_most}: {recovered:?}"))
}

#[test]
fn every_crash_point_leaves_a_prefix() {
    let writes = writes();
    let states = prefixes(&writes);
    let whole = MemDisk::new();
    assert_eq!(run(&whole, &writes).1, writes.len());
    assert!(whole.operations() > 30, "{}", whole.operations());
    for point in 0..whole.operations() {
        let disk = MemDisk::new();
        disk.stop_after(Some(point));
        let (synced, appended) = run(&disk, &writes);
        for crash in crashes() {
            let mut disk = disk.fork();
            disk.crash(crash);
            let (mut wal, recovered) =
                open(&disk).unwrap_or_else(|e| panic!("crash point {point}, {crash:?}: {e}"));
            let k = check(&recovered, &states, synced, appended);
            states[k].check_reader(&wal.reader());
            // The log goes on: what follows is durable, and what was reported stays.
            let mut model = states[k].clone();
            let more = vec![LogOp::HardState(hard(9, 1)), LogOp::Purge { upto: id(9, 40) }];
            model.apply(&more);
            wal.append(&more).unwrap();
            wal.sync().unwrap();
            disk.crash(Crash::PowerLoss);
            assert!(model.matches(&open(&disk).unwrap().1), "crash point {point}, {crash:?}");
        }
    }
}

#[test]
fn a_crash_while_opening_changes_nothing() {
    let writes = writes();
    let states = prefixes(&writes);
    let stopped = |point| {
        let disk = MemDisk::new();
        disk.stop_after(Some(point));
        let (synced, appended) = run(&disk, &writes);
        (disk, synced, appended)
    };
    let (tail, tail_states) = unsynced_tail();
    let mut cases = vec![((tail, 1, 3), Crash::Kill, &tail_states)];
    for (point, first) in [(17, Crash::Torn(300)), (25, Crash::Sectors(3)), (40, Crash::Kill)] {
        cases.push((stopped(point), first, &states));
    }
    for (case, ((disk, synced, appended), first, states)) in cases.into_iter().enumerate() {
        for second in 0..16 {
            for crash in crashes() {
                let mut disk = disk.fork();
                disk.crash(first);
                disk.stop_after(Some(second));
                let reported = open(&disk).ok().map(|(_, recovered)| recovered);
                disk.crash(crash);
                let (_, recovered) = open(&disk).unwrap_or_else(|e| panic!("{case} {second} {crash:?}: {e}"));
                check(&recovered, states, synced, appended);
                // 1. reported to a leader and counted; 2. power fails: it must still be there.
                assert!(reported.is_none_or(|r| r == recovered), "{case} {second} {crash:?}");
            }
        }
    }
}

/// A log whose last `sync` was cut off between its write and its fsync.
fn unsynced_tail() -> (MemDisk, Vec<Model>) {
    let writes: Vec<Vec<LogOp>> = vec![
        vec![LogOp::Write(entries(1, 1, 3, 40)), LogOp::HardState(hard(1, 0))],
        vec![LogOp::Write(entries(1, 4, 5, 700)), LogOp::HardState(hard(2, 3))],
        vec![LogOp::Write(entries(1, 6, 6, 30)), LogOp::HardState(hard(7, 3))],
    ];
    let disk = MemDisk::new();
    let (mut wal, _) = open(&disk).unwrap();
    wal.append(&writes[0]).unwrap();
    wal.sync().unwrap();
    wal.append(&writes[1]).unwrap();
    wal.append(&writes[2]).unwrap();
    disk.stop_after(Some(1));
    wal.sync().unwrap_err();
    (disk, prefixes(&writes))
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_silently() {
    let (disk, states) = unsynced_tail();
    let bytes = disk.unsynced_bytes();
    assert!(bytes > 300);
    let mut seen = [0; 4];
    for kept in 0..=bytes {
        let mut disk = disk.fork();
        disk.crash(Crash::Torn(kept));
        let (_, recovered) = open(&disk).unwrap();
        seen[check(&recovered, &states, 1, 3)] += 1;
    }
    assert!(seen[1] > 100 && seen[2] > 50 && seen[3] >= 1, "{seen:?}");
}

#[test]
fn a_torn_vote_is_the_old_vote_or_the_new_one() {
    // spec: reliability row 23. The second record of the write survives, the first does not: neither counts.
    let (disk, states) = unsynced_tail();
    for seed in 0..64 {
        let mut disk = disk.fork();
        disk.crash(Crash::Sectors(seed));
        check(&open(&disk).unwrap().1, &states, 1, 3);
    }
}

#[test]
fn what_a_killed_process_left_is_durable_once_it_is_reported() {
    // 1. written, not synced; 2. killed; 3. read back and reported; 4. power fails.
    let (mut disk, states) = unsynced_tail();
    disk.crash(Crash::Kill);
    assert!(states[3].matches(&open(&disk).unwrap().1));
    disk.crash(Crash::PowerLoss);
    assert!(states[3].matches(&open(&disk).unwrap().1));
}

/// A whole log, opened once more, so that a later segment testifies for every record.
fn settled() -> (MemDisk, Model) {
    let writes = writes();
    let disk = MemDisk::new();
    let (mut wal, _) = open(&disk).unwrap();
    for ops in &writes {
        wal.append(ops).unwrap();
        wal.sync().unwrap();
    }
    drop(wal);
    drop(open(&disk).unwrap());
    (disk, prefixes(&writes).pop().unwrap())
}

/// Nothing is cut and nothing is read back wrong: each entry is whole or reported as damaged.
fn check_damage(disk: &MemDisk, model: &Model, what: &str) -> u64 {
    let (wal, recovered) = open(disk).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!((recovered.hard_state, recovered.base), (model.hard, model.base), "{what}");
    let reader = wal.reader();
    let damaged = |i: u64| recovered.damaged.iter().any(|s| s.contains(Index(i)));
    for (index, entry) in &model.entries {
        let found = reader.read(Span { from: Index(*index), to: Index(*index) }, 1);
        if damaged(*index) {
            assert!(found.is_err(), "{what}: {index} is damaged and readable");
        } else {
            assert_eq!(found.as_deref(), Ok(std::slice::from_ref(entry)), "{what}");
            assert!(recovered.entries.contains(&entry.meta()), "{what}");
        }
    }
    for meta in &recovered.entries {
        let index = meta.id.index.0;
        assert!(damaged(index) || model.entries[&index].meta() == *meta, "{what}: {meta:?}");
    }
    recovered.damaged.iter().map(|s| s.count()).sum()
}

#[test]
fn rot_is_reported_and_never_cut() {
    // spec: reliability rows 24-25
    let (disk, model) = settled();
    let (mut flips, mut felt, mut worst) = (0, 0, 0);
    for name in disk.list(dir()).unwrap().iter().filter(|n| n.ends_with(".log")) {
        let path = dir().join(name);
        let bytes = disk.contents(&path).unwrap().len() as u64;
        for offset in (0..bytes).step_by(11) {
            let disk = disk.fork();
            disk.flip(&path, offset, 1 << (offset % 8));
            let damaged = check_damage(&disk, &model, &format!("{name} at {offset}"));
            flips += 1;
            felt += u64::from(damaged > 0);
            worst = worst.max(damaged);
        }
    }
    assert!(flips > 300 && felt > 100, "{flips} flips, {felt} felt, {worst} at worst");
}

/// The last write is large, synced and acknowledged; the process is killed, and nothing was ever written behind it.
// requirement: S28
#[test]
fn rot_in_the_last_write_is_damage_too() {
    let mut writes = writes();
    let next = prefixes(&writes).pop().unwrap().entries.keys().last().unwrap() + 1;
    let tail: Vec<Vec<LogOp>> = (0..12)
        .map(|i| vec![LogOp::Write(entries(9, next + i, next + i, 30)), LogOp::HardState(hard(9, next))])
        .collect();
    let disk = MemDisk::new();
    let options = wal::WalOptions { segment_bytes: 64 << 10, ..small() };
    let (mut log, _) = wal::Wal::open(disk.clone(), dir(), identity(), options).unwrap();
    writes.iter().for_each(|ops| log.append(ops).unwrap());
    log.sync().unwrap();
    tail.iter().for_each(|ops| log.append(ops).unwrap());
    log.sync().unwrap();
    drop(log);
    writes.extend(tail);
    let model = prefixes(&writes).pop().unwrap();
    let path = dir().join("0000000001.log");
    let bytes = disk.contents(&path).unwrap();
    let used = bytes.iter().rposition(|b| *b != 0).unwrap() as u64;
    let mut felt = 0;
    // Rot in the mark itself changes nothing: all frames are whole.
    for offset in (600..used).step_by(7) {
        let disk = disk.fork();
        disk.flip(&path, offset, 1 << (offset % 8));
        felt += u64::from(check_damage(&disk, &model, &format!("at {offset}")) > 0);
    }
    assert!(felt > 50, "{felt} felt");
}

#[test]
fn rot_in_a_body_costs_one_entry_and_keeps_its_id() {
    let (disk, model) = settled();
    let last = model.entries.values().last().unwrap();
    let replog::Body::Command(body) = &last.body else { panic!("a command") };
    let (path, offset) = disk
        .list(dir())
        .unwrap()
        .iter()
        .map(|n| dir().join(n))
        .find_map(|p| {
            let bytes = disk.contents(&p)?;
            Some((p, bytes.windows(body.len()).position(|w| w == body)? as u64))
        })
        .unwrap();
    disk.flip(&path, offset + 7, 0x40);
    let (wal, recovered) = open(&disk).unwrap();
    let span = Span { from: last.id.index, to: last.id.index };
    assert_eq!(recovered.damaged, vec![span]);
    assert_eq!(recovered.entries.len(), model.entries.len());
    assert_eq!(recovered.entries.last(), Some(&last.meta()), "votes go on by ids");
    drop(wal);
    // Refetched: whole again, also after the next start.
    let (mut wal, _) = open(&disk).unwrap();
    wal.append(&[LogOp::Write(vec![last.clone()])]).unwrap();
    wal.sync().unwrap();
    drop(wal);
    assert!(model.matches(&open(&disk).unwrap().1));
}

#[test]
fn rot_that_appears_later_is_found_by_the_read() {
    let disk = MemDisk::new();
    let (mut wal, _) = open(&disk).unwrap();
    wal.append(&[LogOp::Write(entries(1, 1, 5, 100))]).unwrap();
    wal.sync().unwrap();
    let path = dir().join("0000000001.log");
    let body = disk.contents(&path).unwrap().windows(100).position(|w| w == [3 ^ 64; 100]).unwrap();
    disk.flip(&path, body as u64, 1);
    let reader = wal.reader();
    let whole = reader.read(Span { from: Index(1), to: Index(5) }, 10_000).unwrap();
    assert_eq!(whole, entries(1, 1, 2, 100), "up to the damaged one");
    assert_eq!(reader.take_damaged(), vec![Span { from: Index(3), to: Index(3) }]);
    assert!(reader.take_damaged().is_empty());
}

#[test]
fn a_lost_or_misdirected_write_is_damage_not_history() {
    // spec: reliability row 27
    for by in [None, Some(64), Some(512), Some(1000), Some(2048)] {
        let disk = MemDisk::new();
        let (mut wal, _) = open(&disk).unwrap();
        let mut model = Model::default();
        for (n, ops) in (0..).zip([
            vec![LogOp::Write(entries(1, 1, 4, 40)), LogOp::HardState(hard(1, 2))],
            vec![
                LogOp::Truncate { from: Index(3) },
                LogOp::Write(entries(2, 3, 5, 40)),
                LogOp::HardState(hard(2, 2)),
            ],
            vec![LogOp::Write(entries(2, 6, 7, 40))],
            vec![LogOp::Write(entries(2, 8, 8, 40)), LogOp::HardState(hard(2, 5))],
        ]) {
            if n == 1 {
                match by {
                    None => disk.lose_next_write(),
                    Some(by) => disk.misdirect_next_write(by),
                }
            }
            model.apply(&ops);
            wal.append(&ops).unwrap();
            wal.sync().unwrap();
        }
        drop(wal);
        let (_, recovered) = open(&disk).unwrap();
        // 3 and 4 of round 1 were cut by the record that is gone: showing them would break log matching.
        assert_eq!(recovered.damaged, vec![Span { from: Index(3), to: Index(5) }], "{by:?}");
        let kept: Vec<u64> = recovered.entries.iter().map(|e| e.id.index.0).collect();
        assert_eq!(kept, vec![1, 2, 6, 7, 8], "{by:?}");
        assert_eq!(recovered.hard_state, model.hard);
    }
}

#[test]
fn two_lost_writes_cost_all_that_they_may_have_touched() {
    // In one write: nobody knows how low the first of them cut, only that nothing committed goes. In two: each is followed
    // by its mark, which tells.
    for (together, first) in [(true, 4), (false, 5)] {
        let disk = MemDisk::new();
        let (mut wal, _) = open(&disk).unwrap();
        for (n, ops) in (0..).zip([
            vec![LogOp::Write(entries(1, 1, 6, 40)), LogOp::HardState(hard(1, 3))],
            vec![LogOp::Truncate { from: Index(5) }, LogOp::HardState(hard(2, 3))],
            vec![LogOp::Write(entries(2, 5, 7, 40))],
            vec![LogOp::Write(entries(2, 8, 8, 40))],
        ]) {
            wal.append(&ops).unwrap();
            if n == 1 && together {
                continue;
            }
            if n == 1 || n == 2 {
                disk.lose_next_write();
            }
            wal.sync().unwrap();
        }
        drop(wal);
        let (_, recovered) = open(&disk).unwrap();
        assert_eq!(recovered.damaged, vec![Span { from: Index(first), to: Index(7) }]);
        let kept: Vec<u64> = recovered.entries.iter().map(|e| e.id.index.0).collect();
        assert_eq!(kept, (1..first).chain([8]).collect::<Vec<_>>());
        assert_eq!(recovered.hard_state, hard(2, 3));
    }
}

#[test]
fn a_lost_vote_is_an_error_not_a_guess() {
    let disk = MemDisk::new();
    drop(open(&disk).unwrap());
    disk.flip(&dir().join("0000000001.log"), 100, 1);
    assert!(matches!(open(&disk), Err(WalError::HardStateLost { .. })));
}

#[test]
fn frames_of_another_server_do_not_count() {
    let (ours, theirs) = (MemDisk::new(), MemDisk::new());
    let other = Identity { node: NodeId(2), ..identity() };
    for (disk, identity) in [(&ours, identity()), (&theirs, other)] {
        let (mut wal, _) = Wal::open(disk.clone(), dir(), identity, small()).unwrap();
        wal.append(&[LogOp::HardState(hard(5, 0))]).unwrap();
        wal.sync().unwrap();
    }
    let path = dir().join("0000000001.log");
    let foreign = theirs.contents(&path).unwrap();
    let file = ours.open(&path).unwrap();
    wal::DiskFile::write_at(&file, &foreign[64..], 64).unwrap();
    assert!(matches!(open(&ours), Err(WalError::HardStateLost { .. })));
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    // spec: reliability row 29
    let disk = MemDisk::new();
    disk.set_capacity(Some(20_000));
    let options = WalOptions { reserve_bytes: 4096, ..small() };
    let (mut wal, _) = Wal::open(disk.clone(), dir(), identity(), options.clone()).unwrap();
    let mut model = Model::default();
    let mut next = 1;
    let mut put = |wal: &mut Wal<MemDisk>, model: &mut Model| {
        let ops = [LogOp::Write(entries(1, next, next, 900))];
        wal.append(&ops)?;
        wal.sync()?;
        model.apply(&ops);
        next += 1;
        Ok::<_, WalError>(())
    };
    let full = loop {
        if let Err(e) = put(&mut wal, &mut model) {
            break e;
        }
    };
    assert!(full.is_disk_full() && full.to_string().contains("disk full"), "{full}");
    assert!(model.entries.len() > 3);
    assert!(put(&mut wal, &mut model).unwrap_err().is_disk_full(), "still full");
    model.check_reader(&wal.reader());
    assert!(wal.release_reserve().unwrap());
    put(&mut wal, &mut model).unwrap();
    disk.set_capacity(None);
    for _ in 0..10 {
        put(&mut wal, &mut model).unwrap();
    }
    assert!(wal.restore_reserve().unwrap());
    drop(wal);
    let (_, recovered) = Wal::open(disk, dir(), identity(), options).unwrap();
    assert!(model.matches(&recovered));
}

#[test]
fn a_server_starts_on_a_full_disk() {
    let disk = MemDisk::new();
    let options = WalOptions { reserve_bytes: 8192, ..small() };
    let (mut wal, _) = Wal::open(disk.clone(), dir(), identity(), options.clone()).unwrap();
    let ops = [LogOp::Write(entries(1, 1, 2, 50))];
    wal.append(&ops).unwrap();
    wal.sync().unwrap();
    drop(wal);
    disk.set_capacity(Some(4096 + 8192));
    let (mut wal, recovered) = Wal::open(disk.clone(), dir(), identity(), options).unwrap();
    assert_eq!(recovered.entries.len(), 2);
    assert!(!wal.restore_reserve().unwrap(), "the room is used");
    disk.set_capacity(None);
    assert!(wal.restore_reserve().unwrap());
}

#[test]
fn a_failed_sync_is_final() {
    // spec: reliability row 28
    let mut disk = MemDisk::new();
    let (mut wal, _) = open(&disk).unwrap();
    let mut model = Model::default();
    let ops = [LogOp::Write(entries(1, 1, 2, 50))];
    model.apply(&ops);
    wal.append(&ops).unwrap();
    wal.sync().unwrap();
    wal.append(&[LogOp::Write(entries(1, 3, 4, 50))]).unwrap();
    disk.fail_next_sync();
    assert!(matches!(wal.sync(), Err(WalError::Sync { .. })));
    assert!(matches!(wal.sync(), Err(WalError::Failed)), "a second sync would lie");
    assert!(matches!(wal.append(&[]), Err(WalError::Failed)));
    disk.crash(Crash::PowerLoss);
    assert!(model.matches(&open(&disk).unwrap().1));
}

#[test]
fn what_a_failed_sync_left_in_memory_is_written_again() {
    // 1. a sync fails; 2. the next process reads what no disk holds, and reports it; 3. power fails.
    let mut disk = MemDisk::new();
    let (mut wal, _) = open(&disk).unwrap();
    wal.append(&[LogOp::Write(entries(1, 1, 2, 50))]).unwrap();
    wal.sync().unwrap();
    wal.append(&[LogOp::Write(entries(1, 3, 4, 50))]).unwrap();
    disk.fail_next_sync();
    assert!(matches!(wal.sync(), Err(WalError::Sync { .. })));
    drop(wal);
    disk.crash(Crash::Kill);
    let found = open(&disk).unwrap().1;
    assert_eq!(found.entries.len(), 4, "the cache has it");
    disk.crash(Crash::PowerLoss);
    assert_eq!(open(&disk).unwrap().1, found);
}

/// One random action.
#[derive(Clone, Debug)]
enum Action {
    Write { entries: u64, size: usize },
    Overwrite { back: u64, entries: u64 },
    Truncate { back: u64 },
    Purge { back: u64 },
    Hard,
    Sync,
    Crash(Crash),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (1..6u64, 0..600usize).prop_map(|(entries, size)| Action::Write { entries, size }),
        1 => (0..6u64, 1..4u64).prop_map(|(back, entries)| Action::Overwrite { back, entries }),
        1 => (0..6u64).prop_map(|back| Action::Truncate { back }),
        1 => (0..12u64).prop_map(|back| Action::Purge { back }),
        2 => Just(Action::Hard),
        4 => Just(Action::Sync),
        1 => prop_oneof![
            Just(Crash::Kill),
            Just(Crash::PowerLoss),
            (0..3000u64).prop_map(Crash::Torn),
            any::<u64>().prop_map(Crash::Sectors)
        ]
        .prop_map(Action::Crash),
    ]
}

fn ops(action: &Action, round: u32, model: &Model) -> Option<Vec<LogOp>> {
    let end = model.entries.keys().last().copied().unwrap_or(0).max(model.base.index.0);
    let back = |n: u64| (end + 1).saturating_sub(n).max(model.base.index.0 + 1);
    Some(match action {
        Action::Write { entries: n, size } => vec![LogOp::Write(entries(round, end + 1, end + n, *size))],
        Action::Overwrite { back: b, entries: n } => {
            vec![
                LogOp::Write(entries(round, back(*b), back(*b) + n - 1, 30)),
                LogOp::HardState(hard(round, 0)),
            ]
        }
        Action::Truncate { back: b } => vec![LogOp::Truncate { from: Index(back(*b)) }],
        Action::Purge { back: b } => vec![LogOp::Purge { upto: id(round, back(*b).saturating_sub(1)) }],
        Action::Hard => vec![LogOp::HardState(hard(round, model.base.index.0))],
        Action::Sync | Action::Crash(_) => return None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn random_histories_leave_a_prefix(actions in proptest::collection::vec(action(), 1..60)) {
        let mut disk = MemDisk::new();
        let (mut wal, _) = open(&disk).unwrap();
        // States since the last sync: the first is the least that must survive.
        let mut states = vec![Model::default()];
        for (round, action) in (1..).zip(&actions) {
            match action {
                Action::Sync => {
                    wal.sync().unwrap();
                    states.drain(..states.len() - 1);
                    states[0].check_reader(&wal.reader());
                }
                Action::Crash(kind) => {
                    drop(wal);
                    disk.crash(*kind);
                    let (opened, recovered) = open(&disk).unwrap();
                    let k = check(&recovered, &states, 0, states.len() - 1);
                    states = vec![states.swap_remove(k)];
                    wal = opened;
                }
                other => {
                    let mut model = states.last().unwrap().clone();
                    let ops = ops(other, round, &model).unwrap();
                    model.apply(&ops);
                    wal.append(&ops).unwrap();
                    states.push(model);
                }
            }
        }
        wal.sync().unwrap();
        drop(wal);
        disk.crash(Crash::PowerLoss);
        prop_assert!(states.last().unwrap().matches(&open(&disk).unwrap().1));
    }
}
