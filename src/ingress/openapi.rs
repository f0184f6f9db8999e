//! The OpenAPI 3.1 document of the public side.
//!
//! Nothing is told here that is written elsewhere: paths and methods are the table that the router is built from
//! ([`address`]), statuses and codes are the reply table ([`Refusal`]), the schemas of replies are those of the structs
//! that are printed, limits are the configuration's. Only what a sender may post is written down ([`event`]), and a
//! test holds it against the reader.

mod event;

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::Config;
use super::address::{self, Address, Purpose};
use super::audience::Audience;
use super::probe::Probe;
use super::reply::{self, Kept, Refusal, Refused};
use crate::segment::Route;

/// The encodings of a body; `x-gzip` is the old name of `gzip`.
const ENCODINGS: [&str; 6] = ["identity", "gzip", "x-gzip", "deflate", "br", "zstd"];

/// The whole document.
pub(super) fn document(config: &Config) -> Value {
    let mut paths = Map::new();
    for Address { path, purpose } in address::all() {
        let mut item = Map::new();
        for method in purpose.methods() {
            let operation = operation(&path, purpose, method, config);
            item.insert(method.as_str().to_ascii_lowercase(), operation);
        }
        paths.insert(path, Value::Object(item));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": env!("CARGO_PKG_NAME"),
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Segment events in, Wigzo calls out. A request is atomic: all of its valid events are on disk \
                            when it is answered with 200, or none is kept and the status says so. Any other path is \
                            answered with 404, any other method with 405 and `Allow`; never with a redirect. Doubled and \
                            trailing slashes in a path count as not there.",
            "license": { "name": env!("CARGO_PKG_LICENSE") },
        },
        "paths": paths,
        "components": {
            "schemas": schemas(config),
            "responses": shared_responses(config),
            "securitySchemes": security_schemes(config),
        },
    })
}

fn operation(path: &str, purpose: Purpose, method: &Method, config: &Config) -> Value {
    if method == Method::OPTIONS {
        return with_path_parameter(preflight(path), purpose);
    }
    let id = format!("{}{}", method.as_str().to_ascii_lowercase(), path.replace(['/', '.'], "_"));
    let operation = json!({
        "operationId": id.replace(['{', '}'], ""),
        "summary": summary(purpose),
        "tags": [route(purpose).map_or("service", Route::as_str)],
        "responses": responses(purpose, method, config),
    });
    if purpose == Purpose::Audiences {
        return with(operation, "requestBody", audience_body());
    }
    let Some(route) = route(purpose) else { return with_path_parameter(operation, purpose) };
    let mut parameters = vec![json!({
        "name": "Content-Encoding",
        "in": "header",
        "description": "How the body is packed, in one or several members; limits count its unpacked bytes. gzip and zstd are recognized without it.",
        "schema": { "type": "string", "enum": ENCODINGS },
    })];
    if config.partner_mode {
        parameters.push(json!({
            "name": "X-Segment-Settings",
            "in": "header",
            "description": "Base64 of a JSON object with a partner organization's `orgToken` and options. It is looked at \
                            only if no source key and no path says whose the request is.",
            "schema": { "type": "string" },
        }));
    }
    let operation = with_path_parameter(with(operation, "parameters", parameters.into()), purpose);
    let operation = with(operation, "requestBody", request_body(purpose));
    with(operation, "security", security(route, config))
}

/// What a browser asks before a page of another origin may post.
fn preflight(path: &str) -> Value {
    json!({
        "operationId": format!("options{}", path.replace('/', "_").replace(['{', '}'], "")),
        "summary": "Whether a page of another origin may send here (CORS preflight)",
        "tags": ["cors"],
        "responses": { "204": { "description": "It may, with the methods and headers that the answer names; the headers are those that it asked for." } },
    })
}

/// Adds the parameters that stand in the path, and in the address of an image.
fn with_path_parameter(mut operation: Value, purpose: Purpose) -> Value {
    let parameters = match purpose {
        Purpose::NamedWebhook => vec![json!({
            "name": "organization",
            "in": "path",
            "required": true,
            "description": "The organization's name in the configuration.",
            "schema": { "type": "string", "minLength": 1 },
        })],
        Purpose::Pixel => vec![
            json!({
                "name": "type",
                "in": "path",
                "required": true,
                "description": "The type of the event: track, page, …; another one is an image all the same.",
                "schema": { "type": "string", "minLength": 1 },
            }),
            json!({
                "name": "data",
                "in": "query",
                "description": "The event as base64 of JSON, `writeKey` included. Without it, the other parameters are the event's members.",
                "schema": { "type": "string" },
            }),
        ],
        _ => return operation,
    };
    if let Some(members) = operation.as_object_mut() {
        let list = members.entry("parameters").or_insert_with(|| json!([]));
        list.as_array_mut().into_iter().for_each(|list| list.extend(parameters.clone()));
    }
    operation
}

