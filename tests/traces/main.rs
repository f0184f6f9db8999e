//! Traces, as a real OpenTelemetry receiver gets them: which spans there are, how they hang together across the queue,
//! and what they say. The receiver is a Python program with the official protobuf definitions; where it cannot be had,
//! its checks are skipped with the reason.

#![expect(clippy::disallowed_methods, reason = "tests start tasks and build clients of their own")]
#![expect(unreachable_pub, reason = "`pub` is what the harness offers to the tests")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that finds something missing fails at once, and says where"
)]

#[expect(dead_code, reason = "the drivers are for Segment's libraries")]
#[path = "../clients/install.rs"]
mod install;
mod receiver;
#[expect(dead_code, reason = "the harness of tests/it has more than is needed here")]
#[path = "../it/service.rs"]
mod service;
#[path = "../support/skipped.rs"]
mod skipped;
#[expect(dead_code, reason = "the stand-in as a process of its own is not needed here")]
#[path = "../it/stand_in.rs"]
mod stand_in;
#[expect(dead_code, reason = "these tests write their own requests")]
#[path = "../it/wire.rs"]
mod wire;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use receiver::Receiver;
use service::{Reply, Service, Setup};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

const ORG_TOKEN: &str = "canary-org-token";
const SOURCE_KEY: &str = "canary-source-key";
/// What no span may hold.
const CANARIES: [&str; 6] =
    [ORG_TOKEN, SOURCE_KEY, "canary.person", "910000000000", "canary-user", "canary-message"];

fn traceparent(is_sampled: bool) -> String {
    format!("00-{TRACE}-{CALLER}-0{}", u8::from(is_sampled))
}

/// A service that sends its spans there.
fn traced(setup: Setup, endpoint: &str, protocol: &str, sample: &str) -> Setup {
    setup.config(&format!(
        "[telemetry.traces]\nendpoint = \"{endpoint}\"\nprotocol = \"{protocol}\"\nsample = {sample}\n\
         environment = \"test\"\n[delivery.retry]\nbase = \"10ms\"\ncap = \"20ms\"\n\
         [organizations.acme]\norg_token = \"{ORG_TOKEN}\"\nsource_keys = [\"{SOURCE_KEY}\"]"
    ))
}

fn viewed(id: &str) -> Value {
    json!({
        "type": "track", "event": "Product Viewed", "userId": "canary-user-1", "messageId": format!("canary-message-{id}"),
        "properties": { "product_id": "sku-1", "email": "canary.person@example.com", "phone": "+910000000000" },
    })
}

async fn post(service: &Service, body: &Value, headers: &[(&str, &str)]) -> Reply {
    let path = if body.get("batch").is_some() { "batch" } else { "track" };
    let request = service.client().post(format!("{}/v1/{path}", service.public)).body(body.to_string());
    let request = request.basic_auth(SOURCE_KEY, Some(""));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let reply = service.send(request).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply
}

fn named<'a>(spans: &'a [Value], name: &str) -> Vec<&'a Value> {
    spans.iter().filter(|span| span["name"] == name).collect()
}

fn only<'a>(spans: &'a [Value], name: &str) -> &'a Value {
    let [span] = named(spans, name)[..] else { panic!("one span {name} in {spans:#?}") };
    span
}

macro_rules! receiver {
    ($check:literal) => {
        match Receiver::start().await {
            Ok(receiver) => receiver,
            Err(reason) => return skipped::skipped($check, &reason),
        }
    };
}

