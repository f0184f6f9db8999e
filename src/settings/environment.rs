//! The environment as layers: `WIGZO__SECTION__KEY`, then the shorthands.
//!
//! Text becomes the type that the schema asks for at that key: numbers and booleans are read, lists are comma separated.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use super::layer::Layer;
use super::locate::CONFIG;
use super::problem::{Place, Problem, join};
use super::schema::{Kind, Node, Schema};
use crate::secret::Secret;
use crate::supervisor::Variables;

/// Short names for what one organization needs, called `default`; the key that each sets.
const SHORTHANDS: [(&str, &str); 4] = [
    ("WIGZO_ORG_TOKEN", "org_token"),
    ("WIGZO_TOKEN", "token"),
    ("WIGZO_SOURCE_KEYS", "source_keys"),
    ("WIGZO_SHARED_SECRETS", "shared_secrets"),
];

/// Variables of commands, which set no key: where the admin API is, and what it asks for.
const ADMIN_URL: &str = "WIGZO_ADMIN_URL";
const ADMIN_TOKEN: &str = "WIGZO_ADMIN_TOKEN";
const ADMIN_TOKEN_FILE: &str = "WIGZO_ADMIN_TOKEN_FILE";
const OF_COMMANDS: [&str; 4] = [CONFIG, ADMIN_URL, ADMIN_TOKEN, ADMIN_TOKEN_FILE];

/// What every variable of ours begins with.
const PREFIX: &str = "WIGZO_";

/// The variables of this process that concern the service: the one door to the environment.
pub fn environment() -> BTreeMap<String, String> {
    // `vars` would panic on another program's variable that is not Unicode.
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect()
}

/// What the environment says of the admin API that commands talk to. Empty variables count as not set.
#[derive(Debug, Default)]
pub struct AdminVariables {
    /// `WIGZO_ADMIN_URL`.
    pub url: Option<String>,
    /// `WIGZO_ADMIN_TOKEN`.
    pub token: Option<Secret>,
    /// `WIGZO_ADMIN_TOKEN_FILE`.
    pub token_file: Option<PathBuf>,
}

impl AdminVariables {
    /// Reads it from these variables.
    pub fn of(env: &BTreeMap<String, String>) -> Self {
        let find = |name: &str| env.get(name).map(|text| text.trim()).filter(|text| !text.is_empty());
        Self {
            url: find(ADMIN_URL).map(str::to_owned),
            token: find(ADMIN_TOKEN).map(Secret::new),
            token_file: find(ADMIN_TOKEN_FILE).map(PathBuf::from),
        }
    }
}

/// Where configuration files of this user are (XDG Base Directory Specification). A relative path there is ignored.
pub(super) fn config_home() -> Option<PathBuf> {
    let find = |wanted: &str| std::env::vars_os().find(|(name, _)| name == wanted).map(|(_, value)| value);
    let absolute = |path: &PathBuf| path.is_absolute();
    let home = || find("HOME").map(PathBuf::from).filter(absolute).map(|home| home.join(".config"));
    find("XDG_CONFIG_HOME").map(PathBuf::from).filter(absolute).or_else(home)
}

/// What a supervisor has put into the environment of this process.
pub fn supervisor_variables() -> Variables {
    let find = |wanted: &str| std::env::vars_os().find(|(name, _)| name == wanted).map(|(_, value)| value);
    Variables {
        socket: find("NOTIFY_SOCKET"),
        watchdog: find("WATCHDOG_USEC"),
        watchdog_pid: find("WATCHDOG_PID"),
    }
}

