//! The command line: `sim matrix`, `replay`, `run`, `soak`, `soak-merge`, `ci`, `check`, `schedules`.

use crate::case::{Case, Source};
use crate::schedule::{Schedule, Variant};
use crate::shrink::{Shrunk, shrink};
use crate::soak::{self, State};
use crate::tally::Broken;
use crate::{Backend, Plan, Report, Violation, again, matrix, pool, report_text, verdict};
use clap::{Args, Subcommand, ValueEnum};
use comfy_table::{ContentArrangement, Table, presets};
use std::fs::{self, File};
use std::io::{BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// What to simulate.
#[derive(Debug, Subcommand)]
pub enum Simulate {
    /// Measures the fault matrix: every row on every protocol, as shipped and as in the papers.
    Matrix(MatrixWords),
    /// Runs one seed again, tells its story, shrinks it if it fails.
    Replay(ReplayWords),
    /// Runs seeds of the swarm, of a row or of a schedule.
    Run(RunWords),
    /// Runs seeds for hours; can be stopped and resumed.
    Soak(SoakWords),
    /// Puts soaks together that ran different cases.
    SoakMerge {
        /// The folder for the sum.
        #[arg(long)]
        out: PathBuf,
        /// Folders of soaks.
        #[arg(required = true)]
        from: Vec<PathBuf>,
    },
    /// At least 2,000 seeds over all rows within minutes; fails on any broken rule.
    Ci {
        /// Seeds.
        #[arg(long, default_value_t = 6000)]
        seeds: u64,
        /// Seconds at most.
        #[arg(long, default_value_t = 240)]
        budget: u64,
        /// Threads.
        #[arg(long, default_value_t = pool::cores())]
        jobs: usize,
    },
    /// Judges a recorded history: of a run, of live servers or of real ZooKeeper.
    Check {
        /// The history (menagerie.history/1, JSON lines).
        history: PathBuf,
        /// Writes what the clients saw as a page, findings marked.
        #[arg(long)]
        page: Option<PathBuf>,
    },
    /// Lists the named schedules, or tells one.
    Schedules {
        /// Its name.
        name: Option<String>,
    },
}

/// Words of `matrix`.
#[derive(Debug, Args)]
pub struct MatrixWords {
    /// Seeds per cell.
    #[arg(long, default_value_t = 10)]
    seeds: u64,
    /// Protocols; all if none is named.
    #[arg(long, value_enum)]
    backend: Vec<Name>,
    /// Rows; all if none is named.
    #[arg(long)]
    row: Vec<u8>,
    /// Writes matrix.md and matrix.json to this folder.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Threads.
    #[arg(long, default_value_t = pool::cores())]
    jobs: usize,
}

/// Where a schedule comes from; the swarm if nothing is named.
#[derive(Debug, Args)]
pub struct SourceWords {
    /// A row of the fault matrix: one of its schedules, perturbed by the seed.
    #[arg(long, conflicts_with = "schedule")]
    row: Option<u8>,
    /// A named schedule or a .toml file, as it is written.
    #[arg(long)]
    schedule: Option<String>,
    /// As shipped or as in the paper.
    #[arg(long, value_enum)]
    variant: Option<VariantName>,
}

impl SourceWords {
    fn case(&self, backend: Backend, seed: u64) -> Case {
        let source = match (self.row, &self.schedule) {
            (Some(row), _) => Source::Row(row),
            (None, Some(name)) => Source::Schedule(name.clone()),
            (None, None) => Source::Swarm,
        };
        Case { backend, seed, source, variant: self.variant.map(Into::into) }
    }
}

/// Words of `replay`.
#[derive(Debug, Args)]
pub struct ReplayWords {
    /// The seed.
    #[arg(required_unless_present = "plan")]
    seed: Option<u64>,
    /// Its protocol.
    #[arg(long, value_enum, required_unless_present = "plan")]
    backend: Option<Name>,
    #[command(flatten)]
    source: SourceWords,
    /// A shrunken plan instead of a seed.
    #[arg(long, conflicts_with_all = ["seed", "backend", "row", "schedule"])]
    plan: Option<PathBuf>,
    /// Events shown before the violation or the end.
    #[arg(long, default_value_t = 30)]
    events: usize,
    /// Shrinks a failing plan, in at most this many runs.
    #[arg(long, num_args = 0..=1, default_missing_value = "500")]
    shrink: Option<u32>,
    /// Where the shrunken plan goes.
    #[arg(long)]
    shrunk: Option<PathBuf>,
    /// Writes the whole trace (menagerie.trace/1).
    #[arg(long)]
    trace: Option<PathBuf>,
    /// Writes the trace for ShiViz.
    #[arg(long)]
    shiviz: Option<PathBuf>,
    /// Writes the trace for Perfetto.
    #[arg(long)]
    perfetto: Option<PathBuf>,
    /// Writes the clients' history (menagerie.history/1).
    #[arg(long)]
    history: Option<PathBuf>,
}

/// Words of `run`.
#[derive(Debug, Args)]
pub struct RunWords {
    /// First seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Seeds per protocol.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// Protocols; all if none is named.
    #[arg(long, value_enum)]
    backend: Vec<Name>,
    #[command(flatten)]
    source: SourceWords,
    /// Threads.
    #[arg(long, default_value_t = pool::cores())]
    jobs: usize,
}

/// Words of `soak`.
#[derive(Debug, Args)]
pub struct SoakWords {
    /// Folder for run.json and report.md; an existing soak goes on.
    #[arg(long)]
    out: PathBuf,
    /// Hours at most.
    #[arg(long, conflicts_with = "minutes")]
    hours: Option<f64>,
    /// Minutes at most.
    #[arg(long)]
    minutes: Option<f64>,
    /// Cases at most.
    #[arg(long, default_value_t = u64::MAX)]
    seeds: u64,
    /// First case, for a second machine.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Threads.
    #[arg(long, default_value_t = pool::cores())]
    jobs: usize,
}

/// A protocol on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[allow(missing_docs, reason = "names")]
pub enum Name {
    Zab,
    Raft,
    Paxos,
}

impl From<Name> for Backend {
    fn from(name: Name) -> Self {
        match name {
            Name::Zab => Self::Zab,
            Name::Raft => Self::Raft,
            Name::Paxos => Self::Paxos,
        }
    }
}

/// A variant on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[allow(missing_docs, reason = "names")]
pub enum VariantName {
    Hardened,
    Textbook,
}

impl From<VariantName> for Variant {
    fn from(name: VariantName) -> Self {
        match name {
            VariantName::Hardened => Self::Hardened,
            VariantName::Textbook => Self::Textbook,
        }
    }
}

/// The commit of the code, with `+` if it was changed since.
fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok().filter(|o| o.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(sha) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".to_owned() };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|s| !s.is_empty());
    if changed { sha + "+" } else { sha }
}

/// The command that was given, without the place of the binary.
fn command() -> String {
    let args: Vec<String> = std::env::args().skip(1).collect();
    format!("cargo run --release -p sim -- {}", args.join(" "))
}

fn all_or(names: &[Name]) -> Vec<Backend> {
    if names.is_empty() { Backend::ALL.to_vec() } else { names.iter().map(|n| (*n).into()).collect() }
}

fn simulate(plan: &Plan) -> Report {
    crate::run(plan, None)
}

/// Carries the words out.
///
/// # Errors
/// What is wrong with the words or the files; broken rules are an exit code.
pub fn carry_out(words: &Simulate) -> Result<ExitCode, String> {
    // A failing run is reported with its story; the hook would print it twice, interleaved.
    std::panic::set_hook(Box::new(|_| {}));
    match words {
        Simulate::Matrix(words) => run_matrix(words),
        Simulate::Replay(words) => run_again(words),
        Simulate::Run(words) => run_seeds(words),
        Simulate::Soak(words) => run_soak(words),
        Simulate::SoakMerge { out, from } => merge(out, from),
        Simulate::Ci { seeds, budget, jobs } => ci(*seeds, Duration::from_secs(*budget), *jobs),
        Simulate::Check { history, page } => check(history, page.as_deref()),
        Simulate::Schedules { name } => list(name.as_deref()),
    }
}

fn check(file: &Path, page: Option<&Path>) -> Result<ExitCode, String> {
    let named = |e: &dyn std::fmt::Display| format!("{}: {e}", file.display());
    let mut lines = BufReader::new(File::open(file).map_err(|e| named(&e))?);
    let history = history::jsonl::read(&mut lines).map_err(|e| named(&e))?;
    let checked = history::check_all(&history);
    println!("{}", history::tell(&history, &checked));
    if let Some(page) = page {
        fs::write(page, history::timeline_html(&history, &checked.findings))
            .map_err(|e| format!("{}: {e}", page.display()))?;
    }
    Ok(if checked.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_matrix(words: &MatrixWords) -> Result<ExitCode, String> {
    let wish = matrix::Wish {
        rows: words.row.clone(),
        backends: words.backend.iter().map(|n| (*n).into()).collect(),
        seeds: words.seeds.max(1),
        jobs: words.jobs,
    };
    let began = Instant::now();
    let terminal = std::io::stderr().is_terminal();
    let cells = matrix::measure(&wish, &simulate, |done, total| {
        if terminal {
            eprint!("\r{done} of {total} runs ");
        }
    });
    let cells = cells.map_err(|e| e.to_string())?;
    if terminal {
        eprint!("\r");
    }
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    if !std::io::stdout().is_terminal() {
        table.set_width(200);
    }
    table.set_header(["#", "fault", "bound", "zab", "raft", "paxos"]);
    for row in matrix::shown_rows(&cells) {
        let [zab, raft, paxos] = Backend::ALL.map(|b| matrix::lines(&cells, row, b).join("\n"));
        table.add_row([row.number.to_string(), row.fault.to_owned(), row.bound.to_owned(), zab, raft, paxos]);
    }
    println!("{table}\n{}", matrix::LEGEND);
    println!("a seed again: sim replay SEED --backend B --row N --variant V\n");
    for note in matrix::notes(&cells) {
        println!("* {note}");
    }
    let runs: u64 = cells.values().map(|c| c.seeds).sum();
    println!("\n{runs} runs in {:.0} s", began.elapsed().as_secs_f64());
    if let Some(out) = &words.out {
        let (commit, command) = (commit(), command());
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(out)?;
            fs::write(out.join("matrix.md"), matrix::markdown(&cells, &commit, &command, words.seeds))?;
            fs::write(out.join("matrix.json"), matrix::json(&cells, &commit, &command)? + "\n")
        };
        write().map_err(|e| format!("{}: {e}", out.display()))?;
    }
    Ok(exit(cells.values().map(|c| c.violated).sum()))
}

const fn exit(violations: u64) -> ExitCode {
    if violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_again(words: &ReplayWords) -> Result<ExitCode, String> {
    let wish = again::Wish {
        events: words.events,
        shrink: words.shrink,
        shrunk: words.shrunk.clone(),
        trace: words.trace.clone(),
        shiviz: words.shiviz.clone(),
        perfetto: words.perfetto.clone(),
        history: words.history.clone(),
        commit: commit(),
    };
    let case = words.seed.zip(words.backend).map(|(seed, b)| words.source.case(b.into(), seed));
    let plan = match (&words.plan, &case) {
        (Some(path), _) => again::load(path)?,
        (None, Some(case)) => case.plan().map_err(|e| e.to_string())?,
        (None, None) => return Err("a seed and --backend, or --plan FILE".to_owned()),
    };
    let held = again::replay(&plan, case.as_ref(), &wish, &mut std::io::stdout().lock())?;
    Ok(exit(u64::from(!held)))
}

fn run_seeds(words: &RunWords) -> Result<ExitCode, String> {
    let mut failed = 0;
    for backend in all_or(&words.backend) {
        let mut tally = crate::tally::Tally::default();
        let cases =
            (words.from..words.from.saturating_add(words.seeds)).map(|s| words.source.case(backend, s));
        let mut wrong = None;
        let work = |case: Case| {
            let plan = case.plan()?;
            let report = simulate(&plan);
            Ok::<_, crate::schedule::LoadError>(crate::tally::Done::new(case, &plan, report))
        };
        pool::run(words.jobs, cases, work, |done, took| {
            match done {
                Err(why) => wrong = Some(why.to_string()),
                Ok(done) => {
                    if let Some(v) = &done.verdict.violation {
                        println!(
                            "{}: {}: {}",
                            done.case,
                            v.checker,
                            v.text.lines().next().unwrap_or_default()
                        );
                    }
                    tally.add(&done, took);
                }
            }
            wrong.is_none()
        });
        if let Some(why) = wrong {
            return Err(why);
        }
        let mut state = State::default();
        failed += tally.violations();
        state.tallies.insert(backend, tally);
        println!("{}: {}", backend.name(), report_text::progress(&state));
    }
    Ok(exit(failed))
}

fn run_soak(words: &SoakWords) -> Result<ExitCode, String> {
    let hours = words.hours.or(words.minutes.map(|m| m / 60.0));
    let time =
        hours.map(|h| Duration::try_from_secs_f64(h * 3600.0)).transpose().map_err(|e| e.to_string())?;
    let wish = soak::Wish {
        batch: 300,
        from: words.from,
        seeds: words.seeds,
        time,
        jobs: words.jobs,
        commit: commit(),
        command: command(),
    };
    let state = soak::soak(&words.out, &wish, &simulate, |state| {
        println!("{}", report_text::progress(state));
        let _ = std::io::stdout().flush();
    })?;
    println!("{}", words.out.join("report.md").display());
    Ok(exit(state.violations()))
}

fn merge(out: &Path, from: &[PathBuf]) -> Result<ExitCode, String> {
    let mut sum = State::load(out)?;
    for folder in from {
        let part = State::load(folder)?;
        if part.ranges.is_empty() {
            return Err(format!("{}: no soak", folder.display()));
        }
        sum.merge(&part)?;
    }
    sum.save(out)?;
    println!("{}", report_text::progress(&sum));
    Ok(ExitCode::SUCCESS)
}

fn ci(seeds: u64, budget: Duration, jobs: usize) -> Result<ExitCode, String> {
    let began = Instant::now();
    let mut state = State::default();
    let deadline = Some(began + budget);
    let done = soak::run_range((0, seeds), jobs, deadline, &simulate, &mut state.tallies);
    println!("{} in {:.0} s", report_text::progress(&state), began.elapsed().as_secs_f64());
    for (backend, tally) in &state.tallies {
        let f = &tally.sum;
        println!(
            "{:<6} {} seeds, {} messages, {} message faults, {} crashes, {} partitions, {} disk faults; recovery p50 \
             {:.1}, p99 {:.1}, worst {:.1} Tₑ ({})",
            backend.name(),
            tally.seeds,
            f.messages,
            f.message_faults,
            f.crashes,
            f.partitions,
            f.disk_faults,
            tally.recovery.quantile(500),
            tally.recovery.quantile(990),
            tally.recovery.most,
            tally.recovery.worst
        );
        for broken in tally.broken.iter().take(10) {
            let first = broken.text.lines().next().unwrap_or_default();
            let known = if is_known(broken) { "KNOWN" } else { "BROKEN" };
            println!(
                "  {known} {}: {first}\n  again: cargo run --release -p {}",
                broken.checker,
                again_command(&broken.case)
            );
        }
        if let Some(first) = tally.broken.iter().find(|b| !is_known(b)) {
            println!("{}", shrunk_words(first)?);
        }
    }
    let known = state.tallies.values().flat_map(|t| &t.broken).filter(|b| is_known(b)).count() as u64;
    let mut fails = state.violations() - known;
    if known > 0 {
        println!("{known} broken rules are known and open: crates/sim/known.txt");
    }
    if done < seeds {
        println!("the budget of {} s ended after {done} of {seeds} seeds", budget.as_secs());
    }
    for lacking in report_text::not_hit(&state) {
        println!("not hit: {lacking}");
        fails += 1;
    }
    Ok(exit(fails))
}

/// The smallest plan found that breaks the same rule, as a file for `sim replay --plan`.
fn shrunk_words(broken: &Broken) -> Result<String, String> {
    let plan = broken.case.plan().map_err(|e| e.to_string())?;
    let found = Violation { checker: broken.checker.clone(), text: broken.text.clone(), at_us: 0 };
    let (small, found) = shrink(&plan, &found, CI_SHRINK, &|p| simulate(p).violation);
    let Violation { checker, text, .. } = found;
    let (seed, backend, schedule) = (small.seed, small.backend, small.schedule);
    let steps = (plan.schedule.steps.len(), schedule.steps.len());
    let story = schedule.to_string();
    let file = Shrunk { seed, backend, commit: commit(), checker, text, schedule }.to_toml()?;
    Ok(format!("  shrunk from {} to {} steps: {story}\n{file}", steps.0, steps.1))
}

/// Runs that `ci` spends on shrinking the first failure of a protocol.
const CI_SHRINK: u32 = 120;

/// Broken rules that are known and not mended yet, one `case: checker` a line. They are shown, and do not fail `ci`.
const KNOWN: &str = include_str!("../known.txt");

fn is_known(broken: &Broken) -> bool {
    let line = format!("{}: {}", broken.case, broken.checker);
    KNOWN.lines().any(|known| known == line)
}

/// `sim replay …` as arguments of cargo.
fn again_command(case: &Case) -> String {
    case.to_string().replacen("sim ", "sim -- ", 1)
}

fn list(name: Option<&str>) -> Result<ExitCode, String> {
    for schedule in Schedule::named().map_err(|e| e.to_string())? {
        match name {
            None => println!("{:<28} {}", schedule.name, schedule.about),
            Some(name) if name == schedule.name => {
                print!("{schedule}");
                for backend in Backend::ALL {
                    for variant in [Variant::Hardened, Variant::Textbook] {
                        let e = schedule.expectation(backend.name(), variant);
                        println!("  {} {}: {}", backend.name(), variant.name(), verdict::in_words(&e));
                    }
                }
                return Ok(ExitCode::SUCCESS);
            }
            Some(_) => {}
        }
    }
    match name {
        Some(name) => Err(format!("no schedule is named {name:?}")),
        None => Ok(ExitCode::SUCCESS),
    }
}
