//! `sim model`: runs the checker on the backends, prints what it visited, and writes the report.

use super::explore::{Cut, Limits, Outcome, check};
use super::scope::Scope;
use crate::Backend;
use clap::{Args, ValueEnum};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

/// What `sim model` takes.
#[derive(Args, Clone, Debug)]
pub struct ModelArguments {
    /// Backends (zab, raft, paxos); all if none is named.
    #[arg(long)]
    backend: Vec<String>,
    /// How far to go.
    #[arg(long, value_enum, default_value_t = Size::Small)]
    scope: Size,
    /// Only the scopes whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Minutes per backend and scope; then the search is cut and says so.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Transitions in millions per backend and scope; a bound on memory (about 20 bytes for each state, one in three).
    #[arg(long, default_value_t = 400)]
    millions: u64,
    /// A rule to switch off, by its name in the bug bank; needs a build with the feature `mutants`.
    #[arg(long)]
    mutant: Option<String>,
    /// Epochs after the first, instead of the scope's.
    #[arg(long)]
    epochs: Option<u32>,
    /// Commands proposed, instead of the scope's.
    #[arg(long)]
    commands: Option<u8>,
    /// Commands proposed in one epoch, at most.
    #[arg(long)]
    commands_an_epoch: Option<u8>,
    /// Crashes, instead of the scope's.
    #[arg(long)]
    crashes: Option<u8>,
    /// Lost messages, instead of the scope's.
    #[arg(long)]
    losses: Option<u8>,
    /// Messages delivered twice, instead of the scope's.
    #[arg(long)]
    duplicates: Option<u8>,
    /// Messages that overtake others, instead of the scope's; 255: any order.
    #[arg(long)]
    overtakes: Option<u8>,
    /// Timers that fire on nodes that do not lead, instead of the scope's.
    #[arg(long)]
    timeouts: Option<u8>,
    /// Timers that fire on leaders, instead of the scope's.
    #[arg(long)]
    heartbeats: Option<u8>,
    /// The textbook protocols instead of the hardened ones.
    #[arg(long)]
    textbook: bool,
    /// Whoever learns that its leader's link is dead elects at once.
    #[arg(long)]
    hasty: bool,
    /// A crashed node is back, and linked, at once.
    #[arg(long)]
    brief: bool,
    /// No partial order reduction.
    #[arg(long)]
    unreduced: bool,
    /// Begin with empty disks and nobody elected.
    #[arg(long)]
    unled: bool,
    /// Also writes the report here, as Markdown.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Named scopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Size {
    /// Seconds.
    Small,
    /// Minutes.
    Full,
    /// Nothing goes wrong but what the other options name.
    Calm,
}

impl ModelArguments {
    fn scopes(&self, backend: Backend) -> Vec<Scope> {
        let bases = match self.scope {
            Size::Small => Scope::small(backend),
            Size::Full => Scope::full(backend),
            Size::Calm => vec![Scope::calm("given")],
        };
        let chosen = |base: &Scope| self.only.as_ref().is_none_or(|only| base.name.contains(only.as_str()));
        bases.into_iter().filter(chosen).map(|base| self.changed(base)).collect()
    }

    fn changed(&self, base: Scope) -> Scope {
        Scope {
            commands: self.commands.unwrap_or(base.commands),
            commands_an_epoch: self.commands_an_epoch.unwrap_or(base.commands_an_epoch),
            epochs: self.epochs.unwrap_or(base.epochs),
            crashes: self.crashes.unwrap_or(base.crashes),
            losses: self.losses.unwrap_or(base.losses),
            duplicates: self.duplicates.unwrap_or(base.duplicates),
            overtakes: self.overtakes.unwrap_or(base.overtakes),
            timeouts: self.timeouts.unwrap_or(base.timeouts),
            heartbeats: self.heartbeats.unwrap_or(base.heartbeats),
            is_led: base.is_led && !self.unled,
            is_brief: base.is_brief || self.brief,
            is_reduced: base.is_reduced && !self.unreduced,
            is_textbook: base.is_textbook || self.textbook,
            is_hasty: base.is_hasty || self.hasty,
            ..base
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            time: Duration::from_secs_f64(self.minutes.clamp(0.001, 1e6) * 60.0),
            transitions: self.millions.saturating_mul(1_000_000),
            threads: self.threads.max(1),
        }
    }

    fn backends(&self) -> Result<Vec<Backend>, String> {
        if self.backend.is_empty() {
            return Ok(Backend::ALL.to_vec());
        }
        let named = |name: &String| Backend::ALL.into_iter().find(|b| b.name() == name);
        self.backend.iter().map(|n| named(n).ok_or_else(|| format!("no backend named {n}"))).collect()
    }
}

