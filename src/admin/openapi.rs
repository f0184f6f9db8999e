//! The OpenAPI 3.1 document of the private side.
//!
//! Nothing is told here that is written elsewhere: paths, methods and roles are those of the table in `address`, codes
//! and words those of `problem`, schemas those of the structs that are read and printed. Only which operation can meet
//! which problem is written down, and a fuzzer holds that against the service.

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::address::{Kind, Operation};
use super::dead_letters::decide::{Done, Wish as Decision};
use super::dead_letters::{DeadLetters, NEXT, import};
use super::drain::{Drained, Wish as DrainWish};
use super::events::{Event, Events};
use super::filter::{Parameters, WrittenFilter};
use super::log_level::LogLevel;
use super::organizations::{Organization, Organizations, Pause, Resume};
use super::problem::{self, Problem, Refused};
use super::refused_requests::RefusedRequests;
use super::rejected::Rejected;
use super::retry::{Retried, RetryEvent, Which};
use super::stats::Live;
use super::test_event::{Sent, Wish as TestWish};
use super::tokens::Role;
use super::translate::{Question, Translated};
use super::{Answer, PAGE, body};
use crate::delivery;
use crate::queue::transfer::Imported;
use crate::queue::{AppendError, State};
use crate::telemetry::Format;

pub(super) async fn show(parameters: Parameters) -> Answer {
    parameters.only(&[])?;
    Ok(problem::json(StatusCode::OK, &document()))
}

/// The whole document.
fn document() -> Value {
    let mut schemas = Schemas::new();
    let mut paths = Map::new();
    for operation in Operation::ALL {
        let item = paths.entry(operation.path()).or_insert_with(|| json!({}));
        for method in operation.kind().methods() {
            let told = tell(operation, method, &mut schemas);
            if let Some(item) = item.as_object_mut() {
                item.insert(method.as_str().to_ascii_lowercase(), told);
            }
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": format!("{}: the private side", env!("CARGO_PKG_NAME")),
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What became of each event, how organizations stand, and what an operator decides. On any \
                            address but loopback every request needs a token. Changes are POSTs, need the role \
                            `operate`, and leave an audit line. Unknown parameters are refused.",
            "license": { "name": env!("CARGO_PKG_LICENSE") },
        },
        "security": [{ "token": [] }, {}],
        "paths": paths,
        "components": {
            "schemas": schemas.all(),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of admin.token_file or admin.tokens_file; none where neither is set.",
                },
            },
        },
    })
}

fn tell(operation: Operation, method: &Method, schemas: &mut Schemas) -> Value {
    let prefix = if method == Method::HEAD { "head_" } else { "" };
    let mut told = json!({
        "operationId": format!("{prefix}{}", operation.name()),
        "summary": summary(operation),
        "description": match operation.kind().role() {
            Role::Read => "Needs the role `read`.",
            Role::Operate => "Needs the role `operate`; leaves an audit line.",
        },
        "responses": responses(operation, schemas),
    });
    let parameters = parameters(operation, schemas);
    if !parameters.is_empty() {
        add(&mut told, "parameters", parameters.into());
    }
    if let Some(body) = request_body(operation, schemas) {
        add(&mut told, "requestBody", body);
    }
    if method == Method::HEAD
        && let Some(responses) = told.get_mut("responses").and_then(Value::as_object_mut)
    {
        for response in responses.values_mut().filter_map(Value::as_object_mut) {
            response.remove("content");
        }
    }
    told
}

