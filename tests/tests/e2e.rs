//! End-to-end scenarios: real processes on loopback, driven by kazoo, a third-party client, for every backend.
//!
//! The scenarios are Python (`e2e/`), because the client is; `python3 e2e/main.py SCENARIO zookeeper` runs them against
//! Apache ZooKeeper itself, which is how they were checked. Without Python or kazoo (and no package index to install it
//! from) they are skipped loudly; with `CI` set a skip is a failure.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // test support: panics are verdicts

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs};

/// The kazoo that the scenarios were written against.
const KAZOO: &str = "kazoo==2.11.0";

fn target_dir() -> PathBuf {
    // target/<profile>/deps/e2e-<hash>
    let exe = env::current_exe().expect("this test's path");
    exe.ancestors().nth(2).expect("a target directory").to_owned()
}

/// The server binary of the same profile as this test.
fn menagerie() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.args(["build", "--quiet", "-p", "server", "--bin", "menagerie"]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        let status = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo runs");
        assert!(status.success(), "the server does not build");
        let binary = target_dir().join("menagerie");
        assert!(binary.exists(), "no {}", binary.display());
        binary
    })
}

fn has_kazoo(python: &Path) -> bool {
    Command::new(python).args(["-c", "import kazoo"]).output().is_ok_and(|o| o.status.success())
}

/// A Python with kazoo, installed into the target directory if need be.
fn python() -> Option<&'static Path> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = PYTHON.get_or_init(|| {
        let system = PathBuf::from("python3");
        if has_kazoo(&system) {
            return Some(system);
        }
        let venv = target_dir().join("e2e-python");
        let own = venv.join("bin/python");
        if !has_kazoo(&own) {
            let _ = fs::remove_dir_all(&venv);
            Command::new("python3").args(["-m", "venv"]).arg(&venv).status().ok()?;
            Command::new(&own).args(["-m", "pip", "install", "--quiet", KAZOO]).status().ok()?;
        }
        has_kazoo(&own).then_some(own)
    });
    found.as_deref()
}

fn run(scenario: &str, system: &str) {
    let Some(python) = python() else {
        assert!(env::var_os("CI").is_none(), "no Python with {KAZOO}: in CI this is a failure");
        eprintln!("SKIPPED: {scenario} on {system}: no Python with {KAZOO}, and it cannot be installed");
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/main.py");
    let output = Command::new(python)
        .arg(script)
        .args([scenario, system])
        .arg(menagerie())
        .output()
        .expect("python runs");
    assert!(
        output.status.success(),
        "{scenario} on {system}:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

macro_rules! scenarios {
    ($($scenario:ident on $($system:ident)*;)*) => {
        $(mod $scenario {
            $(#[test]
            fn $system() {
                super::run(stringify!($scenario), stringify!($system));
            })*
        })*
    };
}

// requirement: S1 S3 S4 S5 S6 S7 S8 S9 S11 S12 S14 S18 S33 S35
scenarios! {
    everyday on zab raft paxos;
    failover on zab raft paxos;
    hostile on zab raft paxos;
    disk on zab raft paxos;
}
