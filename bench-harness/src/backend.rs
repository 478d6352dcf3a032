//! Our own server, once per consensus backend, started from ZooKeeper's own configuration file.

use crate::cluster::{ClientPath, Launch, Ports, Step, System, Tuning};
use crate::peers::zookeeper;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The backends that there are.
pub(crate) const BACKENDS: [&str; 3] = ["zab", "raft", "paxos"];

/// One backend.
#[derive(Debug)]
pub(crate) struct Menagerie {
    backend: &'static str,
    binary: PathBuf,
}

impl Menagerie {
    /// The server at `binary` with this backend.
    ///
    /// # Errors
    /// There is no such backend.
    pub(crate) fn new(backend: &str, binary: &Path) -> Result<Self> {
        let known = BACKENDS.into_iter().find(|b| *b == backend);
        let backend =
            known.with_context(|| format!("unknown backend {backend:?}: one of {}", BACKENDS.join(", ")))?;
        Ok(Self { backend, binary: binary.to_owned() })
    }
}

/// Brings the release binary up to date (cargo knows whether it is) and returns its path. `features` beside the
/// default ones, separated by commas.
///
/// # Errors
/// It does not build.
pub(crate) fn build(features: &str) -> Result<PathBuf> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "build",
            "--release",
            "-p",
            "server",
            "--bin",
            "menagerie",
            "--features",
            features,
            "--message-format=json-render-diagnostics",
        ])
        .current_dir(workspace())
        .stderr(Stdio::inherit())
        .output()
        .context("running cargo")?;
    if !output.status.success() {
        bail!("the server does not build (see above)");
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut built = text.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_it = message.get("target")?.get("name")? == "menagerie";
        is_it.then(|| message.get("executable")?.as_str().map(PathBuf::from)).flatten()
    });
    built.next_back().context("cargo built no menagerie binary")
}

/// The workspace's root: above this crate when run by cargo, else where we are.
pub(crate) fn workspace() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    manifest.and_then(|m| m.parent().map(Path::to_owned)).unwrap_or_else(|| PathBuf::from("."))
}

impl System for Menagerie {
    fn name(&self) -> &str {
        self.backend
    }

    fn version(&self) -> String {
        env!("CARGO_PKG_VERSION").to_owned()
    }

    fn path(&self) -> ClientPath {
        ClientPath::Jute
    }

    fn launch(&self, directory: &Path, node: usize, ports: &[Ports], tuning: &Tuning) -> Result<Launch> {
        let extra = format!("snapCount={}\ncommitLogCount={}\n", tuning.snapshot_every, tuning.log_kept);
        let file = zookeeper::write_config(directory, node, ports, &extra)?;
        let args =
            ["serve".into(), "--config".into(), file.into(), "--consensus".into(), self.backend.into()];
        let env = vec![("RUST_LOG".to_owned(), "info".to_owned()), ("NO_COLOR".to_owned(), "1".to_owned())];
        Ok(Launch { program: self.binary.clone(), args: args.into(), env })
    }

    fn steps(&self, log: &str) -> Vec<(i64, Step)> {
        log.lines().filter_map(step).collect()
    }
}

/// Reads one line such as `2026-01-02T03:04:05.678901Z  INFO node: view node=1 role=Leader phase=Broadcast …`.
fn step(line: &str) -> Option<(i64, Step)> {
    let (time, rest) = line.split_once(' ')?;
    let has = |what: &str| rest.split(' ').any(|word| word == what);
    let step = if rest.contains("first commit of the epoch") {
        Step::Committed
    } else if !has("view") {
        return None;
    } else if has("role=Electing") {
        Step::Detected
    } else if has("role=Leader") && has("phase=Broadcast") {
        Step::Serving
    } else if has("role=Leader") {
        Step::Elected
    } else {
        return None;
    };
    Some((zookeeper::unix_us(time)?, step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_backend_is_named_with_the_known_ones() {
        let error = Menagerie::new("epaxos", Path::new("x")).unwrap_err().to_string();
        assert!(error.contains("\"epaxos\"") && error.contains("zab, raft, paxos"), "{error}");
    }

    #[test]
    fn the_steps_of_an_election_are_found_in_the_trace() {
        let log = "2026-01-02T03:04:05.100200Z  INFO node::carry: view node=2 role=Electing phase=Election epoch=1\n\
                   2026-01-02T03:04:05.150200Z  INFO node::carry: view node=2 role=Leader phase=Sync epoch=2\n\
                   2026-01-02T03:04:05.160300Z  INFO node::carry: view node=2 role=Leader phase=Broadcast epoch=2\n\
                   2026-01-02T03:04:05.170000Z  INFO server: first commit of the epoch zxid=8589934593\n\
                   2026-01-02T03:04:05.160300Z  INFO node::carry: view node=3 role=Follower phase=Broadcast epoch=2\n";
        let steps = Menagerie::new("zab", Path::new("x")).unwrap().steps(log);
        let kinds: Vec<Step> = steps.iter().map(|(_, s)| *s).collect();
        assert_eq!(kinds, [Step::Detected, Step::Elected, Step::Serving, Step::Committed]);
        assert_eq!(steps[1].0 - steps[0].0, 50_000);
    }
}
