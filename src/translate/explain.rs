//! Why an event becomes the calls that it becomes: what `translate` decided, told as data.
//!
//! An [`Explanation`] is made by the very way that delivery goes, with a [`Recorder`] that listens. So it cannot tell of
//! calls that would not be made; a test holds the two against each other all the same. It serializes as
//! `docs/mapping.md` describes, and that shape only grows: the command `translate --json` and the console show it.
//!
//! It knows no tokens: an address is shown as it may be logged.

use std::cell::RefCell;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use super::field::Place;
use super::identify::TRAITS_EVENT;
use super::row::Row;
use super::{Cause, Filtered, Made, Options, Profile, Recorder, Skip, Skipped, Translation};
use super::{identity, translate_with};
use crate::segment::{Arrival, Event, Kind, Rejection, Route, Surroundings};
use crate::wigzo::{Address, Call};

/// What an event is explained against.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    /// The organization's table.
    pub profile: &'a Profile,
    /// Its choices besides the table.
    pub options: &'a Options,
    /// Where its calls go.
    pub address: &'a Address,
    /// How and when the event arrived.
    pub arrival: Arrival,
    /// The route by whose rules the event's `integrations` object is obeyed; `None`: it is not obeyed.
    pub obeyed: Option<Route>,
}

/// Everything that can be told of one event.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Explanation {
    /// How it ends, as far as this can be known before Wigzo answers.
    pub result: Verdict,
    /// The stable code of the reason, if there are no calls: of a refusal as in a reply, else as in the history.
    pub reason: Option<&'static str>,
    /// The reason as a sentence, if the event is refused.
    pub message: Option<String>,
    /// JSON pointer (RFC 6901) to what is wrong, if the event is refused.
    pub pointer: Option<&'static str>,
    /// What is odd and accepted.
    pub warnings: Vec<Remark>,
    /// What the event is; `None` if it is refused.
    pub event: Option<Subject>,
    /// Whom its calls are about; `None` if there is nobody, or nobody was asked for.
    pub learner: Option<Learner>,
    /// The row that it was found in; `None` for an identify, and where no table is asked.
    pub row: Option<RowFound>,
    /// The calls, in order.
    pub calls: Vec<CallMade>,
    /// The calls that are not made.
    pub skipped: Vec<CallSkipped>,
}

/// How an event ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// There are calls to make.
    Calls,
    /// It is accepted, and there is no call to make.
    Filtered,
    /// It asks to forget a person, which is done here; Wigzo has no call for it.
    Deletion,
    /// It is not accepted.
    Refused,
}

/// A warning.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Remark {
    /// Its stable code.
    pub code: &'static str,
    /// What it means.
    pub message: &'static str,
}

/// What an event is.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Subject {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The name of a track event, page or screen; may be empty.
    pub name: String,
    /// Its `messageId`.
    #[serde(rename = "messageId")]
    pub message_id: Option<String>,
}

/// Whom calls are about.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Learner {
    /// Wigzo's id.
    pub id: String,
    /// Where the id was found.
    pub from: String,
    /// Whether it was derived from what was found there, which is no UUID.
    pub derived: bool,
}

/// A row of the table.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RowFound {
    /// The name that the row goes by: that of a track event, or `page`, `screen`, `group`, `alias`, `otherwise`.
    pub name: String,
    /// The last layer that stated something of it.
    pub layer: &'static str,
    /// Whether it states no calls, so that those of `otherwise` are made; and the last layer that touched that one.
    pub otherwise: Option<&'static str>,
    /// Members that are taken out of the values.
    pub drop: Vec<String>,
    /// The only members that stay in the values; `None`: all do.
    pub keep: Option<Vec<String>>,
    /// Members that are put into the values.
    pub set: Vec<String>,
}

