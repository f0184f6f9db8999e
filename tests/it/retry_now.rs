//! Retry now: what waits for another attempt is tried at once, by event, reason or organization.

use serde_json::{Value, json};

use crate::service::{PATIENCE, Service, Setup, program};
use crate::stand_in::StandIn;

/// A failed event waits for an hour.
fn setup(wigzo: &StandIn) -> Setup {
    let organization = |name: &str| {
        format!("[organizations.{name}]\norg_token = \"org-token-{name}-1\"\nsource_keys = [\"wk_{name}\"]\n")
    };
    Service::calling(wigzo).config(&format!(
        "[delivery]\nquick_retries = 0\n[delivery.retry]\nbase = \"1h\"\ncap = \"1h\"\n{}{}",
        organization("acme"),
        organization("globex")
    ))
}

/// Sends an event of a user of its own; it gets the next number.
async fn track(service: &Service, organization: &str, name: &str, id: u64) {
    let event = json!({ "userId": format!("user-{id}"), "event": name, "messageId": format!("m-{id}") });
    let request = service.client().post(format!("{}/v1/track", service.public)).body(event.to_string());
    let reply = service.send(request.basic_auth(format!("wk_{organization}"), Some(""))).await;
    assert_eq!(reply.status, 200, "{reply:?}");
}

/// Events 1 to 3 of `acme` and 4 of `globex` fail for two reasons and wait; then the faults end.
async fn failed(service: &Service) {
    service
        .faults(&json!([{ "event_name": "Broken", "status": 500 }, { "event_name": "Busy", "status": 502 }]))
        .await;
    let events = [("acme", "Broken"), ("acme", "Broken"), ("acme", "Busy"), ("globex", "Broken")];
    for (number, (organization, name)) in (1..).zip(events) {
        track(service, organization, name, number).await;
        service.state(number, "retrying").await;
    }
    service.faults(&json!([])).await;
    service.quiet().await;
}

async fn retry(service: &Service, path: &str, body: Value) -> Value {
    let reply = service.operate(path, &body).await;
    assert_eq!(reply.status, 200, "{path}: {reply:?}");
    reply.json()
}

