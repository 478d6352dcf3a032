//! The watch tables of one server: who wants to hear of which path. In memory only; a watch belongs to a connection.
//!
//! ```text
//!  data  table:  path → connection → {standard, persistent, recursive}     exists, getData, addWatch
//!  child table:  path → connection → {standard, persistent}                getChildren, addWatch persistent
//!
//!  change of N       data(N and, recursive only, its ancestors)   child(N)            child(parent)
//!  created           NodeCreated                                  –                   NodeChildrenChanged
//!  deleted           NodeDeleted                                  NodeDeleted, to     NodeChildrenChanged
//!                                                                 those not yet told
//!  data changed      NodeDataChanged                              –                   –
//! ```
//!
//! Invariants:
//! * a standard watch is removed before its event is handed out, also when the ACL then swallows the event;
//! * one connection gets at most one event per table and change, and one NodeDeleted per deletion;
//! * events of one change are handed out in the order data(N), child(N), child(parent), connections ascending;
//! * a connection is listed under a path in `connections` iff the path's entry lists the connection.
//!
//! Source: zookeeper-reference 3.

use crate::acl::AclRef;
use crate::mutant::mutant;
use crate::outcome::{Change, ChangeKind};
use crate::path;
use hashbrown::{HashMap, HashSet};
use jute::{AddWatchMode, EventType, SetWatches2, Stat, WatcherType};
use std::collections::BTreeMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

/// A connection of this server; never used twice.
pub type ConnectionId = u64;

type FixedState = BuildHasherDefault<DefaultHasher>;

const STANDARD: u8 = 1;
const PERSISTENT: u8 = 2;
const RECURSIVE: u8 = 4;
const ANY: u8 = STANDARD | PERSISTENT | RECURSIVE;

/// Figures for `mntr`, `wchs` and the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchCounts {
    /// Entries (path, connection) in both tables: `mntr`'s `watch_count`; a persistent watch counts twice.
    pub total: usize,
    /// Entries in the data table: what `wchs` prints.
    pub data: usize,
    /// Paths in the data table.
    pub data_paths: usize,
    /// Connections with an entry in the data table.
    pub data_connections: usize,
}

/// Both tables.
#[derive(Debug, Default)]
pub struct WatchTables {
    data: Table,
    child: Table,
}

impl WatchTables {
    /// Leaves a one-shot data watch: after getData that succeeded, or exists in any case but NoAuth.
    pub fn watch_data(&mut self, connection: ConnectionId, path: &str) {
        self.data.add(connection, path, STANDARD);
    }

    /// Leaves a one-shot child watch: after getChildren that succeeded.
    pub fn watch_children(&mut self, connection: ConnectionId, path: &str) {
        self.child.add(connection, path, STANDARD);
    }

    /// addWatch: no check of existence, permission or path.
    pub fn add(&mut self, connection: ConnectionId, path: &str, mode: AddWatchMode) {
        match mode {
            AddWatchMode::Persistent => {
                self.data.add(connection, path, PERSISTENT);
                self.child.add(connection, path, PERSISTENT);
            }
            AddWatchMode::PersistentRecursive => self.data.add(connection, path, RECURSIVE),
        }
    }

    /// checkWatches: whether the connection has such a watch on exactly this path.
    #[must_use]
    pub fn has(&self, connection: ConnectionId, path: &str, kind: WatcherType) -> bool {
        match kind {
            WatcherType::Children => self.child.modes(connection, path) & STANDARD != 0,
            WatcherType::Data => self.data.modes(connection, path) & STANDARD != 0,
            WatcherType::Any => (self.child.modes(connection, path) | self.data.modes(connection, path)) != 0,
            WatcherType::Persistent => self.data.modes(connection, path) & PERSISTENT != 0,
            WatcherType::PersistentRecursive => self.data.modes(connection, path) & RECURSIVE != 0,
        }
    }

    /// removeWatches: whether there was one (if not, the answer is NoWatcher).
    pub fn remove(&mut self, connection: ConnectionId, path: &str, kind: WatcherType) -> bool {
        match kind {
            WatcherType::Children => self.child.remove(connection, path, STANDARD),
            WatcherType::Data => self.data.remove(connection, path, STANDARD),
            WatcherType::Any => {
                let data = self.data.remove(connection, path, ANY);
                self.child.remove(connection, path, ANY) || data
            }
            WatcherType::Persistent => {
                let data = self.data.remove(connection, path, PERSISTENT);
                self.child.remove(connection, path, PERSISTENT) || data
            }
            WatcherType::PersistentRecursive => self.data.remove(connection, path, RECURSIVE),
        }
    }

    /// Drops every watch of a connection.
    pub fn remove_connection(&mut self, connection: ConnectionId) {
        self.data.remove_connection(connection);
        self.child.remove_connection(connection);
    }

