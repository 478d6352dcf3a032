//! The reference model of the tree: what ZooKeeper's documents say a write does, in the plainest way.
//!
//! ```text
//!  create N under P at z    N: czxid = mzxid = pzxid = z, versions 0      P: created + 1, pzxid = z
//!  set N at z               N: version + 1, mzxid = z                     reported cversion = 2 · created − children
//!  delete N at z            P: pzxid = z                                  number of a sequential child: P's `created`
//! ```
//!
//! Written for the checkers alone and independent of the service's own tree. Every change goes through [`Model::put`],
//! which keeps a journal: a multi that fails, or a caller that does not like the result, takes it back.
//! [`Past`] remembers what each path was from which zxid on.
//!
//! Source: zookeeper-reference 1.8, 1.10, 1.11, 4.4. Not modelled: ACLs, containers, TTL, quotas.

use crate::intern::{Map, Names, Path, Table, Text};
use crate::record::{CreateMode, EventKind, Op, Outcome, Reply, Stat};
use std::collections::BTreeSet;

/// Error codes of the protocol that the model gives.
pub(crate) mod code {
    use crate::record::{Outcome, Reply};

    pub(crate) const NOT_ATTEMPTED: i32 = -2;
    pub(crate) const BAD_ARGUMENTS: i32 = -8;
    pub(crate) const NO_NODE: i32 = -101;
    pub(crate) const BAD_VERSION: i32 = -103;
    pub(crate) const NO_CHILDREN_FOR_EPHEMERALS: i32 = -108;
    pub(crate) const NODE_EXISTS: i32 = -110;
    pub(crate) const NOT_EMPTY: i32 = -111;
    pub(crate) const SESSION_EXPIRED: i32 = -112;

    /// Codes that say nothing about the tree: arguments, permissions, server states.
    pub(crate) const fn is_foreign(code: i32) -> bool {
        !matches!(
            code,
            NO_NODE | BAD_VERSION | NO_CHILDREN_FOR_EPHEMERALS | NODE_EXISTS | NOT_EMPTY | SESSION_EXPIRED
        )
    }

    /// Whether a write was refused because its session was over. A multi says so in its results, under a header
    /// without an error.
    // spec: zookeeper PrepRequestProcessor.pRequest2Txn, which looks at the session once per operation
    pub(crate) fn is_over(outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Error(code) => *code == SESSION_EXPIRED,
            Outcome::Ok(Reply::Multi(results)) => results.contains(&Outcome::Error(SESSION_EXPIRED)),
            Outcome::Ok(_) => false,
        }
    }
}

/// A node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) czxid: i64,
    pub(crate) mzxid: i64,
    pub(crate) pzxid: i64,
    pub(crate) ctime: i64,
    pub(crate) mtime: i64,
    pub(crate) version: i32,
    /// Children ever created.
    pub(crate) created: i32,
    pub(crate) children: i32,
    /// Session of an ephemeral, else 0.
    pub(crate) owner: i64,
    /// `None`: not known.
    pub(crate) data: Option<Text>,
    pub(crate) length: i32,
}

impl Node {
    pub(crate) fn stat(&self) -> Stat {
        Stat {
            czxid: self.czxid,
            mzxid: self.mzxid,
            ctime: self.ctime,
            mtime: self.mtime,
            version: self.version,
            cversion: self.created.wrapping_mul(2).wrapping_sub(self.children),
            aversion: 0,
            ephemeral_owner: self.owner,
            data_length: self.length,
            num_children: self.children,
            pzxid: self.pzxid,
        }
    }

    /// The node that shows this stat.
    pub(crate) fn of(stat: &Stat, data: Option<Text>) -> Self {
        Self {
            czxid: stat.czxid,
            mzxid: stat.mzxid,
            pzxid: stat.pzxid,
            ctime: stat.ctime,
            mtime: stat.mtime,
            version: stat.version,
            created: stat.cversion.wrapping_add(stat.num_children) / 2,
            children: stat.num_children,
            owner: stat.ephemeral_owner,
            data,
            length: stat.data_length,
        }
    }
}

/// A change to one node; its parent's ChildrenChanged follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) zxid: i64,
    /// Created, Deleted or DataChanged.
    pub(crate) kind: EventKind,
    pub(crate) path: Path,
}

/// When and by whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub(crate) zxid: i64,
    pub(crate) time_ms: i64,
    pub(crate) session: i64,
}

/// The tree.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) names: Names,
    nodes: Table<Option<Node>>,
    kids: Table<BTreeSet<Path>>,
    ephemerals: Map<i64, BTreeSet<Path>>,
    ended: Map<i64, ()>,
    /// (path, what it was before) since the last commit.
    journal: Vec<(Path, Option<Node>)>,
    changes: Vec<Change>,
}

