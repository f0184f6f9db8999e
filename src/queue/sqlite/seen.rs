//! Deduplication: which keys were seen within the window.
//!
//! Keys are hashes, so a table in their order would write a page of its own for every event. Instead they are gathered
//! in the order in which they come, in memory and in `seen_recent` (a row for each commit). When they make a full *run*,
//! that is written once to `seen_buckets`, each bucket the keys that share their first bits, and never changed again.
//!
//! Invariants:
//! * A key is noted in the transaction that keeps its event: neither can be there without the other.
//! * Exact: the filter in memory only spares looking into a run's bucket where a key cannot be.
//! * Bounded: about 35 bytes in memory for each key of the newest run, 1.25 for every other one; 24 bytes of disk for each.
//! * Forgetting costs nothing per key: a run that ended a window ago is not looked at any more, and goes in small steps.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::clock::UnixMillis;
use crate::queue::{Config, DedupKey, SourceRoute};

/// Keys of a run, if `queue.dedup_entries` allows so many.
const RUN: u64 = if cfg!(test) { 20 } else { 200_000 };

/// Runs, the newest included, among which `queue.dedup_entries` are shared if they are few.
const SHARES: u64 = 4;

/// Keys of a bucket on average: three buckets fill a page.
const BUCKET: u64 = 48;

/// Buckets are numbered within their run by so many bits.
const BUCKET_BITS: u32 = 16;

/// A key and its event's number, as they are stored.
const ENTRY: usize = 16 + 8;

/// Buckets of forgotten runs that one step removes: a few milliseconds of work.
const STEP: u32 = 500;

/// The keys, and what the open transaction does to them.
#[derive(Debug)]
pub(super) struct Seen {
    /// The newest run.
    recent: Keys,
    /// When its first key and its last one were noted.
    began_at: UnixMillis,
    ended_at: UnixMillis,
    /// Full runs that are still looked at, oldest first.
    runs: VecDeque<Run>,
    /// The next run's number.
    next: i64,
    open: Open,
}

/// What a transaction has changed, until it is committed.
#[derive(Debug, Default)]
struct Open {
    noted: Keys,
    /// The newest run, if it was closed.
    closed: Option<Run>,
    /// How many of the oldest runs are not looked at any more.
    forgotten: usize,
}

/// Keys, each with its event's number.
type Keys = HashMap<DedupKey, u64, BuildHasherDefault<KeyHasher>>;

/// Takes a key's first eight bytes as they are: they are of a cryptographic hash, so whoever wants them alike must search.
#[derive(Debug, Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, key: &[u8]) {
        if let Some(first) = key.first_chunk() {
            self.0 = u64::from_ne_bytes(*first);
        }
    }

    /// An array says its length first.
    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Debug)]
struct Run {
    number: i64,
    buckets: u64,
    entries: u64,
    ended_at: UnixMillis,
    filter: Filter,
}

