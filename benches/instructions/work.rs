//! What is counted: each work as rounds of the same, on events of about 1 KB.

use std::hint::black_box;

use wigzo_destination::organization::{Config, Defaults, Organizations};
use wigzo_destination::segment::{Arrival, Event, Route, Surroundings, decode, signed_by};
use wigzo_destination::translate::{Identity, Options, Profile, translate};

use super::{ingress, queue, scheduler};

/// One benchmark.
pub(crate) struct Work {
    /// What it is called in the table.
    pub(crate) name: &'static str,
    /// Events in a round.
    pub(crate) events: usize,
    /// Rounds that are not counted: caches of the code and of the allocator fill.
    pub(crate) warm_up: usize,
    /// Rounds that are.
    pub(crate) rounds: usize,
    /// The end of a function's name. It is not counted, nor what it calls, because it is called by the clock.
    pub(crate) left_out: Option<&'static str>,
    /// Whether most of it is hashing: there libraries choose other code on a processor with SHA extensions.
    pub(crate) hashes: bool,
    /// Prepares what it needs and does so many rounds.
    pub(crate) run: fn(usize),
}

/// All of them, in the order of an event's path.
pub(crate) const ALL: &[Work] = &[
    pure("ingress-single", ingress::single),
    Work { events: BATCH, ..pure("ingress-batch-of-50", ingress::batch) },
    Work { hashes: true, ..pure("authenticate-source-key", source_key) },
    Work { hashes: true, ..pure("verify-signature", signature) },
    Work { events: BATCH, ..pure("decode-batch-of-50", decoding) },
    Work {
        events: queue::RECORDS,
        warm_up: 1,
        rounds: 2,
        left_out: Some("::Writer::tidy"),
        ..pure("queue-append-and-settle", queue::cycle)
    },
    pure("scheduler-1-organization", scheduler::one),
    Work { events: scheduler::MANY, ..pure("scheduler-1000-organizations", scheduler::many) },
    pure("translate-product-viewed", product_viewed),
    pure("translate-unmapped", unmapped),
    pure("translate-identify", identify),
];

/// A work of one event a round, short enough for many of them.
const fn pure(name: &'static str, run: fn(usize)) -> Work {
    Work { name, events: 1, warm_up: 20, rounds: 200, left_out: None, hashes: false, run }
}

/// Events of a batch.
pub(crate) const BATCH: usize = 50;

/// The source key of the organization `acme`.
pub(crate) const KEY: &str = "wk_demo";

const SECRET: &[u8] = b"a shared secret";
/// HMAC-SHA1 of [`PRODUCT_VIEWED`] with [`SECRET`].
const SIGNATURE: &str = "da56a24850d3a677a7e4463e17657d9f616409c0";

/// A product view as the browser library sends it: mapped to two calls.
pub(crate) const PRODUCT_VIEWED: &str = r#"{"timestamp":"2026-01-02T03:05:00.250Z","integrations":{"Segment.io":true},"type":"track","userId":"user-42","anonymousId":"0b6e3f0a-6a53-4f0e-9d0b-2f1f6d7c9a11","event":"Product Viewed","properties":{"product_id":"SKU-1","sku":"SKU-1-R","name":"Copper kettle, 1.5 l","brand":"Acme","category":"Kitchen","variant":"red","price":1299.00,"quantity":1,"currency":"INR","position":3,"url":"https://shop.example/p/copper-kettle","image_url":"https://shop.example/i/copper-kettle.jpg"},"context":{"library":{"name":"analytics.js","version":"next-1.84.3"},"page":{"path":"/p/copper-kettle","referrer":"https://shop.example/","search":"","title":"Copper kettle","url":"https://shop.example/p/copper-kettle"},"userAgent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36","locale":"en-IN","timezone":"Asia/Kolkata"},"messageId":"ajs-next-1767323100250-0b6e3f0a-6a53-4f0e-9d0b-2f1f6d7c9a11","writeKey":"wk_demo","sentAt":"2026-01-02T03:05:01.000Z"}"#;

