//! Bodies of requests: of the type that no page of another origin can send unasked, bounded, and read whole.

use std::error::Error;

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// The type of most bodies. A browser asks before it lets a page send it elsewhere, and is never told yes.
pub(super) const JSON: &str = "application/json";

/// The type of lines of JSON.
pub(super) const LINES: &str = "application/x-ndjson";

/// Bytes of a body of JSON.
pub(super) const MAX: usize = 64 << 10;

/// Whether the body is said to be of a type.
pub(super) fn is_of(headers: &HeaderMap, wanted: &str) -> bool {
    let said = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    said.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case(wanted))
}

/// Reads a body.
pub(super) async fn read(request: Request, limit: usize) -> Result<Bytes, Problem> {
    match Limited::new(request.into_body(), limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if is_length_limit(error.as_ref()) => Err(Problem::BodyTooLarge(limit)),
        Err(_) => Err(Problem::Body("The body did not arrive whole.".to_owned())),
    }
}

fn is_length_limit(error: &(dyn Error + 'static)) -> bool {
    error.is::<LengthLimitError>() || error.source().is_some_and(is_length_limit)
}

/// A body of JSON, at most [`MAX`] bytes of it; none is an empty object.
#[derive(Debug)]
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let body = read(request, MAX).await?;
        let said = body.trim_ascii();
        parse(if said.is_empty() { b"{}" } else { said }).map(Self)
    }
}

/// Reads JSON. What is wrong is told to whoever sent it, and to nobody else.
pub(super) fn parse<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    serde_json::from_slice(body)
        .map_err(|error| Problem::Body(format!("The body is not what this takes: {error}.")))
}
