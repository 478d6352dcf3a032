//! The command line.

use crate::backend::BACKENDS;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Races the consensus backends, and ZooKeeper and etcd, on equal terms.
#[derive(Debug, Parser)]
#[command(name = "bench-harness", version, about)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) action: Action,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Measure throughput, elections, sync cost, commit cost and footprint, and write a report.
    Compare(Compare),
    /// Do to real servers what can go wrong, record what clients see, and check it.
    Live(Live),
    /// Let the checkers judge a recorded history again.
    Check {
        /// A file of lines in the format `menagerie.history/1`.
        history: PathBuf,
        /// Put the verdict into this report of `live`, which has one of the same history.
        #[arg(long)]
        into: Option<PathBuf>,
    },
    /// Make the reports of a run again from its run.json.
    Report {
        /// The run's folder.
        run: PathBuf,
    },
}

/// One experiment of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Experiment {
    /// get, set, create; closed loop.
    Throughput,
    /// Leader killed and frozen under load.
    Election,
    /// A follower rejoins by log and by snapshot.
    Sync,
    /// Messages, bytes, fsyncs per commit.
    Commit,
    /// Idle CPU, memory with many znodes.
    Footprint,
}

/// Options of `compare`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Compare {
    /// Short windows and few trials: two minutes for three backends, for a first look.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Backends to race.
    #[arg(long, value_delimiter = ',', default_values = BACKENDS, value_parser = BACKENDS)]
    pub(crate) backends: Vec<String>,
    /// No backend of ours: peers only.
    #[arg(long, requires = "peers")]
    pub(crate) no_backends: bool,
    /// Installed systems to race with.
    #[arg(long, value_delimiter = ',', value_parser = ["zookeeper", "etcd"])]
    pub(crate) peers: Vec<String>,
    /// Folder for the results; default: `results/compare-TIME-COMMIT`.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// Experiments to run; default: all.
    #[arg(long, value_delimiter = ',', value_enum)]
    pub(crate) only: Vec<Experiment>,
    /// Interleaved repeats of the throughput cells [default: 5, quick: 1].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) repeats: Option<u16>,
    /// Seconds measured per cell [default: 3, quick: 0.4].
    #[arg(long, value_parser = seconds)]
    pub(crate) seconds: Option<f64>,
    /// Leader kills, and leader freezes, per system [default: 10, quick: 2].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) trials: Option<u16>,
    /// Seconds of load before a JVM is measured [default: 60, quick: 10].
    #[arg(long, value_parser = seconds)]
    pub(crate) jvm_warmup: Option<f64>,
    /// Directory below which servers keep their data (a real disk, or fsync means nothing).
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    pub(crate) data: PathBuf,
    /// The menagerie binary to start; default: build the release binary first.
    #[arg(long)]
    pub(crate) server: Option<PathBuf>,
}

/// Options of `live`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Live {
    /// Backend to run, or all, one after the other.
    #[arg(long, default_value = "all", value_parser = ["zab", "raft", "paxos", "all"])]
    pub(crate) backend: String,
    /// No backend of ours: peers only.
    #[arg(long, requires = "peers")]
    pub(crate) no_backends: bool,
    /// Installed systems to run as well, with signals and client faults only.
    #[arg(long, value_delimiter = ',', value_parser = ["zookeeper"])]
    pub(crate) peers: Vec<String>,
    /// Faults per system [default: 200, smoke: 12].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) faults: Option<u32>,
    /// Servers; smoke runs have 3.
    #[arg(long, default_value = "5", value_parser = clap::value_parser!(u32).range(3..=7))]
    pub(crate) nodes: u32,
    /// Recording clients.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=64))]
    pub(crate) clients: u32,
    /// Decides which faults and operations come (not when the machine carries them out) [default: the time].
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// A dozen faults in a row on three servers, under a minute for three backends; writes no report.
    #[arg(long)]
    pub(crate) smoke: bool,
    /// Folder for the results; default: `results/live-TIME-COMMIT`.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// Folder for the histories (large); default: a new one among the temporary files.
    #[arg(long)]
    pub(crate) histories: Option<PathBuf>,
    /// Directory below which servers keep their data (a real disk, or fsync means nothing).
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    pub(crate) data: PathBuf,
    /// The menagerie binary to start, with the feature `faulty-disk`; default: build it first.
    #[arg(long)]
    pub(crate) server: Option<PathBuf>,
}

