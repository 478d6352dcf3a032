//! `live`: does to real processes what can be done to them, records what clients see, and lets the checkers judge it.
//!
//! ```text
//!  nemesis ─► signals, files ─► servers ◄─ links through the proxy ◄─ weather ◄─ nemesis
//!                                 ▲
//!        recording clients ───────┘──► recorder ─► history ─► history::check_all ─► report
//! ```
//!
//! The same clients and checkers run on ZooKeeper (`--peers zookeeper`), with the faults that signals and clients can
//! bring about: that calibrates the checkers. A run passes if no checker finds anything, no reply breaks the protocol
//! and no server ends without a reason; how long writes stood still is measured and judged by nobody.
//!
//! A seed decides which faults and operations come, and for how long; when exactly they meet, the machine decides.

mod chance;
mod client;
mod faults;
mod nemesis;
mod proxy;
mod recorder;
mod report;
mod run;
mod source;
mod stand;
mod strikes;
mod trouble;
mod watches;
mod weather;
mod workload;

use crate::args;
use crate::backend;
use crate::clock;
use crate::environment::{Environment, output};
use crate::peers::zookeeper::ZooKeeper;
use anyhow::{Context, Result, bail};
use stand::Kind;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Options that name places.
const PLACES: [&str; 4] = ["--server", "--histories", "--out", "--data"];

/// Runs every system that was asked for.
///
/// # Errors
/// A violation, or a system that could not be run.
pub(crate) fn live(options: &args::Live) -> Result<()> {
    let started = Instant::now();
    let kinds = kinds(options)?;
    let of_time = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_secs());
    let seed = options.seed.unwrap_or_else(of_time);
    let mut record = describe(options, seed);
    let histories = match &options.histories {
        Some(folder) => folder.clone(),
        None => tempfile::Builder::new().prefix("live-histories-").tempdir()?.keep(),
    };
    std::fs::create_dir_all(&histories)?;
    for kind in &kinds {
        eprintln!("{}: {} servers, {} faults, seed {seed}", kind.name(), options.nodes(), options.faults());
        let mut system = run::run(kind, options, seed, &histories).with_context(|| kind.name())?;
        println!("{}", report::summary(&system));
        system.faults.sort_by_key(|f| (f.row, f.name.clone()));
        record.systems.push(system);
    }
    record.duration_s = started.elapsed().as_secs_f64();
    if !options.smoke {
        let out = options.out.clone().unwrap_or_else(|| format!("results/{}", record.run_id).into());
        report::write(&record, &out)?;
        println!("{:.0} s; report: {}; histories: {}", record.duration_s, out.display(), histories.display());
    }
    let violations: usize = record.systems.iter().map(report::System::violations).sum();
    if violations > 0 {
        bail!("{violations} violations; histories: {}", histories.display());
    }
    if options.smoke && options.histories.is_none() {
        let _ = std::fs::remove_dir_all(&histories);
    }
    Ok(())
}

/// Judges a recorded history, and puts the verdict into the report `into`.
///
/// # Errors
/// It is none, or a checker finds something.
pub(crate) fn check_again(file: &Path, into: Option<&Path>) -> Result<()> {
    let open = File::open(file).with_context(|| format!("{}", file.display()))?;
    let history = history::jsonl::read(&mut BufReader::new(open))?;
    if let Some(out) = into {
        report::judge_again(&history, out)?;
    }
    let checked = history::check_all(&history);
    println!("{}", history::tell(&history, &checked));
    anyhow::ensure!(checked.findings.is_empty(), "{} findings", checked.findings.len());
    Ok(())
}

fn kinds(options: &args::Live) -> Result<Vec<Kind>> {
    let mut kinds = Vec::new();
    if !options.backends().is_empty() {
        let binary = match &options.server {
            Some(path) => std::fs::canonicalize(path).with_context(|| format!("{}", path.display()))?,
            None => backend::build("faulty-disk")?,
        };
        for backend in options.backends() {
            kinds.push(Kind::Menagerie { backend: backend.to_owned(), binary: binary.clone() });
        }
    }
    if !options.peers.is_empty() {
        kinds.push(Kind::ZooKeeper(ZooKeeper::installed()?));
    }
    Ok(kinds)
}

fn describe(options: &args::Live, seed: u64) -> report::Live {
    let git = |args: &[&str]| output("git", args);
    let sha = git(&["rev-parse", "HEAD"]);
    // Places of this machine are worth nothing to who reads it.
    let mut is_place = false;
    let is_kept = |arg: &String| {
        let of_place = std::mem::replace(&mut is_place, PLACES.contains(&arg.as_str()));
        !of_place && !is_place
    };
    let args: Vec<String> = std::env::args().skip(1).filter(is_kept).collect();
    let environment =
        if options.smoke { Environment::default() } else { Environment::capture(&options.data) };
    report::Live {
        schema: report::SCHEMA.to_owned(),
        run_id: format!("live-{}-{}", clock::compact(), sha.get(..7).unwrap_or("unknown")),
        started_utc: clock::rfc3339(),
        duration_s: 0.0,
        command: format!("cargo run --release -p bench-harness -- {}", args.join(" ")),
        git_dirty: !git(&["status", "--porcelain", "--untracked-files=no"]).is_empty(),
        git_sha: sha,
        environment,
        seed,
        nodes: options.nodes(),
        clients: options.clients,
        systems: Vec::new(),
    }
}
