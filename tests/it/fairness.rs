//! What one person's or one organization's trouble does to others: nothing. Breaker, rate limit, parking, and blocked
//! people who are many.

use serde_json::{Value, json};

use crate::service::{Service, Setup};
use crate::stand_in::StandIn;

/// Three organizations with a key each, and waits that suit a test.
fn three(delivery: &str, acme: &str) -> Setup {
    let organization = |name: &str, more: &str| {
        format!(
            "[organizations.{name}]\norg_token = \"org-token-{name}-1\"\nsource_keys = [\"wk_{name}\"]\n{more}\n"
        )
    };
    Service::sandbox().config(&format!(
        "{delivery}\n[delivery.retry]\nbase = \"40ms\"\ncap = \"100ms\"\n{}{}{}",
        organization("acme", acme),
        organization("globex", ""),
        organization("initech", "")
    ))
}

/// Posts track events of an organization in one request: (person, name), in this order.
async fn post(service: &Service, organization: &str, events: impl IntoIterator<Item = (String, String)>) {
    let batch: Vec<Value> = events
        .into_iter()
        .map(|(person, name)| {
            let id = format!("{organization}/{person}/{name}");
            json!({ "type": "track", "userId": person, "event": name, "messageId": id })
        })
        .collect();
    let count = batch.len();
    let request = service
        .client()
        .post(format!("{}/v1/batch", service.public))
        .basic_auth(format!("wk_{organization}"), Some(""))
        .body(json!({ "batch": batch }).to_string());
    let reply = service.send(request).await;
    assert_eq!((reply.status, &reply.json()["accepted"]), (200, &json!(count)), "{reply:?}");
}

fn people(count: usize, name: &str) -> impl Iterator<Item = (String, String)> {
    (0..count).map(move |person| (format!("user-{person}"), name.to_owned()))
}

/// How an organization's delivery stands.
async fn standing(service: &Service, organization: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let find = |stats: &Value| {
        let all = stats["delivery"].as_array().unwrap();
        all.iter().find(|it| it["organization"] == organization).cloned()
    };
    let stats = service.until("/api/stats", |stats| find(stats).is_some_and(|it| wanted(&it))).await;
    find(&stats).unwrap()
}

