//! The driver: one replica's protocol core, log, peers and state machine on threads and sockets. It carries out
//! what [`replog::Replica`] asks for and decides nothing that a protocol decides.
//!
//! ```text
//!  peers ◄─ sockets ─► core thread ── writes ──► log thread ── durable(ticket) ─┐
//!  server ─ handle ─►  (Replica)   ── batches ─► apply thread ─► Application    │
//!                        ▲  └── reads, streams ► reader, snapshot threads        │
//!                        └───────────────────────────────────────────────────────┘
//! ```

mod application;
mod apply_thread;
mod carry;
mod codec;
mod config;
mod core_thread;
mod counters;
mod error;
mod handle;
mod handshake;
mod intake;
mod link;
mod log_thread;
mod mailbox;
mod node;
mod queue;
mod reader_thread;
mod snapshots;
mod storage;
pub mod story;
mod transport;
mod watchdog;

pub use application::{Application, Barrier, FrozenState, View};
pub use config::{NodeConfig, OnFatal, Peer, Secret};
pub use counters::{Counters, Traffic};
pub use error::{Fatal, StartError};
pub use handle::{Mail, NodeHandle};
pub use node::{Node, start, start_on};
pub use storage::{Keeping, Storage};
