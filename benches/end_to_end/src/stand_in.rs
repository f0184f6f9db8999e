//! Wigzo's stand-in: answers every POST with success after a delay, and counts them. As little work as possible, since
//! it shares the machine with what is measured.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::http;

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 20\r\n\r\n{\"status\":\"success\"}";

/// Serves until it is killed. `GET /count` tells how many calls have been answered.
pub async fn serve(listen: SocketAddr, delay: Duration) -> std::io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    let count = Arc::new(AtomicU64::new(0));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let count = Arc::clone(&count);
        tokio::spawn(async move {
            // A client that goes away is its own business.
            let _ = connection(stream, delay, &count).await;
        });
    }
}

async fn connection(mut stream: TcpStream, delay: Duration, count: &AtomicU64) -> std::io::Result<()> {
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
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        stream.write_all(ANSWER).await?;
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
