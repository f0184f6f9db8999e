//! Why an endpoint may not be called: the last call there that failed.

use std::collections::HashMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use super::scheduler::PerEndpoint;
use crate::clock::UnixMillis;
use crate::outcome::Reason;
use crate::queue::{Account, Settlement};
use crate::wigzo::Endpoint;

/// Characters of an answer that are kept.
const MAX_ANSWER_CHARS: usize = 300;

/// A failed call. Tokens in the answer are masked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Because {
    /// When it was made.
    pub at: UnixMillis,
    /// What its answer meant.
    pub reason: Reason,
    /// The HTTP status; absent if there was no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The first 300 characters of the answer's body.
    pub answer: String,
}

impl Because {
    /// The answer as a log may show it: without words that could be an e-mail address, a phone number or an id.
    pub(super) fn answer_for_log(&self) -> String {
        let is_personal = |word: &str| {
            word.contains('@') || word.chars().filter(char::is_ascii_digit).count() >= MIN_PERSONAL_DIGITS
        };
        let words = self.answer.split_whitespace();
        let shown: Vec<_> = words.map(|word| if is_personal(word) { "***" } else { word }).collect();
        shown.join(" ")
    }
}

/// A word of an answer with so many digits may be a phone number or an id.
const MIN_PERSONAL_DIGITS: usize = 6;

/// The last failed call of each organization to each endpoint.
#[derive(Debug, Default)]
pub(super) struct LastFailures(HashMap<Arc<str>, PerEndpoint<Option<Because>>>);

impl LastFailures {
    /// Notes the failed call of a settlement, if it tells of one.
    pub(super) fn note(&mut self, settlement: &Settlement, endpoint: Endpoint) {
        let Account::InFull(attempts) = &settlement.account else { return };
        let Some(attempt) = attempts.iter().rfind(|attempt| attempt.reason != Reason::Delivered) else {
            return;
        };
        let because = Because {
            at: attempt.at,
            reason: attempt.reason,
            status: attempt.status,
            answer: attempt.response.chars().take(MAX_ANSWER_CHARS).collect(),
        };
        let organization = Arc::clone(&settlement.content.organization);
        *self.0.entry(organization).or_default().of_mut(endpoint) = Some(because);
    }

    /// The last one at an endpoint.
    pub(super) fn of(&self, organization: &str, endpoint: Endpoint) -> Option<&Because> {
        self.0.get(organization)?.of(endpoint).as_ref()
    }

    /// How many organizations it knows.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Keeps only these organizations.
    pub(super) fn retain(&mut self, keeps: impl Fn(&str) -> bool) {
        self.0.retain(|organization, _| keeps(organization));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_personal_is_not_logged() {
        let because = Because {
            at: UnixMillis(0),
            reason: Reason::of_status(403),
            status: Some(403),
            answer: "user jane@example.com (+910000000000)\n is not allowed, code 1020".to_owned(),
        };
        assert_eq!(because.answer_for_log(), "user *** *** is not allowed, code 1020");
    }
}
