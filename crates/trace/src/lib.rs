//! Traces: one record format for the simulator and for live nodes.

mod record;

pub use record::{FORMAT, Kind, Record};
