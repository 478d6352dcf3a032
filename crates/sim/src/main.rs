//! `sim`: the cluster on virtual time (`matrix`, `replay`, `run`, `soak`, `ci`), and the bare cores (`cores`).

use clap::{Parser, Subcommand};
use sim::traces::{self, TraceWords};
use sim::words::{self, Name, Simulate};
use sim::{Backend, Total, run_seeds};
use std::process::ExitCode;

#[derive(Parser)]
#[command(about = "Runs the service on virtual time, decided by seeds", version)]
struct Arguments {
    #[command(subcommand)]
    command: Words,
}

#[derive(Subcommand)]
enum Words {
    #[command(flatten)]
    Simulate(Simulate),
    /// Runs many seeds of the bare cores on the conformance suite's cluster.
    Cores {
        /// First seed.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Number of seeds per backend.
        #[arg(long, default_value_t = 1000)]
        seeds: u64,
        /// Faults per seed.
        #[arg(long, default_value_t = 60)]
        rounds: u32,
        /// Backends; all if none is named.
        #[arg(long, value_enum)]
        backend: Vec<Name>,
    },
    /// Checks the cores exhaustively on a small scope.
    Model(sim::model::ModelArguments),
    /// Runs one seed of `cores` again and prints its story if it fails.
    CoresReplay {
        /// The seed.
        seed: u64,
        /// Its backend.
        #[arg(long, value_enum)]
        backend: Name,
        /// Faults; the same number as in the run that failed.
        #[arg(long, default_value_t = 60)]
        rounds: u32,
    },
    /// Measures how many seconds are simulated in one second of a core.
    Speed {
        /// Seconds of the whole cluster; the cores alone get a hundred times as many.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Shows and converts traces, of runs and of live servers.
    #[command(subcommand)]
    Trace(TraceWords),
    /// Breaks rules on purpose and looks whether a checker sees it.
    #[cfg(feature = "mutants")]
    Bugs(sim::bugs::Command),
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Words::Simulate(words) => {
            return words::carry_out(&words).unwrap_or_else(|why| {
                eprintln!("{why}");
                ExitCode::from(2)
            });
        }
        Words::Cores { from, seeds, rounds, backend } => {
            let chosen: Vec<Backend> = if backend.is_empty() {
                Backend::ALL.to_vec()
            } else {
                backend.into_iter().map(Into::into).collect()
            };
            // A failing seed is reported below with its story; the hook would print it twice, interleaved.
            std::panic::set_hook(Box::new(|_| {}));
            let mut failed = 0;
            for backend in chosen {
                let total = run_seeds(backend, from..from + seeds, rounds);
                print(backend, &total, rounds);
                failed += total.failures.len();
            }
            if failed > 0 {
                eprintln!("{failed} seeds failed");
                return ExitCode::FAILURE;
            }
        }
        Words::Model(arguments) => match sim::model::run(&arguments) {
            Ok(true) => {}
            Ok(false) => return ExitCode::FAILURE,
            Err(why) => {
                eprintln!("{why}");
                return ExitCode::FAILURE;
            }
        },
        Words::CoresReplay { seed, backend, rounds } => {
            let report = Backend::from(backend).run(seed, rounds);
            println!("{report:#?}");
        }
        Words::Speed { seconds } => {
            for backend in Backend::ALL {
                let sim::speed::Speed { whole, core, acked, violation } = sim::speed::speed(backend, seconds);
                println!(
                    "{:<6} {whole:>8.0} s per core-second: five nodes, 100 operations/s ({acked} writes); {core:>8.0} s: \
                     three cores alone{}",
                    backend.name(),
                    violation.map_or_else(String::new, |v| format!("; {}: {}", v.checker, v.text))
                );
            }
        }
        Words::Trace(words) => {
            if let Err(why) = traces::carry_out(&words) {
                eprintln!("{why}");
                return ExitCode::FAILURE;
            }
        }
        #[cfg(feature = "mutants")]
        Words::Bugs(command) => {
            std::panic::set_hook(Box::new(|_| {}));
            return command.run().unwrap_or_else(|why| {
                eprintln!("{why}");
                ExitCode::from(2)
            });
        }
    }
    ExitCode::SUCCESS
}

fn print(backend: Backend, total: &Total, rounds: u32) {
    let s = &total.sum;
    println!(
        "{:<6} {} seeds × {rounds} faults: {:.1} simulated hours at {:.0} s per core-second; {} entries chosen, {} \
         messages, {} crashes, {} cuts, {} pauses, {} installs, {} reigns; slowest recovery {:.2} s; {} failures",
        backend.name(),
        total.seeds,
        s.simulated.as_secs_f64() / 3600.0,
        total.speed(),
        s.chosen,
        s.messages,
        s.crashes,
        s.cuts,
        s.pauses,
        s.installs,
        s.reigns,
        total.worst_recovery.as_secs_f64(),
        total.failures.len()
    );
    for (seed, why) in total.failures.iter().take(3) {
        let first: String = why.lines().take(3).collect::<Vec<_>>().join("\n    ");
        println!(
            "  seed {seed}: {first}\n  again: sim cores-replay {seed} --backend {} --rounds {rounds}",
            backend.name()
        );
    }
}
