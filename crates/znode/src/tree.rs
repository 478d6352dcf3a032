//! The tree: nodes, the rules of their stat, who owns what, and the digest. It decides nothing about requests.
//!
//! ```text
//!  create N under P at zxid z, time t    N: czxid = mzxid = pzxid = z, ctime = mtime = t, versions 0
//!                                        P: stored cversion + 1, pzxid = z, nothing else
//!  set data of N                         N: version + 1, mzxid = z, mtime = t;  P: nothing
//!  set ACL of N                          N: aversion + 1, nothing else
//!  delete N                              P: pzxid = z, nothing else
//! ```
//!
//! Reported cversion = 2 × stored − children: clients see it rise by one at each create and delete, while the stored
//! one (children ever created) numbers sequential nodes. Invariants:
//! * every node but the root has a parent in the tree; `children` is the length of the parent's list;
//! * `digest` = Σ [`digest::of`] over all nodes; `ephemerals` and `reapable` list exactly the nodes of those kinds;
//! * an [`Undo`] list run backwards restores all of it, ids included.
//!
//! Source: zookeeper-reference 1.10, 1.11, 1.13.

use crate::acl::{AclId, AclRef, AclTable, Identities};
use crate::cow::CowMap;
use crate::digest;
use crate::index::PathIndex;
use crate::path::{self, ROOT};
use crate::slab::{Node, NodeId, Slab};
use hashbrown::HashSet;
use jute::{Acl, Id, JStr, Perms, Stat};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

/// What a node's stored ephemeralOwner means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// Nobody: it stays.
    Persistent,
    /// Reaped once it is empty and has had a child.
    Container,
    /// Reaped when it is childless and unchanged for so many ms.
    Ttl(i64),
    /// Goes with this session.
    Session(i64),
}

const TTL_MARK: u64 = 0xff00_0000_0000_0000;

impl Owner {
    /// Longest time to live: 40 bits of ms.
    pub const TTL_MAX_MS: i64 = 0xff_ffff_ffff;

    /// Reads the stored form. Ids with top byte 0xff are no sessions (see `OpenSession`).
    #[must_use]
    pub const fn of(stored: i64) -> Self {
        match stored {
            0 => Self::Persistent,
            i64::MIN => Self::Container,
            _ if stored as u64 & TTL_MARK == TTL_MARK => Self::Ttl(stored & Self::TTL_MAX_MS),
            session => Self::Session(session),
        }
    }

    /// The stored form.
    #[must_use]
    pub const fn stored(self) -> i64 {
        match self {
            Self::Persistent => 0,
            Self::Container => i64::MIN,
            Self::Ttl(ms) => TTL_MARK as i64 | ms,
            Self::Session(session) => session,
        }
    }
}

/// A node to create.
pub(crate) struct NewNode<'a> {
    pub(crate) path: Arc<str>,
    pub(crate) data: Option<&'a [u8]>,
    pub(crate) acl: &'a AclRef,
    pub(crate) owner: Owner,
}

/// When a change happens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) zxid: i64,
    pub(crate) time_ms: i64,
}

/// How to take one step back.
#[derive(Debug)]
pub(crate) enum Undo {
    Created { id: NodeId, parent_pzxid: i64 },
    Deleted { id: NodeId, node: Box<Node>, acl: AclRef, parent_pzxid: i64 },
    DataSet { id: NodeId, data: Option<Arc<[u8]>>, crc: u32, version: i32, mzxid: i64, mtime: i64 },
}

type NodeSet = HashSet<NodeId, BuildHasherDefault<DefaultHasher>>;

/// The tree. Cloning it is cheap; see [`Slab`] and [`PathIndex`].
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    slab: Slab,
    index: PathIndex,
    acls: Arc<AclTable>,
    root: NodeId,
    ephemerals: CowMap<NodeSet>,
    ephemeral_count: usize,
    reapable: Arc<NodeSet>,
    bytes: u64,
    digest: u64,
}

impl Tree {
    /// Nothing at all, not even a root: a snapshot fills it.
    pub(crate) fn empty() -> Self {
        Self {
            slab: Slab::new(),
            index: PathIndex::new(),
            acls: Arc::default(),
            root: NodeId::NONE,
            ephemerals: CowMap::new(),
            ephemeral_count: 0,
            reapable: Arc::default(),
            bytes: 0,
            digest: 0,
        }
    }

