//! The disk limit: new requests are turned away, nothing accepted is dropped, and it passes.

use serde_json::json;

use crate::service::Service;

const MIB: usize = 1 << 20;

/// A request of eight events, together just below the limit for bodies.
fn large(number: usize) -> String {
    let filler = "x".repeat(MIB - 1024);
    let event = |place: usize| {
        json!({
            "type": "track", "userId": format!("user-{place}"), "event": "Large", "messageId": format!("m-{number}-{place}"),
            "properties": { "filler": &filler }
        })
    };
    json!({ "batch": (0..8).map(event).collect::<Vec<_>>() }).to_string()
}

#[tokio::test]
async fn a_full_queue_turns_new_requests_away_until_delivery_has_made_room() {
    let service = Service::sandbox()
        .config("[queue]\nmax_disk = \"64 MiB\"\n[delivery]\nprobe_base = \"100ms\"\nprobe_cap = \"200ms\"")
        .env("WIGZO_ORG_TOKEN", "org-token-acme-1")
        .terse()
        .start()
        .await;
    service.faults(&json!([{ "status": 401 }])).await;
    let mut kept = 0;
    let refused = loop {
        let reply = service.post("/v1/batch", &large(kept)).await;
        if reply.status != 200 {
            break reply;
        }
        kept += 1;
        assert!(kept < 12, "more than 64 MiB were taken: {}", service.private("/api/stats").await.body);
    };
    assert!(kept >= 7, "refused after {kept} requests of 8 MiB");
    assert_eq!((refused.status, &refused.json()["code"]), (429, &json!("queue_full")), "{refused:?}");
    assert!(refused.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() > 0, "{refused:?}");
    // A small one is turned away as well, and nothing of what was accepted is gone.
    let small = r#"{"userId":"user-1","event":"Small","messageId":"m-small"}"#;
    assert_eq!(service.post("/v1/track", small).await.status, 429);
    let stats = service.private("/api/stats").await.json();
    assert_eq!((&stats["refusing"], &stats["waiting_total"]), (&json!("full"), &json!(kept * 8)));

    service.faults(&json!([])).await;
    service.settled(kept as u64 * 8).await;
    // The records of what was delivered would fill the disk all the same: the oldest go.
    service.until("/api/stats", |stats| stats["refusing"].is_null()).await;
    assert_eq!(service.post("/v1/track", small).await.json()["accepted"], 1, "the refusal was remembered");
    let ledger = service.settled(kept as u64 * 8 + 1).await;
    assert_eq!(ledger["delivered"], kept as u64 * 8 + 1);
    assert_eq!(service.calls("carried_out=true&event_name=Small").await.len(), 1);
    service.end().await;
}
