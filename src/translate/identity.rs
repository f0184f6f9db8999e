//! Which of a person's ids becomes the learner id (design.md 6, wigzo.md 5.4).

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