impl Model {
    /// A fresh database.
    pub(crate) fn new() -> Self {
        let mut new = Self {
            names: Names::new(),
            nodes: Table::default(),
            kids: Table::default(),
            ephemerals: Map::default(),
            ended: Map::default(),
            journal: Vec::new(),
            changes: Vec::new(),
        };
        let zero = Node::of(&Stat::default(), Some(new.names.content("")));
        new.put(Names::ROOT, Some(Node { children: 1, ..zero }));
        let special = new.names.path("/zookeeper");
        new.put(special, Some(Node { children: 2, ..zero }));
        for name in ["config", "quota"] {
            let path = new.names.child(special, name);
            new.put(path, Some(zero));
        }
        new.journal.clear();
        new
    }

    pub(crate) fn node(&self, path: Path) -> Option<&Node> {
        self.nodes.at(path).as_ref()
    }

    pub(crate) fn kids(&self, path: Path) -> &BTreeSet<Path> {
        self.kids.at(path)
    }

    pub(crate) fn ephemerals(&self, session: i64) -> Vec<Path> {
        self.ephemerals.get(&session).into_iter().flatten().copied().collect()
    }

    pub(crate) fn has_ended(&self, session: i64) -> bool {
        self.ended.contains_key(&session)
    }

    /// Replaces a node. The only way in which anything changes.
    pub(crate) fn put(&mut self, path: Path, new: Option<Node>) {
        let old = std::mem::replace(self.nodes.at_mut(path), new);
        self.journal.push((path, old));
        self.account(path, old, new);
    }

    fn account(&mut self, path: Path, old: Option<Node>, new: Option<Node>) {
        if old.is_some() != new.is_some() && path != Names::ROOT {
            let kids = self.kids.at_mut(self.names.parent(path));
            if new.is_some() {
                kids.insert(path);
            } else {
                kids.remove(&path);
            }
        }
        let (old, new) = (old.map_or(0, |node| node.owner), new.map_or(0, |node| node.owner));
        if old != new {
            if let Some(paths) = self.ephemerals.get_mut(&old) {
                paths.remove(&path);
            }
            if new != 0 {
                self.ephemerals.entry(new).or_default().insert(path);
            }
        }
    }

    /// Takes back what happened since the journal had this length.
    fn back_to(&mut self, journal: usize, changes: usize) {
        while self.journal.len() > journal {
            if let Some((path, old)) = self.journal.pop() {
                let new = std::mem::replace(self.nodes.at_mut(path), old);
                self.account(path, new, old);
            }
        }
        self.changes.truncate(changes);
    }

    /// Takes back everything since the last [`Self::commit`].
    pub(crate) fn undo(&mut self) {
        self.back_to(0, 0);
    }

    /// Keeps it, and tells `past`. Gives the paths that were touched.
    pub(crate) fn commit(&mut self, zxid: i64, past: &mut Past) -> Vec<Path> {
        let touched: Vec<Path> = self.journal.drain(..).map(|(path, _)| path).collect();
        for path in &touched {
            past.note(*path, zxid, *self.nodes.at(*path));
        }
        for change in self.changes.drain(..) {
            past.change(change, self.names.parent(change.path));
        }
        touched
    }

