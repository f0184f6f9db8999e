//! The commands and their flags.
//!
//! Exit codes: 0 in order; 1 something failed, at the start or later, and may not fail again; 2 the command line or the
//! configuration is wrong; 3 `translate` was given an event that the service would refuse.

mod backup;
mod check;
mod choice;
mod confirm;
mod connection;
mod dead_letters;
mod delivery;
mod doctor;
mod events;
mod examples;
mod organizations;
mod plural;
mod profiles;
mod progress;
mod record;
mod requests;
mod table;
mod transfer;
mod translate;
mod version;

use std::io::{IsTerminal, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::app::{App, End, Haste, StartError, waiting_text};
use crate::clock::Clock;
use crate::sandbox::Sandbox;
use crate::settings::{self, ConfigFiles, Settings, Source, config_files};
use crate::supervisor::Supervisor;
use crate::telemetry::Logging;

/// What the program is called.
const NAME: &str = "wigzo-destination";

/// Takes Segment events in, keeps them safe, and delivers them to Wigzo.
#[derive(Debug, Parser)]
#[command(name = NAME, version, long_version = version::in_full(), about, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service
    #[command(after_long_help = examples::SERVE)]
    Serve {
        #[command(flatten)]
        files: Files,
        /// Deliver to a built-in stand-in for Wigzo: no account needed, nothing leaves this machine
        #[arg(long)]
        sandbox: bool,
    },
    /// Run only the stand-in for Wigzo, with faults on demand
    #[command(after_long_help = examples::SANDBOX)]
    Sandbox {
        #[command(flatten)]
        files: Files,
    },
    Check(check::Check),
    /// Print the effective configuration, secrets masked
    #[command(after_long_help = examples::PRINT_CONFIG)]
    PrintConfig {
        #[command(flatten)]
        files: Files,
        /// Print the built-in defaults with an explanation of every key
        #[arg(long, conflicts_with = "files")]
        default: bool,
    },
    /// Explain what events become: each call to Wigzo with its reason. Nothing is sent
    ///
    /// Ends with 0 if the service would take every event, with 3 if it would refuse one.
    #[command(after_long_help = examples::TRANSLATE)]
    Translate(translate::Command),
    /// Show translation tables
    #[command(subcommand, after_long_help = examples::PROFILES)]
    Profiles(profiles::Command),
    /// Ask a running service whether it is ready: 0 if so (for container health checks)
    #[command(after_long_help = examples::HEALTH)]
    Health {
        #[command(flatten)]
        files: Files,
        /// Ask this address instead of the configured one
        #[arg(long)]
        url: Option<url::Url>,
    },
    Events(Box<events::Events>),
    DeadLetters(Box<dead_letters::DeadLetters>),
    Delivery(delivery::Delivery),
    Requests(requests::Requests),
    Organizations(organizations::Organizations),
    Backup(backup::Backup),
    Restore(backup::Restore),
    Export(transfer::Export),
    Import(Box<transfer::Import>),
    /// Examine this machine: would the service work here, now, as it is configured? 0 if nothing is broken
    #[command(after_long_help = examples::DOCTOR)]
    Doctor {
        #[command(flatten)]
        files: Files,
        /// Connect to nobody
        #[arg(long)]
        offline: bool,
        /// Print the findings as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print completions for a shell
    #[command(after_long_help = examples::COMPLETIONS)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write the pages of all commands into a directory
    #[command(after_long_help = examples::MAN)]
    Man {
        /// The directory, such as /usr/local/share/man/man1
        #[arg(long, value_name = "DIRECTORY")]
        into: Option<PathBuf>,
    },
}

/// What the process ends with, for the help and the manual.
const EXIT_CODES: &str = "\
Exit codes:
  0  in order; for check, health and doctor: yes
  1  something failed, at the start or later; for health and doctor: no
  2  the command line or the configuration is wrong: starting again does not help
  3  translate was given an event that the service would refuse";

#[derive(Debug, Args)]
struct Files {
    /// A configuration file (TOML); repeatable, later ones win
    ///
    /// Without it: the file that the variable `WIGZO_CONFIG` names, else the first that exists of
    /// `$XDG_CONFIG_HOME/wigzo-destination/config.toml` (`~/.config` if that is not set) and
    /// `/etc/wigzo-destination/config.toml`. Files of two of these sources are never merged.
    #[arg(long = "config", value_name = "FILE", id = "files")]
    config: Vec<PathBuf>,
}

impl Files {
    fn found(&self) -> ConfigFiles {
        config_files(&self.config, &settings::environment())
    }

    fn load(&self) -> Result<Settings, Failure> {
        Settings::load(&self.found().paths, &settings::environment()).map_err(Failure::usage)
    }
}

/// Why a command did not end with 0.
struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    fn usage(message: impl std::fmt::Display) -> Self {
        Self { code: 2, message: message.to_string() }
    }

    /// A supervisor may try again what circumstances forbid: a port or a directory that the process before has not let
    /// go of, a disk that is not there yet. What is written wrongly stays wrong.
    fn start(error: StartError) -> Self {
        match error {
            StartError::Settings(problems) => Self::usage(problems),
            StartError::Queue(_)
            | StartError::Holds(_)
            | StartError::Listen { .. }
            | StartError::Client(_)
            | StartError::Traces(_)
            | StartError::SandboxAddress(_) => Self::running(error),
        }
    }

    fn running(message: impl std::fmt::Display) -> Self {
        Self { code: 1, message: message.to_string() }
    }

    /// Says it on standard error, as text or as an object.
    fn report(self) -> ExitCode {
        let Self { code, message } = self;
        if PRINTS_JSON.load(Ordering::Relaxed) {
            print_error(&json!({ "error": message, "exit_code": code }).to_string());
        } else {
            print_error(&message);
        }
        ExitCode::from(code)
    }
}

