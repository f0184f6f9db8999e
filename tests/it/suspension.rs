//! A suspension says why: the reason, the status, the answer and since when, in log, API and command line.

use serde_json::json;

use crate::private_side::run;
use crate::service::Service;

#[tokio::test]
async fn a_suspension_says_why_everywhere() {
    let service = Service::sandbox().config("[delivery]\nquick_retries = 0").start().await;
    let body = r#"{"error":"organization of jane@example.com is unknown, call +910000000000"}"#;
    service.faults(&json!([{ "status": 401, "body": body }])).await;
    let event = r#"{"userId":"user-1","event":"Seat Chosen","messageId":"m-1"}"#;
    assert_eq!(service.post("/v1/track", event).await.status, 200);

    let stats = service.until("/api/stats", |stats| stats["delivery"][0]["state"] == "suspended").await;
    let delivery = &stats["delivery"][0];
    assert_eq!(delivery["because"]["reason"], "wigzo_401", "{delivery}");
    assert_eq!(delivery["because"]["status"], 401, "{delivery}");
    assert_eq!(delivery["because"]["answer"], body, "{delivery}");
    assert!(delivery["since"].is_string(), "{delivery}");
    let endpoint = &delivery["endpoints"][0];
    assert_eq!(endpoint["because"], delivery["because"], "{endpoint}");

    let (code, out, err) = run(&service, &["delivery", "list"]).await;
    assert_eq!(code, 0, "{err}");
    let since = delivery["since"].as_str().unwrap();
    assert!(out.contains(&format!("because since {since}: wigzo_401, HTTP 401: {body}")), "{out}");

    // A test event waits with the others; the command says so, and why.
    let (code, out, err) = run(&service, &["delivery", "test", "default"]).await;
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    for part in ["was not delivered", "it is suspended since ", "wigzo_401, HTTP 401"] {
        assert!(err.contains(part), "{part}: {err}");
    }

    let line = service
        .log()
        .lines()
        .find(|line| line.contains("refuses this organization's token"))
        .unwrap()
        .to_owned();
    for part in [r#""reason":"wigzo_401""#, r#""http_status":401"#, "is unknown, call ***", r#""since":"#] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(!line.contains("jane@example.com") && !line.contains("910000000000"), "{line}");
    service.end().await;
}

#[tokio::test]
async fn a_test_event_that_fails_is_not_said_to_be_on_its_way() {
    let service = Service::sandbox().config("[delivery]\nquick_retries = 0").start().await;
    service.faults(&json!([{ "status": 500, "body": "down for maintenance" }])).await;
    let (code, out, err) = run(&service, &["delivery", "test", "default"]).await;
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains("it is retrying, wigzo_500, HTTP 500: down for maintenance"), "{err}");

    service.faults(&json!([{ "status": 400, "body": "no such event" }])).await;
    let (code, _, err) = run(&service, &["delivery", "test", "default", "--type", "identify"]).await;
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("it is dead, wigzo_400, HTTP 400: no such event"), "{err}");

    assert_eq!(service.operate("/api/organizations/default/pause", &json!({})).await.status, 200);
    service.until("/api/stats", |stats| stats["delivery"][0]["state"] == "held").await;
    let (code, _, err) = run(&service, &["delivery", "test", "default"]).await;
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("nothing is sent for default: it is held"), "{err}");
    service.end().await;
}
