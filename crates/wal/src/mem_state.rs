//! The bookkeeping of [`crate::MemDisk`]: visible bytes and names, and for everything that is not synced the old
//! content, so that a power failure can take back what it likes.
//!
//! Each change has a number from one counter over all files, because a torn write keeps a prefix of *all* changes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// Bytes that a disk writes together.
const SECTOR: usize = 512;

/// A change of the directory.
#[derive(Clone, Debug)]
pub(crate) enum NameChange {
    /// A new file.
    Link(PathBuf, u64),
    /// Old and new name.
    Rename(PathBuf, PathBuf),
    /// A name goes.
    Remove(PathBuf),
}

/// One unsynced write or change of length, with what it replaced.
#[derive(Clone, Debug)]
struct Change {
    number: u64,
    offset: usize,
    old: Vec<u8>,
    /// Bytes written; 0 for a change of length.
    count: usize,
    old_len: u64,
    new_len: u64,
    /// Its sync failed: lost when power fails, whatever is synced later.
    doomed: bool,
}

/// A file. Bytes between `bytes.len()` and `len` are zero.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inode {
    pub(crate) bytes: Vec<u8>,
    pub(crate) len: u64,
    pub(crate) handles: u32,
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) generation: u64,
    pub(crate) inodes: BTreeMap<u64, Inode>,
    pub(crate) names: BTreeMap<PathBuf, u64>,
    pub(crate) next_inode: u64,
    pub(crate) locks: BTreeSet<PathBuf>,
    pub(crate) capacity: Option<u64>,
    pub(crate) fail_sync: bool,
    pub(crate) misdirect: Option<u64>,
    pub(crate) lose_write: bool,
    pub(crate) stop_after: Option<u64>,
    pub(crate) operations: u64,
    durable_names: BTreeMap<PathBuf, u64>,
    unsynced_names: Vec<(u64, NameChange)>,
    changes: u64,
}

impl Inode {
    pub(crate) fn read(&self, into: &mut [u8], offset: u64) -> usize {
        let count = self.len.saturating_sub(offset).min(into.len() as u64);
        let count = usize::try_from(count).unwrap_or(0);
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.bytes.len());
        let held = self.bytes.get(start..).unwrap_or_default();
        let (copied, zeros) = into.split_at_mut(held.len().min(count));
        copied.copy_from_slice(held.get(..copied.len()).unwrap_or_default());
        zeros.iter_mut().take(count - copied.len()).for_each(|b| *b = 0);
        count
    }

    /// Puts bytes in place, without bookkeeping; what was there.
    fn put(&mut self, offset: usize, bytes: &[u8]) -> Vec<u8> {
        let end = offset + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        match self.bytes.get_mut(offset..end) {
            Some(place) => {
                let old = place.to_vec();
                place.copy_from_slice(bytes);
                old
            }
            None => Vec::new(),
        }
    }

    /// A sync: all but doomed changes are durable. What was written over a doomed one stays when that is taken back.
    fn settle(&mut self) {
        let (mut doomed, synced): (Vec<_>, Vec<_>) = self.unsynced.drain(..).partition(|c| c.doomed);
        for lost in &mut doomed {
            for later in synced.iter().filter(|c| c.number > lost.number) {
                lost.old_len = self.len;
                let from = later.offset.max(lost.offset);
                let to = (later.offset + later.count).min(lost.offset + lost.old.len());
                let held = self.bytes.get(from..to.max(from)).unwrap_or_default();
                let place = lost.old.get_mut(from - lost.offset..).unwrap_or_default();
                place.iter_mut().zip(held).for_each(|(old, new)| *old = *new);
            }
        }
        self.unsynced = doomed;
    }

    /// Takes back every unsynced change, newest first; the changes with their new bytes, oldest first.
    fn undo(&mut self) -> Vec<(Change, Vec<u8>)> {
        let mut undone = Vec::new();
        while let Some(change) = self.unsynced.pop() {
            let new = if change.count == 0 { Vec::new() } else { self.put(change.offset, &change.old) };
            self.len = change.old_len;
            let len = usize::try_from(self.len).unwrap_or(usize::MAX);
            self.bytes.truncate(len);
            undone.push((change, new));
        }
        undone.reverse();
        undone
    }
}

