//! Three real server processes on loopback, with fsync on.
//!
//! ```text
//!  System::launch(node) ─► ServerProcess ×3 ─► wait_serving ─► experiments ─► drop: killed, directory removed
//! ```
//!
//! A `System` says how one server is configured and started; everything else (ports, directories, signals, waiting,
//! asking) is the same for every system, so none is favoured. Invariant: node ids are 1..=3 and `nodes[i].id == i+1`.

pub(crate) mod fourletter;
pub(crate) mod process;
pub(crate) mod usage;

use crate::load::prepare::Control;
use anyhow::{Context, Result, anyhow, bail};
use fourletter::{Srvr, srvr};
pub(crate) use process::{Launch, ServerProcess};
use rustix::process::Signal;
use std::fmt::Debug;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Servers in a cluster.
pub(crate) const NODES: usize = 3;
/// How long a cluster may take to serve.
const SERVE_WITHIN: Duration = Duration::from_secs(60);

/// How clients talk to a system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientPath {
    /// ZooKeeper's protocol: the same generator, the same bytes.
    Jute,
    /// etcd's v3 HTTP/JSON gateway: another client path, labelled wherever a figure of it stands.
    EtcdGateway,
}

/// Knobs that an experiment sets on every system, each in the system's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tuning {
    /// Transactions between snapshots.
    pub(crate) snapshot_every: u64,
    /// How many entries a follower may have missed and still be served from the log; 0: always a snapshot.
    pub(crate) log_kept: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { snapshot_every: 100_000, log_kept: 20_000 }
    }
}

/// Ports of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    /// For clients.
    pub(crate) client: u16,
    /// Between servers.
    pub(crate) peer: u16,
    /// Between servers, elections (ZooKeeper).
    pub(crate) election: u16,
}

/// One step of an election as a server's own log tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// It noticed that the leader is lost.
    Detected,
    /// It knows who leads next.
    Elected,
    /// It leads, with a quorum in sync.
    Serving,
    /// The first command of the new reign is applied.
    Committed,
}

/// Something that can be started three times.
pub(crate) trait System: Debug + Send + Sync {
    /// Short name: `zab`, `zookeeper`.
    fn name(&self) -> &str;
    /// Version as the system states it.
    fn version(&self) -> String;
    /// How clients talk to it.
    fn path(&self) -> ClientPath;
    /// Whether it needs warming up (a JVM).
    fn warms_up(&self) -> bool {
        false
    }
    /// Writes the configuration of `node` (1-based) into `directory` and says how to start it.
    ///
    /// # Errors
    /// Files that cannot be written.
    fn launch(&self, directory: &Path, node: usize, ports: &[Ports], tuning: &Tuning) -> Result<Launch>;
    /// Steps found in a server's log, µs since the Unix epoch.
    fn steps(&self, log: &str) -> Vec<(i64, Step)>;
}

/// One server.
#[derive(Debug)]
pub(crate) struct Node {
    /// 1-based.
    pub(crate) id: usize,
    /// Where clients connect.
    pub(crate) client: SocketAddr,
    directory: PathBuf,
    launch: Launch,
    process: Option<ServerProcess>,
}

impl Node {
    /// Where it writes what it has to say.
    pub(crate) fn log_path(&self) -> PathBuf {
        self.directory.join("server.log")
    }

    /// Process id, if it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(ServerProcess::id)
    }

    /// Starts it (again).
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn start(&mut self) -> Result<()> {
        self.process = None;
        self.process = Some(ServerProcess::spawn(&self.launch, &self.directory, &self.log_path())?);
        Ok(())
    }

    /// Ends it as a power cut would, and reaps it.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// Freezes it.
    ///
    /// # Errors
    /// It does not run.
    pub(crate) fn freeze(&mut self) -> Result<()> {
        self.process.as_mut().context("not running")?.signal(Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It does not run.
    pub(crate) fn thaw(&mut self) -> Result<()> {
        self.process.as_mut().context("not running")?.signal(Signal::CONT)
    }

    /// The end of its log, for error messages.
    pub(crate) fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n")
    }
}

/// Three servers of one system.
#[derive(Debug)]
pub(crate) struct Cluster<'s> {
    /// What they are.
    pub(crate) system: &'s dyn System,
    /// In id order.
    pub(crate) nodes: Vec<Node>,
    directory: PathBuf,
}

