//! A queue whose directory or files are moved, removed or replaced while the service runs: nothing is acknowledged that a
//! restart would not find, and it recovers when they are back.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use serde_json::json;

use crate::books;
use crate::service::{PATIENCE, Service};

fn event(id: &str) -> String {
    json!({ "type": "track", "userId": "user-42", "event": "Seat Chosen", "messageId": id }).to_string()
}

/// The message ids in a queue that nobody has open.
fn ids(queue: &Path) -> BTreeSet<String> {
    let connection = Connection::open(queue.join("queue.sqlite")).unwrap();
    let sql = "SELECT message_id FROM waiting UNION SELECT message_id FROM settled UNION SELECT message_id FROM dead";
    let mut statement = connection.prepare(sql).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// Waits until the service takes no events for this reason.
async fn displaced(service: &Service) {
    service
        .eventually("displaced", || async {
            let reply = service.get("/readyz").await;
            reply.status == 503 && reply.body.contains("queue displaced: ")
        })
        .await;
}

async fn ready(service: &Service) {
    service.eventually("ready", || async { service.get("/readyz").await.status == 200 }).await;
}

#[tokio::test]
async fn what_was_acknowledged_is_where_the_directory_was_moved_to() {
    let service = Service::sandbox().terse().start().await;
    let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
    let senders: Vec<_> = (0..4)
        .map(|sender| {
            let (client, acknowledged) = (service.client().clone(), Arc::clone(&acknowledged));
            let url = format!("{}/v1/track", service.public);
            tokio::spawn(async move {
                let mut number = 0;
                loop {
                    let id = format!("m-{sender}-{number}");
                    let reply = client.post(&url).body(event(&id)).send().await.unwrap();
                    match reply.status().as_u16() {
                        200 => acknowledged.lock().unwrap().insert(id),
                        503 => return reply.text().await.unwrap(),
                        other => panic!("{other}"),
                    };
                    number += 1;
                }
            })
        })
        .collect();
    let enough = || async { acknowledged.lock().unwrap().len() > 100 };
    service.eventually("a hundred events", enough).await;
    let (queue, aside) = (service.directory.path().join("queue"), service.directory.path().join("aside"));
    std::fs::rename(&queue, &aside).unwrap();
    // Something of the same name does not help.
    std::fs::create_dir(&queue).unwrap();
    for sender in senders {
        let body = tokio::time::timeout(PATIENCE, sender).await.expect("posts are still taken").unwrap();
        assert!(body.contains("queue_unavailable"), "{body}");
    }
    displaced(&service).await;
    assert_eq!(service.get("/livez").await.status, 200);
    let log = service.log();
    assert_eq!(log.matches("was moved, removed or replaced").count(), 1, "{log}");

    let _directory = service.kill().await;
    assert_eq!(std::fs::read_dir(&queue).unwrap().count(), 0, "nothing is written to the other directory");
    let found = ids(&aside);
    let acknowledged = acknowledged.lock().unwrap();
    let lost: Vec<_> = acknowledged.difference(&found).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

#[tokio::test]
async fn a_service_recovers_when_the_directory_and_the_files_are_back() {
    let service = Service::sandbox().terse().start().await;
    let (queue, aside) = (service.directory.path().join("queue"), service.directory.path().join("aside"));
    let names = ["", "lock", "queue.sqlite", "queue.sqlite-wal", "queue.sqlite-shm"];
    for (round, name) in names.into_iter().enumerate() {
        assert_eq!(service.post("/v1/track", &event(&format!("m-{round}-before"))).await.status, 200);
        let path = if name.is_empty() { queue.clone() } else { queue.join(name) };
        std::fs::rename(&path, &aside).unwrap();
        // Also a service that nobody posts to notices it.
        displaced(&service).await;
        let refused = service.post("/v1/track", &event(&format!("m-{round}-away"))).await;
        assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("queue_unavailable")), "{name}");
        std::fs::rename(&aside, &path).unwrap();
        ready(&service).await;
        assert_eq!(service.post("/v1/track", &event(&format!("m-{round}-after"))).await.status, 200);
    }
    let accepted = 2 * names.len() as u64;
    let ledger = service.settled(accepted).await;
    assert_eq!((&ledger["accepted"], &ledger["delivered"]), (&json!(accepted), &json!(accepted)));
    let directory = Arc::clone(&service.directory);
    service.end().await;
    assert_eq!(books::balance(&directory.path().join("queue")).accepted, accepted);
}

#[tokio::test]
async fn a_service_without_its_directory_ends_in_order_and_leaves_the_one_that_took_its_place_alone() {
    let service = Service::sandbox().terse().start().await;
    assert_eq!(service.post("/v1/track", &event("m-1")).await.status, 200);
    service.settled(1).await;
    let directory = Arc::clone(&service.directory);
    std::fs::rename(directory.path().join("queue"), directory.path().join("aside")).unwrap();
    let successor = Service::sandbox().terse().on(Arc::clone(&directory)).start().await;
    assert_eq!(successor.post("/v1/track", &event("m-2")).await.status, 200);
    displaced(&service).await;
    service.end().await;
    assert_eq!(successor.post("/v1/track", &event("m-3")).await.status, 200);
    successor.settled(2).await;
    successor.end().await;
    assert_eq!(ids(&directory.path().join("queue")), ["m-2", "m-3"].map(str::to_owned).into());
    assert_eq!(ids(&directory.path().join("aside")), ["m-1".to_owned()].into());
}
