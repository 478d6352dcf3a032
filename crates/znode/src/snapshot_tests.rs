//! Snapshots: the same state and bytes on the other side, and a clear error for anything else.

use super::*;
use crate::testing::*;
use crate::{Command, Decision, Identities};
use jute::CreateMode;
use proptest::prelude::*;

/// One of everything.
fn full() -> Bench {
    let mut bench = Bench::new();
    bench.decide(Decision::Settings(Settings { level: 4, extended_types: true, skip_acl: false }));
    bench.apply(&Command::OpenStream { server: 9, nonce: 1 });
    bench.make("/b");
    bench.make("/a");
    for i in 0..40 {
        let secret = vec![acl(1 + i % 3, "ip", "127.0.0.1"), acl(31, "world", "anyone")];
        bench.create_with(&format!("/a/{i}"), None, secret, CreateMode::PersistentSequential).unwrap();
    }
    bench.create("/a/e", CreateMode::Ephemeral).unwrap();
    bench.create("/c", CreateMode::Container).unwrap();
    bench.create_ttl("/t", 5, 1000).unwrap();
    bench.set("/b", &[5; 100_000], -1).unwrap();
    bench.open(2);
    bench.delete("/a/3-none", -1).ok();
    bench.epoch = Epoch::new(3, 1);
    bench.make("/z");
    bench
}

fn read(bytes: &[u8]) -> Result<Machine, SnapshotError> {
    Machine::read_snapshot(&mut &*bytes)
}

#[test]
fn the_whole_state_survives() {
    let mut bench = full();
    let bytes = bench.snapshot();
    let machine = read(&bytes).unwrap();
    let mut restored = Bench { machine, ..bench.clone() };
    assert_eq!(restored.snapshot(), bytes);
    assert_eq!(restored.machine.digest(), bench.machine.digest());
    assert_eq!(restored.machine.counts(), bench.machine.counts());
    assert_eq!(restored.machine.settings(), bench.machine.settings());
    assert_eq!(restored.machine.passed(), Epoch::new(3, 1));
    assert_eq!(restored.machine.stream(9), bench.machine.stream(9));
    assert_eq!(restored.machine.session(1), bench.machine.session(1));
    let who = Identities::NONE;
    assert_eq!(restored.machine.data("/b", &who), bench.machine.data("/b", &who));
    assert_eq!(restored.machine.reapable(i64::MAX), ["/t"]);
    // And goes on like the original.
    for bench in [&mut bench, &mut restored] {
        bench.session = 1;
        bench.close();
        bench.session = 2;
        bench.create("/a/0", CreateMode::PersistentSequential).unwrap();
    }
    assert_eq!(restored.snapshot(), bench.snapshot());
    assert_eq!(restored.changes(), bench.changes());
    assert_eq!(restored.zxid(), bench.zxid());
}

#[test]
fn golden_bytes_of_a_fresh_database() {
    let mut bytes = Vec::new();
    Machine::new().write_snapshot(&mut bytes).unwrap();
    assert_eq!(bytes[..8], *b"MZNODE\0\x01");
    assert_eq!(bytes[8..45], [0; 37], "index, fold, passed, settings");
    assert_eq!(bytes[45..61], [0; 16], "no session, no stream");
    let root = [&[1, 0, 0, 0, 1, b'/', 0, 0, 0, 0, 0, 0, 0, 0][..], &[0; 60]].concat();
    assert_eq!(bytes[61..61 + root.len()], root);
    let tail = &bytes[bytes.len() - 17..];
    assert_eq!(tail[..9], [0, 0, 0, 0, 0, 0, 0, 0, 4]);
}

#[test]
fn cut_anywhere_it_is_refused() {
    let bytes = full().snapshot();
    for len in (0..bytes.len()).step_by(61).chain(bytes.len() - 40..bytes.len()) {
        assert!(read(&bytes[..len]).is_err(), "{len} of {}", bytes.len());
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    let bytes = full().snapshot();
    let with = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        read(&bytes).unwrap_err().to_string()
    };
    assert!(with(0, b'X').contains("version"));
    assert!(with(7, 9).contains("version"));
    assert!(with(16, 0xff).contains("zxid"));
    assert!(with(bytes.len() - 1, bytes[bytes.len() - 1] ^ 1).contains("digest"));
    assert!(with(bytes.len() - 9, 0).contains("number of nodes"));
    // A length of 2 GB that nothing stands behind: an error, without 2 GB of memory.
    let text = b"\x01\x00\x00\x00\x02/b";
    let at = bytes.windows(text.len()).position(|window| window == text).unwrap();
    assert!(with(at + 1, 0x7f).contains("read"));
    assert!(with(at + 1, 0x80).contains("length"));
    assert!(with(at + 6, b'a').contains("path"), "twice the same path");
    let text = b"\x01\x00\x00\x00\x04/a/e";
    let at = bytes.windows(text.len()).position(|window| window == text).unwrap();
    assert!(with(at + 6, b'q').contains("parent"));
}

#[test]
fn a_failing_writer_is_reported() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let machine = full().machine;
    let error = machine.write_snapshot(&mut Full(70_000)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(machine.write_snapshot(&mut Full(1 << 20)).is_ok());
}

proptest! {
    #[test]
    fn damaged_bytes_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bench = Bench::new();
        bench.create_with("/s", Some(b"x"), vec![acl(1, "ip", "1.2.3.4")], CreateMode::Ephemeral).unwrap();
        let mut bytes = bench.snapshot();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(machine) = read(&bytes) {
            let mut again = Vec::new();
            machine.write_snapshot(&mut again).unwrap();
            prop_assert_eq!(again.len(), bytes.len());
        }
    }

    #[test]
    fn random_bytes_never_panic(tail in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = b"MZNODE\0\x01".to_vec();
        bytes.extend([0; 37 + 16]);
        bytes.extend(tail);
        prop_assert!(read(&bytes).is_err());
    }
}
