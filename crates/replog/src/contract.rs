//! The trait that every protocol implements, its inputs, and what it reports.

use crate::{
    Configuration, ConfigurationAt, Effects, Entry, EntryMeta, Epoch, HardState, Index, LogId, NodeId, Span,
    Stamp, Ticket, Time, Token,
};
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt::Debug;
use core::hash::Hash;
use core::time::Duration;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// A consensus core: a pure state machine.
///
/// A run is `seed + [(time, batch)]`: the same inputs give the same effects, bit for bit.
pub trait ReplicatedLog: Sized + Clone + Eq + Hash + Debug {
    /// What replicas say to each other.
    type Message: Message;
    /// The protocol's switches; `Default` is the hardened protocol with the default [`Timing`] and [`Limits`].
    type Options: Clone + Debug + Default + PartialEq + Eq + Hash;
    /// Lower-case name: `zab`, `raft`, `paxos`. Also the stamp of a data directory.
    const NAME: &'static str;
    /// What it offers and what it asks of links.
    const GUARANTEES: Guarantees;

    /// Starts from what is durable. May already ask for effects (a commit of what is known committed, timers).
    fn open(setup: Setup<Self::Options>, now: Time, out: &mut Effects<Self::Message>) -> Self;

    /// Takes everything that has arrived (drains `batch`, in order), then runs the timers that are due at `now`:
    /// a paused node hears the news before it acts on the clock. An empty batch runs timers only.
    fn step(&mut self, now: Time, batch: &mut Vec<Input<Self::Message>>, out: &mut Effects<Self::Message>);

    /// When to call `step` at the latest if nothing arrives. `None`: never.
    fn deadline(&self) -> Option<Time>;

    /// Role, phase, positions and room, for the driver and for metrics.
    fn status(&self) -> Status;

    /// Checks the core's own invariants; run after every step in the simulator.
    ///
    /// # Errors
    /// The first invariant found broken.
    fn check(&self) -> Result<(), Violation>;
}

/// A message between cores. Released encodings are frozen: bincode 1.3 cannot skip unknown fields.
pub trait Message:
    Clone + Debug + PartialEq + Eq + Hash + Serialize + DeserializeOwned + Send + 'static
{
    /// Its name in the paper, for traces: `PROPOSAL`, `AppendEntries`, `Prepare`.
    fn kind(&self) -> &'static str;
    /// The phase whose cost it is.
    fn phase(&self) -> Phase;
    /// The epoch that it acts in.
    fn epoch(&self) -> Epoch;
}

/// What a protocol promises and needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guarantees {
    /// Entries of one leader commit in its order with nothing of it missing before (Zab; not Multi-Paxos).
    pub primary_order: bool,
    /// It is only safe over links that neither reorder nor lose between up and down (Zab).
    pub fifo_links: bool,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input<M> {
    /// `from` said `message`, with `entries` riding along (possibly fewer than it attached).
    Message {
        /// Sender.
        from: NodeId,
        /// The message.
        message: M,
        /// Its entries, ascending by index.
        entries: Vec<Entry>,
    },
    /// The link to `node` came up or went down. Messages are only delivered in between. A loss is often the
    /// first sign of a crash: cores may use it to shorten their timeouts, never to skip a rule.
    Peer {
        /// The other end.
        node: NodeId,
        /// Up or down.
        connected: bool,
    },
    /// Commands to replicate, in order. Only given to a leader and never more than [`Status::room`]; a core that
    /// leads no longer drops them (the server that took them will send them again).
    Propose {
        /// The leader's wall clock.
        stamp: Stamp,
        /// The commands.
        commands: Vec<Bytes>,
    },
    /// A read barrier: answered by `Readable` once every write acknowledged before this input is covered.
    /// Allowed on every replica; a follower asks its leader.
    Read {
        /// The driver's name for it.
        token: Token,
        /// How to make sure.
        mode: ReadMode,
    },
    /// Change the configuration. Cores that cannot answer `Refused { why: Unsupported }`.
    Reconfigure {
        /// The driver's name for it.
        token: Token,
        /// The configuration to reach.
        target: Configuration,
        /// The client's command, to be applied at the same index.
        command: Bytes,
    },
    /// Hand leadership over to `to`, or to the most suitable voter.
    Transfer {
        /// The driver's name for it.
        token: Token,
        /// Wished successor.
        to: Option<NodeId>,
    },
    /// Everything up to this ticket is durable.
    Persisted(Ticket),
    /// Of an attachment to `to`, the positions from `from` on were not sent (purged, or beyond the frame).
    Unsent {
        /// Receiver of the message.
        to: NodeId,
        /// First position not sent.
        from: Index,
    },
    /// A snapshot of the state at `at` is durable: the log below may be purged.
    SnapshotTaken {
        /// Last entry inside it.
        at: LogId,
    },
    /// A whole, verified, durable snapshot came from `from`, who acted in `epoch` when it began to send.
    SnapshotReceived {
        /// Sender.
        from: NodeId,
        /// The sender's epoch.
        epoch: Epoch,
        /// Last entry inside it.
        at: LogId,
        /// Every configuration in force or pending there.
        configurations: Vec<ConfigurationAt>,
    },
    /// The transfer of the snapshot at `at` to `to` ended.
    SnapshotSent {
        /// Receiver.
        to: NodeId,
        /// Which one.
        at: LogId,
        /// Whether all of it went out.
        whole: bool,
    },
    /// These positions cannot be read any more (bit rot): refetch before leading, never truncate.
    Damaged(Span),
}

