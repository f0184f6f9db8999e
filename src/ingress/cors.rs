//! Pages of other origins: what a browser asks before it sends, and what lets the page read our reply (the Fetch
//! standard, "CORS protocol").
//!
//! Invariants:
//! * A preflight is answered without knowing whose request follows: it carries neither key nor body. An organization's
//!   list is enforced on the request itself, where a stranger's origin is refused.
//! * Replies say nothing about anybody and cookies are never used, so any page may read any reply; errors above all,
//!   or a browser hides their message. Only a page whose origin was refused is shown nothing.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, HeaderValue, ORIGIN,
};
use http::{HeaderMap, Method, StatusCode};

use super::Ingress;
use super::reply::Refusal;
use crate::organization::Organization;

const ANY: HeaderValue = HeaderValue::from_static("*");

/// The headers that libraries set in browsers (segment.md 2.3); `AnonymousId` is RudderStack's.
const HEADERS: &str = "authorization, content-type, content-encoding, x-retry-count, anonymousid";

/// A day; browsers remember for as long as they see fit.
const MAX_AGE: HeaderValue = HeaderValue::from_static("86400");

/// What a page may read beside the body: when to come again.
const EXPOSED: HeaderValue = HeaderValue::from_static("retry-after");

/// On a reply: the page that asked must not read it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Withheld;

/// The answer to `OPTIONS` where events come in, with the methods that are taken there.
pub(super) fn preflight(State(ingress): State<Arc<Ingress>>, methods: &[Method]) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    let key_header = ingress.config.key_header.as_str();
    let allowed = if key_header.is_empty() {
        HeaderValue::from_static(HEADERS)
    } else {
        // The settings have seen to it that this is a header's name.
        HeaderValue::try_from(format!("{HEADERS}, {}", key_header.to_ascii_lowercase()))
            .unwrap_or(HeaderValue::from_static(HEADERS))
    };
    let methods: Vec<&str> = methods.iter().map(Method::as_str).collect();
    let methods =
        HeaderValue::try_from(methods.join(", ")).expect("BUG: the names of methods are visible text");
    let headers = response.headers_mut();
    headers.insert(ALLOW, methods.clone());
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    response
}

/// Lets the page that sent a request read the reply.
pub(super) fn let_read(response: &mut Response) {
    if response.extensions().get::<Withheld>().is_none() {
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
        response.headers_mut().insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}

/// Whether the organization takes requests of the page that sent this one. Servers and apps name no origin and are not
/// asked for one.
pub(super) fn check(headers: &HeaderMap, organization: &Organization) -> Result<(), Refusal> {
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    // What is no text is no origin of anybody, and covered by `*` only.
    let origin = origin.to_str().unwrap_or_default();
    if organization.cors_origins.iter().any(|allowed| allowed.covers(origin)) {
        Ok(())
    } else {
        Err(Refusal::Origin)
    }
}
