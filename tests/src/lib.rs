//! Golden scripts: the same command words for every protocol, the whole trace as the output.
//!
//! A script drives real cores step by step, with no time but what it asks for. Run with
//! `UPDATE_GOLDENFILES=1` to write outputs anew, then read the difference as you would read code.
//!
//! | command | meaning |
//! |---|---|
//! | `cluster nodes=3 [observers=1] [keep=N]` | starts nodes 1..; links come up; what they do then is shown |
//! | `campaign N` | moves node N's clock from deadline to deadline until it looks for a leader |
//! | `tick N [times=K]` | moves node N's clock to its next deadline |
//! | `propose N value…` | offers commands to node N |
//! | `deliver [from=A] [to=B] [n=K]` | delivers what is under way now, in order |
//! | `drop [from=A] [to=B]` | loses what is under way |
//! | `partition 1-2 3` / `heal` | silent cut between groups / new sessions for the pairs concerned |
//! | `cut A B` | the link between A and B breaks; both are told |
//! | `crash N [keep=K]` / `restart N` | loses unsynced writes but K of them / starts from the disk |
//! | `fsync [N]` | completes what is written |
//! | `elect [1-2]` | settles and fires the earliest timer (of these nodes) until one of them serves as leader |
//! | `stabilize` | delivers and syncs until nothing moves |
//! | `read N` / `transfer N [to=M]` / `snapshot N` | barrier, hand-over, snapshot of what is applied |
//! | `status` / `log` | one line per node |

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // test support: panics are verdicts

mod commands;
mod cores;
mod hosts;
mod trio;

pub use commands::Script;
pub use cores::Cores;
pub use trio::Trio;
