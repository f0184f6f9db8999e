//! Who may do what on the private side, and the audit line of every change.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::service::{Reply, Service, Setup};

const ALICE: &str = "canary-token-of-alice";
const BOB: &str = "canary-token-of-bob-1";
const NEW_BOB: &str = "canary-token-of-bob-2";
const ADMIN: &str = "canary-admin";

struct Bench {
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { directory: tempfile::tempdir().unwrap() };
        bench.write(&format!("# who\noperate alice {ALICE}\nread bob {BOB}\n"));
        std::fs::write(bench.file("token"), ADMIN).unwrap();
        bench
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, tokens: &str) {
        std::fs::write(self.file("tokens"), tokens).unwrap();
    }

    fn setup(&self) -> Setup {
        let path = |path: &Path| path.display().to_string();
        Service::sandbox()
            .env("WIGZO__ADMIN__TOKENS_FILE", &path(&self.file("tokens")))
            .env("WIGZO__ADMIN__TOKEN_FILE", &path(&self.file("token")))
    }
}

async fn get(service: &Service, path: &str, token: &str) -> Reply {
    service.send(service.client().get(format!("{}{path}", service.private)).bearer_auth(token)).await
}

async fn post(service: &Service, path: &str, token: &str, body: &Value) -> Reply {
    let request = service.client().post(format!("{}{path}", service.private)).bearer_auth(token);
    let request = request.header("content-type", "application/json").header("x-request-id", "req-7");
    service.send(request.body(body.to_string())).await
}

/// The audit lines, in order.
fn audit(service: &Service) -> Vec<Value> {
    let lines = service.log();
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["target"] == "audit").collect()
}

#[tokio::test]
async fn a_role_decides_what_a_token_may_and_every_change_has_its_line() {
    let bench = Bench::new();
    // Whatever else is logged.
    let service = bench.setup().terse().start().await;
    for path in
        ["/metrics", "/api/stats", "/api/events", "/api/organizations", "/api/openapi.json", "/api/drain"]
    {
        for token in [ALICE, BOB, ADMIN] {
            assert_eq!(get(&service, path, token).await.status, 200, "{path}");
        }
        let stranger = get(&service, path, "canary-nobody").await;
        assert_eq!((stranger.status, &stranger.json()["code"]), (401, &json!("unauthorized")), "{path}");
        assert_eq!(stranger.headers["www-authenticate"], "Bearer");
        assert!(stranger.headers.contains_key("x-request-id"));
    }
    let event = json!({ "event": { "type": "track", "userId": "user-1", "event": "A" } });
    assert_eq!(post(&service, "/api/translate", BOB, &event).await.status, 200, "it changes nothing");

    let changes = [
        ("/api/organizations/default/pause", json!({ "why": "stock-taking" }), "pause", "default"),
        ("/api/organizations/default/resume", json!({}), "resume", "default"),
        ("/api/organizations/default/retry", json!({}), "retry", "default"),
        (
            "/api/organizations/default/retry",
            json!({ "reason": "wigzo_500" }),
            "retry",
            "default reason=wigzo_500",
        ),
        ("/api/organizations/default/test-event", json!({}), "test_event", "default"),
        ("/api/dead-letters/replay", json!({ "all": true }), "replay", "all"),
        (
            "/api/dead-letters/discard",
            json!({ "filter": { "person": "canary-user", "reason": "wigzo_400" }, "why": "a test" }),
            "discard",
            "reason=wigzo_400 person=***",
        ),
        ("/api/drain", json!({ "out_of_rotation": true }), "drain", "out of rotation"),
        ("/api/drain", json!({ "out_of_rotation": false }), "drain", "in rotation"),
    ];
    let mut expected = Vec::new();
    for (path, body, action, on) in &changes {
        let refused = post(&service, path, BOB, body).await;
        assert_eq!((refused.status, &refused.json()["code"]), (403, &json!("role_not_allowed")), "{path}");
        assert_eq!(post(&service, path, "canary-nobody", body).await.status, 401, "{path}");
        expected.push(json!(["bob", "read", action, "", "role_not_allowed", 403, "req-7"]));
        let done = post(&service, path, ALICE, body).await;
        assert_eq!(
            (done.status, &done.headers["x-request-id"]),
            (200, &"req-7".parse().unwrap()),
            "{done:?}"
        );
        expected.push(json!(["alice", "operate", action, on, "done", 200, "req-7"]));
    }
    let unknown = post(&service, "/api/organizations/nobody/pause", ADMIN, &json!({})).await;
    assert_eq!((unknown.status, &unknown.json()["code"]), (404, &json!("unknown_organization")));
    expected.push(json!(["admin", "operate", "pause", "", "unknown_organization", 404, "req-7"]));
    // A line may come a moment after its answer.
    service.eventually("every change is told", async || audit(&service).len() == expected.len()).await;
    let told: Vec<Value> = audit(&service)
        .iter()
        .map(|it| {
            json!([
                it["who"],
                it["role"],
                it["action"],
                it["on"],
                it["result"],
                it["status"],
                it["request_id"]
            ])
        })
        .collect();
    assert_eq!(told, expected, "{}", service.log());
    assert!(!service.log().contains("canary"), "{}", service.log());
    service.end().await;
}