impl State {
    pub(crate) fn count_operation(&mut self) -> io::Result<()> {
        if let Some(left) = &mut self.stop_after {
            match left.checked_sub(1) {
                Some(fewer) => *left = fewer,
                None => return Err(io::Error::other("stopped at the chosen crash point")),
            }
        }
        self.operations += 1;
        Ok(())
    }

    pub(crate) fn named(&mut self, path: &Path) -> io::Result<(u64, &mut Inode)> {
        let inode = *self.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        let found = self.inodes.get_mut(&inode).ok_or(io::ErrorKind::NotFound)?;
        Ok((inode, found))
    }

    pub(crate) fn change_name(&mut self, change: NameChange) {
        self.changes += 1;
        apply_name(&mut self.names, &change);
        self.unsynced_names.push((self.changes, change));
    }

    pub(crate) fn sync_dir(&mut self, dir: &Path) {
        let durable = &mut self.durable_names;
        self.unsynced_names.retain(|(_, change)| {
            let here = change.path().parent() == Some(dir);
            if here {
                apply_name(durable, change);
            }
            !here
        });
        self.collect();
    }

    pub(crate) fn free_bytes(&self) -> u64 {
        let used: u64 = self.inodes.values().map(|i| i.len).sum();
        self.capacity.unwrap_or(1 << 50).saturating_sub(used)
    }

