//! A 2xx is a debt: whatever was acknowledged before a SIGKILL or a power cut is delivered after it.
//!
//! `cargo test` takes a few blows of each kind. `scripts/crash.sh` takes as many as it is told, with a seed:
//!
//!     scripts/crash.sh 100           # a hundred SIGKILLs
//!     scripts/crash.sh 100 7         # the same, with the seed 7
//!     scripts/crash.sh 100 7 power   # a hundred power cuts

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::books;
use crate::conservation::{Account, Mark};
use crate::disk::{Disk, Knob};
use crate::service::{PATIENCE, Service, Setup, metric};
use crate::stand_in::StandIn;

const CLIENTS: usize = 4;
/// People per client: a person's events come by one client, one after the other.
const PEOPLE: usize = 25;
const IN_FLIGHT: usize = 16;
/// Events that may wait before the clients do, so that there is an end to it.
const BACKLOG: u64 = 2_000;
/// How long one blow may take, with what comes before and after it.
const BLOW: Duration = Duration::from_secs(10);

/// What happens to the service again and again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blow {
    /// SIGKILL: the process ends where it is, the kernel's cache stays.
    Kill,
    /// What has not been synced is gone, or torn; now and then a sync fails before.
    PowerCut,
}

/// What is known while it goes on.
#[derive(Default)]
struct Watch {
    acknowledged: AtomicU64,
    waiting: AtomicU64,
    most_in_flight: AtomicU64,
}

/// What a client knows in the end.
#[derive(Default)]
struct Ledger {
    sent: BTreeSet<Mark>,
    acknowledged: BTreeSet<Mark>,
    /// Requests that were sent again because no good reply came.
    repeated: usize,
    /// Events of such requests that had been kept all the same.
    duplicates: u64,
}

/// Posts until told to stop. What is not acknowledged is sent again, with the same ids, as Segment does.
async fn client(
    number: usize,
    mut chance: fastrand::Rng,
    public: watch::Receiver<String>,
    stop: watch::Receiver<bool>,
    watch: Arc<Watch>,
) -> Ledger {
    let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).build().unwrap();
    let mut ledger = Ledger::default();
    let mut next = [0; PEOPLE];
    let mut round = 0;
    while !*stop.borrow() {
        if watch.waiting.load(Ordering::Relaxed) > BACKLOG {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        }
        round += 1;
        let marks: Vec<Mark> = (0..=chance.usize(..12))
            .map(|step| {
                let person = (round * 7 + step * 3) % PEOPLE;
                next[person] += 1;
                Mark { person: format!("user-{number}-{person}"), number: next[person] }
            })
            .collect();
        ledger.sent.extend(marks.iter().cloned());
        let body = json!({ "batch": marks.iter().map(Mark::event).collect::<Vec<_>>() }).to_string();
        loop {
            let url = format!("{}/v1/batch", *public.borrow());
            if let Ok(response) = http.post(url).body(body.clone()).send().await
                && response.status() == 200
                && let Ok(reply) = response.json_value().await
            {
                ledger.duplicates += reply["duplicates"].as_u64().unwrap();
                let known = reply["accepted"].as_u64().unwrap() + reply["duplicates"].as_u64().unwrap();
                assert_eq!(known, marks.len() as u64, "{reply}");
                break;
            }
            ledger.repeated += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        watch.acknowledged.fetch_add(marks.len() as u64, Ordering::Relaxed);
        ledger.acknowledged.extend(marks);
    }
    ledger
}

/// A reply that a kill may cut off.
trait JsonValue {
    async fn json_value(self) -> Result<Value, reqwest::Error>;
}

