//! The embedded engine: SQLite in one directory, owned by one process.
//!
//! # Constraints and how they are kept
//! * *Durable before the answer*: WAL with `synchronous = FULL`; the writer answers after the commit's fsync.
//! * *Group commit*: one thread writes. It drains its channel into one transaction; while that one syncs, the next
//!   group gathers. There are no timers: the sync itself forms the group.
//! * *The hot path never reads*: committed envelopes go to delivery through [`Fresh`].
//! * *Bounded disk*: records of ended events are trimmed to their time and size, busy or not, and give way to new
//!   events at `max_disk`; what still exceeds it is waiting or dead, and appends are refused.
//! * *One owner*: a lock file is held for the process's life. Claims need no rows, since they live in memory.
//!   A directory that was [sealed](export::Wish::seal) has none any more.
//! * *Found again*: an append is answered with success only while the names of the directory, the database, its log and
//!   the lock file lead to what was opened (`identity`); until they do again, nothing is written.
//!
//! # Layout (`queue.sqlite`)
//! `waiting` holds envelopes without an outcome, `settled` and `dead` the records of those with one, `attempts` the
//! tries of all three, `seen_…` the keys for deduplication in runs that are dropped whole, `ledger` and `counts`
//! the counts: nothing is counted by walking through the rows, so opening takes as long with ten million as with none.
//! `waiting` is small when all is well, and its pages are reused; `settled` only grows at its end and shrinks at its
//! front.
//!
//! # Who reads and writes
//! Only the writer's connection writes. A second, read-only connection answers claims and look-ups; those are bounded, so
//! that whoever searches the history does not hold delivery up. A backup and an export read in a process of their own
//! (`reading`), in one transaction, however long it takes; meanwhile the log only grows.
//!
//! # Crashes
//! A torn or unfinished transaction is rolled back by SQLite from the WAL's checksums: none of it was answered for. What
//! a failed sync leaves behind is the business of `log`.

pub mod backup;
mod dead;
pub mod export;
mod file;
mod forget;
mod hasten;
mod identity;
mod import;
mod log;
mod lookup;
mod reader;
mod reading;
mod schema;
mod seen;
mod store;
#[cfg(test)]
mod tests;
mod trim;
mod writer;

use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::transfer::{ImportError, Imported, Part};
use super::{
    AppendError, Appended, Claimed, Config, Engine, Envelope, Fate, Fresh, Hastened, LaneKey, Lookup,
    NewEnvelope, Number, Oldest, Page, Pending, QueueError, Refusals, Refusing, Selection, Seq, Settlement,
    Stats,
};
use crate::clock::{Clock, UnixMillis};
use crate::queue::history::Budget;
use identity::OpenFiles;
use log::Log;
use writer::{Change, Command, Decide, Hasten, Writer};

/// The database file inside the directory.
const FILE: &str = "queue.sqlite";

/// The file that the owner of the directory holds locked.
const LOCK: &str = "lock";

/// Bytes of requests that may wait for the disk in memory; above it new ones are refused as [`AppendError::Busy`].
const MAX_PENDING_BYTES: usize = 64 << 20;

/// Bytes of committed envelopes that may wait for delivery in memory.
const MAX_FRESH_BYTES: usize = 16 << 20;

/// The embedded queue.
#[derive(Debug)]
pub struct Sqlite {
    /// Before `commands`, whose end makes the writer close: it should be the last to do so, and tidy up.
    reader: Arc<Mutex<Connection>>,
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    clock: Clock,
}

/// What the writer's thread and the handle share.
#[derive(Debug)]
struct Shared {
    stats: Mutex<Stats>,
    fresh: Fresh,
    refusals: Refusals,
    budget: Mutex<Budget>,
    pending_bytes: AtomicUsize,
}

