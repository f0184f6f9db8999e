//! A queue as lines of JSON: what an export writes and an import reads.
//!
//! The first line is a [`Header`], the last an [`End`] with the digest of all before it; between them stand events and
//! remembered keys. An import reads a file to its end before it takes the first event: of a file that was cut off or
//! changed nothing is imported.
//!
//! Text in text: an event stands in `payload` as a string, because its bytes must not change. Nothing is masked, since
//! the events are to be delivered from elsewhere: an export is as secret as the queue's directory.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read, Write};

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Deserializer, Serialize};

use super::{Attempt, DedupKey, Place, QueueError, SourceRoute};
use crate::clock::UnixMillis;
use crate::outcome::{Outcome, Reason};

/// The format that is written, and the only one that is read.
pub const FORMAT: u32 = 1;

/// The longest line that is read: an event's cap of bytes, escaped, and its attempts fit into it.
pub const MAX_LINE: u64 = 32 << 20;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum Line {
    /// The first.
    Export(Header),
    /// Keys of events that are not in the export, for deduplication.
    Keys(Keys),
    /// An event.
    Event(Box<Carried>),
    /// The last.
    End(End),
}

/// What an export says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// See [`FORMAT`].
    pub format: u32,
    /// What a queue remembers an import by: a UUID.
    pub export: String,
    /// When it was made.
    pub made_at: UnixMillis,
    /// Whether the queue that it comes from was closed for good: then nobody else delivers what waits.
    pub sealed: bool,
    /// Whether the records of ended events are in it.
    pub history: bool,
    /// Waiting events and dead letters by organization.
    pub organizations: BTreeMap<String, Held>,
}

/// What an export holds of an organization.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Events without an outcome, parked ones included.
    pub waiting: u64,
    /// Dead letters.
    pub dead: u64,
}

/// Remembered keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// The keys.
    pub keys: Vec<DedupKey>,
}

/// An event as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// Where it stands.
    pub place: Place,
    /// The number that it had; it gets a new one.
    pub number: u64,
    /// Its organization.
    pub organization: String,
    /// The family of routes it came by.
    pub route: String,
    /// Its message id.
    pub message_id: String,
    /// Its person.
    pub person: String,
    /// Its type.
    pub kind: String,
    /// Its name.
    pub title: String,
    /// When it arrived.
    pub received_at: UnixMillis,
    /// Its key, while it is remembered.
    pub key: Option<DedupKey>,
    /// Failed rounds of work.
    pub tries: u32,
    /// How many of them were soft failures.
    pub soft_failures: u32,
    /// When the first of them ended.
    pub first_failed_at: Option<UnixMillis>,
    /// Not to be worked before this time.
    pub due: Option<UnixMillis>,
    /// Calls that Wigzo has taken.
    pub calls_done: String,
    /// How often it was replayed.
    pub replays: u32,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Why it stands where it does.
    pub reason: Option<Reason>,
    /// What the reason leaves open.
    pub detail: Option<String>,
    /// When it ended.
    pub ended_at: Option<UnixMillis>,
    /// The event's bytes; absent in a one-line record.
    pub payload: Option<String>,
    /// What stood around it.
    pub surroundings: Option<String>,
    /// Its newest attempts, oldest first.
    pub attempts: Vec<Attempt>,
}

/// How an export ends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Lines before this one.
    pub lines: u64,
    /// SHA-256 of those lines, with their ends, in hex.
    pub sha256: String,
}

impl Carried {
    /// About how many bytes its record takes.
    pub fn size(&self) -> u64 {
        let text = [&self.payload, &self.surroundings].into_iter().flatten().map(String::len).sum::<usize>();
        let attempts = self.attempts.iter().map(Attempt::size).sum::<usize>();
        (200 + text + attempts) as u64
    }

    /// The key that it is known by here. One that its queue had forgotten gets a key of its own, which no sender's
    /// repeat will ever have.
    pub fn key_in(&self, export: &str) -> DedupKey {
        let made_up = || {
            let source = format!("import {export} {}", self.number);
            DedupKey::new(&self.organization, SourceRoute::new(&source), &self.message_id)
        };
        self.key.unwrap_or_else(made_up)
    }
}

// === taking it in ===

/// A part of an export on its way into a queue.
#[derive(Debug, Clone)]
pub struct Part {
    /// [`Header::export`].
    pub export: String,
    /// Lines of the export that were taken before: the part begins behind them.
    pub from: u64,
    /// The lines.
    pub lines: Vec<Line>,
}

/// How far an import has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(rename = "QueueImported")]
pub struct Imported {
    /// Lines of the export that this queue has taken, in all.
    pub lines: u64,
    /// Events of this part that are in the queue now.
    pub accepted: u64,
    /// Events of this part that the queue knew already and left out.
    pub duplicates: u64,
}

