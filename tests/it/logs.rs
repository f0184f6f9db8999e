//! The log: which lines there are can be changed while the service runs, what happens over and over is summed up, and
//! whoever reads it cannot hold the service up.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::service::{PATIENCE, Reply, Service, metric};

const ACME: &str = "[organizations.acme]\norg_token = \"made-up-org-token\"\nsource_keys = [\"wk_acme\"]";

fn track(user: &str, id: &str) -> String {
    json!({ "writeKey": "wk_acme", "type": "track", "event": "Odd", "userId": user, "messageId": id })
        .to_string()
}

async fn put(service: &Service, body: &str) -> Reply {
    let request = service.client().put(format!("{}/api/log-level", service.private)).body(body.to_owned());
    service.send(request).await
}

/// The lines with this message.
fn lines(service: &Service, message: &str) -> Vec<Value> {
    let log = service.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"].as_str().is_some_and(|it| it.starts_with(message))).collect()
}

#[tokio::test]
async fn which_lines_are_logged_can_be_changed_while_the_service_runs() {
    let service = Service::sandbox().config(ACME).start().await;
    assert_eq!(service.private("/api/log-level").await.json(), json!({ "log": "info" }));
    assert_eq!(put(&service, r#"{"log":"warn,wigzo_destination::delivery=info"}"#).await.status, 200);
    assert_eq!(service.post("/v1/track", &track("u", "1")).await.status, 200);
    service.settled(1).await;
    service.eventually("the outcome is told", || async { lines(&service, "delivered").len() == 1 }).await;
    assert_eq!(lines(&service, "events kept"), Vec::<Value>::new(), "the other room is quiet");

    let shown = put(&service, r#"{"log":"debug"}"#).await;
    assert_eq!((shown.status, shown.json()), (200, json!({ "log": "debug" })));
    assert_eq!(service.post("/v1/track", &track("u", "2")).await.status, 200);
    service.eventually("the request is told", || async { lines(&service, "events kept").len() == 1 }).await;
    let told = lines(&service, "an operator changes which lines are logged");
    let changes: Vec<_> = told.iter().map(|line| (&line["before"], &line["after"])).collect();
    let quiet = json!("warn,wigzo_destination::delivery=info");
    assert_eq!(changes, [(&json!("info"), &quiet), (&quiet, &json!("debug"))]);

    for bad in [r#"{"log":"acme=loud"}"#, r#"{"level":"info"}"#, "info", ""] {
        let reply = put(&service, bad).await;
        assert_eq!(reply.status, 400, "{bad}: {reply:?}");
    }
    let page = service.client().put(format!("{}/api/log-level", service.private));
    let page = page.header("origin", "https://elsewhere.example.com").body(r#"{"log":"trace"}"#);
    assert_eq!(service.send(page).await.status, 403);
    assert_eq!(service.private("/api/log-level").await.json(), json!({ "log": "debug" }));
    service.end().await;
}

#[tokio::test]
async fn what_happens_over_and_over_is_told_once_and_then_counted() {
    let service = Service::sandbox()
        .config("[telemetry]\nlog_summary = \"2s\"\n[delivery]\nlane_hold = \"never\"\nbreaker.lanes = 1000")
        .config("[delivery.retry]\nbase = \"10ms\"\ncap = \"50ms\"")
        .config(ACME)
        .start()
        .await;
    service.faults(&json!([{ "status": 500 }])).await;
    for user in 0..20 {
        let event = track(&format!("u{user}"), &format!("m{user}"));
        assert_eq!(service.post("/v1/track", &event).await.status, 200);
    }
    for _ in 0..5 {
        assert_eq!(service.post("/v1/track", r#"{"writeKey":"wk_acme","event":"x"}"#).await.status, 400);
    }
    let retries = "wigzo_destination_retries_total{reason=\"wigzo_500\"}";
    let again = |what: &str| {
        let told = lines(&service, "again and again");
        told.into_iter().filter(|line| line["what"] == what).collect::<Vec<_>>()
    };
    service.eventually("retries are summed up", || async { !again("retry").is_empty() }).await;
    service.eventually("refusals are summed up", || async { !again("request refused").is_empty() }).await;
    assert!(service.metric(retries).await >= 20);
    assert_eq!(lines(&service, "waits for another try").len(), 1, "{}", service.log());
    let first = &again("retry")[0];
    assert_eq!((&first["organization"], &first["reason"]), (&json!("acme"), &json!("wigzo_500")), "{first}");
    assert!(first["times"].as_u64().unwrap() >= 19, "{first}");
    assert_eq!(again("request refused")[0]["times"], 4);
    // Each request has its line all the same: the first as a warning.
    let refused = lines(&service, "request refused");
    let levels: Vec<_> = refused.iter().map(|line| line["level"].as_str().unwrap()).collect();
    assert_eq!(levels, ["WARN", "INFO", "INFO", "INFO", "INFO"]);
    service.end().await;
}

/// A pipe that nobody reads any more: without a thread of its own the log would stop the service once it is full.
#[tokio::test]
async fn whoever_reads_the_log_too_slowly_holds_nothing_up() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_wigzo-destination"))
        .args(["serve", "--sandbox"])
        .current_dir(directory.path())
        .env("WIGZO__INGRESS__LISTEN", "127.0.0.1:0")
        .env("WIGZO__ADMIN__LISTEN", "127.0.0.1:0")
        .env("WIGZO__SANDBOX__LISTEN", "127.0.0.1:0")
        .env("WIGZO__TELEMETRY__LOG_FORMAT", "json")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let serving = loop {
        let mut line = String::new();
        assert!(log.read_line(&mut line).unwrap() > 0, "the service ended");
        let line: Value = serde_json::from_str(&line).unwrap();
        if line["message"] == "serving" {
            break line;
        }
    };
    let (public, private) = (serving["public"].as_str().unwrap(), serving["private"].as_str().unwrap());
    let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
    // Everything there is: some hundred lines a request.
    let level = client.put(format!("http://{private}/api/log-level")).body(r#"{"log":"trace"}"#);
    assert_eq!(level.send().await.unwrap().status(), 200);
    let deadline = Instant::now() + PATIENCE;
    let lost = loop {
        let batch: Vec<_> = (0..200)
            .map(|number| json!({ "type": "track", "event": "Odd", "userId": format!("u{number}") }))
            .collect();
        let reply =
            client.post(format!("http://{public}/v1/batch")).body(json!({ "batch": batch }).to_string());
        assert_eq!(reply.send().await.unwrap().status(), 200);
        let metrics =
            client.get(format!("http://{private}/metrics")).send().await.unwrap().text().await.unwrap();
        let lost = metric(&metrics, "wigzo_destination_log_lines_lost_total").unwrap();
        if lost > 0 {
            break lost;
        }
        assert!(Instant::now() < deadline, "nothing is lost, so nothing is shown: {metrics}");
    };
    // Reading goes on: what was lost is told.
    let reader = std::thread::spawn(move || {
        log.lines().map_while(Result::ok).find(|line| line.contains("log lines were lost"))
    });
    let told = tokio::task::spawn_blocking(move || {
        while !reader.is_finished() {
            assert!(Instant::now() < deadline, "the loss is not told");
            std::thread::sleep(Duration::from_millis(10));
        }
        reader.join().unwrap().expect("a line about the loss")
    })
    .await
    .unwrap();
    let told: Value = serde_json::from_str(&told).unwrap();
    assert!(told["lines"].as_u64().unwrap() >= lost.min(1), "{told}");
    child.kill().unwrap();
    child.wait().unwrap();
}
