//! The one thread that writes: commands in, one transaction and one sync per group, answers out.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use super::dead::{self, Moved};
use super::identity::is_displaced;
use super::log::Log;
use super::seen::Seen;
use super::store::{self, Brought, Statements, Totals};
use super::trim::{self, Trimmer};
use super::{Decision, PendingBytes, Shared, forget, hasten, import};
use crate::clock::{Clock, UnixMillis};
use crate::queue::counts::{Counts, Tally};
use crate::queue::transfer::{ImportError, Imported, Part};
use crate::queue::{
    AppendError, Appended, Config, Fate, Groups, Hastened, NewEnvelope, QueueError, Refusing, Selection, Seq,
    Settlement, Stats,
};
use crate::telemetry::{Logging, tell};

/// What the thread is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    Append {
        envelopes: Vec<NewEnvelope>,
        bytes: PendingBytes,
        decision: Arc<Decision>,
        reply: oneshot::Sender<Result<Appended, AppendError>>,
    },
    Change {
        change: Change,
        reply: Option<oneshot::Sender<()>>,
    },
    Decide(Decide),
    Hasten(Hasten),
    Import {
        part: Part,
        reply: oneshot::Sender<Result<Imported, ImportError>>,
    },
}

/// What a person has decided about dead letters; the answer says how far one step came.
#[derive(Debug)]
pub(super) struct Decide {
    pub(super) letters: Arc<[Seq]>,
    pub(super) fate: Fate,
    pub(super) reply: oneshot::Sender<Result<(usize, u64), QueueError>>,
}

/// One step of [`Engine::hasten`](crate::queue::Engine::hasten); the answer says what it changed, and after which event
/// the next one begins.
#[derive(Debug)]
pub(super) struct Hasten {
    pub(super) organization: Arc<str>,
    pub(super) selection: Selection,
    pub(super) after: Seq,
    pub(super) now: UnixMillis,
    pub(super) reply: oneshot::Sender<Result<(Hastened, Option<Seq>), QueueError>>,
}

/// What happens to envelopes that are in the queue already.
#[derive(Debug)]
pub(super) enum Change {
    /// Rounds of work on them have ended.
    Settle(Vec<Settlement>),
    /// One of the calls of an envelope has been answered; see [`Engine::progress`](crate::queue::Engine::progress).
    Progress { seq: Seq, done: String },
}

impl Change {
    /// How many envelopes it is about.
    const fn size(&self) -> usize {
        match self {
            Self::Settle(settlements) => settlements.len(),
            Self::Progress { .. } => 1,
        }
    }
}

/// Changes, each with whom to tell; if nobody waits, what was settled is told to delivery.
type Changes = Vec<(Change, Option<oneshot::Sender<()>>)>;

/// A group ends when it has this many bytes of envelopes, or nothing more is waiting.
const GROUP_BYTES: usize = 4 << 20;

/// How long results wait for an event to be committed with.
const COMPANY: Duration = Duration::from_millis(1);

/// How often the thread tidies up, busy or not; after a failure, how long until it tries again.
const IDLE: Duration = Duration::from_millis(500);

/// The same while there are more records than there may be (a hundred thousand can go in a second), and while an idle
/// queue has more space to give back.
const HURRY: Duration = Duration::from_millis(20);

/// How often the stored counts of organizations without any events are removed.
const SWEEP: Duration = Duration::from_mins(1);

/// Appends of a group, each with its answer-to-be.
type Replies = Vec<(oneshot::Sender<Result<Appended, AppendError>>, Appended)>;

#[derive(Debug, Default)]
struct Group {
    appends: Vec<Append>,
    decisions: Vec<Decide>,
    hastens: Vec<Hasten>,
    imports: Vec<(Part, oneshot::Sender<Result<Imported, ImportError>>)>,
    bytes: usize,
}

#[derive(Debug)]
struct Append {
    envelopes: Vec<NewEnvelope>,
    _bytes: PendingBytes,
    reply: oneshot::Sender<Result<Appended, AppendError>>,
}

