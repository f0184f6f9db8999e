//! The reply table (design.md 5): every situation, its status, its code and its words.
//!
//! Segment shows `message` to its user and nothing else of ours, so it says what to do. It never repeats what was
//! sent. Status codes decide the fate of events at the sender (segment.md 1.7): 429 and 5xx are sent again, other 4xx
//! are lost, so each is chosen for what it does there.

use std::any::Any;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response as HttpResponse, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use super::cors::Withheld;
use super::partner::Held;
use super::{Config, audience, body};
use crate::queue::{AppendError, Appended};
use crate::segment::{Malformed, Rejection, RejectionCode, Route};
use crate::telemetry::AuthenticationFailure;

/// Why a whole request is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The path is none of ours.
    UnknownPath,
    /// The path does not take this method.
    Method,
    /// No key, a wrong key, an unknown organization or a bad signature: never said which.
    Unauthenticated(AuthenticationFailure),
    /// The same, from a peer that has failed too often.
    TooManyFailures {
        /// When it may fail again.
        retry_after: Duration,
    },
    /// The organization is switched off.
    Disabled,
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
    /// The request is about an audience and names none.
    NotAnAudience,
    /// The only event of the request breaks a rule.
    Event {
        /// The rule.
        finding: Finding,
        /// The route it came by.
        route: Route,
    },
    /// It is a partner's, and partners have no more room in the queue.
    Held(Held),
    /// The queue did not take it.
    Queue(AppendError),
    /// The body did not arrive in time.
    TooSlow,
    /// The service is about to end.
    Draining,
}

/// Why one event is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It breaks a rule of the Segment spec.
    Rule(Rejection),
    /// It is larger than one event may be.
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
}

/// The reply to a refused request.
#[derive(Serialize, JsonSchema)]
pub(super) struct Refused {
    /// What a person should read; it never repeats what was sent.
    message: String,
    /// The stable code.
    code: &'static str,
}

/// The reply to a request whose valid events are on disk.
#[derive(Serialize, JsonSchema)]
pub(super) struct Kept<'a> {
    /// Always true: every valid event is on disk.
    success: bool,
    /// New events that were kept.
    accepted: usize,
    /// Events that had been kept before.
    duplicates: usize,
    /// The events that break a rule and were not kept.
    rejected: &'a [Rejected],
    /// How many more of them there are than fit into the list.
    #[serde(skip_serializing_if = "is_zero")]
    rejected_not_listed: usize,
    /// What was odd about events that were kept.
    #[serde(skip_serializing_if = "<[Warned]>::is_empty")]
    warnings: &'a [Warned],
    /// How many more of these there are than fit into the list.
    #[serde(skip_serializing_if = "is_zero")]
    warnings_not_listed: usize,
}

/// One refused event of a request whose other events were kept.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Rejected {
    /// Its place in the batch, from 0.
    pub(super) index: usize,
    /// Its message id, if it has a readable one.
    #[serde(rename = "messageId")]
    pub(super) message_id: Option<String>,
    /// The stable code.
    #[schemars(extend("enum" = Finding::codes()))]
    pub(super) code: &'static str,
    /// What is wrong.
    pub(super) message: String,
    /// JSON pointer to the place in the event.
    pub(super) pointer: &'static str,
}

/// Something odd about an event that was taken all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Warned {
    /// The event's place in the request, from 0.
    pub(super) index: usize,
    /// The stable code.
    pub(super) code: &'static str,
}

/// What became of a request whose valid events are on disk.
#[derive(Debug)]
pub(super) struct Taken {
    /// How many were new.
    pub(super) appended: Appended,
    /// Those that were refused.
    pub(super) rejected: Vec<Rejected>,
    /// What was odd about the others.
    pub(super) warned: Vec<Warned>,
}

/// Bytes of a reply that the list of refused events may take. Segment keeps 16 KB of a reply (segment.md 1.7).
const LIST_BYTES: usize = 12 * 1024;

/// Seconds after which a sender should come again.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("5");

