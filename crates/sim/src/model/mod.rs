//! Exhaustive model checking of the real cores on small scopes, with stateright.
//!
//! Three replicas ([`replog::Replica`] around the production core), wires, disks and clocks form one state; everything
//! that can happen next is an action; the checker visits every state that a [`Scope`] lets them reach, each once.
//!
//! ```text
//!   World ──actions──► Deliver · Sync · Timeout · Propose · Crash · Restart · Notice · Lose · …
//!     ▲                    │
//!     └──── next state ◄───┘ steps one or two cores      print.rs: equal futures, equal print
//!                            (steps.rs: each step once)
//! ```
//!
//! Checked in every state:
//! * **agreement**: no index is applied with two values, restarts included;
//! * **election safety**: one leader per epoch, from Sync on (raft §5.2, zab-dsn11 §4.1, paxos-simple §2.4);
//! * **durability**: what anybody applied lies in the synced logs of a quorum, in every later state;
//! * the core's own invariants and assertions.
//!
//! And reached at least once, or the scope would prove nothing: a commit, a commit of a second epoch, one after a
//! crash that came after a commit, all commands chosen.
//!
//! What a scope leaves out: snapshots, reads, reconfiguration and transfers (the simulator has them), batches of more
//! than one input, random spreads of timers (a timer may fire at any moment instead), more than three nodes.

#![allow(clippy::indexing_slicing, clippy::panic)] // a checker: positions are its own, a panic is a verdict

mod explore;
mod node;
mod print;
mod report;
mod scope;
mod steps;
#[cfg(test)]
mod tests;
mod world;

pub use explore::{Cut, Limits, Outcome, check};
pub use node::Lie;
pub use report::{ModelArguments, Size, check_backend, run, switch_off};
pub use scope::{Modelled, Scope};
