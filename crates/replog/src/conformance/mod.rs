//! A virtual cluster of [`crate::Replica`]s, and the suite that every backend must pass.
//!
//! [`Cluster`] runs real cores, real outboxes and a modelled disk and network on virtual time from one seed:
//! the same seed gives the same run. It checks after every step what no protocol may break:
//!
//! * **agreement**: every replica applies the same entry at an index, for ever, restarts included;
//! * **prefix**: applied indexes are contiguous, snapshots equal the state that was applied elsewhere;
//! * **durability**: after a power loss a replica holds a prefix of its write stream no shorter than what was synced;
//! * **reigns**: an epoch is led once, its leader holds all that was chosen before, and an id names one value;
//! * **freshness**: a passed read barrier covers everything applied anywhere when it was asked;
//! * the core's own invariants ([`crate::ReplicatedLog::check`]).
//!
//! Use [`conformance_suite!`](crate::conformance_suite) in a backend's `tests/conformance.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // test support: panics are its verdicts

mod cluster;
mod corners;
mod disk;
mod drive;
mod events;
mod host;
mod invariants;
mod ledger;
mod network;
mod random;
mod storm;
mod suite;

pub use cluster::{Cluster, ClusterOptions};
pub use corners::corner_run;
pub use disk::{Crash, DiskImage, MemoryDisk};
pub use ledger::{Counters, Ledger, State};
pub use network::{Network, NetworkOptions};
pub use random::{KeepEntries, RandomReport, random_run};
pub use storm::storm_run;
pub use suite::*;