/// Runs the command that the command line names.
pub fn main() -> ExitCode {
    let is_json = std::env::args_os().skip(1).take_while(|it| it != "--").any(|it| it == "--json");
    PRINTS_JSON.store(is_json, Ordering::Relaxed);
    let command = match Cli::try_parse() {
        Ok(Cli { command }) => command,
        Err(error) if error.use_stderr() && is_json => {
            let text = error.render().to_string();
            let message = text.trim().strip_prefix("error: ").unwrap_or(text.trim()).to_owned();
            return Failure::usage(message).report();
        }
        // Colours, pages and exit codes are clap's own.
        Err(error) => error.exit(),
    };
    let done = match command {
        Command::Serve { files, sandbox } => serve(&files, sandbox),
        Command::Sandbox { files } => run_sandbox(&files),
        Command::Check(command) => command.run(),
        Command::PrintConfig { default: true, .. } => {
            say(&settings::default_toml());
            Ok(())
        }
        Command::PrintConfig { files, .. } => {
            let found = files.found();
            files.load().map(|settings| say(&settings::print_config_with_sources(&settings, &found)))
        }
        Command::Translate(command) => translate::run(&command),
        Command::Profiles(command) => profiles::run(&command),
        Command::Health { files, url } => health(&files, url),
        Command::Events(command) => command.run(),
        Command::DeadLetters(command) => command.run(),
        Command::Delivery(command) => command.run(),
        Command::Requests(command) => command.run(),
        Command::Organizations(command) => command.run(),
        Command::Backup(command) => command.run(),
        Command::Restore(command) => command.run(),
        Command::Export(command) => command.run(),
        Command::Import(command) => command.run(),
        Command::Doctor { files, offline, json } => {
            let doctor::Diagnosis { report, code } = doctor::examine(&files.found().paths, offline, json);
            say(&report);
            return ExitCode::from(code);
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
            say(&String::from_utf8_lossy(&script));
            Ok(())
        }
        Command::Man { into } => manual(into.as_deref()),
    };
    Logging::flush();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Whether the command line asks for JSON: then standard error holds objects too.
static PRINTS_JSON: AtomicBool = AtomicBool::new(false);

fn serve(files: &Files, sandbox: bool) -> Result<(), Failure> {
    let found = files.found();
    let source = Source::new(found.paths.clone(), settings::environment());
    let settings = source.load().0.map_err(Failure::usage)?;
    start_logging(&settings)?;
    in_runtime(async move {
        let (signals, mut hangup) = (Signals::listen()?, listen(SignalKind::hangup())?);
        let mut app = App::start(settings, sandbox, Clock::system()).await.map_err(Failure::start)?;
        greet(&app, &found);
        let reloads = app.follow(source).expect("BUG: it follows nothing yet");
        let supervisor = Supervisor::of(&settings::supervisor_variables());
        let status = format!("taking events on {}", app.public);
        supervisor.ready(&status);
        let signal = async {
            let haste = signals.first_then_exit_on_second().await;
            supervisor.stopping();
            haste
        };
        let reload_on_hangup = async {
            loop {
                hangup.recv().await;
                supervisor.reloading();
                reloads.reload().await;
                supervisor.ready(&status);
            }
        };
        let work = Box::pin(async {
            tokio::select! {
                end = app.run(signal) => end,
                never = reload_on_hangup => never,
            }
        });
        match supervisor.watch(work).await {
            End::InOrder => Ok(()),
            End::Failed(part) => {
                Logging::flush();
                complain(&format!("{part} failed; see the log"));
                // At once: winding down would drop the events in flight, and they are safe where they are, on disk.
                std::process::exit(1);
            }
        }
    })
}

fn start_logging(settings: &Settings) -> Result<(), Failure> {
    let started = Logging::start(&settings.telemetry);
    started.map(drop).map_err(|bad| Failure::usage(format!("telemetry.log: {bad}")))
}

fn run_sandbox(files: &Files) -> Result<(), Failure> {
    let settings = files.load()?;
    start_logging(&settings)?;
    in_runtime(async move {
        let listen = settings.sandbox.listen;
        let sandbox = Sandbox::bind(&settings.sandbox, Clock::system())
            .await
            .map_err(|error| Failure::running(format!("the sandbox cannot listen on {listen}: {error}")))?;
        tracing::info!(sandbox = %sandbox.local_addr(), "the stand-in for Wigzo is ready; GET /_sandbox lists what it can do");
        let signals = Signals::listen()?;
        let stop = CancellationToken::new();
        let run = sandbox.run(stop.clone());
        tokio::pin!(run);
        tokio::select! {
            () = &mut run => {}
            _ = signals.first_then_exit_on_second() => {
                stop.cancel();
                run.await;
            }
        }
        Ok(())
    })
}

fn manual(into: Option<&Path>) -> Result<(), Failure> {
    let Some(directory) = into else {
        let mut page = Vec::new();
        // Writing to memory cannot fail.
        let _ = clap_mangen::Man::new(Cli::command()).render(&mut page);
        say(&String::from_utf8_lossy(&page));
        return Ok(());
    };
    clap_mangen::generate_to(Cli::command(), directory)
        .map_err(|error| Failure::running(format!("{}: {error}", directory.display())))
}

/// What else one can ask.
const OTHER_ADDRESS: &str = "--url asks another address";

/// How long a service may take to say how it is.
const HEALTH_PATIENCE: Duration = Duration::from_secs(3);

fn health(files: &Files, url: Option<url::Url>) -> Result<(), Failure> {
    let (address, path) = match url {
        Some(url) => {
            if !url.has_host() {
                return Err(Failure::usage(format!("{url} names no host")));
            }
            let unknown = |error| Failure::running(connection::unreachable(&url, &error, OTHER_ADDRESS));
            let addresses = url.socket_addrs(|| Some(80)).map_err(unknown)?;
            let address = addresses.first().copied();
            (address.ok_or_else(|| Failure::usage(format!("{url} has no address")))?, url.path().to_owned())
        }
        None => (reachable(files.load()?.ingress.listen), "/readyz".to_owned()),
    };
    let failed = |error| Failure::running(connection::unreachable(&address, &error, OTHER_ADDRESS));
    let answer = ask(address, &path).map_err(failed)?;
    let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    say(&format!("{body}\n"));
    if status == "200" { Ok(()) } else { Err(Failure::running(format!("{address} answered {status}"))) }
}

/// A service that listens on every address is asked on loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        (IpAddr::from(Ipv4Addr::LOCALHOST), listen.port()).into()
    } else {
        listen
    }
}

