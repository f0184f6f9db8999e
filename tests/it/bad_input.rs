//! What bad input gets: every row of the reply table, every rule for an event, and that none of it does harm.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::service::{PATIENCE, Reply, Service, Setup};
use crate::wire::{self, Request};

const MIB: usize = 1024 * 1024;

/// Three organizations: one with a key, one whose webhooks are signed, one that wants no rejections reported.
const ORGANIZATIONS: &str = r#"
    [organizations.acme]
    org_token = "made-up-token-acme"
    source_keys = ["wk_acme"]

    [organizations.signed]
    org_token = "made-up-token-signed"
    shared_secrets = ["abc123"]

    [organizations.quiet]
    org_token = "made-up-token-quiet"
    source_keys = ["wk_quiet"]
    report_rejections = false
"#;

fn service() -> Setup {
    Service::sandbox().config(ORGANIZATIONS)
}

/// An event that is in order.
fn good(message_id: &str) -> String {
    format!(
        r#"{{"type":"track","userId":"u-1","event":"Good","messageId":"{message_id}","properties":{{"n":1}}}}"#
    )
}

/// A body of exactly this length: an event, and white space.
fn of_length(message_id: &str, length: usize) -> Vec<u8> {
    let mut body = good(message_id).into_bytes();
    body.resize(length, b' ');
    body
}

/// `levels` arrays within each other.
fn nested(levels: usize) -> String {
    "[".repeat(levels) + &"]".repeat(levels)
}

/// An authenticated request to a webhook with one body.
fn webhook(body: impl Into<Vec<u8>>) -> Request {
    Request::post("/webhook").bearer("wk_acme").body(body)
}

fn encoded(encoding: &str, body: impl Into<Vec<u8>>) -> Request {
    webhook(body).header("Content-Encoding", encoding)
}

/// What holds for every reply, whatever was asked.
fn assert_in_form(reply: &Reply, about: &str) {
    let header = |name: &str| reply.headers.get(name).and_then(|value| value.to_str().ok());
    assert_eq!(header("content-type"), Some("application/json"), "{about}: {reply:?}");
    assert!(!(300..400).contains(&reply.status), "{about}: {reply:?}");
    assert!(
        reply.body.len() < 16 * 1024,
        "{about}: Segment keeps 16 KB of a reply, this has {}",
        reply.body.len()
    );
    let come_again = matches!(reply.status, 429 | 503);
    assert_eq!(header("retry-after"), come_again.then_some("5"), "{about}: {reply:?}");
    if reply.status != 200 {
        let body = reply.json();
        let message = body["message"].as_str().unwrap_or_default();
        assert!(message.len() > 10 && message.ends_with('.'), "{about}: {reply:?}");
        assert!(body["code"].is_string(), "{about}: {reply:?}");
    }
}

fn code(reply: &Reply) -> String {
    let body = reply.json();
    if reply.status == 200 {
        format!("{} kept, {} refused", body["accepted"], body["rejected"].as_array().unwrap().len())
    } else {
        body["code"].as_str().unwrap().to_owned()
    }
}

