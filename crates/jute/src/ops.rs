//! Numbers with a meaning: opcodes, create modes, permissions, events, states, watch modes.

use crate::ErrorCode;

/// Defines an enum over wire numbers.
macro_rules! numbers {
    ($(#[$meta:meta])* $type:ident { $($(#[$vmeta:meta])* $name:ident = $number:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i32)]
        pub enum $type { $($(#[$vmeta])* $name = $number,)* }

        impl $type {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The value with this number.
            #[must_use]
            pub const fn from_code(number: i32) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            /// Its number on the wire.
            #[must_use]
            pub const fn code(self) -> i32 {
                self as i32
            }
        }
    };
}

numbers! {
    /// What a request asks for.
    OpCode {
        /// Create a node; answers with the path.
        Create = 1,
        /// Delete a node.
        Delete = 2,
        /// Stat of a node.
        Exists = 3,
        /// Data and stat.
        GetData = 4,
        /// Replace the data.
        SetData = 5,
        /// The ACL and stat.
        GetAcl = 6,
        /// Replace the ACL.
        SetAcl = 7,
        /// Names of the children.
        GetChildren = 8,
        /// Wait until this server has applied what was committed.
        Sync = 9,
        /// Heartbeat.
        Ping = 11,
        /// Names of the children and stat.
        GetChildren2 = 12,
        /// Version check; inside a multi only.
        Check = 13,
        /// Several writes as one.
        Multi = 14,
        /// Create a node; answers with path and stat.
        Create2 = 15,
        /// Change the membership.
        Reconfig = 16,
        /// Whether a watch is registered.
        CheckWatches = 17,
        /// Remove a watch.
        RemoveWatches = 18,
        /// Create a container node.
        CreateContainer = 19,
        /// Internal: reap a container. Refused from clients.
        DeleteContainer = 20,
        /// Create a node with a time to live.
        CreateTtl = 21,
        /// Several reads in one request.
        MultiRead = 22,
        /// Add an identity to the connection.
        Auth = 100,
        /// Register one-shot watches again after a reconnect.
        SetWatches = 101,
        /// SASL token.
        Sasl = 102,
        /// Paths owned by this session.
        GetEphemerals = 103,
        /// Number of descendants.
        GetAllChildrenNumber = 104,
        /// Register watches of all modes again.
        SetWatches2 = 105,
        /// Register a persistent watch.
        AddWatch = 106,
        /// Identities of the connection.
        WhoAmI = 107,
        /// Internal: open a session. Refused from clients.
        CreateSession = -10,
        /// Close the session.
        CloseSession = -11,
        /// Internal: type of a failed transaction, and of an error result inside a multi.
        Error = -1,
    }
}

impl OpCode {
    /// Whether it goes through the log. (`Sync` does not: it is a read barrier.)
    #[must_use]
    pub const fn is_write(self) -> bool {
        matches!(
            self,
            Self::Create
                | Self::Create2
                | Self::CreateContainer
                | Self::CreateTtl
                | Self::Delete
                | Self::SetData
                | Self::SetAcl
                | Self::Multi
                | Self::Reconfig
                | Self::CloseSession
        )
    }
}

numbers! {
    /// What happened to a watched node.
    EventType {
        /// No node event: the state changed (made by clients).
        None = -1,
        /// It was created.
        NodeCreated = 1,
        /// It was deleted.
        NodeDeleted = 2,
        /// Its data was set.
        NodeDataChanged = 3,
        /// A child was created or deleted.
        NodeChildrenChanged = 4,
        /// Made by clients.
        DataWatchRemoved = 5,
        /// Made by clients.
        ChildWatchRemoved = 6,
        /// Made by clients.
        PersistentWatchRemoved = 7,
    }
}

numbers! {
    /// State of a session as clients see it. Servers send 3 in every event.
    KeeperState {
        /// Made by clients: no connection.
        Disconnected = 0,
        /// Connected.
        SyncConnected = 3,
        /// Authentication failed.
        AuthFailed = 4,
        /// Connected to a read-only server.
        ConnectedReadOnly = 5,
        /// SASL authentication succeeded.
        SaslAuthenticated = 6,
        /// Made by clients: the handle was closed.
        Closed = 7,
        /// The session expired.
        Expired = -112,
    }
}

numbers! {
    /// Which watches `checkWatches` and `removeWatches` mean.
    WatcherType {
        /// One-shot child watch.
        Children = 1,
        /// One-shot data watch.
        Data = 2,
        /// Every mode in both tables.
        Any = 3,
        /// Persistent.
        Persistent = 4,
        /// Persistent and recursive.
        PersistentRecursive = 5,
    }
}

numbers! {
    /// Mode of an `addWatch`.
    AddWatchMode {
        /// Stays after it fired.
        Persistent = 0,
        /// Stays, and covers the whole subtree.
        PersistentRecursive = 1,
    }
}

numbers! {
    /// The `flags` of a create.
    CreateMode {
        /// Stays until deleted.
        Persistent = 0,
        /// Goes with its session.
        Ephemeral = 1,
        /// Persistent, name with a sequence number.
        PersistentSequential = 2,
        /// Ephemeral, name with a sequence number.
        EphemeralSequential = 3,
        /// Reaped once its last child is gone.
        Container = 4,
        /// Reaped when unchanged for its time to live.
        PersistentWithTtl = 5,
        /// The same, name with a sequence number.
        PersistentSequentialWithTtl = 6,
    }
}

impl CreateMode {
    /// The mode of `flags`.
    ///
    /// # Errors
    /// `BadArguments` for any other number.
    pub const fn from_flags(flags: i32) -> Result<Self, ErrorCode> {
        match Self::from_code(flags) {
            Some(mode) => Ok(mode),
            None => Err(ErrorCode::BadArguments),
        }
    }

    /// Whether the node goes with its session.
    #[must_use]
    pub const fn is_ephemeral(self) -> bool {
        matches!(self, Self::Ephemeral | Self::EphemeralSequential)
    }

    /// Whether a sequence number is appended.
    #[must_use]
    pub const fn is_sequential(self) -> bool {
        matches!(
            self,
            Self::PersistentSequential | Self::EphemeralSequential | Self::PersistentSequentialWithTtl
        )
    }

    /// Whether it is a container.
    #[must_use]
    pub const fn is_container(self) -> bool {
        matches!(self, Self::Container)
    }

    /// Whether it needs a time to live.
    #[must_use]
    pub const fn is_ttl(self) -> bool {
        matches!(self, Self::PersistentWithTtl | Self::PersistentSequentialWithTtl)
    }
}

/// A set of permissions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Perms(pub i32);

impl Perms {
    /// Read data, list children.
    pub const READ: Self = Self(1);
    /// Set data.
    pub const WRITE: Self = Self(2);
    /// Create children.
    pub const CREATE: Self = Self(4);
    /// Delete children.
    pub const DELETE: Self = Self(8);
    /// Set the ACL.
    pub const ADMIN: Self = Self(16);
    /// All five.
    pub const ALL: Self = Self(31);

    /// Whether all of `other` are in the set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is in the set.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
