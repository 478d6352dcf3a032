//! `compare`: runs the experiments, interleaved over the systems, and writes the record and the reports.
//!
//! ```text
//!  repeat 0: zab raft paxos zk   repeat 1: raft paxos zk zab   repeat 2: paxos zk zab raft …
//!            └ fresh cluster: [JVM warm-up] 18 cells, commit cost ┘
//! ```
//!
//! Only one cluster runs at a time: on a small machine the others would take its processors. What fails is recorded
//! under `failures` and the rest goes on: a report without a row is honest, a missing report is not.

use crate::args::{Compare, Experiment};
use crate::backend::{self, Menagerie};
use crate::cluster::{ClientPath, Cluster, Launch, Ports, System, Tuning};
use crate::environment::{Environment, output, stolen_ticks};
use crate::experiments::sync_cost::By;
use crate::experiments::{commit_cost, election, footprint, generator, sync_cost, throughput};
use crate::lab::Lab;
use crate::peers::{etcd::Etcd, zookeeper::ZooKeeper};
use crate::record::{Failure, Run, SCHEMA, SystemRecord};
use crate::{clock, report};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::time::Instant;

type Systems = Vec<Box<dyn System>>;

/// Order of `n` systems in round `round`: ABC, BCA, CAB, …
fn rotation(n: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..n).map(move |i| (i + round) % n)
}

/// Runs the comparison; returns the folder with its results.
///
/// # Errors
/// Systems that are not there, results that cannot be written. Failures of single experiments are in the record.
pub(crate) fn compare(options: &Compare) -> Result<PathBuf> {
    let started = Instant::now();
    std::fs::create_dir_all(&options.data).with_context(|| format!("{}", options.data.display()))?;
    let systems = systems(options)?;
    let mut run = describe(options, &systems);
    let out = options.out.clone().unwrap_or_else(|| backend::workspace().join("results").join(&run.run_id));
    std::fs::create_dir_all(&out).with_context(|| format!("{}", out.display()))?;
    let lab = Lab::new(options.data.clone(), steps(options, systems.len()));
    let stolen = stolen_ticks();
    lab.say("generator against a server that does nothing");
    let generator_s = if options.quick { 0.2 } else { 1.0 };
    match generator::prove(generator_s) {
        Ok(proofs) => run.generator = proofs,
        Err(e) => fail(&mut run, "generator", "null server", &e),
    }
    let mut bench = Bench { options, systems: &systems, lab: &lab, run: &mut run };
    bench.throughput();
    bench.elections();
    bench.syncs();
    bench.footprints();
    lab.progress.finish_and_clear();
    run.duration_s = started.elapsed().as_secs_f64();
    run.environment.steal_percent = stolen_ticks().saturating_sub(stolen) as f64 / run.duration_s;
    report::write(&run, &out)?;
    println!("{}", report::table::render(&run));
    println!("{} s; raw and reports: {}", run.duration_s.round(), out.display());
    Ok(out)
}

fn systems(options: &Compare) -> Result<Systems> {
    let mut systems: Systems = Vec::new();
    if !options.no_backends {
        let binary = match &options.server {
            Some(path) => std::fs::canonicalize(path).with_context(|| format!("{}", path.display()))?,
            None => backend::build("")?,
        };
        for name in &options.backends {
            systems.push(Box::new(Menagerie::new(name, &binary)?));
        }
    }
    for peer in &options.peers {
        systems.push(match peer.as_str() {
            "zookeeper" => Box::new(ZooKeeper::installed()?),
            _ => Box::new(Etcd::installed()?),
        });
    }
    Ok(systems)
}

