//! A wall clock that is set back and forth by hours: waits stay as long as they are, and nothing is lost or counted twice.

use std::time::Duration;

use serde_json::{Value, json};

use crate::books;
use crate::disk::{Disk, Knob};
use crate::service::{Service, Setup};

const HOUR: i64 = 3_600_000;

fn setup(disk: &Disk, longest: &str) -> Setup {
    disk.under(Service::sandbox()).config(&format!(
        r#"
[delivery]
quick_retries = 0
max_age = "1h"
[delivery.retry]
base = "10ms"
cap = "10ms"
retry_after_cap = "{longest}"
[organizations.acme]
org_token = "org-token-acme-1"
source_keys = ["wk_acme"]
[organizations.globex]
org_token = "org-token-globex-1"
source_keys = ["wk_globex"]
"#
    ))
}

/// Posts an event of an organization: whether it was new.
async fn post(service: &Service, organization: &str, id: &str) -> bool {
    let event = json!({ "type": "track", "userId": id, "event": "Seat Chosen", "messageId": id, "properties": { "mark": id } });
    let request = service.client().post(format!("{}/v1/track", service.public));
    let request = request.basic_auth(format!("wk_{organization}"), Some("")).body(event.to_string());
    let reply = service.send(request).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["accepted"] == 1
}

/// Posts an event of the healthy organization and waits until it has arrived: everything else that was due has had its
/// turn.
async fn goes_on(service: &Service, id: &str) {
    assert!(post(service, "globex", id).await);
    service
        .eventually("delivered", || async { service.calls(&format!("contains={id}")).await.len() == 1 })
        .await;
}

/// One refusal of acme's, which asks for a wait.
fn refusal(seconds: u32) -> Value {
    json!([{ "org_token": "org-token-acme-1", "next": 1, "status": 503, "retry_after": seconds.to_string() }])
}

/// Processor time of a process so far, in hundredths of a second.
fn cpu(service: &Service) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", service.pid())).unwrap();
    let (_, after_name) = stat.rsplit_once(')').unwrap();
    after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn a_clock_that_is_set_forward_makes_no_retry_come_early() {
    let disk = Disk::new();
    let service = setup(&disk, "1h").start().await;
    service.faults(&refusal(3_600)).await;
    assert!(post(&service, "acme", "m-acme").await);
    service.state(1, "retrying").await;
    for (hours, id) in [(3, "m-3"), (-5, "m-5"), (9, "m-9"), (0, "m-0")] {
        disk.set(Knob::ClockMs, hours * HOUR);
        goes_on(&service, id).await;
        assert_eq!(service.private("/api/events/1").await.json()["state"], "retrying", "{hours} h");
        assert_eq!(service.calls("contains=m-acme").await.len(), 1, "{hours} h");
        assert!(!post(&service, "globex", id).await, "it is known");
    }
    let before = cpu(&service);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let spent = cpu(&service) - before;
    assert!(spent < 50, "{spent} ticks in a second of waiting: it turns in circles");
    service.end().await;
    assert_eq!(books::balance(&disk.queue()), books::Books { accepted: 5, waiting: 1 });
}

#[tokio::test]
async fn a_clock_that_is_set_back_holds_no_retry_up() {
    let disk = Disk::new();
    let service = setup(&disk, "2s").start().await;
    service.faults(&refusal(2)).await;
    assert!(post(&service, "acme", "m-acme").await);
    service.state(1, "retrying").await;
    disk.set(Knob::ClockMs, -3 * HOUR);
    assert_eq!(service.settled(1).await["delivered"], 1);
    assert!(!post(&service, "acme", "m-acme").await, "it is known");
    // What arrives now is stamped three hours before what the waits go by, and is not old for that.
    goes_on(&service, "m-new").await;
    service.end().await;
}

#[tokio::test]
async fn a_clock_that_is_set_back_between_two_starts_holds_no_retry_up() {
    let disk = Disk::new();
    let service = setup(&disk, "2s").start().await;
    service.faults(&refusal(2)).await;
    assert!(post(&service, "acme", "m-acme").await);
    service.state(1, "retrying").await;
    service.kill().await;
    disk.set(Knob::ClockMs, -3 * HOUR);

    let service = setup(&disk, "2s").start().await;
    assert_eq!(service.settled(1).await["delivered"], 1);
    assert!(!post(&service, "acme", "m-acme").await, "it is known");
    service.end().await;
}
