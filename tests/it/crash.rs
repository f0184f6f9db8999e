//! A 2xx is a debt: whatever was acknowledged before a SIGKILL is delivered after it.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::conservation::{Account, Mark};
use crate::service::{PATIENCE, Service};
use crate::stand_in::StandIn;

const KILLS: usize = 10;
const CLIENTS: usize = 4;
/// People per client: a person's events come by one client, one after the other.
const PEOPLE: usize = 25;
const IN_FLIGHT: usize = 16;

/// What a client knows in the end.
#[derive(Default)]
struct Ledger {
    sent: BTreeSet<Mark>,
    acknowledged: BTreeSet<Mark>,
    /// Requests that were sent again because no reply came.
    repeated: usize,
    /// Events of such requests that had been kept all the same.
    duplicates: u64,
}

/// Posts until told to stop. What is not acknowledged is sent again, with the same ids, as Segment does.
async fn client(number: usize, public: watch::Receiver<String>, stop: watch::Receiver<bool>) -> Ledger {
    let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).build().unwrap();
    let mut ledger = Ledger::default();
    let mut next = [0; PEOPLE];
    let mut round = 0;
    while !*stop.borrow() {
        round += 1;
        let marks: Vec<Mark> = (0..=fastrand::usize(..12))
            .map(|step| {
                let person = (round * 7 + step * 3) % PEOPLE;
                next[person] += 1;
                Mark { person: format!("user-{number}-{person}"), number: next[person] }
            })
            .collect();
        ledger.sent.extend(marks.iter().cloned());
        let body = json!({ "batch": marks.iter().map(Mark::event).collect::<Vec<_>>() }).to_string();
        loop {
            let url = format!("{}/v1/batch", *public.borrow());
            if let Ok(response) = http.post(url).body(body.clone()).send().await
                && response.status() == 200
                && let Ok(reply) = response.json_value().await
            {
                ledger.duplicates += reply["duplicates"].as_u64().unwrap();
                let known = reply["accepted"].as_u64().unwrap() + reply["duplicates"].as_u64().unwrap();
                assert_eq!(known, marks.len() as u64, "{reply}");
                break;
            }
            ledger.repeated += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        ledger.acknowledged.extend(marks);
    }
    ledger
}

/// A reply that a kill may cut off.
trait JsonValue {
    async fn json_value(self) -> Result<Value, reqwest::Error>;
}

impl JsonValue for reqwest::Response {
    async fn json_value(self) -> Result<Value, reqwest::Error> {
        let text = self.text().await?;
        Ok(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_to_ten_kills_under_load() {
    let wigzo = StandIn::start().await;
    let setup = || {
        Service::calling(&wigzo)
            .env("WIGZO_ORG_TOKEN", "org-token-acme-1")
            .terse()
            .config(&format!(
                "[delivery]\nmax_in_flight = {IN_FLIGHT}\nquick_retries = 0\n[delivery.retry]\nbase = \"10ms\"\ncap = \"100ms\"\n"
            ))
    };
    let mut service = setup().start().await;
    // Slow enough that each kill finds calls under way; refused ones are not carried out, so they double nothing.
    service
        .faults(&json!([{ "latency": { "uniform_ms": [0, 20] } }, { "probability": 0.02, "status": 503 }]))
        .await;
    let (public, urls) = watch::channel(service.public.clone());
    let (stop, stopped) = watch::channel(false);
    let clients: Vec<_> =
        (0..CLIENTS).map(|number| tokio::spawn(client(number, urls.clone(), stopped.clone()))).collect();

    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(50..600))).await;
        let directory = service.kill().await;
        service = setup().on(directory).start().await;
        public.send_replace(service.public.clone());
    }
    stop.send_replace(true);
    let (mut sent, mut acknowledged, mut repeated, mut duplicates) = (BTreeSet::new(), BTreeSet::new(), 0, 0);
    for client in clients {
        let ledger = tokio::time::timeout(PATIENCE, client).await.expect("a client hangs").unwrap();
        sent.extend(ledger.sent);
        acknowledged.extend(ledger.acknowledged);
        repeated += ledger.repeated;
        duplicates += ledger.duplicates;
    }
    let ledger = service.settled(acknowledged.len() as u64).await;

    assert_eq!(sent, acknowledged, "clients go on until they have a reply");
    let accepted = ledger["accepted"].as_u64().unwrap();
    assert_eq!(accepted, acknowledged.len() as u64, "an event that was sent again was kept twice");
    assert_eq!(ledger["delivered"], accepted, "{ledger}");
    let account = Account::of(&service.calls("").await);
    let carried_out = account.events();
    let lost: Vec<_> = acknowledged.difference(&carried_out).map(ToString::to_string).collect();
    assert!(lost.is_empty(), "acknowledged, but lost: {lost:?}");
    let invented: Vec<_> = carried_out.difference(&sent).map(ToString::to_string).collect();
    assert!(invented.is_empty(), "never sent: {invented:?}");
    // An event makes one call at a time, so the calls in flight at a kill are at most the events in flight.
    let doubled = account.doubles();
    assert!(
        doubled <= KILLS * IN_FLIGHT,
        "{doubled} calls were doubled by {KILLS} kills of {IN_FLIGHT} in flight"
    );
    println!(
        "{accepted} events, {KILLS} kills: {repeated} requests sent again, {duplicates} of their events were known; \
         {doubled} calls doubled, at most {} were in flight",
        KILLS * IN_FLIGHT
    );
    service.end().await;
}
