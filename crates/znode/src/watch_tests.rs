//! The watch tables, rule by rule (zookeeper-reference 3.1 to 3.6).

use super::*;
use crate::testing::{Bench, acl};
use crate::{Identities, Machine};
use jute::{Acl, CreateMode};
use proptest::prelude::*;

const A: ConnectionId = 1;
const B: ConnectionId = 2;

use EventType::{NodeChildrenChanged, NodeCreated, NodeDataChanged, NodeDeleted};

fn change(kind: ChangeKind, path: &str) -> Change {
    Change { kind, path: path.into(), acl: AclRef::default(), parent_acl: AclRef::default() }
}

fn created(path: &str) -> Change {
    change(ChangeKind::Created, path)
}

fn deleted(path: &str) -> Change {
    change(ChangeKind::Deleted, path)
}

fn data_changed(path: &str) -> Change {
    change(ChangeKind::DataChanged, path)
}

type Event = (EventType, String, Vec<ConnectionId>);

fn event(kind: EventType, path: &str, to: &[ConnectionId]) -> Event {
    (kind, path.to_owned(), to.to_vec())
}

fn fire(tables: &mut WatchTables, change: &Change) -> Vec<Event> {
    let mut events = Vec::new();
    tables.fire(
        change,
        |_, _| panic!("open ACLs ask nobody"),
        |kind, path, to| events.push(event(kind, path, to)),
    );
    events
}

fn persistent(connection: ConnectionId, path: &str) -> WatchTables {
    let mut tables = WatchTables::default();
    tables.add(connection, path, AddWatchMode::Persistent);
    tables
}

fn recursive(connection: ConnectionId, path: &str) -> WatchTables {
    let mut tables = WatchTables::default();
    tables.add(connection, path, AddWatchMode::PersistentRecursive);
    tables
}

// requirement: S9, S11, WA1, WA2, WA3
#[test]
fn what_fires() {
    let both = || {
        let mut tables = WatchTables::default();
        tables.watch_data(A, "/p/n");
        tables.watch_children(B, "/p/n");
        tables.watch_data(A, "/p");
        tables.watch_children(B, "/p");
        tables
    };
    let node_created = [event(NodeCreated, "/p/n", &[A]), event(NodeChildrenChanged, "/p", &[B])];
    assert_eq!(fire(&mut both(), &created("/p/n")), node_created);
    let node_deleted = [
        event(NodeDeleted, "/p/n", &[A]),
        event(NodeDeleted, "/p/n", &[B]),
        event(NodeChildrenChanged, "/p", &[B]),
    ];
    assert_eq!(fire(&mut both(), &deleted("/p/n")), node_deleted, "data, child, parent's child");
    assert_eq!(fire(&mut both(), &data_changed("/p/n")), [event(NodeDataChanged, "/p/n", &[A])]);
    assert_eq!(fire(&mut both(), &created("/p/other")), [event(NodeChildrenChanged, "/p", &[B])]);
    assert_eq!(fire(&mut both(), &created("/other")), []);
    let mut root = WatchTables::default();
    root.watch_children(A, "/");
    assert_eq!(fire(&mut root, &created("/n")), [event(NodeChildrenChanged, "/", &[A])]);
}

// requirement: S14, S17, WA1
#[test]
fn a_standard_watch_fires_once() {
    let mut tables = WatchTables::default();
    tables.watch_data(A, "/n");
    tables.watch_children(A, "/n");
    assert_eq!(fire(&mut tables, &data_changed("/n")).len(), 1);
    assert_eq!(
        fire(&mut tables, &data_changed("/n")),
        [],
        "changes between event and registration go unseen"
    );
    assert_eq!(tables.counts().total, 1, "the child watch is still there");
}

// requirement: S12, S13, WA4
#[test]
fn one_connection_is_told_once() {
    let mut tables = WatchTables::default();
    for _ in 0..3 {
        tables.watch_data(A, "/n");
    }
    assert_eq!(tables.counts().total, 1);
    tables.watch_children(A, "/n");
    tables.watch_data(B, "/n");
    // A has both watches: one NodeDeleted.
    assert_eq!(fire(&mut tables, &deleted("/n")), [event(NodeDeleted, "/n", &[A, B])]);
    assert!(tables.is_empty(), "both of A's watches are spent");
    // Several modes and ancestors on one connection: still one.
    for path in ["/", "/a", "/a/b"] {
        tables.add(A, path, AddWatchMode::PersistentRecursive);
    }
    tables.add(A, "/a/b", AddWatchMode::Persistent);
    tables.watch_data(A, "/a/b");
    assert_eq!(fire(&mut tables, &data_changed("/a/b")), [event(NodeDataChanged, "/a/b", &[A])]);
}

