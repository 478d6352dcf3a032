//! `menagerie`: `serve` runs one server, `demo` a cluster of child processes.

use anyhow::Context as _;
use clap::{Arg, ArgMatches, Command};
use server::config::{Config, KEYS};
use server::{Consensus, demo, run};
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

const _: () = assert!(
    !replog::mutant::ENABLED && !znode::mutant::ENABLED,
    "the feature `mutants` is for tests: rules that can be switched off have no place in a server"
);

/// A panic is a broken invariant: the process ends, whichever thread or task fell. Release builds unwind for the
/// simulator's sake, and a runtime would swallow the panic of a task.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

fn main() -> ExitCode {
    abort_on_panic();
    let matches = cli().get_matches();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    let outcome = match matches.subcommand() {
        Some(("serve", args)) => serve(args),
        Some(("demo", args)) => run_demo(args),
        _ => Ok(()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("menagerie: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn cli() -> Command {
    let mut serve = Command::new("serve")
        .about("Run one server")
        .arg(Arg::new("config").long("config").value_name("FILE").help("ZooKeeper's zoo.cfg, unchanged"))
        .arg(
            Arg::new("server")
                .long("server")
                .value_name("ID=HOST:PORT:PORT[:ROLE][;PORT]")
                .action(clap::ArgAction::Append)
                .help("A member, as a server.ID line"),
        );
    for key in KEYS {
        serve = serve.arg(
            Arg::new(key.name)
                .long(key.flag())
                .value_name(key.value)
                .allow_hyphen_values(true)
                .help(format!("{} [{}]", key.help, key.name)),
        );
    }
    let nodes = Arg::new("nodes")
        .long("nodes")
        .default_value("3")
        .value_parser(clap::value_parser!(u32).range(1..=9));
    let demo = Command::new("demo")
        .about("Run a cluster in temporary directories until Ctrl-C")
        .arg(nodes.help("Servers"))
        .arg(
            Arg::new("consensus")
                .long("consensus")
                .default_value(Consensus::default().name())
                .help("zab, raft or paxos"),
        );
    Command::new("menagerie")
        .about("A ZooKeeper-compatible coordination service with a choice of consensus protocols")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve)
        .subcommand(demo)
}

fn serve(args: &ArgMatches) -> anyhow::Result<()> {
    let mut flags: Vec<(String, String)> = Vec::new();
    for key in KEYS {
        if let Some(value) = args.get_one::<String>(key.name) {
            flags.push((key.name.to_owned(), value.clone()));
        }
    }
    for member in args.get_many::<String>("server").unwrap_or_default() {
        let (id, line) = member.split_once('=').context("--server wants ID=HOST:PORT:PORT")?;
        flags.push((format!("server.{id}"), line.to_owned()));
    }
    let file = args.get_one::<String>("config").map(PathBuf::from);
    let config = Config::load(file.as_deref(), &flags)?;
    let signals = Signals::new()?;
    let running = run(config)?;
    signals.wait();
    running.stop();
    Ok(())
}

fn run_demo(args: &ArgMatches) -> anyhow::Result<()> {
    let nodes = *args.get_one::<u32>("nodes").context("nodes")?;
    let consensus = args.get_one::<String>("consensus").context("consensus")?;
    let consensus = Consensus::parse(consensus).map_err(anyhow::Error::msg)?;
    let signals = Signals::new()?;
    let cluster = demo::start(nodes, consensus)?;
    println!("{}", cluster.describe());
    signals.wait();
    cluster.stop();
    Ok(())
}

/// SIGTERM and SIGINT, caught from the moment this is made.
struct Signals {
    runtime: tokio::runtime::Runtime,
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let guard = runtime.enter();
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        drop(guard);
        Ok(Self { runtime, terminate, interrupt })
    }

    fn wait(mut self) {
        self.runtime.block_on(async {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
        });
    }
}
