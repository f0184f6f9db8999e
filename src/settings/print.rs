//! Printing: the effective configuration, and the annotated defaults.
//!
//! The order of keys is the order of the structs, which is what the TOML printer keeps and the schema does not. So the
//! printed TOML is the skeleton, and the schema adds the words.

use serde_json::Value;
use toml_edit::{DocumentMut, Item, Table};

use super::locate::ConfigFiles;
use super::problem::{Places, join};
use super::schema::{Kind, Node, Schema};
use super::{Settings, liveness};
use crate::secret::MASK;

/// Where comments end.
const WIDTH: usize = 100;

/// The head of the generated file.
const HEAD: &str = "\
# Every key with its default. Generated from the code:
# `wigzo-destination print-config --default > config/default.toml`
#
# Layers, each over the one before: these defaults, every --config FILE in the order given, the
# organizations in the directory organizations.d beside it, environment variables
# WIGZO__SECTION__KEY (WIGZO__DELIVERY__RETRY__BASE=2s; lists are comma separated). Keys are refused
# if they are not known, values if they do not fit.
#
# Without --config: the file that WIGZO_CONFIG names, else the first that exists of
# $XDG_CONFIG_HOME/wigzo-destination/config.toml (~/.config if that is not set) and
# /etc/wigzo-destination/config.toml.
#
# Live: a running service takes a changed value over, on SIGHUP or when it notices the change.
# Needs a restart: until then the old value stays in force.
#
# Durations: \"250ms\", \"1s\", \"10m\", \"24h\", \"7d\". Sizes: \"64 MiB\", \"10 GiB\".
";

/// The effective configuration as TOML, secrets masked.
pub fn print_config(settings: &Settings) -> String {
    let text = toml::to_string(settings).expect("BUG: settings are made of values that TOML can hold");
    text.lines().map(|line| tidy(line) + "\n").collect()
}

/// The effective configuration as TOML, secrets masked, with the source of each value as a comment behind it.
pub fn print_config_with_sources(settings: &Settings, files: &ConfigFiles) -> String {
    let text = print_config(settings);
    let head = format!(
        "# Configuration file: {files}\n# Behind each value: its source. Environment variables go before files, files before defaults.\n\n"
    );
    let document = text.parse::<DocumentMut>();
    let mut document = document.expect("BUG: what the TOML printer wrote is TOML");
    name_sources(document.as_table_mut(), "", &settings.places);
    head + &document.to_string()
}

/// Says behind each value where it was set.
fn name_sources(table: &mut Table, outer: &str, places: &Places) {
    for (key, item) in table.iter_mut() {
        let path = join(outer, key.get());
        let source = || places.get(&path).map_or_else(|| "default".to_owned(), ToString::to_string);
        match item {
            Item::Value(value) => value.decor_mut().set_suffix(format!(" # {}", source())),
            Item::Table(table) => name_sources(table, &path, places),
            Item::ArrayOfTables(tables) => {
                for table in tables.iter_mut() {
                    table.decor_mut().set_suffix(format!(" # {}", source()));
                }
            }
            Item::None => {}
        }
    }
}

/// The defaults as annotated TOML: the text of `config/default.toml`.
pub fn default_toml() -> String {
    let schema = Schema::of_settings();
    let mut text = Lines(HEAD.to_owned());
    let sections = sections(&print_config(&Settings::default()));
    for section in &sections {
        let Some(node) = find(schema.root(), &section.path) else { continue };
        text.line("");
        comment(&mut text, node.description().unwrap_or_default(), "");
        takes(&mut text, &section.path);
        if let Kind::Named(item) = node.kind() {
            named_example(&mut text, &section.path, item);
            continue;
        }
        text.line(&format!("[{}]", section.path));
        for (key, value) in &section.keys {
            if let Some(child) = node.child(key) {
                text.line("");
                describe(&mut text, child);
                takes(&mut text, &join(&section.path, key));
            }
            text.line(&format!("{key} = {value}"));
        }
        unset(&mut text, node, &section.path, &sections);
    }
    text.0
}

/// A text that grows line by line.
struct Lines(String);

impl Lines {
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }
}

/// One `[section]` of printed TOML: its path and its keys with their values, as printed.
struct Section {
    path: String,
    keys: Vec<(String, String)>,
}

/// Takes printed TOML apart. The printer writes one line for each header and each key.
fn sections(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in text.lines() {
        if let Some(path) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            sections.push(Section { path: path.to_owned(), keys: Vec::new() });
        } else if let (Some(section), Some((key, value))) = (sections.last_mut(), line.split_once(" = ")) {
            section.keys.push((key.to_owned(), value.to_owned()));
        }
    }
    sections
}

/// The node at a dotted path.
fn find<'a>(root: Node<'a>, path: &str) -> Option<Node<'a>> {
    path.split('.').try_fold(root, Node::child)
}

/// The keys of a section that have no default, then its sections that have none, as comments.
fn unset(text: &mut Lines, node: Node<'_>, path: &str, set: &[Section]) {
    let here = set.iter().find(|section| section.path == path);
    let children: Vec<_> = node.keys().into_iter().filter_map(|key| Some((key, node.child(key)?))).collect();
    for (key, child) in &children {
        let is_set = here.is_some_and(|section| section.keys.iter().any(|(set, _)| set == key));
        if !is_set && matches!(child.kind(), Kind::Value) {
            text.line("");
            describe(text, *child);
            takes(text, &join(path, key));
            text.line(&format!("# {key} = {}", example(*child)));
        }
    }
    for (key, child) in children {
        let below = join(path, key);
        let inner = format!("{below}.");
        if set.iter().any(|section| section.path == below || section.path.starts_with(&inner)) {
            continue;
        }
        match child.kind() {
            Kind::Value => {}
            Kind::Section(_) | Kind::Named(_) if child.example().is_some() => {
                table_example(text, &below, child);
            }
            Kind::Section(_) => {
                text.line("");
                describe(text, child);
                text.line(&format!("# [{below}]"));
                unset(text, child, &below, set);
            }
            Kind::Named(item) => {
                text.line("");
                describe(text, child);
                named_example(text, &below, item);
            }
        }
    }
}

