//! What can go wrong, and whose fault it is.

use jute::ErrorCode;

/// Why a request has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The server answered with a code: the request's fault, usually.
    #[error("{}", code_name(*.0))]
    Server(i32),
    /// The connection broke before the answer: nobody knows whether the request was carried out. The session goes on.
    #[error("connection lost")]
    ConnectionLoss,
    /// The session is over, its ephemerals are gone. Connect anew.
    #[error("session expired")]
    SessionExpired,
    /// This client was closed.
    #[error("client closed")]
    Closed,
    /// The identity was refused; the client can do nothing more.
    #[error("authentication failed")]
    AuthFailed,
    /// The server answered with something that is not a reply to this request: the server's fault.
    #[error("undecodable reply")]
    Undecodable,
    /// No server address in the list: the caller's fault.
    #[error("no server in the list")]
    NoServers,
}

fn code_name(code: i32) -> String {
    ErrorCode::from_code(code).map_or_else(|| format!("error {code}"), |known| known.name().to_owned())
}

impl Error {
    /// Whether the server answered with this code.
    #[must_use]
    pub fn is(self, code: ErrorCode) -> bool {
        self == Self::Server(code.code())
    }
}
