//! setData: session → path → exists → WRITE → version. setACL: session → path → ACL → exists → ADMIN → aversion.

use super::{Work, expect_version};
use crate::acl::{self, AclRef};
use crate::outcome::{Change, ChangeKind};
use crate::tree::{Moment, Tree};
use jute::{ErrorCode, Perms, SetAclRequest, SetDataRequest, Stat};

impl Work<'_> {
    pub(super) fn set_data(&mut self, request: &SetDataRequest) -> Result<Stat, ErrorCode> {
        self.caller.holder?;
        let path = request.path.as_str();
        self.valid(path)?;
        let id = self.existing(path)?;
        self.permit(id, Perms::WRITE)?;
        let node = self.tree.node(id);
        expect_version(request.version, node.version)?;
        let (path, version) = (node.path.clone(), node.version.wrapping_add(1));
        let undo = self.tree.set_data(id, request.data.as_deref(), version, self.at);
        self.undo.push(undo);
        let acl = self.tree.acl(id);
        self.changed(ChangeKind::DataChanged, path, acl, AclRef::default());
        Ok(self.stat(id))
    }

    pub(super) fn set_acl(&mut self, request: &SetAclRequest) -> Result<Stat, ErrorCode> {
        self.caller.holder?;
        let path = request.path.as_str();
        self.valid(path)?;
        let acl = acl::normalise(&request.acl, self.caller.identities)?;
        let id = self.existing(path)?;
        self.permit(id, Perms::ADMIN)?;
        expect_version(request.version, self.tree.node(id).aversion)?;
        self.tree.set_acl(id, &acl);
        Ok(self.stat(id))
    }
}

/// Replaces the text of `/zookeeper/config`; its version stays −1 (the membership's is in the text).
pub(crate) fn set_members(tree: &mut Tree, text: &[u8], at: Moment, changes: &mut Vec<Change>) {
    let Some(id) = tree.find("/zookeeper/config") else { return };
    tree.set_data(id, Some(text), -1, at);
    changes.push(Change {
        kind: ChangeKind::DataChanged,
        path: tree.node(id).path.clone(),
        acl: tree.acl(id),
        parent_acl: AclRef::default(),
    });
}
