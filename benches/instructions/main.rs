//! Instruction counts: what one event costs in each room, in a measure that a busy machine does not change.
//!
//! `scripts/instructions.sh` runs each [`work`] twice under callgrind, once for a few rounds and once for more, and counts
//! what the further rounds took. So starting, warming up and ending fall out, and whatever thread works is in. The counts
//! are compared with `baseline.toml`; more than 3 % above it is a failure. docs/performance.md says what the figures mean
//! and how to write the baseline anew.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its result is what it prints")]

mod baseline;
mod callgrind;
mod ingress;
mod queue;
mod scheduler;
mod work;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use baseline::{Baseline, Compared, Row, Verdict};
use callgrind::{Callgrind, Counts};
use work::Work;

/// As in the service (`src/main.rs`): what allocations take is part of the count.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Counts instructions and compares them with the baseline.
#[derive(Parser)]
struct Arguments {
    /// Only benchmarks whose name contains this.
    #[arg(default_value = "")]
    only: String,
    /// Writes what was counted into the baseline.
    #[arg(long)]
    update: bool,
    /// Adds a line to this file if the counts cannot be judged here.
    #[arg(long)]
    skipped: Option<PathBuf>,
    /// What runs inside callgrind: this work.
    #[arg(long, hide = true)]
    work: Option<String>,
    /// So many rounds of it.
    #[arg(long, hide = true, default_value_t = 0)]
    rounds: usize,
    /// Prints the processor's features.
    #[arg(long, hide = true)]
    features: bool,
    /// Cargo adds it.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.features {
        println!("{}", callgrind::features());
        return ExitCode::SUCCESS;
    }
    if let Some(name) = &arguments.work {
        let work = work::ALL.iter().find(|work| work.name == name).expect("a work of this name");
        (work.run)(arguments.rounds);
        return ExitCode::SUCCESS;
    }
    compare(&arguments).unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}

fn compare(arguments: &Arguments) -> Result<ExitCode, String> {
    let callgrind = Callgrind::new()?;
    let machine = callgrind.machine()?;
    let mut baseline = Baseline::read()?;
    let difference = machine.difference(&baseline.made_with);
    if let (true, false, Some(difference)) = (arguments.update, arguments.only.is_empty(), &difference) {
        return Err(format!(
            "the baseline was made elsewhere, so write all of it, without a name: {difference}"
        ));
    }
    println!("{machine}");
    println!("{:<36} {:>12} {:>9} {:>11} {:>6}", "for each event", "instructions", "", "allocations", "");
    let mut verdicts = Vec::new();
    for work in work::ALL.iter().filter(|work| work.name.contains(&arguments.only)) {
        let now = Row::of(work, count(work, &callgrind)?);
        let compared = Compared { now, before: baseline.counts.get(work.name).copied() };
        println!("{:<36} {compared}", work.name);
        verdicts.push((work.name, compared.verdict()));
        if arguments.update {
            baseline.counts.insert(work.name.to_owned(), compared.now);
        }
    }
    if arguments.update {
        baseline.counts.retain(|name, _| work::ALL.iter().any(|work| work.name == name));
        baseline.made_with = machine;
        baseline.write()?;
        println!("the baseline has been written: {}", baseline::PATH);
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(difference) = difference {
        let told =
            format!("instruction counts are not judged: the baseline was made elsewhere: {difference}");
        println!("{told}");
        note_skipped(arguments.skipped.as_deref(), &told)?;
        return Ok(ExitCode::SUCCESS);
    }
    let judged = verdicts.iter().filter(|(name, verdict)| is_good(name, *verdict, &callgrind)).count();
    Ok(if judged == verdicts.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What one event takes: what the further rounds took, divided by their events.
fn count(work: &Work, callgrind: &Callgrind) -> Result<Counts, String> {
    let few = callgrind.run(work.name, work.warm_up, work.left_out)?;
    let more = callgrind.run(work.name, work.warm_up + work.rounds, work.left_out)?;
    Ok(more.beyond(few, work.rounds * work.events))
}

/// Says what is to be done about a benchmark that is not as it was; whether it passes.
fn is_good(name: &str, verdict: Verdict, callgrind: &Callgrind) -> bool {
    let update = format!("scripts/instructions.sh --update {name}");
    match verdict {
        Verdict::Same => true,
        Verdict::Less => {
            println!(
                "{name} takes less than its baseline: lower it, or the gain may be lost unseen: {update}"
            );
            true
        }
        Verdict::New => {
            eprintln!("{name} has no baseline: {update}");
            false
        }
        Verdict::More => {
            let profile = callgrind.profile(name).display().to_string();
            eprintln!(
                "{name} takes more than its baseline allows. Where: callgrind_annotate {profile}. If it is worth it, \
                 say so in the commit: {update}"
            );
            false
        }
    }
}

fn note_skipped(file: Option<&std::path::Path>, told: &str) -> Result<(), String> {
    let Some(path) = file else { return Ok(()) };
    let file = std::fs::File::options().create(true).append(true).open(path);
    file.and_then(|mut file| writeln!(file, "{told}")).map_err(|error| format!("{}: {error}", path.display()))
}
