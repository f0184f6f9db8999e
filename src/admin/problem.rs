//! Every refusal of the private side: its status, its stable code, and words that say what to do next.

use std::any::Any;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::{Response as HttpResponse, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use crate::queue::{AppendError, State};

/// Why a request is not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    /// The path is none of ours.
    UnknownPath,
    /// The path does not take this method.
    Method,
    /// No token, or one that nobody has.
    Unauthorized,
    /// The token's role does not allow it.
    Role,
    /// A browser may have been made to send it.
    ForeignPage,
    /// The body is not said to be of the type that is taken here.
    MediaType(&'static str),
    /// A parameter of the query or the path is unknown, stands twice, or has no good value.
    Parameter(String),
    /// The body is not what is taken here.
    Body(String),
    /// The body is larger than is taken here.
    BodyTooLarge(usize),
    /// No event has this number.
    UnknownEvent,
    /// The event has ended, with this status.
    NotWaiting(State),
    /// No dead letter has this number.
    UnknownLetter,
    /// No organization has this name.
    UnknownOrganization,
    /// The queue cannot be read.
    Queue,
    /// The queue failed amid a decision about dead letters, of which so many are done.
    Halfway(u64),
    /// The part of an export is not the next one: so many lines were taken.
    NotNext(u64),
    /// The queue did not take events.
    Append(AppendError),
    /// What was asked for could not be written down, so it was not done.
    NotSaved,
    /// A bug in the handler.
    Panicked,
}

/// The answer to a request that is not carried out.
#[derive(Serialize, JsonSchema)]
pub(super) struct Refused {
    /// What a person should read.
    message: String,
    /// The stable code.
    code: &'static str,
}

/// The code of a refusal, for whoever looks at an answer from outside.
#[derive(Debug, Clone, Copy)]
pub(super) struct Code(pub(super) &'static str);

impl Problem {
    /// Status and stable code.
    pub(super) fn class(&self) -> (StatusCode, &'static str) {
        match self {
            Self::UnknownPath => (StatusCode::NOT_FOUND, "unknown_path"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::Role => (StatusCode::FORBIDDEN, "role_not_allowed"),
            Self::ForeignPage => (StatusCode::FORBIDDEN, "foreign_page"),
            Self::MediaType(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"),
            Self::Parameter(_) => (StatusCode::BAD_REQUEST, "bad_parameter"),
            Self::Body(_) => (StatusCode::BAD_REQUEST, "bad_body"),
            Self::BodyTooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Self::UnknownEvent => (StatusCode::NOT_FOUND, "unknown_event"),
            Self::NotWaiting(_) => (StatusCode::CONFLICT, "not_waiting"),
            Self::UnknownLetter => (StatusCode::NOT_FOUND, "unknown_dead_letter"),
            Self::UnknownOrganization => (StatusCode::NOT_FOUND, "unknown_organization"),
            Self::Queue | Self::Halfway(_) => (StatusCode::SERVICE_UNAVAILABLE, "queue_failed"),
            Self::NotNext(_) => (StatusCode::CONFLICT, "not_next"),
            Self::Append(AppendError::Full) => (StatusCode::TOO_MANY_REQUESTS, "queue_full"),
            Self::Append(AppendError::Busy) => (StatusCode::TOO_MANY_REQUESTS, "overloaded"),
            Self::Append(AppendError::Unavailable) => (StatusCode::SERVICE_UNAVAILABLE, "queue_unavailable"),
            Self::Append(AppendError::TooSlow) => (StatusCode::SERVICE_UNAVAILABLE, "too_slow"),
            Self::NotSaved => (StatusCode::SERVICE_UNAVAILABLE, "not_saved"),
            Self::Panicked => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }

    /// What a person should read.
    pub(super) fn message(&self) -> String {
        let fixed = match self {
            Self::UnknownPath => "There is nothing here. /api/openapi.json lists what there is.",
            Self::Method => "This path does not take this method; the header `Allow` lists those it takes.",
            Self::Unauthorized => {
                "This needs `Authorization: Bearer` with a token of admin.token_file or admin.tokens_file."
            }
            Self::Role => "This needs a token with the role `operate`; yours has the role `read`.",
            Self::ForeignPage => {
                "A page of another origin may do nothing here. Without a token, use an IP address or localhost."
            }
            Self::MediaType(expected) => {
                return format!(
                    "Send the header `Content-Type: {expected}`, so that no page in a browser can send this for you."
                );
            }
            Self::Parameter(message) | Self::Body(message) => return message.clone(),
            Self::BodyTooLarge(limit) => {
                return format!("The body has more than {limit} bytes; send it in parts.");
            }
            Self::UnknownEvent => {
                "No such event: it was never accepted, or its record is older than queue.history_retention."
            }
            Self::NotWaiting(State::Dead) => {
                "The event does not wait: its status is dead. /api/dead-letters/replay sends a dead letter again."
            }
            Self::NotWaiting(state) => {
                return format!("The event does not wait: its status is {}.", state.as_str());
            }
            Self::UnknownLetter => {
                "No dead letter has this number. /api/events/{number} shows where the event is now."
            }
            Self::UnknownOrganization => "No organization has this name. /api/organizations lists them.",
            Self::Queue => "The queue could not be read or written; see the log.",
            Self::Halfway(changed) => {
                return format!(
                    "The queue failed, and this much was done before: {changed}. See the log, then send the same again."
                );
            }
            Self::NotNext(taken) => {
                return format!(
                    "Lines of this export that have been imported here: {taken}. Go on behind them."
                );
            }
            Self::Append(error) => return format!("Nothing was kept: {error}. Send the same again later."),
            Self::NotSaved => {
                "It could not be written to the queue's directory, so nothing was done; see the log."
            }
            Self::Panicked => "The service failed while it handled this request; see the log, and report it.",
        };
        fixed.to_owned()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, code) = self.class();
        let mut response = json(status, &Refused { message: self.message(), code });
        response.extensions_mut().insert(Code(code));
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// An answer as JSON. No cache keeps it: it may hold personal data, and is old at once.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("BUG: answers are plain structs of text and numbers");
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(super::body::JSON));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The answer when a handler has panicked.
pub(super) fn panicked(_: Box<dyn Any + Send>) -> HttpResponse<Body> {
    tracing::error!("a handler of the private side panicked; please report it");
    Problem::Panicked.into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// One of each.
    fn every() -> Vec<Problem> {
        let appends = [AppendError::Full, AppendError::Busy, AppendError::Unavailable, AppendError::TooSlow];
        let others = [
            Problem::UnknownPath,
            Problem::Method,
            Problem::Unauthorized,
            Problem::Role,
            Problem::ForeignPage,
            Problem::MediaType(super::super::body::JSON),
            Problem::Parameter("limit: expected a whole number from 1 to 1000.".to_owned()),
            Problem::Body("The body is no JSON object.".to_owned()),
            Problem::BodyTooLarge(super::super::body::MAX),
            Problem::UnknownEvent,
            Problem::NotWaiting(State::Dead),
            Problem::NotWaiting(State::Delivered),
            Problem::UnknownLetter,
            Problem::UnknownOrganization,
            Problem::Queue,
            Problem::Halfway(500),
            Problem::NotSaved,
            Problem::NotNext(500),
            Problem::Panicked,
        ];
        others.into_iter().chain(appends.map(Problem::Append)).collect()
    }

    /// A new problem does not compile here until it has a number, and then fails until it stands in `every`.
    #[test]
    fn every_problem_is_in_the_list() {
        const COUNT: usize = 22;
        let number = |problem: &Problem| match problem {
            Problem::UnknownPath => 0,
            Problem::Method => 1,
            Problem::Unauthorized => 2,
            Problem::Role => 3,
            Problem::ForeignPage => 4,
            Problem::MediaType(_) => 5,
            Problem::Parameter(_) => 6,
            Problem::Body(_) => 7,
            Problem::BodyTooLarge(_) => 8,
            Problem::UnknownEvent => 9,
            Problem::UnknownLetter => 10,
            Problem::UnknownOrganization => 11,
            Problem::Queue => 12,
            Problem::Halfway(_) => 13,
            Problem::NotSaved => 14,
            Problem::Panicked => 15,
            Problem::Append(AppendError::Full) => 16,
            Problem::Append(AppendError::Busy) => 17,
            Problem::Append(AppendError::Unavailable) => 18,
            Problem::Append(AppendError::TooSlow) => 19,
            Problem::NotNext(_) => 20,
            Problem::NotWaiting(_) => 21,
        };
        let numbers: HashSet<_> = every().iter().map(number).collect();
        assert_eq!(numbers.len(), COUNT);
        for problem in every() {
            assert!(problem.message().ends_with('.'), "{problem:?}");
        }
    }
}
