//! The private side of a running service, as commands reach it.

#![expect(clippy::indexing_slicing, reason = "of a field that is missing, `serde_json::Value` says null")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use url::Url;

use super::table::{Column, Table};
use super::{Failure, Files, complain, reachable, say};
use crate::secret::Secret;
use crate::settings::{self, AdminVariables, Settings};

/// Entries that one request asks for.
pub(super) const STEP: usize = 1_000;

/// A list that comes page by page, newest first.
pub(super) struct Listing<T: 'static> {
    /// Where it is.
    pub(super) path: &'static str,
    /// The member of an answer that holds the entries.
    pub(super) member: &'static str,
    pub(super) columns: &'static [Column<T>],
    /// What is said if there is nothing.
    pub(super) none: &'static str,
    /// What stands below all entries.
    pub(super) legend: Option<fn(&[T]) -> String>,
}

/// A part of a list: its members, not parsed.
type Page = BTreeMap<String, Box<RawValue>>;

impl<T: DeserializeOwned> Listing<T> {
    /// Shows at most `limit` entries, as lines or as the JSON that the service has sent.
    pub(super) async fn show(
        &self,
        service: &Connection,
        mut query: Value,
        limit: usize,
        json: bool,
    ) -> Result<(), Failure> {
        let (mut left, mut shown) = (limit, 0_usize);
        let (mut table, mut all) = (Table::new(self.columns), Vec::new());
        while left > 0 {
            query["limit"] = json!(left.min(STEP));
            let page: Page = parse(&read_text(service.get(self.path, &query).await?).await?)?;
            let entries = page.get(self.member).map_or("[]", |entries| entries.get());
            let entries: Vec<Box<RawValue>> = parse(entries)?;
            if json {
                let lines = entries.iter().map(|entry| format!("{entry}\n"));
                say(&lines.collect::<String>());
            } else {
                let read = entries.iter().map(|entry| parse(entry.get())).collect::<Result<Vec<T>, _>>()?;
                say(&table.lines(&read));
                all.extend(self.legend.map(|_| read).into_iter().flatten());
            }
            (left, shown) = (left.saturating_sub(entries.len()), shown + entries.len());
            let cursor = page.get("cursor").map_or(Ok(Value::Null), |cursor| parse(cursor.get()))?;
            if cursor.is_null() {
                break;
            }
            query["cursor"] = cursor;
        }
        if !json {
            if let Some(legend) = self.legend {
                say(&legend(&all));
            }
            match (shown, left) {
                (0, _) => complain(self.none),
                (_, 0) => complain(&format!("the newest {shown}; --limit shows more")),
                _ => {}
            }
        }
        Ok(())
    }
}

/// How long one step may take.
const PATIENCE: Duration = Duration::from_mins(2);

const TOKEN_FILE: &str = "The file with a token of the admin API [env: WIGZO_ADMIN_TOKEN_FILE, or WIGZO_ADMIN_TOKEN for a \
                          token itself] [default: the configured one]";

/// Where the service is.
#[derive(Debug, Args)]
pub(super) struct Service {
    #[command(flatten)]
    pub(super) files: Files,
    // Not clap's own `env`: an empty variable, as compose files pass it, counts as not set.
    #[arg(long, help = "The address of the admin API [env: WIGZO_ADMIN_URL] [default: the configured one]")]
    url: Option<Url>,
    #[arg(long, value_name = "FILE", help = TOKEN_FILE)]
    token_file: Option<PathBuf>,
}

/// A way to the private side.
pub(super) struct Connection {
    client: reqwest::Client,
    base: Url,
    token: Option<Secret>,
}

/// What somebody can do who has asked the wrong address.
const REMEDY: &str = "--url or the variable WIGZO_ADMIN_URL names another address";

impl Service {
    /// Whether an address is named, and not only configured.
    pub(super) fn is_named(&self) -> bool {
        self.url.is_some() || AdminVariables::of(&settings::environment()).url.is_some()
    }

    /// A way to the service that is meant.
    pub(super) fn connect(&self) -> Result<Connection, Failure> {
        let variables = AdminVariables::of(&settings::environment());
        let base = match (&self.url, variables.url) {
            (Some(url), _) => Some(url.clone()),
            (None, Some(text)) => {
                let url = text.parse();
                // The text is not repeated: a URL may hold a password.
                Some(url.map_err(|error| Failure::usage(format!("WIGZO_ADMIN_URL is no URL: {error}")))?)
            }
            (None, None) => None,
        };
        let token = match (&self.token_file, variables.token, variables.token_file) {
            (Some(file), _, _) => Some(read_token(file)?),
            (None, Some(token), _) => Some(token),
            (None, None, Some(file)) => Some(read_token(&file)?),
            (None, None, None) => None,
        };
        let (base, token) = match (base, token) {
            // Such a service need not be configured here.
            (Some(base), Some(token)) => (base, Some(token)),
            (base, token) => {
                let admin = self.files.load()?.admin;
                let configured = || format!("http://{}", reachable(admin.listen)).parse();
                let base = base.map_or_else(configured, Ok).map_err(Failure::usage)?;
                let file = Some(admin.token_file).filter(|file| !file.is_empty() && token.is_none());
                let from_file = file.map(|file| read_token(Path::new(&file))).transpose()?;
                (base, token.or(from_file))
            }
        };
        Connection::new(base, token, PATIENCE)
    }
}