    /// What changed since the last call; for whoever keeps no [`Past`].
    #[cfg(feature = "testing")]
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        self.journal.clear();
        std::mem::take(&mut self.changes)
    }

    /// Something changed that [`Self::put`] alone does not tell.
    pub(crate) fn changed(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// A session that was thought to be over acts again.
    pub(crate) fn revive(&mut self, session: i64) {
        self.ended.remove(&session);
    }

    /// Carries out a write. Reads and the like change nothing and are answered with `Nothing`.
    pub(crate) fn apply(&mut self, at: At, op: &Op) -> Outcome {
        if self.has_ended(at.session) {
            return Outcome::Error(code::SESSION_EXPIRED);
        }
        match op {
            Op::Multi { ops } => self.multi(at, ops),
            Op::Close => {
                self.end_session(at.session, at.zxid);
                Outcome::Ok(Reply::Nothing)
            }
            op => self.single(at, op).map_or_else(Outcome::Error, Outcome::Ok),
        }
    }

    fn single(&mut self, at: At, op: &Op) -> Result<Reply, i32> {
        match op {
            Op::Create { path, data, mode } => self.create(at, path, data, *mode),
            Op::Delete { path, version } => self.delete(at, path, *version),
            Op::Set { path, data, version } => self.set(at, path, data, *version),
            Op::Check { path, version } => {
                let path = self.names.path(path);
                expect_version(*version, self.node(path).ok_or(code::NO_NODE)?.version)?;
                Ok(Reply::Nothing)
            }
            _ => Ok(Reply::Nothing),
        }
    }

    fn multi(&mut self, at: At, ops: &[Op]) -> Outcome {
        let before = (self.journal.len(), self.changes.len());
        let mut results = Vec::with_capacity(ops.len());
        for op in ops {
            match self.single(at, op) {
                Ok(reply) => results.push(Outcome::Ok(reply)),
                Err(code) => {
                    self.back_to(before.0, before.1);
                    let failed = results.len();
                    let code_at = |index: usize| match index.cmp(&failed) {
                        std::cmp::Ordering::Less => 0,
                        std::cmp::Ordering::Equal => code,
                        std::cmp::Ordering::Greater => code::NOT_ATTEMPTED,
                    };
                    results = (0..ops.len()).map(|index| Outcome::Error(code_at(index))).collect();
                    break;
                }
            }
        }
        Outcome::Ok(Reply::Multi(results))
    }

    /// The path that a create makes now.
    pub(crate) fn target(&mut self, path: &str, mode: CreateMode) -> Path {
        let parent = self.names.path(parent_of(path));
        if is_sequential(mode) {
            let number = self.node(parent).map_or(0, |node| node.created);
            self.names.path(&format!("{path}{number:010}"))
        } else {
            self.names.path(path)
        }
    }

    fn create(&mut self, at: At, path: &str, data: &str, mode: CreateMode) -> Result<Reply, i32> {
        let parent = self.names.path(parent_of(path));
        let above = *self.node(parent).ok_or(code::NO_NODE)?;
        let path = self.target(path, mode);
        if self.node(path).is_some() {
            return Err(code::NODE_EXISTS);
        }
        if above.owner != 0 {
            return Err(code::NO_CHILDREN_FOR_EPHEMERALS);
        }
        let stat = Stat {
            czxid: at.zxid,
            mzxid: at.zxid,
            pzxid: at.zxid,
            ctime: at.time_ms,
            mtime: at.time_ms,
            ephemeral_owner: if is_ephemeral(mode) { at.session } else { 0 },
            data_length: data.len() as i32,
            ..Stat::default()
        };
        let data = self.names.content(data);
        self.put(path, Some(Node::of(&stat, Some(data))));
        let (created, children) = (above.created.wrapping_add(1), above.children + 1);
        self.put(parent, Some(Node { created, children, pzxid: at.zxid, ..above }));
        self.changes.push(Change { zxid: at.zxid, kind: EventKind::Created, path });
        Ok(Reply::Created { path: self.names.text(path).into(), stat: Some(stat) })
    }

    fn set(&mut self, at: At, path: &str, data: &str, version: i32) -> Result<Reply, i32> {
        let path = self.names.path(path);
        let node = *self.node(path).ok_or(code::NO_NODE)?;
        expect_version(version, node.version)?;
        let new = Node {
            version: node.version.wrapping_add(1),
            mzxid: at.zxid,
            mtime: at.time_ms,
            length: data.len() as i32,
            data: Some(self.names.content(data)),
            ..node
        };
        self.put(path, Some(new));
        self.changes.push(Change { zxid: at.zxid, kind: EventKind::DataChanged, path });
        Ok(Reply::Stat(new.stat()))
    }

    fn delete(&mut self, at: At, path: &str, version: i32) -> Result<Reply, i32> {
        let path = self.names.path(path);
        if path == Names::ROOT {
            return Err(code::BAD_ARGUMENTS);
        }
        let node = *self.node(path).ok_or(code::NO_NODE)?;
        expect_version(version, node.version)?;
        if node.children > 0 {
            return Err(code::NOT_EMPTY);
        }
        self.remove(path, at.zxid);
        Ok(Reply::Nothing)
    }

    /// Deletes a node without asking.
    pub(crate) fn remove(&mut self, path: Path, zxid: i64) {
        if self.node(path).is_none() {
            return;
        }
        self.put(path, None);
        let parent = self.names.parent(path);
        if let Some(above) = self.node(parent).copied() {
            self.put(parent, Some(Node { children: above.children - 1, pzxid: zxid, ..above }));
        }
        self.changes.push(Change { zxid, kind: EventKind::Deleted, path });
    }

    /// A session is over, by its own wish or not: what is its own goes.
    pub(crate) fn end_session(&mut self, session: i64, zxid: i64) {
        self.ended.insert(session, ());
        for path in self.ephemerals(session) {
            self.remove(path, zxid);
        }
    }
}

