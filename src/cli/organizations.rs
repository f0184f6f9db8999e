//! `organizations`: who is configured, and changes of it that leave the files in order.
//!
//! It edits the files of `--config`; a running service takes the change over by itself. Secrets are read from files or
//! from standard input, never from the command line, which others can see; none is printed but a new source key, once.

use std::fmt::Write as _;
use std::io::{BufRead, IsTerminal};
use std::path::Path;

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;

use super::confirm::Confirmation;
use super::plural::count;
use super::{Failure, Files, complain, say, say_json};
use crate::organization::{Config, ProfileName};
use crate::secret::Secret;
use crate::settings::{self, Change, New, Place, Settings, Source, Unchanged};

/// List the organizations, add one, switch one off, give one a new source key
///
/// A change goes into the file in which the organization is configured; comments and order stay. The whole
/// configuration that results is checked before the file is replaced, in one step. A running service takes the change
/// over within some seconds, or at once on SIGHUP.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Organizations {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  Who is there:
    wigzo-destination organizations list --config config.toml
  A new one; the source key for its senders is printed once:
    wigzo-destination organizations add acme --config config.toml --org-token-file /run/secrets/acme_org_token
  Another source key; when all senders use it, the old ones go:
    wigzo-destination organizations rotate-key acme --config config.toml
    wigzo-destination organizations rotate-key acme --config config.toml --drop-old --yes
  Nothing is taken from it and nothing delivered, until it is enabled again:
    wigzo-destination organizations disable acme --config config.toml

Exit codes: 0 done; 1 a file could not be read or written; 2 the command line is wrong, there is no such organization,
or the configuration that would result is.";

#[derive(Debug, Subcommand)]
enum Command {
    /// List the organizations by name
    List {
        #[command(flatten)]
        files: Files,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Show one organization: every key with the value in force, secrets masked
    Show {
        /// Its name
        name: String,
        #[command(flatten)]
        files: Files,
        /// One line of JSON
        #[arg(long)]
        json: bool,
    },
    /// Add an organization, with a new source key, which is printed once
    ///
    /// It goes into a file of its own if there is a directory `organizations.d` beside a configuration file, else into
    /// the last of the files. Without --org-token-file its organization token is read from standard input.
    Add(Box<Add>),
    /// Switch an organization off: its senders get 403, what waits for delivery goes on waiting
    Disable(Named),
    /// Switch an organization on again: what waited is delivered
    Enable(Named),
    /// Give an organization one more source key, and print it, once; the others stay good
    RotateKey {
        #[command(flatten)]
        named: Named,
        /// Drop all source keys but the last instead of making one. It cannot be undone
        #[arg(long)]
        drop_old: bool,
        #[command(flatten)]
        confirmation: Confirmation,
    },
}

#[derive(Debug, Args)]
struct Named {
    /// Its name
    name: String,
    #[command(flatten)]
    files: Files,
    /// The result as a line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Add {
    #[command(flatten)]
    named: Named,
    /// File that holds its organization token; the configuration then names this file
    #[arg(long, value_name = "FILE")]
    org_token_file: Option<String>,
    /// File that holds its shared secrets, one on each line
    #[arg(long, value_name = "FILE")]
    shared_secrets_file: Option<String>,
    /// Its profile [default: that of `organization_defaults`]
    #[arg(long, value_parser = |name: &str| ProfileName::try_from(name.to_owned()))]
    profile: Option<ProfileName>,
    /// Make no source key; then it needs shared secrets
    #[arg(long, requires = "shared_secrets_file")]
    no_key: bool,
    /// Give it a file of its own, and make the directory for it if there is none
    #[arg(long)]
    own_file: bool,
}

impl Organizations {
    pub(super) fn run(&self) -> Result<(), Failure> {
        match &self.command {
            Command::List { files, json } => list(&files.load()?, *json),
            Command::Show { name, files, json } => show(&files.load()?, name, *json)?,
            Command::Add(add) => add.run()?,
            Command::Disable(named) => named.switch(true)?,
            Command::Enable(named) => named.switch(false)?,
            Command::RotateKey { named, drop_old: true, confirmation } => named.drop_old(confirmation)?,
            Command::RotateKey { named, drop_old: false, .. } => {
                let key = new_source_key()?;
                let path = named.change(&Change::AddSourceKey(key.clone()), false)?;
                named.tell_key(&key, &path);
            }
        }
        Ok(())
    }
}

// === looking ===

/// An organization in a line.
#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    disabled: bool,
    profile: &'a str,
    /// Source keys, and shared secrets, that stand in the configuration itself.
    source_keys: usize,
    shared_secrets: usize,
    /// Keys whose values are in files of their own.
    files: Vec<&'static str>,
    /// Where it is configured.
    place: String,
}

