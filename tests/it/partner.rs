//! Partner mode: organizations that nobody configured, known by the token that Segment sends for their customers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::service::{Reply, Service, Setup};
use crate::stand_in::StandIn;
use crate::wire::Request;

const ASHA: &str = "partner-org-token-asha";
const RAVI: &str = "partner-org-token-ravi";

/// `printf 'wigzo-destination partner %s' TOKEN | sha256sum | cut -c1-16`, as the README has it.
fn name(token: &str) -> String {
    let hash = aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA256,
        format!("wigzo-destination partner {token}").as_bytes(),
    );
    let hash = hash.as_ref()[..8].iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    format!("partner.{hash}")
}

/// A request as Segment's Direct Destination makes it.
fn direct(token: &str, settings: &Value, body: &Value) -> Request {
    let request = Request::post("/webhook")
        .header("Authorization", &format!("Basic {}", STANDARD.encode(format!("{token}:"))))
        .header("Content-Type", "application/json")
        .header("User-Agent", "Segment.io/1.0")
        .body(body.to_string());
    if settings.is_null() {
        return request;
    }
    request.header("X-Segment-Settings", &STANDARD.encode(settings.to_string()))
}

async fn post(service: &Service, token: &str, settings: &Value, body: &Value) -> Reply {
    service.wire(&direct(token, settings, body)).await
}

fn track(person: &str, event: &str, id: &str) -> Value {
    json!({ "type": "track", "userId": person, "event": event, "messageId": id })
}

const QUICK: &str = r#"
[delivery]
quick_retries = 0
probe_base = "200ms"
probe_cap = "400ms"
[delivery.retry]
base = "40ms"
cap = "100ms"
"#;

fn quick(partner: &str) -> Setup {
    Service::sandbox().config(&format!("[ingress]\npartner_mode = true\n{partner}\n{QUICK}"))
}

/// What a partner needs stands beside its events: neither a restart nor a switched-off partner mode loses any.
#[tokio::test]
async fn a_restart_while_wigzo_is_away_loses_nothing_and_mixes_no_tokens() {
    let wigzo = StandIn::start().await;
    let setup = |partner_mode: &str| {
        Service::calling(&wigzo)
            .env("WIGZO__INGRESS__PARTNER_MODE", partner_mode)
            .config(QUICK)
            .config("[organization_defaults]\nidentity = \"anonymous_first\"")
    };
    let service = setup("true").start().await;
    service.faults(&json!([{ "status": 503 }])).await;
    let raw = json!({ "orgToken": ASHA, "Identity": "raw", "region": "in" });
    for number in 0..5 {
        let event = track("user-42", &format!("Asha {number}"), &format!("m-{number}"));
        let reply = post(&service, ASHA, &raw, &event).await;
        assert_eq!((reply.status, &reply.json()["accepted"]), (200, &json!(1)), "{reply:?}");
        let event = track("user-42", &format!("Ravi {number}"), &format!("m-{number}"));
        let reply = post(&service, RAVI, &Value::Null, &event).await;
        assert_eq!((reply.status, &reply.json()["accepted"]), (200, &json!(1)), "{reply:?}");
    }
    // Another mapping of the same customer's, with other options: the same organization and lane.
    let event = track("user-42", "Asha by default", "m-5");
    assert_eq!(post(&service, ASHA, &json!({}), &event).await.status, 200);
    let stats = service.private("/api/stats").await.json();
    assert_eq!(stats["waiting"], json!({ name(ASHA): 6, name(RAVI): 5 }));
    service.until("/api/events/1", |record| record["tries"].as_u64() >= Some(1)).await;
    let directory = service.kill().await;

    let service = setup("true").on(directory).start().await;
    let event = track("user-42", "Asha 0", "m-0");
    let again = post(&service, ASHA, &raw, &event).await;
    assert_eq!(again.json()["duplicates"], 1, "{again:?}");
    let directory = service.kill().await;

    // Nobody new is taken; who was accepted is delivered.
    let service = setup("false").on(directory).env("WIGZO_ORG_TOKEN", "configured-org-token").start().await;
    service.faults(&json!([])).await;
    let ledger = service.settled(11).await;
    assert_eq!((&ledger["delivered"], &ledger["accepted"]), (&json!(11), &json!(11)));
    for (who, token, count) in [("Asha", ASHA, 6), ("Ravi", RAVI, 5)] {
        let calls = service.calls(&format!("carried_out=true&org_token={token}")).await;
        let names: Vec<&str> = calls.iter().map(|call| call["body"]["eventName"].as_str().unwrap()).collect();
        assert_eq!(names.len(), count, "{names:?}");
        assert!(names.iter().all(|event| event.starts_with(who)), "{token} was used for {names:?}");
        assert!(names.is_sorted(), "out of order: {names:?}");
        for call in calls {
            let is_raw = call["body"]["userId"] == "user-42";
            let wanted = who == "Asha" && call["body"]["eventName"] != "Asha by default";
            assert_eq!(is_raw, wanted, "{call}");
        }
    }
    let found = service.private(&format!("/api/events?organization={}", name(ASHA))).await.json();
    assert_eq!(found["events"].as_array().unwrap().len(), 6);
    service.end().await;
}

