//! The fault matrix with measured cells: every row, protocol and variant, so many seeds each.
//!
//! ```text
//!  row × protocol × variant ─► seeds ─► verdicts ─► cell: letter, gap, recovery, the worst seed
//!                                                     │
//!                              terminal table, matrix.md, matrix.json
//! ```
//!
//! A cell says what was measured, not what was hoped: A (commits went on), W (after a wait), U (not before the heal),
//! with the number of seeds if they differ; T marks a textbook protocol that fails where the shipped one does not.
//! Where a protocol cannot pass by design the schedule says why, and so does the matrix.

use crate::case::{Case, Source};
use crate::rows::{ROWS, Row, Shown};
use crate::schedule::{LoadError, Variant};
use crate::soak::Run;
use crate::tally::Done;
use crate::verdict::Availability;
use crate::{Backend, pool};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Which part of the matrix, and how many seeds for each cell.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Rows; all if empty.
    pub rows: Vec<u8>,
    /// Protocols; all if empty.
    pub backends: Vec<Backend>,
    /// Seeds per cell.
    pub seeds: u64,
    /// Threads.
    pub jobs: usize,
}

/// One cell: a protocol in a variant under a row's fault.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Cell {
    /// Runs.
    pub seeds: u64,
    /// Runs that broke a rule.
    pub violated: u64,
    /// Runs by availability.
    pub availability: BTreeMap<Availability, u64>,
    /// Longest gap between acknowledged writes under the fault, median of the runs, Tₑ.
    pub gap_p50_te: f64,
    /// The same, largest.
    pub gap_max_te: f64,
    /// From heal to a commit of every client, median of the runs that owed one, Tₑ; none if no run did.
    pub recovery_p50_te: Option<f64>,
    /// The same, largest.
    pub recovery_max_te: Option<f64>,
    /// Runs in which every harmful step was carried out.
    pub hit: u64,
    /// Whether that matters: a swarm's steps need not all find somebody.
    pub counts_hits: bool,
    /// Runs that missed an expectation.
    pub missed: u64,
    /// What the worst one missed or broke.
    pub why: String,
    /// The worst seed: one that broke a rule, else missed an expectation, else had the longest gap.
    pub seed: u64,
    /// The command that runs it again.
    pub command: String,
    /// Why it need not be available.
    pub by_design: Option<String>,
}

/// All cells.
pub type Cells = BTreeMap<(u8, Backend, Variant), Cell>;

/// Runs the matrix.
///
/// # Errors
/// If a named schedule cannot be read; a test keeps that from happening.
pub fn measure(
    wish: &Wish,
    run: Run<'_>,
    mut progress: impl FnMut(usize, usize),
) -> Result<Cells, LoadError> {
    let mut cases = Vec::new();
    let mut cells = Cells::new();
    for row in ROWS.iter().filter(|r| wish.rows.is_empty() || wish.rows.contains(&r.number)) {
        let source = match row.shown {
            Shown::Schedules => Source::Row(row.number),
            Shown::Swarm => Source::Swarm,
            Shown::Live | Shown::Not(_) => continue,
        };
        for backend in Backend::ALL {
            if !wish.backends.is_empty() && !wish.backends.contains(&backend) {
                continue;
            }
            for variant in [Variant::Hardened, Variant::Textbook] {
                let key = (row.number, backend, variant);
                let case = |seed| Case { backend, seed, source: source.clone(), variant: Some(variant) };
                for seed in 0..wish.seeds {
                    cases.push((key, case(seed)));
                }
                let counts_hits = row.shown == Shown::Schedules;
                let by_design = by_design(&case, wish.seeds)?;
                cells.insert(key, Cell { by_design, counts_hits, ..Cell::default() });
            }
        }
    }
    let mut runs: BTreeMap<(u8, Backend, Variant), Vec<Done>> = BTreeMap::new();
    let total = cases.len();
    let mut count = 0;
    let work = |((row, backend, variant), case): ((u8, Backend, Variant), Case)| {
        let plan = case.plan()?;
        let report = run(&plan);
        Ok(((row, backend, variant), Done::new(case, &plan, report)))
    };
    let mut wrong: Option<LoadError> = None;
    pool::run(wish.jobs, cases.into_iter(), work, |done, _| {
        count += 1;
        progress(count, total);
        match done {
            Ok((key, done)) => runs.entry(key).or_default().push(done),
            Err(why) => wrong = Some(why),
        }
        wrong.is_none()
    });
    if let Some(why) = wrong {
        return Err(why);
    }
    for (key, mut done) in runs {
        // Threads finish in any order; the matrix does not depend on it.
        done.sort_by_key(|d| d.case.seed);
        if let Some(cell) = cells.get_mut(&key) {
            fill(cell, &done);
        }
    }
    Ok(cells)
}

