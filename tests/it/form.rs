//! Form-encoded bodies of Extensible Webhook: who may send them, and what becomes of their fields.

use serde_json::json;

use crate::service::Service;
use crate::wire::{self, Request};

const ORGANIZATIONS: &str = r#"
    [organizations.acme]
    org_token = "made-up-token-acme"
    source_keys = ["wk_acme"]
    shared_secrets = ["abc123"]

    [organizations.open]
    org_token = "made-up-token-open"
    open = true
"#;

const FORM: &str = "application/x-www-form-urlencoded";

fn form(path: &str, fields: &str) -> Request {
    Request::post(path).header("Content-Type", FORM).body(fields)
}

/// about | request | status | code
#[tokio::test]
async fn a_form_is_vouched_for_by_a_source_key() {
    let service = Service::sandbox().config(ORGANIZATIONS).start().await;
    let fields = "type=track&event=Good&userId=u-1&messageId=";
    let signed = |fields: &str| wire::signature("abc123", fields.as_bytes());
    let batch = |ids: [&str; 2]| json!([{"body": format!("{fields}{}", ids[0])}, {"body": format!("{fields}{}", ids[1])}]);
    let plain = json!({"type": "track", "event": "Good", "userId": "u-1"}).to_string();
    let table = [
        ("with a key", form("/webhook", &format!("{fields}1")).bearer("wk_acme"), 200, ""),
        ("its type in another spelling", form("/webhook", &format!("{fields}2")).bearer("wk_acme"), 200, ""),
        ("key in the form", form("/webhook", &format!("{fields}3&writeKey=wk_acme")), 200, ""),
        ("open", form("/webhook/open", &format!("{fields}4")), 200, ""),
        ("batch", Request::post("/webhook").bearer("wk_acme").body(batch(["5", "6"]).to_string()), 200, ""),
        ("nothing", form("/webhook/acme", &format!("{fields}7")), 401, "unauthorized"),
        ("wrong key", form("/webhook/acme", &format!("{fields}8")).bearer("wk_wrong"), 401, "unauthorized"),
        (
            "a signature over something else",
            form("/webhook/acme", &format!("{fields}9")).header("X-Signature", &signed(&plain)),
            401,
            "unauthorized",
        ),
        (
            "JSON stays signed, whatever its type says",
            form("/webhook", &plain).bearer("wk_acme"),
            401,
            "unauthorized",
        ),
        (
            "an object that was lost",
            form("/webhook", &format!("{fields}10&properties=%5Bobject+Object%5D")).bearer("wk_acme"),
            400,
            "properties_not_object",
        ),
        (
            "a deletion",
            form("/webhook", "type=delete&userId=u-1&messageId=12").bearer("wk_acme"),
            501,
            "unsupported_event_type",
        ),
        (
            "a deletion among forms",
            Request::post("/webhook").bearer("wk_acme").body(
                json!([{"body": "type=delete&userId=u-1"}, {"type": "delete", "userId": "u-1"}]).to_string(),
            ),
            200,
            "",
        ),
        ("no fields", form("/webhook", "words").bearer("wk_acme"), 400, "invalid_json"),
        ("no event", form("/webhook", "a=b").bearer("wk_acme"), 501, "unsupported_event_type"),
        (
            "on a tracking route",
            form("/v1/track", &format!("{fields}11")).bearer("wk_acme"),
            400,
            "invalid_json",
        ),
    ];
    for (about, request, status, code) in table {
        let reply = service.wire(&request).await;
        let found = (reply.status, reply.json()["code"].as_str().unwrap_or_default().to_owned());
        assert_eq!(found, (status, code.to_owned()), "{about}: {reply:?}");
    }
    let ledger = service.settled(6).await;
    assert_eq!((&ledger["accepted"], &ledger["delivered"]), (&json!(6), &json!(6)), "{ledger}");
    service.end().await;
}

#[tokio::test]
async fn fields_reach_wigzo() {
    let service = Service::sandbox().config(ORGANIZATIONS).start().await;
    let fields = "type=track&event=Gift+Wrapped&userId=7&context=%5Bobject+Object%5D&anonymousId=null\
                  &properties=%7B%22price%22%3A1.50%2C%22note%22%3A%22%E0%A4%86%E0%A4%B6%E0%A4%BE%22%7D";
    let reply = service.wire(&form("/webhook", fields).bearer("wk_acme")).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    service.settled(1).await;
    let text = service.calls_text().await;
    assert!(text.contains("Gift Wrapped") && text.contains("1.50") && text.contains("आशा"), "{text}");
    service.end().await;
}