/// One plain GET; a client library would be more than a health check needs.
fn ask(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, HEALTH_PATIENCE)?;
    stream.set_read_timeout(Some(HEALTH_PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(64 * 1024).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn in_runtime<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::running(format!("the runtime cannot start: {error}")))?;
    runtime.block_on(work)
}

// === signals ===

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::running(format!("signals cannot be listened to: {error}")))
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> Haste {
        tokio::select! {
            _ = self.terminate.recv() => Haste::Orderly,
            _ = self.interrupt.recv() => Haste::Prompt,
        }
    }

    /// The first signal is returned; a second one ends the process at once. The queue is durable.
    async fn first_then_exit_on_second(mut self) -> Haste {
        let haste = self.next().await;
        // A thread of its own: nothing of the service may delay the second signal.
        let handle = tokio::runtime::Handle::current();
        std::thread::spawn(move || {
            handle.block_on(self.next());
            Logging::flush();
            std::process::exit(1);
        });
        haste
    }
}

// === what people see ===

/// Says what listens where; on a terminal also how to send a first event.
fn greet(app: &App, files: &ConfigFiles) {
    let sandbox = app.sandbox.as_ref().map(|(address, _)| address.to_string());
    let waiting = app.waiting();
    tracing::info!(
        public = %app.public,
        private = %app.private,
        sandbox = sandbox.as_deref().unwrap_or("none"),
        organizations = app.organizations.len(),
        config = %files,
        queue = %app.directory.display(),
        waiting,
        "serving"
    );
    if !std::io::stderr().is_terminal() {
        return;
    }
    let (public, private) = (app.public, app.private);
    let wigzo = sandbox.map_or_else(
        || "the real one".to_owned(),
        |address| format!("a stand-in on http://{address} (its calls: /_sandbox/calls)"),
    );
    complain(&format!(
        r#"
  events in     http://{public}/webhook, /v1/batch
  private side  http://{private}/metrics, /api/events
  Wigzo         {wigzo}
  queue         {}; {}
  configuration {files}

  Send a first event (add -u SOURCE_KEY: if its organization has one):

    curl http://{public}/v1/track -d '{{"userId":"user-42","event":"Product Viewed","messageId":"'$(date +%s)'","properties":{{"product_id":"sku-1","name":"Blue kurta","price":799.50,"currency":"INR"}}}}'
"#,
        app.directory.display(),
        waiting_text(waiting)
    ));
}

fn say(text: &str) {
    // Whoever closes our output has seen enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// A word to whoever watches: standard output is for results.
fn complain(text: &str) {
    if PRINTS_JSON.load(Ordering::Relaxed) {
        print_error(&json!({ "note": text }).to_string());
    } else {
        print_error(text);
    }
}

fn print_error(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints one thing for a script: an object on a line.
fn say_json(thing: &impl serde::Serialize) {
    let line = serde_json::to_string(thing).expect("BUG: what is shown is plain text and numbers");
    say(&(line + "\n"));
}
