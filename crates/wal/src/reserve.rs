//! The reserve: a file that holds room for the day on which the disk is full, so that an operator (or the server)
//! can purge and write snapshots then.
// spec: reliability row 29

use crate::WalError;
use crate::disk::{Disk, DiskFile};
use std::path::{Path, PathBuf};

const NAME: &str = "reserve";

/// Room kept back in a directory.
pub(crate) struct Reserve<D> {
    disk: D,
    dir: PathBuf,
    bytes: u64,
    held: bool,
}

impl<D: Disk> Reserve<D> {
    /// Takes the room if there is enough; a nearly full disk is no reason not to start.
    pub(crate) fn open(disk: D, dir: &Path, bytes: u64) -> Result<Self, WalError> {
        let mut reserve = Self { disk, dir: dir.to_owned(), bytes, held: false };
        reserve.take()?;
        Ok(reserve)
    }

    /// Takes the room (again). Whether it is held now.
    pub(crate) fn take(&mut self) -> Result<bool, WalError> {
        if self.held || self.bytes == 0 {
            return Ok(self.held);
        }
        let path = self.dir.join(NAME);
        let open = match self.disk.open(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => self.disk.create(&path),
            other => other,
        };
        let taken = open.and_then(|file| file.preallocate(self.bytes));
        match taken {
            Ok(()) => self.held = true,
            Err(e) if crate::disk::is_full(&e) => {
                // Keep nothing rather than a part: the little room left is better used by the log.
                self.disk.remove(&path).map_err(|e| WalError::io("removing", &path, e))?;
            }
            Err(e) => return Err(WalError::io("reserving room for", &path, e)),
        }
        Ok(self.held)
    }

    /// Gives the room back to the disk. Whether there was any.
    pub(crate) fn release(&mut self) -> Result<bool, WalError> {
        let held = std::mem::take(&mut self.held);
        if held {
            let path = self.dir.join(NAME);
            self.disk.remove(&path).map_err(|e| WalError::io("removing", &path, e))?;
            self.disk.sync_dir(&self.dir).map_err(|e| WalError::sync(&self.dir, e))?;
        }
        Ok(held)
    }
}
