//! Async client for ZooKeeper's protocol.
//!
//! One session lives in one task; handles are cheap clones that talk to it over a channel.
//!
//! ```text
//!  Client ──requests──► session task ──frames──► server a │ b │ c     one at a time, the next one after a loss
//!    ▲                     │    │
//!    └── replies ──────────┘    └── events ──► event thread ──► watchers, one call at a time
//!
//!           connected                lost                       refused with timeout 0
//!  (start) ──────────► Connected ─────────► Disconnected ──────────────────────────────► Expired
//!                          ▲────────────────────┘ id, password, last zxid, setWatches
//! ```
//!
//! What holds:
//! * Requests of one session are carried out in the order of [`Client::submit`]; any number may be under way.
//! * A request that was sent and not answered when the connection broke ends with [`Error::ConnectionLoss`]: nobody
//!   knows whether it was carried out. Nothing is ever sent twice.
//! * Events reach the watchers in zxid order and before any reply that shows the change is handed out; watchers are
//!   called one after the other, so that a slow one delays the next (requirement S16).
//! * A watcher is called at most once per registration; a watcher registered twice on a node is one (S13, S14).
//! * Both sides give sign of life: a ping after a third of the session's timeout without a request, and the
//!   connection is given up after two thirds without a word from the server (S6).

mod error;
mod handle;
mod servers;
mod session;
mod watches;

pub use error::Error;
pub use handle::{Client, Options, Pending};
pub use jute::{Acl, CreateMode, EventType, KeeperState, MultiOp, OpResult, Request, Response, Stat};
pub use watches::{Event, Watcher};

/// What most calls return.
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(test)]
mod tests;
