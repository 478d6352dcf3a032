//! Local reads: what a connection may see of the state, as this replica has it.
//!
//! ```text
//!  data │ exists │ children │ acl │ all_children_number      exists (−101) → permission (−102)
//!  ephemerals(session, prefix)                               no check: one's own
//! ```
//!
//! Results borrow the state: the server encodes them under its lock, without a copy between. Paths are not validated;
//! an ill-formed one is not in the tree. Source: zookeeper-reference 1.5, 1.12, 4.4.

use crate::acl::{self, Identities};
use crate::machine::Machine;
use crate::ops;
use crate::path;
use crate::slab::NodeId;
use jute::{Acl, ErrorCode, Perms, Stat};

/// The children of a node.
#[derive(Debug)]
pub struct Children<'a> {
    machine: &'a Machine,
    node: NodeId,
    /// Stat of the parent, which getChildren2 answers with; `num_children` names follow.
    pub stat: Stat,
}

impl<'a> Children<'a> {
    /// Their number.
    #[must_use]
    pub fn len(&self) -> usize {
        self.machine.tree.node(self.node).children as usize
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their names, in no order.
    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        let tree = &self.machine.tree;
        tree.children(self.node).map(|child| path::name(&tree.node(child).path))
    }
}

/// Figures for `srvr`, `mntr` and the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Nodes, as ZooKeeper counts: an empty server has 5, since the root is stored twice there.
    pub nodes: usize,
    /// Ephemeral nodes.
    pub ephemerals: usize,
    /// Bytes of paths and data: `approximate_data_size`.
    pub bytes: u64,
    /// Distinct ACLs besides the open one.
    pub acls: usize,
    /// Sessions.
    pub sessions: usize,
}

impl Machine {
    /// getData.
    ///
    /// # Errors
    /// `NoNode`, `NoAuth`.
    pub fn data(&self, path: &str, who: &Identities) -> Result<(Option<&[u8]>, Stat), ErrorCode> {
        let id = self.readable(path, Perms::READ, who)?;
        Ok((self.tree.node(id).data.as_deref(), self.tree.stat(id)))
    }

    /// exists. Leave the watch also on `NoNode`, not on `NoAuth`.
    ///
    /// # Errors
    /// `BadArguments` for a NUL, `NoNode`, `NoAuth`.
    pub fn exists(&self, path: &str, who: &Identities) -> Result<Stat, ErrorCode> {
        if path.contains('\0') {
            return Err(ErrorCode::BadArguments);
        }
        let id = self.readable(path, Perms::READ, who)?;
        Ok(self.tree.stat(id))
    }

    /// getChildren, getChildren2.
    ///
    /// # Errors
    /// `NoNode`, `NoAuth`.
    pub fn children(&self, path: &str, who: &Identities) -> Result<Children<'_>, ErrorCode> {
        let node = self.readable(path, Perms::READ, who)?;
        Ok(Children { machine: self, node, stat: self.tree.stat(node) })
    }

    /// getACL. Without ADMIN the hashes of digest ids read `x`.
    ///
    /// # Errors
    /// `NoNode`, `NoAuth` (neither READ nor ADMIN).
    pub fn acl(&self, path: &str, who: &Identities) -> Result<(Vec<Acl>, Stat), ErrorCode> {
        let id = self.readable(path, Perms::READ.union(Perms::ADMIN), who)?;
        let mut entries = self.tree.acl(id).entries();
        if !self.settings.skip_acl && !self.tree.allows(id, Perms::ADMIN, who) {
            acl::mask(&mut entries);
        }
        Ok((entries, self.tree.stat(id)))
    }

    /// getAllChildrenNumber: all descendants.
    ///
    /// # Errors
    /// `NoNode`, `NoAuth`.
    pub fn all_children_number(&self, path: &str, who: &Identities) -> Result<i32, ErrorCode> {
        let id = self.readable(path, Perms::READ, who)?;
        // For the root, every node but itself: no walk.
        let count = if id == self.tree.root() { self.tree.len() - 1 } else { self.tree.descendants(id) };
        Ok(i32::try_from(count).unwrap_or(i32::MAX))
    }

    /// getEphemerals: paths of the session's own nodes that begin with `prefix` (a plain string), sorted.
    pub fn ephemerals(&self, session: i64, prefix: &str) -> impl Iterator<Item = &str> {
        let all = self.tree.ephemerals(session).into_iter().map(|id| &*self.tree.node(id).path);
        all.filter(move |path| path.starts_with(prefix))
    }

    /// Stat without a permission check, for setWatches.
    #[must_use]
    pub fn stat(&self, path: &str) -> Option<Stat> {
        self.tree.find(path).map(|id| self.tree.stat(id))
    }

    /// Sessions that own nodes and the number of these, in no order: for `dump`.
    pub fn owners(&self) -> impl Iterator<Item = (i64, usize)> {
        self.tree.owners()
    }

    /// Paths of containers and TTL nodes that the leader should reap at `now_ms`, sorted.
    #[must_use]
    pub fn reapable(&self, now_ms: i64) -> Vec<&str> {
        let due = self.tree.reapable().filter(|id| ops::is_due(&self.tree, *id, now_ms));
        let mut paths: Vec<_> = due.map(|id| &*self.tree.node(id).path).collect();
        paths.sort_unstable();
        paths
    }

    /// Figures.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            nodes: self.tree.len() + 1,
            ephemerals: self.tree.ephemeral_count(),
            bytes: self.tree.bytes(),
            acls: self.tree.acl_count(),
            sessions: self.sessions.len(),
        }
    }

    fn readable(&self, path: &str, any: Perms, who: &Identities) -> Result<NodeId, ErrorCode> {
        let id = self.tree.find(path).ok_or(ErrorCode::NoNode)?;
        if self.settings.skip_acl || self.tree.allows(id, any, who) { Ok(id) } else { Err(ErrorCode::NoAuth) }
    }
}
