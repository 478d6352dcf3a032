//! The snapshot store: what comes back, what is refused, and every crash point of writing, staging and accepting.
// spec: reliability §1 rows 26, 30, 31

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test that panics has failed")]

mod common;

use common::{dir, id, identity};
use replog::{Configuration, ConfigurationAt, Index, LogId, NodeId};
use std::io::{Read, Write};
use wal::{
    Crash, Disk, FileDisk, Identity, MemDisk, Meta, SnapshotInfo, SnapshotOptions, SnapshotStore, WalError,
};

fn open_at_base(disk: &MemDisk, base: LogId) -> Result<SnapshotStore<MemDisk>, WalError> {
    SnapshotStore::open(disk.clone(), dir(), identity(), SnapshotOptions::default(), base)
}

fn open(disk: &MemDisk) -> SnapshotStore<MemDisk> {
    open_at_base(disk, LogId::ZERO).unwrap()
}

fn meta(index: u64) -> Meta {
    let configuration = Configuration::of_voters([NodeId(1), NodeId(2)]);
    let pending = Configuration::of_voters([NodeId(1), NodeId(2), NodeId(3)]);
    let configurations = vec![
        ConfigurationAt { from: Index(0), configuration },
        ConfigurationAt { from: Index(index + 4), configuration: pending },
    ];
    Meta { at: id(3, index), configurations }
}

/// A state of more than one block, half of it noise.
fn state(index: u64) -> Vec<u8> {
    let mut rng = replog::Rng::new(index);
    (0..300_000u64).map(|i| if i % 1000 < 500 { rng.bits() as u8 } else { (i / 5000) as u8 }).collect()
}

fn put<D: Disk>(store: &SnapshotStore<D>, index: u64) -> Result<SnapshotInfo, WalError> {
    let mut writer = store.writer(&meta(index))?;
    let written = state(index).chunks(70_000).try_for_each(|c| writer.write_all(c));
    written.map_err(|e| WalError::Io { doing: "writing", path: dir().to_owned(), source: e })?;
    writer.finish()
}

/// A bit of every snapshot flips.
fn rot_all(disk: &MemDisk, offset: u64) {
    for name in disk.list(dir()).unwrap().iter().filter(|n| n.ends_with(".snap")) {
        disk.flip(&dir().join(name), offset, 4);
    }
}

fn load<D: Disk>(store: &SnapshotStore<D>) -> Option<(Meta, Vec<u8>)> {
    let whole = |_: &Meta, reader: &mut dyn Read| {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map(|_| bytes)
    };
    store.load_newest(whole).unwrap()
}

fn send(
    from: &SnapshotStore<MemDisk>,
    at: LogId,
    to: &SnapshotStore<MemDisk>,
) -> Result<SnapshotInfo, WalError> {
    let (mut raw, bytes) = from.raw(at)?;
    let mut staged = to.stage()?;
    let copied = std::io::copy(&mut raw, &mut staged);
    assert!(copied.is_err() || copied.is_ok_and(|n| n == bytes));
    staged.finish()
}

#[test]
fn snapshots_come_back_and_the_newest_two_stay() {
    let disk = MemDisk::new();
    let store = open(&disk);
    assert_eq!((store.newest(), load(&store)), (None, None));
    for index in [10, 20, 30] {
        let info = put(&store, index).unwrap();
        assert!(info.bytes < 250_000, "compressed: {}", info.bytes);
        assert_eq!(load(&store), Some((meta(index), state(index))));
    }
    let kept: Vec<u64> = store.list().iter().map(|i| i.meta.at.index.0).collect();
    assert_eq!(kept, [20, 30]);
    assert_eq!(store.oldest(), Some(meta(20)));
    assert!(matches!(store.open_at(id(3, 10)), Err(WalError::NoSnapshot { .. })));
    let mut old = Vec::new();
    store.open_at(id(3, 20)).unwrap().read_to_end(&mut old).unwrap();
    assert_eq!(old, state(20));
    drop(store);
    assert_eq!(load(&open(&disk)), Some((meta(30), state(30))));
}

#[test]
fn real_files_do_the_same() {
    let real = tempfile::tempdir().unwrap();
    let options = SnapshotOptions { compress: false, ..SnapshotOptions::default() };
    let open = || SnapshotStore::open(FileDisk, real.path(), identity(), options.clone(), LogId::ZERO);
    let store = open().unwrap();
    assert!(matches!(open(), Err(WalError::Locked { .. })));
    put(&store, 10).unwrap();
    drop(store.writer(&meta(11)).unwrap());
    drop(store);
    let store = open().unwrap();
    assert_eq!(load(&store), Some((meta(10), state(10))));
    assert_eq!(FileDisk.list(real.path()).unwrap().len(), 2, "the lock and one snapshot");
}

