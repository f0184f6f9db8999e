//! Profiles: translation tables as data.

/// A validated translation table.
#[derive(Debug)]
pub struct Profile {}

/// What is wrong in a profile's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ProfileError {
    /// Line of the mistake, from 1.
    pub line: usize,
    /// What is wrong and which values would be right.
    pub message: String,
}

impl Profile {
    /// Parses and checks a profile's TOML.
    pub fn parse(name: &str, text: &str) -> Result<Self, ProfileError> {
        todo!()
    }

    /// A profile that is built into the binary; `None` if there is none of this name.
    pub fn builtin(name: &str) -> Option<&'static std::sync::Arc<Self>> {
        todo!()
    }

    /// The names of the built-in profiles.
    pub const BUILTIN: &'static [&'static str] = &["standard"];
}
