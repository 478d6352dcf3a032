//! [`FaultyDisk`]: [`FileDisk`] behind a shim that lies on command, for runs with real processes.
//!
//! ```text
//!  control file ──read before each write and sync──► sync_ms=200 │ stall │ full │ fail_sync
//! ```
//!
//! Whoever runs the process names a control file in `MENAGERIE_DISK_FAULTS` and replaces it to change the disk's
//! behaviour (reliability rows 16, 17, 18, 28, 29). Without the variable, or without the file, this is `FileDisk`.
//! The module exists only with the feature `faulty-disk`: no release build can be talked into losing a write.
//!
//! * `sync_ms=N`: a sync takes N ms longer.
//! * `stall`: writes and syncs hang until the word is gone.
//! * `full`: nothing can be written or reserved; half of a write of more than a byte is carried out, as a disk may.
//! * `fail_sync`: a sync fails, and what it should have made durable is what the file system makes of it.
//!
//! Reads and names are left alone: damaged bytes are made by whoever runs the process, in the files, while it is down.

use crate::disk::{Disk, DiskFile};
use crate::file_disk::FileDisk;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

/// Names the control file.
pub const CONTROL_VARIABLE: &str = "MENAGERIE_DISK_FAULTS";
/// How often a stalled call looks whether it may go on.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How the disk behaves now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mood {
    sync_ms: u64,
    stall: bool,
    full: bool,
    fail_sync: bool,
}

impl Mood {
    fn parse(text: &str) -> Self {
        let mut mood = Self::default();
        for word in text.split_whitespace() {
            match word.split_once('=') {
                Some(("sync_ms", ms)) => mood.sync_ms = ms.parse().unwrap_or(0),
                _ => {
                    mood.stall |= word == "stall";
                    mood.full |= word == "full";
                    mood.fail_sync |= word == "fail_sync";
                }
            }
        }
        mood
    }
}

#[derive(Clone, Debug, Default)]
struct Control(Option<Arc<PathBuf>>);

impl Control {
    fn mood(&self) -> Mood {
        let text = self.0.as_ref().and_then(|path| fs::read_to_string(path.as_path()).ok());
        text.map_or_else(Mood::default, |t| Mood::parse(&t))
    }

    /// Waits while the disk is stalled.
    fn awake(&self) -> Mood {
        loop {
            let mood = self.mood();
            if !mood.stall {
                return mood;
            }
            sleep(LOOK_AGAIN);
        }
    }

    fn sync(&self, real: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mood = self.awake();
        sleep(Duration::from_millis(mood.sync_ms));
        if mood.fail_sync {
            return Err(io::Error::other("injected: the sync failed"));
        }
        real()
    }

    fn room(&self) -> io::Result<()> {
        if self.awake().full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

/// The file system of this machine, with faults on command.
#[derive(Clone, Debug, Default)]
pub struct FaultyDisk(Control);

impl FaultyDisk {
    /// Obeys the file that `MENAGERIE_DISK_FAULTS` names, if it names one.
    #[must_use]
    pub fn of_environment() -> Self {
        Self(Control(std::env::var_os(CONTROL_VARIABLE).map(|path| Arc::new(path.into()))))
    }

    /// Obeys `control`.
    #[must_use]
    pub fn obeying(control: &Path) -> Self {
        Self(Control(Some(Arc::new(control.to_owned()))))
    }
}

/// An open file of a [`FaultyDisk`].
#[derive(Debug)]
pub struct FaultyFile(File, Control);

impl Disk for FaultyDisk {
    type File = FaultyFile;
    type Lock = File;

    fn create(&self, path: &Path) -> io::Result<FaultyFile> {
        self.0.room()?;
        FileDisk.create(path).map(|file| FaultyFile(file, self.0.clone()))
    }

    fn open(&self, path: &Path) -> io::Result<FaultyFile> {
        FileDisk.open(path).map(|file| FaultyFile(file, self.0.clone()))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        FileDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        FileDisk.remove(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        FileDisk.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        FileDisk.create_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.sync(|| FileDisk.sync_dir(dir))
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        if self.0.mood().full { Ok(0) } else { FileDisk.free_bytes(dir) }
    }

    fn lock(&self, path: &Path) -> io::Result<File> {
        FileDisk.lock(path)
    }
}

impl DiskFile for FaultyFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        DiskFile::read_at(&self.0, into, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Err(full) = self.1.room() {
            let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
            DiskFile::write_at(&self.0, half, offset)?;
            return Err(full);
        }
        DiskFile::write_at(&self.0, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.1.sync(|| DiskFile::sync(&self.0))
    }

    fn preallocate(&self, bytes: u64) -> io::Result<()> {
        self.1.room()?;
        DiskFile::preallocate(&self.0, bytes)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        DiskFile::set_len(&self.0, bytes)
    }

    fn len(&self) -> io::Result<u64> {
        DiskFile::len(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    // requirement: fault rows 16, 18, 28, 29
    #[test]
    fn the_control_file_decides() {
        let directory = tempfile::tempdir().unwrap();
        let (control, path) = (directory.path().join("control"), directory.path().join("file"));
        let disk = FaultyDisk::obeying(&control);
        let file = disk.create(&path).unwrap();
        file.write_at(b"before", 0).unwrap();
        file.sync().unwrap();
        fs::write(&control, "full").unwrap();
        assert_eq!(file.write_at(b"AFTER!", 0).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.preallocate(1 << 20).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(disk.create(&directory.path().join("other")).is_err());
        assert_eq!(disk.free_bytes(directory.path()).unwrap(), 0);
        let mut text = [0; 6];
        file.read_full(&mut text, 0).unwrap();
        assert_eq!(&text, b"AFTore", "a part of what failed is there");
        fs::write(&control, "fail_sync").unwrap();
        assert!(file.sync().is_err());
        fs::write(&control, "sync_ms=30").unwrap();
        let before = Instant::now();
        file.sync().unwrap();
        assert!(before.elapsed() >= Duration::from_millis(30));
        fs::remove_file(&control).unwrap();
        file.write_at(b"again!", 0).unwrap();
    }

    #[test]
    fn a_stalled_write_goes_on_when_the_word_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let control = directory.path().join("control");
        let file = FaultyDisk::obeying(&control).create(&directory.path().join("file")).unwrap();
        fs::write(&control, "stall").unwrap();
        std::thread::scope(|scope| {
            let write = scope.spawn(|| file.write_at(b"late", 0));
            let since = Instant::now();
            while since.elapsed() < Duration::from_millis(50) {
                assert!(!write.is_finished());
                std::thread::yield_now();
            }
            fs::remove_file(&control).unwrap();
            write.join().unwrap().unwrap();
        });
        assert_eq!(file.len().unwrap(), 4);
    }
}
