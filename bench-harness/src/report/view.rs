//! Summaries of a record, and the tables that every report shows.
//!
//! One [`Grid`] is one table; terminal, Markdown and HTML draw the same grids, so they cannot tell different stories.

use crate::experiments::throughput::{cells, decode};
use crate::record::{CellRun, ElectionTrial, Run};
use crate::report::verdicts;
use crate::stats::{Summary, percentile};
use hdrhistogram::Histogram;

/// One table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Grid {
    /// What it shows.
    pub(crate) title: String,
    /// How to read it.
    pub(crate) note: String,
    /// Column names.
    pub(crate) header: Vec<String>,
    /// Cells.
    pub(crate) rows: Vec<Vec<String>>,
}

/// All repeats of one cell of one system.
#[derive(Clone, Debug)]
pub(crate) struct CellView {
    /// Replies per second over the repeats.
    pub(crate) rate: Summary,
    /// Latencies of all repeats together, ns.
    pub(crate) latency: Histogram<u64>,
    /// Successes in all repeats.
    pub(crate) ok: u64,
    /// Failures in all repeats.
    pub(crate) failed: u64,
    /// The generator may have been the bottleneck.
    pub(crate) generator_limited: bool,
    /// Leader changes during the cell.
    pub(crate) leader_changes: u64,
}

impl CellView {
    /// A percentile of the merged latencies, µs.
    pub(crate) fn latency_us(&self, percent: f64) -> f64 {
        self.latency.value_at_percentile(percent) as f64 / 1e3
    }
}

/// Names of the systems, in the order of the record.
pub(crate) fn systems(run: &Run) -> Vec<&str> {
    run.systems.iter().map(|s| s.name.as_str()).collect()
}

/// The cells that were measured, by name, in their order.
pub(crate) fn cell_names(run: &Run) -> Vec<String> {
    cells()
        .map(|(op, sessions, depth)| format!("{} {sessions}×{depth}", op.name()))
        .filter(|name| run.cells.iter().any(|c| c.cell() == *name))
        .collect()
}

/// One cell of one system over all repeats.
pub(crate) fn cell(run: &Run, system: &str, name: &str) -> Option<CellView> {
    let runs: Vec<&CellRun> = run.cells.iter().filter(|c| c.system == system && c.cell() == name).collect();
    let rate = Summary::of(&runs.iter().map(|c| c.rate).collect::<Vec<_>>())?;
    let mut latency = crate::load::histogram();
    for histogram in runs.iter().filter_map(|c| decode(&c.hdr_b64)) {
        // Both grow by themselves.
        let _ = latency.add(histogram);
    }
    let shape = runs.first().map(|c| (c.sessions, c.depth));
    let proven = run.generator.iter().find(|g| Some((g.sessions, g.depth)) == shape).map_or(0.0, |g| g.rate);
    Some(CellView {
        rate,
        latency,
        ok: runs.iter().map(|c| c.ok).sum(),
        failed: runs.iter().map(|c| c.unknown + c.errors.values().sum::<u64>()).sum(),
        generator_limited: runs.iter().any(|c| c.generator_cpu > 0.7)
            || (proven > 0.0 && rate.median * 3.0 > proven),
        leader_changes: runs.iter().map(|c| c.leader_changes).sum(),
    })
}

/// A count with three digits or so: `980`, `12.3k`, `1.20M`.
pub(crate) fn count(value: f64) -> String {
    match value {
        v if v >= 999_500.0 => format!("{:.2}M", v / 1e6),
        v if v >= 99_950.0 => format!("{:.0}k", v / 1e3),
        v if v >= 9_995.0 => format!("{:.1}k", v / 1e3),
        v if v >= 100.0 || v == 0.0 => format!("{v:.0}"),
        v => format!("{v:.2}"),
    }
}

/// A duration given in µs: `870 µs`, `3.2 ms`, `1.20 s`.
pub(crate) fn micros(value: f64) -> String {
    match value {
        v if v >= 999_500.0 => format!("{:.2} s", v / 1e6),
        v if v >= 99_950.0 => format!("{:.0} ms", v / 1e3),
        v if v >= 1_000.0 => format!("{:.1} ms", v / 1e3),
        v => format!("{v:.0} µs"),
    }
}

/// Bytes: `870 B`, `3.2 kB`, `120 MB`.
pub(crate) fn bytes(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{:.2} GB", v / 1e9),
        v if v >= 1e6 => format!("{:.1} MB", v / 1e6),
        v if v >= 1e3 => format!("{:.1} kB", v / 1e3),
        v => format!("{v:.0} B"),
    }
}

fn optional(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), show)
}

