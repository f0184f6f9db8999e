//! `/api/organizations`: who is served, how, and how their delivery stands; and the operator's word that one waits.
//!
//! Tokens, keys and secrets are shown as `***` or as their number.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::body::Json;
use super::cursor::Cursor;
use super::filter::{InPath, Parameters};
use super::guard::Changed;
use super::problem::{Problem, json};
use super::tokens::Who;
use super::{Admin, Answer};
use crate::delivery::{Hold, HoldsError, Overview, State as Standing};
use crate::organization::{self, AllowedOrigin, ObeyIntegrations, Partner};
use crate::translate::Identity;
use crate::wigzo::Endpoint;

/// Characters of a reason to pause.
const WHY: usize = 500;

/// A page of organizations, by name.
#[derive(Serialize, JsonSchema)]
pub(super) struct Organizations {
    /// Those that are configured, and those of which events or a pause are left.
    organizations: Vec<Organization>,
    /// Where the next page begins.
    cursor: Option<Cursor>,
}

/// An organization.
#[derive(Serialize, JsonSchema)]
pub(super) struct Organization {
    /// Its name.
    name: String,
    /// How it is configured; absent for a partner, and where only events of it are left.
    configuration: Option<Configuration>,
    /// Whether nobody configured it: its events bring their token (partner mode).
    partner: bool,
    /// Events that wait, parked ones included.
    waiting: u64,
    /// Waiting events that alone keep failing.
    parked: u64,
    /// Dead letters that nobody has decided about.
    dead_letters: u64,
    /// Who has paused it, since when and why, if somebody has.
    paused: Option<Hold>,
    /// How its delivery stands, as of a quarter of a second ago at most; absent if nobody delivers for it.
    delivery: Option<Overview>,
}

/// What is configured for an organization.
#[derive(Serialize, JsonSchema)]
#[expect(clippy::struct_excessive_bools, reason = "switches, as the configuration has them")]
struct Configuration {
    /// Whether it is switched off: nothing is taken in for it, and what waits goes on waiting.
    disabled: bool,
    /// Its profile.
    profile: String,
    /// Which of a person's ids becomes Wigzo's learner id.
    identity: Identity,
    /// Where its event calls go, with `***` for each token.
    address: String,
    /// Whether any source key leads to it.
    source_keys: bool,
    /// How many shared secrets it has.
    shared_secrets: usize,
    /// Whether its path alone lets events in.
    open: bool,
    /// Whether a single invalid event is answered with 400.
    report_rejections: bool,
    /// Where an event's `integrations` object is obeyed.
    obey_integrations: ObeyIntegrations,
    /// The pages that may send.
    cors_origins: Vec<AllowedOrigin>,
    /// Calls to Wigzo that it may have open at one time.
    max_in_flight: usize,
    /// How much of delivery it gets while others wait too.
    weight: usize,
    /// Calls to Wigzo that it may make in a second; 0 sets no limit.
    rate_limit: u32,
}

impl Configuration {
    fn of(organization: &organization::Organization) -> Self {
        Self {
            disabled: organization.disabled,
            profile: organization.profile.name().to_owned(),
            identity: organization.translation.identity,
            address: organization.address.url(Endpoint::Event).redacted().to_owned(),
            source_keys: organization.has_source_keys(),
            shared_secrets: organization.shared_secrets.len(),
            open: organization.open,
            report_rejections: organization.report_rejections,
            obey_integrations: organization.obey_integrations,
            cors_origins: organization.cors_origins.clone(),
            max_in_flight: organization.max_in_flight,
            weight: organization.weight,
            rate_limit: organization.rate_limit,
        }
    }
}

/// Counts and standings of one moment.
struct Moment<'a> {
    admin: &'a Admin,
    waiting: BTreeMap<Arc<str>, u64>,
    parked: BTreeMap<Arc<str>, u64>,
    dead_letters: BTreeMap<Arc<str>, u64>,
    held: Arc<crate::delivery::Held>,
    overview: BTreeMap<Arc<str>, Overview>,
}

impl<'a> Moment<'a> {
    fn of(admin: &'a Admin) -> Self {
        let stats = admin.queue.stats();
        let overview = admin.delivery.overview();
        Self {
            admin,
            waiting: stats.waiting,
            parked: stats.parked,
            dead_letters: stats.dead_letters,
            held: admin.delivery.held(),
            overview: overview.iter().map(|it| (Arc::clone(&it.organization), it.clone())).collect(),
        }
    }

