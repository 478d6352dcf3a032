//! [`MemDisk`]: a disk in memory, deterministic, with the faults of real ones. The simulator and the crash tests
//! run the production log on it.
//!
//! What a crash keeps is decided here, from the list of changes since the last sync, in the order in which they
//! were made (bytes and names alike):
//!
//! ```text
//!            write  write  rename   │ Kill: all of it     (page cache outlives the process)
//!   synced ────┴──────┴──────┴──► X │ PowerLoss: none of it
//!                                   │ Torn: the first n bytes of it, a rename counting as one byte
//!                                   │ Sectors: each 512-byte sector by the toss of a coin
//! ```
//!
//! A handle belongs to the process that made it: after [`MemDisk::crash`] every older clone and every open file
//! fails, so a forgotten thread of the dead process cannot write on.

use crate::disk::{Disk, DiskFile};
use crate::mem_state::{Inode, NameChange, State};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How a process, or its machine, ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process dies; what it wrote stays.
    Kill,
    /// Power fails; nothing that was not synced stays.
    PowerLoss,
    /// Power fails; of what was not synced, this many bytes stay, in the order of writing. A change of name counts
    /// as one byte.
    Torn(u64),
    /// Power fails; each 512-byte sector that was not synced stays or is lost, by this seed; of the names, a prefix.
    Sectors(u64),
}

/// A disk in memory. Clones share it.
#[derive(Clone, Debug)]
pub struct MemDisk {
    state: Arc<Mutex<State>>,
    generation: u64,
}

/// An open file of a [`MemDisk`].
#[derive(Debug)]
pub struct MemFile {
    disk: MemDisk,
    inode: u64,
}

/// A held lock of a [`MemDisk`].
#[derive(Debug)]
pub struct MemLock {
    disk: MemDisk,
    path: PathBuf,
}

impl Default for MemDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl MemDisk {
    /// An empty disk without bounds.
    #[must_use]
    pub fn new() -> Self {
        Self { state: Arc::new(Mutex::new(State::default())), generation: 0 }
    }

    /// A deep copy that lives on by itself.
    #[must_use]
    pub fn fork(&self) -> Self {
        let copy = self.raw().clone();
        Self { generation: copy.generation, state: Arc::new(Mutex::new(copy)) }
    }

    /// Ends the process (or the machine). This handle goes on as the next process; clones and files made before
    /// are dead.
    pub fn crash(&mut self, kind: Crash) {
        let mut state = self.raw();
        match kind {
            Crash::Kill => {}
            Crash::PowerLoss => state.lose(|_, _| 0),
            Crash::Torn(mut left) => state.lose(move |_, bytes| {
                let kept = bytes.min(left);
                left -= kept;
                kept
            }),
            Crash::Sectors(seed) => state.lose_sectors(seed),
        }
        state.restart();
        let generation = state.generation;
        drop(state);
        self.generation = generation;
    }

    /// Limits the disk to `bytes` (preallocated room counts); `None` lifts the limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.raw().capacity = bytes;
    }

    /// The next file sync fails, and what it should have made durable never will be.
    pub fn fail_next_sync(&self) {
        self.raw().fail_sync = true;
    }

    /// The next write lands `by` bytes further.
    pub fn misdirect_next_write(&self, by: u64) {
        self.raw().misdirect = Some(by);
    }

    /// The next write reports success and changes nothing.
    pub fn lose_next_write(&self) {
        self.raw().lose_write = true;
    }

    /// After `operations` more changes (writes, syncs, names) every further one fails: a crash point.
    pub fn stop_after(&self, operations: Option<u64>) {
        self.raw().stop_after = operations;
    }

    /// Everything that was to go wrong and has not yet is called off, and the limit with it.
    pub fn mend(&self) {
        let mut state = self.raw();
        (state.capacity, state.stop_after, state.misdirect) = (None, None, None);
        (state.fail_sync, state.lose_write) = (false, false);
    }

    /// Changes made so far: writes, syncs, names.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.raw().operations
    }

    /// Bytes written since the last sync, a change of name counting as one: the range of [`Crash::Torn`].
    #[must_use]
    pub fn unsynced_bytes(&self) -> u64 {
        self.raw().unsynced_bytes()
    }

    /// Rots: flips the bits of `mask` in the byte at `offset`, on the platter.
    ///
    /// # Panics
    /// If the file has no such byte.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) {
        let mut state = self.raw();
        let inode = state.named(path).ok().map(|(_, inode)| inode);
        let byte = inode
            .and_then(|inode| usize::try_from(offset).ok().and_then(|offset| inode.bytes.get_mut(offset)));
        assert!(byte.is_some(), "{} has no byte {offset}", path.display());
        byte.into_iter().for_each(|b| *b ^= mask);
    }

    /// What a file holds, without the zeros of preallocation.
    #[must_use]
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        self.raw().named(path).ok().map(|(_, inode)| inode.bytes.clone())
    }

    fn raw(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, if this handle's process lives.
    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.raw();
        if state.generation == self.generation {
            Ok(state)
        } else {
            Err(io::Error::other("the process of this handle has crashed"))
        }
    }

    /// The same, for an operation that changes something.
    fn changing(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.alive()?;
        state.count_operation()?;
        Ok(state)
    }

    fn file(&self, state: &mut State, inode: u64) -> MemFile {
        if let Some(found) = state.inodes.get_mut(&inode) {
            found.handles += 1;
        }
        MemFile { disk: self.clone(), inode }
    }
}

impl Disk for MemDisk {
    type File = MemFile;
    type Lock = MemLock;

    fn create(&self, path: &Path) -> io::Result<MemFile> {
        let mut state = self.changing()?;
        let inode = state.next_inode;
        state.next_inode += 1;
        state.inodes.insert(inode, Inode::default());
        state.change_name(NameChange::Link(path.to_owned(), inode));
        Ok(self.file(&mut state, inode))
    }

    fn open(&self, path: &Path) -> io::Result<MemFile> {
        let mut state = self.alive()?;
        let (inode, _) = state.named(path)?;
        Ok(self.file(&mut state, inode))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.changing()?;
        state.named(from)?;
        state.change_name(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.changing()?;
        state.named(path)?;
        state.change_name(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.alive()?;
        let names = state.names.keys().filter(|p| p.parent() == Some(dir));
        Ok(names.filter_map(|p| p.file_name()?.to_str().map(str::to_owned)).collect())
    }

    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        self.alive().map(|_| ())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.changing()?.sync_dir(dir);
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(self.alive()?.free_bytes())
    }

    fn lock(&self, path: &Path) -> io::Result<MemLock> {
        if self.alive()?.locks.insert(path.to_owned()) {
            Ok(MemLock { disk: self.clone(), path: path.to_owned() })
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }
}

impl Drop for MemLock {
    fn drop(&mut self) {
        if let Ok(mut state) = self.disk.alive() {
            state.locks.remove(&self.path);
        }
    }
}

impl Drop for MemFile {
    fn drop(&mut self) {
        if let Ok(mut state) = self.disk.alive() {
            state.release(self.inode);
        }
    }
}

impl DiskFile for MemFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.alive()?;
        Ok(state.inodes.get(&self.inode).map_or(0, |inode| inode.read(into, offset)))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.changing()?.write(self.inode, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.changing()?.sync_file(self.inode)
    }

    fn preallocate(&self, bytes: u64) -> io::Result<()> {
        self.disk.changing()?.grow(self.inode, bytes)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.disk.changing()?.set_len(self.inode, bytes);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.alive()?.inodes.get(&self.inode).map_or(0, |inode| inode.len))
    }
}
