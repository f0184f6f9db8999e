//! The sandbox over a real socket, with a client that is nothing but a socket: what a fault does to a
//! connection must be seen, not smoothed over.

use std::io::ErrorKind;
use std::time::Instant;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::clock::UnixMillis;
use crate::wigzo::Endpoint;

const ORG: &str = "org-token-0001";
const IDENTIFY: &str = "/rest/v1/learn/identify?org_token=org-token-0001";
const EVENT: &str = "/rest/v1/learn/event?org_token=org-token-0001";
const LEARNER: &str = r#"{"userId":"u1","email":"buyer@shop.example","phone":"+910000000000"}"#;
const BUY: &str = r#"{"eventName":"buy","eventval":["sku-1"],"eventCategory":"EXTERNAL","userId":"u1"}"#;

/// A running sandbox; dropping it drops its connections.
struct Running {
    address: SocketAddr,
    handle: Handle,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

/// What came back over a connection that the client asked to be closed.
struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|bad| panic!("{bad}: {}", self.body))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

impl Running {
    async fn start() -> Self {
        Self::with(Config::default()).await
    }

    async fn with(config: Config) -> Self {
        let config = Config { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), ..config };
        let sandbox = Sandbox::bind(&config, Clock::manual(UnixMillis(1_000))).await.unwrap();
        let (address, handle) = (sandbox.local_addr(), sandbox.handle());
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(sandbox.run(shutdown.clone()));
        Self { address, handle, shutdown, tasks }
    }

    async fn connect(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// One request on a connection of its own, and everything until that ends.
    async fn exchange(&self, request: &str) -> io::Result<Reply> {
        let mut received = Vec::new();
        self.connect(request).await.read_to_end(&mut received).await?;
        let received = String::from_utf8(received).unwrap();
        let (head, body) = received.split_once("\r\n\r\n").ok_or(ErrorKind::UnexpectedEof)?;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Ok(Reply { status, head: head.to_owned(), body: body.to_owned() })
    }

    async fn send(&self, method: &str, path: &str, body: &str) -> Reply {
        self.exchange(&request(method, path, body)).await.unwrap()
    }

    async fn post(&self, path: &str, body: &str) -> Reply {
        self.send("POST", path, body).await
    }

    async fn get(&self, path: &str) -> Value {
        let reply = self.send("GET", path, "").await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        reply.json()
    }

    /// One identify under a fault rule.
    async fn under(&self, rule: Value) -> io::Result<Reply> {
        let reply = self.send("PUT", "/_sandbox/faults", &json!([rule]).to_string()).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        self.exchange(&request("POST", IDENTIFY, LEARNER)).await
    }

    /// Status and `carried_out` of the only call in the ledger.
    fn only(&self) -> (Option<u16>, bool) {
        let calls = self.handle.calls(&Filter::default());
        assert_eq!(calls.len(), 1, "{calls:?}");
        (calls[0].status, calls[0].carried_out)
    }
}

fn request(method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: wigzo.example\r\nconnection: close\r\nidempotency-key: key-{length}\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
}

