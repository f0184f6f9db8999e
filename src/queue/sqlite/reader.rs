//! Reading for delivery: what waits, in order.

use std::borrow::Cow;
use std::sync::Arc;

use rusqlite::{Connection, Row, Rows, params};

use crate::clock::UnixMillis;
use crate::queue::{
    Claimed, DedupKey, Envelope, LaneKey, NewEnvelope, Number, Oldest, Progress, Seq, SourceRoute,
};

/// The columns of an envelope.
const ENVELOPE: &str = "seq, route, message_id, lane, kind, title, received_at, due, tries, soft_failures,
    first_failed_at, done, surroundings, payload, coalesce(number, seq), replays, parked";

/// Where some of them stand.
const LANE: usize = 3;
const DUE: usize = 7;

/// Leaves out what belongs to a person who is being forgotten.
pub(super) const REMEMBERED: &str =
    "NOT EXISTS (SELECT 1 FROM forgotten WHERE forgotten.organization = waiting.organization
    AND forgotten.lane = waiting.lane AND upto > waiting.seq)";

/// Rows that one [`claim`] with lanes to skip looks at: some tens of milliseconds.
const STRETCH: usize = if cfg!(test) { 50 } else { 20_000 };

/// Waiting envelopes of an organization after a number, in order, parked ones left out; of the lanes in `skip` (sorted)
/// the numbers only.
pub(super) fn claim(
    connection: &Connection,
    organization: &Arc<str>,
    after: Seq,
    limit: usize,
    skip: &[LaneKey],
) -> rusqlite::Result<Vec<Claimed>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {ENVELOPE} FROM waiting WHERE organization = ? AND seq > ? AND parked = 0 AND {REMEMBERED}
         ORDER BY seq LIMIT ?"
    ))?;
    let rows = if skip.is_empty() { limit } else { STRETCH };
    let mut rows = statement.query(params![&**organization, after.0, rows as u64])?;
    let (mut claimed, mut count, mut bytes) = (Vec::new(), 0, 0);
    while count < limit
        && bytes < MAX_CLAIM
        && let Some(row) = rows.next()?
    {
        if !skip.is_empty() {
            let lane = LaneKey::of(row.get_ref(LANE)?.as_str()?);
            if skip.binary_search(&lane).is_ok() {
                claimed.push(Claimed::Number(number(row, (0, DUE), lane)?));
                continue;
            }
        }
        let envelope = waiting(row, organization)?;
        (count, bytes) = (count + 1, bytes + envelope.content.size());
        claimed.push(Claimed::Envelope(envelope));
    }
    Ok(claimed)
}

/// The numbers of waiting events of an organization after a number, in order, parked ones left out. The columns stand
/// before the payload, whose pages are not read.
pub(super) fn numbers(
    connection: &Connection,
    organization: &str,
    after: Seq,
    limit: usize,
) -> rusqlite::Result<Vec<Number>> {
    connection
        .prepare_cached(&format!(
            "SELECT seq, lane, due FROM waiting WHERE organization = ? AND seq > ? AND parked = 0 AND {REMEMBERED}
             ORDER BY seq LIMIT ?"
        ))?
        .query_map(params![organization, after.0, limit as u64], |row| {
            number(row, (0, 2), LaneKey::of(row.get_ref(1)?.as_str()?))
        })?
        .collect()
}

fn number(row: &Row<'_>, (seq, due): (usize, usize), lane: LaneKey) -> rusqlite::Result<Number> {
    Ok(Number { seq: Seq(row.get(seq)?), lane, due: row.get::<_, Option<u64>>(due)?.map(UnixMillis) })
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

/// Organizations in one page of [`oldest`]: delivery waits for the same connection.
const PAGE: usize = 250;

/// When the first waiting envelope of each organization after this one arrived. Replays apart: see
/// [`Engine::oldest`](crate::queue::Engine::oldest).
pub(super) fn oldest(connection: &Connection, after: &str) -> rusqlite::Result<Oldest> {
    let mut statement = connection.prepare_cached(
        "SELECT organization, (
             SELECT received_at FROM (
                 SELECT seq, received_at, replays FROM waiting
                 WHERE waiting.organization = counts.organization ORDER BY seq LIMIT 100)
             WHERE replays = 0 ORDER BY seq LIMIT 1)
         FROM counts WHERE waiting > 0 AND organization > ? ORDER BY organization LIMIT ?",
    )?;
    let mut rows = statement.query(params![after, PAGE as u64])?;
    let (mut oldest, mut seen, mut last) = (Oldest::default(), 0, None);
    while let Some(row) = rows.next()? {
        let organization: Arc<str> = Arc::from(row.get_ref(0)?.as_str()?);
        if let Some(arrival) = row.get(1)? {
            oldest.arrivals.push((Arc::clone(&organization), UnixMillis(arrival)));
        }
        (seen, last) = (seen + 1, Some(organization));
    }
    oldest.next = last.filter(|_| seen == PAGE);
    Ok(oldest)
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
        content: Arc::new(NewEnvelope {
            organization: Arc::clone(organization),
            route: Cow::Owned(row.get(1)?),
            // Only the writer looks at keys, and only once, when an envelope comes in.
            key: DedupKey::new(organization, SourceRoute::default(), &message_id),
            message_id,
            lane: row.get(LANE)?,
            kind: Cow::Owned(row.get(4)?),
            title: row.get(5)?,
            received_at: UnixMillis(row.get(6)?),
            surroundings: row.get(12)?,
            payload: row.get(13)?,
            forgets: false,
        }),
        due: row.get::<_, Option<u64>>(DUE)?.map(UnixMillis),
        progress: Progress {
            tries: row.get(8)?,
            soft_failures: row.get(9)?,
            first_failed_at: row.get::<_, Option<u64>>(10)?.map(UnixMillis),
            done: row.get(11)?,
        },
    })
}