    pub(crate) fn write(&mut self, inode: u64, bytes: &[u8], offset: u64) -> io::Result<()> {
        if std::mem::take(&mut self.lose_write) {
            return Ok(());
        }
        let offset = offset + self.misdirect.take().unwrap_or(0);
        let free = self.free_bytes();
        let Some(file) = self.inodes.get_mut(&inode) else { return Ok(()) };
        let fits = file.len.saturating_add(free).saturating_sub(offset).min(bytes.len() as u64);
        let fitting = bytes.get(..usize::try_from(fits).unwrap_or(0)).unwrap_or_default();
        self.changes += 1;
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let old_len = file.len;
        let new_len = file.len.max(offset + fits);
        let old = file.put(start, fitting);
        file.len = new_len;
        let count = fitting.len();
        let change =
            Change { number: self.changes, offset: start, old, count, old_len, new_len, doomed: false };
        file.unsynced.push(change);
        if fits < bytes.len() as u64 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    pub(crate) fn grow(&mut self, inode: u64, bytes: u64) -> io::Result<()> {
        let len = self.inodes.get(&inode).map_or(0, |i| i.len);
        if bytes > len && bytes - len > self.free_bytes() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.set_len(inode, bytes.max(len));
        Ok(())
    }

    pub(crate) fn set_len(&mut self, inode: u64, bytes: u64) {
        self.changes += 1;
        let number = self.changes;
        let Some(file) = self.inodes.get_mut(&inode) else { return };
        let at = usize::try_from(bytes).unwrap_or(usize::MAX).min(file.bytes.len());
        let old = file.bytes.split_off(at);
        let change = Change {
            number,
            offset: at,
            count: old.len(),
            old,
            old_len: file.len,
            new_len: bytes,
            doomed: false,
        };
        file.unsynced.push(change);
        file.len = bytes;
    }

    pub(crate) fn sync_file(&mut self, inode: u64) -> io::Result<()> {
        let failed = std::mem::take(&mut self.fail_sync);
        let Some(file) = self.inodes.get_mut(&inode) else { return Ok(()) };
        if failed {
            file.unsynced.iter_mut().for_each(|c| c.doomed = true);
            return Err(io::Error::other("the disk could not sync"));
        }
        file.settle();
        Ok(())
    }

    pub(crate) fn unsynced_bytes(&self) -> u64 {
        let bytes = self.inodes.values().flat_map(|i| &i.unsynced).map(Change::weight).sum::<u64>();
        bytes + self.unsynced_names.len() as u64
    }

    /// Power fails. `keep(is_name, bytes)` is asked for each unsynced change in order how many of its bytes stay.
    pub(crate) fn lose(&mut self, mut keep: impl FnMut(bool, u64) -> u64) {
        let mut redo: BTreeMap<u64, Redo> = BTreeMap::new();
        for (id, inode) in &mut self.inodes {
            for (change, new) in inode.undo() {
                redo.insert(change.number, Redo::Bytes(*id, change, new));
            }
        }
        for (number, change) in self.unsynced_names.drain(..) {
            redo.insert(number, Redo::Name(change));
        }
        self.names.clone_from(&self.durable_names);
        for change in redo.into_values() {
            match change {
                Redo::Name(change) => {
                    if keep(true, 1) == 1 {
                        apply_name(&mut self.names, &change);
                    }
                }
                Redo::Bytes(id, change, new) => {
                    let kept = if change.doomed { 0 } else { keep(false, change.weight()) };
                    let Some(inode) = self.inodes.get_mut(&id).filter(|_| kept > 0) else { continue };
                    let bytes = usize::try_from(kept).ok().and_then(|n| new.get(..n)).unwrap_or(&new);
                    inode.put(change.offset, bytes);
                    let whole = kept == change.weight();
                    inode.len = if whole { change.new_len } else { inode.len.max(inode.bytes.len() as u64) };
                    let len = usize::try_from(inode.len).unwrap_or(usize::MAX);
                    inode.bytes.truncate(len);
                }
            }
        }
        // What survived is on the platter now.
        self.durable_names.clone_from(&self.names);
    }

    /// Power fails; sectors survive one by one, names as a prefix.
    pub(crate) fn lose_sectors(&mut self, seed: u64) {
        let mut rng = replog::Rng::new(seed);
        let names = rng.below(self.unsynced_names.len() as u64 + 1);
        let mut kept_names = 0;
        let mut survivors: Vec<(u64, usize, Vec<u8>)> = Vec::new();
        let inodes: Vec<u64> = self.inodes.keys().copied().collect();
        for id in inodes {
            let changes: Vec<(usize, usize)> = self
                .inodes
                .get(&id)
                .map(|i| i.unsynced.iter().map(|c| (c.offset, if c.doomed { 0 } else { c.count })).collect())
                .unwrap_or_default();
            for (offset, count) in changes {
                for start in (offset - offset % SECTOR..offset + count).step_by(SECTOR) {
                    let (from, to) = (start.max(offset), (start + SECTOR).min(offset + count));
                    let bytes = self.inodes.get(&id).and_then(|i| i.bytes.get(from..to)).map(<[u8]>::to_vec);
                    if let Some(bytes) = bytes.filter(|_| rng.below(2) == 0) {
                        survivors.push((id, from, bytes));
                    }
                }
            }
        }
        self.lose(|is_name, _| {
            // Bytes are put back below; of the names, the first few stay.
            kept_names += u64::from(is_name);
            u64::from(is_name && kept_names <= names)
        });
        for (id, from, bytes) in survivors {
            if let Some(inode) = self.inodes.get_mut(&id) {
                inode.put(from, &bytes);
                inode.len = inode.len.max(inode.bytes.len() as u64);
            }
        }
    }

    /// The next process starts: locks are free, old handles are dead, what has no name is gone.
    pub(crate) fn restart(&mut self) {
        self.generation += 1;
        self.locks.clear();
        self.stop_after = None;
        self.inodes.values_mut().for_each(|i| i.handles = 0);
        self.collect();
    }

    pub(crate) fn release(&mut self, inode: u64) {
        if let Some(found) = self.inodes.get_mut(&inode) {
            found.handles = found.handles.saturating_sub(1);
        }
        self.collect();
    }

    fn collect(&mut self) {
        let (names, durable, changes) = (&self.names, &self.durable_names, &self.unsynced_names);
        self.inodes.retain(|id, inode| {
            let linked = |(_, c): &(u64, NameChange)| matches!(c, NameChange::Link(_, i) if i == id);
            inode.handles > 0
                || names.values().any(|i| i == id)
                || durable.values().any(|i| i == id)
                || changes.iter().any(linked)
        });
    }
}

enum Redo {
    Name(NameChange),
    Bytes(u64, Change, Vec<u8>),
}

impl Change {
    /// Bytes for which it counts in a torn crash. A change of length is there or not.
    fn weight(&self) -> u64 {
        (self.count as u64).max(1)
    }
}

impl NameChange {
    fn path(&self) -> &Path {
        match self {
            Self::Link(path, _) | Self::Rename(path, _) | Self::Remove(path) => path,
        }
    }
}

fn apply_name(names: &mut BTreeMap<PathBuf, u64>, change: &NameChange) {
    match change {
        NameChange::Link(path, inode) => {
            names.insert(path.clone(), *inode);
        }
        NameChange::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
        NameChange::Remove(path) => {
            names.remove(path);
        }
    }
}