    /// A fresh database: the special nodes, with all-zero stats.
    pub(crate) fn fresh() -> Self {
        let mut tree = Self::empty();
        let read_only =
            Acl { perms: Perms::READ.0, id: Id { scheme: JStr::from("world"), id: JStr::from("anyone") } };
        let config = AclRef::of(vec![read_only]);
        for path in [ROOT, "/zookeeper", "/zookeeper/config", "/zookeeper/quota"] {
            let acl = if path == "/zookeeper/config" { &config } else { &AclRef::default() };
            let new = NewNode { path: path.into(), data: Some(&[]), acl, owner: Owner::Persistent };
            let node = tree.build(&new, Moment { zxid: 0, time_ms: 0 });
            let parent = path::parent(path).filter(|_| path != ROOT).and_then(|parent| tree.find(parent));
            tree.link(node, parent.unwrap_or(NodeId::NONE));
        }
        tree
    }

    #[inline]
    pub(crate) fn find(&self, path: &str) -> Option<NodeId> {
        self.index.find(&self.slab, path)
    }

    #[inline]
    pub(crate) fn node(&self, id: NodeId) -> &Node {
        self.slab.node(id)
    }

    pub(crate) fn root(&self) -> NodeId {
        self.root
    }

    /// What clients see.
    pub(crate) fn stat(&self, id: NodeId) -> Stat {
        let node = self.node(id);
        let ephemeral_owner = match Owner::of(node.owner) {
            Owner::Session(session) => session,
            _ => 0,
        };
        Stat {
            czxid: node.czxid,
            mzxid: node.mzxid,
            ctime: node.ctime,
            mtime: node.mtime,
            version: node.version,
            cversion: node.cversion.wrapping_mul(2).wrapping_sub(node.children as i32),
            aversion: node.aversion,
            ephemeral_owner,
            data_length: node.data.as_ref().map_or(0, |data| data.len() as i32),
            num_children: node.children as i32,
            pzxid: node.pzxid,
        }
    }

    /// The children, in no order.
    pub(crate) fn children(&self, id: NodeId) -> impl Iterator<Item = NodeId> {
        std::iter::successors(self.node(id).first_child.some(), |at| self.node(*at).next.some())
    }

    /// Number of descendants.
    pub(crate) fn descendants(&self, id: NodeId) -> usize {
        let mut count = 0;
        let mut todo = vec![id];
        while let Some(at) = todo.pop() {
            for child in self.children(at) {
                count += 1;
                if self.node(child).children > 0 {
                    todo.push(child);
                }
            }
        }
        count
    }

    pub(crate) fn allows(&self, id: NodeId, any: Perms, who: &Identities) -> bool {
        self.acls.allows(self.node(id).acl, any, who)
    }

    pub(crate) fn acl(&self, id: NodeId) -> AclRef {
        let acl = self.node(id).acl;
        if acl == AclId::OPEN { AclRef::default() } else { self.acls.get(acl) }
    }

    /// The nodes that go with a session, by path.
    pub(crate) fn ephemerals(&self, session: i64) -> Vec<NodeId> {
        let mut all: Vec<_> = self.ephemerals.get(session).into_iter().flatten().copied().collect();
        all.sort_unstable_by(|a, b| self.node(*a).path.cmp(&self.node(*b).path));
        all
    }

    /// Sessions that own a node, with the number of their nodes, in no order.
    pub(crate) fn owners(&self) -> impl Iterator<Item = (i64, usize)> {
        self.ephemerals.iter().map(|(session, nodes)| (session, nodes.len()))
    }

    /// Containers and TTL nodes, in no order.
    pub(crate) fn reapable(&self) -> impl Iterator<Item = NodeId> {
        self.reapable.iter().copied()
    }

