//! `GET /v1/pixel/{type}`: an event in the address of an image, for e-mails and pages without script (segment.md 2.1).
//!
//! Invariants: the answer is always 200 and the image, whatever became of the event, since a broken image is all that
//! a refusal could show; the event goes the same way as a posted one, is logged and counted like it, and with the
//! status that a post would have got.
//!
//! An event without `messageId` is known by its bytes, unlike a posted one: an e-mail that is opened twice within `queue.dedup_window` is
//! one event. Who counts each opening puts an id of its own into each address.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};
use url::form_urlencoded;

use super::receive::Entry;
use super::{Ingress, enter};
use crate::segment::{Kind, Route, event_of};

/// The image: 1×1 points, transparent.
const GIF: &[u8] = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

/// Both alphabets (the other one's letters are replaced first), with padding or without.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Takes the event in the address in, and answers with the image.
pub(super) async fn pixel(
    State(ingress): State<Arc<Ingress>>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    // A proxy that only asks whether the image is there has shown it to nobody.
    if request.method() == Method::GET {
        let kind = path.ok().and_then(|Path(name)| Kind::ALL.into_iter().find(|kind| kind.as_str() == name));
        take(ingress, kind, request).await;
    }
    let mut image = Response::new(Body::from(GIF));
    image.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("image/gif"));
    // A kept copy would hide the next event.
    image.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    image
}

async fn take(ingress: Arc<Ingress>, kind: Option<Kind>, request: Request) {
    let Some(kind) = kind else {
        let status = StatusCode::NOT_FOUND.as_u16();
        tracing::warn!(status, code = "unknown_path", "a pixel's address names no type of event");
        ingress.metrics.reply(Route::Tracking.as_str(), status, std::time::Duration::ZERO, None);
        return;
    };
    let (mut head, _) = request.into_parts();
    let body = event(head.uri.query().unwrap_or_default());
    // They are about the body that a GET does not have.
    head.headers.remove(CONTENT_LENGTH);
    head.headers.remove(CONTENT_ENCODING);
    let request = Request::from_parts(head, Body::from(body));
    // What became of the event stands in the log and in the metrics.
    let _ = enter(State(ingress), request, Entry::pixel(kind)).await;
}

/// The event: the JSON in `data`, or the parameters as its members. What is no base64 is no JSON either, and refused
/// as such.
fn event(query: &str) -> Vec<u8> {
    let parameters = || form_urlencoded::parse(query.as_bytes());
    match parameters().find(|(name, _)| name == "data") {
        Some((_, data)) => {
            // In a query a bare `+` means a blank.
            let letters = data.replace([' ', '+'], "-").replace('/', "_");
            LENIENT.decode(letters).unwrap_or_default()
        }
        None => event_of(parameters()).into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_base64_of_either_alphabet_with_or_without_padding() {
        for (query, expected) in [
            ("data=eyJhIjoiPz8-In0=", r#"{"a":"??>"}"#),
            ("data=eyJhIjoiPz8%2BIn0%3D", r#"{"a":"??>"}"#),
            ("data=eyJhIjoiPz8+In0", r#"{"a":"??>"}"#),
            ("x=1&data=e30", "{}"),
            ("data=%25%25", ""),
            ("data=", ""),
            ("writeKey=wk&userId=u+1", r#"{"writeKey":"wk","userId":"u 1"}"#),
            ("", "{}"),
        ] {
            assert_eq!(String::from_utf8(event(query)).unwrap(), expected, "{query}");
        }
    }
}
