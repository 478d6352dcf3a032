//! The nodes themselves, in pages that snapshots share.
//!
//! ```text
//!  pages: Vec<Arc<[Slot; 32]>>      clone: one reference count per page; the first write to a shared page copies it
//!  Slot = Used(Node) │ Free(next)   freed slots form a list, last freed first
//!
//!  node ──first_child──► child ──next──► child ──next──► …      siblings are a doubly linked list:
//!        ◄────parent───        ◄──prev──                        O(1) in both directions, no table per parent
//! ```
//!
//! A [`NodeId`] is local to one replica: after a snapshot was read the same node may have another one, and siblings
//! may be linked in another order. So neither ids nor the order of the list may decide anything that clients or
//! other replicas see; where order shows (session close, snapshots) paths are sorted.

use crate::acl::AclId;
use std::sync::Arc;

/// Slots per page: large enough that cloning the page table is cheap, small enough that copying a page is.
const PAGE: usize = 32;

/// Place of a node in the slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(u32);

impl NodeId {
    /// No node: end of a list, parent of the root.
    pub(crate) const NONE: Self = Self(u32::MAX);

    /// `None` for [`Self::NONE`].
    pub(crate) fn some(self) -> Option<Self> {
        (self != Self::NONE).then_some(self)
    }

    const fn split(self) -> (usize, usize) {
        (self.0 as usize / PAGE, self.0 as usize % PAGE)
    }
}

/// A node: 120 bytes, its path and its data.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) path: Arc<str>,
    /// Null is not empty.
    pub(crate) data: Option<Arc<[u8]>>,
    pub(crate) czxid: i64,
    pub(crate) mzxid: i64,
    pub(crate) pzxid: i64,
    pub(crate) ctime: i64,
    pub(crate) mtime: i64,
    /// As stored, see [`crate::tree::Owner`].
    pub(crate) owner: i64,
    pub(crate) version: i32,
    /// As stored: children ever created.
    pub(crate) cversion: i32,
    pub(crate) aversion: i32,
    pub(crate) acl: AclId,
    /// CRC-32 of path and data: the start of the node's digest.
    pub(crate) crc: u32,
    pub(crate) children: u32,
    pub(crate) parent: NodeId,
    pub(crate) first_child: NodeId,
    pub(crate) next: NodeId,
    pub(crate) prev: NodeId,
}

#[derive(Clone, Debug)]
enum Slot {
    Used(Node),
    Free(NodeId),
}

/// All nodes.
#[derive(Clone, Debug)]
pub(crate) struct Slab {
    pages: Vec<Arc<[Slot; PAGE]>>,
    free: NodeId,
    len: usize,
}

impl Slab {
    pub(crate) const fn new() -> Self {
        Self { pages: Vec::new(), free: NodeId::NONE, len: 0 }
    }

    /// Number of nodes.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// The node at `id`, which must have been linked by somebody.
    #[inline]
    pub(crate) fn node(&self, id: NodeId) -> &Node {
        let (page, slot) = id.split();
        match self.pages.get(page).and_then(|page| page.get(slot)) {
            Some(Slot::Used(node)) => node,
            _ => panic!("{id:?} is linked but holds no node"),
        }
    }

    /// The same for writing: copies the page if a snapshot shares it.
    #[inline]
    pub(crate) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        match self.slot(id) {
            Slot::Used(node) => node,
            Slot::Free(_) => panic!("{id:?} is linked but holds no node"),
        }
    }

    fn slot(&mut self, id: NodeId) -> &mut Slot {
        let (page, slot) = id.split();
        let page = self.pages.get_mut(page).map(Arc::make_mut);
        page.and_then(|page| page.get_mut(slot)).unwrap_or_else(|| panic!("{id:?} is outside of the slab"))
    }

    /// Stores a node.
    ///
    /// # Panics
    /// At 2³² nodes.
    pub(crate) fn insert(&mut self, node: Node) -> NodeId {
        if self.free == NodeId::NONE {
            self.grow();
        }
        let id = self.free;
        let slot = self.slot(id);
        let Slot::Free(next) = *slot else { panic!("{id:?} is in the free list but holds a node") };
        *slot = Slot::Used(node);
        self.free = next;
        self.len += 1;
        id
    }

    /// Takes a node out.
    pub(crate) fn remove(&mut self, id: NodeId) -> Node {
        let free = Slot::Free(self.free);
        let Slot::Used(node) = std::mem::replace(self.slot(id), free) else {
            panic!("{id:?} is linked but holds no node")
        };
        self.free = id;
        self.len -= 1;
        node
    }

    /// A new page whose slots are handed out in ascending order.
    fn grow(&mut self) {
        let first = self.pages.len() * PAGE;
        let last = u32::try_from(first + PAGE).ok().filter(|last| *last < u32::MAX);
        assert!(last.is_some(), "more than 2^32 nodes");
        let id = |at: usize| NodeId((first + at) as u32);
        let page =
            std::array::from_fn(|at| Slot::Free(if at + 1 == PAGE { NodeId::NONE } else { id(at + 1) }));
        self.pages.push(Arc::new(page));
        self.free = id(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(path: &str) -> Node {
        Node {
            path: path.into(),
            data: None,
            czxid: 0,
            mzxid: 0,
            pzxid: 0,
            ctime: 0,
            mtime: 0,
            owner: 0,
            version: 0,
            cversion: 0,
            aversion: 0,
            acl: AclId::OPEN,
            crc: 0,
            children: 0,
            parent: NodeId::NONE,
            first_child: NodeId::NONE,
            next: NodeId::NONE,
            prev: NodeId::NONE,
        }
    }

    #[test]
    fn slots_are_reused_last_freed_first() {
        let mut slab = Slab::new();
        let ids: Vec<_> = (0..100).map(|i| slab.insert(node(&format!("/{i}")))).collect();
        assert_eq!(&*slab.remove(ids[3]).path, "/3");
        assert_eq!(&*slab.remove(ids[70]).path, "/70");
        assert_eq!(slab.len(), 98);
        assert_eq!(slab.insert(node("/x")), ids[70]);
        assert_eq!(slab.insert(node("/y")), ids[3]);
        assert_eq!(&*slab.node(ids[3]).path, "/y");
        assert_eq!(&*slab.node(ids[99]).path, "/99");
    }

    #[test]
    fn a_clone_does_not_see_later_writes() {
        let mut slab = Slab::new();
        let ids: Vec<_> = (0..100).map(|i| slab.insert(node(&format!("/{i}")))).collect();
        let frozen = slab.clone();
        slab.node_mut(ids[40]).version = 9;
        slab.remove(ids[41]);
        slab.insert(node("/new"));
        assert_eq!(frozen.node(ids[40]).version, 0);
        assert_eq!(&*frozen.node(ids[41]).path, "/41");
        assert_eq!(frozen.len(), 100);
    }

    #[test]
    fn a_node_is_small() {
        assert!(size_of::<Slot>() <= 120, "{}", size_of::<Slot>());
    }
}
