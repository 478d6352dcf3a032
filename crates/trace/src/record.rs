//! The record format `menagerie.trace/1`: one JSON object per line, a header line first.
//!
//! ```json
//! {"format":"menagerie.trace/1","system":"menagerie","backend":"raft","seed":7,"commit":"07dbf9d","clock":"virtual"}
//! {"t":1500000,"node":1,"kind":"send","id":3,"peer":2,"type":"Vote","epoch":"4"}
//! {"t":1720000,"node":2,"kind":"recv","id":3,"peer":1,"type":"Vote","epoch":"4"}
//! ```
//!
//! Which fields a kind has (others may be there):
//!
//! | kind | fields |
//! |---|---|
//! | `send` | `peer`, `id`, `type`, `epoch`, `index` (last entry that rides along), `bytes`, `text` |
//! | `recv` | the same; `id` is the one of its `send` |
//! | `lost` | the same, and `cause`; `node` is the sender |
//! | `persist` | `ticket`, `index`, `bytes`, `text` |
//! | `durable` | `ticket` (all up to it) |
//! | `apply` | `epoch` and `index` of the last entry, `text` |
//! | `phase` | `epoch`, `role`, `type` (the phase), `peer` (the leader, if known), `commit` |
//! | `link_up`, `link_down` | `peer`, `cause` |
//! | `snapshot` | `type` (`taken`, `sent`, `received`, `installed`), `epoch` and `index` of its last entry, `peer` |
//! | `ignored` | `peer`, `cause` |
//! | `start`, `crash`, `fault`, `note` | `cause` |

use serde::{Deserialize, Serialize};

/// Name and version of the format.
pub const FORMAT: &str = "menagerie.trace/1";

/// First line of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: String,
    /// What was traced: `menagerie`.
    pub system: String,
    /// Its consensus protocol.
    pub backend: String,
    /// The seed that decided everything, if one did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seed: Option<u64>,
    /// Commit of the source, or version.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub commit: Option<String>,
    /// Whose time `t` is.
    pub clock: Clock,
    /// The node that wrote it, if it was one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub node: Option<u32>,
    /// ns since the Unix epoch at `t` = 0, by that node's wall clock: lets traces of several nodes be merged.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub began: Option<u64>,
}

impl Header {
    /// A header of this format; the rest is to be filled in.
    #[must_use]
    pub fn new(backend: &str, clock: Clock) -> Self {
        Self {
            format: FORMAT.to_owned(),
            system: "menagerie".to_owned(),
            backend: backend.to_owned(),
            seed: None,
            commit: None,
            clock,
            node: None,
            began: None,
        }
    }
}

/// Whose time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// The simulator's.
    Virtual,
    /// The node's monotonic clock.
    Monotonic,
}

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
    /// Ticket of a write, or of all up to it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ticket: Option<u64>,
    /// The event in full, in the golden scripts' notation: the message with its entries, the operations of a write.
    /// For eyes only; the other fields say what programs need.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub text: Option<String>,
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