    fn names(&self) -> BTreeSet<&str> {
        let configured = self.admin.organizations.iter().map(|organization| organization.name.as_str());
        let left = self.waiting.keys().chain(self.dead_letters.keys()).chain(self.held.keys());
        configured.chain(left.chain(self.overview.keys()).map(|name| &**name)).collect()
    }

    fn state(&self, name: &str) -> Option<Standing> {
        self.overview.get(name).map(|overview| overview.state)
    }

    fn show(&self, name: &str) -> Organization {
        let count = |counts: &BTreeMap<Arc<str>, u64>| counts.get(name).copied().unwrap_or_default();
        Organization {
            name: name.to_owned(),
            configuration: self.admin.organizations.by_name(name).map(|it| Configuration::of(it)),
            partner: Partner::is_name(name),
            waiting: count(&self.waiting),
            parked: count(&self.parked),
            dead_letters: count(&self.dead_letters),
            paused: self.held.get(name).cloned(),
            delivery: self.overview.get(name).cloned(),
        }
    }
}

pub(super) async fn list(State(admin): State<Arc<Admin>>, parameters: Parameters) -> Answer {
    let mut asked = parameters.only(&["standing", "limit", "cursor"])?;
    let known = Standing::ALL.iter().map(|state| state.as_str()).collect::<Vec<_>>().join(", ");
    let state = asked.parse("standing", &format!("one of {known}"), |text| {
        Standing::ALL.iter().copied().find(|state| state.as_str() == text)
    })?;
    let (limit, cursor) = (asked.limit()?, asked.cursor()?);
    let moment = Moment::of(&admin);
    let after = cursor.as_ref().map_or("", Cursor::name);
    let mut names = moment
        .names()
        .into_iter()
        .filter(|name| *name > after)
        .filter(|name| state.is_none() || moment.state(name) == state);
    let organizations: Vec<_> = names.by_ref().take(limit).map(|name| moment.show(name)).collect();
    let cursor =
        names.next().and(organizations.last()).map(|last: &Organization| Cursor::of_name(&last.name));
    Ok(json(StatusCode::OK, &Organizations { organizations, cursor }))
}

pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    InPath(name): InPath,
    parameters: Parameters,
) -> Answer {
    parameters.only(&[])?;
    one(&admin, &name)
}

/// An organization, if there is one of this name.
pub(super) fn one(admin: &Admin, name: &str) -> Result<Response, Problem> {
    let moment = Moment::of(admin);
    if !moment.names().contains(name) {
        return Err(Problem::UnknownOrganization);
    }
    Ok(json(StatusCode::OK, &moment.show(name)))
}

/// The body of a pause.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Pause {
    /// Why, in 1 to 500 characters; it is shown with the pause.
    #[schemars(length(min = 1, max = 500))]
    why: Option<String>,
}

pub(super) async fn pause(
    State(admin): State<Arc<Admin>>,
    InPath(name): InPath,
    axum::Extension(who): axum::Extension<Who>,
    parameters: Parameters,
    Json(Pause { why }): Json<Pause>,
) -> Answer {
    parameters.only(&[])?;
    let length = why.as_ref().map(|why| why.trim().chars().count());
    if length.is_some_and(|length| !(1..=WHY).contains(&length)) {
        return Err(Problem::Body(format!("why: expected 1 to {WHY} characters.")));
    }
    one(&admin, &name)?;
    let count = u64::from(!admin.delivery.held().contains_key(&*name));
    let hold = Hold { since: admin.clock.now(), by: who.name.to_string(), why };
    admin.delivery.hold(&name, hold).await.map_err(|error| not_saved(&error))?;
    Ok(Changed { on: name.clone(), count }.beside(one(&admin, &name)?))
}

/// The body of a resume: nothing.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Resume {}

pub(super) async fn resume(
    State(admin): State<Arc<Admin>>,
    InPath(name): InPath,
    parameters: Parameters,
    Json(Resume {}): Json<Resume>,
) -> Answer {
    parameters.only(&[])?;
    one(&admin, &name)?;
    let count = u64::from(admin.delivery.held().contains_key(&*name));
    admin.delivery.resume(&name).await.map_err(|error| not_saved(&error))?;
    // Of what was only held nothing may be left.
    let answer = one(&admin, &name).unwrap_or_else(|_| json(StatusCode::OK, &Moment::of(&admin).show(&name)));
    Ok(Changed { on: name, count }.beside(answer))
}

fn not_saved(error: &HoldsError) -> Problem {
    tracing::error!(%error, "a pause or its end could not be written down; nothing was changed");
    Problem::NotSaved
}
