//! The suite that every backend passes, run against Zab.

replog::conformance_suite!(zab::Zab);
