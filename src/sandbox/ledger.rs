//! The ledger: every call that reached the sandbox, the newest kept in full, all of them counted.
//!
//! Invariants: numbers run without a gap from 1 in the order of arrival (until the ledger is cleared); the
//! counters count every call, kept or dropped; what is kept stays within the two limits, the oldest going
//! first. A kept text is a copy of its own, never a slice of a connection's read buffer, so that the limit
//! means what it says. The ledger knows neither faults nor sockets.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::call::Fields;
use crate::clock::UnixMillis;
use crate::wigzo::Endpoint;

/// A call as the sandbox saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedCall {
    /// The running number, from 1, in the order of arrival.
    pub number: u64,
    /// When the call was complete, its body read.
    pub at: UnixMillis,
    /// Where it went.
    pub endpoint: Endpoint,
    /// The organization token of the query or path, as it was written; malformed ones too.
    pub org_token: Option<String>,
    /// The second token, as it was written. Not shown over HTTP.
    pub token: Option<String>,
    /// The status that was given; `None` if the connection was cut or never answered.
    pub status: Option<u16>,
    /// Whether the sandbox "did" it: the call was complete, and answered with success or cut only afterwards.
    pub carried_out: bool,
    /// The `Idempotency-Key` header.
    pub idempotency_key: Option<String>,
    /// The body, byte for byte.
    pub body: Bytes,
}

impl RecordedCall {
    /// The Wigzo event name in the body, if there is one.
    pub fn event_name(&self) -> Option<Cow<'_, str>> {
        Fields::parse(&self.body)?.event_name()
    }

    /// The learner id (`userId`) in the body, if there is one.
    pub fn user_id(&self) -> Option<Cow<'_, str>> {
        Fields::parse(&self.body)?.user_id()
    }

    /// The body as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// What the call costs against the limit of bytes.
    fn size(&self) -> u64 {
        let texts = [&self.org_token, &self.token, &self.idempotency_key];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        u64::try_from(texts.saturating_add(self.body.len())).unwrap_or(u64::MAX)
    }
}

/// What has happened since the start or the last clear; exact, however little is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Calls that arrived.
    pub received: u64,
    /// Calls that were carried out (see [`RecordedCall::carried_out`]).
    pub carried_out: u64,
    /// Calls that can still be listed.
    pub kept: u64,
    /// Answers by status.
    pub by_status: BTreeMap<u16, u64>,
    /// Calls that got no answer.
    pub unanswered: u64,
    /// Requests to a path that is none of Wigzo's, with a wrong method or an immense body: not calls, not in
    /// `received`.
    pub misdirected: u64,
}

/// The calls and the counters.
#[derive(Debug)]
pub(super) struct Ledger {
    calls: VecDeque<Arc<RecordedCall>>,
    bytes: u64,
    counts: Counts,
    keep_calls: usize,
    keep_bytes: u64,
}

impl Ledger {
    /// An empty ledger that keeps so many calls and bytes of text.
    pub(super) fn keeping(keep_calls: usize, keep_bytes: u64) -> Self {
        Self { calls: VecDeque::new(), bytes: 0, counts: Counts::default(), keep_calls, keep_bytes }
    }

    /// Enters a call, giving it its number.
    pub(super) fn enter(&mut self, mut call: RecordedCall) {
        self.counts.received += 1;
        self.counts.carried_out += u64::from(call.carried_out);
        match call.status {
            Some(status) => *self.counts.by_status.entry(status).or_default() += 1,
            None => self.counts.unanswered += 1,
        }
        call.number = self.counts.received;
        self.bytes = self.bytes.saturating_add(call.size());
        self.calls.push_back(Arc::new(call));
        while self.calls.len() > self.keep_calls || self.bytes > self.keep_bytes {
            let Some(oldest) = self.calls.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(oldest.size());
        }
    }

    /// Counts a request that was no call.
    pub(super) fn misdirected(&mut self) {
        self.counts.misdirected += 1;
    }

    /// The counters.
    pub(super) fn counts(&self) -> Counts {
        Counts { kept: self.kept(), ..self.counts.clone() }
    }

    fn kept(&self) -> u64 {
        u64::try_from(self.calls.len()).unwrap_or(u64::MAX)
    }

    /// The number before the oldest call that is kept.
    fn dropped(&self) -> u64 {
        self.counts.received - self.kept()
    }

    /// At most `most` calls in ascending order, from those with a number above `after`.
    pub(super) fn above(&self, after: u64, most: usize) -> Vec<Arc<RecordedCall>> {
        let skip = usize::try_from(after.saturating_sub(self.dropped())).unwrap_or(usize::MAX);
        self.calls.range(skip.min(self.calls.len())..).take(most).cloned().collect()
    }

    /// At most `most` calls in descending order, from those with a number below `before`.
    pub(super) fn below(&self, before: u64, most: usize) -> Vec<Arc<RecordedCall>> {
        let end =
            usize::try_from(before.saturating_sub(self.dropped()).saturating_sub(1)).unwrap_or(usize::MAX);
        self.calls.range(..end.min(self.calls.len())).rev().take(most).cloned().collect()
    }

    /// Forgets calls and counters, and hands the calls out: freeing a million of them takes its time, which
    /// the caller can spend without a lock.
    pub(super) fn clear(&mut self) -> VecDeque<Arc<RecordedCall>> {
        self.bytes = 0;
        self.counts = Counts::default();
        std::mem::take(&mut self.calls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(body: &'static str, status: Option<u16>) -> RecordedCall {
        RecordedCall {
            number: 0,
            at: UnixMillis(1),
            endpoint: Endpoint::Identify,
            org_token: None,
            token: None,
            status,
            carried_out: status == Some(200),
            idempotency_key: None,
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    fn numbers(calls: &[Arc<RecordedCall>]) -> Vec<u64> {
        calls.iter().map(|call| call.number).collect()
    }

    #[test]
    fn the_oldest_go_first_and_the_counters_stay_exact() {
        let mut ledger = Ledger::keeping(3, 1_000);
        for status in [Some(200), Some(503), None, Some(200), Some(200)] {
            ledger.enter(call("{}", status));
        }
        ledger.misdirected();
        let counts = ledger.counts();
        assert_eq!((counts.received, counts.kept, counts.carried_out), (5, 3, 3));
        assert_eq!(counts.by_status, BTreeMap::from([(200, 3), (503, 1)]));
        assert_eq!((counts.unanswered, counts.misdirected), (1, 1));
        assert_eq!(numbers(&ledger.above(0, 10)), [3, 4, 5]);
        assert_eq!(numbers(&ledger.above(3, 1)), [4]);
        assert_eq!(numbers(&ledger.above(9, 1)), [0; 0]);
        assert_eq!(numbers(&ledger.below(u64::MAX, 2)), [5, 4]);
        assert_eq!(numbers(&ledger.below(4, 10)), [3]);
        assert_eq!(numbers(&ledger.below(0, 10)), [0; 0]);
    }

    #[test]
    fn the_limit_of_bytes_holds() {
        let mut ledger = Ledger::keeping(100, 10);
        for _ in 0..4 {
            ledger.enter(call("1234", None));
        }
        assert_eq!(numbers(&ledger.above(0, 10)), [3, 4]);
        ledger.enter(call("12345678901", None));
        assert_eq!(ledger.counts().kept, 0, "larger than the limit");
        ledger.enter(call("1234", None));
        assert_eq!(numbers(&ledger.above(0, 10)), [6]);
        assert_eq!(ledger.clear().len(), 1);
        assert_eq!(ledger.counts(), Counts::default());
    }
}
