//! create, create2, createContainer, createTTL: flags → TTL → session → slash and NUL → ACL → parent → CREATE →
//! full path → absent → parent not ephemeral.
//!
//! The sequence number is the parent's stored cversion before this create (children ever created, sequential or not),
//! ten digits with zeros; at 2³¹ it wraps to `-2147483648`. A failed create consumes none. The full path is validated
//! with the number in it, so `/q/` is a legal path for a sequential create and for no other.

use super::Work;
use crate::acl;
use crate::mutant::mutant;
use crate::outcome::ChangeKind;
use crate::path;
use crate::slab::NodeId;
use crate::tree::{NewNode, Owner};
use jute::{Acl, CreateMode, CreateRequest, CreateTtlRequest, ErrorCode, Perms, Stat};
use std::sync::Arc;

/// The parts that the requests have in common.
struct Wanted<'a> {
    path: &'a str,
    data: Option<&'a [u8]>,
    acl: &'a [Acl],
    mode: CreateMode,
    ttl_ms: i64,
}

impl Work<'_> {
    pub(super) fn create(&mut self, request: &CreateRequest) -> Result<(Arc<str>, Stat), ErrorCode> {
        self.create_node(&Wanted {
            path: &request.path,
            data: request.data.as_deref(),
            acl: &request.acl,
            mode: CreateMode::from_flags(request.flags)?,
            ttl_ms: 0,
        })
    }

    pub(super) fn create_ttl(&mut self, request: &CreateTtlRequest) -> Result<(Arc<str>, Stat), ErrorCode> {
        let mode = CreateMode::from_flags(request.flags)?;
        // −1 is what clients send for "none"; any other time needs a mode that has one.
        if !mode.is_ttl() && request.ttl_ms >= 0 {
            return Err(ErrorCode::BadArguments);
        }
        self.create_node(&Wanted {
            path: &request.path,
            data: request.data.as_deref(),
            acl: &request.acl,
            mode,
            ttl_ms: request.ttl_ms,
        })
    }

    fn create_node(&mut self, wanted: &Wanted<'_>) -> Result<(Arc<str>, Stat), ErrorCode> {
        let owner = self.owner(wanted)?;
        self.caller.holder?;
        let parent = path::parent(wanted.path).filter(|_| !wanted.path.contains('\0'));
        let parent = parent.ok_or(ErrorCode::BadArguments)?;
        let acl = acl::normalise(wanted.acl, self.caller.identities)?;
        let parent = self.existing(parent)?;
        self.permit(parent, Perms::CREATE)?;
        let path: Arc<str> = if wanted.mode.is_sequential() {
            let node = self.tree.node(parent);
            let number =
                if mutant!(SequenceByCount) { i64::from(node.children) } else { i64::from(node.cversion) };
            format!("{}{number:010}", wanted.path).into()
        } else {
            wanted.path.into()
        };
        self.valid(&path)?;
        if self.tree.find(&path).is_some() {
            return Err(ErrorCode::NodeExists);
        }
        if self.is_ephemeral(parent) {
            return Err(ErrorCode::NoChildrenForEphemerals);
        }
        let new = NewNode { path: path.clone(), data: wanted.data, acl: &acl, owner };
        let (id, undo) = self.tree.create(parent, &new, self.at);
        self.undo.push(undo);
        let parent_acl = self.tree.acl(parent);
        self.changed(ChangeKind::Created, path.clone(), acl, parent_acl);
        Ok((path, self.stat(id)))
    }

    fn owner(&self, wanted: &Wanted<'_>) -> Result<Owner, ErrorCode> {
        match wanted.mode {
            CreateMode::Persistent | CreateMode::PersistentSequential => Ok(Owner::Persistent),
            CreateMode::Ephemeral | CreateMode::EphemeralSequential => {
                Ok(Owner::Session(self.caller.session))
            }
            CreateMode::Container => Ok(Owner::Container),
            CreateMode::PersistentWithTtl | CreateMode::PersistentSequentialWithTtl => {
                if !self.caller.settings.extended_types {
                    Err(ErrorCode::Unimplemented)
                } else if (1..=Owner::TTL_MAX_MS).contains(&wanted.ttl_ms) {
                    Ok(Owner::Ttl(wanted.ttl_ms))
                } else {
                    Err(ErrorCode::BadArguments)
                }
            }
        }
    }

    fn is_ephemeral(&self, node: NodeId) -> bool {
        matches!(Owner::of(self.tree.node(node).owner), Owner::Session(_))
    }
}
