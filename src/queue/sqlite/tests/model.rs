//! The queue against a model of it: random work, a crash now and then, and after each step everything that can be seen
//! is compared: contents, order, counts, what delivery is told.
//!
//! A crash is a copy of the files while the queue is open and a request may be on its way to the disk; the copy is
//! opened and must be the model, with or without that request.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use fastrand::Rng;

use super::*;
use crate::outcome::Ledger;
use crate::queue::{Fate, Order};

const SEEDS: u64 = 12;
const STEPS: usize = 60;
const ORGANIZATIONS: [&str; 2] = ["acme", "other"];
const PEOPLE: usize = 4;

/// An event as the model knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Event {
    number: u64,
    organization: &'static str,
    lane: String,
    id: String,
    due: Option<UnixMillis>,
    parked: bool,
    replays: u32,
    progress: Progress,
}

#[derive(Debug, Clone, Default)]
struct Model {
    waiting: BTreeMap<u64, Event>,
    dead: BTreeMap<u64, Event>,
    /// Ended ones by their place: number, state, message id.
    settled: BTreeMap<u64, (u64, State, String)>,
    seen: BTreeSet<(&'static str, String)>,
    ledger: Ledger,
    last_seq: u64,
}

impl Model {
    fn append(&mut self, envelopes: &[NewEnvelope]) {
        for envelope in envelopes {
            let organization = ORGANIZATIONS.into_iter().find(|it| **it == *envelope.organization).unwrap();
            let id = envelope.message_id.to_string();
            if !self.seen.insert((organization, id.clone())) {
                continue;
            }
            self.last_seq += 1;
            self.ledger.accepted += 1;
            let lane = envelope.lane.to_string();
            if envelope.forgets {
                self.ledger.filtered += 1;
                self.settled.insert(self.last_seq, (self.last_seq, State::Filtered, String::new()));
                self.forget(organization, &lane);
                continue;
            }
            let event = Event {
                number: self.last_seq,
                organization,
                lane,
                id,
                due: None,
                parked: false,
                replays: 0,
                progress: Progress::default(),
            };
            self.waiting.insert(self.last_seq, event);
        }
    }

    /// What is kept of a person loses its names; what waits of them ends. Who ended before is not known by lane here,
    /// so the model keeps the lane in the id: `lane/n`.
    fn forget(&mut self, organization: &str, lane: &str) {
        let theirs = |event: &Event| event.organization == organization && event.lane == lane;
        let ended: Vec<u64> = self.waiting.iter().filter(|(_, it)| theirs(it)).map(|(seq, _)| *seq).collect();
        for seq in ended {
            let event = self.waiting.remove(&seq).unwrap();
            self.ledger.filtered += 1;
            self.settled.insert(seq, (event.number, State::Filtered, String::new()));
        }
        let dead: Vec<u64> = self.dead.iter().filter(|(_, it)| theirs(it)).map(|(seq, _)| *seq).collect();
        for seq in dead {
            let event = self.dead.remove(&seq).unwrap();
            self.settled.insert(seq, (event.number, State::Dead, String::new()));
        }
        let mark = format!("{organization}/{lane}/");
        for (_, _, id) in self.settled.values_mut().filter(|(_, _, id)| id.starts_with(&mark)) {
            id.clear();
        }
    }

    fn settle(&mut self, settlement: &Settlement) {
        let seq = settlement.seq.0;
        match settlement.resolution {
            Resolution::Later { due, parked, .. } => {
                if let Some(event) = self.waiting.get_mut(&seq) {
                    event.due = Some(due);
                    event.parked |= parked;
                    event.progress = settlement.progress.clone();
                }
            }
            Resolution::Ended { outcome, .. } => {
                let Some(mut event) = self.waiting.remove(&seq) else { return };
                self.ledger.count(outcome);
                event.progress = settlement.progress.clone();
                if outcome == Outcome::Dead {
                    self.dead.insert(seq, event);
                } else {
                    self.settled.insert(seq, (event.number, State::of(outcome, None), event.id));
                }
            }
        }
    }

    fn hasten(&mut self, organization: &str, selection: Selection, now: UnixMillis) -> Hastened {
        let mut hastened = Hastened::default();
        for (seq, event) in self.waiting.iter_mut().filter(|(_, it)| it.organization == organization) {
            // Every wait in these runs has the same reason.
            let is_selected = match selection {
                Selection::All | Selection::Reason(_) => true,
                Selection::Event(Seq(number)) => event.number == number,
            };
            if !is_selected || event.due.is_none_or(|due| due <= now) {
                continue;
            }
            event.due = Some(now);
            hastened.count += 1;
            if event.parked {
                hastened.parked += 1;
            } else {
                hastened.events.push((LaneKey::of(&event.lane), Seq(*seq)));
            }
        }
        hastened
    }

