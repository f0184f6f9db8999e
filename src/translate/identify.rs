//! An identify: Wigzo's own fields read from the traits, and what becomes of every other trait (design.md 6).
//!
//! Invariants:
//! * Each trait leaves at most once: what one of Wigzo's fields was filled from is not repeated under its own name. One
//!   that was passed over, such as `fullName` beside `name`, is an other trait.
//! * Every other trait leaves with its exact raw value, if it leaves at all: Engage sends computed traits and audiences
//!   this way, and a boolean must stay one.
//! * No trait takes the place of one of Wigzo's fields: beside them, a trait called `source` leaves as `trait_source`.
//! * Of two traits that flattening would give one name, the one that was called so stays, else the first.

use std::borrow::Cow;
use std::collections::HashSet;

use super::field::{Found, Part, Place, Scene, Text, source};
use super::mapping::{ExtraTraits, IdentifyValues, NestedTraits};
use super::person::Traits;
use super::profile::{Profile, Switches};
use super::{Cause, Contactless, Made, Options, Skip, identity};
use crate::segment::{JsonType, Object, Raw, alike, text_of};
use crate::wigzo::{Call, Json, JsonObject, LearnerId, Person, PersonField};

/// The event that carries the other traits, if they do not stand in the identify.
pub(super) const TRAITS_EVENT: &str = "identify_traits";

/// What one of the other traits is called that has the name of a field of Wigzo's.
const RESERVED_PREFIX: &str = "trait_";

/// The calls of an identify: the person's, and where their earlier browsing has a learner of its own, that one's.
pub(super) fn calls<'p>(
    scene: &Scene<'_>,
    profile: &'p Profile,
    options: &Options,
) -> Result<Vec<Made<'p>>, Skip<'p>> {
    let traits = Part::new("traits", &scene.event.traits);
    told(scene, &person(scene, traits, traits, &profile.switches), Cause::Identify, profile, options)
}

/// The same calls for what Engage computed and sends as a track event. Contact is what `context.traits` says and
/// nothing else: Wigzo joins learners by it, so a computed trait that is called `email` must not become one.
pub(super) fn computed_calls<'p>(
    scene: &Scene<'_>,
    computed: &Object<'_>,
    profile: &'p Profile,
    options: &Options,
) -> Result<Vec<Made<'p>>, Skip<'p>> {
    let person = person(scene, scene.traits(), Part::new("properties", computed), &profile.switches);
    told(scene, &person, Cause::Computed, profile, options)
}

/// The calls that tell Wigzo who `person` is.
fn told<'p>(
    scene: &Scene<'_>,
    person: &Told<'_>,
    cause: Cause<'p>,
    profile: &'p Profile,
    options: &Options,
) -> Result<Vec<Made<'p>>, Skip<'p>> {
    let switches = &profile.switches;
    let has_contact = person.known.has_contact();
    match switches.contactless {
        Contactless::Skip if !has_contact => return Err(Skip::NoContact),
        Contactless::Skip | Contactless::Send => {}
    }
    let source = source(scene.event, switches.source);
    let identify = |learner: &LearnerId| Call::identify(learner, &person.known, source);
    let mut made = vec![Made { call: identify(scene.learner), cause }];
    // Wigzo joins learners by their contact (wigzo.md 5.2): without one, a second call would join nothing.
    if switches.link_anonymous
        && has_contact
        && let Some(earlier) = identity::earlier_learner(scene.event, scene.learner, options)
    {
        made.push(Made { call: identify(&earlier), cause: Cause::EarlierLearner });
    }
    if let Some(traits) = &person.apart {
        let call = Call::event(scene.learner, TRAITS_EVENT, traits, source);
        made.push(Made { call, cause: Cause::ExtraTraits });
    }
    Ok(made)
}

/// Who somebody is, and the traits that are told apart from it.
struct Told<'o> {
    known: Person<'o>,
    apart: Option<Json<'static>>,
}

/// Who the event is about: e-mail and phone from `contact`, everything else from `all`.
fn person<'o>(
    scene: &'o Scene<'_>,
    contact: Part<'o, 'o>,
    all: Part<'o, 'o>,
    switches: &Switches,
) -> Told<'o> {
    let mut known = Person::default();
    let of_contact = Traits::new(contact, scene.event.user_id.as_deref());
    let of_all = Traits::new(all, None);
    let mut used = Vec::new();
    for field in &switches.identify_fields {
        let Some(found) = read(*field, scene, &of_contact, &of_all) else { continue };
        scene.recorder.took(field.as_str(), found.place);
        used.push(found.place);
        if (*field, found.place.key) == (PersonField::FullName, "firstName") {
            used.push(Place::new(found.place.part, "lastName"));
        }
        let sent = match switches.identify_values {
            IdentifyValues::Text => None,
            IdentifyValues::Sent => [contact, all].into_iter().find_map(|part| as_sent(part, &found)),
        };
        known.fields.push((*field, sent.unwrap_or_else(|| Json::text(&found.value))));
    }
    let extra = match switches.extra_traits {
        ExtraTraits::Drop => return Told { known, apart: None },
        ExtraTraits::Inline | ExtraTraits::Event => others(all, &used, switches),
    };
    if switches.extra_traits == ExtraTraits::Inline {
        known.others = beside(extra);
        return Told { known, apart: None };
    }
    let mut apart = JsonObject::new();
    for (name, value) in &extra {
        apart.json(name, value);
    }
    scene.recorder.took(TRAITS_EVENT, Place::new(all.name, ""));
    Told { known, apart: (!apart.is_empty()).then(|| apart.finish()) }
}

