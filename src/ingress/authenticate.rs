//! Whose request is it? (design.md 5)
//!
//! In order: `Authorization` (Basic user name or Bearer), the configured header, the organization in the path, and
//! `writeKey` in the body. The first that is there decides; a wrong one is not made good by a later one.
//!
//! Invariant: whoever cannot be authenticated learns nothing from it, neither from the reply nor from the work that
//! went before it. The head alone never refuses a request: its body is read and decoded, and for a webhook it is hashed
//! as often as for the organization with the most secrets, before [`prove`] gives the one verdict.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use crate::organization::{Organization, Organizations};
use crate::secret::Secret;
use crate::segment::{Request, Route, signed_by};

/// What a request shows before its body is read.
#[derive(Debug)]
pub(super) enum Shown {
    /// It belongs to this organization, if the signature is as that one asks.
    Known(Arc<Organization>),
    /// It shows nothing; only `writeKey` in its body can help.
    Nothing,
    /// It shows something, and that is wrong. It is refused in [`prove`], after the same work as the others.
    Wrong(Unauthenticated),
}

/// Why a request cannot be authenticated. It is counted, never said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unauthenticated {
    /// It shows nothing at all.
    NoCredentials,
    /// Its key belongs to no organization.
    UnknownKey,
    /// Its path names no organization.
    UnknownOrganization,
    /// Its path names an organization that asks for a key.
    PathNeedsMore,
    /// Its organization asks for a signature, and there is none.
    MissingSignature,
    /// Its signature was made with none of the organization's secrets, or over other bytes.
    BadSignature,
    /// A header that should say who sends cannot be read.
    MalformedHeader,
}

impl Unauthenticated {
    /// The stable code, for the operator's eyes only.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::NoCredentials => "no_credentials",
            Self::UnknownKey => "unknown_key",
            Self::UnknownOrganization => "unknown_organization",
            Self::PathNeedsMore => "path_needs_more",
            Self::MissingSignature => "missing_signature",
            Self::BadSignature => "bad_signature",
            Self::MalformedHeader => "malformed_header",
        }
    }
}

/// Looks at headers and path.
pub(super) fn by_head(
    headers: &HeaderMap,
    key_header: &str,
    path: Option<&str>,
    organizations: &Organizations,
) -> Shown {
    let known = |found: Result<&Arc<Organization>, Unauthenticated>| match found {
        Ok(organization) => Shown::Known(Arc::clone(organization)),
        Err(reason) => Shown::Wrong(reason),
    };
    match (source_key(headers, key_header), path) {
        (Err(reason), _) => Shown::Wrong(reason),
        (Ok(Some(key)), _) => known(by_key(&key, organizations)),
        (Ok(None), Some(name)) => known(by_path(name, organizations)),
        (Ok(None), None) => Shown::Nothing,
    }
}

fn by_key<'a>(key: &str, organizations: &'a Organizations) -> Result<&'a Arc<Organization>, Unauthenticated> {
    organizations.by_source_key(key).or_else(|| keyless(organizations)).ok_or(Unauthenticated::UnknownKey)
}

fn by_path<'a>(
    name: &str,
    organizations: &'a Organizations,
) -> Result<&'a Arc<Organization>, Unauthenticated> {
    let found = organizations.by_name(name).ok_or(Unauthenticated::UnknownOrganization)?;
    // A path is no secret: something else must vouch for the request, or the operator must have said so.
    if found.open || !found.shared_secrets.is_empty() || !found.has_source_keys() {
        Ok(found)
    } else {
        Err(Unauthenticated::PathNeedsMore)
    }
}

/// The request's organization, once its body has been read and decoded.
pub(super) fn prove(
    shown: Shown,
    headers: &HeaderMap,
    route: Route,
    body: &[u8],
    request: &Request<'_>,
    organizations: &Organizations,
) -> Result<Arc<Organization>, Unauthenticated> {
    let claimed = match shown {
        Shown::Known(organization) => Ok(organization),
        Shown::Wrong(reason) => Err(reason),
        Shown::Nothing => by_write_key(request.write_key.as_deref(), organizations).cloned(),
    };
    let hashes = organizations.most_shared_secrets().max(1);
    let asked = claimed.as_ref().map(|organization| organization.shared_secrets.as_slice()).ok();
    let signed = signature(headers, route, asked, hashes, body, request);
    let organization = claimed?;
    signed.map(|()| organization)
}