fn read_token(file: &Path) -> Result<Secret, Failure> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    Ok(Secret::new(text.trim()))
}

impl Connection {
    /// A way to the service that these settings are for.
    pub(super) fn to_service_of(settings: &Settings, patience: Duration) -> Result<Self, Failure> {
        let base = format!("http://{}", reachable(settings.admin.listen)).parse().map_err(Failure::usage)?;
        let file = &settings.admin.token_file;
        let token = if file.is_empty() { None } else { Some(read_token(Path::new(file))?) };
        Self::new(base, token, patience)
    }

    fn new(base: Url, token: Option<Secret>, patience: Duration) -> Result<Self, Failure> {
        #[expect(
            clippy::disallowed_methods,
            reason = "it talks to the private side of our own service, not to Wigzo"
        )]
        let client = reqwest::Client::builder()
            // The token is for this address only.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(patience)
            .build()
            .map_err(Failure::running)?;
        Ok(Self { client, base, token })
    }

    /// Asks for something.
    pub(super) async fn get(&self, path: &str, query: &Value) -> Result<reqwest::Response, Failure> {
        let mut url = self.url(path)?;
        for (name, value) in query.as_object().into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            url.query_pairs_mut().append_pair(name, &value);
        }
        self.send(self.client.get(url)).await
    }

    /// Changes something.
    pub(super) async fn post(&self, path: &str, body: Vec<u8>) -> Result<Value, Failure> {
        self.post_as("application/json", path, body).await
    }

    /// Sends lines of JSON.
    pub(super) async fn post_lines(&self, path: &str, body: Vec<u8>) -> Result<Value, Failure> {
        self.post_as("application/x-ndjson", path, body).await
    }

    async fn post_as(&self, media_type: &str, path: &str, body: Vec<u8>) -> Result<Value, Failure> {
        let request = self.client.post(self.url(path)?).header(CONTENT_TYPE, media_type);
        read_json(self.send(request.body(body)).await?).await
    }

    fn url(&self, path: &str) -> Result<Url, Failure> {
        self.base.join(path).map_err(Failure::usage)
    }

    /// Sends a request; any answer but 200 is a failure with what the service said.
    async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, Failure> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        };
        let failed = |error| Failure::running(unreachable(&self.base, &error, REMEDY));
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        if status == http::StatusCode::OK {
            return Ok(response);
        }
        let body = response.text().await.unwrap_or_default();
        let refusal = serde_json::from_str::<Value>(&body).unwrap_or_default();
        let said = |field: &str| refusal[field].as_str().unwrap_or_default();
        let answered = format!("{} answered {status}", self.base);
        Err(match said("code") {
            "bad_parameter" | "bad_body" => Failure::usage(in_flags(said("message"))),
            "unauthorized" if self.token.is_some() => {
                Failure::running(format!("{answered}: it does not know this token; {TOKEN}"))
            }
            "unauthorized" => Failure::running(format!("{answered}: it asks for a token; {TOKEN}")),
            "unknown_dead_letter" => Failure::running(
                "There is no dead letter of this number. `events show NUMBER` shows where the event is now.",
            ),
            "unknown_organization" => {
                Failure::running("No organization has this name. `delivery list` shows those that there are.")
            }
            "not_waiting" => Failure::running(
                said("message").replace("/api/dead-letters/replay sends", "`dead-letters replay` sends"),
            ),
            "unknown_path" => Failure::running(format!(
                "{answered}: this is not the admin API of the service, or one of an older version; {REMEDY}"
            )),
            "" => Failure::running(format!("{answered}: this is not the admin API of the service; {REMEDY}")),
            _ => Failure::running(format!("{answered}: {}", said("message"))),
        })
    }
}

/// How a token is given.
const TOKEN: &str =
    "give one with --token-file, or with the variable WIGZO_ADMIN_TOKEN or WIGZO_ADMIN_TOKEN_FILE";

/// A refusal of the API in the words of the command line: fields are flags here.
fn in_flags(message: &str) -> String {
    let is_field =
        |word: &str| !word.is_empty() && word.bytes().all(|it| it.is_ascii_lowercase() || it == b'_');
    let flag = |word: &str| format!("--{}", word.replace('_', "-"));
    if let Some((field, rest)) = message.split_once(": ").filter(|(field, _)| is_field(field)) {
        return format!("{}: {rest}", flag(field));
    }
    // Text outside of a pair of backticks comes first, then in turn.
    let parts = message.split('`').enumerate();
    parts
        .map(|(at, part)| match (at % 2, is_field(part)) {
            (0, _) => part.to_owned(),
            (_, true) => flag(part),
            (_, false) => format!("`{part}`"),
        })
        .collect()
}

