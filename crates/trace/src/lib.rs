//! Traces: one record format for the simulator and for live nodes, its files, its views.
//!
//! ```text
//!  sim ──┐                                            ┌─► text:     one line per event, the golden scripts' notation
//!        ├─► Record ─► Writer ─► *.jsonl ─► read ─────┼─► shiviz:   vector clocks, from send and recv ids
//!  node ─┘                          merge (live) ─────┴─► perfetto: tracks, slices and flows
//! ```
//!
//! The format is versioned by the name in its header line ([`FORMAT`]). Readers ignore fields that they do not know, so
//! fields may be added; a field that changes its meaning takes a new version.

mod file;
mod merge;
mod perfetto;
mod record;
mod recorder;
mod shiviz;
mod text;

pub use file::{ReadError, Trace, Writer, read};
pub use merge::{Unmatched, merge, unmatched};
pub use perfetto::perfetto;
pub use record::{Clock, FORMAT, Header, Kind, Record};
pub use recorder::Recorder;
pub use shiviz::{SHIVIZ_PARSER, shiviz};
pub use text::{line, timed_line};
