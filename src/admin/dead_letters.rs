//! `/api/dead-letters`: look at them, replay them, discard them, take them elsewhere.
//!
//! Invariants:
//! * Nothing changes but by POST, and a POST says what it means: numbers, a filter, or `all`. An empty wish is refused.
//! * A change over many letters is made in bounded steps. A reply with a `cursor` says that there is more; letters that
//!   died after the first step are never touched, so a replay of all cannot chase its own tail.
//! * Every change leaves one line in the log: what and how many, and nothing about a person.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::filter::{Asked, Misfit, Parameters, WrittenFilter};
use super::import::is_served;
use super::{Admin, PAGE, answer, export, json, problem, show_safely};
use crate::current::Current;
use crate::queue::{AppendError, Fate, Filter, Lookup, Order, Place, Queue, QueueError, Record, Seq};

/// Letters that one request changes at most.
const MOST: usize = 10_000;

/// Letters that are looked up and changed at a time.
const STEP: usize = 500;

/// Look-ups that one request makes at most; each goes through a bounded stretch.
const LOOKS: usize = 50;

/// Numbers that one request may name.
const NUMBERS: usize = 1_000;

/// Characters of a reason to discard.
const WHY: usize = 500;

/// Bytes of an import; the command sends its file in smaller parts.
const MAX_IMPORT: usize = 32 << 20;

/// Bytes of any other body.
const MAX_BODY: usize = 64 << 10;

/// Refused lines that a reply names; the rest is counted.
const NAMED: usize = 100;

/// How long an import may wait for the disk.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where an export goes on.
const NEXT: HeaderName = HeaderName::from_static("next-cursor");

pub(super) fn routes() -> Router<Current<Admin>> {
    Router::new()
        .route("/api/dead-letters", get(list))
        .route("/api/dead-letters/{number}", get(show))
        .route("/api/dead-letters/replay", post(replay))
        .route("/api/dead-letters/discard", post(discard))
        .route("/api/dead-letters/export", get(export_page))
        .route("/api/dead-letters/import", post(import))
}

// === looking ===

async fn list(State(admin): State<Arc<Admin>>, Query(parameters): Query<Parameters>) -> Response {
    #[derive(Serialize)]
    struct Page {
        dead_letters: Vec<Record>,
        /// Ask again with `cursor` set to this for older ones.
        cursor: Option<Seq>,
    }
    let lookup = match question(parameters, Order::NewestFirst, PAGE.0) {
        Ok(lookup) => lookup,
        Err(misfit) => return problem(StatusCode::BAD_REQUEST, &misfit.0),
    };
    answer(admin.queue.find(lookup).await, |page| {
        json(StatusCode::OK, &Page { dead_letters: page.records, cursor: page.next })
    })
}

async fn show(State(admin): State<Arc<Admin>>, Path(number): Path<String>) -> Response {
    let Ok(number) = number.parse() else {
        return problem(StatusCode::BAD_REQUEST, "A dead letter's number has digits only.");
    };
    let numbers = vec![Seq(number)];
    let lookup = Lookup { numbers, state: Some(Place::Dead), limit: 1, in_full: true, ..Lookup::default() };
    answer(admin.queue.find(lookup).await, |mut page| match page.records.pop() {
        Some(mut record) => {
            show_safely(&mut record);
            json(StatusCode::OK, &record)
        }
        None => problem(
            StatusCode::NOT_FOUND,
            "No dead letter has this number. /api/events/{number} shows where the event is now.",
        ),
    })
}

async fn export_page(State(admin): State<Arc<Admin>>, Query(parameters): Query<Parameters>) -> Response {
    let lookup = match question(parameters, Order::OldestFirst, PAGE.1) {
        Ok(lookup) => Lookup { in_full: true, ..lookup },
        Err(misfit) => return problem(StatusCode::BAD_REQUEST, &misfit.0),
    };
    answer(admin.queue.find(lookup).await, |page| {
        let lines: String = page.records.iter().map(export::line).collect();
        let mut response = Response::new(Body::from(lines));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        if let Some(Seq(next)) = page.next {
            response.headers_mut().insert(NEXT, HeaderValue::from(next));
        }
        response
    })
}

fn question(parameters: Parameters, order: Order, page: usize) -> Result<Lookup, Misfit> {
    let mut asked = Asked::read(parameters, &["cursor", "limit"])?;
    Ok(Lookup {
        state: Some(Place::Dead),
        order,
        beyond: asked.parse("cursor")?.map(Seq),
        limit: asked.parse("limit")?.unwrap_or(page).clamp(1, PAGE.1),
        filter: asked.filter,
        ..Lookup::default()
    })
}

// === deciding ===

/// The body of a replay or a discard.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wish {
    /// These letters.
    numbers: Vec<u64>,
    /// Or those that match.
    filter: Option<WrittenFilter>,
    /// Or every one.
    all: bool,
    /// Replay only: whether calls that Wigzo has taken are made again.
    repeat_done: bool,
    /// Discard only: why.
    why: Option<String>,
    /// Count, and change nothing.
    dry_run: bool,
    /// Where an earlier request ended.
    cursor: Option<String>,
    /// Letters that this request changes at most.
    limit: Option<usize>,
}

