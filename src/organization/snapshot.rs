//! The snapshot: every organization, findable by name and by source key.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Config, Defaults, Organization, Partner, ProfileName};
use crate::secret::{KeyHash, Secret};
use crate::translate::{Layer, Mapping, Mistake, Options, Profile};
use crate::wigzo::Address;

/// What is wrong with one key of the configuration, and what would be right. It never repeats a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct Problem {
    /// The key's path, such as `organizations.acme.org_token`.
    pub key: String,
    /// What would be right.
    pub message: String,
}

/// Every organization of one configuration. It never changes: a reload builds another one. (What it says of partners
/// does not change either; that it remembers them saves the work of making them again.)
#[derive(Debug, Default)]
pub struct Organizations {
    by_name: BTreeMap<String, Arc<Organization>>,
    by_source_key: HashMap<KeyHash, Arc<Organization>>,
    org_tokens: HashSet<KeyHash>,
    most_shared_secrets: usize,
    defaults: Defaults,
    tables: Tables,
    /// Partners by their stored form.
    partners: Mutex<HashMap<KeyHash, Arc<Organization>>>,
    /// The names of partners whose calls Wigzo has taken. Snapshots that follow each other share it.
    proven: Arc<Mutex<HashSet<Arc<str>>>>,
}

/// Partners that are kept ready. Past it all are let go, and those that are needed made again.
const MAX_PARTNERS: usize = 1_024;

/// Proven partners that are remembered. Strangers do not get here; past it all are forgotten and soon proven anew.
const MAX_PROVEN: usize = 100_000;

impl Organizations {
    /// Builds the snapshot. Files have been read: what their `*_file` keys name stands in the keys beside them.
    ///
    /// # Errors
    /// Every problem of every organization.
    pub fn build(defaults: &Defaults, configs: &BTreeMap<String, Config>) -> Result<Self, Vec<Problem>> {
        let tables = Tables::new(&defaults.mapping);
        let mut built = Self { defaults: defaults.clone(), tables, ..Self::default() };
        let mut problems = Problems::default();
        // Partners may be all that comes, and they come later.
        if let Err((layer, mistakes)) = built.tables.table_of(&defaults.profile, &Mapping::default()) {
            problems.add_mistakes(layer, "", mistakes);
        }
        for (name, config) in configs {
            let Some(organization) = one(name, config, defaults, &built.tables, &mut problems) else {
                continue;
            };
            built.most_shared_secrets = built.most_shared_secrets.max(organization.shared_secrets.len());
            built.org_tokens.insert(KeyHash::of(&organization.translation.namespace));
            built.by_name.insert(name.clone(), Arc::new(organization));
        }
        built.distribute_source_keys(configs, &mut problems);
        if problems.0.is_empty() { Ok(built) } else { Err(problems.0) }
    }

    /// This snapshot as the one that follows another: what was learned of partners is known to both.
    #[must_use]
    pub fn after(self, before: &Self) -> Self {
        Self { proven: Arc::clone(&before.proven), ..self }
    }

    /// Hands every source key to its organization, in the order of the names, so that of two claimants always the
    /// same one is told off.
    fn distribute_source_keys(&mut self, configs: &BTreeMap<String, Config>, problems: &mut Problems) {
        let mut owners: HashMap<KeyHash, &str> = HashMap::new();
        for (name, config) in configs {
            for (index, key) in config.source_keys.iter().enumerate() {
                let place = format!("source_keys[{index}]");
                if key.expose().is_empty() {
                    problems.add(name, &place, "a source key must not be empty");
                    continue;
                }
                let hash = KeyHash::of(key.expose());
                let owner = *owners.entry(hash).or_insert(name);
                if owner != name {
                    let message = format!(
                        "this key belongs to organization {owner} already; a source key leads to one organization"
                    );
                    problems.add(name, &place, message);
                } else if let Some(organization) = self.by_name.get(name) {
                    self.by_source_key.insert(hash, Arc::clone(organization));
                }
            }
        }
    }

    /// The organization of this name.
    pub fn by_name(&self, name: &str) -> Option<&Arc<Organization>> {
        self.by_name.get(name)
    }

