//! What a response, or its absence, means for the call that caused it (wigzo.md 9, design.md 7).

use std::time::Duration;

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
    /// 401, 403: the organization's token is refused. 404, 405, 410 and 3xx: its address is wrong. Events wait.
    Suspend,
    /// Any other 4xx: this call can never succeed.
    Refused,
}

/// Judges a reply.
pub fn verdict(reply: &Reply<'_>) -> Verdict {
    todo!()
}
