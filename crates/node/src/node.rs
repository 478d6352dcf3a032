//! Starting and ending a node: recovery, threads, sockets.
//!
//! Recovery (storage.rs): 1. the log is opened (it syncs what it found before it reports it, and refuses another
//! protocol's, cluster's or server's directory); 2. snapshots are opened with the log's base, which tells whether a
//! staged one had been accepted; 3. the newest whole snapshot becomes the application's state; 4. the core opens on
//! the rest and the log above the snapshot is applied as it commits.

use crate::apply_thread::{Applier, Appliers, ApplyQueue, ApplyThread, Cadence};
use crate::codec::{Decoder, Encoder};
use crate::config::OnFatal;
use crate::core_thread::{Clock, Core, Figures, Hands};
use crate::handle::Shared;
use crate::handshake;
use crate::log_thread::LogThread;
use crate::queue::{Durable, Queue};
use crate::reader_thread::{ReaderThread, Reads};
use crate::snapshots::Snapshots;
use crate::storage::{Keeping, Storage};
use crate::story::Tracer;
use crate::transport::Transport;
use crate::watchdog::{Leash, Watchdog};
use crate::{Application, Fatal, NodeConfig, NodeHandle, StartError};
use parking_lot::Mutex;
use replog::{Configuration, LogStore, Replica, ReplicatedLog, Setup, Write};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use wal::{Disk, Identity, SnapshotOptions, WalReader};

/// How long the end waits for streams that were cut.
const LAST_STREAMS: Duration = Duration::from_secs(2);

/// A running node. Dropping it ends it at once, as a crash would: what was not written is lost, leadership is not
/// handed over.
#[derive(Debug)]
pub struct Node {
    handle: NodeHandle,
    address: Option<SocketAddr>,
    threads: Vec<JoinHandle<()>>,
}

impl Node {
    /// What the layers above hold.
    #[must_use]
    pub fn handle(&self) -> &NodeHandle {
        &self.handle
    }

    /// Where it listens for peers.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Waits until the node has ended, after [`NodeHandle::shutdown`] or a [`Fatal`].
    pub fn join(mut self) {
        self.join_threads();
    }

    fn join_threads(&mut self) {
        for thread in self.threads.drain(..) {
            // One that panicked has told `on_fatal`.
            let _ = thread.join();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.handle.0.mailbox.put(|inbox| inbox.stop = true);
        self.join_threads();
    }
}

/// Starts a node on the file system.
///
/// # Errors
/// See [`StartError`]; nothing runs then.
pub fn start<P>(
    config: NodeConfig,
    options: P::Options,
    app: Arc<dyn Application>,
) -> Result<Node, StartError>
where
    P: ReplicatedLog + Send + 'static,
{
    #[cfg(feature = "faulty-disk")]
    let disk = wal::FaultyDisk::of_environment();
    #[cfg(not(feature = "faulty-disk"))]
    let disk = wal::FileDisk;
    start_on::<P, _>(config, options, app, disk)
}

/// The same on another disk.
///
/// # Errors
/// See [`StartError`]; nothing runs then.
pub fn start_on<P, D>(
    config: NodeConfig,
    options: P::Options,
    app: Arc<dyn Application>,
    disk: D,
) -> Result<Node, StartError>
where
    P: ReplicatedLog + Send + 'static,
    D: Disk,
{
    config.check()?;
    let seed = match config.seed {
        Some(seed) => seed,
        None => getrandom::u64().map_err(|e| StartError::Config(format!("no randomness: {e}")))?,
    };
    let storage = Storage::open(disk, config.keeping(P::NAME), &*app)?;
    let setup = storage.setup(options, seed);
    let listener = listen(&config)?;
    let address = listener.as_ref().and_then(|l| l.local_addr().ok());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let clock = Clock(Instant::now());
    let shared = Arc::new(Shared::new(config.id, clock.0));
    let handle = NodeHandle(Arc::clone(&shared));
    app.on_start(&handle);
    let parts = Parts { config, storage, shared, app, clock, seed };
    let threads = parts.run::<P>(setup, runtime, listener)?;
    Ok(Node { handle, address, threads })
}

fn listen(config: &NodeConfig) -> Result<Option<TcpListener>, StartError> {
    let failed = |source| StartError::Listen { address: config.listen.clone(), source };
    if config.peers.is_empty() {
        return Ok(None);
    }
    let listener = match &config.listener {
        Some(listener) => listener.try_clone(),
        None => TcpListener::bind(config.listen.as_str()),
    };
    let listener = listener.map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(Some(listener))
}

impl NodeConfig {
    fn keeping(&self, protocol: &str) -> Keeping {
        let identity = Identity { protocol: protocol.into(), cluster: self.cluster, node: self.id };
        Keeping {
            identity,
            log_dir: self.log_dir.as_deref().unwrap_or(&self.data_dir).join("log"),
            snapshot_dir: self.data_dir.join("snapshots"),
            log: self.wal.clone(),
            snapshots: SnapshotOptions { keep: self.snapshots_kept as usize, ..SnapshotOptions::default() },
            configuration: self.configuration.clone(),
            may_vote: self.may_vote,
        }
    }