/// The two layers of the environment, the stronger one last.
pub(super) fn layers(
    env: &BTreeMap<String, String>,
    schema: &Schema,
    problems: &mut Vec<Problem>,
) -> [Layer; 2] {
    let mut long = Layer::empty();
    let mut short = Layer::empty();
    for (name, text) in env {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let place = Place::Variable(name.clone());
        let (layer, path) = if let Some(path) = rest.strip_prefix('_') {
            (&mut long, path.to_ascii_lowercase().split("__").map(str::to_owned).collect())
        } else if let Some((_, key)) = SHORTHANDS.iter().find(|(known, _)| known == name) {
            // Compose files pass a variable that is not set as an empty one.
            if text.is_empty() {
                continue;
            }
            (&mut short, vec!["organizations".to_owned(), "default".to_owned(), (*key).to_owned()])
        } else if OF_COMMANDS.contains(&name.as_str()) || is_service_link(rest) {
            continue;
        } else {
            let known: Vec<_> = SHORTHANDS.iter().map(|(known, _)| *known).chain(OF_COMMANDS).collect();
            let message = format!("unknown variable; known are {} and WIGZO__SECTION__KEY", known.join(", "));
            problems.push(Problem { place: Some(place), key: String::new(), message });
            continue;
        };
        match find(schema, &path) {
            Ok(node) => set(layer, &path, node.read(text), &place),
            Err((key, message)) => problems.push(Problem { place: Some(place), key, message }),
        }
    }
    [long, short]
}

/// Whether an orchestrator made this variable for a service that is called `wigzo` or `wigzo-…`. Kubernetes sets
/// `NAME_SERVICE_HOST`, `NAME_SERVICE_PORT…`, `NAME_PORT`, `NAME_PORT_80_TCP` and `NAME_PORT_80_TCP_{PROTO,PORT,ADDR}`
/// in every container beside it.
fn is_service_link(rest: &str) -> bool {
    let words: Vec<_> = rest.split('_').collect();
    let is_number = |word: &str| word.parse::<u16>().is_ok();
    words.ends_with(&["PORT"])
        || words.windows(2).any(|pair| matches!(pair, ["SERVICE", "HOST" | "PORT"]))
        || words
            .windows(3)
            .any(|three| matches!(three, ["PORT", number, "TCP" | "UDP" | "SCTP"] if is_number(number)))
}

/// The node that a path leads to, if it takes a value; else the key that is wrong, and why.
fn find<'a>(schema: &'a Schema, path: &[String]) -> Result<Node<'a>, (String, String)> {
    let mut node = schema.root();
    let mut key = String::new();
    for step in path {
        key = join(&key, step);
        node = node.child(step).ok_or_else(|| (key.clone(), node.unknown(step)))?;
    }
    match node.kind() {
        Kind::Value => Ok(node),
        Kind::Section(_) => {
            Err((key, format!("a section takes no value; name one of its keys: {}", node.keys().join(", "))))
        }
        Kind::Named(_) => Err((key, "takes no value; name one entry and its key".to_owned())),
    }
}

/// Sets a value, making the objects on the way.
fn set(layer: &mut Layer, path: &[String], value: Value, place: &Place) {
    let mut target = &mut layer.values;
    let mut key = String::new();
    for step in path {
        key = join(&key, step);
        layer.places.insert(key.clone(), place.clone());
        if !target.is_object() {
            *target = Value::Object(serde_json::Map::new());
        }
        let Value::Object(members) = target else { return };
        target = members.entry(step.clone()).or_insert(Value::Null);
    }
    *target = value;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_kubernetes_makes_are_not_ours() {
        for (name, link) in [
            ("SERVICE_HOST", true),
            ("SERVICE_PORT", true),
            ("SERVICE_PORT_HTTP", true),
            ("PORT", true),
            ("PORT_8080_TCP", true),
            ("PORT_8080_TCP_ADDR", true),
            ("DESTINATION_SERVICE_HOST", true),
            ("DESTINATION_PORT", true),
            ("DESTINATION_PORT_8080_TCP_PROTO", true),
            ("DESTINATION_PORT_8080_UDP_PORT", true),
            ("ORG_TOKEN_FILE", false),
            ("TOKENS", false),
            ("8080_TCP", false),
            ("PORT_TCP", false),
        ] {
            assert_eq!(is_service_link(name), link, "{name}");
        }
    }
}