/// Made-up tokens fill neither the disk nor anybody else's way.
#[tokio::test]
async fn a_flood_of_strangers_is_bounded_and_disturbs_nobody() {
    let config = "partner_waiting_events = 50\nunproven_partners = 3";
    let service = quick(config)
        .config("[organizations.acme]\norg_token = \"configured-org-token\"\nsource_keys = [\"wk_acme\"]")
        .start()
        .await;
    service.faults(&json!([{ "event_name": "Flood", "status": 401 }])).await;
    let proven = post(&service, ASHA, &Value::Null, &track("user-1", "First", "m-1")).await;
    assert_eq!(proven.status, 200);
    service.settled(1).await;

    let mut floods = 0;
    let flood = |token: usize, round: usize| {
        let events = (0..10).map(|place| track("user-1", "Flood", &format!("{token}-{round}-{place}")));
        (format!("made-up-by-a-stranger-{token:03}"), events.collect::<Value>())
    };
    let mut codes = std::collections::BTreeMap::<String, usize>::new();
    for token in 0..20 {
        for round in 0..7 {
            let (token, body) = flood(token, round);
            let reply = post(&service, &token, &Value::Null, &body).await;
            let code = if reply.status == 200 {
                floods += 10;
                "kept".to_owned()
            } else {
                assert_eq!(reply.status, 429, "{reply:?}");
                assert!(reply.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() > 0);
                reply.json()["code"].as_str().unwrap().to_owned()
            };
            *codes.entry(code).or_default() += 1;
        }
        // The others go on meanwhile.
        let good =
            post(&service, ASHA, &Value::Null, &track("user-1", "Good", &format!("good-{token}"))).await;
        assert_eq!(good.status, 200, "{good:?}");
        let acme = Request::post("/v1/track")
            .bearer("wk_acme")
            .body(track("u", "Acme", &format!("a-{token}")).to_string());
        assert_eq!(service.wire(&acme).await.status, 200);
    }
    // Three strangers with five requests each; their sixth and seventh are too many, as are all seven of the others.
    let expected = [("kept", 15), ("partner_events_waiting", 6), ("too_many_partners", 119)]
        .map(|(code, count)| (code.to_owned(), count));
    assert_eq!(codes, expected.into());
    assert_eq!(floods, 150);
    // Nobody knows yet that this one is honest.
    let late = post(&service, RAVI, &Value::Null, &track("user-1", "Late", "late")).await;
    assert_eq!((late.status, &late.json()["code"]), (429, &json!("too_many_partners")), "{late:?}");

    service.until("/api/stats", |stats| stats["waiting_total"] == floods).await;
    assert_eq!(service.calls(&format!("event_name=Good&carried_out=true&org_token={ASHA}")).await.len(), 20);
    assert_eq!(
        service.calls("event_name=Acme&carried_out=true&org_token=configured-org-token").await.len(),
        20
    );
    // Their names stand where a person looks, and nowhere that a monitoring system would keep them.
    let metrics = service.private("/metrics").await.body;
    assert!(!metrics.contains("organization=\"partner."), "{metrics}");
    assert_eq!(service.metric("wigzo_destination_waiting_events{organization=\"_partners\"}").await, floods);
    assert!(service.log().contains(&name("made-up-by-a-stranger-000")), "the log names a partner");
    service.end().await;
}

/// What a stranger has left makes room some day; a proven partner's events are not given up so soon.
#[tokio::test]
async fn what_waits_for_a_made_up_token_expires() {
    let config =
        format!("{}\n", QUICK.replace("[delivery]", "[delivery]\nunproven_partner_max_age = \"1s\""));
    let service = Service::sandbox()
        .config(&format!("[ingress]\npartner_mode = true\nunproven_partners = 1\n{config}"))
        .start()
        .await;
    assert_eq!(post(&service, ASHA, &Value::Null, &track("u", "First", "m-1")).await.status, 200);
    service.settled(1).await;
    service.faults(&json!([{ "status": 401 }])).await;
    assert_eq!(post(&service, ASHA, &Value::Null, &track("u", "Second", "m-2")).await.status, 200);
    let flood = json!([track("u", "Flood", "f-1"), track("u", "Flood", "f-2"), track("v", "Flood", "f-3")]);
    assert_eq!(post(&service, "made-up-by-a-stranger", &Value::Null, &flood).await.status, 200);
    let ledger = service.until("/api/stats", |stats| stats["ledger"]["expired"] == 3).await;
    assert_eq!(ledger["waiting"], json!({ name(ASHA): 1 }));
    let record = service.private("/api/events/3").await.json();
    assert_eq!((&record["state"], &record["reason"]), (&json!("expired"), &json!("max_age")));

    service.faults(&json!([])).await;
    let next = post(&service, RAVI, &Value::Null, &track("u", "Third", "m-3")).await;
    assert_eq!(next.status, 200, "there is room again: {next:?}");
    assert_eq!(service.settled(6).await["delivered"], 3);
    service.end().await;
}

