//! What goes back over the wire: a small response body that can also break off half way.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use serde::Serialize;

use super::fault::Scripted;

/// The body of a success.
pub(super) const SUCCESS: &str = r#"{"status":"success"}"#;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// How the server ends a connection without finishing its answer; travels as the error of the service or of
/// the response body, which is how hyper lets go of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Cut {
    /// TCP reset.
    #[error("the connection is reset on demand")]
    Reset,
    /// An ordinary close.
    #[error("the answer breaks off on demand")]
    Close,
    /// The request itself broke off.
    #[error("the request could not be read")]
    Unreadable,
}

/// A response body.
#[derive(Debug)]
pub(super) enum AnswerBody {
    /// The rest of a body that is sent in one piece.
    Whole(Bytes),
    /// A first part, after which the connection is to be closed.
    Broken(Bytes),
    /// The first part is with hyper, but perhaps not yet with the operating system.
    Flushing,
    /// The moment to let go.
    Breaking,
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match &mut *self {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Broken(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Flushing;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Flushing => {
                // An error makes hyper drop what it has not yet written: one idle turn lets it write first.
                *self = Self::Breaking;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Self::Breaking => Poll::Ready(Some(Err(Cut::Close))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
            Self::Broken(_) | Self::Flushing | Self::Breaking => SizeHint::default(),
        }
    }
}

/// An answer with a JSON text.
pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::Whole(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// An answer with a value as JSON.
pub(super) fn json_of(status: StatusCode, value: &impl Serialize) -> Response<AnswerBody> {
    let body = serde_json::to_vec(value).expect("BUG: these values have text keys and no fallible part");
    json(status, body)
}

/// An error with a message that is made for this one request.
pub(super) fn error(status: StatusCode, message: &str) -> Response<AnswerBody> {
    json_of(status, &serde_json::json!({ "status": "error", "message": message }))
}

/// 405 with the methods that are allowed.
pub(super) fn wrong_method(allowed: &'static str) -> Response<AnswerBody> {
    let mut response =
        json(StatusCode::METHOD_NOT_ALLOWED, r#"{"status":"error","message":"method not allowed"}"#);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// The answer that a fault rule dictates.
pub(super) fn scripted(scripted: Scripted) -> Response<AnswerBody> {
    let mut response = json(scripted.status, scripted.body);
    if let Some(retry_after) = scripted.retry_after {
        response.headers_mut().insert(RETRY_AFTER, retry_after);
    }
    response
}

/// The same, but broken off after half of the announced body.
pub(super) fn half(mut answer: Scripted) -> Response<AnswerBody> {
    let length = answer.body.len();
    let half = answer.body.split_to(length / 2);
    let mut response = scripted(answer).map(|_| AnswerBody::Broken(half));
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    response
}

/// The result of one request: an answer, or the end of its connection.
pub(super) type Answer = Result<Response<AnswerBody>, Cut>;
