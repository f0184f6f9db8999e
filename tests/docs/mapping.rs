//! `docs/mapping.md` says what the profiles do: its tables are made from them, its configurations are checked, its code
//! is run, its example is what the program prints.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use wigzo_destination::settings::Settings;
use wigzo_destination::translate::{CallRule, Profile, Row, Shape};
use wigzo_destination::wigzo::{LearnerId, PersonField};

use super::{blocks, read, root};

#[path = "../support/skipped.rs"]
mod skipped;

const DOCUMENT: &str = "docs/mapping.md";

fn profiles() -> Vec<&'static Profile> {
    Profile::BUILTIN.iter().map(|name| &**Profile::builtin(name).expect("it is built in")).collect()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test asks whether it should write")]
fn its_tables_are_made_from_the_profiles() {
    let text = read(DOCUMENT);
    let mut now = text.clone();
    for (name, part) in [
        ("profiles", profile_table()),
        ("events", event_table()),
        ("values", value_table()),
        ("fields", field_table()),
        ("switches", switch_table()),
        ("learners", learner_table()),
        ("explained", explained()),
    ] {
        let begin = format!("<!-- made: {name} -->\n");
        let (before, rest) = now.split_once(&begin).unwrap_or_else(|| panic!("{DOCUMENT} has no {begin}"));
        let (_, after) = rest.split_once("<!-- end -->").expect("what is made has an end");
        now = format!("{before}{begin}\n{part}\n<!-- end -->{after}");
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(root().join(DOCUMENT), &now).expect("the document can be written");
    }
    assert!(read(DOCUMENT) == now, "{DOCUMENT} differs; UPDATE_GOLDEN=1 writes it as it would be:\n{now}");
}

fn profile_table() -> String {
    let mut out = "| profile | what it is |\n| --- | --- |\n".to_owned();
    for name in Profile::BUILTIN {
        writeln!(out, "| `{name}` | {} |", Profile::meaning(name).expect("it is built in")).expect("text");
    }
    out
}

/// The rows that some profile has calls for, and in a sentence those that all send on as they are.
fn event_table() -> String {
    let profiles = profiles();
    let mut out = format!("| Segment event |{}\n", heads());
    let _ = writeln!(out, "| --- |{}", " --- |".repeat(profiles.len()));
    for kind in ["page", "screen", "group", "alias"] {
        let row = |profile: &Profile| {
            let rows = profile.type_rows();
            cell(rows.iter().find(|(key, _)| *key == kind).expect("every type has a row").1)
        };
        line(&mut out, kind, profiles.iter().map(|profile| row(profile)));
    }
    let mut as_they_are = Vec::new();
    // A name may have a row of its own in one profile, and be one of several of a row in another.
    let rows = profiles.iter().flat_map(|profile| profile.rows());
    let names: BTreeSet<&String> = rows.filter_map(|row| row.names().first()).collect();
    for name in names {
        let found = || profiles.iter().map(|profile| profile.track(name).0);
        if found().all(|row| row.calls().is_none()) {
            as_they_are.push(format!("`{name}`"));
        } else {
            line(&mut out, name, found().map(cell));
        }
    }
    line(&mut out, "any other", profiles.iter().map(|profile| cell(profile.track("\u{1}").1)));
    let list = as_they_are.join(", ");
    let _ = writeln!(out, "\nKnown and sent as they are, like any other event: {list}.");
    out
}

fn heads() -> String {
    Profile::BUILTIN.iter().fold(String::new(), |heads, name| heads + &format!(" `{name}` |"))
}

fn line(out: &mut String, name: &str, cells: impl Iterator<Item = String>) {
    let cells: Vec<_> = cells.collect();
    let _ = writeln!(out, "| {name} | {} |", cells.join(" | "));
}

fn cell(row: &Row) -> String {
    match row.calls() {
        None => "as it is".to_owned(),
        Some([]) => "filtered".to_owned(),
        Some(calls) => calls.iter().map(call).collect::<Vec<_>>().join("<br>"),
    }
}

fn call(rule: &CallRule) -> String {
    let mut out = match (rule.event(), rule.value()) {
        (Some("{event}"), Some(Shape::Properties)) => "as it is".to_owned(),
        (Some(name), Some(value)) => format!("`{name}` ← `{}`", value.as_str()),
        _ => format!("`{rule}`"),
    };
    let needs: Vec<_> = rule.requires().map(|field| format!("`{field}`")).collect();
    if !needs.is_empty() {
        let _ = write!(out, ", needs {}", needs.join(" "));
    }
    out
}

fn value_table() -> String {
    let mut out = "| value | what it is |\n| --- | --- |\n".to_owned();
    for shape in Shape::ALL {
        let _ = writeln!(out, "| `{}` | {} |", shape.as_str(), shape.meaning());
    }
    out
}