/// A table that brings its own example, as a comment.
fn table_example(text: &mut Lines, path: &str, node: Node<'_>) {
    text.line("");
    describe(text, node);
    let Some(members) = node.example().and_then(Value::as_object) else { return };
    let is_row = |value: &Value| matches!(node.kind(), Kind::Named(_)) && value.is_object();
    for (name, row) in members.iter().filter(|(_, value)| is_row(value)) {
        text.line(&format!("# [{path}.{}]", toml::Value::from(name.as_str())));
        for (key, value) in row.as_object().into_iter().flatten() {
            text.line(&format!("# {key} = {}", printed(value)));
        }
    }
    if members.values().any(|value| !is_row(value)) {
        text.line(&format!("# [{path}]"));
    }
    for (key, value) in members.iter().filter(|(_, value)| !is_row(value)) {
        text.line(&format!("# {key} = {}", printed(value)));
    }
}

/// An entry of a table with chosen names, as a comment with an example for every key.
fn named_example(text: &mut Lines, path: &str, item: Node<'_>) {
    let children = || item.keys().into_iter().filter_map(|key| Some((key, item.child(key)?)));
    let examples: serde_json::Map<_, _> = children()
        .filter(|(_, child)| matches!(child.kind(), Kind::Value))
        .filter_map(|(key, child)| Some((key.to_owned(), child.example()?.clone())))
        .collect();
    let name = join(path, "acme");
    // Through the real types and back: that brings the keys into the order of the struct.
    let tree =
        name.rsplit('.').fold(Value::Object(examples), |inner, step| serde_json::json!({ step: inner }));
    let printed =
        serde_json::from_value::<Settings>(tree).map(|settings| print_config(&settings)).unwrap_or_default();
    let keys =
        sections(&printed).into_iter().find(|section| section.path == name).map(|section| section.keys);
    text.line(&format!("# [{name}]"));
    for (key, value) in keys.into_iter().flatten() {
        let Some(child) = item.child(&key) else { continue };
        text.line("");
        describe(text, child);
        // A secret printed itself as the mask; the schema's example is made up.
        let value = if value.contains(MASK) { example(child) } else { value };
        text.line(&format!("# {key} = {value}"));
    }
    for (key, child) in children().filter(|(_, child)| !matches!(child.kind(), Kind::Value)) {
        table_example(text, &join(&name, key), child);
    }
}

/// A value to show for a key that is not set.
fn example(node: Node<'_>) -> String {
    let choice = node.choices().first().map(|(name, _)| Value::from(*name));
    printed(&node.example().cloned().or(choice).unwrap_or_else(|| Value::from("")))
}

/// A value as it stands behind `key =`.
fn printed(value: &Value) -> String {
    toml::Value::try_from(value).map(|value| tidy(&value.to_string())).unwrap_or_default()
}

/// What a key is for, with its choices and its range.
fn describe(text: &mut Lines, node: Node<'_>) {
    comment(text, node.description().unwrap_or_default(), "");
    let choices = node.choices();
    if choices.iter().any(|(_, meaning)| meaning.is_some()) {
        for (name, meaning) in choices {
            comment(text, &format!("- \"{name}\": {}", meaning.unwrap_or_default()), "  ");
        }
    } else if !choices.is_empty() {
        let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        comment(text, &format!("Choices: {}.", names.join(", ")), "");
    }
    if let Some(range) = node.range() {
        comment(text, &format!("Range: {range}."), "");
    }
}

/// When a changed value takes effect: of a key, or of all keys of a section.
fn takes(text: &mut Lines, path: &str) {
    if let Some(takes) = liveness::of(path) {
        text.line(&format!("# {}", takes.words()));
    }
}

/// A text as comment lines, wrapped; lines after the first are indented. Paragraphs stay apart.
fn comment(text: &mut Lines, words: &str, indent: &str) {
    // A link in a doc comment is no link in TOML.
    let words = words.replace("[`", "`").replace("`]", "`");
    for (index, paragraph) in words.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()).enumerate()
    {
        if index > 0 {
            text.line("#");
        }
        let mut line = "#".to_owned();
        for word in paragraph.split_whitespace() {
            if line.chars().count() + 1 + word.chars().count() > WIDTH {
                text.line(&line);
                line = format!("#{indent}");
            }
            line.push(' ');
            line.push_str(word);
        }
        text.line(&line);
    }
}

/// A size at the end of a line as people write it: `10 GiB`, not `10.0 GiB`.
pub(super) fn tidy(line: &str) -> String {
    let Some((before, unit)) = line.rsplit_once(".0 ") else { return line.to_owned() };
    let size = matches!(unit.trim_end_matches('"'), "KiB" | "MiB" | "GiB" | "TiB" | "PiB" | "EiB");
    if size && before.ends_with(|c: char| c.is_ascii_digit()) {
        format!("{before} {unit}")
    } else {
        line.to_owned()
    }
}