/// Checks one backend.
#[must_use]
pub fn check_backend(backend: Backend, scope: &Scope, limits: Limits) -> Outcome {
    match backend {
        Backend::Zab => check::<zab::Zab>(scope, limits),
        Backend::Raft => check::<raft::Raft>(scope, limits),
        Backend::Paxos => check::<paxos::Paxos>(scope, limits),
    }
}

/// Switches a rule off for this process.
///
/// # Errors
/// A name that is not in the bug bank, or a build without it.
pub fn switch_off(name: &str) -> Result<(), String> {
    let found = replog::mutant::ALL.iter().find(|d| d.name == name);
    let mutant = found.ok_or_else(|| format!("no mutant named {name}"))?.mutant;
    #[cfg(feature = "mutants")]
    replog::mutant::select(Some(mutant));
    #[cfg(not(feature = "mutants"))]
    let _ = mutant;
    if replog::mutant::ENABLED { Ok(()) } else { Err("build with --features mutants".to_owned()) }
}

/// Runs the command: prints a table, writes the report; whether everything holds.
///
/// # Errors
/// A backend that does not exist, a file that cannot be written.
pub fn run(arguments: &ModelArguments) -> Result<bool, String> {
    if let Some(name) = &arguments.mutant {
        switch_off(name)?;
    }
    println!("{HEAD}");
    let mut outcomes = Vec::new();
    for backend in arguments.backends()? {
        for scope in arguments.scopes(backend) {
            let outcome = check_backend(backend, &scope, arguments.limits());
            println!("{}", row(&outcome));
            println!("        {}", scope.text());
            if let Some(violation) = &outcome.violation {
                println!("\n{} violates {violation}\n", outcome.backend);
            } else if !outcome.unreached.is_empty() {
                println!("        not reached: {}", outcome.unreached.join(", "));
            }
            outcomes.push(outcome);
        }
    }
    if let Some(path) = &arguments.out {
        let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
        std::fs::write(path, markdown(&command, &outcomes))
            .map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(outcomes.iter().all(Outcome::is_good))
}

const HEAD: &str =
    "backend scope                      transitions       states  depth       time  space        verdict";

fn space(outcome: &Outcome) -> &'static str {
    match outcome.cut {
        None => "exhausted",
        Some(Cut::Time) => "cut: time",
        Some(Cut::States) => "cut: states",
        Some(Cut::Violation) => "stopped",
    }
}

fn verdict(outcome: &Outcome) -> &'static str {
    if outcome.violation.is_some() {
        "VIOLATED"
    } else if outcome.cut.is_some() {
        "none found in what was visited"
    } else if outcome.unreached.is_empty() {
        "holds"
    } else {
        "VACUOUS"
    }
}

fn row(o: &Outcome) -> String {
    format!(
        "{:<7} {:<24} {:>13} {:>12} {:>6} {:>8.1} s  {:<12} {}",
        o.backend,
        o.scope.name,
        o.generated,
        o.unique,
        o.depth,
        o.took.as_secs_f64(),
        space(o),
        verdict(o)
    )
}

/// The report: what was run, and what it measured.
fn markdown(command: &str, outcomes: &[Outcome]) -> String {
    let mut text = String::from("# Exhaustive model checking of the cores\n\n");
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let _ = writeln!(text, "`cargo run --release -p sim -- {command}` on {threads} processors.\n");
    text.push_str(
        "The production cores, in their production outboxes, on modelled wires, clocks and disks; see \
         `crates/sim/src/model/mod.rs`.\nIn every state: agreement, election safety, durability on a quorum's synced \
         logs, the cores' own invariants. Reached: commits,\na second epoch that serves, commands that commit in it, also \
         after a crash. States are different states, transitions the steps\ntaken between them; `exhausted` means that \
         nothing within the scope was left out, `cut` that a bound of the search ended it.\n\n\
         | backend | scope | transitions | states | depth | time | space | verdict |\n|---|---|---:|---:|---:|---:|---|---|\n",
    );
    for o in outcomes {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {:.1} s | {} | {} |",
            o.backend,
            o.scope.name,
            o.generated,
            o.unique,
            o.depth,
            o.took.as_secs_f64(),
            space(o),
            verdict(o)
        );
    }
    text.push_str("\n## The scopes\n\n");
    for o in outcomes {
        let _ = writeln!(text, "* {}, {}: {}", o.backend, o.scope.name, o.scope.text());
        if !o.unreached.is_empty() {
            let _ = writeln!(text, "  (not reached: {})", o.unreached.join(", "));
        }
    }
    text
}