fn field_table() -> String {
    let profiles = profiles();
    let mut out = format!("| field |{}\n", heads());
    let _ = writeln!(out, "| --- |{}", " --- |".repeat(profiles.len()));
    for field in PersonField::ALL {
        let is_filled = |profile: &&Profile| profile.switches().identify_fields.contains(&field);
        let cells = profiles.iter().map(|profile| if is_filled(profile) { "yes" } else { "" }.to_owned());
        line(&mut out, &format!("`{}`", field.as_str()), cells);
    }
    out
}

fn switch_table() -> String {
    let switches = |profile: &&Profile| serde_json::to_value(profile.switches()).expect("plain values");
    let all: Vec<_> = profiles().iter().map(switches).collect();
    let mut out = format!("| switch |{}\n", heads());
    let _ = writeln!(out, "| --- |{}", " --- |".repeat(all.len()));
    let names = all.first().and_then(serde_json::Value::as_object).expect("an object").keys();
    for name in names.filter(|name| *name != "identify_fields") {
        line(&mut out, &format!("`{name}`"), all.iter().map(|values| format!("`{}`", values[name])));
    }
    out
}

/// Ids of several forms within two organizations.
const LEARNERS: [(&str, &str); 7] = [
    ("org-token-42", "user-42"),
    ("org-token-42", "cust-7"),
    ("org-token-43", "user-42"),
    ("org-token-42", "buyer@shop.example"),
    ("org-token-42", "उपयोगकर्ता"),
    ("org-token-42", "12345678901234567890"),
    ("org-token-42", "0b6e3f0a-6a53-4f0e-9d0b-2f1f6d7c9a11"),
];

fn learner_table() -> String {
    let mut out = "| organization token | id | learner id |\n| --- | --- | --- |\n".to_owned();
    for (token, id) in LEARNERS {
        let _ = writeln!(out, "| `{token}` | `{id}` | `{}` |", LearnerId::derived(token, id).as_str());
    }
    out
}

const EXAMPLE: &str = r#"{
  "type": "track", "event": "Order Completed", "messageId": "m-1", "userId": "user-42",
  "properties": { "orderId": 1001, "total": 27.50, "products": [{ "price": 25.00 }] },
  "context": { "traits": { "email": "asha@example.com" } }
}
"#;

/// The example, and what the program says about it.
fn explained() -> String {
    let mut program = Command::new(env!("CARGO_BIN_EXE_wigzo-destination"))
        .arg("translate")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut input = program.stdin.take().expect("it has an input");
    input.write_all(EXAMPLE.as_bytes()).expect("it reads");
    drop(input);
    let output = program.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8(output.stdout).expect("text");
    format!("```json\n{EXAMPLE}```\n\nbecomes\n\n```text\n{told}```\n")
}

#[test]
fn its_configurations_fit_the_profiles() {
    let mut checked = 0;
    for (language, block) in blocks(&read(DOCUMENT)) {
        if language != "toml" {
            continue;
        }
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("block.toml");
        std::fs::write(&file, &block).expect("it can be written");
        let token = BTreeMap::from([("WIGZO_ORG_TOKEN".to_owned(), "org-token-42".to_owned())]);
        let settings = Settings::load(&[file], &token).unwrap_or_else(|why| panic!("{block}\n{why}"));
        if let Err(problems) = settings.check(false) {
            panic!("{block}\n{problems}");
        }
        checked += 1;
    }
    assert!(checked >= 5, "{DOCUMENT} shows how tables are changed; found {checked}");
}

#[test]
fn its_code_derives_the_learner_ids_of_its_table() {
    for (language, program, call) in [
        ("js", "node", "console.log(learnerId(TOKEN, ID))"),
        ("python", "python3", "print(learner_id(TOKEN, ID))"),
    ] {
        let found = blocks(&read(DOCUMENT)).into_iter().find(|(known, _)| known == language);
        let (_, mut code) = found.unwrap_or_else(|| panic!("{DOCUMENT} shows {language}"));
        for (token, id) in LEARNERS {
            let call = call
                // A JSON text is a literal of both.
                .replace("TOKEN", &serde_json::to_string(token).expect("text"))
                .replace("ID)", &format!("{})", serde_json::to_string(id).expect("text")));
            let _ = writeln!(code, "\n{call}");
        }
        let flag = if language == "js" { "-e" } else { "-c" };
        let Ok(output) = Command::new(program).args([flag, &code]).env("PYTHONIOENCODING", "utf-8").output()
        else {
            skipped::skipped("the code of docs/mapping.md", &format!("there is no {program}"));
            continue;
        };
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        let expected: Vec<_> =
            LEARNERS.iter().map(|(token, id)| LearnerId::derived(token, id).as_str().to_owned()).collect();
        let found = String::from_utf8(output.stdout).expect("text");
        assert_eq!(found.lines().collect::<Vec<_>>(), expected, "{program}");
    }
}
