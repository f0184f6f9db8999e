//! A disk without room, or with errors: nothing is acknowledged that it did not take, and when it works again so does
//! the service.

use serde_json::json;

use crate::books;
use crate::disk::{Disk, Knob};
use crate::service::{PATIENCE, Service};

/// A request of a few events, 20 KB in all.
fn request(number: usize) -> String {
    let events: Vec<_> = (0..4)
        .map(|event| {
            json!({
                "type": "track", "userId": format!("user-{event}"), "event": "Seat Chosen",
                "messageId": format!("m-{number}-{event}"), "properties": { "text": "x".repeat(5_000) }
            })
        })
        .collect();
    json!({ "batch": events }).to_string()
}

/// Posts requests until one is refused: how many were acknowledged, and what the refusal says is checked.
async fn fill(service: &Service, first: usize) -> usize {
    for number in first..first + 10_000 {
        let reply = service.post("/v1/batch", &request(number)).await;
        if reply.status != 200 {
            assert_eq!(
                (reply.status, &reply.json()["code"]),
                (503, &json!("queue_unavailable")),
                "{reply:?}"
            );
            assert!(reply.headers.contains_key("retry-after"), "{reply:?}");
            return number;
        }
    }
    panic!("the disk never fills");
}

async fn ready(service: &Service) {
    service.eventually("ready", || async { service.get("/readyz").await.status == 200 }).await;
}

#[tokio::test]
async fn a_full_disk_refuses_keeps_what_it_has_and_heals() {
    let disk = Disk::new();
    let service = disk.under(Service::sandbox()).terse().start().await;
    disk.set(Knob::Room, 2_000_000);
    let acknowledged = fill(&service, 0).await;
    assert!(acknowledged > 0, "there was room for some");
    disk.set(Knob::Room, 0);
    fill(&service, 20_000).await;
    assert_eq!(service.get("/readyz").await.status, 503);
    assert_eq!(service.get("/livez").await.status, 200);

    disk.set(Knob::Room, -1);
    ready(&service).await;
    assert_eq!(service.post("/v1/batch", &request(30_000)).await.status, 200);
    let ledger = service.settled(acknowledged as u64 * 4).await;
    assert_eq!(ledger["delivered"], ledger["accepted"], "{ledger}");
    assert_eq!(
        service.calls("").await.len() as u64,
        ledger["accepted"].as_u64().unwrap(),
        "no call is doubled"
    );
    service.end().await;
    books::balance(&disk.queue());
}

#[tokio::test]
async fn a_start_on_a_full_disk_says_so_and_heals() {
    let disk = Disk::new();
    let setup = || disk.under(Service::sandbox()).terse();
    let service = setup().start().await;
    assert_eq!(service.post("/v1/batch", &request(0)).await.status, 200);
    service.settled(4).await;
    service.kill().await;
    disk.set(Knob::Room, 0);

    let service = setup().start().await;
    fill(&service, 1).await;
    disk.set(Knob::Room, -1);
    ready(&service).await;
    assert_eq!(service.post("/v1/batch", &request(1_000_000)).await.status, 200);
    service.end().await;
    books::balance(&disk.queue());

    let new = Disk::new();
    new.set(Knob::Room, 0);
    let (code, said) = new.under(Service::sandbox()).refused().await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("full"), "{said}");
}

#[tokio::test]
async fn writes_that_fail_are_refused_and_writes_that_fall_short_are_finished() {
    let disk = Disk::new();
    let service = disk.under(Service::sandbox()).terse().start().await;
    disk.set(Knob::WritesShort, 1);
    for number in 0..5 {
        assert_eq!(service.post("/v1/batch", &request(number)).await.status, 200);
    }
    disk.set(Knob::WritesFail, 1);
    assert_eq!(fill(&service, 5).await, 5);
    disk.heal();
    ready(&service).await;
    assert_eq!(service.post("/v1/batch", &request(6)).await.status, 200);
    let ledger = service.settled(24).await;
    assert_eq!((&ledger["accepted"], &ledger["delivered"]), (&json!(24), &json!(24)));
    service.end().await;
    books::balance(&disk.queue());
}

#[tokio::test]
async fn a_slow_disk_refuses_what_it_has_not_begun_and_never_what_it_keeps() {
    let disk = Disk::new();
    let service = disk.under(Service::sandbox()).config("[ingress]\ndeadline = \"300ms\"\n").start().await;
    disk.set(Knob::SyncMs, 1_500);
    let syncs = disk.get(Knob::SyncsBegun);
    let (first, second) = (request(1), request(2));
    let begun = service.post("/v1/batch", &first);
    let behind = async {
        // Only once the first one is being written.
        service.eventually("a sync", || async { disk.get(Knob::SyncsBegun) > syncs }).await;
        service.post("/v1/batch", &second).await
    };
    let (begun, behind) = tokio::join!(begun, behind);
    assert_eq!(begun.status, 200, "it was being committed: {begun:?}");
    assert_eq!((behind.status, &behind.json()["code"]), (503, &json!("too_slow")), "{behind:?}");
    disk.heal();
    service.settled(4).await;
    // On a busy machine it may take more than one try.
    let mut again = service.post("/v1/batch", &second).await;
    for _ in 0..20 {
        if again.status != 200 {
            again = service.post("/v1/batch", &second).await;
        }
    }
    let again = again.json();
    assert_eq!((&again["accepted"], &again["duplicates"]), (&json!(4), &json!(0)), "nothing of it was kept");
    assert_eq!(service.settled(8).await["accepted"], 8);
    service.end().await;
}

#[tokio::test]
async fn a_service_whose_disk_has_died_still_ends() {
    let disk = Disk::new();
    let mut service = disk
        .under(Service::sandbox())
        .config("[ingress]\ndrain_grace = \"10ms\"\ndrain_deadline = \"500ms\"\n")
        .start()
        .await;
    assert_eq!(service.post("/v1/batch", &request(0)).await.status, 200);
    service.settled(4).await;
    disk.set(Knob::WritesFail, 1);
    assert_eq!(service.post("/v1/batch", &request(1)).await.status, 503);
    service.signal("TERM");
    let status = tokio::time::timeout(PATIENCE / 2, service.ended()).await.expect("it hangs");
    assert!(status.code().is_some(), "{status:?}");
}
