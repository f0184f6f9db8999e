//! Events in the address of an image: always 200 and the image, and the event goes the way of a posted one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::service::Service;

const ORGANIZATION: &str = r#"
    [organizations.acme]
    org_token = "made-up-token-acme"
    source_keys = ["wk_acme"]
"#;

fn data(event: &serde_json::Value) -> String {
    STANDARD.encode(event.to_string()).replace('+', "%2B").replace('=', "%3D")
}

/// The series that counts replies on these routes.
fn replies(status: u16) -> String {
    format!("wigzo_destination_requests_total{{route=\"v1\",status=\"{status}\"}}")
}

#[tokio::test]
async fn an_event_in_an_address_becomes_calls() {
    let service = Service::sandbox().config(ORGANIZATION).start().await;
    let opened = json!({
        "writeKey": "wk_acme", "userId": "u-1", "event": "Email Opened", "messageId": "p-1",
        "properties": {"subject": "Diwali ₹ >>> ???", "n": 1},
    });
    let addresses = [
        format!("/v1/pixel/track?data={}", data(&opened)),
        "/v1/pixel/track?writeKey=wk_acme&userId=u-2&event=Email+Opened&properties=%7B%22n%22%3A2%7D"
            .to_owned(),
        "/v1/pixel/page?writeKey=wk_acme&anonymousId=a-3&name=Landing".to_owned(),
        format!(
            "/v1/pixel/identify?data={}",
            data(&json!({"writeKey": "wk_acme", "userId": "u-4", "traits": {"email": "user@shop.example"}}))
        ),
    ];
    for address in &addresses {
        // As HTTP has it the body is binary; this client reads text.
        let request = service.client().get(format!("{}{address}", service.public));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{address}");
        assert_eq!(response.headers()["content-type"], "image/gif", "{address}");
        assert_eq!(response.headers()["cache-control"], "no-store", "{address}");
        let image = response.bytes().await.unwrap();
        assert!(image.starts_with(b"GIF89a") && image.ends_with(b";"), "{address}: {image:?}");
    }
    let ledger = service.settled(4).await;
    assert_eq!((&ledger["accepted"], &ledger["delivered"]), (&json!(4), &json!(4)), "{ledger}");
    let calls = service.calls("event_name=Email%20Opened").await;
    assert_eq!(calls.len(), 2, "{calls:#?}");
    assert!(calls.iter().any(|call| call.to_string().contains("Diwali ₹ >>> ???")), "{calls:#?}");
    service.end().await;
}

/// What becomes of the event is counted with the status that a post would have got.
#[tokio::test]
async fn the_image_comes_whatever_happens() {
    let service = Service::sandbox().config(ORGANIZATION).start().await;
    for (address, status) in [
        ("/v1/pixel/track?data=%%%", 400),
        ("/v1/pixel/track", 401),
        ("/v1/pixel/track?writeKey=wk_wrong&userId=u-1&event=A", 401),
        ("/v1/pixel/track?writeKey=wk_acme&event=A", 400),
        ("/v1/pixel/delete?writeKey=wk_acme&userId=u-1", 404),
        ("/v1/pixel/%ff?writeKey=wk_acme&userId=u-1", 404),
    ] {
        let before = service.private("/metrics").await.body;
        let before = crate::service::metric(&before, &replies(status)).unwrap_or(0);
        let response = service.client().get(format!("{}{address}", service.public)).send().await.unwrap();
        assert_eq!(response.status(), 200, "{address}");
        assert_eq!(response.headers()["content-type"], "image/gif", "{address}");
        assert_eq!(service.metric(&replies(status)).await, before + 1, "{address}\n{}", service.log());
    }
    let head = service
        .client()
        .head(format!("{}/v1/pixel/track?writeKey=wk_acme&userId=u-1&event=A", service.public));
    assert_eq!(head.send().await.unwrap().status(), 200, "HEAD shows the image to nobody");
    assert_eq!(service.ledger().await["accepted"], 0);
    service.end().await;
}