/// Looks at the body's key, for a request that showed nothing before.
fn by_write_key<'a>(
    write_key: Option<&str>,
    organizations: &'a Organizations,
) -> Result<&'a Arc<Organization>, Unauthenticated> {
    match write_key {
        Some(key) => by_key(key, organizations),
        None => keyless(organizations).ok_or(Unauthenticated::NoCredentials),
    }
}

/// Whether a source key decides (or will, once the body is read), and not the path.
pub(super) fn is_by_key(headers: &HeaderMap, key_header: &str, shown: &Shown) -> bool {
    match shown {
        Shown::Known(_) => matches!(source_key(headers, key_header), Ok(Some(_))),
        Shown::Nothing => true,
        Shown::Wrong(_) => false,
    }
}

/// Whether `writeKey` says something else than what has decided before: another organization, or a key that is none.
/// A sender with two keys is set up wrong, and one of them may be the one that its owner believes in.
pub(super) fn contradicts(
    write_key: Option<&str>,
    organization: &Organization,
    organizations: &Organizations,
) -> bool {
    write_key.is_some_and(|key| {
        organizations
            .by_source_key(key)
            .map_or(organization.has_source_keys(), |found| found.name != organization.name)
    })
}

/// The only organization, if it asks for neither key nor signature. Such a configuration is refused at start unless
/// it is marked open or the service listens on loopback: then whoever reaches it may use it, whatever key a library
/// sends.
fn keyless(organizations: &Organizations) -> Option<&Arc<Organization>> {
    let mut all = organizations.iter();
    let only = all.next().filter(|_| all.next().is_none())?;
    (!only.has_source_keys() && only.shared_secrets.is_empty()).then_some(only)
}

/// The source key in the headers, if there is one.
fn source_key(headers: &HeaderMap, key_header: &str) -> Result<Option<String>, Unauthenticated> {
    let malformed = Unauthenticated::MalformedHeader;
    if let Some(value) = headers.get(AUTHORIZATION) {
        let value = value.to_str().map_err(|_| malformed)?;
        let (scheme, rest) = value.split_once(' ').ok_or(malformed)?;
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Ok(Some(rest.to_owned()));
        }
        if scheme.eq_ignore_ascii_case("basic") {
            let decoded = STANDARD.decode(rest).map_err(|_| malformed)?;
            let decoded = String::from_utf8(decoded).map_err(|_| malformed)?;
            // "<key>:"; the colon is documented, and some leave it out.
            let key = decoded.split_once(':').map_or(&*decoded, |(user, _)| user);
            return Ok(Some(key.to_owned()));
        }
        return Err(malformed);
    }
    if key_header.is_empty() {
        return Ok(None);
    }
    let value = headers.get(key_header).map(|value| value.to_str().map(str::to_owned));
    value.transpose().map_err(|_| malformed)
}

/// Stands for secrets that an organization does not have. What it verifies is thrown away.
const NO_SECRET: &[u8] = b"the secret of nobody";

/// Whether the signature is as the organization with these secrets asks; `None` stands for a request that is refused
/// anyway. Whoever is refused is hashed for so many times (`hashes`), however many secrets there are.
///
/// Webhooks sign; libraries cannot, and are known by their source key alone.
fn signature(
    headers: &HeaderMap,
    route: Route,
    secrets: Option<&[Secret]>,
    hashes: usize,
    body: &[u8],
    request: &Request<'_>,
) -> Result<(), Unauthenticated> {
    if route == Route::Tracking || secrets.is_some_and(<[Secret]>::is_empty) {
        return Ok(());
    }
    let (signature, otherwise) = match headers.get("x-signature").map(HeaderValue::to_str) {
        Some(Ok(signature)) => (signature, Unauthenticated::BadSignature),
        Some(Err(_)) => ("", Unauthenticated::MalformedHeader),
        None => ("", Unauthenticated::MissingSignature),
    };
    let signed_by = |secret: &[u8]| signed_by(secret, signature, body, request);
    let secrets = secrets.unwrap_or_default();
    // Every secret is tried, so that the time taken does not tell which one it was.
    let verified =
        secrets.iter().fold(false, |verified, secret| signed_by(secret.expose().as_bytes()) | verified);
    if verified {
        return Ok(());
    }
    for _ in secrets.len()..hashes {
        // The compiler must not find out that nobody looks at the result.
        std::hint::black_box(signed_by(NO_SECRET));
    }
    Err(otherwise)
}