    /// Drops everything: a snapshot was installed, every connection is closed.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether there is no watch at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.data.by_path.is_empty() && self.child.by_path.is_empty()
    }

    /// Figures.
    #[must_use]
    pub fn counts(&self) -> WatchCounts {
        WatchCounts {
            total: self.data.entries + self.child.entries,
            data: self.data.entries,
            data_paths: self.data.by_path.len(),
            data_connections: self.data.connections.len(),
        }
    }

    /// The data table for `wchp` (and, turned around, `wchc`): paths with their connections, in no order.
    pub fn data_watches(&self) -> impl Iterator<Item = (&str, Vec<ConnectionId>)> {
        self.data
            .by_path
            .iter()
            .map(|(path, watchers)| (&**path, watchers.iter().map(|(id, _)| id).collect()))
    }

    /// Hands out the events of one change. `may_read` says whether a connection has READ under an ACL that is not
    /// open; `deliver` gets the event's type and path and the connections, ascending, never empty.
    pub fn fire(
        &mut self,
        change: &Change,
        mut may_read: impl FnMut(ConnectionId, &AclRef) -> bool,
        mut deliver: impl FnMut(EventType, &str, &[ConnectionId]),
    ) {
        if self.is_empty() {
            return;
        }
        let node = &*change.path;
        let mut allowed = |told: Vec<ConnectionId>, acl: &AclRef| {
            let mut told = told;
            if !acl.is_open() {
                told.retain(|connection| may_read(*connection, acl));
            }
            told
        };
        let mut send = |kind: EventType, path: &str, told: &[ConnectionId]| {
            if !told.is_empty() {
                deliver(kind, path, told);
            }
        };
        let first = self.data.trigger(node);
        match change.kind {
            ChangeKind::DataChanged => {
                send(EventType::NodeDataChanged, node, &allowed(first, &change.acl));
                return;
            }
            ChangeKind::Created => send(EventType::NodeCreated, node, &allowed(first, &change.acl)),
            ChangeKind::Deleted => {
                let mut second = self.child.trigger(node);
                second.retain(|connection| first.binary_search(connection).is_err());
                send(EventType::NodeDeleted, node, &allowed(first, &change.acl));
                send(EventType::NodeDeleted, node, &allowed(second, &change.acl));
            }
        }
        let silent = change.kind == ChangeKind::Deleted && mutant!(ChildWatchMissed);
        if let Some(parent) = path::parent(node).filter(|_| !silent) {
            let third = self.child.trigger(parent);
            send(EventType::NodeChildrenChanged, parent, &allowed(third, &change.parent_acl));
        }
    }

    /// setWatches and setWatches2: registers again what is still true, and hands out at once (header zxid −1, no ACL
    /// check) what changed after `relative_zxid`. `stat` looks up a node.
    pub fn set_watches(
        &mut self,
        connection: ConnectionId,
        watches: &SetWatches2,
        stat: impl Fn(&str) -> Option<Stat>,
        mut deliver: impl FnMut(EventType, &str),
    ) {
        let seen = if mutant!(SetWatchesSilent) { i64::MAX } else { watches.relative_zxid };
        for path in &watches.data {
            match stat(path) {
                None => deliver(EventType::NodeDeleted, path),
                Some(stat) if stat.mzxid > seen => deliver(EventType::NodeDataChanged, path),
                Some(_) => self.data.add(connection, path, STANDARD),
            }
        }
        for path in &watches.exists {
            // Also when it existed before: the client left this watch because it saw no node.
            match stat(path) {
                Some(_) => deliver(EventType::NodeCreated, path),
                None => self.data.add(connection, path, STANDARD),
            }
        }
        for path in &watches.child {
            match stat(path) {
                None => deliver(EventType::NodeDeleted, path),
                Some(stat) if stat.pzxid > seen => deliver(EventType::NodeChildrenChanged, path),
                Some(_) => self.child.add(connection, path, STANDARD),
            }
        }
        for path in &watches.persistent {
            self.add(connection, path, AddWatchMode::Persistent);
        }
        for path in &watches.recursive {
            self.add(connection, path, AddWatchMode::PersistentRecursive);
        }
    }
}

/// The connections that watch one path. Most paths have one: it costs no allocation.
#[derive(Debug)]
enum Watchers {
    One(ConnectionId, u8),
    Many(BTreeMap<ConnectionId, u8>),
}