/// What one of Wigzo's fields is filled from (segment.md 3.6).
fn read<'e>(
    field: PersonField,
    scene: &'e Scene<'_>,
    contact: &Traits<'_, 'e>,
    traits: &Traits<'_, 'e>,
) -> Option<Text<'e>> {
    match field {
        PersonField::Email => contact.email(),
        PersonField::Phone => contact.phone().map(|phone| scene.phone(phone)),
        PersonField::FullName => traits.full_name(),
        PersonField::FirstName => traits.first_name(),
        PersonField::LastName => traits.last_name(),
        PersonField::CustomerId => {
            let id = scene.event.user_id.as_deref();
            id.map(|id| Found::new(Cow::Borrowed(id), "", "userId"))
        }
        PersonField::City => traits.address("city"),
        PersonField::State => traits.address("state"),
        PersonField::Country => traits.address("country"),
        PersonField::CountryCode => traits.address("countryCode"),
        PersonField::PostalCode => traits.postal_code(),
        PersonField::Language => traits.text("language"),
        PersonField::CreatedAt => traits.text("createdAt"),
        PersonField::UpdatedAt => traits.text("updatedAt"),
    }
}

/// The very value that a text was read from, if nothing was done to it on the way.
fn as_sent<'e>(part: Part<'_, 'e>, found: &Text<'_>) -> Option<Json<'e>> {
    let sent = part.raw(found.place.key).filter(|_| found.place.part == part.name)?;
    (text_of(sent.value)? == found.value).then(|| Json::raw(sent.value.get()))
}

/// The traits as they may stand beside Wigzo's fields. Those that have one of their names get another, which no trait has;
/// but one that has nothing to say is left out.
fn beside<'o>(traits: Vec<Trait<'o>>) -> Vec<Trait<'o>> {
    if !traits.iter().any(|(name, _)| Person::reserves(name)) {
        return traits;
    }
    let taken: HashSet<Cow<'_, str>> = traits.iter().map(|(name, _)| name.clone()).collect();
    let rename = |(mut name, value): Trait<'o>| {
        if Person::reserves(&name) {
            if matches!(value.as_str(), "null" | "\"\"") {
                return None;
            }
            while taken.contains(&name) {
                name.to_mut().insert_str(0, RESERVED_PREFIX);
            }
        }
        Some((name, value))
    };
    traits.into_iter().filter_map(rename).collect()
}

/// The traits that no field of Wigzo's is filled from, in their order. Of two that might have filled one, the other one
/// is among them.
fn others<'o>(all: Part<'o, 'o>, used: &[Place], switches: &Switches) -> Vec<Trait<'o>> {
    let is_used = |is_there: fn(&str, &str) -> bool, key: &str, value| {
        // A list that a text was taken from holds more than it.
        used.iter().any(|place| is_there(place.part, all.name) && alike(place.key, key))
            && text_of(value).is_some()
    };
    let is_address = |part: &str, of: &str| part.strip_prefix(of) == Some(".address");
    let traits = all.object;
    let mut others = Others { flatten: switches.nested_traits == NestedTraits::Flatten, ..Others::default() };
    if others.flatten {
        others.taken = traits.iter().map(|(key, _)| key.to_owned()).collect();
    }
    for (key, value) in traits.iter() {
        if is_used(|part, of| part == of, key, value) {
            continue;
        }
        let address = if alike(key, "address") { Object::parse(value) } else { None };
        match address {
            // An address without the parts that Wigzo has fields for.
            Some(address) => {
                let mut rest = JsonObject::new();
                for (key, value) in address.iter() {
                    if !is_used(is_address, key, value) {
                        rest.raw(key, value.get());
                    }
                }
                if !rest.is_empty() {
                    others.add(key, rest.finish());
                }
            }
            None => others.add(key, Json::raw(value.get())),
        }
    }
    others.traits
}

/// One of the other traits.
type Trait<'o> = (Cow<'o, str>, Json<'o>);

/// The other traits so far.
#[derive(Default)]
struct Others<'o> {
    flatten: bool,
    traits: Vec<Trait<'o>>,
    /// The names that are not to be had any more, if objects are flattened.
    taken: HashSet<String>,
}

impl<'o> Others<'o> {
    /// Adds a trait, or the members of an object that is to be flattened.
    fn add(&mut self, name: &'o str, value: Json<'o>) {
        if self.flatten && value.as_str().starts_with('{') && value.as_str() != "{}" {
            self.add_members(name, Raw::trusted(value.as_str()));
        } else {
            self.traits.push((name.into(), value));
        }
    }

    /// Adds the members of an object, and theirs in turn; a valid event is nested 128 levels deep at most.
    fn add_members(&mut self, name: &str, value: Raw<'_>) {
        let Some(object) = Object::parse(value) else { return };
        for (key, value) in object.iter() {
            let name = format!("{name}_{key}");
            if JsonType::of(value) == JsonType::Object && value.get() != "{}" {
                self.add_members(&name, value);
            } else if self.taken.insert(name.clone()) {
                self.traits.push((name.into(), Json::raw(value.get()).into_owned()));
            }
        }
    }
}