/// A call that is made.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CallMade {
    /// What it is made for.
    pub because: Because,
    /// Always `POST`.
    pub method: &'static str,
    /// The endpoint: `identify`, `event`, `product`, `shipment`.
    pub endpoint: &'static str,
    /// Where it goes, with `***` for each token.
    pub url: String,
    /// The body, byte for byte.
    #[schemars(with = "serde_json::Value")]
    pub body: Box<RawValue>,
    /// From where its fields were taken, in the order in which they were read.
    pub fields: Vec<FieldTaken>,
}

/// A call that is not made.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CallSkipped {
    /// What it would have been made for.
    pub because: Because,
    /// Why it is not: `missing`, `condition`, `no_contact`.
    pub why: &'static str,
    /// The field that is missing, or that has another value.
    pub field: Option<String>,
}

/// What a call is made for.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Because {
    /// `row`, `identify`, `earlier_learner`, `extra_traits` or `computed`.
    pub cause: &'static str,
    /// The rule of the row, as a line: `event "buy", value product_ids`.
    pub rule: Option<String>,
}

/// From where a field was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FieldTaken {
    /// The field of the body, or `eventval` for a value that is no object.
    pub field: String,
    /// The place in the event, such as `properties.product_id`, or how it was made.
    pub from: String,
}

/// Explains one item of a body.
pub fn explain(raw: &RawValue, surroundings: &Surroundings<'_>, ground: &Ground<'_>) -> Explanation {
    match Event::read(raw, surroundings) {
        Err(Rejection { code, pointer, message }) => Explanation::refused(code.as_str(), message, pointer),
        Ok(event) => explain_event(&event, ground),
    }
}

/// Explains an event that has been read.
pub fn explain_event(event: &Event<'_>, ground: &Ground<'_>) -> Explanation {
    let about = Explanation::about(event);
    if event.kind == Kind::Delete {
        return Explanation { result: Verdict::Deletion, reason: Some("user_deleted"), ..about };
    }
    if ground.obeyed.is_some_and(|route| !event.wanted(route)) {
        return Explanation { reason: Some(NOT_WANTED), ..about };
    }
    let notes = Notes::default();
    let translation = translate_with(event, ground.arrival, ground.profile, ground.options, &notes);
    let learner = identity::chosen(event, ground.options).map(|found| {
        let id = identity::learner(event, ground.options).expect("BUG: there is one, it was just found");
        Learner {
            derived: id.as_str() != found.value,
            from: found.place.to_string(),
            id: id.as_str().to_owned(),
        }
    });
    let filtered = translation.filtered();
    let row = translation.row.map(|row| RowFound::of(row, event, ground.profile));
    Explanation {
        result: if filtered.is_some() { Verdict::Filtered } else { Verdict::Calls },
        reason: filtered.map(Filtered::as_str),
        learner,
        row,
        skipped: translation.skipped.iter().map(CallSkipped::of).collect(),
        calls: calls(translation, notes, ground.address),
        ..about
    }
}

/// The reason for an event that its sender keeps from Wigzo; the history has the same.
const NOT_WANTED: &str = "filtered_by_integrations_object";

// === impl Explanation ===

impl Explanation {
    fn about(event: &Event<'_>) -> Self {
        let warnings = event.warnings.iter();
        Self {
            result: Verdict::Filtered,
            reason: None,
            message: None,
            pointer: None,
            warnings: warnings.map(|it| Remark { code: it.as_str(), message: it.meaning() }).collect(),
            event: Some(Subject {
                kind: event.kind.as_str(),
                name: event.title().to_owned(),
                message_id: event.message_id.as_deref().map(str::to_owned),
            }),
            learner: None,
            row: None,
            calls: Vec::new(),
            skipped: Vec::new(),
        }
    }

    /// An event that is not accepted.
    pub fn refused(code: &'static str, message: String, pointer: &'static str) -> Self {
        Self {
            result: Verdict::Refused,
            reason: Some(code),
            message: Some(message),
            pointer: Some(pointer),
            warnings: Vec::new(),
            event: None,
            learner: None,
            row: None,
            calls: Vec::new(),
            skipped: Vec::new(),
        }
    }
}

// === impl RowFound ===

