//! etcd as Debian packages it, through its v3 HTTP/JSON gateway: another client path than ZooKeeper's protocol.
//!
//! Settings: defaults, write-ahead log in a directory of its own, a history kept short by hourly compaction off (runs are
//! short), the quota raised to 8 GiB so that a long create run does not end in an alarm. fsync stays on.

use crate::cluster::{ClientPath, Launch, Ports, Step, System, Tuning};
use anyhow::{Result, bail};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Where the package has it.
const PROGRAM: &str = "/usr/bin/etcd";

/// etcd.
#[derive(Debug)]
pub(crate) struct Etcd {
    version: String,
}

impl Etcd {
    /// The installed one.
    ///
    /// # Errors
    /// It is not installed.
    pub(crate) fn installed() -> Result<Self> {
        let Ok(output) = Command::new(PROGRAM).arg("--version").output() else {
            bail!("peer etcd: {PROGRAM} is missing (Debian package etcd-server)");
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.lines().next().and_then(|l| l.rsplit(' ').next()).unwrap_or("unknown");
        Ok(Self { version: version.to_owned() })
    }
}

impl System for Etcd {
    fn name(&self) -> &str {
        "etcd"
    }

    fn version(&self) -> String {
        self.version.clone()
    }

    fn path(&self) -> ClientPath {
        ClientPath::EtcdGateway
    }

    fn launch(&self, directory: &Path, node: usize, ports: &[Ports], tuning: &Tuning) -> Result<Launch> {
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let own = ports.get(node - 1).copied().unwrap_or(Ports { client: 0, peer: 0, election: 0 });
        let cluster: Vec<_> =
            ports.iter().enumerate().map(|(i, p)| format!("n{}={}", i + 1, url(p.peer))).collect();
        let args = [
            format!("--name=n{node}"),
            format!("--data-dir={}", directory.join("data").display()),
            format!("--wal-dir={}", directory.join("wal").display()),
            format!("--listen-client-urls={}", url(own.client)),
            format!("--advertise-client-urls={}", url(own.client)),
            format!("--listen-peer-urls={}", url(own.peer)),
            format!("--initial-advertise-peer-urls={}", url(own.peer)),
            format!("--initial-cluster={}", cluster.join(",")),
            "--initial-cluster-state=new".into(),
            format!("--snapshot-count={}", tuning.snapshot_every),
            "--quota-backend-bytes=8589934592".into(),
            "--log-level=warn".into(),
            "--logger=zap".into(),
        ];
        Ok(Launch {
            program: PROGRAM.into(),
            args: args.into_iter().map(Into::into).collect(),
            env: Vec::new(),
        })
    }

    fn steps(&self, _log: &str) -> Vec<(i64, Step)> {
        Vec::new()
    }
}

/// Whether `/health` says so.
pub(crate) fn healthy(server: SocketAddr) -> bool {
    exchange(server, "GET", "/health", "").is_some_and(|text| text.contains("\"true\""))
}

/// The 1-based place in `servers` of the leader.
pub(crate) fn leader(servers: &[SocketAddr]) -> Option<usize> {
    let leads = |server: &SocketAddr| {
        let text = exchange(*server, "POST", "/v3/maintenance/status", "{}")?;
        let status: Value = serde_json::from_str(&text).ok()?;
        let own = status.get("header")?.get("member_id")?.as_str()?.to_owned();
        Some(status.get("leader")?.as_str()? == own)
    };
    servers.iter().position(|s| leads(s) == Some(true)).map(|i| i + 1)
}

/// One HTTP exchange; the body of a reply with status 200.
fn exchange(server: SocketAddr, method: &str, path: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&server, Duration::from_millis(500)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
}
