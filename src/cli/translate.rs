//! `translate`: what events become, and why, without sending anything.
//!
//! Events are explained by [`Explainer`], as the service would take and translate them. Here is only what a command line
//! needs besides: reading and printing.

use std::fmt::Write as _;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use clap::Args;

use super::choice::{Choice, Chosen};
use super::plural::count;
use super::{Failure, complain, say, say_json};
use crate::admin::Translated;
use crate::app::Explainer;
use crate::clock::Clock;
use crate::ingress::Way;
use crate::organization::ProfileName;
use crate::outcome::Reason;
use crate::translate::{self, CallMade, CallSkipped, Explanation, RowFound, Verdict};

#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(flatten)]
    choice: Choice,
    /// Explain by this profile instead of the organization's, with its changes: standard, guide, classic
    #[arg(long, value_name = "NAME", value_parser = |name: &str| ProfileName::try_from(name.to_owned()))]
    profile: Option<ProfileName>,
    /// Read the events as if they were posted to this path [default: /webhook, a batch /v1/batch]
    #[arg(long, value_name = "PATH", value_parser = way)]
    path: Option<Way>,
    /// Print JSON, whose shape docs/mapping.md describes
    #[arg(long)]
    json: bool,
    /// One event, an array, a batch or JSON lines [default: standard input]
    file: Option<PathBuf>,
}

/// The exit code if an event is refused.
const REFUSED: u8 = 3;

/// The way by a path.
fn way(path: &str) -> Result<Way, String> {
    Way::of_path(path).ok_or_else(|| "expected a path such as /webhook, /v1/track or /v1/batch".to_owned())
}

pub(super) fn run(command: &Command) -> Result<(), Failure> {
    let chosen = command.choice.only_one(command.profile.clone())?;
    let body = read(command.file.as_ref())?;
    let explainer = Explainer { config: chosen.settings.ingress.clone(), clock: Clock::system() };
    let events = explainer.body(&chosen.organization, command.path, &body);
    let refused = events.iter().filter(|event| event.result == Verdict::Refused).count();
    let (all, organization) = (events.len(), &chosen.organization);
    if command.json {
        let (name, profile) = (organization.name.as_str(), organization.profile.name());
        let report = Translated { organization: name, made_up: chosen.made_up, profile, events };
        say_json(&report);
    } else {
        say(&text(&events, &chosen));
    }
    if refused == 0 {
        return Ok(());
    }
    Err(Failure { code: REFUSED, message: format!("refused: {refused} of {all}") })
}

fn read(file: Option<&PathBuf>) -> Result<Vec<u8>, Failure> {
    if let Some(file) = file.filter(|file| file.as_os_str() != "-") {
        return std::fs::read(file).map_err(|error| Failure::usage(format!("{}: {error}", file.display())));
    }
    if std::io::stdin().is_terminal() {
        complain("Type or paste events; Ctrl-D ends them.");
    }
    let mut body = Vec::new();
    std::io::stdin().read_to_end(&mut body).map_err(Failure::running)?;
    Ok(body)
}

// === what people see ===

/// The width of the words before a line's content.
const WORD: usize = 9;

/// A body that is longer is broken into lines.
const LONG: usize = 100;

fn text(events: &[Explanation], chosen: &Chosen) -> String {
    let organization = &chosen.organization;
    let mut out = format!("organization {}, profile {}\n", organization.name, organization.profile.name());
    if chosen.made_up {
        out += "The organization is made up, and so are the learner ids: they depend on its token.\n";
    }
    for (number, event) in (1..).zip(events) {
        write_event(&mut out, number, event).expect("BUG: a String takes any text");
    }
    out
}

fn write_event(out: &mut String, number: usize, event: &Explanation) -> std::fmt::Result {
    write!(out, "\n{number}. ")?;
    match &event.event {
        None => writeln!(out, "(refused)")?,
        Some(subject) => {
            write!(out, "{}", subject.kind)?;
            if !subject.name.is_empty() {
                write!(out, " {:?}", subject.name)?;
            }
            match &subject.message_id {
                Some(id) => writeln!(out, ", messageId {id:?}")?,
                None => writeln!(out)?,
            }
        }
    }
    for warning in &event.warnings {
        line(out, "warning", &format!("{}: {}", warning.code, warning.message))?;
    }
    if let Some(learner) = &event.learner {
        let how = if learner.derived { "derived from" } else { "as in" };
        line(out, "learner", &format!("{}, {how} {}", learner.id, learner.from))?;
    }
    if let Some(row) = &event.row {
        line(out, "row", &written(row))?;
    }
    for (number, call) in (1..).zip(&event.calls) {
        write_call(out, number, call)?;
    }
    for skipped in &event.skipped {
        line(out, "not made", &format!("{}: {}", because(&skipped.because), why(skipped)))?;
    }
    line(out, "result", &result(event))
}