// requirement: WA7
#[test]
fn a_persistent_watch_stays_and_sees_its_node_and_children() {
    let mut tables = persistent(A, "/p");
    assert_eq!(tables.counts().total, 2);
    for _ in 0..3 {
        assert_eq!(fire(&mut tables, &created("/p")), [event(NodeCreated, "/p", &[A])]);
        assert_eq!(fire(&mut tables, &data_changed("/p")), [event(NodeDataChanged, "/p", &[A])]);
        assert_eq!(fire(&mut tables, &created("/p/c")), [event(NodeChildrenChanged, "/p", &[A])]);
        assert_eq!(fire(&mut tables, &data_changed("/p/c")), []);
        assert_eq!(fire(&mut tables, &created("/p/c/d")), []);
        assert_eq!(fire(&mut tables, &deleted("/p/c")), [event(NodeChildrenChanged, "/p", &[A])]);
        assert_eq!(fire(&mut tables, &deleted("/p")), [event(NodeDeleted, "/p", &[A])]);
    }
}

// requirement: WA8
#[test]
fn a_recursive_watch_sees_the_subtree_and_no_children_events() {
    for top in ["/p", "/"] {
        let mut tables = recursive(A, top);
        for path in ["/p", "/p/c", "/p/c/d"] {
            assert_eq!(fire(&mut tables, &created(path)), [event(NodeCreated, path, &[A])]);
            assert_eq!(fire(&mut tables, &data_changed(path)), [event(NodeDataChanged, path, &[A])]);
            assert_eq!(fire(&mut tables, &deleted(path)), [event(NodeDeleted, path, &[A])]);
        }
    }
    assert_eq!(fire(&mut recursive(A, "/p"), &created("/pp")), [], "a name that only begins alike");
}

#[test]
fn an_ancestors_other_modes_do_not_fire() {
    let mut tables = persistent(A, "/p");
    tables.add(B, "/p", AddWatchMode::PersistentRecursive);
    tables.watch_data(A, "/p");
    assert_eq!(fire(&mut tables, &data_changed("/p/c")), [event(NodeDataChanged, "/p/c", &[B])]);
    assert_eq!(tables.modes_of(A, "/p"), (STANDARD | PERSISTENT, PERSISTENT), "and are not spent");
}

impl WatchTables {
    fn modes_of(&self, connection: ConnectionId, path: &str) -> (u8, u8) {
        (self.data.modes(connection, path), self.child.modes(connection, path))
    }
}

// requirement: WA13
#[test]
fn who_may_not_read_is_not_told_but_the_watch_is_spent() {
    let mut bench = Bench::new();
    let ip = |id: &str| Identities::new([("ip", id)]);
    bench.create("/p", CreateMode::Persistent).unwrap();
    bench.set_acl("/p", vec![Acl::open(), acl(1, "ip", "10.0.0.1")], -1).unwrap();
    let mut tables = WatchTables::default();
    tables.watch_data(A, "/p/n");
    tables.watch_data(B, "/p/n");
    tables.add(A, "/p", AddWatchMode::PersistentRecursive);
    let secret = vec![acl(31, "ip", "127.0.0.1"), acl(1, "ip", "10.0.0.2")];
    bench.create_with("/p/n", None, secret, CreateMode::Persistent).unwrap();
    let mut told = |machine: &Machine, change: &Change| {
        let mut events = Vec::new();
        let identities = |id| ip(if id == A { "10.0.0.1" } else { "10.0.0.2" });
        let may_read = |id, acl: &AclRef| machine.may_read(acl, &identities(id));
        tables.fire(change, may_read, |kind, path, to| events.push(event(kind, path, to)));
        events
    };
    let change = bench.last.as_ref().unwrap().changes[0].clone();
    assert_eq!(told(&bench.machine, &change), [event(NodeCreated, "/p/n", &[B])]);
    assert_eq!(told(&bench.machine, &data_changed("/p/n")), [event(NodeDataChanged, "/p/n", &[A])]);
    // Now for the parent: its own ACL counts.
    tables.watch_children(A, "/p");
    tables.watch_children(B, "/p");
    let mut locked = deleted("/p/n");
    locked.parent_acl = AclRef::of(vec![acl(1, "ip", "10.0.0.2")]);
    let mut events = Vec::new();
    tables.fire(&locked, |id, _| id == B, |kind, path, to| events.push(event(kind, path, to)));
    assert_eq!(events, [event(NodeDeleted, "/p/n", &[A]), event(NodeChildrenChanged, "/p", &[B])]);
    assert!(!tables.has(A, "/p", WatcherType::Children));
}

