//! The work on one envelope: read, translate, call, judge. What comes of it is put on disk by whoever has started it.

mod account;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use tokio_util::sync::CancellationToken;

use account::{Tried, reason};

use super::client::{self, Answer, Client, Failure, Outgoing, Try};
use super::scheduler::{Answer as Said, Blocked, News, Permit};
use super::{Config, OnAmbiguous};
use crate::clock::{Clock, UnixMillis};
use crate::organization::{ObeyIntegrations, Organization, Organizations, Partner};
use crate::outcome::{Outcome, Owed, Reason};
use crate::queue::{Account, Claim, Envelope, Progress, Queue, Resolution, Settlement};
use crate::segment::{Arrival, Event, Raw, Route, Surroundings};
use crate::telemetry::{Logging, Metrics, PARTNERS, Round as Span, RoundTold, TraceId, Traces, tell};
use crate::translate::{Filtered, Skip, Skipped, Translation, translate};
use crate::wigzo::{Call, Endpoint, Misfit, Verdict, verdict};

/// How soon an event that was refused is tried again, while it is unknown whether the refusal is its own.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What every round of work needs.
#[derive(Debug, Clone)]
pub(super) struct Workshop {
    pub(super) config: Config,
    pub(super) client: Client,
    pub(super) queue: Queue,
    pub(super) organizations: Arc<Organizations>,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) traces: Traces,
    /// Cancelled when the drain deadline has passed.
    pub(super) stop: CancellationToken,
}

/// How a round of work ended. It is not on disk yet.
#[derive(Debug)]
pub(super) struct Round {
    /// The envelope.
    pub(super) claim: Owed<Claim>,
    /// What is to be recorded of it; nothing, if no call was made because [`Round::needs`] may not be called now.
    pub(super) settlement: Option<Settlement>,
    /// The endpoint that the event needs next, or needed last.
    pub(super) needs: Endpoint,
    /// Whether that endpoint may not be called now.
    pub(super) is_blocked: bool,
    /// The permit of the last call.
    pub(super) permit: Permit,
    /// What it said about the organization.
    pub(super) news: News,
    /// When the work began.
    pub(super) began: UnixMillis,
    /// Its span, if the event's request was traced.
    pub(super) span: Option<Box<Span>>,
}

/// The judgement on one round.
struct Judgement {
    resolution: Resolution,
    news: News,
    /// What is on record for the event from now on.
    progress: Progress,
    account: Account,
    detail: Detail,
    needs: Endpoint,
    /// Whether the endpoint that it needs may not be called now, and whether calls were made before.
    blocked: Option<HasCalled>,
}

/// Whether calls of the event were made in this round.
type HasCalled = bool;

/// Which calls are not made for which field: names of the table and of fields, never values.
type Detail = Option<Box<str>>;

/// Why an event needs no call, or can have none.
struct NoCalls {
    outcome: Outcome,
    reason: Reason,
    detail: Detail,
}

impl NoCalls {
    fn new(outcome: Outcome, reason: Reason) -> Self {
        Self { outcome, reason, detail: None }
    }
}

impl Judgement {
    /// A round that found nothing wrong and has this outcome.
    fn ended(envelope: &Envelope, outcome: Outcome, reason: Reason, detail: Detail) -> Self {
        Self {
            resolution: Resolution::Ended { outcome, reason },
            news: News::default(),
            progress: envelope.progress.clone(),
            account: Account::InFull(Vec::new()),
            detail,
            needs: Endpoint::Event,
            blocked: None,
        }
    }
}

impl Workshop {
    /// Works an envelope of a configured organization or of the partner it carries once.
    pub(super) async fn work(
        &self,
        claim: Owed<Claim>,
        configured: Option<Arc<Organization>>,
        mut permit: Permit,
    ) -> Round {
        let envelope = &claim.get().envelope;
        let began = self.clock.now();
        let span = self.traces.round(|| Surroundings::from_stored(&envelope.content.surroundings)?.trace);
        let span = span.map(Box::new);
        let judgement = match configured.or_else(|| self.partner(envelope)) {
            Some(organization) => self.round(envelope, &organization, span.as_deref(), &mut permit).await,
            None => Judgement::ended(envelope, Outcome::Dead, Reason::Unreadable, None),
        };
        let Judgement { resolution, news, progress, account, detail, needs, blocked } = judgement;
        let settlement = (blocked != Some(false)).then(|| Settlement {
            progress,
            account,
            detail,
            ..Settlement::of(&claim.get().envelope, resolution)
        });
        Round { claim, settlement, needs, is_blocked: blocked.is_some(), permit, news, began, span }
    }

