//! The servers of a live run: real processes that are killed, stopped, damaged and started again.
//!
//! ```text
//!  Stand::start ─► server 1 … n (own directory, own zoo.cfg, own disk-faults file) ─► drop: killed, directory removed
//!       └ ours: server i is told its own peer address and the proxy's addresses for all others
//! ```
//!
//! Invariants: a signal goes only to a process of this stand that was not reaped; a server's files are damaged only
//! while it is down. A server that ends without being asked to is remembered with the end of its log.

use super::proxy::Proxy;
use crate::backend::Menagerie;
use crate::cluster::fourletter::{Srvr, srvr_within};
use crate::cluster::{Launch, Ports, ServerProcess, System, Tuning, free_ports, process};
use crate::peers::zookeeper::ZooKeeper;
use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// ms of a tick in our own runs; ZooKeeper's configuration (shared with `compare`) has 2000.
const TICK_MS: u64 = 1000;
/// How long a server may take to answer `srvr`.
const ANSWER: Duration = Duration::from_millis(250);

/// What is started.
#[derive(Debug)]
pub(crate) enum Kind {
    /// Ours, with links through the proxy and a disk that obeys.
    Menagerie {
        /// zab, raft, paxos.
        backend: String,
        /// The server, built with the feature `faulty-disk`.
        binary: PathBuf,
    },
    /// ZooKeeper, with its own links and disks.
    ZooKeeper(ZooKeeper),
}

impl Kind {
    /// As a history names it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Menagerie { backend, .. } => format!("menagerie {backend}"),
            Self::ZooKeeper(zookeeper) => format!("zookeeper {}", zookeeper.version()),
        }
    }

    /// Whether links and disks can be made to fail.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self, Self::Menagerie { .. })
    }

    /// ms of a tick.
    pub(crate) fn tick_ms(&self) -> u64 {
        if self.is_ours() { TICK_MS } else { 2000 }
    }
}

/// Whether a server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It runs.
    Up,
    /// It is stopped with SIGSTOP.
    Frozen,
    /// It does not run.
    Down,
}

/// One server.
#[derive(Debug)]
pub(crate) struct Server {
    /// From 1 on.
    pub(crate) id: u32,
    /// Where clients connect.
    pub(crate) client: SocketAddr,
    /// What the stand has done to it.
    pub(crate) state: State,
    directory: PathBuf,
    launch: Launch,
    process: Option<ServerProcess>,
    disk: BTreeMap<u64, String>,
}

/// The servers.
#[derive(Debug)]
pub(crate) struct Stand {
    /// In id order.
    pub(crate) servers: Vec<Server>,
    /// Between ours.
    pub(crate) proxy: Option<Arc<Proxy>>,
    /// Servers that ended by themselves: what was said, and whether somebody had asked for it (a failing disk).
    pub(crate) ended: Vec<String>,
    directory: PathBuf,
}