/// Why a part was not taken. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It is not the next one: it was taken before, or one is missing.
    #[error("lines of this export that have been imported here: {taken}; go on behind them")]
    NotNext {
        /// Lines that were taken before.
        taken: u64,
    },
    /// `queue.max_disk` is reached.
    #[error("the queue has reached its disk limit (queue.max_disk): raise it, or wait until there is room")]
    Full,
    /// The queue cannot be written.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

// === writing and reading lines ===

/// Writes lines, and knows their digest.
pub struct LineWriter<W> {
    out: W,
    digest: Context,
    lines: u64,
}

impl<W: Write> LineWriter<W> {
    /// Lines to this writer.
    pub fn new(out: W) -> Self {
        Self { out, digest: Context::new(&SHA256), lines: 0 }
    }

    /// Writes one line.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.digest.update(&text);
        self.lines += 1;
        self.out.write_all(&text)
    }

    /// Writes the last line; how many there are before it, and the writer.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn end(mut self) -> io::Result<(u64, W)> {
        let end = Line::End(End { lines: self.lines, sha256: hex(self.digest.clone().finish().as_ref()) });
        let lines = self.lines;
        self.write(&end)?;
        self.out.flush()?;
        Ok((lines, self.out))
    }
}

/// What is wrong with an export.
#[derive(Debug, thiserror::Error)]
pub enum Flaw {
    /// It cannot be read.
    #[error("line {line}: {error}")]
    Read {
        /// Which line, from 1.
        line: u64,
        /// The system's word.
        error: io::Error,
    },
    /// A line is none of an export's. It is not quoted: it may hold personal data.
    #[error("line {line} is not a line of an export (column {column})")]
    Line {
        /// Which line, from 1.
        line: u64,
        /// Where in it.
        column: usize,
    },
    /// Its format is another.
    #[error(
        "its format is {found}, and this program reads {FORMAT}: import it with the version that wrote it"
    )]
    Format {
        /// The format found.
        found: u32,
    },
    /// It does not begin with a header.
    #[error("it does not begin as an export does")]
    NoHeader,
    /// It was cut off.
    #[error("it has no end: it was cut off, or the export was not finished")]
    NoEnd,
    /// It is not what was written.
    #[error("it was changed after it was written")]
    Changed,
}

/// What a whole export says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Its first line.
    pub header: Header,
    /// How many lines there are before the last.
    pub lines: u64,
    /// Events in it.
    pub events: u64,
}

/// Reads an export to its end.
///
/// # Errors
/// What is wrong with it.
pub fn check(input: impl BufRead) -> Result<Checked, Flaw> {
    let mut lines = LineReader::new(input);
    let Some(Line::Export(header)) = lines.next()? else { return Err(Flaw::NoHeader) };
    let mut events = 0;
    loop {
        let before = (lines.count, lines.digest.clone());
        match lines.next()? {
            Some(Line::Event(_)) => events += 1,
            Some(Line::Keys(_)) => {}
            Some(Line::Export(_)) => return Err(Flaw::Changed),
            None => return Err(Flaw::NoEnd),
            Some(Line::End(end)) => {
                let (count, digest) = before;
                let is_whole = end.lines == count && end.sha256 == hex(digest.finish().as_ref());
                if !is_whole || lines.next()?.is_some() {
                    return Err(Flaw::Changed);
                }
                return Ok(Checked { header, lines: count, events });
            }
        }
    }
}

/// Reads lines, and knows their digest.
pub struct LineReader<R> {
    input: R,
    digest: Context,
    count: u64,
    text: Vec<u8>,
}

impl<R: BufRead> LineReader<R> {
    /// Lines of this input.
    pub fn new(input: R) -> Self {
        Self { input, digest: Context::new(&SHA256), count: 0, text: Vec::new() }
    }

    /// The next line; `None` at the end of the input.
    ///
    /// # Errors
    /// When it cannot be read, or is none of an export's.
    #[expect(clippy::should_implement_trait, reason = "an error is not an item that more items follow")]
    pub fn next(&mut self) -> Result<Option<Line>, Flaw> {
        if !self.skip()? {
            return Ok(None);
        }
        let line = self.count;
        let read = serde_json::from_slice(&self.text);
        let read: Line = read.map_err(|error| Flaw::Line { line, column: error.column() })?;
        match &read {
            Line::Export(header) if header.format != FORMAT => Err(Flaw::Format { found: header.format }),
            _ => Ok(Some(read)),
        }
    }

    /// Passes over a line; whether there was one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn skip(&mut self) -> Result<bool, Flaw> {
        self.text.clear();
        let line = self.count + 1;
        let failed = |error| Flaw::Read { line, error };
        let read = self.input.by_ref().take(MAX_LINE).read_until(b'\n', &mut self.text).map_err(failed)?;
        if read == 0 {
            return Ok(false);
        }
        if self.text.last() != Some(&b'\n') {
            return Err(if (read as u64) < MAX_LINE {
                Flaw::NoEnd
            } else {
                Flaw::Line { line, column: read }
            });
        }
        self.digest.update(&self.text);
        self.count = line;
        Ok(true)
    }

    /// How many bytes the line had that was read last.
    pub fn size(&self) -> usize {
        self.text.len()
    }
}