    /// The organization that this source key belongs to. How long the answer takes says nothing about the key.
    pub fn by_source_key(&self, key: &str) -> Option<&Arc<Organization>> {
        self.by_source_key.get(&KeyHash::of(key))
    }

    /// Whether a configured organization has this organization token.
    pub fn has_org_token(&self, token: &Secret) -> bool {
        self.org_tokens.contains(&KeyHash::of(token.expose()))
    }

    /// The partner with this stored form ([`Partner::to_stored`]), as `[organization_defaults]` and its own choices make
    /// it; `None` if the text is no such form, or the changes of the defaults do not fit the profile that it chose
    /// ([`Organizations::partner_problems`] says so before).
    pub fn partner(&self, stored: &str) -> Option<Arc<Organization>> {
        let hash = KeyHash::of(stored);
        if let Some(known) = lock(&self.partners).get(&hash) {
            return Some(Arc::clone(known));
        }
        let partner = Partner::from_stored(stored)?;
        let name = partner.name();
        let token = partner.org_token().clone();
        let config = partner.config();
        let chosen = config.profile.as_ref().unwrap_or(&self.defaults.profile);
        let profile = self.tables.table_of(chosen, &config.mapping).ok()?;
        let organization = Organization {
            settings: Some(stored.into()),
            ..assemble(&name, &token, profile, &config, &self.defaults)
        };
        let organization = Arc::new(organization);
        let mut partners = lock(&self.partners);
        if partners.len() >= MAX_PARTNERS {
            partners.clear();
        }
        partners.insert(hash, Arc::clone(&organization));
        Some(organization)
    }

    /// What would keep a partner from being served: it may choose any profile, so the changes of the defaults must fit
    /// each of them.
    pub fn partner_problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for name in Profile::BUILTIN {
            let profile = Profile::builtin(name).expect("BUG: it is in the list of those that are built in");
            for mistake in
                profile.changed(&self.defaults.mapping, Layer::Defaults).err().into_iter().flatten()
            {
                let message = format!("{} (in profile {name}, which a partner may choose)", mistake.message);
                problems.push(Problem { key: format!("organization_defaults.{}", mistake.key()), message });
            }
        }
        problems
    }

    /// Remembers that Wigzo has taken a call of this partner: its token is no invention.
    pub fn note_proven_partner(&self, name: &Arc<str>) {
        let mut proven = lock(&self.proven);
        if !proven.contains(name) {
            if proven.len() >= MAX_PROVEN {
                proven.clear();
            }
            proven.insert(Arc::clone(name));
        }
    }

    /// Whether Wigzo has taken a call of this partner since the start.
    pub fn is_proven_partner(&self, name: &str) -> bool {
        lock(&self.proven).contains(name)
    }

    /// What holds for every partner.
    pub fn partner_defaults(&self) -> &Defaults {
        &self.defaults
    }

    /// Every configured organization, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Organization>> {
        self.by_name.values()
    }

    /// The largest number of shared secrets that one organization has.
    pub fn most_shared_secrets(&self) -> usize {
        self.most_shared_secrets
    }

    /// How many are configured.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

/// Both sets are whole between any two statements, so a panic elsewhere cannot have left one half done.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The findings so far.
#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, organization: &str, key: &str, message: impl fmt::Display) {
        let dot = if key.is_empty() { "" } else { "." };
        let key = format!("organizations.{organization}{dot}{key}");
        self.0.push(Problem { key, message: message.to_string() });
    }

    /// Mistakes in the changes to a profile. Those of the defaults are found again for every organization.
    fn add_mistakes(&mut self, layer: Layer, organization: &str, mistakes: Vec<Mistake>) {
        for mistake in mistakes {
            let section = match layer {
                Layer::Profile | Layer::Organization => format!("organizations.{organization}"),
                Layer::Defaults => "organization_defaults".to_owned(),
            };
            let problem = Problem { key: format!("{section}.{}", mistake.key()), message: mistake.message };
            if !self.0.contains(&problem) {
                self.0.push(problem);
            }
        }
    }
}

