//! Judges one layer alone: every key known, every value of the right type and form.
//!
//! Types, ranges and choices come from the schema. What the schema cannot say (is this text an address, a duration?) is
//! found out by trying the value, alone upon the defaults, on the real types.

use serde_json::Value;

use super::layer::Layer;
use super::problem::{Place, Problem, join};
use super::schema::{Kind, Node, Schema};
use super::{ORGANIZATIONS, Settings};
use crate::organization;

/// The built-in defaults as JSON.
pub(super) fn defaults() -> Value {
    serde_json::to_value(Settings::default()).expect("BUG: settings are made of values that JSON can hold")
}

/// Judges layers.
pub(super) struct Judge<'a> {
    schema: &'a Schema,
    defaults: Value,
}

impl<'a> Judge<'a> {
    pub(super) fn new(schema: &'a Schema) -> Self {
        Self { schema, defaults: defaults() }
    }

    /// Everything that is wrong in a layer, in the order of its lines.
    pub(super) fn judge(&self, layer: &Layer) -> Vec<Problem> {
        let mut findings = Vec::new();
        self.visit(self.schema.root(), &mut Vec::new(), &layer.values, &mut findings);
        let mut problems: Vec<_> = findings
            .into_iter()
            .map(|(key, message)| Problem { place: layer.places.find(&key).cloned(), key, message })
            .collect();
        problems.sort_by_key(|problem| match &problem.place {
            Some(Place::File { line, .. }) => *line,
            Some(Place::Variable(_)) | None => None,
        });
        problems
    }

    fn visit(
        &self,
        node: Node<'_>,
        path: &mut Vec<String>,
        value: &Value,
        findings: &mut Vec<(String, String)>,
    ) {
        if let Kind::Value = node.kind() {
            let before = findings.len();
            if let (Some(item), Some(values)) = (node.tables(), value.as_array()) {
                for (index, value) in values.iter().enumerate() {
                    in_list(item, &format!("{}[{index}]", path.join(".")), value, findings);
                }
            }
            // A list is tried as a whole; what its tables have wrong has been said more precisely.
            if findings.len() == before
                && let Err(message) = self.value(node, path, value)
            {
                findings.push((path.join("."), message));
            }
            return;
        }
        let Some(members) = value.as_object() else {
            let name = path.join(".");
            findings.push((name.clone(), format!("expected a table, as in [{name}]")));
            return;
        };
        for (key, value) in members {
            let Some(child) = node.child(key) else {
                findings.push((join(&path.join("."), key), node.unknown(key)));
                continue;
            };
            path.push(key.clone());
            self.visit(child, path, value, findings);
            path.pop();
        }
    }

    /// Judges one value.
    fn value(&self, node: Node<'_>, path: &[String], value: &Value) -> Result<(), String> {
        let usual = path.iter().try_fold(&self.defaults, |at, step| at.get(step));
        if !node.accepts(value) {
            return Err(node.expected(usual));
        }
        let Err(error) = self.try_on(path, value) else { return Ok(()) };
        let error = error.to_string();
        // A key may need another one beside it, which may stand in another layer.
        if error.starts_with("missing field") {
            return Ok(());
        }
        // serde's own texts repeat the value; a type's own text says what it wants.
        let repeats = match value {
            Value::String(text) => !text.is_empty() && error.contains(text.as_str()),
            Value::Array(items) => {
                items.iter().any(|item| item.as_str().is_none_or(|text| error.contains(text)))
            }
            Value::Object(_) => true,
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        };
        if repeats || error.starts_with("invalid ") && error.contains(", expected ") {
            return Err(node.expected(usual).replace("text in quotes", "a value of the right form"));
        }
        Err(match usual {
            Some(usual @ Value::String(text)) if !text.is_empty() => {
                format!("{error}; the default is {usual}")
            }
            _ => error,
        })
    }
}

impl Judge<'_> {
    /// Tries a value on the real types: of an organization on its own, because there may be thousands.
    fn try_on(&self, path: &[String], value: &Value) -> Result<(), serde_json::Error> {
        if let [section, _, key @ ..] = path
            && section == ORGANIZATIONS
        {
            let mut trial = Value::Null;
            *slot(&mut trial, key) = value.clone();
            return serde_json::from_value::<organization::Config>(trial).map(drop);
        }
        let mut trial = self.defaults.clone();
        *slot(&mut trial, path) = value.clone();
        serde_json::from_value::<Settings>(trial).map(drop)
    }
}

/// Judges a table that stands in a list, by the schema alone.
fn in_list(node: Node<'_>, key: &str, value: &Value, findings: &mut Vec<(String, String)>) {
    let Some(members) = value.as_object() else {
        findings.push((
            key.to_owned(),
            format!("expected a table, such as {{ {} = … }}", node.keys().join(" = …, ")),
        ));
        return;
    };
    for (name, value) in members {
        let key = join(key, name);
        match node.child(name) {
            None => findings.push((key, node.unknown(name))),
            Some(child) if matches!(child.kind(), Kind::Value) && !child.accepts(value) => {
                findings.push((key, child.expected(None)));
            }
            Some(_) => {}
        }
    }
}

/// The place of a path within a tree, made where it is missing.
fn slot<'a>(tree: &'a mut Value, path: &[String]) -> &'a mut Value {
    path.iter().fold(tree, |at, step| {
        if !at.is_object() {
            *at = Value::Object(serde_json::Map::new());
        }
        // Indexing an object by a key inserts what is missing; anything but an object was replaced above.
        at.as_object_mut().expect("BUG: made an object above").entry(step.clone()).or_insert(Value::Null)
    })
}
