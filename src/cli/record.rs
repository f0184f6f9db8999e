//! An event's record as a service tells it, for people: each stored byte as it is, and what each code means.
//!
//! Invariant: no JSON of a sender is parsed here. Its numbers may be larger or more exact than any number of ours.

use std::fmt::Write as _;

use console::Term;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::table::{Column, colors, paint, plain, status_color};

/// A record without payload and attempts.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Summary {
    number: u64,
    organization: String,
    message_id: String,
    person: String,
    kind: String,
    title: String,
    received_at: String,
    ended_at: Option<String>,
    state: String,
    reason: Option<String>,
    replays: u32,
}

impl Summary {
    fn event(&self) -> String {
        [self.kind.as_str(), &self.title].join(" ").trim_end().to_owned()
    }
}

/// The columns of a list of events.
pub(super) const EVENTS: &[Column<Summary>] = &[
    Column::plain("NUMBER", 20, |it| it.number.to_string()),
    Column::plain("RECEIVED", 24, |it| it.received_at.clone()),
    Column::plain("ORGANIZATION", 20, |it| it.organization.clone()),
    Column { heading: "STATUS", most: 9, cell: |it| it.state.clone(), color: status_color },
    Column::plain("REASON", 24, |it| it.reason.clone().unwrap_or_default()),
    Column::plain("USER", 24, |it| it.person.clone()),
    Column::plain("EVENT", 30, Summary::event),
    Column::plain("MESSAGE ID", 0, |it| it.message_id.clone()),
];

/// The columns of a list of dead letters.
pub(super) const DEAD_LETTERS: &[Column<Summary>] = &[
    Column::plain("NUMBER", 20, |it| it.number.to_string()),
    Column::plain("DIED", 24, |it| it.ended_at.clone().unwrap_or_default()),
    Column::plain("ORGANIZATION", 20, |it| it.organization.clone()),
    Column::plain("REASON", 24, |it| it.reason.clone().unwrap_or_default()),
    Column::plain("REPLAYS", 7, |it| it.replays.to_string()),
    Column::plain("USER", 24, |it| it.person.clone()),
    Column::plain("EVENT", 30, Summary::event),
    Column::plain("MESSAGE ID", 0, |it| it.message_id.clone()),
];

