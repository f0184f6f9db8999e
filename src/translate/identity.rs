//! Which of a person's ids becomes the learner id (design.md 6, wigzo.md 5.4).
//!
//! The same person must always become the same learner: nothing but the event's ids, its option `learnerId` and the
//! organization's settings is looked at.

use std::borrow::Cow;

use super::Options;
use super::field::{Found, Place, Text};
use crate::segment::{Event, text_of};
use crate::wigzo::LearnerId;

/// The order in which a person's ids are asked, after the explicit option `learnerId`.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// `userId`, else `anonymousId`; what is not a UUID becomes a derived one.
    #[default]
    UserFirst,
    /// `anonymousId`, else `userId`; derived likewise.
    AnonymousFirst,
    /// `userId`, else `anonymousId`, as it is.
    Raw,
}

/// Whom an event is about. `None` if it names nobody (an alias or a group may).
pub(super) fn learner(event: &Event<'_>, options: &Options) -> Option<LearnerId> {
    let id = chosen(event, options)?;
    // The sender's own word, raw: the only way to meet the learner that Wigzo's tag made in the same browser.
    Some(if id.place == OPTION { LearnerId::raw(&id.value) } else { from_id(&id.value, options) })
}

/// The id that the learner id is made of, and where it stood.
pub(super) fn chosen<'e>(event: &'e Event<'_>, options: &Options) -> Option<Text<'e>> {
    if let Some(explicit) = event.option(OPTION.key).and_then(text_of) {
        return Some(Found { value: explicit, place: OPTION });
    }
    let id = |id: &'e Option<Cow<'_, str>>, name| Some(Found::new(Cow::Borrowed(id.as_deref()?), "", name));
    let (user, anonymous) = (id(&event.user_id, "userId"), id(&event.anonymous_id, "anonymousId"));
    match options.identity {
        Identity::UserFirst | Identity::Raw => user.or(anonymous),
        Identity::AnonymousFirst => anonymous.or(user),
    }
}

const OPTION: Place = Place::new("integrations.Wigzo", "learnerId");

/// The learner of somebody's browsing before they were known, if the event names both and they are two learners.
pub(super) fn earlier_learner(event: &Event<'_>, known: &LearnerId, options: &Options) -> Option<LearnerId> {
    event.user_id.as_deref()?;
    let earlier = from_id(event.anonymous_id.as_deref()?, options);
    (earlier != *known).then_some(earlier)
}

fn from_id(id: &str, options: &Options) -> LearnerId {
    match options.identity {
        Identity::UserFirst | Identity::AnonymousFirst => LearnerId::derived(&options.namespace, id),
        Identity::Raw => LearnerId::raw(id),
    }
}
