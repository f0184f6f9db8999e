//! Wigzo's id for a person (REST `userId`; wigzo.md 5).

/// A learner id: a UUID text by default.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LearnerId(String);

impl LearnerId {
    /// `id` as it is.
    pub fn raw(id: &str) -> Self {
        Self(id.to_owned())
    }

    /// `id` as it is if it is a UUID, else a v4-shaped UUID derived from the namespace (the organization token,
    /// which is public) and `id`.
    pub fn derived(namespace: &str, id: &str) -> Self {
        todo!()
    }

    /// The text that is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
