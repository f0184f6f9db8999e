//! A sync that failed has written nothing, and the next one does not make up for it: Linux counts the pages as clean.

use std::time::Duration;

use serde_json::{Value, json};

use crate::books;
use crate::disk::{Disk, Knob};
use crate::service::{Reply, Service, Setup};

/// Nothing is delivered, so that what is kept waits.
fn setup(disk: &Disk) -> Setup {
    disk.under(Service::sandbox()).config("[delivery.retry]\nbase = \"1h\"\ncap = \"1h\"\n")
}

async fn start(disk: &Disk) -> Service {
    let service = setup(disk).start().await;
    service.faults(&json!([{ "status": 500 }])).await;
    service
}

fn event(id: &str) -> Value {
    json!({ "type": "track", "userId": id, "event": "Seat Chosen", "messageId": id })
}

async fn post(service: &Service, id: &str) -> Reply {
    service.post("/v1/track", &event(id).to_string()).await
}

/// Whether an event is kept: then it is known when it is sent again.
async fn kept(service: &Service, id: &str) -> bool {
    let reply = post(service, id).await.json();
    assert!(reply["accepted"].is_u64(), "{reply}");
    reply["duplicates"] == 1
}

#[tokio::test]
async fn what_is_acknowledged_after_a_failed_sync_and_a_restart_survives_a_power_cut() {
    let disk = Disk::new();
    let service = start(&disk).await;
    assert_eq!(post(&service, "before").await.status, 200);
    disk.set(Knob::SyncsToFail, -1);
    assert_eq!(post(&service, "refused").await.status, 503);
    service.kill().await;
    disk.heal();

    let service = start(&disk).await;
    assert_eq!(post(&service, "after").await.status, 200);
    service.kill().await;
    disk.cut_power(&mut fastrand::Rng::with_seed(1));

    let service = start(&disk).await;
    assert!(kept(&service, "before").await);
    assert!(kept(&service, "after").await);
    service.end().await;
    books::balance(&disk.queue());
}

#[tokio::test]
async fn a_failed_sync_is_a_503_and_the_service_recovers_by_itself() {
    let disk = Disk::new();
    let service = start(&disk).await;
    assert_eq!(post(&service, "before").await.status, 200);
    disk.set(Knob::SyncsToFail, 1);
    let refused = post(&service, "refused").await;
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("queue_unavailable")), "{refused:?}");
    assert!(refused.headers.contains_key("retry-after"));
    service.eventually("ready", || async { service.get("/readyz").await.status == 200 }).await;
    assert!(!kept(&service, "refused").await, "nothing of a refused request is kept");
    assert!(kept(&service, "before").await);
    service.kill().await;
    disk.cut_power(&mut fastrand::Rng::with_seed(2));

    let service = start(&disk).await;
    assert!(kept(&service, "before").await && kept(&service, "refused").await);
    service.end().await;
    books::balance(&disk.queue());
}

#[tokio::test]
async fn while_syncs_fail_the_operator_is_told_and_nothing_is_acknowledged() {
    let disk = Disk::new();
    let service = start(&disk).await;
    disk.set(Knob::SyncsToFail, -1);
    for id in ["a", "b", "c"] {
        assert_eq!(post(&service, id).await.status, 503);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let probe = service.get("/readyz").await;
    assert_eq!(probe.status, 503);
    assert!(probe.body.contains("disk takes no writes"), "{probe:?}");
    assert_eq!(service.get("/livez").await.status, 200, "killing the process cures no disk");
    assert!(service.log().contains("the queue cannot write"), "{}", service.log());
    service.kill().await;
    disk.heal();
    disk.cut_power(&mut fastrand::Rng::with_seed(3));
    let service = start(&disk).await;
    assert_eq!(service.ledger().await["accepted"], 0);
    service.end().await;
}

#[tokio::test]
async fn a_log_that_cannot_be_carried_over_into_the_database_loses_nothing() {
    // A commit syncs the log; carrying it over syncs the log again, and then the database.
    for succeed in 0..4 {
        let disk = Disk::new();
        let service = start(&disk).await;
        let text = "x".repeat(900_000);
        let big = async |number: usize| {
            let events: Vec<_> = (0..6)
                .map(|it| {
                    let id = format!("m-{number}-{it}");
                    json!({ "type": "track", "userId": id, "event": "Seat Chosen", "messageId": id, "text": text })
                })
                .collect();
            let reply = service.post("/v1/batch", &json!({ "batch": events }).to_string()).await;
            if reply.status == 200 { 6 } else { 0 }
        };
        let mut acknowledged = 0;
        // Short of sixteen MiB, at which the log is carried over.
        for number in 0..2 {
            acknowledged += big(number).await;
        }
        disk.set(Knob::SyncsLeft, succeed);
        disk.set(Knob::SyncsToFail, 1);
        for number in 2..5 {
            acknowledged += big(number).await;
        }
        assert!(acknowledged >= 12, "{acknowledged}");
        service.kill().await;
        disk.cut_power(&mut fastrand::Rng::with_seed(succeed.unsigned_abs()));

        let service = start(&disk).await;
        let accepted = service.ledger().await["accepted"].as_u64().unwrap();
        assert!(accepted >= acknowledged, "{accepted} of {acknowledged}");
        service.end().await;
        books::balance(&disk.queue());
    }
}
