//! The OpenAPI document of the private side: it is what was agreed, the router does what it says, and a fuzzer that reads
//! it finds nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::python;
use crate::service::{Service, Setup};
use crate::skipped::skipped;

const TOKEN: &str = "made-up-token-of-a-fuzzer";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[tokio::test]
async fn the_document_is_the_one_that_was_agreed() {
    let service = Service::sandbox().start().await;
    let document = format!("{:#}\n", service.private("/api/openapi.json").await.json());
    let golden = root().join("tests/golden/private-openapi.json");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, &document).unwrap();
    }
    assert!(
        fs::read_to_string(&golden).unwrap_or_default() == document,
        "tests/golden/private-openapi.json is stale: look at what has changed with `git diff` after\n    \
         UPDATE_GOLDEN=1 cargo test --test it private_document"
    );
    service.end().await;
}

#[tokio::test]
async fn the_router_takes_what_the_document_says_and_nothing_else() {
    let service = Service::sandbox().start().await;
    let document = service.private("/api/openapi.json").await.json();
    let mut seen = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let address = path.replace("{number}", "1").replace("{name}", "default");
        let documented: BTreeSet<String> =
            item.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            seen += 1;
            let url = format!("{}{address}", service.private);
            let request = service.client().request(method.parse().unwrap(), url);
            let reply = service.send(request.header("content-type", "application/json").body("{}")).await;
            if documented.contains(method) {
                let known = &item[method.to_lowercase()]["responses"][reply.status.to_string()];
                assert!(known.is_object(), "{method} {path}: {reply:?}");
                assert_ne!(reply.status, 405, "{method} {path}");
            } else {
                assert_eq!(reply.status, 405, "{method} {path}: {reply:?}");
                let allowed = reply.headers["allow"].to_str().unwrap().split(',');
                let allowed: BTreeSet<String> = allowed.map(|method| method.trim().to_owned()).collect();
                assert_eq!(allowed, documented, "{method} {path}");
            }
        }
    }
    assert!(seen > 100, "{seen}");
    service.end().await;
}

fn service(directory: &Path) -> Setup {
    let file = directory.join("tokens");
    fs::write(&file, format!("operate fuzzer {TOKEN}\n")).unwrap();
    Service::sandbox().env("WIGZO__ADMIN__TOKENS_FILE", &file.display().to_string())
}

/// It sends what the document allows and what it forbids, and holds the answers against it.
#[tokio::test]
async fn a_fuzzer_finds_no_answer_that_is_not_documented() {
    let check = "schemathesis against /api/openapi.json";
    let program = match tokio::task::spawn_blocking(|| python::programs("schemathesis")).await.unwrap() {
        Ok(programs) => programs.join("schemathesis"),
        Err(reason) => return skipped(check, &reason),
    };
    let directory = tempfile::tempdir().unwrap();
    let service = service(directory.path()).start().await;
    service.faults(&json!([{ "event_name": "Refused", "status": 400 }])).await;
    for (id, name) in [("a", "Seat Chosen"), ("b", "Refused"), ("c", "Refused")] {
        let event = json!({ "userId": "user-1", "event": name, "messageId": id });
        assert_eq!(service.post("/v1/track", &event.to_string()).await.status, 200);
    }
    let run = Command::new(program)
        .current_dir(service.directory.path())
        .arg("--config-file")
        .arg(root().join("tests/support/schemathesis.toml"))
        .args(["run", &format!("{}/api/openapi.json", service.private)])
        .args(["--header", &format!("Authorization: Bearer {TOKEN}")])
        // It knows no lines of JSON.
        .args([
            "--exclude-method",
            "HEAD",
            "--exclude-operation-id",
            "import",
            "--exclude-operation-id",
            "queue_import",
            "--max-time",
            "30",
        ])
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_mins(2), run).await.expect("it does not end").unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    assert!(output.status.success(), "{said}");

    let log = service.log();
    assert!(!log.contains("panicked") && !log.contains(TOKEN), "{log}");
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let done: BTreeSet<String> = lines
        .filter(|line| line["target"] == "audit" && line["result"] == "done")
        .filter_map(|line| Some(line["action"].as_str()?.to_owned()))
        .collect();
    // It got past the first door.
    for action in ["drain", "pause", "replay", "resume", "retry", "test_event"] {
        assert!(done.contains(action), "{done:?}\n{said}");
    }
    service.end().await;
}