/// The names of a person's delivered events, in the order of their calls.
async fn delivered(service: &Service, person: &str) -> Vec<String> {
    let learner = service.calls("carried_out=true&order=asc").await;
    let names = learner.iter().filter(|call| {
        call["idempotency_key"].is_string() && call["body"]["eventName"].as_str().unwrap().starts_with(person)
    });
    names.map(|call| call["body"]["eventName"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_dead_organization_opens_its_breaker_and_disturbs_nobody() {
    let setup = three(
        "[delivery]\nquick_retries = 0\n[delivery.breaker]\nlanes = 3\nbase = \"300ms\"\ncap = \"1s\"",
        "",
    );
    let service = setup.start().await;
    service.faults(&json!([{ "org_token": "org-token-acme-1", "status": 500 }])).await;
    post(&service, "acme", people(40, "Lost")).await;
    let acme = standing(&service, "acme", |it| it["breaker"] != "closed").await;
    assert!(["failing", "probing"].contains(&acme["state"].as_str().unwrap()), "{acme}");
    post(&service, "globex", people(200, "Elsewhere")).await;
    service.until("/api/stats", |stats| stats["ledger"]["delivered"] == 200).await;
    let tried = service.calls("org_token=org-token-acme-1").await.len();
    assert!(tried < 40, "{tried} calls although nothing goes");
    let globex = standing(&service, "globex", |_| true).await;
    assert_eq!((&globex["state"], &globex["breaker"]), (&json!("open"), &json!("closed")));
    let metrics = service.private("/metrics").await.body;
    assert!(
        metrics.contains("wigzo_destination_organization_state{organization=\"globex\",state=\"open\"} 1")
    );
    assert!(service.metric("wigzo_destination_organizations{state=\"open\"}").await <= 2, "{metrics}");
    assert!(service.log().contains("calls fail one after the other"), "{}", service.log());

    service.faults(&json!([])).await;
    let ledger = service.settled(240).await;
    assert_eq!((&ledger["delivered"], &ledger["dead"]), (&json!(240), &json!(0)));
    standing(&service, "acme", |it| it["state"] == "open").await;
    service.end().await;
}

#[tokio::test]
async fn slow_organizations_leave_room_for_others() {
    // Two slow ones could fill the global limit twice over.
    let service = three("[delivery]\nmax_in_flight = 12\ntimeout = \"20s\"", "").start().await;
    service
        .faults(&json!([
            { "org_token": "org-token-acme-1", "effect": "never" },
            { "org_token": "org-token-globex-1", "effect": "never" },
        ]))
        .await;
    post(&service, "acme", people(100, "Slow")).await;
    post(&service, "globex", people(100, "Slow")).await;
    standing(&service, "globex", |it| it["in_flight"].as_u64() >= Some(4)).await;
    post(&service, "initech", people(300, "Quick")).await;
    // None of the slow calls has ended: they take twenty seconds to time out.
    service.until("/api/stats", |stats| stats["ledger"]["delivered"] == 300).await;
    assert_eq!(service.metric("wigzo_destination_attempts_total{result=\"delivered\"}").await, 300);
    let metrics = service.private("/metrics").await.body;
    assert!(!metrics.contains("result=\"timeout\""), "nobody waited for a time-out: {metrics}");
    drop(service.kill().await);
}

#[tokio::test]
async fn a_rate_limit_spreads_the_calls() {
    let service = three("", "rate_limit = 20").start().await;
    post(&service, "acme", people(30, "Paced")).await;
    service.settled(30).await;
    let mut calls: Vec<u64> =
        service.calls("").await.iter().map(|call| call["at"].as_u64().unwrap()).collect();
    calls.sort_unstable();
    // Two at once, then twenty a second: 28 of them take 1.4 s. The first ones may be seen late.
    let took = calls[29] - calls[0];
    assert!(took >= 900, "{took} ms for 30 calls at 20 a second");
    service.end().await;
}

#[tokio::test]
async fn an_event_that_fails_alone_is_parked_and_its_person_goes_on() {
    let wigzo = StandIn::start().await;
    let setup = || {
        Service::calling(&wigzo).env("WIGZO_ORG_TOKEN", "org-token-acme-1").config(
            "[delivery]\nquick_retries = 0\nlane_hold = \"300ms\"\n\
             [delivery.retry]\nbase = \"40ms\"\ncap = \"100ms\"\n",
        )
    };
    let service = setup().start().await;
    service.faults(&json!([{ "event_name": "Poisoned", "status": 500 }])).await;
    let track = async |service: &Service, person: &str, name: &str| {
        let event = json!({ "userId": person, "event": name, "messageId": format!("{person}/{name}") });
        let reply = service.post("/v1/track", &event.to_string()).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    };
    track(&service, "ann", "Poisoned").await;
    track(&service, "ann", "Ann 1").await;
    track(&service, "ann", "Ann 2").await;
    // Nothing else is delivered, so that nothing shows whose fault it is: one is left behind to find out.
    service.until("/api/events/1", |record| record["state"] == "parked").await;
    service.until("/api/stats", |stats| stats["ledger"]["delivered"] == 2).await;
    let mut others = 0;
    for _ in 0..3 {
        others += 1;
        track(&service, &format!("user-{others}"), &format!("Other {others}")).await;
    }
    service.until("/api/stats", |stats| stats["ledger"]["delivered"] == others + 2).await;
    assert_eq!(delivered(&service, "Ann").await, ["Ann 1", "Ann 2"]);
    let stats = service.private("/api/stats").await.json();
    assert_eq!((&stats["parked"]["default"], &stats["waiting_total"]), (&json!(1), &json!(1)), "{stats}");
    assert_eq!(service.metric("wigzo_destination_events_parked_total").await, 1);
    assert_eq!(service.metric("wigzo_destination_parked_events{organization=\"default\"}").await, 1);
    // It goes on being tried, by itself, and after a crash as well.
    let tries = service.private("/api/events/1").await.json()["tries"].as_u64();
    service.until("/api/events/1", |record| record["tries"].as_u64() > tries).await;
    let directory = service.kill().await;

    let service = setup().on(directory).start().await;
    let tries = service.private("/api/events/1").await.json()["tries"].as_u64();
    service.until("/api/events/1", |record| record["tries"].as_u64() > tries).await;
    assert_eq!(service.private("/api/events/1").await.json()["state"], "parked");
    service.faults(&json!([])).await;
    let ledger = service.settled(1).await;
    assert_eq!((&ledger["delivered"], &ledger["dead"]), (&json!(others + 3), &json!(0)));
    assert_eq!(service.calls("carried_out=true&event_name=Poisoned").await.len(), 1);
    service.end().await;
}

#[tokio::test]
async fn people_whose_events_fail_do_not_block_the_others_however_many_they_are() {
    // Three windows full of events of people whose first one fails.
    let setup = three("[delivery]\nwindow = 100\nquick_retries = 0\n[delivery.breaker]\nlanes = 1000", "");
    let service = setup.start().await;
    service.faults(&json!([{ "event_name": "Stuck", "status": 500 }])).await;
    for person in 0..30 {
        let first = [(format!("user-{person}"), "Stuck".to_owned())];
        let rest = (1..10).map(|number| (format!("user-{person}"), format!("Behind {person} {number}")));
        post(&service, "acme", first.into_iter().chain(rest)).await;
    }
    post(&service, "acme", (0..50).map(|person| (format!("well-{person}"), "Fine".to_owned()))).await;
    service.until("/api/stats", |stats| stats["ledger"]["delivered"] == 50).await;
    assert_eq!(service.calls("event_name=Behind").await.len(), 0);
    service.faults(&json!([])).await;
    let ledger = service.settled(350).await;
    assert_eq!((&ledger["delivered"], &ledger["dead"]), (&json!(350), &json!(0)));
    for person in 0..30 {
        let behind = delivered(&service, &format!("Behind {person} ")).await;
        let expected: Vec<String> = (1..10).map(|number| format!("Behind {person} {number}")).collect();
        assert_eq!(behind, expected);
    }
    service.end().await;
}

#[tokio::test]
async fn retry_after_is_obeyed_whatever_the_status() {
    for status in [200, 400, 503] {
        let service = three("[delivery]\nquick_retries = 0", "").start().await;
        service.faults(&json!([{ "status": status, "retry_after": "2", "next": 1 }])).await;
        post(&service, "acme", [("ann".to_owned(), "First".to_owned())]).await;
        standing(&service, "acme", |it| it["state"] == "paused").await;
        post(&service, "acme", [("bob".to_owned(), "Second".to_owned())]).await;
        service.settled(2).await;
        let calls = service.calls("order=asc").await;
        let at = |call: usize| calls[call]["at"].as_u64().unwrap();
        assert!(at(1) >= at(0) + 2_000, "{status}: {calls:#?}");
        standing(&service, "acme", |it| it["state"] == "open").await;
        service.end().await;
    }
}
