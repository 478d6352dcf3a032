//! What the log asks of a disk, so that the same code runs on files and on a simulated disk with faults.
//!
//! The durability rules that both implementations share, and that everything above is written against:
//!
//! * bytes written but not synced survive a killed process and are lost, wholly or in part, when power fails;
//! * a name created, renamed or removed is durable only after [`Disk::sync_dir`] of its directory;
//! * a failed sync says nothing about what reached the disk, and a second one may lie (the kernel marks the pages
//!   clean): whoever sees the error ends the process.
//!
//! Files are read and written at positions, so one writer and many readers share a handle without a cursor.

use std::io;
use std::path::Path;

/// A disk: names, directories and their durability. Handles are cheap to clone and may be used from any thread.
pub trait Disk: Clone + Send + Sync + 'static {
    /// An open file.
    type File: DiskFile;
    /// Keeps a directory locked while it lives.
    type Lock: Send + Sync + 'static;

    /// Creates an empty file for reading and writing; one of that name is emptied.
    ///
    /// # Errors
    /// The disk is full or refuses.
    fn create(&self, path: &Path) -> io::Result<Self::File>;

    /// Opens a file that exists, for reading and writing.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], or the disk refuses.
    fn open(&self, path: &Path) -> io::Result<Self::File>;

    /// Gives a file a new name in the same directory, replacing what had it.
    ///
    /// # Errors
    /// The disk refuses.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Open handles go on reading it.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], or the disk refuses.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Names of the files in a directory, sorted.
    ///
    /// # Errors
    /// The disk refuses.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Creates a directory and those above it, durably. One that exists is fine.
    ///
    /// # Errors
    /// The disk refuses.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// The disk failed: end the process.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Bytes that could still be written below `dir`.
    ///
    /// # Errors
    /// The disk refuses.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;

    /// Takes the lock file `path` for this process.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if another process (or another log of this one) holds it.
    fn lock(&self, path: &Path) -> io::Result<Self::Lock>;
}

/// An open file.
pub trait DiskFile: Send + Sync + 'static {
    /// Reads up to `into.len()` bytes at `offset`; 0 at the end of the file.
    ///
    /// # Errors
    /// The disk cannot read.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] and others; a part may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the file's bytes and length durable.
    ///
    /// # Errors
    /// The disk failed: end the process.
    fn sync(&self) -> io::Result<()>;

    /// Reserves room for `bytes` and grows the file to that length with zeros, if the file system can; else does
    /// nothing.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`].
    fn preallocate(&self, bytes: u64) -> io::Result<()>;

    /// Cuts or grows the file.
    ///
    /// # Errors
    /// The disk refuses.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// Length in bytes.
    ///
    /// # Errors
    /// The disk refuses.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// The disk refuses.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `into` from `offset`; how many bytes there were.
    ///
    /// # Errors
    /// The disk cannot read.
    fn read_full(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..).filter(|r| !r.is_empty()) {
            match self.read_at(rest, offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }
}

/// Whether an error says that the disk (or the quota) is full.
#[must_use]
pub(crate) fn is_full(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
