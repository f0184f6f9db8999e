//! Which events a person asks for: the same words in a query, in a body, and on the command line.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::clock::UnixMillis;
use crate::outcome::Reason;
use crate::queue::{Filter, Place};

/// A query's parameters.
pub(super) type Parameters = BTreeMap<String, String>;

/// What is wrong with a question, for the person who asked.
#[derive(Debug)]
pub(super) struct Misfit(pub(super) String);

/// A filter as it is written. Absent fields match everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, clap::Args)]
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
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Only events of this type, such as `track`
    #[arg(long, value_name = "TYPE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Only events of this name, exactly as it is written: "Order Completed"
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Only events that arrived at this time or later: 2026-01-02T03:04:05Z
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Only events that arrived before this time
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

impl WrittenFilter {
    /// The filter that is meant.
    pub(super) fn read(self) -> Result<Filter, Misfit> {
        let Self { organization, person, message_id, reason, kind, title, since, until } = self;
        let reason = reason
            .map(|text| {
                let unknown =
                    || Misfit(format!("{text:?} is no reason; reasons look like wigzo_400 or timeout."));
                Reason::parse(&text).ok_or_else(unknown)
            })
            .transpose()?;
        let time = |name: &str, text: Option<String>| -> Result<Option<UnixMillis>, Misfit> {
            text.map(|text| text.parse().map_err(|bad| Misfit(format!("{name}: {bad}.")))).transpose()
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

/// A query, taken apart: the filter, and the route's own parameters.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) filter: Filter,
    own: Parameters,
}

impl Asked {
    /// Reads a query of a route that has these parameters of its own. An unknown one is refused: a filter that is
    /// passed over would match too much.
    pub(super) fn read(parameters: Parameters, own: &[&str]) -> Result<Self, Misfit> {
        let (own_values, rest): (Parameters, Parameters) =
            parameters.into_iter().partition(|(name, _)| own.contains(&name.as_str()));
        let written = serde_json::to_value(rest).and_then(serde_json::from_value::<WrittenFilter>);
        let written = written.map_err(|error| Misfit(format!("{error}, {}.", own.join(", "))))?;
        Ok(Self { filter: written.read()?, own: own_values })
    }

    /// One of the route's own parameters.
    pub(super) fn parse<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, Misfit> {
        let Some(text) = self.own.remove(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Misfit(format!("{name}: {text:?} is not what this takes.")))
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "waiting" => Ok(Self::Waiting),
            "settled" => Ok(Self::Settled),
            "dead" => Ok(Self::Dead),
            _ => Err(()),
        }
    }
}
