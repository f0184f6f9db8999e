//! Pages of other origins: a browser's question before it sends, its request, and what the page may read.

use serde_json::json;

use crate::service::{Reply, Service};
use crate::wire::Request;

/// One organization that takes any page, one that lists its own.
const ORGANIZATIONS: &str = r#"
    [ingress]
    key_header = "X-Source-Key"

    [organizations.open]
    org_token = "made-up-token-open"
    source_keys = ["wk_open"]

    [organizations.listed]
    org_token = "made-up-token-listed"
    source_keys = ["wk_listed"]
    cors_origins = ["https://shop.example", "HTTPS://WWW.shop.example:443/"]
"#;

const SHOP: &str = "https://shop.example";

fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    reply.headers.get(name).map(|value| value.to_str().unwrap())
}

/// A library's post from a page.
fn post(path: &str, key: &str, origin: &str, body: &str) -> Request {
    Request::post(path).bearer(key).header("Origin", origin).header("Content-Type", "text/plain").body(body)
}

fn event(message_id: &str) -> String {
    json!({"type": "track", "event": "Seen", "anonymousId": "a-1", "messageId": message_id}).to_string()
}

#[tokio::test]
async fn a_preflight_is_answered_on_every_event_route_without_a_key() {
    let service = Service::sandbox().config(ORGANIZATIONS).start().await;
    let mut paths: Vec<_> =
        ["/webhook", "/webhook/listed", "/webhook/nobody", "/v1/batch", "/v1/import", "/v1/b"]
            .map(str::to_owned)
            .into();
    for kind in ["identify", "track", "page", "screen", "group", "alias"] {
        paths.push(format!("/v1/pixel/{kind}"));
        paths.extend([format!("/v1/{kind}"), format!("/v1/{}", &kind[..1])]);
    }
    for path in paths {
        let asked = Request::new("OPTIONS", &path)
            .header("Origin", "https://any.example")
            .header("Access-Control-Request-Method", "POST")
            .header("Access-Control-Request-Headers", "authorization,content-type,x-retry-count");
        let reply = service.wire(&asked).await;
        assert_eq!((reply.status, reply.body.as_str()), (204, ""), "{path}: {reply:?}");
        assert_eq!(header(&reply, "access-control-allow-origin"), Some("*"), "{path}");
        assert_eq!(header(&reply, "access-control-max-age"), Some("86400"), "{path}");
        let methods = header(&reply, "access-control-allow-methods").unwrap();
        let needed = if path.starts_with("/v1/pixel/") { "GET" } else { "POST" };
        assert!(methods.split(", ").any(|method| method == needed), "{path}: {methods}");
        let allowed = header(&reply, "access-control-allow-headers");
        assert_eq!(allowed, Some("authorization,content-type,x-retry-count"), "what was asked for: {path}");
        let reply = service.wire(&Request::new("OPTIONS", &path).header("Origin", SHOP)).await;
        let headers: Vec<_> = header(&reply, "access-control-allow-headers").unwrap().split(", ").collect();
        for needed in ["authorization", "content-type", "x-retry-count", "x-source-key"] {
            assert!(headers.contains(&needed), "{path}: {headers:?} lacks {needed}");
        }
        assert_eq!(header(&reply, "access-control-allow-credentials"), None, "cookies are not used: {path}");
    }
    let tracing = "baggage,content-type,newrelic,sentry-trace,traceparent,tracestate,x-datadog-trace-id";
    let asked = Request::new("OPTIONS", "/v1/t")
        .header("Origin", SHOP)
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", tracing);
    let reply = service.wire(&asked).await;
    assert_eq!(header(&reply, "access-control-allow-headers"), Some(tracing), "{reply:?}");
    for path in ["/nowhere", "/livez"] {
        let reply = service.wire(&Request::new("OPTIONS", path).header("Origin", SHOP)).await;
        assert!(matches!(reply.status, 404 | 405), "{path} takes no events: {reply:?}");
    }
    service.end().await;
}

/// about | request | status | code | whether the page may read the reply
#[tokio::test]
async fn a_page_may_read_every_reply_that_is_meant_for_it() {
    let service = Service::sandbox().config(ORGANIZATIONS).start().await;
    let table = [
        ("any page", post("/v1/t", "wk_open", SHOP, &event("1")), 200, "", true),
        ("a page without an origin", post("/v1/t", "wk_open", "null", &event("2")), 200, "", true),
        ("a listed page", post("/v1/t", "wk_listed", SHOP, &event("3")), 200, "", true),
        (
            "listed in another spelling",
            post("/v1/t", "wk_listed", "https://www.shop.example", &event("4")),
            200,
            "",
            true,
        ),
        (
            "another page",
            post("/v1/t", "wk_listed", "https://evil.example", &event("5")),
            403,
            "origin_not_allowed",
            false,
        ),
        ("null", post("/v1/t", "wk_listed", "null", &event("6")), 403, "origin_not_allowed", false),
        (
            "the same over plain HTTP",
            post("/v1/t", "wk_listed", "http://shop.example", &event("7")),
            403,
            "origin_not_allowed",
            false,
        ),
        (
            "another page's webhook",
            post("/webhook", "wk_listed", "https://evil.example", &event("8")),
            403,
            "origin_not_allowed",
            false,
        ),
        ("no key", post("/v1/t", "wk_wrong", "https://evil.example", &event("9")), 401, "unauthorized", true),
        ("no JSON", post("/v1/t", "wk_listed", SHOP, "{"), 400, "invalid_json", true),
        ("a rule is broken", post("/v1/t", "wk_listed", SHOP, "{}"), 400, "no_user_anon_id", true),
        ("no such path", post("/v1/tracks", "wk_listed", SHOP, "{}"), 404, "unknown_path", true),
        (
            "wrong method",
            Request::new("DELETE", "/v1/t").header("Origin", SHOP),
            405,
            "method_not_allowed",
            true,
        ),
        (
            "larger than allowed",
            post("/v1/t", "wk_listed", SHOP, "").header("Content-Length", "1000000000"),
            413,
            "too_large",
            true,
        ),
    ];
    for (about, request, status, code, readable) in table {
        let reply = service.wire(&request).await;
        assert_eq!(reply.status, status, "{about}: {reply:?}");
        assert_eq!(reply.json()["code"].as_str().unwrap_or_default(), code, "{about}");
        let expected = readable.then_some("*");
        assert_eq!(header(&reply, "access-control-allow-origin"), expected, "{about}: {reply:?}");
        let exposed = readable.then_some("retry-after");
        assert_eq!(header(&reply, "access-control-expose-headers"), exposed, "{about}: {reply:?}");
    }
    let ledger = service.settled(4).await;
    assert_eq!(ledger["accepted"], 4, "what was refused is not kept: {ledger}");
    service.end().await;
}

#[tokio::test]
async fn who_names_no_origin_is_not_asked_for_one() {
    let service = Service::sandbox().config(ORGANIZATIONS).start().await;
    let reply = service.wire(&Request::post("/v1/t").bearer("wk_listed").body(event("1"))).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(header(&reply, "access-control-allow-origin"), None, "nobody asked: {reply:?}");
    service.end().await;
}

#[tokio::test]
async fn what_is_no_origin_is_refused_at_start() {
    for bad in ["beta.example", "https://beta.example/path"] {
        let config = format!("[organization_defaults]\ncors_origins = [\"{bad}\"]");
        let (code, said) = Service::sandbox().config(&config).refused().await;
        assert_eq!(code, Some(2), "{bad}: {said}");
        assert!(said.contains("cors_origins") && said.contains("without a path"), "{bad}: {said}");
    }
}