/// Runs a command against a service: exit code, standard output, standard error.
async fn run(service: &Service, arguments: &[&str]) -> (i32, String, String) {
    let output = program(service.directory.path()).args(arguments).args(["--url", &service.private]).output();
    let output = tokio::time::timeout(PATIENCE, output).await.expect("it hangs").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn an_event_a_reason_and_an_organization_are_tried_at_once_over_the_api() {
    let wigzo = StandIn::start().await;
    let service = setup(&wigzo).start().await;
    failed(&service).await;

    assert_eq!(retry(&service, "/api/events/2/retry", json!({})).await, json!({ "retried": 1 }));
    service.state(2, "delivered").await;
    let acme = "/api/organizations/acme/retry";
    assert_eq!(retry(&service, acme, json!({ "reason": "wigzo_503" })).await, json!({ "retried": 0 }));
    assert_eq!(retry(&service, acme, json!({ "reason": "wigzo_500" })).await, json!({ "retried": 1 }));
    service.state(1, "delivered").await;
    service.quiet().await;
    for number in [3, 4] {
        assert_eq!(service.private(&format!("/api/events/{number}")).await.json()["state"], "retrying");
    }
    assert_eq!(retry(&service, acme, json!({})).await, json!({ "retried": 1 }));
    service.state(3, "delivered").await;
    assert_eq!(service.ledger().await["delivered"], 3, "another organization's event goes on waiting");
    service.end().await;
}

#[tokio::test]
async fn the_commands_do_the_same() {
    let wigzo = StandIn::start().await;
    let service = setup(&wigzo).start().await;
    failed(&service).await;

    let (code, out, err) = run(&service, &["events", "retry", "2"]).await;
    assert_eq!((code, out.as_str()), (0, "1 event is tried now.\n"), "{err}");
    service.state(2, "delivered").await;
    let reason = ["delivery", "retry", "--organization", "acme", "--reason", "wigzo_500", "--json"];
    let (code, out, err) = run(&service, &reason).await;
    assert_eq!((code, out.as_str()), (0, "{\"retried\":1}\n"), "{err}");
    service.state(1, "delivered").await;
    let (code, out, err) = run(&service, &["delivery", "retry", "--organization", "acme"]).await;
    assert_eq!((code, out.as_str()), (0, "1 event is tried now.\n"), "{err}");
    service.state(3, "delivered").await;

    for (arguments, code, said) in [
        (&["events", "retry", "2"][..], 1, "its status is delivered"),
        (&["events", "retry", "99"], 1, "No such event"),
        (&["delivery", "retry", "--organization", "nobody"], 1, "No organization has this name"),
        (&["delivery", "retry", "--organization", "acme", "--reason", "wigzo_40"], 2, "wigzo_502, wigzo_503"),
        (&["delivery", "retry"], 2, "--organization <NAME>"),
    ] {
        let (ended, _, err) = run(&service, arguments).await;
        assert!(ended == code && err.contains(said), "{arguments:?} {ended}: {err}");
    }
    service.end().await;
}

#[tokio::test]
async fn what_does_not_wait_is_refused_with_its_status() {
    let wigzo = StandIn::start().await;
    let service = setup(&wigzo).start().await;
    service.faults(&json!([{ "event_name": "Refused", "status": 400 }])).await;
    track(&service, "acme", "Seat Chosen", 1).await;
    track(&service, "acme", "Refused", 2).await;
    service.settled(2).await;
    for (number, said) in [(1, "its status is delivered"), (2, "its status is dead")] {
        let refused = service.operate(&format!("/api/events/{number}/retry"), &json!({})).await;
        assert_eq!((refused.status, &refused.json()["code"]), (409, &json!("not_waiting")), "{refused:?}");
        assert!(refused.body.contains(said), "{refused:?}");
    }
    for (path, body, status, code) in [
        ("/api/events/99/retry", json!({}), 404, "unknown_event"),
        ("/api/events/one/retry", json!({}), 400, "bad_parameter"),
        ("/api/organizations/nobody/retry", json!({}), 404, "unknown_organization"),
        ("/api/organizations/acme/retry", json!({ "reason": "wigzo_40" }), 400, "bad_body"),
    ] {
        let refused = service.operate(path, &body).await;
        assert_eq!((refused.status, &refused.json()["code"]), (status, &json!(code)), "{refused:?}");
    }
    let refused = service.operate("/api/organizations/acme/retry", &json!({ "reason": "wigzo_40" })).await;
    assert!(refused.body.contains("wigzo_500, wigzo_502"), "{refused:?}");
    assert_eq!(service.ledger().await["dead"], 1);
    service.end().await;
}

#[tokio::test]
async fn a_retry_holds_after_a_crash_and_waits_for_the_end_of_a_pause() {
    let wigzo = StandIn::start().await;
    let service = setup(&wigzo).start().await;
    failed(&service).await;
    service.operate("/api/organizations/acme/pause", &json!({})).await;
    assert_eq!(retry(&service, "/api/organizations/acme/retry", json!({})).await, json!({ "retried": 3 }));
    let directory = service.kill().await;
    let service = setup(&wigzo).on(directory).start().await;
    assert_eq!(service.ledger().await["delivered"], 0, "the pause goes on");
    service.operate("/api/organizations/acme/resume", &json!({})).await;
    service.until("/api/stats", |stats| stats["ledger"]["delivered"] == 3).await;
    service.end().await;
}

#[tokio::test]
async fn a_resume_tries_waiting_events_at_once() {
    let wigzo = StandIn::start().await;
    let service = setup(&wigzo).start().await;
    failed(&service).await;
    service.operate("/api/organizations/acme/resume", &json!({})).await;
    service.until("/api/stats", |stats| stats["ledger"]["delivered"] == 3).await;
    service.end().await;
}
