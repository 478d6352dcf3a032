//! Memory with 200,000 znodes of 100 bytes, and what an idle cluster costs. Both on a fresh cluster, in this order:
//! idle (nothing was done yet, so nothing is left to clean up), then memory.

use crate::cluster::{Cluster, System, Tuning};
use crate::lab::{self, Lab, VALUE_BYTES};
use crate::load::{Op, Plan, Probe};
use crate::record::{MemoryUse, Quiet};
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};

/// Measures both.
///
/// # Errors
/// A cluster that does not start or does not take the nodes.
pub(crate) fn measure(
    lab: &Lab,
    system: &dyn System,
    idle_s: f64,
    znodes: u64,
) -> Result<(Quiet, MemoryUse)> {
    lab.say(&format!("{} idle", system.name()));
    let cluster = Cluster::start(system, &lab.base, &Tuning::default())?;
    cluster.wait_writable(Duration::from_secs(20))?;
    // A JVM compiles and collects for a while after its start; everybody gets the same rest.
    std::thread::sleep(Duration::from_secs_f64((idle_s / 2.0).min(5.0)));
    let (reign, before, since) = (lab::reign(&cluster), lab::usage(&cluster), Instant::now());
    std::thread::sleep(Duration::from_secs_f64(idle_s));
    let (after, seconds) = (lab::usage(&cluster), since.elapsed().as_secs_f64());
    let idle = Quiet {
        system: system.name().to_owned(),
        load: "idle".into(),
        seconds,
        elections: lab::reign(&cluster).elections_since(&reign),
        cpu_shares: before
            .iter()
            .zip(&after)
            .map(|(b, a)| a.since(*b).threads_cpu_seconds / seconds)
            .collect(),
    };
    lab.say(&format!("{} memory with {znodes} znodes", system.name()));
    let space = lab::space(&cluster, "memory", 16)?;
    let plan = Plan {
        limit: Some(znodes),
        warmup: Duration::ZERO,
        ..Plan::closed(&cluster.clients(), Op::Create, 16, 64, Duration::from_secs(300))
    };
    let outcome = lab::drive(system.path(), &plan, &space, &Probe::default())?;
    ensure!(outcome.failed() == 0, "{} of {znodes} creates failed: {:?}", outcome.failed(), outcome.errors);
    // Followers apply and allocators settle.
    std::thread::sleep(Duration::from_secs(2));
    let memory = MemoryUse {
        system: system.name().to_owned(),
        znodes,
        value_bytes: VALUE_BYTES as u64,
        empty_bytes: after.iter().map(|u| u.rss_bytes).collect(),
        rss_bytes: lab::usage(&cluster).iter().map(|u| u.rss_bytes).collect(),
    };
    Ok((idle, memory))
}
