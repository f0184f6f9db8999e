//! The golden tables of `tests/golden/translate/`: hundreds of events, and what becomes of each in every profile.
//!
//! A file is a list of blocks: `== title`, then events as `< json`, each followed by what becomes of it, a line for each
//! thing that is told: `profile` and `> NAME VALUE` (an event), `> identify FIELDS`, `- NAME: why` for a call that is not
//! made, `! reason`. Profiles that tell the same share their lines. Left out is what is always there: `eventCategory`,
//! `is_active`, the `source` unless it is `app`, an event's `userId` unless it is another than that of `user-42`. To add
//! a case write its event and let `UPDATE_GOLDEN=1 cargo test --lib translate::tests::tables` write the rest; then read
//! what it wrote.

use super::*;
use crate::segment::Object;
use crate::translate::{CallMade, Explanation, Ground, Verdict, explain, explain_event};
use crate::wigzo::{Address, LearnerId};

const FAMILIES: [&str; 6] = ["specification", "names", "properties", "pages", "people", "engage"];

/// An address without a secret.
pub(super) fn address() -> Address {
    Address::new("https://wigzo.example".parse().unwrap(), &"org-token-42".to_owned().into(), None)
}

/// An event of a table, explained in a profile.
fn explained(json: &str, route: Route, profile: &Profile) -> Explanation {
    let (options, address) = (options(), address());
    let ground =
        Ground { profile, options: &options, address: &address, arrival: arrival(route), obeyed: None };
    explain(Raw::parse(json).unwrap(), &Surroundings::default(), &ground)
}

/// What a call says, without what every call says.
fn short(call: &CallMade) -> String {
    let body = Object::parse(Raw::from(&*call.body)).unwrap();
    let text = |key: &str| body.text(key).unwrap_or_default();
    let app = if text("source") == "app" { " (app)" } else { "" };
    if call.endpoint == "event" {
        let learner = text("userId");
        let other = learner != LearnerId::derived("org-token-42", "user-42").as_str();
        let about = if other { format!(" @{learner}") } else { String::new() };
        return format!("{} {}{about}{app}", text("eventName"), body.get("eventval").unwrap().get());
    }
    let fields = body.iter().filter(|(key, _)| !matches!(*key, "is_active" | "source"));
    let fields: Vec<_> = fields
        .map(|(key, value)| match value.get() {
            id if key == "userId" => format!("@{}", id.trim_matches('"')),
            value => format!("{key}={value}"),
        })
        .collect();
    format!("{} {}{app}", call.endpoint, fields.join(" "))
}

/// What is told of an event, line by line.
fn told(event: &Explanation) -> Vec<String> {
    let mut lines: Vec<_> = event.calls.iter().map(|call| format!("> {}", short(call))).collect();
    for skipped in &event.skipped {
        let rule = skipped.because.rule.as_deref().unwrap_or(skipped.because.cause);
        let name = rule.split(", ").next().unwrap_or_default().trim_start_matches("event ");
        let why = [skipped.why, skipped.field.as_deref().unwrap_or_default()].join(" ");
        lines.push(format!("- {name}: {}", why.trim_end()));
    }
    match event.result {
        Verdict::Calls => {}
        Verdict::Filtered | Verdict::Refused => lines.push(format!("! {}", event.reason.unwrap())),
        Verdict::Deletion => lines.push("! deletion".to_owned()),
    }
    lines
}

/// What is told of an event in every profile; those that tell the same share it.
fn in_every_profile(explained: impl Fn(&Profile) -> Explanation) -> String {
    let mut groups: Vec<(Vec<&str>, Vec<String>)> = Vec::new();
    for name in Profile::BUILTIN {
        let lines = told(&explained(Profile::builtin(name).unwrap()));
        match groups.iter_mut().find(|(_, known)| *known == lines) {
            Some((names, _)) => names.push(name),
            None => groups.push((vec![name], lines)),
        }
    }
    let mut out = String::new();
    for (names, lines) in groups {
        let names = if names.len() == Profile::BUILTIN.len() { "all".to_owned() } else { names.join("+") };
        for line in lines {
            writeln!(out, "{names:<17}{line}").unwrap();
        }
    }
    out
}

/// What a golden file should be, given what the code does.
fn as_it_would_be(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let stays = line.is_empty() || ["# ", "==", "< "].iter().any(|start| line.starts_with(start));
        if stays {
            out += line;
            out.push('\n');
        }
        if let Some(json) = line.strip_prefix("< ") {
            out += &in_every_profile(|profile| explained(json, Route::Webhook, profile));
        }
    }
    out
}

#[test]
fn the_golden_tables_hold_in_every_profile() {
    let mut cases = 0;
    for family in FAMILIES {
        let path = golden(&format!("golden/translate/{family}.txt"));
        let text = std::fs::read_to_string(&path).unwrap();
        cases += text.lines().filter(|line| line.starts_with("< ")).count();
        assert_golden(&path, &as_it_would_be(&text));
    }
    assert!(cases >= 400, "hundreds of cases; found {cases}");
}

#[test]
fn captured_requests_are_told_in_every_profile() {
    let mut files: Vec<_> =
        std::fs::read_dir(golden("captures")).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let mut now = String::from(
        "# What becomes of the requests of real senders in tests/captures, item by item, in every profile.\n",
    );
    for file in files {
        writeln!(now, "\n== {}", file.file_name().unwrap().display()).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let body = text.lines().rfind(|line| !line.is_empty()).unwrap();
        let request = decode(body.as_bytes(), 1000).unwrap();
        let route = if text.starts_with("POST /v1/") { Route::Tracking } else { Route::Webhook };
        for (number, item) in (1..).zip(&request.items) {
            let event = Event::read(item.raw, &request.surroundings).unwrap();
            writeln!(now, "# {number}: {} {}", event.kind.as_str(), event.title()).unwrap();
            now += &in_every_profile(|profile| {
                let (options, address, arrival) = (options(), address(), arrival(route));
                let obeyed = Some(route);
                explain_event(
                    &event,
                    &Ground { profile, options: &options, address: &address, arrival, obeyed },
                )
            });
        }
    }
    assert_golden(&golden("golden/translate/captures.txt"), &now);
}
