//! One system, from its start to the verdict.
//!
//! ```text
//!  start ─► foundation ─► load ─ faults … ─► heal ─► Healed ─► load ─► drain ─► Final ─► survey of every server ─► check
//! ```
//!
//! Everything is bounded: a client that cannot finish is cut off, a survey that cannot finish is left out (and the
//! checkers say what they could not judge), and servers that do not come back are an error of the run.

use super::chance::Chance;
use super::client::{Client, Phase, Stage};
use super::nemesis::Nemesis;
use super::recorder::Recorder;
use super::report;
use super::source::{Script, Source};
use super::stand::{Kind, Stand};
use super::workload::{self, PARENTS, Workload};
use crate::args;
use anyhow::{Context, Result};
use history::{CreateMode, Event, Header, History, Op, Outcome, Reply, What};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// Longest election timeout of our servers (`replog::Timing`: timeout and spread).
const ELECTION_MS: u64 = 1500;
/// Session timeouts that clients wish, ms; servers bound them.
const WISHES: [u64; 8] = [3000, 5000, 8000, 3000, 10_000, 4000, 6000, 3000];
/// First number of the clients that survey the servers at the end.
const SURVEYORS: u32 = 900;

/// Runs one system and judges what its clients saw.
///
/// # Errors
/// It does not start, or does not come back after the faults.
pub(super) fn run(kind: &Kind, options: &args::Live, seed: u64, histories: &Path) -> Result<report::System> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let started = std::time::Instant::now();
    // On this thread, not a worker: servers die with the thread that started them.
    let (nemesis, stage) = runtime.block_on(perform(kind, options, seed))?;
    let system = judge(kind, seed, &nemesis, &stage, histories);
    runtime.shutdown_background();
    system.map(|s| report::System { duration_s: started.elapsed().as_secs_f64(), ..s })
}

async fn perform(kind: &Kind, options: &args::Live, seed: u64) -> Result<(Nemesis, Arc<Stage>)> {
    let stand = Stand::start(kind, options.nodes(), &options.data, seed).await?;
    let servers = stand.servers.iter().map(|s| (s.id, s.client)).collect();
    let stage =
        Arc::new(Stage { recorder: Recorder::default(), servers, phase: watch::Sender::new(Phase::Load) });
    let script = Box::new(Script::new(workload::foundation()));
    let wish = Duration::from_secs(5);
    let founder = Client::new(1, &stage, script, wish, Chance::new(seed, 1));
    timeout(Duration::from_secs(60), founder.run()).await.context("the foundation takes too long")?;
    let clients = start_clients(&stage, options.clients, seed, kind.is_ours());
    let mut nemesis = Nemesis::new(stand, Arc::clone(&stage), kind.is_ours(), seed);
    let (pause, tail) = if options.smoke { ((400, 900), 1500) } else { ((800, 1900), 16_500) };
    nemesis.is_brief = options.smoke;
    let faults = options.faults();
    let deadline = Instant::now() + Duration::from_secs(60 + 4 * faults as u64);
    nemesis.run(faults, pause, deadline).await?;
    // A server that does not come back is a verdict, not the end of the run: the history tells what it cost.
    if let Err(e) = nemesis.heal(Duration::from_secs(60)).await {
        nemesis.ended.push(format!("{e:#}"));
    }
    stage.recorder.record(0, What::Healed);
    nemesis.wait_until(Instant::now() + Duration::from_millis(tail)).await?;
    stage.phase.send_replace(Phase::Drain);
    let until = Instant::now() + Duration::from_secs(20);
    while clients.iter().any(|c| !c.is_finished()) && Instant::now() < until {
        nemesis.wait_until(Instant::now() + Duration::from_millis(20)).await?;
    }
    stage.phase.send_replace(Phase::Over);
    for client in clients {
        client.await.context("a client's task")?;
    }
    stage.recorder.record(0, What::Final);
    survey(&stage, seed).await;
    Ok((nemesis, stage))
}

