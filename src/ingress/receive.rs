//! The way of one request: read, decode, authenticate, validate, keep, reply.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::header::USER_AGENT;
use http::request::Parts;
use uuid::Uuid;

use super::accept::Remote;
use super::authenticate::{self, Unauthenticated};
use super::failures::Peer;
use super::probe::Phase;
use super::reply::{self, Finding, Refusal, Rejected, Taken, Warned};
use super::{Ingress, body, cors, partner};
use crate::organization::Organization;
use crate::queue::{self, Appended, DedupKey, NewEnvelope, SourceRoute};
use crate::segment::{self, Event, Kind, Raw, Rejection, RejectionCode, Route, Shape, Surroundings};
use crate::telemetry::{Fingerprint, Logging, Origin, Refused, tell};

/// How a request came in.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The family of routes.
    pub(super) route: Route,
    /// The type that the path implies.
    kind: Option<Kind>,
    /// The organization that the path names.
    organization: Option<String>,
    /// What an event without `messageId` gets for one.
    missing_id: MissingId,
}

/// What an event without `messageId` gets for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MissingId {
    /// Random: each event counts.
    Random,
    /// Made from its user and its bytes: equal events are one.
    FromContent,
}

impl Entry {
    pub(super) fn webhook(organization: Option<String>) -> Self {
        Self { route: Route::Webhook, kind: None, organization, missing_id: MissingId::Random }
    }

    pub(super) fn tracking(kind: Option<Kind>) -> Self {
        Self { route: Route::Tracking, kind, organization: None, missing_id: MissingId::Random }
    }