    fn decide(&mut self, letters: &BTreeSet<u64>, fate: &Fate) -> u64 {
        let mut moved = 0;
        for seq in letters {
            let Some(mut event) = self.dead.remove(seq) else { continue };
            moved += 1;
            self.last_seq += 1;
            match fate {
                Fate::Replay { repeat_done } => {
                    let done = if *repeat_done { String::new() } else { event.progress.done };
                    event.progress = Progress { done, ..Progress::default() };
                    (event.due, event.parked, event.replays) = (None, false, event.replays + 1);
                    self.ledger.dead -= 1;
                    self.waiting.insert(self.last_seq, event);
                }
                Fate::Discard { .. } => {
                    self.settled.insert(self.last_seq, (event.number, State::Discarded, event.id));
                }
            }
        }
        moved
    }
}

fn count(of: &BTreeMap<u64, Event>, organization: &str, what: impl Fn(&Event) -> bool) -> u64 {
    of.values().filter(|it| it.organization == organization && what(it)).count() as u64
}

/// One run: the queue, its model, and what delivery has been told.
struct Run {
    seed: u64,
    rng: Rng,
    fixture: Fixture,
    queue: Option<Opened>,
    model: Model,
    /// The newest place that delivery knows of, per organization.
    told: BTreeMap<Arc<str>, u64>,
    next_id: usize,
    crashes: usize,
}

impl Run {
    fn new(seed: u64) -> Self {
        let fixture = Fixture::new();
        let queue = Some(fixture.open());
        let (model, told) = (Model::default(), BTreeMap::new());
        Self { seed, rng: Rng::with_seed(seed), fixture, queue, model, told, next_id: 0, crashes: 0 }
    }

    fn queue(&self) -> &Sqlite {
        self.queue.as_ref().unwrap()
    }

    /// A request: new events, now and then one that was seen before.
    fn request(&mut self) -> Vec<NewEnvelope> {
        (0..self.rng.usize(1..8))
            .map(|_| {
                if let (true, Some((organization, id))) =
                    (self.rng.u8(..) < 32, self.rng.choice(&self.model.seen))
                {
                    return Self::event(organization, id);
                }
                let organization = ORGANIZATIONS[self.rng.usize(..ORGANIZATIONS.len())];
                self.next_id += 1;
                let id = format!("{organization}/user-{}/{}", self.rng.usize(..PEOPLE), self.next_id);
                Self::event(organization, &id)
            })
            .collect()
    }

    fn event(organization: &str, id: &str) -> NewEnvelope {
        let lane = id.split('/').nth(1).unwrap().into();
        NewEnvelope { lane, ..envelope(organization, id) }
    }

    fn some_waiting(&mut self) -> Option<(u64, Event)> {
        let (seq, event) = self.rng.choice(&self.model.waiting)?;
        Some((*seq, event.clone()))
    }

    async fn step(&mut self) {
        match self.rng.u8(..100) {
            0..30 => {
                let request = self.request();
                let appended = self.queue().append(request.clone(), PATIENCE).await.unwrap();
                let before = self.model.ledger.accepted;
                self.model.append(&request);
                assert_eq!(appended.accepted as u64, self.model.ledger.accepted - before);
            }
            30..65 => self.settle().await,
            65..70 => {
                if let Some((seq, _)) = self.some_waiting() {
                    self.queue().progress(Seq(seq), "identify event/buy".to_owned()).await;
                    self.model.waiting.get_mut(&seq).unwrap().progress.done = "identify event/buy".to_owned();
                }
            }
            70..85 => self.decide().await,
            85..90 => self.forget().await,
            90..95 => self.hasten().await,
            _ => self.crash().await,
        }
    }

    async fn settle(&mut self) {
        let Some((seq, event)) = self.some_waiting() else { return };
        let ended = |outcome, reason| Resolution::Ended { outcome, reason };
        let resolution = match self.rng.u8(..10) {
            0..2 => ended(Outcome::Delivered, Reason::Delivered),
            2 => ended(Outcome::Filtered, Reason::NotWanted),
            3 => ended(Outcome::Expired, Reason::MaxAge),
            4..7 => ended(Outcome::Dead, Reason::Wigzo400),
            _ => later(self.rng.u64(..20), self.rng.bool()),
        };
        let mut progress = Progress { tries: event.progress.tries + 1, ..event.progress };
        if self.rng.bool() {
            progress.has_done("event/buy");
        }
        progress.first_failed_at = Some(UnixMillis(1_800_000_000_000));
        let envelope = Envelope {
            seq: Seq(seq),
            number: Seq(event.number),
            replays: event.replays,
            parked: event.parked,
            content: Arc::new(Self::event(event.organization, &event.id)),
            due: event.due,
            progress: progress.clone(),
        };
        let settlement = Settlement { progress, ..settlement(&envelope, resolution) };
        // Now and then twice: the second time it has ended already.
        for _ in 0..self.rng.usize(1..3) {
            self.queue().settle(settlement.clone()).await;
            self.model.settle(&settlement);
        }
    }

