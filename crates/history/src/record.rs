//! The record format `menagerie.history/1`: one JSON object per line, the header first.

use serde::{Deserialize, Serialize};

/// Name and version of the format; the first field of the first line.
pub const FORMAT: &str = "menagerie.history/1";

/// One recorded run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// About the run.
    pub header: Header,
    /// In the order of `at_us`; at equal times in the order in which they happened.
    pub events: Vec<Event>,
}

/// About a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: String,
    /// What was run, e.g. `menagerie raft` or `zookeeper 3.8.0`.
    pub system: String,
    /// The seed that decided the run, if one did.
    pub seed: Option<u64>,
    /// The commit of the code that ran.
    pub commit: Option<String>,
    /// Whether a read's reply names exactly the zxid of the state that was read (Menagerie), or a later one
    /// (ZooKeeper reads first and looks at its zxid afterwards).
    pub exact_reads: bool,
    /// Whether a `sync` makes the next read see every write acknowledged before it (ZooKeeper: not with two leaders).
    pub strict_sync: bool,
    /// ms of a tick: sessions live up to their timeout and this much more.
    pub tick_ms: u64,
    /// ms of the longest election timeout (Tₑ).
    pub election_ms: u64,
}

/// One thing that a client did or saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// µs since the run began.
    pub at_us: u64,
    /// The client; 0 is the one who runs the show.
    pub client: u32,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// What a client did or saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// It has a session on this server.
    Connected {
        /// The session.
        session: i64,
        /// Id of the server.
        server: u32,
        /// Negotiated.
        timeout_ms: u64,
        /// False: the session is new.
        resumed: bool,
        /// Last zxid that the client had seen and told the server.
        seen: i64,
    },
    /// A server closed the connection instead of answering the connect request.
    Refused {
        /// The server.
        server: u32,
        /// Last zxid that the client had seen and told the server.
        seen: i64,
    },
    /// Its connection ended. Every call without an answer has become [`What::Unknown`] before.
    Disconnected,
    /// A server said that the session is over.
    Expired {
        /// The session.
        session: i64,
    },
    /// The client process stopped: it neither sends heartbeats nor reads, until [`What::Continued`].
    Stopped,
    /// It goes on.
    Continued,
    /// A ping that was sent at `sent_us` was answered.
    Ping {
        /// The session.
        session: i64,
        /// When it was sent.
        sent_us: u64,
    },
    /// It asked. Calls of one session are answered in the order of their invocations.
    Invoke {
        /// Unique in the history.
        call: u64,
        /// The session.
        session: i64,
        /// What it asked for.
        op: Op,
    },
    /// It was answered.
    Return {
        /// Of this call.
        call: u64,
        /// zxid of the reply's header.
        zxid: i64,
        /// How it ended.
        outcome: Outcome,
    },
    /// It will not be answered: it may or may not have been carried out.
    Unknown {
        /// Of this call.
        call: u64,
    },
    /// A watch event arrived.
    Watch {
        /// The session.
        session: i64,
        /// zxid of the event's header.
        zxid: i64,
        /// Kind of event.
        kind: EventKind,
        /// Path.
        path: String,
    },
    /// A fault began or ended (client 0).
    Fault {
        /// In words.
        text: String,
    },
    /// Every fault is over (client 0): what follows is the liveness phase.
    Healed,
    /// The run's end (client 0): the reads that follow, one per server and path, after a `sync`, show the final state.
    Final,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    /// create, create2, createContainer, createTTL.
    Create {
        /// Path as asked for (a sequential one without its number).
        path: String,
        /// Content.
        data: String,
        /// Kind of node.
        mode: CreateMode,
    },
    /// delete.
    Delete {
        /// Path.
        path: String,
        /// Expected version; −1: any.
        version: i32,
    },
    /// setData.
    Set {
        /// Path.
        path: String,
        /// Content.
        data: String,
        /// Expected version; −1: any.
        version: i32,
    },
    /// check; only within a multi.
    Check {
        /// Path.
        path: String,
        /// Expected version; −1: any.
        version: i32,
    },
    /// getData.
    Get {
        /// Path.
        path: String,
        /// Arms a one-shot data watch.
        watch: bool,
    },
    /// exists.
    Exists {
        /// Path.
        path: String,
        /// Arms a one-shot watch: of data if it exists, else of its creation.
        watch: bool,
    },
    /// getChildren2.
    Children {
        /// Path.
        path: String,
        /// Arms a one-shot child watch.
        watch: bool,
    },
    /// sync.
    Sync {
        /// Path.
        path: String,
    },
    /// multi.
    Multi {
        /// Create, Delete, Set, Check.
        ops: Vec<Op>,
    },
    /// addWatch.
    AddWatch {
        /// Path.
        path: String,
        /// Mode.
        mode: WatchMode,
    },
    /// setWatches, setWatches2: what a client sends after a reconnect.
    SetWatches {
        /// Last zxid that the client has seen.
        relative: i64,
        /// One-shot data watches.
        data: Vec<String>,
        /// One-shot watches of nodes that did not exist.
        exist: Vec<String>,
        /// One-shot child watches.
        child: Vec<String>,
        /// Persistent watches.
        persistent: Vec<String>,
        /// Persistent recursive watches.
        recursive: Vec<String>,
    },
    /// closeSession.
    Close,
}

/// Kind of node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CreateMode {
    /// Stays.
    #[default]
    Persistent,
    /// Goes with its session.
    Ephemeral,
    /// Its name gets a number.
    PersistentSequential,
    /// Both.
    EphemeralSequential,
}

/// Mode of addWatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WatchMode {
    /// This node: data and children.
    Persistent,
    /// This node and everything below: no child events.
    Recursive,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Carried out.
    Ok(Reply),
    /// Refused with this error code of the protocol (negative).
    Error(i32),
}

/// What a successful call returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// delete, check, sync, addWatch, setWatches, closeSession.
    Nothing,
    /// create.
    Created {
        /// Its path, with the number if sequential.
        path: String,
        /// Its stat, if the request asked for it.
        stat: Option<Stat>,
    },
    /// setData, exists.
    Stat(Stat),
    /// getData.
    Data {
        /// Content.
        data: String,
        /// Stat.
        stat: Stat,
    },
    /// getChildren2.
    Children {
        /// Names, in any order.
        names: Vec<String>,
        /// Stat of the parent.
        stat: Stat,
    },
    /// multi: one for each of its operations.
    Multi(Vec<Outcome>),
}

/// ZooKeeper's Stat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "ZooKeeper's own names")]
pub struct Stat {
    pub czxid: i64,
    pub mzxid: i64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    pub cversion: i32,
    pub aversion: i32,
    pub ephemeral_owner: i64,
    pub data_length: i32,
    pub num_children: i32,
    pub pzxid: i64,
}

/// Kind of watch event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The node was created.
    Created,
    /// The node was deleted.
    Deleted,
    /// Its data was set.
    DataChanged,
    /// A child was created or deleted.
    ChildrenChanged,
}
