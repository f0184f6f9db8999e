//! Segment's rules for the one event that carries a person's consent, `Segment Consent Preference Updated`.
//!
//! They refuse what could be misread as consent (segment.md 3.4; the codes are those of the published list). Every
//! other event may carry what it likes there. (That list also asks for an anonymousId; an event that names its person
//! by userId is clear to us, so that rule is left out.)

use super::finding::{Rejection, RejectionCode as Code};
use super::value::{JsonType, present};
use super::{Object, Raw, bool_of};

/// The event's name, exactly.
const CONSENT_EVENT: &str = "Segment Consent Preference Updated";

/// Judges the context of a track event by this name.
///
/// # Errors
/// The first rule that a consent event breaks; no other event breaks any.
pub(super) fn check(event: &str, context: &Object<'_>) -> Result<(), Rejection> {
    if event != CONSENT_EVENT {
        return Ok(());
    }
    let consent = context.get("consent").and_then(Object::parse).unwrap_or_default();
    let refused = |code, pointer, message: &str| Err(Rejection::new(code, pointer, message));

    let place = "/context/consent/categoryPreferences";
    let Some(preferences) = consent.get("categoryPreferences") else {
        let message = "A consent event needs \"context.consent.categoryPreferences\".";
        return refused(Code::ConsentCategoryPreferencesShouldExist, place, message);
    };
    let Some(preferences) = Object::parse(preferences) else {
        let message = "\"categoryPreferences\" must be a JSON object with true or false for each category.";
        return refused(Code::ConsentCategoryPreferencesShouldBeObject, place, message);
    };
    if preferences.iter().any(|(_, allowed)| bool_of(allowed).is_none()) {
        let message = "Each category in \"categoryPreferences\" must be true or false, without quotes.";
        return refused(Code::ConsentCategoryPreferencesFieldsShouldBeBool, place, message);
    }
    if is_not(consent.get("version"), JsonType::Number) {
        let message = "\"version\" of the consent must be a number.";
        return refused(Code::ConsentVersionShouldBeNumber, "/context/consent/version", message);
    }
    let device = context.get("device").and_then(Object::parse).unwrap_or_default();
    if is_not(device.get("advertisingId"), JsonType::String) {
        let message = "\"advertisingId\" of the device must be text.";
        return refused(Code::DeviceAdvertisingIdShouldBeString, "/context/device/advertisingId", message);
    }
    Ok(())
}

fn is_not(value: Option<Raw<'_>>, expected: JsonType) -> bool {
    value.and_then(present).is_some_and(|value| JsonType::of(value) != expected)
}