    /// An image: mail programs load it again whenever they show it.
    pub(super) fn pixel(kind: Kind) -> Self {
        Self { missing_id: MissingId::FromContent, ..Self::tracking(Some(kind)) }
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
    warned: Vec<Warned>,
}

/// How much larger than its body a request may be once each event carries what the envelope says for all of them.
const MAX_SPREAD: u64 = 4;

/// Takes one request in, and tells it in one line.
pub(super) async fn receive(ingress: &Ingress, request: Request, entry: Entry) -> Told {
    let (head, body) = request.into_parts();
    let route = entry.route;
    let read = read(ingress, &head, body).await;
    let began = Instant::now();
    let kept = match read {
        Ok(body) => keep(ingress, &head, &body, entry, began).await,
        Err(refusal) => Err(refusal),
    };
    let took = began.elapsed();
    let trace_id = head.extensions.get::<Origin>().and_then(Origin::trace_id).map(tracing::field::display);
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let response = match &kept {
        Ok((organization, kept)) => {
            tracing::info!(
                organization = organization.name,
                route = route.as_str(),
                accepted = kept.appended.accepted,
                duplicates = kept.appended.duplicates,
                rejected = kept.rejected.len(),
                duration_ms,
                trace_id,
                "events kept"
            );
            reply::kept(kept)
        }
        // Logged by client, reason and minute: whoever has no key must not fill the log.
        Err(refusal @ (Refusal::Unauthenticated(_) | Refusal::TooManyFailures { .. })) => {
            reply::refuse(refusal)
        }
        Err(refusal) => {
            let (status, code) = refusal.class();
            tell!(warn or info if Logging::repeats("request refused", "", code);
                route = route.as_str(),
                status = status.as_u16(),
                code,
                duration_ms,
                trace_id,
                "request refused"
            );
            reply::refuse(refusal)
        }
    };
    Told { response, took }
}

/// Counts and remembers a failed authentication, and turns the 401 of a client that fails too often into a 429. It comes
/// after everything that good credentials go through, so that they pass whatever their address has done.
fn refuse(
    ingress: &Ingress,
    head: &Parts,
    entry: &Entry,
    request: &segment::Request<'_>,
    Unauthenticated { reason, claimed }: Unauthenticated,
) -> Refusal {
    ingress.metrics.unauthenticated(reason.as_str());
    let remote = head.extensions.get::<Remote>().map(|&Remote(address)| address);
    let now = ingress.clock.now();
    let peer = remote.map(Peer::new).unwrap_or_default();
    if let Err(retry_after) = ingress.failures.count(peer, reason, now) {
        return Refusal::TooManyFailures { retry_after };
    }
    let in_path = || ingress.organizations.by_name(entry.organization.as_deref()?).cloned();
    let user_agent = head.headers.get(USER_AGENT).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let refused = Refused {
        organization: claimed.or_else(in_path).map(|organization| organization.name.as_str().into()),
        reason,
        peer: remote.map(|address| address.to_canonical()),
        path: Refused::text(head.uri.path()),
        user_agent: user_agent.map(|text| Refused::text(&text)),
        key_fingerprint: authenticate::shown_key(&head.headers, &ingress.config, request)
            .map(|key| Fingerprint::of(&key)),
    };
    ingress.refused.note(refused, now);
    Refusal::Unauthenticated(reason)
}

/// Reads the body, whoever sends it: a request that is refused before would tell that its key is wrong, or that its
/// organization does not exist, by how soon the answer comes.
async fn read(ingress: &Ingress, head: &Parts, body: axum::body::Body) -> Result<Bytes, Refusal> {
    if ingress.readiness.phase() == Phase::Closed {
        return Err(Refusal::Draining);
    }
    let config = &ingress.config;
    body::read(&head.headers, body, config.max_body.as_u64(), config.read_timeout.0).await
}

/// Everything after the body's last byte.
async fn keep(
    ingress: &Ingress,
    head: &Parts,
    body: &Bytes,
    entry: Entry,
    began: Instant,
) -> Result<(Arc<Organization>, Taken), Refusal> {
    let found = find(ingress, head, body, &entry)?;
    let count = found.envelopes.len() + found.rejected.len();
    ingress.metrics.received.inc_by(count as u64);
    for (_, _, finding) in &found.rejected {
        ingress.metrics.rejected(finding.code());
    }
    remember(ingress, &found);
    let rejected = report(&found, entry.route)?;
    let size: u64 = found.envelopes.iter().map(|envelope| envelope.size() as u64).sum();
    let limit = ingress.config.max_body.as_u64() * MAX_SPREAD;
    if size > limit {
        return Err(Refusal::TooLarge { limit });
    }
    let appended = if found.envelopes.is_empty() {
        Appended { accepted: 0, duplicates: 0 }
    } else {
        partner::admit(
            &found.organization,
            found.envelopes.len(),
            &ingress.organizations,
            &ingress.queue,
            &ingress.config,
        )?;
        let patience = ingress.config.deadline.0.saturating_sub(began.elapsed());
        let organization = &found.organization.name;
        let _span = head.extensions.get::<Origin>().map(|it| it.append(organization, found.envelopes.len()));
        ingress.queue.append(found.envelopes, patience).await.map_err(Refusal::Queue)?
    };
    ingress.metrics.duplicates.inc_by(appended.duplicates as u64);
    for warned in &found.warned {
        ingress.metrics.warned(warned.code);
    }
    Ok((found.organization, Taken { appended, rejected, warned: found.warned }))
}

/// Remembers the refused events, so that whoever misses one can ask for it. Strangers are not remembered: they could
/// push everybody else out.
fn remember(ingress: &Ingress, Found { organization, rejected, .. }: &Found) {
    if rejected.is_empty()
        || (organization.is_partner() && !ingress.organizations.is_proven_partner(&organization.name))
    {
        return;
    }
    let (at, name) = (ingress.clock.now(), Arc::from(organization.name.as_str()));
    for (_, message_id, finding) in rejected {
        ingress.queue.refusals().note(queue::Refusal {
            at,
            organization: Arc::clone(&name),
            message_id: message_id.as_deref().map(Into::into),
            code: finding.code(),
            pointer: finding.pointer(),
        });
    }
}

/// Decodes, authenticates and validates. In this order: a body that is none is told to everybody, so that a 400 does
/// not tell who was known.
fn find(ingress: &Ingress, head: &Parts, body: &[u8], entry: &Entry) -> Result<Found, Refusal> {
    let Ingress { config, organizations, .. } = ingress;
    let path = entry.organization.as_deref();
    let shown = authenticate::by_head(&head.headers, config, path, organizations);
    let form = (entry.route == Route::Webhook)
        .then(|| segment::form_body(body, body::declared_form(&head.headers)))
        .flatten();
    let decoded = form.as_ref().map_or(body, |json| json.as_bytes());
    let request = segment::decode(decoded, config.max_events).map_err(Refusal::Malformed)?;
    // What is signed is JSON that a form does not hold (segment.md 1.6): a source key vouches for it instead, as it does
    // on the tracking routes.
    let unsigned = form.is_some() && authenticate::is_by_key(&head.headers, &config.key_header, &shown);
    let asked_as = if unsigned { Route::Tracking } else { entry.route };
    let signed = authenticate::Signed { headers: &head.headers, route: asked_as, body };
    let organization = authenticate::prove(shown, &signed, &request, config, organizations)
        .map_err(|unauthenticated| refuse(ingress, head, entry, &request, unauthenticated))?;
    // Not before: who asks without a key learns nothing about the organization.
    cors::check(&head.headers, &organization)?;
    if organization.disabled {
        return Err(Refusal::Disabled);
    }
    if authenticate::contradicts(request.write_key.as_deref(), &organization, organizations) {
        tracing::warn!(
            organization = organization.name,
            route = entry.route.as_str(),
            "the body's writeKey is not this organization's: the header or path has decided; check the sender's keys"
        );
    }

    // A partner's events carry what delivery must know of it.
    let settings = organization.settings.as_deref().map(Raw::trusted);
    let surroundings = Surroundings { kind: entry.kind, settings, ..request.surroundings.clone() };
    let stored = surroundings.to_stored();
    let around = stored.len();
    // It does not count as a part of the event: whether it is traced must not decide whether it is too large.
    let stored = match head.extensions.get::<Origin>() {
        Some(origin) => {
            let trace = Some(origin.to_stored(request.items.len()).into());
            Surroundings { trace, ..surroundings.clone() }.to_stored()
        }
        None => stored,
    };
    let intake = Intake {
        organization: Arc::from(organization.name.as_str()),
        route: entry.route,
        source_route: SourceRoute::new(match entry.route {
            Route::Webhook => head.uri.path_and_query().map_or("/", |path| path.as_str()),
            Route::Tracking => "/v1",
        }),
        received_at: ingress.clock.now(),
        stored: stored.into(),
        around,
        surroundings,
        max_event: config.max_event.as_u64(),
        deletions: entry.route == Route::Webhook && form.is_none(),
        missing_id: entry.missing_id,
    };
    let mut envelopes = Vec::with_capacity(request.items.len());
    let (mut rejected, mut warned) = (Vec::new(), Vec::new());
    let (mut item_key, mut contradicting) = (None, 0_usize);
    for (index, item) in request.items.iter().enumerate() {
        let event = match intake.event(item.raw) {
            Ok(event) => event,
            Err(finding) => {
                rejected.push((index, segment::message_id(item.raw), finding));
                continue;
            }
        };
        envelopes.push(intake.envelope(&event, item.raw));
        warned.extend(event.warnings.iter().map(|warning| Warned { index, code: warning.as_str() }));
        // Items of one batch name one key, if any: each is looked up once.
        if event.write_key.is_some() && event.write_key != item_key {
            item_key = event.write_key;
            let others =
                authenticate::contradicts(item_key.as_deref(), &organization, &ingress.organizations);
            contradicting += usize::from(others);
        }
    }
    if contradicting > 0 && request.shape != Shape::Single {
        tracing::warn!(
            organization = organization.name,
            route = entry.route.as_str(),
            "an item's writeKey is not this organization's: the request's own key has decided; check the sender's keys"
        );
    }
    let single = request.shape == Shape::Single && organization.report_rejections;
    Ok(Found { organization, single, envelopes, rejected, warned })
}

/// What is the same for all events of a request.
struct Intake<'a> {
    organization: Arc<str>,
    route: Route,
    source_route: SourceRoute,
    received_at: crate::clock::UnixMillis,
    surroundings: Surroundings<'a>,
    stored: Box<str>,
    /// Bytes of what stands around each event that count as the event's.
    around: usize,
    max_event: u64,
    /// Whether it may ask for deletions.
    deletions: bool,
    missing_id: MissingId,
}

