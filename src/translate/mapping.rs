//! The grammar of translation tables: what a profile's file says, and what an organization may say to change it.
//!
//! One type for both: a file in `config/profiles/` states everything, `[organization_defaults]` and
//! `[organizations.NAME]` state what is to be different. What is stated replaces what the layer below says, what is left
//! out stays; only `also` adds. The doc comment of a field is the text that the generated `config/default.toml` shows.
//!
//! It knows no meaning: whether names, fields and placeholders fit is found out by [`Profile`](super::Profile), which
//! reports a [`Mistake`] with the path of the key.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::phone::PhoneCountry;
use super::shape::Shape;
use super::{Contactless, EngageTrack};
use crate::wigzo::{Json, PersonField};

/// A translation table, or changes to one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Mapping {
    /// Whether an identify with an e-mail or phone and both ids also identifies the anonymous learner, so that earlier
    /// browsing is attributed to the person. Unset: what the profile says.
    #[schemars(extend("examples" = [true]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_anonymous: Option<bool>,
    /// What happens to an identify without e-mail and phone. Unset: what the profile says.
    #[schemars(extend("examples" = ["skip"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contactless: Option<Contactless>,
    /// The fields of Wigzo's that an identify fills from the traits. Unset: what the profile says.
    #[schemars(extend("examples" = [["email", "phone", "fullName", "customer_id"]]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identify_fields: Option<Vec<PersonField>>,
    /// The JSON type of what those fields only carry, such as a phone that came as a number. Unset: what the profile says.
    #[schemars(extend("examples" = ["text"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identify_values: Option<IdentifyValues>,
    /// The country, as in ISO 3166 (`IN`), in which phone numbers without `+` are dialled: valid ones are then sent in the
    /// form of E.164. Empty: as they were sent. Unset: what the profile says.
    #[schemars(extend("examples" = ["IN"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone_country: Option<PhoneCountry>,
    /// What happens to every trait that no field of Wigzo's is filled from. Unset: what the profile says.
    #[schemars(extend("examples" = ["inline"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra_traits: Option<ExtraTraits>,
    /// What happens to an object among those traits. Unset: what the profile says.
    #[schemars(extend("examples" = ["keep"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nested_traits: Option<NestedTraits>,
    /// What becomes of a computed trait, audience or journey step that Segment's Engage sends as a track event. Unset:
    /// what the profile says.
    #[schemars(extend("examples" = ["both"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engage_track: Option<EngageTrack>,
    /// What stands in the field `source` of every call. Unset: what the profile says.
    #[schemars(extend("examples" = ["auto"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceRule>,
    /// How the name of a track event is written where a call has `{event}` for its name, as unmapped events have. Unset:
    /// what the profile says.
    #[schemars(extend("examples" = ["raw"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_names: Option<NameStyle>,
    /// The calls for a page.
    #[schemars(extend("examples" = [{"calls": [{"event": "view", "value": "page_summary"}]}]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<RowText>,
    /// The calls for a screen.
    #[schemars(extend("examples" = [{"calls": [{"event": "screen", "value": "nothing"}]}]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub screen: Option<RowText>,
    /// The calls for a group.
    #[schemars(extend("examples" = [{"calls": []}]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<RowText>,
    /// The calls for an alias.
    #[schemars(extend("examples" = [{"calls": []}]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<RowText>,
    /// The calls for a track event that has no row, or whose row states no calls.
    #[schemars(extend("examples" = [{"drop": ["internal_note"], "set": {"channel": "segment"}}]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<RowText>,
    /// The calls for track events, each under its name: rows of your own, and what is to be different in the profile's.
    /// What a row states replaces what the profile's row for the same event states; what it leaves out stays.
    ///
    /// A row may have `calls` (none drops the event), `also` (further names), `drop`, `keep` and `set` (members of the
    /// values that go, that alone stay, and constants that come). A call has `event` (the Wigzo event name, or `{event}`
    /// for the name as it came) and `value` (its shape; `properties` if unset), or instead of both `endpoint`: "product",
    /// or "shipment" with its `status`; and it may have `requires`, fields without which it is not made, and `when`,
    /// values without which it is not made. `config/profiles/standard.toml` explains each and is written in this grammar.
    #[schemars(extend("examples" = [{
        "Plan Upgraded": { "calls": [{ "event": "plan_upgraded", "when": { "properties.plan": ["gold", "silver"] } }] },
        "Product Added": { "calls": [{ "event": "add_to_cart", "value": "product_id" }, { "event": "{event}" }] },
        "Heartbeat": { "calls": [] },
    }]))]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub events: BTreeMap<String, RowText>,
}

