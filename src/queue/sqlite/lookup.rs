//! Look-ups for people: by number, by message id, or by going through a bounded stretch of events.
//!
//! A message id is looked up by index first: the one over dead letters and records in full, and what deduplication
//! remembers. Only if none of these leads to an event is the rest gone through: records in one line, and waiting events,
//! that are older than `queue.dedup_window`.
//!
//! Invariants:
//! * One snapshot for all tables: an event that moves between them is seen exactly once.
//! * A look-up reads at most [`STRETCH`] rows of each table that no index narrows, and about [`MAX_PAGE`] bytes of payloads
//!   and as many of attempts; then it says where to go on. So nobody can make it walk through millions of records at once.

use std::borrow::Cow;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};
use serde_json::value::RawValue;

use super::seen;
use crate::clock::UnixMillis;
use crate::outcome::{Outcome, Reason};
use crate::queue::{Attempt, Filter, Lookup, Order, Page, Place, Record, Seq, State};

/// Rows of a table that one look-up goes through at most: some tens of milliseconds.
const STRETCH: u64 = if cfg!(test) { 50 } else { 20_000 };

/// Bytes of payloads, and of attempts, after which a page ends; one record is always read.
const MAX_PAGE: usize = 8 << 20;

/// The places, their tables, and the columns of a record in each.
const PLACES: [(Place, &str, &str); 3] = [
    (Place::Waiting, "waiting", "NULL, NULL, reason, due, parked"),
    (Place::Settled, "settled", "ended_at, outcome, reason, NULL, 0"),
    (Place::Dead, "dead", "ended_at, outcome, reason, NULL, 0"),
];

/// How the events with a message id are found.
#[derive(Debug, Clone, Copy)]
enum ById<'a> {
    /// By index; deduplication remembers these numbers.
    Index(&'a [u64]),
    /// By going through what no index covers.
    Walk,
}

/// Looks events up.
pub(super) fn find(connection: &Connection, lookup: &Lookup) -> rusqlite::Result<Page> {
    let connection = connection.unchecked_transaction()?;
    let Some(id) = &lookup.filter.message_id else { return find_by(&connection, lookup, ById::Walk) };
    let candidates: Vec<&str> = match &lookup.filter.organization {
        Some(organization) => vec![organization],
        None => lookup.candidates.iter().map(|name| &**name).collect(),
    };
    let remembered = seen::numbers(&connection, candidates.into_iter(), id)?;
    let page = find_by(&connection, lookup, ById::Index(&remembered))?;
    if page.records.is_empty() { find_by(&connection, lookup, ById::Walk) } else { Ok(page) }
}

