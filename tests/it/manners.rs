//! The manners of the commands: each teaches by example, ends with a code that says what to do, prints JSON where a script
//! asks for it, and uses colours and bars on a terminal only.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::service::{PATIENCE, Service, program};
use crate::skipped::skipped;

async fn run(directory: &Path, arguments: &[&str]) -> Output {
    let output = program(directory).args(arguments).output();
    tokio::time::timeout(PATIENCE, output).await.expect("it does not end").unwrap()
}

async fn said(arguments: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let output = run(directory.path(), arguments).await;
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The commands, as the help lists them.
pub async fn commands() -> Vec<String> {
    let help = said(&["--help"]).await;
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let is_name = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
    list.lines().filter(is_name).map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn every_command_teaches_by_example() {
    let commands = commands().await;
    assert!(commands.len() > 12, "{commands:?}");
    for command in commands.iter().filter(|it| *it != "help") {
        let help = said(&[command, "--help"]).await;
        let examples = help
            .split("\nExamples:\n")
            .nth(1)
            .unwrap_or_else(|| panic!("{command} has no examples:\n{help}"));
        assert!(examples.contains(&format!("wigzo-destination {command}")), "{command}: {examples}");
        assert!(command == "completions" || help.contains("Exit codes:"), "{command} says no exit codes");
    }
}

/// What is typed, the configuration it has, and what it ends with.
const CODES: &[(&[&str], &str, i32)] = &[
    (
        &["check", "--config", "c.toml"],
        "[queue]\nmax_disk = \"1 GiB\"\n[organizations.a]\norg_token = \"made-up-token-a\"\n",
        0,
    ),
    (&["check", "--config", "c.toml"], "[queue]\nmax_dsk = \"1 GiB\"\n", 2),
    (&["check", "--config", "missing.toml"], "", 2),
    (&["serve", "--config", "c.toml"], "[queue]\nmax_disk = 5\n", 2),
    (
        &["serve", "--sandbox", "--config", "c.toml"],
        "[queue]\npath = \"c.toml/queue\"\n[ingress]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[sandbox]\nlisten = \"127.0.0.1:0\"\n",
        1,
    ),
    (&["sandbox", "--config", "c.toml"], "[sandbox]\nlisten = \"192.0.2.1:1\"\n", 1),
    (&["health", "--url", "http://127.0.0.1:1/readyz"], "", 1),
    (&["health", "--url", "nonsense"], "", 2),
    (&["print-config", "--default"], "", 0),
    (&["print-config", "--config", "c.toml"], "nonsense", 2),
    (&["translate", "c.toml"], "{\"type\":\"track\",\"userId\":\"u\",\"event\":\"A\"}", 0),
    (&["translate", "c.toml"], "{\"type\":\"track\"}", 3),
    (&["profiles", "show", "nonsense"], "", 2),
    (
        &["doctor", "--offline", "--config", "c.toml"],
        "[ingress]\nlisten = \"192.0.2.1:1\"\n[organizations.a]\norg_token = \"made-up-token-a\"\nsource_keys = [\"wk\"]\n",
        1,
    ),
    (&["doctor", "--offline", "--config", "c.toml"], "nonsense", 2),
    (&["dead-letters", "list", "--url", "http://127.0.0.1:1"], "", 1),
    (&["dead-letters", "replay", "--url", "http://127.0.0.1:1", "--limits"], "", 2),
    (&["events", "list", "--url", "http://127.0.0.1:1"], "", 1),
    (&["events", "list", "--limit", "nonsense"], "", 2),
    (&["requests", "refused", "--url", "http://127.0.0.1:1"], "", 1),
    (&["requests", "refused", "--limit", "nonsense"], "", 2),
    (&["delivery", "list", "--url", "http://127.0.0.1:1"], "", 1),
    (&["delivery", "pause"], "", 2),
    (&["organizations", "list"], "", 0),
    (&["organizations", "show", "nobody"], "", 2),
    (&["backup", "copy.sqlite"], "", 1),
    (&["backup", "c.toml"], "", 1),
    (&["restore", "c.toml"], "", 2),
    (&["restore", "--waiting", "hold", "c.toml"], "no database", 2),
    (&["restore", "--waiting", "hold", "--into", "new", "c.toml"], "no database", 1),
    (&["export", "out.jsonl"], "", 1),
    (&["import", "missing.jsonl"], "", 2),
    (&["import", "c.toml"], "no export\n", 1),
    (&["man", "--into", "/no/such/directory"], "", 1),
    (&["completions", "tcsh"], "", 2),
    (&["nonsense"], "", 2),
    (&[], "", 2),
    (&["--version"], "", 0),
];

#[tokio::test]
async fn every_command_ends_with_the_code_that_the_help_tells() {
    for (arguments, config, code) in CODES {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("c.toml"), config).unwrap();
        let output = run(directory.path(), arguments).await;
        assert_eq!(output.status.code(), Some(*code), "{arguments:?}: {output:?}");
        if *code != 0 && arguments.first() != Some(&"doctor") {
            assert!(!output.stderr.is_empty(), "{arguments:?} says nothing");
        }
    }
    let tried: std::collections::BTreeSet<_> =
        CODES.iter().filter_map(|(arguments, ..)| arguments.first()).collect();
    for command in commands().await.iter().filter(|it| *it != "help") {
        assert!(tried.contains(&command.as_str()), "{command} is not in the table");
    }
}

#[tokio::test]
async fn whatever_lists_prints_json_for_scripts() {
    let service = Service::sandbox().start().await;
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("bad.toml"), "[queue]\nmax_dsk = 5\n").unwrap();
    let json = async |arguments: &[&str], code: i32| -> Value {
        let output = run(directory.path(), arguments).await;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
    };
    let good = json(&["check", "--json", "--sandbox"], 0).await;
    assert_eq!((&good["good"], &good["organizations"][0]), (&Value::Bool(true), &Value::from("default")));
    let small = "[delivery]\nmax_in_flight = 1\n[organizations.a]\norg_token = \"made-up-token-a\"\n";
    std::fs::write(directory.path().join("small.toml"), small).unwrap();
    let odd = json(&["check", "--json", "--config", "small.toml"], 0).await;
    assert_eq!(odd["warnings"][0]["key"], "delivery.max_in_flight", "{odd}");
    let bad = json(&["check", "--json", "--config", "bad.toml"], 2).await;
    assert_eq!(
        (&bad["good"], &bad["problems"][0]["place"]),
        (&Value::Bool(false), &Value::from("bad.toml:2"))
    );
    assert_eq!(bad["problems"][0]["key"], "queue.max_dsk");
    std::fs::write(directory.path().join("c.toml"), "[organizations.a]\norg_token = \"made-up-token-a\"\n")
        .unwrap();
    assert!(
        json(&["organizations", "list", "--json", "--config", "c.toml"], 0)
            .await
            .to_string()
            .contains("\"a\"")
    );
    let profiles = run(directory.path(), &["profiles", "list", "--json"]).await;
    let first = profiles.stdout.split(|byte| *byte == b'\n').next().unwrap();
    assert_eq!(serde_json::from_slice::<Value>(first).unwrap()["name"], "standard");
    assert!(json(&["profiles", "show", "--json"], 0).await.is_object());
    let doctor = json(&["doctor", "--json", "--offline"], 2).await;
    assert!(doctor["findings"].as_array().unwrap().iter().all(|it| it["check"].is_string()), "{doctor}");
    let healthy = json(&["health", "--url", &format!("{}/readyz", service.public)], 0).await;
    assert!(healthy.is_object());
    service.post("/v1/track", r#"{"userId":"u","event":"A","messageId":"m"}"#).await;
    service.settled(1).await;
    service.faults(&serde_json::json!([{ "status": 400 }])).await;
    service.post("/v1/track", r#"{"userId":"u","event":"A","messageId":"n"}"#).await;
    service.settled(2).await;
    let letters = json(&["dead-letters", "list", "--json", "--url", &service.private], 0).await;
    assert_eq!(letters["message_id"], "n");
    service.end().await;
}

// === terminals ===

/// Runs a shell's line on a terminal: all that it shows.
async fn on_a_terminal(directory: &Path, line: &str, env: &[(&str, &str)]) -> Option<String> {
    let mut script = tokio::process::Command::new("script");
    script
        .args(["-qefc", line, "/dev/null"])
        .current_dir(directory)
        .env("TERM", "xterm-256color")
        .env_remove("NO_COLOR");
    script.env("PROGRAM", env!("CARGO_BIN_EXE_wigzo-destination")).envs(env.iter().copied());
    script.stdin(std::process::Stdio::null()).kill_on_drop(true);
    if let Ok(output) = tokio::time::timeout(PATIENCE, script.output()).await.expect("it does not end") {
        return Some(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    skipped("colours and bars on a terminal", "script (util-linux) is not installed");
    None
}

const ESCAPE: char = '\u{1b}';

#[tokio::test]
async fn colours_are_for_terminals_and_for_those_who_want_them() {
    let directory = tempfile::tempdir().unwrap();
    let listen: Vec<_> =
        ["INGRESS", "ADMIN", "SANDBOX"].iter().map(|it| format!("WIGZO__{it}__LISTEN=127.0.0.1:0")).collect();
    let serve = format!("{} timeout -s INT 2 $PROGRAM serve --sandbox", listen.join(" "));
    for (line, wanted) in
        [("$PROGRAM --help", "Usage"), ("$PROGRAM serv", "similar"), (serve.as_str(), "serving")]
    {
        let Some(shown) = on_a_terminal(directory.path(), line, &[]).await else { return };
        assert!(
            shown.contains(wanted) && shown.contains(ESCAPE),
            "{line}: no colours on a terminal: {shown}"
        );
        let plain = on_a_terminal(directory.path(), line, &[("NO_COLOR", "1")]).await.unwrap();
        assert!(plain.contains(wanted) && !plain.contains(ESCAPE), "{line}: NO_COLOR is not obeyed: {plain}");
    }
}

#[tokio::test]
async fn bars_are_for_terminals() {
    let service = Service::sandbox().start().await;
    for n in 0..4 {
        let batch: Vec<_> = (0..500)
            .map(|k| serde_json::json!({ "type": "track", "userId": "u", "event": "A", "messageId": format!("{n}-{k}") }))
            .collect();
        let reply = service.post("/v1/batch", &serde_json::json!({ "batch": batch }).to_string()).await;
        assert_eq!(reply.status, 200);
    }
    let queue = service.directory.path().join("queue");
    let env = [("WIGZO__QUEUE__PATH", queue.to_str().unwrap())];
    let directory = service.directory.path();
    // Slow enough that there is something to see.
    let line = |file: &str| format!("$PROGRAM backup --rate '4 MiB' {file}");
    let Some(shown) = on_a_terminal(directory, &line("a.sqlite"), &env).await else { return };
    assert!(shown.contains('%') && shown.contains("left") && shown.contains("sound"), "{shown:?}");
    let piped = on_a_terminal(directory, &format!("{} 2>&1 | cat", line("b.sqlite")), &env).await.unwrap();
    assert!(!piped.contains('%') && !piped.contains(ESCAPE) && piped.contains("sound"), "{piped:?}");
    service.end().await;
}
