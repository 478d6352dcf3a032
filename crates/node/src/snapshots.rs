//! Snapshots on their way: taken here, sent to peers, received from them.

use replog::{ConfigurationAt, Epoch, LogId, NodeId};

/// What the snapshot threads tell the core thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SnapshotEvent {
    /// The state at `at` is durable, and so is the log up to it.
    Taken { at: LogId },
    /// A whole, verified, synced snapshot is staged.
    Received { from: NodeId, epoch: Epoch, at: LogId, configurations: Vec<ConfigurationAt> },
    /// A transfer to a peer ended.
    Sent { to: NodeId, at: LogId, whole: bool },
}
