//! Conservation on a bad day: ten thousand events from several connections, a Wigzo that fails at random, and every
//! event is delivered exactly once or accounted for, in order per person.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::service::{Service, metric};

const EVENTS: usize = 10_000;
const CONNECTIONS: usize = 4;
/// People per connection: a person's events come by one connection, else their order would not be known.
const PEOPLE: usize = 75;

const CONFIG: &str = r#"
[delivery.retry]
base = "20ms"
cap = "200ms"
soft_failures = 1000
[organizations.acme]
org_token = "org-token-acme-1"
source_keys = ["wk_acme"]
[organizations.globex]
org_token = "org-token-globex-1"
source_keys = ["wk_globex"]
"#;

/// The kinds of trouble; those with `next` are counted by what is left of it.
fn faults() -> Value {
    json!([
        { "probability": 0.05, "latency": { "uniform_ms": [1, 40] } },
        { "probability": 0.02, "status": 500 },
        { "probability": 0.02, "status": 503 },
        { "probability": 0.01, "next": 4, "status": 429, "retry_after": "1" },
        { "probability": 0.02, "body": r#"{"status":"failure"}"# },
        { "probability": 0.01, "effect": "reset" },
        { "probability": 0.01, "next": DROPPED, "effect": "reset_after_record" },
        { "probability": 0.01, "effect": "half_body", "body": r#"{"status":"success"}"# },
    ])
}

/// More than will fire.
const DROPPED: u64 = 1_000_000;

/// What an event is known by: it stands in the values of all of its calls.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    pub person: String,
    pub number: usize,
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "mark/{}/{}", self.person, self.number)
    }
}

impl Mark {
    /// The mark in a recorded call.
    pub fn of(call: &Value) -> Self {
        fn find(value: &Value) -> Option<&str> {
            match value {
                Value::String(text) => text.strip_prefix("mark/"),
                Value::Array(items) => items.iter().find_map(find),
                Value::Object(members) => members.values().find_map(find),
                Value::Null | Value::Bool(_) | Value::Number(_) => None,
            }
        }
        let text = find(&call["body"]["eventval"]).unwrap_or_else(|| panic!("no mark in {call}"));
        let (person, number) = text.rsplit_once('/').unwrap();
        Self { person: person.to_owned(), number: number.parse().unwrap() }
    }

    /// An event with this mark: every eighth makes two calls.
    pub fn event(&self) -> Value {
        let mark = self.to_string();
        let (name, properties) = if self.number.is_multiple_of(8) {
            (
                "Order Completed",
                json!({ "order_id": &mark, "total": 10.50, "products": [{ "product_id": &mark }] }),
            )
        } else {
            ("Seat Chosen", json!({ "seat": 7, "mark": &mark }))
        };
        json!({ "type": "track", "userId": self.person, "event": name, "messageId": mark, "properties": properties })
    }

    /// How many calls it makes.
    pub fn calls(&self) -> usize {
        if self.number.is_multiple_of(8) { 2 } else { 1 }
    }
}

/// What the stand-in says about a set of calls.
pub struct Account {
    /// How often each call of each event was carried out.
    pub carried_out: BTreeMap<(Mark, String), usize>,
    /// Events that were first carried out after a later one of the same person.
    pub reordered: Vec<String>,
}

impl Account {
    /// Reads the stand-in's calls, and checks what holds for any of them: a call has one idempotency key of its own.
    pub fn of(calls: &[Value]) -> Self {
        let mut account = Self { carried_out: BTreeMap::new(), reordered: Vec::new() };
        let mut last: HashMap<(String, String), usize> = HashMap::new();
        let mut keys: HashMap<String, (Mark, String)> = HashMap::new();
        let mut key_of: HashMap<(Mark, String), String> = HashMap::new();
        for call in calls {
            let mark = Mark::of(call);
            let name = call["body"]["eventName"].as_str().unwrap().to_owned();
            let id = (mark.clone(), name);
            let key = call["idempotency_key"].as_str().unwrap().to_owned();
            assert_eq!(*keys.entry(key.clone()).or_insert_with(|| id.clone()), id, "two calls share {key}");
            assert_eq!(*key_of.entry(id.clone()).or_insert_with(|| key.clone()), key, "{id:?} has two keys");
            if call["carried_out"] != true {
                continue;
            }
            let times = account.carried_out.entry(id).or_default();
            *times += 1;
            if *times == 1 {
                let organization = call["org_token"].as_str().unwrap().to_owned();
                let before = last.insert((organization, mark.person.clone()), mark.number);
                if before > Some(mark.number) {
                    account.reordered.push(format!("{mark} after {before:?}"));
                }
            }
        }
        account
    }

    /// The events whose every call was carried out.
    pub fn events(&self) -> BTreeSet<Mark> {
        let mut calls: BTreeMap<&Mark, usize> = BTreeMap::new();
        for (mark, _) in self.carried_out.keys() {
            *calls.entry(mark).or_default() += 1;
        }
        for (mark, count) in &calls {
            assert!(*count <= mark.calls(), "{mark} made {count} calls");
        }
        calls
            .into_iter()
            .filter(|(mark, count)| *count == mark.calls())
            .map(|(mark, _)| mark.clone())
            .collect()
    }

    /// Calls that were carried out once more than needed, each time counted.
    pub fn doubles(&self) -> usize {
        self.carried_out.values().map(|times| times - 1).sum()
    }
}