    fn check(&self) -> Result<(), StartError> {
        let fault = |text: String| Err(StartError::Config(text));
        if !self.configuration.is_sound() {
            return fault("the ensemble has no voter, or its quorums need not meet".into());
        }
        if self.peers.iter().any(|p| p.id == self.id) {
            return fault(format!("{} is among its own peers", self.id));
        }
        if u64::from(self.max_frame_bytes) < self.frame_bytes + (64 << 10) {
            return fault("max_frame_bytes must exceed frame_bytes by 64 KiB".into());
        }
        Ok(())
    }
}

/// Ends the other threads when one ends, and tells of a panic.
struct Guard {
    thread: &'static str,
    shared: Arc<Shared>,
    on_fatal: OnFatal,
    close: Arc<dyn Fn(bool) + Send + Sync>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if thread::panicking() {
            (self.on_fatal)(&Fatal::Panicked { node: self.shared.id, thread: self.thread });
            self.shared.mailbox.put(|inbox| inbox.stop = true);
            (self.close)(true);
        }
    }
}

/// What one thread needs from another: the queues between them.
struct Wires<M> {
    log: Arc<Queue<Write>>,
    durable: Arc<Durable>,
    apply: Arc<ApplyQueue>,
    reads: Arc<Reads<M>>,
    leash: Arc<Leash>,
}

impl<M: Send + 'static> Wires<M> {
    fn new() -> Self {
        Self {
            log: Arc::default(),
            durable: Arc::default(),
            apply: Arc::default(),
            reads: Arc::default(),
            leash: Arc::default(),
        }
    }

    /// Ends the threads at the other ends, once they have done what waits there or (`true`) at once.
    fn closer(&self) -> Arc<dyn Fn(bool) + Send + Sync> {
        let (log, apply, reads) = (Arc::clone(&self.log), Arc::clone(&self.apply), Arc::clone(&self.reads));
        let leash = Arc::clone(&self.leash);
        Arc::new(move |discard| {
            leash.close();
            log.close(discard);
            apply.close(discard);
            reads.requests.close(true);
        })
    }
}

/// Everything that the threads are made of.
struct Parts<D: Disk> {
    config: NodeConfig,
    storage: Storage<D>,
    shared: Arc<Shared>,
    app: Arc<dyn Application>,
    clock: Clock,
    seed: u64,
}

impl<D: Disk> Parts<D> {
    fn run<P>(
        self,
        setup: Setup<P::Options>,
        runtime: Runtime,
        listener: Option<TcpListener>,
    ) -> Result<Vec<JoinHandle<()>>, StartError>
    where
        P: ReplicatedLog + Send + 'static,
    {
        let Self { config, storage, shared, app, clock, seed } = self;
        let Storage { wal, store, configurations, .. } = storage;
        let wires = Wires::<P::Message>::new();
        let on_fatal = Arc::clone(&config.on_fatal);
        let snapshots = Snapshots::new(
            store,
            configurations,
            Arc::clone(&shared),
            Arc::clone(&wires.durable),
            Arc::clone(&on_fatal),
        );
        let reader_thread = ReaderThread {
            reads: Arc::clone(&wires.reads),
            reader: wal.reader(),
            frame_bytes: config.frame_bytes,
            shared: Arc::clone(&shared),
        };
        let applier = Arc::new(Mutex::new(Applier {
            app: Arc::clone(&app),
            snapshots: Arc::clone(&snapshots),
            cadence: Cadence::new(config.snap_count, config.snap_bytes, seed),
            last: None,
            reign: replog::Epoch::default(),
            shared: Arc::clone(&shared),
        }));
        let apply_thread = ApplyThread {
            queue: Arc::clone(&wires.apply),
            applier: Arc::clone(&applier),
            shared: Arc::clone(&shared),
            on_fatal: Arc::clone(&on_fatal),
        };
        let mut threads = Threads {
            shared: Arc::clone(&shared),
            on_fatal: Arc::clone(&on_fatal),
            close: wires.closer(),
            running: Vec::new(),
        };
        let core = CoreThread {
            figures: figures(&config),
            clock,
            shared: Arc::clone(&shared),
            app,
            configuration: in_force(&setup),
            tracer: config.trace.clone().map(|recorder| Tracer::new(recorder, config.id)),
            replica: Replica::<P>::open(setup, config.frame_bytes, clock.time(Instant::now())),
            hands: hands(&config, P::NAME, &wires, wal.reader(), (snapshots, applier), &shared, seed),
            close: Arc::clone(&threads.close),
        };
        let watchdog =
            Watchdog { leash: wires.leash, shared: Arc::clone(&shared), on_fatal: Arc::clone(&on_fatal) };
        let log_thread = LogThread { wal, queue: wires.log, durable: wires.durable, shared, on_fatal };
        threads.spawn("log", move || log_thread.run())?;
        threads.spawn("apply", move || apply_thread.run())?;
        threads.spawn("reader", move || reader_thread.run())?;
        threads.spawn("watchdog", move || watchdog.run())?;
        threads.spawn("core", move || core.run(runtime, listener))?;
        Ok(threads.running)
    }
}