fn describe(options: &Compare, systems: &Systems) -> Run {
    let git = |args: &[&str]| output("git", args);
    let sha = git(&["rev-parse", "HEAD"]);
    let short = sha.get(..7).unwrap_or("unknown").to_owned();
    Run {
        schema: SCHEMA.to_owned(),
        run_id: format!("compare-{}-{short}", clock::compact()),
        started_utc: clock::rfc3339(),
        command: command(),
        suite: options.suite().to_owned(),
        git_sha: sha,
        git_dirty: !git(&["status", "--porcelain", "--untracked-files=no"]).is_empty(),
        environment: Environment::capture(&options.data),
        systems: systems.iter().map(|s| system_record(s.as_ref(), &options.data)).collect(),
        repeats: options.repeats(),
        cell_seconds: options.cell_seconds(),
        ..Run::default()
    }
}

/// The command that was given, without the place of the binary.
fn command() -> String {
    let args: Vec<String> = std::env::args().skip(1).collect();
    format!("cargo run --release -p bench-harness -- {}", args.join(" "))
}

fn system_record(system: &dyn System, data: &Path) -> SystemRecord {
    let ports: Vec<Ports> =
        (1..=3).map(|i| Ports { client: 2180 + i, peer: 2890 + i, election: 3890 + i }).collect();
    // A dry launch, for the command line; directories of this machine are not worth telling.
    let line = tempfile::tempdir_in(data).ok().and_then(|directory| {
        let launch: Launch = system.launch(directory.path(), 1, &ports, &Tuning::default()).ok()?;
        let path = directory.path().display().to_string();
        let program = launch.program.parent().map(|p| format!("{}/", p.display())).unwrap_or_default();
        Some(launch.command_line().replace(&path, "<data>").replace(&program, ""))
    });
    SystemRecord {
        name: system.name().to_owned(),
        version: system.version(),
        client_path: match system.path() {
            ClientPath::Jute => "ZooKeeper protocol".into(),
            ClientPath::EtcdGateway => "etcd v3 HTTP/JSON gateway (another client path)".into(),
        },
        command_line: line.unwrap_or_default(),
    }
}

fn steps(options: &Compare, systems: usize) -> u64 {
    let rounds = |wanted, n: usize| if options.wants(wanted) { n } else { 0 };
    let per_system = rounds(Experiment::Throughput, options.repeats())
        + rounds(Experiment::Election, 2 * options.trials())
        + rounds(Experiment::Sync, sync_trials(options).len())
        + rounds(Experiment::Footprint, 1);
    (per_system * systems) as u64
}

fn sync_trials(options: &Compare) -> &'static [(By, u64)] {
    if options.quick {
        &[(By::Log, 1_000), (By::Snapshot, 1_000)]
    } else {
        &[(By::Log, 0), (By::Log, 1_000), (By::Snapshot, 1_000), (By::Log, 100_000), (By::Snapshot, 100_000)]
    }
}

fn fail(run: &mut Run, system: &str, during: &str, error: &anyhow::Error) {
    eprintln!("FAILED {system}, {during}: {error:#}");
    run.failures.push(Failure {
        system: system.to_owned(),
        during: during.to_owned(),
        error: format!("{error:#}"),
    });
}

struct Bench<'a> {
    options: &'a Compare,
    systems: &'a Systems,
    lab: &'a Lab,
    run: &'a mut Run,
}

