//! The whole state as a stream of bytes: the same bytes on every replica at the same index.
//!
//! ```text
//!  "MZNODE" │ version 1 │ index │ fold │ passed │ settings
//!  sessions: count, by id       { id, timeout, password, attachment }
//!  streams:  count, by server   { server, number, last }
//!  nodes:    1 { path, data, acl, stat } …    parents first, siblings by path
//!            0, number of nodes, tree digest
//!
//!  acl: 0 = open, n ≤ seen = the n-th one met, n = seen + 1 = a new one, whose entries follow
//! ```
//!
//! Integers are big-endian. Writing needs memory for one path of sorted siblings, reading for what it builds: no
//! length is believed before its bytes are there, and nothing is limited that `apply` accepted (a state that can be
//! written must be readable). The digest at the end is compared with that of the tree that was built. Checksums of
//! the file are `wal`'s business.

use crate::acl::{AclId, AclRef};
use crate::command::Settings;
use crate::machine::Machine;
use crate::mutant::mutant;
use crate::path::{self, ROOT};
use crate::session::{Session, Sessions, Stream, Streams};
use crate::slab::{Node, NodeId};
use crate::tree::{Moment, NewNode, Owner, Tree};
use crate::zxid::{Epoch, ZxidFold};
use bytes::BufMut;
use hashbrown::HashMap;
use jute::{Acl, Id, JStr};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::io::{self, BufReader, Read, Write};

const MAGIC: [u8; 6] = *b"MZNODE";
const VERSION: u16 = 1;
/// Bytes gathered before they are handed to the writer.
const CHUNK: usize = 64 << 10;

/// Why a snapshot cannot be read. Take another one, or fetch it from a peer.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The reader failed, or the stream ends too early.
    #[error("snapshot cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Not a snapshot of this version.
    #[error("not a snapshot of version {VERSION}")]
    Version,
    /// The content contradicts itself: the place that was found to.
    #[error("snapshot has an invalid {0}")]
    Invalid(&'static str),
    /// The tree that was built has another digest than the one that was written.
    #[error("snapshot's digest differs")]
    Digest,
}