impl<'a> Line<'a> {
    fn new(name: &'a str, config: &'a Config, settings: &'a Settings) -> Self {
        let profile = config.profile.as_ref().unwrap_or(&settings.organization_defaults.profile);
        let files = [
            ("org_token_file", config.org_token_file.is_some()),
            ("token_file", config.token_file.is_some()),
            ("source_keys_file", config.source_keys_file.is_some()),
            ("shared_secrets_file", config.shared_secrets_file.is_some()),
        ];
        Self {
            name,
            disabled: config.disabled,
            profile: profile.as_str(),
            source_keys: config.source_keys.len(),
            shared_secrets: config.shared_secrets.len(),
            files: files.into_iter().filter(|(_, is_set)| *is_set).map(|(key, _)| key).collect(),
            place: settings.place_of(name).map(Place::to_string).unwrap_or_default(),
        }
    }
}

fn list(settings: &Settings, json: bool) {
    let lines: Vec<_> =
        settings.organizations.iter().map(|(name, config)| Line::new(name, config, settings)).collect();
    if json {
        return lines.iter().for_each(say_json);
    }
    let width = lines.iter().map(|line| line.name.len()).max().unwrap_or(0).max("name".len());
    let mut text = format!("{:<width$}  state     profile   keys  secrets  configured in\n", "name");
    for Line { name, disabled, profile, source_keys, shared_secrets, files, place } in &lines {
        let state = if *disabled { "disabled" } else { "enabled" };
        let count = |count: usize, key| {
            if files.contains(&key) { format!("{count}+file") } else { count.to_string() }
        };
        let keys = count(*source_keys, "source_keys_file");
        let secrets = count(*shared_secrets, "shared_secrets_file");
        writeln!(text, "{name:<width$}  {state:<8}  {profile:<8}  {keys:<4}  {secrets:<7}  {place}")
            .expect("BUG: a String takes everything");
    }
    say(&text);
}

fn show(settings: &Settings, name: &str, json: bool) -> Result<(), Failure> {
    let unknown = || failure(Unchanged::Unknown(name.to_owned()));
    let config = settings.organizations.get(name).ok_or_else(unknown)?.clone();
    let defaults = settings.organization_defaults.clone();
    let config = Config {
        profile: config.profile.or(Some(defaults.profile)),
        identity: config.identity.or(Some(defaults.identity)),
        base_url: config.base_url.or(Some(defaults.base_url)),
        report_rejections: config.report_rejections.or(Some(defaults.report_rejections)),
        obey_integrations: config.obey_integrations.or(Some(defaults.obey_integrations)),
        cors_origins: config.cors_origins.or(Some(defaults.cors_origins)),
        max_in_flight: config.max_in_flight.or(Some(defaults.max_in_flight)),
        weight: config.weight.or(Some(defaults.weight)),
        rate_limit: config.rate_limit.or(Some(defaults.rate_limit)),
        max_age: config.max_age.or(settings.delivery.max_age),
        ..config
    };
    let place = settings.place_of(name).map(Place::to_string).unwrap_or_default();
    if json {
        #[derive(Serialize)]
        struct Shown<'a> {
            name: &'a str,
            place: String,
            #[serde(flatten)]
            config: Config,
        }
        say_json(&Shown { name, place, config });
    } else {
        let text =
            toml::to_string(&config).expect("BUG: an organization is made of values that TOML can hold");
        say(&format!("# {name}, configured in {place}\n{text}"));
    }
    Ok(())
}

// === changing ===

impl Named {
    fn change(&self, change: &Change, own_file: bool) -> Result<std::path::PathBuf, Failure> {
        let source = Source::new(self.files.found().paths, settings::environment());
        source.change(&self.name, change, own_file).map_err(failure)
    }

