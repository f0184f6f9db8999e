//! What delivery does when Wigzo does not simply say yes: retries, pauses, dead letters, and where each can be seen.

use serde_json::{Value, json};

use crate::service::{Service, Setup};
use crate::stand_in::StandIn;

/// Two organizations with a key each, and waits that suit a test.
const TWO: &str = r#"
[delivery]
probe_base = "200ms"
probe_cap = "400ms"
quick_retries = 0
[delivery.retry]
base = "40ms"
cap = "100ms"
[organizations.acme]
org_token = "org-token-acme-1"
source_keys = ["wk_acme"]
[organizations.globex]
org_token = "org-token-globex-1"
source_keys = ["wk_globex"]
"#;

fn two() -> Setup {
    Service::sandbox().config(TWO)
}

/// One organization, quick, with more keys of `[delivery]` and `[delivery.retry]`.
fn one(delivery: &str, retry: &str) -> Setup {
    Service::sandbox().config(&format!(
        "[delivery]\nquick_retries = 0\n{delivery}\n[delivery.retry]\nbase = \"40ms\"\ncap = \"100ms\"\n{retry}"
    ))
}

/// Posts a track event of a person to an organization.
async fn track(service: &Service, organization: &str, person: &str, name: &str) {
    let event = json!({ "userId": person, "event": name, "messageId": format!("{person}/{name}") });
    let request = service
        .client()
        .post(format!("{}/v1/track", service.public))
        .basic_auth(format!("wk_{organization}"), Some(""))
        .body(event.to_string());
    let reply = service.send(request).await;
    assert_eq!((reply.status, &reply.json()["accepted"]), (200, &json!(1)), "{reply:?}");
}

/// The event names of calls, in the order of their arrival.
fn names(calls: &[Value]) -> Vec<&str> {
    calls.iter().map(|call| call["body"]["eventName"].as_str().unwrap()).collect()
}

/// When a call reached the stand-in, in milliseconds since 1970.
fn at(call: &Value) -> u64 {
    call["at"].as_u64().unwrap()
}

