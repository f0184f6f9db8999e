//! Segment's own integration against the profile `classic`: the test cases of wigzo.md 7.3 (1 to 6 are about a page's
//! script), and what it did besides.

use super::*;

/// The name and the value of each call, and the fields of an identify without the ids.
fn calls(json: &str) -> Vec<String> {
    let setup = with_changes("classic", &Mapping::default());
    translated(json, &setup)
        .unwrap_or_default()
        .into_iter()
        .map(|call| {
            let body: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> =
                serde_json::from_str(&call.body).unwrap();
            if let Some(name) = call.name {
                return format!("{name} {}", body["eventval"]);
            }
            let fields = ["email", "phone", "fullName"].into_iter().filter(|key| body.contains_key(*key));
            let fields: Vec<_> = fields.map(|key| format!("{key}={}", body[key])).collect();
            let rest = body.len() - fields.len();
            assert_eq!(rest, 3, "userId, is_active, source, and nothing else: {}", call.body);
            format!("identify {}", fields.join(" ")).trim().to_owned()
        })
        .collect()
}

fn track(event: &str, properties: &str, rest: &str) -> String {
    format!(r#"{{"type":"track","event":"{event}","userId":"u","properties":{properties}{rest}}}"#)
}

const PAGE_AND_OPTIONS: &str = r#","context":{"page":{"url":"https://shop.example/U"}},"integrations":{"Wigzo":{"imageUrl":"i","canonicalUrl":"x","description":"d","language":"l"}}"#;

const INDEX: &str = r#"product/push {"productId":"p","title":"n","price":"usd 18.99","category":"c","canonicalUrl":"https://shop.example/U","image":"i","description":"d","language":"l"}"#;

/// number of the case | event | calls
#[test]
fn segments_own_cases_hold() {
    let products = r#"{"products":[{"product_id":"p1"},{"product_id":"p2"}]}"#;
    let order = r#"{"order_id":"o","affiliation":"a"}"#;
    let product =
        r#"{"product_id":"p","category":"c","name":"n","brand":"b","price":18.99,"currency":"usd"}"#;
    let review = r#"{"product_id":"p","review_id":"r","review_body":"fine","rating":"5"}"#;
    let reviewed = format!("review {review}");
    for (case, json, expected) in [
        (
            7,
            r#"{"type":"page","userId":"u","name":"N","properties":{"url":"U","title":"T"}}"#.to_owned(),
            &[r#"view {"canonicalUrl":"U","title":"N"}"#][..],
        ),
        (8, track("Product Clicked", product, PAGE_AND_OPTIONS), &[INDEX]),
        (9, track("Product Viewed", product, PAGE_AND_OPTIONS), &[INDEX]),
        (10, track("Product Added", r#"{"product_id":"p"}"#, ""), &[r#"addtocart "p""#]),
        (11, track("Product Added to Cart from Wishlist", r#"{"product_id":"p"}"#, ""), &[r#"addtocart "p""#]),
        (12, track("Product Added", r#"{"name":"n","brand":"b"}"#, ""), &[]),
        (13, track("Product Added to Wishlist", r#"{"product_id":"p"}"#, ""), &[r#"wishlist "p""#]),
        (14, track("Product Added to Wishlist", r#"{"wishlist_id":"w"}"#, ""), &[]),
        (15, track("Products Searched", r#"{"query":"q"}"#, ""), &[r#"search "q""#]),
        (16, track("Products Searched", r#"{"text":"q"}"#, ""), &[]),
        (17, track("Product Removed", r#"{"product_id":"p","sku":"s"}"#, ""), &[r#"removedfromcart "p""#]),
        (18, track("Product Removed", r#"{"sku":"s"}"#, ""), &[]),
        (19, track("Product Reviewed", review, ""), &[reviewed.as_str()]),
        (20, track("Checkout Started", products, ""), &[r#"checkoutstarted ["p1","p2"]"#]),
        (21, track("Checkout Started", order, ""), &[]),
        (22, track("Order Completed", products, ""), &[r#"buy ["p1","p2"]"#]),
        (23, track("Order Completed", order, ""), &[]),
        (24, r#"{"type":"identify","userId":"u"}"#.to_owned(), &["identify"]),
        (
            25,
            r#"{"type":"identify","anonymousId":"a","traits":{"name":"N","email":"e","phone":"p"}}"#.to_owned(),
            &[r#"identify email="e" phone="p" fullName="N""#],
        ),
        (
            26,
            r#"{"type":"identify","userId":"u","anonymousId":"a","traits":{"name":"N","email":"e","phone":"p","plan":"x","city":"y"}}"#
                .to_owned(),
            &[r#"identify email="e" phone="p" fullName="N""#],
        ),
        (27, track("event", "null", ""), &["event {}"]),
        (28, track("event", r#"{"a":1,"b":"2"}"#, ""), &[r#"event {"a":1,"b":"2"}"#]),
    ] {
        assert_eq!(calls(&json), expected, "case {case}: {json}");
    }
}

/// event | calls
#[test]
fn values_keep_their_type_and_defects_are_left_out() {
    for (json, expected) in [
        // Numbers leave as the numbers they came as.
        (track("Product Added", r#"{"productId":900719925474099300}"#, ""), &["addtocart 900719925474099300"][..]),
        (track("Products Searched", r#"{"query":12.50}"#, ""), &["search 12.50"]),
        (
            track("Order Completed", r#"{"products":[{"product_id":1},null,{"productId":"2"}]}"#, ""),
            &[r#"buy [1,"2"]"#],
        ),
        (
            track("Product Viewed", r#"{"product_id":7,"price":1299.00}"#, ""),
            &[r#"product/push {"productId":7,"price":"USD 1299.00"}"#],
        ),
        // No null for a product without an id, no call if none has one.
        (
            track("Checkout Started", r#"{"products":[{"sku":"s"},{"product_id":"p"}]}"#, ""),
            &[r#"checkoutstarted ["p"]"#],
        ),
        (track("Checkout Started", r#"{"products":[{"sku":"s"}]}"#, ""), &[]),
        // No "USD undefined".
        (track("Product Viewed", r#"{"product_id":"p"}"#, ""), &[r#"product/push {"productId":"p"}"#]),
        // What JavaScript takes for nothing.
        (track("Product Added", r#"{"product_id":""}"#, ""), &[]),
        (track("Product Added", r#"{"product_id":0}"#, ""), &[]),
        (track("Products Searched", r#"{"query":""}"#, ""), &[]),
        (track("Product Viewed", r#"{"name":"n"}"#, ""), &[]),
        // The id of the first version of the spec was not read.
        (track("Added Product", r#"{"id":"p"}"#, ""), &[]),
        // Whole names only, and the spec's own name of the move from wishlist to cart, which it did not know.
        (track("Viewed Product Category", "{}", ""), &["Viewed Product Category {}"]),
        (track("Added Product to Wishlist", "{}", ""), &["Added Product to Wishlist {}"]),
        (track("Wishlist Product Added to Cart", "{}", ""), &["Wishlist Product Added to Cart {}"]),
        (track("Started Order", "{}", ""), &["Started Order {}"]),
        // What Engage computed is an event like any other.
        (
            track(
                "Audience Entered",
                r#"{"vip":true}"#,
                r#","context":{"personas":{"computation_class":"audience","computation_key":"vip"}}"#,
            ),
            &[r#"Audience Entered {"vip":true}"#],
        ),
        // A page without name and URL; the context's page and the property `title` were not asked.
        (
            r#"{"type":"page","userId":"u","properties":{"title":"T"},"context":{"page":{"url":"U"}}}"#.to_owned(),
            &["view {}"],
        ),
        (
            r#"{"type":"identify","userId":"asha@shop.example","traits":{"firstName":"Asha","lastName":"Rao","phones":["1"]}}"#.to_owned(),
            &[r#"identify email="asha@shop.example" phone="1" fullName="Asha Rao""#],
        ),
        (r#"{"type":"screen","userId":"u","name":"N"}"#.to_owned(), &[]),
        (r#"{"type":"group","userId":"u","groupId":"g"}"#.to_owned(), &[]),
        (r#"{"type":"alias","userId":"u","previousId":"a"}"#.to_owned(), &[]),
    ] {
        assert_eq!(calls(&json), expected, "{json}");
    }
}
