//! Probes, and the orderly end: what a load balancer and an orchestrator can rely on.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::service::{PATIENCE, Service};
use crate::wire::{self, Request};

/// Calls never get an answer.
fn never() -> Value {
    json!([{"effect": "never"}])
}

fn event(message_id: &str) -> Request {
    let event = json!({"type": "track", "event": "A", "userId": "u", "messageId": message_id});
    Request::post("/webhook").body(event.to_string())
}

/// Posts an event and waits until its call has reached the sandbox.
async fn event_in_flight(service: &Service) {
    let before = service.calls("").await.len();
    assert_eq!(service.wire(&event("in flight")).await.status, 200);
    service.eventually("a call", async || service.calls("").await.len() > before).await;
}

#[tokio::test]
async fn probes_of_a_service_that_is_well() {
    let service = Service::sandbox().start().await;
    for (path, body) in [
        ("/livez", json!({"status": "alive"})),
        ("/readyz", json!({"status": "ready"})),
        ("/healthz", json!({"status": "ready"})),
        ("/readyz?verbose", json!({"status": "ready"})),
    ] {
        let reply = service.get(path).await;
        assert_eq!((reply.status, reply.json()), (200, body), "{path}");
        assert_eq!(reply.headers["content-type"], "application/json", "{path}");
    }
    service.end().await;
}

// === the orderly end ===

#[tokio::test]
async fn a_draining_service_says_so_and_takes_events_until_its_grace_is_over() {
    let mut service = Service::sandbox().config("[ingress]\ndrain_grace = \"2s\"").start().await;
    service.signal("TERM");
    service.eventually("draining", async || service.get("/readyz").await.status == 503).await;
    for path in ["/readyz", "/healthz"] {
        let reply = service.get(path).await;
        let expected = json!({"status": "not ready", "reason": "draining: this process is about to end"});
        assert_eq!((reply.status, reply.json()), (503, expected), "{path}");
    }
    assert_eq!(service.get("/livez").await.status, 200, "there is no reason to kill it");
    assert_eq!(service.wire(&event("late")).await.json()["accepted"], 1);
    assert_eq!(service.ended().await.code(), Some(0), "{}", service.log());

    let again = Service::sandbox().on(service.directory.clone()).start().await;
    assert_eq!(again.settled(1).await["delivered"], 1);
    again.end().await;
}

#[tokio::test]
async fn an_interrupt_ends_without_grace() {
    let mut service = Service::sandbox().config("[ingress]\ndrain_grace = \"10m\"").start().await;
    // A connection that is kept alive must not hold the process.
    let idle = wire::connect(&service.public).await;
    assert_eq!(service.get("/livez").await.status, 200);
    let began = Instant::now();
    service.signal("INT");
    assert_eq!(service.ended().await.code(), Some(0), "{}", service.log());
    assert!(began.elapsed() < PATIENCE / 2);
    drop(idle);
}

#[tokio::test]
async fn what_is_in_flight_ends_before_the_process_does() {
    for signal in ["TERM", "INT"] {
        let mut service = Service::sandbox().config("[ingress]\ndrain_grace = \"1ms\"").start().await;
        service.faults(&json!([{"latency": {"fixed_ms": 700}}])).await;
        event_in_flight(&service).await;
        service.signal(signal);
        assert_eq!(service.ended().await.code(), Some(0), "{}", service.log());

        let again = Service::sandbox().on(service.directory.clone()).start().await;
        assert_eq!(again.settled(1).await["delivered"], 1, "{signal}");
        assert!(again.calls("").await.is_empty(), "{signal}: it had been delivered before the end");
        again.end().await;
    }
}

#[tokio::test]
async fn what_does_not_end_in_time_goes_back_to_the_queue() {
    let mut service = Service::sandbox()
        .config("[ingress]\ndrain_deadline = \"300ms\"\n[delivery]\ntimeout = \"5m\"")
        .start()
        .await;
    service.faults(&never()).await;
    event_in_flight(&service).await;
    let first = service.calls("").await.remove(0);
    service.signal("INT");
    assert_eq!(service.ended().await.code(), Some(0), "{}", service.log());
    assert!(service.log().contains("the drain deadline has passed"), "{}", service.log());

    let again = Service::sandbox().on(service.directory.clone()).start().await;
    assert_eq!(again.settled(1).await["delivered"], 1);
    let calls = again.calls("").await;
    assert_eq!(calls.len(), 1);
    assert_eq!(
        calls[0]["idempotency_key"], first["idempotency_key"],
        "Wigzo could tell that it is the same call"
    );
    again.end().await;
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    for (first, second) in [("TERM", "TERM"), ("TERM", "INT"), ("INT", "INT"), ("INT", "TERM")] {
        let mut service = Service::sandbox()
            .config(
                "[ingress]\ndrain_grace = \"10m\"\ndrain_deadline = \"10m\"\n[delivery]\ntimeout = \"5m\"",
            )
            .start()
            .await;
        service.faults(&never()).await;
        event_in_flight(&service).await;
        // While a request is open, the public side does not end: it shows that the first signal has been taken.
        service.signal(first);
        let draining = if first == "TERM" { "draining:" } else { "delivery drains" };
        service.eventually(draining, async || service.log().contains(draining)).await;
        service.signal(second);
        assert_eq!(service.ended().await.code(), Some(1), "{first} {second}: {}", service.log());

        let again = Service::sandbox().on(service.directory.clone()).start().await;
        assert_eq!(again.settled(1).await["delivered"], 1, "{first} {second}: nothing acknowledged is lost");
        again.end().await;
    }
}

