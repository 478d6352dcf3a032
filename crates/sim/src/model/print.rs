//! Fingerprints: two states of equal print have equal futures, so the checker explores one of them.
//!
//! The cores hash themselves (`ReplicatedLog: Hash`), including two kinds of words that say nothing about the future:
//!
//! * **Times.** A core uses its clock by differences only, so a state of which every moment is shifted by the same
//!   amount goes on alike. The model's clocks start at [`START`], far above every index, ticket or counter; a word
//!   near it is a moment and goes into the print as its distance from the node's present.
//! * **Where a generator started.** SplitMix64's state is its first state plus a multiple of a constant. A word of that
//!   form goes into the print as that multiple: how often the generator was asked. The model sets every spread of
//!   [`replog::Timing`] to zero and the cores ask for nothing then, so in Zab and Raft that is never. Paxos draws its
//!   retry waits all the same; its generators start alike in every life. [`generators`] finds the first states by
//!   opening a core twice, with two seeds.
//!
//! ```text
//!   derived Hash ─► Print(now, generators) ─► word near START?  ─► word − now
//!                                          ─► word of a generator? ─► times it was asked
//!                                          ─► else the word ─► mixed into 64 bits
//! ```
//!
//! `tests::prints_leave_out_what_has_no_future` walks two worlds that differ only in these and compares.

use replog::{Effects, ReplicatedLog, Setup, Time};
use std::hash::{Hash, Hasher};

/// Where every clock of the model starts, in ns.
pub(super) const START: Time = Time(1 << 50);
/// Moments lie within this distance of [`START`].
const REACH: u64 = 1 << 46;
/// SplitMix64's increment, and its inverse modulo 2⁶⁴.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
const STEP_INVERSE: u64 = inverse(STEP);
/// A generator of the model is never asked more often.
const DRAWS: u64 = 1 << 16;

/// Newton's iteration: each round doubles the number of right bits.
const fn inverse(odd: u64) -> u64 {
    let mut x = odd;
    let mut round = 0;
    while round < 6 {
        x = x.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(x)));
        round += 1;
    }
    x
}

/// A hasher that leaves out what has no future.
pub(super) struct Print<'a> {
    state: u64,
    now: u64,
    generators: &'a [u64],
}

impl<'a> Print<'a> {
    /// For a node whose clock shows `now` and whose generators started from `generators`.
    pub(super) fn new(now: Time, generators: &'a [u64]) -> Self {
        Self { state: 0x243F_6A88_85A3_08D3, now: now.0, generators }
    }

    fn mix(&mut self, word: u64) {
        let product = u128::from(self.state ^ word) * u128::from(STEP | 1);
        self.state = (product as u64 ^ (product >> 64) as u64).rotate_left(23).wrapping_add(word);
    }
}

impl Hasher for Print<'_> {
    fn finish(&self) -> u64 {
        let mut z = self.state;
        z = (z ^ (z >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        z = (z ^ (z >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        z ^ (z >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, word: u8) {
        self.mix(u64::from(word));
    }

    fn write_u32(&mut self, word: u32) {
        self.mix(u64::from(word));
    }

    fn write_usize(&mut self, word: usize) {
        self.mix(word as u64);
    }

    fn write_u64(&mut self, word: u64) {
        if word.abs_diff(START.0) < REACH {
            self.mix(0x7133);
            self.mix(word.wrapping_sub(self.now));
            return;
        }
        let asked = self.generators.iter().map(|g| word.wrapping_sub(*g).wrapping_mul(STEP_INVERSE));
        match asked.min().filter(|asked| *asked < DRAWS) {
            Some(asked) => {
                self.mix(0x9A4D);
                self.mix(asked);
            }
            None => self.mix(word),
        }
    }
}

/// The print of anything without times or generators.
pub(super) fn plain(value: &impl Hash) -> u64 {
    let mut print = Print::new(Time(0), &[]);
    value.hash(&mut print);
    print.finish()
}

/// Collects the words that a core hashes.
#[derive(Default)]
struct Words(Vec<u64>);

impl Hasher for Words {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, word: u64) {
        self.0.push(word);
    }
}

/// The first states of the generators of a core opened on `setup`: the words that another seed changes.
pub(super) fn generators<P: ReplicatedLog>(setup: &Setup<P::Options>, now: Time) -> Vec<u64> {
    let words = |seed: u64| {
        let mut words = Words::default();
        P::open(Setup { seed, ..setup.clone() }, now, &mut Effects::new()).hash(&mut words);
        words.0
    };
    let (one, other) = (words(setup.seed), words(!setup.seed));
    // A generator may have been asked already while opening; its first state lies a few steps below.
    let changed = one.iter().zip(&other).filter(|(a, b)| a != b);
    changed.map(|(a, _)| a.wrapping_sub(STEP.wrapping_mul(16))).collect()
}
