//! The configuration: loading, checking and printing it.
//!
//! Each room owns its own `Config` struct; this room only composes them. What keys there are, what type each has and
//! what it is for is read from the JSON Schema of [`Settings`], so a new key in a room needs no change here.
//!
//! Layers, each over the one before: built-in defaults, files in the order given, environment variables
//! `WIGZO__SECTION__KEY`, the shorthand variables. Every layer is judged alone before they are merged: that is how a
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
mod environment;
mod judge;
mod layer;
mod print;
mod problem;
mod schema;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::Url;

pub use check::Checked;
pub use environment::{environment, supervisor_variables};
pub use print::{default_toml, print_config};
pub use problem::{Place, Problem, Problems};

use crate::organization::{BadBaseUrl, BaseUrl};
use crate::{admin, delivery, ingress, organization, queue, sandbox, telemetry};
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
    /// The stand-in for Wigzo that `--sandbox` starts.
    pub sandbox: sandbox::Config,
    /// What holds for every organization that does not say otherwise.
    pub organization_defaults: organization::Defaults,
    /// The organizations, each under its name: 1 to 63 lower-case letters, digits, `-` and `_`. The variable
    /// `WIGZO_ORG_TOKEN` alone makes one that is called `default`; `WIGZO_TOKEN`, `WIGZO_SOURCE_KEYS` and
    /// `WIGZO_SHARED_SECRETS` (the latter two comma separated) give it the rest.
    pub organizations: BTreeMap<String, organization::Config>,
    /// Where each key was set, for the messages of later checks.
    #[serde(skip)]
    places: Places,
    /// Where [`Settings::redirect_to`] pointed the organizations, if it did.
    #[serde(skip)]
    redirected: Option<BaseUrl>,
}

impl Settings {
    /// Loads the configuration: the files in their order, then the variables of `env` that begin with `WIGZO_`.
    ///
    /// # Errors
    /// Everything that is wrong in any layer.
    pub fn load(files: &[PathBuf], env: &BTreeMap<String, String>) -> Result<Self, Problems> {
        let schema = Schema::of_settings();
        let mut layers = Vec::new();
        let mut problems = Vec::new();
        for path in files {
            match layer::read_file(path) {
                Ok(layer) => layers.push(layer),
                Err(problem) => problems.push(problem),
            }
        }
        layers.extend(environment::layers(env, &schema, &mut problems));
        let judge = judge::Judge::new(&schema);
        for layer in &layers {
            problems.extend(judge.judge(layer));
        }
        if problems.is_empty() { layer::merge(layers) } else { Err(Problems(problems)) }
    }

    /// Points every organization, and those to come, at another address: `--sandbox` does.
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
        Ok(())
    }
}

#[cfg(test)]
mod tests;
