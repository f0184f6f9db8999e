//! `doctor`: would the service work here, now, as it is configured? A line for each finding, with what to do.
//!
//! Facts are gathered in [`facts`], the only part that touches the machine; what they mean is decided in [`judge`],
//! which is pure. Nothing is changed: a probe file is written into the queue's directory and removed, ports are bound
//! for a moment, and Wigzo gets a connection without a request.

mod facts;
mod judge;
mod tokens;

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;

use crate::settings::{self, Settings};
use judge::{Finding, Level};

/// What `doctor --json` prints.
#[derive(Debug, Serialize)]
struct Report<'a> {
    healthy: bool,
    findings: &'a [Finding],
}

/// What was found, and what the process should end with.
#[derive(Debug)]
pub(super) struct Diagnosis {
    /// The findings as text or JSON.
    pub(super) report: String,
    /// 0 if nothing is broken; 2 if the configuration is, else 1.
    pub(super) code: u8,
}

/// Examines the machine under the configuration of these files and the environment.
pub(super) fn examine(files: &[PathBuf], offline: bool, as_json: bool) -> Diagnosis {
    let findings = match Settings::load(files, &settings::environment()) {
        Ok(settings) => judge::judge(&facts::gather(&settings, offline)),
        Err(problems) => judge::configuration(&lines(&problems), 0),
    };
    let broken = |check: Option<&str>| {
        findings.iter().any(|it| it.level == Level::Broken && check.is_none_or(|check| it.check == check))
    };
    let code = match (broken(Some(judge::CONFIGURATION)), broken(None)) {
        (true, _) => 2,
        (false, true) => 1,
        (false, false) => 0,
    };
    let report = if as_json { json(&findings) } else { text(&findings) };
    Diagnosis { report, code }
}

/// Problems of the configuration, one line each, as `check` prints them.
fn lines(problems: &settings::Problems) -> Vec<String> {
    problems.0.iter().map(ToString::to_string).collect()
}

fn json(findings: &[Finding]) -> String {
    let healthy = findings.iter().all(|it| it.level != Level::Broken);
    let report = serde_json::to_string(&Report { healthy, findings });
    report.expect("BUG: findings are plain text") + "\n"
}

fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { check, level, message, remedy } in findings {
        let level = level.as_str();
        let remedy = remedy.as_ref().map(|remedy| format!(": {remedy}")).unwrap_or_default();
        writeln!(text, "{level:<8} {check:<14} {message}{remedy}").expect("BUG: a String takes everything");
    }
    text
}
