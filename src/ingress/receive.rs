//! The way of one request: authenticate, read, decode, verify, validate, keep, reply.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;

use super::authenticate::{self, Shown, Unauthenticated};
use super::probe::Phase;
use super::reply::{self, Finding, Refusal, Rejected};
use super::{Ingress, body, cors};
use crate::organization::Organization;
use crate::queue::{Appended, DedupKey, NewEnvelope};
use crate::segment::{self, Event, Kind, Rejection, RejectionCode, Route, Shape, Surroundings};

/// How a request came in.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The family of routes.
    pub(super) route: Route,
    /// The type that the path implies.
    kind: Option<Kind>,
    /// The organization that the path names.
    organization: Option<String>,
}

impl Entry {
    pub(super) fn webhook(organization: Option<String>) -> Self {
        Self { route: Route::Webhook, kind: None, organization }
    }

    pub(super) fn tracking(kind: Option<Kind>) -> Self {
        Self { route: Route::Tracking, kind, organization: None }
    }
}

/// A reply, and how long it took from the request's last byte.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) response: Response,
    pub(super) took: Duration,
}

/// What was found in a request.
struct Found {
    organization: Arc<Organization>,
    /// The only event of the request, and it is reported by its status.
    single: bool,
    envelopes: Vec<NewEnvelope>,
    rejected: Vec<(usize, Option<String>, Finding)>,
}

/// How much larger than its body a request may be once each event carries what the envelope says for all of them.
const MAX_SPREAD: u64 = 4;

/// Takes one request in, and tells it in one line.
pub(super) async fn receive(ingress: &Ingress, request: Request, entry: Entry) -> Told {
    let (head, body) = request.into_parts();
    let route = entry.route;
    let read = read(ingress, &head, body, &entry).await;
    let began = Instant::now();
    let kept = match read {
        Ok((shown, body)) => keep(ingress, &head, &body, entry, shown, began).await,
        Err(refusal) => Err(refusal),
    };
    let took = began.elapsed();
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let response = match &kept {
        Ok((organization, appended, rejected)) => {
            tracing::info!(
                organization = organization.name,
                route = route.as_str(),
                accepted = appended.accepted,
                duplicates = appended.duplicates,
                rejected = rejected.len(),
                duration_ms,
                "events kept"
            );
            reply::kept(appended, rejected)
        }
        Err(refusal) => {
            let (status, code) = refusal.class();
            tracing::warn!(
                route = route.as_str(),
                status = status.as_u16(),
                code,
                duration_ms,
                "request refused"
            );
            reply::refuse(refusal)
        }
    };
    Told { response, took }
}

/// Reads the body of a request whose head promises that it is worth it.
async fn read(
    ingress: &Ingress,
    head: &Parts,
    body: axum::body::Body,
    entry: &Entry,
) -> Result<(Shown, Bytes), Refusal> {
    if ingress.readiness.phase() == Phase::Closed {
        return Err(Refusal::Draining);
    }
    let config = &ingress.config;
    let shown = authenticate::by_head(
        &head.headers,
        &config.key_header,
        entry.organization.as_deref(),
        &ingress.organizations,
    )?;
    let body = body::read(&head.headers, body, config.max_body.as_u64(), config.read_timeout.0).await?;
    Ok((shown, body))
}

/// Everything after the body's last byte.
async fn keep(
    ingress: &Ingress,
    head: &Parts,
    body: &Bytes,
    entry: Entry,
    shown: Shown,
    began: Instant,
) -> Result<(Arc<Organization>, Appended, Vec<Rejected>), Refusal> {
    let found = find(ingress, head, body, &entry, shown)?;
    let count = found.envelopes.len() + found.rejected.len();
    ingress.metrics.received.inc_by(count as u64);
    for (_, _, finding) in &found.rejected {
        ingress.metrics.rejected(finding.code());
    }
    let rejected = report(&found, entry.route)?;
    let size: u64 = found.envelopes.iter().map(|envelope| envelope.size() as u64).sum();
    let limit = ingress.config.max_body.as_u64() * MAX_SPREAD;
    if size > limit {
        return Err(Refusal::TooLarge { limit });
    }
    let appended = if found.envelopes.is_empty() {
        Appended { accepted: 0, duplicates: 0 }
    } else {
        let patience = ingress.config.deadline.0.saturating_sub(began.elapsed());
        ingress.queue.append(found.envelopes, patience).await.map_err(Refusal::Queue)?
    };
    ingress.metrics.duplicates.inc_by(appended.duplicates as u64);
    Ok((found.organization, appended, rejected))
}