/// Every table of the report that has rows.
pub(crate) fn grids(run: &Run) -> Vec<Grid> {
    let all = [
        rates(run),
        latencies(run),
        verdicts::grid(run),
        elections(run),
        quiet(run),
        syncs(run),
        commits(run),
        memory(run),
        failures(run),
    ];
    all.into_iter().filter(|g| !g.rows.is_empty()).collect()
}

fn header(first: &str, run: &Run) -> Vec<String> {
    std::iter::once(first.to_owned()).chain(systems(run).into_iter().map(str::to_owned)).collect()
}

fn rates(run: &Run) -> Grid {
    let show = |cell: &CellView| {
        let mut text = count(cell.rate.median);
        if cell.rate.n > 1 {
            let [low, high] = cell.rate.ci95.unwrap_or([cell.rate.min, cell.rate.max]);
            text += &format!(" [{}, {}]", count(low), count(high));
        }
        for (mark, shown) in
            [("†", cell.generator_limited), ("!", cell.failed > 0), ("⚑", cell.leader_changes > 0)]
        {
            if shown {
                text += mark;
            }
        }
        text
    };
    Grid {
        title: "Throughput, operations per second (closed loop)".into(),
        note: format!(
            "sessions×outstanding, spread over three servers (from the leader on, then from its neighbours on), 100-byte values, {} repeat(s) of {} s in turn: median \
             [{}]. † more than a third of what the generator reaches against a server that only replies: the servers may be faster than this, ! operations failed, ⚑ the leader changed.",
            run.repeats,
            run.cell_seconds,
            if run.repeats >= 5 { "95 % interval" } else { "min, max" }
        ),
        header: header("cell", run),
        rows: by_cell(run, show),
    }
}

fn latencies(run: &Run) -> Grid {
    let show = |cell: &CellView| {
        // A percentile needs 100 samples beyond it.
        let p99 = if cell.ok >= 10_000 { "" } else { "~" };
        format!("{} / {p99}{}", micros(cell.latency_us(50.0)), micros(cell.latency_us(99.0)))
    };
    Grid {
        title: "Latency p50 / p99 (closed loop: time between request and reply at saturation)".into(),
        note: "histograms of all repeats merged; ~ fewer than 100 samples lie beyond the percentile.".into(),
        header: header("cell", run),
        rows: by_cell(run, show),
    }
}

fn by_cell(run: &Run, show: impl Fn(&CellView) -> String) -> Vec<Vec<String>> {
    cell_names(run)
        .into_iter()
        .map(|name| {
            let of = |s: &str| cell(run, s, &name).map_or_else(|| "failed".to_owned(), |c| show(&c));
            let values: Vec<String> = systems(run).into_iter().map(of).collect();
            std::iter::once(name.clone()).chain(values).collect()
        })
        .collect()
}

/// Trials of one fault on one system.
pub(crate) fn trials<'r>(run: &'r Run, system: &str, fault: &str) -> Vec<&'r ElectionTrial> {
    run.elections.iter().filter(|e| e.system == system && e.fault == fault).collect()
}

/// Median of what `pick` finds in `trials`, if any has it.
pub(crate) fn median_of(
    trials: &[&ElectionTrial],
    pick: impl Fn(&ElectionTrial) -> Option<f64>,
) -> Option<f64> {
    Summary::of(&trials.iter().filter_map(|t| pick(t)).collect::<Vec<_>>()).map(|s| s.median)
}

fn elections(run: &Run) -> Grid {
    let mut rows = Vec::new();
    for fault in ["kill", "freeze"] {
        for system in systems(run) {
            let trials = trials(run, system, fault);
            if trials.is_empty() {
                continue;
            }
            let ms = |pick: fn(&ElectionTrial) -> Option<f64>| {
                optional(median_of(&trials, pick), |v| micros(v * 1e3))
            };
            let gaps: Vec<f64> = trials.iter().map(|t| t.gap_ms).collect();
            let gap = |p| optional(percentile(&gaps, p), |v| micros(v * 1e3));
            let sum =
                |pick: fn(&ElectionTrial) -> u64| trials.iter().map(|t| pick(t)).sum::<u64>().to_string();
            rows.push(vec![
                format!("{fault} {system}"),
                trials.len().to_string(),
                ms(|t| t.detected_ms),
                ms(|t| t.elected_ms),
                ms(|t| t.serving_ms),
                ms(|t| t.committed_ms),
                ms(|t| t.replied_ms),
                optional(Summary::of(&gaps).map(|s| s.median), |v| micros(v * 1e3)),
                gap(99.0),
                sum(|t| t.unknown + t.errors),
                // The generator's sessions, and the witness with its ephemeral node.
                sum(|t| t.expired + u64::from(t.session_kept == Some(false))),
            ]);
        }
    }
    let names = [
        "fault",
        "n",
        "detected",
        "elected",
        "serving",
        "commit",
        "reply",
        "outage p50",
        "p99",
        "lost or failed",
        "expired",
    ];
    Grid {
        title: "Leader lost under load (open loop; medians, counted from the fault)".into(),
        note: "kill: SIGKILL, freeze: SIGSTOP. Steps are the first of their kind in the survivors' own logs; reply and \
               outage (longest time without a success) are seen by writers on the survivors; expired counts sessions (or their \
               ephemeral nodes) that did not live through it. With fewer than 100 trials \
               p99 is the worst one."
            .into(),
        header: names.map(str::to_owned).to_vec(),
        rows,
    }
}

