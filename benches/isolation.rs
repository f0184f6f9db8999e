//! Whether one organization notices another's trouble: the time from a sender's request to the call at Wigzo.
//!
//! `cargo bench --bench isolation` runs the service in this process, on loopback, over a temporary directory, once for
//! each kind of neighbour. The healthy organization sends at a steady pace whatever comes back, so that a stall is
//! measured and not waited for. Everything shares the machine; the senders and the stand-ins for Wigzo have threads of
//! their own, as they have machines of their own in life.
//! The kinds take turns, and the table has medians over the rounds: a disk that stops for a tenth of a second stops all,
//! and is nobody's neighbour. `-- --seconds 10 --rounds 9` measures for longer than the defaults, five of each.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "its result and its progress are what it prints"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "it plays sender and Wigzo, with tasks and a client of its own"
)]

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use http::StatusCode;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use wigzo_destination::app::{App, Haste};
use wigzo_destination::clock::Clock;
use wigzo_destination::settings::Settings;

/// Events a second of the healthy organization, one per request.
const PACE: u32 = 100;
/// Events a second of a neighbour in trouble, one per request.
const NEIGHBOUR_PACE: u32 = 100;
/// What a neighbour sends that floods: requests a second, and events in each.
const FLOOD: (u32, usize) = (20, 100);
/// People per organization.
const PEOPLE: usize = 200;
/// What is sent before it counts: connections are made, caches filled.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long the last events may take to arrive.
const LAST: Duration = Duration::from_secs(5);

/// The other organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Neighbour {
    None,
    Healthy,
    Dead,
    Slow,
    Refusing,
    Flooding,
    /// Floods as well, but another service on the same machine.
    Elsewhere,
}

impl Neighbour {
    /// What it is called; `alone` twice, which shows how much the figures vary by themselves. A flood that another
    /// service takes shows what the machine alone does to the healthy organization: no isolation can be better.
    const ROWS: [(&str, Self); 8] = [
        ("alone", Self::None),
        ("healthy", Self::Healthy),
        ("dead: connections refused", Self::Dead),
        ("slow: answers after 5 s", Self::Slow),
        ("refusing: 429", Self::Refusing),
        ("flooding: 2 000 events/s", Self::Flooding),
        ("the same flood, at another service", Self::Elsewhere),
        ("alone again", Self::None),
    ];

    /// Requests a second, and events in each.
    fn load(self) -> Option<(u32, usize)> {
        match self {
            Self::None => None,
            Self::Healthy | Self::Dead | Self::Slow | Self::Refusing => Some((NEIGHBOUR_PACE, 1)),
            Self::Flooding | Self::Elsewhere => Some(FLOOD),
        }
    }
}

/// A stand-in for Wigzo, and when each event reached it.
#[derive(Debug)]
struct Wigzo {
    mood: Neighbour,
    arrived: Mutex<HashMap<usize, Instant>>,
}

