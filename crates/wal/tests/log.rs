//! What the log promises while nothing goes wrong, and that it refuses what is not its own.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test that panics has failed")]

mod common;

use common::*;
use replog::{Body, Configuration, Index, LogOp, LogReader, LogStore, NodeId, Span};
use std::io::ErrorKind;
use wal::{Disk, FileDisk, Identity, MemDisk, Wal, WalError, WalOptions};

fn sample() -> Vec<Vec<LogOp>> {
    let mut with_configuration = entries(2, 9, 10, 30);
    let configuration = Box::new(Configuration::of_voters([NodeId(1), NodeId(2), NodeId(3)]));
    with_configuration[0].body = Body::Config(configuration, "reconfig".into());
    with_configuration[1].body = Body::Noop;
    vec![
        vec![LogOp::HardState(hard(1, 0))],
        vec![LogOp::Write(entries(1, 1, 5, 100)), LogOp::HardState(hard(1, 2))],
        vec![LogOp::Write(entries(1, 6, 12, 300))],
        vec![
            LogOp::Truncate { from: Index(9) },
            LogOp::Write(with_configuration),
            LogOp::HardState(hard(2, 8)),
        ],
        vec![LogOp::Purge { upto: id(1, 3) }],
        vec![LogOp::Write(entries(2, 11, 30, 200))],
        vec![LogOp::HardState(hard(3, 30))],
        vec![LogOp::Purge { upto: id(2, 20) }, LogOp::Write(entries(3, 31, 33, 10))],
    ]
}

#[test]
fn what_was_written_comes_back() {
    let disk = MemDisk::new();
    let mut model = Model::default();
    let (mut wal, recovered) = open(&disk).unwrap();
    assert!(wal.is_new());
    assert!(model.matches(&recovered));
    let reader = wal.reader();
    for ops in sample() {
        model.apply(&ops);
        wal.append(&ops).unwrap();
        wal.sync().unwrap();
        model.check_reader(&reader);
    }
    assert!(wal.counters().segments_created > 2, "{:?}", wal.counters());
    assert!(wal.counters().segments_removed > 0, "{:?}", wal.counters());
    drop(wal);
    for _ in 0..3 {
        let (wal, recovered) = open(&disk).unwrap();
        assert!(!wal.is_new());
        assert!(model.matches(&recovered), "{recovered:?}\n{model:?}");
        model.check_reader(&wal.reader());
    }
}

#[test]
fn appends_between_two_syncs_share_one_write_and_one_fsync() {
    let disk = MemDisk::new();
    let (mut wal, _) = Wal::open(disk.clone(), dir(), identity(), WalOptions::default()).unwrap();
    let before = wal.counters();
    let operations = disk.operations();
    for i in 1..=100 {
        wal.append(&[LogOp::Write(entries(1, i, i, 100))]).unwrap();
    }
    wal.sync().unwrap();
    let after = wal.counters();
    assert_eq!((after.writes - before.writes, after.syncs - before.syncs), (1, 1));
    assert_eq!(disk.operations() - operations, 3, "and the mark that says so, which waits for no sync");
    assert_eq!((after.appends, after.entries), (100, 100));
    wal.sync().unwrap();
    assert_eq!(wal.counters().syncs, after.syncs, "nothing to sync");
}

#[test]
fn reads_are_bounded_by_bytes_and_stop_at_holes() {
    let disk = MemDisk::new();
    let (mut wal, _) = open(&disk).unwrap();
    wal.append(&[LogOp::Write(entries(1, 1, 60, 100))]).unwrap();
    wal.append(&[LogOp::Write(entries(1, 63, 64, 100))]).unwrap();
    let reader = wal.reader();
    let read = |from, to, bytes| reader.read(Span { from: Index(from), to: Index(to) }, bytes);
    assert!(read(63, 64, 1000).is_err(), "still in the buffer");
    wal.sync().unwrap();
    assert_eq!(read(1, 60, 1).unwrap().len(), 1, "at least one");
    assert_eq!(read(1, 60, 148 * 7).unwrap().len(), 7);
    assert_eq!(read(50, 70, 1 << 20).unwrap().len(), 11, "up to the hole");
    assert!(read(61, 64, 1000).is_err());
    assert_eq!(read(64, 64, 1000).unwrap().len(), 1);
    assert!(read(65, 65, 1000).is_err());
    wal.append(&[LogOp::Write(entries(1, 65, 66, 100))]).unwrap();
    assert_eq!(read(63, 66, 1000).unwrap().len(), 2, "up to the buffer");
    assert!(reader.take_damaged().is_empty(), "what is not there yet is not damaged");
}

#[test]
fn small_writes_are_read_back_in_one_piece() {
    let disk = MemDisk::new();
    let (mut wal, _) = Wal::open(disk, dir(), identity(), WalOptions::default()).unwrap();
    for i in 1..=200 {
        wal.append(&[LogOp::Write(entries(1, i, i, 100)), LogOp::HardState(hard(1, i - 1))]).unwrap();
    }
    wal.sync().unwrap();
    let span = Span { from: Index(1), to: Index(200) };
    assert_eq!(wal.reader().read(span, 1 << 20).unwrap(), entries(1, 1, 200, 100));
    assert_eq!(wal.counters().reads, 1);
}