// requirement: S18, S19, WA10
#[test]
fn set_watches_synthesises_what_was_missed() {
    let stat = |mzxid, pzxid| Some(Stat { mzxid, pzxid, ..Stat::default() });
    let lookup = |path: &str| match path {
        "/old" => stat(10, 10),
        "/data" => stat(11, 10),
        "/child" => stat(10, 11),
        _ => None,
    };
    let all = || ["/old", "/data", "/child", "/none"].map(Into::into).to_vec();
    let watches = SetWatches2 {
        relative_zxid: 10,
        data: all(),
        exists: all(),
        child: all(),
        persistent: vec!["/none".into()],
        recursive: vec!["/old".into()],
    };
    let mut tables = WatchTables::default();
    let mut events = Vec::new();
    tables.set_watches(A, &watches, lookup, |kind, path| events.push((kind, path.to_owned())));
    let expected = [
        (NodeDataChanged, "/data"),
        (NodeDeleted, "/none"),
        (NodeCreated, "/old"),
        (NodeCreated, "/data"),
        (NodeCreated, "/child"),
        (NodeChildrenChanged, "/child"),
        (NodeDeleted, "/none"),
    ];
    assert_eq!(events, expected.map(|(kind, path)| (kind, path.to_owned())));
    assert_eq!(tables.modes_of(A, "/old"), (STANDARD | RECURSIVE, STANDARD));
    assert_eq!(tables.modes_of(A, "/data"), (0, STANDARD));
    assert_eq!(tables.modes_of(A, "/child"), (STANDARD, 0));
    // The known gap: absent before and absent now, whatever happened between.
    assert_eq!(tables.modes_of(A, "/none"), (STANDARD | PERSISTENT, PERSISTENT));
}

// requirement: WA9, OP17
#[test]
fn removal_by_type() {
    let full = || {
        let mut tables = persistent(A, "/n");
        tables.add(A, "/n", AddWatchMode::PersistentRecursive);
        tables.watch_data(A, "/n");
        tables.watch_children(A, "/n");
        tables
    };
    let s = STANDARD | PERSISTENT;
    let cases = [
        (WatcherType::Children, (s | RECURSIVE, PERSISTENT)),
        (WatcherType::Data, (PERSISTENT | RECURSIVE, s)),
        (WatcherType::Any, (0, 0)),
        (WatcherType::Persistent, (STANDARD | RECURSIVE, STANDARD)),
        (WatcherType::PersistentRecursive, (s, s)),
    ];
    for (kind, left) in cases {
        let mut tables = full();
        assert!(!tables.has(B, "/n", kind) && !tables.has(A, "/n/x", kind), "own connection, exact path");
        assert!(!tables.remove(B, "/n", kind) && !tables.remove(A, "/n/x", kind));
        assert!(tables.has(A, "/n", kind));
        assert!(tables.remove(A, "/n", kind));
        assert_eq!(tables.modes_of(A, "/n"), left, "{kind:?}");
        assert!(!tables.has(A, "/n", kind));
        assert!(!tables.remove(A, "/n", kind), "nothing left: NoWatcher");
    }
    let mut tables = full();
    tables.remove(A, "/n", WatcherType::Any);
    assert!(tables.is_empty());
    assert_eq!(tables.counts(), WatchCounts::default());
}

