//! Profiles: translation tables, checked and ready for use.
//!
//! A built-in profile is a file of `config/profiles/` that is part of the binary; an organization's profile is that with
//! its changes laid over it. Either way the table needs no further check: every row has a name, no name has two rows,
//! every shape and field exists. A mistake is reported with the path of its key, in a file with its line, and with what
//! would be right.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use toml::de::{DeTable, DeValue};

use super::mapping::{
    ExtraTraits, IdentifyValues, Mapping, Mistake, NameStyle, NestedTraits, SourceRule, Step,
};
use super::phone::PhoneCountry;
use super::row::{Layer, Row, canonical, way};
use super::{Contactless, EngageTrack};
use crate::segment::EventName;
use crate::wigzo::PersonField;

/// The built-in profiles, each with what it is in a line.
const MEANINGS: [(&str, &str); 3] = [
    ("standard", "The names that every shipped Wigzo integration uses, and everything that Segment sends."),
    ("guide", "The names and objects of the Engage 360 integration guide, its mandatory fields required."),
    ("classic", "Call for call what Segment's own Wigzo integration 1.3 made, its defects left out."),
];

/// The built-in profiles and their text.
const TEXTS: [(&str, &str); 3] = [
    ("standard", include_str!("../../config/profiles/standard.toml")),
    ("guide", include_str!("../../config/profiles/guide.toml")),
    ("classic", include_str!("../../config/profiles/classic.toml")),
];

static BUILTIN: LazyLock<[Arc<Profile>; 3]> = LazyLock::new(|| {
    TEXTS.map(|(name, text)| {
        Arc::new(Profile::parse(name, text).expect("BUG: a test parses every built-in profile"))
    })
});

/// A validated translation table.
#[derive(Debug, Clone)]
pub struct Profile {
    name: String,
    pub(super) switches: Switches,
    pub(super) page: Row,
    pub(super) screen: Row,
    pub(super) group: Row,
    pub(super) alias: Row,
    otherwise: Row,
    rows: Vec<Row>,
    /// Which row answers to a name.
    names: HashMap<EventName, usize>,
}

/// What a table says besides its rows. [`Mapping`] explains each.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[expect(missing_docs, reason = "the fields of `Mapping` have the words")]
pub struct Switches {
    pub link_anonymous: bool,
    pub contactless: Contactless,
    pub identify_fields: Vec<PersonField>,
    pub identify_values: IdentifyValues,
    pub phone_country: PhoneCountry,
    pub extra_traits: ExtraTraits,
    pub nested_traits: NestedTraits,
    pub engage_track: EngageTrack,
    pub source: SourceRule,
    pub event_names: NameStyle,
}

/// What is wrong in a profile's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("profile {profile}, line {line}: {message}")]
pub struct ProfileError {
    /// The profile's name.
    pub profile: String,
    /// Line of the mistake, from 1.
    pub line: usize,
    /// What is wrong and which values would be right.
    pub message: String,
}

// === impl Profile ===