impl<'a> Bench<'a> {
    fn system(&self, i: usize) -> Option<&'a dyn System> {
        self.systems.get(i).map(AsRef::as_ref)
    }

    /// Starts a cluster, warmed up if it has to be.
    fn start(&self, system: &'a dyn System, warm_up_s: f64) -> Result<Cluster<'a>> {
        self.lab.say(&format!("{} starts", system.name()));
        let cluster = Cluster::start(system, &self.lab.base, &Tuning::default())?;
        if system.warms_up() {
            self.lab.say(&format!("{} warms up for {warm_up_s} s", system.name()));
            throughput::warm_up(&cluster, warm_up_s)?;
        }
        Ok(cluster)
    }

    fn throughput(&mut self) {
        let (cells, commits) = (Experiment::Throughput, Experiment::Commit);
        if !self.options.wants(cells) && !self.options.wants(commits) {
            return;
        }
        let rounds = if self.options.wants(cells) { self.options.repeats() } else { 1 };
        for round in 0..rounds {
            for i in rotation(self.systems.len(), round) {
                let Some(system) = self.system(i) else { continue };
                let mut cluster = match self.start(system, self.options.jvm_warmup()) {
                    Ok(cluster) => cluster,
                    Err(e) => {
                        fail(self.run, system.name(), "starting", &e);
                        continue;
                    }
                };
                if round == 0 && self.options.wants(commits) {
                    match commit_cost::measure(self.lab, &cluster, self.options.cell_seconds()) {
                        Ok(costs) => self.run.commits.extend(costs),
                        Err(e) => fail(self.run, system.name(), "commit cost", &e),
                    }
                }
                if self.options.wants(cells) {
                    let run = &mut *self.run;
                    let failed = |what: String, e| fail(run, system.name(), &what, &e);
                    let seconds = self.options.cell_seconds();
                    let (runs, quiet) = throughput::measure(self.lab, &mut cluster, round, seconds, failed);
                    self.run.cells.extend(runs);
                    self.run.quiet.push(quiet);
                    self.lab.progress.inc(1);
                }
            }
        }
    }

    fn elections(&mut self) {
        if !self.options.wants(Experiment::Election) {
            return;
        }
        // Trials in blocks, so that systems take turns here too.
        let blocks = self.options.repeats().min(self.options.trials());
        for block in 0..blocks {
            let share = |n: usize| n * (block + 1) / blocks - n * block / blocks;
            for i in rotation(self.systems.len(), block) {
                let Some(system) = self.system(i) else { continue };
                if let Err(e) = self.elections_of(system, block, share(self.options.trials())) {
                    fail(self.run, system.name(), "elections", &e);
                }
            }
        }
    }

    fn elections_of(&mut self, system: &'a dyn System, block: usize, trials: usize) -> Result<()> {
        let mut cluster = self.start(system, (self.options.jvm_warmup() / 4.0).min(10.0))?;
        for fault in [election::Fault::Kill, election::Fault::Freeze] {
            for trial in 0..trials {
                let number = block * self.options.trials() + trial;
                match election::trial(self.lab, &mut cluster, fault, number) {
                    Ok(record) => self.run.elections.push(record),
                    Err(e) => {
                        fail(self.run, system.name(), &format!("{} trial {}", fault.name(), trial + 1), &e);
                        drop(cluster);
                        cluster = self.start(system, 5.0)?;
                    }
                }
                self.lab.progress.inc(1);
            }
        }
        Ok(())
    }

    fn syncs(&mut self) {
        if !self.options.wants(Experiment::Sync) {
            return;
        }
        for (round, (by, missed)) in sync_trials(self.options).iter().enumerate() {
            for i in rotation(self.systems.len(), round) {
                let Some(system) = self.system(i) else { continue };
                if system.path() == ClientPath::EtcdGateway {
                    continue;
                }
                match sync_cost::trial(self.lab, system, *by, *missed) {
                    Ok(record) => self.run.syncs.push(record),
                    Err(e) => {
                        fail(self.run, system.name(), &format!("sync by {} of {missed}", by.name()), &e)
                    }
                }
                self.lab.progress.inc(1);
            }
        }
    }

    fn footprints(&mut self) {
        if !self.options.wants(Experiment::Footprint) {
            return;
        }
        let (idle_s, znodes) = if self.options.quick { (2.0, 20_000) } else { (20.0, 200_000) };
        for i in rotation(self.systems.len(), 0) {
            let Some(system) = self.system(i) else { continue };
            match footprint::measure(self.lab, system, idle_s, znodes) {
                Ok((idle, memory)) => {
                    self.run.quiet.push(idle);
                    self.run.memory.push(memory);
                }
                Err(e) => fail(self.run, system.name(), "footprint", &e),
            }
            self.lab.progress.inc(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_take_turns() {
        let order = |round| rotation(3, round).collect::<Vec<_>>();
        assert_eq!((order(0), order(1), order(2)), (vec![0, 1, 2], vec![1, 2, 0], vec![2, 0, 1]));
    }
}
