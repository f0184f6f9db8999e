//! `profiles list` and `profiles show`: translation tables as people read them.

use std::fmt::Write as _;

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::choice::{Choice, Chosen};
use super::{Failure, say, say_json};
use crate::organization::ProfileName;
use crate::translate::{CallRule, Mapping, Profile, Row};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the built-in profiles
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Show a table as it is in force, and from where each part of it comes
    Show {
        /// The profile [default: that of the organization]
        #[arg(value_name = "PROFILE", value_parser = |name: &str| ProfileName::try_from(name.to_owned()))]
        profile: Option<ProfileName>,
        #[command(flatten)]
        choice: Choice,
        /// One line of JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::List { json: true } => {
            for name in Profile::BUILTIN {
                say_json(&json!({ "name": name, "meaning": Profile::meaning(name) }));
            }
            Ok(())
        }
        Command::List { json: false } => {
            for name in Profile::BUILTIN {
                say(&format!("{name:<10}{}\n", Profile::meaning(name).unwrap_or_default()));
            }
            Ok(())
        }
        Command::Show { profile, choice, json } => {
            let chosen = choice.named(profile.clone())?;
            say(&if *json { as_json(&chosen) } else { as_text(&chosen) });
            Ok(())
        }
    }
}

/// The switches with their values, and from where each comes.
fn switches(chosen: &Chosen) -> Vec<(String, Value, &'static str)> {
    let stated = |mapping: &Mapping| serde_json::to_value(mapping).unwrap_or_default();
    let settings = &chosen.settings;
    let defaults = stated(&settings.organization_defaults.mapping);
    let organization = settings.organizations.get(&chosen.organization.name);
    let own = organization.map(|config| stated(&config.mapping)).unwrap_or_default();
    let Ok(Value::Object(switches)) = serde_json::to_value(chosen.organization.profile.switches()) else {
        return Vec::new();
    };
    let layer = |key: &str| {
        let layers = [(&own, "organization"), (&defaults, "organization_defaults")];
        layers.into_iter().find(|(stated, _)| stated.get(key).is_some()).map_or("profile", |(_, layer)| layer)
    };
    switches.into_iter().map(|(key, value)| (key.clone(), value, layer(&key))).collect()
}

/// The rows that have a key of their own, then those of track events by name.
fn rows(profile: &Profile) -> Vec<(&str, &Row)> {
    let mut events: Vec<_> = profile.rows().iter().collect();
    events.sort_by_key(|row| row.names().first());
    let events = events.into_iter().filter_map(|row| Some((row.names().first()?.as_str(), row)));
    profile.type_rows().into_iter().chain(events).collect()
}

fn as_json(chosen: &Chosen) -> String {
    let profile = &chosen.organization.profile;
    let switch = |(key, value, layer)| (key, json!({ "value": value, "layer": layer }));
    let switches: Map<_, _> = switches(chosen).into_iter().map(switch).collect();
    let rows: Vec<_> = rows(profile).into_iter().map(|(name, row)| row_json(name, row)).collect();
    let table = json!({
        "profile": profile.name(),
        "organization": (!chosen.made_up).then_some(&chosen.organization.name),
        "switches": switches,
        "rows": rows,
    });
    format!("{table}\n")
}

fn row_json(name: &str, row: &Row) -> Value {
    let constants = row.constants().map(|set| {
        let constant = |(name, value): (&String, &crate::wigzo::Json<'_>)| {
            (name.clone(), serde_json::from_str(value.as_str()).unwrap_or_default())
        };
        set.iter().map(constant).collect::<Map<_, Value>>()
    });
    let all = [
        ("name", json!(name)),
        ("also", json!(row.names().get(1..).unwrap_or_default())),
        ("layer", json!(row.layer().as_str())),
        ("calls", row.calls().map_or(Value::Null, |calls| calls.iter().map(call_json).collect())),
        ("drop", json!(row.dropped())),
        ("keep", json!(row.kept())),
        ("set", json!(constants)),
    ];
    let said = |(key, value): (&str, Value)| (!value.is_null()).then(|| (key.to_owned(), value));
    Value::Object(all.into_iter().filter_map(said).collect())
}

/// A call in the grammar of tables.
fn call_json(call: &CallRule) -> Value {
    let endpoint = call.endpoint().map(|endpoint| json!(endpoint)).unwrap_or_default();
    let requires: Vec<_> = call.requires().collect();
    let when: Map<_, _> = call.when().map(|(field, values)| (field.to_owned(), json!(values))).collect();
    let all = [
        ("event", json!(call.event())),
        ("value", json!(call.value().map(crate::translate::Shape::as_str))),
        ("endpoint", endpoint),
        ("status", json!(call.status())),
        ("requires", if requires.is_empty() { Value::Null } else { json!(requires) }),
        ("when", if when.is_empty() { Value::Null } else { Value::Object(when) }),
    ];
    let said = |(key, value): (&str, Value)| (!value.is_null()).then(|| (key.to_owned(), value));
    Value::Object(all.into_iter().filter_map(said).collect())
}

fn as_text(chosen: &Chosen) -> String {
    let profile = &chosen.organization.profile;
    let mut out = format!("Profile {}", profile.name());
    if !chosen.made_up {
        let _ = write!(out, ", as organization {} has it", chosen.organization.name);
    }
    out += ".\n\n";
    let mut table = vec![["SWITCH".to_owned(), "FROM".to_owned(), "VALUE".to_owned()]];
    for (key, value, layer) in switches(chosen) {
        let value = match value {
            Value::String(text) if !text.is_empty() => text,
            Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
            value => value.to_string(),
        };
        table.push([key, layer.to_owned(), value]);
    }
    write_table(&mut out, &table);
    out.push('\n');
    let mut table = vec![["ROW".to_owned(), "FROM".to_owned(), "CALLS".to_owned()]];
    for (name, row) in rows(profile) {
        let mut calls = lines_of(row);
        let names = std::iter::once(name.to_owned());
        let names: Vec<_> =
            names.chain(row.names().iter().skip(1).map(|other| format!("  {other}"))).collect();
        let first = names.len().max(calls.len());
        calls.resize(first, String::new());
        for (line, call) in calls.into_iter().enumerate() {
            let layer = if line == 0 { row.layer().as_str() } else { "" };
            table.push([names.get(line).cloned().unwrap_or_default(), layer.to_owned(), call]);
        }
    }
    write_table(&mut out, &table);
    out
}

/// The calls of a row and what is done to their values, a line each.
fn lines_of(row: &Row) -> Vec<String> {
    let mut lines: Vec<_> = match row.calls() {
        None => vec!["(those of otherwise)".to_owned()],
        Some([]) => vec!["(none)".to_owned()],
        Some(calls) => calls.iter().map(ToString::to_string).collect(),
    };
    for (word, names) in [("drop", row.dropped()), ("keep", row.kept())] {
        lines.extend(names.map(|names| format!("{word} {}", names.join(", "))));
    }
    let constants = row.constants().into_iter().flatten();
    lines.extend(constants.map(|(name, value)| format!("set {name} = {}", value.as_str())));
    lines
}

/// Three columns, the last one as long as it is.
fn write_table(out: &mut String, table: &[[String; 3]]) {
    let width = |column: fn(&[String; 3]) -> &String| {
        table.iter().map(|row| column(row).chars().count()).max().unwrap_or_default()
    };
    let (first, second) = (width(|[name, _, _]| name), width(|[_, layer, _]| layer));
    for [name, layer, text] in table {
        let line = format!("{name:<first$}  {layer:<second$}  {text}");
        out.push_str(line.trim_end());
        out.push('\n');
    }
}
