//! Reading: claims for delivery, look-ups for people.

use std::borrow::Cow;
use std::sync::Arc;

use rusqlite::types::Value;
use rusqlite::{Connection, Row, Rows, params, params_from_iter};
use serde_json::value::RawValue;

use crate::clock::UnixMillis;
use crate::outcome::{Outcome, Reason};
use crate::queue::{Attempt, DedupKey, Envelope, Lookup, NewEnvelope, Place, Progress, Record, Seq, State};

/// The columns of an envelope.
const ENVELOPE: &str = "seq, route, message_id, lane, kind, title, received_at, due, tries, soft_failures,
    first_failed_at, done, surroundings, payload, coalesce(number, seq), replays, parked";

/// Leaves out what belongs to a person who is being forgotten.
const REMEMBERED: &str =
    "NOT EXISTS (SELECT 1 FROM forgotten WHERE forgotten.organization = waiting.organization
    AND forgotten.lane = waiting.lane AND upto > waiting.seq)";

/// Waiting envelopes of an organization after a number, in order, parked ones left out.
pub(super) fn claim(
    connection: &Connection,
    organization: &Arc<str>,
    after: Seq,
    limit: usize,
) -> rusqlite::Result<Vec<Envelope>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {ENVELOPE} FROM waiting WHERE organization = ? AND seq > ? AND parked = 0 AND {REMEMBERED}
         ORDER BY seq LIMIT ?"
    ))?;
    envelopes(statement.query(params![&**organization, after.0, limit as u64])?, organization)
}

/// Waiting envelopes of an organization by their numbers, in order, parked ones left out.
pub(super) fn reread(
    connection: &Connection,
    organization: &Arc<str>,
    mut numbers: Vec<Seq>,
) -> rusqlite::Result<Vec<Envelope>> {
    numbers.sort_unstable();
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {ENVELOPE} FROM waiting WHERE seq = ? AND organization = ? AND parked = 0 AND {REMEMBERED}"
    ))?;
    let (mut found, mut bytes) = (Vec::with_capacity(numbers.len()), 0);
    for Seq(seq) in numbers {
        if bytes >= MAX_CLAIM {
            break;
        }
        let envelope = envelopes(statement.query(params![seq, &**organization])?, organization)?;
        bytes += envelope.iter().map(|envelope| envelope.content.size()).sum::<usize>();
        found.extend(envelope);
    }
    Ok(found)
}

/// The parked envelopes of an organization, earliest due first.
pub(super) fn parked(
    connection: &Connection,
    organization: &Arc<str>,
    limit: usize,
) -> rusqlite::Result<Vec<Envelope>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {ENVELOPE} FROM waiting WHERE organization = ? AND parked = 1 AND {REMEMBERED}
         ORDER BY due, seq LIMIT ?"
    ))?;
    envelopes(statement.query(params![&**organization, limit as u64])?, organization)
}

fn envelopes(mut rows: Rows<'_>, organization: &Arc<str>) -> rusqlite::Result<Vec<Envelope>> {
    let (mut envelopes, mut bytes) = (Vec::new(), 0);
    while bytes < MAX_CLAIM
        && let Some(row) = rows.next()?
    {
        let envelope = waiting(row, organization)?;
        bytes += envelope.content.size();
        envelopes.push(envelope);
    }
    Ok(envelopes)
}

/// About how many bytes of envelopes one read takes at most; one envelope is always read.
const MAX_CLAIM: usize = 8 << 20;

fn waiting(row: &Row<'_>, organization: &Arc<str>) -> rusqlite::Result<Envelope> {
    let message_id: Box<str> = row.get(2)?;
    Ok(Envelope {
        seq: Seq(row.get(0)?),
        number: Seq(row.get(14)?),
        replays: row.get(15)?,
        parked: row.get(16)?,
        content: NewEnvelope {
            organization: Arc::clone(organization),
            route: Cow::Owned(row.get(1)?),
            // Only the writer looks at keys, and only once, when an envelope comes in.
            key: DedupKey::new(organization, "", &message_id),
            message_id,
            lane: row.get(3)?,
            kind: Cow::Owned(row.get(4)?),
            title: row.get(5)?,
            received_at: UnixMillis(row.get(6)?),
            surroundings: row.get(12)?,
            payload: row.get(13)?,
            forgets: false,
        },
        due: row.get::<_, Option<u64>>(7)?.map(UnixMillis),
        progress: Progress {
            tries: row.get(8)?,
            soft_failures: row.get(9)?,
            first_failed_at: row.get::<_, Option<u64>>(10)?.map(UnixMillis),
            done: row.get(11)?,
        },
    })
}

/// The columns of a record, the same for the three places.
const WAITING: &str =
    "seq, organization, route, message_id, lane, kind, title, received_at, NULL, NULL, reason,
    tries, done, surroundings, payload, due, coalesce(number, seq), replays, detail, parked";
const ENDED: &str =
    "seq, organization, route, message_id, lane, kind, title, received_at, ended_at, outcome, reason,
    tries, done, surroundings, payload, NULL, coalesce(number, seq), replays, detail, 0";