/// What an event's way looks like, whatever carries the spans.
async fn one_event(receiver: &Receiver, endpoint: &str, way: &str) {
    let service = traced(Service::sandbox(), endpoint, way, "0").start().await;
    let parent = traceparent(true);
    post(&service, &viewed("1"), &[("traceparent", &parent), ("tracestate", "vendor=7")]).await;
    service.settled(1).await;
    service.eventually("it is told", || async { service.log().contains("\"message\":\"delivered\"") }).await;
    let log = service.log();
    let metrics = service.client().get(format!("{}/metrics", service.private));
    let metrics = service.send(metrics.header("accept", "application/openmetrics-text")).await.body;
    service.end().await;
    // Five: the last ones went out when the service ended.
    let spans = receiver.until("deliver", 1).await;
    let request = only(&spans, "POST v1");
    let (append, deliver) = (only(&spans, "append"), only(&spans, "deliver"));
    assert!(spans.iter().all(|span| span["trace"] == TRACE && span["way"] == way), "{spans:#?}");
    assert!(spans.iter().all(|span| span["state"] == "vendor=7"), "{spans:#?}");
    assert_eq!((&request["parent"], &request["kind"]), (&json!(CALLER), &json!("SPAN_KIND_SERVER")));
    assert_eq!((&append["parent"], &append["kind"]), (&request["span"], &json!("SPAN_KIND_PRODUCER")));
    assert_eq!((&deliver["parent"], &deliver["kind"]), (&request["span"], &json!("SPAN_KIND_CONSUMER")));
    let calls: Vec<_> = spans.iter().filter(|span| span["parent"] == deliver["span"]).collect();
    assert!(calls.iter().all(|call| call["kind"] == "SPAN_KIND_CLIENT"), "{calls:#?}");
    let called: BTreeSet<_> =
        calls.iter().map(|call| call["attributes"]["wigzo.call"].as_str().unwrap()).collect();
    assert_eq!(called, BTreeSet::from(["event/product/push", "event/productview"]), "{calls:#?}");

    assert_eq!(
        request["attributes"],
        json!({ "http.request.method": "POST", "wigzo.route": "v1", "http.response.status_code": 200 })
    );
    assert_eq!(
        append["attributes"],
        json!({ "wigzo.organization": "acme", "messaging.batch.message_count": 1 })
    );
    let told = &deliver["attributes"];
    assert!(told["wigzo.waited_ms"].as_u64().is_some_and(|waited| waited < 60_000), "{told}");
    let mut rest = told.clone();
    rest.as_object_mut().unwrap().remove("wigzo.waited_ms");
    assert_eq!(
        rest,
        json!({
            "wigzo.organization": "acme", "wigzo.event.number": 1, "wigzo.event.type": "track",
            "wigzo.outcome": "delivered", "wigzo.reason": "delivered", "wigzo.tries": 0,
        })
    );
    for call in &calls {
        assert_eq!(call["attributes"]["http.response.status_code"], 200, "{call}");
        assert_eq!(call["attributes"]["wigzo.result"], "delivered", "{call}");
    }
    for span in &spans {
        assert_eq!((&span["status"], &span["links"]), (&json!("STATUS_CODE_UNSET"), &json!([])), "{span}");
        assert!(
            span["began"].as_u64() <= span["ended"].as_u64() && span["began"].as_u64() > Some(0),
            "{span}"
        );
        let resource = &span["resource"];
        assert_eq!(resource["service.name"], "wigzo-destination");
        assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(resource["deployment.environment.name"], "test");
        assert_eq!(resource["service.instance.id"].as_str().map(str::len), Some(36));
        for canary in CANARIES {
            assert!(!span.to_string().contains(canary), "a span tells {canary}: {span}");
        }
    }
    // The same trace is named by the lines of the log and by the metrics.
    for line in ["events kept", "\"message\":\"delivered\""] {
        let line =
            log.lines().find(|it| it.contains(line)).unwrap_or_else(|| panic!("no line {line} in {log}"));
        assert!(line.contains(TRACE), "{line}");
    }
    for name in ["reply", "call", "delivery"] {
        let bucket = format!("wigzo_destination_{name}_seconds_bucket");
        let exemplar = format!("# {{trace_id=\"{TRACE}\"}} ");
        let named = metrics.lines().any(|line| line.starts_with(&bucket) && line.contains(&exemplar));
        assert!(named, "no bucket of {name} names the trace:\n{metrics}");
    }
}

#[tokio::test]
async fn an_events_way_is_one_trace_from_the_caller_to_wigzo() {
    let receiver = receiver!("traces: OTLP over HTTP");
    one_event(&receiver, &receiver.http, "http").await;
}

#[cfg(feature = "otlp-grpc")]
#[tokio::test]
async fn the_same_over_grpc() {
    let receiver = receiver!("traces: OTLP over gRPC");
    one_event(&receiver, &receiver.grpc, "grpc").await;
}

#[cfg(not(feature = "otlp-grpc"))]
#[tokio::test]
async fn grpc_is_refused_by_a_program_that_was_built_without_it() {
    let (code, said) = traced(Service::sandbox(), "http://127.0.0.1:1", "grpc", "1").refused().await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("telemetry.traces.protocol") && said.contains("--features otlp-grpc"), "{said}");
}

