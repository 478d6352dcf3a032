//! The figures that are to be reached, each beside what was measured. Reached or not is said as it is.

use super::view::{Grid, cell, cell_names, median_of, systems, trials};
use crate::record::Run;
use crate::stats::Summary;

/// The peer that figures are ratios to.
const PEER: &str = "zookeeper";
/// Outage seen by writers when the leader is killed, ms.
const KILL_MS: f64 = 200.0;
/// The same when it is frozen, ms.
const FREEZE_MS: f64 = 2_500.0;
/// Idle CPU of all servers together, share of a core.
const IDLE: f64 = 0.01;
/// Resident memory, share of the peer's.
const MEMORY: f64 = 0.2;

/// Least ratio of throughput for a cell, if there is one.
fn least_ratio(cell: &str) -> Option<f64> {
    match cell {
        "get 64×16" => Some(5.0),
        "set 64×16" | "create 64×16" => Some(4.0),
        name if name.ends_with(" 16×1") => Some(2.0),
        name if name.ends_with(" 1×1") => Some(1.5),
        _ => None,
    }
}

fn mark(reached: bool) -> &'static str {
    if reached { "✓" } else { "✗" }
}

/// Backends of ours in the record.
fn ours(run: &Run) -> Vec<&str> {
    systems(run).into_iter().filter(|s| crate::backend::BACKENDS.contains(s)).collect()
}

/// One row per figure, one column per backend.
pub(crate) fn grid(run: &Run) -> Grid {
    let ours = ours(run);
    let mut rows = Vec::new();
    let mut row = |name: String, of: &dyn Fn(&str) -> Option<String>| {
        let values: Vec<Option<String>> = ours.iter().map(|s| of(s)).collect();
        if values.iter().any(Option::is_some) {
            rows.push(
                std::iter::once(name)
                    .chain(values.into_iter().map(|v| v.unwrap_or_else(|| "–".into())))
                    .collect(),
            );
        }
    };
    for name in cell_names(run) {
        let Some(peer) = cell(run, PEER, &name) else { continue };
        let least = least_ratio(&name);
        let title = least.map_or_else(|| format!("{name}, × {PEER}"), |l| format!("{name} ≥ {l}× {PEER}"));
        row(title, &|system| {
            let ratio = cell(run, system, &name)?.rate.median / peer.rate.median;
            Some(format!("{ratio:.2}× {}", least.map_or("", |l| mark(ratio >= l))))
        });
    }
    for name in cell_names(run) {
        let Some(peer) = cell(run, PEER, &name) else { continue };
        row(format!("{name} p99 below {PEER}'s"), &|system| {
            let ratio = cell(run, system, &name)?.latency_us(99.0) / peer.latency_us(99.0);
            Some(format!("{ratio:.2}× {}", mark(ratio < 1.0)))
        });
    }
    for (fault, most) in [("kill", KILL_MS), ("freeze", FREEZE_MS)] {
        row(format!("{fault}: outage ≤ {most} ms"), &|system| {
            let outage = median_of(&trials(run, system, fault), |t| Some(t.gap_ms))?;
            Some(format!("{outage:.0} ms {}", mark(outage <= most)))
        });
    }
    row("no election without a cause".into(), &|system| {
        let quiet = run.quiet.iter().filter(|q| q.system == system);
        let elections = quiet.map(|q| q.elections).reduce(|a, b| a + b)?;
        Some(format!("{elections} {}", mark(elections == 0)))
    });
    row("idle cluster < 1 % of a core".into(), &|system| {
        let idle = run.quiet.iter().find(|q| q.system == system && q.load == "idle")?;
        let share = (!idle.cpu_shares.is_empty()).then(|| idle.cpu_shares.iter().sum::<f64>())?;
        Some(format!("{:.2} % {}", share * 100.0, mark(share < IDLE)))
    });
    row(format!("resident memory ≤ 1/5 of {PEER}'s"), &|system| {
        let of = |name: &str| {
            let memory = run.memory.iter().find(|m| m.system == name)?;
            Summary::of(&memory.rss_bytes.iter().map(|b| *b as f64).collect::<Vec<_>>()).map(|s| s.median)
        };
        let share = of(system)? / of(PEER)?;
        Some(format!("{share:.2}× {}", mark(share <= MEMORY)))
    });
    Grid {
        title: "Figures to reach".into(),
        note: format!("medians; ratios to {PEER} in the same run. ✓ reached, ✗ not reached, – not measured."),
        header: std::iter::once("figure").chain(ours.iter().copied()).map(str::to_owned).collect(),
        rows,
    }
}
