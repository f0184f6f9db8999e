//! `dead-letters`: what `/api/dead-letters` can do, from a terminal or a script.
//!
//! It talks to a running service, which alone may write to its queue. Long work goes in steps, each told on standard
//! error; a run that is cut off has done whole steps, and the same command does the rest.

#![expect(clippy::indexing_slicing, reason = "of a field that is missing, `serde_json::Value` says null")]

use std::fs::{File, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::connection::{Connection, Listing, STEP, Service, parse, read_text};
use super::progress::Progress;
use super::record::{DEAD_LETTERS, Record, Summary};
use super::{Failure, complain, in_runtime, say};
use crate::admin::WrittenFilter;

/// Lines, and bytes, in one step of an import.
const IMPORT_STEP: (usize, usize) = (1_000, 4 << 20);

/// The longest line that an import takes.
const MAX_LINE: u64 = 16 << 20;

/// Look at the events that need a person, send them again, give them up, take them elsewhere
///
/// A dead letter is an event that Wigzo refused, or that could not be delivered for so long that a person should look.
/// Nothing of it is lost and nobody decides but you. The commands talk to a running service through its private side:
/// the address and the token come from the configuration, or from --url and --token-file.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct DeadLetters {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  What is there, newest first:
    wigzo-destination dead-letters list --organization acme --reason wigzo_400
  One of them with its payload, its calls and what Wigzo said:
    wigzo-destination dead-letters show 1234
  After the mapping was corrected, what would be sent again, and then do it:
    wigzo-destination dead-letters replay --reason wigzo_400 --dry-run
    wigzo-destination dead-letters replay --reason wigzo_400
  Give up what a test sent:
    wigzo-destination dead-letters discard --person load-test --why \"sent by a load test\"
  Keep a copy, or move to another queue:
    wigzo-destination dead-letters export --output letters.jsonl
    wigzo-destination dead-letters import letters.jsonl

Exit codes: 0 done; 1 the service could not be reached or refused, no such letter, or an import passed over lines;
2 the command line or the configuration is wrong.";

#[derive(Debug, Subcommand)]
enum Command {
    /// List dead letters, newest first
    List {
        #[command(flatten)]
        service: Service,
        #[command(flatten)]
        filter: WrittenFilter,
        /// At most this many
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// One JSON object a line, with every field but payload and attempts
        #[arg(long)]
        json: bool,
    },
    /// Show one dead letter in full, as `events show` does: what to do, payload, attempts, answers
    Show {
        #[command(flatten)]
        service: Service,
        /// Its number
        number: u64,
        /// The JSON of the service, byte for byte
        #[arg(long)]
        json: bool,
    },
    /// Send dead letters again, with the mapping of today
    ///
    /// They go to the end of the queue, oldest first, and are translated anew. Calls that Wigzo has taken are not
    /// repeated. Say which: numbers, filters, or --all. Letters that die while this runs are not touched.
    Replay {
        #[command(flatten)]
        service: Service,
        #[command(flatten)]
        choice: Choice,
        /// Make every call again, also those that Wigzo has taken
        #[arg(long)]
        repeat_done: bool,
    },
    /// Give dead letters up: they leave for the history, with your reason
    Discard {
        #[command(flatten)]
        service: Service,
        #[command(flatten)]
        choice: Choice,
        /// Why; it is kept with each event. Name no person in it
        #[arg(long)]
        why: String,
    },
    /// Write dead letters as lines of JSON, oldest first; they stay where they are
    Export {
        #[command(flatten)]
        service: Service,
        #[command(flatten)]
        filter: WrittenFilter,
        /// Write to this file instead of standard output
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Take the lines of an export into this queue, as new events
    ///
    /// Events that this queue knows already are left out, so an import that was cut off can be run again. All calls of
    /// an event are made, also those that another queue had made. A bad line is told with its number and passed over.
    Import {
        #[command(flatten)]
        service: Service,
        /// The file; - or nothing: standard input
        file: Option<PathBuf>,
        /// The result as a line of JSON
        #[arg(long)]
        json: bool,
    },
}

/// Which letters a change is about.
#[derive(Debug, Args)]
struct Choice {
    /// These, by their numbers
    numbers: Vec<u64>,
    #[command(flatten)]
    filter: WrittenFilter,
    /// Every dead letter of the service
    #[arg(long)]
    all: bool,
    /// Only say how many it would be
    #[arg(long)]
    dry_run: bool,
    /// The result as a line of JSON
    #[arg(long)]
    json: bool,
}

impl DeadLetters {
    /// Runs the command.
    pub(super) fn run(self) -> Result<(), Failure> {
        in_runtime(async move {
            match self.command {
                Command::List { service, filter, limit, json } => {
                    LISTING.show(&service.connect()?, to_value(&filter), limit, json).await
                }
                Command::Show { service, number, json } => show(&service.connect()?, number, json).await,
                Command::Replay { service, choice, repeat_done } => {
                    let more = json!({ "repeat_done": repeat_done });
                    change(&service.connect()?, &choice, ("replay", "replayed"), more).await
                }
                Command::Discard { service, choice, why } => {
                    change(&service.connect()?, &choice, ("discard", "discarded"), json!({ "why": why }))
                        .await
                }
                Command::Export { service, filter, output } => {
                    export(&service.connect()?, &filter, output.as_deref()).await
                }
                Command::Import { service, file, json } => {
                    import(&service.connect()?, file.as_deref(), json).await
                }
            }
        })
    }
}

// === the commands ===

const LISTING: Listing<Summary> = Listing {
    path: "/api/dead-letters",
    member: "dead_letters",
    columns: DEAD_LETTERS,
    none: "no dead letters",
    legend: None,
};

async fn show(service: &Connection, number: u64, json: bool) -> Result<(), Failure> {
    let answer = read_text(service.get(&format!("/api/dead-letters/{number}"), &Value::Null).await?).await?;
    say(&if json { answer + "\n" } else { parse::<Record>(&answer)?.shown() });
    Ok(())
}

async fn change(
    service: &Connection,
    choice: &Choice,
    (action, done): (&str, &str),
    more: Value,
) -> Result<(), Failure> {
    let mut wish = more;
    wish["numbers"] = json!(choice.numbers);
    wish["filter"] = to_value(&choice.filter);
    wish["all"] = json!(choice.all);
    wish["dry_run"] = json!(choice.dry_run);
    wish["limit"] = json!(STEP);
    let (mut matched, mut changed, mut unserved) = (0, 0, 0);
    let progress = Progress::counting("dead letters");
    loop {
        let path = format!("/api/dead-letters/{action}");
        let result = service.post(&path, wish.to_string().into_bytes()).await.map_err(|failure| {
            let so_far = if changed > 0 { format!(" ({changed} were {done} before)") } else { String::new() };
            Failure { message: failure.message + &so_far, ..failure }
        })?;
        matched += result["matched"].as_u64().unwrap_or_default();
        changed += result["changed"].as_u64().unwrap_or_default();
        unserved += result["unserved"].as_u64().unwrap_or_default();
        let cursor = result["cursor"].clone();
        if cursor.is_null() {
            break;
        }
        progress.step(changed, matched, &format!("{changed} of {matched} {done} so far, it goes on …"));
        wish["cursor"] = cursor;
    }
    drop(progress);
    if choice.json {
        say(&format!("{}\n", json!({ "matched": matched, "changed": changed })));
    } else if choice.dry_run {
        say(&format!("{} dead letter(s) would be {done}.\n", matched - unserved.min(matched)));
    } else {
        say(&format!("{changed} dead letter(s) {done}.\n"));
    }
    if unserved > 0 {
        complain(&format!(
            "{unserved} belong to organizations that are not configured: nobody would deliver them"
        ));
    }
    let missing = (choice.numbers.len() as u64).saturating_sub(matched);
    if missing > 0 {
        return Err(Failure::running(format!("{missing} of the numbers are no dead letters")));
    }
    Ok(())
}

/// Creates or empties a file that holds personal data; what is no file, such as a terminal, keeps its mode.
fn create_private(path: &Path) -> std::io::Result<File> {
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

async fn export(service: &Connection, filter: &WrittenFilter, output: Option<&Path>) -> Result<(), Failure> {
    let named = output.map_or_else(|| "standard output".to_owned(), |path| path.display().to_string());
    let failed = |error: std::io::Error| Failure::running(format!("{named}: {error}"));
    let mut out: Box<dyn Write> = match output {
        Some(path) => Box::new(create_private(path).map_err(failed)?),
        None => Box::new(std::io::stdout()),
    };
    let mut query = to_value(filter);
    query["limit"] = json!(STEP);
    let mut written = 0;
    let progress = Progress::counting("dead letters");
    loop {
        let response = service.get("/api/dead-letters/export", &query).await?;
        let next = response.headers().get("next-cursor").and_then(|it| it.to_str().ok()).map(str::to_owned);
        let lines = response.bytes().await.map_err(Failure::running)?;
        out.write_all(&lines).map_err(failed)?;
        written += lines.split_inclusive(|byte| *byte == b'\n').count() as u64;
        match next {
            Some(next) => query["cursor"] = json!(next),
            None => break,
        }
        progress.step(written, 0, &format!("{written} exported so far, it goes on …"));
    }
    drop(progress);
    out.flush().map_err(failed)?;
    complain(&format!("{written} dead letter(s) exported."));
    Ok(())
}

async fn import(service: &Connection, file: Option<&Path>, json: bool) -> Result<(), Failure> {
    let input: Box<dyn Read> = match file.filter(|file| *file != Path::new("-")) {
        Some(file) => {
            let opened = File::open(file);
            Box::new(opened.map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?)
        }
        None => Box::new(std::io::stdin()),
    };
    let mut input = BufReader::new(input);
    let (mut accepted, mut duplicates, mut refused, mut lines) = (0, 0, 0, 0_u64);
    let progress = Progress::counting("lines");
    loop {
        let (part, count) = read_part(&mut input).map_err(|error| {
            Failure::running(format!("after line {lines}: {error}; the lines before are imported"))
        })?;
        if count == 0 {
            break;
        }
        let result = service.post_lines("/api/dead-letters/import", part).await.map_err(|failure| {
            let message = format!("{}\nup to line {lines} it is done; run the same again", failure.message);
            Failure { message, ..failure }
        })?;
        let number = |field: &str| result[field].as_u64().unwrap_or_default();
        for bad in result["refused"].as_array().into_iter().flatten() {
            let line = lines + bad["line"].as_u64().unwrap_or_default();
            complain(&format!("line {line}: {}", bad["problem"].as_str().unwrap_or_default()));
        }
        accepted += number("accepted");
        duplicates += number("duplicates");
        refused += number("refused_total");
        lines += count as u64;
        if count == IMPORT_STEP.0 {
            progress.step(lines, 0, &format!("{lines} lines so far, it goes on …"));
        }
    }
    drop(progress);
    if json {
        say(&format!("{}\n", json!({ "accepted": accepted, "duplicates": duplicates, "refused": refused })));
    } else {
        say(&format!(
            "{accepted} event(s) imported, {duplicates} known already, {refused} line(s) refused.\n"
        ));
    }
    if refused > 0 { Err(Failure::running("the refused lines were passed over")) } else { Ok(()) }
}

/// The next lines, and how many they are.
fn read_part(input: &mut impl BufRead) -> std::io::Result<(Vec<u8>, usize)> {
    let (mut part, mut count) = (Vec::new(), 0);
    while count < IMPORT_STEP.0 && part.len() < IMPORT_STEP.1 {
        let before = part.len();
        let read = input.by_ref().take(MAX_LINE).read_until(b'\n', &mut part)?;
        if read == 0 {
            break;
        }
        if read as u64 == MAX_LINE && part.last() != Some(&b'\n') {
            part.truncate(before);
            return Err(std::io::Error::other(format!("a line has more than {} MiB", MAX_LINE >> 20)));
        }
        if part.last() != Some(&b'\n') {
            part.push(b'\n');
        }
        count += 1;
    }
    Ok((part, count))
}

fn to_value(filter: &WrittenFilter) -> Value {
    serde_json::to_value(filter).expect("BUG: a filter is a plain struct of text")
}
