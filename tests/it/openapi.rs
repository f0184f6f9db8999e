//! The OpenAPI document: it is what was agreed, the router does what it says, and a fuzzer that reads it finds nothing
//! else.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use crate::python;
use crate::service::{Service, Setup};
use crate::skipped::skipped;
use crate::wire::Request;

/// Everything that the document can tell is on.
fn service() -> Setup {
    Service::sandbox().config(
        r#"
        [ingress]
        key_header = "X-Source-Key"

        [organizations.acme]
        org_token = "made-up-token-acme"
        source_keys = ["wk_acme"]

        [organizations.open]
        org_token = "made-up-token-open"
        open = true
        "#,
    )
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[tokio::test]
async fn the_document_is_the_one_that_was_agreed() {
    let service = service().start().await;
    let reply = service.get("/openapi.json").await;
    assert_eq!((reply.status, &reply.headers["content-type"]), (200, &"application/json".parse().unwrap()));
    let document = format!("{:#}\n", reply.json());
    let golden = root().join("tests/golden/openapi.json");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, &document).unwrap();
    }
    assert!(
        fs::read_to_string(&golden).unwrap_or_default() == document,
        "tests/golden/openapi.json is stale: look at what has changed with `git diff` after\n    \
         UPDATE_GOLDEN=1 cargo test --test it openapi"
    );
    service.end().await;
}

#[tokio::test]
async fn the_router_takes_what_the_document_says_and_nothing_else() {
    let service = service().start().await;
    let document = service.get("/openapi.json").await.json();
    let mut seen = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let address = path.replace("{organization}", "open");
        let documented: BTreeSet<String> =
            item.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"] {
            seen += 1;
            let reply = service.wire(&Request::new(method, &address)).await;
            if documented.contains(method) {
                let known = &item[method.to_lowercase()]["responses"][reply.status.to_string()];
                let known = match known["$ref"].as_str() {
                    Some(place) => document.pointer(place.strip_prefix('#').unwrap()).unwrap(),
                    None => known,
                };
                assert!(known.is_object(), "{method} {path}: {reply:?}");
                assert!(!matches!(reply.status, 404 | 405), "{method} {path}: {reply:?}");
            } else {
                assert_eq!(reply.status, 405, "{method} {path}: {reply:?}");
                let allowed = reply.headers["allow"].to_str().unwrap().split(',');
                let allowed: BTreeSet<String> = allowed.map(|method| method.trim().to_owned()).collect();
                assert_eq!(allowed, documented, "{method} {path}");
            }
        }
    }
    assert!(seen > 100, "{seen}");
    for path in ["/", "/v1", "/v1/delete", "/webhooks/", "/webhook/a/b", "/openapi.yaml", "/Webhook"] {
        let reply = service.get(path).await;
        assert_eq!((reply.status, reply.json()["code"].as_str()), (404, Some("unknown_path")), "{path}");
    }
    service.end().await;
}

// === the fuzzer ===

/// It sends what the document allows and what it forbids, and holds the answers against it.
#[tokio::test]
async fn a_fuzzer_finds_no_answer_that_is_not_documented() {
    let check = "schemathesis against /openapi.json";
    let program = match tokio::task::spawn_blocking(|| python::programs("schemathesis")).await.unwrap() {
        Ok(programs) => programs.join("schemathesis"),
        Err(reason) => return skipped(check, &reason),
    };
    let service = service().start().await;
    let run = Command::new(program)
        .current_dir(service.directory.path())
        .arg("--config-file")
        .arg(root().join("tests/support/schemathesis.toml"))
        .args(["run", &format!("{}/openapi.json", service.public)])
        .args(["--header", "X-Source-Key: wk_acme"])
        // One path of each kind; the others are served alike.
        .args([
            "--include-path-regex",
            r"^/(webhook|webhook/\{organization\}|v1/(batch|track|alias)|readyz|openapi.json)$",
        ])
        .args(["--exclude-method", "HEAD", "--max-time", "60"])
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_mins(2), run).await.expect("it does not end").unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    assert!(output.status.success(), "{said}");

    let log = service.log();
    let refused = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut codes = BTreeSet::new();
    for line in refused.filter(|line| line["message"] == "request refused") {
        let code = line["code"].as_str().unwrap();
        let expected = matches!(code, "unsupported_event_type" | "too_slow" | "draining");
        assert!(line["status"].as_u64().unwrap() < 500 || expected, "{line}");
        codes.insert(code.to_owned());
    }
    assert!(!log.contains("panicked"), "{log}");
    // It got past the form of a request: single events were refused, and others taken.
    let of_events = ["no_user_anon_id", "user_id_required", "event_required", "message_id_not_string"];
    let has_judged_events = of_events.iter().any(|code| codes.contains(*code));
    assert!(has_judged_events && log.contains("events kept"), "{codes:?}");
    service.end().await;
}
