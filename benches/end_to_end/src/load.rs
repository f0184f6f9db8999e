//! The load: connections that post made-up events, as fast as they are answered or at a given rate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::events::{self, MESSAGE, USER};
use crate::http;

/// What to send.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub connections: usize,
    pub content: Content,
    /// For how long new requests are made.
    pub lasting: Duration,
    /// Requests per second over all connections; `None`: each connection sends as soon as it was answered.
    pub rate: Option<f64>,
    /// No more events than these.
    pub events: u64,
    /// How many organizations send. The first sends as much as the second and third together, and so on (Zipf).
    pub organizations: usize,
}

impl Plan {
    /// What is sent first, so that connections, caches and the allocator are warm when it counts.
    pub fn warm_up(self) -> Self {
        Self { lasting: Duration::from_secs(1), ..self }
    }
}

/// What the requests hold.
#[derive(Debug, Clone, Copy)]
pub enum Content {
    /// Track events of 1 KB, so many in each request.
    Tracks(usize),
    /// Events of every kind, in turns: singly, in batches, and one that is refused.
    Mixed,
}

/// What came of it.
#[derive(Debug)]
pub struct Sent {
    /// Events in requests that were answered with 200.
    pub accepted: u64,
    /// Requests that were answered otherwise.
    pub refused: u64,
    /// From when a request was meant to be sent until its answer was there, in microseconds.
    pub latency: Histogram<u64>,
}

static FIRST: AtomicU64 = AtomicU64::new(0);

/// The source key of an organization, by its number.
pub fn source_key(organization: usize) -> String {
    format!("wk_{organization:06}")
}

/// Sends the plan's load to a service.
pub async fn send(target: SocketAddr, plan: Plan) -> std::io::Result<Sent> {
    // No two runs send the same message ids.
    let first = FIRST.fetch_add(1_000_000_000, Ordering::Relaxed);
    let numbers = Arc::new(AtomicU64::new(first));
    let plan = Plan { events: plan.events.saturating_add(first), ..plan };
    let began = Instant::now();
    let mut connections = JoinSet::new();
    for index in 0..plan.connections {
        connections.spawn(connection(target, plan, index, began, Arc::clone(&numbers)));
    }
    let mut all = Sent { accepted: 0, refused: 0, latency: histogram() };
    while let Some(sent) = connections.join_next().await {
        let sent = sent.map_err(std::io::Error::other)??;
        all.accepted += sent.accepted;
        all.refused += sent.refused;
        all.latency.add(&sent.latency).map_err(std::io::Error::other)?;
    }
    Ok(all)
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("these bounds are valid")
}

async fn connection(
    target: SocketAddr,
    plan: Plan,
    index: usize,
    began: Instant,
    numbers: Arc<AtomicU64>,
) -> std::io::Result<Sent> {
    let mut stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    let mut requests = Request::all(target, plan.content);
    let mut turn = index;
    let mut sent = Sent { accepted: 0, refused: 0, latency: histogram() };
    let mut buffer = Vec::with_capacity(16 * 1024);
    let spacing = plan.rate.map(|rate| Duration::from_secs_f64(plan.connections as f64 / rate));
    // Connections take turns within one spacing.
    let mut meant =
        began + spacing.map_or(Duration::ZERO, |it| it.mul_f64(index as f64 / plan.connections as f64));
    loop {
        turn = (turn + 1) % requests.len();
        let request = &mut requests[turn];
        if let Some(spacing) = spacing {
            tokio::time::sleep_until(meant.into()).await;
            if meant.duration_since(began) >= plan.lasting {
                return Ok(sent);
            }
            request.fill(&numbers, plan.organizations);
            post(&mut stream, request, &mut buffer, meant, &mut sent).await?;
            meant += spacing;
        } else {
            if began.elapsed() >= plan.lasting || numbers.load(Ordering::Relaxed) >= plan.events {
                return Ok(sent);
            }
            request.fill(&numbers, plan.organizations);
            post(&mut stream, request, &mut buffer, Instant::now(), &mut sent).await?;
        }
    }
}

async fn post(
    stream: &mut TcpStream,
    request: &Request,
    buffer: &mut Vec<u8>,
    meant: Instant,
    sent: &mut Sent,
) -> std::io::Result<()> {
    stream.write_all(&request.bytes).await?;
    let message = http::read(stream, buffer).await?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let micros = u64::try_from(meant.elapsed().as_micros()).unwrap_or(u64::MAX);
    sent.latency.saturating_record(micros.max(1));
    match http::status(buffer) {
        Some(200) => sent.accepted += request.ids.len() as u64,
        _ => sent.refused += 1,
    }
    buffer.drain(..message.length);
    Ok(())
}

/// A request whose variable parts are overwritten in place.
struct Request {
    bytes: Vec<u8>,
    key: usize,
    /// Where each event's message id and user id begin.
    ids: Vec<(usize, usize)>,
}

const KEY: &str = "wk_000000";

impl Request {
    fn all(target: SocketAddr, content: Content) -> Vec<Self> {
        match content {
            Content::Tracks(1) => vec![Self::new(target, "track", &events::track())],
            Content::Tracks(many) => vec![Self::batch(target, &vec![events::track(); many])],
            Content::Mixed => {
                let kinds = events::kinds();
                let events: Vec<_> = kinds.iter().map(|(_, event)| event.clone()).collect();
                let singly = kinds.into_iter().chain([("track", events::refused())]);
                singly
                    .map(|(kind, event)| Self::new(target, kind, &event))
                    .chain([Self::batch(target, &events)])
                    .collect()
            }
        }
    }

    fn batch(target: SocketAddr, events: &[String]) -> Self {
        Self::new(target, "batch", &format!(r#"{{"batch":[{}]}}"#, events.join(",")))
    }

    /// For the route of this kind.
    fn new(target: SocketAddr, kind: &str, body: &str) -> Self {
        let text = format!(
            "POST /v1/{kind} HTTP/1.1\r\nhost: {target}\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let places =
            |what: &str, skip: usize| text.match_indices(what).map(|(at, _)| at + skip).collect::<Vec<_>>();
        let ids = places(MESSAGE, MESSAGE.len() - 12).into_iter().zip(places(USER, USER.len() - 6)).collect();
        let key = text.find(KEY).expect("the head holds it") + KEY.len() - 6;
        Self { key, ids, bytes: text.into_bytes() }
    }

    fn fill(&mut self, numbers: &AtomicU64, organizations: usize) {
        let mut number = numbers.fetch_add(self.ids.len() as u64, Ordering::Relaxed);
        if organizations > 1 {
            digits(&mut self.bytes, self.key, 6, skewed(number, organizations));
        }
        for (message, user) in &self.ids {
            digits(&mut self.bytes, *message, 12, number);
            // 100 000 people, in no order.
            digits(&mut self.bytes, *user, 6, scatter(number) % 100_000);
            number += 1;
        }
    }
}

fn digits(bytes: &mut [u8], at: usize, width: usize, mut number: u64) {
    for place in bytes[at..at + width].iter_mut().rev() {
        *place = b'0' + u8::try_from(number % 10).expect("a digit");
        number /= 10;
    }
}

/// A fixed scramble: the same runs send the same people.
fn scatter(number: u64) -> u64 {
    let mixed = (number ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 20
}

/// An organization's number, skewed: the k-th gets a share proportional to 1/k.
fn skewed(number: u64, organizations: usize) -> u64 {
    let draw = (scatter(number) % 1_000_000) as f64 / 1_000_000.0;
    let rank = (organizations as f64).powf(draw) - 1.0;
    (rank as u64).min(organizations as u64 - 1)
}
