//! Segment event → Wigzo calls.
//!
//! Pure and total: every valid event becomes a list of calls or a reason why there is none, and the same input
//! always becomes the same calls. What is called for which event is data (`config/profiles/*.toml`); how a value is
//! shaped is code. It knows the two protocols and nothing of queues, time or tenants.

mod amount;
mod commerce;
mod engage;
mod field;
mod identify;
mod identity;
mod person;
mod profile;
mod shape;
#[cfg(test)]
mod tests;

use crate::segment::{Event, Kind};
use crate::wigzo::Call;

pub use engage::EngageTrack;
pub use identity::Identity;
pub use profile::{Profile, ProfileError};

use profile::CallRule;
use shape::Scene;

/// What an organization may choose about its translation, besides the profile.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which of a person's ids becomes the learner id.
    pub identity: Identity,
    /// Whether an identify with a contact and both ids also identifies the anonymous learner.
    pub link_anonymous: bool,
    /// What happens to an identify without e-mail and phone; `None` takes the profile's rule.
    pub contactless: Option<Contactless>,
    /// What a track event of Engage's becomes.
    pub engage_track: EngageTrack,
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

/// What an event becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Translation {
    /// The calls to make, in order; never empty.
    Calls(Vec<Call>),
    /// No call, and why.
    Filtered(Filtered),
}

/// Why an event becomes no call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Filtered {
    /// The profile has no call for this type (screen, group, alias).
    TypeNotMapped,
    /// The profile drops this event by name.
    DroppedByProfile,
    /// Every call of the row needs a field that the event lacks.
    RequiredFieldMissing,
    /// There is nobody to send it for: neither `userId` nor `anonymousId`.
    NoLearnerId,
    /// An identify without e-mail and phone, and `contactless = "skip"`.
    NoContact,
}

/// Translates one event.
pub fn translate(event: &Event<'_>, profile: &Profile, options: &Options) -> Translation {
    let made = match event.kind {
        Kind::Identify => identify::calls(event, profile, options),
        Kind::Track => track(event, profile, options),
        Kind::Page => calls(event, &profile.page, Filtered::TypeNotMapped, options),
        Kind::Screen => calls(event, &profile.screen, Filtered::TypeNotMapped, options),
        Kind::Group => calls(event, &profile.group, Filtered::TypeNotMapped, options),
        Kind::Alias => calls(event, &profile.alias, Filtered::TypeNotMapped, options),
        // Carried out where events are kept; Wigzo has no call for it.
        Kind::Delete => Err(Filtered::TypeNotMapped),
    };
    match made {
        Ok(calls) => Translation::Calls(calls),
        Err(reason) => Translation::Filtered(reason),
    }
}

/// The calls of a track event: as the profile maps it, and before that, since the event may set off a campaign which
/// asks for it, what Engage computed about the person.
fn track(event: &Event<'_>, profile: &Profile, options: &Options) -> Result<Vec<Call>, Filtered> {
    let mapped = || calls(event, profile.track(&event.event), Filtered::DroppedByProfile, options);
    let Some(computed) = engage::computed(event) else { return mapped() };
    let identify = || identify::computed_calls(event, &computed, profile, options);
    match options.engage_track {
        EngageTrack::Event => mapped(),
        EngageTrack::Identify => identify(),
        EngageTrack::Both => match (identify(), mapped()) {
            (Ok(mut calls), Ok(events)) => {
                calls.extend(events);
                Ok(calls)
            }
            (Ok(calls), Err(_)) | (Err(_), Ok(calls)) => Ok(calls),
            (Err(_), Err(reason)) => Err(reason),
        },
    }
}

/// The calls that `rules` make of an event; `dropped` is the reason when there are no rules.
fn calls(
    event: &Event<'_>,
    rules: &[CallRule],
    dropped: Filtered,
    options: &Options,
) -> Result<Vec<Call>, Filtered> {
    if rules.is_empty() {
        return Err(dropped);
    }
    let learner = identity::learner(event, options).ok_or(Filtered::NoLearnerId)?;
    let scene = Scene { event, learner: &learner };
    let source = field::source(event);
    let calls: Vec<Call> = rules
        .iter()
        .filter(|rule| rule.requires.iter().all(|field| field.is_present(event)))
        .filter_map(|rule| {
            let value = rule.value.make(&scene)?;
            Some(Call::event(&learner, rule.name.of(event), &value, source))
        })
        .collect();
    if calls.is_empty() { Err(Filtered::RequiredFieldMissing) } else { Ok(calls) }
}