/// An event that no table knows: it goes by its own name with all its properties.
const UNMAPPED: &str = r#"{"timestamp":"2026-01-02T03:05:00.250Z","integrations":{"Segment.io":true},"type":"track","userId":"user-42","anonymousId":"0b6e3f0a-6a53-4f0e-9d0b-2f1f6d7c9a11","event":"Recipe Scaled","properties":{"recipe":"Masala chai","servings":4,"factor":1.50,"ingredients":["water","milk","tea","ginger","cardamom"],"units":"metric","source":"cookbook","minutes":12,"difficulty":"easy","rated":true,"author":"Acme kitchen","url":"https://shop.example/r/masala-chai","image_url":"https://shop.example/i/masala-chai.jpg"},"context":{"library":{"name":"analytics.js","version":"next-1.84.3"},"page":{"path":"/r/masala-chai","referrer":"https://shop.example/","search":"","title":"Masala chai","url":"https://shop.example/r/masala-chai"},"userAgent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36","locale":"en-IN","timezone":"Asia/Kolkata"},"messageId":"ajs-next-1767323100251-0b6e3f0a-6a53-4f0e-9d0b-2f1f6d7c9a11","writeKey":"wk_demo","sentAt":"2026-01-02T03:05:01.000Z"}"#;

/// Who somebody is, with both ids: two identifies.
const IDENTIFY: &str = r#"{"timestamp":"2026-01-02T03:05:00.250Z","integrations":{"Segment.io":true},"type":"identify","userId":"user-42","anonymousId":"0b6e3f0a-6a53-4f0e-9d0b-2f1f6d7c9a11","traits":{"email":"asha@example.com","phone":"+910000000000","firstName":"Asha","lastName":"Example","birthday":"1990-04-01","gender":"female","company":{"name":"Acme","industry":"Kitchens"},"address":{"street":"1 Example Road","city":"Pune","state":"Maharashtra","postalCode":"411001","country":"India"},"plan":"gold","orders":12,"lifetime_value":45999.50,"subscribed":true},"context":{"library":{"name":"analytics.js","version":"next-1.84.3"},"page":{"path":"/account","referrer":"https://shop.example/","search":"","title":"Account","url":"https://shop.example/account"},"userAgent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36","locale":"en-IN","timezone":"Asia/Kolkata"},"messageId":"ajs-next-1767323100252-0b6e3f0a-6a53-4f0e-9d0b-2f1f6d7c9a11","writeKey":"wk_demo","sentAt":"2026-01-02T03:05:01.000Z"}"#;

/// A batch as libraries send it.
pub(crate) fn batch() -> String {
    let events = vec![PRODUCT_VIEWED; BATCH].join(",");
    format!(r#"{{"batch":[{events}],"sentAt":"2026-01-02T03:05:01.000Z","writeKey":"{KEY}"}}"#)
}

/// One organization, `acme`.
pub(crate) fn organizations() -> Organizations {
    let acme: Config = toml::from_str(&format!("org_token = \"org-token-42\"\nsource_keys = [\"{KEY}\"]"))
        .expect("an organization's configuration");
    Organizations::build(&Defaults::default(), &[("acme".to_owned(), acme)].into()).expect("no problem")
}

fn source_key(rounds: usize) {
    let organizations = organizations();
    for _ in 0..rounds {
        assert!(black_box(&organizations).by_source_key(black_box(KEY)).is_some());
    }
}

fn signature(rounds: usize) {
    let body = PRODUCT_VIEWED.as_bytes();
    let request = decode(body, 1).expect("an event");
    for _ in 0..rounds {
        assert!(signed_by(black_box(SECRET), black_box(SIGNATURE), black_box(body), &request));
    }
}

fn decoding(rounds: usize) {
    let body = batch();
    for _ in 0..rounds {
        let request = decode(black_box(body.as_bytes()), 5_000).expect("a batch");
        assert_eq!(black_box(request).items.len(), BATCH);
    }
}

fn product_viewed(rounds: usize) {
    translation(PRODUCT_VIEWED, 2, rounds);
}

fn unmapped(rounds: usize) {
    translation(UNMAPPED, 1, rounds);
}

fn identify(rounds: usize) {
    translation(IDENTIFY, 2, rounds);
}

/// From an event to its calls, as delivery does it.
fn translation(event: &str, calls: usize, rounds: usize) {
    let profile = Profile::builtin("standard").expect("a built-in profile");
    let options = Options { identity: Identity::UserFirst, namespace: "org-token-42".to_owned() };
    let arrival = Arrival { route: Route::Tracking, received_at: 1_767_323_101_200 };
    let request = decode(event.as_bytes(), 1).expect("an event");
    let item = request.items.first().expect("an event");
    for _ in 0..rounds {
        let surroundings = Surroundings::from_stored(black_box("")).expect("a stored form");
        let event = Event::read(black_box(item.raw), &surroundings).expect("a valid event");
        let made = translate(&event, arrival, profile, &options).into_calls().expect("calls");
        assert_eq!(black_box(made).len(), calls);
    }
}
