//! `sim bugs`: runs the bank, hunts mutants afresh, or shows one trial.

use super::small::small;
use super::{Bank, Bug, Entry, Found, Ground, Hunt, Outcome, Trial, clean, hunt, select, verify};
use crate::Backend;
use clap::Args;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

/// Breaks rules on purpose, one at a time, and looks whether a checker sees it.
#[derive(Args, Debug)]
pub struct Command {
    /// These mutants only.
    #[arg(long)]
    mutant: Vec<String>,
    /// Those of these crates only.
    #[arg(long = "crate")]
    krate: Vec<String>,
    /// Search from the first seed on, instead of running the stored trials.
    #[arg(long)]
    fresh: bool,
    /// Keep what a fresh search finds in bugs.toml.
    #[arg(long, requires = "fresh")]
    save: bool,
    /// Give up on a mutant after so long.
    #[arg(long, default_value_t = 60)]
    budget_seconds: u64,
    /// Give up on a mutant after so many runs.
    #[arg(long, default_value_t = 1_000_000)]
    runs: u64,
    /// Per cent of the mutants that must be found.
    #[arg(long, default_value_t = 95)]
    required: usize,
    /// Threads; as many as there are cores if left out.
    #[arg(long)]
    threads: Option<usize>,
    /// Run so many seeds of each ground with nothing switched off: all must pass.
    #[arg(long)]
    clean: Option<u64>,
    /// Show the smallest run that still finds each, in at most so many runs.
    #[arg(long, num_args = 0..=1, default_missing_value = "300")]
    shrink: Option<u32>,
    /// Show one trial: its ground …
    #[arg(long, requires = "seed")]
    on: Option<String>,
    /// … its protocol …
    #[arg(long, value_parser = backend)]
    backend: Option<Backend>,
    /// … and its seed.
    #[arg(long)]
    seed: Option<u64>,
}

fn backend(name: &str) -> Result<Backend, String> {
    Backend::ALL.into_iter().find(|b| b.name() == name).ok_or_else(|| format!("no backend named {name}"))
}

