//! The W3C trace context (<https://www.w3.org/TR/trace-context/>) as it stands in headers, and as it lies beside events
//! in the queue.

use std::str::FromStr;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

const PARENT: HeaderName = HeaderName::from_static("traceparent");
const STATE: HeaderName = HeaderName::from_static("tracestate");

/// The most of a `tracestate` that is carried on; a longer one is left out, as the standard allows.
const MAX_STATE: usize = 512;

/// The context that a request came with. One that is not as the standard has it is as good as none.
pub(super) fn of_headers(headers: &HeaderMap) -> Option<SpanContext> {
    let mut parents = headers.get_all(PARENT).iter();
    let (Some(parent), None) = (parents.next(), parents.next()) else { return None };
    let states: Vec<_> = headers.get_all(STATE).iter().filter_map(|state| state.to_str().ok()).collect();
    read(parent.to_str().ok()?.trim(), &states.join(","))
}

/// The headers for a context.
pub(super) fn to_headers(context: &SpanContext) -> Vec<(HeaderName, HeaderValue)> {
    let state = context.trace_state().header();
    [(PARENT, parent(context)), (STATE, state)]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .filter_map(|(name, value)| Some((name, HeaderValue::try_from(value).ok()?)))
        .collect()
}

/// `version-trace-parent-flags`; of a version that is not known, what version 00 would have.
fn read(parent: &str, state: &str) -> Option<SpanContext> {
    let is_hex = |part: &&str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let mut parts = parent.split('-');
    let mut part = |length| parts.next().filter(|part| part.len() == length).filter(is_hex);
    let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
    if version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let state = Some(state).filter(|state| state.len() <= MAX_STATE);
    let state = state.and_then(|state| TraceState::from_str(state).ok()).unwrap_or_default();
    let context =
        SpanContext::new(TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?, flags, true, state);
    context.is_valid().then_some(context)
}

fn parent(context: &SpanContext) -> String {
    format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags().to_u8())
}

/// What a request is to the rounds of work on its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    /// They belong to its trace.
    Parent,
    /// They have traces of their own, which name it.
    Link,
}

/// A context beside an event: `parent 00-…-…-01`, or `link …`, and the state if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) relation: Relation,
    pub(super) context: SpanContext,
}

impl Stored {
    pub(super) fn write(&self) -> String {
        let relation = match self.relation {
            Relation::Parent => "parent",
            Relation::Link => "link",
        };
        let state = self.context.trace_state().header();
        let space = if state.is_empty() { "" } else { " " };
        format!("{relation} {}{space}{state}", parent(&self.context))
    }

    /// Reads it back; `None` if it is none of ours.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (relation, rest) = text.split_once(' ')?;
        let relation = match relation {
            "parent" => Relation::Parent,
            "link" => Relation::Link,
            _ => return None,
        };
        let (parent, state) = rest.split_once(' ').unwrap_or((rest, ""));
        Some(Self { relation, context: read(parent, state)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_context_is_read_as_the_standard_has_it() {
        for (parent, expected) in [
            (GOOD, Some(true)),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", Some(false)),
            // Flags that are not known yet say nothing.
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03", Some(true)),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-02", Some(false)),
            // A later version may have more parts.
            ("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-comes", Some(true)),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", None),
            ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
            ("00-00000000000000000000000000000000-b7ad6b7169203331-01", None),
            ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", None),
            ("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", None),
            ("00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01", None),
            ("0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", None),
            ("", None),
        ] {
            let found = of_headers(&headers(&[("traceparent", parent)]));
            assert_eq!(found.map(|it| it.is_sampled()), expected, "{parent}");
        }
        let twice = headers(&[("traceparent", GOOD), ("traceparent", GOOD)]);
        assert_eq!(of_headers(&twice), None, "which of them is meant?");
        assert_eq!(of_headers(&HeaderMap::new()), None);
    }

    #[test]
    fn the_state_goes_with_it_unless_it_is_none() {
        let long = format!("a={}", "x".repeat(MAX_STATE));
        for (states, expected) in [
            (&["rojo=00f067aa0ba902b7", "congo=t61rcWkgMzE"][..], "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
            (&["A B C"][..], ""),
            (&[long.as_str()][..], ""),
            (&[][..], ""),
        ] {
            let mut given = headers(&[("traceparent", GOOD)]);
            for state in states {
                given.append(STATE, state.parse().unwrap());
            }
            let context = of_headers(&given).unwrap();
            assert_eq!(context.trace_state().header(), expected);
            let sent: HeaderMap = to_headers(&context).into_iter().collect();
            assert_eq!(sent.get(PARENT).unwrap(), GOOD);
            assert_eq!(sent.get(STATE).map_or("", |state| state.to_str().unwrap()), expected);
            for relation in [Relation::Parent, Relation::Link] {
                let stored = Stored { relation, context: context.clone() };
                assert_eq!(Stored::read(&stored.write()), Some(stored));
            }
        }
    }

    #[test]
    fn what_is_none_of_ours_is_no_context() {
        for text in ["", "parent", "parent ", "child 00", GOOD, "parent 00-1-1-01", "link x y"] {
            assert_eq!(Stored::read(text), None, "{text}");
        }
    }
}
