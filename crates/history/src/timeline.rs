//! A history to look at: one self-contained HTML page, sessions as lanes, time from left to right.
//!
//! Bars are calls (from question to answer), ticks are watch events, thin grey lines faults. What a finding points at is
//! red; `n` (or the button) jumps from one finding to the next, the first one is shown on opening.

use crate::check::Finding;
use crate::record::{History, Outcome, What};
use std::collections::BTreeMap;
use std::fmt::Write as _;

const LANE: usize = 26;

/// The page.
#[must_use]
pub fn timeline_html(history: &History, findings: &[Finding]) -> String {
    let mut ends: BTreeMap<u64, usize> = BTreeMap::new();
    for (index, event) in history.events.iter().enumerate() {
        if let What::Return { call, .. } | What::Unknown { call } = event.what {
            ends.insert(call, index);
        }
    }
    let lanes = lanes(history);
    let marked: Vec<usize> = findings.iter().flat_map(|finding| finding.events.iter().copied()).collect();
    let last = history.events.last().map_or(1, |event| event.at_us).max(1);
    // A call of 1 ms is about 4 px wide; long runs are squeezed to what browsers can show.
    let scale = (4.0 / 1000.0_f64).min(2_000_000.0 / last as f64);
    let x = |us: u64| us as f64 * scale;
    let mut shapes = String::new();
    for (index, event) in history.events.iter().enumerate() {
        let (from, lane) =
            (x(event.at_us), lanes.get(&lane_of(event.client, &event.what)).copied().unwrap_or(0));
        let top = lane * LANE;
        let (class, width, text) = match &event.what {
            What::Invoke { call, op, .. } => {
                let end = ends.get(call).copied();
                let answer = end.and_then(|end| history.events.get(end));
                let until = answer.map_or(last, |answer| answer.at_us);
                let (class, told) = match answer.map(|answer| &answer.what) {
                    Some(What::Return { zxid, outcome, .. }) => {
                        let class = if matches!(outcome, Outcome::Ok(_)) { "ok" } else { "error" };
                        (class, format!("{op:?}\n⇒ {zxid:#x} {outcome:?}"))
                    }
                    _ => ("unknown", format!("{op:?}\n⇒ no answer")),
                };
                let red = marked.contains(&index) || end.is_some_and(|end| marked.contains(&end));
                (if red { "bad" } else { class }, (x(until) - from).max(2.0), format!("#{index} {told}"))
            }
            What::Return { .. } | What::Unknown { .. } | What::Ping { .. } => continue,
            What::Watch { zxid, kind, path, .. } => (
                if marked.contains(&index) { "bad" } else { "watch" },
                3.0,
                format!("#{index} {kind:?} {path} @ {zxid:#x}"),
            ),
            What::Fault { .. } | What::Healed | What::Final => {
                ("fault", 1.0, format!("#{index} {:?}", event.what))
            }
            what => {
                (if marked.contains(&index) { "bad" } else { "state" }, 3.0, format!("#{index} {what:?}"))
            }
        };
        let height = if class == "fault" { LANE * lanes.len() } else { LANE - 8 };
        let _ = write!(
            shapes,
            "<i class={class} id=e{index} style='left:{from:.1}px;top:{top}px;width:{width:.1}px;height:{height}px' title='{}'></i>",
            escape(&text)
        );
    }
    page(history, findings, &shapes, &lanes, &ends)
}