impl RowFound {
    fn of(row: &Row, event: &Event<'_>, table: &Profile) -> Self {
        let stating = if event.kind == Kind::Track { table.track(&event.event).1 } else { row };
        let filter = row.filter(stating);
        let name = match row.names().first() {
            Some(name) => name,
            None if event.kind == Kind::Track => "otherwise",
            None => event.kind.as_str(),
        };
        Self {
            name: name.to_owned(),
            layer: row.layer().as_str(),
            otherwise: (!std::ptr::eq(row, stating)).then(|| stating.layer().as_str()),
            drop: filter.drop.clone().unwrap_or_default(),
            keep: filter.keep.clone(),
            set: filter.set.iter().flat_map(|set| set.keys().cloned()).collect(),
        }
    }
}

// === impl CallSkipped ===

impl CallSkipped {
    fn of(skipped: &Skipped<'_>) -> Self {
        let (why, field) = match skipped.why {
            Skip::Missing(field) => ("missing", Some(field.to_owned())),
            Skip::Condition(field) => ("condition", Some(field.to_owned())),
            Skip::NoContact => ("no_contact", None),
        };
        Self { because: Because::of(skipped.cause), why, field }
    }
}

// === impl Because ===

impl Because {
    fn of(cause: Cause<'_>) -> Self {
        let (cause, rule) = match cause {
            Cause::Identify => ("identify", None),
            Cause::EarlierLearner => ("earlier_learner", None),
            Cause::ExtraTraits => ("extra_traits", None),
            Cause::Computed => ("computed", None),
            Cause::Rule(_, rule) => ("row", Some(rule.to_string())),
        };
        Self { cause, rule }
    }
}

// === impl CallMade ===

impl CallMade {
    fn of(call: Call, cause: Cause<'_>, fields: Vec<FieldTaken>, address: &Address) -> Self {
        Self {
            because: Because::of(cause),
            method: "POST",
            endpoint: call.endpoint.as_str(),
            url: address.url(call.endpoint).redacted().to_owned(),
            body: RawValue::from_string(call.body).expect("BUG: a body is JSON"),
            fields,
        }
    }
}

// === listening ===

/// What was taken from where: for the calls that tell of the person, and for each call that a rule made.
#[derive(Debug, Default)]
struct Notes {
    open: RefCell<Vec<FieldTaken>>,
    of_person: RefCell<Vec<FieldTaken>>,
    of_rules: RefCell<Vec<Vec<FieldTaken>>>,
}

impl Recorder for Notes {
    fn took(&self, field: &str, place: Place) {
        let taken = FieldTaken { field: field.to_owned(), from: place.to_string() };
        let mut open = self.open.borrow_mut();
        // The items of a list say the same again.
        if !open.contains(&taken) {
            open.push(taken);
        }
    }

    fn ended(&self, cause: Cause<'_>, made: bool) {
        let taken = self.open.take();
        match cause {
            _ if !made => {}
            Cause::Rule(..) => self.of_rules.borrow_mut().push(taken),
            Cause::Identify | Cause::EarlierLearner | Cause::ExtraTraits | Cause::Computed => {
                self.of_person.replace(taken);
            }
        }
    }
}

/// The calls of a translation, each with what was noted for it.
fn calls(translation: Translation<'_>, notes: Notes, address: &Address) -> Vec<CallMade> {
    let of_person = notes.of_person.into_inner();
    let mut of_rules = notes.of_rules.into_inner().into_iter();
    let call = |made: Made<'_>| {
        let fields = match made.cause {
            Cause::Rule(..) => of_rules.next().unwrap_or_default(),
            cause => {
                let apart = matches!(cause, Cause::ExtraTraits);
                let of_call = |taken: &&FieldTaken| (taken.field == TRAITS_EVENT) == apart;
                of_person.iter().filter(of_call).cloned().collect()
            }
        };
        CallMade::of(made.call, made.cause, fields, address)
    };
    translation.made.into_iter().map(call).collect()
}
