//! `sim replay`: one run again, with its story.
//!
//! ```text
//!  case ─► plan ─► run, traced ─┬─► schedule, story (faults, crashes, leaders), the last events before the violation
//!             └──► run again ───┴─► equal digests, or the simulator itself is at fault
//! ```

use crate::case::Case;
use crate::shrink::{Shrunk, shrink};
use crate::{Plan, Report, Violation, run, verdict};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use trace::{Clock, Header, Kind, Record};

/// What to show and where to write.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Events shown before the violation (or the end).
    pub events: usize,
    /// Shrink a failing plan, in at most this many runs.
    pub shrink: Option<u32>,
    /// Where a shrunken plan goes; printed if not given.
    pub shrunk: Option<PathBuf>,
    /// The whole trace.
    pub trace: Option<PathBuf>,
    /// The trace for ShiViz.
    pub shiviz: Option<PathBuf>,
    /// The trace for Perfetto.
    pub perfetto: Option<PathBuf>,
    /// The clients' history.
    pub history: Option<PathBuf>,
    /// Commit of the code.
    pub commit: String,
}

/// Reads a shrunken plan.
///
/// # Errors
/// If it cannot be read.
pub fn load(path: &Path) -> Result<Plan, String> {
    let at = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let text = std::fs::read_to_string(path).map_err(|e| at(&e))?;
    let shrunk: Shrunk = toml::from_str(&text).map_err(|e| at(&e))?;
    shrunk.schedule.check().map_err(|(_, why)| at(&why))?;
    Ok(shrunk.plan())
}

/// Runs a plan twice and tells what happened. True: no rule was broken.
///
/// # Errors
/// If a file cannot be written, or the two runs differ.
pub fn replay(plan: &Plan, case: Option<&Case>, wish: &Wish, out: &mut impl Write) -> Result<bool, String> {
    let said = |e: io::Error| e.to_string();
    let variant = verdict::variant(plan).name();
    writeln!(out, "seed {} on {} {variant}: {}", plan.seed, plan.backend.name(), plan.schedule)
        .map_err(said)?;
    let keep_all = wish.trace.is_some() || wish.shiviz.is_some() || wish.perfetto.is_some();
    let mut seen = Seen { all: keep_all, last: wish.events, ..Seen::default() };
    let report = run(plan, Some(&mut |r: &Record| seen.see(r)));
    let again = run(plan, None);
    if again.digest != report.digest {
        return Err(format!("two runs differ: digests {:x} and {:x}", report.digest, again.digest));
    }
    tell(plan, &report, &seen, out).map_err(said)?;
    write_files(plan, &report, &seen, wish)?;
    let Some(violation) = &report.violation else { return Ok(true) };
    if let Some(attempts) = wish.shrink {
        shrink_and_tell(plan, violation, attempts, wish, out)?;
    } else if let Some(case) = case {
        writeln!(out, "shrink it: {case} --shrink").map_err(said)?;
    }
    Ok(false)
}

/// What is kept of a trace.
#[derive(Default)]
struct Seen {
    all: bool,
    last: usize,
    story: Vec<String>,
    recent: VecDeque<Record>,
    records: Vec<Record>,
}

impl Seen {
    fn see(&mut self, r: &Record) {
        let leads =
            r.kind == Kind::Phase && r.role.as_deref().is_some_and(|x| x.eq_ignore_ascii_case("leader"));
        let told = matches!(r.kind, Kind::Fault | Kind::Crash | Kind::Start | Kind::Note)
            || (r.kind == Kind::Snapshot && r.name.as_deref() == Some("installed"));
        if leads || told {
            self.story.push(trace::timed_line(r));
        }
        if self.last > 0 {
            if self.recent.len() == self.last {
                self.recent.pop_front();
            }
            self.recent.push_back(r.clone());
        }
        if self.all {
            self.records.push(r.clone());
        }
    }
}

