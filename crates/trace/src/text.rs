//! One line per event, in the notation of the golden scripts (`tests/scripts`).
//!
//! ```text
//!      1.500000  n3 → n1 AppendEntries { term: 1, prev: 1:1, commit: 1, round: 1, sync: false } [1:2=a]
//!      1.500310  n1 ← n3 AppendEntries @1 …2
//!      1.500310  n1 writes t3: hard(1, n3, 0, 1) +1:2=a
//!      1.502811  n1 synced t3
//!      1.502811  n1 → n3 Appended { term: 1, matched: 2, … }
//!      1.503102  n3 applies 1:2=a
//!      2.000000  ⚡ isolate n3
//! ```
//!
//! An event that carries `text` shows it; without it the line is put together from the other fields. A reception is
//! always short: what was said stands at its sending.

use crate::{Kind, Record};
use std::fmt::Write as _;

/// The event without its time.
#[must_use]
pub fn line(r: &Record) -> String {
    let me = r.node;
    let peer = r.peer.map_or_else(|| "?".to_owned(), |p| format!("n{p}"));
    let cause = r.cause.as_deref().unwrap_or_default();
    match r.kind {
        Kind::Send => format!("n{me} → {peer} {}", message(r)),
        Kind::Lost => format!("n{me} → {peer} {} ⇥ lost{}", message(r), after(": ", cause)),
        Kind::Recv => format!("n{me} ← {peer} {}", short(r)),
        Kind::Persist => {
            let what = r.text.clone().unwrap_or_else(|| format!("…{}", r.index.unwrap_or_default()));
            format!("n{me} writes t{}: {what}", r.ticket.unwrap_or_default())
        }
        Kind::Durable => format!("n{me} synced t{}", r.ticket.unwrap_or_default()),
        Kind::Apply => format!("n{me} applies {}", r.text.clone().unwrap_or_else(|| position(r))),
        Kind::Phase => {
            let epoch = r.epoch.as_deref().unwrap_or("?");
            let role = r.role.as_deref().unwrap_or("?");
            let commit = r.commit.map_or_else(String::new, |c| format!(" committed={c}"));
            format!("n{me}@{epoch} {role} {} ⇨ {peer}{commit}", name(r))
        }
        Kind::LinkUp => format!("n{me} link to {peer} up"),
        Kind::LinkDown => format!("n{me} link to {peer} down{}", after(": ", cause)),
        Kind::Snapshot => match name(r) {
            "sent" => format!("n{me} ⇉ {peer} snapshot {}", position(r)),
            "received" => format!("n{me} accepts snapshot {}", position(r)),
            "installed" => format!("n{me} installs {}", position(r)),
            _ => format!("n{me} snapshot {}", position(r)),
        },
        Kind::Ignored => format!("n{me} ignores {peer}: {cause}"),
        Kind::Start => format!("n{me} starts{}", after(": ", cause)),
        Kind::Crash => format!("n{me} crashes{}", after(": ", cause)),
        Kind::Fault => format!("⚡ {cause}{}", of(me)),
        Kind::Note => format!("# {cause}{}", of(me)),
    }
}

/// The event with its time in seconds.
#[must_use]
pub fn timed_line(r: &Record) -> String {
    let micros = r.t / 1000;
    format!("{:>5}.{:06}  {}", micros / 1_000_000, micros % 1_000_000, line(r))
}

fn after(before: &str, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{before}{text}") }
}

fn of(node: u32) -> String {
    if node == 0 { String::new() } else { format!(" (n{node})") }
}

fn name(r: &Record) -> &str {
    r.name.as_deref().unwrap_or("?")
}

/// `epoch:index`.
fn position(r: &Record) -> String {
    let index = r.index.unwrap_or_default();
    r.epoch.as_ref().map_or_else(|| index.to_string(), |e| format!("{e}:{index}"))
}

fn message(r: &Record) -> String {
    r.text.clone().unwrap_or_else(|| short(r))
}

fn short(r: &Record) -> String {
    let mut line = name(r).to_owned();
    // Writing to a String cannot fail.
    if let Some(epoch) = &r.epoch {
        let _ = write!(line, " @{epoch}");
    }
    if let Some(index) = r.index {
        let _ = write!(line, " …{index}");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: Kind) -> Record {
        Record {
            t: 12_034_567_890,
            node: 3,
            kind,
            peer: Some(1),
            name: Some("ACK".into()),
            epoch: Some("5".into()),
            index: Some(17),
            ticket: Some(4),
            cause: Some("why".into()),
            ..Record::default()
        }
    }

    #[test]
    fn every_kind_has_its_line() {
        let expected = [
            (Kind::Send, "n3 → n1 ACK @5 …17"),
            (Kind::Recv, "n3 ← n1 ACK @5 …17"),
            (Kind::Lost, "n3 → n1 ACK @5 …17 ⇥ lost: why"),
            (Kind::Persist, "n3 writes t4: …17"),
            (Kind::Durable, "n3 synced t4"),
            (Kind::Apply, "n3 applies 5:17"),
            (Kind::LinkUp, "n3 link to n1 up"),
            (Kind::LinkDown, "n3 link to n1 down: why"),
            (Kind::Ignored, "n3 ignores n1: why"),
            (Kind::Start, "n3 starts: why"),
            (Kind::Crash, "n3 crashes: why"),
            (Kind::Fault, "⚡ why (n3)"),
            (Kind::Note, "# why (n3)"),
        ];
        for (kind, text) in expected {
            assert_eq!(line(&record(kind)), text);
        }
        assert_eq!(timed_line(&record(Kind::Durable)), "   12.034567  n3 synced t4");
    }

    /// The lines of `tests/scripts/shared/02_commit.raft`, from records.
    #[test]
    fn the_notation_is_the_one_of_the_golden_scripts() {
        let with = |kind, text: &str| Record { text: Some(text.into()), ..record(kind) };
        let message = "Appended { term: 1, matched: 2, round: 1, counts: true, sync: false }";
        assert_eq!(line(&with(Kind::Send, message)), format!("n3 → n1 {message}"));
        assert_eq!(
            line(&with(Kind::Persist, "hard(1, n3, 0, 1) +1:2=a")),
            "n3 writes t4: hard(1, n3, 0, 1) +1:2=a"
        );
        assert_eq!(line(&with(Kind::Apply, "1:2=a")), "n3 applies 1:2=a");
        let phase =
            Record { role: Some("Leader".into()), name: Some("Broadcast".into()), ..record(Kind::Phase) };
        assert_eq!(line(&phase), "n3@5 Leader Broadcast ⇨ n1");
        assert_eq!(line(&Record { peer: None, ..phase }), "n3@5 Leader Broadcast ⇨ ?");
        let snapshot = |name: &str| line(&Record { name: Some(name.into()), ..record(Kind::Snapshot) });
        assert_eq!(snapshot("sent"), "n3 ⇉ n1 snapshot 5:17");
        assert_eq!(snapshot("received"), "n3 accepts snapshot 5:17");
        assert_eq!(snapshot("installed"), "n3 installs 5:17");
        assert_eq!(snapshot("taken"), "n3 snapshot 5:17");
    }
}
