//! `menagerie demo`: a cluster from one command. Each server is a process of its own in a temporary directory, so that it
//! can be killed, stopped and looked at like a real one.

use crate::Consensus;
use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long the cluster may take to elect a leader.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a server may take to end by itself.
const GRACE: Duration = Duration::from_secs(5);

/// A running demo.
#[derive(Debug)]
pub struct Cluster {
    consensus: Consensus,
    servers: Vec<Server>,
    started: Instant,
    ready: Duration,
    dir: TempDir,
}

#[derive(Debug)]
struct Server {
    id: u32,
    port: u16,
    process: Child,
}

/// Starts `nodes` servers of the given protocol and waits until all of them serve.
///
/// # Errors
/// A process, port or directory cannot be had, or no leader is elected in time.
pub fn start(nodes: u32, consensus: Consensus) -> anyhow::Result<Cluster> {
    let started = Instant::now();
    let dir = tempfile::Builder::new().prefix("menagerie-demo-").tempdir()?;
    let ports = free_ports(nodes as usize * 2)?;
    let (client_ports, peer_ports) = ports.split_at(nodes as usize);
    let mut members = String::new();
    for ((id, client), peer) in (1..).zip(client_ports).zip(peer_ports) {
        writeln!(members, "server.{id}=127.0.0.1:{peer}:{peer}:participant;127.0.0.1:{client}")?;
    }
    let mut cluster = Cluster { consensus, servers: Vec::new(), started, ready: Duration::ZERO, dir };
    let program = std::env::current_exe().context("cannot find the menagerie program")?;
    for (id, port) in (1..).zip(client_ports) {
        let home = cluster.dir.path().join(format!("server-{id}"));
        std::fs::create_dir(&home)?;
        std::fs::write(home.join("myid"), format!("{id}\n"))?;
        let file = home.join("zoo.cfg");
        let text = format!(
            "tickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir={}\n4lw.commands.whitelist=*\nmaxClientCnxns=0\nconsensus={}\n{members}",
            home.display(),
            consensus.name()
        );
        std::fs::write(&file, text)?;
        let log = std::fs::File::create(home.join("server.log"))?;
        let process = Command::new(&program)
            .arg("serve")
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start a server process")?;
        cluster.servers.push(Server { id, port: *port, process });
    }
    cluster.wait_until_ready()?;
    Ok(cluster)
}

/// Ports that are free now.
fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    // All are held until the last one is known, so that none comes twice.
    let held: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
    Ok(held
        .iter()
        .map(TcpListener::local_addr)
        .collect::<Result<Vec<_>, _>>()?
        .iter()
        .map(SocketAddr::port)
        .collect())
}

impl Cluster {
    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        loop {
            let modes: Vec<_> = self.servers.iter().map(|s| mode(s.port)).collect();
            let leads = |m: &Option<String>| m.as_deref().is_some_and(|m| m == "leader" || m == "standalone");
            if modes.iter().all(Option::is_some) && modes.iter().any(leads) {
                self.ready = self.started.elapsed();
                return Ok(());
            }
            for server in &mut self.servers {
                if let Some(status) = server.process.try_wait()? {
                    let log = self.dir.path().join(format!("server-{}", server.id)).join("server.log");
                    let text = std::fs::read_to_string(log).unwrap_or_default();
                    bail!("server {} ended ({status}):\n{text}", server.id);
                }
            }
            if self.started.elapsed() > PATIENCE {
                bail!("no leader after {PATIENCE:?}; modes: {modes:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// `host:port` of all servers, separated by commas.
    #[must_use]
    pub fn connect_string(&self) -> String {
        let all: Vec<_> = self.servers.iter().map(|s| format!("127.0.0.1:{}", s.port)).collect();
        all.join(",")
    }

    /// What to tell the user.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = format!(
            "{} server(s) replicate by {} (ready after {} ms)\n",
            self.servers.len(),
            self.consensus.name(),
            self.ready.as_millis()
        );
        for server in &self.servers {
            let mode = mode(server.port).unwrap_or_else(|| "?".to_owned());
            let _ = writeln!(
                text,
                "  server {}  port {}  pid {}  {mode}",
                server.id,
                server.port,
                server.process.id()
            );
        }
        let _ = write!(
            text,
            "data: {}\nconnect: {}\nCtrl-C stops it and removes the data.",
            self.dir.path().display(),
            self.connect_string()
        );
        text
    }

    /// Ends all servers and removes their data.
    pub fn stop(mut self) {
        for server in &self.servers {
            if let Some(pid) = i32::try_from(server.process.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        let end = Instant::now() + GRACE;
        for server in &mut self.servers {
            while matches!(server.process.try_wait(), Ok(None)) && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for server in &mut self.servers {
            // Those that have ended are not affected.
            let _ = server.process.kill();
            let _ = server.process.wait();
        }
    }
}

/// The `Mode` line of `srvr`, if the server serves.
fn mode(port: u16) -> Option<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok()?;
    stream.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
    stream.write_all(b"srvr").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Mode: ")).map(str::to_owned)
}
