//! What an organization changes in its profile changes what Wigzo gets.

use serde_json::{Value, json};

use crate::service::Service;

/// Two organizations behind one service: one changes rows of the default profile, the other chose another profile.
const CONFIG: &str = r#"
[organization_defaults]
event_names = "snake"

[organization_defaults.events."Internal Heartbeat"]
calls = []

[organizations.acme]
org_token = "made-up-org-token-1"
source_keys = ["wk_acme"]

[organizations.acme.events."Product Added"]
calls = [{ event = "add_to_cart", value = "properties", requires = ["product_id"] }]
drop = ["internal_note"]
set = { channel = "segment" }

[organizations.acme.events."Order Cancelled"]
calls = [
  { event = "{event}" },
  { endpoint = "shipment", status = "cancelled" },
]

[organizations.bazaar]
org_token = "made-up-org-token-2"
source_keys = ["wk_bazaar"]
profile = "classic"
"#;

fn track(key: &str, event: &str, properties: &Value) -> String {
    let event = json!({"writeKey": key, "userId": "user-42", "event": event, "properties": properties});
    event.to_string()
}

#[tokio::test]
async fn a_row_of_the_configuration_changes_what_wigzo_gets() {
    let service = Service::sandbox().config(CONFIG).start().await;
    for body in [
        track("wk_acme", "Added Product", &json!({"product_id": 7, "internalNote": "x"})),
        track("wk_acme", "Product Added", &json!({"name": "no id"})),
        track("wk_acme", "Cart Viewed", &json!({"cart_id": "c"})),
        track("wk_acme", "internal_heartbeat", &json!({})),
        track("wk_acme", "Order Cancelled", &json!({"order_id": "O-1"})),
        track("wk_bazaar", "Product Added", &json!({"product_id": 7})),
    ] {
        assert_eq!(service.post("/v1/track", &body).await.status, 200, "{body}");
    }
    service.settled(6).await;

    let events = service.calls("endpoint=event").await;
    let mut events: Vec<_> = events
        .iter()
        .map(|call| (call["body"]["eventName"].as_str().unwrap(), call["body"]["eventval"].to_string()))
        .collect();
    events.sort();
    assert_eq!(
        events,
        [
            ("add_to_cart", r#"{"channel":"segment","product_id":7}"#.to_owned()),
            ("addtocart", "7".to_owned()),
            ("cart_viewed", r#"{"cart_id":"c"}"#.to_owned()),
            ("order_cancelled", r#"{"order_id":"O-1"}"#.to_owned()),
        ]
    );
    let shipments = service.calls("endpoint=shipment").await;
    assert_eq!(shipments.len(), 1, "{shipments:?}");
    assert_eq!(shipments[0]["org_token"], "made-up-org-token-1");
    assert_eq!(shipments[0]["body"]["current_status"], "cancelled");

    // In the record the token is masked where this call has it: in the path.
    let cancelled = service.private("/api/events?organization=acme&person=user-42").await.json();
    let numbers: Vec<_> =
        cancelled["events"].as_array().unwrap().iter().map(|event| &event["number"]).collect();
    let mut requests = String::new();
    for number in numbers {
        requests += &service.private(&format!("/api/events/{number}")).await.body;
    }
    assert!(requests.contains("/rest/v1/learn/shipment/custom/***"), "{requests}");
    assert!(!requests.contains("made-up-org-token"), "{requests}");
    service.end().await;
}

#[tokio::test]
async fn a_record_says_which_call_lacked_which_field() {
    let service = Service::sandbox().config(CONFIG).start().await;
    for (number, event, properties, state, detail) in [
        (
            1,
            "Product Added",
            json!({"name": "no id"}),
            "filtered",
            json!("event \"add_to_cart\" lacks product_id"),
        ),
        (
            2,
            "Order Completed",
            json!({"products": [{"product_id": "p"}]}),
            "delivered",
            json!("event \"order\" lacks order_id"),
        ),
        (3, "Cart Viewed", json!({}), "delivered", Value::Null),
    ] {
        assert_eq!(service.post("/v1/track", &track("wk_acme", event, &properties)).await.status, 200);
        assert_eq!(service.state(number, state).await["detail"], detail, "{event}");
    }
    service.end().await;
}
