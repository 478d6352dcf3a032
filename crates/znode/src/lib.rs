//! The deterministic ZooKeeper state machine, and the watch tables beside it. It never learns which protocol runs.
//!
//! ```text
//!  committed entry ─► Machine::apply ─► Applied { zxid, outcome, changes }
//!                                            changes ─► WatchTables::fire ─► events     (before any later reply)
//!                                            outcome ─► reply of the server whose request it was
//!  client read ─────► Machine::{data, exists, children, …}
//!  snapshot ────────► Machine::clone (cheap) ─► write_snapshot on another thread
//! ```
//!
//! Two replicas that applied the same entries have the same state, digest and snapshot bytes. The watch tables are
//! not part of that: they belong to one server and one process run.

pub mod acl;
pub mod command;
mod cow;
mod digest;
mod index;
mod machine;
pub mod mutant;
mod ops;
pub mod outcome;
pub mod path;
mod read;
mod session;
mod slab;
mod snapshot;
#[cfg(test)]
mod testing;
mod tree;
pub mod watch;
pub mod zxid;

pub use acl::{AclRef, Identities, digest_id};
pub use command::{Command, CommandError, Decision, Origin, Request, ServerId, Settings};
pub use machine::{At, Machine};
pub use outcome::{Applied, Change, ChangeKind, OpReply, Outcome, Reply, Void};
pub use read::{Children, Counts};
pub use session::{Session, Stream};
pub use snapshot::SnapshotError;
pub use tree::Owner;
pub use watch::{ConnectionId, WatchCounts, WatchTables};
pub use zxid::{Epoch, ZxidFold};
