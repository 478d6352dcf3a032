//! `report.html`: one file, no network, charts first, then every table, then the environment.

use super::svg::{self, Bar, escape};
use super::table::headline;
use super::view::{self, bytes, cell, cell_names, count, median_of, micros, systems, trials};
use crate::record::{ElectionTrial, Run};
use crate::stats::Summary;
use std::fmt::Write as _;

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem;color:#222}\
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem;border-bottom:1px solid #ccc}\
table{border-collapse:collapse;font-size:13px;margin:.6rem 0}th,td{padding:3px 9px;border-bottom:1px solid #e4e4e4;text-align:right}\
th:first-child,td:first-child{text-align:left}.note{color:#666;font-size:13px}.no{color:#b00020}.doubt{background:#fff3cd;padding:.5rem 1rem}\
svg{margin:.4rem 0}@media print{h2{page-break-after:avoid}svg,table{page-break-inside:avoid}}";

/// The whole page.
pub(crate) fn render(run: &Run) -> String {
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{0}</title><style>{STYLE}</style><h1>{0}</h1>",
        escape(&run.run_id)
    );
    let _ = write!(out, "<p>{}</p>", escape(headline(run).lines().next().unwrap_or_default()));
    if !run.environment.flags.is_empty() {
        let _ = write!(out, "<p class=\"doubt\">Doubtful: {}</p>", escape(&run.environment.flags.join("; ")));
    }
    throughput(run, &mut out);
    elections(run, &mut out);
    costs(run, &mut out);
    for grid in view::grids(run) {
        let _ = write!(out, "<h2 id=\"{}\">{}</h2><table><tr>", anchor(&grid.title), escape(&grid.title));
        for name in &grid.header {
            let _ = write!(out, "<th>{}</th>", escape(name));
        }
        out += "</tr>";
        for row in &grid.rows {
            out += "<tr>";
            for value in row {
                let class = if value.ends_with('✗') || value == "failed" { " class=\"no\"" } else { "" };
                let _ = write!(out, "<td{class}>{}</td>", escape(value));
            }
            out += "</tr>";
        }
        let _ = write!(out, "</table><p class=\"note\">{}</p>", escape(&grid.note));
    }
    tail(run, &mut out);
    out
}

fn anchor(title: &str) -> String {
    title.chars().take_while(|c| *c != ',' && *c != '(').filter(|c| c.is_ascii_alphanumeric()).collect()
}

fn figure(out: &mut String, title: &str, note: &str, chart: &str) {
    let _ = write!(out, "<h2>{}</h2>{chart}<p class=\"note\">{}</p>", escape(title), escape(note));
}

fn throughput(run: &Run, out: &mut String) {
    let (names, all) = (cell_names(run), systems(run));
    for op in ["get", "set", "create"] {
        let cells: Vec<String> = names.iter().filter(|n| n.starts_with(op)).cloned().collect();
        if cells.is_empty() {
            continue;
        }
        let rates = |name: &String| -> Vec<Option<Bar>> {
            let bar = |r: Summary| Bar { value: r.median, low: r.min, high: r.max };
            all.iter().map(|s| cell(run, s, name).map(|c| bar(c.rate))).collect()
        };
        let chart = svg::bars(&cells, &all, &cells.iter().map(rates).collect::<Vec<_>>(), false, count);
        figure(
            out,
            &format!("{op}: operations per second"),
            "Closed loop. Bars are medians of the repeats, lines span all repeats.",
            &chart,
        );
    }
    if !names.is_empty() {
        let p99 = |name: &String| -> Vec<Option<Bar>> {
            let bar = |v: f64| Bar { value: v, low: v, high: v };
            all.iter().map(|s| cell(run, s, name).map(|c| bar(c.latency_us(99.0)))).collect()
        };
        let chart = svg::bars(&names, &all, &names.iter().map(p99).collect::<Vec<_>>(), true, micros);
        figure(out, "p99 latency at saturation", "Closed loop, logarithmic; all repeats merged.", &chart);
    }
    for name in ["set 16×1", "set 64×16", "get 64×16"] {
        let points = |system: &&str| -> Vec<(f64, f64)> {
            let Some(cell) = cell(run, system, name) else { return Vec::new() };
            [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999]
                .into_iter()
                // 100 samples beyond a percentile, or it is not drawn.
                .filter(|share| (1.0 - share) * cell.ok as f64 >= 100.0)
                .map(|share| (share, cell.latency_us(share * 100.0)))
                .collect()
        };
        let lines: Vec<_> = all.iter().map(points).collect();
        if lines.iter().any(|l| !l.is_empty()) {
            let chart = svg::curves(&all, &lines, micros);
            figure(out, &format!("{name}: latency by percentile"), "Closed loop.", &chart);
        }
    }
}

fn elections(run: &Run, out: &mut String) {
    for (fault, what) in [("kill", "killed (SIGKILL)"), ("freeze", "frozen (SIGSTOP)")] {
        let with: Vec<&str> =
            systems(run).into_iter().filter(|s| !trials(run, s, fault).is_empty()).collect();
        if with.is_empty() {
            continue;
        }
        let names = ["detected", "elected", "serving", "first commit", "first reply"];
        let picks: [fn(&ElectionTrial) -> Option<f64>; 5] =
            [|t| t.detected_ms, |t| t.elected_ms, |t| t.serving_ms, |t| t.committed_ms, |t| t.replied_ms];
        let steps: Vec<Vec<Option<f64>>> = with
            .iter()
            .map(|s| picks.iter().map(|pick| median_of(&trials(run, s, fault), pick)).collect())
            .collect();
        let rows: Vec<String> = with.iter().map(|s| (*s).to_owned()).collect();
        let ms = |v: f64| micros(v * 1e3);
        let chart = svg::timeline(&rows, &names, &steps, ms);
        figure(
            out,
            &format!("Leader {what}: where the time goes"),
            "Medians, counted from the fault.",
            &chart,
        );
        let gaps: Vec<Vec<f64>> =
            with.iter().map(|s| trials(run, s, fault).iter().map(|t| t.gap_ms).collect()).collect();
        let chart = svg::strips(&rows, &gaps, ms);
        let note = "Longest time without a success, one dot per trial, logarithmic.";
        figure(out, &format!("Leader {what}: outage seen by writers"), note, &chart);
    }
}

fn costs(run: &Run, out: &mut String) {
    let told: Vec<_> = run.commits.iter().filter(|c| c.messages.is_some()).collect();
    if !told.is_empty() {
        let groups: Vec<String> = told.iter().map(|c| format!("{} {}", c.load, c.system)).collect();
        let bar = |v: f64| Some(Bar { value: v, low: v, high: v });
        let values: Vec<Vec<Option<Bar>>> = told
            .iter()
            .map(|c| {
                vec![
                    c.messages.and_then(bar),
                    bar(c.predicted_messages),
                    c.fsyncs.and_then(bar),
                    bar(c.predicted_fsyncs),
                ]
            })
            .collect();
        let series = ["messages", "predicted", "fsyncs", "predicted "];
        let chart = svg::bars(&groups, &series, &values, false, |v| format!("{v:.2}"));
        figure(
            out,
            "Cost per commit beside the prediction",
            "Whole cluster; predicted for batches of one.",
            &chart,
        );
    }
    if !run.memory.is_empty() {
        let groups: Vec<String> = run.memory.iter().map(|m| m.system.clone()).collect();
        let values: Vec<Vec<Option<Bar>>> = run
            .memory
            .iter()
            .map(|m| {
                let summary = Summary::of(&m.rss_bytes.iter().map(|b| *b as f64).collect::<Vec<_>>());
                vec![summary.map(|s| Bar { value: s.median, low: s.min, high: s.max })]
            })
            .collect();
        let chart = svg::bars(&groups, &["resident"], &values, false, bytes);
        figure(out, "Resident memory", "Median of three servers; the line spans all three.", &chart);
    }
}

fn tail(run: &Run, out: &mut String) {
    let markdown = super::markdown::render(run);
    let from = markdown.find("## Systems").unwrap_or(markdown.len());
    let text = markdown.get(from..).unwrap_or_default();
    let _ = write!(
        out,
        "<h2>Systems and environment</h2><pre style=\"white-space:pre-wrap;font-size:12px\">{}</pre><p>Again: <code>{}</code></p></html>",
        escape(text),
        escape(&run.command)
    );
}