/// The core thread's ends of the wires, and its peers.
fn hands<M, D: Disk>(
    config: &NodeConfig,
    protocol: &'static str,
    wires: &Wires<M>,
    reader: WalReader<D>,
    (snapshots, applier): (Arc<Snapshots<D>>, Arc<Mutex<Applier<D>>>),
    shared: &Arc<Shared>,
    seed: u64,
) -> Hands<M, D> {
    let identity = handshake::Identity {
        protocol,
        cluster: config.cluster,
        id: config.id,
        secret: config.secret.clone(),
    };
    let (transport, arrivals) = Transport::new(
        identity,
        config.peers.clone(),
        config.dial_backoff,
        config.handshake_timeout,
        Arc::clone(shared),
        seed,
    );
    Hands {
        log: Arc::clone(&wires.log),
        apply: Appliers { queue: Arc::clone(&wires.apply), applier },
        reads: Arc::clone(&wires.reads),
        reader,
        snapshots,
        transport,
        arrivals,
    }
}

/// Threads that end together.
struct Threads {
    shared: Arc<Shared>,
    on_fatal: OnFatal,
    close: Arc<dyn Fn(bool) + Send + Sync>,
    running: Vec<JoinHandle<()>>,
}

impl Threads {
    fn spawn(&mut self, name: &'static str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let guard = Guard {
            thread: name,
            shared: Arc::clone(&self.shared),
            on_fatal: Arc::clone(&self.on_fatal),
            close: Arc::clone(&self.close),
        };
        let spawned = thread::Builder::new().name(name.into()).spawn(move || {
            let _guard = guard;
            run();
        });
        match spawned {
            Ok(thread) => self.running.push(thread),
            Err(e) => {
                (self.close)(true);
                return Err(e);
            }
        }
        Ok(())
    }
}

fn in_force<O>(setup: &Setup<O>) -> Configuration {
    let of_log = setup.entries.iter().rev().find_map(|e| e.configuration.as_deref());
    let of_snapshot = setup.configurations.last().map(|c| &c.configuration);
    of_log.or(of_snapshot).cloned().unwrap_or_default()
}

fn figures(config: &NodeConfig) -> Figures {
    Figures {
        id: config.id,
        encoder: Encoder { limit: config.max_frame_bytes },
        decoder: Decoder { limit: config.max_frame_bytes },
        read_mode: config.read_mode,
        ping_interval: config.ping_interval,
        link_timeout: config.link_timeout,
        shutdown_wait: config.shutdown_wait,
        alone: config.peers.is_empty(),
    }
}

/// What the core thread is made of, before it enters its runtime.
struct CoreThread<P: ReplicatedLog, D: Disk> {
    figures: Figures,
    clock: Clock,
    shared: Arc<Shared>,
    app: Arc<dyn Application>,
    replica: Replica<P>,
    hands: Hands<P::Message, D>,
    configuration: Configuration,
    tracer: Option<Tracer>,
    close: Arc<dyn Fn(bool) + Send + Sync>,
}

impl<P: ReplicatedLog + Send + 'static, D: Disk> CoreThread<P, D> {
    fn run(self, runtime: Runtime, listener: Option<TcpListener>) {
        let Self { figures, clock, shared, app, replica, hands, configuration, tracer, close } = self;
        let snapshots = Arc::clone(&hands.snapshots);
        let core_shared = Arc::clone(&shared);
        let orderly = runtime.block_on(async move {
            let listener = listener.and_then(|l| tokio::net::TcpListener::from_std(l).ok());
            hands.transport.start(listener);
            let mut core = Core::new(figures, clock, core_shared, app, replica, hands, configuration);
            core.tracer = tracer;
            // A task of its own, not the root future: waking that one costs a system call each time.
            tokio::spawn(core.run()).await
        });
        close(!matches!(orderly, Ok(true)));
        snapshots.close();
        runtime.shutdown_timeout(LAST_STREAMS);
        shared.mailbox.close();
        if let Err(e) = orderly
            && e.is_panic()
        {
            std::panic::resume_unwind(e.into_panic());
        }
    }
}
