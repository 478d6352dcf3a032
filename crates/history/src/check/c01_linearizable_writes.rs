//! C1: writes are linearizable, and their zxids are the order.
//!
//! 1. No two writes have the same zxid.
//! 2. A write that was asked for after zxid z had been seen by anybody has a higher one: real-time order.
//!
//! The third part, that replaying the writes in the order of their zxids gives exactly the results that clients got, is
//! the [replay](crate::replay)'s. [`registers`](crate::registers()) searches an order without the zxids.
//!
//! Sees: every answered write, failed ones too (Menagerie gives every command a zxid and the answer's header carries
//! it). Cannot see: writes whose arguments or permissions were refused, which need not have gone through the log.
//!
//! Source: reliability.md C1; ZooKeeper's guarantees "linearizable writes"; Herlihy, Wing 1990 (real-time order).

use super::Sink;
use crate::facts::Facts;

const NAME: &str = "C1";

pub(crate) fn check(facts: &Facts<'_>, sink: &mut Sink) {
    let placed = || facts.placed.iter().filter_map(|index| facts.calls.get(*index));
    for (call, next) in placed().zip(placed().skip(1)) {
        if call.zxid == next.zxid {
            let text = format!("two writes have zxid {:#x}: {:?} and {:?}", call.zxid, call.op, next.op);
            sink.find(NAME, text, vec![call.invoked, call.ended, next.invoked, next.ended]);
        }
    }
    for call in placed() {
        let known = facts.known_before(call.invoked);
        if call.zxid <= known {
            let text = format!(
                "a write has zxid {:#x}, and {known:#x} had been seen before it was asked for: {:?}",
                call.zxid, call.op
            );
            sink.find(NAME, text, vec![call.invoked, call.ended]);
        }
        sink.judged(NAME);
    }
}