fn summary(operation: Operation) -> &'static str {
    match operation {
        Operation::Stats => "Counts, disk, and how each organization's delivery stands",
        Operation::Events => "Events that match, newest first",
        Operation::Event => "One event: what came in, each request, each answer, and when it is tried next",
        Operation::RetryEvent => "An event that waits for another attempt is tried at once",
        Operation::Rejected => "The newest events that were refused, with code and place",
        Operation::RefusedRequests => "The newest requests that could not be authenticated",
        Operation::Organizations => "Organizations by name, tokens masked, with how their delivery stands",
        Operation::Organization => "One organization",
        Operation::Pause => {
            "Nothing more of this organization is sent until it is resumed, also after a restart"
        }
        Operation::Resume => {
            "It ends every pause, Retry-After included, a suspension and an open breaker; waiting events are tried at once"
        }
        Operation::Retry => "Events of this organization that wait for another attempt are tried at once",
        Operation::TestEvent => "A made-up event, marked as a test, goes the real way to Wigzo",
        Operation::Translate => "What events would become, and why; nothing is sent",
        Operation::DeadLetters => "Dead letters that match, newest first",
        Operation::DeadLetter => "One dead letter in full",
        Operation::Replay => "Dead letters go to the end of the queue and are translated anew",
        Operation::Discard => "Dead letters are given up and go to the history, with a reason",
        Operation::Export => "Dead letters that match as lines of JSON, oldest first",
        Operation::Import => "Lines of an export are taken in as new events",
        Operation::Move => "The next part of another queue's export is taken in",
        Operation::Rotation => "Whether the process is out of rotation, and what still waits",
        Operation::Drain => "Out of rotation: `/readyz` turns 503 and the process goes on; or back",
        Operation::LogLevel => "Which lines are logged",
        Operation::SetLogLevel => {
            "Other lines are logged from now on, until the process ends or `telemetry.log` changes"
        }
        Operation::Metrics => "The metrics, in the format that `Accept` prefers",
        Operation::Document => "This document",
    }
}

// === what is sent ===

fn parameters(operation: Operation, schemas: &mut Schemas) -> Vec<Value> {
    let path = operation.path();
    let mut parameters = Vec::new();
    if path.contains("{number}") {
        let schema = json!({ "type": "integer", "minimum": 0 });
        parameters.push(in_path("number", "The number that the event was accepted under.", &schema));
    }
    if path.contains("{name}") {
        let schema = json!({ "type": "string", "minLength": 1 });
        parameters.push(in_path("name", "The organization's name.", &schema));
    }
    let own: &[&str] = match operation {
        Operation::Events => &["state", "place", "limit", "cursor"],
        Operation::DeadLetters | Operation::Export => &["limit", "cursor"],
        Operation::Organizations => &["standing", "limit", "cursor"],
        Operation::Rejected => &["organization", "message_id", "limit"],
        Operation::RefusedRequests => &["organization", "limit"],
        Operation::Move => &["export", "from"],
        _ => &[],
    };
    if matches!(operation, Operation::Events | Operation::DeadLetters | Operation::Export) {
        parameters.extend(schemas.filter());
    }
    parameters.extend(own.iter().map(|name| own_parameter(name)));
    parameters
}

fn in_path(name: &str, description: &str, schema: &Value) -> Value {
    json!({ "name": name, "in": "path", "required": true, "description": description, "schema": schema })
}

/// A parameter of a query that is no filter of events.
fn own_parameter(name: &str) -> Value {
    let (usual, most) = PAGE;
    let (description, schema) = match name {
        "state" => {
            let states: Vec<_> = State::ALL.iter().map(|state| state.as_str()).collect();
            ("Only events in this state", json!({ "type": "string", "enum": states }))
        }
        "place" => (
            "Only events that wait, that have ended, or that are dead letters",
            json!({ "type": "string", "enum": ["waiting", "settled", "dead"] }),
        ),
        "standing" => {
            let states: Vec<_> = delivery::State::ALL.iter().map(|state| state.as_str()).collect();
            ("Only organizations whose delivery stands so", json!({ "type": "string", "enum": states }))
        }
        "limit" => {
            ("At most so many", json!({ "type": "integer", "minimum": 1, "maximum": most, "default": usual }))
        }
        "cursor" => ("The `cursor` of the page before", json!({ "type": "string" })),
        "export" => ("The export's id", json!({ "type": "string" })),
        "from" => ("Lines of it that were taken before", json!({ "type": "integer", "minimum": 0 })),
        "organization" => ("Only what belongs to this organization", json!({ "type": "string" })),
        _ => ("Only the event with this message id", json!({ "type": "string" })),
    };
    let required = matches!(name, "export" | "from");
    json!({
        "name": name, "in": "query", "required": required, "description": description, "schema": schema,
    })
}