/// How a read barrier makes sure that no newer leader has committed more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ReadMode {
    /// One round with a quorum (ReadIndex). Needs no clock.
    #[default]
    Quorum,
    /// A lease, if the protocol's options grant one; else as `Quorum`.
    Lease,
}

/// Why a request is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// No leader is known, or this replica stopped leading while the request was under way. Ask again later.
    NoLeader,
    /// This core cannot do it.
    Unsupported,
    /// Another request of the kind is under way.
    Busy,
    /// It would break a rule (an unsound configuration, a target that may not lead).
    Unsafe,
}

/// What a core starts from. Only what is durable.
#[derive(Clone, Debug)]
pub struct Setup<O> {
    /// This replica.
    pub id: NodeId,
    /// Seed of its randomness.
    pub seed: u64,
    /// Configurations in force or pending at `snapshot` (or the bootstrap one, from index 0), ascending.
    /// Configurations inside `entries` come on top.
    pub configurations: Vec<ConfigurationAt>,
    /// The last durable hard state.
    pub hard_state: HardState,
    /// The log's base: entries at or below it were purged. At most `snapshot`.
    pub base: LogId,
    /// The snapshot from which the state was loaded, [`LogId::ZERO`] if none.
    pub snapshot: LogId,
    /// Every durable entry above `base`, ascending.
    pub entries: Vec<EntryMeta>,
    /// Entries whose bytes are damaged.
    pub damaged: Vec<Span>,
    /// Whether this voter may vote and count in quorums. False after its disk was lost: it is a learner until a
    /// configuration change or the operator admits it again (it may have voted before).
    pub may_vote: bool,
    /// The protocol's switches.
    pub options: O,
}

impl<O> Setup<O> {
    /// A member of `configuration` that has nothing on its disk yet.
    pub fn fresh(id: NodeId, configuration: Configuration, options: O) -> Self {
        Self {
            id,
            seed: u64::from(id.0),
            configurations: alloc::vec![ConfigurationAt { from: Index::ZERO, configuration }],
            hard_state: HardState::default(),
            base: LogId::ZERO,
            snapshot: LogId::ZERO,
            entries: Vec::new(),
            damaged: Vec::new(),
            may_vote: true,
            options,
        }
    }
}

/// Durations that all three protocols share, so that they are compared on equal terms.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// Leader's heartbeat interval.
    pub heartbeat: Duration,
    /// A follower that hears no leader, or a leader that hears no quorum, for this long gives up.
    pub election_timeout: Duration,
    /// Random addition to the follower's timeout (0..spread), drawn anew each time.
    pub election_spread: Duration,
    /// After the *link* to the leader broke (a killed process resets its connections): random wait in
    /// (0..this) before electing. [`Duration::MAX`] ignores link losses.
    pub link_loss_spread: Duration,
    /// A leader whose oldest unfinished write is older than this cedes.
    pub disk_stall: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election_timeout: Duration::from_millis(1000),
            election_spread: Duration::from_millis(500),
            link_loss_spread: Duration::from_millis(40),
            disk_stall: Duration::from_millis(3000),
        }
    }
}

/// Bounds on what a core writes ahead of its committed prefix, and on what one frame carries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Commands beyond the committed prefix. No-ops and configurations pass, or a full window could never commit.
    pub window_commands: u32,
    /// Bytes of them ([`Entry::bytes`]).
    pub window_bytes: u64,
    /// Bytes of entries in one frame; a core splits what it has counted, the driver cuts the rest.
    pub frame_bytes: u64,
    /// Entries kept below the newest snapshot for followers that are a little behind (ZooKeeper: commitLogCount
    /// 500; theirs costs memory, ours disk).
    pub keep_entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { window_commands: 16_384, window_bytes: 32 << 20, frame_bytes: 256 << 10, keep_entries: 20_000 }
    }
}

/// What a replica is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Looking for a leader, or trying to become one.
    #[default]
    Electing,
    /// Leads (from `Phase::Discovery` on in Zab, from winning in Raft and Paxos).
    Leader,
    /// Votes and follows.
    Follower,
    /// Follows, will vote after a configuration change.
    Learner,
    /// Follows, never votes.
    Observer,
}

/// The four phases on which the protocols are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// Finding a candidate.
    #[default]
    Election,
    /// The candidate learns what a quorum promised and holds.
    Discovery,
    /// A quorum is made identical to the leader.
    Sync,
    /// Steady replication; the replica serves.
    Broadcast,
}

/// How many more commands, and bytes of them, a leader takes now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Commands.
    pub commands: u32,
    /// Bytes.
    pub bytes: u64,
}

/// A replica's own view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Role.
    pub role: Role,
    /// Phase.
    pub phase: Phase,
    /// Current epoch.
    pub epoch: Epoch,
    /// The leader, if one is known; itself if it leads.
    pub leader: Option<NodeId>,
    /// Last entry of the log (with no hole below, in Paxos), durable or not.
    pub last: LogId,
    /// Committed prefix.
    pub committed: Index,
    /// Zero unless this replica leads in [`Phase::Broadcast`].
    pub room: Room,
}

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Constant name of the rule, with its citation: "election safety (raft §5.2)".
    pub rule: &'static str,
    /// The values that break it.
    pub detail: String,
}
