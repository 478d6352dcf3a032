//! Deterministic simulator: virtual network, disks, clocks, schedules, checkers.
