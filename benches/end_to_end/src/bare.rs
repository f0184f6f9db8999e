//! The bare program: the least that takes an event, keeps it before it answers, and forwards it. What remains between
//! it and the service is the price of everything else: validation, translation, deduplication, order, retries,
//! metrics, records. It does none of that, and loses its backlog's order and its retries; it is a limit, not a rival.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, mpsc};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use rusqlite::{Connection, params};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{Semaphore, oneshot};

/// Calls in flight.
const IN_FLIGHT: usize = 128;

enum Command {
    Append(Vec<Event>, oneshot::Sender<()>),
    Delivered(i64),
}

struct Event {
    payload: Box<str>,
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    batch: Vec<&'a RawValue>,
}

/// What is looked at; everything is borrowed from the request.
#[derive(Deserialize)]
struct Parsed<'a> {
    #[serde(borrow, rename = "userId")]
    user_id: &'a str,
    #[serde(borrow)]
    event: &'a str,
    #[serde(borrow)]
    properties: &'a RawValue,
}

/// Serves until it is killed.
pub async fn serve(
    listen: SocketAddr,
    target: SocketAddr,
    directory: &Path,
) -> Result<(), Box<dyn std::error::Error>> {
    let (fresh, handed_over) = tokio::sync::mpsc::unbounded_channel();
    let (commands, inbox) = mpsc::channel();
    let connection = open(directory)?;
    std::thread::spawn(move || write(connection, &inbox, &fresh).expect("the disk of a benchmark works"));
    tokio::spawn(deliver(handed_over, target, commands.clone()));
    let router =
        Router::new().route("/v1/track", post(single)).route("/v1/batch", post(batch)).with_state(commands);
    axum::serve(tokio::net::TcpListener::bind(listen).await?, router).await?;
    Ok(())
}

async fn single(State(commands): State<mpsc::Sender<Command>>, body: Bytes) -> StatusCode {
    let Ok(text) = std::str::from_utf8(&body) else { return StatusCode::BAD_REQUEST };
    if serde_json::from_str::<Parsed<'_>>(text).is_err() {
        return StatusCode::BAD_REQUEST;
    }
    keep(&commands, vec![Event { payload: text.into() }]).await
}

async fn batch(State(commands): State<mpsc::Sender<Command>>, body: Bytes) -> StatusCode {
    let Ok(batch) = serde_json::from_slice::<Batch<'_>>(&body) else { return StatusCode::BAD_REQUEST };
    if batch.batch.iter().any(|event| serde_json::from_str::<Parsed<'_>>(event.get()).is_err()) {
        return StatusCode::BAD_REQUEST;
    }
    keep(&commands, batch.batch.iter().map(|event| Event { payload: event.get().into() }).collect()).await
}

async fn keep(commands: &mpsc::Sender<Command>, events: Vec<Event>) -> StatusCode {
    let (reply, kept) = oneshot::channel();
    if commands.send(Command::Append(events, reply)).is_err() || kept.await.is_err() {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    StatusCode::OK
}

fn open(directory: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(directory.join("bare.sqlite"))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 4_000)?;
    connection.execute_batch("CREATE TABLE waiting (seq INTEGER PRIMARY KEY, payload TEXT NOT NULL)")?;
    Ok(connection)
}

/// One transaction a group: what has gathered while the last one was synced.
fn write(
    mut connection: Connection,
    inbox: &mpsc::Receiver<Command>,
    fresh: &tokio::sync::mpsc::UnboundedSender<(i64, Event)>,
) -> rusqlite::Result<()> {
    let (mut replies, mut kept) = (Vec::new(), Vec::new());
    while let Ok(first) = inbox.recv() {
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO waiting (payload) VALUES (?)")?;
            let mut delete = transaction.prepare_cached("DELETE FROM waiting WHERE seq = ?")?;
            for command in std::iter::once(first).chain(inbox.try_iter().take(4_096)) {
                match command {
                    Command::Append(events, reply) => {
                        for event in events {
                            let seq = insert.insert(params![&*event.payload])?;
                            kept.push((seq, event));
                        }
                        replies.push(reply);
                    }
                    Command::Delivered(seq) => {
                        delete.execute([seq])?;
                    }
                }
            }
        }
        transaction.commit()?;
        for reply in replies.drain(..) {
            // A sender that has gone away does not want to know.
            let _ = reply.send(());
        }
        for envelope in kept.drain(..) {
            let _ = fresh.send(envelope);
        }
    }
    Ok(())
}

async fn deliver(
    mut handed_over: tokio::sync::mpsc::UnboundedReceiver<(i64, Event)>,
    target: SocketAddr,
    commands: mpsc::Sender<Command>,
) {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client without TLS");
    let url = format!("http://{target}/rest/v1/learn/event?org_token=made-up-org-token");
    let url: Arc<reqwest::Url> = Arc::new(url.parse().expect("a URL"));
    let in_flight = Arc::new(Semaphore::new(IN_FLIGHT));
    while let Some((seq, event)) = handed_over.recv().await {
        let place = Arc::clone(&in_flight).acquire_owned().await.expect("it is never closed");
        let (client, url, commands) = (client.clone(), Arc::clone(&url), commands.clone());
        tokio::spawn(async move {
            let body = {
                let parsed: Parsed<'_> = serde_json::from_str(&event.payload).expect("it was parsed before");
                format!(
                    r#"{{"eventName":"{}","eventval":{},"eventCategory":"EXTERNAL","userId":"{}","is_active":true,"source":"web"}}"#,
                    parsed.event, parsed.properties, parsed.user_id
                )
            };
            let request = client.post((*url).clone()).header("content-type", "application/json").body(body);
            let answered = match request.send().await {
                Ok(answer) if answer.status().is_success() => answer.bytes().await.is_ok(),
                _ => false,
            };
            drop(place);
            assert!(answered, "the stand-in of a benchmark answers");
            let _ = commands.send(Command::Delivered(seq));
        });
    }
}
