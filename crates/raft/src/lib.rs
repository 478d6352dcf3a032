//! Raft as a sans-IO state machine behind the replicated-log contract.
//!
//! Sources: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm (Extended Version)", 2014
//! (`raft §…`), and Ongaro's thesis, "Consensus: Bridging Theory and Practice", 2014 (`raft-thesis §…`).
//!
//! | ours | Raft |
//! |---|---|
//! | `Epoch` | term (`proposer` is 0) |
//! | `promised`, `voted_for` | currentTerm, votedFor |
//! | `established` | not used |
//! | `LogId` | (term, index) |
//! | propose / acknowledge / commit / apply | AppendEntries / reply / commitIndex / apply |
//! | `Role::Electing` | follower without a leader, pre-candidate, candidate |
//! | `Phase::Election` | timeout, pre-vote |
//! | `Phase::Discovery` | RequestVote round |
//! | `Phase::Sync` | first probe until the term's no-op commits; for a follower, until it is level |
//! | `Phase::Broadcast` | steady replication |
//! | read barrier | ReadIndex, lease |
//!
//! Where to look: votes `election`, `discovery`; log matching `sync`; counting and pipelining `broadcast`;
//! leadership transfer and CheckQuorum `transfer`; what must hold `invariant`.
//!
//! A step takes a whole batch, then runs the timers, then emits: at most one `Persist`, per peer one ungated append
//! per frame's worth and one gated acknowledgement, then the commit. Safe under loss, repetition and reordering.

#![no_std]
#![warn(missing_docs)]

extern crate alloc;

mod broadcast;
mod discovery;
mod election;
mod invariant;
mod log;
mod membership;
mod message;
mod open;
mod options;
mod progress;
mod read;
mod snapshot;
mod state;
mod step;
mod sync;
mod transfer;
mod writes;

pub use message::Message;
pub use options::Options;
pub use state::Raft;
