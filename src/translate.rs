//! Segment event → Wigzo calls.
//!
//! **The model.** A [`Profile`] is a table: switches (what an identify says, how names are written) and rows. A [`Row`]
//! answers to the names of a track event (or stands for a type: page, screen, group, alias, or for all other track
//! events) and states calls; a [`CallRule`] says where a call goes, how its value is made ([`Shape`]), which fields the
//! event must have (`requires`) and which values (`when`). A table's text is a [`Mapping`]: a built-in profile is one
//! that states everything, and an organization's changes are one that states what differs; [`Profile::changed`] lays the
//! second over the first, row by row, and each row remembers the [`Layer`] that touched it last. [`translate`] answers
//! with a [`Translation`]: every call with its [`Cause`], which names the row and the rule, and every call that was not
//! made with the reason ([`Skip`]), so that explaining needs no second way through. Shapes and fields are code, in
//! `field` the one door to the event: what is read there carries its [`Place`], and a [`Recorder`] is told which field
//! it filled.
//!
//! Pure and total: every valid event becomes calls or a reason why there are none, and the same input always becomes the
//! same calls. It knows the two protocols and nothing of queues, clocks or tenants: when an event arrived is an argument.

mod amount;
mod classic;
mod commerce;
mod engage;
mod explain;
mod field;
mod filter;
mod identify;
mod identity;
mod mapping;
mod person;
mod phone;
mod profile;
mod row;
mod shape;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::segment::{Arrival, Event, Kind};
use crate::wigzo::Call;

pub use engage::EngageTrack;
pub use explain::{
    Because, CallMade, CallSkipped, Explanation, FieldTaken, Ground, Learner, Remark, RowFound, Subject,
    Verdict, explain, explain_event,
};
pub use field::{Place, Recorder};
pub use identity::Identity;
pub use mapping::{
    CallText, Constant, ExtraTraits, IdentifyValues, Mapping, Mistake, NameStyle, NestedTraits, OneOf,
    OtherEndpoint, RowText, SourceRule, Step,
};
pub use phone::{BadCountry, PhoneCountry};
pub use profile::{Profile, ProfileError, Switches};
pub use row::{CallRule, Layer, Row};
pub use shape::Shape;

use field::Scene;
use row::{Status, Target, WigzoName};

/// What an organization may choose about its translation, besides its table.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which of a person's ids becomes the learner id.
    pub identity: Identity,
    /// What derived learner ids are derived within: the organization token.
    pub namespace: String,
}

/// What happens to an identify without e-mail and phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Contactless {
    /// It is sent all the same: the wire asks only for the id, and Engage traits must arrive.
    Send,
    /// It is filtered with the reason `no_contact`.
    Skip,
}

/// What an event becomes, and why.
#[derive(Debug)]
pub struct Translation<'p> {
    /// The row that the event was found in; `None` for an identify, and for what has none.
    pub row: Option<&'p Row>,
    /// The calls to make, in order.
    pub made: Vec<Made<'p>>,
    /// The calls that are not made.
    pub skipped: Vec<Skipped<'p>>,
    /// Why there is no call; `None` if there is one.
    filtered: Option<Filtered>,
}

/// A call to make.
#[derive(Debug)]
pub struct Made<'p> {
    /// The call.
    pub call: Call,
    /// What it is made for.
    pub cause: Cause<'p>,
}

/// A call that is not made.
#[derive(Debug)]
pub struct Skipped<'p> {
    /// What it would have been made for.
    pub cause: Cause<'p>,
    /// Why it is not.
    pub why: Skip<'p>,
}

/// What a call is made for.
#[derive(Debug, Clone, Copy)]
pub enum Cause<'p> {
    /// An identify says who somebody is.
    Identify,
    /// The same for the learner of their earlier browsing (`link_anonymous`).
    EarlierLearner,
    /// The traits that are told apart (`extra_traits = "event"`).
    ExtraTraits,
    /// What Engage computed of a person and sent as a track event (`engage_track`).
    Computed,
    /// A rule of a row says so.
    Rule(&'p Row, &'p CallRule),
}

