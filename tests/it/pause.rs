//! An operator's pause: it is obeyed at once, survives restarts, and is impossible to miss.

use serde_json::json;

use crate::service::{Service, Setup};
use crate::stand_in::StandIn;

fn setup(wigzo: &StandIn) -> Setup {
    let organization = |name: &str| {
        format!("[organizations.{name}]\norg_token = \"org-token-{name}-1\"\nsource_keys = [\"wk_{name}\"]\n")
    };
    Service::calling(wigzo).config(&format!("{}{}", organization("acme"), organization("globex")))
}

async fn track(service: &Service, name: &str, id: &str) {
    let event = json!({ "userId": "user-1", "event": "Seat Chosen", "messageId": id }).to_string();
    let request = service.client().post(format!("{}/v1/track", service.public)).body(event);
    assert_eq!(service.send(request.basic_auth(format!("wk_{name}"), Some(""))).await.status, 200);
}

#[tokio::test]
async fn a_pause_survives_a_kill_and_ends_when_somebody_says_so() {
    let wigzo = StandIn::start().await;
    let service = setup(&wigzo).start().await;
    let paused = service.operate("/api/organizations/acme/pause", &json!({ "why": "stock-taking" })).await;
    assert_eq!(paused.json()["delivery"]["state"], "held", "the answer shows what was asked for");
    let paused = paused.json()["paused"].clone();
    assert_eq!((&paused["by"], &paused["why"]), (&json!("loopback"), &json!("stock-taking")));
    assert!(paused["since"].as_str().unwrap().ends_with('Z'), "{paused}");
    for name in ["acme", "globex"] {
        track(&service, name, "before").await;
    }
    service.until("/api/stats", |stats| stats["ledger"]["delivered"] == 1).await;
    let directory = service.kill().await;

    let service = setup(&wigzo).on(directory).start().await;
    assert!(service.log().contains("is paused by an operator"), "{}", service.log());
    for name in ["acme", "globex"] {
        track(&service, name, "after").await;
    }
    let stats = service.until("/api/stats", |stats| stats["ledger"]["delivered"] == 2).await;
    assert_eq!((&stats["waiting"]["acme"], &stats["paused"]["acme"]), (&json!(2), &paused), "{stats}");
    let held = service.private("/api/organizations?standing=held").await.json();
    assert_eq!(held["organizations"][0]["name"], "acme", "{held}");
    let event = service.private("/api/events/1").await.json();
    assert_eq!(
        (&event["state"], &event["next_attempt"]["waits_for"]),
        (&json!("waiting"), &json!("operator"))
    );
    assert_eq!(
        service.metric(r#"wigzo_destination_organization_state{organization="acme",state="held"}"#).await,
        1
    );
    assert_eq!(service.calls("org_token=org-token-acme-1").await.len(), 0, "nothing of it was sent");

    let resumed = service.operate("/api/organizations/acme/resume", &json!({})).await;
    assert_eq!((resumed.status, &resumed.json()["paused"]), (200, &json!(null)), "{resumed:?}");
    assert_eq!(resumed.json()["delivery"]["state"], "open", "{resumed:?}");
    assert_eq!(service.settled(4).await["delivered"], 4);
    let directory = service.kill().await;
    let service = setup(&wigzo).on(directory).start().await;
    track(&service, "acme", "last").await;
    assert_eq!(service.settled(5).await["delivered"], 5, "a resume survives likewise");
    service.end().await;
}

#[tokio::test]
async fn pauses_that_cannot_be_read_keep_the_service_from_sending() {
    let wigzo = StandIn::start().await;
    let service = setup(&wigzo).start().await;
    service.operate("/api/organizations/acme/pause", &json!({})).await;
    let directory = service.kill().await;
    std::fs::write(directory.path().join("queue/held.json"), "{ acme").unwrap();
    let (code, said) = setup(&wigzo).on(directory).refused().await;
    assert!(
        code == Some(1) && said.contains("held.json does not list the paused organizations"),
        "{code:?}: {said}"
    );
}

#[tokio::test]
async fn what_cannot_be_written_down_is_not_paused() {
    let wigzo = StandIn::start().await;
    let service = setup(&wigzo).start().await;
    // A directory in the place of the file: a rename onto it fails, for root too.
    std::fs::create_dir(service.directory.path().join("queue/held.json")).unwrap();
    let refused = service.operate("/api/organizations/acme/pause", &json!({})).await;
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("not_saved")), "{refused:?}");
    assert_eq!(service.private("/api/organizations/acme").await.json()["paused"], json!(null));
    track(&service, "acme", "a").await;
    assert_eq!(service.settled(1).await["delivered"], 1);
    service.end().await;
}
