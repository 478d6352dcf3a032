//! Writing snapshots: own ones from the state, received ones from a peer's bytes. Both go to a temporary file that
//! is synced and read back before it gets a name; dropped before `finish`, they leave nothing.

use crate::WalError;
use crate::disk::{Disk, DiskFile};
use crate::snapshot::{SnapshotInfo, SnapshotStore};
use crate::snapshot_format::{BLOCK_BYTES, Meta, header_checksum, put_block, put_end, put_header};
use std::io::{self, Write};
use std::path::PathBuf;

/// A file that is removed unless it is kept.
struct Temporary<D: Disk> {
    store: SnapshotStore<D>,
    path: PathBuf,
    file: D::File,
    written: u64,
    kept: bool,
}

impl<D: Disk> Temporary<D> {
    fn new(store: SnapshotStore<D>) -> Result<Self, WalError> {
        let path = store.inner.temporary();
        let file = store.inner.disk.create(&path).map_err(|e| WalError::io("creating", &path, e))?;
        Ok(Self { store, path, file, written: 0, kept: false })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(bytes, self.written)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Syncs and reads back.
    fn verify(&self) -> Result<SnapshotInfo, WalError> {
        self.file.sync().map_err(|e| WalError::sync(&self.path, e))?;
        self.store.inner.verify(&self.path)
    }
}

impl<D: Disk> Drop for Temporary<D> {
    fn drop(&mut self) {
        if !self.kept {
            // If this fails the next start removes it.
            let _ = self.store.inner.disk.remove(&self.path);
        }
    }
}

/// Takes the bytes of the own state.
pub struct SnapshotWriter<D: Disk> {
    temporary: Temporary<D>,
    block: Vec<u8>,
    stored: Vec<u8>,
    checksum: u32,
    total: u64,
}

impl<D: Disk> SnapshotWriter<D> {
    pub(crate) fn new(store: SnapshotStore<D>, meta: &Meta) -> Result<Self, WalError> {
        let header = put_header(&store.inner.identity, meta);
        let checksum = header_checksum(&header);
        let mut temporary = Temporary::new(store)?;
        temporary.write(&header).map_err(|e| WalError::io("writing", &temporary.path, e))?;
        Ok(Self { temporary, block: Vec::new(), stored: Vec::new(), checksum, total: 0 })
    }

    fn put_block(&mut self) -> io::Result<()> {
        let compress = self.temporary.store.inner.options.compress;
        self.stored.clear();
        self.checksum = put_block(&self.block, compress, self.checksum, &mut self.stored);
        self.total += self.block.len() as u64;
        self.block.clear();
        self.temporary.write(&self.stored)
    }

    /// Makes the snapshot durable, reads it back, and makes it the newest. The log must be durable up to it.
    ///
    /// # Errors
    /// The disk is full or refuses, or gives back other bytes than were written.
    pub fn finish(mut self) -> Result<SnapshotInfo, WalError> {
        let mut end = Vec::new();
        let written = if self.block.is_empty() { Ok(()) } else { self.put_block() }.and_then(|()| {
            put_end(self.total, self.checksum, &mut end);
            self.temporary.write(&end)
        });
        written.map_err(|e| WalError::io("writing", &self.temporary.path, e))?;
        let info = self.temporary.verify()?;
        self.temporary.store.inner.publish(&self.temporary.path, info.clone())?;
        self.temporary.kept = true;
        Ok(info)
    }
}

impl<D: Disk> Write for SnapshotWriter<D> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = BLOCK_BYTES - self.block.len();
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or(bytes);
        self.block.extend_from_slice(taken);
        if self.block.len() >= BLOCK_BYTES {
            self.put_block()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes the bytes of a peer's snapshot file.
pub struct StagedWriter<D: Disk> {
    temporary: Temporary<D>,
}

impl<D: Disk> StagedWriter<D> {
    pub(crate) fn new(store: SnapshotStore<D>) -> Result<Self, WalError> {
        Ok(Self { temporary: Temporary::new(store)? })
    }

    /// Checks the whole snapshot, makes it durable under its staging name and says what it is. It counts only after
    /// [`SnapshotStore::accept`].
    ///
    /// # Errors
    /// It is damaged, cut short, or of another protocol or cluster; the disk is full or refuses.
    pub fn finish(mut self) -> Result<SnapshotInfo, WalError> {
        let info = self.temporary.verify()?;
        let inner = &self.temporary.store.inner;
        let to = inner.staged_path(info.meta.at);
        inner.disk.rename(&self.temporary.path, &to).map_err(|e| WalError::io("renaming", &to, e))?;
        inner.disk.sync_dir(&inner.dir).map_err(|e| WalError::sync(&inner.dir, e))?;
        self.temporary.kept = true;
        Ok(info)
    }
}

impl<D: Disk> Write for StagedWriter<D> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.temporary.write(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