/// The built-in profiles with the changes of `[organization_defaults]`. Organizations that change nothing share one.
#[derive(Debug)]
struct Tables(HashMap<&'static str, Result<Arc<Profile>, Vec<Mistake>>>);

impl Tables {
    fn new(changes: &Mapping) -> Self {
        let table =
            |name: &&'static str| Some((*name, changed(Profile::builtin(name)?, changes, Layer::Defaults)));
        Self(Profile::BUILTIN.iter().filter_map(table).collect())
    }

    /// A profile with the changes of the defaults, and an organization's own over those; or what does not fit in which.
    fn table_of(
        &self,
        profile: &ProfileName,
        changes: &Mapping,
    ) -> Result<Arc<Profile>, (Layer, Vec<Mistake>)> {
        let base = self.0.get(profile.as_str()).expect("BUG: a profile's name is a built-in one's");
        let base = base.as_ref().map_err(|mistakes| (Layer::Defaults, mistakes.clone()))?;
        changed(base, changes, Layer::Organization).map_err(|mistakes| (Layer::Organization, mistakes))
    }
}

impl Default for Tables {
    fn default() -> Self {
        Self::new(&Mapping::default())
    }
}

/// A table with changes, or the same one if there are none.
fn changed(profile: &Arc<Profile>, changes: &Mapping, layer: Layer) -> Result<Arc<Profile>, Vec<Mistake>> {
    if *changes == Mapping::default() {
        return Ok(Arc::clone(profile));
    }
    profile.changed(changes, layer).map(Arc::new)
}

/// One organization, or `None` with at least one problem added.
fn one(
    name: &str,
    config: &Config,
    defaults: &Defaults,
    tables: &Tables,
    problems: &mut Problems,
) -> Option<Organization> {
    let before = problems.0.len();
    if !is_name(name) {
        problems.add(
            name,
            "",
            "the name is 1 to 63 lower-case letters, digits, `-` and `_`, and begins with a letter or digit",
        );
    }
    let org_token = org_token(name, config, problems);
    check_token(name, config, problems);
    for (index, secret) in config.shared_secrets.iter().enumerate() {
        // A signature made with an empty secret is one that anybody can make.
        if secret.expose().is_empty() {
            problems.add(name, &format!("shared_secrets[{index}]"), "a shared secret must not be empty");
        }
    }
    let chosen = config.profile.as_ref().unwrap_or(&defaults.profile);
    let profile = tables
        .table_of(chosen, &config.mapping)
        .map_err(|(layer, mistakes)| problems.add_mistakes(layer, name, mistakes))
        .ok();
    let (Some(org_token), Some(profile)) = (org_token, profile) else { return None };
    if problems.0.len() > before {
        return None;
    }
    Some(assemble(name, org_token, profile, config, defaults))
}

/// An organization of parts that have been found good.
fn assemble(
    name: &str,
    org_token: &Secret,
    profile: Arc<Profile>,
    config: &Config,
    defaults: &Defaults,
) -> Organization {
    let base = config.base_url.as_ref().unwrap_or(&defaults.base_url).url().clone();
    Organization {
        disabled: config.disabled,
        name: name.to_owned(),
        address: Address::new(base, org_token.inner(), config.token.as_ref().map(Secret::inner)),
        profile,
        translation: Options {
            identity: config.identity.unwrap_or(defaults.identity),
            namespace: org_token.expose().to_owned(),
        },
        shared_secrets: config.shared_secrets.clone(),
        open: config.open,
        report_rejections: config.report_rejections.unwrap_or(defaults.report_rejections),
        obey_integrations: config.obey_integrations.unwrap_or(defaults.obey_integrations),
        cors_origins: config.cors_origins.as_ref().unwrap_or(&defaults.cors_origins).clone(),
        max_in_flight: config.max_in_flight.unwrap_or(defaults.max_in_flight),
        weight: config.weight.unwrap_or(defaults.weight),
        rate_limit: config.rate_limit.unwrap_or(defaults.rate_limit),
        max_age: config.max_age,
        source_keys: !config.source_keys.is_empty(),
        settings: None,
    }
}

/// `[a-z0-9][a-z0-9_-]{0,62}`: a name is also a path segment, a label and part of an environment variable.
fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= 63
        && name.bytes().next().is_some_and(plain)
        && name.bytes().all(|b| plain(b) || b == b'-' || b == b'_')
}