// === the queue in trouble ===

#[tokio::test]
async fn a_process_lives_while_its_queue_is_blocked() {
    let service = Service::sandbox().config("[ingress]\ndeadline = \"300ms\"").start().await;
    let database = rusqlite::Connection::open(service.directory.path().join("queue/queue.sqlite")).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();

    let began = Instant::now();
    let blocked = event("blocked");
    let (first, live) = tokio::join!(service.wire(&blocked), service.get("/livez"));
    assert_eq!(live.status, 200, "killing the process would not cure the disk");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(first.status, 503, "{first:?}");
    assert_eq!(first.headers["retry-after"], "5");
    service.eventually("not ready", async || service.get("/readyz").await.status == 503).await;
    let reason = service.get("/readyz").await.json()["reason"].clone();
    assert_eq!(reason, "queue failing: its disk takes no writes; see the log");
    assert_eq!(service.get("/livez").await.status, 200);

    database.execute_batch("COMMIT").unwrap();
    service.eventually("kept", async || service.wire(&blocked).await.status == 200).await;
    assert_eq!(service.settled(1).await["accepted"], 1, "what was answered with 503 had not been kept");
    assert_eq!(service.get("/readyz").await.status, 200);
    service.end().await;
}

#[tokio::test]
async fn a_full_queue_refuses_says_why_and_recovers() {
    let service = Service::sandbox().config("[queue]\nmax_disk = \"64 MiB\"").start().await;
    service.faults(&json!([{"status": 503}])).await;
    // Each event is stored with its envelope's context: a small request fills a large queue.
    let batch = |number: usize| {
        let events: Vec<_> = (0..30)
            .map(|n| format!(r#"{{"type":"track","event":"A","userId":"u","messageId":"{number}-{n}"}}"#))
            .collect();
        format!(r#"{{"context":{{"a":"{}"}},"batch":[{}]}}"#, "a".repeat(1_000_000), events.join(","))
    };
    let mut kept = 0;
    let full = loop {
        let reply = service.wire(&Request::post("/webhook").body(batch(kept))).await;
        if reply.status != 200 {
            break reply;
        }
        kept += 1;
        assert!(kept < 4, "64 MiB do not hold {kept} times 30 MB");
    };
    assert_eq!((full.status, full.json()["code"].as_str()), (429, Some("queue_full")), "{full:?}");
    assert_eq!(full.headers["retry-after"], "5");
    let ready = service.get("/readyz").await;
    let reason = "queue full: queue.max_disk is reached; free space or raise it";
    assert_eq!((ready.status, ready.json()), (503, json!({"status": "not ready", "reason": reason})));
    assert_eq!(service.get("/livez").await.status, 200);
    assert_eq!(service.ledger().await["accepted"], kept * 30, "nothing of a refused request is kept");

    service.faults(&json!([])).await;
    service.settled(kept as u64 * 30).await;
    service.eventually("room again", async || service.get("/readyz").await.status == 200).await;
    assert_eq!(service.wire(&event("afterwards")).await.status, 200);
    let ledger = service.settled(kept as u64 * 30 + 1).await;
    assert_eq!(ledger["delivered"], kept * 30 + 1, "nothing that was accepted is dropped for want of room");
    service.end().await;
}

/// Everything that a probe may be asked at the worst moment is answered within a second.
#[tokio::test]
async fn probes_are_quick_under_load() {
    let service = Service::sandbox().start().await;
    let body = format!(r#"[{}]"#, vec![r#"{"type":"screen","userId":"u"}"#; 2_000].join(","));
    let load = async {
        for _ in 0..5 {
            assert_eq!(service.wire(&Request::post("/webhook").body(body.clone())).await.status, 200);
        }
    };
    let probes = async {
        for path in ["/livez", "/readyz"].repeat(20) {
            let began = Instant::now();
            assert_eq!(service.get(path).await.status, 200);
            assert!(began.elapsed() < Duration::from_secs(1), "{path}: {:?}", began.elapsed());
        }
    };
    tokio::join!(load, probes);
    service.end().await;
}
