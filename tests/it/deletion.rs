//! A person who asks to be forgotten: Segment sends `delete` to webhooks when a deletion regulation runs.

use serde_json::{Value, json};

use crate::service::Service;

fn event(person: &str, id: &str) -> Value {
    json!({
        "type": "track", "event": "Song Played", "userId": person, "messageId": id,
        "properties": { "email": "asha@shop.example" }
    })
}

#[tokio::test]
async fn a_deletion_ends_what_waits_and_removes_what_is_kept() {
    let service = Service::sandbox().config("[delivery.retry]\nbase = \"1h\"\ncap = \"1h\"\n").start().await;
    service.faults(&json!([{ "next": 2, "status": 500 }])).await;
    let batch = json!([event("user-42", "m-1"), event("user-42", "m-2"), event("user-7", "m-3")]);
    assert_eq!(service.post("/webhook/default", &batch.to_string()).await.status, 200);
    service.state(3, "retrying").await;
    service.state(1, "retrying").await;

    let deletion = json!({ "type": "delete", "userId": "user-42", "messageId": "m-4" });
    let reply = service.post("/webhook/default", &deletion.to_string()).await;
    assert_eq!((reply.status, reply.json()["accepted"].as_u64()), (200, Some(1)), "{reply:?}");
    service.until("/api/stats", |stats| stats["ledger"]["filtered"] == 3).await;

    let known = service.private("/api/events?organization=default&person=user-42").await.json();
    assert_eq!(known["events"], json!([]));
    let tombstone = service.private("/api/events/1").await;
    assert_eq!(tombstone.json()["reason"], "user_deleted");
    assert!(!tombstone.body.contains("asha") && !tombstone.body.contains("m-1"), "{tombstone:?}");
    let other = service.private("/api/events?organization=default&person=user-7").await.json();
    assert_eq!(other["events"][0]["state"], "retrying", "a stranger's events stay");

    assert_eq!(service.post("/webhook/default", &event("user-42", "m-5").to_string()).await.status, 200);
    service.until("/api/stats", |stats| stats["ledger"]["delivered"] == 1).await;
    service.end().await;
}

#[tokio::test]
async fn a_public_write_key_cannot_forget_anybody() {
    let service = Service::sandbox().start().await;
    let body = json!({ "batch": [{ "type": "delete", "userId": "user-42", "messageId": "m-1" }] });
    let reply = service.post("/v1/batch", &body.to_string()).await;
    assert_eq!(reply.json()["rejected"][0]["code"], "unsupported_event_type");
    let nameless = service.post("/webhook/default", r#"{"type":"delete","messageId":"m-2"}"#).await;
    assert_eq!((nameless.status, nameless.json()["code"].as_str()), (400, Some("user_id_required")));
    service.end().await;
}
