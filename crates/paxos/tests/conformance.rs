//! The suite that every backend passes, run against Multi-Paxos.

replog::conformance_suite!(paxos::Paxos);
