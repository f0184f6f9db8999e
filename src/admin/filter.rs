//! Which events a person asks for: the same words in a query, in a body, and on the command line.
//!
//! Invariant: what is not understood is refused. A filter that is passed over would match too much.

use std::collections::BTreeMap;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PAGE;
use super::cursor::Cursor;
use super::problem::Problem;
use crate::clock::{BadMoment, Clock, UnixMillis, read_moment};
use crate::outcome::Reason;
use crate::queue::{Filter, Place, Seq, State};
use crate::segment::Kind;

/// A filter as it is written. Absent fields match everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::Args)]
#[serde(default, deny_unknown_fields)]
pub struct WrittenFilter {
    /// Only events of this organization
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    /// Only events of this person (`userId`, else `anonymousId`)
    #[arg(long, value_name = "ID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    /// Only the event with this message id
    #[arg(long, value_name = "ID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// Only events for this reason, such as `wigzo_400`
    #[arg(long, value_parser = typed_reason)]
    #[schemars(with = "Option<Reason>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Only events of this type, such as `track`
    #[schemars(extend("enum" = kinds()))]
    #[arg(long, value_name = "TYPE", value_parser = typed_kind)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Only events of this name, exactly as it is written: "Order Completed"
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Only events that arrived at this time or later: 2026-01-02T03:04:05Z
    #[schemars(extend("format" = "date-time"))]
    #[arg(long, value_name = "TIME", value_parser = typed_time, help = SINCE)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Only events that arrived before this time
    #[schemars(extend("format" = "date-time"))]
    #[arg(long, value_name = "TIME", value_parser = typed_time, help = UNTIL)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// The command line takes more forms of a time than the API does.
const SINCE: &str = "Only events that arrived at this time or later: 30m, 2h or 1d ago, today, yesterday, 2026-01-02, \
                     2026-01-02T03:04:05Z";
const UNTIL: &str = "Only events that arrived before this time, in the same forms";

/// What `kind` may be, for the document.
fn kinds() -> Vec<Option<&'static str>> {
    Kind::ALL.into_iter().chain([Kind::Delete]).map(|kind| Some(kind.as_str())).chain([None]).collect()
}

impl WrittenFilter {
    /// The filter that is meant, or what is wrong with it in a sentence.
    pub(super) fn read(self) -> Result<Filter, String> {
        let Self { organization, person, message_id, reason, kind, title, since, until } = self;
        let in_field = |name: &'static str| move |bad: String| format!("{name}: {bad}.");
        let reason = reason.map(|text| known_reason(&text)).transpose().map_err(in_field("reason"))?;
        kind.as_deref().map(typed_kind).transpose().map_err(in_field("kind"))?;
        let time = |name: &str, text: Option<String>| -> Result<Option<UnixMillis>, String> {
            text.map(|text| text.parse().map_err(|bad| format!("{name}: {bad}."))).transpose()
        };
        Ok(Filter {
            organization: organization.map(Into::into),
            person,
            message_id,
            reason,
            kind,
            title,
            since: time("since", since)?,
            until: time("until", until)?,
        })
    }
}

fn known_reason(text: &str) -> Result<Reason, String> {
    let unknown = || format!("{text:?} is no reason; reasons look like wigzo_400 or timeout");
    Reason::parse(text).ok_or_else(unknown)
}

// === what the command line takes ===

fn typed_reason(text: &str) -> Result<String, String> {
    known_reason(text).map(|_| text.to_owned())
}

fn typed_kind(text: &str) -> Result<String, String> {
    if Kind::parse(text).is_some() {
        return Ok(text.to_owned());
    }
    let known = Kind::ALL.map(Kind::as_str).join(", ");
    Err(format!("{text:?} is no type of event; there is {known} and delete"))
}

/// A time as people type it, as the API takes it.
fn typed_time(text: &str) -> Result<String, BadMoment> {
    read_moment(text, &Clock::system().now().local()).map(|time| time.to_string())
}

/// The parameters of a query, each of which stands once.
#[derive(Debug, Default)]
pub(super) struct Parameters(BTreeMap<String, String>);

impl<S: Sync> FromRequestParts<S> for Parameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut parameters = BTreeMap::new();
        let query = parts.uri.query().unwrap_or_default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if parameters.insert(name.to_string(), value.into_owned()).is_some() {
                return Err(Problem::Parameter(format!("{name} stands twice; say it once.")));
            }
        }
        Ok(Self(parameters))
    }
}

impl Parameters {
    /// Parameters without a filter.
    pub(super) fn only(self, own: &[&str]) -> Result<Asked, Problem> {
        match self.0.keys().find(|name| !own.contains(&name.as_str())) {
            None => Ok(Asked { filter: Filter::default(), own: self.0 }),
            Some(name) if own.is_empty() => {
                Err(Problem::Parameter(format!("{name:?} is not known here; this takes no parameters.")))
            }
            Some(name) => {
                Err(Problem::Parameter(format!("{name:?} is not known here; this takes {}.", own.join(", "))))
            }
        }
    }