    async fn decide(&mut self) {
        let mut letters: BTreeSet<u64> = self.model.dead.keys().copied().collect();
        letters.retain(|_| self.rng.bool());
        // Something that is no dead letter.
        letters.insert(self.rng.u64(..100));
        let fate = match self.rng.u8(..4) {
            0 => Fate::Discard { why: "no longer needed".into() },
            1 => Fate::Replay { repeat_done: true },
            _ => Fate::Replay { repeat_done: false },
        };
        let seqs = letters.iter().rev().map(|seq| Seq(*seq)).collect();
        let moved = self.queue().decide(seqs, fate.clone()).await.unwrap();
        assert_eq!(moved, self.model.decide(&letters, &fate));
    }

    async fn hasten(&mut self) {
        let organization = ORGANIZATIONS[self.rng.usize(..ORGANIZATIONS.len())];
        let selection = match (self.rng.u8(..3), self.some_waiting()) {
            (0, Some((_, event))) => Selection::Event(Seq(event.number)),
            (1, _) => Selection::Reason(Reason::Wigzo503),
            _ => Selection::All,
        };
        let now = UnixMillis(1_800_000_000_000 + self.rng.u64(..20) * 60_000);
        let hastened = self.queue().hasten(Arc::from(organization), selection, now).await.unwrap();
        assert_eq!(hastened, self.model.hasten(organization, selection, now), "seed {}", self.seed);
    }