/// One row: which calls an event becomes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RowText {
    /// Further names that this row answers to. Names match as wholes, in any case, with their words joined by a space,
    /// an underscore or camelCase.
    #[schemars(extend("examples" = [["Added Product"]]))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// The calls, in order; none drops the event.
    #[schemars(extend("examples" = [[{"event": "add_to_cart", "value": "product_id"}]]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls: Option<Vec<CallText>>,
    /// Members that are taken out of the calls' values, in any spelling.
    #[schemars(extend("examples" = [["internal_note"]]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop: Option<Vec<String>>,
    /// The only members that stay in the calls' values, in any spelling.
    #[schemars(extend("examples" = [["product_id", "price"]]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<Vec<String>>,
    /// Members with constant values that the calls' values get.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<BTreeMap<String, Constant>>,
}

/// One call of a row.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CallText {
    /// The Wigzo event name; `{event}` stands for the track event's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Where the call goes, if it is not an event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<OtherEndpoint>,
    /// How the value of the event is made; `properties` if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Shape>,
    /// The status that a shipment call tells; `{status}` stands for the property of that name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// What the event must have besides, or the call is not made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// Values that the event must have, or the call is not made; of a list any one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub when: BTreeMap<String, OneOf>,
}

/// A call that is no event (wigzo.md 2.4, 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OtherEndpoint {
    /// The product feed: one product of the catalogue.
    Product,
    /// The status of an order's shipment.
    Shipment,
}

/// A constant of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum Constant {
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Number(f64),
    /// A text.
    Text(String),
}

/// One constant, or several of which any will do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum OneOf {
    /// This one.
    One(Constant),
    /// Any of these.
    Any(Vec<Constant>),
}

/// The JSON type of what an identify only carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IdentifyValues {
    /// Text, as Wigzo's guide has it.
    Text,
    /// As it was sent.
    Sent,
}

/// What happens to traits that no field of Wigzo's is filled from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExtraTraits {
    /// They stand beside Wigzo's fields in the identify.
    Inline,
    /// They follow as an event `identify_traits` with the traits as its value.
    Event,
    /// They are not sent.
    Drop,
}

/// What happens to an object among the extra traits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NestedTraits {
    /// It is sent as the object that it is.
    Keep,
    /// Its members are sent as traits of their own: `company.name` becomes `company_name`.
    Flatten,
}

/// What stands in the field `source`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceRule {
    /// `app` for what comes from a device or a mobile library, else `web`.
    Auto,
    /// Always `web`.
    Web,
    /// Always `app`.
    App,
}

/// How the name of a track event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NameStyle {
    /// As it was sent.
    Raw,
    /// `Cart Viewed` becomes `cart_viewed`.
    Snake,
    /// `Cart Viewed` becomes `cartviewed`.
    Compact,
}

/// Something that does not fit in a table, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The way to the key.
    pub path: Vec<Step>,
    /// What is wrong and what would be right.
    pub message: String,
}

/// One step on the way to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Into a table.
    Key(String),
    /// Into a list, from 0.
    Item(usize),
}

// === impl Constant ===

impl Constant {
    /// The constant as JSON.
    pub(super) fn to_json(&self) -> Json<'static> {
        match self {
            Self::Boolean(yes) => Json::boolean(*yes),
            // TOML's infinite numbers are none in JSON.
            Self::Integer(_) | Self::Number(_) => {
                Json::number(&self.to_text()).unwrap_or_else(|| Json::text(&self.to_text()))
            }
            Self::Text(text) => Json::text(text),
        }
    }

    /// The text that a value of an event is compared with.
    pub(super) fn to_text(&self) -> String {
        match self {
            Self::Boolean(yes) => yes.to_string(),
            Self::Integer(number) => number.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

// === impl OneOf ===

impl OneOf {
    pub(super) fn constants(&self) -> &[Constant] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Any(any) => any,
        }
    }
}

// === impl Mistake ===

impl Mistake {
    /// The path of the key as messages write it: `events.Product Added.calls[0].value`.
    pub fn key(&self) -> String {
        self.path.iter().fold(String::new(), |key, step| match step {
            Step::Key(name) if key.is_empty() => name.clone(),
            Step::Key(name) => format!("{key}.{name}"),
            Step::Item(index) => format!("{key}[{index}]"),
        })
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key(), self.message)
    }
}
