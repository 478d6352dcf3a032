//! Raft as a sans-IO state machine behind the replicated-log contract.