fn summary(purpose: Purpose) -> String {
    match purpose {
        Purpose::Webhook => "Events from Segment's webhook-style destinations".to_owned(),
        Purpose::NamedWebhook => "The same for the organization that the path names".to_owned(),
        Purpose::Audiences => {
            "An audience's id, for the requests of Webhook Audiences that create and look up".to_owned()
        }
        Purpose::Batch => "Events from a Segment library, as it collects them".to_owned(),
        Purpose::Events(kind) => format!("Events of the type {} from a Segment library", kind.as_str()),
        Purpose::Pixel => "An event in the address of an image".to_owned(),
        Purpose::Live => "Whether the process runs".to_owned(),
        Purpose::Ready => "Whether events should be sent here, and if not, why".to_owned(),
        Purpose::Document => "This document".to_owned(),
    }
}

fn route(purpose: Purpose) -> Option<Route> {
    match purpose {
        Purpose::Webhook | Purpose::NamedWebhook => Some(Route::Webhook),
        Purpose::Batch | Purpose::Events(_) => Some(Route::Tracking),
        Purpose::Audiences | Purpose::Pixel | Purpose::Live | Purpose::Ready | Purpose::Document => None,
    }
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

/// An object with one member more.
fn with(mut object: Value, key: &str, value: Value) -> Value {
    if let Some(members) = object.as_object_mut() {
        members.insert(key.to_owned(), value);
    }
    object
}

// === requests ===

fn request_body(purpose: Purpose) -> Value {
    let kind = match purpose {
        Purpose::Events(kind) => Some(kind),
        _ => None,
    };
    let schema = reference(&event::body_name(kind));
    json!({
        "required": true,
        "description": "JSON under any content type; a UTF-8 byte order mark before it is skipped. An event of a list that breaks a rule is refused alone, and is \
                        named in `rejected`.",
        "content": {
            "application/json": { "schema": schema },
            "text/plain": { "schema": schema },
        },
    })
}

fn audience_body() -> Value {
    json!({
        "required": true,
        "description": "`audienceName` creates, `externalId` looks up; neither key nor signature is asked for, and nothing \
                        is kept.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": { "audienceName": { "type": "string" }, "externalId": { "type": "string" } },
                    "anyOf": [{ "required": ["audienceName"] }, { "required": ["externalId"] }],
                },
            },
        },
    })
}

fn security_schemes(config: &Config) -> Value {
    let user = if config.partner_mode {
        "The source key, or a partner's organization token,"
    } else {
        "The source key"
    };
    let schemes = json!({
        "sourceKeyAsUser": {
            "type": "http", "scheme": "basic",
            "description": format!("{user} is the user name; the password is not looked at."),
        },
        "sourceKeyAsToken": { "type": "http", "scheme": "bearer", "description": "The source key." },
        "signature": {
            "type": "apiKey", "in": "header", "name": "X-Signature",
            "description": "HMAC-SHA1 of the body with one of the organization's shared secrets, in hex. Asked for on \
                            webhook paths where the organization has shared secrets.",
        },
    });
    if config.key_header.is_empty() {
        return schemes;
    }
    let header = json!({ "type": "apiKey", "in": "header", "name": config.key_header, "description": "The source key." });
    with(schemes, "sourceKeyInHeader", header)
}

/// The ways to be known. The last, empty one is `writeKey` in the body, the organization in the path, or an
/// organization that is open.
fn security(route: Route, config: &Config) -> Value {
    let mut keys = vec![json!({ "sourceKeyAsUser": [] }), json!({ "sourceKeyAsToken": [] })];
    if !config.key_header.is_empty() {
        keys.push(json!({ "sourceKeyInHeader": [] }));
    }
    keys.push(json!({}));
    if route == Route::Webhook {
        let signed: Vec<Value> = keys.iter().map(|key| with(key.clone(), "signature", json!([]))).collect();
        keys.extend(signed);
    }
    keys.into()
}

// === replies ===

/// The schemas of everything that is sent and answered.
fn schemas(config: &Config) -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .for_serialize()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .into_generator();
    generator.subschema_for::<Kept<'static>>();
    generator.subschema_for::<Refused>();
    generator.subschema_for::<Probe>();
    generator.subschema_for::<Audience>();
    let mut schemas = generator.take_definitions(true);
    schemas.extend(event::schemas(config));
    Value::Object(schemas)
}