impl Seen {
    /// The keys of a database. Only the newest run is read; of the others, the filters.
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let runs = connection
            .prepare("SELECT run, buckets, entries, ended_at, filter FROM seen_runs ORDER BY run")?
            .query_map([], |row| {
                Ok(Run {
                    number: row.get(0)?,
                    buckets: row.get(1)?,
                    entries: row.get(2)?,
                    ended_at: UnixMillis(row.get(3)?),
                    filter: Filter::from_bytes(row.get_ref(4)?.as_blob()?),
                })
            })?
            .collect::<rusqlite::Result<VecDeque<_>>>()?;
        let newest: Option<i64> =
            connection
                .query_row("SELECT max(id) >> ?1 FROM seen_buckets", [BUCKET_BITS], |row| row.get(0))?;
        let last = runs.back().map(|run| run.number).max(newest).unwrap_or(0);
        let mut seen = Self {
            recent: Keys::default(),
            began_at: UnixMillis(0),
            ended_at: UnixMillis(0),
            runs,
            next: last + 1,
            open: Open::default(),
        };
        let mut statement = connection.prepare("SELECT noted_at, keys FROM seen_recent ORDER BY id")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let noted_at = UnixMillis(row.get(0)?);
            if seen.recent.is_empty() {
                seen.began_at = noted_at;
            }
            seen.ended_at = noted_at;
            seen.recent.extend(entries(row.get_ref(1)?.as_blob()?));
        }
        Ok(seen)
    }

    /// Begins a transaction: a run that is full or half a window old is closed, and runs that ended a window ago are
    /// not looked at any more. Too many keys are forgotten early rather than kept.
    pub(super) fn begin(
        &mut self,
        transaction: &Transaction<'_>,
        config: &Config,
        now: UnixMillis,
    ) -> rusqlite::Result<()> {
        let run = (config.dedup_entries / SHARES).clamp(1, RUN);
        let window = config.dedup_window.0;
        let count = self.recent.len() as u64;
        if count >= run || (count > 0 && now.since(self.began_at) >= window / 2) {
            self.close(transaction)?;
        }
        let closed = self.open.closed.as_ref().map_or(0, |closed| closed.entries);
        let mut kept = self.runs.iter().map(|run| run.entries).sum::<u64>() + closed + run;
        for run in &self.runs {
            if now.since(run.ended_at) < window && kept <= config.dedup_entries {
                break;
            }
            kept -= run.entries;
            self.open.forgotten += 1;
        }
        for run in self.runs.iter().take(self.open.forgotten) {
            transaction.prepare_cached("DELETE FROM seen_runs WHERE run = ?")?.execute([run.number])?;
        }
        Ok(())
    }

    /// Whether a key was seen; if not, it is noted with its event's number.
    pub(super) fn note(
        &mut self,
        transaction: &Transaction<'_>,
        key: DedupKey,
        seq: u64,
    ) -> rusqlite::Result<bool> {
        if self.recent.contains_key(&key) || self.open.noted.contains_key(&key) {
            return Ok(true);
        }
        // Newest first: repeats come soon.
        for run in self.runs.iter().skip(self.open.forgotten).rev() {
            if run.filter.may_have(key) && run.has(transaction, key)? {
                return Ok(true);
            }
        }
        self.open.noted.insert(key, seq);
        Ok(false)
    }

    /// Writes what was noted.
    pub(super) fn write(&self, transaction: &Transaction<'_>, now: UnixMillis) -> rusqlite::Result<()> {
        if self.open.noted.is_empty() {
            return Ok(());
        }
        let mut keys = Vec::with_capacity(self.open.noted.len() * ENTRY);
        for (key, seq) in &self.open.noted {
            push(&mut keys, *key, *seq);
        }
        transaction
            .prepare_cached("INSERT INTO seen_recent (noted_at, keys) VALUES (?, ?)")?
            .execute(params![now.0, keys])
            .map(drop)
    }

    /// The transaction was committed.
    pub(super) fn committed(&mut self, now: UnixMillis) {
        let Open { noted, closed, forgotten } = &mut self.open;
        self.runs.drain(..*forgotten);
        *forgotten = 0;
        if let Some(run) = closed.take() {
            self.runs.push_back(run);
            self.next += 1;
            self.recent.clear();
        }
        if noted.is_empty() {
            return;
        }
        if self.recent.is_empty() {
            self.began_at = now;
        }
        self.ended_at = now;
        self.recent.extend(noted.drain());
    }

    /// The transaction was not committed.
    pub(super) fn rolled_back(&mut self) {
        self.open = Open::default();
    }

    /// Writes the newest run for good.
    fn close(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let entries = self.recent.iter().map(|(key, seq)| (*key, *seq)).collect();
        let run = Run::write(transaction, self.next, self.ended_at, entries)?;
        transaction.prepare_cached("DELETE FROM seen_recent")?.execute([])?;
        self.open.closed = Some(run);
        Ok(())
    }

    /// The oldest run that is still looked at.
    pub(super) fn oldest(&self) -> i64 {
        self.runs.front().map_or(self.next, |run| run.number)
    }
}

impl Run {
    fn write(
        transaction: &Connection,
        number: i64,
        ended_at: UnixMillis,
        mut entries: Vec<(DedupKey, u64)>,
    ) -> rusqlite::Result<Self> {
        let count = entries.len() as u64;
        let buckets = count.div_ceil(BUCKET).clamp(1, 1 << BUCKET_BITS);
        let filter = Filter::of(entries.iter().map(|(key, _)| *key), count);
        entries.sort_unstable();
        let run = Self { number, buckets, entries: count, ended_at, filter };
        let mut insert = transaction.prepare_cached("INSERT INTO seen_buckets (id, keys) VALUES (?, ?)")?;
        let mut keys = Vec::new();
        for bucket in entries.chunk_by(|(one, _), (other, _)| run.bucket(*one) == run.bucket(*other)) {
            let Some((first, _)) = bucket.first() else { continue };
            keys.clear();
            for (key, seq) in bucket {
                push(&mut keys, *key, *seq);
            }
            insert.execute(params![run.bucket(*first), keys])?;
        }
        transaction
            .prepare_cached(
                "INSERT INTO seen_runs (run, buckets, entries, ended_at, filter) VALUES (?, ?, ?, ?, ?)",
            )?
            .execute(params![number, buckets, count, ended_at.0, run.filter.to_bytes()])?;
        Ok(run)
    }

