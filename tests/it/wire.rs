//! Requests as bytes on a socket, for what no client library would send: cut off, too large, slow, wrong.

use std::fmt::Write as _;
use std::io::Write as _;

use aws_lc_rs::hmac;
use flate2::Compression;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::service::{PATIENCE, Reply};

/// A request that is written exactly as it is told.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    chunked: bool,
}

impl Request {
    pub fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            chunked: false,
        }
    }

    pub fn post(path: &str) -> Self {
        Self::new("POST", path)
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn bearer(self, key: &str) -> Self {
        self.header("Authorization", &format!("Bearer {key}"))
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends the body in chunks, so that its length is not announced.
    pub fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    /// The request line and the headers.
    pub fn head(&self) -> String {
        let mut head =
            format!("{} {} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        if self.chunked {
            head.push_str("Transfer-Encoding: chunked\r\n");
        } else if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
            write!(head, "Content-Length: {}\r\n", self.body.len()).unwrap();
        }
        head + "\r\n"
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head().into_bytes();
        if self.chunked {
            for chunk in self.body.chunks(64 * 1024) {
                write!(bytes, "{:x}\r\n", chunk.len()).unwrap();
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
        } else {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

/// Writes bytes to a service (`http://address`) and reads its reply until it closes the connection.
pub async fn exchange(base: &str, bytes: &[u8]) -> Reply {
    let mut stream = connect(base).await;
    // As clients do: everything is written before the reply is read.
    let written = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("no reply");
    reply(&answer).unwrap_or_else(|| {
        panic!("no reply to {} bytes: written: {written:?}, read: {read:?}, {answer:?}", bytes.len())
    })
}

pub async fn connect(base: &str) -> TcpStream {
    TcpStream::connect(base.strip_prefix("http://").unwrap()).await.unwrap()
}

/// Everything that comes until the other side closes.
pub async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    read.expect("the connection stays open").unwrap();
    rest
}

/// Takes a reply apart; `None` if there is none.
pub fn reply(bytes: &[u8]) -> Option<Reply> {
    // An image is no text; its bytes are not looked at.
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let (status, fields) = head.split_once("\r\n")?;
    let mut headers = HeaderMap::new();
    for line in fields.split("\r\n") {
        let (name, value) = line.split_once(':')?;
        headers
            .append(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value.trim()).ok()?);
    }
    Some(Reply { status: status.split(' ').nth(1)?.parse().ok()?, headers, body: body.to_owned() })
}

pub fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// HTTP's `deflate`: the zlib format (RFC 9110, 8.4.1.2).
pub fn deflate(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// A Brotli stream of one uncompressed meta-block (RFC 7932, 9.2): at most 64 KiB.
pub fn brotli(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() - 1).unwrap();
    assert!(length < 1 << 16);
    // From the lowest bit: window of 16, not the last, four nibbles of length, the length less one, uncompressed.
    let header = (length << 4 | 1 << 20).to_le_bytes();
    let mut stream = header[..3].to_vec();
    stream.extend_from_slice(body);
    // The last one, and empty.
    stream.push(0b11);
    stream
}

/// A Zstandard frame of one raw block (RFC 8878, 3.1.1): at most 255 bytes.
pub fn zstd(body: &[u8]) -> Vec<u8> {
    let length = u8::try_from(body.len()).unwrap();
    // Single segment: the content's size in one byte stands for the window.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x20, length];
    frame.extend_from_slice(&(u32::from(length) << 3 | 1).to_le_bytes()[..3]);
    frame.extend_from_slice(body);
    frame
}

/// A Zstandard frame of so many blocks of 128 KiB that are one space repeated: four bytes each.
pub fn zstd_bomb(blocks: u32) -> Vec<u8> {
    // A window of 128 KiB, no content size, no checksum.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 7 << 3];
    for block in 1..=blocks {
        let header = (128 * 1024) << 3 | 1 << 1 | u32::from(block == blocks);
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(b' ');
    }
    frame
}

/// What `X-Signature` is for a body: HMAC-SHA1 in hex (segment.md 1.6).
pub fn signature(secret: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    let mut hex = String::new();
    for byte in hmac::sign(&key, body).as_ref() {
        write!(hex, "{byte:02x}").unwrap();
    }
    hex
}
