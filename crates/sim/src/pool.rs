//! Many runs on several threads: one world per thread, results in the order in which they come.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

/// Does `work` for every item on `jobs` threads and hands each result, with the time it took, to `each` on the
/// caller's thread. Stops handing out items once `each` returns false; those under way are finished first.
///
/// # Panics
/// If `work` does: a run does not panic, so that is a bug of the caller.
pub fn run<I: Send, T: Send>(
    jobs: usize,
    items: impl Iterator<Item = I> + Send,
    work: impl Fn(I) -> T + Sync,
    mut each: impl FnMut(T, Duration) -> bool,
) {
    let items = Mutex::new(Some(items));
    let next = || {
        // A poisoned lock means that the iterator panicked, which ends the scope below anyway.
        let mut items = items.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        items.as_mut().and_then(Iterator::next)
    };
    let (to, from) = sync_channel(jobs.max(1) * 2);
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            let to = to.clone();
            scope.spawn(|| {
                let to = to;
                while let Some(item) = next() {
                    let start = Instant::now();
                    let result = work(item);
                    if to.send((result, start.elapsed())).is_err() {
                        return;
                    }
                }
            });
        }
        drop(to);
        for (result, took) in from {
            if !each(result, took) {
                items.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            }
        }
    });
}

/// As many threads as there are cores.
#[must_use]
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_item_is_done_once() {
        let mut seen = BTreeSet::new();
        run(4, 0..1000_u32, |n| n * 2, |n, _| seen.insert(n));
        assert_eq!(seen.len(), 1000);
    }

    #[test]
    fn it_stops_when_told() {
        let mut count = 0;
        run(
            2,
            0..1_000_000_u32,
            |n| n,
            |_, _| {
                count += 1;
                count < 10
            },
        );
        assert!((10..100).contains(&count), "{count}");
    }
}