    /// Where a key stands if it is in this run.
    fn bucket(&self, key: DedupKey) -> i64 {
        bucket(self.number, self.buckets, key)
    }

    fn has(&self, connection: &Connection, key: DedupKey) -> rusqlite::Result<bool> {
        Ok(look(connection, self.bucket(key))?.is_some_and(|keys| entries(&keys).any(|(it, _)| it == key)))
    }
}

/// Every key has its bucket by its first four bytes, which are uniform.
fn bucket(run: i64, buckets: u64, DedupKey([a, b, c, d, ..]): DedupKey) -> i64 {
    let place = (u64::from(u32::from_be_bytes([a, b, c, d])) * buckets) >> 32;
    (run << BUCKET_BITS) | i64::try_from(place).unwrap_or(i64::MAX)
}

fn look(connection: &Connection, bucket: i64) -> rusqlite::Result<Option<Vec<u8>>> {
    connection
        .prepare_cached("SELECT keys FROM seen_buckets WHERE id = ?")?
        .query_row([bucket], |row| row.get(0))
        .optional()
}

fn push(keys: &mut Vec<u8>, DedupKey(key): DedupKey, seq: u64) {
    keys.extend_from_slice(&key);
    keys.extend_from_slice(&seq.to_be_bytes());
}

fn entries(keys: &[u8]) -> impl Iterator<Item = (DedupKey, u64)> {
    keys.as_chunks::<ENTRY>().0.iter().map(|entry| {
        let (mut key, mut seq) = ([0; 16], [0; 8]);
        let (head, tail) = entry.split_at(16);
        key.copy_from_slice(head);
        seq.copy_from_slice(tail);
        (DedupKey(key), u64::from_be_bytes(seq))
    })
}