/// The state of the thread. What is here equals what is in the database as of the last commit.
#[derive(Debug)]
pub(super) struct Writer {
    /// Before the connection, so that no reader is left when that closes: the last to close tidies up.
    log: Log,
    connection: Connection,
    clock: Clock,
    shared: Arc<Shared>,
    config: Config,
    totals: Totals,
    seen: Seen,
    /// Changes whose commit is to come, or has failed: they are tried again until the disk takes them.
    changes: Changes,
    commits: u64,
    commands: u64,
    groups: Groups,
    duplicates: u64,
    dropped: u64,
    /// Why nothing can be written, if so.
    failing: Option<Refusing>,
    /// Whether there may be a person to forget.
    forgetting: bool,
    /// Whether nothing else was to be done, and more free space can go back to the file system.
    giving_back: bool,
    disk_bytes: u64,
    trimmer: Trimmer,
    tidied_at: Instant,
    swept_at: Instant,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        log: Log,
        config: &Config,
        clock: Clock,
        shared: Arc<Shared>,
    ) -> Result<Self, QueueError> {
        let totals = store::read_totals(&connection)?;
        let seen = Seen::read(&connection)?;
        let mut writer = Self {
            connection,
            log,
            clock,
            shared,
            config: config.clone(),
            totals,
            seen,
            changes: Changes::new(),
            commits: 0,
            commands: 0,
            groups: Groups::default(),
            duplicates: 0,
            dropped: 0,
            failing: None,
            forgetting: true,
            giving_back: false,
            disk_bytes: 0,
            trimmer: Trimmer::default(),
            tidied_at: Instant::now(),
            swept_at: Instant::now(),
        };
        writer.note_backlog()?;
        writer.measure();
        writer.publish(&Tally::default());
        Ok(writer)
    }

    /// Shows the stored counts, and tells delivery which organizations have envelopes from before. One index step per
    /// organization, however many envelopes wait.
    fn note_backlog(&mut self) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare(
            "SELECT organization, waiting, parked, dead,
                 (SELECT max(seq) FROM waiting WHERE waiting.organization = counts.organization)
             FROM counts WHERE waiting > 0 OR dead > 0",
        )?;
        let mut rows = statement.query([])?;
        let mut tally = Tally::default();
        while let Some(row) = rows.next()? {
            let organization: Arc<str> = Arc::from(row.get_ref(0)?.as_str()?);
            *tally.of(&organization) =
                Counts { waiting: row.get(1)?, parked: row.get(2)?, dead: row.get(3)? };
            if let Some(latest) = row.get(4)? {
                self.shared.fresh.note(organization, Seq(latest));
            }
        }
        tally.apply(&mut self.shared.stats());
        Ok(())
    }

    /// Serves commands until every sender is gone.
    pub(super) fn run(mut self, inbox: &Receiver<Command>) {
        let mut idle = false;
        loop {
            let behind = self.forgetting || self.records_to_remove() > 0 || self.letters_to_drop() > 0;
            let rest = if behind || self.giving_back { HURRY } else { IDLE };
            // By the time, not when idle: a busy queue is never idle, and must not grow for it.
            if self.failing.is_none() && self.tidied_at.elapsed() >= rest {
                self.tidy(idle);
            }
            idle = false;
            let mut group = Group::default();
            match inbox.recv_timeout(rest) {
                Ok(command) => self.take(command, &mut group),
                Err(RecvTimeoutError::Timeout) if self.failing.is_some() => {}
                Err(RecvTimeoutError::Timeout) => {
                    idle = true;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.gather(inbox, &mut group);
            let decisions = std::mem::take(&mut group.decisions);
            let hastens = std::mem::take(&mut group.hastens);
            let imports = std::mem::take(&mut group.imports);
            self.commit(group);
            for decision in decisions {
                self.decide(decision);
            }
            for step in hastens {
                self.hasten(step);
            }
            for (part, reply) in imports {
                drop(reply.send(self.import(&part)));
            }
        }
        if !self.changes.is_empty() {
            self.commit(Group::default());
        }
        self.keep_the_log_of_another();
    }

    /// Closing a database removes its log by name. If the directory was replaced, that is the log of another queue.
    fn keep_the_log_of_another(&self) {
        if self.log.in_place().is_ok() {
            return;
        }
        if let Err(error) = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true) {
            tracing::warn!(%error, "the queue's database is closed as if its directory were in place");
        }
    }

    /// Takes what else is waiting. Changes alone wait a moment for an event that has to be committed anyway: only a call
    /// is made later for it, the next one of the same event or person.
    fn gather(&mut self, inbox: &Receiver<Command>, group: &mut Group) {
        let began = Instant::now();
        while group.bytes < GROUP_BYTES {
            let wait = if group.appends.is_empty() && group.decisions.is_empty() {
                COMPANY.saturating_sub(began.elapsed())
            } else {
                Duration::ZERO
            };
            let Ok(command) = inbox.recv_timeout(wait) else { return };
            self.take(command, group);
        }
    }

    fn take(&mut self, command: Command, group: &mut Group) {
        self.commands += 1;
        match command {
            Command::Append { envelopes, bytes, decision, reply } => {
                if decision.take() {
                    group.bytes += bytes.1;
                    group.appends.push(Append { envelopes, _bytes: bytes, reply });
                }
            }
            Command::Change { change, reply } => {
                group.bytes += 256;
                self.changes.push((change, reply));
            }
            Command::Decide(decision) => {
                group.bytes += 256;
                group.decisions.push(decision);
            }
            Command::Hasten(step) => {
                group.bytes += 256;
                group.hastens.push(step);
            }
            Command::Import { part, reply } => {
                group.bytes += 256;
                group.imports.push((part, reply));
            }
        }
    }

    /// Writes a group in one transaction and answers everybody in it.
    fn commit(&mut self, mut group: Group) {
        let changes = std::mem::take(&mut self.changes);
        let (now, bytes) = (self.clock.now(), group.bytes);
        match self.write(&mut group, &changes, now) {
            Ok((results, Brought { fresh, forgotten, tally })) => {
                // Its files may have gone while it was made.
                let in_place = self.log.in_place();
                self.log.has_written(bytes);
                self.seen.committed(now);
                self.forgetting |= !forgotten.is_empty();
                self.commits += 1;
                self.groups.count(
                    group.appends.len() + changes.iter().map(|(change, _)| change.size()).sum::<usize>(),
                );
                let mut replies: Replies = Vec::with_capacity(group.appends.len());
                for (append, result) in group.appends.into_iter().zip(results) {
                    self.duplicates += result.duplicates as u64;
                    replies.push((append.reply, result));
                }
                self.publish(&tally);
                match &in_place {
                    Ok(()) => self.recover(),
                    Err(error) => self.displace(error),
                }
                let (waiters, settled) = told(changes);
                self.shared.fresh.hand_over(forgotten, fresh, settled);
                for (reply, result) in replies {
                    // A sender that has gone away is told nothing; its events are stored all the same.
                    let answer = in_place.as_ref().map(|()| result).map_err(|_| AppendError::Unavailable);
                    drop(reply.send(answer));
                }
                for reply in waiters {
                    let _gone = reply.send(());
                }
                self.carry_over();
            }
            Err(error) => {
                if is_displaced(&error) {
                    self.displace(&error);
                } else {
                    tell!(error or debug if Logging::repeats("the queue cannot write", "", "");
                        %error, "the queue cannot write; new events are refused until it can");
                    self.fail(Refusing::Failing);
                }
                self.log.doubt(&error);
                self.seen.rolled_back();
                self.changes = changes;
                for append in group.appends {
                    drop(append.reply.send(Err(AppendError::Unavailable)));
                }
                // Without a pause a full disk would be hammered.
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    /// Envelopes are taken out of the group as they are written.
    fn write(
        &mut self,
        group: &mut Group,
        changes: &Changes,
        now: UnixMillis,
    ) -> rusqlite::Result<(Vec<Appended>, Brought)> {
        let mut totals = self.totals;
        self.log.trust()?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut brought = Brought::default();
        let mut results = Vec::with_capacity(group.appends.len());
        {
            let mut statements = Statements::new(&transaction)?;
            for (change, _) in changes {
                match change {
                    Change::Settle(settlements) => {
                        for it in settlements {
                            store::settle(&transaction, &mut statements, it, now, &mut totals, &mut brought)?;
                        }
                    }
                    Change::Progress { seq, done } => store::progress(&transaction, *seq, done)?,
                }
            }
            self.seen.begin(&transaction, &self.config, now)?;
            for append in &mut group.appends {
                let mut result = Appended { accepted: 0, duplicates: 0 };
                for envelope in append.envelopes.drain(..) {
                    let kept = (&mut self.seen, &mut totals);
                    if store::insert(&transaction, &mut statements, envelope, kept, &mut brought)? {
                        result.accepted += 1;
                    } else {
                        result.duplicates += 1;
                    }
                }
                results.push(result);
            }
        }
        self.seen.write(&transaction, now)?;
        store::write_totals(&transaction, &totals)?;
        store::write_counts(&transaction, &brought.tally)?;
        // Here, because outside of a transaction each look takes locks of its own.
        let disk_bytes = used(&transaction)?;
        transaction.commit()?;
        self.totals = totals;
        self.disk_bytes = disk_bytes;
        Ok((results, brought))
    }

    /// Makes the state of the last commit visible, with what it changed.
    fn publish(&mut self, tally: &Tally) {
        let full = self.disk_bytes >= self.config.max_disk.as_u64();
        let mut stats = self.shared.stats();
        tally.apply(&mut stats);
        *stats = Stats {
            ledger: self.totals.ledger,
            duplicates: self.duplicates,
            dropped: self.dropped,
            waiting: std::mem::take(&mut stats.waiting),
            parked: std::mem::take(&mut stats.parked),
            dead_letters: std::mem::take(&mut stats.dead_letters),
            disk_bytes: self.disk_bytes,
            disk_limit: self.config.max_disk.as_u64(),
            history_bytes: self.totals.history_bytes,
            commits: self.commits,
            commands: self.commands,
            groups: self.groups,
            refusing: full.then_some(Refusing::Full),
            committed_at: self.clock.now(),
        };
    }

    /// Looks how much of the disk is in use, after changes that do not look themselves.
    fn measure(&mut self) {
        match used(&self.connection) {
            Ok(bytes) => self.disk_bytes = bytes,
            Err(error) => tracing::warn!(%error, "the queue's size cannot be read"),
        }
    }

    fn fail(&mut self, why: Refusing) {
        self.failing = Some(why);
        self.shared.stats().refusing = Some(why);
    }

    /// Refuses new events until the directory and the files are where they were opened.
    fn displace(&mut self, error: &rusqlite::Error) {
        if self.failing != Some(Refusing::Displaced) {
            tracing::error!(
                %error,
                "the queue's directory or a file of it was moved, removed or replaced; new events are refused until it is back"
            );
        }
        self.fail(Refusing::Displaced);
    }

    /// A commit has been made.
    fn recover(&mut self) {
        if self.failing.take() == Some(Refusing::Displaced) {
            tracing::info!("the queue's directory and files are in place again; new events are taken");
        }
    }

    /// Bytes of records that must go: what exceeds the history's own size, and whatever new events need below the
    /// disk limit.
    fn records_to_remove(&self) -> u64 {
        let max_disk = self.config.max_disk.as_u64();
        let too_much = self.totals.history_bytes.saturating_sub(self.config.history_size.as_u64());
        let in_the_way = if self.disk_bytes < max_disk {
            0
        } else {
            // Some room more, else every other request would be refused.
            self.disk_bytes - max_disk + max_disk / 64
        };
        too_much.max(in_the_way).min(self.totals.history_bytes)
    }

    /// Old records go, and when idle free space goes back to the file system, both in small steps. (A busy queue would
    /// take that space again at once.)
    #[cold]
    fn tidy(&mut self, idle: bool) {
        if let Err(error) = self.log.in_place() {
            self.displace(&error);
            return;
        }
        let excess = self.records_to_remove();
        let now = self.clock.now();
        let tidied = self
            .log
            .trust()
            .and_then(|()| {
                let oldest_run = self.seen.oldest();
                let (connection, totals) = (&mut self.connection, &mut self.totals);
                self.trimmer.step(connection, &self.config, excess, now, oldest_run, totals)
            })
            .and_then(|()| if idle { trim::give_back(&self.connection) } else { Ok(false) });
        self.giving_back = *tidied.as_ref().unwrap_or(&false);
        if let Err(error) = &tidied {
            tracing::warn!(%error, "the queue could not be tidied; it is tried again");
            self.log.doubt(error);
        }
        self.limit_dead_letters(now);
        if self.swept_at.elapsed() >= SWEEP {
            self.swept_at = Instant::now();
            if let Err(error) = self.log.trust().and_then(|()| store::sweep_counts(&self.connection)) {
                tracing::warn!(%error, "old counts could not be removed; it is tried again");
                self.log.doubt(&error);
            }
        }
        let mut tally = Tally::default();
        match self.forget(now) {
            Ok(forgotten) => tally = forgotten,
            Err(error) => {
                tracing::warn!(%error, "a person could not be forgotten yet; it is tried again");
                self.log.doubt(&error);
            }
        }
        self.log.has_written_much();
        self.carry_over();
        self.measure();
        self.publish(&tally);
        self.tidied_at = Instant::now();
    }

    /// Keeps the log short, when everybody has been answered.
    fn carry_over(&mut self) {
        if let Err(error) = self.log.carry_over(&self.connection) {
            tracing::error!(%error, "the queue's log cannot be carried over into its database; it is tried again");
            self.log.doubt(&error);
        }
    }

    /// Does one step of what a person has decided, and says how far it came.
    fn decide(&mut self, Decide { letters, fate, reply }: Decide) {
        let now = self.clock.now();
        let done =
            self.move_letters(|transaction, totals| dead::decide(transaction, &letters, &fate, now, totals));
        let done = done.and_then(|moved| self.log.in_place().map(|()| moved));
        // A person who has gone away can look at the dead letters that are left.
        drop(reply.send(done.map_err(QueueError::from)));
    }

    /// Does one step of ending the wait of events.
    fn hasten(&mut self, Hasten { organization, selection, after, now, reply }: Hasten) {
        let done = self
            .log
            .trust()
            .and_then(|()| hasten::step(&mut self.connection, &organization, selection, after, now))
            .and_then(|step| self.log.in_place().map(|()| step));
        if let Err(error) = &done {
            self.log.doubt(error);
        }
        self.log.has_written_much();
        self.carry_over();
        // Whoever asked and has gone away can ask again.
        drop(reply.send(done.map_err(QueueError::from)));
    }

    /// Takes a part of an export.
    fn import(&mut self, part: &Part) -> Result<Imported, ImportError> {
        if !part.lines.is_empty() && self.disk_bytes >= self.config.max_disk.as_u64() {
            return Err(ImportError::Full);
        }
        let now = self.clock.now();
        match self.write_import(part, now) {
            Ok((taken, moved)) => {
                if taken.is_ok() {
                    self.seen.committed(now);
                } else {
                    self.seen.rolled_back();
                }
                self.make_known(moved);
                let imported = taken?;
                self.log.in_place().map_err(QueueError::from)?;
                Ok(imported)
            }
            Err(error) => {
                self.seen.rolled_back();
                self.log.doubt(&error);
                Err(QueueError::from(error).into())
            }
        }
    }

    /// Takes a part in a transaction of its own; of one that is not the next nothing is written.
    fn write_import(
        &mut self,
        part: &Part,
        now: UnixMillis,
    ) -> rusqlite::Result<(Result<Imported, ImportError>, Moved)> {
        let (mut totals, mut moved) = (self.totals, Moved::default());
        self.log.trust()?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        self.seen.begin(&transaction, &self.config, now)?;
        let taken = import::take(&transaction, part, now, (&mut self.seen, &mut totals), &mut moved)?;
        if taken.is_ok() {
            self.seen.write(&transaction, now)?;
            store::write_totals(&transaction, &totals)?;
            store::write_counts(&transaction, &moved.tally)?;
            transaction.commit()?;
            self.totals = totals;
            self.log.has_written_much();
        }
        Ok((taken, moved))
    }

    /// Dead letters above their limit, if there is one.
    fn letters_to_drop(&self) -> u64 {
        match self.config.max_dead_letters {
            0 => 0,
            most => self.totals.dead_letters.saturating_sub(most),
        }
    }

    /// Lets the oldest dead letters go when there are more than there may be.
    fn limit_dead_letters(&mut self, now: UnixMillis) {
        let excess = self.letters_to_drop();
        if excess == 0 {
            return;
        }
        match self.move_letters(|transaction, totals| dead::drop_oldest(transaction, excess, now, totals)) {
            // What belongs to a person who is being forgotten goes by itself.
            Ok((_, 0)) => {}
            Ok((_, dropped)) => {
                self.dropped += dropped;
                tell!(error or debug if Logging::repeats_times("dead letters dropped", "", "", dropped);
                    dropped,
                    max_dead_letters = self.config.max_dead_letters,
                    "there are more dead letters than queue.max_dead_letters; the oldest were dropped"
                );
            }
            Err(error) => tracing::warn!(%error, "dead letters could not be dropped; it is tried again"),
        }
    }

    /// Moves dead letters in a transaction of its own and makes that known: how many were looked at, and moved.
    fn move_letters(
        &mut self,
        work: impl FnOnce(&Transaction<'_>, &mut Totals) -> rusqlite::Result<Moved>,
    ) -> rusqlite::Result<(usize, u64)> {
        let moved = self.write_letters(work).inspect_err(|error| self.log.doubt(error));
        let moved = moved?;
        let told = (moved.looked_at, moved.count);
        self.make_known(moved);
        Ok(told)
    }

    /// Makes known what was moved.
    fn make_known(&mut self, Moved { tally, latest, .. }: Moved) {
        self.measure();
        self.publish(&tally);
        // Not the envelopes themselves: delivery reads a mass replay at its own pace.
        for (organization, latest) in latest {
            self.shared.fresh.note(organization, latest);
        }
    }

    fn write_letters(
        &mut self,
        work: impl FnOnce(&Transaction<'_>, &mut Totals) -> rusqlite::Result<Moved>,
    ) -> rusqlite::Result<Moved> {
        let mut totals = self.totals;
        self.log.trust()?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let moved = work(&transaction, &mut totals)?;
        store::write_totals(&transaction, &totals)?;
        store::write_counts(&transaction, &moved.tally)?;
        transaction.commit()?;
        self.totals = totals;
        Ok(moved)
    }

    /// Carries a request to forget a step further; what that changed.
    fn forget(&mut self, now: UnixMillis) -> rusqlite::Result<Tally> {
        if !self.forgetting {
            return Ok(Tally::default());
        }
        self.log.trust()?;
        let step = forget::step(&mut self.connection, now, &mut self.totals)?;
        self.forgetting = step.is_some();
        Ok(step.unwrap_or_default())
    }
}

/// Bytes of disk in use, without pages that are free for reuse.
fn used(connection: &Connection) -> rusqlite::Result<u64> {
    let pragma = |name: &str| connection.prepare_cached(name)?.query_row([], |row| row.get::<_, u64>(0));
    let pages = pragma("PRAGMA page_count")? - pragma("PRAGMA freelist_count")?;
    Ok(pages * pragma("PRAGMA page_size")?)
}

/// Who waits for changes, and what was settled for which nobody does.
fn told(changes: Changes) -> (Vec<oneshot::Sender<()>>, Vec<Seq>) {
    let (mut waiters, mut settled) = (Vec::new(), Vec::new());
    for (change, reply) in changes {
        match (change, reply) {
            (_, Some(reply)) => waiters.push(reply),
            (Change::Settle(settlements), None) => settled.extend(settlements.iter().map(|it| it.seq)),
            (Change::Progress { .. }, None) => {}
        }
    }
    (waiters, settled)
}
