//! Servers that do what they are told: one of bare sockets, one of TLS.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::*;

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(20);

/// What to do with a request.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// Write this, and keep the connection.
    Answer(String),
    /// Write this, and end the connection.
    Break(String),
    /// Reset the connection.
    Reset,
    /// Write this, and nothing more, ever.
    Silence(String),
    /// Wait to be let go, then answer with 200.
    Hold,
}

impl Act {
    /// An answer with these header lines and this body.
    pub(super) fn answer(status: u16, headers: &str, body: &str) -> Self {
        let length = match status {
            204 | 304 => String::new(),
            _ => format!("content-length: {}\r\n", body.len()),
        };
        Self::Answer(format!("HTTP/1.1 {status} Made Up\r\n{headers}{length}\r\n{body}"))
    }
}

/// A request as it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    head: String,
    pub(super) body: String,
}

impl Request {
    pub(super) fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// A server of bare sockets. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    /// What to do with the next requests; the last one stays.
    acts: Mutex<VecDeque<Act>>,
    requests: Mutex<Vec<Request>>,
    connections: AtomicUsize,
    held: AtomicUsize,
    most_held: AtomicUsize,
    let_go: Semaphore,
}

impl Server {
    pub(super) async fn start(acts: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            acts: Mutex::new(acts.into_iter().collect()),
            requests: Mutex::default(),
            connections: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            most_held: AtomicUsize::new(0),
            let_go: Semaphore::new(0),
        });
        let mut task = JoinSet::new();
        let ours = Arc::clone(&shared);
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                ours.connections.fetch_add(1, Ordering::SeqCst);
                let ours = Arc::clone(&ours);
                connections.spawn(async move {
                    // A client that goes away in the middle is part of the game.
                    let _ = ours.serve(stream).await;
                });
            }
        });
        Self { address, shared, _task: task }
    }

    pub(super) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub(super) fn most_held(&self) -> usize {
        self.shared.most_held.load(Ordering::SeqCst)
    }

    pub(super) fn let_go(&self, requests: usize) {
        self.shared.let_go.add_permits(requests);
    }

    /// Waits until a condition holds.
    pub(super) async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "it did not happen: {self:#?}");
            tokio::task::yield_now().await;
        }
    }
}

impl Shared {
    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let request = read(&mut stream).await?;
            self.requests.lock().unwrap().push(request);
            let act = {
                let mut acts = self.acts.lock().unwrap();
                if acts.len() > 1 { acts.pop_front() } else { acts.front().cloned() }.unwrap()
            };
            match act {
                Act::Answer(text) => stream.write_all(text.as_bytes()).await?,
                Act::Break(text) => {
                    stream.write_all(text.as_bytes()).await?;
                    return stream.shutdown().await;
                }
                Act::Reset => return stream.get_ref().set_zero_linger(),
                Act::Silence(text) => {
                    stream.write_all(text.as_bytes()).await?;
                    std::future::pending::<()>().await;
                }
                Act::Hold => {
                    let held = self.held.fetch_add(1, Ordering::SeqCst) + 1;
                    self.most_held.fetch_max(held, Ordering::SeqCst);
                    self.let_go.acquire().await.unwrap().forget();
                    self.held.fetch_sub(1, Ordering::SeqCst);
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
                }
            }
        }
    }
}

/// Reads one request.
async fn read(stream: &mut BufReader<TcpStream>) -> std::io::Result<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let mut request = Request { head: String::from_utf8(head).unwrap(), body: String::new() };
    let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    request.body = String::from_utf8(body).unwrap();
    Ok(request)
}

/// A TLS server that answers with the protocol it was called by. Dropping it ends it.
pub(super) struct Tls {
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    connections: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

impl Tls {
    /// A server that offers these protocols in the handshake (RFC 7301).
    pub(super) async fn start(protocols: &[&str]) -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                open.spawn(serve_tls(acceptor.clone(), stream));
            }
        });
        Self { address, certificate, connections, _task: task }
    }

    pub(super) fn url(&self) -> String {
        format!("https://{}/x?org_token={TOKEN}", self.address)
    }

    pub(super) fn root(&self) -> reqwest::Certificate {
        reqwest::Certificate::from_der(&self.certificate).unwrap()
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve_tls(acceptor: TlsAcceptor, stream: TcpStream) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(async |request: http::Request<hyper::body::Incoming>| {
        let body = Full::new(Bytes::from(format!("{:?}", request.version())));
        Ok::<_, Infallible>(http::Response::new(body))
    });
    // A client that goes away in the middle is part of the game.
    if is_http2 {
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = connection.serve_connection(TokioIo::new(stream), service).await;
    } else {
        let connection = hyper::server::conn::http1::Builder::new();
        let _ = connection.serve_connection(TokioIo::new(stream), service).await;
    }
}
