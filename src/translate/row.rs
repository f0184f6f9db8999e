//! Rows: which calls an event becomes, checked and ready for use.
//!
//! A row is made from its text in a table, laid over the row that it changes. Everything about it can be read, for the
//! people who ask what an organization's table says.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use super::field::Field;
use super::filter::Filter;
use super::mapping::{CallText, Constant, Mistake, NameStyle, OtherEndpoint, RowText, Step};
use super::shape::Shape;
use crate::segment::EventName;
use crate::wigzo::Json;

/// Stands in a call's `event` for the track event's name.
const EVENT: &str = "{event}";

/// Stands in a call's `status` for the property of that name.
const STATUS: &str = "{status}";

/// Where a part of a table was stated: the last layer that did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// The built-in profile.
    Profile,
    /// `[organization_defaults]`.
    Defaults,
    /// The organization itself.
    Organization,
}

/// One row of a table.
#[derive(Debug, Clone)]
pub struct Row {
    names: Vec<String>,
    calls: Option<Vec<CallRule>>,
    filter: Filter,
    layer: Layer,
}

/// One call of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRule {
    pub(super) target: Target,
    pub(super) requires: Vec<Field>,
    pub(super) when: Vec<Condition>,
}

/// Where a call goes, and what it carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Event { name: WigzoName, value: Shape },
    Product,
    Shipment { status: Status },
}

/// The name of a Wigzo event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WigzoName {
    /// The track event's name, in the table's style: merchants' templates address events by it (wigzo.md 6.1).
    OfEvent,
    /// Always this one.
    Fixed(String),
}

/// The status of a shipment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Status {
    /// The property `status`.
    OfEvent,
    /// Always this one.
    Fixed(String),
}

/// A value that the event must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) field: Field,
    /// Any of these texts.
    pub(super) values: Vec<String>,
}

// === impl Layer ===

impl Layer {
    /// Its name: `profile`, `organization_defaults`, `organization`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Profile => "profile",
            Self::Defaults => "organization_defaults",
            Self::Organization => "organization",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Row ===

impl Row {
    /// A row for nothing yet.
    pub(super) fn empty() -> Self {
        Self { names: Vec::new(), calls: None, filter: Filter::default(), layer: Layer::Profile }
    }

    /// A row that answers to one name.
    pub(super) fn named(name: &str) -> Self {
        Self { names: vec![name.to_owned()], ..Self::empty() }
    }

    /// The names that the row answers to, the one it goes by first; none for the row of a type, or of all other events.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The calls that the row states; `None` if it makes those of the row for all other events.
    pub fn calls(&self) -> Option<&[CallRule]> {
        self.calls.as_deref()
    }

    /// The calls that the row states; none if it states none.
    pub(super) fn rules(&self) -> &[CallRule] {
        self.calls().unwrap_or_default()
    }

    /// What the row changes in the values: what it states itself, and of the rest what the row states whose calls it makes.
    pub(super) fn filter<'p>(&'p self, stating: &'p Self) -> Cow<'p, Filter> {
        if self.filter.is_empty() {
            Cow::Borrowed(&stating.filter)
        } else if stating.filter.is_empty() {
            Cow::Borrowed(&self.filter)
        } else {
            Cow::Owned(self.filter.over(&stating.filter))
        }
    }

    /// Members that are taken out of the values; any spelling is meant.
    pub fn dropped(&self) -> Option<&[String]> {
        self.filter.drop.as_deref()
    }

    /// The only members that stay in the values; any spelling is meant.
    pub fn kept(&self) -> Option<&[String]> {
        self.filter.keep.as_deref()
    }

    /// Members that the values get.
    pub fn constants(&self) -> Option<&BTreeMap<String, Json<'static>>> {
        self.filter.set.as_ref()
    }

    /// The last layer that stated something of the row.
    pub fn layer(&self) -> Layer {
        self.layer
    }

    /// The row with what a text states laid over it. Only the row of a track event is `named`.
    pub(super) fn laid_over(
        mut self,
        text: &RowText,
        layer: Layer,
        named: bool,
        at: &[Step],
        mistakes: &mut Vec<Mistake>,
    ) -> Self {
        self.layer = layer;
        if let Some(calls) = &text.calls {
            let at = way(at, Step::Key("calls".to_owned()));
            let check = |(index, call)| CallRule::check(call, named, &way(&at, Step::Item(index)), mistakes);
            self.calls = Some(calls.iter().enumerate().filter_map(check).collect());
        }
        if text.drop.is_some() {
            self.filter.drop.clone_from(&text.drop);
        }
        if text.keep.is_some() {
            self.filter.keep.clone_from(&text.keep);
        }
        if let Some(set) = &text.set {
            self.filter.set = Some(set.iter().map(|(name, value)| (name.clone(), value.to_json())).collect());
        }
        self
    }