impl Machine {
    /// Writes the whole state. Call it on a clone, on a thread that may take its time.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_snapshot(&self, to: &mut dyn Write) -> io::Result<()> {
        let mut out = Vec::with_capacity(2 * CHUNK);
        out.put_slice(&MAGIC);
        out.put_u16(VERSION);
        out.put_u64(self.applied);
        out.put_u32(self.fold.high);
        out.put_u32(self.fold.counter);
        put_epoch(&mut out, self.fold.epoch);
        put_epoch(&mut out, self.passed);
        out.put_u32(self.settings.level);
        out.put_u8(self.settings.flags());
        out.put_u64(self.sessions.len() as u64);
        for (id, session) in self.sessions.sorted() {
            out.put_i64(id);
            out.put_i32(session.timeout_ms);
            out.put_slice(&session.password);
            out.put_u64(session.attachment);
            flush(&mut out, CHUNK, to)?;
        }
        out.put_u64(self.streams.iter().len() as u64);
        for (server, stream) in self.streams.iter() {
            out.put_u32(server);
            out.put_u64(stream.number);
            out.put_u64(stream.last);
        }
        self.write_nodes(&mut out, to)?;
        out.put_u8(0);
        out.put_u64(self.tree.len() as u64);
        out.put_u64(self.tree.digest());
        flush(&mut out, 0, to)
    }

    fn write_nodes(&self, out: &mut Vec<u8>, to: &mut dyn Write) -> io::Result<()> {
        let mut acls = HashMap::<AclId, u32, BuildHasherDefault<DefaultHasher>>::default();
        let mut todo = vec![vec![self.tree.root()].into_iter()];
        while let Some(siblings) = todo.last_mut() {
            let Some(id) = siblings.next() else {
                todo.pop();
                continue;
            };
            let node = self.tree.node(id);
            out.put_u8(1);
            put_bytes(out, Some(node.path.as_bytes()));
            put_bytes(out, node.data.as_deref());
            self.put_acl(out, id, &mut acls);
            for long in [node.czxid, node.mzxid, node.pzxid, node.ctime, node.mtime, node.owner] {
                out.put_i64(long);
            }
            for int in [node.version, node.cversion, node.aversion] {
                out.put_i32(int);
            }
            flush(out, CHUNK, to)?;
            if node.children > 0 {
                let mut children: Vec<_> = self.tree.children(id).collect();
                children.sort_unstable_by(|a, b| self.tree.node(*a).path.cmp(&self.tree.node(*b).path));
                todo.push(children.into_iter());
            }
        }
        Ok(())
    }

    fn put_acl(
        &self,
        out: &mut Vec<u8>,
        id: NodeId,
        met: &mut HashMap<AclId, u32, BuildHasherDefault<DefaultHasher>>,
    ) {
        let acl = self.tree.node(id).acl;
        if acl == AclId::OPEN {
            return out.put_u32(0);
        }
        if let Some(number) = met.get(&acl) {
            return out.put_u32(*number);
        }
        let number = met.len() as u32 + 1;
        met.insert(acl, number);
        out.put_u32(number);
        let entries = self.tree.acl(id).entries();
        out.put_u32(entries.len() as u32);
        for entry in entries {
            out.put_i32(entry.perms);
            put_bytes(out, Some(entry.id.scheme.as_bytes()));
            put_bytes(out, Some(entry.id.id.as_bytes()));
        }
    }

    /// Reads a state. It may read beyond the snapshot's end, up to a buffer's size: give it a reader that ends there.
    ///
    /// # Errors
    /// The bytes are not a whole and consistent snapshot; see [`SnapshotError`].
    pub fn read_snapshot(from: &mut dyn Read) -> Result<Self, SnapshotError> {
        let mut from = Source(BufReader::with_capacity(CHUNK, from));
        if from.array::<6>()? != MAGIC || u16::from_be_bytes(from.array()?) != VERSION {
            return Err(SnapshotError::Version);
        }
        let mut machine = Self {
            tree: Tree::empty(),
            sessions: Sessions::new(),
            streams: Streams::default(),
            applied: from.u64()?,
            fold: ZxidFold { high: from.u32()?, counter: from.u32()?, epoch: from.epoch()? },
            passed: from.epoch()?,
            settings: Settings::default(),
        };
        if machine.fold.last() < 0 {
            return Err(SnapshotError::Invalid("zxid"));
        }
        let level = from.u32()?;
        let settings = Settings::from_flags(level, from.array::<1>()?[0]);
        machine.settings = settings.ok_or(SnapshotError::Invalid("setting"))?;
        for _ in 0..from.u64()? {
            let id = from.i64()?;
            let timeout_ms = i32::from_be_bytes(from.array()?);
            let session = Session { timeout_ms, password: from.array()?, attachment: from.u64()? };
            machine.sessions.put(id, session);
        }
        for _ in 0..from.u64()? {
            let server = from.u32()?;
            let stream = Stream { number: from.u64()?, last: from.u64()? };
            if !mutant!(SnapshotWithoutStreams) {
                machine.streams.restore(server, stream);
            }
        }
        machine.read_nodes(&mut from)?;
        Ok(machine)
    }

    fn read_nodes(&mut self, from: &mut Source<'_>) -> Result<(), SnapshotError> {
        let mut acls = Vec::new();
        loop {
            match from.array::<1>()?[0] {
                0 => break,
                1 => self.read_node(from, &mut acls)?,
                _ => return Err(SnapshotError::Invalid("tag")),
            }
        }
        if from.u64()? != self.tree.len() as u64 || self.tree.root() == NodeId::NONE {
            return Err(SnapshotError::Invalid("number of nodes"));
        }
        if from.u64()? != self.tree.digest() {
            return Err(SnapshotError::Digest);
        }
        Ok(())
    }

    fn read_node(&mut self, from: &mut Source<'_>, acls: &mut Vec<AclRef>) -> Result<(), SnapshotError> {
        let path = from.text("path")?;
        let data = from.bytes()?;
        let acl = from.acl(acls)?;
        let [czxid, mzxid, pzxid, ctime, mtime, owner] = from.longs()?;
        let ints = [from.u32()?, from.u32()?, from.u32()?].map(|int| int as i32);
        let parent = self.place(&path)?;
        if let Owner::Session(session) = Owner::of(owner)
            && self.sessions.get(session).is_none()
        {
            return Err(SnapshotError::Invalid("owner"));
        }
        let new = NewNode { path: path.into(), data: data.as_deref(), acl: &acl, owner: Owner::of(owner) };
        let built = self.tree.build(&new, Moment { zxid: czxid, time_ms: ctime });
        let [version, cversion, aversion] = ints;
        let node = Node { mzxid, pzxid, mtime, owner, version, cversion, aversion, ..built };
        self.tree.link(node, parent);
        Ok(())
    }

    /// The parent of a node that comes next: it is there, and the node is not.
    fn place(&self, path: &str) -> Result<NodeId, SnapshotError> {
        if !path::is_valid(path) || self.tree.find(path).is_some() {
            return Err(SnapshotError::Invalid("path"));
        }
        if path == ROOT {
            return Ok(NodeId::NONE);
        }
        path::parent(path).and_then(|parent| self.tree.find(parent)).ok_or(SnapshotError::Invalid("parent"))
    }
}

