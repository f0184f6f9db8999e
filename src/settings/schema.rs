//! The JSON Schema of [`Settings`], read as the table of known keys: their types, ranges, choices and descriptions.
//!
//! Only the part of JSON Schema that `schemars` writes for configuration structs is understood. What is not understood
//! is let through: every value is also tried on the real types (see `judge`).

use serde_json::{Map, Value};

use super::Settings;
use super::print::tidy;

/// The schema of the whole configuration, without references.
pub(super) struct Schema(Value);

impl Schema {
    pub(super) fn of_settings() -> Self {
        Self::of::<Settings>()
    }

    fn of<T: schemars::JsonSchema>() -> Self {
        let mut generator = schemars::generate::SchemaSettings::draft2020_12()
            .with(|settings| settings.inline_subschemas = true)
            .into_generator();
        Self(generator.root_schema_for::<T>().to_value())
    }

    pub(super) fn root(&self) -> Node<'_> {
        Node::new(&self.0)
    }
}

/// What stands at one path of the configuration.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    /// The schema with its description.
    outer: &'a Value,
    /// The schema that says what is accepted: for an optional key the part that is not null.
    inner: &'a Value,
}

/// The three kinds of nodes.
pub(super) enum Kind<'a> {
    /// A table with known keys.
    Section(&'a Map<String, Value>),
    /// A table whose keys are names that the operator chooses.
    Named(Node<'a>),
    /// A value.
    Value,
}

impl<'a> Node<'a> {
    fn new(outer: &'a Value) -> Self {
        let alternatives = outer.get("anyOf").and_then(Value::as_array);
        let mut real =
            alternatives.into_iter().flatten().filter(|one| one.get("type") != Some(&"null".into()));
        let inner = match (real.next(), real.next()) {
            (Some(only), None) => only,
            _ => outer,
        };
        Self { outer, inner }
    }

    pub(super) fn kind(self) -> Kind<'a> {
        if let Some(properties) = self.inner.get("properties").and_then(Value::as_object) {
            return Kind::Section(properties);
        }
        match self.inner.get("additionalProperties") {
            Some(item @ Value::Object(_)) => Kind::Named(Self::new(item)),
            _ => Kind::Value,
        }
    }

    /// The node under a key; `None` if the key is not known.
    pub(super) fn child(self, key: &str) -> Option<Self> {
        match self.kind() {
            Kind::Section(properties) => properties.get(key).map(Self::new),
            Kind::Named(item) => Some(item),
            Kind::Value => None,
        }
    }

    /// The table that each item of a list is, if that is what it takes.
    pub(super) fn tables(self) -> Option<Self> {
        let item = Self::new(self.inner.get("items")?);
        matches!(item.kind(), Kind::Section(_)).then_some(item)
    }

    /// The known keys, sorted.
    pub(super) fn keys(self) -> Vec<&'a str> {
        match self.kind() {
            Kind::Section(properties) => properties.keys().map(String::as_str).collect(),
            Kind::Named(_) | Kind::Value => Vec::new(),
        }
    }

    /// Why there is no such key here, and which would be right.
    pub(super) fn unknown(self, key: &str) -> String {
        let keys = self.keys();
        if let Some(near) = nearest(key, &keys) {
            format!("unknown key; did you mean `{near}`?")
        } else if keys.is_empty() {
            "unknown key; there are no keys below this one".to_owned()
        } else {
            format!("unknown key; known here: {}", keys.join(", "))
        }
    }

    /// What the key is for.
    pub(super) fn description(self) -> Option<&'a str> {
        self.outer.get("description").and_then(Value::as_str)
    }

    /// A made-up value, or the default, for keys that are shown without being set.
    pub(super) fn example(self) -> Option<&'a Value> {
        let first =
            |schema: &'a Value| schema.get("examples").and_then(Value::as_array).and_then(|all| all.first());
        let default = self.outer.get("default").filter(|default| !default.is_null());
        first(self.outer).or_else(|| first(self.inner)).or(default)
    }

    /// The choices of an enumeration, each with its description; empty for anything else.
    pub(super) fn choices(self) -> Vec<(&'a str, Option<&'a str>)> {
        let listed = self.inner.get("enum").and_then(Value::as_array);
        let described = self.inner.get("oneOf").and_then(Value::as_array);
        let mut choices: Vec<_> =
            listed.into_iter().flatten().filter_map(Value::as_str).map(|name| (name, None)).collect();
        for one in described.into_iter().flatten() {
            if let Some(name) = one.get("const").and_then(Value::as_str) {
                choices.push((name, one.get("description").and_then(Value::as_str)));
            } else {
                choices.extend(Node::new(one).choices());
            }
        }
        choices
    }

    /// The bounds of a number that are worth telling; the bounds of its Rust type are told only as far as they bind.
    pub(super) fn range(self) -> Option<String> {
        let least = self.inner.get("minimum").and_then(Value::as_i64).filter(|least| *least > 0)?;
        match self.inner.get("maximum") {
            Some(most) => Some(format!("from {least} to {most}")),
            None => Some(format!("at least {least}")),
        }
    }

    /// The types that are accepted; empty if the schema does not say.
    fn types(self) -> Vec<&'a str> {
        match self.inner.get("type") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether a value has an accepted type, is one of the choices and lies within the bounds.
    pub(super) fn accepts(self, value: &Value) -> bool {
        let choices = self.choices();
        if !choices.is_empty() {
            return value.as_str().is_some_and(|text| choices.iter().any(|(name, _)| *name == text));
        }
        let types = self.types();
        types.is_empty() || types.into_iter().any(|name| self.is(name, value))
    }

    fn is(self, type_name: &str, value: &Value) -> bool {
        match type_name {
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => (value.is_i64() || value.is_u64()) && self.in_range(value),
            "number" => value.is_number() && self.in_range(value),
            "array" => {
                let item = self.inner.get("items").map(Node::new);
                value.as_array().is_some_and(|items| {
                    items.iter().all(|value| item.is_none_or(|node| node.accepts(value)))
                })
            }
            "object" => value.is_object(),
            // TOML has no null: what could not be read became one.
            _ => false,
        }
    }

    fn in_range(self, value: &Value) -> bool {
        let bound = |name| self.inner.get(name).and_then(Value::as_f64);
        let Some(number) = value.as_f64() else { return false };
        bound("minimum").is_none_or(|least| number >= least)
            && bound("maximum").is_none_or(|most| number <= most)
    }

    /// What would be accepted, in words; `usual` is the default, if there is one.
    pub(super) fn expected(self, usual: Option<&Value>) -> String {
        let choices = self.choices();
        if !choices.is_empty() {
            let one_of = if choices.len() > 1 { "one of " } else { "" };
            return format!("expected {one_of}{}", quoted(&choices));
        }
        let item_choices = self.inner.get("items").map(|item| Node::new(item).choices()).unwrap_or_default();
        let types = self.types();
        let range = match self.range() {
            Some(range) => format!(", {range}"),
            None if self.inner.get("minimum").is_some() => match self.inner.get("maximum") {
                Some(most) => format!(", from 0 to {most}"),
                None => ", 0 or more".to_owned(),
            },
            None => String::new(),
        };
        let what = match types.into_iter().find(|name| *name != "null") {
            Some("boolean") => "true or false".to_owned(),
            Some("integer") => format!("a whole number{range}"),
            Some("number") => format!("a number{range}"),
            Some("array") if !item_choices.is_empty() => {
                format!("a list of any of {}", quoted(&item_choices))
            }
            Some("array") => "a list, as in [\"one\", \"two\"]".to_owned(),
            Some("object") => "a table".to_owned(),
            Some("string") => match usual.and_then(Value::as_str).filter(|text| !text.is_empty()) {
                Some(text) => format!("text in quotes, such as \"{}\"", tidy(text)),
                None => "text in quotes".to_owned(),
            },
            _ => "another type".to_owned(),
        };
        format!("expected {what}")
    }

    /// The text of an environment variable as the type that this node takes. What cannot be read stays text, and is
    /// then refused as such.
    pub(super) fn read(self, text: &str) -> Value {
        let types = self.types();
        if types.contains(&"string") || types.is_empty() {
            return text.into();
        }
        if types.contains(&"array") {
            let item = self.inner.get("items").map(Node::new);
            let items = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            return items.map(|part| item.map_or_else(|| part.into(), |node| node.read(part))).collect();
        }
        let scalar = serde_json::from_str::<Value>(text.trim()).ok();
        scalar.filter(|value| value.is_boolean() || value.is_number()).unwrap_or_else(|| text.into())
    }
}

