//! The stack against real sockets: a scripted server where bytes matter, the sandbox where Wigzo's behaviour does.

mod server;

use std::net::{Ipv4Addr, SocketAddr};

use bytesize::ByteSize;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::sandbox::{self, Effect, Rule, Sandbox};
use server::{Act, Server, Tls};

const START: UnixMillis = UnixMillis(1_800_000_000_000);
const TOKEN: &str = "org-token-0001";
const BUY: &str = r#"{"eventName":"buy","eventval":["sku-1"],"eventCategory":"EXTERNAL","userId":"u1"}"#;

const OPTIONS: Options = Options {
    max_in_flight: 16,
    connect_timeout: Duration::from_secs(5),
    timeout: Duration::from_secs(10),
    quick_retries: 2,
};

fn client(options: Options) -> Client {
    Client::new(options, Clock::manual(START)).unwrap()
}

/// A call with its notes.
#[derive(Clone)]
struct Case {
    outgoing: Outgoing,
}

impl Case {
    fn new(url: &str) -> Self {
        Self {
            outgoing: Outgoing {
                url: Arc::new(url.parse().unwrap()),
                body: Bytes::from_static(BUY.as_bytes()),
                idempotency_key: HeaderValue::from_static("0123-7-event/buy"),
                repeat_ambiguous: true,
                tries: Arc::default(),
                trace: Vec::new(),
            },
        }
    }

    fn to(address: SocketAddr) -> Self {
        Self::new(&format!("http://{address}/rest/v1/learn/event?org_token={TOKEN}"))
    }

    fn repeat_ambiguous(mut self, repeat: bool) -> Self {
        self.outgoing.repeat_ambiguous = repeat;
        self
    }

    /// Makes the call: its result, and what every try of it gave, as a status or a failure.
    async fn call(self, client: &Client) -> (Result<Answer, Failure>, Vec<Result<u16, Failure>>) {
        let tries = Arc::clone(&self.outgoing.tries);
        let result = client.call(self.outgoing).await;
        let tries = std::mem::take(&mut *tries.lock().unwrap());
        assert_eq!(tries.last().map(|last| &last.result), Some(&result), "the last try is the result");
        assert!(tries.iter().all(|it| it.at == START), "by the clock of the service");
        (result, tries.into_iter().map(|it| it.result.map(|answer| answer.status)).collect())
    }
}

// === answers ===

#[tokio::test]
async fn bodies_are_bounded_and_the_connection_is_used_again() {
    for size in [0, 1, MAX_BODY - 1, MAX_BODY, MAX_BODY + 1, 200_000] {
        let body: String = (0..size).map(|at| char::from(b'a' + u8::try_from(at % 26).unwrap())).collect();
        let server = Server::start([Act::answer(200, "", &body), Act::answer(400, "", &body)]).await;
        let client = client(OPTIONS);
        for status in [200, 400] {
            let (result, _) = Case::to(server.address).call(&client).await;
            let answer = result.unwrap();
            assert_eq!(answer.status, status);
            assert_eq!(&answer.body[..], &body.as_bytes()[..size.min(MAX_BODY)], "{size} bytes");
        }
        assert_eq!(server.connections(), 1, "{size} bytes");
    }
}

#[tokio::test]
async fn an_endless_body_is_let_go() {
    let body = "x".repeat(4 * MAX_DRAIN);
    let server = Server::start([Act::answer(200, "", &body)]).await;
    let client = client(OPTIONS);
    for connection in 1..=2 {
        let (result, _) = Case::to(server.address).call(&client).await;
        assert_eq!(result.unwrap().body.len(), MAX_BODY);
        assert_eq!(server.connections(), connection);
    }
}

#[tokio::test]
async fn a_connection_that_breaks_behind_what_is_kept_does_no_harm() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n";
    let server = Server::start([Act::Break(format!("{head}{}", "x".repeat(MAX_BODY + 10)))]).await;
    let (result, tries) = Case::to(server.address).call(&client(OPTIONS)).await;
    let answer = result.unwrap();
    assert_eq!((answer.body.len(), answer.is_cut_short, tries), (MAX_BODY, false, vec![Ok(200)]));
}

