//! What an organization changes in its profile.

use super::*;

/// The calls of an event, `endpoint name value`, by `standard` with changes.
fn calls(changes: &str, json: &str) -> Vec<String> {
    let setup = standard_with(&toml::from_str(changes).unwrap());
    match translated(json, &setup) {
        Err(reason) => vec![format!("{reason:?}")],
        Ok(calls) => calls
            .iter()
            .map(|call| {
                let body: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> =
                    serde_json::from_str(&call.body).unwrap();
                match &call.name {
                    Some(name) => format!("{name} {}", body["eventval"]),
                    None => format!("{} {}", call.endpoint.as_str(), call.body),
                }
            })
            .collect(),
    }
}

fn track(event: &str, properties: &str) -> String {
    format!(r#"{{"type":"track","event":"{event}","userId":"u","properties":{properties}}}"#)
}

/// changes | event | calls
#[test]
fn a_row_of_ones_own_replaces_what_it_states() {
    let added = track("Added Product", r#"{"product_id":7,"price":1.50}"#);
    let order = track("Order Completed", r#"{"order_id":"o","email":"asha@example.com"}"#);
    let custom =
        track("Plan Upgraded", r#"{"plan":"gold","internal_note":"x","InternalNote":"y","seats":3}"#);
    let cancelled = track("Order Cancelled", r#"{"order_id":"o","status":"lost"}"#);
    for (changes, json, expected) in [
        // A new name, under every name of the row.
        (
            "[events.\"Product Added\"]\ncalls = [{ event = \"add_to_cart\", value = \"product_id\" }]",
            &added,
            &["add_to_cart \"7\""][..],
        ),
        // Another value.
        (
            "[events.\"product_added\"]\ncalls = [{ event = \"addtocart\" }]",
            &added,
            &[r#"addtocart {"product_id":7,"price":1.50}"#],
        ),
        // One more call.
        (
            "[events.\"Added Product\"]\ncalls = [{ event = \"addtocart\", value = \"product_id\" }, { event = \"{event}\" }]",
            &added,
            &["addtocart \"7\"", r#"Added Product {"product_id":7,"price":1.50}"#],
        ),
        // None.
        ("[events.\"Product Added\"]\ncalls = []", &added, &["DroppedByProfile"]),
        // Another name for the row, whose calls stay.
        ("[events.\"Product Added\"]\nalso = [\"Plan Upgraded\"]", &custom, &["RequiredFieldMissing"]),
        // Members that go, stay, come: in any spelling, of the calls that have members.
        (
            "[events.\"Plan Upgraded\"]\ndrop = [\"internalNote\"]",
            &custom,
            &[r#"Plan Upgraded {"plan":"gold","seats":3}"#],
        ),
        ("[events.\"Plan Upgraded\"]\nkeep = [\"Seats\"]", &custom, &[r#"Plan Upgraded {"seats":3}"#]),
        (
            "[events.\"Plan Upgraded\"]\nkeep = []\nset = { plan = \"known\", vip = true, level = 2 }",
            &custom,
            &[r#"Plan Upgraded {"level":2,"plan":"known","vip":true}"#],
        ),
        (
            "[events.\"Order Completed\"]\ndrop = [\"email\"]",
            &order,
            &[r#"order {"orderId":"o","customer_id":"u","line_items":[]}"#],
        ),
        ("[otherwise]\ndrop = [\"plan\", \"internal_note\"]", &custom, &[r#"Plan Upgraded {"seats":3}"#]),
        (
            "[otherwise]\ndrop = [\"plan\"]\n[events.\"Plan Upgraded\"]\nset = { seats = 1 }",
            &custom,
            &[r#"Plan Upgraded {"internal_note":"x","InternalNote":"y","seats":1}"#],
        ),
        // The names of unmapped events, and none of them.
        (
            "event_names = \"snake\"\n[otherwise]\nkeep = [\"plan\"]",
            &custom,
            &[r#"plan_upgraded {"plan":"gold"}"#],
        ),
        ("event_names = \"compact\"\n[otherwise]\nkeep = []", &custom, &["planupgraded {}"]),
        ("[otherwise]\ncalls = []", &custom, &["DroppedByProfile"]),
        ("[otherwise]\ncalls = []", &cancelled, &["DroppedByProfile"]),
        // Conditions.
        (
            "[events.\"Plan Upgraded\"]\ncalls = [{ event = \"gold\", value = \"nothing\", when = { \"properties.plan\" = \"gold\" } }, \
             { event = \"many\", value = \"nothing\", when = { \"properties.seats\" = [2, 3] } }]",
            &custom,
            &["gold {}", "many {}"],
        ),
        (
            "[events.\"Plan Upgraded\"]\ncalls = [{ event = \"e\", when = { \"properties.plan\" = \"silver\" } }]",
            &custom,
            &["ConditionNotMet"],
        ),
        (
            "[events.\"Plan Upgraded\"]\ncalls = [{ event = \"e\", requires = [\"properties.plan\", \"context.page.url\"] }]",
            &custom,
            &["RequiredFieldMissing"],
        ),
        // The calls that are no events.
        (
            "[events.\"Order Cancelled\"]\ncalls = [{ event = \"{event}\", value = \"nothing\" }, { endpoint = \"shipment\", status = \"cancelled\" }]",
            &cancelled,
            &[
                "Order Cancelled {}",
                r#"shipment {"order_id":"o","current_status":"cancelled","shipment_status":"cancelled","current_status_id":"1","shipment_status_id":"1"}"#,
            ],
        ),
        (
            "[events.\"Order Cancelled\"]\ncalls = [{ endpoint = \"shipment\", status = \"{status}\" }]",
            &cancelled,
            &[
                r#"shipment {"order_id":"o","current_status":"lost","shipment_status":"lost","current_status_id":"1","shipment_status_id":"1"}"#,
            ],
        ),
        (
            "[events.\"Product Added\"]\ncalls = [{ endpoint = \"product\" }]",
            &added,
            &[r#"product {"productId":"7","price":"1.50"}"#],
        ),
        (
            "[events.\"Order Cancelled\"]\ncalls = [{ endpoint = \"product\" }]",
            &cancelled,
            &["RequiredFieldMissing"],
        ),
    ] {
        assert_eq!(calls(changes, json), expected, "{changes}\n{json}");
    }
}

#[test]
fn a_call_that_is_not_made_says_what_it_lacks() {
    let setup = with_changes("guide", &Mapping::default());
    let json = track("Order Completed", r#"{"order_id":"o","products":[{"sku":"s"}]}"#);
    let raw = Raw::parse(&json).unwrap();
    let event = Event::read(raw, &Surroundings::default()).unwrap();
    let translation = translate(&event, arrival(Route::Webhook), &setup.profile, &setup.options);
    assert_eq!(translation.filtered(), Some(Filtered::RequiredFieldMissing));
    let skipped: Vec<_> = translation.skipped.iter().map(ToString::to_string).collect();
    assert_eq!(skipped, [r#"event "order_completed" lacks products"#]);
    assert_eq!(translation.row.unwrap().names()[0], "Order Completed");
}

/// Notes what it is told.
#[derive(Default)]
struct Notes(std::cell::RefCell<Vec<String>>);

impl super::super::Recorder for Notes {
    fn took(&self, field: &str, place: super::super::Place) {
        self.0.borrow_mut().push(format!("{field} <- {place}"));
    }
}

#[test]
fn a_recorder_is_told_where_fields_came_from() {
    let setup = with_changes("guide", &Mapping::default());
    let json = r#"{"type":"track","event":"Order Completed","userId":"u","timestamp":"2026-01-02T03:04:05Z","properties":{"id":"o","products":[{"productId":7,"price":2}]},"context":{"traits":{"address":{"city":"Pune"}}}}"#;
    let raw = Raw::parse(json).unwrap();
    let event = Event::read(raw, &Surroundings::default()).unwrap();
    let notes = Notes::default();
    let at = arrival(Route::Webhook);
    super::super::translate_with(&event, at, &setup.profile, &setup.options, &notes).into_calls().unwrap();
    assert_eq!(
        notes.0.into_inner(),
        [
            "orderId <- properties.id",
            "customer_id <- userId",
            "total_line_items_price <- the sum of price × quantity",
            "created_at <- timestamp",
            "updated_at <- timestamp",
            "city <- context.traits.address.city",
            "line_item_id <- its place in the list",
            "variant_id <- properties.products[].product_id",
            "product_id <- properties.products[].product_id",
            "price <- properties.products[].price",
            "quantity <- by default",
        ]
    );
}

#[test]
fn layers_are_remembered_row_by_row() {
    let defaults: Mapping = toml::from_str("[events.A]\ncalls = []\n[page]\ncalls = []").unwrap();
    let own: Mapping =
        toml::from_str("[events.a]\ndrop = []\n[events.\"Product Added\"]\ndrop = []").unwrap();
    let changed = Profile::builtin("standard").unwrap().changed(&defaults, Layer::Defaults).unwrap();
    let Err(mistakes) = changed.changed(&own, Layer::Organization) else { panic!("no value has members") };
    assert_eq!(mistakes.len(), 1);
    let own: Mapping = toml::from_str("[events.a]\ndrop = []").unwrap();
    let changed = changed.changed(&own, Layer::Organization).unwrap();
    let (row, _) = changed.track("A");
    assert_eq!(
        (row.layer(), row.calls(), row.dropped()),
        (Layer::Organization, Some(&[][..]), Some(&[][..]))
    );
    assert_eq!(changed.type_rows().map(|(_, row)| row.layer())[0], Layer::Defaults);
    assert_eq!(changed.track("Product Added").0.layer(), Layer::Profile);
}
