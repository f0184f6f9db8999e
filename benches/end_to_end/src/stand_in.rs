//! Wigzo's stand-in: answers every POST with success after a delay, or some with a failure, and counts them. As little
//! work as possible, since it shares the machine with what is measured.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::http;

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 20\r\n\r\n{\"status\":\"success\"}";

const FAILURE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

/// How it answers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manner {
    /// How long each answer takes.
    pub delay: Duration,
    /// Each call whose number is a multiple of this fails.
    pub failing: Option<NonZeroU64>,
}

impl Manner {
    /// Takes so long for each answer.
    pub const fn slow(delay: Duration) -> Self {
        Self { delay, failing: None }
    }
}

/// Serves until it is killed. `GET /count` tells how many calls have been answered.
pub async fn serve(listen: SocketAddr, manner: Manner) -> std::io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    let count = Arc::new(AtomicU64::new(0));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let count = Arc::clone(&count);
        tokio::spawn(async move {
            // A client that goes away is its own business.
            let _ = connection(stream, manner, &count).await;
        });
    }
}

async fn connection(mut stream: TcpStream, manner: Manner, count: &AtomicU64) -> std::io::Result<()> {
    let mut buffer = Vec::with_capacity(16 * 1024);
    loop {
        let Some(message) = http::read(&mut stream, &mut buffer).await? else { return Ok(()) };
        let asks_for_count = buffer.starts_with(b"GET /count");
        buffer.drain(..message.length);
        if asks_for_count {
            let body = count.load(Ordering::Relaxed).to_string();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await?;
            continue;
        }
        if !manner.delay.is_zero() {
            tokio::time::sleep(manner.delay).await;
        }
        let number = count.load(Ordering::Relaxed) + 1;
        let fails = manner.failing.is_some_and(|every| number.is_multiple_of(every.get()));
        stream.write_all(if fails { FAILURE } else { ANSWER }).await?;
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Asks a stand-in how many calls it has answered.
pub async fn count(address: SocketAddr) -> std::io::Result<u64> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /count HTTP/1.1\r\nhost: stand-in\r\n\r\n").await?;
    let mut buffer = Vec::new();
    let message = http::read(&mut stream, &mut buffer).await?;
    let body = message.and_then(|message| buffer.get(message.head..message.length));
    let text = body.and_then(|body| std::str::from_utf8(body).ok());
    text.and_then(|text| text.parse().ok()).ok_or_else(|| std::io::Error::other("no count"))
}