fn quiet(run: &Run) -> Grid {
    let row = |q: &crate::record::Quiet| {
        let cpu = (!q.cpu_shares.is_empty()).then(|| q.cpu_shares.iter().sum::<f64>());
        vec![
            format!("{} {}", q.load, q.system),
            format!("{:.0} s", q.seconds),
            q.elections.to_string(),
            optional(cpu, |c| format!("{:.2} %", c * 100.0)),
        ]
    };
    let mut rows: Vec<Vec<String>> = run.quiet.iter().map(row).collect();
    rows.sort();
    Grid {
        title: "Elections that nobody asked for, and what idling costs".into(),
        note: "CPU: all servers of an idle cluster together, share of one core.".into(),
        header: ["load", "time", "elections", "CPU"].map(str::to_owned).to_vec(),
        rows,
    }
}

fn syncs(run: &Run) -> Grid {
    let rows = run
        .syncs
        .iter()
        .map(|s| {
            vec![
                format!("{} by {}", s.missed, s.by),
                s.system.clone(),
                format!("{:.2} s", s.seconds),
                optional(s.bytes, bytes),
                optional(s.messages, |v| format!("{v:.0}")),
                optional(s.fsyncs, |v| format!("{v:.0}")),
                optional(s.snapshots, |v| format!("{v:.0}")),
                format!("{} → {}", micros(s.p99_before_ms * 1e3), micros(s.p99_during_ms * 1e3)),
                micros(s.gap_ms * 1e3),
                s.failed.to_string(),
            ]
        })
        .collect();
    let names = [
        "missed",
        "system",
        "time",
        "bytes",
        "messages",
        "fsyncs",
        "snapshots",
        "foreground p99",
        "gap",
        "failed",
    ];
    Grid {
        title: "A follower that missed writes comes back".into(),
        note: "time from the start of its process (its own recovery included) until it holds what was committed then; \
               bytes and messages that it received by then (the foreground's among them), snapshots sent by the leader for it, fsyncs at the follower; – the system does not tell."
            .into(),
        header: names.map(str::to_owned).to_vec(),
        rows,
    }
}

fn commits(run: &Run) -> Grid {
    let rows = run
        .commits
        .iter()
        .map(|c| {
            vec![
                format!("{} {}", c.load, c.system),
                count(c.commits),
                optional(c.messages, |v| format!("{v:.2}")),
                format!("{:.0}", c.predicted_messages),
                optional(c.fsyncs, |v| format!("{v:.2}")),
                format!("{:.0}", c.predicted_fsyncs),
                optional(c.leader_bytes, bytes),
                format!("{:.0} µs", c.cpu_us),
            ]
        })
        .collect();
    let names =
        ["load", "commits", "messages", "predicted", "fsyncs", "predicted", "leader bytes out", "server CPU"];
    Grid {
        title: "Cost per commit, whole cluster".into(),
        note: "the prediction is for batches of one (1×1); heartbeats are in the residue; batching divides it by the \
               batch. Client on the leader. – the system does not tell."
            .into(),
        header: names.map(str::to_owned).to_vec(),
        rows,
    }
}

fn memory(run: &Run) -> Grid {
    let rows = run
        .memory
        .iter()
        .map(|m| {
            let of =
                |v: &[u64]| Summary::of(&v.iter().map(|b| *b as f64).collect::<Vec<_>>()).map(|s| s.median);
            vec![
                m.system.clone(),
                m.znodes.to_string(),
                optional(of(&m.empty_bytes), bytes),
                optional(of(&m.rss_bytes), bytes),
            ]
        })
        .collect();
    Grid {
        title: "Resident memory, median of the three servers".into(),
        note: "100-byte values; read two seconds after the last create.".into(),
        header: ["system", "znodes", "empty", "resident"].map(str::to_owned).to_vec(),
        rows,
    }
}

fn failures(run: &Run) -> Grid {
    let first_line = |text: &str| text.lines().next().unwrap_or_default().to_owned();
    Grid {
        title: "What failed".into(),
        note: String::new(),
        header: ["system", "during", "error"].map(str::to_owned).to_vec(),
        rows: run
            .failures
            .iter()
            .map(|f| vec![f.system.clone(), f.during.clone(), first_line(&f.error)])
            .collect(),
    }
}