fn tell(plan: &Plan, report: &Report, seen: &Seen, out: &mut impl Write) -> io::Result<()> {
    for line in &seen.story {
        writeln!(out, "{line}")?;
    }
    if !seen.recent.is_empty() {
        writeln!(out, "\nthe last events:")?;
        for record in &seen.recent {
            writeln!(out, "{}", trace::timed_line(record))?;
        }
    }
    if !report.skipped.is_empty() {
        let skipped: Vec<String> = report.skipped.iter().map(|n| (n + 1).to_string()).collect();
        writeln!(out, "\nsteps skipped: {}", skipped.join(", "))?;
    }
    let f = &report.figures;
    let verdict = verdict::judge(plan, report);
    writeln!(
        out,
        "\n{:.1} s simulated: {} messages, {} faults of them, {} crashes, {} installs, {} reigns, {} of {} operations \
         were acknowledged writes",
        std::time::Duration::from_micros(f.simulated_us).as_secs_f64(),
        f.messages,
        f.message_faults,
        f.crashes,
        f.installs,
        f.reigns,
        f.acked,
        f.ops
    )?;
    let recovery = verdict.recovery_te.map_or("none".to_owned(), |te| format!("{te:.2} Tₑ"));
    writeln!(
        out,
        "availability {:?}, longest gap {:.2} Tₑ, recovery {recovery}; digest {:016x}, the same in two runs",
        verdict.availability, verdict.gap_te, report.digest
    )?;
    for missed in &verdict.missed {
        writeln!(out, "missed: {missed}")?;
    }
    match &report.violation {
        None => writeln!(out, "no rule was broken"),
        Some(v) => {
            let at = std::time::Duration::from_micros(v.at_us).as_secs_f64();
            writeln!(out, "\nBROKEN at {at:.6} s: {}\n{}", v.checker, v.text)
        }
    }
}

fn shrink_and_tell(
    plan: &Plan,
    violation: &Violation,
    attempts: u32,
    wish: &Wish,
    out: &mut impl Write,
) -> Result<(), String> {
    let (small, violation) = shrink(plan, violation, attempts, &|p| run(p, None).violation);
    let shrunk = Shrunk {
        seed: small.seed,
        backend: small.backend,
        commit: wish.commit.clone(),
        checker: violation.checker,
        text: violation.text,
        schedule: small.schedule,
    };
    let text = shrunk.to_toml()?;
    let said = |e: io::Error| e.to_string();
    let steps = (plan.schedule.steps.len(), shrunk.schedule.steps.len());
    writeln!(out, "\nshrunk from {} to {} steps: {}", steps.0, steps.1, shrunk.schedule).map_err(said)?;
    match &wish.shrunk {
        None => writeln!(out, "{text}").map_err(said),
        Some(path) => {
            std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))?;
            writeln!(out, "again: sim replay --plan {}", path.display()).map_err(said)
        }
    }
}

fn write_files(plan: &Plan, report: &Report, seen: &Seen, wish: &Wish) -> Result<(), String> {
    let mut header = Header::new(plan.backend.name(), Clock::Virtual);
    header.seed = Some(plan.seed);
    header.commit = Some(wish.commit.clone());
    to_file(wish.trace.as_deref(), |to| {
        let mut writer = trace::Writer::new(to, &header)?;
        seen.records.iter().try_for_each(|r| writer.write(r))?;
        writer.flush()
    })?;
    to_file(wish.shiviz.as_deref(), |to| trace::shiviz(&seen.records, to))?;
    to_file(wish.perfetto.as_deref(), |to| trace::perfetto(&header, &seen.records, to))?;
    to_file(wish.history.as_deref(), |to| history::jsonl::write(&report.history, to))
}

fn to_file(
    path: Option<&Path>,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), String> {
    let Some(path) = path else { return Ok(()) };
    let go = || {
        let mut to = BufWriter::new(File::create(path)?);
        write(&mut to)?;
        to.flush()
    };
    go().map_err(|e| format!("{}: {e}", path.display()))
}