/// Choices as one would write them.
fn quoted(choices: &[(&str, Option<&str>)]) -> String {
    let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    names.join(", ")
}

/// The known key that was probably meant: at most a third of its letters differ.
fn nearest<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    let close = |near: &&str| distance(key, near);
    let near = known.iter().copied().min_by_key(close)?;
    (distance(key, near) <= (near.chars().count() / 3).max(1)).then_some(near)
}

/// How many letters must be changed, added or removed to get from one word to the other (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (line, a) in from.chars().enumerate() {
        let mut diagonal = line;
        let mut left = line + 1;
        for (above, b) in row.iter_mut().skip(1).zip(to.chars()) {
            let best = (diagonal + usize::from(a != b)).min(left + 1).min(*above + 1);
            diagonal = std::mem::replace(above, best);
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_letters() {
        for (from, to, expected) in
            [("", "", 0), ("base", "base", 0), ("bse", "base", 1), ("", "cap", 3), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(from, to), expected, "{from} {to}");
            assert_eq!(distance(to, from), expected, "{to} {from}");
        }
    }

    #[test]
    fn only_a_near_key_is_suggested() {
        let known = ["base", "cap", "horizon"];
        for (key, expected) in [
            ("bse", Some("base")),
            ("cap_", Some("cap")),
            ("horizn", Some("horizon")),
            ("listen", None),
            ("", None),
        ] {
            assert_eq!(nearest(key, &known), expected, "{key}");
        }
    }

    /// What a room may do one day.
    #[derive(schemars::JsonSchema)]
    #[schemars(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Room {
        /// A section that may be absent.
        tls: Option<Tls>,
        port: u16,
        share: f64,
        ports: Vec<u16>,
        mode: Option<Mode>,
        either: Either,
    }

    #[derive(schemars::JsonSchema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Tls {
        cert: String,
    }

    #[derive(schemars::JsonSchema)]
    #[schemars(rename_all = "snake_case")]
    #[expect(dead_code, reason = "only its schema is looked at")]
    enum Mode {
        /// With a meaning.
        Fast,
        Slow,
    }

    #[derive(schemars::JsonSchema)]
    #[schemars(untagged)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    enum Either {
        Text(String),
        Number(u32),
    }

    #[test]
    fn every_kind_of_key_is_understood() {
        let schema = Schema::of::<Room>();
        let root = schema.root();
        let tls = root.child("tls").unwrap();
        assert_eq!(tls.description(), Some("A section that may be absent."));
        assert_eq!(tls.keys(), ["cert"]);
        for (key, text, read, accepted, expected) in [
            ("port", "80", serde_json::json!(80), true, "expected a whole number, from 0 to 65535"),
            ("port", "70000", serde_json::json!(70000), false, "expected a whole number, from 0 to 65535"),
            ("port", "x", serde_json::json!("x"), false, "expected a whole number, from 0 to 65535"),
            ("share", "0.5", serde_json::json!(0.5), true, "expected a number"),
            (
                "ports",
                "80, 81,",
                serde_json::json!([80, 81]),
                true,
                "expected a list, as in [\"one\", \"two\"]",
            ),
            (
                "ports",
                "80,x",
                serde_json::json!([80, "x"]),
                false,
                "expected a list, as in [\"one\", \"two\"]",
            ),
            ("mode", "slow", serde_json::json!("slow"), true, "expected one of \"slow\", \"fast\""),
            ("mode", "quick", serde_json::json!("quick"), false, "expected one of \"slow\", \"fast\""),
            ("either", "1", serde_json::json!("1"), true, "expected another type"),
        ] {
            let node = root.child(key).unwrap();
            assert_eq!(node.read(text), read, "{key} {text}");
            assert_eq!(node.accepts(&read), accepted, "{key} {text}");
            assert_eq!(node.expected(None), expected, "{key}");
        }
    }
}
