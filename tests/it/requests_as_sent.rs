//! What senders, their languages and the proxies between do to a request costs no event: compression in several members
//! or without its header, a byte order mark, slashes, the empty object of PHP, missing and made-up ids.

use serde_json::{Value, json};

use crate::service::{Reply, Service};
use crate::wire::{self, Request};

const ORGANIZATIONS: &str = r#"
    [organizations.acme]
    org_token = "made-up-token-acme"
    source_keys = ["wk_acme"]

    [organizations.signed]
    org_token = "made-up-token-signed"
    shared_secrets = ["abc123"]
"#;

const MARK: &str = "\u{feff}";

async fn service() -> Service {
    Service::sandbox().config(ORGANIZATIONS).start().await
}

fn event(message_id: &str) -> String {
    json!({"type": "track", "event": "Seen", "userId": "u-1", "messageId": message_id}).to_string()
}

fn batch(body: impl Into<Vec<u8>>) -> Request {
    Request::post("/v1/batch").bearer("wk_acme").body(body)
}

/// Accepted events and duplicates.
fn counts(reply: &Reply) -> (u64, u64) {
    assert_eq!(reply.status, 200, "{reply:?}");
    let reply = reply.json();
    (reply["accepted"].as_u64().unwrap(), reply["duplicates"].as_u64().unwrap())
}

/// The codes of the warnings.
fn warnings(reply: &Reply) -> Vec<String> {
    let warnings = reply.json()["warnings"].as_array().cloned().unwrap_or_default();
    warnings.iter().map(|warning| warning["code"].as_str().unwrap().to_owned()).collect()
}

type Encoder = fn(&[u8]) -> Vec<u8>;