// requirement: S15, WA11, WA12
#[test]
fn a_connection_takes_its_watches_along() {
    let mut tables = WatchTables::default();
    for connection in 0..50 {
        for i in 0..20 {
            tables.watch_data(connection, &format!("/n{i}"));
            tables.watch_children(connection, &format!("/n{}", i % 3));
        }
        tables.add(connection, "/p", AddWatchMode::Persistent);
        tables.add(connection, "/r", AddWatchMode::PersistentRecursive);
    }
    let counts =
        WatchCounts { total: 50 * (20 + 3 + 2 + 1), data: 50 * 22, data_paths: 22, data_connections: 50 };
    assert_eq!(tables.counts(), counts);
    assert_eq!(tables.data_watches().map(|(_, ids)| ids.len()).sum::<usize>(), 50 * 22);
    for connection in 0..50 {
        tables.remove_connection(connection);
    }
    assert_eq!(tables.counts(), WatchCounts::default());
    assert!(tables.is_empty());
    assert_eq!(tables.data.recursive, 0);
}

/// The tables as a plain list, and the rules as they are written down.
#[derive(Default)]
struct Model(Vec<(bool, ConnectionId, String, u8)>);

impl Model {
    fn add(&mut self, child: bool, id: ConnectionId, path: &str, mode: u8) {
        let entry = (child, id, path.to_owned(), mode);
        if !self.0.contains(&entry) {
            self.0.push(entry);
        }
    }

    fn trigger(&mut self, child: bool, path: &str) -> Vec<ConnectionId> {
        let hit = |entry: &(bool, ConnectionId, String, u8)| {
            let below = entry.2 == "/" || path.starts_with(&format!("{}/", entry.2));
            entry.0 == child && (entry.2 == path || (entry.3 == RECURSIVE && below))
        };
        let mut told: Vec<_> = self.0.iter().filter(|entry| hit(entry)).map(|entry| entry.1).collect();
        self.0.retain(|entry| !(hit(entry) && entry.3 == STANDARD));
        told.sort_unstable();
        told.dedup();
        told
    }

    fn fire(&mut self, change: &Change) -> Vec<Event> {
        let path = &*change.path;
        let parent = path::parent(path).unwrap();
        let first = self.trigger(false, path);
        let mut events = Vec::new();
        match change.kind {
            ChangeKind::Created => events.push(event(NodeCreated, path, &first)),
            ChangeKind::DataChanged => events.push(event(NodeDataChanged, path, &first)),
            ChangeKind::Deleted => {
                let mut second = self.trigger(true, path);
                second.retain(|id| !first.contains(id));
                events.push(event(NodeDeleted, path, &first));
                events.push(event(NodeDeleted, path, &second));
            }
        }
        if change.kind != ChangeKind::DataChanged {
            events.push(event(NodeChildrenChanged, parent, &self.trigger(true, parent)));
        }
        events.retain(|event| !event.2.is_empty());
        events
    }
}

proptest! {
    #[test]
    fn agrees_with_a_plain_list(steps in prop::collection::vec((0u8..9, 0u64..4, 0usize..6), 1..80)) {
        let paths = ["/a", "/b", "/a/c", "/a/d", "/a/c/e", "/b/f"];
        let (mut tables, mut model) = (WatchTables::default(), Model::default());
        for (step, id, at) in steps {
            let path = paths[at];
            let fired = match step {
                0 => { tables.watch_data(id, path); model.add(false, id, path, STANDARD); continue }
                1 => { tables.watch_children(id, path); model.add(true, id, path, STANDARD); continue }
                2 => {
                    tables.add(id, path, AddWatchMode::Persistent);
                    model.add(false, id, path, PERSISTENT);
                    model.add(true, id, path, PERSISTENT);
                    continue
                }
                3 => {
                    tables.add(id, path, AddWatchMode::PersistentRecursive);
                    model.add(false, id, path, RECURSIVE);
                    continue
                }
                4 => { tables.remove_connection(id); model.0.retain(|entry| entry.1 != id); continue }
                5 => {
                    let removed = tables.remove(id, path, WatcherType::Any);
                    let before = model.0.len();
                    model.0.retain(|entry| !(entry.1 == id && entry.2 == path));
                    prop_assert_eq!(removed, model.0.len() < before);
                    continue
                }
                6 => created(path),
                7 => deleted(path),
                _ => data_changed(path),
            };
            prop_assert_eq!(fire(&mut tables, &fired), model.fire(&fired));
            let mut pairs: Vec<_> = model.0.iter().map(|entry| (entry.0, entry.1, &entry.2)).collect();
            pairs.sort_unstable();
            pairs.dedup();
            prop_assert_eq!(tables.counts().total, pairs.len());
            let recursive = model.0.iter().filter(|entry| entry.3 == RECURSIVE).count();
            prop_assert_eq!(tables.data.recursive, recursive);
        }
    }
}
