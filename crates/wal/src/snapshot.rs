//! [`SnapshotStore`]: the snapshots of one replica.
//!
//! ```text
//!  writer ──► x.snap.tmp ──fsync, re-read──► x.snap                      own: loadable at once
//!  stage  ──► received.tmp ──fsync, re-read──► x.snap.staged ──accept──► x.snap
//!                                                    └─ forgotten at open unless the log's base says otherwise
//! ```
//!
//! Why received snapshots wait: 1. leader L1 streams a snapshot at 100; 2. this replica hears L2, applies up to 150
//! and answers clients; 3. the old stream ends. Installing it would take every client back in time. So only the
//! core's `Purge` makes it count, and a crash asks the same question of the log: is that `Purge` durable?
//!
//! Invariants: a file named `*.snap` is whole and durable; the newest [`SnapshotOptions::keep`] stay; a damaged one
//! is set aside as `*.snap.damaged`, never chosen again; the last of those stays.
// spec: reliability §4 rules 3 and 6

use crate::disk::{Disk, DiskFile};
use crate::snapshot_format::{Bad, Meta, SnapshotReader};
use crate::snapshot_writer::{SnapshotWriter, StagedWriter};
use crate::{Identity, WalError, log};
use replog::{Epoch, Index, LogId, mutant};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SUFFIX: &str = ".snap";
const STAGED: &str = ".snap.staged";
const DAMAGED: &str = ".snap.damaged";
const TEMPORARY: &str = ".snap.tmp";

/// How snapshots are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotOptions {
    /// How many stay, at least 2: the newest may turn out to be damaged.
    pub keep: usize,
    /// Whether blocks are compressed (lz4).
    pub compress: bool,
}

impl Default for SnapshotOptions {
    fn default() -> Self {
        Self { keep: 2, compress: true }
    }
}

/// A snapshot that can be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its header.
    pub meta: Meta,
    /// Bytes of the file.
    pub bytes: u64,
}

/// The snapshots in a directory. Clones share it; any thread may use one.
pub struct SnapshotStore<D: Disk> {
    pub(crate) inner: Arc<Inner<D>>,
}

pub(crate) struct Inner<D: Disk> {
    pub(crate) disk: D,
    pub(crate) dir: PathBuf,
    pub(crate) identity: Identity,
    pub(crate) options: SnapshotOptions,
    /// Ascending by position.
    list: Mutex<Vec<SnapshotInfo>>,
    /// Numbers of temporary files.
    pub(crate) next_temporary: Mutex<u64>,
    _lock: D::Lock,
}

impl<D: Disk> Clone for SnapshotStore<D> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<D: Disk> SnapshotStore<D> {
    /// Opens the snapshots in `dir`, which is made if it is missing. `base` is what the log recovered: a staged
    /// snapshot at or below it was accepted before the crash and is completed; any other is forgotten.
    ///
    /// # Errors
    /// The directory is locked, or belongs to another protocol or cluster; the disk refuses.
    pub fn open(
        disk: D,
        dir: impl AsRef<Path>,
        identity: Identity,
        options: SnapshotOptions,
        base: LogId,
    ) -> Result<Self, WalError> {
        let dir = dir.as_ref().to_owned();
        disk.create_dir(&dir).map_err(|e| WalError::io("creating", &dir, e))?;
        let lock = log::lock(&disk, &dir, "snapshots.lock")?;
        let inner = Inner {
            disk,
            dir,
            identity,
            options,
            list: Mutex::default(),
            next_temporary: Mutex::default(),
            _lock: lock,
        };
        inner.recover(base)?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// All loadable snapshots, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<SnapshotInfo> {
        self.inner.list().clone()
    }

    /// The newest one whose header is right.
    #[must_use]
    pub fn newest(&self) -> Option<Meta> {
        self.inner.list().last().map(|i| i.meta.clone())
    }

    /// The newest one before the one at `at`. As long as the log reaches back to it, damage to the one at `at` costs
    /// nothing: the log may be purged below it, and no further.
    #[must_use]
    pub fn before(&self, at: LogId) -> Option<LogId> {
        self.inner.list().iter().map(|i| i.meta.at).rfind(|older| older.index < at.index)
    }

