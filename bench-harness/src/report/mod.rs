//! Reports, made from [`Run`] and from nothing else, so that they can be made again from `run.json`.
//!
//! ```text
//!  Run ─► table (terminal)   ─► report.md   ─► report.html (inline SVG, no network)   ─► REPRODUCE.sh
//! ```

mod html;
mod markdown;
mod svg;
pub(crate) mod table;
mod verdicts;
pub(crate) mod view;

use crate::record::Run;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// Writes `run.json` and all reports into `out`.
///
/// # Errors
/// Files that cannot be written.
pub(crate) fn write(run: &Run, out: &Path) -> Result<()> {
    let json = serde_json::to_string_pretty(run)?;
    save(out, "run.json", &json)?;
    save(out, "report.md", &markdown::render(run))?;
    save(out, "report.html", &html::render(run))?;
    save(out, "REPRODUCE.sh", &reproduce(run))?;
    Ok(())
}

/// Makes the reports again from `run.json`.
///
/// # Errors
/// No such run, or one of another schema.
pub(crate) fn again(directory: &Path) -> Result<()> {
    let path = directory.join("run.json");
    let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    let run: Run = serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?;
    anyhow::ensure!(run.schema == crate::record::SCHEMA, "{} has schema {:?}", path.display(), run.schema);
    write(&run, directory)?;
    println!("{}", table::render(&run));
    Ok(())
}

fn save(out: &Path, name: &str, text: &str) -> Result<()> {
    let path = out.join(name);
    fs::write(&path, text).with_context(|| format!("{}", path.display()))
}

fn reproduce(run: &Run) -> String {
    let mut packages = Vec::new();
    for system in &run.systems {
        match system.name.as_str() {
            "zookeeper" => packages.push("zookeeper default-jre-headless"),
            "etcd" => packages.push("etcd-server"),
            _ => {}
        }
    }
    let install = if packages.is_empty() {
        String::new()
    } else {
        format!("# Debian packages: {}\n", packages.join(" "))
    };
    format!(
        "#!/bin/sh\n# Runs {} again, at the commit that was measured{}.\n{install}set -e\ngit checkout {}\n{}\n",
        run.run_id,
        if run.git_dirty { " (which had local changes on top)" } else { "" },
        run.git_sha,
        run.command
    )
}

#[cfg(test)]
mod tests;
