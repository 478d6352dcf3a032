//! One server of the tiny service: applies the log, fires watches, answers reads from what it has applied.

use crate::intern::Path;
use crate::model::{At, Change, Model};
use crate::record::{EventKind, Op, Outcome, Reply, WatchMode};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone)]
pub(super) enum Command {
    Op {
        session: i64,
        op: Op,
    },
    Expire {
        session: i64,
    },
    /// Opens or attaches: takes a zxid and changes nothing.
    Session,
}

pub(super) struct Server {
    pub(super) model: Model,
    pub(super) applied: usize,
    pub(super) zxid: i64,
    /// (path, connection) → modes.
    pub(super) data: BTreeMap<(Path, u64), u8>,
    pub(super) child: BTreeMap<(Path, u64), u8>,
}

pub(super) const ONCE: u8 = 1;
pub(super) const PERSISTENT: u8 = 2;
pub(super) const RECURSIVE: u8 = 4;

impl Server {
    pub(super) fn apply(&mut self, zxid: i64, time_ms: i64, command: &Command) -> (Outcome, Vec<Change>) {
        let outcome = match command {
            Command::Op { session, op } => self.model.apply(At { zxid, time_ms, session: *session }, op),
            Command::Expire { session } => {
                self.model.end_session(*session, zxid);
                Outcome::Ok(Reply::Nothing)
            }
            Command::Session => Outcome::Ok(Reply::Nothing),
        };
        (outcome, self.model.take_changes())
    }

    pub(super) fn forget(&mut self, connection: u64) {
        self.data.retain(|(_, of), _| *of != connection);
        self.child.retain(|(_, of), _| *of != connection);
    }

    fn arm(table: &mut BTreeMap<(Path, u64), u8>, path: Path, connection: u64, mode: u8) {
        *table.entry((path, connection)).or_default() |= mode;
    }

    /// Who is told of a change at `path`.
    fn trigger(&mut self, of_data: bool, path: Path) -> BTreeSet<u64> {
        let mut told = BTreeSet::new();
        let table = if of_data { &mut self.data } else { &mut self.child };
        for ((_, connection), modes) in table.range_mut((path, 0)..=(path, u64::MAX)) {
            if *modes != 0 {
                told.insert(*connection);
                *modes &= !ONCE;
            }
        }
        if !of_data {
            return told;
        }
        let mut at = path;
        loop {
            for ((_, connection), modes) in table.range((at, 0)..=(at, u64::MAX)) {
                if modes & RECURSIVE != 0 {
                    told.insert(*connection);
                }
            }
            let above = self.model.names.parent(at);
            if above == at {
                break;
            }
            at = above;
        }
        told
    }

    pub(super) fn fire(&mut self, change: &Change) -> Vec<(u64, EventKind, String)> {
        let first = self.trigger(true, change.path);
        let text = self.model.names.text(change.path).to_owned();
        let mut out: Vec<_> =
            first.iter().map(|connection| (*connection, change.kind, text.clone())).collect();
        if change.kind == EventKind::Deleted {
            let second = self.trigger(false, change.path);
            out.extend(second.difference(&first).map(|connection| (*connection, change.kind, text.clone())));
        }
        if change.kind != EventKind::DataChanged {
            let parent = self.model.names.parent(change.path);
            let text = self.model.names.text(parent).to_owned();
            let third = self.trigger(false, parent);
            out.extend(third.into_iter().map(|c| (c, EventKind::ChildrenChanged, text.clone())));
        }
        out
    }

    pub(super) fn read(&mut self, connection: u64, op: &Op) -> (Outcome, Vec<(EventKind, String)>) {
        let mut made_up = Vec::new();
        let none = Outcome::Error(crate::model::code::NO_NODE);
        let outcome = match op {
            Op::Get { path, watch } => {
                let path = self.model.names.path(path);
                match self.model.node(path).copied() {
                    None => none,
                    Some(node) => {
                        if *watch {
                            Self::arm(&mut self.data, path, connection, ONCE);
                        }
                        let data = node.data.map_or("", |data| self.model.names.content_of(data)).into();
                        Outcome::Ok(Reply::Data { data, stat: node.stat() })
                    }
                }
            }
            Op::Exists { path, watch } => {
                let path = self.model.names.path(path);
                if *watch {
                    Self::arm(&mut self.data, path, connection, ONCE);
                }
                self.model.node(path).map_or(none, |node| Outcome::Ok(Reply::Stat(node.stat())))
            }
            Op::Children { path, watch } => {
                let path = self.model.names.path(path);
                match self.model.node(path).copied() {
                    None => none,
                    Some(node) => {
                        if *watch {
                            Self::arm(&mut self.child, path, connection, ONCE);
                        }
                        let name = |kid: &Path| {
                            self.model.names.text(*kid).rsplit('/').next().unwrap_or_default().to_owned()
                        };
                        let names = self.model.kids(path).iter().map(name).collect();
                        Outcome::Ok(Reply::Children { names, stat: node.stat() })
                    }
                }
            }
            Op::AddWatch { path, mode } => {
                let path = self.model.names.path(path);
                self.add_watch(path, connection, *mode);
                Outcome::Ok(Reply::Nothing)
            }
            Op::SetWatches { .. } => {
                made_up = self.set_watches(connection, op);
                Outcome::Ok(Reply::Nothing)
            }
            _ => Outcome::Ok(Reply::Nothing),
        };
        (outcome, made_up)
    }

    fn add_watch(&mut self, path: Path, connection: u64, mode: WatchMode) {
        if mode == WatchMode::Persistent {
            Self::arm(&mut self.data, path, connection, PERSISTENT);
            Self::arm(&mut self.child, path, connection, PERSISTENT);
        } else {
            Self::arm(&mut self.data, path, connection, RECURSIVE);
        }
    }

    fn set_watches(&mut self, connection: u64, op: &Op) -> Vec<(EventKind, String)> {
        let Op::SetWatches { relative, data, exist, child, persistent, recursive } = op else {
            return vec![];
        };
        let mut made_up = Vec::new();
        for path in data {
            let id = self.model.names.path(path);
            match self.model.node(id) {
                None => made_up.push((EventKind::Deleted, path.clone())),
                Some(node) if node.mzxid > *relative => made_up.push((EventKind::DataChanged, path.clone())),
                Some(_) => Self::arm(&mut self.data, id, connection, ONCE),
            }
        }
        for path in exist {
            let id = self.model.names.path(path);
            match self.model.node(id) {
                Some(_) => made_up.push((EventKind::Created, path.clone())),
                None => Self::arm(&mut self.data, id, connection, ONCE),
            }
        }
        for path in child {
            let id = self.model.names.path(path);
            match self.model.node(id) {
                None => made_up.push((EventKind::Deleted, path.clone())),
                Some(node) if node.pzxid > *relative => {
                    made_up.push((EventKind::ChildrenChanged, path.clone()))
                }
                Some(_) => Self::arm(&mut self.child, id, connection, ONCE),
            }
        }
        for (paths, mode) in [(persistent, WatchMode::Persistent), (recursive, WatchMode::Recursive)] {
            for path in paths {
                let id = self.model.names.path(path);
                self.add_watch(id, connection, mode);
            }
        }
        made_up
    }
}