#[tokio::test]
async fn the_events_of_a_batch_have_traces_of_their_own_that_name_the_request() {
    let receiver = receiver!("traces: a batch");
    let service = traced(Service::sandbox(), &receiver.http, "http", "0").start().await;
    let batch = json!({ "batch": [viewed("1"), viewed("2"), viewed("3")] });
    post(&service, &batch, &[("traceparent", &traceparent(true))]).await;
    service.settled(3).await;
    service.end().await;
    let spans = receiver.until("deliver", 3).await;
    let request = only(&spans, "POST v1");
    assert_eq!(only(&spans, "append")["attributes"]["messaging.batch.message_count"], 3);
    let link = json!([{ "trace": TRACE, "span": request["span"] }]);
    let mut traces = BTreeSet::from([TRACE]);
    for deliver in named(&spans, "deliver") {
        assert_eq!((&deliver["parent"], &deliver["links"]), (&json!(""), &link), "{deliver}");
        let trace = deliver["trace"].as_str().unwrap();
        assert!(traces.insert(trace), "{trace} twice");
        let calls = spans.iter().filter(|span| span["parent"] == deliver["span"]);
        assert!(calls.filter(|call| call["trace"] == trace).count() >= 1, "{spans:#?}");
    }
}

#[tokio::test]
async fn who_is_traced_is_decided_by_the_caller_and_else_by_the_configured_part() {
    let receiver = receiver!("traces: sampling");
    let service = traced(Service::sandbox(), &receiver.http, "http", "0").start().await;
    post(&service, &viewed("1"), &[]).await;
    post(&service, &viewed("2"), &[("traceparent", &traceparent(false))]).await;
    post(&service, &viewed("3"), &[("traceparent", "00-nonsense")]).await;
    let batch = json!({ "batch": [viewed("4"), viewed("5")] });
    post(&service, &batch, &[("traceparent", &traceparent(false))]).await;
    service.settled(5).await;
    for number in 1..=5 {
        let record = service.private(&format!("/api/events/{number}")).await.json();
        assert!(!record["surroundings"].to_string().contains("trace"), "nothing is stored: {record}");
    }
    service.end().await;
    assert_eq!(receiver.spans(), Vec::<Value>::new());

    let service = traced(Service::sandbox(), &receiver.http, "http", "1").start().await;
    post(&service, &viewed("1"), &[]).await;
    post(&service, &viewed("2"), &[("traceparent", &traceparent(false))]).await;
    service.settled(2).await;
    service.end().await;
    let spans = receiver.until("deliver", 1).await;
    let request = only(&spans, "POST v1");
    assert_eq!(request["parent"], "");
    assert_ne!(request["trace"], TRACE);
    assert_eq!(only(&spans, "deliver")["parent"], request["span"]);
}

#[tokio::test]
async fn failures_are_marked_and_every_round_is_there() {
    let receiver = receiver!("traces: failures");
    let service = traced(Service::sandbox(), &receiver.http, "http", "1")
        .config("[organization_defaults]\nprofile = \"standard\"")
        .start()
        .await;
    let echo = json!({ "message": format!("{ORG_TOKEN} canary.person@example.com") }).to_string();
    service
        .faults(&json!([{ "status": 500, "body": echo, "next": 1 }, { "status": 422, "body": echo }]))
        .await;
    let event = json!({ "type": "track", "event": "Odd", "userId": "canary-user-1", "messageId": "canary-message-1" });
    post(&service, &event, &[]).await;
    let ledger = service.settled(1).await;
    assert_eq!(ledger["dead"], 1, "{ledger}");
    service.end().await;
    let spans = receiver.until("deliver", 2).await;
    let rounds: Vec<_> = named(&spans, "deliver")
        .into_iter()
        .map(|round| {
            let told = &round["attributes"];
            assert_eq!(round["status"], "STATUS_CODE_ERROR", "{round}");
            assert_eq!(round["parent"], only(&spans, "POST v1")["span"]);
            (told["wigzo.outcome"].as_str().unwrap(), told["wigzo.reason"].as_str().unwrap())
        })
        .collect();
    assert_eq!(rounds, [("later", "wigzo_500"), ("dead", "wigzo_422")]);
    let calls = named(&spans, "call event");
    assert_eq!(calls.len(), 2, "{spans:#?}");
    for (call, status) in calls.iter().zip([500, 422]) {
        assert_eq!(call["status"], "STATUS_CODE_ERROR", "{call}");
        assert_eq!(call["attributes"]["http.response.status_code"], status, "{call}");
        assert_eq!(call["attributes"]["error.type"], format!("wigzo_{status}"), "{call}");
    }
    for (span, canary) in spans.iter().flat_map(|span| CANARIES.map(|canary| (span, canary))) {
        assert!(!span.to_string().contains(canary), "a span tells {canary}: {span}");
    }
}

