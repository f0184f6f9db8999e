//! `dead-letters`: what `/api/dead-letters` can do, from a terminal or a script.
//!
//! It talks to a running service, which alone may write to its queue. Long work goes in steps, each told on standard
//! error; a run that is cut off has done whole steps, and the same command does the rest.

#![expect(clippy::indexing_slicing, reason = "of a field that is missing, `serde_json::Value` says null")]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::confirm::Confirmation;
use super::connection::{Connection, Listing, STEP, Service, broke_off, parse, read_text};
use super::plural::{count, count_that};
use super::progress::Progress;
use super::record::{DEAD_LETTERS, Record, Summary};
use super::table::plain;
use super::{Failure, complain, in_runtime, say, say_json};
use crate::admin::WrittenFilter;

/// Lines, and bytes, in one step of an import.
const IMPORT_STEP: (usize, usize) = (1_000, 4 << 20);

/// The longest line that an import takes.
const MAX_LINE: u64 = 16 << 20;

/// Look at the events that need a person, send them again, give them up, take them elsewhere
///
/// A dead letter is an event that Wigzo refused, or that could not be delivered for so long that a person should look.
/// Nothing of it is lost and nobody decides but you. The commands talk to a running service through its admin API:
/// the address and the token come from --url and --token-file, from the variables `WIGZO_ADMIN_URL` and
/// `WIGZO_ADMIN_TOKEN`, or from the configuration.
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
    wigzo-destination dead-letters discard --person load-test --why \"sent by a load test\" --yes
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
    ///
    /// It cannot be undone. On a terminal it says how many it would be, and asks.
    Discard {
        #[command(flatten)]
        service: Service,
        #[command(flatten)]
        choice: Choice,
        #[command(flatten)]
        confirmation: Confirmation,
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
        /// Write to this file instead of standard output; there must be none of that name
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
                    choice.check()?;
                    let service = service.connect()?;
                    let decision = Decision { action: "replay", more: json!({ "repeat_done": repeat_done }) };
                    let counts = decision.carry_out(&service, &choice, choice.dry_run, u64::MAX).await?;
                    decision.tell(&choice, counts)
                }
                Command::Discard { service, choice, confirmation, why } => {
                    discard(&service, &choice, &confirmation, &why).await
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

/// Numbers that one request may name.
const NUMBERS: usize = 1_000;

impl Choice {
    /// Refuses a choice that says nothing, or too much.
    fn check(&self) -> Result<(), Failure> {
        let ways = [!self.numbers.is_empty(), self.filter != WrittenFilter::default(), self.all];
        match ways.into_iter().filter(|it| *it).count() {
            0 => Err(Failure::usage(
                "say which dead letters: their numbers, a filter such as --reason or --organization, or --all",
            )),
            1 => Ok(()),
            _ => Err(Failure::usage("say only one of numbers, filters and --all")),
        }
    }
}

async fn discard(
    service: &Service,
    choice: &Choice,
    confirmation: &Confirmation,
    why: &str,
) -> Result<(), Failure> {
    choice.check()?;
    if why.trim().is_empty() {
        return Err(Failure::usage("--why: say why these events are given up; it is kept with each"));
    }
    let asks = confirmation.is_needed() && !choice.dry_run;
    if asks {
        confirmation.can_be_given("discarding dead letters")?;
    }
    let service = service.connect()?;
    let decision = Decision { action: "discard", more: json!({ "why": why }) };
    let mut limit = u64::MAX;
    if asks {
        let counts = decision.carry_out(&service, choice, true, limit).await?;
        if counts.matched > 0 {
            let letters = count(counts.matched, "dead letter");
            confirmation
                .ask(&format!("This discards {letters}: nobody sends them again. Why: {}.", plain(why)))?;
        }
        // Not more than was agreed to: they go oldest first, and what has died since comes last.
        limit = counts.matched;
    }
    let counts = decision.carry_out(&service, choice, choice.dry_run, limit).await?;
    decision.tell(choice, counts)
}

/// What becomes of the letters.
struct Decision {
    /// `replay` or `discard`.
    action: &'static str,
    /// Members of the request of its own.
    more: Value,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    matched: u64,
    changed: u64,
    unserved: u64,
}

impl Decision {
    fn done(&self) -> String {
        format!("{}ed", self.action)
    }

    /// Does it in steps, to at most so many letters, or counts what it would be.
    async fn carry_out(
        &self,
        service: &Connection,
        choice: &Choice,
        dry_run: bool,
        limit: u64,
    ) -> Result<Counts, Failure> {
        let (action, done) = (self.action, self.done());
        let mut wish = self.more.clone();
        wish["filter"] = to_value(&choice.filter);
        wish["all"] = json!(choice.all);
        wish["dry_run"] = json!(dry_run);
        let mut counts = Counts::default();
        let progress = Progress::counting("dead letters");
        // Without numbers there is one part, an empty one.
        let parts: Vec<&[u64]> =
            if choice.numbers.is_empty() { vec![&[]] } else { choice.numbers.chunks(NUMBERS).collect() };
        for numbers in parts {
            wish["numbers"] = json!(numbers);
            wish["cursor"] = Value::Null;
            while counts.matched < limit {
                wish["limit"] = json!((STEP as u64).min(limit - counts.matched));
                let path = format!("/api/dead-letters/{action}");
                let result = service.post(&path, wish.to_string().into_bytes()).await.map_err(|failure| {
                    let so_far = if counts.changed > 0 {
                        format!(" ({} {done} before)", counts.changed)
                    } else {
                        String::new()
                    };
                    Failure { message: failure.message + &so_far, ..failure }
                })?;
                let number = |field: &str| result[field].as_u64().unwrap_or_default();
                counts.matched += number("matched");
                counts.changed += number("changed");
                counts.unserved += number("unserved");
                wish["cursor"] = result["cursor"].clone();
                if wish["cursor"].is_null() {
                    break;
                }
                let Counts { matched, changed, .. } = counts;
                if dry_run {
                    progress.step(matched, 0, &format!("{matched} counted so far, it goes on …"));
                } else {
                    progress.step(
                        changed,
                        matched,
                        &format!("{changed} of {matched} {done} so far, it goes on …"),
                    );
                }
            }
        }
        Ok(counts)
    }

    /// Says what was done, or would be.
    fn tell(&self, choice: &Choice, counts: Counts) -> Result<(), Failure> {
        let Counts { matched, changed, unserved } = counts;
        let meant = matched.saturating_sub(unserved);
        let mut result = json!({ "dry_run": choice.dry_run, "matched": matched, "changed": changed, "unserved": unserved });
        if choice.dry_run {
            result["would_change"] = json!(meant);
        }
        if choice.json {
            say_json(&result);
        } else if choice.dry_run {
            say(&format!("Would {} {}.\n", self.action, count(meant, "dead letter")));
        } else {
            say(&format!("{} {}.\n", count(changed, "dead letter"), self.done()));
        }
        if unserved > 0 {
            complain(&format!(
                "{} to organizations that are not configured: nobody would deliver them",
                count_that(unserved, "dead letter", "belong")
            ));
        }
        match (choice.numbers.len() as u64).saturating_sub(matched) {
            0 => Ok(()),
            1 => Err(Failure::running("1 of the numbers is no dead letter")),
            missing => Err(Failure::running(format!("{missing} of the numbers are no dead letters"))),
        }
    }
}

async fn export(service: &Connection, filter: &WrittenFilter, output: Option<&Path>) -> Result<(), Failure> {
    let named = output.map_or_else(|| "standard output".to_owned(), |path| path.display().to_string());
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Failure::usage(format!("{named} exists already; name a file that does not"))
        }
        _ => Failure::running(format!("{named}: {error}")),
    };
    let mut out: Box<dyn Write> = match output {
        Some(path) => Box::new(new_file(path).map_err(failed)?),
        None => Box::new(std::io::stdout()),
    };
    let mut query = to_value(filter);
    query["limit"] = json!(STEP);
    let mut written = 0;
    let progress = Progress::counting("dead letters");
    loop {
        let response = service.get("/api/dead-letters/export", &query).await?;
        let next = response.headers().get("next-cursor").and_then(|it| it.to_str().ok()).map(str::to_owned);
        let lines = response.bytes().await.map_err(|error| broke_off(&error))?;
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
    complain(&format!("{} exported.", count(written, "dead letter")));
    Ok(())
}

/// A file that only its owner can read: it holds personal data.
fn new_file(path: &Path) -> std::io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
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
        let (part, part_lines) = read_part(&mut input).map_err(|error| {
            Failure::running(format!("after line {lines}: {error}; the lines before are imported"))
        })?;
        if part_lines == 0 {
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
        lines += part_lines as u64;
        if part_lines == IMPORT_STEP.0 {
            progress.step(lines, 0, &format!("{} so far, it goes on …", count(lines, "line")));
        }
    }
    drop(progress);
    if json {
        say_json(&json!({ "accepted": accepted, "duplicates": duplicates, "refused": refused }));
    } else {
        say(&format!(
            "{} imported, {duplicates} known already, {} refused.\n",
            count(accepted, "event"),
            count(refused, "line")
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
