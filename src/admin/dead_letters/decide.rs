//! Replay and discard: what a person decides about dead letters.
//!
//! Invariants:
//! * A wish says what it means: numbers, a filter, or `all`. An empty wish is refused.
//! * A change over many letters is made in bounded steps. A reply with a `cursor` says that there is more; letters that
//!   died after the first step are never touched, so a replay of all cannot chase its own tail.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::body::Json;
use super::super::cursor::Cursor;
use super::super::filter::{Parameters, WrittenFilter};
use super::super::guard::Changed;
use super::super::import::is_served;
use super::super::problem::{Problem, json};
use super::super::{Admin, Answer};
use crate::queue::{Fate, Filter, Lookup, Order, Place, Queue, QueueError, Record, Seq};
use crate::secret::MASK;

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

/// The body of a replay or a discard. It says which letters: one of `numbers`, `filter`, `all`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Decision")]
pub(in super::super) struct Wish {
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

/// How far a decision was carried out.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[schemars(rename = "Decided")]
pub(in super::super) struct Done {
    /// Letters that were meant.
    matched: u64,
    /// Of these, changed. Fewer when somebody was faster, or their person is being forgotten; none in a dry run.
    changed: u64,
    /// Letters that a replay leaves alone, because their organization is not configured: nobody would deliver them.
    #[serde(skip_serializing_if = "is_zero")]
    unserved: u64,
    /// Send the same wish with this cursor for the rest; absent: all is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Cursor")]
    cursor: Option<Cursor>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

pub(in super::super) async fn replay(
    State(admin): State<Arc<Admin>>,
    parameters: Parameters,
    Json(wish): Json<Wish>,
) -> Answer {
    parameters.only(&[])?;
    if wish.why.is_some() {
        return Err(Problem::Body("`why` is for discarding.".to_owned()));
    }
    decide(&admin, Fate::Replay { repeat_done: wish.repeat_done }, wish).await
}

pub(in super::super) async fn discard(
    State(admin): State<Arc<Admin>>,
    parameters: Parameters,
    Json(wish): Json<Wish>,
) -> Answer {
    parameters.only(&[])?;
    let why = wish.why.as_deref().unwrap_or_default().trim();
    if wish.repeat_done {
        return Err(Problem::Body("`repeat_done` is for replaying.".to_owned()));
    }
    if why.is_empty() || why.chars().count() > WHY {
        return Err(Problem::Body(format!(
            "Say in `why`, in 1 to {WHY} characters, why these events are given up; it is kept with each."
        )));
    }
    decide(&admin, Fate::Discard { why: why.into() }, wish).await
}

async fn decide(admin: &Admin, fate: Fate, wish: Wish) -> Answer {
    let on = chosen(&wish);
    let choice = choose(wish)?;
    let mut done = Done::default();
    let result = carry_out(admin, &choice, &fate, &mut done).await;
    let changed = Changed { on, count: done.changed };
    let answer = match result {
        Ok(()) => json(StatusCode::OK, &done),
        Err(error) => {
            tracing::error!(%error, changed = done.changed, "a decision about dead letters could not be carried out");
            Problem::Halfway(done.changed).into_response()
        }
    };
    Ok(changed.beside(answer))
}

/// What of a wish may stand in the log: nothing about a person.
fn chosen(wish: &Wish) -> String {
    let mut said = match (&wish.filter, wish.all) {
        (Some(filter), _) => {
            let parts = [
                ("organization", filter.organization.as_deref()),
                ("reason", filter.reason.as_deref()),
                ("kind", filter.kind.as_deref()),
                ("since", filter.since.as_deref()),
                ("until", filter.until.as_deref()),
                ("person", filter.person.as_ref().map(|_| MASK)),
                ("message_id", filter.message_id.as_ref().map(|_| MASK)),
                ("title", filter.title.as_ref().map(|_| MASK)),
            ];
            let parts = parts.iter().filter_map(|(name, value)| Some(format!("{name}={}", (*value)?)));
            parts.collect::<Vec<_>>().join(" ")
        }
        (None, true) => "all".to_owned(),
        (None, false) => format!("{} numbers", wish.numbers.len()),
    };
    if wish.dry_run {
        said.push_str(" (dry run)");
    }
    said
}

/// Reads which letters are meant.
fn choose(wish: Wish) -> Result<Choice, Problem> {
    let Wish { numbers, filter, all, cursor, limit, dry_run, .. } = wish;
    let filter = filter.filter(|filter| *filter != WrittenFilter::default());
    let wishes = [!numbers.is_empty(), filter.is_some(), all];
    if wishes.into_iter().filter(|wished| *wished).count() != 1 {
        return Err(Problem::Body(
            "Say which letters: one of `numbers` (a list), `filter` (an object that is not empty), `all` (true)."
                .to_owned(),
        ));
    }
    if numbers.len() > NUMBERS {
        return Err(Problem::Body(format!("At most {NUMBERS} numbers at a time.")));
    }
    let (after, upto) = match cursor {
        None => (None, None),
        Some(cursor) => {
            let ends = cursor.parse::<Cursor>().ok().and_then(|cursor| cursor.ends());
            let (after, upto) =
                ends.ok_or_else(|| Problem::Body("`cursor` is none that was given out.".to_owned()))?;
            (Some(after), Some(upto))
        }
    };
    Ok(Choice {
        numbers: numbers.into_iter().map(Seq).collect(),
        filter: filter.map(WrittenFilter::read).transpose().map_err(Problem::Body)?.unwrap_or_default(),
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
            ..Lookup::default()
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
    done.cursor = after.map(|after| Cursor::between(after, upto));
    Ok(())
}

/// The newest dead letter: what dies later is not meant.
async fn newest(queue: &Queue) -> Result<Option<Seq>, QueueError> {
    let lookup = Lookup { state: Some(Place::Dead), limit: 1, ..Lookup::default() };
    Ok(queue.find(lookup).await?.records.first().map(|record| record.seq))
}
