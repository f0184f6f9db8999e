//! `/api/organizations/{name}/test-event`: a made-up event that goes the real way, through the queue and delivery to Wigzo.
//!
//! People must be able to tell it from a shop's everywhere: its person is `wigzo-destination-test`, its name says that it
//! is a test, its message id begins with `test-`, and `test: true` stands among its properties or traits. Its address
//! belongs to nobody (RFC 2606).

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use uuid::Uuid;

use super::body::Json;
use super::events::found;
use super::filter::{InPath, Parameters};
use super::guard::Changed;
use super::intake::Came;
use super::problem::{self, Problem};
use super::{Admin, Answer};
use crate::clock::UnixMillis;
use crate::queue::{Filter, Lookup, Seq};
use crate::segment::{Event, Route, Surroundings};

/// The person of every test event.
const PERSON: &str = "wigzo-destination-test";

/// The name of every test event.
const NAME: &str = "Wigzo Destination Test";

/// How long it may wait for the disk.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked for.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "TestEvent")]
pub(super) struct Wish {
    /// The type of the event.
    #[serde(rename = "type")]
    kind: Kind,
}

/// The types of test events.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "TestType")]
enum Kind {
    /// Something that was done.
    #[default]
    Track,
    /// A page that was viewed.
    Page,
    /// A person with an e-mail address.
    Identify,
}

/// A test event that is on its way.
#[derive(Serialize, JsonSchema)]
pub(super) struct Sent {
    /// Its number: `/api/events/{number}` tells what became of it.
    number: Seq,
    /// Its message id.
    message_id: String,
    /// The person that it is about.
    person: &'static str,
}

pub(super) async fn send(
    State(admin): State<Arc<Admin>>,
    InPath(name): InPath,
    parameters: Parameters,
    Json(Wish { kind }): Json<Wish>,
) -> Answer {
    parameters.only(&[])?;
    let organization = admin.organizations.by_name(&name).cloned().ok_or(Problem::UnknownOrganization)?;
    let (received_at, message_id) = (admin.clock.now(), format!("test-{}", Uuid::new_v4()));
    let payload = event(kind, &message_id, received_at).to_string();
    let raw: &RawValue = serde_json::from_str(&payload).expect("BUG: JSON of our own is JSON");
    let event = Event::read(raw, &Surroundings::default()).expect("BUG: an event of our own is valid");
    let came = Came {
        organization: &organization.name,
        route: Route::Tracking,
        message_id: &message_id,
        received_at,
        payload: &payload,
        surroundings: "",
    };
    admin.queue.append(vec![came.envelope(&event)], PATIENCE).await.map_err(Problem::Append)?;
    let by_id = Filter {
        organization: Some(Arc::from(organization.name.as_str())),
        message_id: Some(message_id.clone()),
        ..Filter::default()
    };
    let lookup = Lookup { filter: by_id, limit: 1, ..Lookup::default() };
    let number = found(admin.queue.find(lookup).await)?.records.pop().ok_or(Problem::Queue)?.number;
    let answer = problem::json(StatusCode::OK, &Sent { number, message_id, person: PERSON });
    Ok(Changed { on: organization.name.clone(), count: 1 }.beside(answer))
}

/// The event as a library would post it.
fn event(kind: Kind, message_id: &str, now: UnixMillis) -> Value {
    let mut event = json!({ "messageId": message_id, "userId": PERSON, "timestamp": now });
    let rest = match kind {
        Kind::Track => json!({ "type": "track", "event": NAME, "properties": { "test": true } }),
        Kind::Page => {
            let properties =
                json!({ "title": NAME, "url": "https://example.com/wigzo-destination-test", "test": true });
            json!({ "type": "page", "name": NAME, "properties": properties })
        }
        Kind::Identify => {
            let traits = json!({ "email": "wigzo-destination-test@example.com", "name": NAME, "test": true });
            json!({ "type": "identify", "traits": traits })
        }
    };
    if let (Some(event), Value::Object(rest)) = (event.as_object_mut(), rest) {
        event.extend(rest);
    }
    event
}