    /// The partner that an envelope carries.
    fn partner(&self, envelope: &Envelope) -> Option<Arc<Organization>> {
        let surroundings = Surroundings::from_stored(&envelope.content.surroundings)?;
        self.organizations.partner(surroundings.settings?.get())
    }

    async fn round(
        &self,
        envelope: &Envelope,
        organization: &Organization,
        span: Option<&Span>,
        permit: &mut Permit,
    ) -> Judgement {
        let judgement = match self.calls(envelope, organization) {
            Ok((calls, detail)) => self.make(&calls, detail, envelope, organization, span, permit).await,
            Err(NoCalls { outcome, reason, detail }) => Judgement::ended(envelope, outcome, reason, detail),
        };
        let has_succeeded = judgement.news.endpoints.iter().any(|(_, news)| news.answer == Said::Good);
        if organization.is_partner() && has_succeeded {
            self.organizations.note_proven_partner(&envelope.content.organization);
        }
        judgement
    }

    /// What must be called for an event, or its outcome if nothing must.
    fn calls(
        &self,
        envelope: &Envelope,
        organization: &Organization,
    ) -> Result<(Vec<Call>, Detail), NoCalls> {
        let content = &envelope.content;
        let age = self.clock.age(content.received_at);
        let is_unproven =
            organization.is_partner() && !self.organizations.is_proven_partner(&content.organization);
        let max_age = organization.max_age.or(self.config.max_age);
        let limits = [max_age, is_unproven.then_some(self.config.unproven_partner_max_age)];
        // What a person had replayed is meant to be delivered, however old it is.
        if envelope.replays == 0 && limits.into_iter().flatten().any(|limit| age > limit.0) {
            return Err(NoCalls::new(Outcome::Expired, Reason::MaxAge));
        }
        let unreadable = || NoCalls::new(Outcome::Dead, Reason::Unreadable);
        let surroundings = Surroundings::from_stored(&content.surroundings).ok_or_else(unreadable)?;
        let route = Route::parse(&content.route).ok_or_else(unreadable)?;
        let event = Event::read(Raw::trusted(&content.payload), &surroundings).map_err(|_| unreadable())?;
        if obeyed(organization.obey_integrations, route).is_some_and(|route| !event.wanted(route)) {
            return Err(NoCalls::new(Outcome::Filtered, Reason::NotWanted));
        }
        let received_at = i64::try_from(content.received_at.0).map_err(|_| unreadable())?;
        let arrival = Arrival { route, received_at };
        let translation = translate(&event, arrival, &organization.profile, &organization.translation);
        let detail = detail(&translation);
        match translation.into_calls() {
            Ok(calls) => Ok((calls, detail)),
            Err(filtered) => Err(NoCalls { outcome: Outcome::Filtered, reason: reason_of(filtered), detail }),
        }
    }

