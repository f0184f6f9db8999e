//! `export` and `import`: the events of a queue as lines, out of one and into another.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::backup::failed;
use super::confirm::Confirmation;
use super::connection::{Connection, Service};
use super::plural::{count, count_that};
use super::progress::{Progress, Unit};
use super::{Failure, Files, complain, in_runtime, say};
use crate::admin;
use crate::clock::Clock;
use crate::queue::sqlite::Sqlite;
use crate::queue::sqlite::export::{self, Exported, Wish};
use crate::queue::transfer::{self, Checked, ImportError, Imported, Line, LineReader, Part};
use crate::queue::{Engine, QueueError};

/// Lines, and bytes, in one part of an import.
const PART: (usize, usize) = (500, 4 << 20);

/// Write the queue as lines of JSON: what waits with its progress, dead letters, remembered message ids
///
/// It reads the directory `queue.path`, of one moment, while the service runs or not: run it on the machine of the
/// service, as its user. Tokens of partners and personal data are in the file; only its owner can read it.
#[derive(Debug, Args)]
#[command(after_long_help = EXPORT_EXAMPLES)]
pub(super) struct Export {
    #[command(flatten)]
    files: Files,
    /// The file to write; there must be none of that name
    file: PathBuf,
    /// The records of ended events too
    #[arg(long)]
    history: bool,
    /// Give this queue up: no service opens it again. For moving; the service must be stopped
    #[arg(long)]
    seal: bool,
    #[command(flatten)]
    confirmation: Confirmation,
    /// The result as a line of JSON
    #[arg(long)]
    json: bool,
}

const EXPORT_EXAMPLES: &str = "Examples:
  Move to another machine, after the service was stopped here:
    wigzo-destination export --seal --yes queue.jsonl
    wigzo-destination import queue.jsonl        # there
  Look at everything that waits, while the service runs:
    wigzo-destination export waiting.jsonl
    jq -r 'select(.place == \"waiting\") | .message_id' waiting.jsonl

Exit codes: 0 done; 1 the queue cannot be read, is in use (--seal), or the disk failed; 2 the command line or the
configuration is wrong.";

/// Take the events of an export into this queue, while the service runs or not
///
/// An export is checked to its end first; of one that was cut off or changed nothing is taken. No line is taken twice:
/// an import that was interrupted goes on where it stopped when it is run again. Events that this queue knows already are
/// left out. The rest goes to the end of the queue, in order, each with the calls that Wigzo has taken. Numbers are new.
#[derive(Debug, Args)]
#[command(after_long_help = IMPORT_EXAMPLES)]
pub(super) struct Import {
    #[command(flatten)]
    service: Service,
    /// The export
    file: PathBuf,
    /// Take what waits although the queue that it comes from is still served: both would deliver it
    #[arg(long)]
    from_copy: bool,
    /// The result as a line of JSON
    #[arg(long)]
    json: bool,
}

const IMPORT_EXAMPLES: &str = "Examples:
  Into the queue of this configuration; if a service runs on it, through its admin API:
    wigzo-destination import --config /etc/wigzo-destination/config.toml queue.jsonl
  Through the admin API of a service elsewhere:
    wigzo-destination import --url http://127.0.0.1:9090 --token-file admin_token queue.jsonl

Exit codes: 0 done; 1 the export is not whole, or the queue could not take it; 2 the command line or the configuration is
wrong, such as an organization that is not configured, or an export whose queue is still served.";

impl Export {
    pub(super) fn run(&self) -> Result<(), Failure> {
        if self.seal {
            self.confirmation.can_be_given("sealing a queue")?;
        }
        let settings = self.files.load()?;
        if self.seal && self.confirmation.is_needed() {
            let directory = &settings.queue.path;
            let (waiting, dead) = export::count(directory).map_err(Failure::running)?;
            let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.clone());
            self.confirmation.ask(&format!(
                "This moves {} and {} to {}, and seals the queue in {}: no service opens it again.",
                count(waiting, "waiting event"),
                count(dead, "dead letter"),
                self.file.display(),
                directory.display()
            ))?;
        }
        let wish = Wish { history: self.history, seal: self.seal };
        let progress = Progress::of(0, Unit::Things, "events");
        let mut tell = |done, total| progress.at(done, total);
        let exported =
            export::export(&settings.queue.path, &self.file, wish, Clock::system().now(), &mut tell);
        drop(progress);
        let exported = exported.map_err(failed)?;
        let Exported { waiting, dead, history, keys } = exported;
        say(&if self.json {
            format!(
                "{}\n",
                json!({ "waiting": waiting, "dead": dead, "history": history, "keys": keys, "sealed": self.seal })
            )
        } else {
            format!(
                "{}, {}, {}, {}.\n",
                count(waiting, "waiting event"),
                count(dead, "dead letter"),
                count(history, "record"),
                count(keys, "more message id")
            )
        });
        if self.seal {
            complain(
                "This queue is sealed: no service opens it again. Import the file where the events should go out.",
            );
        } else if waiting > 0 {
            complain(
                "This is a copy: what waits goes out from here, so do not import it elsewhere (that takes --seal).",
            );
        }
        Ok(())
    }
}

/// Where the events go.
enum Target {
    /// The directory, which no service holds.
    Directory(Sqlite, std::thread::JoinHandle<()>),
    /// A running service.
    Service(Connection),
}