/// A record in full.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    number: u64,
    organization: String,
    route: String,
    message_id: String,
    person: String,
    kind: String,
    title: String,
    received_at: String,
    ended_at: Option<String>,
    state: String,
    reason: Option<String>,
    detail: Option<String>,
    replays: u32,
    calls_done: String,
    payload: Option<Box<RawValue>>,
    surroundings: Option<Box<RawValue>>,
    attempts: Vec<Attempt>,
    next_attempt: Option<NextAttempt>,
    codes: Vec<KnownCode>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Attempt {
    at: String,
    call: String,
    status: Option<u16>,
    duration_ms: u64,
    reason: String,
    request: String,
    response: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NextAttempt {
    at: Option<String>,
    message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct KnownCode {
    kind: String,
    code: String,
    meaning: String,
    advice: Option<String>,
}

impl Record {
    /// The record on standard output.
    pub(super) fn shown(&self) -> String {
        self.text(colors(), Term::stdout().is_term())
    }

    /// First its status, then what the codes mean, then what came in, then each attempt.
    fn text(&self, is_colored: bool, is_terminal: bool) -> String {
        // A String takes any text.
        let mut out = String::new();
        self.write_head(&mut out, is_colored);
        self.write_codes(&mut out);
        let stored = |raw: &RawValue| if is_terminal { safe(raw.get()) } else { raw.get().to_owned() };
        match &self.payload {
            None => out += "\npayload       not kept: this record is one line\n",
            Some(payload) => {
                let _ = write!(out, "\npayload\n{}\n", stored(payload));
            }
        }
        if let Some(surroundings) = &self.surroundings {
            let _ = write!(out, "\nrequest context\n{}\n", stored(surroundings));
        }
        for attempt in &self.attempts {
            attempt.write(&mut out, is_terminal);
        }
        out
    }

    fn write_head(&self, out: &mut String, is_colored: bool) {
        let mut line = |word: &str, text: &str| {
            if !text.is_empty() {
                let _ = writeln!(out, "{word:<13} {text}");
            }
        };
        line("number", &self.number.to_string());
        let status = paint(&self.state, status_color(&self.state).filter(|_| is_colored));
        let why =
            [self.reason.as_deref(), self.detail.as_deref()].map(|text| plain(text.unwrap_or_default()));
        line("status", format!("{status}  {}", why.join("  ")).trim_end());
        line("organization", &plain(&self.organization));
        line("user", &plain(&self.person));
        line("message id", &plain(&self.message_id));
        line("route", &plain(&self.route));
        line("event", plain(&[self.kind.as_str(), &self.title].join(" ")).trim_end());
        line("received", &self.received_at);
        line("ended", self.ended_at.as_deref().unwrap_or_default());
        line("calls done", &plain(&self.calls_done));
        if self.replays > 0 {
            line("replays", &self.replays.to_string());
        }
        if let Some(next) = &self.next_attempt {
            let at = next.at.as_deref().unwrap_or("time unknown");
            line("next attempt", &format!("{at}: {}", next.message));
        }
    }

    fn write_codes(&self, out: &mut String) {
        for KnownCode { kind, code, meaning, advice } in &self.codes {
            let _ = write!(out, "\n{kind} {code}\n  meaning  {meaning}\n");
            if let Some(advice) = advice {
                let _ = writeln!(out, "  to do    {advice}");
            }
        }
    }
}

impl Attempt {
    fn write(&self, out: &mut String, is_terminal: bool) {
        let Self { at, call, status, duration_ms, reason, request, response } = self;
        let status = status.map_or_else(|| "no answer".to_owned(), |it| it.to_string());
        let _ = write!(out, "\n{}  {at}  {status}  {duration_ms} ms  {reason}\n", plain(call));
        for (word, text) in [("request", request), ("answer", response)] {
            for line in text.lines() {
                let line = if is_terminal { plain(line) } else { line.to_owned() };
                let _ = writeln!(out, "  {word:<8} {line}");
            }
        }
    }
}

/// The same JSON, without a character that moves a terminal's cursor: such a one stands in strings only, and is escaped.
fn safe(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for letter in json.chars() {
        if letter.is_control() && !matches!(letter, '\n' | '\r' | '\t') {
            let _ = write!(out, "\\u{:04x}", u32::from(letter));
        } else {
            out.push(letter);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"{"number":7,"state":"dead","reason":"wigzo_400","person":"user-42","kind":"track",
        "payload":{"price":799.50,"id":12345678901234567890123,"far":1e400,"text":"a\u009b"},
        "surroundings":{"context":{"n":1.0}},
        "attempts":[{"call":"event/buy","status":400,"request":"POST /\n{\"v\":1.10}","response":"no\u001b[2J"}],
        "codes":[{"kind":"reason","code":"wigzo_400","meaning":"It was refused.","advice":"Correct it."}],
        "a_field_of_a_newer_version":1e999}"#;

    #[test]
    fn every_number_is_shown_as_it_is_stored() {
        let answer = ANSWER.replace("\\u009b", "\u{9b}");
        let record: Record = serde_json::from_str(&answer).unwrap();
        let text = record.text(false, false);
        for part in [
            "status        dead  wigzo_400\n",
            "user          user-42\n",
            "reason wigzo_400\n  meaning  It was refused.\n  to do    Correct it.\n",
            "payload\n{\"price\":799.50,\"id\":12345678901234567890123,\"far\":1e400,\"text\":\"a\u{9b}\"}\n",
            "request context\n{\"context\":{\"n\":1.0}}\n",
            "  request  {\"v\":1.10}\n",
            "  answer   no\u{1b}[2J\n",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
        let on_a_terminal = record.text(true, true);
        assert!(on_a_terminal.contains(r#""far":1e400,"text":"a\u009b"}"#), "{on_a_terminal}");
        assert!(on_a_terminal.contains("answer   no [2J"), "{on_a_terminal}");
        assert!(on_a_terminal.contains("\u{1b}[31mdead\u{1b}[0m"), "{on_a_terminal}");
    }
}
