//! Whether tokens look like tokens. Pure; a token is looked at and never repeated.

use std::collections::BTreeMap;

use crate::organization::Organizations;

/// What is odd about an organization's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Oddity {
    /// It has no shape that Wigzo gives out.
    Shape,
    /// It is one of the source keys as well: whoever can send events could then call Wigzo.
    SourceKey,
    /// Another organization has the same: both are one at Wigzo.
    Shared,
}

impl Oddity {
    /// What is odd, and what to do.
    pub(super) const fn said(self) -> (&'static str, &'static str) {
        match self {
            Self::Shape => (
                "is neither a UUID nor a text like one that Wigzo gives out",
                "copy it again from Wigzo's settings page, without quotes, blanks or a line's end",
            ),
            Self::SourceKey => (
                "is one of the source keys as well",
                "make up another source key: whoever sends events knows it, and could call Wigzo with it",
            ),
            Self::Shared => (
                "is another organization's as well",
                "make one organization of the two: at Wigzo they are one",
            ),
        }
    }
}

/// What is odd about the organizations' tokens, by their names.
pub(super) fn oddities(organizations: &Organizations) -> Vec<(String, Oddity)> {
    let mut holders: BTreeMap<&str, usize> = BTreeMap::new();
    for organization in organizations.iter() {
        *holders.entry(token(organization)).or_default() += 1;
    }
    let mut found = Vec::new();
    for organization in organizations.iter() {
        let token = token(organization);
        let odd = [
            (!has_shape(token), Oddity::Shape),
            (organizations.by_source_key(token).is_some(), Oddity::SourceKey),
            (holders.get(token).is_some_and(|holders| *holders > 1), Oddity::Shared),
        ];
        found.extend(
            odd.into_iter().filter(|(is, _)| *is).map(|(_, oddity)| (organization.name.clone(), oddity)),
        );
    }
    found
}

/// The namespace of an organization's learner ids is its token.
fn token(organization: &crate::organization::Organization) -> &str {
    &organization.translation.namespace
}

/// Two shapes have been seen: a UUID, and 22 characters of URL-safe base64. Others near them may come.
fn has_shape(token: &str) -> bool {
    (16..=64).contains(&token.len())
        && token.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_a_shape() {
        for token in ["3f0c1a52-7d44-4b0e-9a1b-5f6e7d8c9b0a", "Zk3vXq_9TbW1mNp-2LsRcA", "made-up-org-token"] {
            assert!(has_shape(token), "{token}");
        }
        for token in [
            "",
            "…",
            "your token",
            "\"3f0c1a52-7d44-4b0e-9a1b-5f6e7d8c9b0a\"",
            "short",
            "https://app.wigzo.com/x",
        ] {
            assert!(!has_shape(token), "{token}");
        }
    }
}