fn by_design(case: &dyn Fn(u64) -> Case, seeds: u64) -> Result<Option<String>, LoadError> {
    for seed in 0..seeds.min(4) {
        let case = case(seed);
        let plan = case.plan()?;
        let expect = plan.schedule.expectation(case.backend.name(), case.variant.unwrap_or_default());
        if let Some(why) = expect.safety_only.or(expect.unavailable) {
            return Ok(Some(why));
        }
    }
    Ok(None)
}

fn fill(cell: &mut Cell, done: &[Done]) {
    let spread = |of: fn(&Done) -> Option<f64>| {
        let mut values: Vec<f64> = done.iter().filter_map(of).collect();
        values.sort_by(f64::total_cmp);
        (values.get(values.len() / 2).copied(), values.last().copied())
    };
    let (middle, most) = spread(|d| Some(d.verdict.gap_te));
    (cell.gap_p50_te, cell.gap_max_te) = (middle.unwrap_or(0.0), most.unwrap_or(0.0));
    (cell.recovery_p50_te, cell.recovery_max_te) = spread(|d| d.verdict.recovery_te);
    for d in done {
        cell.seeds += 1;
        cell.violated += u64::from(d.verdict.violation.is_some());
        cell.missed += u64::from(!d.verdict.missed.is_empty());
        cell.hit += u64::from(d.verdict.hit);
        *cell.availability.entry(d.verdict.availability).or_default() += 1;
    }
    let rank = |d: &&Done| {
        let v = &d.verdict;
        let tenths = |te: f64| ordered((v.gap_te.max(te)) * 1000.0);
        (v.violation.is_some(), !v.missed.is_empty(), tenths(v.recovery_te.unwrap_or(0.0)))
    };
    if let Some(worst) = done.iter().max_by_key(rank) {
        cell.seed = worst.case.seed;
        cell.command = worst.case.to_string();
        let v = &worst.verdict;
        cell.why = match &v.violation {
            Some(x) => format!("{}: {}", x.checker, x.text.lines().next().unwrap_or_default()),
            None => v.missed.join("; "),
        };
    }
}

fn ordered(x: f64) -> u64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "thousandths of Te, bounded")]
    let n = x.clamp(0.0, 1e12) as u64;
    n
}

impl Cell {
    /// `W`, or `A18 W2` where seeds differ; `✗` before it if a rule was broken.
    #[must_use]
    pub fn letters(&self) -> String {
        let mut letters = match self.availability.len() {
            1 => self.availability.keys().map(|a| format!("{a:?}")).collect::<String>(),
            _ => self.availability.iter().map(|(a, n)| format!("{a:?}{n}")).collect::<Vec<_>>().join(" "),
        };
        if self.violated > 0 {
            letters = format!("✗{} {letters}", self.violated);
        }
        letters
    }

    /// Whether it fails: a broken rule, or no availability that its schedule does not excuse, or missed bounds.
    fn fails(&self) -> bool {
        self.violated > 0 || self.missed > 0 || self.availability.contains_key(&Availability::U)
    }

