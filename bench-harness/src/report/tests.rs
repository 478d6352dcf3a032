//! Reports of a small record made by hand.

use super::*;
use crate::record::{CellRun, CommitCost, ElectionTrial, Failure, MemoryUse, Quiet, SystemRecord};

fn cell(system: &str, repeat: usize, rate: f64) -> CellRun {
    CellRun {
        system: system.into(),
        repeat,
        op: "set".into(),
        sessions: 64,
        depth: 16,
        rate,
        ok: 20_000,
        seconds: 1.0,
        ..CellRun::default()
    }
}

fn election(system: &str, gap_ms: f64) -> ElectionTrial {
    ElectionTrial {
        system: system.into(),
        fault: "kill".into(),
        gap_ms,
        replied_ms: Some(gap_ms),
        ..Default::default()
    }
}

fn sample() -> Run {
    let system =
        |name: &str| SystemRecord { name: name.into(), version: "1 < 2".into(), ..Default::default() };
    Run {
        schema: crate::record::SCHEMA.into(),
        run_id: "compare-x".into(),
        systems: vec![system("zab"), system("zookeeper")],
        repeats: 3,
        cells: vec![
            cell("zab", 0, 90_000.0),
            cell("zab", 1, 100_000.0),
            cell("zab", 2, 80_000.0),
            cell("zookeeper", 0, 20_000.0),
        ],
        elections: vec![election("zab", 150.0), election("zookeeper", 640.0)],
        quiet: vec![Quiet {
            system: "zab".into(),
            load: "idle".into(),
            cpu_shares: vec![0.004, 0.02],
            ..Default::default()
        }],
        commits: vec![CommitCost {
            system: "zab".into(),
            load: "1×1".into(),
            messages: Some(6.1),
            ..Default::default()
        }],
        memory: vec![
            MemoryUse { system: "zab".into(), rss_bytes: vec![90, 100, 110], ..Default::default() },
            MemoryUse { system: "zookeeper".into(), rss_bytes: vec![1000], ..Default::default() },
        ],
        failures: vec![Failure {
            system: "zab".into(),
            during: "sync".into(),
            error: "broke|down\nmore".into(),
        }],
        ..Run::default()
    }
}

#[test]
fn the_table_shows_medians_verdicts_and_failures() {
    let text = table::render(&sample());
    assert!(text.contains("90.0k [80.0k, 100k]"), "{text}");
    assert!(text.contains("4.50× ✓"), "{text}");
    assert!(text.contains("150 ms ✓"), "{text}");
    assert!(text.contains("2.40 % ✗"), "{text}");
    assert!(text.contains("0.10× ✓"), "{text}");
    assert!(text.contains("broke|down"), "{text}");
}

#[test]
fn a_cell_without_a_result_says_so() {
    let mut run = sample();
    run.cells.retain(|c| c.system != "zookeeper");
    assert!(table::render(&run).contains("failed"));
}

#[test]
fn markdown_escapes_bars_and_html_escapes_markup() {
    let run = sample();
    let (markdown, html) = (markdown::render(&run), html::render(&run));
    assert!(markdown.contains("broke\\|down"));
    assert!(html.contains("1 &lt; 2") && !html.contains("1 < 2"));
    assert!(html.contains("<svg") && !html.contains("http://") && !html.contains("<script"));
    assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
}

#[test]
fn a_run_is_written_and_its_reports_are_made_again() {
    let directory = tempfile::tempdir().unwrap();
    write(&sample(), directory.path()).unwrap();
    let first = fs::read_to_string(directory.path().join("report.md")).unwrap();
    fs::remove_file(directory.path().join("report.md")).unwrap();
    again(directory.path()).unwrap();
    assert_eq!(fs::read_to_string(directory.path().join("report.md")).unwrap(), first);
    fs::write(directory.path().join("run.json"), "{}").unwrap();
    assert!(again(directory.path()).is_err());
}

#[test]
fn reproduce_names_the_packages_of_the_peers() {
    let script = reproduce(&sample());
    assert!(script.starts_with("#!/bin/sh") && script.contains("zookeeper default-jre-headless"));
}