/// The organization token, if it is there and looks like one.
fn org_token<'a>(name: &str, config: &'a Config, problems: &mut Problems) -> Option<&'a Secret> {
    let Some(token) = &config.org_token else {
        match config.org_token_file {
            None => problems.add(
                name,
                "org_token",
                "missing; give the organization token from Wigzo's settings page, or org_token_file",
            ),
            Some(_) => problems.add(name, "org_token_file", "has not been read"),
        }
        return None;
    };
    let text = token.expose();
    if !is_org_token(text) {
        problems.add(name, "org_token", "an organization token is 10 to 64 letters, digits, `-` and `_`");
        return None;
    }
    Some(token)
}

/// Whether a text looks like an organization token (wigzo.md 1.2; no tighter than Wigzo's own check).
pub(super) fn is_org_token(text: &str) -> bool {
    (10..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Wigzo publishes no format for the second token, so only what cannot be one is refused.
fn check_token(name: &str, config: &Config, problems: &mut Problems) {
    match (&config.token, &config.token_file) {
        (Some(token), _) => {
            let text = token.expose();
            if !(1..=512).contains(&text.len()) || !text.bytes().all(|b| b.is_ascii_graphic()) {
                problems.add(name, "token", "a token is 1 to 512 visible characters without blanks");
            }
        }
        (None, Some(_)) => problems.add(name, "token_file", "has not been read"),
        (None, None) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::EngageTrack;

    const TOKEN: &str = "made-up-org-token";

    fn configs(toml: &str) -> BTreeMap<String, Config> {
        toml::from_str(toml).unwrap()
    }

    fn build(toml: &str) -> Result<Organizations, Vec<Problem>> {
        Organizations::build(&Defaults::default(), &configs(toml))
    }

    #[test]
    fn an_organization_is_found_by_name_and_by_any_of_its_keys() {
        let built = build(
            r#"
            [acme]
            org_token = "made-up-org-token"
            source_keys = ["wk_web", "wk_app", "wk_web"]
            shared_secrets = ["new", "old"]
            [beta]
            org_token = "made-up-org-token"
            shared_secrets = ["only"]
            "#,
        )
        .unwrap();
        assert_eq!(built.most_shared_secrets(), 2);
        assert_eq!(built.len(), 2);
        assert!(!built.is_empty());
        assert_eq!(built.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["acme", "beta"]);
        for key in ["wk_web", "wk_app"] {
            assert_eq!(built.by_source_key(key).unwrap().name, "acme");
        }
        assert!(built.by_source_key("wk_we").is_none());
        assert!(built.by_source_key("").is_none());
        assert!(built.by_name("acme").unwrap().has_source_keys());
        assert!(!built.by_name("beta").unwrap().has_source_keys());
        assert!(built.by_name("gamma").is_none());
    }

    #[test]
    fn what_an_organization_says_overrides_the_defaults() {
        let defaults: Defaults = toml::from_str(
            "link_anonymous = false\nmax_in_flight = 8\nreport_rejections = false\nengage_track = \"event\"",
        )
        .unwrap();
        let configs = configs(&format!(
            "[acme]\norg_token = \"{TOKEN}\"\nmax_in_flight = 9\nidentity = \"raw\"\nopen = true\n\
             obey_integrations = \"never\"\nengage_track = \"identify\"\nshared_secrets = [\"hush\"]\n\
             [beta]\norg_token = \"{TOKEN}\""
        ));
        let built = Organizations::build(&defaults, &configs).unwrap();
        let acme = built.by_name("acme").unwrap();
        assert_eq!(acme.max_in_flight, 9);
        assert!(!acme.profile.switches().link_anonymous && !acme.report_rejections && acme.open);
        assert_eq!(acme.translation.identity, crate::translate::Identity::Raw);
        assert_eq!(acme.profile.switches().engage_track, EngageTrack::Identify);
        assert_eq!(built.by_name("beta").unwrap().profile.switches().engage_track, EngageTrack::Event);
        assert_eq!(acme.translation.namespace, TOKEN);
        assert_eq!(acme.obey_integrations, super::super::ObeyIntegrations::Never);
        assert_eq!(acme.shared_secrets.len(), 1);
        assert_eq!(format!("{acme:?}"), r#"Organization { name: "acme", .. }"#);
    }

    #[test]
    fn every_problem_is_reported_with_what_would_be_right() {
        let problems = build(
            r#"
            [Acme]
            org_token = "made-up-org-token"
            source_keys = ["wk_shared"]
            [_]
            org_token = "short"
            [beta]
            source_keys = ["", "wk_shared"]
            shared_secrets = [""]
            token = "has a blank"
            [gamma]
            org_token = ""
            [unread]
            org_token_file = "org"
            token_file = "token"
            "#,
        )
        .unwrap_err();
        let messages: Vec<_> = problems.iter().map(ToString::to_string).collect();
        let name =
            "the name is 1 to 63 lower-case letters, digits, `-` and `_`, and begins with a letter or digit";
        let token = "an organization token is 10 to 64 letters, digits, `-` and `_`";
        assert_eq!(
            messages,
            [
                format!("organizations.Acme: {name}"),
                format!("organizations._: {name}"),
                format!("organizations._.org_token: {token}"),
                "organizations.beta.org_token: missing; give the organization token from Wigzo's settings page, or \
                 org_token_file"
                    .to_owned(),
                "organizations.beta.token: a token is 1 to 512 visible characters without blanks".to_owned(),
                "organizations.beta.shared_secrets[0]: a shared secret must not be empty".to_owned(),
                format!("organizations.gamma.org_token: {token}"),
                "organizations.unread.org_token_file: has not been read".to_owned(),
                "organizations.unread.token_file: has not been read".to_owned(),
                "organizations.beta.source_keys[0]: a source key must not be empty".to_owned(),
                "organizations.beta.source_keys[1]: this key belongs to organization Acme already; a source key leads \
                 to one organization"
                    .to_owned(),
            ]
        );
    }

    #[test]
    fn a_partner_is_made_of_the_defaults_and_its_own_choices() {
        let defaults: Defaults =
            toml::from_str("link_anonymous = false\nmax_in_flight = 8\nidentity = \"anonymous_first\"")
                .unwrap();
        let built =
            Organizations::build(&defaults, &configs(&format!("[acme]\norg_token = \"{TOKEN}\""))).unwrap();
        let stored = r#"{"orgToken":"partner-org-token","identity":"raw"}"#;
        let partner = built.partner(stored).unwrap();
        assert_eq!(partner.translation.identity, crate::translate::Identity::Raw);
        assert!(!partner.profile.switches().link_anonymous && !partner.open && !partner.has_source_keys());
        assert_eq!((partner.max_in_flight, built.partner_defaults().max_in_flight), (8, 8));
        assert_eq!(partner.translation.namespace, "partner-org-token");
        assert_eq!(partner.settings.as_deref(), Some(stored));
        assert!(Arc::ptr_eq(&partner, &built.partner(stored).unwrap()), "made once");
        let other = built.partner(r#"{"orgToken":"partner-org-token"}"#).unwrap();
        assert_eq!(other.translation.identity, crate::translate::Identity::AnonymousFirst);
        assert_eq!(other.name, partner.name, "the token is the organization");
        assert!(built.partner("{}").is_none());
        assert!(built.by_name(&partner.name).is_none() && built.len() == 1, "nothing is registered");
        assert!(
            built.has_org_token(&Secret::new(TOKEN))
                && !built.has_org_token(&Secret::new("partner-org-token"))
        );
    }

    /// A change of the defaults may fit one profile and not another: it is told if anybody uses that one.
    #[test]
    fn changes_that_do_not_fit_a_profile_are_told_to_those_who_use_it() {
        let defaults: Defaults =
            toml::from_str("[events.\"Order Completed\"]\ndrop = [\"coupons\"]").unwrap();
        let acme = |profile| configs(&format!("[acme]\norg_token = \"{TOKEN}\"\nprofile = \"{profile}\""));
        let built = Organizations::build(&defaults, &acme("guide")).unwrap();
        assert!(built.partner(r#"{"orgToken":"partner-org-token"}"#).is_some());
        assert!(built.partner(r#"{"orgToken":"partner-org-token","profile":"classic"}"#).is_none());
        let problems = Organizations::build(&defaults, &acme("classic")).unwrap_err();
        let keys: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(keys, ["organization_defaults.events.Order Completed.drop"]);
        let defaults: Defaults = toml::from_str("[page]\ncalls = [{}]").unwrap();
        assert_eq!(Organizations::build(&defaults, &BTreeMap::new()).unwrap_err().len(), 1);
    }

    #[test]
    fn organizations_without_changes_share_one_table() {
        let configs = configs(&format!(
            "[a]\norg_token = \"{TOKEN}\"\n[b]\norg_token = \"{TOKEN}\"\n[c]\norg_token = \"{TOKEN}\"\nsource = \"app\""
        ));
        let built = Organizations::build(&Defaults::default(), &configs).unwrap();
        let table = |name| &built.by_name(name).unwrap().profile;
        assert!(Arc::ptr_eq(table("a"), table("b")) && !Arc::ptr_eq(table("a"), table("c")));
    }

    #[test]
    fn a_partners_table_is_the_profile_of_its_choice_with_the_defaults_and_its_switches_laid_over() {
        let defaults: Defaults = toml::from_str(
            "contactless = \"skip\"\n[events.\"Product Viewed\"]\ncalls = [{ event = \"seen\" }]",
        )
        .unwrap();
        let built = Organizations::build(&defaults, &BTreeMap::new()).unwrap();
        assert_eq!(built.partner_problems(), []);
        let stored = r#"{"orgToken":"partner-org-token","profile":"classic","contactless":"send","engage_track":"both"}"#;
        let table = &built.partner(stored).unwrap().profile;
        assert_eq!(table.name(), "classic");
        assert_eq!(table.switches().contactless, crate::translate::Contactless::Send);
        assert_eq!(table.switches().engage_track, crate::translate::EngageTrack::Both);
        let (row, _) = table.track("Product Viewed");
        assert_eq!((row.calls().unwrap()[0].event(), row.layer()), (Some("seen"), Layer::Defaults));
        let other = built.partner(r#"{"orgToken":"partner-org-token"}"#).unwrap();
        assert_eq!(other.profile.switches().contactless, crate::translate::Contactless::Skip);
    }

    #[test]
    fn changes_that_do_not_fit_a_profile_which_a_partner_may_choose_are_found() {
        let defaults: Defaults =
            toml::from_str("[events.\"Order Completed\"]\ndrop = [\"coupons\"]").unwrap();
        let built = Organizations::build(&defaults, &BTreeMap::new()).unwrap();
        let problems: Vec<_> = built.partner_problems().iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            [
                "organization_defaults.events.Order Completed.drop: no call of this row has a value with members; give \
                 one a `value` such as \"properties\" (in profile classic, which a partner may choose)"
            ]
        );
    }

    #[test]
    fn strangers_do_not_fill_the_memory() {
        let built = Organizations::default();
        for number in 0..5_000 {
            built.partner(&format!(r#"{{"orgToken":"made-up-{number:04}"}}"#)).unwrap();
            assert!(lock(&built.partners).len() <= MAX_PARTNERS);
        }
        let name: Arc<str> = Arc::from("partner.1");
        assert!(!built.is_proven_partner(&name));
        built.note_proven_partner(&name);
        assert!(built.is_proven_partner(&name));
    }

    #[test]
    fn names_are_path_segments() {
        for (name, fits) in [
            ("a", true),
            ("0", true),
            ("acme-in_2", true),
            ("", false),
            ("-a", false),
            ("_a", false),
            ("A", false),
            ("a.b", false),
            ("a/b", false),
            ("é", false),
        ] {
            assert_eq!(is_name(name), fits, "{name}");
        }
        assert!(is_name(&"a".repeat(63)) && !is_name(&"a".repeat(64)));
    }
}