impl Shared {
    fn stats(&self) -> MutexGuard<'_, Stats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sqlite {
    /// Opens the queue in its directory, creating what is missing, and starts its writer.
    ///
    /// The returned thread ends, with everything that was sent to it committed, when the last handle is dropped.
    ///
    /// # Errors
    /// When the directory cannot be created or is in use, or the database cannot be read or is too new.
    pub fn open(config: &Config, clock: Clock) -> Result<(Self, std::thread::JoinHandle<()>), QueueError> {
        let directory = |error| QueueError::Directory { path: config.path.clone(), error };
        create(&config.path).map_err(directory)?;
        let lock = lock(&config.path)?;
        if export::is_sealed(&config.path) {
            return Err(QueueError::Sealed(config.path.clone()));
        }
        let path = config.path.join(FILE);
        file::tighten(&config.path);
        file::create_database(&path)
            .and_then(|()| log::write_again(&path))
            .map_err(|error| QueueError::Directory { path: path.clone(), error })?;
        let database = |error| match error {
            QueueError::Sqlite(error) => QueueError::Database { path: path.clone(), error },
            other => other,
        };
        let connection = schema::open(&path, config.purpose, clock.now()).map_err(database)?;
        file::adopt(&path);
        let reader =
            Arc::new(Mutex::new(schema::open_reader(&path).map_err(|error| database(error.into()))?));
        let files = OpenFiles::note(&path, &config.path.join(LOCK), &lock)
            .map_err(|error| QueueError::Directory { path: path.clone(), error })?;
        let shared = Arc::new(Shared {
            stats: Mutex::default(),
            fresh: Fresh::new(MAX_FRESH_BYTES),
            refusals: Refusals::default(),
            budget: Mutex::new(Budget::new(
                config.history_full_per_second,
                config.history_full_per_second_in_all,
            )),
            pending_bytes: AtomicUsize::new(0),
        });
        let writer = Writer::new(
            connection,
            Log::new(&path, Arc::clone(&reader), files),
            config,
            clock.clone(),
            Arc::clone(&shared),
        )?;
        let (commands, inbox) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("queue-writer".to_owned())
            .spawn(move || {
                writer.run(&inbox);
                drop(lock);
            })
            .map_err(directory)?;
        Ok((Self { reader, commands, shared, clock }, thread))
    }

    /// Whether a directory holds a queue.
    pub fn exists_in(directory: &Path) -> bool {
        directory.join(FILE).exists()
    }

    /// Sends one step of a decision; how many letters it looked at, and how many of those it moved.
    async fn decide_step(&self, letters: Arc<[Seq]>, fate: Fate) -> Result<(usize, u64), QueueError> {
        let (reply, done) = oneshot::channel();
        let command = Command::Decide(Decide { letters, fate, reply });
        self.commands.send(command).map_err(|_| QueueError::Closed)?;
        done.await.map_err(|_| QueueError::Closed)?
    }

    /// Runs a query on the reading connection, off the async threads.
    fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Pending<'_, Result<T, QueueError>> {
        let reader = Arc::clone(&self.reader);
        Box::pin(async move {
            tokio::task::spawn_blocking(move || {
                query(&reader.lock().unwrap_or_else(PoisonError::into_inner)).map_err(QueueError::from)
            })
            .await
            .map_err(|_| QueueError::Closed)?
        })
    }

    /// Sends a change at once; the answer comes when it is on disk.
    fn change(&self, change: Change) -> Pending<'_, ()> {
        let (reply, committed) = oneshot::channel();
        let sent = self.commands.send(Command::Change { change, reply: Some(reply) });
        Box::pin(async move {
            if sent.is_err() || committed.await.is_err() {
                // The writer's thread is gone, and with it the process's reason to live; `app` ends it. Until then
                // nobody may act as if this outcome were on disk.
                std::future::pending::<()>().await;
            }
        })
    }

    /// Refuses what the queue cannot take now, before it costs anything.
    fn admit(&self, bytes: usize) -> Result<(), AppendError> {
        let refusing = self.shared.stats().refusing;
        match refusing {
            Some(Refusing::Full) => return Err(AppendError::Full),
            Some(Refusing::Failing | Refusing::Displaced) => return Err(AppendError::Unavailable),
            None => {}
        }
        if self.shared.pending_bytes.load(Ordering::Relaxed) + bytes > MAX_PENDING_BYTES {
            return Err(AppendError::Busy);
        }
        Ok(())
    }
}

