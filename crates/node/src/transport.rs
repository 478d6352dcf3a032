//! Connections: dialling, knocking, accepting. Tasks of the core thread's runtime; what they bring about reaches the
//! core as an [`Arrival`].
//!
//! One connection per pair. The larger id dials, with back-off and jitter, resolving names anew at every attempt; the
//! smaller one knocks until it is dialled, so that a restarted node need not wait for the other's back-off.
//!
//! ```text
//!            link lost / start
//!   idle ◄──────────────────────┐
//!    │ attempt (larger: dial, smaller: knock)
//!    ├─ connected ──► Arrival::Link ──► core puts it up, `linked`
//!    └─ failed ──► wait, or be knocked at ──► attempt
//! ```

use crate::config::Peer;
use crate::handle::Shared;
use crate::handshake::{HandshakeError, Identity, Kind};
use parking_lot::Mutex;
use replog::{NodeId, Rng};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::{sleep, timeout};

/// Handshakes of strangers under way at a time.
const HANDSHAKES: usize = 250;
/// A link that lasted for this long was a good one.
const SETTLED: Duration = Duration::from_secs(5);

/// A connection that has shaken hands.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// Frames in both directions.
    Link { peer: NodeId, stream: TcpStream, token: u64 },
    /// A snapshot comes in.
    Snapshot { peer: NodeId, stream: TcpStream },
}

/// One peer as its dialler sees it.
#[derive(Debug)]
struct Remote {
    peer: Peer,
    linked: AtomicBool,
    /// The link went down, or the peer knocked.
    stir: Notify,
}

/// The connections of one node.
#[derive(Debug)]
pub(crate) struct Transport {
    identity: Identity,
    remotes: Vec<Remote>,
    backoff: (Duration, Duration),
    patience: Duration,
    arrivals: mpsc::UnboundedSender<Arrival>,
    shared: Arc<Shared>,
    rng: Mutex<Rng>,
}

impl Transport {
    pub(crate) fn new(
        identity: Identity,
        peers: Vec<Peer>,
        backoff: (Duration, Duration),
        patience: Duration,
        shared: Arc<Shared>,
        seed: u64,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Arrival>) {
        let (arrivals, receiver) = mpsc::unbounded_channel();
        let remotes = peers
            .into_iter()
            .map(|peer| Remote { peer, linked: AtomicBool::new(false), stir: Notify::new() })
            .collect();
        let rng = Mutex::new(Rng::new(seed));
        (Arc::new(Self { identity, remotes, backoff, patience, arrivals, shared, rng }), receiver)
    }

    /// Starts the tasks; inside the runtime.
    pub(crate) fn start(self: &Arc<Self>, listener: Option<TcpListener>) {
        if let Some(listener) = listener {
            tokio::spawn(Arc::clone(self).accept(listener));
        }
        for at in 0..self.remotes.len() {
            tokio::spawn(Arc::clone(self).keep_connected(at));
        }
    }

    /// The core put the link to `peer` up (it may have taken an older one down in the same breath).
    pub(crate) fn linked(&self, peer: NodeId) {
        if let Some(remote) = self.remote(peer) {
            remote.linked.store(true, Ordering::Release);
        }
    }

    /// The core took the link to `peer` down: see to another.
    pub(crate) fn lost(&self, peer: NodeId) {
        if let Some(remote) = self.remote(peer) {
            remote.linked.store(false, Ordering::Release);
            remote.stir.notify_one();
        }
    }

    fn remote(&self, id: NodeId) -> Option<&Remote> {
        self.remotes.iter().find(|r| r.peer.id == id)
    }

    async fn keep_connected(self: Arc<Self>, at: usize) {
        let Some(remote) = self.remotes.get(at) else { return };
        let dials = self.identity.id > remote.peer.id;
        let kind = if dials { Kind::Link } else { Kind::Knock };
        let mut wait = self.backoff.0;
        let mut said = String::new();
        loop {
            if remote.linked.load(Ordering::Acquire) {
                said.clear();
                let since = Instant::now();
                while remote.linked.load(Ordering::Acquire) {
                    remote.stir.notified().await;
                }
                // A link that breaks as soon as it is up must not be dialled in a busy loop.
                if since.elapsed() > SETTLED {
                    wait = self.backoff.0;
                }
                self.pause(remote, &mut wait).await;
                continue;
            }
            match self.connect(&remote.peer, kind).await {
                Ok((stream, token)) if dials => {
                    remote.linked.store(true, Ordering::Release);
                    drop(self.arrivals.send(Arrival::Link { peer: remote.peer.id, stream, token }));
                    continue;
                }
                Ok(_) => {}
                Err(e) => {
                    let e = e.to_string();
                    if e != said {
                        tracing::info!(node = %self.identity.id, peer = %remote.peer.id, "cannot connect: {e}");
                        said = e;
                    }
                }
            }
            self.pause(remote, &mut wait).await;
        }
    }

    /// Waits for `wait` ± 50 %, or until something happens, and doubles it.
    async fn pause(&self, remote: &Remote, wait: &mut Duration) {
        let jittered = self.rng.lock().duration(*wait / 2, *wait);
        drop(timeout(jittered, remote.stir.notified()).await);
        *wait = (*wait * 2).min(self.backoff.1);
    }

    /// A new connection to `peer` that has shaken hands, and its number.
    pub(crate) async fn connect(&self, peer: &Peer, kind: Kind) -> Result<(TcpStream, u64), HandshakeError> {
        let attempt = async {
            let mut stream = dial(peer).await?;
            stream.set_nodelay(true)?;
            let token = self.identity.greet(&mut stream, peer.id, kind).await?;
            Ok((stream, token))
        };
        timeout(self.patience, attempt).await.map_err(|_| HandshakeError::Timeout)?
    }

    /// The peer with this id.
    pub(crate) fn peer(&self, id: NodeId) -> Option<&Peer> {
        self.remote(id).map(|r| &r.peer)
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
        loop {
            let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let transport = Arc::clone(&self);
                    tokio::spawn(async move {
                        transport.receive(stream).await;
                        drop(permit);
                    });
                }
                Err(e) => {
                    // Out of file descriptors, most likely: others will be closed.
                    tracing::warn!(node = %self.identity.id, "cannot accept a peer: {e}");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn receive(&self, mut stream: TcpStream) {
        let shaken = async {
            stream.set_nodelay(true)?;
            self.identity.receive(&mut stream, |id| self.remote(id).is_some()).await
        };
        let result = timeout(self.patience, shaken).await.unwrap_or(Err(HandshakeError::Timeout));
        match result {
            Ok((peer, Kind::Link, token)) => {
                if let Some(remote) = self.remote(peer) {
                    remote.linked.store(true, Ordering::Release);
                }
                drop(self.arrivals.send(Arrival::Link { peer, stream, token }));
            }
            Ok((peer, Kind::Snapshot, _)) => drop(self.arrivals.send(Arrival::Snapshot { peer, stream })),
            Ok((peer, Kind::Knock, _)) => {
                if let Some(remote) = self.remote(peer) {
                    remote.stir.notify_one();
                }
            }
            Err(e) => {
                self.shared.stats.refused.add(1);
                tracing::debug!(node = %self.identity.id, "a connection was refused: {e}");
            }
        }
    }
}

async fn dial(peer: &Peer) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "no address");
    for address in &peer.addresses {
        match TcpStream::connect(address.as_str()).await {
            Ok(stream) => return Ok(stream),
            Err(e) => last = e,
        }
    }
    Err(last)
}
