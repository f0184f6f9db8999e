//! Asking the ledger: which calls, in which order, how many, and the query strings that say so.
//!
//! A filter sees one recorded call at a time and works on its bytes; it never holds the ledger's lock.

use std::fmt;
use std::str::FromStr;

use super::call::{Fields, endpoint_named};
use super::ledger::RecordedCall;
use crate::wigzo::Endpoint;

/// The page size that is used when none is given.
const DEFAULT_LIMIT: usize = 100;
/// The largest page size.
const MAX_LIMIT: usize = 10_000;

/// Which calls. The default matches every call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Exactly this organization token.
    pub org_token: Option<String>,
    /// This endpoint.
    pub endpoint: Option<Endpoint>,
    /// Event calls with exactly this `eventName`.
    pub event_name: Option<String>,
    /// Exactly this learner id (`userId`).
    pub user_id: Option<String>,
    /// This answer.
    pub status: Option<Answered>,
    /// Only calls that were, or were not, carried out.
    pub carried_out: Option<bool>,
    /// This text stands somewhere in the body.
    pub contains: Option<String>,
}

/// What a call was answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// This status.
    With(u16),
    /// Nothing: the connection was cut, or the answer never came.
    Never,
}

/// Which part of the matching calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Page {
    /// Only calls that come after the one with this number, in the order asked for.
    pub(super) after: Option<u64>,
    pub(super) limit: usize,
    pub(super) order: Order,
}

/// In which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// As they arrived.
    Ascending,
    /// The newest first.
    Descending,
}

/// A query string, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) filter: Filter,
    pub(super) page: Page,
    /// Only the numbers are asked for.
    pub(super) count: bool,
}

/// A parameter that cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadQuestion {
    #[error("unknown parameter `{0}`")]
    Unknown(String),
    #[error("`{value}` is no value for {name}: {expected}")]
    Value { name: &'static str, value: String, expected: &'static str },
}

// === impl Filter ===

impl Filter {
    /// Whether every call matches.
    pub(super) fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a call matches.
    pub fn matches(&self, call: &RecordedCall) -> bool {
        self.endpoint.is_none_or(|endpoint| endpoint == call.endpoint)
            && self.carried_out.is_none_or(|carried_out| carried_out == call.carried_out)
            && self.status.is_none_or(|answered| answered == Answered::of(call))
            && self.org_token.as_ref().is_none_or(|token| call.org_token.as_ref() == Some(token))
            && self.contains.as_ref().is_none_or(|part| call.text().contains(part))
            && self.matches_fields(call)
    }

    /// The part that must read the body, last because it costs most.
    fn matches_fields(&self, call: &RecordedCall) -> bool {
        if self.event_name.is_none() && self.user_id.is_none() {
            return true;
        }
        let Some(fields) = Fields::parse(&call.body) else { return false };
        self.event_name.as_deref().is_none_or(|name| {
            call.endpoint == Endpoint::Event && fields.event_name().as_deref() == Some(name)
        }) && self.user_id.as_deref().is_none_or(|id| fields.user_id().as_deref() == Some(id))
    }
}

impl Answered {
    fn of(call: &RecordedCall) -> Self {
        call.status.map_or(Self::Never, Self::With)
    }
}

// === impl Page ===

impl Default for Page {
    fn default() -> Self {
        Self { after: None, limit: DEFAULT_LIMIT, order: Order::Ascending }
    }
}

impl Page {
    /// Whether a call lies behind the start of the page.
    pub(super) fn reaches(self, number: u64) -> bool {
        self.after.is_none_or(|after| match self.order {
            Order::Ascending => number > after,
            Order::Descending => number < after,
        })
    }
}

// === impl Question ===

