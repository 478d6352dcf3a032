//! One server process: a node and a client port, from configuration to shutdown.

use crate::config::{Config, Member, Note};
use crate::service::{self, Listening, Service};
use anyhow::Context as _;
use node::{Node, NodeConfig, Peer, Secret};
use replog::{Configuration, Limits, NodeId};
use std::fs::File;
use std::io::BufWriter;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::thread;

/// Directory inside dataDir (and dataLogDir): a directory that ZooKeeper uses stays untouched beside it.
const SUBDIR: &str = "menagerie";

/// A running server.
#[derive(Debug)]
pub struct Running {
    node: Node,
    clients: Listening,
}

impl Running {
    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.clients.address
    }

    /// Hands leadership over, flushes the log, then closes the client port.
    pub fn stop(self) {
        self.node.handle().shutdown();
        self.node.join();
        self.clients.stop();
    }
}

/// Starts a server.
///
/// # Errors
/// What the operator has to change: ports, directories, members.
pub fn run(config: Config) -> anyhow::Result<Running> {
    for note in &config.notes {
        match note {
            Note::Ignored(key) => tracing::info!(key, "only a JVM needs this key: ignored"),
            Note::Unsupported(key) => {
                tracing::warn!(key, "not supported: what this key asks for does not happen")
            }
            Note::Unknown(key) => tracing::warn!(key, "unknown key: ignored"),
            Note::Advice(text) => tracing::warn!("{text}"),
        }
    }
    let host = if config.client_address.is_empty() { "0.0.0.0" } else { &config.client_address };
    // Before the node starts: a port that is taken is the commonest mistake, and leaves no trace this way.
    let listener = TcpListener::bind((host, config.client_port))
        .with_context(|| format!("cannot listen for clients on {host}:{}", config.client_port))?;
    let threads = match config.io_threads {
        0 => thread::available_parallelism().map_or(1, |n| n.get() / 2).clamp(1, 8),
        n => n as usize,
    };
    let (consensus, variant) = (config.consensus, config.variant);
    let node_config = node_config(&config)?;
    let timing = config.timing();
    let mut limits = Limits::default();
    if let Some(kept) = config.keep_entries {
        limits.keep_entries = kept;
    }
    let service = Service::new(config).context("no randomness")?;
    let node = consensus.start(node_config, timing, limits, variant, service.clone())?;
    let clients = service::listen(&service, listener, threads).context("cannot serve clients")?;
    tracing::info!(consensus = consensus.name(), clients = %clients.address, "serving");
    Ok(Running { node, clients })
}

/// What the node is told.
fn node_config(config: &Config) -> anyhow::Result<NodeConfig> {
    let me = NodeId(config.id);
    let configuration = if config.members.is_empty() {
        Configuration::of_voters([me])
    } else {
        Configuration::of_voters(config.voters().map(NodeId)).with_observers(config.observers().map(NodeId))
    };
    let mut node = NodeConfig::new(me, config.data_dir.join(SUBDIR), configuration);
    node.log_dir = config.log_dir.as_ref().map(|dir| dir.join(SUBDIR));
    node.cluster = cluster_id(&config.cluster_name);
    node.peers = config
        .members
        .iter()
        .filter(|(id, _)| **id != config.id)
        .map(|(id, member)| Peer { id: NodeId(*id), addresses: member.endpoints().collect() })
        .collect();
    if let Some(own) = config.members.get(&config.id) {
        node.listen = listen_address(own, config.listen_on_all);
    }
    if let Some(path) = &config.peer_secret_file {
        let bytes = std::fs::read(path).with_context(|| format!("peerSecretFile {}", path.display()))?;
        anyhow::ensure!(!bytes.is_empty(), "peerSecretFile {} is empty", path.display());
        node.secret = Some(Secret::new(bytes));
    }
    node.trace = match &config.trace_file {
        Some(path) => Some(
            recorder(path, config)
                .with_context(|| format!("traceFile {} cannot be written", path.display()))?,
        ),
        None => None,
    };
    node.may_vote = config.may_vote;
    node.snap_count = config.snap_count;
    node.snapshots_kept = config.snapshots_kept;
    // A multi may be as long as a frame, and its command is a little longer.
    node.max_frame_bytes = node.max_frame_bytes.max(config.max_frame.saturating_mul(2));
    Ok(node)
}

/// A trace of this process. Those of earlier ones are kept beside it, numbered: the last words of a process that was
/// killed are often what one wants to read.
fn recorder(path: &Path, config: &Config) -> std::io::Result<trace::Recorder> {
    if path.exists() {
        let numbered = |n: u32| {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{n}"));
            PathBuf::from(name)
        };
        if let Some(free) = (1..=u32::MAX).map(numbered).find(|p| !p.exists()) {
            std::fs::rename(path, free)?;
        }
    }
    let file = BufWriter::new(File::create(path)?);
    trace::Recorder::start(file, config.consensus.name(), config.id)
}

fn listen_address(own: &Member, on_all: bool) -> String {
    let first = own.endpoints().next().unwrap_or_default();
    match (on_all, own.addresses.first()) {
        (true, Some((_, port))) => format!("0.0.0.0:{port}"),
        _ => first,
    }
}

/// 64-bit FNV-1a of the cluster's name; 0 without a name.
fn cluster_id(name: &str) -> u64 {
    if name.is_empty() {
        return 0;
    }
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