/// Sends each request and compares status and code; all differences are shown together.
async fn check(service: &Service, table: Vec<Row>) {
    let mut wrong = Vec::new();
    for (about, request, status, expected) in table {
        let reply = service.wire(&request).await;
        assert_in_form(&reply, about);
        let found = (reply.status, code(&reply));
        if found != (status, expected.to_owned()) {
            wrong.push(format!("{about}: expected {status} {expected}, got {} {}", found.0, found.1));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The service takes and delivers a good event, and every accepted event has been counted once.
async fn assert_unharmed(service: Service, accepted_before: u64) {
    let reply = service.wire(&webhook(good("afterwards"))).await;
    assert_eq!((reply.status, code(&reply)), (200, "1 kept, 0 refused".to_owned()));
    let ledger = service.settled(accepted_before + 1).await;
    assert_eq!(ledger["accepted"], accepted_before + 1, "{ledger}");
    let ended: u64 =
        ["delivered", "filtered", "expired", "dead"].iter().map(|term| ledger[term].as_u64().unwrap()).sum();
    assert_eq!(ledger["accepted"], ended, "{ledger}");
    assert!(!service.log().contains("panicked"), "{}", service.log());
    service.end().await;
}

// === the reply table ===

/// about | request | status | code (or what was kept)
type Row = (&'static str, Request, u16, &'static str);

#[tokio::test]
async fn every_situation_has_its_reply() {
    let service = service().start().await;
    let rows = [in_order(), not_json(), no_accepted_shape(), encodings(), nobody_known(), no_such_place()];
    let table = rows.concat();
    let kept = |(_, _, status, kept): &&Row| *status == 200 && kept.starts_with('1');
    let accepted = table.iter().filter(kept).count();
    check(&service, table).await;
    assert_unharmed(service, accepted as u64).await;
}

fn in_order() -> Vec<Row> {
    vec![
        ("a good event", webhook(good("m-1")), 200, "1 kept, 0 refused"),
        ("the same again", webhook(good("m-1")), 200, "0 kept, 0 refused"),
        (
            "put",
            Request::new("PUT", "/webhook").bearer("wk_acme").body(good("m-2")),
            200,
            "1 kept, 0 refused",
        ),
        (
            "patch",
            Request::new("PATCH", "/webhook").bearer("wk_acme").body(good("m-3")),
            200,
            "1 kept, 0 refused",
        ),
    ]
}

fn not_json() -> Vec<Row> {
    vec![
        ("nothing", webhook(""), 400, "invalid_json"),
        ("white space", webhook(" \r\n"), 400, "invalid_json"),
        ("a form", webhook("type=track&userId=u-1"), 400, "invalid_json"),
        ("markup", webhook("<event/>"), 400, "invalid_json"),
        ("cut off in an object", webhook(r#"{"type":"track","userId":"u-1""#), 400, "invalid_json"),
        ("cut off in a text", webhook(r#"{"type":"tra"#), 400, "invalid_json"),
        ("cut off in a batch", webhook(format!("[{},", good("m-4"))), 400, "invalid_json"),
        ("a comma too many", webhook(r#"[{"type":"page"},]"#), 400, "invalid_json"),
        ("two values", webhook("{}{}"), 400, "invalid_json"),
        ("a number that is none", webhook(r#"[{"n":01}]"#), 400, "invalid_json"),
        ("not a number", webhook(r#"[{"n":NaN}]"#), 400, "invalid_json"),
        (
            "UTF-16",
            webhook("{}".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>()),
            400,
            "invalid_json",
        ),
        (
            "invalid UTF-8 in a value",
            webhook(b"{\"type\":\"page\",\"userId\":\"\xff\"}"),
            400,
            "invalid_json",
        ),
        ("invalid UTF-8 between values", webhook(b"[{},\xc3\x28]"), 400, "invalid_json"),
        ("overlong UTF-8", webhook(b"{\"userId\":\"\xc0\xaf\"}"), 400, "invalid_json"),
        ("a surrogate as UTF-8", webhook(b"{\"userId\":\"\xed\xa0\x80\"}"), 400, "invalid_json"),
        ("a bare NUL", webhook(b"{\"userId\":\"a\0b\"}"), 400, "invalid_json"),
        ("NUL behind the event", webhook(b"{}\0"), 400, "invalid_json"),
        ("a bare line feed in a text", webhook("{\"userId\":\"a\nb\"}"), 400, "invalid_json"),
        ("a text that goes on for ever", webhook(format!("\"{}", "a".repeat(MIB))), 400, "invalid_json"),
        ("brackets that never close", webhook("[".repeat(4 * MIB)), 400, "invalid_json"),
    ]
}

fn no_accepted_shape() -> Vec<Row> {
    vec![
        ("null", webhook("null"), 400, "wrong_shape"),
        ("a number", webhook("1e400"), 400, "wrong_shape"),
        ("a text", webhook(r#""[]""#), 400, "wrong_shape"),
        ("a lone surrogate", webhook(r#""\ud800""#), 400, "wrong_shape"),
        ("a batch that is an object", webhook(r#"{"batch":{}}"#), 400, "wrong_shape"),
        ("a batch that is null", webhook(r#"{"batch":null}"#), 400, "wrong_shape"),
        (
            "two batches",
            webhook(format!(r#"{{"batch":[{0}],"batch":[{0}]}}"#, good("m-4"))),
            400,
            "wrong_shape",
        ),
        ("an empty array", webhook("[]"), 400, "empty_batch"),
        ("an empty batch", webhook(r#"{"batch":[],"sentAt":"2026-01-02T03:04:05Z"}"#), 400, "empty_batch"),
    ]
}

fn encodings() -> Vec<Row> {
    vec![
        ("an unknown encoding", encoded("compress", good("m-4")), 400, "unsupported_encoding"),
        (
            "two encodings",
            encoded("gzip, gzip", wire::gzip(&wire::gzip(good("m-4").as_bytes()))),
            400,
            "unsupported_encoding",
        ),
        ("no gzip", encoded("gzip", good("m-4")), 400, "unreadable_body"),
        ("no deflate", encoded("deflate", good("m-4")), 400, "unreadable_body"),
        ("no br", encoded("br", [0xff; 40]), 400, "unreadable_body"),
        ("no zstd", encoded("zstd", good("m-4")), 400, "unreadable_body"),
        ("an empty gzip body", encoded("gzip", ""), 400, "invalid_json"),
        (
            "gzip that is cut off",
            encoded("gzip", &wire::gzip(good("m-4").as_bytes())[..40]),
            400,
            "unreadable_body",
        ),
        (
            "deflate that is cut off",
            encoded("deflate", &wire::deflate(good("m-4").as_bytes())[..40]),
            400,
            "unreadable_body",
        ),
        (
            "br that is cut off",
            encoded("br", &wire::brotli(good("m-4").as_bytes())[..40]),
            400,
            "unreadable_body",
        ),
        (
            "zstd that is cut off",
            encoded("zstd", &wire::zstd(good("m-4").as_bytes())[..40]),
            400,
            "unreadable_body",
        ),
        (
            "gzip with a wrong checksum",
            encoded("gzip", with_wrong_checksum(&good("m-4"))),
            400,
            "unreadable_body",
        ),
        ("gzip of what is not JSON", encoded("gzip", wire::gzip(b"{")), 400, "invalid_json"),
        ("gzip", encoded("gzip", wire::gzip(good("gzip").as_bytes())), 200, "1 kept, 0 refused"),
        ("GZIP", encoded("GZIP", wire::gzip(good("GZIP").as_bytes())), 200, "1 kept, 0 refused"),
        ("x-gzip", encoded("x-gzip", wire::gzip(good("x-gzip").as_bytes())), 200, "1 kept, 0 refused"),
        ("deflate", encoded("deflate", wire::deflate(good("deflate").as_bytes())), 200, "1 kept, 0 refused"),
        ("br", encoded("br", wire::brotli(good("br").as_bytes())), 200, "1 kept, 0 refused"),
        ("zstd", encoded("zstd", wire::zstd(good("zstd").as_bytes())), 200, "1 kept, 0 refused"),
        ("identity", encoded("identity", good("identity")), 200, "1 kept, 0 refused"),
        (
            "gzip in chunks",
            encoded("gzip", wire::gzip(good("chunks").as_bytes())).chunked(),
            200,
            "1 kept, 0 refused",
        ),
    ]
}

fn nobody_known() -> Vec<Row> {
    vec![
        ("no key", Request::post("/webhook").body(good("m-4")), 401, "unauthorized"),
        ("a wrong key", Request::post("/v1/track").bearer("wk_acm").body(good("m-4")), 401, "unauthorized"),
        (
            // As with a right one: a 400 must not tell who is known.
            "a wrong key before a body that is no JSON",
            Request::post("/webhook").bearer("x").body("{"),
            400,
            "invalid_json",
        ),
        ("an unknown organization", Request::post("/webhook/nobody").body(good("m-4")), 401, "unauthorized"),
        ("no signature", Request::post("/webhook/signed").body(good("m-4")), 401, "unauthorized"),
        (
            "a bad signature",
            Request::post("/webhook/signed").header("X-Signature", &"0".repeat(40)).body(good("m-4")),
            401,
            "unauthorized",
        ),
        (
            "a signature that is none",
            Request::post("/webhook/signed").header("X-Signature", "sha1=1").body(good("m-4")),
            401,
            "unauthorized",
        ),
    ]
}

fn no_such_place() -> Vec<Row> {
    vec![
        ("get", Request::new("GET", "/webhook"), 405, "method_not_allowed"),
        ("delete", Request::new("DELETE", "/webhook/acme"), 405, "method_not_allowed"),
        ("a method of its own", Request::new("BREW", "/webhook"), 405, "method_not_allowed"),
        (
            "put to a library's path",
            Request::new("PUT", "/v1/track").bearer("wk_acme").body(good("m-4")),
            405,
            "method_not_allowed",
        ),
        ("post to a probe", Request::post("/livez"), 405, "method_not_allowed"),
        ("the root", Request::new("GET", "/"), 404, "unknown_path"),
        (
            "an unknown path",
            Request::post("/v1/delete").bearer("wk_acme").body(good("m-4")),
            404,
            "unknown_path",
        ),
        (
            "too deep a path",
            Request::post("/webhook/acme/x").bearer("wk_acme").body(good("m-4")),
            404,
            "unknown_path",
        ),
        ("capitals", Request::post("/V1/Track").bearer("wk_acme").body(good("m-4")), 404, "unknown_path"),
        ("a path that is no UTF-8", Request::post("/webhook/%ff").body(good("m-4")), 401, "unauthorized"),
        ("a path that is half an escape", Request::post("/webhook/%").body(good("m-4")), 401, "unauthorized"),
    ]
}

fn with_wrong_checksum(event: &str) -> Vec<u8> {
    let mut gzip = wire::gzip(event.as_bytes());
    let place = gzip.len() - 8;
    gzip[place] ^= 1;
    gzip
}

#[tokio::test]
async fn a_head_request_is_answered_without_a_body() {
    let service = service().start().await;
    for (path, status) in [("/livez", 200), ("/readyz", 200), ("/webhook", 405), ("/nowhere", 404)] {
        let reply = service.wire(&Request::new("HEAD", path)).await;
        assert_eq!((reply.status, reply.body.as_str()), (status, ""), "{path}");
    }
    service.end().await;
}

// === sizes ===

#[tokio::test]
async fn sizes_are_counted_after_unpacking_and_the_limit_is_exact() {
    let service = service().start().await;
    let whole = 8 * MIB;
    let large_event = |length: usize| {
        let (head, tail) =
            (r#"{"type":"page","userId":"u","messageId":"large","properties":{"a":""#, r#""}}"#);
        format!("{head}{}{tail}", "a".repeat(length - head.len() - tail.len()))
    };
    let table = vec![
        // about | request | status | code
        ("8 MiB", webhook(of_length("l-1", whole)), 200, "1 kept, 0 refused"),
        ("a byte more", webhook(of_length("l-x", whole + 1)), 413, "too_large"),
        ("8 MiB in chunks", webhook(of_length("l-2", whole)).chunked(), 200, "1 kept, 0 refused"),
        ("a byte more, in chunks", webhook(of_length("l-x", whole + 1)).chunked(), 413, "too_large"),
        ("much more", webhook(of_length("l-x", 3 * whole)), 413, "too_large"),
        ("much more, in chunks", webhook(of_length("l-x", 3 * whole)).chunked(), 413, "too_large"),
        (
            "8 MiB when unpacked",
            encoded("gzip", wire::gzip(&of_length("l-3", whole))),
            200,
            "1 kept, 0 refused",
        ),
        (
            "a byte more when unpacked",
            encoded("gzip", wire::gzip(&of_length("l-x", whole + 1))),
            413,
            "too_large",
        ),
        (
            "a byte more by deflate",
            encoded("deflate", wire::deflate(&of_length("l-x", whole + 1))),
            413,
            "too_large",
        ),
        ("8 MiB without a key", Request::post("/webhook").body(of_length("l-x", whole)), 401, "unauthorized"),
        (
            "8 MiB with a wrong key",
            Request::post("/webhook").bearer("x").body(of_length("l-x", whole)),
            401,
            "unauthorized",
        ),
        ("8 MiB to nowhere", Request::post("/nowhere").body(of_length("l-x", whole)), 404, "unknown_path"),
        (
            "8 MiB with a wrong method",
            Request::new("DELETE", "/webhook").body(of_length("l-x", whole)),
            405,
            "method_not_allowed",
        ),
        (
            "8 MiB in an unknown encoding",
            encoded("compress", of_length("l-x", whole)),
            400,
            "unsupported_encoding",
        ),
        ("an event of 1 MiB", webhook(large_event(MIB)), 200, "1 kept, 0 refused"),
        ("an event a byte larger", webhook(large_event(MIB + 1)), 413, "too_large"),
        (
            "a large one among others",
            webhook(format!("[{},{}]", good("l-4"), large_event(MIB + 1))),
            200,
            "1 kept, 1 refused",
        ),
    ];
    check(&service, table).await;
    let beside = service.wire(&webhook(format!("[{},{}]", good("l-5"), large_event(2 * MIB)))).await.json();
    assert_eq!(beside["rejected"][0]["code"], "too_large");
    assert_eq!(beside["rejected"][0]["messageId"], "large", "a sender must be able to find it");
    assert_unharmed(service, 6).await;
}

/// Clients write their body before they read: a connection that is closed under them would be a broken pipe, which they
/// take for trouble of the network, and the refusal would never be seen.
#[tokio::test]
async fn a_refusal_reaches_a_sender_that_is_still_sending() {
    let service = service().start().await;
    for (path, key, mib, status) in [
        ("/webhook", "wrong", 4, 401),
        ("/webhook", "wrong", 8, 401),
        ("/nowhere", "wk_acme", 8, 404),
        ("/webhook", "wk_acme", 9, 413),
        ("/webhook", "wk_acme", 24, 413),
    ] {
        for _ in 0..3 {
            let request = service.client().post(format!("{}{path}", service.public)).bearer_auth(key);
            let reply = service.send(request.body(of_length("large", mib * MIB))).await;
            assert_in_form(&reply, path);
            assert_eq!(reply.status, status, "{path} {key} {mib} MiB");
        }
    }
    // Who asks for leave first is refused without having to send, but for a key: a 401 comes after the same work as a 200.
    for (path, key, answer) in [
        ("/nowhere", "wk_acme", "HTTP/1.1 404 "),
        ("/webhook", "wrong", "HTTP/1.1 100 "),
        ("/webhook", "wk_acme", "HTTP/1.1 100 "),
    ] {
        let request = Request::post(path).bearer(key).body(of_length("leave", MIB));
        let mut stream = wire::connect(&service.public).await;
        stream.write_all(request.header("Expect", "100-continue").head().as_bytes()).await.unwrap();
        let mut first = [0; 13];
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut first)).await.unwrap().unwrap();
        assert_eq!(std::str::from_utf8(&first).unwrap(), answer);
    }
    assert_unharmed(service, 0).await;
}

#[tokio::test]
async fn the_number_of_events_is_limited_exactly() {
    let service = service().start().await;
    // A screen has no call at Wigzo: it is kept, counted and filtered.
    let events = |first: usize, count: usize| {
        let events =
            (first..first + count).map(|n| format!(r#"{{"type":"screen","userId":"u","messageId":"{n}"}}"#));
        events.collect::<Vec<_>>().join(",")
    };
    let table = vec![
        (
            "5000 in a batch",
            webhook(format!(r#"{{"batch":[{}]}}"#, events(0, 5_000))),
            200,
            "5000 kept, 0 refused",
        ),
        (
            "5001 in a batch",
            webhook(format!(r#"{{"batch":[{}]}}"#, events(9_000, 5_001))),
            413,
            "too_many_events",
        ),
        ("5001 in an array", webhook(format!("[{}]", events(9_000, 5_001))), 413, "too_many_events"),
        ("a million", webhook(format!("[{}1]", "1,".repeat(1_000_000))), 413, "too_many_events"),
    ];
    check(&service, table).await;
    assert_unharmed(service, 5_000).await;
}

/// Each event is stored with what its envelope says for all of them; that must not multiply a request's size.
#[tokio::test]
async fn an_envelope_cannot_blow_a_request_up() {
    let service = service().start().await;
    let batch = |count: usize| {
        let events: Vec<_> = (0..count).map(|n| good(&format!("{count}-{n}"))).collect();
        format!(r#"{{"context":{{"a":"{}"}},"batch":[{}]}}"#, "a".repeat(MIB / 2), events.join(","))
    };
    let table = vec![
        ("within four bodies", webhook(batch(50)), 200, "50 kept, 0 refused"),
        ("beyond", webhook(batch(70)), 413, "too_large"),
    ];
    check(&service, table).await;
    assert_unharmed(service, 50).await;
}

#[tokio::test]
async fn bombs_are_defused_in_little_memory() {
    let service = service().start().await;
    let spaces = vec![b' '; 64 * MIB];
    let (gzip, deflate) = (wire::gzip(&spaces), wire::deflate(&spaces));
    let zeros = wire::gzip(&vec![0; 64 * MIB]);
    drop(spaces);
    assert!(gzip.len() < 128 * 1024);
    for _ in 0..4 {
        let table = vec![
            ("gzip", encoded("gzip", gzip.clone()), 413, "too_large"),
            ("gzip of zeros", encoded("gzip", zeros.clone()), 413, "too_large"),
            ("deflate", encoded("deflate", deflate.clone()), 413, "too_large"),
            ("zstd", encoded("zstd", wire::zstd_bomb(8_192)), 413, "too_large"),
            ("gzip of gzip", encoded("gzip", wire::gzip(&gzip)), 400, "invalid_json"),
        ];
        check(&service, table).await;
    }
    // Unpacked, that was more than 4 GiB.
    let peak = service.peak_memory_mib();
    assert!(peak < 160, "{peak} MiB");
    assert_unharmed(service, 0).await;
}

// === rules for an event ===

/// item | code | pointer
const BAD_ITEMS: &[(&str, &str, &str)] = &[
    ("null", "not_an_object", ""),
    ("7", "not_an_object", ""),
    (r#""track""#, "not_an_object", ""),
    ("[]", "not_an_object", ""),
    (r#"{"json":[]}"#, "not_an_object", ""),
    ("{}", "unsupported_event_type", "/type"),
    (r#"{"userId":"u"}"#, "unsupported_event_type", "/type"),
    (r#"{"type":"delete","anonymousId":"a"}"#, "user_id_required", "/userId"),
    (r#"{"type":"Track","userId":"u","event":"A"}"#, "unsupported_event_type", "/type"),
    (r#"{"type":"","userId":"u"}"#, "unsupported_event_type", "/type"),
    (r#"{"type":7,"userId":"u"}"#, "unsupported_event_type", "/type"),
    (r#"{"type":["track"],"userId":"u"}"#, "unsupported_event_type", "/type"),
    (r#"{"type":"page"}"#, "no_user_anon_id", ""),
    (r#"{"type":"page","userId":null,"anonymousId":null}"#, "no_user_anon_id", ""),
    (r#"{"type":"page","userId":"","anonymousId":""}"#, "no_user_anon_id", ""),
    (r#"{"type":"page","userId":true}"#, "id_not_string", "/userId"),
    (r#"{"type":"page","userId":{"id":1}}"#, "id_not_string", "/userId"),
    (r#"{"type":"page","userId":["u"]}"#, "id_not_string", "/userId"),
    (r#"{"type":"page","userId":"u","anonymousId":[]}"#, "id_not_string", "/anonymousId"),
    (r#"{"type":"track","userId":"u"}"#, "event_not_defined", "/event"),
    (r#"{"type":"track","userId":"u","event":null}"#, "event_not_defined", "/event"),
    (r#"{"type":"track","userId":"u","event":""}"#, "event_not_defined", "/event"),
    (r#"{"type":"track","userId":"u","event":" \t"}"#, "event_not_defined", "/event"),
    (r#"{"type":"track","userId":"u","event":7}"#, "event_not_string", "/event"),
    (r#"{"type":"track","userId":"u","event":{}}"#, "event_not_string", "/event"),
    (r#"{"type":"track","userId":"u","event":"A","properties":[1]}"#, "properties_not_object", "/properties"),
    (
        r#"{"type":"track","userId":"u","event":"A","properties":"{}"}"#,
        "properties_not_object",
        "/properties",
    ),
    (r#"{"type":"identify","userId":"u","traits":7}"#, "traits_not_object", "/traits"),
    (r#"{"type":"group","userId":"u","groupId":"g","traits":[1]}"#, "traits_not_object", "/traits"),
    (r#"{"type":"page","userId":"u","name":7}"#, "name_not_string", "/name"),
    (r#"{"type":"screen","userId":"u","category":{}}"#, "category_not_string", "/category"),
    (r#"{"type":"page","userId":"u","context":[1]}"#, "context_not_object", "/context"),
    (r#"{"type":"page","userId":"u","integrations":true}"#, "integrations_not_object", "/integrations"),
    (r#"{"type":"page","userId":"u","messageId":{}}"#, "message_id_not_string", "/messageId"),
    (r#"{"type":"alias","previousId":"p"}"#, "user_id_required", "/userId"),
    (r#"{"type":"alias","userId":"u"}"#, "previous_id_required", "/previousId"),
    (r#"{"type":"alias","userId":"u","previousId":""}"#, "previous_id_required", "/previousId"),
    (r#"{"type":"group","userId":"u"}"#, "group_id_required", "/groupId"),
    (r#"{"type":"page","userId":"u","userId":"v"}"#, "duplicate_key", "/userId"),
    (r#"{"type":"page","type":"page","userId":"u"}"#, "duplicate_key", "/type"),
    (r#"{"type":"page","userId":"u","messageId":"m","messageId":"m"}"#, "duplicate_key", "/messageId"),
    (r#"{"type":"page","userId":"\ud800"}"#, "invalid_unicode", "/userId"),
    (r#"{"type":"track","userId":"u","event":"\udc00"}"#, "invalid_unicode", "/event"),
    (r#"{"type":"page","userId":"u","messageId":"\ud83d"}"#, "invalid_unicode", "/messageId"),
    (r#"{"type":"page","userId":"u","\ud83d":1}"#, "invalid_unicode", ""),
    (r#"{"type":"page","userId":"u","properties":{"\ud83d":1}}"#, "invalid_unicode", "/properties"),
];

#[tokio::test]
async fn a_bad_event_alone_gets_the_reason_as_its_status() {
    let service = service().start().await;
    for (item, code, _) in
        BAD_ITEMS.iter().filter(|(item, ..)| item.starts_with('{') && !item.contains("json"))
    {
        for (path, key, status) in [
            // Segment's documented answer for a type that a destination does not know is 501.
            ("/webhook", "wk_acme", if *code == "unsupported_event_type" { 501 } else { 400 }),
            ("/v1/batch", "wk_acme", 400),
            ("/webhook", "wk_quiet", 200),
        ] {
            let reply = service.wire(&Request::post(path).bearer(key).body(*item)).await;
            assert_in_form(&reply, item);
            assert_eq!(reply.status, status, "{item} to {path} with {key}: {reply:?}");
            let body = reply.json();
            let found = if status == 200 { &body["rejected"][0]["code"] } else { &body["code"] };
            assert_eq!(found, code, "{item}");
        }
    }
    let mismatch = r#"{"type":"page","userId":"u"}"#;
    let reply = service.wire(&Request::post("/v1/track").bearer("wk_acme").body(mismatch)).await;
    assert_eq!((reply.status, code(&reply)), (400, "type_mismatch".to_owned()));
    assert_unharmed(service, 0).await;
}

#[tokio::test]
async fn a_bad_event_never_changes_the_fate_of_its_neighbours() {
    let service = service().start().await;
    let (mut items, mut expected) = (vec![good("n-0")], Vec::new());
    for (index, (item, code, pointer)) in BAD_ITEMS.iter().enumerate() {
        expected.push((items.len(), *code, *pointer));
        items.push((*item).to_owned());
        items.push(good(&format!("n-{}", index + 1)));
    }
    let mut found = Vec::new();
    // An array's items may be wrapped, those of a batch are not: the same body in parts that fit into one reply.
    for (part, start) in items.chunks(20).zip((0..).step_by(20)) {
        let reply = service.wire(&webhook(format!("[{}]", part.join(",")))).await;
        assert_in_form(&reply, "a part");
        assert_eq!(reply.status, 200);
        for rejected in reply.json()["rejected"].as_array().unwrap() {
            let index = start + usize::try_from(rejected["index"].as_u64().unwrap()).unwrap();
            let text = |key: &str| rejected[key].as_str().unwrap().to_owned();
            assert!(text("message").len() > 10, "{rejected}");
            found.push((index, text("code"), text("pointer")));
        }
    }
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(index, code, pointer)| (index, code.to_owned(), pointer.to_owned()))
        .collect();
    assert_eq!(found, expected);

    let kept = BAD_ITEMS.len() as u64 + 1;
    service.settled(kept).await;
    assert_eq!(service.calls("event_name=Good").await.len() as u64, kept);
    let metrics = service.private("/metrics").await.body;
    assert!(metrics.contains(r#"code="no_user_anon_id""#), "{metrics}");
    assert_unharmed(service, kept).await;
}

#[tokio::test]
async fn a_refused_event_is_named_by_its_place_and_its_message_id() {
    let service = service().start().await;
    let long = "m".repeat(300);
    let batch = json!({"batch": [
        {"type": "page", "userId": "u", "messageId": "kept"},
        {"type": "page", "messageId": "refused"},
        {"type": "page", "messageId": 9_007_199_254_740_993_001_u64},
        {"type": "page"},
        {"type": "page", "messageId": long},
    ]});
    let reply = service.wire(&Request::post("/v1/batch").bearer("wk_acme").body(batch.to_string())).await;
    let message = r#"The event needs "userId" or "anonymousId"; neither is set."#;
    let rejected = |index: usize, id: Value| json!({"index": index, "messageId": id, "code": "no_user_anon_id", "message": message, "pointer": ""});
    assert_eq!(
        reply.json(),
        json!({"success": true, "accepted": 1, "duplicates": 0, "rejected": [
            rejected(1, json!("refused")),
            rejected(2, json!("9007199254740993001")),
            rejected(3, Value::Null),
            rejected(4, json!(&long[..100])),
        ]})
    );
    service.end().await;
}

/// Segment keeps 16 KB of a reply. A batch of nothing but bad events must not answer with a book.
#[tokio::test]
async fn a_long_list_of_refused_events_is_cut() {
    let service = service().start().await;
    let items =
        vec![r#"{"type":"page","messageId":"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\""}"#; 5_000];
    let reply = service.wire(&webhook(format!("[{}]", items.join(",")))).await;
    assert_in_form(&reply, "5000 bad events");
    let body = reply.json();
    let listed = body["rejected"].as_array().unwrap().len();
    assert!(listed > 20, "{listed}");
    assert_eq!(body["rejected_not_listed"], 5_000 - listed);
    assert_unharmed(service, 0).await;
}

#[tokio::test]
async fn an_odd_event_is_kept_and_named_by_its_place() {
    let service = service().start().await;
    let batch = json!({"sentAt": "just now", "batch": [
        {"type": "page", "userId": 42, "messageId": "odd-1", "sentAt": "2026-01-02T03:05:00Z"},
        {"type": "page", "messageId": "refused"},
        {"type": "page", "userId": "u", "messageId": "odd-2", "name": "", "writeKey": "wk_nobody"},
        {"type": "page", "userId": "u", "messageId": "good", "sentAt": "2026-01-02T03:05:00.000Z"},
    ]});
    let reply = service.wire(&Request::post("/v1/batch").bearer("wk_acme").body(batch.to_string())).await;
    let body = reply.json();
    assert_eq!((&body["accepted"], &body["rejected"][0]["index"]), (&json!(3), &json!(1)));
    assert_eq!(
        body["warnings"],
        json!([
            {"index": 0, "code": "numeric_id"},
            {"index": 2, "code": "empty_name"},
            {"index": 2, "code": "unreadable_time"},
        ])
    );
    let metrics = service.private("/metrics").await.body;
    assert!(metrics.contains(r#"events_warned_total{code="empty_name"} 1"#), "{metrics}");

    let many = vec![r#"{"type":"page","userId":7}"#; 5_000];
    let reply = service.wire(&webhook(format!("[{}]", many.join(",")))).await;
    assert_in_form(&reply, "5000 odd events");
    let body = reply.json();
    let listed = body["warnings"].as_array().unwrap().len();
    assert!(listed > 200 && reply.body.len() < 16 * 1024, "{listed}");
    assert_eq!(body["warnings_not_listed"], 5_000 - listed);
    service.end().await;
}

// === what is odd, and carried ===

/// about | event | person | what the call to Wigzo must contain, byte for byte
const CARRIED: &[(&str, &str, &str, &str)] = &[
    (
        "an id of 19 digits",
        r#"{"type":"track","event":"A","userId":9007199254740993001}"#,
        "9007199254740993001",
        r#""eventName":"A""#,
    ),
    ("an id with a fraction", r#"{"type":"track","event":"A","userId":1.50}"#, "1.50", r#""eventName":"A""#),
    (
        "an id beyond all numbers",
        r#"{"type":"track","event":"A","userId":1e400}"#,
        "1e400",
        r#""eventName":"A""#,
    ),
    ("zero", r#"{"type":"track","event":"A","userId":0}"#, "0", r#""eventName":"A""#),
    (
        "an identify's number",
        r#"{"type":"identify","userId":9007199254740993001,"traits":{"email":"b@shop.example"}}"#,
        "9007199254740993001",
        r#""customer_id":"9007199254740993001""#,
    ),
    (
        "an empty and a full id",
        r#"{"type":"page","userId":"","anonymousId":"a"}"#,
        "a",
        r#""eventName":"view""#,
    ),
    (
        "a null and a full id",
        r#"{"type":"page","userId":null,"anonymousId":"b"}"#,
        "b",
        r#""eventName":"view""#,
    ),
    ("an id with NUL", r#"{"type":"page","userId":"a\u0000b"}"#, "a\0b", r#""eventName":"view""#),
    (
        "NUL in a value",
        r#"{"type":"track","event":"A","userId":"c","properties":{"a":"\u0000"}}"#,
        "c",
        r#""eventval":{"a":"\u0000"}"#,
    ),
    (
        "numbers as they were written",
        r#"{"type":"track","event":"A","userId":"d","properties":{"a":1299.00,"b":1e400,"c":-0.0,"d":12345678901234567890123}}"#,
        "d",
        r#"{"a":1299.00,"b":1e400,"c":-0.0,"d":12345678901234567890123}"#,
    ),
    (
        "duplicate keys",
        r#"{"type":"track","event":"A","userId":"e","properties":{"a":1,"a":2,"":3,"":4}}"#,
        "e",
        r#"{"a":1,"a":2,"":3,"":4}"#,
    ),
    (
        "lone surrogates",
        r#"{"type":"track","event":"A","userId":"f","properties":{"a":"\ud800","b":["\udc00\ud83d"]}}"#,
        "f",
        r#"{"a":"\ud800","b":["\udc00\ud83d"]}"#,
    ),
    (
        "escapes as they were written",
        r#"{"type":"track","event":"A","userId":"g","properties":{"a":"\/\u0041\uD83D\uDE00 😀 आशा"}}"#,
        "g",
        r#"{"a":"\/\u0041\uD83D\uDE00 😀 आशा"}"#,
    ),
    (
        "an unknown field of any kind",
        r#"{"type":"page","userId":"h","y":[["\ud800"]],"x":{"x":1,"x":2},"version":"1.1"}"#,
        "h",
        r#""eventName":"view""#,
    ),
    (
        "an event name in any script",
        r#"{"type":"track","event":" देखा \u0000","userId":"i"}"#,
        "i",
        r#"{"eventName":" देखा \u0000""#,
    ),
    (
        "10 000 properties' worth of nothing",
        r#"{"type":"track","event":"A","userId":"j","properties":{},"traits":7,"name":[]}"#,
        "j",
        r#""eventval":{}"#,
    ),
];

#[tokio::test]
async fn what_is_odd_but_clear_is_carried_to_wigzo_unharmed() {
    let service = service().start().await;
    for (number, (about, event, person, call)) in CARRIED.iter().enumerate() {
        let reply = service.wire(&webhook(*event)).await;
        assert_eq!((reply.status, code(&reply)), (200, "1 kept, 0 refused".to_owned()), "{about}");
        let ledger = service.settled(number as u64 + 1).await;
        assert_eq!(ledger["delivered"], number + 1, "{about}: {ledger}");
        let calls = service.calls_text().await;
        assert!(calls.contains(call), "{about}: {call} is not in {calls}");
        let record = service.private(&format!("/api/events/{}", number + 1)).await;
        // Lone surrogates cannot be read into a text: looked at as bytes.
        assert!(record.body.contains(event), "{about}: {event} is not in {}", record.body);
        assert!(record.body.contains(&format!(r#""person":{}"#, json!(person))), "{about}: {}", record.body);
    }
    assert_unharmed(service, CARRIED.len() as u64).await;
}

#[tokio::test]
async fn depth_is_harmless() {
    let service = service().start().await;
    let deep = |levels: usize, id: &str| {
        format!(
            r#"{{"type":"track","event":"A","userId":"u","messageId":"{id}","properties":{{"a":{}}}}}"#,
            nested(levels)
        )
    };
    let envelope =
        |levels: usize| format!(r#"{{"batch":[{}],"context":{{"a":{}}}}}"#, good("d-4"), nested(levels));
    let table = vec![
        ("126 levels below two", webhook(deep(126, "d-1")), 200, "1 kept, 0 refused"),
        ("127", webhook(deep(127, "d-x")), 400, "too_deep"),
        ("100 000", webhook(deep(100_000, "d-x")), 400, "too_deep"),
        (
            "100 000 among others",
            webhook(format!("[{},{},{}]", good("d-2"), deep(100_000, "d-x"), good("d-3"))),
            200,
            "2 kept, 1 refused",
        ),
        ("100 000 arrays", webhook(nested(100_000)), 200, "0 kept, 1 refused"),
        (
            "100 000 objects",
            webhook(r#"{"a":"#.repeat(100_000) + "1" + &"}".repeat(100_000)),
            400,
            "too_deep",
        ),
        (
            "a key of ours, deep below",
            webhook(format!(r#"{{"batch":{}}}"#, nested(100_000))),
            200,
            "0 kept, 1 refused",
        ),
        ("100 000 in the envelope", webhook(envelope(100_000)), 200, "0 kept, 1 refused"),
        (
            "a wrapped one",
            webhook(format!(r#"[{{"json":{}}}]"#, deep(100_000, "d-x"))),
            200,
            "0 kept, 1 refused",
        ),
        ("8 MiB of depth", webhook(nested(4 * MIB)), 200, "0 kept, 1 refused"),
    ];
    check(&service, table).await;
    assert_unharmed(service, 3).await;
}

// === slow and rude senders ===

#[tokio::test]
async fn slow_senders_are_let_go() {
    let service =
        service().config("[ingress]\nread_timeout = \"300ms\"\nidle_timeout = \"300ms\"").start().await;

    // A head that never ends: the connection is closed.
    let mut stream = wire::connect(&service.public).await;
    stream.write_all(b"POST /webhook HTTP/1.1\r\nHost: x\r\nX-Half: ").await.unwrap();
    let answer = wire::rest(&mut stream).await;
    assert!(wire::reply(&answer).is_none_or(|reply| reply.status == 408), "{answer:?}");

    // Nothing at all.
    let mut stream = wire::connect(&service.public).await;
    assert_eq!(wire::rest(&mut stream).await, b"");

    // A body that stalls: nothing was kept, and the sender is told to come again.
    for request in [webhook(good("stalled")), webhook(good("stalled")).chunked()] {
        let bytes = request.bytes();
        let mut stream = wire::connect(&service.public).await;
        stream.write_all(&bytes[..bytes.len() - 20]).await.unwrap();
        let reply = wire::reply(&wire::rest(&mut stream).await).expect("a reply");
        assert_in_form(&reply, "stalled");
        assert_eq!((reply.status, code(&reply)), (503, "too_slow".to_owned()));
    }
    assert_unharmed(service, 0).await;
}

#[tokio::test]
async fn what_breaks_off_is_not_kept() {
    let service = service().start().await;
    let whole = webhook(good("broken"));
    let chunked = webhook(good("broken")).chunked();
    for bytes in [&whole.bytes()[..whole.head().len() + 30], &chunked.bytes()[..chunked.head().len() + 30]] {
        let mut stream = wire::connect(&service.public).await;
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = wire::rest(&mut stream).await;
        assert!(wire::reply(&answer).is_none_or(|reply| reply.status == 400), "{answer:?}");
    }
    let not_http: [&[u8]; 4] =
        [b"hello\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"POST /webhook HTTP/9.9\r\n\r\n", b"\r\n\r\n\r\n"];
    for bytes in not_http {
        let mut stream = wire::connect(&service.public).await;
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = wire::rest(&mut stream).await;
        assert!(!answer.windows(12).any(|part| part == b"HTTP/1.1 200"), "{answer:?}");
    }
    let lengths =
        [("Content-Length", "x"), ("Content-Length", "-1"), ("Content-Length", "99999999999999999999")];
    for (name, value) in lengths {
        let mut stream = wire::connect(&service.public).await;
        stream.write_all(webhook("").header(name, value).head().as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = wire::rest(&mut stream).await;
        assert!(answer.starts_with(b"HTTP/1.1 4"), "{value}: {answer:?}");
    }
    let smuggled = format!(
        "{}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        webhook(good("s")).head().trim_end_matches("\r\n").to_owned() + "\r\n"
    );
    let answer = service.bytes(smuggled.as_bytes()).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    assert_unharmed(service, 0).await;
}
