//! What is recorded of the tries of calls, if anything is.

use std::time::Duration;

use super::super::client::{self, Answer, Failure, Try};
use super::millis;
use crate::clock::UnixMillis;
use crate::organization::Organization;
use crate::outcome::Reason;
use crate::queue::{Account, Attempt};
use crate::telemetry::CallTold;
use crate::wigzo::{Call, SoftFailure, Verdict, verdict};

/// How much of a call's body its record keeps. The event itself is kept whole beside it.
const MAX_RECORDED_BODY: usize = 64 * 1024;

/// One try of one call.
#[derive(Debug)]
pub(super) struct Tried<'c> {
    /// The call's key within its event.
    pub(super) key: &'c str,
    pub(super) call: &'c Call,
    pub(super) at: UnixMillis,
    pub(super) took: Duration,
    /// `None`: the service had to end before an answer came.
    pub(super) result: Option<Result<Answer, Failure>>,
    /// What it meant.
    pub(super) reason: Reason,
    /// Whether Wigzo may have carried it out although nobody knows.
    pub(super) is_ambiguous: bool,
}

impl<'c> Tried<'c> {
    pub(super) fn new((key, call): (&'c str, &'c Call), it: Try) -> Self {
        let verdict = verdict(&client::as_reply(&it.result));
        Self {
            key,
            call,
            at: it.at,
            took: it.took,
            reason: reason(verdict, &it.result),
            is_ambiguous: matches!(verdict, Verdict::Retry { ambiguous: true, .. }),
            result: Some(it.result),
        }
    }

    /// One that the end of the service interrupted.
    pub(super) fn interrupted((key, call): (&'c str, &'c Call), at: UnixMillis, took: Duration) -> Self {
        Self { key, call, at, took, result: None, reason: Reason::Interrupted, is_ambiguous: true }
    }

    /// How it stands in a trace, after so many tries of the same call.
    pub(super) fn told(&self, resends: usize) -> CallTold<'_> {
        CallTold {
            endpoint: self.call.endpoint.as_str(),
            call: self.key,
            resends,
            began_ms: self.at.0,
            took: self.took,
            status: self.result.as_ref().and_then(|result| result.as_ref().ok()).map(|answer| answer.status),
            result: self.reason,
        }
    }

    /// Its stored form, with tokens masked wherever Wigzo may have echoed them.
    fn attempt(&self, organization: &Organization) -> Attempt {
        let (status, body) = match &self.result {
            Some(Ok(answer)) => (Some(answer.status), String::from_utf8_lossy(&answer.body)),
            Some(Err(_)) | None => (None, "".into()),
        };
        Attempt {
            at: self.at,
            call: self.key.to_owned(),
            status,
            duration_ms: millis(self.took),
            reason: self.reason,
            request: printed(self.call, organization),
            response: organization.address.scrub(&body).into_owned(),
        }
    }
}

/// A record in full.
pub(super) fn in_full(tried: &[Tried<'_>], organization: &Organization) -> Account {
    Account::InFull(tried.iter().map(|it| it.attempt(organization)).collect())
}

/// A call as it is recorded: method, redacted URL, and of the body what a record should hold.
fn printed(call: &Call, organization: &Organization) -> String {
    let cut = call.body.floor_char_boundary(MAX_RECORDED_BODY);
    let body = call.body.get(..cut).unwrap_or_default();
    format!("POST {}\n{body}", organization.address.url(call.endpoint).redacted())
}

/// The reason for a verdict on a result.
pub(super) fn reason(verdict: Verdict, result: &Result<Answer, Failure>) -> Reason {
    match (verdict, result) {
        (Verdict::Delivered, _) => Reason::Delivered,
        (Verdict::SoftFailure(SoftFailure::Stated), _) => Reason::SoftFailure,
        (Verdict::SoftFailure(SoftFailure::NotAnApiAnswer), _) => Reason::NotAnApiAnswer,
        (_, Ok(answer)) => Reason::of_status(answer.status),
        (_, Err(Failure::Unreachable)) => Reason::Unreachable,
        (_, Err(Failure::Certificate)) => Reason::Certificate,
        (_, Err(Failure::Broken)) => Reason::Broken,
        (_, Err(Failure::TimedOut)) => Reason::TimedOut,
    }
}
