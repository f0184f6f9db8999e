//! What Engage computed about a person and sends as a track event: a trait, an audience, a journey step (segment.md 5).
//!
//! Invariants:
//! * It is recognised by `context.personas` alone, never by the event name, which customers rename.
//! * The value is the very JSON that was sent: a boolean stays one, a journey's text `"true"` stays a text.
//! * An event without a value to tell is an ordinary event, whatever `engage_track` says: nothing is lost by it.

use crate::segment::{Event, Object, Raw};

/// What a track event becomes that tells one of Engage's computed traits, audiences or journey steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EngageTrack {
    /// The event alone, as the profile maps it: Wigzo learns no user property from it.
    Event,
    /// An identify alone: contact from `context.traits`, and the trait or membership as a user property.
    Identify,
    /// That identify, then the event.
    Both,
}

/// What the event tells of its person, as an object with the one member `computation_key`; `None` if it is no
/// computation's or has no value to tell.
pub(super) fn computed<'a>(event: &Event<'a>) -> Option<Object<'a>> {
    let personas = event.context.object("personas")?;
    let class = personas.text("computation_class")?;
    let key = personas.text("computation_key")?;
    let value = match &*class {
        "trait" | "audience" => sent(event, &key)?,
        "journey_step" => match event.properties.get(&key) {
            Some(value) => value,
            // The first journeys send none: who gets here has entered, and nobody leaves.
            None if !is_journeys_own(event) => Raw::TRUE,
            None => return None,
        },
        _ => return None,
    };
    Some(Object::single(key, value))
}

/// The property of exactly this name, the last one as [`Object::get`] has it; a `null` too, which clears a trait.
fn sent<'a>(event: &Event<'a>, key: &str) -> Option<Raw<'a>> {
    event.properties.iter().filter(|(name, _)| *name == key).last().map(|(_, value)| value)
}

/// Whether a journey of the second version sends an event of the customer's own making: without a value it tells no
/// membership.
fn is_journeys_own(event: &Event<'_>) -> bool {
    ["journey_metadata", "journey_context"].iter().any(|key| event.properties.get(key).is_some())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::EngageTrack;
    use crate::translate::tests::{
        any_head, any_key, any_members, any_value, object, standard_with, translated,
    };
    use crate::translate::{Filtered, Mapping};
    use crate::wigzo::{Call, Endpoint};

    const CONTACT: &str = r#""email":"asha@example.com","phone":"+910000000000""#;

    fn any_class() -> impl Strategy<Value = &'static str> {
        prop::sample::select(&["trait", "audience", "journey_step"][..])
    }

    /// A key that is not read as contact, which comes from elsewhere than the computed trait.
    fn any_computation_key() -> impl Strategy<Value = String> {
        any_key().prop_filter("a key that is no contact", |key| {
            !key.is_empty() && !["email", "phone", "phones"].contains(&key.to_lowercase().as_str())
        })
    }

    fn personas(class: &str, key: &str) -> String {
        let key = serde_json::to_string(key).unwrap();
        format!(r#""personas":{{"computation_class":"{class}","computation_key":{key}}}"#)
    }

    fn calls(json: &str, engage_track: EngageTrack) -> Vec<Call> {
        let switch = Mapping { engage_track: Some(engage_track), ..Mapping::default() };
        match translated(json, &standard_with(&switch)) {
            Ok(calls) => calls,
            Err(Filtered::RequiredFieldMissing | Filtered::TypeNotMapped) => Vec::new(),
            Err(other) => panic!("{other:?}: {json}"),
        }
    }

    /// switch | endpoints called: for a member of an audience, for an event of nobody's computation
    #[test]
    fn the_switch_chooses_the_calls_of_a_computation_and_of_nothing_else() {
        const ENGAGE: &str = r#"{"type":"track","event":"Renamed","userId":"user-42","properties":{"vip":true},"context":{"personas":{"computation_class":"audience","computation_key":"vip"}}}"#;
        const OTHER: &str = r#"{"type":"track","event":"Audience Entered","userId":"user-42","properties":{"audience_key":"vip","vip":true}}"#;
        for (switch, engage, other) in [
            (EngageTrack::Event, &[Endpoint::Event][..], &[Endpoint::Event][..]),
            (EngageTrack::Identify, &[Endpoint::Identify], &[Endpoint::Event]),
            (EngageTrack::Both, &[Endpoint::Identify, Endpoint::Event], &[Endpoint::Event]),
        ] {
            let called = |json| calls(json, switch).iter().map(|call| call.endpoint).collect::<Vec<_>>();
            assert_eq!(called(ENGAGE), engage, "{switch:?}");
            assert_eq!(called(OTHER), other, "{switch:?}");
        }
    }

    proptest! {
        #[test]
        fn a_track_tells_of_a_person_what_the_identify_would(
            class in any_class(), key in any_computation_key(), value in any_value(),
        ) {
            prop_assume!(class != "journey_step" || value != "null");
            let (personas, member) = (personas(class, &key), object(&[(key.clone(), value.clone())]));
            let ids = r#""userId":"user-42","anonymousId":"anon-7""#;
            let track = format!(r#"{{"type":"track","event":"e",{ids},"properties":{member},"context":{{{personas},"traits":{{{CONTACT}}}}}}}"#);
            let traits = member.replacen('{', &format!("{{{CONTACT},"), 1);
            let identify = format!(r#"{{"type":"identify",{ids},"traits":{traits},"context":{{{personas}}}}}"#);
            prop_assert_eq!(calls(&track, EngageTrack::Identify), calls(&identify, EngageTrack::Both));
        }

        #[test]
        fn both_is_the_identify_then_the_event(
            head in any_head(), class in any_class(), key in any_key(), members in any_members(),
        ) {
            let with = |context: &str| {
                let properties = object(&members);
                format!(r#"{{{head},"userId":"user-42","properties":{properties},"context":{{{context}}}}}"#)
            };
            let engage = with(&personas(class, &key));
            let event = calls(&engage, EngageTrack::Event);
            prop_assert_eq!(&event, &calls(&with(""), EngageTrack::Event));
            let (identify, both) = (calls(&engage, EngageTrack::Identify), calls(&engage, EngageTrack::Both));
            if identify == event {
                prop_assert_eq!(both, event);
            } else {
                prop_assert_eq!(both, [identify, event].concat());
            }
        }
    }
}
