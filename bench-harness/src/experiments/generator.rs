//! Proof that the generator is not what is measured: its rate against a server that only parses and replies.

use super::throughput::{DEPTHS, SESSIONS};
use crate::lab::VALUE_BYTES;
use crate::load::prepare::Space;
use crate::load::{Op, Plan, Probe, run};
use crate::null_server::NullServer;
use crate::record::GeneratorProof;
use anyhow::Result;
use std::time::Duration;

/// Sets at the shape of every cell, `seconds` each.
///
/// # Errors
/// No sockets.
pub(crate) fn prove(seconds: f64) -> Result<Vec<GeneratorProof>> {
    let server = NullServer::start()?;
    let space = Space::new("null", VALUE_BYTES);
    let shapes = SESSIONS.into_iter().flat_map(|s| DEPTHS.into_iter().map(move |d| (s, d)));
    let proofs = shapes.map(|(sessions, depth)| {
        let plan =
            Plan::closed(&[server.address()], Op::Set, sessions, depth, Duration::from_secs_f64(seconds));
        let outcome = run(&plan, &Probe::default(), |i| space.wire(i))?;
        Ok(GeneratorProof { sessions, depth, rate: outcome.rate() })
    });
    proofs.collect()
}