fn numbers(listing: &Value) -> Vec<u64> {
    listing["calls"].as_array().unwrap().iter().map(|call| call["number"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn every_endpoint_answers_and_is_recorded() {
    let sandbox = Running::start().await;
    for (path, body, endpoint) in [
        (format!("/rest/v1/learn/identify?token=second&org_token={ORG}"), LEARNER, Endpoint::Identify),
        (EVENT.to_owned(), BUY, Endpoint::Event),
        (format!("/api/v1/product/{ORG}"), r#"{"productId":"sku-1"}"#, Endpoint::Product),
        (format!("/rest/v1/learn/shipment/custom/{ORG}"), r#"{"order_id":"1001"}"#, Endpoint::Shipment),
    ] {
        let reply = sandbox.post(&path, body).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"status":"success"}"#), "{path}");
        assert_eq!(reply.header("content-type"), Some("application/json"));
        let call = sandbox.handle.calls(&Filter::default()).pop().unwrap();
        assert_eq!((call.endpoint, call.status, call.carried_out), (endpoint, Some(200), true));
        assert_eq!((call.org_token.as_deref(), call.text().as_ref()), (Some(ORG), body));
        assert_eq!(call.idempotency_key, Some(format!("key-{}", body.len())));
        assert_eq!(call.at, UnixMillis(1_000));
    }
    let calls = sandbox.handle.calls(&Filter::default());
    assert_eq!(calls.iter().map(|call| call.number).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!((calls[0].token.as_deref(), calls[1].token.as_deref()), (Some("second"), None));
    assert_eq!((calls[1].event_name().as_deref(), calls[1].user_id().as_deref()), (Some("buy"), Some("u1")));
}

#[tokio::test]
async fn incomplete_calls_are_refused_and_recorded() {
    let sandbox = Running::start().await;
    for (path, body, status, part) in [
        ("/rest/v1/learn/identify", LEARNER, 401, "org_token"),
        ("/rest/v1/learn/event?org_token=short", BUY, 401, "org_token"),
        ("/api/v1/product/short", r#"{"productId":"sku-1"}"#, 401, "org_token"),
        (IDENTIFY, "{}", 400, "userId"),
        (EVENT, r#"{"eventval":1,"eventCategory":"EXTERNAL","userId":"u1"}"#, 400, "eventName"),
        (EVENT, r#"{"eventName":"buy","eventCategory":"EXTERNAL","userId":"u1"}"#, 400, "eventval"),
        (EVENT, r#"{"eventName":"buy","eventval":1,"userId":"u1"}"#, 400, "eventCategory"),
        (EVENT, r#"{"eventName":"buy","eventval":1,"eventCategory":"EXTERNAL"}"#, 400, "userId"),
        ("/api/v1/product/org-token-0001", "{}", 400, "productId"),
        ("/rest/v1/learn/shipment/custom/org-token-0001", "{}", 400, "order_id"),
        (IDENTIFY, "userId=u1", 400, "JSON"),
    ] {
        let reply = sandbox.post(path, body).await;
        assert_eq!(reply.status, status, "{path} {body}");
        assert_eq!(reply.json()["status"], "error");
        assert!(reply.json()["message"].as_str().unwrap().contains(part), "{path} {body}: {}", reply.body);
    }
    let counts = sandbox.handle.count();
    assert_eq!((counts.received, counts.carried_out, counts.misdirected), (11, 0, 0));
    assert_eq!(counts.by_status, [(400, 8), (401, 3)].into());
}

#[tokio::test]
async fn what_is_no_call_is_only_counted() {
    let sandbox = Running::start().await;
    assert_eq!(sandbox.post("/api/v1/track", "{}").await.status, 404);
    let reply = sandbox.send("GET", EVENT, "").await;
    assert_eq!((reply.status, reply.header("allow")), (405, Some("POST")));
    assert_eq!(reply.json()["status"], "error");
    let counts = sandbox.handle.count();
    assert_eq!((counts.received, counts.misdirected), (0, 2));
}

#[tokio::test]
async fn a_connection_takes_one_call_after_the_other() {
    let sandbox = Running::start().await;
    let kept_alive = request("POST", IDENTIFY, LEARNER).replace("connection: close\r\n", "");
    let mut stream = sandbox.connect(&kept_alive).await;
    for _ in 0..2 {
        let mut received = Vec::new();
        while !received.ends_with(br#"{"status":"success"}"#) {
            assert_ne!(stream.read_buf(&mut received).await.unwrap(), 0, "{received:?}");
        }
        stream.write_all(kept_alive.as_bytes()).await.unwrap();
    }
    assert!(sandbox.handle.count().received >= 2);
}

#[tokio::test]
async fn a_fault_answers_in_wigzos_place() {
    let sandbox = Running::start().await;
    let reply = sandbox.under(json!({"status": 429, "retry_after": "7", "body": "slow down"})).await.unwrap();
    assert_eq!(
        (reply.status, reply.header("retry-after"), reply.body.as_str()),
        (429, Some("7"), "slow down")
    );
    assert_eq!(sandbox.only(), (Some(429), false));

    sandbox.handle.clear();
    let reply = sandbox.under(json!({"body": r#"{"status":"failure"}"#})).await.unwrap();
    assert_eq!((reply.status, reply.json()), (200, json!({"status": "failure"})));
    assert_eq!(sandbox.only(), (Some(200), false), "a soft failure");
}

#[tokio::test]
async fn a_reset_is_a_reset() {
    let sandbox = Running::start().await;
    for (effect, carried_out) in [("reset", false), ("reset_after_record", true)] {
        sandbox.handle.clear();
        let failure = sandbox.under(json!({ "effect": effect })).await.err().map(|failure| failure.kind());
        assert_eq!(failure, Some(ErrorKind::ConnectionReset), "{effect}");
        assert_eq!(sandbox.only(), (None, carried_out), "{effect}");
        assert_eq!(sandbox.handle.count().unanswered, 1);
    }
}

#[tokio::test]
async fn half_a_body_is_half_a_body() {
    let sandbox = Running::start().await;
    let reply = sandbox.under(json!({"effect": "half_body", "body": "0123456789"})).await.unwrap();
    assert_eq!((reply.status, reply.header("content-length")), (200, Some("10")));
    assert_eq!(reply.body, "01234");
    assert_eq!(sandbox.only(), (Some(200), true));
}

#[tokio::test]
async fn never_means_never() {
    let mut sandbox = Running::start().await;
    sandbox.handle.set_faults(vec![Rule { effect: Some(Effect::Never), ..Rule::default() }]).unwrap();
    let mut stream = sandbox.connect(&request("POST", IDENTIFY, LEARNER)).await;
    // Another connection's answers show that the call is in and the sandbox alive.
    let deadline = Instant::now() + Duration::from_secs(10);
    while sandbox.get("/_sandbox/calls?count=true").await["received"] != 1 {
        assert!(Instant::now() < deadline, "{:?}", sandbox.handle.count());
    }
    assert_eq!(sandbox.only(), (None, false));
    sandbox.shutdown.cancel();
    sandbox.tasks.join_next().await.unwrap().unwrap();
    let mut received = Vec::new();
    let _ = stream.read_to_end(&mut received).await;
    assert!(received.is_empty(), "only the end of the connection");
}

#[tokio::test]
async fn latency_holds_the_answer_back() {
    let sandbox = Running::start().await;
    let before = Instant::now();
    let reply = sandbox.under(json!({"latency": {"fixed_ms": 30}})).await.unwrap();
    assert!(before.elapsed() >= Duration::from_millis(30));
    assert_eq!((reply.status, sandbox.only()), (200, (Some(200), true)));
}

#[tokio::test]
async fn a_fault_does_not_make_a_bad_call_good() {
    let sandbox = Running::start().await;
    let rule = Rule { effect: Some(Effect::ResetAfterRecord), ..Rule::default() };
    sandbox.handle.set_faults(vec![rule]).unwrap();
    assert!(sandbox.exchange(&request("POST", IDENTIFY, "{}")).await.is_err());
    assert_eq!(sandbox.only(), (None, false));
}

#[tokio::test]
async fn the_same_seed_fails_the_same_calls() {
    let mut runs = Vec::new();
    for seed in [7, 7, 8] {
        let sandbox = Running::with(Config { seed, ..Config::default() }).await;
        let rule = Rule { probability: 0.5, status: Some(503), ..Rule::default() };
        sandbox.handle.set_faults(vec![rule]).unwrap();
        let mut statuses = Vec::new();
        for _ in 0..40 {
            statuses.push(sandbox.post(IDENTIFY, LEARNER).await.status);
        }
        runs.push(statuses);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}

#[tokio::test]
async fn calls_are_listed_as_they_came() {
    let sandbox = Running::start().await;
    let precise = r#"{"userId":"u1","price":1299.00,"id":1234567890123456789012,"userName":1e400}"#;
    sandbox.post(IDENTIFY, precise).await;
    sandbox.post(IDENTIFY, "not \"JSON\"").await;
    let reply = sandbox.send("GET", "/_sandbox/calls", "").await;
    assert!(reply.body.contains(precise), "digit for digit: {}", reply.body);
    assert!(reply.body.contains(r#""body":"not \"JSON\"""#), "{}", reply.body);
    assert!(
        reply
            .body
            .starts_with(r#"{"total":2,"next":null,"calls":[{"number":1,"at":1000,"endpoint":"identify","#)
    );
}

#[tokio::test]
async fn filters_and_pages() {
    let sandbox = Running::start().await;
    for number in 1..=6 {
        let body = LEARNER.replace("u1", &format!("u{}", number % 2));
        sandbox.post(IDENTIFY, &body).await;
    }
    sandbox.post(EVENT, BUY).await;
    sandbox.post(EVENT, "{}").await;
    for (query, expected, total, next) in [
        ("", vec![1, 2, 3, 4, 5, 6, 7, 8], 8, json!(null)),
        ("limit=3", vec![1, 2, 3], 8, json!(3)),
        ("limit=3&after=3", vec![4, 5, 6], 8, json!(6)),
        ("limit=3&after=6", vec![7, 8], 8, json!(null)),
        ("limit=2&order=desc", vec![8, 7], 8, json!(7)),
        ("limit=2&order=desc&after=3", vec![2, 1], 8, json!(null)),
        ("endpoint=identify&user_id=u1", vec![1, 3, 5], 3, json!(null)),
        ("endpoint=identify&user_id=u1&limit=1&after=1", vec![3], 3, json!(3)),
        ("endpoint=identify&user_id=u1&limit=1&order=desc&after=5", vec![3], 3, json!(3)),
        ("endpoint=identify&user_id=u1&limit=1&after=3", vec![5], 3, json!(null)),
        ("event_name=buy", vec![7], 1, json!(null)),
        ("contains=sku-1", vec![7], 1, json!(null)),
        ("status=400", vec![8], 1, json!(null)),
        ("carried_out=false", vec![8], 1, json!(null)),
        ("org_token=org-token-0002", vec![], 0, json!(null)),
    ] {
        let listing = sandbox.get(&format!("/_sandbox/calls?{query}")).await;
        assert_eq!(numbers(&listing), expected, "{query}");
        assert_eq!((&listing["total"], &listing["next"]), (&json!(total), &next), "{query}");
    }
    let count = sandbox.get("/_sandbox/calls?count=true&user_id=u1").await;
    assert_eq!(
        count,
        json!({"total": 4, "received": 8, "carried_out": 7, "kept": 8, "by_status": {"200": 7, "400": 1},
               "unanswered": 0, "misdirected": 0})
    );
    let reply = sandbox.send("GET", "/_sandbox/calls?event=buy", "").await;
    assert_eq!((reply.status, reply.json()["message"].as_str()), (400, Some("unknown parameter `event`")));

    assert_eq!(sandbox.send("DELETE", "/_sandbox/calls", "").await.status, 200);
    assert_eq!(sandbox.handle.count(), Counts::default());
    sandbox.post(EVENT, BUY).await;
    assert_eq!(numbers(&sandbox.get("/_sandbox/calls").await), [1]);
}

#[tokio::test]
async fn a_question_reaches_over_many_pieces() {
    let sandbox = Running::start().await;
    for number in 0..10_000 {
        let call = RecordedCall {
            number: 0,
            at: UnixMillis(0),
            endpoint: Endpoint::Product,
            org_token: Some(ORG.to_owned()),
            token: None,
            status: None,
            carried_out: false,
            idempotency_key: None,
            body: format!(r#"{{"productId":"sku-{number}"}}"#).into(),
        };
        let target = call::Target { endpoint: call.endpoint, org_token: Some(ORG), token: None };
        sandbox.handle.receive(call, &target, None, None);
    }
    let filter = Filter { contains: Some("7\"".into()), ..Filter::default() };
    assert_eq!(sandbox.handle.calls(&filter).len(), 1_000);
    let listing = sandbox.get("/_sandbox/calls?contains=7%22&order=desc&limit=2").await;
    assert_eq!((numbers(&listing), listing["total"].as_u64()), (vec![9_998, 9_988], Some(1_000)));
    assert_eq!(sandbox.handle.calls(&Filter::default()).len(), 10_000);
}

#[tokio::test]
async fn only_so_much_is_kept() {
    let sandbox = Running::with(Config { keep_calls: 2, ..Config::default() }).await;
    for _ in 0..5 {
        sandbox.post(IDENTIFY, LEARNER).await;
    }
    let listing = sandbox.get("/_sandbox/calls").await;
    assert_eq!((numbers(&listing), sandbox.handle.count().received), (vec![4, 5], 5));
}

#[tokio::test]
async fn faults_are_set_read_and_taken_back() {
    let sandbox = Running::start().await;
    let rules = json!([
        {"org_token": ORG, "endpoint": "event", "event_name": "buy", "probability": 1.0, "next": 1,
         "latency": {"uniform_ms": [1, 2]}, "status": 503, "retry_after": "1"},
        {"probability": 0.25, "effect": "reset_after_record"},
    ]);
    assert_eq!(sandbox.send("PUT", "/_sandbox/faults", &rules.to_string()).await.status, 200);
    assert_eq!(sandbox.get("/_sandbox/faults").await, rules);
    assert_eq!(sandbox.post(EVENT, BUY).await.status, 503);
    assert_eq!(sandbox.get("/_sandbox/faults").await[0]["next"], 0);
    for (body, part) in [
        ("{}", "expected a sequence"),
        (r#"[{"stat":500}]"#, "unknown field `stat`"),
        (r#"[{"status":500,"endpoint":"learn"}]"#, "unknown endpoint `learn`"),
        ("[{}]", "does nothing"),
        (r#"[{"status":500},{"status":42}]"#, "rule 1"),
    ] {
        let reply = sandbox.send("PUT", "/_sandbox/faults", body).await;
        assert_eq!(reply.status, 400, "{body}");
        assert!(reply.json()["message"].as_str().unwrap().contains(part), "{body}: {}", reply.body);
    }
    assert_eq!(sandbox.handle.faults().len(), 2, "a mistake changes nothing");
    assert_eq!(sandbox.send("DELETE", "/_sandbox/faults", "").await.status, 200);
    assert_eq!(sandbox.post(EVENT, BUY).await.status, 200);
}

#[tokio::test]
async fn the_index_names_routes_that_exist() {
    let sandbox = Running::start().await;
    let index = sandbox.get("/_sandbox").await;
    for route in index["routes"].as_object().unwrap().keys() {
        let (method, path) = route.split_once(' ').unwrap();
        let reply = sandbox.send(method, path, "[]").await;
        assert_eq!(reply.status, 200, "{route}: {}", reply.body);
        assert_eq!(sandbox.send("PATCH", path, "").await.status, 405, "{route}");
    }
    assert_eq!(sandbox.send("GET", "/_sandbox/else", "").await.status, 404);
}

#[test]
fn the_configuration_reads_and_refuses() {
    let config: Config = toml::from_str("listen = '127.0.0.1:0'\nkeep_bytes = '8 MiB'").unwrap();
    assert_eq!((config.keep_calls, config.keep_bytes), (1_000_000, ByteSize::mib(8)));
    let text = toml::to_string(&Config::default()).unwrap();
    assert_eq!(toml::from_str::<Config>(&text).unwrap(), Config::default(), "{text}");
    assert!(toml::from_str::<Config>("lisen = '127.0.0.1:0'").is_err());
}
