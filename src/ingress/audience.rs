//! `POST /audiences`: the two requests of Webhook Audiences that bring no event. One creates an audience, the other looks
//! one up; Segment syncs nothing before both have been answered with an id (segment.md 1.5).
//!
//! Wigzo has no list of audiences: who is in one has a property of its name, from the first event on. So there is nothing
//! to create or to find, and an audience's id is its name.
//!
//! Invariant: these requests carry neither key nor signature, so nothing is kept, and nothing is told but what was asked.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::reply::{self, Refusal};
use super::{Ingress, body};
use crate::segment;

/// The longest body: a name, and what the customer adds to every request.
pub(super) const MAX_BODY: u64 = 64 * 1024;

/// The family of routes, for metrics.
const ROUTE: &str = "audiences";

/// What Segment asks: `audienceName` to create, `externalId` to look up. Other members are the customer's own.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    /// The audience to create.
    audience_name: Option<String>,
    /// The audience to look up.
    external_id: Option<String>,
}

/// The audience, as Segment will name it from now on.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Audience {
    /// Its id, which is its name.
    external_id: String,
}

/// Answers with an audience's id.
pub(super) async fn answer(State(ingress): State<Arc<Ingress>>, request: Request) -> Response {
    let began = Instant::now();
    let (head, body) = request.into_parts();
    let patience = ingress.config.read_timeout.0;
    let found = body::read(&head.headers, body, MAX_BODY, patience).await.and_then(|body| find(&body));
    let response = match found {
        Ok(audience) => reply::json(StatusCode::OK, &audience),
        Err(refusal) => {
            let (status, code) = refusal.class();
            tracing::warn!(route = ROUTE, status = status.as_u16(), code, "request refused");
            reply::refuse(&refusal)
        }
    };
    ingress.metrics.reply(ROUTE, response.status().as_u16(), began.elapsed(), None);
    response
}

fn find(body: &[u8]) -> Result<Audience, Refusal> {
    let Asked { audience_name, external_id } =
        serde_json::from_slice(segment::without_mark(body)).map_err(|_| Refusal::NotAnAudience)?;
    // Both at once are nothing that Segment sends; the one to look up exists.
    let id = external_id.or(audience_name).filter(|id| !id.trim().is_empty());
    id.map(|external_id| Audience { external_id }).ok_or(Refusal::NotAnAudience)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audience_has_its_name_for_an_id() {
        for (body, expected) in [
            (r#"{"audienceName":"big_spenders"}"#, Some("big_spenders")),
            (r#"{"region":"in","audienceName":"Größte Käufer"}"#, Some("Größte Käufer")),
            (r#"{"externalId":"big_spenders"}"#, Some("big_spenders")),
            (r#"{"externalId":"a","audienceName":"b"}"#, Some("a")),
            (r#"{"externalId":null,"audienceName":"b"}"#, Some("b")),
            ("\u{feff}{\"audienceName\":\"b\"}", Some("b")),
            (r#"{"audienceName":""}"#, None),
            (r#"{"audienceName":" "}"#, None),
            (r#"{"audienceName":7}"#, None),
            (r#"{"type":"track"}"#, None),
            (r#"["audienceName"]"#, None),
            ("", None),
            (r#"{"audienceName":"#, None),
        ] {
            let found = find(body.as_bytes());
            assert_eq!(found.as_ref().ok().map(|found| found.external_id.as_str()), expected, "{body}");
            assert!(found.is_ok() || found.is_err_and(|why| why == Refusal::NotAnAudience), "{body}");
        }
    }
}
