//! Pages of other origins: what a browser asks before it sends, and what lets the page read our reply (the Fetch
//! standard, "CORS protocol").
//!
//! Invariants:
//! * A preflight is answered without knowing whose request follows: it carries neither key nor body. An organization's
//!   list is enforced on the request itself, where a stranger's origin is refused.
//! * A preflight allows the headers that it asks for: tracing scripts add theirs to every request of a page, a browser
//!   that may not send them sends no event, and nothing here would show it. None of them is read.
//! * Replies say nothing about anybody and cookies are never used, so any page may read any reply; errors above all,
//!   or a browser hides their message. Only a page whose origin was refused is shown nothing.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ALLOW,
    HeaderValue, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, Method, StatusCode};

use super::Ingress;
use super::reply::Refusal;
use crate::organization::Organization;

const ANY: HeaderValue = HeaderValue::from_static("*");

/// The headers that libraries set in browsers (segment.md 2.3), for a question that names none; `AnonymousId` is
/// RudderStack's.
const HEADERS: &str = "authorization, content-type, content-encoding, x-retry-count, anonymousid";

/// The longest list of headers that is allowed as it was asked for.
const MAX_ASKED_BYTES: usize = 2_048;

/// A day; browsers remember for as long as they see fit.
const MAX_AGE: HeaderValue = HeaderValue::from_static("86400");

/// What a page may read beside the body: when to come again.
const EXPOSED: HeaderValue = HeaderValue::from_static("retry-after");

/// On a reply: the page that asked must not read it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Withheld;

/// The answer to `OPTIONS` where events come in, with the methods that are taken there.
pub(super) fn preflight(
    State(ingress): State<Arc<Ingress>>,
    headers: &HeaderMap,
    methods: &[Method],
) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    let key_header = ingress.config.key_header.as_str();
    let allowed = if let Some(asked) = asked_headers(headers) {
        asked.clone()
    } else if key_header.is_empty() {
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
    headers.insert(VARY, HeaderValue::from_static("access-control-request-headers"));
    response
}

/// The list of headers that a preflight asks for, if it is one of sane length.
fn asked_headers(headers: &HeaderMap) -> Option<&HeaderValue> {
    let asked = headers.get(ACCESS_CONTROL_REQUEST_HEADERS)?;
    let is_name = |name: &[u8]| HeaderName::from_bytes(name.trim_ascii()).is_ok();
    let is_list = asked.len() <= MAX_ASKED_BYTES && asked.as_bytes().split(|&byte| byte == b',').all(is_name);
    is_list.then_some(asked)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// asked for | whether it is allowed as it stands
    #[test]
    fn a_list_of_names_is_allowed_as_asked() {
        let names = |count: usize| vec!["x-header"; count].join(",");
        for (asked, expected) in [
            ("content-type", true),
            ("baggage,content-type, sentry-trace,traceparent,x-datadog-trace-id", true),
            ("", false),
            ("a,,b", false),
            ("a b", false),
            ("*/*", false),
            (names(200).as_str(), true),
            (names(300).as_str(), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCESS_CONTROL_REQUEST_HEADERS, asked.parse().unwrap());
            assert_eq!(asked_headers(&headers).is_some(), expected, "{asked}");
        }
        assert!(asked_headers(&HeaderMap::new()).is_none());
    }
}
