//! Reading a body: unpacked, bounded, in time.

use std::error::Error;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::reply::Refusal;

/// Spells the encoding as the layer that unpacks knows it: encodings are the same in any case, and `x-gzip` is `gzip`
/// (RFC 9110, 8.4.1).
pub(super) fn spell_encoding(mut request: Request) -> Request {
    const KNOWN: [(&str, &str); 6] = [
        ("gzip", "gzip"),
        ("x-gzip", "gzip"),
        ("deflate", "deflate"),
        ("br", "br"),
        ("zstd", "zstd"),
        ("identity", "identity"),
    ];
    if let Some(encoding) = request.headers_mut().get_mut(CONTENT_ENCODING)
        && let Some((_, name)) =
            KNOWN.iter().find(|(name, _)| encoding.as_bytes().eq_ignore_ascii_case(name.as_bytes()))
    {
        *encoding = HeaderValue::from_static(name);
    }
    request
}

/// Whether the content type says that the body is a form.
pub(super) fn declared_form(headers: &HeaderMap) -> bool {
    let declared = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let name = declared.split(';').next().unwrap_or_default().trim();
    name.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Reads a body that has been unpacked by the layer before, up to `limit` bytes.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    limit: u64,
    patience: Duration,
) -> Result<Bytes, Refusal> {
    let too_large = Refusal::TooLarge { limit };
    // The layer takes this header away from what it unpacks; what is left is foreign to it.
    if headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(Refusal::Encoding);
    }
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large);
    }
    let limited = Limited::new(body, usize::try_from(limit).unwrap_or(usize::MAX));
    match tokio::time::timeout(patience, limited.collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if is_length_limit(error.as_ref()) => Err(too_large),
        Ok(Err(_)) => Err(Refusal::Body),
        Err(_) => Err(Refusal::TooSlow),
    }
}

fn is_length_limit(error: &(dyn Error + 'static)) -> bool {
    error.is::<LengthLimitError>() || error.source().is_some_and(is_length_limit)
}
