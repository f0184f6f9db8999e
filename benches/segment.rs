//! The Segment side and the translation: nanoseconds per event.
//!
//! `cargo bench --bench segment` prints, for a track event of 1 KB: decoding it in a batch of 50, validating it, both
//! after each other, and translating it; beside each the least that any reader of the same bytes must do, one pass of
//! `serde_json` that keeps nothing. Medians of several rounds, on one thread.

#![expect(clippy::print_stdout, reason = "its result is what it prints")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde::de::IgnoredAny;
use wigzo_destination::segment::{Arrival, Event, Moment, Raw, Route, Surroundings, decode};
use wigzo_destination::translate::{Identity, Options, Profile, translate};

const BATCH: usize = 50;
const ROUNDS: usize = 31;
/// How long one round should take at least, so that the clock's own cost does not count.
const ROUND: Duration = Duration::from_millis(20);

/// A product view as the browser library sends it, 1 KB.
const EVENT: &str = r#"{"timestamp":"2026-01-02T03:05:00.250Z","integrations":{"Segment.io":true},"type":"track","userId":"user-42","anonymousId":"0b6e3f0a-6a53-4f0e-9d0b-2f1f6d7c9a11","event":"Product Viewed","properties":{"product_id":"SKU-1","sku":"SKU-1-R","name":"Copper kettle, 1.5 l","brand":"Acme","category":"Kitchen","variant":"red","price":1299.00,"quantity":1,"currency":"INR","position":3,"url":"https://shop.example/p/copper-kettle","image_url":"https://shop.example/i/copper-kettle.jpg"},"context":{"library":{"name":"analytics.js","version":"next-1.84.3"},"page":{"path":"/p/copper-kettle","referrer":"https://shop.example/","search":"","title":"Copper kettle","url":"https://shop.example/p/copper-kettle"},"userAgent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36","locale":"en-IN","timezone":"Asia/Kolkata"},"messageId":"ajs-next-1767323100250-0b6e3f0a-6a53-4f0e-9d0b-2f1f6d7c9a11","writeKey":"wk_demo","sentAt":"2026-01-02T03:05:01.000Z"}"#;

/// Nanoseconds that one event takes: the median of the rounds.
fn measure(name: &str, events: usize, mut work: impl FnMut()) -> f64 {
    let mut repeats = 1_u32;
    loop {
        let took = round(repeats, &mut work);
        if took >= ROUND {
            break;
        }
        repeats *= 2;
    }
    let mut rounds: Vec<Duration> = (0..ROUNDS).map(|_| round(repeats, &mut work)).collect();
    rounds.sort();
    let median = rounds.get(ROUNDS / 2).copied().unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let each = median.as_secs_f64() * 1e9 / f64::from(repeats) / events as f64;
    println!("{name:<52} {each:>9.0} ns/event");
    each
}

fn round(repeats: u32, work: &mut impl FnMut()) -> Duration {
    let began = Instant::now();
    for _ in 0..repeats {
        work();
    }
    began.elapsed()
}

/// The processor's name, and how many of it.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{}, {count} cores", name.map_or("an unknown processor", |(_, name)| name))
}

fn main() {
    let build =
        if cfg!(debug_assertions) { "without optimization: the figures mean nothing" } else { "optimized" };
    println!("{}; {build}; event of {} bytes", machine(), EVENT.len());

    let batch = format!(
        r#"{{"batch":[{}],"sentAt":"2026-01-02T03:05:01.000Z","writeKey":"wk_demo","context":{{"ip":"203.0.113.9"}}}}"#,
        vec![EVENT; BATCH].join(",")
    );
    let surroundings = Surroundings::default();
    let raw = Raw::parse(EVENT).expect("JSON");
    let event = Event::read(raw, &surroundings).expect("a valid event");
    assert!(event.warnings.is_empty());
    let received_at = Moment::of_text("2026-01-02T03:05:01.200Z").expect("a time").millis();
    let arrival = Arrival { route: Route::Tracking, received_at };
    let profile = Profile::builtin("standard").expect("a built-in profile");
    let options = Options { identity: Identity::UserFirst, namespace: "org-token-42".to_owned() };

    let bare = measure("baseline: serde_json, IgnoredAny, one event", 1, || {
        black_box(serde_json::from_str::<IgnoredAny>(black_box(EVENT)).expect("JSON"));
    });
    let bare_batch = measure("baseline: serde_json, IgnoredAny, batch of 50", BATCH, || {
        black_box(serde_json::from_slice::<IgnoredAny>(black_box(batch.as_bytes())).expect("JSON"));
    });
    let decoding = measure("decode, batch of 50", BATCH, || {
        black_box(decode(black_box(batch.as_bytes()), 5_000).expect("a batch"));
    });
    let validation = measure("validate (Event::read)", 1, || {
        black_box(Event::read(black_box(raw), &surroundings).expect("a valid event"));
    });
    measure("decode and validate, batch of 50", BATCH, || {
        let request = decode(black_box(batch.as_bytes()), 5_000).expect("a batch");
        for item in &request.items {
            black_box(Event::read(item.raw, &request.surroundings).expect("a valid event"));
        }
    });
    let translation = measure("translate, profile standard", 1, || {
        black_box(translate(black_box(&event), arrival, profile, &options));
    });
    println!(
        "as multiples of the baseline: decode {:.1}, validate {:.1}, translate {:.1}",
        decoding / bare_batch,
        validation / bare,
        translation / bare
    );
}