fn start_clients(
    stage: &Arc<Stage>,
    count: u32,
    seed: u64,
    mixes_watches: bool,
) -> Vec<JoinHandle<Box<dyn Source>>> {
    let start = |number: u32| {
        let mut chance = Chance::new(seed, u64::from(number));
        let wish = WISHES.get(number as usize % WISHES.len()).copied().unwrap_or(5000);
        // Every fourth is nearly idle: its session lives by pings.
        let (think, depth) = if number.is_multiple_of(4) { (900, 1) } else { (25, 4) };
        let mut load = Workload::new(
            number,
            chance.clone(),
            Duration::from_millis(think),
            depth,
            number.is_multiple_of(3),
        );
        load.mixes_watches = mixes_watches;
        chance.next();
        let client = Client::new(number, stage, Box::new(load), Duration::from_millis(wish), chance);
        tokio::spawn(client.run())
    };
    (2..count + 2).map(start).collect()
}

/// Reads everything that was ever named, on every server.
async fn survey(stage: &Arc<Stage>, seed: u64) {
    let paths = stage.recorder.look(named);
    let parents: Vec<String> = PARENTS.iter().map(|p| (*p).to_owned()).collect();
    stage.phase.send_replace(Phase::Load);
    for server in &stage.servers {
        // The same recorder, and this server only.
        let script = Box::new(Script::survey(&parents, paths.clone()));
        let number = SURVEYORS + server.0;
        let wish = Duration::from_secs(10);
        let mut client = Client::new(number, stage, script, wish, Chance::new(seed, u64::from(number)));
        client.only(*server);
        let _ = timeout(Duration::from_secs(40), client.run()).await;
    }
}

/// Every path that was asked to be created, or was told to be.
fn named(events: &[Event]) -> BTreeSet<String> {
    let mut paths: BTreeSet<String> = PARENTS.iter().map(|p| (*p).to_owned()).collect();
    let mut name = |op: &Op| {
        if let Op::Create { path, mode: CreateMode::Persistent | CreateMode::Ephemeral, .. } = op {
            paths.insert(path.clone());
        }
    };
    for event in events {
        if let What::Invoke { op, .. } = &event.what {
            match op {
                Op::Multi { ops } => ops.iter().for_each(&mut name),
                op => name(op),
            }
        }
    }
    for event in events {
        if let What::Return { outcome: Outcome::Ok(Reply::Created { path, .. }), .. } = &event.what {
            paths.insert(path.clone());
        }
    }
    paths
}

fn judge(
    kind: &Kind,
    seed: u64,
    nemesis: &Nemesis,
    stage: &Stage,
    histories: &Path,
) -> Result<report::System> {
    let header = Header {
        system: kind.name(),
        seed: Some(seed),
        commit: Some(crate::environment::output("git", &["rev-parse", "HEAD"])),
        exact_reads: kind.is_ours(),
        strict_sync: kind.is_ours(),
        tick_ms: kind.tick_ms(),
        election_ms: ELECTION_MS,
        ..Header::default()
    };
    let history = stage.recorder.take(header);
    let file = histories.join(format!("{}.history.jsonl", kind.name().replace(' ', "-")));
    save(&history, &file)?;
    let mut system = report::System::of(&history, &nemesis.injected);
    system.name = kind.name();
    system.judge(&history);
    system.wire = stage.recorder.all_broken();
    system.ended = nemesis.ended.iter().chain(&nemesis.stand.ended).cloned().collect();
    system.slow = nemesis.slow.clone();
    if let Some(proxy) = &nemesis.stand.proxy {
        system.proxy = proxy.totals();
    }
    Ok(system)
}

fn save(history: &History, file: &Path) -> Result<()> {
    let mut out = BufWriter::new(File::create(file).with_context(|| format!("{}", file.display()))?);
    history::jsonl::write(history, &mut out)?;
    Ok(out.flush()?)
}