    fn text(&self) -> String {
        let tenths = |te: Option<f64>| te.map_or("–".to_owned(), |te| format!("{te:.1}"));
        let mut text = format!(
            "{} gap {:.1}/{:.1} rec {}/{} #{}",
            self.letters(),
            self.gap_p50_te,
            self.gap_max_te,
            tenths(self.recovery_p50_te),
            tenths(self.recovery_max_te),
            self.seed
        );
        if self.missed > 0 {
            let _ = write!(text, " !{}", self.missed);
        }
        if self.hit < self.seeds && self.counts_hits {
            let _ = write!(text, " hit {}/{}", self.hit, self.seeds);
        }
        text
    }
}

/// What a row says about a protocol: the shipped variant, and the textbook's below.
#[must_use]
pub fn lines(cells: &Cells, row: &Row, backend: Backend) -> Vec<String> {
    match row.shown {
        Shown::Live => return vec!["live".to_owned()],
        Shown::Not(_) => return vec!["–".to_owned()],
        Shown::Schedules | Shown::Swarm => {}
    }
    let hardened = cells.get(&(row.number, backend, Variant::Hardened));
    let textbook = cells.get(&(row.number, backend, Variant::Textbook));
    let mut lines: Vec<String> = hardened.map(Cell::text).into_iter().collect();
    if let Some(t) = textbook {
        let worse = t.fails() && hardened.is_some_and(|h| !h.fails());
        lines.push(format!("{} {}", if worse { "T:" } else { "t:" }, t.text()));
    }
    lines
}

/// Why cells are what they are: by design, broken, missed; one line each.
#[must_use]
pub fn notes(cells: &Cells) -> Vec<String> {
    let mut reasons: BTreeMap<(u8, String), BTreeSet<String>> = BTreeMap::new();
    let mut notes = Vec::new();
    for ((row, backend, variant), cell) in cells {
        let who = format!("{} {}", backend.name(), variant.name());
        if let Some(why) = &cell.by_design {
            reasons.entry((*row, why.clone())).or_default().insert(who.clone());
        }
        if cell.violated > 0 {
            notes.push(format!("row {row}, {who}: BROKEN: {} (`{}`)", cell.why, cell.command));
        } else if cell.missed > 0 {
            notes.push(format!(
                "row {row}, {who}: {} of {} runs missed a bound: {} (`{}`)",
                cell.missed, cell.seeds, cell.why, cell.command
            ));
        }
    }
    let design = reasons.into_iter().map(|((row, why), who)| {
        let who: Vec<String> = who.into_iter().collect();
        let who = if who.len() == 6 { "all".to_owned() } else { who.join(", ") };
        format!("row {row}, {who}: by design: {why}")
    });
    let design: Vec<String> = design.collect();
    let not = ROWS.iter().filter_map(|r| match r.shown {
        Shown::Not(why) => Some(format!("row {}: {why}", r.number)),
        _ => None,
    });
    design.into_iter().chain(not).chain(notes).collect()
}

/// What the marks mean.
pub const LEGEND: &str = "A commits went on, W after a wait, U not before the heal (with numbers of seeds where they \
                          differ); gap: longest time without an acknowledged write under the fault, rec: from the heal \
                          until every client committed, both median/max in Tₑ (1.5 s); #: the worst seed; !: runs that \
                          missed a bound; t: textbook variant, T: it fails where the shipped one does not; ✗: broken rule";