impl Finding {
    /// Every code.
    pub(super) fn codes() -> Vec<&'static str> {
        let rules = RejectionCode::ALL.iter().map(|code| code.as_str());
        rules.chain([Self::TooLarge { limit: 0 }.code()]).collect()
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Rule(rejection) => rejection.code.as_str(),
            Self::TooLarge { .. } => "too_large",
        }
    }

    /// What a person should read.
    pub fn message(&self) -> String {
        match self {
            Self::Rule(rejection) => rejection.message.clone(),
            Self::TooLarge { limit } => format!("The event is larger than {limit} bytes."),
        }
    }

    /// JSON pointer to the place in the event.
    pub fn pointer(&self) -> &'static str {
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
            Self::Unauthenticated(_) => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::TooManyFailures { .. } => (StatusCode::TOO_MANY_REQUESTS, "too_many_failures"),
            Self::Disabled => (StatusCode::FORBIDDEN, "organization_disabled"),
            Self::Origin => (StatusCode::FORBIDDEN, "origin_not_allowed"),
            Self::Encoding => (StatusCode::BAD_REQUEST, "unsupported_encoding"),
            Self::Body => (StatusCode::BAD_REQUEST, "unreadable_body"),
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Self::Malformed(malformed) => (malformed_status(malformed), malformed.code()),
            Self::NotAnAudience => (StatusCode::BAD_REQUEST, "not_an_audience"),
            Self::Event { finding, route } => (finding_status(finding, *route), finding.code()),
            Self::Held(Held::Events) => (StatusCode::TOO_MANY_REQUESTS, "partner_events_waiting"),
            Self::Held(Held::Partners) => (StatusCode::TOO_MANY_REQUESTS, "too_many_partners"),
            Self::Held(Held::Disk) => (StatusCode::TOO_MANY_REQUESTS, "partner_disk_full"),
            Self::Queue(AppendError::Full) => (StatusCode::TOO_MANY_REQUESTS, "queue_full"),
            Self::Queue(AppendError::Busy) => (StatusCode::TOO_MANY_REQUESTS, "overloaded"),
            Self::Queue(AppendError::Unavailable) => (StatusCode::SERVICE_UNAVAILABLE, "queue_unavailable"),
            Self::Queue(AppendError::TooSlow) | Self::TooSlow => {
                (StatusCode::SERVICE_UNAVAILABLE, "too_slow")
            }
            Self::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        }
    }

    /// One of each that a request about an audience can meet.
    pub(super) fn of_audiences() -> [Self; 5] {
        let limit = audience::MAX_BODY;
        [Self::Encoding, Self::Body, Self::TooLarge { limit }, Self::NotAnAudience, Self::TooSlow]
    }

    /// One of each that a request on these routes can meet: the table itself, for the OpenAPI document.
    pub(super) fn every(route: Route, config: &Config) -> Vec<Self> {
        let body = config.max_body.as_u64();
        let refused = |finding| Self::Event { finding, route };
        let rules = RejectionCode::ALL.iter().map(|&code| {
            refused(Finding::Rule(Rejection { code, pointer: "", message: code.meaning().to_owned() }))
        });
        let others = [
            Self::UnknownPath,
            Self::Method,
            Self::Unauthenticated(AuthenticationFailure::NoCredentials),
            Self::TooManyFailures { retry_after: Duration::from_secs(1) },
            Self::Disabled,
            Self::Origin,
            Self::Encoding,
            Self::Body,
            Self::TooLarge { limit: body },
            Self::Malformed(Malformed::NotJson { line: 1, column: 1 }),
            Self::Malformed(Malformed::WrongShape),
            Self::Malformed(Malformed::EmptyBatch),
            Self::Malformed(Malformed::TooManyEvents {
                found: config.max_events.saturating_add(1),
                limit: config.max_events,
            }),
            refused(Finding::TooLarge { limit: config.max_event.as_u64() }),
            Self::Held(Held::Events),
            Self::Held(Held::Partners),
            Self::Held(Held::Disk),
            Self::Queue(AppendError::Full),
            Self::Queue(AppendError::Busy),
            Self::Queue(AppendError::Unavailable),
            Self::Queue(AppendError::TooSlow),
            Self::TooSlow,
            Self::Draining,
        ];
        others.into_iter().chain(rules).collect()
    }

    /// What a person should read.
    pub(super) fn message(&self) -> String {
        match self {
            Self::UnknownPath => {
                "There is nothing here. Events go to /webhook, /webhook/{organization} or /v1/batch."
                    .to_owned()
            }
            Self::Method => {
                "This path does not take this method: use POST (webhooks also take PUT and PATCH).".to_owned()
            }
            Self::Unauthenticated(_) => {
                "The request could not be authenticated: check the key or the shared secret and the address."
                    .to_owned()
            }
            Self::TooManyFailures { .. } => {
                "Too many requests from this address could not be authenticated: check the key or the shared secret."
                    .to_owned()
            }
            Self::Disabled => "This organization is switched off here. Whoever runs the service can switch it on.".to_owned(),
            Self::Origin => "Pages of this origin may not send here: see cors_origins.".to_owned(),
            Self::Encoding => "Content-Encoding must be gzip, deflate, br, zstd or absent.".to_owned(),
            Self::Body => format!(
                "The body did not arrive whole, is not what Content-Encoding says, or has more than {} compressed members.",
                body::MAX_MEMBERS
            ),
            Self::TooLarge { limit } => format!("The request is larger than {limit} bytes after unpacking."),
            Self::Malformed(malformed) => sentence(&malformed.to_string()),
            Self::NotAnAudience => "This takes {\"audienceName\": \"…\"} or {\"externalId\": \"…\"}, as Webhook Audiences sends \
                                    it. Events go to /webhook."
                .to_owned(),
            Self::Event { finding, .. } => finding.message(),
            Self::Held(held) => kept_nothing(&held.to_string()),
            Self::Queue(error) => kept_nothing(&error.to_string()),
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

fn kept_nothing(words: &str) -> String {
    format!("{} Nothing was kept; send it again.", sentence(words))
}

/// An error's words as a sentence.
fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map(|first| format!("{}{}.", first.to_uppercase(), letters.as_str())).unwrap_or_default()
}

/// Whether the sender is told when to come again.
pub(super) fn come_again(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

/// The reply to a refused request.
pub(super) fn refuse(refusal: &Refusal) -> Response {
    let (status, code) = refusal.class();
    let mut response = json(status, &Refused { message: refusal.message(), code });
    if come_again(status) {
        response.headers_mut().insert(RETRY_AFTER, retry_after(refusal));
    }
    if *refusal == Refusal::Origin {
        response.extensions_mut().insert(Withheld);
    }
    response
}

/// Seconds after which it is worth a try, never zero.
fn retry_after(refusal: &Refusal) -> HeaderValue {
    match refusal {
        Refusal::TooManyFailures { retry_after } => {
            HeaderValue::from(retry_after.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX).max(1))
        }
        _ => RETRY_SECONDS,
    }
}

/// The reply to a request whose valid events are on disk. Lists that would be too long are cut and the rest of them
/// counted; refusals go before warnings.
pub(super) fn kept(taken: &Taken) -> Response {
    let Appended { accepted, duplicates } = taken.appended;
    let mut room = LIST_BYTES;
    let (rejected, rejected_rest) = listed(&taken.rejected, &mut room);
    let (warnings, warnings_rest) = listed(&taken.warned, &mut room);
    let body = Kept {
        success: true,
        accepted,
        duplicates,
        rejected,
        rejected_not_listed: rejected_rest.len(),
        warnings,
        warnings_not_listed: warnings_rest.len(),
    };
    json(StatusCode::OK, &body)
}

/// The items of a list for which there is room, and the rest of them.
fn listed<'a, T: Serialize>(items: &'a [T], room: &mut usize) -> (&'a [T], &'a [T]) {
    let fit = items.iter().take_while(|item| {
        let bytes = serde_json::to_string(item).map_or(0, |item| item.len() + 1);
        let fits = bytes <= *room;
        *room = if fits { *room - bytes } else { 0 };
        fits
    });
    items.split_at(fit.count())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// A small JSON reply.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("BUG: replies are plain structs of text and numbers");
    let mut response = printed(body.into());
    *response.status_mut() = status;
    response
}

