//! Reports in Markdown: of a soak, and of a run of CI.

use crate::rows::{self, ROWS};
use crate::soak::State;
use crate::tally::Tally;
use crate::verdict::Availability;
use crate::{Backend, Figures};
use std::fmt::Write as _;

/// A figure's name and how to read it.
type Line = (&'static str, fn(&Figures) -> u64);

const COUNTS: [Line; 14] = [
    ("messages", |f| f.messages),
    ("message faults", |f| f.message_faults),
    ("crashes", |f| f.crashes),
    ("restarts", |f| f.restarts),
    ("partitions", |f| f.partitions),
    ("pauses", |f| f.pauses),
    ("disk faults", |f| f.disk_faults),
    ("clock faults", |f| f.clock_faults),
    ("client faults", |f| f.client_faults),
    ("snapshots", |f| f.snapshots),
    ("installs", |f| f.installs),
    ("reigns", |f| f.reigns),
    ("operations", |f| f.ops),
    ("acknowledged writes", |f| f.acked),
];

/// The report of a soak.
#[must_use]
pub fn soak(state: &State) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(state, &mut out);
    out
}

fn write(state: &State, out: &mut String) -> std::fmt::Result {
    writeln!(out, "# Soak\n")?;
    writeln!(out, "Commits: {}. Again with:\n", state.commits.join(", "))?;
    for command in &state.commands {
        writeln!(out, "    {command}")?;
    }
    let ranges: Vec<String> = state.ranges.iter().map(|(a, b)| format!("{a} to {}", b - 1)).collect();
    writeln!(out, "\nCases {}; {:.2} h of wall clock.", ranges.join(", "), state.wall_s / 3600.0)?;
    let violations = state.violations();
    match violations {
        0 => writeln!(out, "No safety rule was broken.\n")?,
        n => writeln!(out, "**{n} runs broke a rule**, see below.\n")?,
    }
    figures(state, out)?;
    rows(state, out)?;
    missed(state, out)?;
    broken(state, out)
}

fn columns(state: &State, out: &mut String, first: &str) -> std::fmt::Result {
    let names: Vec<&str> = state.tallies.keys().map(|b| b.name()).collect();
    writeln!(out, "| {first} | {} |", names.join(" | "))?;
    writeln!(out, "|---|{}", "---:|".repeat(names.len()))
}

fn line(state: &State, out: &mut String, name: &str, of: impl Fn(&Tally) -> String) -> std::fmt::Result {
    let values: Vec<String> = state.tallies.values().map(of).collect();
    writeln!(out, "| {name} | {} |", values.join(" | "))
}

fn figures(state: &State, out: &mut String) -> std::fmt::Result {
    columns(state, out, "")?;
    line(state, out, "seeds", |t| t.seeds.to_string())?;
    line(state, out, "of them textbook", |t| t.textbook.to_string())?;
    line(state, out, "of them swarm and pairs", |t| t.swarm.to_string())?;
    line(state, out, "simulated hours", |t| format!("{:.2}", t.hours()))?;
    line(state, out, "simulated s per core-s", |t| format!("{:.0}", t.speed()))?;
    line(state, out, "violations", |t| t.violations().to_string())?;
    for (name, of) in COUNTS {
        line(state, out, name, |t| of(&t.sum).to_string())?;
    }
    line(state, out, "too few acknowledged writes to tell", |t| t.silent.to_string())?;
    for (name, q) in [("p50", 500), ("p90", 900), ("p99", 990), ("p99.9", 999)] {
        line(state, out, &format!("recovery after heal, {name}, Tₑ"), |t| {
            format!("{:.1}", t.recovery.quantile(q))
        })?;
    }
    line(state, out, "recovery, worst, Tₑ", |t| {
        format!("{:.2} (`{}`)", t.recovery.most, t.recovery.worst)
    })?;
    line(state, out, "recovery, textbook, p50 / worst, Tₑ", |t| {
        let r = &t.recovery_textbook;
        format!("{:.1} / {:.2} (`{}`)", r.quantile(500), r.most, r.worst)
    })?;
    line(state, out, "runs of rows: A / W / U", |t| {
        let [a, w, u] = [Availability::A, Availability::W, Availability::U].map(|x| t.of(x));
        format!("{a} / {w} / {u}")
    })?;
    writeln!(out, "\nActions carried out:\n")?;
    columns(state, out, "action")?;
    let names: std::collections::BTreeSet<&String> =
        state.tallies.values().flat_map(|t| t.actions.keys()).collect();
    for name in names {
        line(state, out, name, |t| t.actions.get(name).copied().unwrap_or(0).to_string())?;
    }
    Ok(())
}

fn rows(state: &State, out: &mut String) -> std::fmt::Result {
    writeln!(out, "\nRows of the fault matrix, runs in which every harmful step was carried out:\n")?;
    columns(state, out, "row")?;
    for row in ROWS.iter().filter(|r| rows::simulated().contains(&r.number)) {
        let name = format!("{} {}", row.number, row.fault);
        line(state, out, &name, |t| t.hits.get(&row.number).copied().unwrap_or(0).to_string())?;
    }
    Ok(())
}

fn missed(state: &State, out: &mut String) -> std::fmt::Result {
    if state.tallies.values().all(|t| t.missed.is_empty()) {
        return Ok(());
    }
    writeln!(out, "\nMissed bounds (targets, not safety):\n")?;
    writeln!(out, "| protocol | schedules | runs | first |\n|---|---|---:|---|")?;
    for (backend, tally) in &state.tallies {
        for (key, m) in &tally.missed {
            writeln!(out, "| {} | {key} | {} | {} (`{}`) |", backend.name(), m.runs, m.text, m.command)?;
        }
    }
    Ok(())
}

fn broken(state: &State, out: &mut String) -> std::fmt::Result {
    if state.violations() == 0 {
        return Ok(());
    }
    writeln!(out, "\n## Broken rules\n")?;
    for (backend, tally) in &state.tallies {
        for (checker, count) in &tally.broken_by {
            writeln!(out, "* {} {checker}: {count} runs", backend.name())?;
        }
    }
    writeln!(out)?;
    for broken in state.tallies.values().flat_map(|t| &t.broken) {
        let first = broken.text.lines().next().unwrap_or_default();
        writeln!(out, "* `{}`: {}: {first}", broken.case, broken.checker)?;
    }
    Ok(())
}

/// One line on the way.
#[must_use]
pub fn progress(state: &State) -> String {
    let (mut seeds, mut hours, mut busy) = (0, 0.0, 0);
    for tally in state.tallies.values() {
        seeds += tally.seeds;
        hours += tally.hours();
        busy += tally.busy_us;
    }
    #[allow(clippy::cast_precision_loss, reason = "for printing")]
    let speed = hours * 3.6e9 / (busy.max(1) as f64);
    format!(
        "{seeds} seeds, {hours:.1} simulated hours at {speed:.0} s per core-second, {} violations",
        state.violations()
    )
}

/// Rows that a protocol's runs did not hit.
#[must_use]
pub fn not_hit(state: &State) -> Vec<String> {
    let mut lacking = Vec::new();
    for backend in Backend::ALL {
        let hits = state.tallies.get(&backend).map(|t| &t.hits);
        let hit = |row: &u8| hits.is_some_and(|h| h.get(row).copied().unwrap_or(0) > 0);
        let rows: Vec<String> =
            rows::simulated().into_iter().filter(|r| !hit(r)).map(|r| r.to_string()).collect();
        if !rows.is_empty() {
            lacking.push(format!("{}: rows {}", backend.name(), rows.join(", ")));
        }
    }
    lacking
}
