//! The end-to-end benchmark: load, service and Wigzo's stand-in on one machine, beside what must be compared.
//!
//! From the top of the repository: `scripts/bench.sh`. See `docs/performance.md` for what each scenario means.

mod bare;
mod events;
mod http;
mod load;
mod program;
mod scenario;
mod stand_in;

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use program::Program;
use scenario::Scenario;
use stand_in::Manner;

// As in the service: an allocator is no part of what is compared.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(about = "Measures wigzo-destination end to end, beside its baselines")]
enum Command {
    /// Runs scenarios and prints their tables.
    Run(Run),
    /// The bare program.
    Bare {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        target: SocketAddr,
        #[arg(long)]
        directory: PathBuf,
    },
    /// Wigzo's stand-in.
    StandIn {
        #[arg(long)]
        listen: SocketAddr,
        /// Milliseconds before each answer.
        #[arg(long, default_value_t = 0)]
        delay: u64,
        /// Each call whose number is a multiple of this is answered with 503.
        #[arg(long)]
        failing: Option<NonZeroU64>,
    },
}

/// What to run.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// The service's binary.
    #[arg(long, default_value = "target/dist/wigzo-destination")]
    binary: PathBuf,
    /// The same, compiled with a profile of itself; not measured if it is not there.
    #[arg(long, default_value = "target/guided/wigzo-destination")]
    guided: PathBuf,
    /// Which scenarios; all of them if none is named.
    #[arg(long, value_enum, value_delimiter = ',')]
    scenarios: Vec<Scenario>,
    /// Which programs; all of them if none is named.
    #[arg(long, value_enum, value_delimiter = ',')]
    programs: Vec<Program>,
    /// How often each program is measured; the programs take turns, and the table shows medians.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of load in each round.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Connections that send.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Events of the scenario `backlog`.
    #[arg(long, default_value_t = 1_000_000)]
    backlog: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match Command::parse() {
        Command::Run(run) => single_threaded()?.block_on(scenario::run(&run)),
        // It may use both cores, as the service does.
        Command::Bare { listen, target, directory } => tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?
            .block_on(bare::serve(listen, target, &directory)),
        Command::StandIn { listen, delay, failing } => {
            let manner = Manner { delay: Duration::from_millis(delay), failing };
            Ok(single_threaded()?.block_on(stand_in::serve(listen, manner))?)
        }
    }
}

fn single_threaded() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
