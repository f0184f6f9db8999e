//! The private side of a running service, as commands reach it.

#![expect(clippy::indexing_slicing, reason = "of a field that is missing, `serde_json::Value` says null")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::table::{Column, Table};
use super::{Failure, Files, complain, reachable, say};
use crate::settings::Settings;

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

/// Where the service is.
#[derive(Debug, Args)]
pub(super) struct Service {
    #[command(flatten)]
    pub(super) files: Files,
    /// The private side of the service, instead of the configured one
    #[arg(long)]
    pub(super) url: Option<url::Url>,
    /// The file with the private side's token, instead of the configured one
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// A way to the private side.
pub(super) struct Connection {
    client: reqwest::Client,
    base: url::Url,
    token: Option<String>,
}

impl Service {
    /// A way to the service that is meant.
    pub(super) fn connect(&self) -> Result<Connection, Failure> {
        let settings = self.files.load()?;
        let base = match &self.url {
            Some(url) => url.clone(),
            None => format!("http://{}", reachable(settings.admin.listen)).parse().map_err(Failure::usage)?,
        };
        let configured = Some(settings.admin.token_file).filter(|file| !file.is_empty()).map(PathBuf::from);
        let token = self.token_file.clone().or(configured).map(|file| read_token(&file)).transpose()?;
        Connection::new(base, token, PATIENCE)
    }
}

fn read_token(file: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    Ok(text.trim().to_owned())
}

impl Connection {
    /// A way to the service that these settings are for.
    pub(super) fn to_service_of(settings: &Settings, patience: Duration) -> Result<Self, Failure> {
        let base = format!("http://{}", reachable(settings.admin.listen)).parse().map_err(Failure::usage)?;
        let file = &settings.admin.token_file;
        let token = if file.is_empty() { None } else { Some(read_token(Path::new(file))?) };
        Self::new(base, token, patience)
    }

    fn new(base: url::Url, token: Option<String>, patience: Duration) -> Result<Self, Failure> {
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

    fn url(&self, path: &str) -> Result<url::Url, Failure> {
        self.base.join(path).map_err(Failure::usage)
    }

    /// Sends a request; any answer but 200 is a failure with what the service said.
    async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, Failure> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let response = request.send().await.map_err(|error| {
            let cause =
                std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            Failure::running(format!(
                "{}: {cause}: is the service running, and is this its private side?",
                self.base
            ))
        })?;
        let status = response.status();
        if status == http::StatusCode::OK {
            return Ok(response);
        }
        let body = response.text().await.unwrap_or_default();
        let said = serde_json::from_str::<Value>(&body).ok();
        let said = said.as_ref().and_then(|said| said["message"].as_str()).unwrap_or("no more was said");
        let hint = if status == http::StatusCode::UNAUTHORIZED { " (--token-file)" } else { "" };
        let failure = format!("{} answered {status}: {said}{hint}", self.base);
        Err(if status == http::StatusCode::BAD_REQUEST {
            Failure::usage(failure)
        } else {
            Failure::running(failure)
        })
    }
}

/// An answer as it was sent.
pub(super) async fn read_text(response: reqwest::Response) -> Result<String, Failure> {
    response.text().await.map_err(Failure::running)
}

/// An answer that should be JSON, without a number of a sender's in it: those may be larger or more exact than ours.
pub(super) async fn read_json(response: reqwest::Response) -> Result<Value, Failure> {
    parse(&read_text(response).await?)
}

/// Reads what a service has said.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    serde_json::from_str(text)
        .map_err(|_| Failure::running("the answer is not JSON: is this the private side?"))
}
