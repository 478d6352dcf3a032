//! The durable log and the snapshots: the only code of Menagerie that formats bytes on disk.
//!
//! ```text
//!  log thread ─ append(ops) … append(ops) ─ sync ──► one pwrite, one fdatasync ──► "durable up to ticket t"
//!                                                        │
//!  readers ◄── WalReader (index in memory, pread) ◄── 0000000007.log  0000000008.log …   segments
//!  snapshot thread ──► SnapshotStore ──► <index>-<epoch>.snap                            checked by re-reading
//! ```
//!
//! * [`Wal`] implements `replog::LogStore`: one write stream, one frame per `Persist`, all or nothing, and after a
//!   crash the durable image is a prefix. `format.rs` has the bytes, `recovery.rs` the rules for what is torn and
//!   what is damaged.
//! * [`SnapshotStore`] keeps the newest snapshots, and received ones under a staging name until they are accepted.
//! * [`Disk`] is all that both know of the world: [`FileDisk`] in production, [`MemDisk`] (with power failures, torn
//!   writes, full disks and bit rot) in tests and in the simulator.
//!
//! Invariants:
//! * a segment is durable before the next one has a name, and begins with the hard state and the base;
//! * nothing is reported by `open` before it is synced: a killed process leaves bytes in the page cache that a power
//!   failure may still take;
//! * damage is reported, never cut: only what nobody was ever told of is cut;
//! * a failed sync ends the process. No function here tries again.

mod codec;
mod disk;
mod error;
#[cfg(feature = "faulty-disk")]
mod faulty_disk;
mod file_disk;
mod format;
mod identity;
mod index;
mod log;
mod mem_disk;
mod mem_state;
mod reader;
mod recovery;
mod reserve;
mod segment;
mod snapshot;
mod snapshot_format;
mod snapshot_writer;

pub use disk::{Disk, DiskFile};
pub use error::WalError;
#[cfg(feature = "faulty-disk")]
pub use faulty_disk::{CONTROL_VARIABLE, FaultyDisk, FaultyFile};
pub use file_disk::FileDisk;
pub use identity::Identity;
pub use log::{Counters, Wal, WalOptions};
pub use mem_disk::{Crash, MemDisk, MemFile, MemLock};
pub use reader::WalReader;
pub use snapshot::{RawReader, SnapshotInfo, SnapshotOptions, SnapshotStore};
pub use snapshot_format::{Meta, SnapshotReader};
pub use snapshot_writer::{SnapshotWriter, StagedWriter};