    pub(crate) const fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) const fn ephemeral_count(&self) -> usize {
        self.ephemeral_count
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) const fn digest(&self) -> u64 {
        self.digest
    }

    pub(crate) fn acl_count(&self) -> usize {
        self.acls.len()
    }

    /// Creates a node below `parent`; the caller has checked that it may exist.
    pub(crate) fn create(&mut self, parent: NodeId, new: &NewNode<'_>, at: Moment) -> (NodeId, Undo) {
        let node = self.build(new, at);
        let id = self.link(node, parent);
        let mut parent_pzxid = 0;
        self.update(parent, |parent| {
            parent_pzxid = std::mem::replace(&mut parent.pzxid, at.zxid);
            parent.cversion = parent.cversion.wrapping_add(1);
        });
        (id, Undo::Created { id, parent_pzxid })
    }

    /// Deletes a node that has no children and is not the root.
    pub(crate) fn delete(&mut self, id: NodeId, zxid: i64) -> Undo {
        let parent = self.node(id).parent;
        let acl = self.acl(id);
        let node = Box::new(self.unlink(id));
        let mut parent_pzxid = 0;
        self.update(parent, |parent| parent_pzxid = std::mem::replace(&mut parent.pzxid, zxid));
        Undo::Deleted { id, node, acl, parent_pzxid }
    }

    /// Replaces the data. `version` is the new one.
    pub(crate) fn set_data(&mut self, id: NodeId, data: Option<&[u8]>, version: i32, at: Moment) -> Undo {
        let node = self.node(id);
        let crc = digest::content_crc(&node.path, data);
        let data: Option<Arc<[u8]>> = data.map(Arc::from);
        self.bytes += data.as_ref().map_or(0, |data| data.len() as u64);
        self.bytes -= node_bytes(self.node(id)) - self.node(id).path.len() as u64;
        let mut undo = (None, 0, 0, 0, 0);
        self.update(id, |node| {
            undo = (
                std::mem::replace(&mut node.data, data),
                std::mem::replace(&mut node.crc, crc),
                std::mem::replace(&mut node.version, version),
                std::mem::replace(&mut node.mzxid, at.zxid),
                std::mem::replace(&mut node.mtime, at.time_ms),
            );
        });
        let (data, crc, version, mzxid, mtime) = undo;
        Undo::DataSet { id, data, crc, version, mzxid, mtime }
    }

    /// Replaces the ACL.
    pub(crate) fn set_acl(&mut self, id: NodeId, acl: &AclRef) {
        let acl = self.intern(acl);
        let mut old = AclId::OPEN;
        self.update(id, |node| {
            old = std::mem::replace(&mut node.acl, acl);
            node.aversion = node.aversion.wrapping_add(1);
        });
        self.release(old);
    }

    /// Takes steps back, the last one first.
    pub(crate) fn undo(&mut self, steps: Vec<Undo>) {
        for step in steps.into_iter().rev() {
            match step {
                Undo::Created { id, parent_pzxid } => {
                    let parent = self.node(id).parent;
                    self.unlink(id);
                    self.update(parent, |parent| {
                        parent.pzxid = parent_pzxid;
                        parent.cversion = parent.cversion.wrapping_sub(1);
                    });
                }
                Undo::Deleted { id, mut node, acl, parent_pzxid } => {
                    let parent = node.parent;
                    // The deletion may have freed the table's entry: the handle in the node means nothing any more.
                    node.acl = self.intern(&acl);
                    // Earlier steps name nodes by id. The slab gives back the slot that was freed last, and steps are
                    // taken back in exactly the reverse order, so this node gets the id that it had.
                    let same = self.link(*node, parent);
                    assert_eq!(same, id, "undo out of order");
                    self.update(parent, |parent| parent.pzxid = parent_pzxid);
                }
                Undo::DataSet { id, data, crc, version, mzxid, mtime } => {
                    self.bytes -= node_bytes(self.node(id));
                    self.update(id, |node| {
                        node.data = data;
                        node.crc = crc;
                        node.version = version;
                        node.mzxid = mzxid;
                        node.mtime = mtime;
                    });
                    self.bytes += node_bytes(self.node(id));
                }
            }
        }
    }

    /// A node as it is just after its creation, with a use of its ACL counted, not linked yet.
    pub(crate) fn build(&mut self, new: &NewNode<'_>, at: Moment) -> Node {
        Node {
            path: new.path.clone(),
            data: new.data.map(Arc::from),
            czxid: at.zxid,
            mzxid: at.zxid,
            pzxid: at.zxid,
            ctime: at.time_ms,
            mtime: at.time_ms,
            owner: new.owner.stored(),
            version: 0,
            cversion: 0,
            aversion: 0,
            acl: self.intern(new.acl),
            crc: digest::content_crc(&new.path, new.data),
            children: 0,
            parent: NodeId::NONE,
            first_child: NodeId::NONE,
            next: NodeId::NONE,
            prev: NodeId::NONE,
        }
    }

    /// Puts a built node into the tree, changing nobody's stat. Without a parent it becomes the root.
    pub(crate) fn link(&mut self, mut node: Node, parent: NodeId) -> NodeId {
        let owner = Owner::of(node.owner);
        let sibling = parent.some().map_or(NodeId::NONE, |parent| self.node(parent).first_child);
        (node.parent, node.prev, node.next) = (parent, NodeId::NONE, sibling);
        (node.first_child, node.children) = (NodeId::NONE, 0);
        self.bytes += node_bytes(&node);
        self.digest = self.digest.wrapping_add(digest::of(&node));
        let path = node.path.clone();
        let id = self.slab.insert(node);
        self.index.insert(&path, id);
        if let Some(sibling) = sibling.some() {
            self.slab.node_mut(sibling).prev = id;
        }
        match parent.some() {
            None => self.root = id,
            Some(parent) => {
                let parent = self.slab.node_mut(parent);
                parent.first_child = id;
                parent.children += 1;
            }
        }
        match owner {
            Owner::Persistent => {}
            Owner::Container | Owner::Ttl(_) => {
                Arc::make_mut(&mut self.reapable).insert(id);
            }
            Owner::Session(session) => {
                self.ephemeral_count += 1;
                match self.ephemerals.get_mut(session) {
                    Some(nodes) => {
                        nodes.insert(id);
                    }
                    None => self.ephemerals.insert(session, NodeSet::from_iter([id])),
                }
            }
        }
        id
    }

    /// Takes a childless node out of the tree, changing nobody's stat.
    fn unlink(&mut self, id: NodeId) -> Node {
        assert!(id != self.root, "the root cannot be deleted");
        let node = self.slab.remove(id);
        self.index.remove(&node.path, id);
        assert!(node.children == 0, "{} still has children", node.path);
        self.bytes -= node_bytes(&node);
        self.digest = self.digest.wrapping_sub(digest::of(&node));
        if let Some(next) = node.next.some() {
            self.slab.node_mut(next).prev = node.prev;
        }
        if let Some(prev) = node.prev.some() {
            self.slab.node_mut(prev).next = node.next;
        }
        let parent = self.slab.node_mut(node.parent);
        parent.children -= 1;
        if parent.first_child == id {
            parent.first_child = node.next;
        }
        match Owner::of(node.owner) {
            Owner::Persistent => {}
            Owner::Container | Owner::Ttl(_) => {
                Arc::make_mut(&mut self.reapable).remove(&id);
            }
            Owner::Session(session) => {
                self.ephemeral_count -= 1;
                if let Some(nodes) = self.ephemerals.get_mut(session) {
                    nodes.remove(&id);
                    if nodes.is_empty() {
                        self.ephemerals.remove(session);
                    }
                }
            }
        }
        self.release(node.acl);
        node
    }

    /// Changes what the digest covers.
    fn update(&mut self, id: NodeId, change: impl FnOnce(&mut Node)) {
        let node = self.slab.node_mut(id);
        self.digest = self.digest.wrapping_sub(digest::of(node));
        change(node);
        self.digest = self.digest.wrapping_add(digest::of(node));
    }

    fn intern(&mut self, acl: &AclRef) -> AclId {
        if acl.is_open() { AclId::OPEN } else { Arc::make_mut(&mut self.acls).intern(acl) }
    }

    fn release(&mut self, acl: AclId) {
        if acl != AclId::OPEN {
            Arc::make_mut(&mut self.acls).release(acl);
        }
    }
}

/// What a node adds to `approximate_data_size`.
fn node_bytes(node: &Node) -> u64 {
    (node.path.len() + node.data.as_ref().map_or(0, |data| data.len())) as u64
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
