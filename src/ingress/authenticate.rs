//! Whose request is it? (design.md 5)
//!
//! In order: `Authorization` (Basic user name or Bearer), the configured header, the organization in the path, and
//! `writeKey` in the body. The first that is there decides; a wrong one is not made good by a later one.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::organization::{Organization, Organizations};
use crate::segment::{Request, Route, signed_by};

/// What a request shows before its body is read.
#[derive(Debug)]
pub(super) enum Shown {
    /// It belongs to this organization.
    Known(Arc<Organization>),
    /// It shows nothing; only `writeKey` in its body can help.
    Nothing,
}

/// It cannot be authenticated. Why is counted, never said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unauthenticated;

/// Looks at headers and path.
pub(super) fn by_head(
    headers: &HeaderMap,
    key_header: &str,
    path: Option<&str>,
    organizations: &Organizations,
) -> Result<Shown, Unauthenticated> {
    let known = |found: Option<&Arc<Organization>>| found.cloned().map(Shown::Known).ok_or(Unauthenticated);
    if let Some(key) = source_key(headers, key_header)? {
        return known(organizations.by_source_key(&key).or_else(|| keyless(organizations)));
    }
    let Some(name) = path else { return Ok(Shown::Nothing) };
    known(organizations.by_name(name).filter(|found| {
        // A path is no secret: something else must vouch for the request, or the operator must have said so.
        found.open || !found.shared_secrets.is_empty() || !found.has_source_keys()
    }))
}

/// Looks at the body, for a request that showed nothing before.
pub(super) fn by_write_key(
    write_key: Option<&str>,
    organizations: &Organizations,
) -> Result<Arc<Organization>, Unauthenticated> {
    write_key
        .and_then(|key| organizations.by_source_key(key))
        .or_else(|| keyless(organizations))
        .cloned()
        .ok_or(Unauthenticated)
}

/// Whether a source key decides (or will, once the body is read), and not the path.
pub(super) fn by_key(headers: &HeaderMap, key_header: &str, shown: &Shown) -> bool {
    match shown {
        Shown::Known(_) => matches!(source_key(headers, key_header), Ok(Some(_))),
        Shown::Nothing => true,
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
/// the service listens on loopback: then whoever reaches it may use it, whatever key a library sends.
fn keyless(organizations: &Organizations) -> Option<&Arc<Organization>> {
    let mut all = organizations.iter();
    let only = all.next().filter(|_| all.next().is_none())?;
    (!only.has_source_keys() && only.shared_secrets.is_empty()).then_some(only)
}

/// The source key in the headers, if there is one.
fn source_key(headers: &HeaderMap, key_header: &str) -> Result<Option<String>, Unauthenticated> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        let value = value.to_str().map_err(|_| Unauthenticated)?;
        let (scheme, rest) = value.split_once(' ').ok_or(Unauthenticated)?;
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Ok(Some(rest.to_owned()));
        }
        if scheme.eq_ignore_ascii_case("basic") {
            let decoded = STANDARD.decode(rest).map_err(|_| Unauthenticated)?;
            let decoded = String::from_utf8(decoded).map_err(|_| Unauthenticated)?;
            // "<key>:"; the colon is documented, and some leave it out.
            let key = decoded.split_once(':').map_or(&*decoded, |(user, _)| user);
            return Ok(Some(key.to_owned()));
        }
        return Err(Unauthenticated);
    }
    if key_header.is_empty() {
        return Ok(None);
    }
    let value = headers.get(key_header).map(|value| value.to_str().map(str::to_owned));
    value.transpose().map_err(|_| Unauthenticated)
}

/// Whether the signature is as the organization asks.
///
/// Webhooks sign; libraries cannot, and are known by their source key alone.
pub(super) fn signature(
    headers: &HeaderMap,
    route: Route,
    organization: &Organization,
    body: &[u8],
    request: &Request<'_>,
) -> Result<(), Unauthenticated> {
    if organization.shared_secrets.is_empty() || route == Route::Tracking {
        return Ok(());
    }
    let signature =
        headers.get("x-signature").and_then(|value| value.to_str().ok()).ok_or(Unauthenticated)?;
    // Every secret is tried, so that the time taken does not tell which one it was.
    let verified = organization.shared_secrets.iter().fold(false, |verified, secret| {
        signed_by(secret.expose().as_bytes(), signature, body, request) | verified
    });
    if verified { Ok(()) } else { Err(Unauthenticated) }
}