fn line(out: &mut String, word: &str, text: &str) -> std::fmt::Result {
    writeln!(out, "  {word:<WORD$}{text}")
}

fn write_call(out: &mut String, number: usize, call: &CallMade) -> std::fmt::Result {
    line(out, &format!("call {number}"), &format!("{} {}", call.method, call.url))?;
    line(out, "", &because(&call.because))?;
    let body = call.body.get();
    let body = if body.len() > LONG { in_lines(body) } else { body.to_owned() };
    for text in body.lines() {
        line(out, "", text)?;
    }
    let width = call.fields.iter().map(|taken| taken.field.chars().count()).max().unwrap_or_default();
    for taken in &call.fields {
        line(out, "", &format!("{:<width$} <- {}", taken.field, taken.from))?;
    }
    Ok(())
}

fn written(row: &RowFound) -> String {
    let mut out = format!("{:?}, from {}", row.name, layer(row.layer));
    if let Some(otherwise) = row.otherwise {
        let _ = write!(out, "; it makes the calls of `otherwise`, from {}", layer(otherwise));
    }
    for (word, names) in [("drop", &row.drop), ("set", &row.set)] {
        if !names.is_empty() {
            let _ = write!(out, "; {word} {}", names.join(", "));
        }
    }
    if let Some(keep) = &row.keep {
        let _ = write!(out, "; keep {}", keep.join(", "));
    }
    out
}

/// A layer as people know it.
pub(super) fn layer(name: &str) -> &str {
    match name {
        "profile" => "the profile",
        "organization_defaults" => "[organization_defaults]",
        "organization" => "the organization",
        other => other,
    }
}

fn because(because: &translate::Because) -> String {
    match (because.cause, &because.rule) {
        (_, Some(rule)) => rule.clone(),
        ("identify", None) => "the person".to_owned(),
        ("earlier_learner", None) => "the same person under the anonymousId (link_anonymous)".to_owned(),
        ("extra_traits", None) => "the other traits (extra_traits)".to_owned(),
        ("computed", None) => "what Engage computed of the person (engage_track)".to_owned(),
        (other, None) => other.to_owned(),
    }
}

fn why(skipped: &CallSkipped) -> String {
    let field = skipped.field.as_deref().unwrap_or_default();
    match skipped.why {
        "missing" => format!("the event has no {field}"),
        "condition" => format!("it is made for other values of {field}"),
        _ => "there is no e-mail and no phone (contactless)".to_owned(),
    }
}

fn result(event: &Explanation) -> String {
    let reason = event.reason.unwrap_or_default();
    let meaning = || Reason::parse(reason).map_or("", Reason::meaning);
    match event.result {
        Verdict::Calls => count(event.calls.len(), "call"),
        Verdict::Filtered => format!("filtered, {reason}: {}", meaning()),
        Verdict::Deletion => "no call: the service forgets this person".to_owned(),
        Verdict::Refused => {
            let place = event.pointer.filter(|pointer| !pointer.is_empty());
            let place = place.map(|pointer| format!(" (at {pointer})")).unwrap_or_default();
            format!("refused, {reason}: {}{place}", event.message.as_deref().unwrap_or_default())
        }
    }
}

/// JSON with a line for each member and item; every number and text as it is.
pub(super) fn in_lines(json: &str) -> String {
    let (mut out, mut depth) = (String::new(), 0_usize);
    let (mut in_text, mut escaped) = (false, false);
    let mut letters = json.chars().peekable();
    while let Some(letter) = letters.next() {
        if in_text {
            out.push(letter);
            in_text = escaped || letter != '"';
            escaped = !escaped && letter == '\\';
            continue;
        }
        match letter {
            '{' | '[' => {
                out.push(letter);
                if let Some(close) = letters.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(letter);
            }
            ',' => {
                out.push(letter);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            letter if letter.is_ascii_whitespace() => {}
            letter => {
                in_text = letter == '"';
                out.push(letter);
            }
        }
    }
    out
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_broken_without_a_change() {
        for (json, expected) in [
            (
                r#"{"a":1299.00,"b":[1,{"c":{}}],"d":[]}"#,
                "{\n  \"a\": 1299.00,\n  \"b\": [\n    1,\n    {\n      \"c\": {}\n    }\n  ],\n  \"d\": []\n}",
            ),
            (r#""{,\"}""#, r#""{,\"}""#),
            (r#"{"a\\":"x"}"#, "{\n  \"a\\\\\": \"x\"\n}"),
            ("{ \"a\" : 1 }", "{\n  \"a\": 1\n}"),
        ] {
            assert_eq!(in_lines(json), expected);
        }
    }
}