impl Question {
    /// Reads a query string; every parameter must be known, so that a misspelt filter is not no filter.
    pub(super) fn parse(query: &str) -> Result<Self, BadQuestion> {
        let mut question = Self { filter: Filter::default(), page: Page::default(), count: false };
        let Self { filter, page, count } = &mut question;
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "org_token" => filter.org_token = Some(value.into_owned()),
                "event_name" => filter.event_name = Some(value.into_owned()),
                "user_id" => filter.user_id = Some(value.into_owned()),
                "contains" => filter.contains = Some(value.into_owned()),
                "endpoint" => {
                    let expected = "identify, event, product or shipment";
                    let endpoint = endpoint_named(&value).ok_or_else(|| bad("endpoint", &value, expected))?;
                    filter.endpoint = Some(endpoint);
                }
                "status" if value == "none" => filter.status = Some(Answered::Never),
                "status" => filter.status = Some(Answered::With(read("status", &value, "a code or none")?)),
                "carried_out" => filter.carried_out = Some(read("carried_out", &value, "true or false")?),
                "after" => page.after = Some(read("after", &value, "a running number")?),
                "limit" => page.limit = read::<usize>("limit", &value, "a number")?.clamp(1, MAX_LIMIT),
                "order" => page.order = read("order", &value, "asc or desc")?,
                "count" => *count = read("count", &value, "true or false")?,
                _ => return Err(BadQuestion::Unknown(name.into_owned())),
            }
        }
        Ok(question)
    }
}

fn read<T: FromStr>(name: &'static str, value: &str, expected: &'static str) -> Result<T, BadQuestion> {
    value.parse().map_err(|_| bad(name, value, expected))
}

fn bad(name: &'static str, value: &str, expected: &'static str) -> BadQuestion {
    BadQuestion::Value { name, value: value.to_owned(), expected }
}

impl FromStr for Order {
    type Err = fmt::Error;

    fn from_str(text: &str) -> Result<Self, fmt::Error> {
        match text {
            "asc" => Ok(Self::Ascending),
            "desc" => Ok(Self::Descending),
            _ => Err(fmt::Error),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::clock::UnixMillis;

    fn filter(query: &str) -> Filter {
        Question::parse(query).unwrap().filter
    }

    #[test]
    fn each_part_of_a_filter_counts() {
        let call = RecordedCall {
            number: 7,
            at: UnixMillis(1),
            endpoint: Endpoint::Event,
            org_token: Some("org-token-0001".into()),
            token: None,
            status: Some(200),
            carried_out: true,
            idempotency_key: None,
            body: Bytes::from_static(br#"{"eventName":"buy","userId":"u\u002d1","eventval":["sku-1"]}"#),
        };
        for (query, matches) in [
            ("", true),
            ("org_token=org-token-0001", true),
            ("org_token=org-token", false),
            ("endpoint=event", true),
            ("endpoint=product", false),
            ("event_name=buy", true),
            ("event_name=bu", false),
            ("user_id=u-1", true),
            ("user_id=u-2", false),
            ("status=200", true),
            ("status=none", false),
            ("status=503", false),
            ("carried_out=true", true),
            ("carried_out=false", false),
            ("contains=%5B%22sku-1%22%5D", true),
            ("contains=sku-2", false),
            ("event_name=buy&user_id=u-1&contains=sku-1&status=200", true),
            ("event_name=buy&user_id=u-2", false),
        ] {
            assert_eq!(filter(query).matches(&call), matches, "{query}");
        }
        assert!(filter("limit=5").is_everything());
        assert!(!filter("status=none").is_everything());
        let cut = RecordedCall { status: None, body: Bytes::from_static(b"no JSON"), ..call };
        assert!(filter("status=none").matches(&cut));
        assert!(!filter("event_name=buy").matches(&cut));
    }

    #[test]
    fn pages_are_read_and_bounded() {
        let page = |query| Question::parse(query).unwrap().page;
        assert_eq!(page(""), Page { after: None, limit: 100, order: Order::Ascending });
        assert_eq!(
            page("after=7&limit=20000&order=desc"),
            Page { after: Some(7), limit: 10_000, order: Order::Descending }
        );
        assert_eq!(page("limit=0").limit, 1);
        assert!(Question::parse("count=true").unwrap().count);
    }

    #[test]
    fn mistakes_are_named() {
        for (query, part) in [
            ("event=buy", "unknown parameter `event`"),
            ("endpoint=learn", "identify, event"),
            ("status=ok", "a code or none"),
            ("carried_out=1", "true or false"),
            ("after=x", "running number"),
            ("limit=-1", "limit"),
            ("order=up", "asc or desc"),
        ] {
            let bad = Question::parse(query).unwrap_err().to_string();
            assert!(bad.contains(part), "{query}: {bad}");
        }
    }
}
