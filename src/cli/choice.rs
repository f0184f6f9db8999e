//! For which organization a command explains: a configured one, or one that is made up.

use std::sync::Arc;

use clap::Args;

use super::{Failure, Files};
use crate::organization::{Config, Organization, ProfileName};
use crate::secret::Secret;
use crate::settings::Settings;

/// The name and the token of the organization that is made up where none is configured.
const MADE_UP_NAME: &str = "made-up";
const MADE_UP_TOKEN: &str = "made-up-token";

#[derive(Debug, Args)]
pub(super) struct Choice {
    #[command(flatten)]
    files: Files,
    /// The organization to explain for [default: the only one that is configured, else one that is made up]
    #[arg(long, value_name = "NAME")]
    pub(super) organization: Option<String>,
}

/// What was chosen.
pub(super) struct Chosen {
    /// The configuration, with the organization in it.
    pub(super) settings: Settings,
    /// The organization as the service would make it.
    pub(super) organization: Arc<Organization>,
    /// Whether it is made up: its learner ids are nobody's.
    pub(super) made_up: bool,
}

impl Choice {
    /// The organization that is named, else the only one; `profile` goes before the one that it has.
    pub(super) fn only_one(&self, profile: Option<ProfileName>) -> Result<Chosen, Failure> {
        let settings = self.files.load()?;
        let name = match (&self.organization, settings.organizations.len()) {
            (Some(name), _) => Some(name.clone()),
            (None, 0) => None,
            (None, 1) => settings.organizations.keys().next().cloned(),
            (None, _) => {
                let message = format!("which organization? Say --organization {}", one_of(&settings));
                return Err(Failure::usage(message));
            }
        };
        choose(settings, name, profile)
    }

    /// The organization that is named, else one that is made up, whatever is configured.
    pub(super) fn named(&self, profile: Option<ProfileName>) -> Result<Chosen, Failure> {
        choose(self.files.load()?, self.organization.clone(), profile)
    }
}

fn choose(
    mut settings: Settings,
    name: Option<String>,
    profile: Option<ProfileName>,
) -> Result<Chosen, Failure> {
    let made_up = name.is_none();
    let name = name.unwrap_or_else(|| MADE_UP_NAME.to_owned());
    if made_up {
        let token = Some(Secret::new(MADE_UP_TOKEN));
        // Open: it is never served, so nobody needs a key for it.
        settings
            .organizations
            .insert(name.clone(), Config { org_token: token, open: true, ..Config::default() });
    }
    let known = one_of(&settings);
    let Some(config) = settings.organizations.get_mut(&name) else {
        return Err(Failure::usage(format!("there is no organization {name}; there is {known}")));
    };
    if profile.is_some() {
        config.profile = profile;
    }
    let checked = settings.check(false).map_err(Failure::usage)?;
    let organization = checked.organizations.by_name(&name).expect("BUG: it is configured and checked");
    Ok(Chosen { organization: Arc::clone(organization), settings: checked.settings, made_up })
}

fn one_of(settings: &Settings) -> String {
    let names: Vec<_> = settings.organizations.keys().map(String::as_str).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(" or ") }
}
