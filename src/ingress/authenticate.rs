//! Whose request is it? (design.md 5)
//!
//! In order: `Authorization` (Basic user name or Bearer), the configured header, the organization in the path, and
//! `writeKey` in the body. The first that is there decides; a wrong one is not made good by a later one.
//!
//! In partner mode, after these: a Basic user name that is no source key is an organization token, and so is `orgToken` in
//! `X-Segment-Settings` if there is neither key nor path. The header is not looked at for anybody who is known otherwise:
//! it must not redirect a configured organization's events, nor change what becomes of them.
//!
//! Invariant: whoever cannot be authenticated learns nothing from it, neither from the reply nor from the work that
//! went before it. The head alone never refuses a request: its body is read and decoded, and for a webhook it is hashed
//! as often as for the organization with the most secrets, before [`prove`] gives the one verdict.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use super::Config;
use crate::organization::{NoPartner, Organization, Organizations, Partner, PartnerSettings};
use crate::secret::Secret;
use crate::segment::{Request, Route, signed_by};
use crate::telemetry::AuthenticationFailure;

/// What a request shows before its body is read.
#[derive(Debug)]
pub(super) enum Shown {
    /// It belongs to this organization, if the signature is as that one asks.
    Known(Arc<Organization>),
    /// It shows neither key nor path: `writeKey` in its body is asked first, then what stands here (in partner mode,
    /// what its settings say).
    Nothing(Result<Arc<Organization>, AuthenticationFailure>),
    /// It shows something, and that is wrong. It is refused in [`prove`], after the same work as the others.
    Wrong(AuthenticationFailure),
}

/// A request that cannot be authenticated. Why is counted and logged, never said.
#[derive(Debug)]
pub(super) struct Unauthenticated {
    /// What is wrong with it.
    pub(super) reason: AuthenticationFailure,
    /// Whose it would be: a key or a path names this organization, and the signature is not as that one asks.
    pub(super) claimed: Option<Arc<Organization>>,
}

/// Looks at headers and path.
pub(super) fn by_head(
    headers: &HeaderMap,
    config: &Config,
    path: Option<&str>,
    organizations: &Organizations,
) -> Shown {
    decide(headers, config, path, organizations).unwrap_or_else(Shown::Wrong)
}

fn decide(
    headers: &HeaderMap,
    config: &Config,
    path: Option<&str>,
    organizations: &Organizations,
) -> Result<Shown, AuthenticationFailure> {
    let known = |organization: &Arc<Organization>| Shown::Known(Arc::clone(organization));
    match (source_key(headers, &config.key_header)?, path) {
        (Some(shown), path) => match (by_key(&shown.key, config, organizations), path) {
            (Ok(organization), _) => Ok(known(organization)),
            // A path names a configured organization: whoever uses it has mistaken the key.
            (Err(_), None) if config.partner_mode && shown.is_user => {
                by_token(Some(&shown.key), headers, organizations).map(Shown::Known)
            }
            (Err(reason), _) => Err(reason),
        },
        (None, Some(name)) => by_path(name, organizations).map(known),
        (None, None) if config.partner_mode => Ok(Shown::Nothing(by_token(None, headers, organizations))),
        (None, None) => Ok(Shown::Nothing(Err(AuthenticationFailure::NoCredentials))),
    }
}

fn by_key<'a>(
    key: &str,
    config: &Config,
    organizations: &'a Organizations,
) -> Result<&'a Arc<Organization>, AuthenticationFailure> {
    let found = organizations.by_source_key(key);
    // In partner mode keys tell organizations apart: an unknown one is not taken for the only one's.
    let found = found.or_else(|| keyless(organizations).filter(|_| !config.partner_mode));
    found.ok_or(AuthenticationFailure::UnknownKey)
}

