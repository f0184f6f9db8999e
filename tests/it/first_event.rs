//! The main way: an event comes in, is kept, translated, delivered, and can be looked up.

use serde_json::json;

use crate::service::Service;

#[tokio::test]
async fn an_event_is_kept_delivered_and_found_again() {
    let service = Service::sandbox().start().await;
    let event = json!({
        "userId": "user-42", "event": "Product Added", "messageId": "m-1", "properties": {"product_id": "sku-1"}
    });
    let reply = service.post("/v1/track", &event.to_string()).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json(), json!({"success": true, "accepted": 1, "duplicates": 0, "rejected": []}));

    service.settled(1).await;
    let calls = service.calls("").await;
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0]["body"]["eventName"], "addtocart");
    assert_eq!(calls[0]["body"]["eventval"], "sku-1");

    let record = service.private("/api/events/1").await.json();
    assert_eq!(record["state"], "delivered");
    assert_eq!(record["payload"], event);
    assert_eq!(record["attempts"][0]["status"], 200);
    let found = service.private("/api/events?organization=default&message_id=m-1").await.json();
    assert_eq!(found["events"][0]["number"], 1);
    assert_eq!(
        service.ledger().await,
        json!({"accepted": 1, "delivered": 1, "filtered": 0, "expired": 0, "dead": 0})
    );
    service.end().await;
}
