//! Directories that a service refuses, each with its reason and a way out; none of them is changed.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;

use crate::service::{PATIENCE, Service, program};

/// The directory of a service that has ended.
async fn used() -> Arc<tempfile::TempDir> {
    let service = Service::sandbox().start().await;
    let directory = Arc::clone(&service.directory);
    service.end().await;
    assert!(!directory.path().join("queue/queue.sqlite-wal").exists(), "an orderly end leaves no log");
    directory
}

#[tokio::test]
async fn a_newer_format_is_refused_and_left_alone() {
    let directory = used().await;
    let database = directory.path().join("queue/queue.sqlite");
    Connection::open(&database).unwrap().pragma_update(None, "user_version", 4_711).unwrap();
    let before = fs::read(&database).unwrap();
    let (code, said) = Service::sandbox().on(Arc::clone(&directory)).refused().await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("written by a newer version (format 4711, this one knows "), "{said}");
    assert!(said.contains("use that version"), "{said}");
    assert_eq!(fs::read(&database).unwrap(), before);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let directory = used().await;
    let database = directory.path().join("queue/queue.sqlite");
    fs::write(&database, "a text of somebody's\n".repeat(1_000)).unwrap();
    let before = fs::read(&database).unwrap();
    let (code, said) = Service::sandbox().on(Arc::clone(&directory)).refused().await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("queue.sqlite") && said.contains("not a database"), "{said}");
    assert_eq!(fs::read(&database).unwrap(), before);
}

#[tokio::test]
async fn a_directory_that_may_only_be_read_is_refused() {
    let directory = used().await;
    let directory = directory.path();
    // Nobody in particular, since an administrator may write everywhere; with a program that nobody may run.
    let own = directory.join("wigzo-destination");
    fs::copy(env!("CARGO_BIN_EXE_wigzo-destination"), &own).unwrap();
    let allow = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    allow(&own, 0o755);
    allow(directory, 0o755);
    for entry in fs::read_dir(directory.join("queue")).unwrap() {
        allow(&entry.unwrap().path(), 0o444);
    }
    allow(&directory.join("queue"), 0o555);
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    for queue in ["queue", "queue/new"] {
        let mut command = program(directory);
        let mut other = tokio::process::Command::new(&own);
        other.current_dir(directory).stderr(std::process::Stdio::piped()).kill_on_drop(true);
        let command = if is_root { other.uid(65_534) } else { &mut command };
        let child = command
            .args(["serve", "--sandbox"])
            .env("WIGZO__QUEUE__PATH", directory.join(queue))
            .env("WIGZO__INGRESS__LISTEN", "127.0.0.1:0")
            .env("WIGZO__ADMIN__LISTEN", "127.0.0.1:0")
            .env("WIGZO__SANDBOX__LISTEN", "127.0.0.1:0")
            .spawn()
            .unwrap();
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("Permission denied") && said.contains("this user may write to it"), "{said}");
    }
    allow(&directory.join("queue"), 0o755);
}
