//! The bug bank's switches: each mutant is one rule of the protocols switched off, to show that the checkers would see
//! it broken.
//!
//! A guard reads as an exception to the rule that it stands beside:
//!
//! ```text
//!   if entry.epoch == self.term() || mutant!(CountOldTerms) { … }
//!                                    └ false, a constant, unless the feature `mutants` is on and a test selected it
//! ```
//!
//! The feature is for tests and the simulator. Without it [`is_on`] is a constant and the guard is compiled away; the
//! server's binary refuses to be built with it. At most one mutant is on in a process: what is found is then due to it.
//! What each one breaks, and where the rule comes from, is in [`ALL`]; `sim bugs` hunts them.

mod list;

pub use list::{ALL, Mutant};

/// Whether mutants can be switched on in this build.
pub const ENABLED: bool = cfg!(feature = "mutants");

/// What there is to know of a mutant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// Which one.
    pub mutant: Mutant,
    /// Its name, as in the code.
    pub name: &'static str,
    /// The crate that holds the guard.
    pub krate: &'static str,
    /// The protocols on which it shows.
    pub backends: &'static [&'static str],
    /// The rule that it breaks.
    pub rule: &'static str,
    /// Where the rule is from.
    pub source: &'static str,
}

/// Whether `mutant` is on.
#[cfg(not(feature = "mutants"))]
#[inline]
#[must_use]
pub const fn is_on(_mutant: Mutant) -> bool {
    false
}

#[cfg(feature = "mutants")]
static SELECTED: core::sync::atomic::AtomicU16 = core::sync::atomic::AtomicU16::new(u16::MAX);

/// Whether `mutant` is on.
#[cfg(feature = "mutants")]
#[inline]
#[must_use]
pub fn is_on(mutant: Mutant) -> bool {
    SELECTED.load(core::sync::atomic::Ordering::Relaxed) == mutant as u16
}

/// Switches one mutant on, or all off, in the whole process.
#[cfg(feature = "mutants")]
pub fn select(mutant: Option<Mutant>) {
    SELECTED.store(mutant.map_or(u16::MAX, |m| m as u16), core::sync::atomic::Ordering::SeqCst);
}

/// Whether the named mutant is on: `false`, and gone, without the feature `mutants`.
#[macro_export]
macro_rules! mutant {
    ($name:ident) => {
        $crate::mutant::is_on($crate::mutant::Mutant::$name)
    };
}

#[cfg(all(test, feature = "mutants"))]
mod tests {
    use super::*;

    #[test]
    fn one_is_on_at_most() {
        assert!(ALL.iter().all(|d| !is_on(d.mutant)));
        for d in ALL {
            select(Some(d.mutant));
            let on: alloc::vec::Vec<_> = ALL.iter().filter(|o| is_on(o.mutant)).collect();
            assert_eq!(on, [d]);
        }
        select(None);
        assert!(!mutant!(AckBeforeFsync));
    }
}