/// The matrix in Markdown.
#[must_use]
pub fn markdown(cells: &Cells, commit: &str, command: &str, seeds: u64) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ =
        writeln!(out, "# Fault matrix, measured\n\nCommit {commit}, {seeds} seeds per cell: `{command}`\n");
    let _ = writeln!(out, "{LEGEND}.\n");
    let _ = writeln!(out, "| # | fault | bound | zab | raft | paxos |\n|---:|---|---|---|---|---|");
    for row in shown_rows(cells) {
        let cell = |b| lines(cells, row, b).join("<br>");
        let [zab, raft, paxos] = Backend::ALL.map(cell);
        let _ =
            writeln!(out, "| {} | {} | {} | {zab} | {raft} | {paxos} |", row.number, row.fault, row.bound);
    }
    let _ = writeln!(out, "\nA seed runs again with `sim replay SEED --backend B --row N --variant V`.\n");
    for note in notes(cells) {
        let _ = writeln!(out, "* {note}");
    }
    out
}

/// Rows to print: all, or those that were asked for.
pub fn shown_rows(cells: &Cells) -> impl Iterator<Item = &'static Row> {
    let asked: BTreeSet<u8> = cells.keys().map(|(row, ..)| *row).collect();
    let all = asked.len() > 20;
    ROWS.iter().filter(move |r| all || asked.contains(&r.number))
}

/// The matrix as JSON.
///
/// # Errors
/// None that can happen: the types are plain.
pub fn json(cells: &Cells, commit: &str, command: &str) -> Result<String, serde_json::Error> {
    #[derive(Serialize)]
    struct One<'a> {
        row: u8,
        protocol: &'a str,
        variant: Variant,
        #[serde(flatten)]
        cell: &'a Cell,
    }
    #[derive(Serialize)]
    struct Whole<'a> {
        format: &'a str,
        commit: &'a str,
        command: &'a str,
        cells: Vec<One<'a>>,
    }
    let one = |((row, backend, variant), cell): (&(u8, Backend, Variant), _)| One {
        row: *row,
        protocol: backend.name(),
        variant: *variant,
        cell,
    };
    let whole =
        Whole { format: "menagerie.matrix/1", commit, command, cells: cells.iter().map(one).collect() };
    serde_json::to_string_pretty(&whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Figures, Plan, Report, Violation};

    /// Zab's textbook variant breaks a rule under seed 2; recoveries grow with the seed.
    fn fake(plan: &Plan) -> Report {
        let textbook = crate::verdict::variant(plan) == Variant::Textbook;
        let broken = plan.backend == Backend::Zab && textbook && plan.seed == 2;
        #[allow(clippy::cast_precision_loss, reason = "small")]
        let recovery_te = Some(plan.seed as f64 / 10.0);
        Report {
            violation: broken.then(|| Violation { checker: "C1".into(), text: "stale".into(), at_us: 5 }),
            figures: Figures { recovery_te, election_ms: 1500, ..Figures::default() },
            ..Report::default()
        }
    }

    #[test]
    fn cells_name_their_worst_seed() {
        let wish = Wish { rows: vec![10, 43], backends: Vec::new(), seeds: 4, jobs: 2 };
        let cells = measure(&wish, &fake, |_, _| {}).unwrap();
        assert_eq!(cells.len(), 12);
        let cell = cells.get(&(10, Backend::Zab, Variant::Textbook)).unwrap();
        assert_eq!((cell.seeds, cell.violated, cell.seed), (4, 1, 2));
        assert_eq!(cell.command, "sim replay 2 --backend zab --row 10 --variant textbook");
        assert_eq!(cell.letters(), "✗1 A");
        let fine = cells.get(&(10, Backend::Paxos, Variant::Hardened)).unwrap();
        assert_eq!((fine.seed, fine.by_design.is_none()), (3, true));
        let text = markdown(&cells, "abc", "sim matrix", 4);
        assert!(text.contains("| 10 | constrained election |"), "{text}");
        assert!(text.contains("row 10, raft hardened, raft textbook: by design: Raft elects"), "{text}");
        assert!(text.contains("row 10, zab textbook: BROKEN: C1: stale"), "{text}");
        assert!(text.contains("T: ✗1 A gap"), "{text}");
        assert!(json(&cells, "abc", "sim matrix").unwrap().contains("\"protocol\": \"paxos\""));
    }
}
