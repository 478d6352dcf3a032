//! The ZooKeeper-compatible server: configuration, client port, sessions, watches, forwarding, expiry.
//!
//! ```text
//!  zoo.cfg, flags ─► config ─► run ─┬─► node::start::<zab | raft | paxos>  (peers, log, snapshots)
//!                                   └─► service::listen                     (clients)
//! ```
//!
//! The protocol is chosen here and nowhere below: by cargo feature what is compiled in, by `consensus` what runs. All
//! else in this crate is the same code for every protocol (contract point 11).

#[cfg(not(any(feature = "zab", feature = "raft", feature = "paxos")))]
compile_error!("no consensus protocol is compiled in: enable at least one of the features zab, raft, paxos");

pub mod config;
mod consensus;
pub mod demo;
mod environment;
pub mod expiry;
pub mod forwarder;
mod fourletter;
mod reports;
mod run;
pub mod service;
mod stats;

pub use consensus::{Consensus, Variant};
pub use environment::{Environment, Virtual};
pub use run::{Running, run};
