//! `[delivery]`: what an operator may set.
//!
//! The doc comment of a field is the text that the generated `config/default.toml` shows for its key.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schedule::Schedule;
use crate::clock::{BadSpan, Span};

/// `[delivery]`: how events go to Wigzo.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Events in flight at a time, over all organizations: their calls are being made, or their results are not on disk
    /// yet. So many calls may be made twice after a crash. Where there are several organizations, none takes so much that
    /// nothing is left for the others. 1 to 100000.
    pub max_in_flight: usize,
    /// How long a connection to Wigzo may take to be made. Shorter than `timeout`.
    pub connect_timeout: Span,
    /// How long one try of one call may take, from connecting to the end of the answer.
    pub timeout: Span,
    /// Quick repeats of a call within one try of its event: after a refused or broken connection, 502, 503 or 504.
    /// A budget keeps them below a tenth of the load.
    #[schemars(range(min = 0, max = 5))]
    pub quick_retries: u32,
    /// What happens to a call that Wigzo may have carried out although no answer came (time-out, broken connection):
    /// `retry` may double it, `dead_letter` leaves the decision to a person.
    pub on_ambiguous: OnAmbiguous,
    /// Events that have waited for longer than this are not delivered any more but end as `expired`. Off when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["30d"]))]
    pub max_age: Option<Span>,
    /// Events of an unproven partner organization (`ingress.unproven_partners`) end as `expired` after this long: its
    /// token may be made up, and what waits for it must make room some day.
    pub unproven_partner_max_age: Span,
    /// How long an event that fails, or waits for an endpoint that may not be called, may hold back the later events of
    /// its person while other events of its organization are delivered. Then it is parked: it goes on being retried by
    /// itself, and they go on without it. `"never"` makes the order absolute.
    pub lane_hold: LaneHold,
    /// When an endpoint refuses an organization's token or address, for three people in a row while nothing else succeeds,
    /// or for many, the events that need it wait. Up to three of them probe whether that is still so: after a second at most, then after this long. The wait
    /// doubles each time that they are refused.
    pub probe_base: Span,
    /// The longest wait between two probes.
    pub probe_cap: Span,
    /// Events of one organization that are held in memory; the rest waits on disk. Of events that cannot be tried yet,
    /// ten times as many are held by number, 64 of one person at most.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub window: usize,
    /// Waits between the tries of an event.
    pub retry: Schedule,
    /// When an organization's calls to an endpoint are stopped because they all fail.
    pub breaker: Breaker,
}

/// What to do when it is unknown whether Wigzo carried a call out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnAmbiguous {
    /// Make the call again: nothing is lost, an event may count twice.
    Retry,
    /// Keep the event as a dead letter: nothing counts twice, a person decides.
    DeadLetter,
}

/// `[delivery.breaker]`: the circuit breakers of each organization, one for each endpoint, and one for all of its calls
/// where no connection can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// It opens when events of so many different people have failed at the endpoint without a success there in between or
    /// shortly before.
    /// One person's events alone never open it.
    #[schemars(range(min = 1, max = 1_000))]
    pub lanes: usize,
    /// After this long up to three events probe whether calls succeed again. The wait doubles when the probes of two
    /// people fail, or the only one there is.
    pub base: Span,
    /// The longest wait between two probes.
    pub cap: Span,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { lanes: 5, base: Span::secs(1), cap: Span::secs(30) }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_in_flight: 1_024,
            connect_timeout: Span::secs(3),
            timeout: Span::secs(10),
            quick_retries: 2,
            on_ambiguous: OnAmbiguous::Retry,
            max_age: None,
            unproven_partner_max_age: Span::secs(24 * 3_600),
            lane_hold: LaneHold(Some(Span::secs(15 * 60))),
            probe_base: Span::secs(30),
            probe_cap: Span::secs(600),
            window: 10_000,
            retry: Schedule::default(),
            breaker: Breaker::default(),
        }
    }
}

/// How long a lane is held; `None`: without end, written as `"never"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LaneHold(pub Option<Span>);

impl LaneHold {
    /// The longest hold, if there is one.
    pub fn longest(self) -> Option<Duration> {
        self.0.map(|span| span.0)
    }
}

const NEVER: &str = "never";

/// What a hold should have looked like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{BadSpan}, or \"{NEVER}\"")]
pub struct BadLaneHold;

impl TryFrom<String> for LaneHold {
    type Error = BadLaneHold;

    fn try_from(text: String) -> Result<Self, BadLaneHold> {
        if text == NEVER {
            return Ok(Self(None));
        }
        text.parse().map(|span| Self(Some(span))).map_err(|_| BadLaneHold)
    }
}

impl From<LaneHold> for String {
    fn from(hold: LaneHold) -> Self {
        hold.to_string()
    }
}

impl fmt::Display for LaneHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(span) => span.fmt(f),
            None => f.write_str(NEVER),
        }
    }
}

impl JsonSchema for LaneHold {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "LaneHold".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^([0-9]+ *(ms|s|m|h|d)|never)$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_is_a_duration_or_never() {
        for (text, hold) in
            [("15m", Some(Span::secs(900))), ("200ms", Some(Span::millis(200))), ("never", None)]
        {
            let read = LaneHold::try_from(text.to_owned()).unwrap();
            assert_eq!((read, read.to_string().as_str()), (LaneHold(hold), text));
        }
        for text in ["", "Never", "always", "15", "-1s"] {
            assert_eq!(LaneHold::try_from(text.to_owned()), Err(BadLaneHold), "{text}");
        }
    }
}