/// Which letters, and from where to where in their order.
#[derive(Debug)]
struct Choice {
    numbers: Vec<Seq>,
    filter: Filter,
    after: Option<Seq>,
    upto: Option<Seq>,
    limit: usize,
    dry_run: bool,
}

#[derive(Debug, Default, Serialize)]
struct Done {
    /// Letters that were meant.
    matched: u64,
    /// Of these, changed. Fewer when somebody was faster, or their person is being forgotten; none in a dry run.
    changed: u64,
    /// Letters that a replay leaves alone, because their organization is not configured: nobody would deliver them.
    #[serde(skip_serializing_if = "is_zero")]
    unserved: u64,
    /// Send the same wish with this cursor for the rest; absent: all is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

async fn replay(State(admin): State<Arc<Admin>>, request: Request) -> Response {
    let wish = wish(request).await.and_then(|wish| match &wish.why {
        Some(_) => Err(Misfit("`why` is for discarding.".to_owned())),
        None => Ok((Fate::Replay { repeat_done: wish.repeat_done }, wish)),
    });
    decide(&admin, "replay", wish).await
}

async fn discard(State(admin): State<Arc<Admin>>, request: Request) -> Response {
    let wish = wish(request).await.and_then(|wish| {
        let why = wish.why.as_deref().unwrap_or_default().trim();
        if wish.repeat_done {
            return Err(Misfit("`repeat_done` is for replaying.".to_owned()));
        }
        if why.is_empty() || why.chars().count() > WHY {
            return Err(Misfit(format!(
                "Say in `why`, in 1 to {WHY} characters, why these events are given up; it is kept with each."
            )));
        }
        Ok((Fate::Discard { why: why.into() }, wish))
    });
    decide(&admin, "discard", wish).await
}

async fn wish(request: Request) -> Result<Wish, Misfit> {
    let body = axum::body::to_bytes(request.into_body(), MAX_BODY).await;
    let body = body.map_err(|_| Misfit(format!("The body has more than {MAX_BODY} bytes.")))?;
    let example = r#"{"filter": {"reason": "wigzo_400"}}"#;
    serde_json::from_slice(&body)
        .map_err(|error| Misfit(format!("The body should look like {example}: {error}.")))
}

async fn decide(admin: &Admin, action: &'static str, wish: Result<(Fate, Wish), Misfit>) -> Response {
    let choice = wish.and_then(|(fate, wish)| {
        let log = Log::of(&wish);
        Ok((fate, log, choose(wish)?))
    });
    let (fate, log, choice) = match choice {
        Ok(choice) => choice,
        Err(misfit) => return problem(StatusCode::BAD_REQUEST, &misfit.0),
    };
    let mut done = Done::default();
    let result = carry_out(admin, &choice, &fate, &mut done).await;
    if done.changed > 0 || result.is_err() {
        log.tell(action, &done);
    }
    match result {
        Ok(()) => json(StatusCode::OK, &done),
        Err(error) => {
            tracing::error!(%error, action, changed = done.changed, "a decision about dead letters could not be carried out");
            let message = format!(
                "The queue failed after {} letters; those are done. See the log, then send the same again.",
                done.changed
            );
            problem(StatusCode::SERVICE_UNAVAILABLE, &message)
        }
    }
}

/// Reads which letters are meant.
fn choose(wish: Wish) -> Result<Choice, Misfit> {
    let Wish { numbers, filter, all, cursor, limit, dry_run, .. } = wish;
    let filter = filter.filter(|filter| *filter != WrittenFilter::default());
    let wishes = [!numbers.is_empty(), filter.is_some(), all];
    if wishes.into_iter().filter(|wished| *wished).count() != 1 {
        return Err(Misfit(
            "Say which letters: one of `numbers` (a list), `filter` (an object that is not empty), `all` (true)."
                .to_owned(),
        ));
    }
    if numbers.len() > NUMBERS {
        return Err(Misfit(format!("At most {NUMBERS} numbers at a time.")));
    }
    let (after, upto) = match cursor {
        None => (None, None),
        Some(cursor) => {
            let ends = cursor.split_once('-').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
            let (after, upto) =
                ends.ok_or_else(|| Misfit("`cursor` is none that was given out.".to_owned()))?;
            (Some(Seq(after)), Some(Seq(upto)))
        }
    };
    Ok(Choice {
        numbers: numbers.into_iter().map(Seq).collect(),
        filter: filter.map(WrittenFilter::read).transpose()?.unwrap_or_default(),
        after,
        upto,
        limit: limit.unwrap_or(MOST).clamp(1, MOST),
        dry_run,
    })
}

/// Goes through the letters, oldest first, and tells how far it came, whatever happens.
async fn carry_out(admin: &Admin, choice: &Choice, fate: &Fate, done: &mut Done) -> Result<(), QueueError> {
    let queue = &admin.queue;
    let upto = match choice.upto {
        Some(upto) => upto,
        None => match newest(queue).await? {
            Some(newest) => newest,
            None => return Ok(()),
        },
    };
    let mut after = choice.after;
    for _ in 0..LOOKS {
        let left = choice.limit.saturating_sub(usize::try_from(done.matched).unwrap_or(usize::MAX));
        if left == 0 {
            break;
        }
        let lookup = Lookup {
            numbers: choice.numbers.clone(),
            filter: choice.filter.clone(),
            state: Some(Place::Dead),
            order: Order::OldestFirst,
            beyond: after,
            limit: left.min(STEP),
            in_full: false,
        };
        let page = queue.find(lookup).await?;
        let (meant, unserved): (Vec<&Record>, Vec<&Record>) =
            page.records.iter().filter(|record| record.seq <= upto).partition(|record| {
                matches!(fate, Fate::Discard { .. }) || is_served(&record.organization, &admin.organizations)
            });
        done.matched += (meant.len() + unserved.len()) as u64;
        done.unserved += unserved.len() as u64;
        let letters: Vec<Seq> = meant.iter().map(|record| record.seq).collect();
        if !choice.dry_run {
            done.changed += queue.decide(letters, fate.clone()).await?;
        }
        after = page.next.filter(|next| *next < upto);
        if after.is_none() {
            return Ok(());
        }
    }
    done.cursor = after.map(|Seq(after)| format!("{after}-{}", upto.0));
    Ok(())
}

/// The newest dead letter: what dies later is not meant.
async fn newest(queue: &Queue) -> Result<Option<Seq>, QueueError> {
    let lookup = Lookup { state: Some(Place::Dead), limit: 1, ..Lookup::default() };
    Ok(queue.find(lookup).await?.records.first().map(|record| record.seq))
}

/// What of a wish may stand in the log: nothing about a person.
struct Log {
    chosen_by: &'static str,
    organization: String,
    reason: String,
}

impl Log {
    fn of(wish: &Wish) -> Self {
        let filter = wish.filter.clone().unwrap_or_default();
        Self {
            chosen_by: match (&wish.filter, wish.all) {
                (Some(_), _) => "filter",
                (None, true) => "all",
                (None, false) => "numbers",
            },
            organization: filter.organization.unwrap_or_default(),
            reason: filter.reason.unwrap_or_default(),
        }
    }