/// Creates a directory and what is missing above it, so that a power cut does not take it away again: a new name is on
/// disk once the directory that holds it has been synced.
fn create(directory: &Path) -> std::io::Result<()> {
    let missing = directory.ancestors().take_while(|it| !it.as_os_str().is_empty() && !it.exists()).count();
    if let Some(above) = directory.parent().filter(|above| !above.as_os_str().is_empty()) {
        std::fs::create_dir_all(above)?;
    }
    match DirBuilder::new().mode(file::DIRECTORY_MODE).create(directory) {
        Err(_) if directory.is_dir() => {}
        created => created?,
    }
    let directory = directory.canonicalize()?;
    for (level, above) in directory.ancestors().skip(1).take(missing.max(1)).enumerate() {
        let synced = File::open(above).and_then(|above| above.sync_all());
        // What was there may have been made by a start that did not come to this point. It may also be somebody
        // else's, on a file system that has no syncs.
        if level < missing {
            synced?;
        }
    }
    Ok(())
}

/// Takes the directory for this process.
fn lock(directory: &Path) -> Result<File, QueueError> {
    let path = directory.join(LOCK);
    let failed = |path: PathBuf| move |error| QueueError::Directory { path, error };
    let mut options = File::options();
    let file = options.create(true).append(true).mode(file::FILE_MODE).open(&path);
    let file = file.map_err(failed(path.clone()))?;
    file::adopt(&path);
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(QueueError::InUse(directory.to_owned())),
        Err(TryLockError::Error(error)) => Err(failed(path)(error)),
    }
}

/// Who decides about an append: the writer by taking it, or its sender by withdrawing it. Never both, so that
/// "nothing was kept" is never said of a request that is being committed.
#[derive(Debug, Default)]
struct Decision(AtomicU8);

impl Decision {
    const OPEN: u8 = 0;
    const TAKEN: u8 = 1;
    const WITHDRAWN: u8 = 2;

    /// Whether the writer may write it.
    fn take(&self) -> bool {
        self.decide(Self::TAKEN)
    }

    /// Whether the sender has withdrawn it in time.
    fn withdraw(&self) -> bool {
        self.decide(Self::WITHDRAWN)
    }

    fn decide(&self, to: u8) -> bool {
        self.0.compare_exchange(Self::OPEN, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// Bytes that count against [`MAX_PENDING_BYTES`] until this is dropped.
#[derive(Debug)]
struct PendingBytes(Arc<Shared>, usize);

impl PendingBytes {
    fn new(shared: &Arc<Shared>, bytes: usize) -> Self {
        shared.pending_bytes.fetch_add(bytes, Ordering::Relaxed);
        Self(Arc::clone(shared), bytes)
    }
}

impl Drop for PendingBytes {
    fn drop(&mut self) {
        self.0.pending_bytes.fetch_sub(self.1, Ordering::Relaxed);
    }
}

// === impl Engine ===

impl Engine for Sqlite {
    fn append(
        &self,
        envelopes: Vec<NewEnvelope>,
        patience: Duration,
    ) -> Pending<'_, Result<Appended, AppendError>> {
        Box::pin(async move {
            let bytes = envelopes.iter().map(NewEnvelope::size).sum();
            self.admit(bytes)?;
            let decision = Arc::new(Decision::default());
            let (reply, mut answer) = oneshot::channel();
            let command = Command::Append {
                envelopes,
                bytes: PendingBytes::new(&self.shared, bytes),
                decision: Arc::clone(&decision),
                reply,
            };
            self.commands.send(command).map_err(|_| AppendError::Unavailable)?;
            let answer = match tokio::time::timeout(patience, &mut answer).await {
                Ok(answer) => answer,
                Err(_) if decision.withdraw() => return Err(AppendError::TooSlow),
                Err(_) => answer.await,
            };
            answer.unwrap_or(Err(AppendError::Unavailable))
        })
    }

    fn claim(
        &self,
        organization: Arc<str>,
        after: Seq,
        limit: usize,
        skip: Arc<[LaneKey]>,
    ) -> Pending<'_, Result<Vec<Claimed>, QueueError>> {
        self.read(move |connection| reader::claim(connection, &organization, after, limit, &skip))
    }

    fn numbers(
        &self,
        organization: Arc<str>,
        after: Seq,
        limit: usize,
    ) -> Pending<'_, Result<Vec<Number>, QueueError>> {
        self.read(move |connection| reader::numbers(connection, &organization, after, limit))
    }