#[tokio::test]
async fn a_body_that_breaks_off_does_not_undo_the_status() {
    let timeout = Duration::from_millis(100);
    for status in [200, 201, 301, 400, 401, 429, 500] {
        for (head, body, arrived) in [
            ("content-length: 60", r#"{"status":"success"}"#, r#"{"status":"success"}"#),
            ("content-length: 60", "", ""),
            ("transfer-encoding: chunked", "7\r\n{\"statu\r\n", "{\"statu"),
            ("transfer-encoding: chunked", "7\r\n{\"statu\r\nno length\r\n", "{\"statu"),
        ] {
            let said = format!("HTTP/1.1 {status} Made Up\r\n{head}\r\n\r\n{body}");
            for act in [Act::Break(said.clone()), Act::Silence(said)] {
                let server = Server::start([act.clone()]).await;
                let client = client(Options { timeout, ..OPTIONS });
                let (result, tries) = Case::to(server.address).call(&client).await;
                let answer = result.unwrap();
                assert_eq!((answer.status, answer.body.as_ref()), (status, arrived.as_bytes()), "{act:?}");
                assert!(answer.is_cut_short, "{act:?}");
                assert_eq!((tries.len(), server.requests().len()), (1, 1), "{act:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_body_that_is_read_to_its_end_is_not_cut_short() {
    let acts = [
        Act::answer(200, "", "{}"),
        Act::answer(204, "", ""),
        Act::Answer("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n".to_owned()),
        Act::Break("HTTP/1.1 200 OK\r\n\r\n{}".to_owned()),
    ];
    for act in acts {
        let server = Server::start([act.clone()]).await;
        let (result, _) = Case::to(server.address).call(&client(OPTIONS)).await;
        assert!(!result.unwrap().is_cut_short, "{act:?}");
    }
}

#[tokio::test]
async fn redirects_are_answers() {
    for status in [300, 301, 302, 303, 304, 307, 308] {
        let server = Server::start([Act::answer(status, "location: /elsewhere?org_token=x\r\n", "")]).await;
        let (_, tries) = Case::to(server.address).call(&client(OPTIONS)).await;
        assert_eq!(tries, [Ok(status)]);
        assert_eq!(server.requests().len(), 1, "the tokens went nowhere else");
    }
}

#[tokio::test]
async fn retry_after_is_read_from_the_answer() {
    for (header, expected) in [("", None), ("retry-after: 7\r\n", Some(Duration::from_secs(7)))] {
        let server = Server::start([Act::answer(429, header, "")]).await;
        let (result, _) = Case::to(server.address).call(&client(OPTIONS)).await;
        assert_eq!(result.unwrap().retry_after, expected);
    }
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    // START is Fri, 15 Jan 2027 08:00:00 GMT.
    for (text, seconds) in [
        ("0", Some(0)),
        ("7", Some(7)),
        (" 120 ", Some(120)),
        ("18446744073709551615", Some(u64::MAX)),
        ("99999999999999999999999", Some(u64::MAX)),
        ("Fri, 15 Jan 2027 08:01:30 GMT", Some(90)),
        ("Friday, 15-Jan-27 08:01:30 GMT", Some(90)),
        ("Fri Jan 15 08:01:30 2027", Some(90)),
        ("Fri, 15 Jan 2027 07:59:59 GMT", Some(0)),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("1.5", None),
        ("7 s", None),
        ("soon", None),
    ] {
        let expected = seconds.map(Duration::from_secs);
        assert_eq!(wait(&HeaderValue::from_static(text), START), expected, "{text:?}");
    }
    assert_eq!(wait(&HeaderValue::from_bytes(b"\xff7").unwrap(), START), None);
}

// === failures ===

#[tokio::test]
async fn a_refused_connection_is_repeated_quickly() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for quick_retries in 0..=3 {
        let client = client(Options { quick_retries, ..OPTIONS });
        let (result, tries) = Case::to(address).repeat_ambiguous(false).call(&client).await;
        assert_eq!(result, Err(Failure::Unreachable));
        assert_eq!(tries.len(), 1 + quick_retries as usize, "{tries:?}");
    }
}

#[tokio::test]
async fn a_handshake_without_end_is_no_connection() {
    // The listener's queue takes the connection; nobody ever answers in it.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let options = Options { connect_timeout: Duration::from_millis(50), quick_retries: 0, ..OPTIONS };
    let (result, _) = Case::new(&url).call(&client(options)).await;
    assert_eq!(result, Err(Failure::Unreachable), "nothing was sent, so nothing can be doubled");
}

#[tokio::test]
async fn broken_connections_are_repeated_only_where_that_is_wanted() {
    for act in [Act::Reset, Act::Break(String::new()), Act::Break("HTTP/1.1 2".into())] {
        for (repeat, tries) in [(true, 3), (false, 1)] {
            let server = Server::start([act.clone()]).await;
            let (result, noted) =
                Case::to(server.address).repeat_ambiguous(repeat).call(&client(OPTIONS)).await;
            assert_eq!(result, Err(Failure::Broken), "{act:?}");
            assert_eq!((noted.len(), server.requests().len()), (tries, tries), "{act:?} {repeat}");
        }
    }
}

/// What hyper says of a connection that has ended: before a request was handed to it, and in the middle of one.
async fn said_by_hyper(ends_before: bool) -> hyper::Error {
    let (near, far) = tokio::io::duplex(1_024);
    let io = hyper_util::rt::TokioIo::new(near);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, http_body_util::Empty<Bytes>>(io).await.unwrap();
    let request = http::Request::post("/").body(http_body_util::Empty::new()).unwrap();
    if ends_before {
        drop(far);
        drop(connection);
        return sender.send_request(request).await.unwrap_err();
    }
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let server = async move {
        let mut far = far;
        let mut byte = [0];
        tokio::io::AsyncReadExt::read_exact(&mut far, &mut byte).await.unwrap();
    };
    let (sent, ()) = tokio::join!(sender.send_request(request), server);
    sent.unwrap_err()
}

#[tokio::test]
async fn what_was_never_sent_is_told_from_what_may_have_been() {
    assert!(was_never_sent(&said_by_hyper(true).await));
    assert!(!was_never_sent(&said_by_hyper(false).await));
    assert!(!was_never_sent(&Failure::Broken));
}

#[tokio::test]
async fn a_connection_that_the_server_has_closed_is_not_used_again() {
    let last = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned();
    let server = Server::start([Act::Break(last)]).await;
    let client = client(OPTIONS);
    for requests in 1..=50 {
        let (_, tries) = Case::to(server.address).repeat_ambiguous(false).call(&client).await;
        assert_eq!((tries, server.requests().len()), (vec![Ok(200)], requests));
    }
}

#[tokio::test]
async fn no_answer_is_a_time_out_and_not_repeated() {
    for act in [Act::Silence(String::new()), Act::Silence("HTTP/1.1 2".into())] {
        let server = Server::start([act]).await;
        let timeout = Duration::from_millis(100);
        let began = Instant::now();
        let (result, tries) = Case::to(server.address).call(&client(Options { timeout, ..OPTIONS })).await;
        let took = began.elapsed();
        assert_eq!((result, tries.len()), (Err(Failure::TimedOut), 1));
        assert!(took >= timeout && took < timeout + Duration::from_secs(5), "{took:?}");
    }
}

// === quick repeats ===

#[tokio::test]
async fn what_a_second_try_cures_is_tried_again() {
    for status in [502, 503, 504] {
        let server = Server::start([Act::answer(status, "", ""), Act::answer(200, "", "{}")]).await;
        let (_, tries) = Case::to(server.address).repeat_ambiguous(false).call(&client(OPTIONS)).await;
        assert_eq!(tries, [Ok(status), Ok(200)]);
        let requests = server.requests();
        assert_eq!(requests[0], requests[1], "the same request, to the byte");
        assert_eq!(requests[0].header("idempotency-key"), Some("0123-7-event/buy"));
        assert_eq!(requests[0].header("content-type"), Some("application/json"));
        assert_eq!(requests[0].body, BUY);
        assert_eq!(server.connections(), 1);
    }
}

#[tokio::test]
async fn everything_else_is_left_to_the_schedule() {
    for status in [200, 204, 301, 400, 401, 404, 408, 425, 429, 500, 501, 505] {
        let server = Server::start([Act::answer(status, "", "")]).await;
        let (_, tries) = Case::to(server.address).call(&client(OPTIONS)).await;
        assert_eq!(tries, [Ok(status)]);
    }
    let server = Server::start([Act::answer(503, "retry-after: 1\r\n", "")]).await;
    let (_, tries) = Case::to(server.address).call(&client(OPTIONS)).await;
    assert_eq!(tries, [Ok(503)], "Wigzo named a time");
}

#[tokio::test]
async fn the_budget_bounds_repeats_in_bulk_failure() {
    let server = Server::start([Act::answer(503, "", "")]).await;
    let client = client(OPTIONS);
    for _ in 0..1_000 {
        let (_, tries) = Case::to(server.address).call(&client).await;
        assert!((1..=3).contains(&tries.len()));
    }
    let requests = server.requests().len();
    assert!((1_001..=1_100).contains(&requests), "{requests} requests for 1000 calls");
}

// === the limit ===

#[tokio::test]
async fn no_more_calls_than_the_limit_are_in_flight() {
    let server = Server::start([Act::Hold]).await;
    let client = client(Options { max_in_flight: 2, ..OPTIONS });
    let mut calls = JoinSet::new();
    for _ in 0..6 {
        let (client, case) = (client.clone(), Case::to(server.address));
        calls.spawn(async move { case.call(&client).await.0 });
    }
    for seen in 2..=6 {
        server.until(|server| server.requests().len() >= seen).await;
        assert_eq!(server.requests().len(), seen);
        server.let_go(1);
    }
    server.let_go(1);
    while let Some(result) = calls.join_next().await {
        assert_eq!(result.unwrap().unwrap().status, 200);
    }
    assert_eq!(server.most_held(), 2);
}

// === TLS and HTTP/2 ===

#[tokio::test]
async fn a_server_that_speaks_only_http2_is_reached() {
    let tls = Tls::start(&["h2"]).await;
    let client = Client::trusting(OPTIONS, Clock::manual(START), &[tls.root()]).unwrap();
    for _ in 0..3 {
        let (result, tries) = Case::new(&tls.url()).call(&client).await;
        assert_eq!(tries, [Ok(200)]);
        assert_eq!(result.unwrap().body, "HTTP/2.0");
    }
    assert_eq!(tls.connections(), 2, "a refused handshake once, then one connection for all");
}

#[tokio::test]
async fn a_server_that_speaks_both_is_called_by_http1() {
    for protocols in [&["h2", "http/1.1"][..], &["http/1.1"], &[]] {
        let tls = Tls::start(protocols).await;
        let client = Client::trusting(OPTIONS, Clock::manual(START), &[tls.root()]).unwrap();
        let (result, _) = Case::new(&tls.url()).call(&client).await;
        assert_eq!(result.unwrap().body, "HTTP/1.1", "{protocols:?}");
        assert_eq!(tls.connections(), 1, "{protocols:?}");
    }
}

#[tokio::test]
async fn an_unknown_certificate_is_named_and_not_tried_again_at_once() {
    for protocols in [&["h2"][..], &["http/1.1"]] {
        let tls = Tls::start(protocols).await;
        let (result, tries) = Case::new(&tls.url()).repeat_ambiguous(false).call(&client(OPTIONS)).await;
        assert_eq!((result, tries.len()), (Err(Failure::Certificate), 1), "{protocols:?}");
    }
}

// === secrets ===

#[tokio::test]
async fn the_login_of_a_base_url_is_sent() {
    let server = Server::start([Act::answer(200, "", "{}")]).await;
    let url = format!("http://proxy%40user:p4ss@{}/x?org_token={TOKEN}", server.address);
    Case::new(&url).call(&client(OPTIONS)).await.0.unwrap();
    let requests = server.requests();
    assert_eq!(requests[0].header("authorization"), Some("Basic cHJveHlAdXNlcjpwNHNz"));
    assert_eq!(requests[0].line(), format!("POST /x?org_token={TOKEN} HTTP/1.1"));
}

/// Implemented for every type once, and for every type with `Debug` twice: then the compiler cannot choose.
trait NotDebug<A> {
    const HOLDS: bool = true;
}
impl<T: ?Sized> NotDebug<()> for T {}
impl<T: ?Sized + fmt::Debug> NotDebug<u8> for T {}

#[tokio::test]
async fn nothing_that_prints_holds_a_token() {
    const { assert!(<Outgoing as NotDebug<_>>::HOLDS) };
    let server = Server::start([Act::answer(401, "", &format!("bad token {TOKEN}")), Act::Reset]).await;
    let client = client(Options { quick_retries: 0, ..OPTIONS });
    for _ in 0..2 {
        let case = Case::to(server.address);
        let tries = Arc::clone(&case.outgoing.tries);
        let result = client.call(case.outgoing).await;
        let printed = format!("{result:?} {result:#?} {tries:?} {client:?}");
        assert!(!printed.contains(TOKEN), "{printed}");
        let printed = result.err().map(|failure| format!("{failure} {:?}", failure.source()));
        assert!(printed.is_none_or(|printed| !printed.contains(TOKEN)));
    }
}

// === against the sandbox ===

#[tokio::test]
async fn the_sandbox_and_the_stack_agree() {
    let config = sandbox::Config {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        keep_bytes: ByteSize::mib(1),
        ..sandbox::Config::default()
    };
    let sandbox = Sandbox::bind(&config, Clock::manual(START)).await.unwrap();
    let (address, handle) = (sandbox.local_addr(), sandbox.handle());
    let mut tasks = JoinSet::new();
    tasks.spawn(sandbox.run(CancellationToken::new()));

    let effect = |effect| Rule { effect: Some(effect), ..Rule::default() };
    let status = |status| Rule { status: Some(status), ..Rule::default() };
    let next = |next, rule| Rule { next: Some(next), ..rule };
    let (broken, timed_out) = (Err(Failure::Broken), Err(Failure::TimedOut));
    for (rules, expected) in [
        (vec![], vec![Ok(200)]),
        (vec![next(1, status(503))], vec![Ok(503), Ok(200)]),
        (vec![next(1, effect(Effect::Reset)), next(1, status(502))], vec![broken, Ok(502), Ok(200)]),
        (vec![effect(Effect::Reset)], vec![broken; 3]),
        (vec![effect(Effect::HalfBody)], vec![Ok(200)]),
        (vec![next(1, effect(Effect::ResetAfterRecord))], vec![broken, Ok(200)]),
        (vec![effect(Effect::Never)], vec![timed_out]),
    ] {
        handle.clear();
        handle.set_faults(rules.clone()).unwrap();
        let client = client(Options { timeout: Duration::from_millis(500), ..OPTIONS });
        let (_, tries) = Case::to(address).call(&client).await;
        assert_eq!(tries, expected, "{rules:?}");
        let calls = handle.calls(&sandbox::Filter::default());
        assert_eq!(calls.len(), expected.len(), "{rules:?}");
        assert!(calls.iter().all(|call| call.idempotency_key.as_deref() == Some("0123-7-event/buy")));
    }
}