impl Profile {
    /// The names of the built-in profiles.
    pub const BUILTIN: &'static [&'static str] = &["standard", "guide", "classic"];

    /// A profile that is built into the binary; `None` if there is none of this name.
    pub fn builtin(name: &str) -> Option<&'static Arc<Self>> {
        BUILTIN.iter().find(|profile| profile.name == name)
    }

    /// What a built-in profile is, in a line.
    pub fn meaning(name: &str) -> Option<&'static str> {
        MEANINGS.iter().find(|(known, _)| *known == name).map(|(_, meaning)| *meaning)
    }

    /// Parses and checks a profile's TOML; it must state everything that a table can state.
    ///
    /// # Errors
    /// The first mistake.
    pub fn parse(name: &str, text: &str) -> Result<Self, ProfileError> {
        let error = |line, message| ProfileError { profile: name.to_owned(), line, message };
        let line = |place: usize| 1 + text.bytes().take(place).filter(|byte| *byte == b'\n').count();
        let mapping: Mapping = toml::from_str(text).map_err(|found| {
            error(line(found.span().unwrap_or_default().start), found.message().to_owned())
        })?;
        let checked = Self::blank(name, &mapping).and_then(|blank| {
            blank.changed(&mapping, Layer::Profile).map_err(|mistakes| {
                let place = |mistake: &Mistake| line(place_of(text, &mistake.path));
                mistakes.into_iter().min_by_key(place).expect("BUG: an error is at least one mistake")
            })
        });
        checked.map_err(|mistake| error(line(place_of(text, &mistake.path)), mistake.to_string()))
    }

    /// This table with changes laid over it.
    ///
    /// # Errors
    /// Every mistake in the changes.
    pub fn changed(&self, changes: &Mapping, layer: Layer) -> Result<Self, Vec<Mistake>> {
        let mut profile = self.clone();
        let mut mistakes = Vec::new();
        profile.switches.change(changes);
        for (name, row, text, named) in [
            ("page", &mut profile.page, &changes.page, false),
            ("screen", &mut profile.screen, &changes.screen, false),
            ("group", &mut profile.group, &changes.group, false),
            ("alias", &mut profile.alias, &changes.alias, false),
            ("otherwise", &mut profile.otherwise, &changes.otherwise, true),
        ] {
            let Some(text) = text else { continue };
            let at = [Step::Key(name.to_owned())];
            *row = row.clone().laid_over(text, layer, named, &at, &mut mistakes);
            if !text.also.is_empty() {
                let path = way(&at, Step::Key("also".to_owned()));
                let message = "only the rows of `events` have names".to_owned();
                mistakes.push(Mistake { path, message });
            }
            row.check_filter(row.rules(), &at, &mut mistakes);
        }
        profile.change_events(changes, layer, &mut mistakes);
        if mistakes.is_empty() { Ok(profile) } else { Err(mistakes) }
    }

    /// The profile's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the table says besides its rows.
    pub fn switches(&self) -> &Switches {
        &self.switches
    }

    /// The rows of the types that are no track events, and the one for all other track events, each under its key.
    pub fn type_rows(&self) -> [(&'static str, &Row); 5] {
        [
            ("page", &self.page),
            ("screen", &self.screen),
            ("group", &self.group),
            ("alias", &self.alias),
            ("otherwise", &self.otherwise),
        ]
    }

    /// The rows of track events, by their names.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The row for a track event of this name, and the one that states its calls: itself, or that for all other events.
    pub fn track(&self, name: &str) -> (&Row, &Row) {
        let row = self.names.get(&EventName::new(name)).and_then(|index| self.rows.get(*index));
        let row = row.unwrap_or(&self.otherwise);
        (row, if row.calls().is_some() { row } else { &self.otherwise })
    }

    /// A table without rows, with the switches of a mapping, which must state every switch and the row of every type.
    fn blank(name: &str, mapping: &Mapping) -> Result<Self, Mistake> {
        let missing = |key: &str| Mistake {
            path: Vec::new(),
            message: format!(
                "missing key `{key}`; a profile states every switch and the calls of every type"
            ),
        };
        for (key, row) in [
            ("page", &mapping.page),
            ("screen", &mapping.screen),
            ("group", &mapping.group),
            ("alias", &mapping.alias),
            ("otherwise", &mapping.otherwise),
        ] {
            if row.as_ref().is_none_or(|row| row.calls.is_none()) {
                return Err(missing(&format!("{key}.calls")));
            }
        }
        Ok(Self {
            name: name.to_owned(),
            switches: Switches {
                link_anonymous: mapping.link_anonymous.ok_or_else(|| missing("link_anonymous"))?,
                contactless: mapping.contactless.ok_or_else(|| missing("contactless"))?,
                identify_fields: mapping.identify_fields.clone().ok_or_else(|| missing("identify_fields"))?,
                identify_values: mapping.identify_values.ok_or_else(|| missing("identify_values"))?,
                phone_country: mapping.phone_country.ok_or_else(|| missing("phone_country"))?,
                extra_traits: mapping.extra_traits.ok_or_else(|| missing("extra_traits"))?,
                nested_traits: mapping.nested_traits.ok_or_else(|| missing("nested_traits"))?,
                engage_track: mapping.engage_track.ok_or_else(|| missing("engage_track"))?,
                source: mapping.source.ok_or_else(|| missing("source"))?,
                event_names: mapping.event_names.ok_or_else(|| missing("event_names"))?,
            },
            page: Row::empty(),
            screen: Row::empty(),
            group: Row::empty(),
            alias: Row::empty(),
            otherwise: Row::empty(),
            rows: Vec::new(),
            names: HashMap::new(),
        })
    }

    /// Lays the rows of track events over those that answer to their names, and adds the others.
    fn change_events(&mut self, changes: &Mapping, layer: Layer, mistakes: &mut Vec<Mistake>) {
        let mut changed_by: HashMap<usize, &str> = HashMap::new();
        for (name, text) in &changes.events {
            let at = [Step::Key("events".to_owned()), Step::Key(name.clone())];
            let mut mistake =
                |steps: &[Step], message| mistakes.push(Mistake { path: [&at, steps].concat(), message });
            let found = match canonical(name) {
                Ok(canonical) => canonical,
                Err(message) => {
                    mistake(&[], message);
                    continue;
                }
            };
            let index = *self.names.entry(found).or_insert_with(|| {
                self.rows.push(Row::named(name));
                self.rows.len() - 1
            });
            if let Some(other) = changed_by.insert(index, name) {
                mistake(&[], format!("this name and {other:?} are names of one row; write one row for both"));
                continue;
            }
            let Some(row) = self.rows.get_mut(index) else { continue };
            for (item, also) in text.also.iter().enumerate() {
                let place = [Step::Key("also".to_owned()), Step::Item(item)];
                let canonical = match canonical(also) {
                    Ok(canonical) => canonical,
                    Err(message) => {
                        mistake(&place, message);
                        continue;
                    }
                };
                let owner = *self.names.entry(canonical).or_insert_with(|| {
                    row.also(also);
                    index
                });
                if owner != index {
                    mistake(&place, "a row answers to this name already".to_owned());
                }
            }
            *row = row.clone().laid_over(text, layer, true, &at, mistakes);
            row.check_filter(row.calls().or(self.otherwise.calls()).unwrap_or_default(), &at, mistakes);
        }
    }
}

