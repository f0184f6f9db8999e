//! One shape of `--json`: a list is lines of objects, one thing is one line with one object, an error is one object on
//! standard error.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::manners::commands;
use crate::service::{PATIENCE, Service, program};

async fn run(directory: &Path, arguments: &[&str]) -> Output {
    let output =
        program(directory).env("WIGZO__QUEUE__PATH", directory.join("queue")).args(arguments).output();
    tokio::time::timeout(PATIENCE, output).await.expect("it does not end").unwrap()
}

fn objects(bytes: &[u8], what: &[&str]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    let read = |line: &str| -> Value {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{what:?}: {error}: {text}"))
    };
    let objects: Vec<Value> = text.lines().map(read).collect();
    assert!(objects.iter().all(Value::is_object), "{what:?}: {text}");
    objects
}

/// How many objects a command prints.
#[derive(Clone, Copy, PartialEq)]
enum Shape {
    One,
    Lines(usize),
}
use Shape::{Lines, One};

/// In this order. `URL` is the admin API, `ADMIN` the flags that reach it.
const TABLE: &[(&str, Shape)] = &[
    ("check --sandbox", One),
    ("doctor --offline --config config.toml", One),
    ("translate event.json", One),
    ("profiles list", Lines(3)),
    ("profiles show guide", One),
    ("organizations list --config shops.toml", Lines(2)),
    ("organizations show acme --config shops.toml", One),
    ("organizations add other --config shops.toml --org-token-file token", One),
    ("organizations disable acme --config shops.toml", One),
    ("organizations enable acme --config shops.toml", One),
    ("organizations rotate-key acme --config shops.toml", One),
    ("organizations rotate-key acme --drop-old --yes --config shops.toml", One),
    ("events list ADMIN", Lines(3)),
    ("events show 1 ADMIN", One),
    ("dead-letters list ADMIN", Lines(3)),
    ("dead-letters show 1 ADMIN", One),
    ("dead-letters replay 1 --dry-run ADMIN", One),
    ("dead-letters discard 2 --why test --yes ADMIN", One),
    ("dead-letters import letters.jsonl ADMIN", One),
    ("requests refused ADMIN", Lines(1)),
    ("delivery list ADMIN", Lines(1)),
    ("delivery pause default ADMIN", One),
    ("dead-letters replay 1 ADMIN", One),
    ("events retry 1 ADMIN", One),
    ("delivery retry --organization default ADMIN", One),
    ("delivery resume default ADMIN", One),
    ("delivery test default ADMIN", One),
    ("delivery drain ADMIN", One),
    ("backup copy.sqlite", One),
    ("export queue.jsonl --history", One),
    ("restore copy.sqlite --waiting hold --config elsewhere.toml", One),
    ("import queue.jsonl --from-copy --config elsewhere.toml", One),
];