#[test]
fn a_received_snapshot_waits_to_be_accepted() {
    let (leader, disk) = (open(&MemDisk::new()), MemDisk::new());
    put(&leader, 100).unwrap();
    let follower = open(&disk);
    put(&follower, 50).unwrap();
    assert_eq!(send(&leader, id(3, 100), &follower).unwrap().meta, meta(100));
    assert_eq!(follower.newest(), Some(meta(50)), "not before it is accepted");
    follower.discard(id(3, 100)).unwrap();
    assert!(matches!(follower.accept(id(3, 100)), Err(WalError::NoSnapshot { .. })));
    send(&leader, id(3, 100), &follower).unwrap();
    follower.accept(id(3, 100)).unwrap();
    assert_eq!(load(&follower), Some((meta(100), state(100))));
}

#[test]
fn a_staged_snapshot_counts_after_a_crash_only_if_the_log_says_so() {
    // spec: reliability row 31. The log's base is at 100 iff the core's Purge was durable.
    let leader = open(&MemDisk::new());
    put(&leader, 100).unwrap();
    for (base, expected) in [(id(3, 40), 50), (id(3, 100), 100)] {
        let mut disk = MemDisk::new();
        let follower = open(&disk);
        put(&follower, 50).unwrap();
        send(&leader, id(3, 100), &follower).unwrap();
        disk.crash(Crash::PowerLoss);
        let follower = open_at_base(&disk, base).unwrap();
        assert_eq!(load(&follower), Some((meta(expected), state(expected))), "base {base}");
        let staged = disk.list(dir()).unwrap().iter().filter(|n| n.contains("staged")).count();
        assert_eq!(staged, 0);
    }
}

#[test]
fn what_is_cut_short_damaged_or_foreign_is_not_staged() {
    let (leader, follower) = (open(&MemDisk::new()), open(&MemDisk::new()));
    put(&leader, 7).unwrap();
    let mut bytes = Vec::new();
    leader.raw(id(3, 7)).unwrap().0.read_to_end(&mut bytes).unwrap();
    let stage = |bytes: &[u8]| {
        let mut writer = follower.stage().unwrap();
        writer.write_all(bytes).unwrap();
        writer.finish()
    };
    for cut in [0, 1, 47, 60, 200, bytes.len() / 2, bytes.len() - 1] {
        assert!(matches!(stage(&bytes[..cut]), Err(WalError::BadSnapshot { .. })), "cut at {cut}");
    }
    assert!(stage(&[&bytes[..], b"x"].concat()).is_err(), "longer than it says");
    for at in (0..bytes.len()).step_by(bytes.len() / 150) {
        let mut bent = bytes.clone();
        bent[at] ^= 0x10;
        assert!(stage(&bent).is_err(), "flipped at {at}");
    }
    assert!(follower.list().is_empty());
    let elsewhere = Identity { cluster: 1, ..identity() };
    let disk = MemDisk::new();
    let other = SnapshotStore::open(disk, dir(), elsewhere, SnapshotOptions::default(), LogId::ZERO).unwrap();
    assert!(matches!(send(&leader, id(3, 7), &other), Err(WalError::ForeignCluster { .. })));
    assert_eq!(stage(&bytes).unwrap().meta, meta(7));
}

// 1. Both snapshots of a running leader rot; 2. a follower refuses the one that it is sent; 3. the leader looks at its own.
#[test]
fn a_running_store_finds_out_what_has_rotted() {
    let disk = MemDisk::new();
    let store = open(&disk);
    put(&store, 10).unwrap();
    put(&store, 20).unwrap();
    assert!(store.check(id(3, 10)).unwrap());
    assert_eq!(store.newer(id(3, 10)).unwrap(), Some(id(3, 20)));
    assert_eq!(store.newer(id(3, 20)).unwrap(), None);
    assert!(!store.check(id(3, 15)).unwrap(), "there is none");
    rot_all(&disk, 1000);
    assert!(!store.check(id(3, 10)).unwrap());
    assert_eq!(store.newer(id(3, 10)).unwrap(), None, "it has rotted as well");
    assert!(store.list().is_empty() && store.raw(id(3, 20)).is_err());
    let aside = disk.list(dir()).unwrap().iter().filter(|n| n.ends_with(".damaged")).count();
    assert_eq!(aside, 1, "only the last one stays to be looked at");
    put(&store, 20).unwrap();
    assert!(store.check(id(3, 20)).unwrap(), "written again in its place");
}

