//! Which of a person's ids becomes the learner id (design.md 6, wigzo.md 5.4).
//!
//! The same person must always become the same learner: nothing but the event's ids, its option `learnerId` and the
//! organization's settings is looked at.
//!
//! Test vectors, for the organization token `org-token-42`. `U` is `0b6e3f0a-6a53-4f0e-9d0b-2f1f6d7c9a11`.
//!
//! | `userId` | `anonymousId` | option `learnerId` | `user_first` | `anonymous_first` | `raw` |
//! | --- | --- | --- | --- | --- | --- |
//! | `user-42` | | | `62f13329-c49e-4051-a157-94f621f8af13` | `62f13329-c49e-4051-a157-94f621f8af13` | `user-42` |
//! | | `anon-7` | | `89d91979-d33e-4937-95f3-5c80fec73471` | `89d91979-d33e-4937-95f3-5c80fec73471` | `anon-7` |
//! | `user-42` | `anon-7` | | `62f13329-c49e-4051-a157-94f621f8af13` | `89d91979-d33e-4937-95f3-5c80fec73471` | `user-42` |
//! | `user-42` | `U` | | `62f13329-c49e-4051-a157-94f621f8af13` | `U` | `user-42` |
//! | `U` | `anon-7` | | `U` | `89d91979-d33e-4937-95f3-5c80fec73471` | `U` |
//! | `user-42` | `U` | `learner 1` | `learner 1` | `learner 1` | `learner 1` |
//!
//! How an id that is no UUID is derived stands in [`LearnerId::derived`].

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

#[cfg(test)]
mod tests {

    use super::*;
    use crate::segment::{Raw, Surroundings};

    /// The two ids and the option | the learner with each way of choosing; the table above is the same
    #[test]
    fn the_learner_is_who_the_table_says() {
        const USER: &str = "62f13329-c49e-4051-a157-94f621f8af13";
        const ANONYMOUS: &str = "89d91979-d33e-4937-95f3-5c80fec73471";
        const U: &str = "0b6e3f0a-6a53-4f0e-9d0b-2f1f6d7c9a11";
        for (user, anonymous, explicit, learners) in [
            ("user-42", "", "", [USER, USER, "user-42"]),
            ("", "anon-7", "", [ANONYMOUS, ANONYMOUS, "anon-7"]),
            ("user-42", "anon-7", "", [USER, ANONYMOUS, "user-42"]),
            ("user-42", U, "", [USER, U, "user-42"]),
            (U, "anon-7", "", [U, ANONYMOUS, U]),
            ("user-42", U, "learner 1", ["learner 1"; 3]),
        ] {
            let json = format!(
                r#"{{"type":"track","event":"e","userId":"{user}","anonymousId":"{anonymous}","context":{{"Wigzo":{{"learnerId":"{explicit}"}}}}}}"#
            );
            let event = Event::read(Raw::parse(&json).unwrap(), &Surroundings::default()).unwrap();
            for (identity, expected) in
                [Identity::UserFirst, Identity::AnonymousFirst, Identity::Raw].into_iter().zip(learners)
            {
                let options = Options { identity, namespace: "org-token-42".to_owned() };
                let learner = learner(&event, &options).unwrap();
                assert_eq!(learner.as_str(), expected, "{json} {identity:?}");
            }
        }
    }
}