    /// A filter, and parameters of the route's own.
    pub(super) fn filter(self, own: &[&str]) -> Result<Asked, Problem> {
        let (own_values, rest): (BTreeMap<_, _>, BTreeMap<_, _>) =
            self.0.into_iter().partition(|(name, _)| own.contains(&name.as_str()));
        let written = serde_json::to_value(rest).and_then(serde_json::from_value::<WrittenFilter>);
        let written = written.map_err(|error| Problem::Parameter(format!("{error}, {}.", own.join(", "))))?;
        Ok(Asked { filter: written.read().map_err(Problem::Parameter)?, own: own_values })
    }
}

/// A query, taken apart: the filter, and the route's own parameters.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) filter: Filter,
    own: BTreeMap<String, String>,
}

impl Asked {
    /// One of the route's own parameters, as text.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        self.own.remove(name)
    }

    /// One of them that is none of these things but what `read` makes of it.
    pub(super) fn parse<T>(
        &mut self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.own.remove(name) else { return Ok(None) };
        read(&text).map(Some).ok_or_else(|| Problem::Parameter(format!("{name}: expected {expected}.")))
    }

    /// `limit`: how many at most.
    pub(super) fn limit(&mut self) -> Result<usize, Problem> {
        let (usual, most) = PAGE;
        let expected = format!("a whole number from 1 to {most}");
        let read = |text: &str| text.parse().ok().filter(|limit| (1..=most).contains(limit));
        Ok(self.parse("limit", &expected, read)?.unwrap_or(usual))
    }

    /// `cursor`, as a place in the order of work.
    pub(super) fn seq(&mut self) -> Result<Option<Seq>, Problem> {
        self.parse("cursor", CURSOR, |text| text.parse::<Cursor>().ok()?.seq())
    }

    /// `cursor`, as it was given out.
    pub(super) fn cursor(&mut self) -> Result<Option<Cursor>, Problem> {
        self.parse("cursor", CURSOR, |text| text.parse().ok())
    }

    /// `place`: waiting, history, dead letters.
    pub(super) fn place(&mut self) -> Result<Option<Place>, Problem> {
        self.parse("place", "waiting, settled or dead", |text| match text {
            "waiting" => Some(Place::Waiting),
            "settled" => Some(Place::Settled),
            "dead" => Some(Place::Dead),
            _ => None,
        })
    }

    /// `state`: as records say it.
    pub(super) fn state(&mut self) -> Result<Option<State>, Problem> {
        let known = State::ALL.iter().map(|state| state.as_str()).collect::<Vec<_>>().join(", ");
        self.parse("state", &format!("one of {known}"), |text| {
            State::ALL.iter().copied().find(|state| state.as_str() == text)
        })
    }
}

/// What stands where a cursor is expected.
const CURSOR: &str = "the cursor of an answer, as it was given out";

/// The parameter of a path.
#[derive(Debug)]
pub(super) struct InPath(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for InPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(text) = Path::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::Parameter("What stands in the path is no text.".to_owned()))?;
        Ok(Self(text))
    }
}

/// The number in a path.
pub(super) fn number(text: &str) -> Result<Seq, Problem> {
    u64::from_str(text)
        .map(Seq)
        .map_err(|_| Problem::Parameter("An event's number has digits only.".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn parameters(query: &str) -> Result<Parameters, Problem> {
        let request = http::Request::get(format!("/?{query}")).body(()).unwrap();
        Parameters::from_request_parts(&mut request.into_parts().0, &()).await
    }

    #[tokio::test]
    async fn what_is_not_understood_is_refused() {
        for (query, message) in [
            ("peron=1", "unknown field `peron`"),
            ("organization=a&organization=b", "organization stands twice"),
            ("reason=wigzo_40", "reason: "),
            ("kind=tracks", "kind: "),
            ("since=yesterday", "since: "),
            ("limit=0", "limit: expected a whole number from 1 to 1000"),
            ("limit=1001", "limit: "),
            ("limit=x", "limit: "),
            ("cursor=7", "cursor: "),
            ("place=dad", "place: expected waiting, settled or dead"),
            ("state=delivred", "state: expected one of waiting, retrying"),
        ] {
            let asked = match parameters(query).await {
                Ok(it) => it.filter(&["limit", "cursor", "place", "state"]),
                Err(problem) => Err(problem),
            };
            let refused = asked.and_then(|mut asked| {
                asked.limit()?;
                asked.seq()?;
                asked.place()?;
                asked.state()
            });
            let Err(Problem::Parameter(said)) = refused else { panic!("{query}: {refused:?}") };
            assert!(said.contains(message), "{query}: {said}");
        }
    }

    #[tokio::test]
    async fn a_question_is_read() {
        let query = "organization=acme&title=Order+Completed&kind=track&limit=7&state=parked&cursor=NQ&since=2026-01-02T03:04:05%2B05:30";
        let mut asked = parameters(query).await.unwrap().filter(&["limit", "cursor", "state"]).unwrap();
        assert_eq!(
            (asked.limit(), asked.state(), asked.seq()),
            (Ok(7), Ok(Some(State::Parked)), Ok(Some(Seq(5))))
        );
        assert_eq!(asked.filter.title.as_deref(), Some("Order Completed"));
        assert_eq!(asked.filter.since.unwrap().to_string(), "2026-01-01T21:34:05.000Z");
        let refused = parameters("who=me").await.unwrap().only(&["organization"]).unwrap_err();
        assert!(refused.message().contains("this takes organization"), "{refused:?}");
    }
}
