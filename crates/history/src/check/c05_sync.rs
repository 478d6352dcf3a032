//! C5: after a `sync` a session sees every write that was acknowledged before the `sync` began.
//!
//! The sync's answer carries a zxid: the server's state when it answered. It must not lie below any zxid that anybody had
//! seen when the sync was asked for; C3 then keeps the session from reading anything older.
//!
//! Judged only where the service promises it (`Header::strict_sync`): ZooKeeper's own sync is no quorum operation, and
//! with two believed leaders what follows it may be stale (ZOOKEEPER-1675). There it is counted as skipped.
//!
//! Source: reliability.md C5, protocol-traps §1.22.

use super::Sink;
use crate::facts::Facts;
use crate::record::{Op, Outcome};

const NAME: &str = "C5";

pub(crate) fn check(facts: &Facts<'_>, sink: &mut Sink) {
    for call in &facts.calls {
        if !matches!((call.op, call.outcome), (Op::Sync { .. }, Some(Outcome::Ok(_)))) {
            continue;
        }
        if !facts.history.header.strict_sync {
            sink.skipped(NAME);
            continue;
        }
        sink.judged(NAME);
        let known = facts.known_before(call.invoked);
        if call.zxid < known {
            let text = format!(
                "a sync of session {:#x} is answered at zxid {:#x}, and {known:#x} had been seen before it began",
                call.session, call.zxid
            );
            sink.find(NAME, text, vec![call.invoked, call.ended]);
        }
    }
}