    /// The oldest one kept. As long as the log reaches back to it, a damaged newest snapshot costs nothing.
    #[must_use]
    pub fn oldest(&self) -> Option<Meta> {
        self.inner.list().first().map(|i| i.meta.clone())
    }

    /// Reads the state of the snapshot at `at`; damage shows as [`io::ErrorKind::InvalidData`] while reading.
    ///
    /// # Errors
    /// There is none, or its header is damaged.
    pub fn open_at(&self, at: LogId) -> Result<SnapshotReader<D::File>, WalError> {
        self.inner.reader(&self.inner.path(at, SUFFIX)).map_err(|e| self.inner.absent(at, e))
    }

    /// The file of the snapshot at `at` as it is, to be sent to a peer's [`SnapshotStore::stage`], and its length.
    ///
    /// # Errors
    /// There is none.
    pub fn raw(&self, at: LogId) -> Result<(RawReader<D::File>, u64), WalError> {
        let path = self.inner.path(at, SUFFIX);
        let file = self.inner.open_file(&path).map_err(|e| self.inner.absent(at, e))?;
        let length = file.len().map_err(|e| WalError::io("measuring", &path, e))?;
        Ok((RawReader { file, offset: 0 }, length))
    }

    /// Whether the snapshot at `at` still reads back whole. One that does not is set aside, as at a start; one that is
    /// not there is not whole either.
    ///
    /// # Errors
    /// The disk refuses.
    // 1. A leader's snapshot rots; 2. a follower that lags behind the log gets it, finds it damaged and drops it; 3. the
    // leader sends the same file again, for ever. So whoever was refused looks at its own copy.
    pub fn check(&self, at: LogId) -> Result<bool, WalError> {
        let inner = &self.inner;
        if !inner.list().iter().any(|i| i.meta.at == at) {
            return Ok(false);
        }
        match inner.verify(&inner.path(at, SUFFIX)).map_err(|e| inner.absent(at, e)) {
            Ok(_) => Ok(true),
            Err(WalError::NoSnapshot { .. }) => Ok(false),
            Err(WalError::BadSnapshot { .. }) => inner.set_aside(at).map(|()| false),
            Err(e) => Err(e),
        }
    }

    /// The newest one that is later than `at` and whole; damaged ones on the way are set aside.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn newer(&self, at: LogId) -> Result<Option<LogId>, WalError> {
        while let Some(newest) = self.newest().map(|m| m.at).filter(|n| n.index > at.index) {
            if self.check(newest)? {
                return Ok(Some(newest));
            }
            if self.newest().is_some_and(|m| m.at == newest) {
                return Ok(None); // it has just vanished
            }
        }
        Ok(None)
    }

    /// Loads the newest snapshot that is whole: it is read once to see that, then `load` is given its reader and must
    /// read to the end. One that turns out to be damaged is set aside and the next older one is tried.
    ///
    /// # Errors
    /// `load` failed for another reason than damage; the disk refuses.
    pub fn load_newest<T>(
        &self,
        mut load: impl FnMut(&Meta, &mut dyn Read) -> io::Result<T>,
    ) -> Result<Option<(Meta, T)>, WalError> {
        while let Some(meta) = self.newest() {
            let path = self.inner.path(meta.at, SUFFIX);
            // Before anything is loaded: 1. the last bytes of the only snapshot rot; 2. `load` takes its state over, and only
            // then the end does not fit; 3. the log, whole from its first entry, is applied to that state.
            let loaded = match self.inner.verify(&path).and_then(|_| self.inner.reader(&path)) {
                Ok(mut reader) => load(&meta, &mut reader).and_then(|t| reader.verify().map(|_| t)),
                Err(WalError::BadSnapshot { what, .. }) => Err(Bad::Bytes(what).into()),
                Err(e) => return Err(e),
            };
            match loaded {
                Ok(value) => return Ok(Some((meta, value))),
                Err(e) if is_damage(&e) => self.inner.set_aside(meta.at)?,
                Err(e) => return Err(WalError::io("loading", &path, e)),
            }
        }
        Ok(None)
    }

    /// Begins a snapshot of the own state. It becomes visible by [`SnapshotWriter::finish`], which may only be called
    /// once the log is durable up to `meta.at`: a snapshot beyond the log would leave a gap after a crash.
    ///
    /// # Errors
    /// The disk is full or refuses.
    pub fn writer(&self, meta: &Meta) -> Result<SnapshotWriter<D>, WalError> {
        SnapshotWriter::new(self.clone(), meta)
    }

    /// Begins a snapshot that comes from a peer, byte for byte as [`SnapshotStore::raw`] gives it there.
    ///
    /// # Errors
    /// The disk is full or refuses.
    pub fn stage(&self) -> Result<StagedWriter<D>, WalError> {
        StagedWriter::new(self.clone())
    }

    /// Makes a staged snapshot loadable. To be called once the core's `Purge` for it is durable.
    ///
    /// # Errors
    /// There is none; the disk refuses.
    pub fn accept(&self, at: LogId) -> Result<(), WalError> {
        let staged = self.inner.path(at, STAGED);
        let info = self.inner.info(&staged).map_err(|e| self.inner.absent(at, e))?;
        self.inner.publish(&staged, info)
    }

    /// Forgets a staged snapshot; one that is not there is fine.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn discard(&self, at: LogId) -> Result<(), WalError> {
        let path = self.inner.path(at, STAGED);
        match self.inner.disk.remove(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|e| WalError::io("removing", &path, e)),
        }
    }
}