impl<'s> Cluster<'s> {
    /// Starts three servers below `base` and waits until they serve.
    ///
    /// # Errors
    /// Whatever keeps them from serving, with the end of their logs.
    pub(crate) fn start(system: &'s dyn System, base: &Path, tuning: &Tuning) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix(&format!("{}-", system.name()))
            .tempdir_in(base)
            .with_context(|| format!("a directory below {}", base.display()))?
            .keep();
        process::register_directory(&directory);
        let ports = free_ports(NODES)?;
        let mut cluster = Self { system, nodes: Vec::new(), directory };
        for (i, own) in ports.iter().enumerate() {
            let directory = cluster.directory.join(format!("node{}", i + 1));
            std::fs::create_dir_all(&directory)?;
            let launch = system.launch(&directory, i + 1, &ports, tuning)?;
            let client = SocketAddr::from((Ipv4Addr::LOCALHOST, own.client));
            cluster.nodes.push(Node { id: i + 1, client, directory, launch, process: None });
        }
        for node in &mut cluster.nodes {
            node.start()?;
        }
        cluster.wait_serving(SERVE_WITHIN)?;
        Ok(cluster)
    }

    /// Client addresses of all servers.
    pub(crate) fn clients(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|n| n.client).collect()
    }

    /// Client addresses of all servers, in turn from the leader's `distance`-th neighbour on.
    ///
    /// # Errors
    /// No leader shows itself.
    pub(crate) fn clients_from_leader(&self, distance: usize) -> Result<Vec<SocketAddr>> {
        let leader = self.leader()?;
        let mut clients = self.clients();
        let place = self.nodes.iter().position(|n| n.id == leader).unwrap_or(0);
        let first = (place + distance) % clients.len().max(1);
        clients.rotate_left(first);
        Ok(clients)
    }

    /// The server with this id.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn node(&mut self, id: usize) -> Result<&mut Node> {
        self.nodes.iter_mut().find(|n| n.id == id).with_context(|| format!("no node {id}"))
    }

    /// Waits until every server serves.
    ///
    /// # Errors
    /// A server that ended, or time that ran out.
    pub(crate) fn wait_serving(&mut self, within: Duration) -> Result<()> {
        let since = Instant::now();
        loop {
            let waiting = self.nodes.iter().find(|n| !self.serves(n)).map(|n| n.id);
            let Some(id) = waiting else { return Ok(()) };
            for node in &mut self.nodes {
                if node.process.as_mut().is_some_and(|p| !p.is_running()) {
                    bail!("{} server {} ended:\n{}", self.system.name(), node.id, node.log_tail());
                }
            }
            if since.elapsed() > within {
                let tail = self.node(id).map(|n| n.log_tail())?;
                bail!("{} server {id} does not serve after {within:?}:\n{tail}", self.system.name());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn serves(&self, node: &Node) -> bool {
        match self.system.path() {
            ClientPath::Jute => srvr(node.client).is_some(),
            ClientPath::EtcdGateway => crate::peers::etcd::healthy(node.client),
        }
    }

    /// The id of the leader.
    ///
    /// # Errors
    /// None shows itself within ten seconds.
    pub(crate) fn leader(&self) -> Result<usize> {
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(10) {
            let leader = match self.system.path() {
                ClientPath::Jute => {
                    self.states().into_iter().find(|(_, s)| s.mode == "leader").map(|(id, _)| id)
                }
                ClientPath::EtcdGateway => crate::peers::etcd::leader(&self.clients()),
            };
            if let Some(id) = leader {
                return Ok(id);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(anyhow!("{}: no leader within 10 s", self.system.name()))
    }

    /// `srvr` of every server that serves; empty for a system without four-letter words.
    pub(crate) fn states(&self) -> Vec<(usize, Srvr)> {
        if self.system.path() == ClientPath::EtcdGateway {
            return Vec::new();
        }
        self.nodes.iter().filter_map(|n| Some((n.id, srvr(n.client)?))).collect()
    }

    /// Opens and closes a session on every server: each of them takes writes.
    ///
    /// # Errors
    /// A server that does not within `within`.
    pub(crate) fn wait_writable(&self, within: Duration) -> Result<()> {
        if self.system.path() == ClientPath::Jute {
            for node in &self.nodes {
                Control::open(node.client, within)?.close()?;
            }
        }
        Ok(())
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            node.kill();
        }
        if std::env::var_os("BENCH_KEEP").is_none() {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
        process::forget_directory(&self.directory);
    }
}

/// Ports that nobody listens on now.
pub(crate) fn free_ports(nodes: usize) -> Result<Vec<Ports>> {
    let held: Vec<TcpListener> =
        (0..nodes * 3).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
    let numbers: Vec<u16> =
        held.iter().map(|l| l.local_addr().map(|a| a.port())).collect::<Result<_, _>>()?;
    let triples = numbers.chunks_exact(3).filter_map(|c| match *c {
        [client, peer, election] => Some(Ports { client, peer, election }),
        _ => None,
    });
    Ok(triples.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ports_are_all_different() {
        let ports = free_ports(3).unwrap();
        let all: BTreeSet<u16> = ports.iter().flat_map(|p| [p.client, p.peer, p.election]).collect();
        assert_eq!((ports.len(), all.len()), (3, 9));
    }
}