impl Stand {
    /// Starts `nodes` servers below `base`; returns when each of them serves.
    ///
    /// # Errors
    /// What keeps them from serving.
    pub(crate) async fn start(kind: &Kind, nodes: u32, base: &Path, seed: u64) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("live-").tempdir_in(base)?.keep();
        process::register_directory(&directory);
        let ports = free_ports(nodes as usize)?;
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let real: Vec<_> = ports.iter().map(|p| address(p.peer)).collect();
        let proxy = if kind.is_ours() { Some(Proxy::start(&real, seed).await?) } else { None };
        let mut stand = Self { servers: Vec::new(), proxy, ended: Vec::new(), directory };
        for (id, own) in (1..=nodes).zip(&ports) {
            let directory = stand.directory.join(format!("node{id}"));
            fs::create_dir_all(&directory)?;
            let launch = match kind {
                Kind::ZooKeeper(zookeeper) => {
                    let tuning = Tuning { snapshot_every: 2_000, log_kept: 500 };
                    zookeeper.launch(&directory, id as usize, &ports, &tuning)?
                }
                Kind::Menagerie { backend, binary } => {
                    let peer = |of: u32| match (&stand.proxy, of == id) {
                        (Some(proxy), false) => proxy.address((id, of)),
                        _ => real.get(of as usize - 1).copied(),
                    };
                    let ours = Menagerie::new(backend, binary)?;
                    let mut launch = ours.launch(&directory, id as usize, &[], &Tuning::default())?;
                    // What `launch` wrote is for servers that know each other's own addresses.
                    write_config(&directory, id, own, nodes, peer)?;
                    let control = directory.join("disk-faults").display().to_string();
                    launch.env.push(("MENAGERIE_DISK_FAULTS".to_owned(), control));
                    launch
                }
            };
            let client = address(own.client);
            let (state, process, disk) = (State::Down, None, BTreeMap::new());
            stand.servers.push(Server { id, client, state, directory, launch, process, disk });
        }
        for id in 1..=nodes {
            stand.run(id)?;
        }
        stand.wait_serving(Duration::from_secs(60)).await?;
        Ok(stand)
    }

    /// Ids of all servers.
    pub(crate) fn ids(&self) -> Vec<u32> {
        self.servers.iter().map(|s| s.id).collect()
    }

    /// Servers that may fail while the others still are a quorum.
    pub(crate) fn minority(&self) -> usize {
        (self.servers.len() - 1) / 2
    }

    /// The server with this id.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn server(&mut self, id: u32) -> Result<&mut Server> {
        self.servers.iter_mut().find(|s| s.id == id).with_context(|| format!("no server {id}"))
    }

    /// What state a server is in.
    pub(crate) fn state(&self, id: u32) -> State {
        self.servers.iter().find(|s| s.id == id).map_or(State::Down, |s| s.state)
    }

    /// Starts a server that does not run.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn run(&mut self, id: u32) -> Result<()> {
        let server = self.server(id)?;
        if server.state == State::Down {
            server.process =
                Some(ServerProcess::spawn(&server.launch, &server.directory, &server.log_path())?);
            server.state = State::Up;
        }
        Ok(())
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, id: u32) -> Result<()> {
        let server = self.server(id)?;
        server.process = None;
        server.state = State::Down;
        Ok(())
    }

    /// SIGTERM; [`Stand::reap`] notices the end.
    pub(crate) fn terminate(&mut self, id: u32) -> Result<()> {
        self.server(id)?.process.as_mut().context("not running")?.signal(Signal::TERM)
    }

    /// SIGSTOP.
    pub(crate) fn freeze(&mut self, id: u32) -> Result<()> {
        let server = self.server(id)?;
        server.process.as_mut().context("not running")?.signal(Signal::STOP)?;
        server.state = State::Frozen;
        Ok(())
    }

    /// SIGCONT, to a frozen one.
    pub(crate) fn thaw(&mut self, id: u32) -> Result<()> {
        let server = self.server(id)?;
        if server.state == State::Frozen {
            server.process.as_mut().context("not running")?.signal(Signal::CONT)?;
            server.state = State::Up;
        }
        Ok(())
    }

    /// Servers that have ended by themselves since the last look.
    pub(crate) fn reap(&mut self) -> Vec<u32> {
        let mut ended = Vec::new();
        for server in self.servers.iter_mut().filter(|s| s.state != State::Down) {
            if server.process.as_mut().is_none_or(|p| !p.is_running()) {
                server.process = None;
                server.state = State::Down;
                ended.push(server.id);
            }
        }
        ended
    }

    /// Who leads, of those that run and answer: the one with the latest zxid, if two think so.
    pub(crate) fn leader(&self) -> Option<u32> {
        let said = self.answers();
        said.iter().filter(|(_, s)| s.mode == "leader").max_by_key(|(_, s)| s.zxid).map(|(id, _)| *id)
    }

    /// `srvr` of every server that runs and answers.
    pub(crate) fn answers(&self) -> Vec<(u32, Srvr)> {
        let up = self.servers.iter().filter(|s| s.state == State::Up);
        up.filter_map(|s| Some((s.id, srvr_within(s.client, ANSWER)?))).collect()
    }

    /// Waits until every server serves.
    ///
    /// # Errors
    /// One does not, with the end of its log.
    pub(crate) async fn wait_serving(&mut self, within: Duration) -> Result<()> {
        let since = Instant::now();
        loop {
            let serving: Vec<u32> = self.answers().into_iter().map(|(id, _)| id).collect();
            let Some(id) = self.ids().into_iter().find(|id| !serving.contains(id)) else { return Ok(()) };
            if since.elapsed() > within {
                let tail = self.server(id)?.log_tail(20);
                bail!("server {id} does not serve after {within:?}:\n{tail}");
            }
            for id in self.reap() {
                let tail = self.server(id)?.log_tail(20);
                self.ended.push(format!("server {id} ended:\n{tail}"));
                self.run(id)?;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Server {
    fn log_path(&self) -> PathBuf {
        self.directory.join("server.log")
    }

    /// Everything it said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The last lines that it said.
    pub(crate) fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<_> = log.lines().collect();
        all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
    }

    /// Whether it said at its last start that it may vote.
    pub(crate) fn may_vote(&self) -> bool {
        self.log().lines().rfind(|l| l.contains("recovered")).is_none_or(|l| !l.contains("may_vote=false"))
    }

    /// Whether this snapshot is its own, not one that it was sent.
    pub(crate) fn took(&self, snapshot: &Path) -> bool {
        let name = snapshot.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let index = name.split('-').next().unwrap_or_default().trim_start_matches('0').to_owned();
        let at = format!(":{index} ");
        self.log().lines().any(|l| l.contains("snapshot taken") && l.contains(&at))
    }

    /// Lays a mood over its disk (words of `wal::FaultyDisk`).
    ///
    /// # Errors
    /// The control file cannot be written.
    pub(crate) fn lay_disk(&mut self, layer: u64, words: &str) -> Result<()> {
        self.disk.insert(layer, words.to_owned());
        self.tell_disk()
    }

    /// Lifts a mood.
    ///
    /// # Errors
    /// The control file cannot be written.
    pub(crate) fn lift_disk(&mut self, layer: u64) -> Result<()> {
        self.disk.remove(&layer);
        self.tell_disk()
    }

    fn tell_disk(&self) -> Result<()> {
        let words: Vec<&str> = self.disk.values().map(String::as_str).collect();
        let (file, new) = (self.directory.join("disk-faults"), self.directory.join("disk-faults.new"));
        fs::write(&new, words.join(" "))?;
        Ok(fs::rename(new, file)?)
    }

    /// Whether its disk fails syncs now: it ends by itself then, as it should.
    pub(crate) fn disk_fails(&self) -> bool {
        self.disk.values().any(|words| words.contains("fail_sync"))
    }

    /// Removes everything that it has stored, but not its id.
    ///
    /// # Errors
    /// It runs, or the files refuse.
    pub(crate) fn wipe(&self) -> Result<()> {
        anyhow::ensure!(self.state == State::Down, "server {} runs", self.id);
        for part in ["data/menagerie", "log/menagerie"] {
            fs::remove_dir_all(self.directory.join(part))?;
        }
        Ok(())
    }

    /// Whether the next start may vote.
    ///
    /// # Errors
    /// The configuration cannot be written.
    pub(crate) fn allow_vote(&self, allowed: bool) -> Result<()> {
        let file = self.directory.join("zoo.cfg");
        let kept = fs::read_to_string(&file)?;
        let mut text: String =
            kept.lines().filter(|l| !l.starts_with("mayVote=")).fold(String::new(), |t, l| t + l + "\n");
        writeln!(text, "mayVote={allowed}")?;
        Ok(fs::write(file, text)?)
    }

    /// Files of its log (`log`) or its snapshots (`snap`), oldest first.
    pub(crate) fn files(&self, suffix: &str) -> Vec<PathBuf> {
        let folders = ["log/menagerie/log", "data/menagerie/snapshots"];
        let mut found: Vec<PathBuf> = folders
            .iter()
            .filter_map(|f| fs::read_dir(self.directory.join(f)).ok())
            .flat_map(|items| items.flatten().map(|i| i.path()))
            .filter(|p| p.extension().is_some_and(|e| e == suffix))
            .collect();
        found.sort();
        found
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        self.servers.iter_mut().for_each(|s| s.process = None);
        if std::env::var_os("BENCH_KEEP").is_none() {
            let _ = fs::remove_dir_all(&self.directory);
        }
        process::forget_directory(&self.directory);
    }
}

/// Writes `zoo.cfg` and `myid` of server `id`; `peer` says where it finds the others.
fn write_config(
    directory: &Path,
    id: u32,
    own: &Ports,
    nodes: u32,
    peer: impl Fn(u32) -> Option<SocketAddr>,
) -> Result<()> {
    let (data, log) = (directory.join("data"), directory.join("log"));
    fs::create_dir_all(&data)?;
    fs::create_dir_all(&log)?;
    fs::write(data.join("myid"), format!("{id}\n"))?;
    // Snapshots and purges often, and a short log: replicas that were away come back by log and by snapshot.
    let mut text = format!(
        "tickTime={TICK_MS}\ninitLimit=10\nsyncLimit=5\ndataDir={}\ndataLogDir={}\nclientPortAddress=127.0.0.1\n\
         clientPort={}\nmaxClientCnxns=0\n4lw.commands.whitelist=*\nsnapCount=2000\ncommitLogCount=500\n",
        data.display(),
        log.display(),
        own.client
    );
    for of in 1..=nodes {
        let address = peer(of).context("an address for each server")?;
        writeln!(text, "server.{of}={}:{}:{}", address.ip(), address.port(), own.election)?;
    }
    Ok(fs::write(directory.join("zoo.cfg"), text)?)
}