#[tokio::test]
async fn compressed_members_are_one_body() {
    let service = service().await;
    let encoders: [(&str, Encoder); 4] =
        [("gzip", wire::gzip), ("deflate", wire::deflate), ("br", wire::brotli), ("zstd", wire::zstd)];
    for (encoding, encode) in encoders {
        let (one, two) = (event(&format!("{encoding}-1")), event(&format!("{encoding}-2")));
        let body = format!(r#"{{"batch":[{one},{two}]}}"#).into_bytes();
        let (left, right) = body.split_at(body.len() / 2);
        let members = [encode(left), encode(right)].concat();
        let reply = service.wire(&batch(members).header("Content-Encoding", encoding)).await;
        assert_eq!(counts(&reply), (2, 0), "{encoding}");

        let documents = [encode(event("lost-1").as_bytes()), encode(event("lost-2").as_bytes())].concat();
        let reply = service.wire(&batch(documents).header("Content-Encoding", encoding)).await;
        assert_eq!((reply.status, reply.json()["code"].as_str()), (400, Some("invalid_json")), "{encoding}");
    }
    for body in [wire::gzip(event("bare-gzip").as_bytes()), wire::zstd(event("bare-zstd").as_bytes())] {
        assert_eq!(counts(&service.wire(&batch(body)).await), (1, 0), "without Content-Encoding");
    }
    service.settled(10).await;
    service.end().await;
}

#[tokio::test]
async fn a_byte_order_mark_is_skipped_on_every_route() {
    let service = service().await;
    let marked = |id: &str| format!("{MARK}{}", event(id));
    let posts = [
        Request::post("/v1/track").bearer("wk_acme").body(marked("1")),
        batch(format!("{MARK}[{}]", event("2"))),
        batch(wire::gzip(marked("3").as_bytes())).header("Content-Encoding", "gzip"),
        Request::post("/webhook").bearer("wk_acme").body(marked("4")),
        // The signature is over the bytes as they are sent, the mark included.
        Request::post("/webhook/signed")
            .header("X-Signature", &wire::signature("abc123", marked("5").as_bytes()))
            .body(marked("5")),
        Request::post("/webhook")
            .bearer("wk_acme")
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(format!("{MARK}type=track&event=Seen&userId=u-1&messageId=6")),
    ];
    for request in &posts {
        assert_eq!(counts(&service.wire(request).await), (1, 0), "{request:?}");
    }
    let audience = Request::post("/audiences").body(format!(r#"{MARK}{{"audienceName":"big_spenders"}}"#));
    assert_eq!(service.wire(&audience).await.status, 200);
    service.settled(6).await;
    service.end().await;
}

#[tokio::test]
async fn extra_slashes_reach_the_same_route() {
    let service = service().await;
    let post = |path: &str, id: &str| Request::post(path).bearer("wk_acme").body(event(id));
    for (path, count) in [
        ("/v1/batch/", (1, 0)),
        ("//v1/batch", (0, 1)),
        ("/v1//track/", (0, 1)),
        ("/webhook/", (1, 0)),
        ("//webhook", (0, 1)),
        ("/webhook/acme/", (1, 0)),
        ("/webhook//acme//", (0, 1)),
    ] {
        assert_eq!(counts(&service.wire(&post(path, "m-1")).await), count, "{path}");
    }
    let audience = Request::post("/audiences/").body(r#"{"audienceName":"big_spenders"}"#);
    assert_eq!(service.wire(&audience).await.status, 200);
    let pixel = "/v1/pixel/track/?writeKey=wk_acme&userId=u-1&event=Seen&messageId=m-2";
    assert_eq!(service.wire(&Request::new("GET", pixel)).await.status, 200);
    for path in ["/livez/", "//readyz", "/openapi.json/"] {
        assert_eq!(service.wire(&Request::new("GET", path)).await.status, 200, "{path}");
    }
    let preflight = Request::new("OPTIONS", "/v1/t/").header("Origin", "https://shop.example");
    assert_eq!(service.wire(&preflight).await.status, 204);
    assert_eq!(service.wire(&post("/v1/batches/", "m-3")).await.status, 404);
    service.settled(4).await;
    service.end().await;
}

/// event | warnings
#[tokio::test]
async fn an_empty_array_is_an_empty_object() {
    let service = service().await;
    let table = [
        (
            r#"{"type":"track","event":"A","userId":"u","properties":[],"context":[],"integrations":[]}"#,
            "empty_array",
        ),
        (r#"{"type":"identify","userId":"u","traits":[]}"#, "empty_array"),
        (r#"{"type":"page","userId":"u","context":{"page":[]}}"#, "empty_array"),
    ];
    for (event, warning) in table {
        let reply = service.wire(&batch(event)).await;
        assert_eq!((counts(&reply), warnings(&reply)), ((1, 0), vec![warning.to_owned()]), "{event}");
    }
    service.settled(3).await;
    service.end().await;
}

#[tokio::test]
async fn events_without_a_message_id_all_count() {
    let service = service().await;
    let event = json!({"type": "track", "event": "Seen", "userId": "u-1"});
    for _ in 0..2 {
        assert_eq!(counts(&service.wire(&batch(event.to_string())).await), (1, 0));
    }
    let twice = json!({"batch": [event, event]}).to_string();
    assert_eq!(counts(&service.wire(&batch(twice)).await), (2, 0), "in one batch");
    for id in ["", "undefined", "null"] {
        let mut event = event.clone();
        event["messageId"] = Value::from(id);
        let twice = json!({"batch": [event, event]}).to_string();
        assert_eq!(counts(&service.wire(&batch(twice)).await), (2, 0), "{id:?}");
    }
    service.settled(10).await;
    service.end().await;
}

#[tokio::test]
async fn placeholder_ids_join_nobody() {
    let service = service().await;
    let mut calls = 0;
    for id in [
        "undefined",
        "null",
        "[object Object]",
        "NaN",
        "000000000000",
        "00000000-0000-0000-0000-000000000000",
    ] {
        let event =
            json!({"type": "track", "event": "Seen", "userId": id, "anonymousId": format!("a-{calls}")});
        let reply = service.wire(&batch(event.to_string())).await;
        assert_eq!((counts(&reply), warnings(&reply)), ((1, 0), vec!["placeholder_id".to_owned()]), "{id}");
        calls += 1;
        let event = json!({"type": "track", "event": "Seen", "userId": id});
        let reply = service.wire(&batch(event.to_string())).await;
        assert_eq!((reply.status, reply.json()["code"].as_str()), (400, Some("no_user_anon_id")), "{id}");
    }
    service.settled(calls).await;
    let found = service.private("/api/events?organization=acme&person=a-0").await.json();
    assert_eq!(found["events"].as_array().map(Vec::len), Some(1), "under the anonymousId: {found}");
    service.end().await;
}
