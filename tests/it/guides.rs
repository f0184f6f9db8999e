//! What the guides in `docs/` tell their readers to type does what they say.

use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use crate::service::{PATIENCE, Service};
use crate::skipped::skipped;

/// A guide's fenced blocks: language and text.
fn blocks(guide: &str) -> Vec<(String, String)> {
    let path = format!("{}/docs/{guide}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.split("\n```")
        .skip(1)
        .step_by(2)
        .map(|block| {
            let (language, text) = block.split_once('\n').unwrap();
            (language.to_owned(), text.to_owned())
        })
        .collect()
}

/// Runs a shell's lines. `None`, and a note, if one of the programs is not installed.
async fn shell(script: &str, programs: &[&str]) -> Option<Output> {
    for program in programs {
        let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().await.unwrap();
        if !found.status.success() {
            skipped("commands of the guides in docs/", &format!("{program} is not installed"));
            return None;
        }
    }
    let run = Command::new("sh").args(["-ec", script]).kill_on_drop(true).output();
    Some(
        tokio::time::timeout(PATIENCE, run)
            .await
            .unwrap_or_else(|_| panic!("it does not end: {script}"))
            .unwrap(),
    )
}

/// Each request of the setup guide gets the reply that stands below it.
#[tokio::test]
async fn the_requests_of_the_setup_guide_are_answered_as_it_says() {
    let blocks = blocks("segment-setup.md");
    let (_, organization) = blocks.iter().find(|(language, _)| language == "toml").expect("an organization");
    let service = Service::sandbox().config(organization).start().await;
    let mut answered = 0;
    for pair in blocks.windows(2) {
        let [(from, script), (to, expected)] = pair else { continue };
        if from != "sh" || to != "json" {
            continue;
        }
        let script = script.replace("https://HOST", &service.public);
        let Some(output) = shell(&script, &["curl", "openssl"]).await else { return };
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let reply: Value =
            serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {script}\n{output:?}"));
        assert_eq!(reply, serde_json::from_str::<Value>(expected).unwrap(), "{script}");
        answered += 1;
    }
    assert_eq!(answered, 3, "the guide's requests");
    let ledger = service.settled(2).await;
    assert_eq!(ledger["delivered"], 2, "{ledger}");
    service.end().await;
}

/// The backup that the operations guide tells to make: whole, of one moment, while events come in, and it can be served.
#[tokio::test]
async fn the_backup_of_the_operations_guide_is_whole() {
    let blocks = blocks("operations.md");
    let (_, backup) =
        blocks.iter().find(|(_, text)| text.starts_with("sqlite3 ")).expect("the backup's command");
    let service = Service::sandbox().start().await;
    service.faults(&serde_json::json!([{"status": 503}])).await;
    let post = async |first: usize| {
        for n in first..first + 200 {
            let event = format!(r#"{{"type":"track","event":"A","userId":"u{n}","messageId":"m{n}"}}"#);
            assert_eq!(service.post("/webhook", &event).await.status, 200);
        }
    };
    post(0).await;
    let restored = tempfile::tempdir().unwrap();
    let queue = service.directory.path().join("queue");
    std::fs::create_dir(restored.path().join("queue")).unwrap();
    let script = backup
        .replace("/var/lib/wigzo-destination", queue.to_str().unwrap())
        .replace("/var/backups", restored.path().join("queue").to_str().unwrap());
    let made = async {
        // Amid the second two hundred.
        tokio::time::sleep(Duration::from_millis(20)).await;
        shell(&script, &["sqlite3"]).await
    };
    let ((), made) = tokio::join!(post(200), made);
    let Some(made) = made else { return };
    assert!(made.status.success(), "{made:?}");
    let ledger = service.ledger().await;
    assert_eq!(ledger["accepted"], 400, "the service went on: {ledger}");
    service.kill().await;

    let again = Service::sandbox().on(restored.into()).start().await;
    let ledger = again.settled(200).await;
    let accepted = ledger["accepted"].as_u64().unwrap();
    assert!((200..=400).contains(&accepted), "{ledger}");
    assert_eq!(ledger["delivered"], accepted, "{ledger}");
    assert_eq!(again.calls("").await.len() as u64, accepted);
    again.end().await;
}
