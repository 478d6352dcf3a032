//! One test per claim of the Raft paper and thesis, and per trap, as schedules carried out by hand.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // helpers of tests; a panic is the verdict

mod corners;
mod hostile;
mod lab;
mod reads;
mod safety;
mod snapshots;
mod thesis;
mod traps;
