//! `/api/translate`: what events would become, and why. Nothing is sent and nothing is kept.

use std::fmt;
use std::sync::Arc;

use axum::extract::{Request, State};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::filter::Parameters;
use super::problem::{Problem, json};
use super::{Admin, Answer, body};
use crate::organization::Organization;
use crate::translate::Explanation;

/// Bytes of a question.
const MAX: usize = 8 << 20;

/// How events are explained as the public side would read them, which this room does not know: the organization, the path
/// that they were posted to, if that is said, and the body. `None`: nothing is posted to that path.
#[derive(Clone)]
pub struct Explain(pub Arc<ExplainFn>);

/// See [`Explain`].
pub type ExplainFn = dyn Fn(&Organization, Option<&str>, &[u8]) -> Option<Vec<Explanation>> + Send + Sync;

impl fmt::Debug for Explain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Explain")
    }
}

/// What is asked.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Question<'a> {
    /// The organization that it is explained for; it may be left out if there is only one.
    #[serde(default)]
    organization: Option<String>,
    /// The path that it would be posted to: by default `/webhook`, and `/v1/batch` for a batch.
    #[serde(default)]
    path: Option<String>,
    /// What a sender would post: an event, an array of events, or a batch.
    #[serde(borrow)]
    #[schemars(with = "serde_json::Value")]
    event: &'a RawValue,
}

/// What `translate --json` prints.
#[derive(Serialize, JsonSchema)]
pub struct Translated<'a> {
    /// The organization that the events were explained for.
    pub organization: &'a str,
    /// Whether that one is made up, so that learner ids are nobody's.
    pub made_up: bool,
    /// Its profile.
    pub profile: &'a str,
    /// One entry for each event, in order.
    pub events: Vec<Explanation>,
}

pub(super) async fn translate(
    State(admin): State<Arc<Admin>>,
    parameters: Parameters,
    request: Request,
) -> Answer {
    parameters.only(&[])?;
    let body = body::read(request, MAX).await?;
    let Question { organization, path, event } = body::parse(&body)?;
    let organization = if let Some(name) = organization {
        admin.organizations.by_name(&name).cloned().ok_or(Problem::UnknownOrganization)?
    } else {
        let only = admin.organizations.iter().next().filter(|_| admin.organizations.len() == 1);
        only.cloned().ok_or_else(|| Problem::Body("Say which `organization`.".to_owned()))?
    };
    let events =
        admin.explain.0(&organization, path.as_deref(), event.get().as_bytes()).ok_or_else(|| {
            Problem::Body(
                "path: expected one that events are posted to, such as /webhook, /v1/track or /v1/batch."
                    .to_owned(),
            )
        })?;
    let (name, profile) = (organization.name.as_str(), organization.profile.name());
    Ok(json(StatusCode::OK, &Translated { organization: name, made_up: false, profile, events }))
}