/// The partner whose token is the Basic user name, or stands in the settings.
fn by_token(
    user: Option<&str>,
    headers: &HeaderMap,
    organizations: &Organizations,
) -> Result<Arc<Organization>, AuthenticationFailure> {
    let malformed = AuthenticationFailure::MalformedHeader;
    let settings = match headers.get("x-segment-settings").map(HeaderValue::to_str) {
        None => PartnerSettings::default(),
        Some(text) => PartnerSettings::read(text.map_err(|_| malformed)?).map_err(|_| malformed)?,
    };
    let partner = Partner::claimed(user, settings).map_err(|reason| match (reason, user) {
        (NoPartner::NoToken, None) => AuthenticationFailure::NoCredentials,
        (NoPartner::NoToken | NoPartner::NotAToken, _) => AuthenticationFailure::UnknownKey,
        (NoPartner::Contradiction, _) => AuthenticationFailure::ContradictingTokens,
    })?;
    // Its operator has said what vouches for its events. A token is public; it must not open a side door, not even for an
    // organization that asks for nothing but its path: that one has limits and origins of its own.
    if organizations.has_org_token(partner.org_token()) {
        return Err(AuthenticationFailure::ConfiguredToken);
    }
    organizations.partner(&partner.to_stored()).ok_or(AuthenticationFailure::UnknownKey)
}

fn by_path<'a>(
    name: &str,
    organizations: &'a Organizations,
) -> Result<&'a Arc<Organization>, AuthenticationFailure> {
    let found = organizations.by_name(name).ok_or(AuthenticationFailure::UnknownOrganization)?;
    // A path is no secret: something else must vouch for the request, or the operator must have said so.
    if found.open || !found.shared_secrets.is_empty() || !found.has_source_keys() {
        Ok(found)
    } else {
        Err(AuthenticationFailure::PathNeedsMore)
    }
}

/// What a signature is made over, and where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signed<'a> {
    pub(super) headers: &'a HeaderMap,
    pub(super) route: Route,
    pub(super) body: &'a [u8],
}

/// The request's organization, once its body has been read and decoded.
pub(super) fn prove(
    shown: Shown,
    signed: &Signed<'_>,
    request: &Request<'_>,
    config: &Config,
    organizations: &Organizations,
) -> Result<Arc<Organization>, Unauthenticated> {
    let claimed = match shown {
        Shown::Known(organization) => Ok(organization),
        Shown::Wrong(reason) => Err(reason),
        Shown::Nothing(otherwise) => {
            by_write_key(request.write_key.as_deref(), otherwise, config, organizations)
        }
    };
    let hashes = organizations.most_shared_secrets().max(1);
    let asked = claimed.as_ref().map(|organization| organization.shared_secrets.as_slice()).ok();
    let signed = signature(signed, asked, hashes, request);
    match (claimed, signed) {
        (Ok(organization), Ok(())) => Ok(organization),
        (Ok(organization), Err(reason)) => Err(Unauthenticated { reason, claimed: Some(organization) }),
        (Err(reason), _) => Err(Unauthenticated { reason, claimed: None }),
    }
}

/// The key that a request shows: where a source key should stand in the head, else `writeKey` in its body.
pub(super) fn shown_key<'a>(
    headers: &HeaderMap,
    config: &Config,
    request: &'a Request<'_>,
) -> Option<Cow<'a, str>> {
    let in_head = source_key(headers, &config.key_header).ok().flatten();
    let key = in_head.map(|shown| Cow::Owned(shown.key));
    key.or_else(|| request.write_key.as_deref().map(Cow::Borrowed)).filter(|key| !key.is_empty())
}

/// Looks at the body's key, for a request whose head shows neither key nor path; `otherwise` is what it shows besides.
fn by_write_key(
    write_key: Option<&str>,
    otherwise: Result<Arc<Organization>, AuthenticationFailure>,
    config: &Config,
    organizations: &Organizations,
) -> Result<Arc<Organization>, AuthenticationFailure> {
    if let Some(known) = write_key.and_then(|key| organizations.by_source_key(key)) {
        return Ok(Arc::clone(known));
    }
    match (otherwise, write_key) {
        (Err(AuthenticationFailure::NoCredentials), Some(key)) => by_key(key, config, organizations).cloned(),
        (Err(AuthenticationFailure::NoCredentials), None) => {
            keyless(organizations).cloned().ok_or(AuthenticationFailure::NoCredentials)
        }
        (otherwise, _) => otherwise,
    }
}

