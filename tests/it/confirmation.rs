//! What cannot be undone is asked for on a terminal, and needs `--yes` anywhere else.

use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::service::{PATIENCE, Service, program};
use crate::skipped::skipped;

async fn run(directory: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = program(directory).args(arguments).output();
    told(&tokio::time::timeout(PATIENCE, output).await.expect("it does not end").unwrap())
}

fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Runs a shell's line on a terminal on which somebody types this answer: the exit code and all that is shown.
async fn answered(directory: &Path, line: &str, answer: &str) -> Option<(Option<i32>, String)> {
    let mut script = tokio::process::Command::new("script");
    script
        .args(["-qefc", line, "/dev/null"])
        .current_dir(directory)
        .env("TERM", "dumb")
        .env("HOME", directory);
    script.env("PROGRAM", env!("CARGO_BIN_EXE_wigzo-destination")).kill_on_drop(true);
    script.stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(mut child) = script.spawn() else {
        skipped("questions on a terminal", "script (util-linux) is not installed");
        return None;
    };
    // Held open: the end of the input would end the terminal.
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(format!("{answer}\n").as_bytes()).await.unwrap();
    stdin.flush().await.unwrap();
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("it hangs").unwrap();
    drop(stdin);
    Some((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

async fn with_dead_letters(count: u64) -> Service {
    let service = Service::sandbox().config("[delivery]\nquick_retries = 0\n").start().await;
    service.faults(&json!([{ "status": 400 }])).await;
    for n in 0..count {
        let event = json!({ "userId": "user-1", "event": "Seat Chosen", "messageId": format!("m-{n}") });
        assert_eq!(service.post("/v1/track", &event.to_string()).await.status, 200);
    }
    service.settled(count).await;
    service
}

#[tokio::test]
async fn dead_letters_are_discarded_by_those_who_said_yes() {
    let service = with_dead_letters(3).await;
    let at = service.directory.path();
    let left = async || service.private("/api/stats").await.json()["dead_letters"]["default"].clone();
    let discard = ["dead-letters", "discard", "--why", "made by a test", "--url", &service.private];

    for choice in [&["--all"][..], &["1", "2"], &["--reason", "wigzo_400"]] {
        let (code, out, err) = run(at, &[&discard[..], choice].concat()).await;
        assert_eq!((code, out.as_str()), (Some(2), ""), "{choice:?}: {err}");
        assert!(err.contains("discarding dead letters cannot be undone") && err.contains("--yes"), "{err}");
    }
    assert_eq!(left().await, 3);
    let (code, out, err) = run(at, &[&discard[..], &["--all", "--dry-run"]].concat()).await;
    assert_eq!((code, out.as_str()), (Some(0), "Would discard 3 dead letters.\n"), "{err}");

    let line =
        format!("$PROGRAM dead-letters discard --all --why 'made by a test' --url {}", service.private);
    let Some((code, shown)) = answered(at, &line, "n").await else { return };
    assert!(shown.contains("This discards 3 dead letters") && shown.contains("Nothing was done"), "{shown}");
    assert_eq!((code, left().await), (Some(1), json!(3)), "{shown}");
    let (code, shown) = answered(at, &line, "y").await.unwrap();
    assert!(code == Some(0) && shown.contains("3 dead letters discarded."), "{code:?}: {shown}");
    let (code, out, err) = run(at, &[&discard[..], &["--all", "--yes"]].concat()).await;
    assert_eq!((code, out.as_str()), (Some(0), "0 dead letters discarded.\n"), "{err}");
    service.end().await;
}

/// More than one step: the totals are those of all steps.
#[tokio::test]
async fn a_dry_run_counts_all_and_changes_nothing() {
    let service = Service::sandbox().config("[delivery]\nquick_retries = 0\n").start().await;
    service.faults(&json!([{ "status": 400 }])).await;
    for n in 0..3 {
        let batch: Vec<_> = (0..500)
            .map(|k| json!({ "type": "track", "userId": format!("u-{k}"), "event": "A", "messageId": format!("m-{n}-{k}") }))
            .collect();
        assert_eq!(service.post("/v1/batch", &json!({ "batch": batch }).to_string()).await.status, 200);
    }
    service.settled(1_500).await;
    let at = service.directory.path();
    let (code, out, err) =
        run(at, &["dead-letters", "replay", "--all", "--dry-run", "--url", &service.private]).await;
    assert_eq!((code, out.as_str()), (Some(0), "Would replay 1500 dead letters.\n"), "{err}");
    assert!(!err.contains("replayed") && err.contains("counted so far"), "{err}");
    let numbers: Vec<String> = (1..=1_200).map(|number| number.to_string()).collect();
    let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
    let discard = ["dead-letters", "discard", "--why", "made by a test", "--yes", "--url", &service.private];
    let (code, out, err) = run(at, &[&discard[..], &numbers].concat()).await;
    assert_eq!((code, out.as_str()), (Some(0), "1200 dead letters discarded.\n"), "{err}");
    service.end().await;
}

#[tokio::test]
async fn keys_and_queues_are_given_up_by_those_who_said_yes() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let config = "[organizations.acme]\norg_token = \"made-up-token-a\"\nsource_keys = [\"wk_a\", \"wk_b\", \"wk_c\"]\n";
    std::fs::write(at.join("config.toml"), config).unwrap();
    let line = "$PROGRAM organizations rotate-key acme --drop-old --config config.toml";
    let Some((code, shown)) = answered(at, line, "").await else { return };
    assert!(shown.contains("This drops 2 of the 3 source keys of acme"), "{shown}");
    assert_eq!((code, std::fs::read_to_string(at.join("config.toml")).unwrap().as_str()), (Some(1), config));
    let (code, shown) = answered(at, line, "yes").await.unwrap();
    assert!(code == Some(0) && shown.contains("2 old source keys dropped"), "{code:?}: {shown}");
    assert!(std::fs::read_to_string(at.join("config.toml")).unwrap().contains("source_keys = [\"wk_c\"]"));

    let service = with_dead_letters(1).await;
    let at = service.directory.path().to_owned();
    let kept = std::sync::Arc::clone(&service.directory);
    service.end().await;
    let line = "WIGZO__QUEUE__PATH=queue $PROGRAM export --seal out.jsonl";
    let (code, out, err) = run(&at, &["export", "--seal", "out.jsonl"]).await;
    assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
    let (code, shown) = answered(&at, line, "n").await.unwrap();
    let queue = std::fs::canonicalize(kept.path()).unwrap().join("queue");
    let wanted = format!(
        "0 waiting events and 1 dead letter to out.jsonl, and seals the queue in {}",
        queue.display()
    );
    assert!(code == Some(1) && shown.contains(&wanted), "{code:?}: {wanted}: {shown}");
    assert!(!at.join("out.jsonl").exists() && !queue.join("sealed").exists());
    let (code, shown) = answered(&at, line, "y").await.unwrap();
    assert!(code == Some(0) && queue.join("sealed").exists(), "{code:?}: {shown}");
}