/// Text of the parent's path.
pub(crate) fn parent_of(path: &str) -> &str {
    path.rfind('/').and_then(|slash| path.get(..slash.max(1))).unwrap_or("/")
}

pub(crate) const fn is_sequential(mode: CreateMode) -> bool {
    matches!(mode, CreateMode::PersistentSequential | CreateMode::EphemeralSequential)
}

pub(crate) const fn is_ephemeral(mode: CreateMode) -> bool {
    matches!(mode, CreateMode::Ephemeral | CreateMode::EphemeralSequential)
}

const fn expect_version(expected: i32, found: i32) -> Result<(), i32> {
    if expected == -1 || expected == found { Ok(()) } else { Err(code::BAD_VERSION) }
}

/// What a path was from some zxid on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Version {
    pub(crate) zxid: i64,
    pub(crate) node: Option<Node>,
    /// What of it is only believed: [`DOUBT_SELF`], [`DOUBT_KIDS`].
    pub(crate) doubt: u8,
}

/// Existence, versions, content.
pub(crate) const DOUBT_SELF: u8 = 1;
/// cversion, pzxid, number of children.
pub(crate) const DOUBT_KIDS: u8 = 2;

/// The states of every path, by zxid, and the changes between them.
#[derive(Debug, Default)]
pub(crate) struct Past {
    versions: Table<Vec<Version>>,
    changes: Table<Vec<Change>>,
    below: Table<Vec<Change>>,
    all: Vec<Change>,
    maybe: Map<(i64, Path), ()>,
}

impl Past {
    /// This node may have gone at this zxid.
    pub(crate) fn maybe(&mut self, zxid: i64, path: Path) {
        self.maybe.insert((zxid, path), ());
    }

    /// Owner of the node that was last at this path.
    pub(crate) fn last_owner(&self, path: Path) -> i64 {
        let last = self.versions.at(path).iter().rev().find_map(|version| version.node);
        last.map_or(0, |node| node.owner)
    }

    /// Whether it may have.
    pub(crate) fn is_maybe(&self, zxid: i64, path: Path) -> bool {
        self.maybe.contains_key(&(zxid, path))
    }

    fn note(&mut self, path: Path, zxid: i64, node: Option<Node>) {
        let doubt = self.versions.at(path).last().map_or(0, |version| version.doubt);
        self.push(path, Version { zxid, node, doubt });
    }

    /// From `zxid` on this much of the path is only believed.
    pub(crate) fn doubt(&mut self, path: Path, zxid: i64, node: Option<Node>, doubt: u8) {
        self.push(path, Version { zxid, node, doubt });
    }

    fn push(&mut self, path: Path, version: Version) {
        let versions = self.versions.at_mut(path);
        match versions.last_mut().filter(|last| last.zxid >= version.zxid) {
            Some(last) => *last = Version { zxid: last.zxid, ..version },
            None => versions.push(version),
        }
    }

    fn change(&mut self, change: Change, parent: Path) {
        self.all.push(change);
        self.changes.at_mut(change.path).push(change);
        if change.kind != EventKind::DataChanged && change.path != Names::ROOT {
            self.below.at_mut(parent).push(change);
        }
    }

    /// The state of a path once everything up to `zxid` was applied.
    pub(crate) fn at(&self, path: Path, zxid: i64) -> Option<&Version> {
        let versions = self.versions.at(path);
        versions.get(versions.partition_point(|version| version.zxid <= zxid).checked_sub(1)?)
    }

    /// All states of a path that held somewhere in the window.
    pub(crate) fn within(&self, path: Path, from: i64, to: i64) -> &[Version] {
        let versions = self.versions.at(path);
        let first = versions.partition_point(|version| version.zxid <= from).saturating_sub(1);
        versions.get(first..versions.partition_point(|version| version.zxid <= to)).unwrap_or_default()
    }

    /// Changes of this very node, in order.
    pub(crate) fn changes(&self, path: Path) -> &[Change] {
        self.changes.at(path)
    }

    /// Creations and deletions of its children, in order.
    pub(crate) fn below(&self, path: Path) -> &[Change] {
        self.below.at(path)
    }

    /// Every change, in order.
    pub(crate) fn all(&self) -> &[Change] {
        &self.all
    }
}

/// The changes after `zxid`.
pub(crate) fn after(changes: &[Change], zxid: i64) -> &[Change] {
    changes.get(changes.partition_point(|change| change.zxid <= zxid)..).unwrap_or_default()
}

/// The changes at `zxid`.
pub(crate) fn exactly(changes: &[Change], zxid: i64) -> &[Change] {
    let from = changes.partition_point(|change| change.zxid < zxid);
    changes.get(from..changes.partition_point(|change| change.zxid <= zxid)).unwrap_or_default()
}
