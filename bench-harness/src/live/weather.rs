//! What the network between two servers does to frames, per direction.
//!
//! ```text
//!  faults ──lay(number, directions, weather)──► layers ──compose──► Direction.now (watch) ──► pumps
//!         ──lift(number)───────────────────────►
//! ```
//!
//! A fault lays a layer over some directions and lifts it later; what holds is the sum of the layers, so that faults
//! may overlap and end in any order. Invariant: without layers every direction is clear.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// From one server to another.
pub(crate) type Way = (u32, u32);

/// What happens to the bytes of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weather {
    /// Nothing passes, not even the end of a connection; what is sent waits, as TCP's retransmissions do.
    pub(crate) held: bool,
    /// Connections older than this number are held, newer ones are not: their frames come very late.
    pub(crate) held_before: u64,
    /// Each frame is this late.
    pub(crate) latency: Duration,
    /// And up to this much more, in order.
    pub(crate) jitter: Duration,
    /// 0: no limit.
    pub(crate) bytes_per_s: u64,
    /// Of a million frames, so many break their connection (and are lost with all behind them).
    pub(crate) breaks_per_million: u64,
}

impl Weather {
    /// Nothing passes.
    pub(crate) const CUT: Self = Self {
        held: true,
        held_before: 0,
        latency: Duration::ZERO,
        jitter: Duration::ZERO,
        bytes_per_s: 0,
        breaks_per_million: 0,
    };

    /// Both at once.
    fn and(self, other: Self) -> Self {
        let slowest = match (self.bytes_per_s, other.bytes_per_s) {
            (0, one) | (one, 0) => one,
            (a, b) => a.min(b),
        };
        Self {
            held: self.held || other.held,
            held_before: self.held_before.max(other.held_before),
            latency: self.latency + other.latency,
            jitter: self.jitter + other.jitter,
            bytes_per_s: slowest,
            breaks_per_million: self.breaks_per_million + other.breaks_per_million,
        }
    }

    /// Whether connection `number` may send.
    pub(crate) fn passes(&self, number: u64) -> bool {
        !self.held && number >= self.held_before
    }
}

/// One direction between two servers.
#[derive(Debug)]
pub(crate) struct Direction {
    /// What holds now.
    pub(crate) now: watch::Sender<Weather>,
    /// Counts the times at which every connection was broken.
    pub(crate) broken: watch::Sender<u64>,
    /// Frames still to be damaged.
    pub(crate) to_damage: AtomicU32,
    /// Frames that passed.
    pub(crate) frames: AtomicU64,
    /// Frames damaged.
    pub(crate) damaged: AtomicU64,
    /// Connections broken in the middle.
    pub(crate) breaks: AtomicU64,
}

impl Default for Direction {
    fn default() -> Self {
        Self {
            now: watch::Sender::new(Weather::default()),
            broken: watch::Sender::new(0),
            to_damage: AtomicU32::new(0),
            frames: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
            breaks: AtomicU64::new(0),
        }
    }
}

impl Direction {
    /// Whether the next frame is to be damaged; asks once per frame.
    pub(crate) fn takes_damage(&self) -> bool {
        let taken = self.to_damage.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1));
        taken.is_ok()
    }
}

type Layers = BTreeMap<u64, (Vec<Way>, Weather)>;

/// All directions of an ensemble.
#[derive(Debug)]
pub(crate) struct Sky {
    directions: BTreeMap<Way, std::sync::Arc<Direction>>,
    layers: Mutex<Layers>,
}

impl Sky {
    /// Clear, over the servers 1 to `nodes`.
    pub(crate) fn clear(nodes: u32) -> Self {
        let ways = (1..=nodes).flat_map(|a| (1..=nodes).filter(move |b| *b != a).map(move |b| (a, b)));
        Self {
            directions: ways.map(|way| (way, std::sync::Arc::default())).collect(),
            layers: Mutex::default(),
        }
    }

    /// Every direction.
    pub(crate) fn ways(&self) -> impl Iterator<Item = Way> {
        self.directions.keys().copied()
    }

    /// One direction.
    pub(crate) fn direction(&self, way: Way) -> Option<&std::sync::Arc<Direction>> {
        self.directions.get(&way)
    }

    /// Lays layer `number` over `ways`; replaces an older one of that number.
    pub(crate) fn lay(&self, number: u64, ways: Vec<Way>, weather: Weather) {
        self.change(|layers| drop(layers.insert(number, (ways, weather))));
    }

    /// Lifts layer `number`.
    pub(crate) fn lift(&self, number: u64) {
        self.change(|layers| drop(layers.remove(&number)));
    }

    /// Lifts every layer.
    pub(crate) fn lift_all(&self) {
        self.change(BTreeMap::clear);
    }

    /// Whether layer `number` lies somewhere.
    pub(crate) fn has(&self, number: u64) -> bool {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&number)
    }

    fn change(&self, how: impl FnOnce(&mut Layers)) {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        how(&mut layers);
        for (way, direction) in &self.directions {
            let over = layers.values().filter(|(ways, _)| ways.contains(way)).map(|(_, weather)| *weather);
            let sum = over.fold(Weather::default(), Weather::and);
            direction.now.send_if_modified(|now| std::mem::replace(now, sum) != sum);
        }
    }

    /// Breaks every connection of these directions.
    pub(crate) fn break_now(&self, ways: &[Way]) {
        for direction in ways.iter().filter_map(|w| self.directions.get(w)) {
            direction.broken.send_modify(|n| *n += 1);
        }
    }

    /// Damages the next `frames` frames of a direction.
    pub(crate) fn damage(&self, way: Way, frames: u32) {
        if let Some(direction) = self.directions.get(&way) {
            direction.to_damage.store(frames, Ordering::Release);
        }
    }
}

/// Both directions between `a` and `b`.
pub(crate) fn both(a: u32, b: u32) -> [Way; 2] {
    [(a, b), (b, a)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_add_up_and_end_in_any_order() {
        let sky = Sky::clear(3);
        let now = |way| *sky.direction(way).unwrap().now.borrow();
        let slow = Weather { latency: Duration::from_millis(5), bytes_per_s: 9, ..Weather::default() };
        sky.lay(1, both(1, 2).to_vec(), Weather::CUT);
        sky.lay(2, vec![(1, 2), (1, 3)], slow);
        sky.lay(3, vec![(1, 2)], Weather { bytes_per_s: 7, ..slow });
        assert!(now((1, 2)).held && !now((1, 3)).held && now((1, 2)).bytes_per_s == 7);
        sky.lift(1);
        assert_eq!((now((1, 2)).held, now((2, 1))), (false, Weather::default()));
        assert_eq!(now((1, 2)).latency, Duration::from_millis(10));
        sky.lift_all();
        assert!(!sky.has(2) && sky.ways().all(|w| now(w) == Weather::default()));
    }

    #[test]
    fn only_older_connections_are_late() {
        let late = Weather { held_before: 5, ..Weather::default() };
        assert!(!late.passes(4) && late.passes(5) && !Weather::CUT.passes(5));
    }
}