    async fn forget(&mut self) {
        self.next_id += 1;
        let organization = ORGANIZATIONS[self.rng.usize(..ORGANIZATIONS.len())];
        let id = format!("{organization}/user-{}/{}", self.rng.usize(..PEOPLE), self.next_id);
        let deletion = NewEnvelope { forgets: true, ..Self::event(organization, &id) };
        self.queue().append(vec![deletion.clone()], PATIENCE).await.unwrap();
        self.model.append(&[deletion]);
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let left: u64 = self
                .queue()
                .read(|connection| {
                    connection.query_row("SELECT count(*) FROM forgotten", [], |row| row.get(0))
                })
                .await
                .unwrap();
            // The counts are shown after the commit.
            if left == 0 && self.queue().stats().ledger == self.model.ledger && self.counts_agree() {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "not forgotten: {:?}", self.queue().stats());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Copies the files while a request is on its way, and goes on with the copy.
    async fn crash(&mut self) {
        self.crashes += 1;
        let request = self.request();
        let from = self.fixture.config.path.clone();
        let to = self.fixture.directory.path().join(format!("after-{}", self.crashes));
        let copy = tokio::task::spawn_blocking({
            let to = to.clone();
            let pause = Duration::from_micros(self.rng.u64(..3_000));
            move || {
                std::thread::sleep(pause);
                copy_files(&from, &to);
            }
        });
        let queue = self.queue.take().unwrap();
        let (_, copied) = tokio::join!(queue.append(request.clone(), PATIENCE), copy);
        copied.unwrap();
        drop(queue);
        self.fixture.config.path = to;
        self.queue = Some(self.fixture.open());
        self.told.clear();
        let mut with_it = self.model.clone();
        with_it.append(&request);
        let ledger = self.queue().stats().ledger;
        if ledger == with_it.ledger {
            self.model = with_it;
        }
        assert_eq!(ledger, self.model.ledger, "neither with nor without the request; seed {}", self.seed);
    }

    fn counts_agree(&self) -> bool {
        let (stats, model) = (self.queue().stats(), &self.model);
        let shown = |counts: &BTreeMap<Arc<str>, u64>, organization: &str| {
            counts.get(organization).copied().unwrap_or(0)
        };
        ORGANIZATIONS.into_iter().all(|it| {
            shown(&stats.waiting, it) == count(&model.waiting, it, |_| true)
                && shown(&stats.parked, it) == count(&model.waiting, it, |event| event.parked)
                && shown(&stats.dead_letters, it) == count(&model.dead, it, |_| true)
        })
    }

    async fn check(&mut self, step: usize) {
        let about = format!("seed {}, step {step}", self.seed);
        let (stats, model) = (self.queue().stats(), &self.model);
        assert_eq!(stats.ledger, model.ledger, "{about}");
        assert_eq!(stats.ledger.waiting(), model.waiting.len() as u64, "{about}");
        assert!(self.counts_agree(), "{about}: {stats:?}\n{model:#?}");
        for organization in ORGANIZATIONS {
            let theirs = model.waiting.iter().filter(|(_, it)| it.organization == organization);
            let (mut parked, in_lanes): (Vec<_>, Vec<_>) =
                theirs.map(|(seq, event)| (*seq, event.clone())).partition(|(_, event)| event.parked);
            parked.sort_by_key(|(seq, event)| (event.due, *seq));
            let claimed = claim(self.queue(), organization, 0, 10_000).await;
            assert_eq!(seen(&claimed, organization), in_lanes, "{about}");
            let numbers = self.queue().numbers(Arc::from(organization), Seq(0), 10_000).await.unwrap();
            assert_eq!(numbers, claimed.iter().map(number).collect::<Vec<_>>(), "{about}");
            let read = self.queue().parked(Arc::from(organization), 10_000).await.unwrap();
            assert_eq!(seen(&read, organization), parked, "{about}");
        }
        let everything = Lookup { order: Order::OldestFirst, limit: 100_000, ..Lookup::default() };
        let records = found(self.queue(), everything).await;
        let shown: Vec<_> =
            records.iter().map(|it| (it.seq.0, it.number.0, it.state, it.message_id.clone())).collect();
        assert_eq!(shown, self.expected_records(), "{about}");
        self.check_hand_over(&about);
    }

    fn expected_records(&self) -> Vec<(u64, u64, State, String)> {
        let waiting = self.model.waiting.iter().map(|(seq, it)| {
            let state = match it.due {
                _ if it.parked => State::Parked,
                Some(_) => State::Retrying,
                None => State::Waiting,
            };
            (*seq, it.number, state, it.id.clone())
        });
        let dead = self.model.dead.iter().map(|(seq, it)| (*seq, it.number, State::Dead, it.id.clone()));
        let settled =
            self.model.settled.iter().map(|(seq, (number, state, id))| (*seq, *number, *state, id.clone()));
        let mut all: Vec<_> = waiting.chain(dead).chain(settled).collect();
        all.sort();
        all
    }

    /// Whatever waits was handed over, or delivery knows a newer place to read up to.
    fn check_hand_over(&mut self, about: &str) {
        let arrivals = self.queue().fresh().take();
        let handed: BTreeSet<u64> = arrivals.envelopes.iter().map(|it| it.seq.0).collect();
        for seq in &handed {
            let newest = arrivals.envelopes.iter().find(|it| it.seq.0 == *seq).unwrap();
            let told = self.told.entry(Arc::clone(&newest.content.organization)).or_default();
            *told = (*told).max(*seq);
        }
        for (organization, Seq(latest)) in arrivals.unread {
            let told = self.told.entry(organization).or_default();
            *told = (*told).max(latest);
        }
        for (seq, event) in &self.model.waiting {
            let told = self.told.get(event.organization).copied().unwrap_or_default();
            assert!(*seq <= told, "{about}: delivery was not told of {seq}, only up to {told}");
        }
    }
}

fn seen(envelopes: &[Envelope], organization: &str) -> Vec<(u64, Event)> {
    let organization = ORGANIZATIONS.into_iter().find(|it| *it == organization).unwrap();
    envelopes
        .iter()
        .map(|envelope| {
            let event = Event {
                number: envelope.number.0,
                organization,
                lane: envelope.content.lane.to_string(),
                id: envelope.content.message_id.to_string(),
                due: envelope.due,
                parked: envelope.parked,
                replays: envelope.replays,
                progress: envelope.progress.clone(),
            };
            (envelope.seq.0, event)
        })
        .collect()
}

/// The database first: while the log is copied after it, nothing is moved from the log into the database.
fn copy_files(from: &Path, to: &PathBuf) {
    std::fs::create_dir_all(to).unwrap();
    for name in [FILE.to_owned(), format!("{FILE}-wal")] {
        std::fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
}

#[tokio::test]
async fn the_queue_is_its_model_whatever_happens_to_it() {
    let mut crashes = 0;
    for seed in 0..SEEDS {
        let mut run = Run::new(seed);
        for step in 0..STEPS {
            run.step().await;
            run.check(step).await;
        }
        crashes += run.crashes;
    }
    assert!(crashes > 10, "{crashes} crashes: the mixture is not what it should be");
}
