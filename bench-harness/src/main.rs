//! `bench-harness`: races the consensus backends, and ZooKeeper and etcd, on equal terms.
//!
//! ```text
//!  args ─► compare ─► experiments ─► cluster (real processes) ◄─ load (one thread, raw frames)
//!                        │
//!                        └► record (run.json) ─► report (table, Markdown, HTML)
//!       live ─► servers behind a proxy ◄─ faults, recording clients ─► history ─► checkers ─► report
//! ```
//!
//! Rules (experiments.md section 3): the same durability, the same generator and the same faults for everyone; closed
//! and open loop are never mixed up; repeats are interleaved; histograms are merged; what fails is reported.

mod args;
mod backend;
mod clock;
mod cluster;
mod compare;
mod environment;
mod experiments;
mod lab;
mod live;
mod load;
mod null_server;
mod peers;
mod record;
mod report;
mod stats;
mod witness;

use anyhow::Result;
use clap::Parser;

fn main() -> Result<()> {
    let cli = args::Cli::parse();
    end_with_the_terminal()?;
    match cli.action {
        args::Action::Compare(options) => compare::compare(&options).map(|_| ()),
        args::Action::Live(options) => live::live(&options),
        args::Action::Check { history, into } => live::check_again(&history, into.as_deref()),
        args::Action::Report { run } => report::again(&run),
    }
}

/// SIGINT and SIGTERM end every server and remove every directory of this run.
fn end_with_the_terminal() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            cluster::process::end_all();
            std::process::exit(130);
        });
    })?;
    Ok(())
}
