//! A proxy between a client and the service that does, request by request, what a script says, and then passes
//! everything through.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::service::{PATIENCE, Reply};
use crate::wire;

/// What becomes of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It does not reach the service: this status is the answer, with `Retry-After: 1` if it is 429.
    Answer(u16),
    /// It does not reach the service, and the connection ends without an answer.
    HangUp,
    /// The service answers, but the client never hears of it.
    LoseReply,
    /// The service answers, and the client hears it.
    Pass,
}

/// A request that reached the service: what the service said, and whether the client heard it.
#[derive(Debug)]
pub struct Exchange {
    pub step: Step,
    pub reply: Reply,
}

/// A proxy with an address; connections are refused until it is opened.
pub struct Proxy {
    pub address: SocketAddr,
    pub state: Arc<State>,
    socket: TcpSocket,
}

/// What a proxy has left to do and has seen.
pub struct State {
    service: String,
    script: Mutex<VecDeque<Step>>,
    exchanges: Mutex<Vec<Exchange>>,
}

impl Proxy {
    pub fn closed(service: &str, script: &[Step]) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let script = Mutex::new(script.iter().copied().collect());
        let state = State { service: service.to_owned(), script, exchanges: Mutex::default() };
        Self { address: socket.local_addr().unwrap(), state: Arc::new(state), socket }
    }

    pub fn open(self) {
        let (listener, state) = (self.socket.listen(64).unwrap(), self.state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = Arc::clone(&state);
                tokio::spawn(async move { state.serve(client).await });
            }
        });
    }
}

impl State {
    /// The steps that no request has come for, and what reached the service.
    pub fn end(&self) -> (VecDeque<Step>, Vec<Exchange>) {
        (
            std::mem::take(&mut self.script.lock().unwrap()),
            std::mem::take(&mut self.exchanges.lock().unwrap()),
        )
    }

    /// One request, one connection.
    async fn serve(&self, mut client: TcpStream) {
        let Some(request) = tokio::time::timeout(PATIENCE, request(&mut client)).await.ok().flatten() else {
            return;
        };
        let step = self.script.lock().unwrap().pop_front().unwrap_or(Step::Pass);
        let answer = match step {
            Step::HangUp => return,
            Step::Answer(status) => {
                let wait = if status == 429 { "Retry-After: 1\r\n" } else { "" };
                format!("HTTP/1.1 {status} Scripted\r\n{wait}Content-Length: 0\r\nConnection: close\r\n\r\n")
            }
            Step::LoseReply | Step::Pass => {
                let reply = wire::exchange(&self.service, &request).await;
                let answer = text(&reply);
                self.exchanges.lock().unwrap().push(Exchange { step, reply });
                if step == Step::LoseReply {
                    return;
                }
                answer
            }
        };
        // A client that has gone is the test's to notice.
        drop(client.write_all(answer.as_bytes()).await);
    }
}

/// A request as it came, but for `Connection`, which becomes `close`. `None` if the client sent none.
async fn request(client: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let field = |line: &str, name: &str| line.to_ascii_lowercase().starts_with(&format!("{name}:"));
            let length = head.lines().find(|line| field(line, "content-length"));
            let length: usize = length.map_or(0, |line| line[15..].trim().parse().unwrap());
            if bytes.len() >= end + 4 + length {
                let head: Vec<_> = head.lines().filter(|line| !field(line, "connection")).collect();
                let head = format!("{}\r\nConnection: close\r\n\r\n", head.join("\r\n"));
                return Some([head.as_bytes(), &bytes[end + 4..]].concat());
            }
        }
        if client.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// A reply as it is passed on; the connection ends after it.
fn text(reply: &Reply) -> String {
    let mut text = format!("HTTP/1.1 {} Passed\r\n", reply.status);
    for (name, value) in &reply.headers {
        if name != "connection" && name != "content-length" {
            write!(text, "{name}: {}\r\n", value.to_str().unwrap()).unwrap();
        }
    }
    write!(text, "Content-Length: {}\r\nConnection: close\r\n\r\n{}", reply.body.len(), reply.body).unwrap();
    text
}