    /// Makes the calls that have not been made yet, in order, until one fails.
    async fn make(
        &self,
        calls: &[Call],
        detail: Detail,
        envelope: &Envelope,
        organization: &Organization,
        span: Option<&Span>,
        permit: &mut Permit,
    ) -> Judgement {
        let mut judgement = Judgement::ended(envelope, Outcome::Delivered, Reason::Delivered, detail);
        let keyed = keyed(calls);
        let mut attempted = Vec::new();
        for (place, (key, call)) in (1..).zip(&keyed) {
            if judgement.progress.done.split(' ').any(|done| done == key) {
                continue;
            }
            judgement.needs = call.endpoint;
            let has_called = !attempted.is_empty();
            if permit.change_to(call.endpoint, has_called) == Err(Blocked(call.endpoint)) {
                match self.wait_for_endpoint(&judgement.progress, envelope) {
                    Some(due) => {
                        let reason = Reason::EndpointUnavailable;
                        judgement.resolution = Resolution::Later { due, reason, parked: false };
                        judgement.blocked = (!envelope.parked).then_some(has_called);
                        break;
                    }
                    None => permit.force(call.endpoint),
                }
            }
            let result = self.call((key, call), envelope, organization, (&mut attempted, span)).await;
            let Some(result) = result else {
                judgement.news.endpoints.of_mut(call.endpoint).answer = Said::Unknown;
                let reason = Reason::Interrupted;
                judgement.resolution = match self.config.on_ambiguous {
                    OnAmbiguous::Retry => Resolution::Later { due: self.clock.now(), reason, parked: false },
                    OnAmbiguous::DeadLetter => Resolution::Ended { outcome: Outcome::Dead, reason },
                };
                break;
            };
            if let Ok(Answer { retry_after: Some(after), .. }) = &result
                && !after.is_zero()
            {
                // Obeyed whatever the status: a success may ask for a pause as well.
                let pause = self.clock.now().plus(self.config.retry.pause(*after));
                judgement.news.endpoints.of_mut(call.endpoint).pause = Some(pause);
            }
            match verdict(&client::as_reply(&result)) {
                Verdict::Delivered => {
                    judgement.news.endpoints.of_mut(call.endpoint).answer = Said::Good;
                    judgement.progress.has_done(key);
                    if place < keyed.len() {
                        self.queue.progress(envelope.seq, judgement.progress.done.clone()).await;
                    }
                }
                failed => {
                    self.judge(&mut judgement, failed, &result, permit);
                    break;
                }
            }
        }
        judgement.detail = with_cut_bodies(judgement.detail, &attempted);
        take_news(&mut judgement.news, &attempted);
        let at_once = envelope.is_untried()
            && judgement.progress.tries == 0
            && matches!(judgement.resolution, Resolution::Ended { outcome: Outcome::Delivered, .. });
        if at_once && !self.queue.records_in_full(&envelope.content.organization) {
            judgement.account = Account::InALine;
        } else {
            judgement.account = account::in_full(&attempted, organization);
        }
        judgement
    }

    /// Makes one call and notes its tries; `None` if the service had to end before an answer came.
    async fn call<'c>(
        &self,
        (key, call): (&'c str, &'c Call),
        envelope: &Envelope,
        organization: &Organization,
        (noted, span): (&mut Vec<Tried<'c>>, Option<&Span>),
    ) -> Option<Result<Answer, Failure>> {
        let tries = Arc::new(Mutex::new(Vec::new()));
        let mut outgoing = self.outgoing(call, key, envelope, organization, &tries);
        outgoing.trace = span.map(Span::headers).unwrap_or_default();
        let at = self.clock.now();
        let result = tokio::select! {
            biased;
            result = self.client.call(outgoing) => Some(result),
            () = self.stop.cancelled() => None,
        };
        let tries = std::mem::take(&mut *tries.lock().unwrap_or_else(PoisonError::into_inner));
        let before = noted.len();
        noted.extend(tries.into_iter().map(|it| Tried::new((key, call), it)));
        if result.is_none() {
            noted.push(Tried::interrupted((key, call), at, self.clock.now().since(at)));
        }
        for (resends, it) in noted.iter().skip(before).enumerate() {
            self.metrics.attempt(it.reason, it.took, span.and_then(Span::trace_id));
            if let Some(span) = span {
                span.call(it.told(resends));
            }
            self.metrics.possible_duplicates.inc_by(u64::from(it.is_ambiguous));
        }
        result
    }