#[test]
fn a_base_beyond_the_end_and_entries_above_it() {
    let disk = MemDisk::new();
    let mut model = Model::default();
    let (mut wal, _) = open(&disk).unwrap();
    // Paxos: slot 12 is accepted, the prefix ends at 5, a snapshot at 10 is installed: 12 must stay.
    for ops in [
        vec![LogOp::Write(entries(1, 1, 5, 10)), LogOp::Write(entries(1, 12, 12, 10))],
        vec![LogOp::Purge { upto: id(1, 10) }],
        vec![LogOp::Purge { upto: id(1, 7) }],
    ] {
        model.apply(&ops);
        wal.append(&ops).unwrap();
    }
    wal.sync().unwrap();
    assert_eq!(model.entries.len(), 1);
    model.check_reader(&wal.reader());
    let far = [LogOp::Purge { upto: id(4, 1_000_000_000) }];
    model.apply(&far);
    wal.append(&far).unwrap();
    wal.append(&[LogOp::Write(entries(4, 1_000_000_001, 1_000_000_001, 10))]).unwrap();
    model.apply(&[LogOp::Write(entries(4, 1_000_000_001, 1_000_000_001, 10))]);
    wal.sync().unwrap();
    drop(wal);
    let (wal, recovered) = open(&disk).unwrap();
    assert!(model.matches(&recovered), "{recovered:?}");
    model.check_reader(&wal.reader());
}

#[test]
fn a_write_larger_than_a_segment_gets_one_of_its_own() {
    let disk = MemDisk::new();
    let mut model = Model::default();
    let (mut wal, _) = open(&disk).unwrap();
    for ops in [
        vec![LogOp::Write(entries(1, 1, 2, 10))],
        vec![LogOp::Write(entries(1, 3, 4, 9000))],
        vec![LogOp::Write(entries(1, 5, 6, 10))],
    ] {
        model.apply(&ops);
        wal.append(&ops).unwrap();
    }
    wal.sync().unwrap();
    drop(wal);
    let (_, recovered) = open(&disk).unwrap();
    assert!(model.matches(&recovered));
}

#[test]
fn a_foreign_directory_is_refused() {
    let disk = MemDisk::new();
    drop(open(&disk).unwrap());
    let with = |i: Identity| Wal::open(disk.clone(), dir(), i, small()).err().map(|e| e.to_string()).unwrap();
    let raft = with(Identity { protocol: "raft".into(), ..identity() });
    assert!(raft.contains("belongs to protocol zab, this server runs raft"), "{raft}");
    let cluster = with(Identity { cluster: 1, ..identity() });
    assert!(cluster.contains("belongs to cluster 000000000000feed"), "{cluster}");
    let node = with(Identity { node: NodeId(2), ..identity() });
    assert!(node.contains("belongs to server n1, this is server n2"), "{node}");
    open(&disk).unwrap();
}

#[test]
fn a_directory_in_use_is_refused() {
    let disk = MemDisk::new();
    let first = open(&disk).unwrap();
    assert!(matches!(open(&disk), Err(WalError::Locked { .. })));
    drop(first);
    open(&disk).unwrap();
    let real = tempfile::tempdir().unwrap();
    let open_real = || Wal::open(FileDisk, real.path(), identity(), small());
    let first = open_real().unwrap();
    assert!(matches!(open_real(), Err(WalError::Locked { .. })));
    drop(first);
    open_real().unwrap();
}

#[test]
fn a_missing_segment_is_named() {
    let disk = MemDisk::new();
    for i in 1..=3 {
        let (mut wal, _) = open(&disk).unwrap();
        wal.append(&[LogOp::Write(entries(1, i, i, 10))]).unwrap();
        wal.sync().unwrap();
    }
    disk.remove(&dir().join("0000000002.log")).unwrap();
    let error = open(&disk).err().unwrap().to_string();
    assert!(error.contains("0000000002.log is missing"), "{error}");
}

#[test]
fn real_files_behave_like_the_model() {
    let real = tempfile::tempdir().unwrap();
    let data = real.path().join("a/b");
    let mut model = Model::default();
    let options = WalOptions { reserve_bytes: 1 << 20, ..small() };
    let (mut wal, _) = Wal::open(FileDisk, &data, identity(), options.clone()).unwrap();
    for ops in sample() {
        model.apply(&ops);
        wal.append(&ops).unwrap();
    }
    wal.sync().unwrap();
    assert_eq!(std::fs::metadata(data.join("reserve")).unwrap().len(), 1 << 20);
    assert!(wal.release_reserve().unwrap());
    assert_eq!(std::fs::metadata(data.join("reserve")).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(wal.restore_reserve().unwrap());
    let reader = wal.reader();
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let (reader, want) = (reader.clone(), model.entries.clone());
            std::thread::spawn(move || {
                for (index, entry) in &want {
                    let span = Span { from: Index(*index), to: Index(*index) };
                    assert_eq!(reader.read(span, 1).unwrap(), vec![entry.clone()]);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    drop(wal);
    let (wal, recovered) = Wal::open(FileDisk, &data, identity(), options).unwrap();
    assert!(model.matches(&recovered));
    assert!(wal.bytes_on_disk() >= 4096);
    assert!(FileDisk.free_bytes(&data).unwrap() > 0);
}

#[test]
fn a_log_may_be_moved_to_another_thread() {
    fn is_send<T: Send>(_: &T) {}
    fn is_shared<T: Send + Sync + Clone>(_: &T) {}
    let (wal, _) = open(&MemDisk::new()).unwrap();
    is_send(&wal);
    is_shared(&wal.reader());
}
