//! The replicated-log contract: what a consensus core is to the rest of Menagerie.
//!
//! A core is a pure state machine behind [`ReplicatedLog`]: batches of [`Input`]s in, one ordered list of
//! [`Effect`]s out. It has no clock, no threads, no IO, no randomness but its seed, and never looks inside a
//! command. `#![no_std]` is the mechanical proof. [`Replica`] is the pure half of every driver: it owns the core,
//! the [`Outbox`] and the recent entries, and turns effects into work lists (writes, frames, committed spans)
//! that the tokio driver in `node`, the simulator and the conformance suite carry out in the same way.
//!
//! ```text
//!            inputs                    effects
//!  peers ───────────┐            ┌──► writes ──► log thread ──► Persisted(ticket) ─┐
//!  clients ─────────┤►  core  ───┤──► frames ──► Outbox (waits for tickets) ──► peers │
//!  log thread ──────┘            └──► committed span ──► apply thread               │
//!       ▲─────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Invariants (each has a schedule in the comment at the line that keeps it):
//! * what a message says about its sender waits for the write that makes it true (`Send::after`);
//! * the durable image of a log is always a prefix of its write stream;
//! * `Commit { upto }` covers only positions that hold the chosen value *in this replica's log*;
//! * `HardState::committed` is a hint that lags and never leads.

#![cfg_attr(not(any(test, feature = "conformance")), no_std)]
#![warn(missing_docs)]

extern crate alloc;

mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
mod contract;
mod effects;
mod entry;
mod ids;
pub mod mutant;
mod outbox;
mod recent;
mod replica;
mod rng;
mod store;

pub use config::{Configuration, ConfigurationAt, QuorumPhase, QuorumRule, Voter};
pub use contract::{
    Guarantees, Input, Limits, Message, Phase, ReadMode, Refusal, ReplicatedLog, Role, Room, Setup, Status,
    Timing, Violation,
};
pub use effects::{Effect, Effects};
pub use entry::{Body, Entry, EntryMeta, HardState, LogOp, Span};
pub use ids::{Epoch, Index, LogId, NodeId, Stamp, Ticket, Time, Token};
pub use outbox::{Frame, LinkState, Outbox, OutboxStats};
pub use recent::Recent;
pub use replica::{Committed, Notice, ReadRequest, Replica, Write};
pub use rng::Rng;
pub use store::{LogReader, LogStore, Missing, Recovered};
