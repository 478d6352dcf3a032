//! delete: session → slash, NUL, special node → parent → DELETE on it → node → version → no children. And the
//! deletions that nobody asks for: ephemerals of a closed session, containers and TTL nodes that are reaped.

use super::{Work, expect_version};
use crate::outcome::{Change, ChangeKind};
use crate::path;
use crate::slab::NodeId;
use crate::tree::{Moment, Owner, Tree, Undo};
use jute::{DeleteRequest, ErrorCode, Perms};

impl Work<'_> {
    pub(super) fn delete(&mut self, request: &DeleteRequest) -> Result<(), ErrorCode> {
        self.caller.holder?;
        let path = request.path.as_str();
        if path.contains('\0') || path::is_special(path) {
            return Err(ErrorCode::BadArguments);
        }
        let parent = self.existing(path::parent(path).ok_or(ErrorCode::BadArguments)?)?;
        self.permit(parent, Perms::DELETE)?;
        let node = self.existing(path)?;
        expect_version(request.version, self.tree.node(node).version)?;
        if self.tree.node(node).children > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        let undo = delete_node(self.tree, node, self.at, self.changes);
        self.undo.push(undo);
        Ok(())
    }
}

/// Deletes a childless node and reports it.
fn delete_node(tree: &mut Tree, id: NodeId, at: Moment, changes: &mut Vec<Change>) -> Undo {
    let node = tree.node(id);
    changes.push(Change {
        kind: ChangeKind::Deleted,
        path: node.path.clone(),
        acl: tree.acl(id),
        parent_acl: tree.acl(node.parent),
    });
    tree.delete(id, at.zxid)
}

/// Deletes all nodes of a session, by path, at one zxid.
pub(crate) fn delete_ephemerals(tree: &mut Tree, session: i64, at: Moment, changes: &mut Vec<Change>) {
    for id in tree.ephemerals(session) {
        delete_node(tree, id, at, changes);
    }
}

/// Deletes an empty container that has had a child, or a childless TTL node whose time is over.
///
/// # Errors
/// `NoNode`, `NotEmpty`; `BadVersion` when it is of another kind, or not yet due.
pub(crate) fn reap(
    tree: &mut Tree,
    path: &str,
    at: Moment,
    changes: &mut Vec<Change>,
) -> Result<(), ErrorCode> {
    let id = tree.find(path).ok_or(ErrorCode::NoNode)?;
    if tree.node(id).children > 0 {
        return Err(ErrorCode::NotEmpty);
    }
    if !is_due(tree, id, at.time_ms) {
        return Err(ErrorCode::BadVersion);
    }
    delete_node(tree, id, at, changes);
    Ok(())
}

/// Whether a node wants reaping at `now_ms`.
pub(crate) fn is_due(tree: &Tree, id: NodeId, now_ms: i64) -> bool {
    let node = tree.node(id);
    node.children == 0
        && match Owner::of(node.owner) {
            Owner::Container => node.cversion > 0,
            Owner::Ttl(ttl_ms) => now_ms.saturating_sub(node.mtime) > ttl_ms,
            Owner::Persistent | Owner::Session(_) => false,
        }
}