    fn outgoing(
        &self,
        call: &Call,
        key: &str,
        envelope: &Envelope,
        organization: &Organization,
        tries: &Arc<Mutex<Vec<Try>>>,
    ) -> Outgoing {
        // Stable over attempts and restarts: which event, accepted when, and which of its calls.
        let idempotency_key = format!("{}-{}-{key}", envelope.content.key, envelope.seq.0);
        Outgoing {
            url: Arc::clone(organization.address.url(call.endpoint).expose()),
            body: Bytes::copy_from_slice(call.body.as_bytes()),
            idempotency_key: HeaderValue::try_from(idempotency_key)
                .unwrap_or_else(|_| HeaderValue::from_static("unnamed")),
            repeat_ambiguous: self.config.on_ambiguous == OnAmbiguous::Retry,
            tries: Arc::clone(tries),
            trace: Vec::new(),
        }
    }

    /// Until when an event waits whose endpoint may not be called now. A parked event is looked at again by its schedule, so
    /// that it makes room for others. `None`: its horizon is reached; it is tried once more, and what comes of that
    /// decides.
    fn wait_for_endpoint(&self, progress: &Progress, envelope: &Envelope) -> Option<UnixMillis> {
        let now = self.clock.now();
        if !envelope.parked {
            return Some(now);
        }
        let since = progress.first_failed_at.unwrap_or(now);
        self.config.retry.next(progress.tries.max(1), since, now, fastrand::f64())
    }

    /// What a failed call means for its event and its organization.
    fn judge(
        &self,
        judgement: &mut Judgement,
        verdict: Verdict,
        result: &Result<Answer, Failure>,
        permit: &Permit,
    ) {
        let now = self.clock.now();
        let reason = reason(verdict, result);
        let dead = Resolution::Ended { outcome: Outcome::Dead, reason };
        let retry = &self.config.retry;
        let news = judgement.news.endpoints.of_mut(judgement.needs);
        let progress = &mut judgement.progress;
        // Refused all the time, and nothing of the organization succeeds: it is not the event's fault. It waits for the
        // organization, is looked at again soon, and its own horizon starts anew.
        let is_refused = matches!(verdict, Verdict::Suspend { .. });
        let others_succeed = progress.first_failed_at.is_some_and(|since| permit.has_succeeded_since(since));
        let is_its_own = !is_refused || others_succeed;
        if is_its_own {
            progress.tries += 1;
        } else {
            progress.first_failed_at = Some(now);
        }
        let first_failed_at = *progress.first_failed_at.get_or_insert(now);
        let tries = progress.tries;
        let later = |not_before: Option<UnixMillis>| {
            let next = retry.next(tries, first_failed_at, now, fastrand::f64());
            let next = if is_its_own { next } else { next.map(|due| due.min(now.plus(LOOK_AGAIN))) };
            next.map_or(dead, |due| Resolution::Later {
                due: not_before.map_or(due, |earliest| due.max(earliest)),
                reason,
                parked: false,
            })
        };
        judgement.resolution = match verdict {
            Verdict::Retry { ambiguous, after: _ } => {
                let is_throttled = matches!(result, Ok(Answer { status: 429 | 503, .. }));
                news.answer = match result {
                    Err(Failure::Unreachable | Failure::Certificate) => Said::Unreachable,
                    // Wigzo has said when it goes on: that is obeyed, and the breaker adds no wait of its own.
                    Ok(_) if is_throttled && news.pause.is_some() => Said::Unknown,
                    Ok(_) | Err(Failure::Broken | Failure::TimedOut) => Said::Failed,
                };
                if ambiguous && self.config.on_ambiguous == OnAmbiguous::DeadLetter {
                    dead
                } else {
                    later(news.pause)
                }
            }
            Verdict::SoftFailure(_) => {
                // Where every answer says so, the events must not use up their attempts one after the other.
                news.answer = Said::Failed;
                progress.soft_failures += 1;
                if progress.soft_failures > retry.soft_failures { dead } else { later(news.pause) }
            }
            Verdict::Suspend { misfit: Misfit::Credentials | Misfit::Address, after: _ } => {
                news.answer = Said::Refused;
                later(news.pause)
            }
            Verdict::Refused { after: _ } => {
                news.answer = Said::Other;
                dead
            }
            // Only failed calls are judged.
            Verdict::Delivered => return,
        };
    }