/// Why a call is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip<'p> {
    /// The event lacks this field.
    Missing(&'p str),
    /// This field of the event has none of the values that the rule asks for.
    Condition(&'p str),
    /// There is no e-mail and no phone, and `contactless = "skip"`.
    NoContact,
}

/// Why an event becomes no call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Filtered {
    /// The table has no call for this type (screen, group, alias).
    TypeNotMapped,
    /// The table drops this event by name.
    DroppedByProfile,
    /// Every call of the row needs a field that the event lacks.
    RequiredFieldMissing,
    /// Every call of the row is made only for values that the event does not have.
    ConditionNotMet,
    /// There is nobody to send it for: neither `userId` nor `anonymousId`.
    NoLearnerId,
    /// An identify without e-mail and phone, and `contactless = "skip"`.
    NoContact,
}

impl Filtered {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::TypeNotMapped,
        Self::DroppedByProfile,
        Self::RequiredFieldMissing,
        Self::ConditionNotMet,
        Self::NoLearnerId,
        Self::NoContact,
    ];

    /// The stable code, the same as in the history.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TypeNotMapped => "type_not_mapped",
            Self::DroppedByProfile => "dropped_by_profile",
            Self::RequiredFieldMissing => "required_field_missing",
            Self::ConditionNotMet => "condition_not_met",
            Self::NoLearnerId => "no_learner_id",
            Self::NoContact => "no_contact",
        }
    }
}

/// Translates one event that arrived as `arrival` says.
pub fn translate<'p>(
    event: &Event<'_>,
    arrival: Arrival,
    profile: &'p Profile,
    options: &Options,
) -> Translation<'p> {
    translate_with(event, arrival, profile, options, &())
}

/// Translates one event and tells `recorder` where each field of the calls was taken from.
pub fn translate_with<'p>(
    event: &Event<'_>,
    arrival: Arrival,
    profile: &'p Profile,
    options: &Options,
    recorder: &dyn Recorder,
) -> Translation<'p> {
    let found = match event.kind {
        Kind::Identify => None,
        Kind::Track => Some(profile.track(&event.event)),
        Kind::Page => Some((&profile.page, &profile.page)),
        Kind::Screen => Some((&profile.screen, &profile.screen)),
        Kind::Group => Some((&profile.group, &profile.group)),
        Kind::Alias => Some((&profile.alias, &profile.alias)),
        // Carried out where events are kept; Wigzo has no call for it.
        Kind::Delete => return Translation::nothing(None, Filtered::TypeNotMapped),
    };
    let row = found.map(|(row, _)| row);
    let computed = engage::computed(event)
        .filter(|_| event.kind == Kind::Track && profile.switches.engage_track != EngageTrack::Event);
    let event_too = profile.switches.engage_track != EngageTrack::Identify;
    if computed.is_none()
        && let Some((row, stating)) = found
        && stating.rules().is_empty()
    {
        let dropped =
            if event.kind == Kind::Track { Filtered::DroppedByProfile } else { Filtered::TypeNotMapped };
        return Translation::nothing(Some(row), dropped);
    }
    let Some(learner) = identity::learner(event, options) else {
        return Translation::nothing(row, Filtered::NoLearnerId);
    };
    let scene = Scene::new(event, &learner, arrival, profile.switches.phone_country, recorder);
    let mut translation = Translation { row, made: Vec::new(), skipped: Vec::new(), filtered: None };
    match (&computed, found) {
        (_, None) => {
            translation.tell(identify::calls(&scene, profile, options), Cause::Identify, recorder);
        }
        // Before the event, which may set off a campaign that asks for it.
        (Some(computed), Some((row, stating))) => {
            let told = identify::computed_calls(&scene, computed, profile, options);
            translation.tell(told, Cause::Computed, recorder);
            if event_too {
                translation.follow(&scene, row, stating, profile);
            }
        }
        (None, Some((row, stating))) => translation.follow(&scene, row, stating, profile),
    }
    translation.judge()
}

// === impl Translation ===

impl<'p> Translation<'p> {
    /// The calls, or why there are none.
    ///
    /// # Errors
    /// The reason, if no call is to be made.
    pub fn into_calls(self) -> Result<Vec<Call>, Filtered> {
        match self.filtered {
            Some(reason) => Err(reason),
            None => Ok(self.made.into_iter().map(|made| made.call).collect()),
        }
    }

    /// Why there is no call; `None` if there is one.
    pub fn filtered(&self) -> Option<Filtered> {
        self.filtered
    }

    fn nothing(row: Option<&'p Row>, reason: Filtered) -> Self {
        Self { row, made: Vec::new(), skipped: Vec::new(), filtered: Some(reason) }
    }