async fn answer(State(wigzo): State<Arc<Wigzo>>, body: String) -> (StatusCode, &'static str) {
    let now = Instant::now();
    let mark = body.split("mark-").nth(1).and_then(|rest| rest.split('-').next()?.parse().ok());
    if let Some(number) = mark {
        wigzo.arrived.lock().unwrap_or_else(PoisonError::into_inner).entry(number).or_insert(now);
    }
    match wigzo.mood {
        Neighbour::Slow => tokio::time::sleep(Duration::from_secs(5)).await,
        Neighbour::Refusing => return (StatusCode::TOO_MANY_REQUESTS, ""),
        Neighbour::None
        | Neighbour::Healthy
        | Neighbour::Dead
        | Neighbour::Flooding
        | Neighbour::Elsewhere => {}
    }
    (StatusCode::OK, r#"{"status":"success"}"#)
}

/// Starts a stand-in: its address, and what it sees.
async fn stand_in(mood: Neighbour, outside: &Handle) -> (String, Arc<Wigzo>) {
    let wigzo = Arc::new(Wigzo { mood, arrived: Mutex::default() });
    let listener =
        outside.spawn(TcpListener::bind("127.0.0.1:0")).await.expect("no panic").expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    // A dead one is a port on which nobody listens any more.
    if mood != Neighbour::Dead {
        let router = Router::new().fallback(answer).with_state(Arc::clone(&wigzo));
        outside.spawn(async move { axum::serve(listener, router).await });
    }
    (address, wigzo)
}

fn batch(key: &str, numbers: std::ops::Range<usize>) -> String {
    let events: Vec<String> = numbers
        .map(|number| {
            format!(
                r#"{{"type":"track","userId":"user-{}","event":"Seat Chosen","messageId":"{key}-{number}","properties":{{"mark":"mark-{number}-"}}}}"#,
                number % PEOPLE
            )
        })
        .collect();
    format!(r#"{{"batch":[{}]}}"#, events.join(","))
}

/// Sends at a steady pace until the time is over: when each event was sent.
async fn send(public: String, key: &'static str, load: (u32, usize), until: Instant) -> Vec<Instant> {
    let client = reqwest::Client::builder().timeout(LAST).build().expect("a client");
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / load.0);
    let (mut sent, mut requests) = (Vec::new(), JoinSet::new());
    while Instant::now() < until {
        ticks.tick().await;
        let first = sent.len();
        let body = batch(key, first..first + load.1);
        let request = client.post(format!("{public}/v1/batch")).basic_auth(key, Some("")).body(body);
        sent.extend(vec![Instant::now(); load.1]);
        requests.spawn(request.send());
        while requests.try_join_next().is_some() {}
    }
    // What is under way must not be cut off.
    while requests.join_next().await.is_some() {}
    sent
}

/// A service with both organizations, over a directory of its own.
struct Service {
    public: String,
    stop: oneshot::Sender<()>,
    running: tokio::task::JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl Service {
    async fn start(healthy_address: &str, neighbour_address: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = directory.path().join("config.toml");
        let text = format!(
            r#"
[ingress]
listen = "127.0.0.1:0"
drain_deadline = "1s"
[admin]
listen = "127.0.0.1:0"
[queue]
path = "{}"
[organizations.healthy]
org_token = "org-token-healthy-1"
source_keys = ["healthy"]
base_url = "{healthy_address}"
[organizations.neighbour]
org_token = "org-token-neighbour-1"
source_keys = ["neighbour"]
base_url = "{neighbour_address}"
"#,
            directory.path().join("queue").display()
        );
        std::fs::write(&config, text).expect("a file");
        let settings = Settings::load(&[config], &BTreeMap::new()).expect("a good configuration");
        let app = App::start(settings, false, Clock::system()).await.expect("a service");
        let public = format!("http://{}", app.public);
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(async move {
            // Sent or dropped, the measurement is over.
            let stopped = async move { stopped.await.map_or(Haste::Prompt, |()| Haste::Prompt) };
            let _end = app.run(stopped).await;
        });
        Self { public, stop, running, _directory: directory }
    }

    async fn end(self) {
        drop(self.stop);
        self.running.await.expect("the service ends");
    }
}

/// Latencies of the healthy organization's events beside a neighbour, sorted; and how many never arrived.
async fn measure(neighbour: Neighbour, time: Duration, outside: &Handle) -> (Vec<Duration>, usize) {
    let (healthy_address, healthy) = stand_in(Neighbour::Healthy, outside).await;
    let (neighbour_address, _) = stand_in(neighbour, outside).await;
    let service = Service::start(&healthy_address, &neighbour_address).await;
    let elsewhere = match neighbour {
        Neighbour::Elsewhere => Some(Service::start(&healthy_address, &neighbour_address).await),
        _ => None,
    };

    let until = Instant::now() + WARM_UP + time;
    let other = neighbour.load().map(|load| {
        let public = elsewhere.as_ref().unwrap_or(&service).public.clone();
        outside.spawn(send(public, "neighbour", load, until))
    });
    let sent = send(service.public.clone(), "healthy", (PACE, 1), until);
    let sent = outside.spawn(sent).await.expect("a sender");
    if let Some(other) = other {
        other.await.expect("a sender");
    }
    let deadline = Instant::now() + LAST;
    let arrived = || healthy.arrived.lock().unwrap_or_else(PoisonError::into_inner).clone();
    while arrived().len() < sent.len() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    service.end().await;
    if let Some(elsewhere) = elsewhere {
        elsewhere.end().await;
    }

    let arrived = arrived();
    let counted = sent.iter().enumerate().filter(|(_, at)| **at + time >= until);
    let latencies: Vec<Option<Duration>> =
        counted.map(|(number, at)| Some(arrived.get(&number)?.saturating_duration_since(*at))).collect();
    let missing = latencies.iter().filter(|latency| latency.is_none()).count();
    let mut latencies: Vec<Duration> = latencies.into_iter().flatten().collect();
    latencies.sort_unstable();
    (latencies, missing)
}

/// The latency in milliseconds below which so many thousandths of the events lie.
fn quantile(sorted: &[Duration], thousandths: usize) -> f64 {
    let at = (sorted.len() * thousandths / 1_000).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
}

/// The machine, and how busy it is with other things.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load: Vec<String> = read("/proc/loadavg").split(' ').take(3).map(str::to_owned).collect();
    format!("{}, {cores} cores, load before {}", model.unwrap_or("unknown processor"), load.join(" "))
}

/// What a round has shown of one neighbour, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Shown {
    p50: f64,
    p99: f64,
    longest: f64,
    /// p99 as a multiple of the same round's `alone`.
    to_alone: f64,
}