    /// The line of an event that is left behind by its lane.
    pub(super) fn tell_parked(&self, envelope: &Envelope, resolution: Resolution) {
        let Resolution::Later { due, reason, .. } = resolution else { return };
        let content = &envelope.content;
        self.metrics.parkings.inc();
        tell!(warn or info if Logging::repeats("parked", &content.organization, reason.as_str());
            number = envelope.number.0,
            organization = &*content.organization,
            kind = &*content.kind,
            %reason,
            tries = envelope.progress.tries,
            retry_at = %due,
            "parked: it alone keeps failing; the later events of its person go on without it"
        );
    }

    /// The canonical line of an outcome. People and message ids are left out: the number finds them. So is what a page
    /// or screen is called, which may be about a person; the name of a track event is the tracking plan's.
    pub(super) fn tell(
        &self,
        envelope: &Envelope,
        resolution: Resolution,
        took: Duration,
        trace_id: Option<TraceId>,
    ) {
        let (content, tries) = (&envelope.content, envelope.progress.tries);
        let (number, organization) = (envelope.number.0, &*content.organization);
        let (kind, title) = (&*content.kind, if content.kind == "track" { &*content.title } else { "" });
        let duration_ms = millis(took);
        let trace = trace_id.map(tracing::field::display);
        match resolution {
            Resolution::Ended { outcome, reason } => {
                let age = self.clock.age(content.received_at);
                let counted = if Partner::is_name(organization) { PARTNERS } else { organization };
                self.metrics.outcome(counted, outcome, reason, age, trace_id);
                match outcome {
                    Outcome::Delivered => tracing::info!(
                        number,
                        organization,
                        kind,
                        title,
                        calls = envelope.progress.done,
                        tries,
                        duration_ms,
                        trace_id = trace,
                        "delivered"
                    ),
                    Outcome::Filtered | Outcome::Expired => tracing::info!(
                        number, organization, kind, title, %reason, trace_id = trace, "{outcome}: {}", reason.meaning()
                    ),
                    Outcome::Dead => {
                        tell!(warn or debug if Logging::repeats("dead letter", organization, reason.as_str());
                            number, organization, kind, title, %reason, tries, trace_id = trace, "dead letter: {}", reason.meaning()
                        );
                    }
                }
            }
            Resolution::Later { due, reason, .. } => {
                self.metrics.retried(reason);
                tell!(info or debug if Logging::repeats("retry", organization, reason.as_str());
                    number, organization, kind, title, %reason, tries, retry_at = %due, duration_ms, trace_id = trace, "waits for another try: {}", reason.meaning()
                );
            }
        }
    }
}

/// A round's end as its span says it.
pub(super) fn told(envelope: &Envelope, resolution: Resolution, began: UnixMillis) -> RoundTold<'_> {
    let (outcome, reason) = match resolution {
        Resolution::Ended { outcome, reason } => (Some(outcome), reason),
        Resolution::Later { reason, .. } => (None, reason),
    };
    RoundTold {
        organization: &envelope.content.organization,
        number: envelope.number.0,
        kind: &envelope.content.kind,
        waited: began.since(envelope.content.received_at),
        tries: envelope.progress.tries,
        outcome,
        reason,
    }
}