    /// Takes over the calls that tell of a person.
    fn tell(&mut self, told: Result<Vec<Made<'p>>, Skip<'p>>, cause: Cause<'p>, recorder: &dyn Recorder) {
        recorder.ended(cause, told.is_ok());
        match told {
            Ok(made) => self.made.extend(made),
            Err(why) => self.skipped.push(Skipped { cause, why }),
        }
    }

    /// Follows the rules of a row; `stating` is the row that has them.
    fn follow(&mut self, scene: &Scene<'_>, row: &'p Row, stating: &'p Row, profile: &'p Profile) {
        let filter = row.filter(stating);
        for rule in stating.rules() {
            let cause = Cause::Rule(row, rule);
            let made = rule.make(scene, &filter, profile);
            scene.recorder.ended(cause, made.is_ok());
            match made {
                Ok(call) => self.made.push(Made { call, cause }),
                Err(why) => self.skipped.push(Skipped { cause, why }),
            }
        }
    }

    /// Says why there is no call, if there is none: what the last call that was not made lacked, a field before a value.
    fn judge(mut self) -> Self {
        if !self.made.is_empty() {
            return self;
        }
        let missing = |skipped: &Skipped<'_>| matches!(skipped.why, Skip::Missing(_));
        self.filtered = Some(match self.skipped.last().map(|skipped| skipped.why) {
            _ if self.skipped.iter().any(missing) => Filtered::RequiredFieldMissing,
            Some(Skip::NoContact) => Filtered::NoContact,
            Some(Skip::Condition(_)) => Filtered::ConditionNotMet,
            Some(Skip::Missing(_)) => Filtered::RequiredFieldMissing,
            // A row without rules, of an event that tells what Engage computed.
            None => Filtered::DroppedByProfile,
        });
        self
    }
}

// === impl Skipped ===

/// One line for a person: `event "order" lacks order_id`.
impl fmt::Display for Skipped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause {
            Cause::Rule(_, rule) => match (rule.event(), rule.endpoint()) {
                (Some(name), _) => write!(f, "event {name:?} "),
                (None, Some(OtherEndpoint::Product)) => f.write_str("product "),
                (None, Some(OtherEndpoint::Shipment) | None) => f.write_str("shipment "),
            },
            Cause::Identify | Cause::EarlierLearner | Cause::ExtraTraits | Cause::Computed => {
                f.write_str("identify ")
            }
        }?;
        match self.why {
            Skip::Missing(field) => write!(f, "lacks {field}"),
            Skip::Condition(field) => write!(f, "is made for other values of {field}"),
            Skip::NoContact => f.write_str("lacks an e-mail or phone"),
        }
    }
}

// === impl CallRule ===

impl CallRule {
    /// The call that the rule makes of an event, or why it makes none.
    fn make<'p>(
        &'p self,
        scene: &Scene<'_>,
        filter: &filter::Filter,
        profile: &Profile,
    ) -> Result<Call, Skip<'p>> {
        for condition in &self.when {
            let text = condition.field.text(scene);
            if !text.is_some_and(|text| condition.values.iter().any(|value| *value == *text)) {
                return Err(Skip::Condition(condition.field.as_str()));
            }
        }
        if let Some(field) = self.requires.iter().find(|field| !field.is_present(scene)) {
            return Err(Skip::Missing(field.as_str()));
        }
        match &self.target {
            Target::Event { name, value } => {
                let value = filter.apply(value.make(scene).map_err(Skip::Missing)?);
                let name = match name {
                    WigzoName::OfEvent => profile.switches.event_names.write(&scene.event.event),
                    WigzoName::Fixed(name) => name.into(),
                };
                let source = field::source(scene.event, profile.switches.source);
                Ok(Call::event(scene.learner, &name, &value, source))
            }
            Target::Product => {
                if field::product_id(scene.properties()).is_none() {
                    return Err(Skip::Missing("product_id"));
                }
                Ok(Call::product(filter.apply(commerce::feed(scene))))
            }
            Target::Shipment { status } => {
                if scene.order_id().is_none() {
                    return Err(Skip::Missing("order_id"));
                }
                let status = match status {
                    Status::OfEvent => {
                        scene.properties().text("status").ok_or(Skip::Missing("properties.status"))?
                    }
                    Status::Fixed(status) => field::Found::new(status.into(), "always", ""),
                };
                Ok(Call::shipment(filter.apply(commerce::shipment(scene, &status))))
            }
        }
    }
}
