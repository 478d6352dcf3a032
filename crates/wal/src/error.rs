//! What can go wrong, whose fault it is, and what to do.

use replog::NodeId;
use std::io;
use std::path::PathBuf;

/// An error of the log or of the snapshot store.
///
/// After any error but [`WalError::DiskFull`] nothing more may be written and the process must end: what a failed
/// write or sync left on the disk is unknown until the next start reads it back.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The disk (or a quota) is full. Nothing of the refused call is visible, nothing written earlier is lost.
    /// Make room (see [`crate::Wal::release_reserve`]) and call again.
    #[error("disk full while {doing} {path}: free some space; the log goes on by itself", path = path.display())]
    DiskFull {
        /// What was being done.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
    },
    /// The disk refused. Its fault; end the process, look at the system's log.
    #[error("{doing} {path}: {source}", path = path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// A sync failed: what was written since the last one may be lost although the kernel calls it clean. End the
    /// process; never try again.
    #[error("sync of {path} failed, writes may be lost: {source}", path = path.display())]
    Sync {
        /// Which file or directory.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// An earlier error left the log in an unknown state and the caller went on. The caller's fault.
    #[error("the log failed earlier and must be opened anew")]
    Failed,
    /// Another process uses the directory. Stop it, or choose another directory.
    #[error("{path} is in use by another process", path = path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The directory was written by another protocol. Start with that protocol, or with an empty directory.
    #[error("{path} belongs to protocol {found}, this server runs {expected}", path = path.display())]
    ForeignProtocol {
        /// Which file.
        path: PathBuf,
        /// Its stamp.
        found: String,
        /// This process.
        expected: String,
    },
    /// The directory belongs to another cluster. Check the data directory.
    #[error("{path} belongs to cluster {found:016x}, this server to {expected:016x}", path = path.display())]
    ForeignCluster {
        /// Which file.
        path: PathBuf,
        /// Its stamp.
        found: u64,
        /// This process.
        expected: u64,
    },
    /// The directory belongs to another server: a cloned disk, or a wrong `myid`. Two servers with one history
    /// would vote twice.
    #[error("{path} belongs to server {found}, this is server {expected}", path = path.display())]
    ForeignNode {
        /// Which file.
        path: PathBuf,
        /// Its stamp.
        found: NodeId,
        /// This process.
        expected: NodeId,
    },
    /// A format that this version cannot read. Use a newer version.
    #[error("{path} has format version {found}, this program reads {supported}", path = path.display())]
    Version {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The highest one known.
        supported: u32,
    },
    /// A segment is missing between others: somebody removed a file. Restore it, or let the server rejoin empty.
    #[error("{path} is missing although later segments exist", path = path.display())]
    MissingSegment {
        /// The file that should be there.
        path: PathBuf,
    },
    /// The newest hard state is damaged, so the last promise or vote is unknown. The replica may not take part as a
    /// voter before a configuration change admits it again: move the directory away and let it rejoin.
    #[error("{path}: the newest records are damaged and the last vote is unknown", path = path.display())]
    HardStateLost {
        /// The file that should hold it.
        path: PathBuf,
    },
    /// One write is larger than a segment can ever be. The caller's fault.
    #[error("a write of {bytes} bytes is larger than the limit of {limit}")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A snapshot is not there (any more).
    #[error("there is no snapshot at {at}")]
    NoSnapshot {
        /// Which one.
        at: replog::LogId,
    },
    /// A snapshot's bytes are damaged or incomplete. Use an older one, or fetch one from a peer.
    #[error("{path}: {what}", path = path.display())]
    BadSnapshot {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
}

impl WalError {
    /// Whether the call may be repeated once there is room on the disk.
    #[must_use]
    pub const fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull { .. })
    }

    pub(crate) fn io(doing: &'static str, path: &std::path::Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if crate::disk::is_full(&source) {
            Self::DiskFull { doing, path }
        } else {
            Self::Io { doing, path, source }
        }
    }

    pub(crate) fn sync(path: &std::path::Path, source: io::Error) -> Self {
        Self::Sync { path: path.to_owned(), source }
    }
}