/// Looks events up, newest first.
pub(super) fn find(connection: &Connection, lookup: &Lookup) -> rusqlite::Result<Vec<Record>> {
    // One snapshot for all tables: an event that moves between them is seen exactly once.
    let connection = connection.unchecked_transaction()?;
    let numbers = match (&lookup.organization, &lookup.message_id) {
        (Some(organization), Some(id)) => remembered(&connection, organization, id)?,
        _ => Vec::new(),
    };
    let mut records = Vec::new();
    for (place, table, columns) in [
        (Place::Waiting, "waiting", WAITING),
        (Place::Settled, "settled", ENDED),
        (Place::Dead, "dead", ENDED),
    ] {
        if lookup.state.is_some_and(|wanted| wanted != place) {
            continue;
        }
        let (filter, mut values) = condition(lookup, &numbers, table);
        values.push(number(lookup.limit as u64));
        let sql = format!("SELECT {columns} FROM {table} WHERE {filter} ORDER BY seq DESC LIMIT ?");
        let mut statement = connection.prepare_cached(&sql)?;
        let rows = statement.query_map(params_from_iter(values), |row| record(row, lookup.in_full))?;
        records.extend(rows.collect::<rusqlite::Result<Vec<_>>>()?);
    }
    records.sort_by_key(|record| std::cmp::Reverse(record.seq));
    records.truncate(lookup.limit);
    if lookup.in_full {
        for record in &mut records {
            record.attempts = attempts(&connection, record.seq)?;
        }
    }
    Ok(records)
}

/// The numbers of a message id that deduplication still remembers: what spares a walk through the history.
fn remembered(connection: &Connection, organization: &str, message_id: &str) -> rusqlite::Result<Vec<u64>> {
    let mut from = DedupKey::new(organization, "", message_id).0;
    let mut to = from;
    from.iter_mut().skip(DedupKey::IDENTITY).for_each(|byte| *byte = 0);
    to.iter_mut().skip(DedupKey::IDENTITY).for_each(|byte| *byte = u8::MAX);
    connection
        .prepare_cached(
            "SELECT seq FROM generations JOIN seen USING (generation) WHERE key BETWEEN ? AND ? ORDER BY seq",
        )?
        .query_map(params![from, to], |row| row.get(0))?
        .collect()
}

fn condition(lookup: &Lookup, numbers: &[u64], table: &str) -> (String, Vec<Value>) {
    let mut terms = vec!["1".to_owned()];
    let mut values = Vec::new();
    if let Some(Seq(wanted)) = lookup.number {
        // A place in the order that a replay was given is nobody's number.
        terms.push("(seq = ? AND number IS NULL OR number = ?)".to_owned());
        values.extend([number(wanted), number(wanted)]);
    }
    let mut term = |sql: &str, value: Value| {
        terms.push(sql.to_owned());
        values.push(value);
    };
    if let Some(Seq(before)) = lookup.before {
        term("seq < ?", number(before));
    }
    if let Some(organization) = &lookup.organization {
        term("organization = ?", Value::from(organization.to_string()));
    }
    if let Some(lane) = &lookup.lane {
        term("lane = ?", Value::from(lane.clone()));
    }
    if let Some(message_id) = &lookup.message_id {
        term("message_id = ?", Value::from(message_id.clone()));
        if !numbers.is_empty() {
            let list: Vec<String> = numbers.iter().map(u64::to_string).collect();
            let list = list.join(",");
            terms.push(format!("(seq IN ({list}) OR number IN ({list}))"));
        } else if table == "settled" {
            // The index covers records in full; a walk through millions of one-line records would block others.
            terms.push("payload IS NOT NULL".to_owned());
        }
    }
    (terms.join(" AND "), values)
}

/// SQLite's integers are signed; no number of ours comes near the limit.
fn number(seq: u64) -> Value {
    Value::from(i64::try_from(seq).unwrap_or(i64::MAX))
}

fn record(row: &Row<'_>, in_full: bool) -> rusqlite::Result<Record> {
    let outcome = row.get_ref(9)?.as_str_or_null()?.and_then(Outcome::parse);
    let due: Option<u64> = row.get(15)?;
    let json = |index| -> rusqlite::Result<Option<Box<RawValue>>> {
        let text: Option<String> = if in_full { row.get(index)? } else { None };
        Ok(text.filter(|text| !text.is_empty()).and_then(|text| RawValue::from_string(text).ok()))
    };
    Ok(Record {
        number: Seq(row.get(16)?),
        seq: Seq(row.get(0)?),
        organization: row.get(1)?,
        route: row.get(2)?,
        message_id: row.get(3)?,
        person: row.get(4)?,
        kind: row.get(5)?,
        title: row.get(6)?,
        received_at: UnixMillis(row.get(7)?),
        state: match (outcome, due) {
            (Some(outcome), _) => State::of(outcome),
            (None, _) if row.get(19)? => State::Parked,
            (None, Some(_)) => State::Retrying,
            (None, None) => State::Waiting,
        },
        reason: row.get_ref(10)?.as_str_or_null()?.and_then(Reason::parse),
        retry_at: due.map(UnixMillis),
        ended_at: row.get::<_, Option<u64>>(8)?.map(UnixMillis),
        tries: row.get(11)?,
        replays: row.get(17)?,
        detail: row.get(18)?,
        calls_done: row.get(12)?,
        surroundings: json(13)?,
        payload: json(14)?,
        attempts: Vec::new(),
    })
}

fn attempts(connection: &Connection, Seq(seq): Seq) -> rusqlite::Result<Vec<Attempt>> {
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
