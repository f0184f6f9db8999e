//! The events that are sent, all made up. Each has [`MESSAGE`] and [`USER`] in it once, to be written over in place.

/// The message id before it is written over.
pub const MESSAGE: &str = "message-000000000000";
/// The user id before it is written over.
pub const USER: &str = "user-000000";

/// A track event of 1 KB as analytics-node sends it: one that the profile has no row for, so that it is one call.
pub fn track() -> String {
    let event = format!(
        r#"{{"type":"track","messageId":"{MESSAGE}","userId":"{USER}","anonymousId":"0b6e3f0a-6a53-4f0e-9d0b-2f1f6d7c9a11","event":"Coupon Applied","timestamp":"2026-01-02T03:04:05.678Z","properties":{{"order_id":"1001","cart_id":"c-77","coupon_id":"SUMMER10","coupon_name":"Ten percent off","discount":23.32,"currency":"INR","url":"https://shop.example.com/cart?step=2","products":[{{"product_id":"p-1","sku":"sku-1","name":"Blue shirt","price":1299.00,"quantity":1,"category":"Shirts"}}]}},"context":{{"library":{{"name":"@segment/analytics-node","version":"2.1.3"}},"ip":"203.0.113.7","locale":"en-IN","page":{{"path":"/cart","referrer":"https://shop.example.com/","title":"Cart","url":"https://shop.example.com/cart"}},"userAgent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"}},"integrations":{{}},"note":"#
    );
    let filler = 1_024 - event.len() - 3;
    format!(r#"{event}"{}"}}"#, "x".repeat(filler))
}

/// An event of every kind that a shop sends, with its type: several calls come of some, and none of others.
pub fn kinds() -> Vec<(&'static str, String)> {
    let product =
        r#""product_id":"p-1","name":"Blue shirt","price":1299.00,"currency":"INR","category":"Shirts""#;
    let kinds = [
        (
            "identify",
            r#""traits":{"email":"someone@example.com","phone":"+910000000000","firstName":"Some","lastName":"One","address":{"city":"Pune","country":"India"},"big_spender":true,"orders_last_month":3}"#.to_owned(),
        ),
        (
            "page",
            r#""name":"Shirts","properties":{"url":"https://shop.example.com/shirts?page=2","title":"Shirts","path":"/shirts","referrer":"https://shop.example.com/","search":"?page=2"}"#.to_owned(),
        ),
        (
            "track",
            format!(r#""event":"Product Viewed","properties":{{{product},"imageUrl":"https://shop.example.com/p-1.jpg","description":"A shirt \u2013 blue","language":"en"}}"#),
        ),
        (
            "track",
            format!(r#""event":"Order Completed","properties":{{"order_id":"1001","total":2598.00,"revenue":2400.5,"currency":"INR","products":[{{{product},"quantity":1}},{{{product},"quantity":1}}]}}"#),
        ),
        ("track", r#""event":"Newsletter Opened","properties":{"issue":42,"topics":["tea","cups"]}"#.to_owned()),
        ("screen", r#""name":"Home","properties":{"tab":"new"}"#.to_owned()),
        ("group", r#""groupId":"g-1","traits":{"name":"Example Ltd"}"#.to_owned()),
        ("alias", r#""previousId":"an-earlier-id""#.to_owned()),
    ];
    kinds.into_iter().map(|(kind, rest)| (kind, whole(kind, &rest))).collect()
}

/// A track event without a name.
pub fn refused() -> String {
    whole("track", r#""properties":{"tab":"new"}"#)
}

fn whole(kind: &str, rest: &str) -> String {
    format!(
        r#"{{"type":"{kind}","messageId":"{MESSAGE}","userId":"{USER}",{rest},"timestamp":"2026-01-02T03:04:05.678Z","sentAt":"2026-01-02T03:04:06.000Z","context":{{"library":{{"name":"analytics.js","version":"2.11.1"}},"ip":"203.0.113.7","locale":"en-IN","timezone":"Asia/Kolkata","campaign":{{"source":"news","medium":"email","name":"autumn"}},"page":{{"path":"/shirts","referrer":"https://shop.example.com/","title":"Shirts","url":"https://shop.example.com/shirts"}},"userAgent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"}},"integrations":{{"All":true,"Wigzo":{{"language":"en"}}}}}}"#
    )
}