fn find_by(connection: &Connection, lookup: &Lookup, by_id: ById<'_>) -> rusqlite::Result<Page> {
    let mut records = Vec::new();
    // Where the table that was read the least far ends.
    let mut end: Option<Seq> = None;
    for (place, table, columns) in PLACES {
        let places = [lookup.state, lookup.standing.map(State::place)];
        if places.into_iter().flatten().any(|wanted| wanted != place) {
            continue;
        }
        let (found, stopped) = find_in(connection, lookup, by_id, (place, table, columns))?;
        records.extend(found);
        end = match (end, stopped) {
            (Some(a), Some(b)) if lookup.order == Order::NewestFirst => Some(a.max(b)),
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    match lookup.order {
        Order::NewestFirst => {
            records.retain(|record| end.is_none_or(|end| record.seq >= end));
            records.sort_by_key(|record| std::cmp::Reverse(record.seq));
        }
        Order::OldestFirst => {
            records.retain(|record| end.is_none_or(|end| record.seq <= end));
            records.sort_by_key(|record| record.seq);
        }
    }
    let is_full = records.len() >= lookup.limit;
    records.truncate(lookup.limit);
    let is_cut = lookup.in_full && add_attempts(connection, &mut records)?;
    let next = if is_full || is_cut { records.last().map(|record| record.seq) } else { end };
    Ok(Page { records, next })
}

/// Adds their attempts to records, as far as the page has room; whether it was cut off for that.
fn add_attempts(connection: &Connection, records: &mut Vec<Record>) -> rusqlite::Result<bool> {
    let mut bytes = 0;
    let mut fitting = 0;
    for record in records.iter_mut() {
        if bytes > MAX_PAGE {
            break;
        }
        record.attempts = attempts(connection, record.seq)?;
        bytes += record.attempts.iter().map(Attempt::size).sum::<usize>();
        fitting += 1;
    }
    let is_cut = fitting < records.len();
    records.truncate(fitting);
    Ok(is_cut)
}

/// What one table has, and where the reading stopped if it was not at the table's end.
fn find_in(
    connection: &Connection,
    lookup: &Lookup,
    by_id: ById<'_>,
    (place, table, columns): (Place, &str, &str),
) -> rusqlite::Result<(Vec<Record>, Option<Seq>)> {
    let mut condition = Condition::of(lookup, by_id, place);
    let stop = if condition.is_narrow { None } else { stretch_end(connection, lookup, place, table)? };
    let (direction, within) = match lookup.order {
        Order::NewestFirst => ("DESC", "seq >= ?"),
        Order::OldestFirst => ("ASC", "seq <= ?"),
    };
    if let Some(Seq(stop)) = stop {
        condition.add(within, number(stop));
    }
    condition.values.push(number(lookup.limit as u64));
    let sql = sql(&condition, (table, columns), direction);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(condition.values))?;
    let (mut records, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let record = record(row, lookup.in_full)?;
        bytes += record.payload.as_ref().map_or(0, |payload| payload.get().len());
        let seq = record.seq;
        records.push(record);
        if bytes > MAX_PAGE {
            return Ok((records, Some(seq)));
        }
    }
    Ok((records, stop))
}

/// The statement that reads the records of a table.
fn sql(condition: &Condition, (table, columns): (&str, &str), direction: &str) -> String {
    format!(
        "SELECT seq, coalesce(number, seq), organization, route, message_id, lane, kind, title, received_at, tries,
             replays, done, detail, surroundings, payload, {columns}
         FROM {table} WHERE {} ORDER BY seq {direction} LIMIT ?",
        condition.terms.join(" AND ")
    )
}

/// The last row of the stretch that this look-up may go through; `None` if the table ends before.
fn stretch_end(
    connection: &Connection,
    lookup: &Lookup,
    place: Place,
    table: &str,
) -> rusqlite::Result<Option<Seq>> {
    let mut condition = Condition::default();
    condition.begin(lookup);
    if let (Some(organization), true) = (&lookup.filter.organization, by_organization(place)) {
        condition.add("organization = ?", Value::from(organization.to_string()));
    }
    let direction = if lookup.order == Order::NewestFirst { "DESC" } else { "ASC" };
    let sql = format!(
        "SELECT seq FROM {table} WHERE {} ORDER BY seq {direction} LIMIT 1 OFFSET {}",
        condition.terms.join(" AND "),
        STRETCH - 1
    );
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_row(params_from_iter(condition.values), |row| row.get(0).map(Seq)).optional()
}

/// Whether a table has an index on the organization.
fn by_organization(place: Place) -> bool {
    match place {
        Place::Waiting | Place::Dead => true,
        Place::Settled => false,
    }
}

/// A `WHERE` with its values.
#[derive(Debug, Default)]
struct Condition {
    terms: Vec<Cow<'static, str>>,
    values: Vec<Value>,
    /// Whether an index leads to the rows, so that no stretch must be set.
    is_narrow: bool,
}

impl Condition {
    fn add(&mut self, term: &'static str, value: Value) {
        self.terms.push(term.into());
        self.values.push(value);
    }

    /// Where the page begins.
    fn begin(&mut self, lookup: &Lookup) {
        let beyond = match lookup.order {
            Order::NewestFirst => "seq < ?",
            Order::OldestFirst => "seq > ?",
        };
        let from = if lookup.order == Order::NewestFirst { u64::MAX } else { 0 };
        self.add(beyond, number(lookup.beyond.map_or(from, |Seq(seq)| seq)));
    }

    fn of(lookup: &Lookup, by_id: ById<'_>, place: Place) -> Self {
        let mut condition = Self::default();
        condition.begin(lookup);
        if !lookup.numbers.is_empty() {
            condition.is_narrow = true;
            // A place in the order that a replay was given is nobody's number.
            let list = list(lookup.numbers.iter().map(|Seq(number)| *number));
            condition
                .terms
                .push(format!("(seq IN ({list}) AND number IS NULL OR number IN ({list}))").into());
        }
        let Filter { organization, person, message_id, reason, kind, title, since, until } = &lookup.filter;
        let texts = [
            ("organization = ?", organization.as_deref()),
            ("lane = ?", person.as_deref()),
            ("reason = ?", reason.map(Reason::as_str)),
            ("kind = ?", kind.as_deref()),
            ("title = ?", title.as_deref()),
        ];
        for (term, text) in texts {
            if let Some(text) = text {
                condition.add(term, Value::from(text.to_owned()));
            }
        }
        for (term, time) in [("received_at >= ?", since), ("received_at < ?", until)] {
            if let Some(UnixMillis(time)) = time {
                condition.add(term, number(*time));
            }
        }
        let standing = lookup.standing.and_then(standing);
        condition.terms.extend(standing.map(Cow::Borrowed));
        if let Some(id) = message_id {
            condition.by_message_id(id, by_id, place);
        }
        let only_organization =
            lookup.filter == Filter { organization: organization.clone(), ..Filter::default() };
        condition.is_narrow |=
            only_organization && standing.is_none() && (organization.is_none() || by_organization(place));
        condition
    }
}

impl Condition {
    fn by_message_id(&mut self, id: &str, by_id: ById<'_>, place: Place) {
        self.add("message_id = ?", Value::from(id.to_owned()));
        let remembered = |table: &str, list: &str| {
            format!(
                "SELECT seq FROM {table} WHERE seq IN ({list}) UNION SELECT seq FROM {table} WHERE number IN ({list})"
            )
        };
        // Statements of their own, so that no other term of the condition leads SQLite away from the index.
        let (by_index, of_id) = match (place, by_id) {
            (Place::Waiting | Place::Settled, ById::Walk) => return,
            (Place::Dead, _) => ("SELECT seq FROM dead WHERE message_id = ?".to_owned(), true),
            (Place::Waiting, ById::Index(numbers)) => {
                (remembered("waiting", &list(numbers.iter().copied())), false)
            }
            (Place::Settled, ById::Index(numbers)) => {
                // The index covers records in full.
                let in_full = "SELECT seq FROM settled WHERE message_id = ? AND payload IS NOT NULL";
                let numbers = list(numbers.iter().copied());
                (format!("{in_full} UNION {}", remembered("settled", &numbers)), true)
            }
        };
        self.terms.push(format!("seq IN ({by_index})").into());
        if of_id {
            self.values.push(Value::from(id.to_owned()));
        }
        self.is_narrow = true;
    }
}

/// What tells the rows of a state from others of its place; `None`: there are no others.
fn standing(state: State) -> Option<&'static str> {
    match state {
        State::Waiting => Some("due IS NULL AND parked = 0"),
        State::Retrying => Some("due IS NOT NULL AND parked = 0"),
        State::Parked => Some("parked = 1"),
        State::Delivered => Some("outcome = 'delivered'"),
        State::Filtered => Some("outcome = 'filtered'"),
        State::Expired => Some("outcome = 'expired'"),
        State::Discarded => Some("outcome = 'dead'"),
        State::Dead => None,
    }
}