impl JsonValue for reqwest::Response {
    async fn json_value(self) -> Result<Value, reqwest::Error> {
        let text = self.text().await?;
        Ok(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
    }
}

/// Notes how much waits and is in flight, whenever the service says so.
async fn look(private: watch::Receiver<String>, stop: watch::Receiver<bool>, watch: Arc<Watch>) {
    let http = reqwest::Client::builder().timeout(Duration::from_secs(1)).build().unwrap();
    while !*stop.borrow() {
        let url = format!("{}/metrics", *private.borrow());
        if let Ok(response) = http.get(url).send().await
            && let Ok(metrics) = response.text().await
        {
            let waiting = metric(&metrics, "wigzo_destination_ledger_events{term=\"waiting\"}");
            watch.waiting.store(waiting.unwrap_or(0), Ordering::Relaxed);
            let in_flight = metric(&metrics, "wigzo_destination_in_flight").unwrap_or(0);
            watch.most_in_flight.fetch_max(in_flight, Ordering::Relaxed);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A service that is struck and started again.
struct Target<'a> {
    wigzo: &'a StandIn,
    disk: Disk,
    blow: Blow,
    chance: fastrand::Rng,
    /// Blows so far.
    struck: usize,
}

impl Target<'_> {
    fn setup(&self) -> Setup {
        let setup = Service::calling(self.wigzo)
            .env("WIGZO_ORG_TOKEN", "org-token-acme-1")
            .terse()
            .config(&format!(
                "[ingress]\ndrain_grace = \"100ms\"\n[delivery]\nmax_in_flight = {IN_FLIGHT}\nquick_retries = 0\n\
                 [delivery.retry]\nbase = \"10ms\"\ncap = \"100ms\"\n"
            ));
        match self.blow {
            Blow::Kill => setup.on(self.disk.directory()),
            Blow::PowerCut => self.disk.under(setup),
        }
    }

    /// Strikes a running service, sometimes while it drains, and starts it again, sometimes in vain at first.
    async fn strike(&mut self, service: Service) -> Service {
        if self.blow == Blow::PowerCut && self.chance.u8(..3) == 0 {
            self.disk.set(Knob::SyncsLeft, self.chance.i64(..5));
            self.disk.set(Knob::SyncsToFail, self.chance.i64(-1..3));
        }
        tokio::time::sleep(Duration::from_millis(self.chance.u64(50..600))).await;
        if self.chance.u8(..4) == 0 {
            service.signal("TERM");
            tokio::time::sleep(Duration::from_millis(self.chance.u64(..200))).await;
        }
        service.kill().await;
        self.struck();
        while self.chance.u8(..3) == 0 {
            let after = Duration::from_millis(self.chance.u64(..150));
            self.setup().start_and_kill(after).await;
            self.struck();
        }
        self.setup().start().await
    }

    fn struck(&mut self) {
        self.struck += 1;
        if self.blow == Blow::PowerCut {
            self.disk.heal();
            self.disk.set(Knob::SyncMs, self.chance.i64(..4));
            // Now and then only the process has died, and what follows builds on a cache that was never written.
            if self.chance.u8(..3) != 0 {
                self.disk.cut_power(&mut self.chance);
            }
        }
    }
}

/// Strikes a service under load so many times, and settles accounts.
async fn storm(blow: Blow, blows: usize, seed: u64, bar: &ProgressBar) {
    println!("{blows} blows, seed {seed}");
    let wigzo = StandIn::start().await;
    let chance = fastrand::Rng::with_seed(seed);
    let mut target = Target { wigzo: &wigzo, disk: Disk::new(), blow, chance, struck: 0 };
    let mut service = target.setup().start().await;
    // Slow enough that each blow finds calls under way; refused ones are not carried out, so they double nothing.
    service
        .faults(&json!([{ "latency": { "uniform_ms": [0, 20] } }, { "probability": 0.02, "status": 503 }]))
        .await;
    let (public, urls) = watch::channel(service.public.clone());
    let (private, private_urls) = watch::channel(service.private.clone());
    let (stop, stopped) = watch::channel(false);
    let watch = Arc::new(Watch::default());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let chance = target.chance.fork();
            tokio::spawn(client(number, chance, urls.clone(), stopped.clone(), Arc::clone(&watch)))
        })
        .collect();
    let looking = tokio::spawn(look(private_urls, stopped, Arc::clone(&watch)));

    let began = Instant::now();
    let mut told = 0;
    while target.struck < blows {
        service = target.strike(service).await;
        public.send_replace(service.public.clone());
        private.send_replace(service.private.clone());
        let acknowledged = watch.acknowledged.load(Ordering::Relaxed);
        bar.set_position(target.struck as u64);
        bar.set_message(format!("{acknowledged} events acknowledged"));
        if bar.is_hidden() && target.struck >= told + 10 {
            told = target.struck;
            println!("{told} of {blows} blows, {acknowledged} events acknowledged, {:?}", began.elapsed());
        }
    }
    bar.finish_and_clear();
    let blows = target.struck;
    stop.send_replace(true);
    let (mut sent, mut acknowledged, mut repeated, mut duplicates) = (BTreeSet::new(), BTreeSet::new(), 0, 0);
    for client in clients {
        let ledger = tokio::time::timeout(PATIENCE, client).await.expect("a client hangs").unwrap();
        sent.extend(ledger.sent);
        acknowledged.extend(ledger.acknowledged);
        repeated += ledger.repeated;
        duplicates += ledger.duplicates;
    }
    looking.await.unwrap();
    let ledger = service.settled(0).await;