    fn switch(&self, disabled: bool) -> Result<(), Failure> {
        let path = self.change(&Change::Disable(disabled), false)?;
        let state = if disabled { "disabled" } else { "enabled" };
        if self.json {
            say_json(&json!({ "name": self.name, "disabled": disabled, "file": path }));
        } else {
            say(&format!("{} is {state} in {}.\n", self.name, path.display()));
        }
        Ok(())
    }

    fn drop_old(&self, confirmation: &Confirmation) -> Result<(), Failure> {
        let keys = self.files.load()?.organizations.get(&self.name).map_or(0, |it| it.source_keys.len());
        let dropped = keys.saturating_sub(1);
        // With nothing to drop, the change says why.
        if dropped > 0 && confirmation.is_needed() {
            confirmation.can_be_given("dropping source keys")?;
            let senders = "senders that still use one of them get 401";
            let (dropped, keys) = (dropped.to_string(), count(keys, "source key"));
            confirmation.ask(&format!("This drops {dropped} of the {keys} of {}: {senders}.", self.name))?;
        }
        let path = self.change(&Change::DropOldSourceKeys, false)?;
        if self.json {
            say_json(&json!({ "name": self.name, "dropped": dropped, "file": path }));
        } else {
            let dropped = count(dropped, "old source key");
            say(&format!("{dropped} dropped, the last one is left in {}.\n", path.display()));
        }
        Ok(())
    }

    /// The one time that a secret is printed: on standard output alone, so that a script can keep it.
    fn tell_key(&self, key: &Secret, path: &Path) {
        if self.json {
            say_json(&json!({ "name": self.name, "file": path, "source_key": key.expose() }));
        } else {
            complain(&format!("A new source key, shown this once; it is kept in {}:", path.display()));
            say(&format!("{}\n", key.expose()));
        }
    }
}

impl Add {
    fn run(&self) -> Result<(), Failure> {
        let token = match &self.org_token_file {
            Some(file) => ("org_token_file", New::Text(file.clone())),
            None => ("org_token", New::Secret(read_token()?)),
        };
        let key = if self.no_key { None } else { Some(new_source_key()?) };
        let profile = self.profile.clone().map(|profile| ("profile", New::Text(profile.into())));
        let secrets = self.shared_secrets_file.clone().map(|file| ("shared_secrets_file", New::Text(file)));
        let keys = [Some(token), key.clone().map(|key| ("source_keys", New::List(key))), secrets, profile];
        let path = self.named.change(&Change::Add(keys.into_iter().flatten().collect()), self.own_file)?;
        match &key {
            Some(key) => self.named.tell_key(key, &path),
            None if self.named.json => {
                say_json(&json!({ "name": self.named.name, "file": path, "source_key": null }));
            }
            None => say(&format!("{} is configured in {}.\n", self.named.name, path.display())),
        }
        Ok(())
    }
}

/// The organization token, from standard input.
fn read_token() -> Result<Secret, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        complain("Organization token, from Wigzo's settings page:");
    }
    let mut line = String::new();
    stdin.lock().read_line(&mut line).map_err(Failure::running)?;
    if line.trim().is_empty() {
        return Err(Failure::usage(
            "no organization token: give it on standard input, or name --org-token-file",
        ));
    }
    Ok(Secret::new(line.trim()))
}

/// A source key that nobody can guess: 128 random bits.
fn new_source_key() -> Result<Secret, Failure> {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| Failure::running("this machine gives no random numbers"))?;
    let key = bytes.iter().fold("wk_".to_owned(), |key, byte| format!("{key}{byte:02x}"));
    Ok(Secret::new(key))
}

fn failure(unchanged: Unchanged) -> Failure {
    match unchanged {
        Unchanged::File { .. } => Failure::running(unchanged),
        Unchanged::NoFile
        | Unchanged::Unknown(_)
        | Unchanged::Known { .. }
        | Unchanged::NotInAFile { .. }
        | Unchanged::Problems(_)
        | Unchanged::Unfit { .. }
        | Unchanged::Overruled { .. } => Failure::usage(unchanged),
    }
}
