//! Figures of a server for `srvr`, `stat` and `mntr`. Relaxed atomics, added to once per batch.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// See the module.
#[derive(Debug)]
pub(crate) struct Stats {
    pub(crate) received: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) auth_failed: AtomicU64,
    pub(crate) refused_connections: AtomicU64,
    latency_count: AtomicU64,
    latency_sum: AtomicU64,
    latency_min: AtomicU64,
    latency_max: AtomicU64,
}

/// Latencies in ms.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct LatencyFigures {
    pub(crate) min: u64,
    pub(crate) mean: f64,
    pub(crate) max: u64,
}

impl Stats {
    pub(crate) const fn new() -> Self {
        Self {
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            auth_failed: AtomicU64::new(0),
            refused_connections: AtomicU64::new(0),
            latency_count: AtomicU64::new(0),
            latency_sum: AtomicU64::new(0),
            latency_min: AtomicU64::new(u64::MAX),
            latency_max: AtomicU64::new(0),
        }
    }

    /// Notes `count` answers that took `ms` each.
    pub(crate) fn answered(&self, count: u64, ms: u64) {
        if count == 0 {
            return;
        }
        self.sent.fetch_add(count, Relaxed);
        self.latency_count.fetch_add(count, Relaxed);
        self.latency_sum.fetch_add(ms * count, Relaxed);
        if ms < self.latency_min.load(Relaxed) {
            self.latency_min.fetch_min(ms, Relaxed);
        }
        if ms > self.latency_max.load(Relaxed) {
            self.latency_max.fetch_max(ms, Relaxed);
        }
    }

    pub(crate) fn latency(&self) -> LatencyFigures {
        let count = self.latency_count.load(Relaxed);
        if count == 0 {
            return LatencyFigures::default();
        }
        LatencyFigures {
            min: self.latency_min.load(Relaxed),
            mean: self.latency_sum.load(Relaxed) as f64 / count as f64,
            max: self.latency_max.load(Relaxed),
        }
    }

    /// `srst`.
    pub(crate) fn reset(&self) {
        for counter in [&self.received, &self.sent, &self.latency_count, &self.latency_sum, &self.latency_max]
        {
            counter.store(0, Relaxed);
        }
        self.latency_min.store(u64::MAX, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_weighted_by_batch() {
        let stats = Stats::new();
        assert_eq!(stats.latency(), LatencyFigures::default());
        stats.answered(3, 2);
        stats.answered(1, 10);
        stats.answered(0, 99);
        assert_eq!(stats.latency(), LatencyFigures { min: 2, mean: 4.0, max: 10 });
        stats.reset();
        assert_eq!(stats.latency(), LatencyFigures::default());
    }
}
