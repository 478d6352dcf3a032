//! The suite that every backend passes, run against Raft.

replog::conformance_suite!(raft::Raft);