// === impl Switches ===

impl Switches {
    /// Takes over what is stated.
    fn change(&mut self, changes: &Mapping) {
        fn over<T: Clone>(switch: &mut T, stated: Option<&T>) {
            if let Some(stated) = stated {
                switch.clone_from(stated);
            }
        }
        over(&mut self.link_anonymous, changes.link_anonymous.as_ref());
        over(&mut self.contactless, changes.contactless.as_ref());
        over(&mut self.identify_fields, changes.identify_fields.as_ref());
        over(&mut self.identify_values, changes.identify_values.as_ref());
        over(&mut self.phone_country, changes.phone_country.as_ref());
        over(&mut self.extra_traits, changes.extra_traits.as_ref());
        over(&mut self.nested_traits, changes.nested_traits.as_ref());
        over(&mut self.engage_track, changes.engage_track.as_ref());
        over(&mut self.source, changes.source.as_ref());
        over(&mut self.event_names, changes.event_names.as_ref());
    }
}

// === helpers ===

/// Where the key at the end of a path stands in a text that has been parsed before; the nearest that is there.
fn place_of(text: &str, path: &[Step]) -> usize {
    let Ok(table) = DeTable::parse(text) else { return 0 };
    let mut place = 0;
    let mut value: Option<&DeValue<'_>> = None;
    for step in path {
        let next = match (step, value) {
            (Step::Key(key), None) => table.get_ref().get_key_value(key.as_str()),
            (Step::Key(key), Some(DeValue::Table(inner))) => inner.get_key_value(key.as_str()),
            (Step::Item(index), Some(DeValue::Array(items))) => {
                let Some(item) = items.get(*index) else { return place };
                place = item.span().start;
                value = Some(item.get_ref());
                continue;
            }
            (Step::Key(_) | Step::Item(_), _) => return place,
        };
        let Some((key, inner)) = next else { return place };
        place = key.span().start;
        value = Some(inner.get_ref());
    }
    place
}