/// Checks that the books balance: the ledger in itself, and against the count of what waits.
fn balanced(stats: &Value) {
    let ledger = |term: &str| stats["ledger"][term].as_u64().unwrap();
    let ended = ledger("delivered") + ledger("filtered") + ledger("expired") + ledger("dead");
    let waiting: u64 =
        stats["waiting"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(ledger("accepted"), ended + stats["waiting_total"].as_u64().unwrap(), "{stats}");
    assert_eq!(stats["waiting_total"], waiting, "{stats}");
}

/// The same of the text of `/metrics`.
fn balanced_metrics(metrics: &str) {
    let term = |term: &str| {
        metric(metrics, &format!("wigzo_destination_ledger_events{{term=\"{term}\"}}"))
            .unwrap_or_else(|| panic!("no {term} in\n{metrics}"))
    };
    let ended: u64 = ["delivered", "filtered", "expired", "dead", "waiting"].map(term).iter().sum();
    assert_eq!(term("accepted"), ended, "{metrics}");
}

/// Looks at the books all the time until told to stop; says how often it has.
fn watch(service: &Arc<Service>, stop: &Arc<AtomicBool>) -> tokio::task::JoinHandle<usize> {
    let (service, stop) = (Arc::clone(service), Arc::clone(stop));
    tokio::spawn(async move {
        let mut looks = 0;
        while !stop.load(Ordering::Relaxed) {
            balanced(&service.private("/api/stats").await.json());
            balanced_metrics(&service.private("/metrics").await.body);
            looks += 1;
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        looks
    })
}

/// The events of one connection: requests of one to forty events, each person's in order.
fn requests(connection: usize) -> Vec<(&'static str, Vec<Mark>)> {
    let mut requests = Vec::new();
    let mut next = [0; PEOPLE];
    let mut left = EVENTS / CONNECTIONS;
    while left > 0 {
        let size = if requests.len() % 5 == 0 { 1 } else { 10 + requests.len() % 31 }.min(left);
        let mut marks = Vec::with_capacity(size);
        // One organization per request; a person belongs to one of them.
        let organization = requests.len() % 2;
        for step in 0..size {
            let person = ((requests.len() * 37 + step * 11) % (PEOPLE / 2)) * 2 + organization;
            marks.push(Mark { person: format!("user-{connection}-{person}"), number: next[person] });
            next[person] += 1;
        }
        left -= size;
        requests.push((["wk_acme", "wk_globex"][organization], marks));
    }
    requests
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_ends_in_exactly_one_outcome_in_order_whatever_wigzo_does() {
    let service = Arc::new(Service::sandbox().config(CONFIG).terse().start().await);
    service.faults(&faults()).await;
    let stop = Arc::new(AtomicBool::new(false));
    // Two at a time: a look must not disturb another one.
    let watchers = [watch(&service, &stop), watch(&service, &stop)];

    let clients = (0..CONNECTIONS).map(|connection| {
        let service = Arc::clone(&service);
        tokio::spawn(async move {
            let client = reqwest::Client::new();
            for (key, marks) in requests(connection) {
                let (path, body) = match marks.as_slice() {
                    [mark] => ("/v1/track", mark.event()),
                    marks => {
                        ("/v1/batch", json!({ "batch": marks.iter().map(Mark::event).collect::<Vec<_>>() }))
                    }
                };
                let request = client
                    .post(format!("{}{path}", service.public))
                    .basic_auth(key, Some(""))
                    .body(body.to_string());
                let reply = service.send(request).await;
                assert_eq!(
                    (reply.status, &reply.json()["accepted"]),
                    (200, &json!(marks.len())),
                    "{reply:?}"
                );
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    for client in clients {
        client.await.unwrap();
    }
    let ledger = service.settled(EVENTS as u64).await;
    stop.store(true, Ordering::Relaxed);
    for watcher in watchers {
        assert!(watcher.await.unwrap() > 3);
    }
    assert_eq!(
        ledger,
        json!({"accepted": EVENTS, "delivered": EVENTS, "filtered": 0, "expired": 0, "dead": 0})
    );
    let outcomes = r#"wigzo_destination_outcomes_total{outcome="delivered",reason="delivered"}"#;
    assert_eq!(service.metric(outcomes).await, EVENTS as u64);

    let account = Account::of(&service.calls("").await);
    assert_eq!(account.reordered, [""; 0]);
    let sent: BTreeSet<Mark> = (0..CONNECTIONS).flat_map(requests).flat_map(|(_, marks)| marks).collect();
    assert_eq!(sent.len(), EVENTS);
    assert!(account.events() == sent, "{} of {EVENTS} were carried out", account.events().len());
    let rules =
        service.send(service.client().get(format!("{}/_sandbox/faults", service.sandbox))).await.json();
    let dropped: u64 = rules
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|rule| rule["next"].as_u64().filter(|_| rule.get("effect").is_some()))
        .map(|left| DROPPED - left)
        .sum();
    let doubles = account.doubles();
    assert!(doubles as u64 <= dropped, "{doubles} doubles, but only {dropped} answers were dropped");
    println!("{doubles} calls were carried out twice; {dropped} answers were dropped after the call");
    assert_eq!(rules[3]["next"], 0, "Wigzo never asked for a pause: {rules}");
    Arc::into_inner(service).unwrap().end().await;
}
