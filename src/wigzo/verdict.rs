//! What a response, or its absence, means for the call that caused it (wigzo.md 9, design.md 7).
//!
//! One exhaustive function over typed input. It judges one try; how often and when to try again is the caller's.

use std::fmt;
use std::time::Duration;

use serde::de::{DeserializeSeed, Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What came back from one try of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply<'a> {
    /// An HTTP answer.
    Answer {
        /// The status code.
        status: u16,
        /// `Retry-After` as a wait from now, if the header was there and readable.
        retry_after: Option<Duration>,
        /// The first 16 KB of the body.
        body: &'a [u8],
    },
    /// The connection could not be made (DNS, refused, TLS): nothing was sent.
    Unreachable,
    /// The connection broke after the request may have been written.
    Broken,
    /// No answer in time after the request may have been written.
    TimedOut,
}

/// What to do with a call after one try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Wigzo has it.
    Delivered,
    /// 2xx, but the JSON body's `status` is a string other than `success`: bounded retries.
    SoftFailure,
    /// Try again later; `ambiguous` where Wigzo may have it already.
    Retry {
        /// The wait that Wigzo asked for; it pauses the whole organization.
        after: Option<Duration>,
        /// Whether the call may have been carried out.
        ambiguous: bool,
    },
    /// No call of this organization can succeed before somebody corrects its settings. Events wait.
    Suspend {
        /// Which setting is wrong.
        misfit: Misfit,
        /// The wait that Wigzo asked for: the earliest probe.
        after: Option<Duration>,
    },
    /// Any other 4xx: this call can never succeed.
    Refused {
        /// The wait that Wigzo asked for before it takes the organization's other calls.
        after: Option<Duration>,
    },
}

/// Which of an organization's settings Wigzo does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Misfit {
    /// 401, 403: its tokens.
    Credentials,
    /// 404, 405, 410 and 3xx: its base URL. Redirects are never followed, since the URL holds the tokens.
    Address,
}

/// Judges a reply.
pub fn verdict(reply: &Reply<'_>) -> Verdict {
    let (status, after, body) = match *reply {
        Reply::Answer { status, retry_after, body } => (status, retry_after, body),
        Reply::Unreachable => return Verdict::Retry { after: None, ambiguous: false },
        Reply::Broken | Reply::TimedOut => return Verdict::Retry { after: None, ambiguous: true },
    };
    match status {
        200..=299 if says_failure(body) => Verdict::SoftFailure,
        200..=299 => Verdict::Delivered,
        300..=399 | 404 | 405 | 410 => Verdict::Suspend { misfit: Misfit::Address, after },
        401 | 403 => Verdict::Suspend { misfit: Misfit::Credentials, after },
        408 | 425 | 429 | 500..=599 => Verdict::Retry { after, ambiguous: false },
        400..=499 => Verdict::Refused { after },
        // Not a final HTTP answer: it says neither yes nor no.
        ..=199 | 600.. => Verdict::Retry { after, ambiguous: true },
    }
}

/// Whether a 2xx body is a JSON object whose `status` is a string other than `success` (wigzo.md 2.3: the mobile
/// calls' envelope). A missing `status`, one of another type, and a body that is no JSON say nothing, and 2xx stands.
fn says_failure(body: &[u8]) -> bool {
    let mut failure = false;
    // A body cut off at 16 KB ends in an error; what was read before it counts all the same.
    let _ = serde_json::Deserializer::from_slice(body).deserialize_map(Status { failure: &mut failure });
    failure
}

/// Reads the member `status` of an object; the last one counts, as for every JavaScript reader.
struct Status<'a> {
    failure: &'a mut bool,
}

impl<'de> Visitor<'de> for Status<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(is_status) = members.next_key_seed(IsStatus)? {
            if is_status {
                let value: &RawValue = members.next_value()?;
                let text: Option<String> = serde_json::from_str(value.get()).ok();
                *self.failure = text.is_some_and(|text| !text.eq_ignore_ascii_case("success"));
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// Whether a key is `status`.
struct IsStatus;

impl<'de> DeserializeSeed<'de> for IsStatus {
    type Value = bool;

    fn deserialize<D: serde::Deserializer<'de>>(self, key: D) -> Result<bool, D::Error> {
        key.deserialize_str(self)
    }
}

impl Visitor<'_> for IsStatus {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(key == "status")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Option<Duration> = Some(Duration::from_secs(7));

    fn answer(status: u16, retry_after: Option<Duration>, body: &str) -> Verdict {
        verdict(&Reply::Answer { status, retry_after, body: body.as_bytes() })
    }

    #[test]
    fn every_status_has_its_verdict() {
        for status in 0..=999 {
            for after in [None, WAIT] {
                let expected = match status {
                    200..=299 => Verdict::Delivered,
                    401 | 403 => Verdict::Suspend { misfit: Misfit::Credentials, after },
                    404 | 405 | 410 | 300..=399 => Verdict::Suspend { misfit: Misfit::Address, after },
                    408 | 425 | 429 | 500..=599 => Verdict::Retry { after, ambiguous: false },
                    400..=499 => Verdict::Refused { after },
                    _ => Verdict::Retry { after, ambiguous: true },
                };
                assert_eq!(answer(status, after, ""), expected, "{status} {after:?}");
            }
        }
    }

    #[test]
    fn every_absence_of_an_answer_has_its_verdict() {
        for (reply, ambiguous) in
            [(Reply::Unreachable, false), (Reply::Broken, true), (Reply::TimedOut, true)]
        {
            assert_eq!(verdict(&reply), Verdict::Retry { after: None, ambiguous });
        }
    }

    #[test]
    fn a_2xx_is_a_failure_only_if_its_status_says_so() {
        for body in [
            "",
            "ok",
            "<html>",
            "null",
            "[]",
            r#"["status","error"]"#,
            r#""error""#,
            "{}",
            r#"{"status":"success"}"#,
            r#"{"status":"SUCCESS","message":"x"}"#,
            r#"{"status":200}"#,
            r#"{"status":false}"#,
            r#"{"status":null}"#,
            r#"{"status":{"status":"error"}}"#,
            r#"{"data":{"status":"error"}}"#,
            r#"{"Status":"error"}"#,
            r#"{"status":"error","status":"success"}"#,
            r#"{"status":"err"#,
        ] {
            assert_eq!(answer(200, None, body), Verdict::Delivered, "{body}");
        }
        for body in [
            r#"{"status":"error"}"#,
            r#"{"status":"ok"}"#,
            r#"{"status":""}"#,
            r#" {"message":{"a":[1]},"status":"failure","code":7} "#,
            r#"{"st\u0061tus":"error"}"#,
            r#"{"status":"\u0065rror"}"#,
            r#"{"status":"success","status":"error"}"#,
            r#"{"status":"error","message":"cut o"#,
        ] {
            for status in [200, 201, 204, 299] {
                assert_eq!(answer(status, None, body), Verdict::SoftFailure, "{body}");
            }
        }
    }

    #[test]
    fn bodies_beside_2xx_change_nothing() {
        assert_eq!(answer(400, None, r#"{"status":"success"}"#), Verdict::Refused { after: None });
        assert_eq!(
            answer(500, None, r#"{"status":"success"}"#),
            Verdict::Retry { after: None, ambiguous: false }
        );
    }
}
