//! Nobody but its owner reads a queue, its copies and its exports, whatever the umask and whoever prepared their names.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use crate::service::{PATIENCE, Service, program};

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// The names in a directory.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

fn assert_private(queue: &Path) {
    assert_eq!(mode(queue), 0o700, "{}", queue.display());
    for name in names(queue) {
        assert_eq!(mode(&queue.join(&name)), 0o600, "{name}");
    }
}

#[tokio::test]
async fn the_queue_is_its_owners_alone_and_an_older_one_becomes_so() {
    let service = Service::sandbox().start().await;
    let event = json!({ "userId": "user-42", "event": "Seat Chosen", "messageId": "m-1" }).to_string();
    assert_eq!(service.post("/v1/track", &event).await.status, 200);
    let paused = service.operate("/api/organizations/default/pause", &json!({ "why": "stock-taking" })).await;
    assert_eq!(paused.status, 200, "{paused:?}");
    let directory = Arc::clone(&service.directory);
    let queue = directory.path().join("queue");
    let expected = ["held.json", "lock", "queue.sqlite", "queue.sqlite-shm", "queue.sqlite-wal", "reading"];
    assert_eq!(names(&queue), expected);
    assert_private(&queue);
    assert!(!service.log().contains("other users had access"), "{}", service.log());
    // What a crash leaves has a log.
    drop(service.kill().await);

    set_mode(&queue, 0o755);
    for name in names(&queue) {
        set_mode(&queue.join(name), 0o644);
    }
    let service = Service::sandbox().on(directory).start().await;
    assert_private(&queue);
    let log = service.log();
    for name in ["queue", "held.json", "lock", "queue.sqlite", "queue.sqlite-wal", "reading"] {
        let told = log.lines().any(|line| {
            line.contains("other users had access to the queue") && line.contains(&format!("/{name}\""))
        });
        assert!(told, "{name}: {log}");
    }
    service.end().await;
}

#[tokio::test]
async fn a_backup_and_an_export_do_not_follow_what_somebody_has_prepared() {
    let service = Service::sandbox().start().await;
    let directory = service.directory.path();
    let victim = directory.join("victim");
    fs::write(&victim, "somebody's").unwrap();
    for command in ["backup", "export"] {
        for prepared in ["link", "file"] {
            let file = directory.join(format!("{command}-{prepared}"));
            let partial = directory.join(format!("{command}-{prepared}.partial"));
            if prepared == "link" {
                symlink(&victim, &partial).unwrap();
            } else {
                fs::write(&partial, "prepared").unwrap();
                set_mode(&partial, 0o666);
            }
            let output = program(directory)
                .args([command, file.to_str().unwrap()])
                .env("WIGZO__QUEUE__PATH", directory.join("queue"))
                .env("WIGZO_ORG_TOKEN", "org-token-acme-1")
                .output();
            let output = tokio::time::timeout(PATIENCE, output).await.expect("the command hangs").unwrap();
            assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(mode(&file), 0o600, "{command} over a prepared {prepared}");
            assert!(fs::symlink_metadata(&file).unwrap().is_file(), "{command} over a prepared {prepared}");
            assert_eq!(fs::read(&victim).unwrap(), b"somebody's", "{command} over a prepared {prepared}");
        }
    }
    service.end().await;
}
