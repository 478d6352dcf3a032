//! The terminal's tables.

use super::view::{Grid, grids};
use crate::record::Run;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use std::fmt::Write as _;

/// Everything, as text.
pub(crate) fn render(run: &Run) -> String {
    let mut text = headline(run);
    for grid in grids(run) {
        let _ = writeln!(text, "\n{}\n{}", grid.title, draw(&grid));
        if !grid.note.is_empty() {
            let _ = writeln!(text, "{}", grid.note);
        }
    }
    text
}

/// One line that says what was run and where.
pub(crate) fn headline(run: &Run) -> String {
    let e = &run.environment;
    let flags =
        if e.flags.is_empty() { String::new() } else { format!("\ndoubtful: {}", e.flags.join("; ")) };
    let systems: Vec<_> = run.systems.iter().map(|s| format!("{} {}", s.name, s.version)).collect();
    format!(
        "{} · {} · 3 servers, {} · fsync before ack, {} µs (p50) · {} cores, {}{flags}\n",
        run.run_id,
        systems.join(", "),
        e.network,
        e.fsync_p50_us.round(),
        e.cores,
        e.cpu
    )
}

fn draw(grid: &Grid) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(&grid.header);
    for row in &grid.rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}
