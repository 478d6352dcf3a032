//! Export to ShiViz (<https://bestchai.bitbucket.io/shiviz/>), which draws a run as a diagram of space and time.
//!
//! A ShiViz file begins with the regular expression that parses its events, then the delimiter of several executions
//! (none: an empty line). Every event takes two lines here: time, host and vector clock; then its text.
//!
//! Vector clocks are derived, not recorded: a node counts its events, and a reception takes over what its sending knew.
//!
//! ```text
//!  n1  {"n1":1} send 7 ──────►  n2  {"n2":1,"n1":1} recv 7     {"n2":2,"n1":1} …
//! ```

use crate::{Kind, Record, line};
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

/// First line of the export. ShiViz' named groups: `host`, `clock`, `event`; the others are shown as fields.
pub const SHIVIZ_PARSER: &str = r"(?<time>\S+) (?<host>\S+) (?<clock>\{.*\})\n(?<event>.*)";

type VectorClock = BTreeMap<u32, u64>;

/// Writes records, ordered so that no reception precedes its sending, as a ShiViz log.
///
/// # Errors
/// Of `to`.
pub fn shiviz<'a>(records: impl IntoIterator<Item = &'a Record>, to: &mut impl Write) -> io::Result<()> {
    writeln!(to, "{SHIVIZ_PARSER}\n")?;
    let mut clocks: HashMap<u32, VectorClock> = HashMap::new();
    let mut sent: HashMap<u64, VectorClock> = HashMap::new();
    for r in records {
        let clock = clocks.entry(r.node).or_default();
        if let Some(known) = r.id.filter(|_| r.kind == Kind::Recv).and_then(|id| sent.get(&id)) {
            for (node, count) in known {
                let mine = clock.entry(*node).or_default();
                *mine = (*mine).max(*count);
            }
        }
        *clock.entry(r.node).or_default() += 1;
        if let Some(id) = r.id.filter(|_| r.kind == Kind::Send) {
            sent.insert(id, clock.clone());
        }
        let shown: Vec<String> = clock.iter().map(|(node, n)| format!("\"{}\":{n}", host(*node))).collect();
        let text = line(r).replace(['\n', '\r'], " ");
        let micros = r.t / 1000;
        let (s, us) = (micros / 1_000_000, micros % 1_000_000);
        writeln!(to, "{s}.{us:06} {} {{{}}}\n{text}", host(r.node), shown.join(","))?;
    }
    Ok(())
}

fn host(node: u32) -> String {
    if node == 0 { "world".to_owned() } else { format!("n{node}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn export(records: &[Record]) -> Vec<String> {
        let mut out = Vec::new();
        shiviz(records, &mut out).unwrap();
        String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
    }

    fn event(t: u64, node: u32, kind: Kind, id: Option<u64>, peer: u32) -> Record {
        Record { t, node, kind, id, peer: Some(peer), name: Some("Vote".into()), ..Record::default() }
    }

    #[test]
    fn a_reception_knows_what_its_sending_knew() {
        let lines = export(&[
            event(1000, 1, Kind::Durable, None, 0),
            event(2000, 1, Kind::Send, Some(7), 2),
            event(3000, 2, Kind::Recv, Some(7), 1),
            event(4000, 2, Kind::Send, Some(8), 3),
            event(5000, 3, Kind::Recv, Some(8), 2),
            event(6000, 1, Kind::Durable, None, 0),
        ]);
        assert_eq!(lines[..2], [SHIVIZ_PARSER, ""]);
        let clocks: Vec<&str> = lines[2..].iter().step_by(2).map(String::as_str).collect();
        assert_eq!(
            clocks,
            [
                r#"0.000001 n1 {"n1":1}"#,
                r#"0.000002 n1 {"n1":2}"#,
                r#"0.000003 n2 {"n1":2,"n2":1}"#,
                r#"0.000004 n2 {"n1":2,"n2":2}"#,
                r#"0.000005 n3 {"n1":2,"n2":2,"n3":1}"#,
                r#"0.000006 n1 {"n1":3}"#,
            ]
        );
        assert_eq!(lines[5], "n1 → n2 Vote");
    }

    /// ShiViz refuses a host whose own count does not rise by one with each event, and events over two lines.
    #[test]
    fn own_counts_rise_by_one_and_events_take_one_line() {
        let note = |t| Record { t, cause: Some("two\nlines".into()), ..Record::default() };
        let lines = export(&[note(1), note(2), event(3, 1, Kind::Lost, Some(9), 2)]);
        assert_eq!(lines.len(), 8);
        assert!(lines[2].ends_with(r#"world {"world":1}"#) && lines[4].ends_with(r#"world {"world":2}"#));
        assert_eq!(lines[3], "# two lines");
    }
}
