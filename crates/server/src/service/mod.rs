//! The service: clients on one side, the replicated state machine on the other.
//!
//! ```text
//!  listener.rs ─► task.rs ─► pipeline.rs ─┬─ reads ──► reads.rs (under the state's read lock) ─► connection.rs ─► socket
//!                   │                     └─ writes ─► Forwarder ─► leader                          ▲
//!                   └─► session.rs (connect, attach, close)                                         │
//!  node's apply thread ─► apply.rs: Machine::apply ─► WatchTables::fire ─► replies, waiting reads ──┘
//!  node's core thread ──► hooks.rs: views, links, peers' messages, barriers (hands over, never waits)
//!  every 100 ms ────────► upkeep.rs: expiry, touches, lost contact, sending again
//! ```
//!
//! Locks, in the order in which they may be taken: `state` → `watches` → `registry` → a connection. `forwarder`, `expiry`,
//! `reports`, `barriers`, `route` and `links` are leaves: nothing is locked under them but the node's mailbox. The core thread takes
//! leaves and single connections only, which nobody holds during a system call; to apply a few entries it takes the state
//! if nobody has it (`try_write`), and then, as the apply thread does, what lies below.

mod apply;
mod connection;
mod hooks;
mod listener;
mod outlet;
mod peer_message;
mod pipeline;
mod reads;
mod registry;
mod session;
mod task;
mod turns;
mod upkeep;
mod virtual_client;
#[cfg(test)]
mod virtual_tests;
mod words;

use crate::config::Config;
use crate::environment::Environment;
use crate::expiry::Expiry;
use crate::forwarder::{Codec, Forwarder, Millis};
use crate::reports::Reports;
use crate::stats::Stats;
use bytes::{Bytes, BytesMut};
use connection::Connection;
use node::NodeHandle;
use parking_lot::{Mutex, RwLock};
use registry::Registry;
use replog::{Epoch, NodeId};
use session::SessionIds;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use znode::{Command, Machine, Origin, WatchTables};

pub use listener::{Listening, listen};
pub use virtual_client::VirtualClient;

/// Bytes of commands in one message to the leader.
const FORWARD_BYTES: usize = 192 << 10;

/// See the module. One per process.
#[derive(Debug)]
pub struct Service {
    config: Config,
    environment: Environment,
    me: NodeId,
    started: Instant,
    handle: OnceLock<NodeHandle>,
    state: RwLock<Machine>,
    watches: Mutex<WatchTables>,
    registry: RwLock<Registry>,
    forwarder: Mutex<Forwarder<Taker, Commands>>,
    expiry: Mutex<Expiry>,
    barriers: Mutex<Barriers>,
    /// The reign in which requests can be sent to a leader.
    route: Mutex<Option<(Epoch, NodeId)>>,
    /// Peers with a link.
    links: Mutex<BTreeSet<NodeId>>,
    /// Lowest index that a passed barrier waits for; `u64::MAX` for none.
    awaited: AtomicU64,
    session_ids: SessionIds,
    reports: Mutex<Reports>,
    stats: Stats,
}

/// Who waits for a request in the forwarder.
#[derive(Debug)]
enum Taker {
    /// A client's write: the front of that connection's queue.
    Write(Arc<Connection>),
    /// A connection that wants a session.
    Connect(Box<session::Connecting>),
}

/// Read barriers under way.
#[derive(Debug, Default)]
struct Barriers {
    next: u64,
    waiting: HashMap<u64, Arc<Connection>>,
    /// Refused for want of a leader: asked again by `upkeep`.
    refused: Vec<u64>,
    /// Passed, but their index is not applied yet.
    passed: Vec<(u64, Arc<Connection>)>,
}

/// How this server's commands are encoded.
#[derive(Debug)]
struct Commands {
    server: u32,
}

impl Codec for Commands {
    fn open(&self, nonce: u64) -> Bytes {
        encode(&Command::OpenStream { server: self.server, nonce })
    }

    fn renumber(&self, command: &Bytes, stream: u64, number: u64) -> Bytes {
        match Command::decode(command) {
            Ok(Command::Request { request, .. }) => {
                let origin = Origin { server: self.server, stream, number };
                encode(&Command::Request { origin, request })
            }
            // Only requests that this process encoded are taken.
            other => panic!("{}: a taken command is no request: {other:?}", self.server),
        }
    }
}

/// A command in a buffer of its own.
fn encode(command: &Command) -> Bytes {
    let mut out = BytesMut::new();
    command.encode(&mut out);
    out.freeze()
}

impl Service {
    /// A service with an empty state. It serves once a node runs it and [`listen`] was called.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn new(config: Config) -> std::io::Result<Arc<Self>> {
        Self::with(config, Environment::System)
    }

    /// The same with another clock and other chance.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn with(config: Config, environment: Environment) -> std::io::Result<Arc<Self>> {
        let me = NodeId(config.id);
        let mut nonce = [0; 8];
        environment.fill(&mut nonce)?;
        let nonce = u64::from_be_bytes(nonce);
        let forwarder = Forwarder::new(Commands { server: me.0 }, nonce);
        Ok(Arc::new(Self {
            me,
            started: environment.now(),
            handle: OnceLock::new(),
            state: RwLock::default(),
            watches: Mutex::default(),
            registry: RwLock::default(),
            forwarder: Mutex::new(forwarder),
            expiry: Mutex::new(Expiry::new(config.tick_ms)),
            reports: Mutex::new(Reports::new(nonce)),
            barriers: Mutex::default(),
            route: Mutex::default(),
            links: Mutex::default(),
            awaited: AtomicU64::new(u64::MAX),
            session_ids: SessionIds::new(me.0, environment.wall()),
            stats: Stats::new(),
            environment,
            config,
        }))
    }

    /// Ms since the service was made.
    fn now(&self) -> Millis {
        u64::try_from(self.environment.since(self.started).as_millis()).unwrap_or(u64::MAX)
    }

    /// The replicated state's digest: equal on all servers that applied the same entries.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.state.read().digest()
    }

    /// The last zxid and the digest after it, read together.
    #[must_use]
    pub fn fingerprint(&self) -> (i64, u64) {
        let state = self.state.read();
        (state.last_zxid(), state.digest())
    }

    /// Whether this server follows, or is, a leader that takes requests.
    fn is_serving(&self) -> bool {
        self.route.lock().is_some()
    }

    /// Hands the forwarder's commands to the leader. The forwarder stays locked meanwhile: commands must reach the
    /// leader's queue in the order of their numbers.
    fn forward(&self, forwarder: &mut Forwarder<Taker, Commands>) {
        let Some(handle) = self.handle.get() else { return };
        while let Some(outgoing) = forwarder.poll(FORWARD_BYTES) {
            if outgoing.to == self.me {
                handle.propose(outgoing.commands);
            } else {
                handle.send(outgoing.to, peer_message::forward(&outgoing.commands));
            }
        }
    }

    /// Takes a request for the log. The caller has put whoever waits for it where the answer will look.
    fn take(&self, taker: Taker, request: znode::Request) {
        let mut forwarder = self.forwarder.lock();
        let (stream, number) = forwarder.next();
        let origin = Origin { server: self.me.0, stream, number };
        forwarder.take(taker, encode(&Command::Request { origin, request }));
        self.forward(&mut forwarder);
    }
}