fn request_body(operation: Operation, schemas: &mut Schemas) -> Option<Value> {
    let schema = match operation {
        Operation::Pause => schemas.read::<Pause>(),
        Operation::Resume => schemas.read::<Resume>(),
        Operation::Retry => schemas.read::<Which>(),
        Operation::RetryEvent => schemas.read::<RetryEvent>(),
        Operation::TestEvent => schemas.read::<TestWish>(),
        Operation::Translate => schemas.read::<Question<'static>>(),
        Operation::Replay | Operation::Discard => schemas.read::<Decision>(),
        Operation::Drain => schemas.read::<DrainWish>(),
        Operation::SetLogLevel => schemas.read::<LogLevel>(),
        Operation::Import | Operation::Move => {
            json!({ "type": "string", "description": "Lines of an export." })
        }
        _ => return None,
    };
    let media_type = operation.media_type().unwrap_or(body::JSON);
    Some(json!({ "required": true, "content": { media_type: { "schema": schema } } }))
}

// === what is answered ===

fn responses(operation: Operation, schemas: &mut Schemas) -> Value {
    let (media_type, schema) = match operation {
        Operation::Stats => (body::JSON, schemas.print::<Live>()),
        Operation::Events => (body::JSON, schemas.print::<Events>()),
        Operation::Event | Operation::DeadLetter => (body::JSON, schemas.print::<Event>()),
        Operation::Rejected => (body::JSON, schemas.print::<Rejected>()),
        Operation::RefusedRequests => (body::JSON, schemas.print::<RefusedRequests>()),
        Operation::Organizations => (body::JSON, schemas.print::<Organizations>()),
        Operation::Organization | Operation::Pause | Operation::Resume => {
            (body::JSON, schemas.print::<Organization>())
        }
        Operation::Retry | Operation::RetryEvent => (body::JSON, schemas.print::<Retried>()),
        Operation::TestEvent => (body::JSON, schemas.print::<Sent>()),
        Operation::Translate => (body::JSON, schemas.print::<Translated<'static>>()),
        Operation::DeadLetters => (body::JSON, schemas.print::<DeadLetters>()),
        Operation::Replay | Operation::Discard => (body::JSON, schemas.print::<Done>()),
        Operation::Export => (body::LINES, json!({ "type": "string" })),
        Operation::Import => (body::JSON, schemas.print::<import::Taken>()),
        Operation::Move => (body::JSON, schemas.print::<Imported>()),
        Operation::Rotation | Operation::Drain => (body::JSON, schemas.print::<Drained>()),
        Operation::LogLevel | Operation::SetLogLevel => (body::JSON, schemas.print::<LogLevel>()),
        Operation::Metrics => (Format::Plain.content_type(), json!({ "type": "string" })),
        Operation::Document => (body::JSON, json!({ "type": "object" })),
    };
    let mut done = json!({ "description": "Done.", "content": { media_type: { "schema": schema } } });
    if operation == Operation::Metrics {
        let open = json!({ Format::OpenMetrics.content_type(): { "schema": { "type": "string" } } });
        let content = done.get_mut("content").and_then(Value::as_object_mut);
        if let Some(content) = content {
            content.extend(open.as_object().cloned().unwrap_or_default());
        }
    }
    if operation == Operation::Export {
        let header = json!({
            "description": "Where the next page begins, if there is more.", "schema": { "type": "string" },
        });
        add(&mut done, "headers", json!({ NEXT.as_str(): header }));
    }
    let mut responses = Map::from_iter([("200".to_owned(), done)]);
    let refused = schemas.print::<Refused>();
    let mut by_status = BTreeMap::<u16, Vec<Problem>>::new();
    for problem in problems(operation) {
        by_status.entry(problem.class().0.as_u16()).or_default().push(problem);
    }
    for (status, problems) in by_status {
        responses.insert(status.to_string(), refusal(status, &problems, &refused));
    }
    responses.into()
}

/// What an operation can meet.
fn problems(operation: Operation) -> Vec<Problem> {
    let appends = [AppendError::Full, AppendError::Busy, AppendError::Unavailable, AppendError::TooSlow];
    let own = match operation {
        Operation::Metrics => return vec![Problem::Unauthorized, Problem::Panicked],
        Operation::Stats
        | Operation::Rejected
        | Operation::RefusedRequests
        | Operation::Organizations
        | Operation::Rotation
        | Operation::Drain
        | Operation::LogLevel
        | Operation::SetLogLevel
        | Operation::Document => vec![],
        Operation::Events | Operation::DeadLetters | Operation::Export => vec![Problem::Queue],
        Operation::Event => vec![Problem::UnknownEvent, Problem::Queue],
        Operation::DeadLetter => vec![Problem::UnknownLetter, Problem::Queue],
        Operation::Organization | Operation::Translate => vec![Problem::UnknownOrganization],
        Operation::Pause | Operation::Resume => vec![Problem::UnknownOrganization, Problem::NotSaved],
        Operation::Retry => vec![Problem::UnknownOrganization, Problem::Queue],
        Operation::RetryEvent => {
            vec![Problem::UnknownEvent, Problem::NotWaiting(State::Dead), Problem::Queue]
        }
        Operation::TestEvent => appends
            .map(Problem::Append)
            .into_iter()
            .chain([Problem::UnknownOrganization, Problem::Queue])
            .collect(),
        Operation::Replay | Operation::Discard => vec![Problem::Halfway(500)],
        Operation::Import => appends.map(Problem::Append).into(),
        Operation::Move => vec![
            Problem::NotNext(500),
            Problem::Append(AppendError::Full),
            Problem::Append(AppendError::Unavailable),
        ],
    };
    let parameter = Problem::Parameter("limit: expected a whole number from 1 to 1000.".to_owned());
    let mut all = vec![Problem::Unauthorized, Problem::ForeignPage, parameter, Problem::Panicked];
    if let Some(media_type) = operation.media_type() {
        let body =
            Problem::Body("The body is not what this takes: expected value at line 1 column 1.".to_owned());
        all.extend([Problem::MediaType(media_type), body, Problem::BodyTooLarge(body::MAX)]);
    }
    if operation.kind() == Kind::Change {
        all.push(Problem::Role);
    }
    all.extend(own);
    all
}

/// A refusal: its codes, and an example of each.
fn refusal(status: u16, problems: &[Problem], schema: &Value) -> Value {
    let codes: BTreeMap<&str, String> =
        problems.iter().map(|problem| (problem.class().1, problem.message())).collect();
    let mut schema = schema.clone();
    add(&mut schema, "properties", json!({ "code": { "enum": codes.keys().collect::<Vec<_>>() } }));
    let examples: Map<String, Value> = codes
        .iter()
        .map(|(code, message)| ((*code).to_owned(), json!({ "value": { "message": message, "code": code } })))
        .collect();
    let description = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    json!({
        "description": format!("{}.", description.unwrap_or_default()),
        "content": { body::JSON: { "schema": schema, "examples": examples } },
    })
}

fn add(object: &mut Value, key: &str, value: Value) {
    if let Some(members) = object.as_object_mut() {
        members.insert(key.to_owned(), value);
    }
}

/// The schemas of what is read and of what is printed: a member that may be left out when it is read can be one that
/// always stands there when it is printed.
struct Schemas {
    read: SchemaGenerator,
    print: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings = |settings: &mut SchemaSettings| {
            settings.definitions_path = "/components/schemas".into();
        };
        let generator = |base: SchemaSettings| base.with(settings).into_generator();
        Self {
            read: generator(SchemaSettings::draft2020_12().for_deserialize()),
            print: generator(SchemaSettings::draft2020_12().for_serialize()),
        }
    }

    fn read<T: JsonSchema>(&mut self) -> Value {
        self.read.subschema_for::<T>().to_value()
    }

    fn print<T: JsonSchema>(&mut self) -> Value {
        self.print.subschema_for::<T>().to_value()
    }

    /// The filter of events, as parameters of a query.
    fn filter(&mut self) -> Vec<Value> {
        let schema = WrittenFilter::json_schema(&mut self.read).to_value();
        let properties = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        let parameters = properties.into_iter().map(|(name, mut schema)| {
            let members = schema.as_object_mut();
            let description = members.and_then(|members| {
                // In a query there is no null.
                if members.contains_key("type") {
                    members.insert("type".to_owned(), json!("string"));
                }
                if let Some(values) = members.get_mut("enum").and_then(Value::as_array_mut) {
                    values.retain(|value| !value.is_null());
                }
                if let Some(Value::Array(any)) = members.remove("anyOf") {
                    members.extend(
                        any.into_iter()
                            .next()
                            .and_then(|first| first.as_object().cloned())
                            .unwrap_or_default(),
                    );
                }
                members.remove("default");
                members.remove("description")
            });
            json!({ "name": name, "in": "query", "description": description, "schema": schema })
        });
        parameters.collect()
    }

    fn all(mut self) -> Value {
        let mut all = self.read.take_definitions(true);
        all.extend(self.print.take_definitions(true));
        all.into()
    }
}
