//! What holds for any event in every profile, and for its explanation.

use std::collections::HashSet;

use super::tables::address;
use super::*;
use crate::segment::Object;
use crate::translate::field::Scene;
use crate::translate::{Cause, Explanation, Ground, Shape, Verdict, explain, explain_event, identity};

fn any_profile() -> impl Strategy<Value = &'static Profile> {
    prop::sample::select(Profile::BUILTIN).prop_map(|name| &**Profile::builtin(name).unwrap())
}

fn read(json: &str) -> Event<'_> {
    Event::read(Raw::parse(json).unwrap(), &Surroundings::default()).unwrap()
}

fn explained(json: &str, profile: &Profile, arrival: Arrival) -> Explanation {
    let (options, address) = (options(), address());
    explain_event(
        &read(json),
        &Ground { profile, options: &options, address: &address, arrival, obeyed: None },
    )
}

/// Traits of distinct names, some of them names of Wigzo's.
fn any_traits() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = prop_oneof![
        any_key(),
        prop::sample::select(&["trait_source", "trait_trait_source", "trait_userId", "trait_email"][..])
            .prop_map(str::to_owned),
    ];
    prop::collection::btree_map(name, any_value(), 0..10).prop_map(|traits| traits.into_iter().collect())
}

proptest! {
    #[test]
    fn the_same_event_becomes_the_same_calls(profile in any_profile(), head in any_head(), members in any_members()) {
        let json = event(&head, &members);
        let calls = || translate(&read(&json), arrival(Route::Webhook), profile, &options()).into_calls();
        let once = calls();
        written(&once);
        prop_assert_eq!(once, calls());
    }

    #[test]
    fn no_call_is_made_without_what_it_requires(profile in any_profile(), head in any_head(), members in any_members()) {
        let (json, options, arrival) = (event(&head, &members), options(), arrival(Route::Webhook));
        let event = read(&json);
        let learner = identity::learner(&event, &options).unwrap();
        let scene = Scene::new(&event, &learner, arrival, profile.switches.phone_country, &());
        for made in translate(&event, arrival, profile, &options).made {
            let Cause::Rule(_, rule) = made.cause else { continue };
            for field in &rule.requires {
                prop_assert!(field.is_present(&scene), "{} without {}", made.call.body, field.as_str());
            }
            let body = Object::parse(Raw::parse(&made.call.body).unwrap()).unwrap();
            let value = body.get("eventval").unwrap().get();
            let is_list = matches!(rule.value(), Some(Shape::ProductIds | Shape::ClassicProductIds));
            prop_assert!(value != "\"\"" && !(is_list && value == "[]"), "{}", made.call.body);
        }
    }

    #[test]
    fn a_number_keeps_its_text_wherever_it_goes(profile in any_profile(), number in any_number()) {
        let members = [("n".to_owned(), number.clone())];
        let json = event(r#""type":"track","event":"Anything""#, &members);
        let calls = translate(&read(&json), arrival(Route::Webhook), profile, &options()).into_calls().unwrap();
        prop_assert!(calls[0].body.contains(&format!("\"n\":{number}")), "{}", calls[0].body);
        let order = format!(
            r#"{{"type":"track","event":"Order Completed","userId":"u","properties":{{"order_id":"o","total":{number},"products":[{{"product_id":{number},"price":{number}}}]}}}}"#
        );
        for call in translate(&read(&order), arrival(Route::Webhook), profile, &options()).into_calls().unwrap_or_default() {
            let mut pieces = call.body.split("_price\":");
            let mut before = pieces.next().unwrap();
            for piece in pieces {
                let found = piece.split([',', '}']).next().unwrap();
                // The total of the goods is calculated: its digits are as many as its factors'.
                prop_assert!(found == number || before.ends_with("line_items"), "{}", call.body);
                before = piece;
            }
        }
    }

    #[test]
    fn an_unknown_property_changes_nothing_else(profile in any_profile(), head in any_head(), members in any_members(), value in any_value()) {
        const UNKNOWN: &str = "zz unknown 7";
        let calls = |members: &[(String, String)]| {
            written(&translate(&read(&event(&head, members)), arrival(Route::Webhook), profile, &options()).into_calls())
        };
        let before = calls(&members);
        let mut more = members.clone();
        more.push((UNKNOWN.to_owned(), value.clone()));
        let member = format!("\"{UNKNOWN}\":{value}");
        let without = [format!(",{member}"), format!("{member},"), member]
            .iter()
            .fold(calls(&more), |text, part| text.replace(part, ""));
        prop_assert_eq!(before, without);
    }

    #[test]
    fn no_two_fields_of_an_identify_have_one_name(profile in any_profile(), traits in any_traits()) {
        let json = format!(r#"{{"type":"identify","userId":"u","traits":{}}}"#, object(&traits));
        for call in translate(&read(&json), arrival(Route::Webhook), profile, &options()).into_calls().unwrap_or_default() {
            let body = Object::parse(Raw::parse(&call.body).unwrap()).unwrap();
            let mut names = HashSet::new();
            for (name, _) in body.iter() {
                prop_assert!(names.insert(name), "{name:?} twice in {}", call.body);
            }
        }
    }

    #[test]
    fn an_explanation_tells_of_the_calls_that_are_made(profile in any_profile(), head in any_head(), members in any_members()) {
        let json = event(&head, &members);
        let arrival = arrival(Route::Tracking);
        let translation = translate(&read(&json), arrival, profile, &options());
        let told = explained(&json, profile, arrival);
        prop_assert_eq!(told.reason, translation.filtered().map(Filtered::as_str));
        prop_assert_eq!(told.result == Verdict::Calls, translation.filtered().is_none());
        prop_assert_eq!(told.skipped.len(), translation.skipped.len());
        prop_assert_eq!(told.calls.len(), translation.made.len());
        for (told, made) in told.calls.iter().zip(&translation.made) {
            prop_assert_eq!(told.body.get(), &made.call.body);
            prop_assert_eq!(told.endpoint, made.call.endpoint.as_str());
            let value = Object::parse(Raw::from(&*told.body)).unwrap().get("eventval");
            // A value that is no object was taken from somewhere.
            let is_object = value.is_none_or(|value| value.get().starts_with('{'));
            prop_assert!(is_object || !told.fields.is_empty(), "{}", made.call.body);
        }
        serde_json::to_string(&told).unwrap();
    }
}

/// What of an explanation delivery decides elsewhere, or not at all.
#[test]
fn an_explanation_tells_what_translation_is_not_asked() {
    let (options, address) = (options(), address());
    let profile = Profile::builtin("standard").unwrap();
    let told = |json: &str, obeyed| {
        let arrival = arrival(Route::Webhook);
        let ground = Ground { profile, options: &options, address: &address, arrival, obeyed };
        let told = explain(Raw::parse(json).unwrap(), &Surroundings::default(), &ground);
        (told.result, told.reason, told.calls.len())
    };
    let unwanted = r#"{"type":"track","event":"e","userId":"u","integrations":{"All":false}}"#;
    let not_wanted = (Verdict::Filtered, Some("filtered_by_integrations_object"), 0);
    assert_eq!(told(unwanted, Some(Route::Tracking)), not_wanted);
    assert_eq!(told(unwanted, Some(Route::Webhook)), (Verdict::Calls, None, 1));
    assert_eq!(told(unwanted, None), (Verdict::Calls, None, 1));
    let deletion = r#"{"type":"delete","userId":"u"}"#;
    assert_eq!(told(deletion, None), (Verdict::Deletion, Some("user_deleted"), 0));
    assert_eq!(
        told(r#"{"type":"track","userId":"u"}"#, None),
        (Verdict::Refused, Some("event_not_defined"), 0)
    );
}

/// event | changes | what is told of the row | the rule and the places of the last call, or why it is not made
#[test]
fn an_explanation_names_row_layer_rule_and_places() {
    let table = [
        (
            r#"{"type":"track","event":"Added Product","userId":"u","properties":{"id":7}}"#,
            "",
            Some("Product Added profile"),
            r#"event "addtocart", value product_id: eventval <- properties.id"#,
        ),
        (
            r#"{"type":"track","event":"Added Product","userId":"u","properties":{"id":7}}"#,
            "[events.\"Product Added\"]\ncalls = [{ event = \"add\", requires = [\"properties.size\"] }]",
            Some("Product Added organization"),
            r#"event "add", value properties, requires properties.size: missing properties.size"#,
        ),
        (
            r#"{"type":"track","event":"Cart Viewed","userId":"u"}"#,
            "[otherwise]\ndrop = [\"x\"]",
            Some("Cart Viewed profile, otherwise organization"),
            r#"event "{event}", value properties: eventval <- properties"#,
        ),
        (
            r#"{"type":"track","event":"Mine","userId":"u"}"#,
            "",
            Some("otherwise profile"),
            r#"event "{event}", value properties: eventval <- properties"#,
        ),
        (
            r#"{"type":"page","userId":"u","name":"Home","context":{"page":{"url":"https://shop.example/"}}}"#,
            "",
            Some("page profile"),
            r#"event "view", value page: eventval <- properties, title <- name, canonicalUrl <- context.page.url"#,
        ),
        (
            r#"{"type":"identify","userId":"u","anonymousId":"a","traits":{"phones":["+910000000000"]}}"#,
            "identify_fields = [\"phone\", \"customer_id\"]",
            None,
            "earlier_learner: phone <- traits.phones, customer_id <- userId",
        ),
        (
            r#"{"type":"identify","userId":"u","traits":{"email":"a@example.com","vip":true}}"#,
            "extra_traits = \"event\"",
            None,
            "extra_traits: identify_traits <- traits",
        ),
    ];
    for (json, changes, row, last) in table {
        let profile = with_changes("standard", &toml::from_str(changes).unwrap()).profile;
        let told = explained(json, &profile, arrival(Route::Webhook));
        let found = told.row.as_ref().map(|row| {
            let otherwise = row.otherwise.map(|layer| format!(", otherwise {layer}")).unwrap_or_default();
            format!("{} {}{otherwise}", row.name, row.layer)
        });
        assert_eq!(found.as_deref(), row, "{json}");
        let because = |because: &crate::translate::Because| {
            because.rule.clone().unwrap_or_else(|| because.cause.to_owned())
        };
        let line = match (told.calls.last(), told.skipped.last()) {
            (Some(call), _) => {
                let fields: Vec<_> =
                    call.fields.iter().map(|taken| format!("{} <- {}", taken.field, taken.from)).collect();
                format!("{}: {}", because(&call.because), fields.join(", "))
            }
            (None, Some(skipped)) => {
                format!(
                    "{}: {} {}",
                    because(&skipped.because),
                    skipped.why,
                    skipped.field.as_deref().unwrap()
                )
            }
            (None, None) => String::new(),
        };
        assert_eq!(line, last, "{json}");
    }
}
