//! One layer of the configuration, and how layers become [`Settings`].
//!
//! A layer is plain JSON plus the place of every key. Files are parsed with spans, so that a key knows its line.

use std::fmt;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::Path;

use config::{ConfigError, Map, Source, Value as ConfigValue, ValueKind};
use serde_json::Value;
use toml::de::{DeArray, DeInteger, DeTable, DeValue};

use super::problem::{Place, Places, Problem, Problems, join};
use super::{Settings, judge};

/// One layer: what it sets, and where.
#[derive(Clone)]
pub(super) struct Layer {
    /// An object of objects, down to the values.
    pub(super) values: Value,
    pub(super) places: Places,
}

impl Layer {
    /// A layer that sets nothing.
    pub(super) fn empty() -> Self {
        Self { values: Value::Object(serde_json::Map::new()), places: Places::default() }
    }
}

/// Values may be secrets.
impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer").finish_non_exhaustive()
    }
}

/// Reads one file. What its keys mean is judged later.
pub(super) fn read_file(path: &Path) -> Result<Layer, Problem> {
    let problem = |line, message: String| Problem {
        place: Some(Place::File { path: path.to_owned(), line }),
        key: String::new(),
        message,
    };
    let text = std::fs::read_to_string(path).map_err(|error| {
        problem(None, format!("the file {}; check the path given with --config", unreadable(&error)))
    })?;
    let parsed = DeTable::parse(&text).map_err(|error| {
        // The error's Display shows the line itself, which may hold a secret; its message does not.
        let line = error.span().map(|span| line_of(&text, &span));
        problem(line, format!("not TOML: {}", error.message().trim()))
    })?;
    let mut layer = Layer::empty();
    layer.values = table(&parsed.into_inner(), "", &mut |key, span| {
        let place = Place::File { path: path.to_owned(), line: Some(line_of(&text, span)) };
        layer.places.insert(key, place);
    });
    Ok(layer)
}

/// Why a file could not be read, as the predicate of a sentence about it.
pub(super) fn unreadable(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "does not exist".to_owned(),
        ErrorKind::PermissionDenied => "may not be read by this user".to_owned(),
        ErrorKind::IsADirectory => "is a directory".to_owned(),
        ErrorKind::InvalidData => "is not UTF-8 text".to_owned(),
        other => format!("cannot be read ({other})"),
    }
}

/// The line that a span begins in, from 1.
fn line_of(text: &str, span: &Range<usize>) -> usize {
    1 + text.bytes().take(span.start).filter(|b| *b == b'\n').count()
}

/// A TOML table as JSON; `note` is told where each key stands.
fn table(parsed: &DeTable<'_>, outer: &str, note: &mut impl FnMut(String, &Range<usize>)) -> Value {
    let mut members = serde_json::Map::new();
    for (key, value) in parsed {
        let path = join(outer, key.get_ref());
        note(path.clone(), &key.span());
        let value = match value.get_ref() {
            DeValue::Table(inner) => table(inner, &path, note),
            DeValue::Array(items) => list(items, &path, note),
            other => json(other),
        };
        members.insert(key.get_ref().to_string(), value);
    }
    Value::Object(members)
}

/// A TOML list as JSON; its tables and their keys have places of their own: `calls[0].event`.
fn list(items: &DeArray<'_>, outer: &str, note: &mut impl FnMut(String, &Range<usize>)) -> Value {
    let mut values = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let path = format!("{outer}[{index}]");
        note(path.clone(), &item.span());
        values.push(match item.get_ref() {
            DeValue::Table(inner) => table(inner, &path, note),
            DeValue::Array(items) => list(items, &path, note),
            other => json(other),
        });
    }
    Value::Array(values)
}

/// Any other TOML value as JSON. Dates become text; a number that JSON cannot hold becomes null, which no key takes.
fn json(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => integer(number),
        DeValue::Float(number) => number.as_str().parse::<f64>().map_or(Value::Null, Value::from),
        DeValue::Boolean(yes) => Value::Bool(*yes),
        DeValue::Datetime(time) => Value::String(time.to_string()),
        // Both have functions of their own, which know the places of what is in them.
        DeValue::Array(items) => list(items, "", &mut |_, _| {}),
        DeValue::Table(inner) => table(inner, "", &mut |_, _| {}),
    }
}

fn integer(number: &DeInteger<'_>) -> Value {
    let (text, radix) = (number.as_str(), number.radix());
    i64::from_str_radix(text, radix)
        .map(Value::from)
        .or_else(|_| u64::from_str_radix(text, radix).map(Value::from))
        .unwrap_or(Value::Null)
}

/// Lays the layers over the built-in defaults, in their order. Each has been judged, so what can still go wrong is
/// that keys do not fit together.
pub(super) fn merge(layers: Vec<Layer>) -> Result<Settings, Problems> {
    let mut builder =
        config::Config::builder().add_source(Layer { values: judge::defaults(), ..Layer::empty() });
    let mut places = Places::default();
    for layer in layers {
        places.extend(layer.places.clone());
        builder = builder.add_source(layer);
    }
    let mut settings: Settings = builder
        .build()
        .and_then(config::Config::try_deserialize)
        .map_err(|error| Problems(vec![misfit(error, "", &places)]))?;
    settings.places = places;
    Ok(settings)
}

/// A merge that failed, as a problem. The library's own text is not used: it repeats values.
fn misfit(error: ConfigError, outer: &str, places: &Places) -> Problem {
    let (key, message) = match error {
        ConfigError::At { error, key, .. } => {
            return misfit(*error, &key.unwrap_or_else(|| outer.to_owned()), places);
        }
        ConfigError::NotFound(key) => (join(outer, &key), "missing".to_owned()),
        ConfigError::Type { key, expected, .. } => {
            (key.unwrap_or_else(|| outer.to_owned()), format!("expected {expected}"))
        }
        _ => (outer.to_owned(), "does not fit the keys around it".to_owned()),
    };
    Problem { place: places.find(&key).cloned(), key, message }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, ConfigValue>, ConfigError> {
        Ok(self
            .values
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.clone(), lift(value)))
            .collect())
    }
}

/// JSON as the `config` crate's own value.
fn lift(value: &Value) -> ConfigValue {
    let kind = match value {
        Value::Null => ValueKind::Nil,
        Value::Bool(yes) => ValueKind::Boolean(*yes),
        Value::Number(number) => number
            .as_i64()
            .map(ValueKind::I64)
            .or_else(|| number.as_u64().map(ValueKind::U64))
            .or_else(|| number.as_f64().map(ValueKind::Float))
            .unwrap_or(ValueKind::Nil),
        Value::String(text) => ValueKind::String(text.clone()),
        Value::Array(items) => ValueKind::Array(items.iter().map(lift).collect()),
        Value::Object(members) => {
            ValueKind::Table(members.iter().map(|(key, value)| (key.clone(), lift(value))).collect())
        }
    };
    ConfigValue::new(None, kind)
}
