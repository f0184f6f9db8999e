//! The reply table (design.md 5): every situation, its status, its code and its words.
//!
//! Segment shows `message` to its user and nothing else of ours, so it says what to do. It never repeats what was
//! sent. Status codes decide the fate of events at the sender (segment.md 1.7): 429 and 5xx are sent again, other 4xx
//! are lost, so each is chosen for what it does there.

use std::any::Any;

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response as HttpResponse, StatusCode};
use serde::Serialize;

use super::cors::Withheld;
use crate::queue::{AppendError, Appended};
use crate::segment::{Malformed, Rejection, RejectionCode, Route};

/// Why a whole request is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The path is none of ours.
    UnknownPath,
    /// The path does not take this method.
    Method,
    /// No key, a wrong key, an unknown organization or a bad signature: never said which.
    Unauthenticated,
    /// The page that sent it is of an origin that the organization does not list.
    Origin,
    /// `Content-Encoding` is none that we unpack.
    Encoding,
    /// The body could not be unpacked or did not arrive whole.
    Body,
    /// The unpacked body is larger than allowed.
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The body is not what a sender may post.
    Malformed(Malformed),
    /// The only event of the request breaks a rule.
    Event {
        /// The rule.
        finding: Finding,
        /// The route it came by.
        route: Route,
    },
    /// The queue did not take it.
    Queue(AppendError),
    /// The body did not arrive in time.
    TooSlow,
    /// The service is about to end.
    Draining,
}

/// Why one event is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finding {
    /// It breaks a rule of the Segment spec.
    Rule(Rejection),
    /// It is larger than one event may be.
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
}

/// One refused event of a request whose other events were kept.
#[derive(Debug, Serialize)]
pub(super) struct Rejected {
    /// Its place in the batch, from 0.
    pub(super) index: usize,
    /// Its message id, if it has a readable one.
    #[serde(rename = "messageId")]
    pub(super) message_id: Option<String>,
    /// The stable code.
    pub(super) code: &'static str,
    /// What is wrong.
    pub(super) message: String,
    /// JSON pointer to the place in the event.
    pub(super) pointer: &'static str,
}

/// Bytes of a reply that the list of refused events may take. Segment keeps 16 KB of a reply (segment.md 1.7).
const LIST_BYTES: usize = 12 * 1024;

/// Seconds after which a sender should come again.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("5");

impl Finding {
    /// The stable code.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Rule(rejection) => rejection.code.as_str(),
            Self::TooLarge { .. } => "too_large",
        }
    }

    /// What a person should read.
    pub(super) fn message(&self) -> String {
        match self {
            Self::Rule(rejection) => rejection.message.clone(),
            Self::TooLarge { limit } => format!("The event is larger than {limit} bytes."),
        }
    }

    /// JSON pointer to the place in the event.
    pub(super) fn pointer(&self) -> &'static str {
        match self {
            Self::Rule(rejection) => rejection.pointer,
            Self::TooLarge { .. } => "",
        }
    }
}