#[tokio::test]
async fn a_trace_goes_on_after_the_process_was_killed() {
    let receiver = receiver!("traces: a restart");
    let service = traced(Service::sandbox(), &receiver.http, "http", "0").start().await;
    service.faults(&json!([{ "status": 503 }])).await;
    post(&service, &viewed("1"), &[("traceparent", &traceparent(true))]).await;
    receiver.until("deliver", 1).await;
    let directory = service.kill().await;
    let service = traced(Service::sandbox(), &receiver.http, "http", "0").on(directory).start().await;
    service.settled(1).await;
    service.end().await;
    let spans = receiver.until("deliver", 2).await;
    let instances: BTreeSet<_> =
        spans.iter().map(|span| span["resource"]["service.instance.id"].as_str().unwrap()).collect();
    assert_eq!(instances.len(), 2, "two processes: {spans:#?}");
    let delivered =
        named(&spans, "deliver").into_iter().find(|it| it["attributes"]["wigzo.outcome"] == "delivered");
    let delivered = delivered.unwrap_or_else(|| panic!("never delivered: {spans:#?}"));
    assert_eq!(delivered["trace"], TRACE);
    assert_eq!(
        delivered["parent"],
        only(&spans, "POST v1")["span"],
        "the request's span, of the process before"
    );
}

/// A collector that is away costs spans and nothing else, and is told once.
#[tokio::test]
async fn a_collector_that_is_away_holds_nothing_up_and_is_told_once() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("http://127.0.0.1:{free}");
    let service = traced(Service::sandbox(), &endpoint, "http", "1").start().await;
    for round in 0..3_u64 {
        post(&service, &viewed(&round.to_string()), &[]).await;
        service.settled(round + 1).await;
        // Each of them has been given up by then, in a batch of its own.
        let lost = (round + 1) * 5;
        service
            .eventually("the spans are counted as lost", || async {
                service.metric("wigzo_destination_spans_lost_total").await >= lost
            })
            .await;
    }
    let told =
        service.log().lines().filter(|line| line.contains("the collector does not take traces")).count();
    assert_eq!(told, 1, "{}", service.log());
    match Receiver::at(Some(free)).await {
        Ok(receiver) => {
            post(&service, &viewed("again"), &[]).await;
            service.settled(4).await;
            receiver.until("deliver", 1).await;
            service
                .eventually("it is told that traces go out again", || async {
                    service.log().contains("the collector takes traces again")
                })
                .await;
            assert!(service.metric("wigzo_destination_spans_exported_total").await >= 5);
        }
        Err(reason) => skipped::skipped("traces: a collector that comes back", &reason),
    }
    service.end().await;
}

/// Wigzo, as far as this is about: what it is sent, it takes.
async fn wigzo() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (url, heads) =
        (format!("http://{}", listener.local_addr().unwrap()), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&heads);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            seen.lock().unwrap().push(String::from_utf8(head).unwrap());
            let body = r#"{"status":"success"}"#;
            let answer = format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (url, heads)
}

#[tokio::test]
async fn wigzo_is_told_of_the_trace_only_if_that_is_wanted() {
    // Nobody listens there: spans are lost, and that is nothing to anybody.
    let collector = "http://127.0.0.1:1";
    for propagate in [false, true] {
        let (url, heads) = wigzo().await;
        let service = traced(Setup::plain(), collector, "http", "0")
            .env("WIGZO__TELEMETRY__TRACES__PROPAGATE", &propagate.to_string())
            .env("WIGZO__ORGANIZATION_DEFAULTS__BASE_URL", &url)
            .start()
            .await;
        let event = |id: &str| json!({ "type": "track", "event": "Odd", "userId": "u", "messageId": id });
        let parent = traceparent(true);
        post(&service, &event("1"), &[("traceparent", &parent), ("tracestate", "vendor=7")]).await;
        service.settled(1).await;
        post(&service, &event("2"), &[("traceparent", &traceparent(false))]).await;
        service.settled(2).await;
        service.end().await;
        let heads = heads.lock().unwrap().clone();
        assert_eq!(heads.len(), 2, "{heads:?}");
        let header = |head: &str, name: &str| {
            head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned)
        };
        for (head, flags, state) in [(&heads[0], "01", Some("vendor=7")), (&heads[1], "00", None)] {
            let parent = header(head, "traceparent");
            if propagate {
                let parent = parent.unwrap_or_else(|| panic!("no traceparent: {head}"));
                let parts: Vec<_> = parent.split('-').collect();
                assert_eq!((parts[0], parts[1], parts[3]), ("00", TRACE, flags), "{parent}");
                assert_ne!(parts[2], CALLER, "the span is the service's own");
                assert_eq!(header(head, "tracestate").as_deref(), state);
            } else {
                assert_eq!((parent, header(head, "tracestate")), (None, None));
            }
        }
    }
}
