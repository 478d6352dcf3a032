//! What applications hold: [`Client`] and its calls.

use crate::servers::Servers;
use crate::session::{Command, Session};
use crate::watches::{Table, Watches};
use crate::{Error, Result, Watcher};
use bytes::Bytes;
use jute::{
    Acl, AuthPacket, CreateMode, CreateRequest, DeleteRequest, ErrorCode, ExistsRequest, GetAclRequest,
    GetChildren2Request, GetDataRequest, JStr, KeeperState, MultiOp, OpResult, Request, Response,
    SetAclRequest, SetDataRequest, Stat, SyncRequest,
};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc as std_mpsc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// How a session is opened.
#[derive(Clone)]
pub struct Options {
    /// Wished session timeout; the servers bound it.
    pub timeout: Duration,
    /// Hears of every change of the session's state.
    pub watcher: Option<Watcher>,
    /// Start with the list as it is given instead of shuffling it.
    pub keep_order: bool,
    /// Longest pause before a reconnect; the pause is random, and twice that after a whole round.
    pub pause: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let (timeout, pause) = (Duration::from_secs(30), Duration::from_millis(200));
        Self { timeout, watcher: None, keep_order: false, pause }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// A session. Clones share it; it ends with [`Client::close`], or some time after the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Client {
    commands: mpsc::UnboundedSender<Command>,
    status: watch::Receiver<Status>,
}

/// What the session task tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) state: Option<KeeperState>,
    pub(crate) session: i64,
    pub(crate) timeout: Duration,
    pub(crate) last_zxid: i64,
    pub(crate) server: Option<std::net::SocketAddr>,
}

/// The reply to come of a request that was [submitted](Client::submit).
#[derive(Debug)]
pub struct Pending(oneshot::Receiver<Result<Response>>);

impl Future for Pending {
    type Output = Result<Response>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // The session task answers every request before it ends; a closed channel means that it was never reached.
        Poll::Ready(ready!(Pin::new(&mut self.0).poll(context)).unwrap_or(Err(Error::Closed)))
    }
}

impl Client {
    /// Opens a session with one of `servers` (`host:port,host:port…`). Waits until it is open; gives up after the
    /// session timeout.
    ///
    /// # Errors
    /// [`Error::NoServers`], [`Error::ConnectionLoss`] when no server took it.
    pub async fn connect(servers: &str, options: Options) -> Result<Self> {
        let servers = Servers::parse(servers);
        if servers.len() == 0 {
            return Err(Error::NoServers);
        }
        let servers = if options.keep_order { servers } else { servers.shuffled() };
        let (commands, inbox) = mpsc::unbounded_channel();
        let (queue, calls) = std_mpsc::channel();
        let (status, view) = watch::channel(Status::default());
        Watches::thread(calls);
        let wait = options.timeout;
        let watches = Watches::new(options.watcher.clone(), queue);
        tokio::spawn(Session::new(servers, options, inbox, watches, status).run());
        let mut opening = view.clone();
        let client = Self { commands, status: view };
        let opened = tokio::time::timeout(wait, opening.wait_for(|s| s.state.is_some())).await;
        if matches!(opened, Ok(Ok(_))) { Ok(client) } else { Err(Error::ConnectionLoss) }
    }

    /// Puts `request` into the session's order and returns at once; await the result for the reply.
    pub fn submit(&self, request: Request) -> Pending {
        self.send(request, None)
    }

    fn send(&self, request: Request, watcher: Option<(Table, Watcher)>) -> Pending {
        let (reply, pending) = oneshot::channel();
        // A session that has ended drops the command and with it `reply`.
        let _ = self.commands.send(Command { request, watcher, reply });
        Pending(pending)
    }

    /// Creates a node and returns its path (with the number, if sequential). Containers need
    /// [`Request::CreateContainer`], nodes with a time to live [`Request::CreateTtl`].
    ///
    /// # Errors
    /// `NodeExists`, `NoNode` (parent), `NoChildrenForEphemerals`, …
    pub async fn create(&self, path: &str, data: &[u8], mode: CreateMode) -> Result<String> {
        let request = CreateRequest {
            path: JStr::from(path),
            data: Some(Bytes::copy_from_slice(data)),
            acl: vec![Acl::open()],
            flags: mode.code(),
        };
        match self.submit(Request::Create(request)).await? {
            Response::Create(r) => Ok(r.path.as_str().to_owned()),
            _ => Err(Error::Undecodable),
        }
    }

    /// Deletes a node; `version` −1 for any.
    ///
    /// # Errors
    /// `NoNode`, `NotEmpty`, `BadVersion`.
    pub async fn delete(&self, path: &str, version: i32) -> Result<()> {
        self.submit(Request::Delete(DeleteRequest { path: JStr::from(path), version })).await.map(|_| ())
    }

