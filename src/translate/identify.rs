//! An identify: Wigzo's own fields read from the traits, every other trait beside them (design.md 6).
//!
//! Invariants:
//! * Each trait leaves at most once: what one of Wigzo's fields was read from is not repeated under its own name.
//! * Every other trait leaves with its exact raw value and its own name: Engage sends computed traits and audiences
//!   this way, and a boolean must stay one.
//! * No trait takes the place of one of Wigzo's fields; a trait called `userId` or `source` is left out.

use std::borrow::Cow;

use super::person::Traits;
use super::{Contactless, Filtered, Options, Profile, field, identity};
use crate::segment::{Event, Object, text_of};
use crate::wigzo::{Call, Json, JsonObject, Person};

/// The traits that Wigzo's fields are read from, folded as [`folded`] does.
const READ: [&str; 15] = [
    "email",
    "phone",
    "name",
    "fullname",
    "firstname",
    "lastname",
    "city",
    "state",
    "country",
    "countrycode",
    "postalcode",
    "zip",
    "language",
    "createdat",
    "updatedat",
];

/// The parts of an address that Wigzo's fields are read from.
const READ_OF_ADDRESS: [&str; 6] = ["city", "state", "country", "countrycode", "postalcode", "zip"];

/// The calls of an identify: the person's, and where their earlier browsing has a learner of its own, that one's.
pub(super) fn calls(event: &Event<'_>, profile: &Profile, options: &Options) -> Result<Vec<Call>, Filtered> {
    told(event, &person(event, &event.traits, &event.traits), profile, options)
}

/// The same calls for what Engage computed and sends as a track event. Contact is what `context.traits` says and
/// nothing else: Wigzo joins learners by it, so a computed trait that is called `email` must not become one.
pub(super) fn computed_calls(
    event: &Event<'_>,
    computed: &Object<'_>,
    profile: &Profile,
    options: &Options,
) -> Result<Vec<Call>, Filtered> {
    let known = event.context.object("traits").unwrap_or_default();
    told(event, &person(event, &known, computed), profile, options)
}

/// The calls that tell Wigzo who `person` is.
fn told(
    event: &Event<'_>,
    person: &Person,
    profile: &Profile,
    options: &Options,
) -> Result<Vec<Call>, Filtered> {
    let learner = identity::learner(event, options).ok_or(Filtered::NoLearnerId)?;
    let has_contact = person.email.is_some() || person.phone.is_some();
    match options.contactless.unwrap_or(profile.contactless) {
        Contactless::Skip if !has_contact => return Err(Filtered::NoContact),
        Contactless::Skip | Contactless::Send => {}
    }
    let source = field::source(event);
    let mut calls = vec![Call::identify(&learner, person, source)];
    // Wigzo joins learners by their contact (wigzo.md 5.2): without one, a second call would join nothing.
    if options.link_anonymous
        && has_contact
        && let Some(earlier) = identity::earlier_learner(event, &learner, options)
    {
        calls.push(Call::identify(&earlier, person, source));
    }
    Ok(calls)
}

/// Who the event is about: e-mail and phone from `contact`, everything else from `all`.
fn person(event: &Event<'_>, contact: &Object<'_>, all: &Object<'_>) -> Person {
    let contact = Traits::new(contact, event.user_id.as_deref());
    let traits = Traits::new(all, None);
    let owned = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
    Person {
        email: owned(contact.email()),
        phone: owned(contact.phone()),
        full_name: owned(traits.full_name()),
        first_name: owned(traits.first_name()),
        last_name: owned(traits.last_name()),
        customer_id: owned(event.user_id.clone()),
        city: owned(traits.address("city")),
        state: owned(traits.address("state")),
        country: owned(traits.address("country")),
        country_code: owned(traits.address("countryCode")),
        postal_code: owned(traits.postal_code()),
        language: owned(traits.text("language")),
        created_at: owned(traits.text("createdAt")),
        updated_at: owned(traits.text("updatedAt")),
        others: others(all),
    }
}

/// The traits that no field of Wigzo's was read from, in their order.
fn others(traits: &Object<'_>) -> Vec<(String, Json)> {
    let mut others = Vec::new();
    for (key, value) in traits.iter() {
        let name = folded(key);
        // A value that is no text was read by nobody, so it is still to be sent.
        if READ.contains(&name.as_str()) && text_of(value).is_some() {
            continue;
        }
        let rest = match Object::parse(value).filter(|_| name == "address") {
            Some(address) => match rest_of_address(&address) {
                Some(rest) => rest,
                None => continue,
            },
            None => Json::raw(value),
        };
        others.push((key.to_owned(), rest));
    }
    others
}

/// An address without the parts that Wigzo has fields for; `None` if nothing else is in it.
fn rest_of_address(address: &Object<'_>) -> Option<Json> {
    let mut rest = JsonObject::new();
    for (key, value) in address.iter() {
        if !(READ_OF_ADDRESS.contains(&folded(key).as_str()) && text_of(value).is_some()) {
            rest.raw(key, value);
        }
    }
    (!rest.is_empty()).then(|| rest.finish())
}

/// A key as Segment's reader compares it: letters, digits and dots, in lower case (segment.md 3.6).
fn folded(key: &str) -> String {
    key.chars().filter(|c| c.is_alphanumeric() || *c == '.').flat_map(char::to_lowercase).collect()
}