    fn tell(&self, action: &str, Done { matched, changed, .. }: &Done) {
        let Self { chosen_by, organization, reason } = self;
        tracing::info!(
            action,
            changed,
            matched,
            chosen_by,
            organization,
            reason,
            "dead letters: a person has decided"
        );
    }
}

// === taking in ===

#[derive(Debug, Serialize)]
struct Refused {
    /// The line, from 1.
    line: usize,
    /// What is wrong with it.
    problem: String,
}

async fn import(State(admin): State<Arc<Admin>>, request: Request) -> Response {
    #[derive(Serialize)]
    struct Taken {
        /// Events that are in the queue now.
        accepted: usize,
        /// Events that were known already.
        duplicates: usize,
        /// Lines that were passed over.
        refused_total: usize,
        /// The first of them.
        refused: Vec<Refused>,
    }
    let Ok(body) = axum::body::to_bytes(request.into_body(), MAX_IMPORT).await else {
        let message = format!("An import has at most {} MiB; send it in parts.", MAX_IMPORT >> 20);
        return problem(StatusCode::PAYLOAD_TOO_LARGE, &message);
    };
    let (envelopes, mut refused) = (read_lines(&body, &admin), Vec::new());
    let mut taken = Vec::with_capacity(envelopes.len());
    for (line, envelope) in envelopes {
        match envelope {
            Ok(envelope) => taken.push(envelope),
            Err(problem) => refused.push(Refused { line, problem }),
        }
    }
    let appended = match admin.queue.append(taken, PATIENCE).await {
        Ok(appended) => appended,
        Err(error) => {
            let status = match error {
                AppendError::Full | AppendError::Busy => StatusCode::TOO_MANY_REQUESTS,
                AppendError::Unavailable | AppendError::TooSlow => StatusCode::SERVICE_UNAVAILABLE,
            };
            return problem(status, &format!("Nothing was imported: {error}. Send the same again later."));
        }
    };
    let (accepted, duplicates, refused_total) = (appended.accepted, appended.duplicates, refused.len());
    if accepted > 0 {
        tracing::info!(
            action = "import",
            accepted,
            duplicates,
            refused = refused_total,
            "dead letters: a person has decided"
        );
    }
    refused.truncate(NAMED);
    json(StatusCode::OK, &Taken { accepted, duplicates, refused_total, refused })
}

/// Every line that is not blank, with its place.
fn read_lines(body: &Bytes, admin: &Admin) -> Vec<(usize, Result<crate::queue::NewEnvelope, String>)> {
    (1..)
        .zip(body.split(|byte| *byte == b'\n'))
        .filter(|(_, line)| !line.trim_ascii().is_empty())
        .map(|(place, line)| (place, export::envelope(line, &admin.organizations)))
        .collect()
}
