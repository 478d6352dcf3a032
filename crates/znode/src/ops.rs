//! Client operations on the tree: dispatch, and what all of them share. Each file below has one operation, written
//! in the order in which ZooKeeper validates: the first failure wins (zookeeper-reference 4.4).
//!
//! ```text
//!  run ─► decode body ─► create │ delete │ set_data │ set_acl │ multi ─► tree, changes ─► Reply
//!              └─ −5      each: session → path → … → the change; nothing changes before the last check
//! ```
//!
//! Every operation appends to an undo list, which multi uses to roll back.

mod create;
mod delete;
mod multi;
mod set;

pub(crate) use delete::{delete_ephemerals, is_due, reap};
pub(crate) use set::set_members;

use crate::acl::{AclRef, Identities};
use crate::command::Settings;
use crate::outcome::{Change, ChangeKind, Reply};
use crate::path;
use crate::slab::NodeId;
use crate::tree::{Moment, Tree, Undo};
use bytes::Bytes;
use jute::{
    CheckVersionRequest, CreateRequest, CreateTtlRequest, DeleteRequest, ErrorCode, Jute, OpCode, Perms,
    SetAclRequest, SetDataRequest, Stat,
};
use std::sync::Arc;

/// Who asks, and under which settings.
pub(crate) struct Caller<'a> {
    pub(crate) session: i64,
    /// Whether the session exists and is held by the caller.
    pub(crate) holder: Result<(), ErrorCode>,
    pub(crate) identities: &'a Identities,
    pub(crate) settings: Settings,
}

/// What an operation works on.
struct Work<'a> {
    tree: &'a mut Tree,
    caller: &'a Caller<'a>,
    at: Moment,
    changes: &'a mut Vec<Change>,
    undo: Vec<Undo>,
}

/// Executes a client's write.
///
/// # Errors
/// The code to answer with; then the tree is as it was.
pub(crate) fn run(
    tree: &mut Tree,
    caller: &Caller<'_>,
    opcode: i32,
    body: &Bytes,
    at: Moment,
    changes: &mut Vec<Change>,
) -> Result<Reply, ErrorCode> {
    let mut work = Work { tree, caller, at, changes, undo: Vec::new() };
    match OpCode::from_code(opcode) {
        Some(OpCode::Create) => {
            let (path, _) = work.create(&decode::<CreateRequest>(body)?)?;
            Ok(Reply::Created { path })
        }
        Some(OpCode::Create2 | OpCode::CreateContainer) => {
            let (path, stat) = work.create(&decode::<CreateRequest>(body)?)?;
            Ok(Reply::Created2 { path, stat })
        }
        Some(OpCode::CreateTtl) => {
            let (path, stat) = work.create_ttl(&decode::<CreateTtlRequest>(body)?)?;
            Ok(Reply::Created2 { path, stat })
        }
        Some(OpCode::Delete) => work.delete(&decode::<DeleteRequest>(body)?).map(|()| Reply::Empty),
        Some(OpCode::SetData) => work.set_data(&decode::<SetDataRequest>(body)?).map(Reply::Stat),
        Some(OpCode::SetAcl) => work.set_acl(&decode::<SetAclRequest>(body)?).map(Reply::Stat),
        Some(OpCode::Multi) => work.multi(body),
        // Membership changes are a feature of their own; until then they are switched off.
        Some(OpCode::Reconfig) => Err(ErrorCode::ReconfigDisabled),
        // spec-deviates: ZooKeeper executes −10 and 20 from clients, the latter without any ACL check. We refuse the
        // internal opcodes, as it does all that are unknown; reads and check (13) do not come this way.
        _ => Err(ErrorCode::Unimplemented),
    }
}

fn decode<T: Jute>(body: &Bytes) -> Result<T, ErrorCode> {
    T::from_bytes(body).map_err(|_| ErrorCode::MarshallingError)
}

impl Work<'_> {
    /// The node at a path that must be a valid one.
    fn valid(&self, path: &str) -> Result<(), ErrorCode> {
        if path::is_valid(path) { Ok(()) } else { Err(ErrorCode::BadArguments) }
    }

    fn existing(&self, path: &str) -> Result<NodeId, ErrorCode> {
        self.tree.find(path).ok_or(ErrorCode::NoNode)
    }

    fn permit(&self, node: NodeId, perm: Perms) -> Result<(), ErrorCode> {
        let allowed = self.caller.settings.skip_acl || self.tree.allows(node, perm, self.caller.identities);
        if allowed { Ok(()) } else { Err(ErrorCode::NoAuth) }
    }

    /// check, inside a multi.
    fn check(&self, request: &CheckVersionRequest) -> Result<(), ErrorCode> {
        self.caller.holder?;
        self.valid(&request.path)?;
        let node = self.existing(&request.path)?;
        self.permit(node, Perms::READ)?;
        expect_version(request.version, self.tree.node(node).version)
    }

    fn changed(&mut self, kind: ChangeKind, path: Arc<str>, acl: AclRef, parent_acl: AclRef) {
        self.changes.push(Change { kind, path, acl, parent_acl });
    }

    fn stat(&self, node: NodeId) -> Stat {
        self.tree.stat(node)
    }
}

/// −1 matches every version.
fn expect_version(expected: i32, found: i32) -> Result<(), ErrorCode> {
    if expected == -1 || expected == found { Ok(()) } else { Err(ErrorCode::BadVersion) }
}

#[cfg(test)]
mod tests;
