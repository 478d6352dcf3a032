//! Checks a recorded history: `cargo run -p history --example check -- FILE [PAGE.html]`. Exit code 1: a finding.

use std::fs::{File, write};
use std::io::BufReader;
use std::process::ExitCode;

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("which file?")?;
    let history = history::jsonl::read(&mut BufReader::new(File::open(file)?))?;
    let checked = history::check_all(&history);
    println!("{}", history::tell(&history, &checked));
    if let Some(page) = arguments.next() {
        write(page, history::timeline_html(&history, &checked.findings))?;
    }
    Ok(if checked.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