fn list(numbers: impl Iterator<Item = u64>) -> String {
    numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(",")
}

/// SQLite's integers are signed; no number of ours comes near the limit.
fn number(seq: u64) -> Value {
    Value::from(i64::try_from(seq).unwrap_or(i64::MAX))
}

fn record(row: &Row<'_>, in_full: bool) -> rusqlite::Result<Record> {
    let json = |column| -> rusqlite::Result<Option<Box<RawValue>>> {
        let text: Option<String> = if in_full { row.get(column)? } else { None };
        Ok(text.filter(|text| !text.is_empty()).and_then(|text| RawValue::from_string(text).ok()))
    };
    let outcome = row.get_ref(16)?.as_str_or_null()?.and_then(Outcome::parse);
    let reason = row.get_ref(17)?.as_str_or_null()?.and_then(Reason::parse);
    let due: Option<u64> = row.get(18)?;
    Ok(Record {
        seq: Seq(row.get(0)?),
        number: Seq(row.get(1)?),
        organization: row.get(2)?,
        route: row.get(3)?,
        message_id: row.get(4)?,
        person: row.get(5)?,
        kind: row.get(6)?,
        title: row.get(7)?,
        received_at: UnixMillis(row.get(8)?),
        tries: row.get(9)?,
        replays: row.get(10)?,
        calls_done: row.get(11)?,
        detail: row.get(12)?,
        surroundings: json(13)?,
        payload: json(14)?,
        ended_at: row.get::<_, Option<u64>>(15)?.map(UnixMillis),
        state: match (outcome, due) {
            (Some(outcome), _) => State::of(outcome, reason),
            (None, _) if row.get(19)? => State::Parked,
            (None, Some(_)) => State::Retrying,
            (None, None) => State::Waiting,
        },
        reason,
        retry_at: due.map(UnixMillis),
        attempts: Vec::new(),
    })
}

