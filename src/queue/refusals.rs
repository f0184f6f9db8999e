//! Events that were refused: never accepted, never counted in the ledger, and yet asked for by whoever misses them.
//!
//! In memory only and bounded, because a sender decides how many there are: bad input must not cost disk. The newest of
//! each organization are kept until the process ends.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use schemars::JsonSchema;
use serde::Serialize;

use crate::clock::UnixMillis;

/// Refusals of one organization that are remembered.
const EACH: usize = 200;

/// Organizations that are remembered; above it the one goes that has been quiet for longest.
const ORGANIZATIONS: usize = 1_000;

/// Characters of a message id that are remembered.
const ID: usize = 100;

/// One refused event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Refusal {
    /// When its request arrived.
    pub at: UnixMillis,
    /// The organization that it was sent to.
    pub organization: Arc<str>,
    /// Its message id, if it had one; a long one is cut off.
    pub message_id: Option<Box<str>>,
    /// The rule that it broke.
    pub code: &'static str,
    /// JSON pointer to the place in the event; empty for the whole event.
    pub pointer: &'static str,
}

/// The newest refusals.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashMap<Arc<str>, VecDeque<Refusal>>>);

impl Refusals {
    /// Remembers a refusal.
    pub fn note(&self, mut refusal: Refusal) {
        if let Some(id) = &refusal.message_id
            && let Some((end, _)) = id.char_indices().nth(ID)
        {
            refusal.message_id = id.get(..end).map(Into::into);
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= ORGANIZATIONS && !all.contains_key(&refusal.organization) {
            let newest = |ring: &VecDeque<Refusal>| ring.back().map(|refusal| refusal.at);
            let quiet = all.iter().min_by_key(|(_, ring)| newest(ring)).map(|(name, _)| Arc::clone(name));
            quiet.and_then(|name| all.remove(&name));
        }
        let ring = all.entry(Arc::clone(&refusal.organization)).or_default();
        if ring.len() >= EACH {
            ring.pop_front();
        }
        ring.push_back(refusal);
    }

    /// The newest refusals, newest first: of one organization or of all, with one message id or with any.
    pub fn find(&self, organization: Option<&str>, message_id: Option<&str>, limit: usize) -> Vec<Refusal> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_organization =
            all.iter().filter(|(name, _)| organization.is_none_or(|wanted| wanted == &***name));
        let matching = |it: &&Refusal| message_id.is_none() || it.message_id.as_deref() == message_id;
        let mut found: Vec<Refusal> =
            of_organization.flat_map(|(_, ring)| ring.iter().rev()).filter(matching).cloned().collect();
        drop(all);
        found.sort_by_key(|refusal| std::cmp::Reverse(refusal.at));
        found.truncate(limit);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(organization: &str, id: &str, at: u64) -> Refusal {
        Refusal {
            at: UnixMillis(at),
            organization: Arc::from(organization),
            message_id: Some(id.into()),
            code: "missing_type",
            pointer: "/type",
        }
    }

    fn ids(found: &[Refusal]) -> Vec<&str> {
        found.iter().filter_map(|it| it.message_id.as_deref()).collect()
    }

    #[test]
    fn the_newest_are_found_by_organization_and_id() {
        let refusals = Refusals::default();
        for (organization, id, at) in
            [("acme", "a", 1), ("other", "b", 2), ("acme", "c", 3), ("acme", "a", 4)]
        {
            refusals.note(refusal(organization, id, at));
        }
        assert_eq!(ids(&refusals.find(None, None, 10)), ["a", "c", "b", "a"]);
        assert_eq!(ids(&refusals.find(Some("acme"), None, 2)), ["a", "c"]);
        assert_eq!(refusals.find(Some("acme"), Some("a"), 10).len(), 2);
        assert!(refusals.find(Some("other"), Some("a"), 10).is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let refusals = Refusals::default();
        for n in 0..EACH as u64 + 5 {
            refusals.note(refusal("acme", &n.to_string(), n));
        }
        let found = refusals.find(Some("acme"), None, usize::MAX);
        assert_eq!((found.len(), ids(&found)[EACH - 1]), (EACH, "5"));
        for n in 0..ORGANIZATIONS as u64 {
            refusals.note(refusal(&format!("organization-{n}"), "x", 1_000 + n));
        }
        assert!(refusals.find(Some("acme"), None, 10).is_empty(), "it has been quiet for longest");
        assert_eq!(refusals.find(Some("organization-0"), None, 10).len(), 1);
        refusals.note(refusal("long", &"é".repeat(ID + 1), 9_999));
        assert_eq!(ids(&refusals.find(Some("long"), None, 1)), ["é".repeat(ID)]);
    }
}
