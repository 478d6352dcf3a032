//! The record format `menagerie.trace/1`: one JSON object per line, a header line first.

use serde::{Deserialize, Serialize};

/// Name and version of the format.
pub const FORMAT: &str = "menagerie.trace/1";

/// One event. Fields that do not apply are left out of the JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// ns since the trace began: virtual, or of the node's monotonic clock.
    pub t: u64,
    /// The node; 0: the world around it.
    pub node: u32,
    /// What kind of event.
    pub kind: Kind,
    /// Message id: unique among the sender's messages; a `recv` has the `id` of its `send`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<u64>,
    /// The other node.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub peer: Option<u32>,
    /// The protocol's name of the message, or of the effect.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// `round` or `round.proposer`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub epoch: Option<String>,
    /// Log index (the last one of several).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub index: Option<u64>,
    /// Bytes of the frame or write.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bytes: Option<u64>,
    /// Why: a constant reason, a fault, an error.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cause: Option<String>,
    /// Role of the node.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub role: Option<String>,
    /// Committed index of the node.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub commit: Option<u64>,
}

/// Kind of event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A frame left.
    Send,
    /// A frame was handed to the core.
    Recv,
    /// A frame was lost on the way.
    Lost,
    /// A write was handed to the log.
    Persist,
    /// It is durable.
    Durable,
    /// Entries were applied.
    Apply,
    /// Role, phase, epoch or leader changed.
    Phase,
    /// A link came up.
    LinkUp,
    /// A link went down.
    LinkDown,
    /// A snapshot was taken, sent, received or installed (`type`).
    Snapshot,
    /// Input was ignored.
    Ignored,
    /// The process started.
    Start,
    /// The process ended.
    Crash,
    /// A fault began or ended.
    Fault,
    /// A remark.
    #[default]
    Note,
}
