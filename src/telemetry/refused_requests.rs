//! Requests that could not be authenticated, for whoever sets up a sender: the newest of each organization, and the
//! newest of which the organization is unknown.
//!
//! Invariants:
//! * No secret and no query is kept: of a key its fingerprint, of an address its path.
//! * Memory is bounded, because anybody can send such requests: [`EACH`] entries of an organization, [`ALL`] in all, and
//!   every text is cut. Requests that are alike are one entry with a count, so that one sender does not push out others.
//! * Only refused requests take the lock, and they hold it for a look through [`EACH`] entries.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use crate::clock::UnixMillis;
use crate::outcome::closed;

closed! {
    /// Why a request could not be authenticated. Its sender is never told.
    AuthenticationFailure {
        NoCredentials = "no_credentials", "The request shows no key, neither in its head nor as `writeKey`.",
            "Enter the organization's source key at the sender.";
        UnknownKey = "unknown_key", "The key is no organization's.",
            "Compare the fingerprint with that of the key that you expect; add the key to `source_keys`, or correct the sender.";
        UnknownOrganization = "unknown_organization", "The path names no organization.",
            "Correct the path at the sender, or configure an organization of that name.";
        PathNeedsMore = "path_needs_more", "The path names an organization that asks for a key.",
            "Enter the organization's source key at the sender, or give the organization a shared secret.";
        MissingSignature = "missing_signature", "The organization asks for `X-Signature`, and there is none.",
            "Enter the shared secret at the sender.";
        BadSignature = "bad_signature", "The signature was made with another secret or over other bytes.",
            "Compare the shared secret on both sides; list the old and the new one while it is changed. A proxy must not change the body.";
        MalformedHeader = "malformed_header", "A header that should say who sends cannot be read.",
            "Send `Authorization: Basic` or `Bearer` with the key, in the form that HTTP defines.";
        ContradictingTokens = "contradicting_tokens", "Partner mode: the user name and `orgToken` differ.",
            "Enter the same organization token in both places at the sender.";
        ConfiguredToken = "configured_token", "Partner mode: the token is a configured organization's, which has its own keys.",
            "Use the organization's source key or path, or remove the organization from the configuration.";
    }
}

impl Serialize for AuthenticationFailure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl JsonSchema for AuthenticationFailure {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AuthenticationFailure".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let all: Vec<&str> = Self::ALL.iter().map(|reason| reason.as_str()).collect();
        schemars::json_schema!({ "type": "string", "enum": all })
    }
}

/// What tells keys apart without giving one away: the first 32 bits of its SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; Self::BYTES]);

impl Fingerprint {
    const BYTES: usize = 4;

    /// The fingerprint of a key.
    pub fn of(key: &str) -> Self {
        let mut bytes = [0; Self::BYTES];
        let digest = digest(&SHA256, key.as_bytes());
        bytes.copy_from_slice(digest.as_ref().split_at(Self::BYTES).0);
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Fingerprint {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Fingerprint".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9a-f]{8}$" })
    }
}

/// Requests that could not be authenticated and are alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RefusedRequest {
    /// When the newest of them arrived.
    pub at: UnixMillis,
    /// When the first of them arrived.
    pub first_at: UnixMillis,
    /// How many there were.
    pub times: u64,
    /// What they have in common.
    #[serde(flatten)]
    pub request: Arc<Refused>,
}

/// What is kept of a request that could not be authenticated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Refused {
    /// The organization that its path or its key names; absent if none is known.
    pub organization: Option<Arc<str>>,
    /// Why it was refused.
    pub reason: AuthenticationFailure,
    /// The address that the connection came from; a proxy hides the sender behind its own.
    pub peer: Option<IpAddr>,
    /// The path, without the query, cut to 200 bytes.
    pub path: Box<str>,
    /// `User-Agent`, cut to 200 bytes.
    pub user_agent: Option<Box<str>>,
    /// The first 8 hex digits of the SHA-256 of the key that it shows, if it shows one.
    pub key_fingerprint: Option<Fingerprint>,
}

impl Refused {
    /// Bytes of a path or a user agent that are kept.
    const TEXT_BYTES: usize = 200;

    /// What is kept of a text.
    pub fn text(text: &str) -> Box<str> {
        text.get(..text.floor_char_boundary(Self::TEXT_BYTES)).unwrap_or_default().into()
    }
}

/// Entries of one organization that are kept, and of those whose organization is unknown.
const EACH: usize = 200;

/// Entries of all organizations that are kept: about 12 MB at most. Above it, the organization that has been quiet for
/// longest loses its entries.
const ALL: usize = 20_000;

/// The newest requests that could not be authenticated.
#[derive(Debug, Default)]
pub struct RefusedRequests(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    rings: HashMap<Option<Arc<str>>, VecDeque<RefusedRequest>>,
    entries: usize,
}

