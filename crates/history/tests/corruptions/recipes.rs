//! What can be done to the holders of a lock and to a queue.

use super::Case;
use history::{Op, Outcome, Reply, What};

/// A state that came after ticket 0 was gone shows it.
pub fn older_ticket(case: &mut Case) -> bool {
    let mut shown: Vec<(i64, usize)> = Vec::new();
    for (call, _, to) in case.answered() {
        if matches!(case.op(call).0, Op::Children { path, .. } if path == "/lock") {
            shown.push((case.zxid(to), to));
        }
    }
    shown.sort_unstable();
    let mut gone = None;
    for (zxid, to) in shown {
        let Outcome::Ok(Reply::Children { names, .. }) = case.answer(to).1 else { continue };
        match gone {
            Some(before) if before < zxid => {
                names.push("c9.9-0000000000".into());
                return true;
            }
            _ if names.is_empty() || names.iter().any(|name| name.ends_with("0000000000")) => {}
            _ => gone = Some(zxid),
        }
    }
    false
}

/// The last fenced work is told to be that of the first holder.
pub fn late_work(case: &mut Case) -> bool {
    let mut all: Vec<(i64, usize, Op)> = Vec::new();
    for (call, from, to) in case.answered() {
        let op = case.op(call).0.clone();
        let is_fenced =
            matches!(&op, Op::Multi { ops } if matches!(&ops[1], Op::Set { path, .. } if path == "/locked"));
        if is_fenced
            && matches!(case.answer(to).1, Outcome::Ok(Reply::Multi(r)) if matches!(r[0], Outcome::Ok(_)))
        {
            all.push((case.zxid(to), from, op));
        }
    }
    all.sort_by_key(|(zxid, ..)| *zxid);
    let (Some((.., first)), Some((_, from, last))) = (all.first().cloned(), all.last().cloned()) else {
        return false;
    };
    if let What::Invoke { op, .. } = case.what(from) {
        *op = first.clone();
    }
    first != last
}

/// Who came too late to an item is told that it has it.
pub fn item_twice(case: &mut Case) -> bool {
    let mut had = Vec::new();
    for (call, _, to) in case.answered() {
        let Op::Delete { path, .. } = case.op(call).0 else { continue };
        let path = path.clone();
        if !path.starts_with("/q/") {
            continue;
        }
        let outcome = case.answer(to).1;
        if *outcome == Outcome::Ok(Reply::Nothing) {
            had.push(path);
        } else if had.contains(&path) {
            *outcome = Outcome::Ok(Reply::Nothing);
            return true;
        }
    }
    false
}