/// JSON that has been printed already.
pub(super) fn printed(body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Status and code when a handler panicked.
pub(super) const PANICKED: (StatusCode, &str) = (StatusCode::INTERNAL_SERVER_ERROR, "internal");

/// The reply when a handler panicked. Whether the events were kept is unknown, so the sender is told to repeat;
/// deduplication takes care of the rest.
pub(super) fn panicked(_: Box<dyn Any + Send>) -> HttpResponse<Body> {
    tracing::error!("a request handler panicked; please report it");
    let (status, code) = PANICKED;
    let message = "The service failed while it handled this request; send it again.".to_owned();
    json(status, &Refused { message, code })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// A new refusal does not compile here until it has a number, and then fails until it stands in `every` or `of_audiences`.
    #[test]
    fn every_refusal_is_in_the_table() {
        const COUNT: usize = 24;
        let number = |refusal: &Refusal| match refusal {
            Refusal::UnknownPath => 0,
            Refusal::Method => 1,
            Refusal::Unauthenticated(_) => 2,
            Refusal::Encoding => 3,
            Refusal::Body => 4,
            Refusal::TooLarge { .. } => 5,
            Refusal::Malformed(Malformed::NotJson { .. }) => 6,
            Refusal::Malformed(Malformed::WrongShape) => 7,
            Refusal::Malformed(Malformed::EmptyBatch) => 8,
            Refusal::Malformed(Malformed::TooManyEvents { .. }) => 9,
            Refusal::Event { finding: Finding::TooLarge { .. }, .. } => 10,
            Refusal::Event { finding: Finding::Rule(_), .. } => 11,
            Refusal::Queue(AppendError::Full) => 12,
            Refusal::Queue(AppendError::Busy) => 13,
            Refusal::Queue(AppendError::Unavailable) => 14,
            Refusal::Queue(AppendError::TooSlow) | Refusal::TooSlow => 15,
            Refusal::Draining => 16,
            Refusal::TooManyFailures { .. } => 17,
            Refusal::Origin => 18,
            Refusal::Held(Held::Events) => 19,
            Refusal::Held(Held::Partners) => 20,
            Refusal::Held(Held::Disk) => 21,
            Refusal::NotAnAudience => 22,
            Refusal::Disabled => 23,
        };
        let of_audiences = Refusal::of_audiences();
        for route in [Route::Webhook, Route::Tracking] {
            let every = Refusal::every(route, &Config::default());
            let every = every.iter().chain(&of_audiences);
            assert_eq!(every.map(number).collect::<HashSet<_>>(), (0..COUNT).collect());
        }
    }
}
