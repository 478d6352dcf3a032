//! The tree: ZooKeeper's digest, wide parents, wrapping counters, and everything against a simple model.

use super::*;
use crate::testing::*;
use crate::{Decision, Identities, Machine, Request, Settings};
use jute::{CreateMode, ErrorCode, MultiOp, OpCode};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[test]
fn stored_owners_are_zookeepers() {
    let cases = [
        (0, Owner::Persistent),
        (i64::MIN, Owner::Container),
        (0xff00_0000_0000_03e8_u64 as i64, Owner::Ttl(1000)),
        (0xff00_00ff_ffff_ffff_u64 as i64, Owner::Ttl(Owner::TTL_MAX_MS)),
        (0x0100_0a1b_2c3d_0000, Owner::Session(0x0100_0a1b_2c3d_0000)),
        (0xfe00_0000_0000_0001_u64 as i64, Owner::Session(0xfe00_0000_0000_0001_u64 as i64)),
    ];
    for (stored, owner) in cases {
        assert_eq!(Owner::of(stored), owner);
        assert_eq!(owner.stored(), stored);
    }
}

/// CRC-32 bit by bit, so that the digest is not compared with itself.
fn crc32(bytes: &[u8]) -> u64 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    u64::from(!crc)
}

/// The formula of zookeeper-reference 5.3, from scratch.
fn digest_from_scratch(tree: &Tree) -> u64 {
    let mut sum = 0u64;
    let mut todo = vec![tree.root()];
    while let Some(id) = todo.pop() {
        todo.extend(tree.children(id));
        let node = tree.node(id);
        if node.path.starts_with("/zookeeper/") {
            continue;
        }
        let mut bytes = if &*node.path == "/" { Vec::new() } else { node.path.as_bytes().to_vec() };
        bytes.extend(node.data.iter().flat_map(|data| data.iter()));
        for long in [node.czxid, node.mzxid, node.pzxid, node.ctime, node.mtime] {
            bytes.extend(long.to_be_bytes());
        }
        for int in [node.version, node.cversion, node.aversion] {
            bytes.extend(int.to_be_bytes());
        }
        bytes.extend(node.owner.to_be_bytes());
        sum = sum.wrapping_add(crc32(&bytes));
    }
    sum
}

#[test]
fn the_digest_of_a_fresh_tree() {
    let tree = Tree::fresh();
    assert_eq!(tree.digest(), digest_from_scratch(&tree));
    // Root: CRC of 60 zero bytes; /zookeeper: of its path and 60 zero bytes; below: nothing.
    let zookeeper = [b"/zookeeper".as_slice(), &[0; 60]].concat();
    assert_eq!(tree.digest(), crc32(&[0; 60]) + crc32(&zookeeper));
}

#[test]
fn sequence_numbers_wrap_at_the_end_of_32_bits() {
    let mut bench = Bench::new();
    bench.make("/q");
    let id = bench.machine.tree.find("/q").unwrap();
    bench.machine.tree.update(id, |node| node.cversion = i32::MAX);
    let mut create = || bench.create("/q/", CreateMode::PersistentSequential).unwrap();
    assert_eq!(create(), "/q/2147483647");
    assert_eq!(create(), "/q/-2147483648");
    assert_eq!(create(), "/q/-2147483647");
}

#[test]
fn versions_wrap() {
    let mut bench = Bench::new();
    bench.make("/n");
    let id = bench.machine.tree.find("/n").unwrap();
    bench.machine.tree.update(id, |node| node.version = i32::MAX);
    assert_eq!(bench.set("/n", b"", i32::MAX).unwrap().version, i32::MIN);
}

#[test]
fn a_wide_parent_lists_its_children_after_any_order_of_deletes() {
    let mut bench = Bench::new();
    bench.make("/w");
    for i in 0..300 {
        bench.make(&format!("/w/{i}"));
    }
    for i in (0..300).filter(|i| i % 3 != 1) {
        bench.delete(&format!("/w/{}", (i * 7) % 300), -1).ok();
    }
    let children = bench.machine.children("/w", &Identities::NONE).unwrap();
    let mut names: Vec<_> = children.names().collect();
    names.sort_unstable();
    assert_eq!(names.len(), children.len());
    assert_eq!(names.len() as i32, children.stat.num_children);
    let expected: Vec<_> = (0..300).filter(|i| bench.machine.stat(&format!("/w/{i}")).is_some()).collect();
    assert_eq!(names.len(), expected.len());
    assert!(expected.iter().all(|i| names.binary_search(&i.to_string().as_str()).is_ok()));
    assert_eq!(bench.machine.all_children_number("/", &Identities::NONE), Ok(expected.len() as i32 + 4));
    assert_eq!(bench.machine.all_children_number("/w", &Identities::NONE), Ok(expected.len() as i32));
}