/// A time as records show it, in milliseconds since 1970.
fn time(shown: &Value) -> i64 {
    shown.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

fn order_completed() -> String {
    let properties = json!({ "order_id": "o-1", "total": 99.5, "products": [{ "product_id": "sku-1" }] });
    json!({ "userId": "user-42", "event": "Order Completed", "messageId": "m-1", "properties": properties })
        .to_string()
}

#[tokio::test]
async fn each_try_of_an_event_can_be_looked_at() {
    let token = "org-token-acme-1";
    // The answer echoes the token: early, across the place where it is cut, and behind it.
    let mut echo = format!("no such token {token}, ");
    echo.push_str(&"x".repeat(16 * 1024 - 6 - echo.len()));
    echo.push_str(token);
    echo.push_str(&"y".repeat(50_000));
    let service = two().start().await;
    service.faults(&json!([{ "status": 503, "body": echo, "latency": { "fixed_ms": 30 }, "next": 3 }])).await;
    track(&service, "acme", "user-42", "Seat Chosen").await;

    let waiting = service.until("/api/events/1", |record| record["state"] == "retrying").await;
    assert_eq!(waiting["reason"], "wigzo_503");
    let last = waiting["attempts"].as_array().unwrap().last().unwrap();
    let (began, took) = (time(&last["at"]), last["duration_ms"].as_i64().unwrap());
    assert!(time(&waiting["retry_at"]) >= began + took, "{waiting}");

    service.settled(1).await;
    let record = service.private("/api/events/1").await.json();
    assert_eq!(
        (&record["state"], &record["tries"], &record["retry_at"]),
        (&json!("delivered"), &json!(3), &Value::Null)
    );
    let attempts = record["attempts"].as_array().unwrap();
    let statuses: Vec<_> = attempts.iter().map(|attempt| attempt["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [503, 503, 503, 200]);
    for (attempt, reason) in attempts.iter().zip(["wigzo_503", "wigzo_503", "wigzo_503", "delivered"]) {
        assert_eq!(
            (&attempt["call"], &attempt["reason"]),
            (&json!("event/Seat Chosen".replace(' ', "_")), &json!(reason))
        );
        let request = attempt["request"].as_str().unwrap();
        assert!(request.starts_with("POST http://127.0.0.1:"), "{request}");
        assert!(request.contains("/rest/v1/learn/event?org_token=***\n"), "{request}");
        assert!(request.contains(r#""eventName":"Seat Chosen""#), "{request}");
        let response = attempt["response"].as_str().unwrap();
        assert!(response.len() <= 16 * 1024, "{}", response.len());
        assert!(!response.contains("org-to"), "a part of the token is left");
    }
    assert!(
        attempts.iter().take(3).all(|attempt| attempt["duration_ms"].as_u64().unwrap() >= 30),
        "{attempts:#?}"
    );
    assert!(attempts.windows(2).all(|pair| time(&pair[0]["at"]) < time(&pair[1]["at"])), "{attempts:#?}");
    assert!(attempts[0]["response"].as_str().unwrap().starts_with("no such token ***, xxx"));
    service.end().await;
}

#[tokio::test]
async fn retry_after_pauses_an_organization_and_nobody_else() {
    let service = two().start().await;
    let fault = json!({ "org_token": "org-token-acme-1", "status": 429, "retry_after": "2", "next": 1 });
    service.faults(&json!([fault])).await;
    track(&service, "acme", "user-1", "First").await;
    service.state(1, "retrying").await;
    service.quiet().await;
    track(&service, "acme", "user-2", "Second").await;
    track(&service, "globex", "user-3", "Third").await;
    service.settled(3).await;

    let acme = service.calls("org_token=org-token-acme-1").await;
    assert_eq!(acme.len(), 3, "{acme:#?}");
    let refused = at(&acme[0]);
    assert!(acme.iter().skip(1).all(|call| at(call) >= refused + 2_000), "{acme:#?}");
    let globex = service.calls("org_token=org-token-globex-1").await;
    assert!(at(&globex[0]) < refused + 2_000, "{refused} {globex:#?}");
    service.end().await;
}

#[tokio::test]
async fn a_success_that_was_in_flight_does_not_end_a_pause() {
    let service = two().start().await;
    service
        .faults(&json!([
            { "event_name": "Slow", "latency": { "fixed_ms": 600 } },
            { "event_name": "Refused", "status": 429, "retry_after": "2", "next": 1 },
        ]))
        .await;
    track(&service, "acme", "user-1", "Slow").await;
    track(&service, "acme", "user-2", "Refused").await;
    service.state(2, "retrying").await;
    service.state(1, "delivered").await;
    service.quiet().await;
    track(&service, "acme", "user-3", "Patient").await;
    service.settled(3).await;
    let refused = at(&service.calls("event_name=Refused").await[0]);
    let patient = at(&service.calls("event_name=Patient").await[0]);
    assert!(patient >= refused + 2_000, "called {} ms after the 429", patient - refused);
    service.end().await;
}

#[tokio::test]
async fn what_wigzo_refuses_becomes_a_dead_letter_and_its_lane_moves_on() {
    let service = two().start().await;
    service.faults(&json!([{ "event_name": "Malformed", "status": 400, "body": "what is this?" }])).await;
    track(&service, "acme", "user-42", "Malformed").await;
    track(&service, "acme", "user-42", "Next").await;
    let ledger = service.settled(2).await;
    assert_eq!(ledger, json!({"accepted": 2, "delivered": 1, "filtered": 0, "expired": 0, "dead": 1}));
    let dead = service.private("/api/events?place=dead").await.json();
    assert_eq!(dead["events"][0]["number"], 1);
    let record = service.private("/api/events/1").await.json();
    assert_eq!((&record["state"], &record["reason"]), (&json!("dead"), &json!("wigzo_400")));
    assert_eq!(record["payload"]["event"], "Malformed");
    assert_eq!(record["attempts"][0]["response"], "what is this?");
    assert_eq!(names(&service.calls("").await), ["Malformed", "Next"]);
    service.end().await;
}

#[tokio::test]
async fn a_refused_token_suspends_its_organization_until_it_is_accepted() {
    let service = two().start().await;
    service.faults(&json!([{ "org_token": "org-token-acme-1", "status": 401 }])).await;
    track(&service, "acme", "user-1", "First").await;
    service.state(1, "retrying").await;
    service.quiet().await;
    for (person, name) in [("user-1", "Second"), ("user-2", "Third"), ("user-3", "Fourth")] {
        track(&service, "acme", person, name).await;
    }
    track(&service, "globex", "user-9", "Elsewhere").await;
    service.state(5, "delivered").await;
    // A probe has been refused as well: it is still so.
    service.until("/api/events/1", |record| record["attempts"].as_array().map(Vec::len) >= Some(1)).await;
    let probes = service.calls("status=401").await.len();
    service.until("/api/stats", |stats| stats["waiting"]["acme"] == 4).await;
    assert_eq!(service.ledger().await["dead"], 0);
    assert!(service.log().contains("refuses this organization's token"), "{}", service.log());
    // Three refusals are evidence; then a few probes at a time.
    assert!(probes <= 12, "{probes} calls with a token that is known to be refused");
    let record = service.private("/api/events/1").await.json();
    assert_eq!(
        (&record["reason"], &record["tries"]),
        (&json!("wigzo_401"), &json!(0)),
        "not the event's fault"
    );

    service.faults(&json!([])).await;
    let ledger = service.settled(5).await;
    assert_eq!((&ledger["delivered"], &ledger["dead"]), (&json!(5), &json!(0)));
    let first = service.calls("org_token=org-token-acme-1&carried_out=true&contains=First").await;
    let second = service.calls("org_token=org-token-acme-1&carried_out=true&contains=Second").await;
    assert!(first[0]["number"].as_u64() < second[0]["number"].as_u64());
    service.end().await;
}

#[tokio::test]
async fn soft_failures_are_bounded() {
    let service = one("", "soft_failures = 2").start().await;
    service.faults(&json!([{ "body": r#"{"status":"failure","message":"not now"}"# }])).await;
    service.post("/v1/track", &order_completed()).await;
    let record = service.state(1, "dead").await;
    assert_eq!((&record["reason"], &record["tries"]), (&json!("wigzo_soft_failure"), &json!(3)));
    assert_eq!(service.calls("").await.len(), 3);
    service.end().await;
}

#[tokio::test]
async fn a_web_page_is_not_a_delivery() {
    let service = one("", "soft_failures = 1").start().await;
    let page = "\n<!DOCTYPE html><html><title>Sign in</title></html>";
    service.faults(&json!([{ "event_name": "buy", "body": page }])).await;
    service.post("/v1/track", &order_completed()).await;
    let record = service.state(1, "dead").await;
    assert_eq!((&record["reason"], &record["tries"]), (&json!("wigzo_not_an_api_answer"), &json!(2)));
    let attempt = &record["attempts"][0];
    assert_eq!(
        (&attempt["status"], &attempt["reason"], &attempt["response"]),
        (&json!(200), &json!("wigzo_not_an_api_answer"), &json!(page))
    );
    assert_eq!(service.calls("").await.len(), 2);
    service.end().await;
}

#[tokio::test]
async fn a_body_that_breaks_off_after_2xx_is_a_delivery_with_a_note() {
    // Where a call that is in doubt may not be repeated, this one is not in doubt either.
    for on_ambiguous in ["retry", "dead_letter"] {
        let service = one(&format!("on_ambiguous = \"{on_ambiguous}\""), "").start().await;
        let body = r#"{"status":"success","message":"0123456789"}"#;
        service.faults(&json!([{ "event_name": "order", "effect": "half_body", "body": body }])).await;
        service.post("/v1/track", &order_completed()).await;
        let record = service.state(1, "delivered").await;
        let attempts = record["attempts"].as_array().unwrap();
        assert_eq!((attempts.len(), &record["tries"]), (2, &json!(0)), "{record}");
        assert_eq!((&attempts[1]["status"], &attempts[1]["reason"]), (&json!(200), &json!("delivered")));
        assert_eq!(attempts[1]["response"], body[..body.len() / 2]);
        assert_eq!(record["detail"], "event/order: the body of the answer broke off");
        assert_eq!(names(&service.calls("").await), ["buy", "order"]);
        service.end().await;
    }
}

#[tokio::test]
async fn a_body_that_says_failure_before_it_breaks_off_is_a_failure() {
    let service = one("", "soft_failures = 0").start().await;
    let body = r#"{"status":"error","message":"a text that is longer than all of the rest before it"}"#;
    service.faults(&json!([{ "effect": "half_body", "body": body }])).await;
    service.post("/v1/track", r#"{"userId":"user-1","event":"A","messageId":"m-1"}"#).await;
    let record = service.state(1, "dead").await;
    assert_eq!(record["reason"], "wigzo_soft_failure");
    assert_eq!(record["detail"], "event/A: the body of the answer broke off");
    service.end().await;
}

#[tokio::test]
async fn only_the_call_that_failed_is_repeated() {
    let service = one("", "").start().await;
    service.faults(&json!([{ "event_name": "order", "status": 500, "next": 2 }])).await;
    service.post("/v1/track", &order_completed()).await;
    service.settled(1).await;
    let calls = service.calls("").await;
    assert_eq!(names(&calls), ["buy", "order", "order", "order"]);
    let key = |call: usize| calls[call]["idempotency_key"].as_str().unwrap();
    assert!(key(1) == key(2) && key(2) == key(3) && key(0) != key(1), "{calls:#?}");
    assert_eq!(service.private("/api/events/1").await.json()["calls_done"], "event/buy event/order");
    service.end().await;
}

#[tokio::test]
async fn a_crash_does_not_forget_which_calls_were_made() {
    let wigzo = StandIn::start().await;
    let setup = || {
        Service::calling(&wigzo)
            .env("WIGZO_ORG_TOKEN", "org-token-acme-1")
            .config("[delivery]\nquick_retries = 0\n[delivery.retry]\nbase = \"40ms\"\ncap = \"100ms\"\n")
    };
    let service = setup().start().await;
    service.faults(&json!([{ "event_name": "order", "status": 503 }])).await;
    service.post("/v1/track", &order_completed()).await;
    let before = service.until("/api/events/1", |record| record["tries"].as_u64() >= Some(2)).await;
    assert_eq!(before["calls_done"], "event/buy");
    let directory = service.kill().await;

    let service = setup().on(directory).start().await;
    let after = service.private("/api/events/1").await.json();
    assert!(after["tries"].as_u64() >= before["tries"].as_u64(), "{after}");
    service.faults(&json!([])).await;
    service.settled(1).await;
    assert_eq!(service.calls("event_name=buy").await.len(), 1);
    let orders = service.calls("event_name=order").await;
    assert_eq!(orders.iter().filter(|call| call["carried_out"] == true).count(), 1);
    assert!(orders.iter().all(|call| call["idempotency_key"] == orders[0]["idempotency_key"]), "{orders:#?}");
    service.end().await;
}

#[tokio::test]
async fn a_doubtful_call_is_not_repeated_where_that_is_asked_for() {
    let service = one("on_ambiguous = \"dead_letter\"", "").start().await;
    service.faults(&json!([{ "effect": "reset_after_record", "next": 1 }])).await;
    service.post("/v1/track", r#"{"userId":"user-1","event":"Doubtful","messageId":"m-1"}"#).await;
    service.post("/v1/track", r#"{"userId":"user-1","event":"Clear","messageId":"m-2"}"#).await;
    service.settled(2).await;
    let record = service.private("/api/events/1").await.json();
    assert_eq!((&record["state"], &record["reason"]), (&json!("dead"), &json!("connection_broken")));
    assert_eq!(record["attempts"][0]["status"], Value::Null);
    assert_eq!(names(&service.calls("").await), ["Doubtful", "Clear"]);
    service.end().await;
}

#[tokio::test]
async fn an_event_that_waited_too_long_expires() {
    let service = one("max_age = \"300ms\"", "").start().await;
    service.faults(&json!([{ "event_name": "Stale", "status": 503 }])).await;
    service.post("/v1/track", r#"{"userId":"user-1","event":"Stale","messageId":"m-1"}"#).await;
    let record = service.state(1, "expired").await;
    assert_eq!(record["reason"], "max_age");
    assert!(
        record["attempts"].as_array().unwrap().iter().all(|attempt| attempt["status"] == 503),
        "{record}"
    );
    let waited = time(&record["ended_at"]) - time(&record["received_at"]);
    assert!(waited > 300, "{waited}");
    assert_eq!(service.ledger().await["expired"], 1);
    service.end().await;
}

#[tokio::test]
async fn an_event_that_keeps_failing_is_given_up_at_the_horizon() {
    let service = one("", "horizon = \"400ms\"").start().await;
    service.faults(&json!([{ "event_name": "Hopeless", "status": 503 }])).await;
    service.post("/v1/track", r#"{"userId":"user-1","event":"Hopeless","messageId":"m-1"}"#).await;
    service.post("/v1/track", r#"{"userId":"user-1","event":"Patient","messageId":"m-2"}"#).await;
    let record = service.state(1, "dead").await;
    assert_eq!(record["reason"], "wigzo_503");
    assert!(record["tries"].as_u64() > Some(1), "{record}");
    service.state(2, "delivered").await;
    service.end().await;
}

#[tokio::test]
async fn an_event_that_is_not_meant_for_wigzo_makes_no_call() {
    let service = one("", "").start().await;
    let event = |id: &str, integrations: Value| {
        json!({ "type": "track", "userId": "user-1", "event": "Seat Chosen", "messageId": id, "integrations": integrations })
            .to_string()
    };
    service.post("/v1/track", &event("m-1", json!({ "Wigzo": false }))).await;
    service.post("/v1/track", &event("m-2", json!({ "All": false }))).await;
    service.post("/v1/track", &event("m-3", json!({ "All": false, "Wigzo": true }))).await;
    service.post("/webhook", &event("m-4", json!({ "Wigzo": false }))).await;
    service.post("/webhook", &event("m-5", json!({ "All": false }))).await;
    let ledger = service.settled(5).await;
    assert_eq!(ledger, json!({"accepted": 5, "delivered": 2, "filtered": 3, "expired": 0, "dead": 0}));
    for number in [1, 2, 4] {
        let record = service.state(number, "filtered").await;
        assert_eq!(record["reason"], "filtered_by_integrations_object");
        assert_eq!(record["attempts"], json!([]));
    }
    assert_eq!(service.calls("").await.len(), 2);
    service.end().await;
}

#[tokio::test]
async fn a_waiting_lane_holds_no_other() {
    let service = two().start().await;
    service.faults(&json!([{ "event_name": "Stuck", "status": 500 }])).await;
    track(&service, "acme", "user-1", "Stuck").await;
    track(&service, "acme", "user-1", "Behind").await;
    track(&service, "acme", "user-2", "Beside").await;
    service.state(3, "delivered").await;
    service.until("/api/events/1", |record| record["tries"].as_u64() >= Some(3)).await;
    assert_eq!(service.private("/api/events/2").await.json()["state"], "waiting");
    assert_eq!(service.calls("event_name=Behind").await.len(), 0);
    service.faults(&json!([])).await;
    service.settled(3).await;
    assert_eq!(names(&service.calls("carried_out=true").await), ["Beside", "Stuck", "Behind"]);
    service.end().await;
}