#[tokio::test]
async fn every_command_prints_one_shape_of_json() {
    let service = Service::sandbox().config("[delivery]\nquick_retries = 0\n").start().await;
    service.faults(&json!([{ "status": 400, "next": 3 }])).await;
    for n in 0..3 {
        let event = json!({ "userId": "user-1", "event": "Seat Chosen", "messageId": format!("m-{n}") });
        assert_eq!(service.post("/v1/track", &event.to_string()).await.status, 200);
    }
    service.settled(3).await;
    assert_eq!(service.post("/webhook/nobody", "{}").await.status, 401);
    let at = service.directory.path();
    let shop = |name: &str| {
        format!(
            "[organizations.{name}]\norg_token = \"made-up-token-{name}\"\nsource_keys = [\"wk_{name}\"]\n"
        )
    };
    std::fs::write(at.join("shops.toml"), shop("acme") + &shop("globex")).unwrap();
    std::fs::write(at.join("token"), "made-up-token-other").unwrap();
    std::fs::write(at.join("elsewhere.toml"), shop("default")).unwrap();
    std::fs::write(at.join("event.json"), r#"{"type":"track","userId":"u","event":"A"}"#).unwrap();
    std::fs::write(at.join("letters.jsonl"), "").unwrap();
    let mut tried = Vec::new();
    for (line, shape) in TABLE {
        let admin = format!("--url {}", service.private);
        let line = line.replace("ADMIN", &admin);
        let arguments: Vec<&str> = line.split(' ').chain(["--json"]).collect();
        let mut command = program(at);
        // A queue for what is restored and imported; the service goes on with its own.
        let elsewhere = line.contains("elsewhere.toml");
        let queue = if line.starts_with("restore") {
            "restored"
        } else if elsewhere {
            "imported"
        } else {
            "queue"
        };
        command.args(&arguments).env("WIGZO__QUEUE__PATH", at.join(queue));
        let output =
            tokio::time::timeout(PATIENCE, command.output()).await.expect("it does not end").unwrap();
        // What doctor finds on this machine is not the question.
        let is_done = output.status.success() || line.starts_with("doctor");
        assert!(is_done, "{line}: {output:?}");
        let printed = objects(&output.stdout, &arguments);
        match shape {
            One => assert_eq!(printed.len(), 1, "{line}: {printed:?}"),
            Lines(count) => assert_eq!(printed.len(), *count, "{line}: {printed:?}"),
        }
        objects(&output.stderr, &arguments);
        tried.push(line);
    }
    service.end().await;

    let mut missing = Vec::new();
    for command in commands().await.iter().filter(|it| *it != "help") {
        let help = run(Path::new("/"), &[command, "--help"]).await;
        let help = String::from_utf8(help.stdout).unwrap();
        let list =
            help.split("Commands:\n").nth(1).and_then(|list| list.split("\n\n").next()).unwrap_or_default();
        let is_name = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
        let parts: Vec<_> =
            list.lines().filter(is_name).filter_map(|line| line.split_whitespace().next()).collect();
        let mut all: Vec<Vec<&str>> =
            parts.iter().filter(|it| **it != "help").map(|it| vec![command.as_str(), *it]).collect();
        if all.is_empty() {
            all.push(vec![command.as_str()]);
        }
        for words in all {
            let help = run(Path::new("/"), &[&words[..], &["--help"]].concat()).await;
            let takes_json = String::from_utf8_lossy(&help.stdout).contains("--json");
            if takes_json && !tried.iter().any(|line| line.starts_with(&words.join(" "))) {
                missing.push(words.join(" "));
            }
        }
    }
    assert!(missing.is_empty(), "commands with --json that nobody tries: {missing:?}");
}

#[tokio::test]
async fn an_error_is_one_object() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    std::fs::write(at.join("bad.toml"), "[queue]\nmax_dsk = 5\n").unwrap();
    for (line, code, said) in [
        ("events list --json --url http://127.0.0.1:1", 1, "is the service running?"),
        ("organizations show nobody --json", 2, "there is no organization nobody"),
        ("check --json --config bad.toml", 2, "1 problem"),
        ("dead-letters discard 1 --why test --json", 2, "--yes"),
        ("dead-letters replay --json", 2, "say which dead letters"),
        ("dead-letters list --json --since tomorrow", 2, "--since"),
        ("events list --json --nonsense", 2, "--nonsense"),
        ("nonsense --json", 2, "nonsense"),
    ] {
        let arguments: Vec<&str> = line.split(' ').collect();
        let output = run(at, &arguments).await;
        assert_eq!(output.status.code(), Some(code), "{line}: {output:?}");
        let printed = objects(&output.stderr, &arguments);
        assert_eq!(printed.len(), 1, "{line}: {printed:?}");
        assert!(printed[0]["error"].as_str().unwrap().contains(said), "{line}: {printed:?}");
        assert_eq!(printed[0]["exit_code"], code, "{line}");
    }
}