    pub(super) fn also(&mut self, name: &str) {
        self.names.push(name.to_owned());
    }

    /// Whether the row's filter fits its calls: there must be an object that it can change, and what Wigzo calls
    /// mandatory must stay in it.
    pub(super) fn check_filter(&self, calls: &[CallRule], at: &[Step], mistakes: &mut Vec<Mistake>) {
        if self.filter.is_empty() {
            return;
        }
        let key = |name: &str| way(at, Step::Key(name.to_owned()));
        let stated = [
            (self.filter.drop.is_some(), "drop"),
            (self.filter.keep.is_some(), "keep"),
            (self.filter.set.is_some(), "set"),
        ];
        let is_object = |call: &CallRule| match &call.target {
            Target::Event { value, .. } => value.is_object(),
            Target::Product | Target::Shipment { .. } => true,
        };
        if !calls.is_empty() && !calls.iter().any(is_object) {
            let message =
                "no call of this row has a value with members; give one a `value` such as \"properties\"";
            for (_, name) in stated.iter().filter(|(stated, _)| *stated) {
                mistakes.push(Mistake { path: key(name), message: message.to_owned() });
            }
        }
        for name in calls.iter().flat_map(|call| call.target.mandatory()) {
            if let Some(culprit) = self.filter.takes(name) {
                let message = format!("Wigzo calls `{name}` mandatory in this value; it must stay");
                mistakes.push(Mistake { path: key(culprit), message });
            }
        }
    }
}

// === impl CallRule ===

impl CallRule {
    /// The Wigzo event name, `{event}` for the track event's; `None` if the call is no event.
    pub fn event(&self) -> Option<&str> {
        match &self.target {
            Target::Event { name: WigzoName::OfEvent, .. } => Some(EVENT),
            Target::Event { name: WigzoName::Fixed(name), .. } => Some(name),
            Target::Product | Target::Shipment { .. } => None,
        }
    }

    /// How the value is made; `None` if the call is no event.
    pub fn value(&self) -> Option<Shape> {
        match &self.target {
            Target::Event { value, .. } => Some(*value),
            Target::Product | Target::Shipment { .. } => None,
        }
    }

    /// The endpoint, if the call is no event.
    pub fn endpoint(&self) -> Option<OtherEndpoint> {
        match &self.target {
            Target::Event { .. } => None,
            Target::Product => Some(OtherEndpoint::Product),
            Target::Shipment { .. } => Some(OtherEndpoint::Shipment),
        }
    }

    /// The status that a shipment call tells, `{status}` for the property of that name.
    pub fn status(&self) -> Option<&str> {
        match &self.target {
            Target::Shipment { status: Status::OfEvent } => Some(STATUS),
            Target::Shipment { status: Status::Fixed(status) } => Some(status),
            Target::Event { .. } | Target::Product => None,
        }
    }

    /// What the event must have, as the table writes it.
    pub fn requires(&self) -> impl Iterator<Item = &str> {
        self.requires.iter().map(Field::as_str)
    }

    /// The values that the event must have: each field with the texts of which any will do.
    pub fn when(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.when.iter().map(|condition| (condition.field.as_str(), &*condition.values))
    }

    /// One call of a table's text; `None` after a mistake.
    fn check(call: &CallText, named: bool, at: &[Step], mistakes: &mut Vec<Mistake>) -> Option<Self> {
        let before = mistakes.len();
        let mut mistake = |steps: &[Step], message: String| {
            mistakes.push(Mistake { path: [at, steps].concat(), message });
        };
        let key = |name: &str| Step::Key(name.to_owned());
        let target = match (&call.event, call.endpoint) {
            (Some(event), None) => match WigzoName::check(event, named) {
                Ok(name) => Some(Target::Event { name, value: call.value.unwrap_or(Shape::Properties) }),
                Err(message) => {
                    mistake(&[key("event")], message);
                    None
                }
            },
            (None, Some(OtherEndpoint::Product)) => Some(Target::Product),
            (None, Some(OtherEndpoint::Shipment)) => match Status::check(call.status.as_deref()) {
                Ok(status) => Some(Target::Shipment { status }),
                Err(message) => {
                    mistake(&[key("status")], message);
                    None
                }
            },
            (Some(_), Some(_)) => {
                mistake(&[key("endpoint")], "`event` is there as well; a call has one of the two".to_owned());
                None
            }
            (None, None) => {
                let message =
                    "a call needs `event`, the Wigzo event name, or `endpoint`: \"product\" or \"shipment\"";
                mistake(&[], message.to_owned());
                None
            }
        };
        if call.value.is_some() && call.endpoint.is_some() {
            mistake(&[key("value")], "only an event has a value that can be chosen".to_owned());
        }
        if call.status.is_some() && call.endpoint != Some(OtherEndpoint::Shipment) {
            mistake(&[key("status")], "only a shipment call has a status".to_owned());
        }
        let mut requires = Vec::new();
        for (index, text) in call.requires.iter().enumerate() {
            match Field::parse(text) {
                Ok(field) => requires.push(field),
                Err(message) => mistake(&[key("requires"), Step::Item(index)], message),
            }
        }
        let mut when = Vec::new();
        for (text, values) in &call.when {
            let values: Vec<_> = values.constants().iter().map(Constant::to_text).collect();
            match Field::parse(text) {
                Ok(_) if values.is_empty() => {
                    mistake(&[key("when"), key(text)], "expected a value, or a list of some".to_owned());
                }
                Ok(field) if !field.has_text() => {
                    mistake(
                        &[key("when"), key(text)],
                        "a list has no value to compare; use `requires`".to_owned(),
                    );
                }
                Ok(field) => when.push(Condition { field, values }),
                Err(message) => mistake(&[key("when"), key(text)], message),
            }
        }
        let target = target.filter(|_| mistakes.len() == before)?;
        Some(Self { target, requires, when })
    }
}