/// A node as a child would write it down.
#[derive(Clone, Debug, PartialEq)]
struct Plain {
    data: Option<Vec<u8>>,
    version: i32,
    created: i32,
    owner: i64,
}

/// Paths and what they hold; the rules without any cleverness.
#[derive(Clone, Debug, Default)]
struct Model(BTreeMap<String, Plain>);

const PATHS: [&str; 7] = ["/a", "/b", "/a/c", "/a/d", "/a/c/e", "/b/f", "/a/c/e/g"];

#[derive(Clone, Debug)]
enum Step {
    Create(usize, CreateMode),
    Delete(usize, i32),
    Set(usize, i32),
    Multi(Vec<Step>),
    Close(i64),
}

fn simple() -> impl Strategy<Value = Step> {
    let modes = prop_oneof![
        4 => Just(CreateMode::Persistent),
        2 => Just(CreateMode::Ephemeral),
        1 => Just(CreateMode::Container),
        2 => Just(CreateMode::PersistentSequential)
    ];
    prop_oneof![
        6 => (0..PATHS.len(), modes).prop_map(|(path, mode)| Step::Create(path, mode)),
        4 => (0..PATHS.len(), -1..2i32).prop_map(|(path, version)| Step::Delete(path, version)),
        3 => (0..PATHS.len(), -1..3i32).prop_map(|(path, version)| Step::Set(path, version)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => simple(),
        2 => prop::collection::vec(simple(), 0..5).prop_map(Step::Multi),
        1 => (1i64..3).prop_map(Step::Close),
    ]
}

impl Model {
    fn parent(&self, path: &str) -> Option<String> {
        let parent = path::parent(path).unwrap();
        (parent == "/" || self.0.contains_key(parent)).then(|| parent.to_owned())
    }

    fn has_children(&self, path: &str) -> bool {
        self.0.keys().any(|other| path::parent(other) == Some(path))
    }

    fn run(&mut self, step: &Step, session: i64, root_created: &mut i32) -> Result<(), ErrorCode> {
        match step {
            Step::Create(at, mode) => {
                let parent = self.parent(PATHS[*at]).ok_or(ErrorCode::NoNode)?;
                let created = self.0.get(&parent).map_or(*root_created, |node| node.created);
                let sequence = if mode.is_sequential() { format!("{created:010}") } else { String::new() };
                let path = format!("{}{sequence}", PATHS[*at]);
                if self.0.contains_key(&path) {
                    return Err(ErrorCode::NodeExists);
                }
                if self.0.get(&parent).is_some_and(|node| node.owner != 0) {
                    return Err(ErrorCode::NoChildrenForEphemerals);
                }
                match self.0.get_mut(&parent) {
                    Some(node) => node.created += 1,
                    None => *root_created += 1,
                }
                let owner = if mode.is_ephemeral() { session } else { 0 };
                self.0.insert(path, Plain { data: None, version: 0, created: 0, owner });
            }
            Step::Delete(at, version) => {
                self.parent(PATHS[*at]).ok_or(ErrorCode::NoNode)?;
                let node = self.0.get(PATHS[*at]).ok_or(ErrorCode::NoNode)?;
                if *version != -1 && *version != node.version {
                    return Err(ErrorCode::BadVersion);
                }
                if self.has_children(PATHS[*at]) {
                    return Err(ErrorCode::NotEmpty);
                }
                self.0.remove(PATHS[*at]);
            }
            Step::Set(at, version) => {
                let node = self.0.get_mut(PATHS[*at]).ok_or(ErrorCode::NoNode)?;
                if *version != -1 && *version != node.version {
                    return Err(ErrorCode::BadVersion);
                }
                node.data = Some(b"set".to_vec());
                node.version += 1;
            }
            Step::Multi(steps) => {
                let saved = (self.clone(), *root_created);
                for step in steps {
                    if let Err(code) = self.run(step, session, root_created) {
                        (*self, *root_created) = saved;
                        return Err(code);
                    }
                }
            }
            Step::Close(session) => self.0.retain(|_, node| node.owner != *session),
        }
        Ok(())
    }
}

fn multi_op(step: &Step) -> MultiOp {
    match step {
        Step::Create(at, mode) => op_create(PATHS[*at], *mode),
        Step::Delete(at, version) => op_delete(PATHS[*at], *version),
        Step::Set(at, version) => op_set(PATHS[*at], b"set", *version),
        Step::Multi(_) | Step::Close(_) => unreachable!("not inside a multi"),
    }
}

fn run(bench: &mut Bench, step: &Step) -> Result<(), ErrorCode> {
    match step {
        Step::Create(at, mode) => bench.create_with(PATHS[*at], None, vec![Acl::open()], *mode).map(drop),
        Step::Delete(at, version) => bench.delete(PATHS[*at], *version),
        Step::Set(at, version) => bench.set(PATHS[*at], b"set", *version).map(drop),
        Step::Multi(steps) => match bench.multi(&steps.iter().map(multi_op).collect::<Vec<_>>())? {
            crate::Reply::MultiFailed { code, .. } => Err(code),
            _ => Ok(()),
        },
        Step::Close(session) => {
            bench.session = *session;
            bench.close();
            bench.open(*session);
            Ok(())
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn agrees_with_a_simple_model(steps in prop::collection::vec((step(), 1i64..3), 1..60)) {
        let mut bench = Bench::new();
        bench.open(2);
        let (mut model, mut root_created) = (Model::default(), 0);
        for (step, session) in &steps {
            bench.session = *session;
            let failed_multi = matches!(step, Step::Multi(_)).then(|| bench.machine.tree_digest());
            let expected = model.run(step, *session, &mut root_created);
            prop_assert_eq!(run(&mut bench, step), expected, "{:?}", step);
            if let (Some(before), Err(_)) = (failed_multi, expected) {
                prop_assert_eq!(bench.machine.tree_digest(), before);
            }
        }
        let tree = &bench.machine.tree;
        prop_assert_eq!(tree.len(), model.0.len() + 4);
        for (path, plain) in &model.0 {
            let node = tree.node(tree.find(path).unwrap());
            let owner = match Owner::of(node.owner) { Owner::Session(session) => session, _ => 0 };
            let data = node.data.as_deref().map(<[u8]>::to_vec);
            let found = Plain { data, version: node.version, created: node.cversion, owner };
            prop_assert_eq!(&found, plain);
            let children = model.0.keys().filter(|other| path::parent(other) == Some(path)).count();
            prop_assert_eq!(tree.children(tree.find(path).unwrap()).count(), children);
            prop_assert_eq!(node.children as usize, children);
        }
        prop_assert_eq!(tree.digest(), digest_from_scratch(tree));
        let owned: usize = tree.owners().map(|(_, count)| count).sum();
        prop_assert_eq!(owned, tree.ephemeral_count());
        let bytes: usize = model.0.iter().map(|(path, node)| path.len() + node.data.as_ref().map_or(0, Vec::len)).sum();
        prop_assert_eq!(tree.bytes() as usize, bytes + Tree::fresh().bytes() as usize);

        // Determinism: the same commands once more, and the way over a snapshot.
        let bytes = bench.snapshot();
        let restored = Machine::read_snapshot(&mut &bytes[..]).unwrap();
        prop_assert_eq!(restored.digest(), bench.machine.digest());
        let mut other = Bench { machine: restored, ..bench.clone() };
        prop_assert_eq!(other.snapshot(), bytes);
        for (step, session) in steps.iter().take(10) {
            (bench.session, other.session) = (*session, *session);
            prop_assert_eq!(run(&mut bench, step), run(&mut other, step));
            prop_assert_eq!(bench.changes(), other.changes());
        }
        prop_assert_eq!(other.machine.digest(), bench.machine.digest());
        prop_assert_eq!(other.snapshot(), bench.snapshot());
    }
}

#[test]
fn settings_sessions_and_streams_are_in_the_digest() {
    let bench = Bench::new();
    let digest_after = |act: &dyn Fn(&mut Bench)| {
        let mut bench = bench.clone();
        act(&mut bench);
        // The zxid apart: every variant applies one command.
        (bench.zxid(), bench.machine.digest())
    };
    let all = [
        digest_after(&|bench| {
            bench.request(Request::Attach { session: 1, password: PASSWORD });
        }),
        digest_after(&|bench| bench.open(2)),
        digest_after(&|bench| {
            bench.decide(Decision::Settings(Settings { level: 1, ..Settings::default() }));
        }),
        digest_after(&|bench| {
            bench.apply(&crate::Command::OpenStream { server: 2, nonce: 0 });
        }),
        digest_after(&|bench| {
            bench.op(OpCode::Sync, &0).unwrap_err();
        }),
        digest_after(&|bench| {
            bench.apply_bytes(&bytes::Bytes::new());
        }),
    ];
    for (i, one) in all.iter().enumerate() {
        assert!(all.iter().skip(i + 1).all(|other| one.0 == other.0 && one.1 != other.1), "{i}");
    }
}
