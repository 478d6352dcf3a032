//! Error codes, with ZooKeeper's exact numbers.

/// Defines [`ErrorCode`] with its numbers in one place.
macro_rules! codes {
    ($($(#[$meta:meta])* $name:ident = $number:literal,)*) => {
        /// The `err` of a reply header, or of a result inside a multi.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i32)]
        pub enum ErrorCode { $($(#[$meta])* $name = $number,)* }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The code with this number.
            #[must_use]
            pub const fn from_code(number: i32) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            /// Its name in ZooKeeper's `KeeperException.Code`, in camel case.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

codes! {
    /// Success.
    Ok = 0,
    /// Range marker, never sent.
    SystemError = -1,
    /// Operation of a multi after the failing one: not attempted.
    RuntimeInconsistency = -2,
    /// Not sent in practice.
    DataInconsistency = -3,
    /// Made by clients: the connection broke, the outcome is unknown.
    ConnectionLoss = -4,
    /// The body of a known opcode cannot be decoded.
    MarshallingError = -5,
    /// Unknown opcode, or a feature that is switched off.
    Unimplemented = -6,
    /// Made by clients.
    OperationTimeout = -7,
    /// Invalid path, flags or TTL; a special node may not be deleted.
    BadArguments = -8,
    /// Internal to servers.
    UnknownSession = -12,
    /// Reconfiguration: no connected and synced quorum of the new configuration.
    NewConfigNoQuorum = -13,
    /// Reconfiguration: another one is under way.
    ReconfigInProgress = -14,
    /// Range marker, never sent.
    ApiError = -100,
    /// The node (for create and delete: or its parent) does not exist.
    NoNode = -101,
    /// An ACL refuses.
    NoAuth = -102,
    /// Another version than the request's.
    BadVersion = -103,
    /// The parent is an ephemeral node.
    NoChildrenForEphemerals = -108,
    /// The node exists.
    NodeExists = -110,
    /// Delete of a node that has children.
    NotEmpty = -111,
    /// The session is closed, closing or unknown.
    SessionExpired = -112,
    /// Made by clients.
    InvalidCallback = -113,
    /// Empty ACL, unknown scheme, malformed id, or `auth` without an authenticated id.
    InvalidAcl = -114,
    /// Authentication was refused; the server closes the connection.
    AuthFailed = -115,
    /// Made by the C client.
    Closing = -116,
    /// Made by the C client.
    Nothing = -117,
    /// The session is attached elsewhere. In practice the connection is closed instead.
    SessionMoved = -118,
    /// A write on a read-only server.
    NotReadOnly = -119,
    /// An ephemeral node on a local session.
    EphemeralOnLocalSession = -120,
    /// There is no such watch to check or to remove.
    NoWatcher = -121,
    /// Made by clients.
    RequestTimeout = -122,
    /// Reconfiguration is switched off.
    ReconfigDisabled = -123,
    /// Enforced authentication is missing; the server closes the connection.
    SessionClosedRequireSaslAuth = -124,
    /// A hard quota is exceeded.
    QuotaExceeded = -125,
    /// The request waited too long in the server.
    ThrottledOp = -127,
}

impl ErrorCode {
    /// Its number on the wire.
    #[must_use]
    pub const fn code(self) -> i32 {
        self as i32
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name(), self.code())
    }
}

impl std::error::Error for ErrorCode {}
