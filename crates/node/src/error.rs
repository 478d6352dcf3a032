//! Why a node does not start, and why it stops.

use replog::{LogId, NodeId};
use std::io;
use std::path::PathBuf;
use wal::WalError;

/// Why a node does not start. Nothing was changed on disk unless a variant says so.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Operator: the data directory belongs to another protocol, cluster or server.
    #[error(transparent)]
    Identity(WalError),
    /// Disk: the log or a snapshot could not be read or written; or another process uses the directory.
    #[error(transparent)]
    Storage(WalError),
    /// Operator: there are snapshots but no log, so this node forgot what it voted for. If the log is lost for good,
    /// start with `may_vote = false`: the node follows as a learner.
    #[error("{dir} holds no log although there are snapshots: what this node voted for is lost", dir = dir.display())]
    LogLost {
        /// Where the log should be.
        dir: PathBuf,
    },
    /// Disk: the log begins after every snapshot that can be read. Start this node with an empty directory and
    /// `may_vote = false`; it fetches the state from the others.
    #[error("no readable snapshot covers {base}, where the log begins")]
    SnapshotLost {
        /// Base of the log.
        base: LogId,
    },
    /// Operator: the address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which address.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Operator: the configuration contradicts itself.
    #[error("configuration: {0}")]
    Config(String),
    /// System: a thread or the runtime could not be made.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

/// Why a running node stops.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// Disk: an append or an fsync failed, or the disk is full. What the page cache holds can no longer be trusted.
    #[error("{node}: the log cannot be written: {reason}")]
    Log {
        /// This node.
        node: NodeId,
        /// What failed.
        reason: String,
    },
    /// Disk, or a snapshot that verified but does not decode: the state at `at` cannot be installed.
    #[error("{node}: snapshot {at} cannot be installed: {reason}")]
    Install {
        /// This node.
        node: NodeId,
        /// Which snapshot.
        at: LogId,
        /// What failed.
        reason: String,
    },
    /// Bug, or a system that hangs: the core thread did not finish a turn for ten seconds.
    #[error("{node}: the core thread is stuck")]
    Stalled {
        /// This node.
        node: NodeId,
    },
    /// Bug: a thread panicked.
    #[error("{node}: the {thread} thread panicked")]
    Panicked {
        /// This node.
        node: NodeId,
        /// Which thread.
        thread: &'static str,
    },
}

impl From<WalError> for StartError {
    fn from(e: WalError) -> Self {
        match e {
            WalError::ForeignProtocol { .. }
            | WalError::ForeignCluster { .. }
            | WalError::ForeignNode { .. } => Self::Identity(e),
            _ => Self::Storage(e),
        }
    }
}