/// As a table writes it: `event "buy", value "product_ids", requires order_id`.
impl fmt::Display for CallRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Event { value, .. } => {
                write!(f, "event \"{}\", value {}", self.event().unwrap_or_default(), value.as_str())?;
            }
            Target::Product => f.write_str("product")?,
            Target::Shipment { .. } => {
                write!(f, "shipment, status \"{}\"", self.status().unwrap_or_default())?;
            }
        }
        for (index, field) in self.requires().enumerate() {
            write!(f, "{}{field}", if index == 0 { ", requires " } else { " and " })?;
        }
        for (index, (field, values)) in self.when().enumerate() {
            let word = if index == 0 { ", when " } else { " and " };
            write!(f, "{word}{field} is {}", values.join(" or "))?;
        }
        Ok(())
    }
}

// === impl Target ===

impl Target {
    /// The members of what the call carries that Wigzo calls mandatory.
    fn mandatory(&self) -> &'static [&'static str] {
        match self {
            Self::Event { value, .. } => value.mandatory(),
            Self::Product => &["productId"],
            Self::Shipment { .. } => &["order_id", "current_status", "shipment_status"],
        }
    }
}

// === impl WigzoName ===

impl WigzoName {
    /// Reads a name; only a track event has one that can be sent on. The error is the message.
    fn check(text: &str, named: bool) -> Result<Self, String> {
        match text {
            EVENT if named => Ok(Self::OfEvent),
            EVENT => Err(format!("only a track event has a name for \"{EVENT}\"; write a Wigzo event name")),
            name if name.trim().is_empty() => Err("a name must not be empty".to_owned()),
            name if name.contains(['{', '}']) => {
                Err(format!("unknown placeholder; the only one is \"{EVENT}\", alone"))
            }
            name => Ok(Self::Fixed(name.to_owned())),
        }
    }
}

// === impl Status ===

impl Status {
    fn check(text: Option<&str>) -> Result<Self, String> {
        match text {
            Some(STATUS) => Ok(Self::OfEvent),
            Some(status) if !status.trim().is_empty() && !status.contains(['{', '}']) => {
                Ok(Self::Fixed(status.to_owned()))
            }
            Some(_) | None => Err(format!(
                "a shipment call needs a status: a text, or \"{STATUS}\" for the property of that name"
            )),
        }
    }
}

// === impl NameStyle ===

impl NameStyle {
    /// The name of a track event in this style; a name without a letter or digit stays as it was sent.
    pub(super) fn write(self, name: &str) -> Cow<'_, str> {
        let joint = match self {
            Self::Raw => return name.into(),
            Self::Snake => "_",
            Self::Compact => "",
        };
        let mut out = String::with_capacity(name.len() + 4);
        let mut before: Option<char> = None;
        for letter in name.chars() {
            let inside = letter.is_alphanumeric();
            let starts = inside
                && match before {
                    None => false,
                    Some(before) if before.is_alphanumeric() => {
                        letter.is_uppercase() && !before.is_uppercase()
                    }
                    Some(_) => true,
                };
            if starts && !out.is_empty() {
                out.push_str(joint);
            }
            if inside {
                out.extend(letter.to_lowercase());
            }
            before = Some(letter);
        }
        if out.is_empty() { name.into() } else { out.into() }
    }
}

/// The canonical form under which a row is found, or the message for a name that has none.
pub(super) fn canonical(name: &str) -> Result<EventName, String> {
    if name.trim().is_empty() {
        return Err("a name must not be empty".to_owned());
    }
    Ok(EventName::new(name))
}

/// A way, one step further.
pub(super) fn way(at: &[Step], step: Step) -> Vec<Step> {
    let mut way = at.to_vec();
    way.push(step);
    way
}