/// The numbers of the events with a message id in any of these organizations, by whatever source route they came,
/// ascending. For look-ups: it reads the newest run whole, of the others a bucket for each organization that the run's
/// filter does not rule out.
pub(super) fn numbers<'a>(
    connection: &Connection,
    organizations: impl Iterator<Item = &'a str>,
    message_id: &str,
) -> rusqlite::Result<Vec<u64>> {
    let key = |organization| DedupKey::new(organization, SourceRoute::default(), message_id);
    let wanted: HashMap<_, _> = organizations.map(key).map(|key| (key.identity(), key)).collect();
    let mut found = Vec::new();
    let mut add = |keys: &[u8]| {
        let matching = entries(keys).filter(|(key, _)| wanted.contains_key(&key.identity()));
        found.extend(matching.map(|(_, seq)| seq));
    };
    let mut recent = connection.prepare_cached("SELECT keys FROM seen_recent")?;
    let mut rows = recent.query([])?;
    while let Some(row) = rows.next()? {
        add(row.get_ref(0)?.as_blob()?);
    }
    let mut runs = connection.prepare_cached("SELECT run, buckets, filter FROM seen_runs")?;
    let mut rows = runs.query([])?;
    while let Some(row) = rows.next()? {
        let (run, buckets) = (row.get(0)?, row.get(1)?);
        // For one organization its bucket is read sooner than the filter.
        let filter =
            if wanted.len() > 1 { Some(Filter::from_bytes(row.get_ref(2)?.as_blob()?)) } else { None };
        let may_have = |key: &&DedupKey| filter.as_ref().is_none_or(|filter| filter.may_have(**key));
        let in_run: BTreeSet<_> =
            wanted.values().filter(may_have).map(|key| bucket(run, buckets, *key)).collect();
        for bucket in in_run {
            if let Some(keys) = look(connection, bucket)? {
                add(&keys);
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Goes through all keys that are looked at, each with its event's number.
pub(super) fn each(
    connection: &Connection,
    look: &mut dyn FnMut(DedupKey, u64) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let sources = [
        "SELECT keys FROM seen_recent ORDER BY id".to_owned(),
        format!(
            "SELECT keys FROM seen_buckets WHERE id >> {BUCKET_BITS} IN (SELECT run FROM seen_runs) ORDER BY id"
        ),
    ];
    for sql in sources {
        let mut statement = connection.prepare(&sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            entries(row.get_ref(0)?.as_blob()?).try_for_each(|(key, seq)| look(key, seq))?;
        }
    }
    Ok(())
}

/// Removes one step's worth of buckets that are older than the oldest living run; how many have gone.
pub(super) fn trim(connection: &Connection, oldest: i64) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(
            "DELETE FROM seen_buckets WHERE id IN (SELECT id FROM seen_buckets WHERE id < ? ORDER BY id LIMIT ?)",
        )?
        .execute(params![oldest << BUCKET_BITS, STEP])
}

/// Takes the keys of format 2 over: a table in their own order, in generations.
pub(super) fn migrate(connection: &Connection, now: UnixMillis) -> rusqlite::Result<()> {
    let generations = connection
        .prepare(
            "SELECT generation, coalesce(lead(started_at) OVER (ORDER BY generation), ?)
             FROM generations ORDER BY generation",
        )?
        .query_map([now.0], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<Vec<(i64, u64)>>>()?;
    let mut number = 0;
    for (generation, ended_at) in generations {
        let mut statement = connection.prepare("SELECT key, seq FROM seen WHERE generation = ?")?;
        let mut rows = statement
            .query_map([generation], |row| Ok((DedupKey(row.get(0)?), row.get(1)?)))?
            .fuse()
            .peekable();
        while rows.peek().is_some() {
            let entries = rows.by_ref().take(usize::try_from(RUN).unwrap_or(usize::MAX));
            number += 1;
            Run::write(connection, number, UnixMillis(ended_at), entries.collect::<rusqlite::Result<_>>()?)?;
        }
    }
    connection.execute_batch("DROP TABLE seen; DROP TABLE generations;")
}

/// A blocked Bloom filter: a key sets [`PROBES`] bits in one block of 512, so that a look costs one line of the
/// processor's cache. At ten bits a key about one look in sixty finds what is not there.
#[derive(Debug, Default, PartialEq, Eq)]
struct Filter(Box<[[u64; 8]]>);

/// Bits that a key sets.
const PROBES: u32 = 6;

impl Filter {
    fn of(keys: impl Iterator<Item = DedupKey>, count: u64) -> Self {
        let blocks = usize::try_from((count * 10).div_ceil(512)).unwrap_or(usize::MAX).max(1);
        let mut filter = Self(vec![[0; 8]; blocks].into_boxed_slice());
        for key in keys {
            let (place, bits) = filter.place(key);
            if let Some(block) = filter.0.get_mut(place) {
                block.iter_mut().zip(bits).for_each(|(word, bits)| *word |= bits);
            }
        }
        filter
    }

    fn may_have(&self, key: DedupKey) -> bool {
        let (place, bits) = self.place(key);
        self.0.get(place).is_some_and(|block| block.iter().zip(bits).all(|(word, bits)| word & bits == bits))
    }

    /// A key's block, and its bits there. Only the identity is looked at, and its bits are uniform.
    fn place(&self, key: DedupKey) -> (usize, [u64; 8]) {
        let identity = key.identity();
        let (first, rest) = identity.split_first_chunk().expect("BUG: an identity has twelve bytes");
        let rest = rest.first_chunk().expect("BUG: and eight after the first four");
        let block = (u64::from(u32::from_be_bytes(*first)) * self.0.len() as u64) >> 32;
        let bits = u64::from_be_bytes(*rest);
        let mut words = [0; 8];
        for probe in 0..PROBES {
            let bit = (bits >> (probe * 9)) & 511;
            if let Some(word) = words.get_mut(usize::try_from(bit / 64).unwrap_or(0)) {
                *word |= 1 << (bit % 64);
            }
        }
        (usize::try_from(block).unwrap_or(0), words)
    }

    fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flatten().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let words: Vec<u64> = bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        Self(words.as_chunks().0.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> DedupKey {
        DedupKey::new("acme", SourceRoute::new("v1"), &n.to_string())
    }

    #[test]
    fn a_filter_has_what_was_put_into_it_and_little_else() {
        let filter = Filter::of((0..10_000).map(key), 10_000);
        assert!((0..10_000).map(key).all(|key| filter.may_have(key)));
        let wrong = (10_000..110_000).filter(|n| filter.may_have(key(*n))).count();
        assert!(wrong < 3_000, "{wrong} of 100 000");
        assert_eq!(Filter::from_bytes(&filter.to_bytes()), filter);
        assert!(!Filter::of(std::iter::empty(), 0).may_have(key(1)));
        assert!(!Filter::default().may_have(key(1)), "a filter of nothing has nothing");
    }

    #[test]
    fn what_is_stored_is_read_back() {
        let mut keys = Vec::new();
        push(&mut keys, key(1), 7);
        push(&mut keys, key(2), u64::MAX);
        assert_eq!(entries(&keys).collect::<Vec<_>>(), [(key(1), 7), (key(2), u64::MAX)]);
    }
}