impl Watchers {
    fn iter(&self) -> impl Iterator<Item = (ConnectionId, u8)> {
        let (one, many) = match self {
            Self::One(id, modes) => (Some((*id, *modes)), None),
            Self::Many(all) => (None, Some(all.iter().map(|(id, modes)| (*id, *modes)))),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    fn modes(&self, connection: ConnectionId) -> u8 {
        match self {
            Self::One(id, modes) if *id == connection => *modes,
            Self::One(..) => 0,
            Self::Many(all) => all.get(&connection).copied().unwrap_or(0),
        }
    }

    /// Adds modes; returns the ones that were there.
    fn add(&mut self, connection: ConnectionId, modes: u8) -> u8 {
        if let Self::One(id, present) = self {
            if *id == connection {
                return std::mem::replace(present, *present | modes);
            }
            *self = Self::Many(BTreeMap::from([(*id, *present)]));
        }
        let Self::Many(all) = self else { return 0 };
        let present = all.entry(connection).or_insert(0);
        std::mem::replace(present, *present | modes)
    }

    /// Removes modes of one connection; whether nobody is left.
    fn remove(&mut self, connection: ConnectionId, modes: u8) -> bool {
        match self {
            Self::One(id, present) => {
                if *id == connection {
                    *present &= !modes;
                }
                *present == 0
            }
            Self::Many(all) => {
                if let Some(present) = all.get_mut(&connection) {
                    *present &= !modes;
                    if *present == 0 {
                        all.remove(&connection);
                    }
                }
                all.is_empty()
            }
        }
    }
}

#[derive(Debug, Default)]
struct Table {
    by_path: HashMap<Arc<str>, Watchers, FixedState>,
    connections: HashMap<ConnectionId, HashSet<Arc<str>, FixedState>, FixedState>,
    /// Pairs (path, connection).
    entries: usize,
    /// Pairs with the recursive mode: 0 spares the walk over the ancestors.
    recursive: usize,
}

impl Table {
    fn modes(&self, connection: ConnectionId, path: &str) -> u8 {
        self.by_path.get(path).map_or(0, |watchers| watchers.modes(connection))
    }

    fn add(&mut self, connection: ConnectionId, path: &str, modes: u8) {
        let before = match self.by_path.get_mut(path) {
            Some(watchers) => watchers.add(connection, modes),
            None => {
                self.by_path.insert(Arc::from(path), Watchers::One(connection, modes));
                0
            }
        };
        if modes & RECURSIVE != 0 && before & RECURSIVE == 0 {
            self.recursive += 1;
        }
        if before == 0 {
            self.entries += 1;
            if let Some((shared, _)) = self.by_path.get_key_value(path) {
                self.connections.entry(connection).or_default().insert(shared.clone());
            }
        }
    }

    fn remove(&mut self, connection: ConnectionId, path: &str, modes: u8) -> bool {
        let Some(watchers) = self.by_path.get_mut(path) else { return false };
        let before = watchers.modes(connection);
        if before & modes == 0 {
            return false;
        }
        if watchers.remove(connection, modes) {
            self.by_path.remove(path);
        }
        self.forget(connection, path, before, before & !modes);
        true
    }

    /// Book-keeping after the modes of a pair went from `before` to `after`.
    fn forget(&mut self, connection: ConnectionId, path: &str, before: u8, after: u8) {
        if before & !after & RECURSIVE != 0 {
            self.recursive -= 1;
        }
        if after != 0 {
            return;
        }
        self.entries -= 1;
        if let Some(paths) = self.connections.get_mut(&connection) {
            paths.remove(path);
            if paths.is_empty() {
                self.connections.remove(&connection);
            }
        }
    }

    fn remove_connection(&mut self, connection: ConnectionId) {
        for path in self.connections.remove(&connection).unwrap_or_default() {
            self.remove(connection, &path, ANY);
        }
    }

    /// Who is to be told of a change at `path`, ascending; standard watches are gone afterwards.
    fn trigger(&mut self, path: &str) -> Vec<ConnectionId> {
        let mut told = Vec::new();
        if self.entries == 0 {
            return told;
        }
        let mut spent = Vec::new();
        if let Some(watchers) = self.by_path.get_mut(path) {
            for (connection, modes) in watchers.iter() {
                told.push(connection);
                if modes & STANDARD != 0 && !mutant!(WatchKept) {
                    spent.push((connection, modes));
                }
            }
        }
        for (connection, modes) in spent {
            self.spend(connection, path, modes);
        }
        if self.recursive > 0 {
            for ancestor in path::ancestors(path) {
                let Some(watchers) = self.by_path.get(ancestor) else { continue };
                told.extend(watchers.iter().filter(|(_, modes)| modes & RECURSIVE != 0).map(|(id, _)| id));
            }
            told.sort_unstable();
            told.dedup();
        }
        told
    }

    fn spend(&mut self, connection: ConnectionId, path: &str, modes: u8) {
        if let Some(watchers) = self.by_path.get_mut(path)
            && watchers.remove(connection, STANDARD)
        {
            self.by_path.remove(path);
        }
        self.forget(connection, path, modes, modes & !STANDARD);
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