    assert_eq!(sent, acknowledged, "clients go on until they have a reply");
    let accepted = ledger["accepted"].as_u64().unwrap();
    let account = Account::of(&service.calls("").await);
    let carried_out = account.events();
    let lost: Vec<_> = acknowledged.difference(&carried_out).map(ToString::to_string).collect();
    let invented: Vec<_> = carried_out.difference(&sent).map(ToString::to_string).collect();
    let doubled = account.doubles();
    println!(
        "{accepted} events, {blows} blows: {} lost, {} reordered, {doubled} calls doubled; at most {IN_FLIGHT} may be \
         in flight, {} were seen; {repeated} requests sent again, {duplicates} of their events were known",
        lost.len(),
        account.reordered.len(),
        watch.most_in_flight.load(Ordering::Relaxed),
    );
    assert!(lost.is_empty(), "acknowledged, but lost: {lost:?}");
    assert!(invented.is_empty(), "never sent: {invented:?}");
    assert_eq!(account.reordered, [""; 0]);
    assert_eq!(accepted, acknowledged.len() as u64, "an event that was sent again was kept twice");
    assert_eq!(ledger["delivered"], accepted, "{ledger}");
    // An event makes one call at a time, so the calls in flight at a blow are at most the events in flight.
    assert!(doubled <= blows * IN_FLIGHT, "{doubled} calls were doubled by {blows} blows");
    service.end().await;
    assert_eq!(books::balance(&target.disk.queue()).accepted, accepted);
    let is_between = target.disk.get(Knob::SyncsEnded) > 0;
    assert_eq!(
        is_between,
        blow == Blow::PowerCut,
        "whether the library stands between the service and its queue"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_to_ten_kills_under_load() {
    storm(Blow::Kill, 10, fastrand::u64(..), &ProgressBar::hidden()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_to_ten_power_cuts_under_load() {
    storm(Blow::PowerCut, 10, fastrand::u64(..), &ProgressBar::hidden()).await;
}

#[tokio::test]
async fn a_first_start_that_is_cut_off_can_be_made_again() {
    for seed in 0..12 {
        let mut chance = fastrand::Rng::with_seed(seed);
        let disk = Disk::new();
        disk.set(Knob::SyncMs, 5);
        let setup = || disk.under(Service::sandbox());
        setup().start_and_kill(Duration::from_millis(chance.u64(..120))).await;
        disk.cut_power(&mut chance);
        let service = setup().start().await;
        let event = Mark { person: "user-42".to_owned(), number: 1 }.event();
        assert_eq!(service.post("/v1/track", &event.to_string()).await.status, 200, "seed {seed}");
        service.kill().await;
        disk.cut_power(&mut chance);
        let service = setup().start().await;
        assert_eq!(service.ledger().await["accepted"], 1, "seed {seed}");
        service.end().await;
        books::balance(&disk.queue());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a second for each blow; scripts/crash.sh runs it"]
async fn harness() {
    #[expect(clippy::disallowed_methods, reason = "the harness's variables, not configuration")]
    let variable = |name| std::env::var(name).ok();
    let number =
        |name| variable(name).map(|text| text.parse().unwrap_or_else(|_| panic!("{name}: a number")));
    let blow = if variable("CRASH_KIND").as_deref() == Some("power") { Blow::PowerCut } else { Blow::Kill };
    let blows = number("CRASH_BLOWS").unwrap_or(100_u64);
    let seed = number("CRASH_SEED").unwrap_or_else(|| fastrand::u64(..));
    let bound = PATIENCE * 3 + BLOW * u32::try_from(blows).unwrap();
    // Where somebody watches; else it says a line now and then.
    let style = ProgressStyle::with_template("{bar:32} {pos} of {len} blows  {msg}  {eta} left").unwrap();
    let bar = ProgressBar::new(blows).with_style(style);
    let storm = storm(blow, usize::try_from(blows).unwrap(), seed, &bar);
    tokio::time::timeout(bound, storm).await.expect("the harness hangs");
}