impl Refusal {
    /// Status and stable code.
    pub(super) fn class(&self) -> (StatusCode, &'static str) {
        match self {
            Self::UnknownPath => (StatusCode::NOT_FOUND, "unknown_path"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::Unauthenticated => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::Origin => (StatusCode::FORBIDDEN, "origin_not_allowed"),
            Self::Encoding => (StatusCode::BAD_REQUEST, "unsupported_encoding"),
            Self::Body => (StatusCode::BAD_REQUEST, "unreadable_body"),
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Self::Malformed(malformed) => (malformed_status(malformed), malformed.code()),
            Self::Event { finding, route } => (finding_status(finding, *route), finding.code()),
            Self::Queue(AppendError::Full) => (StatusCode::TOO_MANY_REQUESTS, "queue_full"),
            Self::Queue(AppendError::Busy) => (StatusCode::TOO_MANY_REQUESTS, "overloaded"),
            Self::Queue(AppendError::Unavailable) => (StatusCode::SERVICE_UNAVAILABLE, "queue_unavailable"),
            Self::Queue(AppendError::TooSlow) | Self::TooSlow => {
                (StatusCode::SERVICE_UNAVAILABLE, "too_slow")
            }
            Self::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        }
    }

    /// What a person should read.
    fn message(&self) -> String {
        match self {
            Self::UnknownPath => {
                "There is nothing here. Events go to /webhook, /webhook/{organization} or /v1/batch."
                    .to_owned()
            }
            Self::Method => {
                "This path does not take this method: use POST (webhooks also take PUT and PATCH).".to_owned()
            }
            Self::Unauthenticated => {
                "The request could not be authenticated: check the key or the shared secret and the address."
                    .to_owned()
            }
            Self::Origin => "Pages of this origin may not send here: see cors_origins.".to_owned(),
            Self::Encoding => "Content-Encoding must be gzip, deflate, br, zstd or absent.".to_owned(),
            Self::Body => "The body did not arrive whole, or is not what Content-Encoding says.".to_owned(),
            Self::TooLarge { limit } => format!("The request is larger than {limit} bytes after unpacking."),
            Self::Malformed(malformed) => sentence(&malformed.to_string()),
            Self::Event { finding, .. } => finding.message(),
            Self::Queue(error) => {
                format!("{} Nothing was kept; send it again.", sentence(&error.to_string()))
            }
            Self::TooSlow => "The body did not arrive in time. Nothing was kept; send it again.".to_owned(),
            Self::Draining => "The service is restarting. Nothing was kept; send it again.".to_owned(),
        }
    }
}

fn malformed_status(malformed: &Malformed) -> StatusCode {
    match malformed {
        Malformed::NotJson { .. } | Malformed::WrongShape | Malformed::EmptyBatch => StatusCode::BAD_REQUEST,
        Malformed::TooManyEvents { .. } => StatusCode::PAYLOAD_TOO_LARGE,
    }
}

fn finding_status(finding: &Finding, route: Route) -> StatusCode {
    match (finding, route) {
        (Finding::TooLarge { .. }, _) => StatusCode::PAYLOAD_TOO_LARGE,
        (Finding::Rule(rejection), Route::Webhook)
            if rejection.code == RejectionCode::UnsupportedEventType =>
        {
            StatusCode::NOT_IMPLEMENTED
        }
        (Finding::Rule(_), Route::Webhook | Route::Tracking) => StatusCode::BAD_REQUEST,
    }
}

/// An error's words as a sentence.
fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map(|first| format!("{}{}.", first.to_uppercase(), letters.as_str())).unwrap_or_default()
}

/// The reply to a refused request.
pub(super) fn refuse(refusal: &Refusal) -> Response {
    #[derive(Serialize)]
    struct Body {
        message: String,
        code: &'static str,
    }
    let (status, code) = refusal.class();
    let mut response = json(status, &Body { message: refusal.message(), code });
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        response.headers_mut().insert(RETRY_AFTER, RETRY_SECONDS);
    }
    if *refusal == Refusal::Origin {
        response.extensions_mut().insert(Withheld);
    }
    response
}

/// The reply to a request whose valid events are on disk. A list of refused events that would be too long is cut, and
/// the rest of them counted.
pub(super) fn kept(appended: &Appended, rejected: &[Rejected]) -> Response {
    #[derive(Serialize)]
    struct Body<'a> {
        success: bool,
        accepted: usize,
        duplicates: usize,
        rejected: &'a [Rejected],
        #[serde(skip_serializing_if = "is_zero")]
        rejected_not_listed: usize,
    }
    let Appended { accepted, duplicates } = *appended;
    let mut bytes = 0;
    let listed = rejected.iter().take_while(|item| {
        bytes += serde_json::to_string(item).map_or(0, |item| item.len() + 1);
        bytes <= LIST_BYTES
    });
    let (rejected, rest) = rejected.split_at(listed.count());
    let body = Body { success: true, accepted, duplicates, rejected, rejected_not_listed: rest.len() };
    json(StatusCode::OK, &body)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// A small JSON reply.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("BUG: replies are plain structs of text and numbers");
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The reply when a handler panicked. Whether the events were kept is unknown, so the sender is told to repeat;
/// deduplication takes care of the rest.
pub(super) fn panicked(_: Box<dyn Any + Send>) -> HttpResponse<Body> {
    tracing::error!("a request handler panicked; please report it");
    let body =
        r#"{"message":"The service failed while it handled this request; send it again.","code":"internal"}"#;
    let mut response = HttpResponse::new(Body::from(body));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
