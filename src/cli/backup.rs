//! `backup` and `restore`: a whole copy of the queue, and back.

use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use serde_json::json;

use super::plural::{count, count_that};
use super::progress::{Progress, Unit};
use super::{Failure, Files, complain, say};
use crate::clock::Clock;
use crate::queue::sqlite::backup::{self, Copied, Waiting};
use crate::queue::{CopyError, QueueError};

/// Copy the queue into one file, while the service runs or not, and check the copy
///
/// The copy is of one moment, and the service goes on meanwhile. Run it on the machine of the service, as its user:
/// it reads the directory `queue.path`. The file holds personal data; only its owner can read it.
#[derive(Debug, Args)]
#[command(after_long_help = BACKUP_EXAMPLES)]
pub(super) struct Backup {
    #[command(flatten)]
    files: Files,
    /// The file to write; there must be none of that name
    file: PathBuf,
    /// Bytes a second that are copied at most, such as "200 MiB"; 0: as fast as the disk goes
    #[arg(long, value_name = "SIZE", default_value = "64 MiB")]
    rate: ByteSize,
    /// The result as a line of JSON
    #[arg(long)]
    json: bool,
}

const BACKUP_EXAMPLES: &str = "Examples:
  Every night, from a timer of the service's user:
    wigzo-destination backup --config /etc/wigzo-destination/config.toml /var/backups/queue-$(date +%F).sqlite
  As fast as the disk goes, before an upgrade:
    wigzo-destination backup --rate 0 before-upgrade.sqlite

Exit codes: 0 the copy is there and sound; 1 it could not be made; 2 the command line or the configuration is wrong.";

/// Put a backup into an empty queue directory, while no service runs there
///
/// A backup is of the past: events that waited in it may have been delivered since, and events that came since are not in
/// it. Say what becomes of those that waited. Only Segment can send again what came since.
#[derive(Debug, Args)]
#[command(after_long_help = RESTORE_EXAMPLES)]
pub(super) struct Restore {
    #[command(flatten)]
    files: Files,
    /// The backup
    file: PathBuf,
    /// The directory of the queue, instead of `queue.path` of the configuration
    #[arg(long, value_name = "DIRECTORY")]
    into: Option<PathBuf>,
    /// What becomes of the events that waited when the backup was made
    #[arg(long, value_name = "WHAT")]
    waiting: WhatWaits,
    /// The result as a line of JSON
    #[arg(long)]
    json: bool,
}

const RESTORE_EXAMPLES: &str = "Examples:
  The disk was lost. What waited is held as dead letters, so that nothing is sent twice unseen:
    wigzo-destination restore --waiting hold queue.sqlite
    wigzo-destination dead-letters list --reason restored
  The service had been stopped before the backup was made, so nothing of it was delivered since:
    wigzo-destination restore --waiting send queue.sqlite

Exit codes: 0 done; 1 the backup is not sound, the directory holds a queue or is in use, or the disk failed;
2 the command line or the configuration is wrong.";

#[derive(Debug, Clone, Copy, ValueEnum)]
enum WhatWaits {
    /// They become dead letters, for a person to replay or discard
    Hold,
    /// They are delivered, again if they were delivered since
    Send,
}

impl Backup {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let settings = self.files.load()?;
        let rate = (self.rate > ByteSize(0)).then_some(self.rate);
        let progress = Progress::of(0, Unit::Bytes, "");
        let copied = backup::backup(&settings.queue.path, &self.file, rate, &mut |done, total| {
            progress.at(done, total);
        });
        drop(progress);
        let file = std::path::absolute(&self.file).map_err(Failure::usage)?;
        tell(&file, &copied.map_err(failed)?, self.json);
        Ok(())
    }
}

impl Restore {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let directory = &self.directory()?;
        let waiting = match self.waiting {
            WhatWaits::Hold => Waiting::Hold,
            WhatWaits::Send => Waiting::Send,
        };
        let copied =
            backup::restore(&self.file, directory, waiting, Clock::system().now()).map_err(failed)?;
        tell(directory, &copied, self.json);
        match waiting {
            Waiting::Hold if copied.waiting > 0 => complain(
                "What waited is a dead letter now, with the reason `restored`. Once the service runs, look at it with \
                 `dead-letters list --reason restored`, then replay or discard it.",
            ),
            Waiting::Send if copied.waiting > 0 => {
                complain(
                    "What waits is delivered once the service runs, also what was delivered since the backup.",
                );
            }
            Waiting::Hold | Waiting::Send => {}
        }
        Ok(())
    }
}

impl Restore {
    /// Where the backup goes. Never a default: the service might look elsewhere and start with an empty queue.
    fn directory(&self) -> Result<PathBuf, Failure> {
        if let Some(directory) = &self.into {
            return std::path::absolute(directory).map_err(Failure::usage);
        }
        let settings = self.files.load()?;
        if settings.is_set("queue.path") {
            return Ok(settings.queue.path);
        }
        Err(Failure::usage(
            "nothing was restored: no configuration sets the queue's directory (`queue.path`). Name the service's \
             configuration with --config FILE, or the directory with --into DIRECTORY",
        ))
    }
}

fn tell(place: &Path, copied: &Copied, as_json: bool) {
    let Copied { bytes, ledger, waiting, dead_letters } = copied;
    say(&if as_json {
        let place = place.display().to_string();
        format!(
            "{}\n",
            json!({ "path": place, "bytes": bytes, "ledger": ledger, "waiting": waiting, "dead_letters": dead_letters })
        )
    } else {
        format!(
            "{}: {}, sound; {} in it, {}, {} accepted in all.\n",
            place.display(),
            ByteSize(*bytes),
            count_that(waiting, "event", "wait"),
            count(dead_letters, "dead letter"),
            ledger.accepted
        )
    });
}

/// A file that exists is a mistake on the command line; all else may go better another time.
pub(super) fn failed(error: CopyError) -> Failure {
    match error {
        CopyError::Exists(_) => Failure::usage(error),
        CopyError::Queue(QueueError::InUse(_)) => {
            Failure::running(format!("{error} (the service must be stopped for this)"))
        }
        CopyError::Queue(_) | CopyError::File { .. } | CopyError::Occupied(_) | CopyError::Damaged { .. } => {
            Failure::running(error)
        }
    }
}