// === text forms ===

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("BUG: a String takes everything");
        text
    })
}

impl Serialize for DedupKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for DedupKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16)
            .ok()
            .filter(|_| text.len() == 32)
            .map(|key| Self(key.to_be_bytes()))
            .ok_or_else(|| serde::de::Error::custom("a key has 32 hex digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            format: FORMAT,
            export: "8f14e45f-ceea-467f-a8d2-000000000000".to_owned(),
            made_at: UnixMillis(1_800_000_000_123),
            sealed: true,
            history: false,
            organizations: BTreeMap::from([("acme".to_owned(), Held { waiting: 1, dead: 0 })]),
        }
    }

    fn event() -> Carried {
        Carried {
            place: Place::Waiting,
            number: 7,
            organization: "acme".to_owned(),
            route: "v1".to_owned(),
            message_id: "m-1".to_owned(),
            person: "user-42".to_owned(),
            kind: "track".to_owned(),
            title: "A \"title\"".to_owned(),
            received_at: UnixMillis(1_800_000_000_001),
            key: Some(DedupKey::new("acme", SourceRoute::new("/v1"), "m-1")),
            tries: 1,
            soft_failures: 0,
            first_failed_at: Some(UnixMillis(1_800_000_000_002)),
            due: None,
            calls_done: "identify".to_owned(),
            replays: 0,
            outcome: None,
            reason: Some(Reason::TimedOut),
            detail: None,
            ended_at: None,
            payload: Some("{\"a\":1.00,\n \"a\":9007199254740993}".to_owned()),
            surroundings: Some(String::new()),
            attempts: vec![Attempt {
                at: UnixMillis(1),
                call: "event/buy".to_owned(),
                status: None,
                duration_ms: 3,
                reason: Reason::TimedOut,
                request: "POST".to_owned(),
                response: String::new(),
            }],
        }
    }

    fn export() -> Vec<u8> {
        let mut lines = LineWriter::new(Vec::new());
        lines.write(&Line::Export(header())).unwrap();
        lines.write(&Line::Event(Box::new(event()))).unwrap();
        lines
            .write(&Line::Keys(Keys { keys: vec![DedupKey::new("acme", SourceRoute::new("/v1"), "m-0")] }))
            .unwrap();
        lines.end().unwrap().1
    }

    #[test]
    fn what_is_written_is_read_again() {
        let export = export();
        let checked = check(export.as_slice()).unwrap();
        assert_eq!(checked, Checked { header: header(), lines: 3, events: 1 });
        let mut lines = LineReader::new(export.as_slice());
        assert_eq!(lines.next().unwrap(), Some(Line::Export(header())));
        assert_eq!(lines.next().unwrap(), Some(Line::Event(Box::new(event()))));
    }

    #[test]
    fn an_export_that_was_cut_off_anywhere_or_changed_is_known() {
        let export = export();
        for cut in 0..export.len() {
            assert!(check(&export[..cut]).is_err(), "cut at {cut} of {}", export.len());
        }
        // A byte of a value, so that each line is still one.
        let text = String::from_utf8(export).unwrap();
        for (from, to) in
            [("user-42", "user-43"), ("\"sealed\":true", "\"sealed\":false"), ("\"lines\":3", "\"lines\":2")]
        {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text);
            assert!(matches!(check(changed.as_bytes()), Err(Flaw::Changed)), "{from}");
        }
        let longer = format!("{text}{text}");
        assert!(matches!(check(longer.as_bytes()), Err(Flaw::Changed)));
    }

    #[test]
    fn what_is_no_export_is_refused_without_being_quoted() {
        for (text, wanted) in [
            ("", "it does not begin as an export does"),
            ("{\"organization\":\"user@example.com\"}\n", "line 1 is not a line of an export (column"),
            ("{\"line\":\"end\",\"lines\":0,\"sha256\":\"\"}\n", "it does not begin"),
        ] {
            let said = check(text.as_bytes()).unwrap_err().to_string();
            assert!(said.contains(wanted) && !said.contains("example.com"), "{text}: {said}");
        }
        let newer = String::from_utf8(export()).unwrap().replacen("\"format\":1", "\"format\":2", 1);
        assert!(matches!(check(newer.as_bytes()), Err(Flaw::Format { found: 2 })));
    }

    #[test]
    fn a_forgotten_key_is_made_up_and_nobody_elses() {
        let forgotten = Carried { key: None, ..event() };
        let key = forgotten.key_in("export-1");
        assert_eq!(key, forgotten.key_in("export-1"));
        assert_ne!(key, forgotten.key_in("export-2"));
        assert_ne!(key, DedupKey::new("acme", SourceRoute::new("/v1"), "m-1"));
        assert_eq!(
            key.to_string(),
            DedupKey::new("acme", SourceRoute::new("/v1"), "m-1").to_string(),
            "found by its id all the same"
        );
    }
}
