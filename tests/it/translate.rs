//! The commands that explain: `translate` and `profiles`, as a person at a terminal has them.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const CONFIG: &str = r#"
[organization_defaults]
event_names = "snake"

[organizations.acme]
org_token = "made-up-org-token-1"
token = "made-up-second-token"
source_keys = ["wk_acme"]

[organizations.acme.events."Product Added"]
calls = [{ event = "add_to_cart", requires = ["product_id"] }]
drop = ["note"]

[organizations.bazaar]
org_token = "made-up-org-token-2"
source_keys = ["wk_bazaar"]
profile = "classic"
obey_integrations = "always"
"#;

fn run(directory: &Path, arguments: &[&str], input: &str) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_wigzo-destination"))
        .args(arguments)
        .env_clear()
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that refuses its command line reads nothing.
    let _ = program.stdin.take().unwrap().write_all(input.as_bytes());
    program.wait_with_output().unwrap()
}

fn with_config() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("config.toml"), CONFIG).unwrap();
    directory
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|why| panic!("{why}: {output:?}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const ADDED: &str =
    r#"{"type":"track","event":"Product Added","userId":"u","properties":{"product_id":"p1","note":"x"}}"#;

/// input | its results in order | exit code
#[test]
fn every_shape_of_input_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let bad = r#"{"type":"track","userId":"u"}"#;
    let lines = format!("{ADDED}\n\n{bad}\n[{ADDED},{ADDED}]\nnot json\n");
    for (input, results, code) in [
        (ADDED.to_owned(), &["calls"][..], 0),
        (format!("[{ADDED},{{\"json\":{ADDED}}}]"), &["calls", "calls"], 0),
        (format!("{{\"batch\":[{ADDED},{bad}]}}"), &["calls", "event_not_defined"], 3),
        (lines, &["calls", "event_not_defined", "calls", "calls", "invalid_json"], 3),
        (r#"{"type":"screen","userId":"u"}"#.to_owned(), &["type_not_mapped"], 0),
        (r#"{"type":"delete","userId":"u"}"#.to_owned(), &["user_deleted"], 0),
        (r#"{"batch":[{"type":"delete","userId":"u"}]}"#.to_owned(), &["unsupported_event_type"], 3),
        (String::new(), &["invalid_json"], 3),
        ("{\"type\":".to_owned(), &["invalid_json"], 3),
        ("[]".to_owned(), &["empty_batch"], 3),
        ("7".to_owned(), &["wrong_shape"], 3),
        (format!("{{\"type\":\"page\",\"userId\":\"{}\"}}", "x".repeat(1 << 20)), &["too_large"], 3),
    ] {
        let output = run(directory.path(), &["translate", "--json"], &input);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        let told = json(&output);
        let found: Vec<_> = told["events"].as_array().unwrap().iter().collect();
        let found: Vec<_> = found
            .iter()
            .map(|event| event["reason"].as_str().or(event["result"].as_str()).unwrap())
            .collect();
        assert_eq!(found, results);
    }
}

#[test]
fn a_configuration_decides_and_no_token_is_shown() {
    let directory = with_config();
    std::fs::write(directory.path().join("event.json"), ADDED).unwrap();
    let acme = ["translate", "--config", "config.toml", "--organization", "acme", "event.json"];
    let output = run(directory.path(), &acme, "");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let told = text(&output.stdout);
    for part in [
        "organization acme, profile standard",
        "\"Product Added\", from the organization; drop note",
        "/rest/v1/learn/event?org_token=***&token=***",
        r#""eventName": "add_to_cart""#,
    ] {
        assert!(told.contains(part), "{part:?} is not in\n{told}");
    }
    assert!(
        !told.contains("made-up-org") && !told.contains("made-up-second") && !told.contains("\"x\""),
        "{told}"
    );

    let event = r#"{"event":"Cart Viewed","userId":"u","integrations":{"All":false}}"#;
    let told = |arguments: &[&str]| {
        let output = run(
            directory.path(),
            &[&["translate", "--json", "--config", "config.toml"], arguments].concat(),
            event,
        );
        json(&output)["events"][0].clone()
    };
    let bazaar = told(&["--organization", "bazaar", "--path", "/v1/track"]);
    assert_eq!(bazaar["reason"], "filtered_by_integrations_object");
    let webhook = told(&["--organization", "acme", "--path", "/webhook/acme"]);
    assert_eq!(webhook["reason"], "unsupported_event_type", "a webhook's path names no type");
    let other = told(&["--organization", "acme", "--path", "/v1/t"]);
    assert_eq!(other["reason"], "filtered_by_integrations_object");
    let profile = told(&["--organization", "bazaar", "--profile", "guide", "--path", "/v1/page"]);
    assert_eq!(profile["result"], "filtered");
}

#[test]
fn what_cannot_be_meant_is_said() {
    let directory = with_config();
    for (arguments, message) in [
        (
            &["translate", "--config", "config.toml"][..],
            "which organization? Say --organization acme or bazaar",
        ),
        (
            &["translate", "--config", "config.toml", "--organization", "acne"],
            "there is no organization acne; there is acme or bazaar",
        ),
        (&["translate", "--organization", "acme"], "there is no organization acme; there is none"),
        (&["translate", "--profile", "gide"], "no such profile; there is standard"),
        (&["translate", "--path", "/metrics"], "expected a path such as /webhook"),
        (&["translate", "nothing.json"], "nothing.json: No such file"),
        (&["profiles", "show", "gide"], "no such profile"),
    ] {
        let output = run(directory.path(), arguments, ADDED);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(message), "{arguments:?}: {}", text(&output.stderr));
    }
}

#[test]
fn a_table_is_shown_with_the_layer_of_each_part() {
    let directory = with_config();
    let show = |arguments: &[&str]| {
        let output = run(directory.path(), &[&["profiles", "show"], arguments].concat(), "");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        output
    };
    let table = json(&show(&["--config", "config.toml", "--organization", "acme", "--json"]));
    assert_eq!(table["organization"], "acme");
    assert_eq!(table["switches"]["event_names"]["layer"], "organization_defaults");
    assert_eq!(table["switches"]["event_names"]["value"], "snake");
    assert_eq!(table["switches"]["contactless"]["layer"], "profile");
    let row = |name: &str| table["rows"].as_array().unwrap().iter().find(|row| row["name"] == name).unwrap();
    assert_eq!(row("Product Added")["layer"], "organization");
    assert_eq!(row("Product Added")["calls"][0]["event"], "add_to_cart");
    assert_eq!(row("Product Added")["also"][0], "Added Product");
    assert_eq!(row("Product Added")["drop"][0], "note");
    assert_eq!(row("Order Completed")["calls"][1]["requires"][0], "order_id");
    assert_eq!(row("screen")["calls"].as_array().unwrap().len(), 0);
    assert!(row("Cart Viewed").get("calls").is_none(), "those of otherwise");

    let told = text(&show(&["classic"]).stdout);
    assert!(
        told.starts_with("Profile classic.\n") && told.contains("event \"buy\", value classic_product_ids"),
        "{told}"
    );
    let told = text(&show(&["--config", "config.toml", "--organization", "bazaar"]).stdout);
    assert!(told.starts_with("Profile classic, as organization bazaar has it.\n"), "{told}");
    let list = text(&run(directory.path(), &["profiles", "list"], "").stdout);
    assert_eq!(list.lines().count(), 3, "{list}");
}