fn median(rounds: &[Shown], figure: impl Fn(&Shown) -> f64) -> f64 {
    let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The number after a flag.
fn number(flag: &str, default: usize) -> usize {
    let value = std::env::args().skip_while(|it| it != flag).nth(1);
    value.map_or(default, |text| {
        text.parse().unwrap_or_else(|error| {
            eprintln!("{flag} takes a number, not {text:?}: {error}");
            std::process::exit(2)
        })
    })
}

fn main() {
    let (seconds, rounds) = (number("--seconds", 5), number("--rounds", 5));
    let time = Duration::from_secs(seconds as u64);
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let (runtime, outside) = (runtime(), runtime());
    println!("{}", machine());
    println!(
        "{PACE} events/s of the healthy organization for {seconds} s; milliseconds from request to call; medians of \
         {rounds} rounds\n"
    );
    // Without `--only` every row's name begins with it; the first is what the others are compared with.
    let only = std::env::args().skip_while(|it| it != "--only").nth(1).unwrap_or_default();
    let rows: Vec<_> = Neighbour::ROWS
        .into_iter()
        .enumerate()
        .filter(|(place, (name, _))| *place == 0 || name.starts_with(&only))
        .map(|(_, row)| row)
        .collect();
    let mut shown = vec![Vec::new(); rows.len()];
    for round in 1..=rounds {
        let mut alone = f64::NAN;
        for ((name, neighbour), shown) in rows.iter().zip(&mut shown) {
            eprintln!("round {round} of {rounds}: {name}");
            let (latencies, missing) = runtime.block_on(measure(*neighbour, time, outside.handle()));
            let [p50, p99, longest] = [500, 990, 1_000].map(|thousandths| quantile(&latencies, thousandths));
            if alone.is_nan() {
                alone = p99;
            }
            shown.push(Shown { p50, p99, longest, to_alone: p99 / alone });
            if missing > 0 {
                println!("{name}: {missing} events did not arrive within {LAST:?}");
            }
        }
    }
    println!("| neighbour | p50 | p99 | p99, range | longest | p99 to alone |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    for ((name, _), rounds) in rows.iter().zip(&shown) {
        let least = rounds.iter().map(|it| it.p99).fold(f64::INFINITY, f64::min);
        let [most, longest] = [|it: &Shown| it.p99, |it: &Shown| it.longest]
            .map(|it| rounds.iter().map(it).fold(0.0, f64::max));
        println!(
            "| {name} | {:.2} | {:.2} | {least:.2} to {most:.2} | {longest:.2} | {:.2} |",
            median(rounds, |it| it.p50),
            median(rounds, |it| it.p99),
            median(rounds, |it| it.to_alone)
        );
    }
}