    fn reread(
        &self,
        organization: Arc<str>,
        numbers: Vec<Seq>,
    ) -> Pending<'_, Result<Vec<Envelope>, QueueError>> {
        self.read(move |connection| reader::reread(connection, &organization, numbers))
    }

    fn parked(&self, organization: Arc<str>, limit: usize) -> Pending<'_, Result<Vec<Envelope>, QueueError>> {
        self.read(move |connection| reader::parked(connection, &organization, limit))
    }

    fn settle(&self, settlement: Settlement) -> Pending<'_, ()> {
        self.change(Change::Settle(vec![settlement]))
    }

    fn settle_all(&self, settlements: Vec<Settlement>) {
        // If the writer's thread is gone, nothing is ever told of them; `app` ends the process.
        let change = Change::Settle(settlements);
        drop(self.commands.send(Command::Change { change, reply: None }));
    }

    fn records_in_full(&self, organization: &Arc<str>) -> bool {
        let mut budget = self.shared.budget.lock().unwrap_or_else(PoisonError::into_inner);
        budget.spend(organization, self.clock.now())
    }

    fn progress(&self, seq: Seq, done: String) -> Pending<'_, ()> {
        self.change(Change::Progress { seq, done })
    }

    fn oldest(&self, after: Option<Arc<str>>) -> Pending<'_, Result<Oldest, QueueError>> {
        self.read(move |connection| reader::oldest(connection, after.as_deref().unwrap_or_default()))
    }

    fn find(&self, lookup: Lookup) -> Pending<'_, Result<Page, QueueError>> {
        self.read(move |connection| lookup::find(connection, &lookup))
    }

    fn decide(&self, mut letters: Vec<Seq>, fate: Fate) -> Pending<'_, Result<u64, QueueError>> {
        // The order in which they stand is the one in which they are replayed.
        letters.sort_unstable();
        letters.dedup();
        Box::pin(async move {
            let mut all_moved = 0;
            while !letters.is_empty() {
                let (looked_at, moved) = self.decide_step(letters.as_slice().into(), fate.clone()).await?;
                letters.drain(..looked_at.clamp(1, letters.len()));
                all_moved += moved;
            }
            Ok(all_moved)
        })
    }

    fn hasten(
        &self,
        organization: Arc<str>,
        selection: Selection,
        now: UnixMillis,
    ) -> Pending<'_, Result<Hastened, QueueError>> {
        Box::pin(async move {
            let (mut all, mut after) = (Hastened::default(), Some(Seq(0)));
            while let Some(from) = after {
                let organization = Arc::clone(&organization);
                let (reply, done) = oneshot::channel();
                let step = Hasten { organization, selection, after: from, now, reply };
                self.commands.send(Command::Hasten(step)).map_err(|_| QueueError::Closed)?;
                let (hastened, next) = done.await.map_err(|_| QueueError::Closed)??;
                all.count += hastened.count;
                all.parked += hastened.parked;
                let room = Hastened::MAX_EVENTS - all.events.len();
                all.events.extend(hastened.events.into_iter().take(room));
                after = next;
            }
            Ok(all)
        })
    }

    fn import(&self, part: Part) -> Pending<'_, Result<Imported, ImportError>> {
        Box::pin(async move {
            let (reply, done) = oneshot::channel();
            let sent = self.commands.send(Command::Import { part, reply });
            sent.map_err(|_| QueueError::Closed)?;
            done.await.map_err(|_| QueueError::Closed)?
        })
    }

    fn stats(&self) -> Stats {
        self.shared.stats().clone()
    }

    fn look(&self, look: &mut dyn FnMut(&Stats)) {
        look(&self.shared.stats());
    }

    fn refusals(&self) -> &Refusals {
        &self.shared.refusals
    }

    fn fresh(&self) -> &Fresh {
        &self.shared.fresh
    }
}