impl Intake<'_> {
    /// Reads an event, or finds what is wrong with it.
    fn event<'a>(&'a self, raw: Raw<'a>) -> Result<Event<'a>, Finding> {
        let size = (raw.get().len() + self.around) as u64;
        read_event(raw, &self.surroundings, size, self.max_event, self.deletions)
    }

    /// Puts an event into its envelope.
    fn envelope(&self, event: &Event<'_>, raw: Raw<'_>) -> NewEnvelope {
        let message_id: Box<str> = match &event.message_id {
            Some(id) => id.as_ref().into(),
            None => self.made_up_id(event, raw.get()),
        };
        NewEnvelope {
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
        }
    }

    /// An id for an event that came without one.
    fn made_up_id(&self, event: &Event<'_>, raw: &str) -> Box<str> {
        let id = match self.missing_id {
            MissingId::Random => Uuid::new_v4().as_u128(),
            MissingId::FromContent => {
                let key = DedupKey::new(&self.organization, SourceRoute::new(event.person()), raw);
                u128::from_be_bytes(key.0)
            }
        };
        format!("made-up-{id:032x}").into()
    }
}

/// Reads an event of `size` bytes, what stands around it counted, or finds why it is not taken. `deletions`: whether the
/// way that it came by may ask for them.
pub(super) fn read_event<'a>(
    raw: Raw<'a>,
    surroundings: &Surroundings<'a>,
    size: u64,
    max_event: u64,
    deletions: bool,
) -> Result<Event<'a>, Finding> {
    if size > max_event {
        return Err(Finding::TooLarge { limit: max_event });
    }
    let event = Event::read(raw, surroundings).map_err(Finding::Rule)?;
    if event.kind == Kind::Delete && !deletions {
        // A write key is public in every browser: it may add to what is known of a person, not take it away. It is all
        // that vouches for a form.
        let message = "A deletion is taken from Segment's webhooks only.".to_owned();
        let code = RejectionCode::UnsupportedEventType;
        return Err(Finding::Rule(Rejection { code, pointer: "/type", message }));
    }
    Ok(event)
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
