//! Which of a person's ids becomes the learner id (design.md 6, wigzo.md 5.4).
//!
//! The same person must always become the same learner: nothing but the event's ids, its option `learnerId` and the
//! organization's settings is looked at.

use super::Options;
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
    // The sender's own word, raw: the only way to meet the learner that Wigzo's tag made in the same browser.
    if let Some(explicit) = event.option("learnerId").and_then(text_of) {
        return Some(LearnerId::raw(&explicit));
    }
    let (user, anonymous) = (event.user_id.as_deref(), event.anonymous_id.as_deref());
    let id = match options.identity {
        Identity::UserFirst | Identity::Raw => user.or(anonymous),
        Identity::AnonymousFirst => anonymous.or(user),
    };
    id.map(|id| from_id(id, options))
}

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