impl Command {
    /// Carries it out.
    ///
    /// # Errors
    /// A name that does not exist, or a bank that cannot be read.
    pub fn run(&self) -> Result<ExitCode, String> {
        for name in &self.mutant {
            Bug::named(name).ok_or_else(|| format!("no mutant named {name}"))?;
        }
        let chosen: Vec<Bug> = Bug::all()
            .filter(|b| self.mutant.is_empty() || self.mutant.iter().any(|m| m == b.name))
            .filter(|b| self.krate.is_empty() || self.krate.iter().any(|k| k == b.krate))
            .collect();
        if let (Some(on), Some(seed)) = (&self.on, self.seed) {
            return self.show(&chosen, &Ground::named(on), seed);
        }
        if let Some(seeds) = self.clean {
            return Ok(self.clean(seeds));
        }
        let mut bank = Bank::load()?;
        let how = Hunt {
            budget: Duration::from_secs(self.budget_seconds),
            trials: self.runs,
            threads: self.threads(),
        };
        let start = Instant::now();
        let (mut missed, mut needed) = (Vec::new(), Vec::new());
        println!(
            "{:<26} {:<7} {:<28} {:>7} {:>10}  again: sim …",
            "mutant", "crate", "found by", "runs", "at"
        );
        for bug in &chosen {
            let outcome = self.outcome(*bug, &bank, &how);
            needed.extend(print_line(*bug, &outcome, bank.entry(bug.name)));
            match outcome {
                Outcome::Found(found) => {
                    if let Some(attempts) = self.shrink {
                        println!("{}\n", small(*bug, &found.trial, &found.violation, attempts)?);
                    }
                    if self.save {
                        bank.put(stored(*bug, found));
                    }
                }
                Outcome::Unsound(_) | Outcome::Missed(_) => missed.push(*bug),
            }
        }
        if self.save {
            bank.save()?;
        }
        let found = chosen.len() - missed.len();
        needed.sort_unstable();
        let median = needed.get(needed.len() / 2).copied().unwrap_or(0);
        println!(
            "\n{found} of {} mutants found in {:.0} s; runs that a fresh search needs: median {median}",
            chosen.len(),
            start.elapsed().as_secs_f64()
        );
        for bug in &missed {
            println!("  missed: {} ({}; {})", bug.name, bug.rule, bug.source);
        }
        let enough = found * 100 >= chosen.len() * self.required;
        Ok(if enough { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn threads(&self) -> usize {
        self.threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from))
    }

    /// No rule is switched off, so nothing may be found.
    fn clean(&self, seeds: u64) -> ExitCode {
        let mut failed = 0;
        for ground in Ground::all() {
            for backend in Backend::ALL.into_iter().filter(|b| self.backend.is_none_or(|only| only == *b)) {
                let start = Instant::now();
                let seeds = Trial::seeds(&ground).map_or(seeds, |few| few.min(seeds));
                let found = clean(&ground, backend, seeds, self.threads());
                let seconds = start.elapsed().as_secs_f64();
                println!("{:<8} {:<6} {seeds} seeds in {seconds:.1} s", ground.name(), backend.name());
                for (trial, violation) in &found {
                    let text: String =
                        violation.text.lines().next().unwrap_or_default().chars().take(300).collect();
                    println!("  seed {}: {}: {text}", trial.seed, violation.checker);
                }
                failed += found.len();
            }
        }
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn outcome(&self, bug: Bug, bank: &Bank, how: &Hunt) -> Outcome {
        match bank.entry(bug.name) {
            // Any change of behaviour may have moved what the stored run meets: then it is searched for again.
            Some(entry) if !self.fresh => match verify(bug, &entry.trial()) {
                Outcome::Missed(_) => hunt(bug, &bug.grounds(), how),
                other => other,
            },
            _ => hunt(bug, &bug.grounds(), how),
        }
    }

    /// One trial with its story, under the mutant if one was named.
    fn show(&self, chosen: &[Bug], ground: &Ground, seed: u64) -> Result<ExitCode, String> {
        let backend = self.backend.ok_or("which --backend?")?;
        select(if self.mutant.is_empty() { None } else { chosen.first().copied() });
        let trial = Trial { ground: ground.clone(), backend, seed };
        let seen = trial.run();
        select(None);
        let Some(v) = seen else {
            println!("nothing was found");
            return Ok(ExitCode::SUCCESS);
        };
        println!("{} after {:.3} s\n{}", v.checker, v.at_us as f64 / 1e6, v.text);
        if let (Some(attempts), Some(bug)) = (self.shrink, chosen.first().filter(|_| !self.mutant.is_empty()))
        {
            println!("\n{}", small(*bug, &trial, &v, attempts)?);
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn stored(bug: Bug, found: Found) -> Entry {
    let Found { trial, violation, runs } = found;
    Entry {
        mutant: bug.name.to_owned(),
        ground: trial.ground,
        backend: trial.backend,
        seed: trial.seed,
        checker: violation.checker,
        runs,
    }
}

/// One line of the table; the runs that a fresh search needs.
fn print_line(bug: Bug, outcome: &Outcome, entry: Option<&Entry>) -> Option<u64> {
    let (name, krate) = (bug.name, bug.krate);
    match outcome {
        Outcome::Found(Found { trial, violation, runs }) => {
            let checker: String = violation.checker.chars().take(28).collect();
            let at = violation.at_us as f64 / 1e6;
            let runs = entry.map_or(*runs, |e| e.runs.max(*runs));
            println!("{name:<26} {krate:<7} {checker:<28} {runs:>7} {at:>8.2} s  {}", trial.command(name));
            return Some(runs);
        }
        Outcome::Unsound(found) => {
            println!("{name:<26} {krate:<7} fails without it too: {}", found.trial.command(name));
        }
        Outcome::Missed(runs) => println!("{name:<26} {krate:<7} {:<28} {runs:>7}", "MISSED"),
    }
    None
}