    /// The stat of a node, `None` if there is none. The watcher hears of its creation, deletion and change of data.
    ///
    /// # Errors
    /// Trouble with the session.
    pub async fn exists(&self, path: &str, watcher: Option<Watcher>) -> Result<Option<Stat>> {
        let request = ExistsRequest { path: JStr::from(path), watch: watcher.is_some() };
        match self.send(Request::Exists(request), watcher.map(|w| (Table::Exists, w))).await {
            Ok(Response::Exists(r)) => Ok(Some(r.stat)),
            Ok(_) => Err(Error::Undecodable),
            Err(e) if e.is(ErrorCode::NoNode) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Data and stat of a node. The watcher hears of its deletion and change of data.
    ///
    /// # Errors
    /// `NoNode`, `NoAuth`.
    pub async fn data(&self, path: &str, watcher: Option<Watcher>) -> Result<(Bytes, Stat)> {
        let request = GetDataRequest { path: JStr::from(path), watch: watcher.is_some() };
        match self.send(Request::GetData(request), watcher.map(|w| (Table::Data, w))).await? {
            Response::GetData(r) => Ok((r.data.unwrap_or_default(), r.stat)),
            _ => Err(Error::Undecodable),
        }
    }

    /// Replaces the data; `version` −1 for any.
    ///
    /// # Errors
    /// `NoNode`, `BadVersion`, `NoAuth`.
    pub async fn set_data(&self, path: &str, data: &[u8], version: i32) -> Result<Stat> {
        let data = Some(Bytes::copy_from_slice(data));
        match self.submit(Request::SetData(SetDataRequest { path: JStr::from(path), data, version })).await? {
            Response::SetData(r) => Ok(r.stat),
            _ => Err(Error::Undecodable),
        }
    }

    /// Names of the children, unordered. The watcher hears of children coming and going and of the node's deletion.
    ///
    /// # Errors
    /// `NoNode`, `NoAuth`.
    pub async fn children(&self, path: &str, watcher: Option<Watcher>) -> Result<(Vec<String>, Stat)> {
        let request = GetChildren2Request { path: JStr::from(path), watch: watcher.is_some() };
        match self.send(Request::GetChildren2(request), watcher.map(|w| (Table::Child, w))).await? {
            Response::GetChildren2(r) => {
                Ok((r.children.iter().map(|c| c.as_str().to_owned()).collect(), r.stat))
            }
            _ => Err(Error::Undecodable),
        }
    }

    /// The ACL.
    ///
    /// # Errors
    /// `NoNode`, `NoAuth`.
    pub async fn acl(&self, path: &str) -> Result<(Vec<Acl>, Stat)> {
        match self.submit(Request::GetAcl(GetAclRequest { path: JStr::from(path) })).await? {
            Response::GetAcl(r) => Ok((r.acl, r.stat)),
            _ => Err(Error::Undecodable),
        }
    }

    /// Replaces the ACL; `version` −1 for any.
    ///
    /// # Errors
    /// `NoNode`, `BadVersion`, `InvalidACL`, `NoAuth`.
    pub async fn set_acl(&self, path: &str, acl: Vec<Acl>, version: i32) -> Result<Stat> {
        match self.submit(Request::SetAcl(SetAclRequest { path: JStr::from(path), acl, version })).await? {
            Response::SetAcl(r) => Ok(r.stat),
            _ => Err(Error::Undecodable),
        }
    }

    /// Waits until the server has caught up with everything acknowledged before.
    ///
    /// # Errors
    /// Trouble with the session.
    pub async fn sync(&self, path: &str) -> Result<()> {
        self.submit(Request::Sync(SyncRequest { path: JStr::from(path) })).await.map(|_| ())
    }

    /// Carries out all or nothing. A failed one has an error in every place: look for the first that is not 0.
    ///
    /// # Errors
    /// Trouble with the session.
    pub async fn multi(&self, ops: Vec<MultiOp>) -> Result<Vec<OpResult>> {
        match self.submit(Request::Multi(ops)).await? {
            Response::Multi(results) => Ok(results),
            _ => Err(Error::Undecodable),
        }
    }

    /// Adds an identity to this and every later connection of the session.
    ///
    /// # Errors
    /// [`Error::AuthFailed`]; the session is of no use after it.
    pub async fn add_auth(&self, scheme: &str, auth: &[u8]) -> Result<()> {
        let auth = Some(Bytes::copy_from_slice(auth));
        self.submit(Request::Auth(AuthPacket { kind: 0, scheme: JStr::from(scheme), auth })).await.map(|_| ())
    }

    /// Closes the session: its ephemerals are gone when this returns.
    ///
    /// # Errors
    /// [`Error::ConnectionLoss`]: nobody knows; the session will expire by itself.
    pub async fn close(self) -> Result<()> {
        self.submit(Request::CloseSession).await.map(|_| ())
    }

    /// The session's id.
    #[must_use]
    pub fn session(&self) -> i64 {
        self.status.borrow().session
    }

    /// The negotiated session timeout.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.status.borrow().timeout
    }

    /// The session's state.
    #[must_use]
    pub fn state(&self) -> KeeperState {
        self.status.borrow().state.unwrap_or(KeeperState::Disconnected)
    }

    /// The zxid of the last reply.
    #[must_use]
    pub fn last_zxid(&self) -> i64 {
        self.status.borrow().last_zxid
    }

    /// The server that the session is connected to.
    #[must_use]
    pub fn server(&self) -> Option<std::net::SocketAddr> {
        self.status.borrow().server
    }

    /// Waits until the session is in `state`.
    ///
    /// # Errors
    /// [`Error::Closed`]: the session ended before.
    pub async fn wait_state(&self, state: KeeperState) -> Result<()> {
        let mut status = self.status.clone();
        status.wait_for(|s| s.state == Some(state)).await.map(|_| ()).map_err(|_| Error::Closed)
    }
}