/// Replies, origins, deletions and options are the same for partners as for others.
#[tokio::test]
async fn a_partner_is_served_like_a_configured_organization() {
    let service =
        quick("").config("[organization_defaults]\ncors_origins = [\"https://shop.example\"]").start().await;
    let event = track("user-1", "Seat Chosen", "m-1");
    let page = |origin: &str| direct(ASHA, &Value::Null, &event).header("Origin", origin);
    assert_eq!(service.wire(&page("https://elsewhere.example")).await.status, 403);
    assert_eq!(service.wire(&page("https://shop.example")).await.status, 200);
    let invalid = post(&service, ASHA, &Value::Null, &json!({ "type": "track", "userId": "user-1" })).await;
    assert_eq!((invalid.status, &invalid.json()["code"]), (400, &json!("event_not_defined")));
    let unsupported =
        post(&service, ASHA, &Value::Null, &json!({ "type": "video", "userId": "user-1" })).await;
    assert_eq!(unsupported.status, 501);
    service.settled(1).await;

    // An option of the customer's that filters.
    let skip = json!({ "contactless": "skip" });
    let identify =
        json!({ "type": "identify", "userId": "user-2", "messageId": "m-2", "traits": { "plan": "x" } });
    assert_eq!(post(&service, ASHA, &skip, &identify).await.status, 200);
    assert_eq!(service.settled(2).await["filtered"], 1);
    assert_eq!(service.private("/api/events/2").await.json()["reason"], "no_contact");

    // A library that was given the token as its write key.
    let library = Request::post("/v1/track")
        .header("Authorization", &format!("Basic {}", STANDARD.encode(format!("{ASHA}:"))))
        .body(track("user-1", "From a library", "m-3").to_string());
    assert_eq!(service.wire(&library).await.status, 200);
    service.settled(3).await;
    assert_eq!(service.calls(&format!("org_token={ASHA}")).await.len(), 2);

    let delete = json!({ "type": "delete", "userId": "user-1", "messageId": "m-4" });
    assert_eq!(post(&service, RAVI, &Value::Null, &delete).await.status, 200);
    assert_eq!(post(&service, ASHA, &Value::Null, &delete).await.status, 200);
    service.until("/api/events/1", |record| record["person"] == "").await;

    for (reason, request) in [
        ("contradicting_tokens", direct(ASHA, &json!({ "orgToken": RAVI }), &event)),
        ("malformed_header", direct(ASHA, &json!(["no object"]), &event)),
        ("unknown_key", direct("short", &Value::Null, &event)),
    ] {
        assert_eq!(service.wire(&request).await.status, 401, "{reason}");
        let series = format!("wigzo_destination_requests_unauthenticated_total{{reason=\"{reason}\"}}");
        assert_eq!(service.metric(&series).await, 1, "{reason}");
    }
    let document = service.get("/openapi.json").await.body;
    assert!(document.contains("X-Segment-Settings"), "{document}");
    service.end().await;
}

/// More partners than are kept in memory, coming and going.
#[tokio::test]
async fn partners_that_come_and_go_are_all_served() {
    const PARTNERS: usize = 1_300;
    let service = std::sync::Arc::new(quick("unproven_partners = 100000").terse().start().await);
    for round in 0..2 {
        let mut posts = tokio::task::JoinSet::new();
        for worker in 0..16 {
            let service = std::sync::Arc::clone(&service);
            posts.spawn(async move {
                for number in (worker..PARTNERS).step_by(16) {
                    let token = format!("coming-and-going-{number:04}");
                    let event = track("user-1", &format!("Round {round}"), &format!("m-{round}"));
                    assert_eq!(post(&service, &token, &Value::Null, &event).await.status, 200);
                }
            });
        }
        posts.join_all().await;
        let accepted = ((round + 1) * PARTNERS) as u64;
        assert_eq!(service.settled(accepted).await["delivered"], accepted);
        let calls = service.calls(&format!("event_name=Round+{round}")).await;
        let tokens: std::collections::BTreeSet<&str> =
            calls.iter().map(|call| call["org_token"].as_str().unwrap()).collect();
        assert_eq!((calls.len(), tokens.len()), (PARTNERS, PARTNERS));
    }
    assert_eq!(service.private("/api/stats").await.json()["waiting"], json!({}), "names are let go");
    std::sync::Arc::into_inner(service).unwrap().end().await;
}
