//! `report.md`: the same tables for a code host.

use super::table::headline;
use super::view::grids;
use crate::record::Run;
use std::fmt::Write as _;

/// The whole page.
pub(crate) fn render(run: &Run) -> String {
    let mut text = format!("# {}\n\n{}\n", run.run_id, headline(run).trim().replace('\n', "  \n"));
    let _ = writeln!(
        text,
        "\nStarted {}, took {:.0} s. Again: `{}`\n",
        run.started_utc, run.duration_s, run.command
    );
    for grid in grids(run) {
        let _ = writeln!(text, "## {}\n", grid.title);
        let line = |cells: &[String]| {
            format!("| {} |", cells.iter().map(|c| escape(c)).collect::<Vec<_>>().join(" | "))
        };
        let _ = writeln!(text, "{}", line(&grid.header));
        let rule: Vec<String> =
            (0..grid.header.len()).map(|i| if i == 0 { ":--" } else { "--:" }.to_owned()).collect();
        let _ = writeln!(text, "{}", line(&rule));
        for row in &grid.rows {
            let _ = writeln!(text, "{}", line(row));
        }
        let _ = writeln!(text, "\n{}\n", grid.note);
    }
    text += &systems(run);
    text += &environment(run);
    text
}

fn escape(cell: &str) -> String {
    cell.replace('|', "\\|")
}

fn systems(run: &Run) -> String {
    let mut text = "## Systems\n\n".to_owned();
    for s in &run.systems {
        let _ = writeln!(text, "* **{}** {}: {}; `{}`", s.name, s.version, s.client_path, s.command_line);
    }
    text + "\nCorrections of a peer's settings are welcome.\n\n"
}

fn environment(run: &Run) -> String {
    let e = &run.environment;
    let rows = [
        (
            "processor",
            format!("{} ({} usable cores{})", e.cpu, e.cores, if e.virtualised { ", virtual" } else { "" }),
        ),
        ("memory, swap", format!("{} MiB, {} MiB", e.memory_bytes >> 20, e.swap_bytes >> 20)),
        ("kernel, clock", format!("{}, {}", e.kernel, e.clocksource)),
        ("file system", e.filesystem.clone()),
        (
            "fdatasync of 4 KiB",
            format!(
                "p50 {:.0} µs, p99 {:.0} µs; p50 {:.0} µs when the file grows",
                e.fsync_p50_us, e.fsync_p99_us, e.append_fsync_p50_us
            ),
        ),
        ("wake-up lateness", format!("p99 {:.0} µs", e.wakeup_p99_us)),
        ("load before", e.load_before.clone()),
        ("steal", format!("{:.2} %", e.steal_percent)),
        ("compiler", e.rustc.clone()),
        ("commit", format!("{}{}", run.git_sha, if run.git_dirty { " with local changes" } else { "" })),
        (
            "generator",
            run.generator
                .iter()
                .map(|g| format!("{}×{}: {:.0}/s", g.sessions, g.depth, g.rate))
                .collect::<Vec<_>>()
                .join(", ")
                + " against a server that only replies",
        ),
        ("doubts", if e.flags.is_empty() { "none".into() } else { e.flags.join("; ") }),
    ];
    let mut text = "## Environment\n\n| what | value |\n| :-- | :-- |\n".to_owned();
    for (name, value) in rows {
        let _ = writeln!(text, "| {name} | {} |", escape(&value));
    }
    text
}