impl RefusedRequests {
    /// Keeps a request.
    pub fn note(&self, request: Refused, at: UnixMillis) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = &mut *kept;
        let organization = request.organization.clone();
        let ring = kept.rings.entry(organization.clone()).or_default();
        let alike = ring.iter().position(|it| *it.request == request).and_then(|place| ring.remove(place));
        if let Some(alike) = alike {
            ring.push_back(RefusedRequest { at, times: alike.times + 1, ..alike });
            return;
        }
        if ring.len() >= EACH {
            ring.pop_front();
        } else {
            kept.entries += 1;
        }
        ring.push_back(RefusedRequest { at, first_at: at, times: 1, request: Arc::new(request) });
        if kept.entries > ALL {
            kept.forget_the_quietest(organization.as_ref());
        }
    }

    /// The newest, newest first: of one organization or of all, those included whose organization is unknown.
    pub fn find(&self, organization: Option<&str>, limit: usize) -> Vec<RefusedRequest> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rings = kept.rings.iter();
        let wanted = rings.filter(|(name, _)| organization.is_none() || name.as_deref() == organization);
        let mut found: Vec<RefusedRequest> = wanted.flat_map(|(_, ring)| ring).cloned().collect();
        drop(kept);
        found.sort_by_key(|it| std::cmp::Reverse(it.at));
        found.truncate(limit);
        found
    }
}

impl Kept {
    fn forget_the_quietest(&mut self, spared: Option<&Arc<str>>) {
        let others = self.rings.iter().filter(|(name, _)| name.as_ref() != spared);
        let newest = |ring: &VecDeque<RefusedRequest>| ring.back().map(|it| it.at);
        let quietest = others.min_by_key(|(_, ring)| newest(ring)).map(|(name, _)| name.clone());
        let gone = quietest.and_then(|name| self.rings.remove(&name));
        self.entries -= gone.map_or(0, |ring| ring.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(organization: Option<&str>, path: &str) -> Refused {
        Refused {
            organization: organization.map(Arc::from),
            reason: AuthenticationFailure::UnknownKey,
            peer: Some([192, 0, 2, 1].into()),
            path: path.into(),
            user_agent: Some("curl/8".into()),
            key_fingerprint: Some(Fingerprint::of("made-up-key")),
        }
    }

    fn paths(found: &[RefusedRequest]) -> Vec<(&str, u64)> {
        found.iter().map(|it| (&*it.request.path, it.times)).collect()
    }

    #[test]
    fn every_reason_says_what_to_do() {
        for reason in AuthenticationFailure::ALL {
            assert!(reason.meaning().ends_with('.') && reason.advice().ends_with('.'), "{reason}");
            assert_eq!(AuthenticationFailure::parse(reason.as_str()), Some(*reason));
        }
    }

    #[test]
    fn a_fingerprint_is_the_beginning_of_sha_256() {
        // printf %s abc | sha256sum
        assert_eq!(Fingerprint::of("abc").to_string(), "ba7816bf");
    }

    #[test]
    fn the_newest_are_found_by_organization_and_those_alike_are_one() {
        let requests = RefusedRequests::default();
        for (at, organization, path) in [
            (1, None, "/v1/track"),
            (2, Some("acme"), "/webhook/acme"),
            (3, None, "/v1/page"),
            (4, None, "/v1/track"),
        ] {
            requests.note(refused(organization, path), UnixMillis(at));
        }
        let all = requests.find(None, 10);
        assert_eq!(paths(&all), [("/v1/track", 2), ("/v1/page", 1), ("/webhook/acme", 1)]);
        assert_eq!((all[0].first_at, all[0].at), (UnixMillis(1), UnixMillis(4)));
        assert_eq!(paths(&requests.find(Some("acme"), 10)), [("/webhook/acme", 1)]);
        assert_eq!(requests.find(None, 1).len(), 1);
        assert!(requests.find(Some("other"), 10).is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let requests = RefusedRequests::default();
        for n in 0..EACH as u64 + 5 {
            requests.note(refused(None, &n.to_string()), UnixMillis(n));
        }
        let found = requests.find(None, usize::MAX);
        assert_eq!((found.len(), paths(&found).last()), (EACH, Some(&("5", 1))));
        // The unknown ones have been quiet for longest, then organization 0.
        let organizations = (ALL / EACH) as u64 + 1;
        for organization in 0..organizations {
            for n in 0..EACH {
                let name = format!("organization-{organization}");
                requests.note(refused(Some(&name), &n.to_string()), UnixMillis(1_000 + organization));
            }
        }
        let found = requests.find(None, usize::MAX);
        assert_eq!((found.len(), requests.0.lock().unwrap().entries), (ALL, ALL));
        assert!(requests.find(Some("organization-0"), 1).is_empty());
        assert!(found.iter().all(|it| it.request.organization.is_some()));
        assert_eq!(&*Refused::text(&"é".repeat(150)), "é".repeat(100));
    }
}