impl<D: Disk> Inner<D> {
    fn list(&self) -> MutexGuard<'_, Vec<SnapshotInfo>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, at: LogId, suffix: &str) -> PathBuf {
        let LogId { epoch: Epoch { round, proposer }, index } = at;
        self.dir.join(format!("{:020}-{round:010}-{proposer:010}{suffix}", index.0))
    }

    pub(crate) fn staged_path(&self, at: LogId) -> PathBuf {
        self.path(at, STAGED)
    }

    /// A name that no other file has.
    pub(crate) fn temporary(&self) -> PathBuf {
        let mut next = self.next_temporary.lock().unwrap_or_else(PoisonError::into_inner);
        *next += 1;
        self.dir.join(format!("{next}{TEMPORARY}"))
    }

    fn recover(&self, base: LogId) -> Result<(), WalError> {
        let names = self.disk.list(&self.dir).map_err(|e| WalError::io("listing", &self.dir, e))?;
        for name in &names {
            let path = self.dir.join(name);
            if name.ends_with(TEMPORARY) {
                self.disk.remove(&path).map_err(|e| WalError::io("removing", &path, e))?;
            } else if let Some(at) = position(name, STAGED) {
                self.recover_staged(&path, at, base)?;
            }
        }
        let names = self.disk.list(&self.dir).map_err(|e| WalError::io("listing", &self.dir, e))?;
        for at in names.iter().filter_map(|n| position(n, SUFFIX)) {
            match self.info(&self.path(at, SUFFIX)) {
                Ok(info) => self.list().push(info),
                Err(WalError::BadSnapshot { .. }) => self.set_aside(at)?,
                Err(e) => return Err(e),
            }
        }
        self.list().sort_by_key(|i| (i.meta.at.index, i.meta.at.epoch));
        // The bytes were durable before they had their names; the names themselves may not have been.
        self.disk.sync_dir(&self.dir).map_err(|e| WalError::sync(&self.dir, e))
    }

    fn recover_staged(&self, path: &Path, at: LogId, base: LogId) -> Result<(), WalError> {
        let counts = at.index <= base.index || mutant!(WalStagedBelieved);
        let accepted = counts && at.index > Index::ZERO && self.verify(path).is_ok();
        if accepted {
            let to = self.path(at, SUFFIX);
            self.disk.rename(path, &to).map_err(|e| WalError::io("renaming", &to, e))
        } else {
            self.disk.remove(path).map_err(|e| WalError::io("removing", path, e))
        }
    }

    fn open_file(&self, path: &Path) -> Result<D::File, WalError> {
        self.disk.open(path).map_err(|e| WalError::io("opening", path, e))
    }

    fn reader(&self, path: &Path) -> Result<SnapshotReader<D::File>, WalError> {
        let file = self.open_file(path)?;
        let opened = SnapshotReader::open(file).map_err(|e| WalError::io("reading", path, e))?;
        let reader = opened.map_err(|bad| match bad {
            Bad::Bytes(what) => WalError::BadSnapshot { path: path.to_owned(), what },
            Bad::Version(found) => {
                let supported = crate::snapshot_format::VERSION;
                WalError::Version { path: path.to_owned(), found, supported }
            }
        })?;
        self.identity.check_cluster(reader.writer(), path)?;
        Ok(reader)
    }

    /// Header and size; nothing else is read.
    pub(crate) fn info(&self, path: &Path) -> Result<SnapshotInfo, WalError> {
        let meta = self.reader(path)?.meta().clone();
        let bytes = self.open_file(path)?.len().map_err(|e| WalError::io("measuring", path, e))?;
        Ok(SnapshotInfo { meta, bytes })
    }

    /// Reads the whole file back through a fresh handle.
    pub(crate) fn verify(&self, path: &Path) -> Result<SnapshotInfo, WalError> {
        let verified = self.reader(path)?.verify();
        verified.map_err(|e| {
            if is_damage(&e) {
                WalError::BadSnapshot {
                    path: path.to_owned(),
                    what: "it does not read back as it was written",
                }
            } else {
                WalError::io("reading back", path, e)
            }
        })?;
        self.info(path)
    }

    /// Gives a whole, durable file its name, durably, and forgets the oldest.
    pub(crate) fn publish(&self, from: &Path, info: SnapshotInfo) -> Result<(), WalError> {
        let to = self.path(info.meta.at, SUFFIX);
        self.disk.rename(from, &to).map_err(|e| WalError::io("renaming", &to, e))?;
        self.disk.sync_dir(&self.dir).map_err(|e| WalError::sync(&self.dir, e))?;
        let mut list = self.list();
        list.retain(|i| i.meta.at != info.meta.at);
        list.push(info);
        list.sort_by_key(|i| (i.meta.at.index, i.meta.at.epoch));
        let surplus = list.len().saturating_sub(self.options.keep.max(2));
        let gone: Vec<SnapshotInfo> = list.drain(..surplus).collect();
        drop(list);
        for old in gone {
            let path = self.path(old.meta.at, SUFFIX);
            self.disk.remove(&path).map_err(|e| WalError::io("removing", &path, e))?;
        }
        Ok(())
    }

    /// Takes a damaged snapshot out of the choice, but leaves it to be looked at, in the place of the one before.
    fn set_aside(&self, at: LogId) -> Result<(), WalError> {
        let (from, to) = (self.path(at, SUFFIX), self.path(at, DAMAGED));
        self.list().retain(|i| i.meta.at != at);
        self.disk.rename(&from, &to).map_err(|e| WalError::io("setting aside", &from, e))?;
        let names = self.disk.list(&self.dir).map_err(|e| WalError::io("listing", &self.dir, e))?;
        for name in names.iter().filter(|n| position(n, DAMAGED).is_some_and(|other| other != at)) {
            let path = self.dir.join(name);
            self.disk.remove(&path).map_err(|e| WalError::io("removing", &path, e))?;
        }
        Ok(())
    }

    fn absent(&self, at: LogId, e: WalError) -> WalError {
        match e {
            WalError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                WalError::NoSnapshot { at }
            }
            other => other,
        }
    }
}

/// The bytes of a snapshot file.
#[derive(Debug)]
pub struct RawReader<F> {
    file: F,
    offset: u64,
}

impl<F: DiskFile> Read for RawReader<F> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read_at(into, self.offset)?;
        self.offset += got as u64;
        Ok(got)
    }
}

fn is_damage(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

/// The position in a snapshot's name.
fn position(name: &str, suffix: &str) -> Option<LogId> {
    let mut parts = name.strip_suffix(suffix)?.split('-');
    let (index, round, proposer) = (parts.next()?, parts.next()?, parts.next()?);
    let epoch = Epoch { round: round.parse().ok()?, proposer: proposer.parse().ok()? };
    parts.next().is_none().then_some(LogId { epoch, index: Index(index.parse().ok()?) })
}