/// The last in a chain of errors: those before it only name layers.
fn cause(error: &(dyn Error + 'static)) -> String {
    let last = std::iter::successors(Some(error), |&error| error.source()).last();
    last.map(ToString::to_string).unwrap_or_default()
}

/// Why there was no answer, and what to do about it.
pub(super) fn unreachable(address: &impl Display, error: &(dyn Error + 'static), remedy: &str) -> String {
    let errors = || std::iter::successors(Some(error), |&error| error.source());
    let cause = cause(error);
    let kind = errors().find_map(|error| error.downcast_ref::<io::Error>()).map(io::Error::kind);
    let is_time_out = matches!(kind, Some(ErrorKind::TimedOut | ErrorKind::WouldBlock))
        || errors().any(|it| it.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_timeout));
    let is = |word: &str| errors().any(|error| error.to_string().to_lowercase().contains(word));
    let question = if is("dns error") || is("lookup address") {
        "is the name right?"
    } else if is_time_out {
        "is a firewall in the way, or is the service overloaded?"
    } else if kind == Some(ErrorKind::ConnectionRefused) {
        "is the service running?"
    } else if errors().any(has_tls) || is("certificate") {
        "is its certificate valid for this name, and is it https?"
    } else {
        "is this the address of the service?"
    };
    let cause = if is_time_out { format!("no answer in time ({cause})") } else { cause };
    format!("{address}: {cause}: {question} {remedy}")
}

/// Whether the encryption is what failed. What an `io::Error` wraps is not among its sources.
fn has_tls(error: &(dyn Error + 'static)) -> bool {
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    error.is::<rustls::Error>() || wrapped.is_some_and(|wrapped| has_tls(wrapped))
}

/// An answer that did not come to its end.
pub(super) fn broke_off(error: &reqwest::Error) -> Failure {
    Failure::running(format!(
        "the answer broke off: {}: did the service end, or is a proxy in the way?",
        cause(error)
    ))
}

/// An answer as it was sent.
pub(super) async fn read_text(response: reqwest::Response) -> Result<String, Failure> {
    response.text().await.map_err(|error| broke_off(&error))
}

/// An answer that should be JSON, without a number of a sender's in it: those may be larger or more exact than ours.
pub(super) async fn read_json(response: reqwest::Response) -> Result<Value, Failure> {
    parse(&read_text(response).await?)
}

/// Reads what a service has said.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    serde_json::from_str(text)
        .map_err(|_| Failure::running(format!("the answer is not JSON: is this the admin API? {REMEDY}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_speak_of_flags() {
        for (message, expected) in [
            ("message_id: expected text.", "--message-id: expected text."),
            ("Say in `why`, in 1 to 500 characters, why.", "Say in --why, in 1 to 500 characters, why."),
            ("`repeat_done` is for replaying.", "--repeat-done is for replaying."),
            ("Send `Content-Type: a/b`, `why`.", "Send `Content-Type: a/b`, --why."),
            ("At most 1000 numbers at a time.", "At most 1000 numbers at a time."),
        ] {
            assert_eq!(in_flags(message), expected);
        }
    }

    #[test]
    fn each_cause_has_its_remedy() {
        let io = |kind, text: &str| io::Error::new(kind, text.to_owned());
        // A connector wraps the error of the encryption twice.
        let tls = io::Error::other(io::Error::new(
            ErrorKind::InvalidData,
            rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer),
        ));
        for (error, expected) in [
            (
                io(ErrorKind::ConnectionRefused, "Connection refused"),
                "Connection refused: is the service running?",
            ),
            (io(ErrorKind::TimedOut, "timed out"), "no answer in time (timed out): is a firewall in the way"),
            (
                io(ErrorKind::WouldBlock, "os error 11"),
                "no answer in time (os error 11): is a firewall in the way",
            ),
            (
                io(ErrorKind::Other, "failed to lookup address information: no such name"),
                "failed to lookup address information: no such name: is the name right?",
            ),
            (tls, "invalid peer certificate: UnknownIssuer: is its certificate valid for this name"),
            (io(ErrorKind::InvalidData, "invalid HTTP"), "invalid HTTP: is this the address of the service?"),
        ] {
            let said = unreachable(&"http://127.0.0.1:9090", &error, REMEDY);
            assert!(said.starts_with(&format!("http://127.0.0.1:9090: {expected}")), "{said}");
            assert!(said.ends_with(REMEDY), "{said}");
        }
    }
}
