//! What an identify says, switch by switch, and what the objects of `guide` hold.

use super::*;

/// The calls of an identify with these traits, by `standard` with changes: endpoint and body without the ids.
fn identify(changes: &str, traits: &str) -> Vec<String> {
    let setup = standard_with(&toml::from_str(changes).unwrap());
    let json = format!(r#"{{"type":"identify","userId":"user-42","traits":{traits}}}"#);
    bodies(translated(&json, &setup))
}

fn bodies(calls: Result<Vec<Call>, Filtered>) -> Vec<String> {
    const IDS: [&str; 3] = [
        r#""userId":"62f13329-c49e-4051-a157-94f621f8af13","#,
        r#""customer_id":"user-42","#,
        r#""is_active":true,"#,
    ];
    match calls {
        Ok(calls) => calls
            .iter()
            .map(|call| {
                let body = IDS.iter().fold(call.body.clone(), |body, id| body.replacen(id, "", 1));
                format!("{} {body}", call.endpoint.as_str())
            })
            .collect(),
        Err(reason) => vec![format!("{reason:?}")],
    }
}

/// changes | traits | calls
#[test]
fn an_identify_says_what_the_switches_let_it() {
    let nested = r#"{"plan":"gold","company":{"name":"Shop","size":{"min":1e1,"max":[2]},"vip":true,"none":{}},"company_vip":false}"#;
    for (changes, traits, expected) in [
        (
            "",
            r#"{"plan":"gold","source":"x","first_seen":1.50}"#,
            &[r#"identify {"source":"web","plan":"gold","trait_source":"x","first_seen":1.50}"#][..],
        ),
        (
            "extra_traits = \"drop\"",
            r#"{"email":"asha@example.com","plan":"gold"}"#,
            &[r#"identify {"email":"asha@example.com","source":"web"}"#],
        ),
        (
            "extra_traits = \"event\"",
            r#"{"email":"asha@example.com","plan":"gold","source":true}"#,
            &[
                r#"identify {"email":"asha@example.com","source":"web"}"#,
                r#"event {"eventName":"identify_traits","eventval":{"plan":"gold","source":true},"eventCategory":"EXTERNAL","source":"web"}"#,
            ],
        ),
        (
            "extra_traits = \"event\"",
            r#"{"email":"asha@example.com"}"#,
            &[r#"identify {"email":"asha@example.com","source":"web"}"#],
        ),
        // A member that would take a trait's own name is left out; lists and empty objects are no traits to open.
        (
            "nested_traits = \"flatten\"",
            nested,
            &[
                r#"identify {"source":"web","plan":"gold","company_name":"Shop","company_size_min":1e1,"company_size_max":[2],"company_none":{},"company_vip":false}"#,
            ],
        ),
        (
            "nested_traits = \"flatten\"",
            r#"{"address":{"city":"Pune","street":{"name":"Main","no":1}}}"#,
            &[
                r#"identify {"city":"Pune","source":"web","address_street_name":"Main","address_street_no":1}"#,
            ],
        ),
        // A field that is not asked for is a trait like any other; Wigzo's name for it stays Wigzo's.
        (
            "identify_fields = [\"phone\"]",
            r#"{"email":"asha@example.com","phone":"1","name":"Asha"}"#,
            &[r#"identify {"phone":"1","source":"web","trait_email":"asha@example.com","name":"Asha"}"#],
        ),
        ("source = \"app\"", "{}", &[r#"identify {"source":"app"}"#]),
        ("contactless = \"skip\"", r#"{"plan":"gold"}"#, &["NoContact"]),
        (
            "phone_country = \"IN\"",
            r#"{"phone":"081234 56789"}"#,
            &[r#"identify {"phone":"+918123456789","source":"web"}"#],
        ),
        (
            "phone_country = \"IN\"",
            r#"{"phone":"ask me"}"#,
            &[r#"identify {"phone":"ask me","source":"web"}"#],
        ),
        ("", r#"{"phone":910000000000}"#, &[r#"identify {"phone":"910000000000","source":"web"}"#]),
        (
            "identify_values = \"sent\"",
            r#"{"phone":910000000000,"zip":411001,"name":" A "}"#,
            &[
                r#"identify {"phone":910000000000,"fullName":"A","firstName":"A","postal_code":411001,"source":"web"}"#,
            ],
        ),
    ] {
        assert_eq!(identify(changes, traits), expected, "{changes} {traits}");
    }
}

/// event | calls
#[test]
fn the_guide_is_followed_field_by_field() {
    let product = r#"{"product_id":7,"sku":"s","variant":"red","name":"Kettle","price":799.50,"category":"Kitchen","brand":"Acme","url":"https://shop.example/k"}"#;
    let items =
        r#"[{"product_id":"p1","price":"$19.00","quantity":"2","category":"c"},{"name":"no id","price":0}]"#;
    let order = format!(
        r#"{{"order_id":"O","total":41,"shipping":3,"discount":0.10,"coupon":"NEW","payment_method":"card","products":{items}}}"#
    );
    let checkout = format!(r#"{{"cart_id":"C","value":41,"tax":1.5,"currency":"INR","products":{items}}}"#);
    let track = |event: &str, properties: &str| {
        format!(
            r#"{{"type":"track","event":"{event}","userId":"user-42","timestamp":"2026-01-02T03:04:05Z","properties":{properties}}}"#
        )
    };
    let event = |name: &str, value: &str| {
        vec![format!(
            r#"event {{"eventName":"{name}","eventval":{value},"eventCategory":"EXTERNAL","source":"web"}}"#
        )]
    };
    let missing = || vec!["RequiredFieldMissing".to_owned()];
    for (json, expected) in [
        (
            track("Product Viewed", product),
            event("product_view", r#"{"productId":"7","title":"Kettle","price":"799.50","category":"Kitchen","vendor":"Acme","canonicalUrl":"https://shop.example/k","variants":[{"variant_id":"red","product_id":"7","title":"Kettle","price":"799.50","sku":"s"}]}"#),
        ),
        (track("Product Viewed", &product.replace(r#""price":799.50,"#, "")), missing()),
        (track("Product Viewed", &product.replace(r#""name":"Kettle","#, "")), missing()),
        (track("Product Viewed", &product.replace(r#","url":"https://shop.example/k""#, "")), missing()),
        (
            track("Order Completed", &order),
            // `customer_id` of the order is taken away with the ids.
            event("order_completed", r#"{"orderId":"O","total_price":41,"total_line_items_price":38.00,"shipping_cost":3,"total_discounts":0.10,"coupons":["NEW"],"created_at":"2026-01-02T03:04:05Z","updated_at":"2026-01-02T03:04:05Z","financial_status":"card","line_items":[{"line_item_id":"0","variant_id":"p1","product_id":"p1","price":19.00,"quantity":2,"categories":"c"}]}"#),
        ),
        (track("Order Completed", r#"{"order_id":"O","products":[]}"#), missing()),
        (
            track("Checkout Started", &checkout),
            event("checkout_started", r#"{"currency":"INR","total_price":"41","total_tax":"1.5","line_items":[{"checkout_id":"C","product_id":"p1","quantity":2,"variant_id":"p1","price":"$19.00"}]}"#),
        ),
        (track("Checkout Started", r#"{"products":[{"product_id":"p1"}]}"#), missing()),
        (track("Product List Viewed", r#"{"list_id":"l"}"#), event("Product List Viewed", r#"{"list_id":"l"}"#)),
        (
            r#"{"type":"page","userId":"user-42","name":"N","properties":{"a":1,"url":"U"}}"#.to_owned(),
            event("view", r#"{"canonicalUrl":"U","title":"N"}"#),
        ),
        (
            r#"{"type":"identify","userId":"user-42","traits":{"email":"asha@example.com","name":"Asha Rao","language":"en","plan":"x","createdAt":"2026"}}"#.to_owned(),
            vec![r#"identify {"email":"asha@example.com","firstName":"Asha","lastName":"Rao","createdAt":"2026","source":"web"}"#.to_owned()],
        ),
        (r#"{"type":"identify","userId":"user-42"}"#.to_owned(), vec!["NoContact".to_owned()]),
    ] {
        let setup = with_changes("guide", &Mapping::default());
        assert_eq!(bodies(translated(&json, &setup)), expected, "{json}");
    }
}

/// shape | properties | value
#[test]
fn shapes_that_no_profile_names_work_too() {
    for (shape, properties, expected) in [
        ("query_object", r#"{"query":{"text":"kettle"}}"#, r#"{"query":{"text":"kettle"}}"#),
        (
            "list_summary",
            r#"{"category":"Kitchen","url":"U","image_url":"I"}"#,
            r#"{"canonicalURL":"U","categoryUrl":"U","image":"I","title":"Kitchen"}"#,
        ),
        (
            "checkout_summary",
            r#"{"value":30.00,"products":[{"product_id":1},{"id":"2","quantity":3}]}"#,
            r#"{"totalOrderValue":"30.00","itemCount":2,"items":[{"productId":"1","quantity":1},{"productId":"2","quantity":3}]}"#,
        ),
        ("url", r#"{"url":"U"}"#, r#""U""#),
        ("nothing", r#"{"a":1}"#, "{}"),
    ] {
        let changes = format!("[events.e]\ncalls = [{{ event = \"e\", value = \"{shape}\" }}]");
        let setup = standard_with(&toml::from_str(&changes).unwrap());
        let json = format!(r#"{{"type":"track","event":"e","userId":"u","properties":{properties}}}"#);
        let body = translated(&json, &setup).unwrap().remove(0).body;
        assert!(body.contains(&format!(r#""eventval":{expected},"#)), "{shape}: {body}");
    }
}