#[test]
fn nothing_is_loaded_from_one_that_is_not_whole() {
    let disk = MemDisk::new();
    let store = open(&disk);
    put(&store, 10).unwrap();
    let length = store.raw(id(3, 10)).unwrap().1;
    rot_all(&disk, length - 1);
    let found = store.load_newest(|_, _| -> std::io::Result<()> { panic!("loaded") }).unwrap();
    assert!(found.is_none() && store.list().is_empty());
}

#[test]
fn a_damaged_newest_one_gives_way_to_the_older() {
    // spec: reliability row 26
    let disk = MemDisk::new();
    let store = open(&disk);
    put(&store, 10).unwrap();
    put(&store, 20).unwrap();
    drop(store);
    let newest = dir().join(disk.list(dir()).unwrap().iter().rfind(|n| n.ends_with(".snap")).unwrap());
    let bytes = disk.contents(&newest).unwrap().len() as u64;
    for offset in (0..bytes).step_by(usize::try_from(bytes / 100).unwrap()) {
        let disk = disk.fork();
        disk.flip(&newest, offset, 4);
        let loaded = load(&open(&disk)).map(|(m, s)| (m.at.index.0, s == state(m.at.index.0)));
        assert_eq!(loaded, Some((10, true)), "flipped at {offset}");
        assert_eq!(open(&disk).list().len(), 1, "set aside for good");
    }
}

#[test]
fn every_crash_point_of_writing_leaves_a_whole_snapshot() {
    // spec: reliability row 30
    let run = |disk: &MemDisk| -> Result<(), WalError> {
        let store = open_at_base(disk, LogId::ZERO)?;
        for index in [10, 20, 30] {
            put(&store, index)?;
        }
        Ok(())
    };
    let whole = MemDisk::new();
    run(&whole).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for point in 0..whole.operations() {
        let disk = MemDisk::new();
        disk.stop_after(Some(point));
        run(&disk).unwrap_err();
        for crash in [Crash::Kill, Crash::PowerLoss, Crash::Torn(100_000), Crash::Sectors(point)] {
            let mut disk = disk.fork();
            disk.crash(crash);
            let store = open(&disk);
            let loaded = load(&store).map(|(m, s)| (m.at.index.0, s == state(m.at.index.0)));
            seen.insert(loaded);
            assert!(loaded.is_none_or(|(_, whole)| whole), "crash point {point}, {crash:?}");
            assert!(store.list().iter().all(|i| store.open_at(i.meta.at).is_ok()));
            put(&store, 40).unwrap();
            disk.crash(Crash::PowerLoss);
            assert_eq!(open(&disk).newest(), Some(meta(40)));
        }
    }
    assert_eq!(seen.len(), 4, "each of none, 10, 20, 30 was met: {seen:?}");
}

#[test]
fn every_crash_point_of_an_install_ends_whole() {
    let leader = open(&MemDisk::new());
    put(&leader, 100).unwrap();
    let run = |disk: &MemDisk| -> Result<(), WalError> {
        let store = open_at_base(disk, LogId::ZERO)?;
        put(&store, 50)?;
        send(&leader, id(3, 100), &store)?;
        store.accept(id(3, 100))
    };
    let whole = MemDisk::new();
    run(&whole).unwrap();
    for point in 0..whole.operations() {
        let disk = MemDisk::new();
        disk.stop_after(Some(point));
        run(&disk).unwrap_err();
        for crash in [Crash::Kill, Crash::PowerLoss, Crash::Torn(1), Crash::Sectors(point)] {
            for base in [LogId::ZERO, id(3, 100)] {
                let mut disk = disk.fork();
                disk.crash(crash);
                let store = open_at_base(&disk, base).unwrap();
                let loaded = load(&store);
                let found = loaded.as_ref().map_or(0, |(m, _)| m.at.index.0);
                assert!([0, 50, 100].contains(&found), "crash point {point}, {crash:?}: {found}");
                assert!(loaded.is_none_or(|(m, s)| s == state(m.at.index.0)));
            }
        }
    }
}

#[test]
fn a_full_disk_leaves_the_old_snapshot_and_no_litter() {
    let disk = MemDisk::new();
    let store = open(&disk);
    let first = put(&store, 10).unwrap();
    disk.set_capacity(Some(first.bytes + 100_000));
    put(&store, 20).unwrap_err();
    assert_eq!(store.newest(), Some(meta(10)));
    assert_eq!(disk.list(dir()).unwrap().len(), 1);
    disk.set_capacity(None);
    put(&store, 20).unwrap();
    assert_eq!(load(&store), Some((meta(20), state(20))));
}
