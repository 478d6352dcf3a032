//! The experiments of `compare`, one file each. Every one takes a lab and a system (or a running cluster) and returns
//! records; none of them knows what a report looks like.

pub(crate) mod commit_cost;
pub(crate) mod election;
pub(crate) mod footprint;
pub(crate) mod generator;
pub(crate) mod sync_cost;
pub(crate) mod throughput;