impl Live {
    /// Faults per system.
    pub(crate) fn faults(&self) -> usize {
        self.faults.unwrap_or(if self.smoke { 12 } else { 200 }) as usize
    }

    /// Servers per system.
    pub(crate) fn nodes(&self) -> u32 {
        if self.smoke { 3 } else { self.nodes }
    }

    /// Backends of ours.
    pub(crate) fn backends(&self) -> Vec<&'static str> {
        let wanted = |b: &&str| !self.no_backends && (self.backend == "all" || self.backend == **b);
        BACKENDS.into_iter().filter(wanted).collect()
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(s) if s > 0.0 && s <= 3600.0 => Ok(s),
        _ => Err(format!("{text:?} is not a number of seconds between 0 and 3600")),
    }
}

impl Compare {
    /// Whether `experiment` runs.
    pub(crate) fn wants(&self, experiment: Experiment) -> bool {
        self.only.is_empty() || self.only.contains(&experiment)
    }

    /// `quick` or `full`.
    pub(crate) fn suite(&self) -> &'static str {
        if self.quick { "quick" } else { "full" }
    }

    /// Repeats of the throughput cells.
    pub(crate) fn repeats(&self) -> usize {
        self.repeats.map_or(if self.quick { 1 } else { 5 }, usize::from)
    }

    /// Seconds measured per cell.
    pub(crate) fn cell_seconds(&self) -> f64 {
        self.seconds.unwrap_or(if self.quick { 0.4 } else { 3.0 })
    }

    /// Trials per fault and system.
    pub(crate) fn trials(&self) -> usize {
        self.trials.map_or(if self.quick { 2 } else { 10 }, usize::from)
    }

    /// Seconds of warm-up for a JVM.
    pub(crate) fn jvm_warmup(&self) -> f64 {
        self.jvm_warmup.unwrap_or(if self.quick { 10.0 } else { 60.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Compare, String> {
        let cli = Cli::try_parse_from(line.split_whitespace()).map_err(|e| e.to_string())?;
        match cli.action {
            Action::Compare(compare) => Ok(compare),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn the_issues_command_is_understood() {
        let compare =
            parse("bench-harness compare --quick --peers zookeeper,etcd --backends zab,raft").unwrap();
        assert_eq!((compare.peers.len(), compare.backends.len(), compare.suite()), (2, 2, "quick"));
        let all = parse("bench-harness compare").unwrap();
        assert_eq!((all.backends.len(), all.repeats(), all.trials()), (3, 5, 10));
        assert!(all.wants(Experiment::Sync));
    }

    #[test]
    fn live_runs_all_backends_with_200_faults_unless_told_otherwise() {
        let live = |line: &str| match Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.action) {
            Ok(Action::Live(live)) => live,
            other => panic!("{other:?}"),
        };
        let all = live("bench-harness live");
        assert_eq!((all.backends().len(), all.faults(), all.nodes()), (3, 200, 5));
        let smoke = live("bench-harness live --smoke --backend raft");
        assert_eq!((smoke.backends(), smoke.faults(), smoke.nodes()), (vec!["raft"], 12, 3));
        assert!(live("bench-harness live --no-backends --peers zookeeper").backends().is_empty());
    }

    #[test]
    fn mistakes_are_named_with_what_would_be_right() {
        let error = |line| parse(line).unwrap_err();
        assert!(error("bench-harness compare --backends zap").contains("zab"));
        assert!(error("bench-harness compare --peers consul").contains("zookeeper"));
        assert!(error("bench-harness compare --seconds 0").contains("between 0 and 3600"));
        assert!(error("bench-harness compare --repeats 0").contains("1..=100"));
        assert!(error("bench-harness compare --no-backends").contains("--peers"));
    }
}
