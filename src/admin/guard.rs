//! Who may do what: asked before every handler. And the audit line, written after every change, done or refused.
//!
//! Three things stand between a page in somebody's browser and this side, since without a token the browser's machine
//! is all that is asked for: a page cannot name another host than its own, so a name that leads here is refused; it
//! says its origin when it posts; and it cannot send a body of the types that are taken here.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::{HOST, HeaderName, HeaderValue, ORIGIN};
use uuid::Uuid;

use super::Admin;
use super::address::{Kind, Operation};
use super::body;
use super::problem::{Code, Problem};
use super::tokens::Who;

/// The header with which a request is found again in the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest request id that is taken over.
const LONGEST_ID: usize = 64;

/// The id of a request: the sender's, if it has a good one.
#[derive(Debug, Clone)]
struct RequestId(HeaderValue);

impl RequestId {
    fn of(headers: &HeaderMap) -> Self {
        let is_good = |id: &&HeaderValue| {
            let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            (1..=LONGEST_ID).contains(&id.len()) && id.as_bytes().iter().all(plain)
        };
        let given = headers.get(REQUEST_ID).filter(is_good).cloned();
        Self(given.unwrap_or_else(|| {
            let made = Uuid::new_v4().to_string();
            HeaderValue::from_str(&made).expect("BUG: hex digits and hyphens are a header's value")
        }))
    }
}

/// What a change was about; a handler says it with its answer.
#[derive(Debug, Clone, Default)]
pub(super) struct Changed {
    /// On what: an organization, or how dead letters were chosen. Nothing about a person.
    pub(super) on: String,
    /// How many were changed.
    pub(super) count: u64,
}

impl Changed {
    /// Puts it beside an answer.
    pub(super) fn beside(self, mut response: Response) -> Response {
        response.extensions_mut().insert(self);
        response
    }
}

/// Lets in whoever is known, for every path, so that a stranger does not learn which there are.
pub(super) async fn admit(State(admin): State<Arc<Admin>>, mut request: Request, next: Next) -> Response {
    let id = RequestId::of(request.headers());
    let mut response = match admin.tokens.who(request.headers()) {
        None => Problem::Unauthorized.into_response(),
        // The metrics are about nobody, and are scraped by any name.
        Some(_) if admin.tokens.is_open() && !is_metrics(&request) && !is_by_known_name(&request) => {
            Problem::ForeignPage.into_response()
        }
        Some(who) => {
            request.extensions_mut().insert(who);
            request.extensions_mut().insert(id.clone());
            next.run(request).await
        }
    };
    response.headers_mut().insert(REQUEST_ID, id.0);
    response
}

fn is_metrics(request: &Request) -> bool {
    request.uri().path() == Operation::Metrics.path()
}

/// Lets through what the role of whoever asks allows, and tells every change.
pub(super) async fn let_through(
    State(operation): State<Operation>,
    request: Request,
    next: Next,
) -> Response {
    let who = request.extensions().get::<Who>().cloned();
    let id = request.extensions().get::<RequestId>().cloned();
    let response = match refusal(operation, who.as_ref(), &request) {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    };
    if let (Kind::Change, Some(who), Some(RequestId(id))) = (operation.kind(), who, id) {
        let changed = response.extensions().get::<Changed>().cloned().unwrap_or_default();
        let result = response.extensions().get::<Code>().map_or("done", |Code(code)| code);
        tracing::info!(
            target: "audit",
            who = &*who.name,
            role = who.role.as_str(),
            action = operation.name(),
            on = changed.on,
            changed = changed.count,
            result,
            status = response.status().as_u16(),
            request_id = id.to_str().unwrap_or_default(),
            "a change over the private side"
        );
    }
    response
}

fn refusal(operation: Operation, who: Option<&Who>, request: &Request) -> Option<Problem> {
    if who.is_none_or(|who| who.role < operation.kind().role()) {
        return Some(Problem::Role);
    }
    let media_type = operation.media_type()?;
    if is_of_another_origin(request) {
        return Some(Problem::ForeignPage);
    }
    (!body::is_of(request.headers(), media_type)).then_some(Problem::MediaType(media_type))
}

/// The host that a request names.
fn host(request: &Request) -> Option<&str> {
    let named = || request.headers().get(HOST)?.to_str().ok();
    request.uri().authority().map(http::uri::Authority::as_str).or_else(named)
}

/// Whether the host is named by an address or as this machine: a page that has made a name of its own lead here cannot.
fn is_by_known_name(request: &Request) -> bool {
    let host = host(request).and_then(|host| host.parse::<http::uri::Authority>().ok());
    let name = host.as_ref().map(|host| host.host().trim_matches(['[', ']']));
    name.is_some_and(|name| name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok())
}

/// Whether a page sent it that is not of this address.
fn is_of_another_origin(request: &Request) -> bool {
    let Some(origin) = request.headers().get(ORIGIN) else { return false };
    let origin = origin.to_str().ok().and_then(|origin| Some(origin.split_once("://")?.1));
    origin.is_none() || origin != host(request)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request {
        let request = headers
            .iter()
            .fold(http::Request::post("/api/drain"), |request, (name, value)| request.header(*name, *value));
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn names_that_anybody_could_have_are_not_known() {
        for (host, known) in [
            ("127.0.0.1:9090", true),
            ("[::1]:9090", true),
            ("192.0.2.7", true),
            ("localhost:9090", true),
            ("localhost.example.com:9090", false),
            ("127.0.0.1.example.com", false),
            ("", false),
        ] {
            assert_eq!(is_by_known_name(&request(&[("host", host)])), known, "{host}");
        }
        assert!(!is_by_known_name(&request(&[])));
    }

    #[test]
    fn a_page_is_known_by_its_origin() {
        for (host, origin, foreign) in [
            ("127.0.0.1:9090", None, false),
            ("127.0.0.1:9090", Some("http://127.0.0.1:9090"), false),
            ("127.0.0.1:9090", Some("http://127.0.0.1:9091"), true),
            ("127.0.0.1:9090", Some("https://shop.example.com"), true),
            ("127.0.0.1:9090", Some("null"), true),
        ] {
            let origin = origin.map(|origin| ("origin", origin));
            let headers: Vec<_> = [("host", host)].into_iter().chain(origin).collect();
            assert_eq!(is_of_another_origin(&request(&headers)), foreign, "{origin:?}");
        }
    }

    #[test]
    fn a_request_keeps_a_good_id_and_gets_one_otherwise() {
        let id = |id: &str| {
            let headers = HeaderMap::from_iter([(REQUEST_ID, id.parse().unwrap())]);
            RequestId::of(&headers).0.to_str().unwrap().to_owned()
        };
        assert_eq!(id("req-7_x.1"), "req-7_x.1");
        for bad in ["", "a b", "someone@example.com", &"x".repeat(65)] {
            assert_eq!(id(bad).len(), 36, "{bad}");
        }
    }
}