#[tokio::test]
async fn tokens_are_exchanged_without_a_restart() {
    let bench = Bench::new();
    let service = bench.setup().start().await;
    let status = async |token: &str| get(&service, "/api/stats", token).await.status;
    assert_eq!((status(BOB).await, status(NEW_BOB).await), (200, 401));
    bench.write(&format!("read bob {BOB}\nread bob {NEW_BOB}\n"));
    service
        .eventually("the new token is taken beside the old one", async || status(NEW_BOB).await == 200)
        .await;
    assert_eq!((status(BOB).await, status(ALICE).await), (200, 401));
    bench.write("read bob");
    service
        .eventually("the log tells of the bad file", async || {
            let _ = status(BOB).await;
            service.log().contains("cannot be read anew")
        })
        .await;
    assert_eq!((status(BOB).await, status(NEW_BOB).await), (200, 200), "a bad file locks nobody out");
    bench.write(&format!("read bob {NEW_BOB}\n"));
    service.eventually("the old token is gone", async || status(BOB).await == 401).await;
    assert_eq!((status(NEW_BOB).await, status(ADMIN).await), (200, 200));
    assert!(!service.log().contains("canary"), "{}", service.log());
    service.end().await;
}

#[tokio::test]
async fn bad_files_of_tokens_keep_the_service_from_starting() {
    let bench = Bench::new();
    for (text, message) in [
        ("", "admin.tokens_file: the file "),
        ("operate alice", "on line 1 something else"),
        ("root alice canary-token-of-alice", "line 1 with another role than read or operate"),
    ] {
        bench.write(text);
        let (code, said) = bench.setup().refused().await;
        assert!(code == Some(2) && said.contains(message) && !said.contains("canary"), "{code:?}: {said}");
    }
    std::fs::remove_file(bench.file("tokens")).unwrap();
    let (code, said) = bench.setup().refused().await;
    assert!(code == Some(2) && said.contains("tokens does not exist"), "{code:?}: {said}");
}

/// Without a token a browser on the same machine is all that stands before it.
#[tokio::test]
async fn a_page_can_neither_ask_nor_change() {
    let service = Service::sandbox().start().await;
    let ask = async |path: &str, host: &str| {
        let request = service.client().get(format!("{}{path}", service.private)).header("host", host);
        let reply = service.send(request).await;
        (reply.status, serde_json::from_str::<Value>(&reply.body).unwrap_or_default()["code"].clone())
    };
    for path in ["/api/stats", "/api/events", "/nowhere"] {
        assert_eq!(ask(path, "rebound.example.com").await, (403, json!("foreign_page")), "{path}");
    }
    assert_eq!(ask("/metrics", "wigzo-destination").await.0, 200, "scraped by any name, about nobody");
    assert_eq!(ask("/api/stats", "localhost").await.0, 200);
    for media_type in
        [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("multipart/form-data")]
    {
        let request = service.client().post(format!("{}/api/drain", service.private)).body("{}");
        let request = media_type.into_iter().fold(request, |request, it| request.header("content-type", it));
        let reply = service.send(request).await;
        assert_eq!(
            (reply.status, &reply.json()["code"]),
            (415, &json!("unsupported_media_type")),
            "{media_type:?}"
        );
    }
    assert_eq!(service.get("/readyz").await.status, 200, "nothing was changed");
    service.end().await;
}