/// Whether a source key decides (or will, once the body is read), and not the path.
pub(super) fn is_by_key(headers: &HeaderMap, key_header: &str, shown: &Shown) -> bool {
    match shown {
        Shown::Known(_) => matches!(source_key(headers, key_header), Ok(Some(_))),
        Shown::Nothing(_) => true,
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

/// What stands where a source key should.
struct ShownKey {
    key: String,
    /// Whether it is a Basic user name.
    is_user: bool,
}

/// The source key in the headers, if there is one.
fn source_key(headers: &HeaderMap, key_header: &str) -> Result<Option<ShownKey>, AuthenticationFailure> {
    let malformed = AuthenticationFailure::MalformedHeader;
    if let Some(value) = headers.get(AUTHORIZATION) {
        let value = value.to_str().map_err(|_| malformed)?;
        let (scheme, rest) = value.split_once(' ').ok_or(malformed)?;
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Ok(Some(ShownKey { key: rest.to_owned(), is_user: false }));
        }
        if scheme.eq_ignore_ascii_case("basic") {
            let decoded = STANDARD.decode(rest).map_err(|_| malformed)?;
            let decoded = String::from_utf8(decoded).map_err(|_| malformed)?;
            // "<key>:"; the colon is documented, and some leave it out.
            let key = decoded.split_once(':').map_or(&*decoded, |(user, _)| user);
            return Ok(Some(ShownKey { key: key.to_owned(), is_user: true }));
        }
        return Err(malformed);
    }
    if key_header.is_empty() {
        return Ok(None);
    }
    let Some(value) = headers.get(key_header) else { return Ok(None) };
    let key = value.to_str().map_err(|_| malformed)?.to_owned();
    Ok(Some(ShownKey { key, is_user: false }))
}

/// Stands for secrets that an organization does not have. What it verifies is thrown away.
const NO_SECRET: &[u8] = b"the secret of nobody";

/// Whether the signature is as the organization with these secrets asks; `None` stands for a request that is refused
/// anyway. Whoever is refused is hashed for so many times (`hashes`), however many secrets there are.
///
/// Webhooks sign; libraries cannot, and are known by their source key alone.
fn signature(
    signed: &Signed<'_>,
    secrets: Option<&[Secret]>,
    hashes: usize,
    request: &Request<'_>,
) -> Result<(), AuthenticationFailure> {
    let Signed { headers, route, body } = *signed;
    if route == Route::Tracking || secrets.is_some_and(<[Secret]>::is_empty) {
        return Ok(());
    }
    let (signature, otherwise) = match headers.get("x-signature").map(HeaderValue::to_str) {
        Some(Ok(signature)) => (signature, AuthenticationFailure::BadSignature),
        Some(Err(_)) => ("", AuthenticationFailure::MalformedHeader),
        None => ("", AuthenticationFailure::MissingSignature),
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

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::AuthenticationFailure::{
        ConfiguredToken, ContradictingTokens, MalformedHeader, NoCredentials, PathNeedsMore, UnknownKey,
        UnknownOrganization,
    };
    use super::*;

    const PARTNER: &str = "partner-org-token";
    const OTHER: &str = "another-org-token";
    const ACME: &str = "configured-org-token";

    fn organizations(toml: &str) -> Organizations {
        Organizations::build(&crate::organization::Defaults::default(), &toml::from_str(toml).unwrap())
            .unwrap()
    }

    fn basic(user: &str) -> (&'static str, String) {
        ("authorization", format!("Basic {}", STANDARD.encode(format!("{user}:"))))
    }

    fn bearer(key: &str) -> (&'static str, String) {
        ("authorization", format!("Bearer {key}"))
    }

    fn key(key: &str) -> (&'static str, String) {
        ("x-source-key", key.to_owned())
    }

    fn settings(json: &str) -> (&'static str, String) {
        ("x-segment-settings", STANDARD.encode(json))
    }

    fn token(token: &str) -> (&'static str, String) {
        settings(&format!(r#"{{"orgToken":"{token}"}}"#))
    }

    /// Whose a request is, in a word: an organization's name, a partner's token, or what is wrong.
    fn whose(
        organizations: &Organizations,
        partner_mode: bool,
        shown: &[(&'static str, String)],
        path: Option<&str>,
        write_key: Option<&str>,
    ) -> Result<String, AuthenticationFailure> {
        let config = Config { partner_mode, key_header: "X-Source-Key".to_owned(), ..Config::default() };
        let mut headers = HeaderMap::new();
        for (name, value) in shown {
            headers.insert(HeaderName::from_static(name), HeaderValue::try_from(value).unwrap());
        }
        let body = match write_key {
            Some(key) => format!(r#"{{"writeKey":"{key}"}}"#),
            None => "{}".to_owned(),
        };
        let request = crate::segment::decode(body.as_bytes(), 1).unwrap();
        let found = by_head(&headers, &config, path, organizations);
        let signed = Signed { headers: &headers, route: Route::Webhook, body: body.as_bytes() };
        let found = prove(found, &signed, &request, &config, organizations).map_err(|it| it.reason)?;
        let stored = found.settings.as_deref().and_then(Partner::from_stored);
        Ok(stored.map_or_else(|| found.name.clone(), |partner| partner.org_token().expose().to_owned()))
    }

    /// What the head shows | the path | `writeKey` | whose it is in partner mode | and without.
    type Row<'a> = (
        &'a [(&'static str, String)],
        Option<&'a str>,
        Option<&'a str>,
        Result<&'a str, AuthenticationFailure>,
        Result<&'a str, AuthenticationFailure>,
    );

    /// Everything that a request can show beside everything else, with partner mode and without.
    #[test]
    fn every_combination_is_decided() {
        let organizations = organizations(
            r#"
            [acme]
            org_token = "configured-org-token"
            source_keys = ["wk_acme_web"]
            [public]
            org_token = "public-org-token"
            open = true
            "#,
        );
        let garbled = || ("x-segment-settings", "{}".to_owned());
        let bad = || settings(r#"{"identity":"other"}"#);
        let table: &[Row<'_>] = &[
            // A known key decides, and the settings are not looked at.
            (&[basic("wk_acme_web")], None, None, Ok("acme"), Ok("acme")),
            (&[basic("wk_acme_web"), token(PARTNER)], None, None, Ok("acme"), Ok("acme")),
            (&[basic("wk_acme_web"), garbled()], None, None, Ok("acme"), Ok("acme")),
            (&[bearer("wk_acme_web"), token(PARTNER)], None, None, Ok("acme"), Ok("acme")),
            (&[key("wk_acme_web"), token(PARTNER)], None, None, Ok("acme"), Ok("acme")),
            (&[basic("wk_acme_web"), token(PARTNER)], Some("public"), None, Ok("acme"), Ok("acme")),
            // An unknown Basic user name is a token.
            (&[basic(PARTNER)], None, None, Ok(PARTNER), Err(UnknownKey)),
            (&[basic(PARTNER), token(PARTNER)], None, None, Ok(PARTNER), Err(UnknownKey)),
            (&[basic(PARTNER), settings("{}")], None, None, Ok(PARTNER), Err(UnknownKey)),
            (&[basic(PARTNER)], None, Some("wk_acme_web"), Ok(PARTNER), Err(UnknownKey)),
            (&[basic(PARTNER), token(OTHER)], None, None, Err(ContradictingTokens), Err(UnknownKey)),
            (&[basic(PARTNER), garbled()], None, None, Err(MalformedHeader), Err(UnknownKey)),
            (&[basic(PARTNER), bad()], None, None, Err(MalformedHeader), Err(UnknownKey)),
            (&[basic("short")], None, None, Err(UnknownKey), Err(UnknownKey)),
            (&[basic("short"), token(PARTNER)], None, None, Err(ContradictingTokens), Err(UnknownKey)),
            (&[basic("")], None, None, Err(UnknownKey), Err(UnknownKey)),
            (&[basic(""), token(PARTNER)], None, None, Ok(PARTNER), Err(UnknownKey)),
            // No other key is, and none is made good by the settings.
            (&[bearer(PARTNER)], None, None, Err(UnknownKey), Err(UnknownKey)),
            (&[bearer(PARTNER), token(PARTNER)], None, None, Err(UnknownKey), Err(UnknownKey)),
            (&[key(PARTNER), token(PARTNER)], None, None, Err(UnknownKey), Err(UnknownKey)),
            (
                &[("authorization", "Basic !".to_owned()), token(PARTNER)],
                None,
                None,
                Err(MalformedHeader),
                Err(MalformedHeader),
            ),
            // A path names a configured organization.
            (&[basic(PARTNER)], Some("acme"), None, Err(UnknownKey), Err(UnknownKey)),
            (&[basic(PARTNER)], Some("public"), None, Err(UnknownKey), Err(UnknownKey)),
            (&[token(PARTNER)], Some("public"), None, Ok("public"), Ok("public")),
            (&[garbled()], Some("public"), None, Ok("public"), Ok("public")),
            (&[token(PARTNER)], Some("acme"), None, Err(PathNeedsMore), Err(PathNeedsMore)),
            (&[token(PARTNER)], Some("nobody"), None, Err(UnknownOrganization), Err(UnknownOrganization)),
            // The settings alone.
            (&[token(PARTNER)], None, None, Ok(PARTNER), Err(NoCredentials)),
            (&[token(PARTNER)], None, Some("wk_unknown"), Ok(PARTNER), Err(UnknownKey)),
            (&[token(PARTNER)], None, Some("wk_acme_web"), Ok("acme"), Ok("acme")),
            (&[garbled()], None, Some("wk_acme_web"), Ok("acme"), Ok("acme")),
            (&[garbled()], None, Some("wk_unknown"), Err(MalformedHeader), Err(UnknownKey)),
            (&[garbled()], None, None, Err(MalformedHeader), Err(NoCredentials)),
            (&[token("short")], None, None, Err(UnknownKey), Err(NoCredentials)),
            (&[settings("{}")], None, None, Err(NoCredentials), Err(NoCredentials)),
            (&[settings("{}")], None, Some(PARTNER), Err(UnknownKey), Err(UnknownKey)),
            (&[], None, None, Err(NoCredentials), Err(NoCredentials)),
            (&[], None, Some("wk_acme_web"), Ok("acme"), Ok("acme")),
            // The token of a configured organization opens no side door.
            (&[basic(ACME)], None, None, Err(ConfiguredToken), Err(UnknownKey)),
            (&[token(ACME)], None, None, Err(ConfiguredToken), Err(NoCredentials)),
            (&[basic("public-org-token")], None, None, Err(ConfiguredToken), Err(UnknownKey)),
            (&[token(ACME)], None, Some("wk_acme_web"), Ok("acme"), Ok("acme")),
        ];
        for (number, (shown, path, write_key, with, without)) in table.iter().enumerate() {
            for (partner_mode, expected) in [(true, with), (false, without)] {
                let found = whose(&organizations, partner_mode, shown, *path, *write_key);
                let about =
                    format!("row {number}: {shown:?} {path:?} {write_key:?}, partner mode: {partner_mode}");
                assert_eq!(found.as_deref().map_err(|reason| *reason), *expected, "{about}");
            }
        }
    }

    /// The only organization, which asks for nothing, takes what names nobody; a partner names itself.
    #[test]
    fn an_open_organization_does_not_swallow_partners() {
        let organizations = organizations("[default]\norg_token = \"configured-org-token\"");
        for (shown, with, without) in [
            (vec![], Ok("default"), Ok("default")),
            (vec![settings("{}")], Ok("default"), Ok("default")),
            (vec![basic(PARTNER)], Ok(PARTNER), Ok("default")),
            (vec![token(PARTNER)], Ok(PARTNER), Ok("default")),
            (vec![bearer("anything")], Err(UnknownKey), Ok("default")),
            (vec![basic("anything")], Err(UnknownKey), Ok("default")),
            (vec![basic(ACME)], Err(ConfiguredToken), Ok("default")),
        ] {
            for (partner_mode, expected) in [(true, with), (false, without)] {
                let found = whose(&organizations, partner_mode, &shown, None, None);
                assert_eq!(found.as_deref().map_err(|reason| *reason), expected, "{shown:?} {partner_mode}");
            }
        }
        let found = whose(&organizations, true, &[], None, Some("anything"));
        assert_eq!(found, Err(UnknownKey), "in partner mode a key must be right");
    }
}
