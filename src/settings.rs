//! The configuration: loading, checking and printing it.
//!
//! Each room owns its own `Config` struct; this room only composes them. What keys there are, what type each has and
//! what it is for is read from the JSON Schema of [`Settings`], so a new key in a room needs no change here.
//!
//! Layers, each over the one before: built-in defaults, files in the order given, the directories of organizations
//! beside them, environment variables `WIGZO__SECTION__KEY`, the shorthand variables. Every layer is judged alone before they are merged: that is how a
//! message can say which line of which file, or which variable, is wrong.
//!
//! Invariants:
//! * Nothing is accepted silently: an unknown key or variable, a wrong type, a bad value is a [`Problem`], and all
//!   problems are reported together.
//! * A problem names the key, the place and what would be right. It never repeats what was written: any value may be
//!   a secret, or hold one by mistake. Paths of files, addresses and spans that have been understood are shown.
//! * The environment and the secret files are read here and nowhere else; only the tokens of the private side are read
//!   by that side, which looks at them again.
//!
//! It must not know: what the rooms do with their configuration.

mod check;
mod disk;
mod edit;
mod environment;
mod judge;
mod layer;
mod liveness;
mod locate;
mod organizations;
mod print;
mod problem;
mod replace;
mod schema;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use url::Url;

pub use check::Checked;
pub use disk::{Edit, Seen};
pub use edit::{Change, New, Unfit};
pub use environment::{AdminVariables, environment, supervisor_variables};
pub use liveness::{Takes, keys};
pub use locate::{ConfigFiles, Origin, config_files};
pub use organizations::Unchanged;
pub use print::{default_toml, print_config, print_config_with_sources};
pub use problem::{Place, Problem, Problems};
pub use source::{Config as ReloadConfig, Source};

use crate::organization::{BadBaseUrl, BaseUrl};
use crate::{admin, delivery, ingress, organization, queue, sandbox, telemetry};
use disk::Disk;
use problem::Places;
use schema::Schema;

/// The whole configuration.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where events come in: the public side.
    pub ingress: ingress::Config,
    /// Metrics, admin API and console: the private side.
    pub admin: admin::Config,
    /// Where events are kept until they are delivered.
    pub queue: queue::Config,
    /// How calls to Wigzo are made, paced and repeated.
    pub delivery: delivery::Config,
    /// What the service says about itself.
    pub telemetry: telemetry::Config,
    /// How the service follows changes of its configuration while it runs. SIGHUP makes it look at once.
    pub reload: source::Config,
    /// The stand-in for Wigzo that `--sandbox` starts.
    pub sandbox: sandbox::Config,
    /// What holds for every organization that does not say otherwise.
    pub organization_defaults: organization::Defaults,
    /// The organizations, each under its name: 1 to 63 lower-case letters, digits, `-` and `_`. The variable
    /// `WIGZO_ORG_TOKEN` alone makes one that is called `default`; `WIGZO_TOKEN`, `WIGZO_SOURCE_KEYS` and
    /// `WIGZO_SHARED_SECRETS` (the latter two comma separated) give it the rest.
    ///
    /// An organization can have a file of its own instead: in the directory `organizations.d` beside a configuration
    /// file, each file `NAME.toml` holds the keys of one, without a header.
    pub organizations: BTreeMap<String, organization::Config>,
    /// Where each key was set, for the messages of later checks.
    #[serde(skip)]
    places: Places,
    /// The file and the place in it where each organization is configured that is in a file.
    #[serde(skip)]
    homes: BTreeMap<String, Place>,
    /// What it was read from.
    #[serde(skip)]
    disk: Disk,
    /// Where [`Settings::redirect_to`] pointed the organizations, if it did.
    #[serde(skip)]
    redirected: Option<BaseUrl>,
}

impl Settings {
    /// Loads the configuration: the files in their order, the directories `organizations.d` beside them, then the
    /// variables of `env` that begin with `WIGZO_`.
    ///
    /// # Errors
    /// Everything that is wrong in any layer.
    pub fn load(files: &[PathBuf], env: &BTreeMap<String, String>) -> Result<Self, Problems> {
        Self::load_from(&Disk::default(), files, env)
    }

    /// Loads the configuration as it would be after an edit.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn load_edited(
        files: &[PathBuf],
        env: &BTreeMap<String, String>,
        edit: Edit,
    ) -> Result<Self, Problems> {
        Self::load_from(&Disk::with(edit), files, env)
    }

    fn load_from(disk: &Disk, files: &[PathBuf], env: &BTreeMap<String, String>) -> Result<Self, Problems> {
        let schema = Schema::of_settings();
        let mut layers = Vec::new();
        let mut problems = Vec::new();
        for path in files {
            match layer::read_file(path, disk) {
                Ok(layer) => layers.push(layer),
                Err(problem) => problems.push(problem),
            }
        }
        let directories: BTreeSet<PathBuf> = files.iter().map(|file| organizations_beside(file)).collect();
        for directory in directories {
            let layer = layer::read_directory(&directory, disk, &mut problems);
            problems.extend(layers.iter().flat_map(|earlier| layer.organizations_also_in(earlier)));
            layers.push(layer);
        }
        let homes = layers.iter().flat_map(layer::Layer::organizations).collect();
        layers.extend(environment::layers(env, &schema, &mut problems));
        let judge = judge::Judge::new(&schema);
        for layer in &layers {
            problems.extend(judge.judge(layer));
        }
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        let mut settings = layer::merge(layers)?;
        // Messages name the directory, and whoever reads them may be in another one.
        if let Ok(path) = std::path::absolute(&settings.queue.path) {
            settings.queue.path = path;
        }
        Ok(Self { homes, disk: disk.clone(), ..settings })
    }

    /// What the files held that this was read from. After [`Settings::check`] the files with secrets are among them.
    pub fn seen(&self) -> Seen {
        self.disk.seen()
    }

    /// Whether a file or a variable sets this key.
    pub fn is_set(&self, key: &str) -> bool {
        self.places.has(key)
    }

    /// Where an organization is configured: of several files the last, and the environment if it is in none. `None`: there
    /// is none of this name.
    pub fn place_of(&self, organization: &str) -> Option<&Place> {
        let key = problem::join(ORGANIZATIONS, organization);
        self.homes.get(organization).or_else(|| self.places.get(&key))
    }

    /// Points every organization, and those to come, at the sandbox's address, and the queue at a directory of its own.
    ///
    /// # Errors
    /// An address that calls cannot be built on.
    pub fn redirect_to(&mut self, base_url: Url) -> Result<(), BadBaseUrl> {
        let base_url = BaseUrl::try_from(base_url)?;
        for organization in self.organizations.values_mut() {
            organization.base_url = None;
        }
        self.organization_defaults.base_url = base_url.clone();
        self.redirected = Some(base_url);
        self.queue.path = if self.sandbox.queue_path.as_os_str().is_empty() {
            self.queue.path.join("sandbox")
        } else {
            self.sandbox.queue_path.clone()
        };
        self.queue.purpose = queue::Purpose::Sandbox;
        Ok(())
    }
}

/// The section of organizations.
const ORGANIZATIONS: &str = "organizations";

/// The directory of organizations beside a configuration file.
pub fn organizations_beside(file: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join("organizations.d")
}

#[cfg(test)]
mod tests;
