//! Deduplication: a sender that is not sure sends again, and the event counts once.

use serde_json::{Value, json};

use crate::service::{Reply, Service};

fn event(id: &str) -> Value {
    json!({ "type": "track", "userId": "user-42", "event": "Seat Chosen", "messageId": id })
}

fn batch(ids: &[&str]) -> String {
    json!({ "batch": ids.iter().map(|id| event(id)).collect::<Vec<_>>() }).to_string()
}

/// What a reply says was accepted and known already.
fn counts(reply: &Reply) -> (u64, u64) {
    assert_eq!(reply.status, 200, "{reply:?}");
    let reply = reply.json();
    (reply["accepted"].as_u64().unwrap(), reply["duplicates"].as_u64().unwrap())
}

#[tokio::test]
async fn what_is_sent_again_is_known_and_said_to_be() {
    let service = Service::sandbox().start().await;
    assert_eq!(
        counts(&service.post("/v1/batch", &batch(&["m-1", "m-2", "m-1"])).await),
        (2, 1),
        "in one batch"
    );
    assert_eq!(
        counts(&service.post("/v1/batch", &batch(&["m-1", "m-2", "m-1"])).await),
        (0, 3),
        "as a whole"
    );
    assert_eq!(counts(&service.post("/v1/batch", &batch(&["m-2", "m-3"])).await), (1, 1), "in part");
    assert_eq!(counts(&service.post("/v1/track", &event("m-3").to_string()).await), (0, 1), "by itself");
    service.settled(3).await;
    assert_eq!(service.calls("").await.len(), 3);
    assert_eq!(service.metric("wigzo_destination_events_duplicate_total").await, 6);
    assert_eq!(service.metric("wigzo_destination_events_received_total").await, 9);
    assert_eq!(service.private("/api/stats").await.json()["duplicates"], 6);
    service.end().await;
}

#[tokio::test]
async fn requests_that_race_are_taken_once() {
    let service = Service::sandbox().start().await;
    let body = batch(&["m-1", "m-2", "m-3"]);
    let racing = (0..8).map(|_| {
        let request = service.client().post(format!("{}/v1/batch", service.public)).body(body.clone());
        tokio::spawn(request.send())
    });
    let racing: Vec<_> = racing.collect();
    let mut accepted = 0;
    for request in racing {
        let reply: Value =
            serde_json::from_str(&request.await.unwrap().unwrap().text().await.unwrap()).unwrap();
        assert_eq!(reply["accepted"].as_u64().unwrap() + reply["duplicates"].as_u64().unwrap(), 3, "{reply}");
        accepted += reply["accepted"].as_u64().unwrap();
    }
    assert_eq!(accepted, 3);
    service.settled(3).await;
    assert_eq!(service.calls("").await.len(), 3);
    service.end().await;
}

#[tokio::test]
async fn a_restart_and_a_crash_forget_nothing() {
    let service = Service::sandbox().start().await;
    assert_eq!(counts(&service.post("/v1/batch", &batch(&["m-1", "m-2"])).await), (2, 0));
    service.settled(2).await;
    let directory = std::sync::Arc::clone(&service.directory);
    service.end().await;

    let service = Service::sandbox().on(directory).start().await;
    assert_eq!(counts(&service.post("/v1/batch", &batch(&["m-1", "m-3"])).await), (1, 1), "after a restart");
    let service = Service::sandbox().on(service.kill().await).start().await;
    assert_eq!(
        counts(&service.post("/v1/batch", &batch(&["m-1", "m-2", "m-3"])).await),
        (0, 3),
        "after a crash"
    );
    assert_eq!(service.settled(3).await["accepted"], 3);
    service.end().await;
}

#[tokio::test]
async fn each_webhook_address_is_a_source_of_its_own() {
    // Two mappings of one Segment source send the same id with other data.
    let service = Service::sandbox().start().await;
    let body = event("m-1").to_string();
    assert_eq!(counts(&service.post("/webhook", &body).await), (1, 0));
    assert_eq!(counts(&service.post("/webhook/default", &body).await), (1, 0));
    assert_eq!(counts(&service.post("/webhook?mapping=2", &body).await), (1, 0));
    assert_eq!(counts(&service.post("/v1/track", &body).await), (1, 0));
    // The tracking routes are one source: a library may send an event by itself and again in a batch.
    assert_eq!(counts(&service.post("/v1/batch", &batch(&["m-1"])).await), (0, 1));
    assert_eq!(counts(&service.post("/v1/t", &body).await), (0, 1));
    for path in ["/webhook", "/webhook/default", "/webhook?mapping=2"] {
        assert_eq!(counts(&service.post(path, &body).await), (0, 1), "{path}");
    }
    service.settled(4).await;
    let found = service.private("/api/events?organization=default&message_id=m-1").await.json();
    assert_eq!(found["events"].as_array().unwrap().len(), 4, "{found}");
    service.end().await;
}

#[tokio::test]
async fn organizations_do_not_share_ids() {
    let service = Service::sandbox()
        .config(
            "[organizations.acme]\norg_token = \"org-token-acme-1\"\nsource_keys = [\"wk_acme\"]\n\
             [organizations.globex]\norg_token = \"org-token-globex-1\"\nsource_keys = [\"wk_globex\"]",
        )
        .start()
        .await;
    for (key, expected) in [("wk_acme", (1, 0)), ("wk_globex", (1, 0)), ("wk_acme", (0, 1))] {
        let request = service.client().post(format!("{}/v1/batch", service.public));
        let reply = service.send(request.basic_auth(key, Some("")).body(batch(&["m-1"]))).await;
        assert_eq!(counts(&reply), expected, "{key}");
    }
    service.settled(2).await;
    service.end().await;
}
