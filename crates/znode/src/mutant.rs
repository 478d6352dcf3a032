//! Rules of the state machine that a test can switch off, one at a time: see `replog::mutant`, whose sibling this is for
//! the crate that knows no other.
//!
//! A guard reads as an exception to the rule that it stands beside; without the feature `mutants` it is a constant
//! `false` and compiled away.

/// Whether mutants can be switched on in this build.
pub const ENABLED: bool = cfg!(feature = "mutants");

macro_rules! mutants {
    ($($name:ident: $rule:literal, $source:literal;)*) => {
        /// A rule that can be switched off.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum Mutant {
            $(#[doc = $rule] $name,)*
        }

        /// Every mutant: itself, its name, the rule that it breaks, and where that is from.
        pub const ALL: &[(Mutant, &str, &str, &str)] = &[$((Mutant::$name, stringify!($name), $rule, $source),)*];
    };
}

mutants! {
    EphemeralsKept: "a session's ephemerals go with it, at the zxid of its end", "trap 4.5";
    SessionRevived: "a session that has ended cannot be attached to", "trap 4.4";
    MovedNotFenced: "what is under way from an older attachment is not executed", "trap 4.6, schedule 6";
    GapExecuted: "a request is executed only if it is the next of its stream", "schedule 6 (c)";
    RepeatExecuted: "a request is executed once", "schedule 6";
    EndedReignDecides: "a leader's decision is void once a later reign was passed", "trap 3.15, schedule 7 (d)";
    ZxidByRound: "the zxid rises whatever the rounds are", "schedule 8";
    SnapshotWithoutStreams: "streams are part of every snapshot", "schedule 6";
    SequenceByCount: "a sequence number is never used again", "trap 4.9";
    MultiNotAtomic: "a multi is done wholly or not at all", "C9";
    WatchKept: "a one-shot watch fires once", "trap 4.7";
    ChildWatchMissed: "whoever watches a parent's children hears of a child that goes", "trap 4.7";
    SetWatchesSilent: "what changed while a client was away is told when it sets its watches again", "trap 4.7";
}

/// Whether `mutant` is on.
#[cfg(not(feature = "mutants"))]
#[inline]
#[must_use]
pub const fn is_on(_mutant: Mutant) -> bool {
    false
}

#[cfg(feature = "mutants")]
static SELECTED: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(u16::MAX);

/// Whether `mutant` is on.
#[cfg(feature = "mutants")]
#[inline]
#[must_use]
pub fn is_on(mutant: Mutant) -> bool {
    SELECTED.load(std::sync::atomic::Ordering::Relaxed) == mutant as u16
}

/// Switches one mutant on, or all off, in the whole process.
#[cfg(feature = "mutants")]
pub fn select(mutant: Option<Mutant>) {
    SELECTED.store(mutant.map_or(u16::MAX, |m| m as u16), std::sync::atomic::Ordering::SeqCst);
}

/// Whether the named mutant is on: `false`, and gone, without the feature `mutants`.
macro_rules! mutant {
    ($name:ident) => {
        $crate::mutant::is_on($crate::mutant::Mutant::$name)
    };
}
pub(crate) use mutant;