fn responses(purpose: Purpose, method: &Method, config: &Config) -> Value {
    let mut responses = match (route(purpose), purpose) {
        (Some(route), _) => events_responses(route, config)
            .keys()
            .map(|status| {
                (
                    status.clone(),
                    json!({ "$ref": format!("#/components/responses/{}-{status}", route.as_str()) }),
                )
            })
            .collect(),
        (None, Purpose::Ready) => json!({
            "200": response("Events are taken.", &reference("Probe")),
            "503": response("Events should be sent elsewhere.", &reference("Probe")),
        }),
        (None, Purpose::Document) => json!({
            "200": response("An OpenAPI 3.1 document.", &json!({ "type": "object" })),
        }),
        (None, Purpose::Audiences) => {
            let mut responses = refusals_by_status(Refusal::of_audiences());
            responses.insert("200".to_owned(), response("The audience's id.", &reference("Audience")));
            Value::Object(responses)
        }
        (None, Purpose::Pixel) => json!({
            "200": {
                "description": "The image, whatever became of the event.",
                "content": { "image/gif": {} },
            },
        }),
        (None, _) => json!({ "200": response("The process runs.", &reference("Probe")) }),
    };
    let (panicked, code) = reply::PANICKED;
    if route(purpose).is_none() {
        let panicked_reply = refusals(panicked, &BTreeMap::from([(code, None)]));
        responses = with(responses, panicked.as_str(), panicked_reply);
    }
    if method == Method::HEAD
        && let Some(all) = responses.as_object_mut()
    {
        for response in all.values_mut().filter_map(Value::as_object_mut) {
            response.remove("content");
        }
    }
    responses
}

/// What is answered to events, once for all paths.
fn shared_responses(config: &Config) -> Map<String, Value> {
    let of = |route: Route| {
        let responses = events_responses(route, config).into_iter();
        responses.map(move |(status, response)| (format!("{}-{status}", route.as_str()), response))
    };
    of(Route::Webhook).chain(of(Route::Tracking)).collect()
}

/// The replies to events by status.
fn events_responses(route: Route, config: &Config) -> Map<String, Value> {
    // These two are said of other paths and methods than those of this document.
    let is_here = |refusal: &Refusal| !matches!(refusal, Refusal::UnknownPath | Refusal::Method);
    let mut responses = refusals_by_status(Refusal::every(route, config).into_iter().filter(is_here));
    responses.insert("200".to_owned(), response("Every valid event is on disk.", &reference("Kept")));
    responses
}

fn refusals_by_status(every: impl IntoIterator<Item = Refusal>) -> Map<String, Value> {
    let mut by_status = BTreeMap::<u16, BTreeMap<&'static str, Option<String>>>::new();
    for refusal in every {
        let (status, code) = refusal.class();
        by_status.entry(status.as_u16()).or_default().entry(code).or_insert_with(|| Some(refusal.message()));
    }
    let (panicked, code) = reply::PANICKED;
    by_status.entry(panicked.as_u16()).or_default().insert(code, None);
    let mut responses = Map::new();
    for (number, codes) in by_status {
        let status = StatusCode::from_u16(number).unwrap_or_default();
        responses.insert(status.as_str().to_owned(), refusals(status, &codes));
    }
    responses
}

/// A refusal: its codes, and an example of each.
fn refusals(status: StatusCode, codes: &BTreeMap<&'static str, Option<String>>) -> Value {
    let kept = if status == reply::PANICKED.0 { "What was kept is unknown" } else { "Nothing was kept" };
    let description = format!("{}. {kept}.", status.canonical_reason().unwrap_or_default());
    let code = json!({ "code": { "enum": codes.keys().collect::<Vec<_>>() } });
    let mut content = json!({ "schema": with(reference("Refused"), "properties", code) });
    let examples: Map<String, Value> = codes
        .iter()
        .filter_map(|(&code, message)| Some((code, message.as_ref()?)))
        .map(|(code, message)| (code.to_owned(), json!({ "value": { "message": message, "code": code } })))
        .collect();
    if !examples.is_empty() {
        content = with(content, "examples", Value::Object(examples));
    }
    let response = json!({ "description": description, "content": { "application/json": content } });
    if !reply::come_again(status) {
        return response;
    }
    let header = json!({
        "Retry-After": {
            "required": true,
            "description": "Seconds after which to send it again.",
            "schema": { "type": "integer", "minimum": 0 },
        },
    });
    with(response, "headers", header)
}

fn response(description: &str, schema: &Value) -> Value {
    json!({ "description": description, "content": { "application/json": { "schema": schema } } })
}
