//! One layer of the configuration, and how layers become [`Settings`].
//!
//! A layer is plain JSON plus the place of every key. Files are parsed with spans, so that a key knows its line.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::Path;

use config::{ConfigError, Map, Source, Value as ConfigValue, ValueKind};
use serde_json::Value;
use toml::de::{DeArray, DeInteger, DeTable, DeValue};

use super::disk::Disk;
use super::problem::{Place, Places, Problem, Problems, join};
use super::{ORGANIZATIONS, Settings, judge};

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

impl Layer {
    /// The organizations of this layer, and where each begins.
    pub(super) fn organizations(&self) -> impl Iterator<Item = (String, Place)> {
        let members = self.values.get(ORGANIZATIONS).and_then(Value::as_object);
        members.into_iter().flatten().filter_map(|(name, _)| {
            Some((name.clone(), self.places.find(&join(ORGANIZATIONS, name))?.clone()))
        })
    }

    /// The organizations of this layer that an earlier one has too. Each has one place where it is configured: of two,
    /// one would be a leftover that nobody reads.
    pub(super) fn organizations_also_in(&self, earlier: &Self) -> Vec<Problem> {
        let earlier: BTreeMap<String, Place> = earlier.organizations().collect();
        let both = self.organizations().filter_map(|(name, place)| Some((earlier.get(&name)?, name, place)));
        both.map(|(other, name, place)| {
            let message =
                format!("this organization is configured in {other} as well; keep it in one of the two");
            Problem { place: Some(place), key: join(ORGANIZATIONS, &name), message }
        })
        .collect()
    }
}

/// Values may be secrets.
impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer").finish_non_exhaustive()
    }
}

/// Reads one file. What its keys mean is judged later.
pub(super) fn read_file(path: &Path, disk: &Disk) -> Result<Layer, Problem> {
    let text = disk.text(path).map_err(|error| {
        let message =
            format!("the file {}; check the path given with --config or WIGZO_CONFIG", unreadable(&error));
        Problem {
            place: Some(Place::File { path: path.to_owned(), line: None }),
            key: String::new(),
            message,
        }
    })?;
    parse(path, &text, "")
}

/// Reads the directory of organizations beside a configuration file, if there is one: each file in it is one
/// organization, called like the file.
pub(super) fn read_directory(directory: &Path, disk: &Disk, problems: &mut Vec<Problem>) -> Layer {
    let mut problem = |path: &Path, error: &std::io::Error| {
        let message = format!("the file {}", unreadable(error));
        let place = Some(Place::File { path: path.to_owned(), line: None });
        problems.push(Problem { place, key: String::new(), message });
    };
    let mut layer = Layer::empty();
    let files = disk.toml_files(directory).unwrap_or_else(|error| {
        problem(directory, &error);
        Vec::new()
    });
    let (mut organizations, mut bad) = (serde_json::Map::new(), Vec::new());
    for path in files {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        match disk.text(&path) {
            Ok(text) => match parse(&path, &text, &join(ORGANIZATIONS, &name)) {
                Ok(Layer { values, places }) => {
                    organizations.insert(name, values);
                    layer.places.extend(places);
                }
                Err(found) => bad.push(found),
            },
            Err(error) => problem(&path, &error),
        }
    }
    problems.append(&mut bad);
    if !organizations.is_empty() {
        layer.values =
            Value::Object([(ORGANIZATIONS.to_owned(), Value::Object(organizations))].into_iter().collect());
    }
    layer
}

/// Takes a file's text apart; its keys stand below `outer`.
fn parse(path: &Path, text: &str, outer: &str) -> Result<Layer, Problem> {
    let lines = Lines::of(text);
    let place = |line| Place::File { path: path.to_owned(), line };
    let parsed = DeTable::parse(text).map_err(|error| {
        // The error's Display shows the line itself, which may hold a secret; its message does not.
        let line = error.span().map(|span| lines.at(&span));
        let message = format!("not TOML: {}", error.message().trim());
        Problem { place: Some(place(line)), key: String::new(), message }
    })?;
    let mut layer = Layer::empty();
    if !outer.is_empty() {
        layer.places.insert(outer.to_owned(), place(None));
    }
    layer.values = table(&parsed.into_inner(), outer, &mut |key, span| {
        layer.places.insert(key, place(Some(lines.at(span))));
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

/// Where the lines of a text end. A file may have tens of thousands, so they are counted once.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(place, _)| place).collect())
    }

    /// The line that a span begins in, from 1.
    fn at(&self, span: &Range<usize>) -> usize {
        1 + self.0.partition_point(|end| *end < span.start)
    }
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