fn flush(out: &mut Vec<u8>, above: usize, to: &mut dyn Write) -> io::Result<()> {
    if out.len() > above {
        to.write_all(out)?;
        out.clear();
    }
    Ok(())
}

fn put_epoch(out: &mut Vec<u8>, epoch: Epoch) {
    out.put_u32(epoch.round);
    out.put_u32(epoch.proposer);
}

/// Lengths are below 2³¹, as on the client's wire; all ones is null.
fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    jute::put_buffer(out, bytes);
}

/// Reads fields; believes no length.
struct Source<'a>(BufReader<&'a mut dyn Read>);

impl Source<'_> {
    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut found = [0; N];
        self.0.read_exact(&mut found)?;
        Ok(found)
    }

    fn u32(&mut self) -> io::Result<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn u64(&mut self) -> io::Result<u64> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn i64(&mut self) -> io::Result<i64> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    fn longs<const N: usize>(&mut self) -> io::Result<[i64; N]> {
        let mut all = [0; N];
        for long in &mut all {
            *long = self.i64()?;
        }
        Ok(all)
    }

    fn epoch(&mut self) -> io::Result<Epoch> {
        Ok(Epoch::new(self.u32()?, self.u32()?))
    }

    fn bytes(&mut self) -> Result<Option<Vec<u8>>, SnapshotError> {
        let len = self.u32()?;
        if len == u32::MAX {
            return Ok(None);
        }
        if len > i32::MAX as u32 {
            return Err(SnapshotError::Invalid("length"));
        }
        let mut found = Vec::with_capacity((len as usize).min(CHUNK));
        if (&mut self.0).take(u64::from(len)).read_to_end(&mut found)? < len as usize {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(Some(found))
    }

    fn text(&mut self, what: &'static str) -> Result<String, SnapshotError> {
        let bytes = self.bytes()?.ok_or(SnapshotError::Invalid(what))?;
        String::from_utf8(bytes).map_err(|_| SnapshotError::Invalid(what))
    }

    fn acl(&mut self, met: &mut Vec<AclRef>) -> Result<AclRef, SnapshotError> {
        let number = self.u32()? as usize;
        if number == 0 {
            return Ok(AclRef::default());
        }
        if let Some(acl) = met.get(number - 1) {
            return Ok(acl.clone());
        }
        if number != met.len() + 1 {
            return Err(SnapshotError::Invalid("ACL"));
        }
        let mut entries = Vec::new();
        for _ in 0..self.u32()? {
            let perms = self.u32()? as i32;
            let scheme = JStr::from(self.text("ACL")?);
            entries.push(Acl { perms, id: Id { scheme, id: JStr::from(self.text("ACL")?) } });
        }
        let acl = AclRef::of(entries);
        met.push(acl.clone());
        Ok(acl)
    }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