fn page(
    history: &History,
    findings: &[Finding],
    shapes: &str,
    lanes: &BTreeMap<(u32, i64), usize>,
    ends: &BTreeMap<u64, usize>,
) -> String {
    let mut labels = String::new();
    for ((client, session), lane) in lanes {
        let text = if *client == 0 { "run".into() } else { format!("client {client}, {session:#x}") };
        let _ = write!(labels, "<b style='top:{}px'>{text}</b>", lane * LANE);
    }
    let mut list = String::new();
    // A finding points at the first of its events that has a shape: a call's is at its question.
    let starts: BTreeMap<usize, u64> = ends.iter().map(|(call, end)| (*end, *call)).collect();
    for finding in findings {
        let shown = finding.events.iter().find_map(|event| {
            let Some(call) = starts.get(event) else { return Some(*event) };
            let asked =
                |e: &crate::record::Event| matches!(e.what, What::Invoke { call: c, .. } if c == *call);
            history.events.iter().position(asked)
        });
        let at = shown.unwrap_or(0);
        let _ =
            write!(list, "<li data-e={at}><code>{}</code> {}</li>", finding.checker, escape(&finding.text));
    }
    let count = findings.len();
    let height = LANE * lanes.len();
    let title = escape(&history.header.system);
    format!(
        "<!doctype html><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>\
         <h1>{title}: {} events, {count} findings</h1><button id=next>jump to first anomaly</button><ol>{list}</ol>\
         <div id=view><div id=labels>{labels}</div><div id=lanes style='height:{height}px'>{shapes}</div></div>\
         <script>{SCRIPT}</script>",
        history.events.len()
    )
}

fn lane_of(client: u32, what: &What) -> (u32, i64) {
    let session = match what {
        What::Connected { session, .. }
        | What::Invoke { session, .. }
        | What::Watch { session, .. }
        | What::Expired { session } => *session,
        _ => 0,
    };
    (client, session)
}

/// Lanes, by client and session.
fn lanes(history: &History) -> BTreeMap<(u32, i64), usize> {
    let all = history.events.iter().map(|event| (lane_of(event.client, &event.what), 0));
    let mut lanes: BTreeMap<_, _> = all.collect();
    lanes.values_mut().enumerate().for_each(|(at, lane)| *lane = at);
    lanes
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&#39;").replace('"', "&quot;")
}

const STYLE: &str = "body{font:13px system-ui;margin:1em}h1{font-size:16px}li{cursor:pointer}\
#view{position:relative;overflow:auto;border:1px solid #ccc;padding-left:190px}#lanes{position:relative}\
#labels{position:sticky;left:-190px;width:0}#labels b{position:absolute;left:-185px;width:180px;font-weight:400}\
i{position:absolute;display:block;border-radius:2px}.ok{background:#7aa87a}.error{background:#c9b458}\
.unknown{background:repeating-linear-gradient(45deg,#aaa,#aaa 4px,#ddd 4px,#ddd 8px)}.watch{background:#4a6fa5}\
.state{background:#888}.fault{background:#0002}.bad{background:#d22;z-index:1}.here{outline:3px solid #d22}";

const SCRIPT: &str = "let all=[...document.querySelectorAll('li')],at=-1,\
go=n=>{if(!all.length)return;at=n%all.length;document.querySelectorAll('.here').forEach(e=>e.classList.remove('here'));\
let e=document.getElementById('e'+all[at].dataset.e);if(e){e.classList.add('here');\
e.scrollIntoView({inline:'center',block:'nearest'})}};\
all.forEach((li,n)=>li.onclick=()=>go(n));document.getElementById('next').onclick=()=>go(at+1);\
document.onkeydown=e=>{if(e.key=='n')go(at+1)};go(0)";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::check;
    use crate::report::report;
    use crate::testing::{Wanted, generate};

    #[test]
    fn a_page_shows_every_call_and_points_at_findings() {
        let mut history = generate(Wanted { seed: 1, operations: 200, faults: true, exact_reads: true });
        let clean = timeline_html(&history, &check(&history));
        let calls = history.events.iter().filter(|e| matches!(e.what, What::Invoke { .. })).count();
        let bars = ["<i class=ok ", "<i class=error ", "<i class=unknown "];
        assert_eq!(bars.iter().map(|bar| clean.matches(bar).count()).sum::<usize>(), calls);
        assert!(!clean.contains("class=bad"));
        assert!(report(&history).contains("C8     watches"));
        let last = history.events.iter_mut().rev().find_map(|event| match &mut event.what {
            What::Return { zxid, .. } => Some(zxid),
            _ => None,
        });
        *last.unwrap() -= 100;
        let findings = check(&history);
        let page = timeline_html(&history, &findings);
        assert!(page.contains("class=bad") && page.contains("<li data-e="));
        assert!(report(&history).contains("verdict: VIOLATED"));
    }
}