/// The attempts of an event, oldest first.
pub(super) fn attempts(connection: &Connection, Seq(seq): Seq) -> rusqlite::Result<Vec<Attempt>> {
    connection
        .prepare_cached(
            "SELECT at, call, status, duration_ms, reason, request, response FROM attempts WHERE seq = ? ORDER BY id",
        )?
        .query_map([seq], |row| {
            Ok(Attempt {
                at: UnixMillis(row.get(0)?),
                call: row.get(1)?,
                status: row.get(2)?,
                duration_ms: row.get(3)?,
                reason: Reason::parse(row.get_ref(4)?.as_str()?).unwrap_or(Reason::Internal),
                request: row.get(5)?,
                response: row.get(6)?,
            })
        })?
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::sqlite::schema;

    /// Whatever else a lookup asks for, no walk through an organization or a table precedes a message id's index.
    #[test]
    fn a_message_id_is_looked_up_by_index() {
        let directory = tempfile::tempdir().unwrap();
        let connection = schema::open_any(&directory.path().join("queue.sqlite"), UnixMillis(0)).unwrap();
        let by_id = Filter { message_id: Some("m-1".to_owned()), ..Filter::default() };
        let in_acme = Filter { organization: Some("acme".into()), ..by_id.clone() };
        let of_user = Filter { person: Some("user-42".to_owned()), ..in_acme.clone() };
        for filter in [by_id, in_acme, of_user] {
            for order in [Order::NewestFirst, Order::OldestFirst] {
                let lookup = Lookup { filter: filter.clone(), order, limit: 10, ..Lookup::default() };
                for (place, table, columns) in PLACES {
                    let condition = Condition::of(&lookup, ById::Index(&[7, 8]), place);
                    assert!(condition.is_narrow);
                    let sql = format!("EXPLAIN QUERY PLAN {}", sql(&condition, (table, columns), "DESC"));
                    let mut values = condition.values;
                    values.push(number(10));
                    let mut statement = connection.prepare(&sql).unwrap();
                    let plan: Vec<String> = statement
                        .query_map(params_from_iter(values), |row| row.get("detail"))
                        .unwrap()
                        .collect::<rusqlite::Result<_>>()
                        .unwrap();
                    let is_walk = |step: &&String| {
                        step.starts_with("SCAN")
                            && !step.contains("SUBQUERY")
                            && !step.contains("CONSTANT ROW")
                            || step.contains("_by_organization") && !step.contains("seq=?")
                            || step.contains("(rowid<?")
                            || step.contains("(rowid>?")
                    };
                    assert_eq!(plan.iter().find(is_walk), None, "{table} {filter:?}: {plan:#?}");
                }
            }
        }
    }
}