/// Decodes, verifies and validates.
fn find(ingress: &Ingress, head: &Parts, body: &[u8], entry: &Entry, shown: Shown) -> Result<Found, Refusal> {
    let config = &ingress.config;
    let form = (entry.route == Route::Webhook)
        .then(|| segment::form_body(body, body::declared_form(&head.headers)))
        .flatten();
    let decoded = form.as_ref().map_or(body, |json| json.as_bytes());
    let request = segment::decode(decoded, config.max_events).map_err(Refusal::Malformed)?;
    // What is signed is JSON that a form does not hold (segment.md 1.6): a source key vouches for it instead, as it does
    // on the tracking routes.
    let unsigned = form.is_some() && authenticate::by_key(&head.headers, &config.key_header, &shown);
    let organization = match shown {
        Shown::Known(organization) => organization,
        Shown::Nothing => authenticate::by_write_key(request.write_key.as_deref(), &ingress.organizations)?,
    };
    if !unsigned {
        authenticate::signature(&head.headers, entry.route, &organization, body, &request)?;
    }
    // Not before: who asks without a key learns nothing about the organization.
    cors::check(&head.headers, &organization)?;
    if authenticate::contradicts(request.write_key.as_deref(), &organization, &ingress.organizations) {
        tracing::warn!(
            organization = organization.name,
            route = entry.route.as_str(),
            "the body's writeKey is not this organization's: the header or path has decided; check the sender's keys"
        );
    }

    let surroundings = Surroundings { kind: entry.kind, ..request.surroundings.clone() };
    let intake = Intake {
        organization: Arc::from(organization.name.as_str()),
        route: entry.route,
        source_route: match entry.route {
            Route::Webhook => head.uri.path_and_query().map_or("/", |path| path.as_str()),
            Route::Tracking => "/v1",
        },
        received_at: ingress.clock.now(),
        stored: surroundings.to_stored().into(),
        surroundings,
        max_event: config.max_event.as_u64(),
        deletions: entry.route == Route::Webhook && form.is_none(),
    };
    let mut envelopes = Vec::with_capacity(request.items.len());
    let mut rejected = Vec::new();
    for (index, item) in request.items.iter().enumerate() {
        match intake.envelope(item.raw) {
            Ok(envelope) => envelopes.push(envelope),
            Err((message_id, finding)) => rejected.push((index, message_id, finding)),
        }
    }
    let single = request.shape == Shape::Single && organization.report_rejections;
    Ok(Found { organization, single, envelopes, rejected })
}

/// What is the same for all events of a request.
struct Intake<'a> {
    organization: Arc<str>,
    route: Route,
    source_route: &'a str,
    received_at: crate::clock::UnixMillis,
    surroundings: Surroundings<'a>,
    stored: Box<str>,
    max_event: u64,
    /// Whether it may ask for deletions.
    deletions: bool,
}

impl Intake<'_> {
    /// Puts an event into its envelope, or finds what is wrong with it.
    fn envelope(&self, raw: &serde_json::value::RawValue) -> Result<NewEnvelope, (Option<String>, Finding)> {
        if (raw.get().len() + self.stored.len()) as u64 > self.max_event {
            return Err((segment::message_id(raw), Finding::TooLarge { limit: self.max_event }));
        }
        let event = Event::read(raw, &self.surroundings)
            .map_err(|rejection| (segment::message_id(raw), Finding::Rule(rejection)))?;
        if event.kind == Kind::Delete && !self.deletions {
            // A write key is public in every browser: it may add to what is known of a person, not take it away. It is all
            // that vouches for a form.
            let message = "A deletion is taken from Segment's webhooks only.".to_owned();
            let code = RejectionCode::UnsupportedEventType;
            return Err((
                segment::message_id(raw),
                Finding::Rule(Rejection { code, pointer: "/type", message }),
            ));
        }
        let message_id: Box<str> = match &event.message_id {
            Some(id) => id.as_ref().into(),
            None => self.made_up_id(&event, raw.get()),
        };
        Ok(NewEnvelope {
            organization: Arc::clone(&self.organization),
            route: self.route.as_str().into(),
            key: DedupKey::new(&self.organization, self.source_route, &message_id),
            message_id,
            lane: event.person().into(),
            kind: event.kind.as_str().into(),
            title: event.title().into(),
            received_at: self.received_at,
            payload: raw.get().into(),
            surroundings: self.stored.clone(),
            forgets: event.kind == Kind::Delete,
        })
    }

    /// An id for an event that came without one: the same bytes get the same id, so that a request which is sent
    /// again is recognised.
    fn made_up_id(&self, event: &Event<'_>, raw: &str) -> Box<str> {
        let key = DedupKey::new(&self.organization, event.person(), raw);
        format!("made-up-{:032x}", u128::from_be_bytes(key.0)).into()
    }
}

/// What is said of the refused events: with the status if there is nothing else in the request, else with the reply.
fn report(found: &Found, route: Route) -> Result<Vec<Rejected>, Refusal> {
    if let (true, [(_, _, finding)]) = (found.single, found.rejected.as_slice()) {
        return Err(Refusal::Event { finding: finding.clone(), route });
    }
    let rejected = found.rejected.iter().map(|(index, message_id, finding)| Rejected {
        index: *index,
        message_id: message_id.clone(),
        code: finding.code(),
        message: finding.message(),
        pointer: finding.pointer(),
    });
    Ok(rejected.collect())
}

impl From<Unauthenticated> for Refusal {
    fn from(Unauthenticated: Unauthenticated) -> Self {
        Self::Unauthenticated
    }
}