impl Import {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let flaw = |flaw| Failure::running(format!("{}: {flaw}; nothing was imported", self.file.display()));
        let checked = transfer::check(self.open()?).map_err(flaw)?;
        let waiting: u64 = checked.header.organizations.values().map(|held| held.waiting).sum();
        if !checked.header.sealed && waiting > 0 && !self.from_copy {
            return Err(Failure::usage(format!(
                "{} in this export, and the queue that it comes from was not sealed: both would deliver \
                 them. Stop the service there and export with --seal, or say --from-copy if that queue is lost",
                count_that(waiting, "event", "wait")
            )));
        }
        in_runtime(async {
            let target = self.target(&checked)?;
            let done = self.import(&target, &checked).await;
            if let Target::Directory(queue, writer) = target {
                drop(queue);
                writer.join().map_err(|_| Failure::running("the queue's writer has panicked"))?;
            }
            done
        })
    }

    fn open(&self) -> Result<BufReader<File>, Failure> {
        let file = File::open(&self.file);
        let file = file.map_err(|error| Failure::usage(format!("{}: {error}", self.file.display())))?;
        Ok(BufReader::with_capacity(1 << 20, file))
    }

    /// The directory, if it is free; else the service that holds it.
    fn target(&self, checked: &Checked) -> Result<Target, Failure> {
        if self.service.is_named() {
            return Ok(Target::Service(self.service.connect()?));
        }
        let settings = self.service.files.load()?;
        if !settings.is_set("queue.path") && !Sqlite::exists_in(&settings.queue.path) {
            return Err(Failure::usage(
                "nothing was imported: no configuration sets the queue's directory (`queue.path`). Name the service's \
                 configuration with --config FILE, or the running service with --url URL",
            ));
        }
        let settings = settings.check(false).map_err(Failure::usage)?;
        match Sqlite::open(&settings.settings.queue, Clock::system()) {
            Ok((queue, writer)) => {
                admin::served(&checked.header, &settings.organizations).map_err(Failure::usage)?;
                Ok(Target::Directory(queue, writer))
            }
            Err(QueueError::InUse(_)) => Ok(Target::Service(self.service.connect()?)),
            Err(error) => Err(Failure::running(error)),
        }
    }

    async fn import(&self, target: &Target, checked: &Checked) -> Result<(), Failure> {
        let export = &checked.header.export;
        let Imported { lines: mut taken, .. } = target.take(export, 0, Vec::new()).await?;
        let before = taken;
        let mut lines = LineReader::new(self.open()?);
        let unreadable = |flaw| Failure::running(format!("{}: {flaw}", self.file.display()));
        for _ in 0..taken {
            lines.skip().map_err(unreadable)?;
        }
        let progress = Progress::of(checked.lines, Unit::Things, "lines");
        let mut total = Imported::default();
        while taken < checked.lines {
            let part = next_part(&mut lines, checked.lines - taken).map_err(unreadable)?;
            let imported = target.take(export, taken, part).await.map_err(|failure| Failure {
                message: format!(
                    "{}\n{} imported; run the same again to go on",
                    failure.message,
                    count(taken, "line")
                ),
                ..failure
            })?;
            taken = imported.lines;
            total.accepted += imported.accepted;
            total.duplicates += imported.duplicates;
            progress.at(taken, checked.lines);
        }
        drop(progress);
        self.tell(before, checked, total);
        Ok(())
    }

    fn tell(&self, before: u64, checked: &Checked, Imported { accepted, duplicates, .. }: Imported) {
        if self.json {
            say(&format!(
                "{}\n",
                json!({ "accepted": accepted, "duplicates": duplicates, "lines_before": before })
            ));
        } else if before == checked.lines {
            say("This export has been imported here before; nothing was left to do.\n");
        } else {
            say(&format!("{} imported, {duplicates} known already.\n", count(accepted, "event")));
        }
    }
}

/// The next lines, at most so many.
fn next_part(lines: &mut LineReader<BufReader<File>>, left: u64) -> Result<Vec<Line>, transfer::Flaw> {
    let (mut part, mut bytes) = (Vec::new(), 0);
    while (part.len() as u64) < left && part.len() < PART.0 && bytes < PART.1 {
        // The file was whole a moment ago.
        let line = lines.next()?.ok_or(transfer::Flaw::NoEnd)?;
        bytes += lines.size();
        part.push(line);
    }
    Ok(part)
}

impl Target {
    /// Takes a part; an empty one asks how far the import has come.
    async fn take(&self, export: &str, from: u64, lines: Vec<Line>) -> Result<Imported, Failure> {
        match self {
            Self::Directory(queue, _) => {
                let part = Part { export: export.to_owned(), from, lines };
                queue.import(part).await.map_err(|error: ImportError| Failure::running(error))
            }
            Self::Service(service) => {
                let mut body = Vec::new();
                for line in &lines {
                    serde_json::to_writer(&mut body, line).map_err(Failure::running)?;
                    body.push(b'\n');
                }
                let path = format!("/api/queue/import?export={export}&from={from}");
                let imported: Value = service.post_lines(&path, body).await?;
                serde_json::from_value(imported)
                    .map_err(|_| Failure::running("the answer is not that of an import"))
            }
        }
    }
}
