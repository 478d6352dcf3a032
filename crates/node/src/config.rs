//! What a node is told when it starts.

use crate::Fatal;
use replog::{Configuration, NodeId, ReadMode};
use std::fmt;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use wal::WalOptions;

/// Called when the node cannot go on; see [`Fatal`].
pub type OnFatal = Arc<dyn Fn(&Fatal) + Send + Sync>;

/// Another member of the ensemble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its id.
    pub id: NodeId,
    /// `host:port`, tried in order and resolved anew at every attempt: addresses of hosts change.
    pub addresses: Vec<String>,
}

/// A shared secret of the ensemble. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Any bytes; 32 random ones are best.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Everything that a node needs besides its protocol's options and its application.
pub struct NodeConfig {
    /// This node.
    pub id: NodeId,
    /// Name of the cluster, stamped on the data directory and checked in every handshake.
    pub cluster: u64,
    /// Where snapshots are kept. Created if missing.
    pub data_dir: PathBuf,
    /// Where the log is kept; `data_dir` if not given. A disk of its own makes fsyncs faster.
    pub log_dir: Option<PathBuf>,
    /// `host:port` to listen on for peers. Not used by an ensemble of one.
    pub listen: String,
    /// A socket that listens already, instead of `listen`.
    pub listener: Option<TcpListener>,
    /// The other members. Empty: an ensemble of one, which runs the same code.
    pub peers: Vec<Peer>,
    /// The members at first start. Later the log's and the snapshot's configurations count.
    pub configuration: Configuration,
    /// Whether this node may vote and count in quorums.
    ///
    /// Leave it true when an ensemble starts for the first time. Set it to false when this node's disk was lost
    /// while the others went on: it may have voted or acknowledged what it no longer knows, so it follows as a
    /// learner (reliability row 33, "amnesia") until the operator, knowing that it has caught up *and* that no
    /// epoch of its lost life is still being decided, sets it back; or a configuration change admits it.
    pub may_vote: bool,
    /// Seed of the core's randomness; from the operating system if not given.
    pub seed: Option<u64>,
    /// If given, peers prove in the handshake that they know it.
    pub secret: Option<Secret>,
    /// How read barriers are made.
    pub read_mode: ReadMode,
    /// Bytes of entries in one frame; as `Limits::frame_bytes` of the protocol's options.
    pub frame_bytes: u64,
    /// Largest frame accepted from a peer, and largest message sent to one. Must exceed the largest command by
    /// 1 KiB; a link that sees a larger one goes down.
    pub max_frame_bytes: u32,
    /// Entries applied between two snapshots: a random number between half of this and this (ZooKeeper's
    /// `snapCount`), so that not all replicas write one at the same time.
    pub snap_count: u64,
    /// Bytes of entries applied between two snapshots, with the same random factor.
    pub snap_bytes: u64,
    /// Snapshots kept, at least 2.
    pub snapshots_kept: u32,
    /// Sizes of the log's files.
    pub wal: WalOptions,
    /// A link on which nothing was sent for this long gets a ping.
    pub ping_interval: Duration,
    /// A link on which nothing was heard for this long is taken down and dialled again. Only a safety net for
    /// connections that died without a word; leaders are watched by the protocol's own, shorter timeouts.
    pub link_timeout: Duration,
    /// First and longest wait between two attempts to dial, each with ± 50 % jitter.
    pub dial_backoff: (Duration, Duration),
    /// How long a connection may take to be made and to shake hands.
    pub handshake_timeout: Duration,
    /// How long a graceful shutdown waits for another leader.
    pub shutdown_wait: Duration,
    /// Where the node tells what it does, frame by frame. `None` costs nothing.
    pub trace: Option<trace::Recorder>,
    /// Called on the failing thread before the node stops. The default logs and aborts the process: after a failed
    /// write or fsync nothing that this process believes about its disk can be trusted.
    pub on_fatal: OnFatal,
}

impl NodeConfig {
    /// A node with the default figures.
    #[must_use]
    pub fn new(id: NodeId, data_dir: PathBuf, configuration: Configuration) -> Self {
        Self {
            id,
            cluster: 0,
            data_dir,
            log_dir: None,
            listen: String::new(),
            listener: None,
            peers: Vec::new(),
            configuration,
            may_vote: true,
            seed: None,
            secret: None,
            read_mode: ReadMode::default(),
            frame_bytes: 256 << 10,
            max_frame_bytes: 16 << 20,
            snap_count: 100_000,
            snap_bytes: 1 << 30,
            snapshots_kept: 3,
            wal: WalOptions::default(),
            ping_interval: Duration::from_secs(1),
            link_timeout: Duration::from_secs(4),
            dial_backoff: (Duration::from_millis(20), Duration::from_secs(1)),
            handshake_timeout: Duration::from_secs(5),
            shutdown_wait: Duration::from_secs(2),
            trace: None,
            on_fatal: Arc::new(abort),
        }
    }
}

impl fmt::Debug for NodeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeConfig")
            .field("id", &self.id)
            .field("cluster", &self.cluster)
            .field("data_dir", &self.data_dir)
            .field("peers", &self.peers)
            .field("may_vote", &self.may_vote)
            .finish_non_exhaustive()
    }
}

fn abort(fatal: &Fatal) {
    tracing::error!(%fatal, "stopping");
    // The subscriber may be gone or filtered: the last word goes to standard error as well.
    eprintln!("menagerie: {fatal}; stopping");
    std::process::abort()
}