/// What the tries of calls say about Wigzo's load.
fn take_news(news: &mut News, attempted: &[Tried<'_>]) {
    for it in attempted {
        let news = news.endpoints.of_mut(it.call.endpoint);
        match &it.result {
            // Interrupted: that says something of us.
            None => continue,
            Some(Ok(answer)) => {
                news.overloaded |= matches!(answer.status, 429 | 503 | 504);
                news.answered = true;
                news.latency = news.latency.max(Some(it.took));
            }
            Some(Err(Failure::TimedOut)) => news.overloaded = true,
            Some(Err(Failure::Unreachable | Failure::Certificate | Failure::Broken)) => {}
        }
        news.attempts += 1;
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What a person should know of the calls that are not made. Beside calls that are, one whose condition the event does
/// not meet is nothing to speak of.
fn detail(translation: &Translation<'_>) -> Detail {
    let telling =
        |skipped: &&Skipped<'_>| translation.made.is_empty() || !matches!(skipped.why, Skip::Condition(_));
    let told: Vec<_> = translation.skipped.iter().filter(telling).map(ToString::to_string).collect();
    (!told.is_empty()).then(|| told.join("; ").into())
}

/// Adds the calls whose answers were not read to the end.
fn with_cut_bodies(detail: Detail, attempted: &[Tried<'_>]) -> Detail {
    let is_cut_short = |it: &&Tried<'_>| matches!(&it.result, Some(Ok(answer)) if answer.is_cut_short);
    let note = |it: &Tried<'_>| format!("{}: the body of the answer broke off", it.key).into();
    let mut notes: Vec<Box<str>> =
        detail.into_iter().chain(attempted.iter().filter(is_cut_short).map(note)).collect();
    notes.dedup();
    (!notes.is_empty()).then(|| notes.join("; ").into())
}

/// Names each call within its event, so that progress survives restarts and corrected mappings: endpoint and Wigzo
/// name, and a number where both repeat.
fn keyed(calls: &[Call]) -> Vec<(String, &Call)> {
    let mut keyed: Vec<(String, &Call)> = Vec::with_capacity(calls.len());
    for call in calls {
        let base = match &call.name {
            // Spaces separate keys, and a header takes visible ASCII only.
            Some(name) => {
                let name: String =
                    name.chars().map(|c| if c.is_ascii_graphic() { c } else { '_' }).take(100).collect();
                format!("{}/{name}", call.endpoint.as_str())
            }
            None => call.endpoint.as_str().to_owned(),
        };
        let same = keyed
            .iter()
            .filter(|(key, _)| {
                key.strip_prefix(&base).is_some_and(|rest| rest.is_empty() || rest.starts_with('#'))
            })
            .count();
        let key = if same == 0 { base } else { format!("{base}#{}", same + 1) };
        keyed.push((key, call));
    }
    keyed
}

/// The route by whose rules an event's `integrations` object is obeyed; `None`: it is not.
pub fn obeyed(obey: ObeyIntegrations, route: Route) -> Option<Route> {
    match obey {
        ObeyIntegrations::Tracking => Some(route),
        ObeyIntegrations::Always => Some(Route::Tracking),
        ObeyIntegrations::Never => None,
    }
}

fn reason_of(filtered: Filtered) -> Reason {
    match filtered {
        Filtered::TypeNotMapped => Reason::TypeNotMapped,
        Filtered::DroppedByProfile => Reason::DroppedByProfile,
        Filtered::RequiredFieldMissing => Reason::RequiredFieldMissing,
        Filtered::NoLearnerId => Reason::NoLearnerId,
        Filtered::ConditionNotMet => Reason::ConditionNotMet,
        Filtered::NoContact => Reason::NoContact,
    }
}

#[cfg(test)]
mod tests {
    use super::{keyed, reason_of};
    use crate::translate::Filtered;
    use crate::wigzo::{Call, Json, LearnerId, Person, Source};

    #[test]
    fn an_explanation_gives_the_reason_that_the_history_will_have() {
        for filtered in Filtered::ALL {
            assert_eq!(filtered.as_str(), reason_of(filtered).as_str());
        }
        // Two more that are no `Filtered`: translation is not asked.
        for reason in ["filtered_by_integrations_object", "user_deleted"] {
            assert!(crate::outcome::Reason::parse(reason).is_some(), "{reason}");
        }
    }

    /// An identify before the event leaves the event its key: `engage_track` may change between two tries.
    #[test]
    fn the_key_of_an_event_does_not_depend_on_the_identifies_before_it() {
        let learner = LearnerId::raw("learner-1");
        let identify = Call::identify(&learner, &Person::default(), Source::Web);
        let event = Call::event(&learner, "Audience Entered", &Json::text("x"), Source::Web);
        let keys = |calls: &[Call]| keyed(calls).into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(keys(std::slice::from_ref(&event)), ["event/Audience_Entered"]);
        assert_eq!(
            keys(&[identify.clone(), identify, event]),
            ["identify", "identify#2", "event/Audience_Entered"]
        );
    }
}
