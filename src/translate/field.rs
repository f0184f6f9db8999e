//! Where in an event a value is found: the one place through which every shape reads.
//!
//! Keys are matched as Segment's own reader matches them (segment.md 3.6), sources are asked in the order that each
//! function states, and what has the wrong type counts as absent.
//!
//! What is read is a [`Found`]: the value and the [`Place`] it came from. It is written by a [`Draft`], which thereby
//! knows both ends of the way and tells its [`Recorder`]. In delivery that is nobody.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt;

use super::Cause;
use super::mapping::SourceRule;
use super::phone::PhoneCountry;
use crate::segment::{Arrival, Event, JsonType, Object, Raw, items_of, present, text_of};
use crate::wigzo::{Json, JsonObject, LearnerId, Source};

/// One event with all that a value may be made from.
pub(super) struct Scene<'e> {
    /// The event.
    pub(super) event: &'e Event<'e>,
    /// Whom it is about.
    pub(super) learner: &'e LearnerId,
    /// How and when it arrived: what its time is corrected by.
    pub(super) arrival: Arrival,
    /// How phone numbers are written.
    phone_country: PhoneCountry,
    /// Who is told where values came from.
    pub(super) recorder: &'e dyn Recorder,
    /// `context.page` and `context.traits`: looked for once, and only if something asks.
    page: OnceCell<Object<'e>>,
    traits: OnceCell<Object<'e>>,
}

/// Is told from where each field of a call was taken.
pub trait Recorder {
    /// The field `field` of the call that is being made was taken from `place`.
    fn took(&self, field: &str, place: Place);

    /// What was taken since the last `ended` was for this cause, whose calls have been `made` or not.
    fn ended(&self, cause: Cause<'_>, made: bool) {
        let _ = (cause, made);
    }
}

/// Delivery wants the calls and nothing else.
impl Recorder for () {
    fn took(&self, _: &str, _: Place) {}
}

/// Where a value stood: `properties.product_id`. The key is the one that was asked for; the sender may have spelled it
/// otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The part of the event, such as `context.page`; what was calculated has its own words.
    pub part: &'static str,
    /// The key within it; empty for the part itself.
    pub key: &'static str,
}

/// An object of the event, and what it is called there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'o, 'e> {
    pub(super) name: &'static str,
    pub(super) object: &'o Object<'e>,
}

/// A value, and where it stood.
#[derive(Debug, Clone)]
pub(super) struct Found<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// A text of the event.
pub(super) type Text<'e> = Found<Cow<'e, str>>;

// === impl Place ===

impl Place {
    pub(super) const fn new(part: &'static str, key: &'static str) -> Self {
        Self { part, key }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dot = if self.key.is_empty() || self.part.is_empty() { "" } else { "." };
        write!(f, "{}{dot}{}", self.part, self.key)
    }
}

// === impl Found ===

impl<T> Found<T> {
    pub(super) fn new(value: T, part: &'static str, key: &'static str) -> Self {
        Self { value, place: Place::new(part, key) }
    }

    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Found<U> {
        Found { value: change(self.value), place: self.place }
    }
}

// === impl Part ===

impl<'o, 'e> Part<'o, 'e> {
    pub(super) fn new(name: &'static str, object: &'o Object<'e>) -> Self {
        Self { name, object }
    }

    /// The value under a key as text: a string as it is, a number as its exact text.
    pub(super) fn text(self, key: &'static str) -> Option<Text<'e>> {
        Some(Found::new(self.object.text(key)?, self.name, key))
    }

    /// The value under a key as it stands in the event.
    pub(super) fn raw(self, key: &'static str) -> Option<Found<Raw<'e>>> {
        Some(Found::new(self.object.get_like(key)?, self.name, key))
    }

    /// The first of several keys that has a text.
    pub(super) fn first(self, keys: &[&'static str]) -> Option<Text<'e>> {
        keys.iter().find_map(|key| self.text(key))
    }
}

// === impl Scene ===

impl<'e> Scene<'e> {
    pub(super) fn new(
        event: &'e Event<'e>,
        learner: &'e LearnerId,
        arrival: Arrival,
        phone_country: PhoneCountry,
        recorder: &'e dyn Recorder,
    ) -> Self {
        let (page, traits) = (OnceCell::new(), OnceCell::new());
        Self { event, learner, arrival, phone_country, recorder, page, traits }
    }

    /// The event's properties.
    pub(super) fn properties(&self) -> Part<'e, 'e> {
        Part::new("properties", &self.event.properties)
    }

    /// The page that the event was sent from.
    pub(super) fn page(&self) -> Part<'_, 'e> {
        Part::new(
            "context.page",
            self.page.get_or_init(|| self.event.context.object("page").unwrap_or_default()),
        )
    }

    /// What the sender knows of the person.
    pub(super) fn traits(&self) -> Part<'_, 'e> {
        let traits = || self.event.context.object("traits").unwrap_or_default();
        Part::new("context.traits", self.traits.get_or_init(traits))
    }

    /// An option of the destination.
    pub(super) fn option(&self, name: &'static str) -> Option<Text<'e>> {
        Some(Found::new(self.event.option(name).and_then(text_of)?, "integrations.Wigzo", name))
    }

    /// `properties.url`, else that of the page the event was sent from. A product's own URL comes first, since a
    /// product may be clicked, or added, on another page than its own.
    pub(super) fn url(&self) -> Option<Text<'e>> {
        self.properties().text("url").or_else(|| self.page().text("url"))
    }

    /// An order's id: `order_id` in any spelling, else `id`.
    pub(super) fn order_id(&self) -> Option<Text<'e>> {
        self.properties().first(&["order_id", "id"])
    }

    /// What tells one checkout from another: `checkout_id`, else `cart_id`, else `order_id`.
    pub(super) fn checkout_id(&self) -> Option<Text<'e>> {
        self.properties().first(&["checkout_id", "cart_id", "order_id"])
    }

    /// The items of `properties.products` that are objects.
    pub(super) fn products(&self) -> Vec<Object<'e>> {
        let list = self.event.properties.get_like("products").and_then(items_of).unwrap_or_default();
        list.into_iter().filter_map(Object::parse).collect()
    }

    /// A phone number in the form that the organization wants.
    pub(super) fn phone<'t>(&self, found: Text<'t>) -> Text<'t> {
        found.map(|number| self.phone_country.format(number))
    }

    /// The language of the content: the part of `context.locale` before the region (`en` of `en-IN`).
    pub(super) fn language(&self) -> Option<Text<'e>> {
        let locale = Part::new("context", &self.event.context).text("locale")?;
        let language = cut(locale.value, |locale| {
            locale.split(['-', '_']).next().filter(|language| !language.is_empty())
        });
        Some(Found { value: language?, place: locale.place })
    }

    /// When the event happened, as text to pass on.
    pub(super) fn happened_at(&self) -> Option<Text<'e>> {
        Some(Found::new(self.event.happened_at(self.arrival)?, "", "timestamp"))
    }

    pub(super) fn draft(&self) -> Draft<'e> {
        Draft::new(self.recorder)
    }
}

/// A part of a text, borrowed if the text is.
pub(super) fn cut(text: Cow<'_, str>, part: impl Fn(&str) -> Option<&str>) -> Option<Cow<'_, str>> {
    match text {
        Cow::Borrowed(text) => part(text).map(Cow::Borrowed),
        Cow::Owned(text) => part(&text).map(|part| Cow::Owned(part.to_owned())),
    }
}

/// A product's id: `product_id` in any spelling, else `id`, its name in the first version of the e-commerce spec.
/// An SKU is no product id: shops have several for one product.
pub(super) fn product_id<'e>(product: Part<'_, 'e>) -> Option<Text<'e>> {
    product.first(&["product_id", "id"])
}

/// What an item of `properties.products` is called where its values came from.
pub(super) const ITEM: &str = "properties.products[]";

// === fields that a table may name ===

/// Something that an event may have: a field by the name under which the shapes read it, or a path into the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    /// As it was written.
    text: String,
    kind: FieldKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum FieldKind {
    ProductId,
    OrderId,
    CheckoutId,
    Products,
    Url,
    Name,
    Price,
    Path(Root, Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Root {
    Properties,
    Traits,
    Context,
}

impl Field {
    /// What may be written, for messages.
    pub(super) const CHOICES: &'static str = "`product_id`, `order_id`, `checkout_id`, `products` (at least one that has \
         an id), `url`, `name`, `price`, or a path that begins with `properties.`, `traits.` or `context.`";

    /// Reads a field's name; the error is the message.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let kind = match text {
            "product_id" => FieldKind::ProductId,
            "order_id" => FieldKind::OrderId,
            "checkout_id" => FieldKind::CheckoutId,
            "products" => FieldKind::Products,
            "url" => FieldKind::Url,
            "name" => FieldKind::Name,
            "price" => FieldKind::Price,
            path => {
                let mut steps = path.split('.');
                let root = match steps.next() {
                    Some("properties") => Root::Properties,
                    Some("traits") => Root::Traits,
                    Some("context") => Root::Context,
                    _ => return Err(format!("unknown field; expected {}", Self::CHOICES)),
                };
                let steps: Vec<_> = steps.map(str::to_owned).collect();
                if steps.is_empty() || steps.iter().any(|step| step.trim().is_empty()) {
                    return Err(format!("a path without a name in it; expected {}", Self::CHOICES));
                }
                FieldKind::Path(root, steps)
            }
        };
        Ok(Self { text: text.to_owned(), kind })
    }

    /// As it was written.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it can have a text to compare with.
    pub(super) fn has_text(&self) -> bool {
        self.kind != FieldKind::Products
    }

    /// Whether the event has it: anything but null and the empty text.
    pub(super) fn is_present(&self, scene: &Scene<'_>) -> bool {
        match &self.kind {
            FieldKind::Products => {
                scene.products().iter().any(|product| product_id(Part::new(ITEM, product)).is_some())
            }
            FieldKind::Path(root, steps) => {
                at(scene.event, *root, steps).is_some_and(|value| value.get() != "\"\"")
            }
            FieldKind::ProductId
            | FieldKind::OrderId
            | FieldKind::CheckoutId
            | FieldKind::Url
            | FieldKind::Name
            | FieldKind::Price => self.text(scene).is_some(),
        }
    }

    /// The field as text to compare with: also a boolean has one.
    pub(super) fn text<'e>(&self, scene: &Scene<'e>) -> Option<Cow<'e, str>> {
        let found = match &self.kind {
            FieldKind::ProductId => product_id(scene.properties()),
            FieldKind::OrderId => scene.order_id(),
            FieldKind::CheckoutId => scene.checkout_id(),
            FieldKind::Url => scene.url(),
            FieldKind::Name => scene.properties().text("name"),
            FieldKind::Price => scene.properties().text("price"),
            FieldKind::Products => None,
            FieldKind::Path(root, steps) => {
                let value = at(scene.event, *root, steps)?;
                return match JsonType::of(value) {
                    JsonType::Boolean => Some(Cow::Borrowed(value.get())),
                    _ => text_of(value),
                };
            }
        };
        found.map(|found| found.value)
    }
}

/// The value at a path of the event; `null` is absent.
fn at<'e>(event: &Event<'e>, root: Root, steps: &[String]) -> Option<Raw<'e>> {
    let mut object = match root {
        Root::Properties => Cow::Borrowed(&event.properties),
        Root::Traits => Cow::Borrowed(&event.traits),
        Root::Context => Cow::Borrowed(&event.context),
    };
    let (last, way) = steps.split_last()?;
    for step in way {
        object = Cow::Owned(object.object(step)?);
    }
    present(object.get_like(last)?)
}

// === the source ===

/// The libraries that run in a mobile app (their `context.library.name`, the npm scope left out).
const MOBILE_LIBRARIES: [&str; 6] = [
    "analytics-android",
    "analytics-ios",
    "analytics-kotlin",
    "analytics-swift",
    "analytics-react-native",
    "analytics_flutter",
];

/// What the rule says; by itself `app` for a message from a device or a mobile library, else `web` (wigzo.md 6.3).
pub(super) fn source(event: &Event<'_>, rule: SourceRule) -> Source {
    match rule {
        SourceRule::Web => return Source::Web,
        SourceRule::App => return Source::App,
        SourceRule::Auto => {}
    }
    let library = event.context.object("library").and_then(|library| library.text("name"));
    // Some clients send `library` as a bare string.
    let library = library.or_else(|| event.context.text("library")).unwrap_or_default();
    let library = library.strip_prefix("@segment/").unwrap_or(&library);
    if event.context.get("device").is_some() || MOBILE_LIBRARIES.contains(&library) {
        Source::App
    } else {
        Source::Web
    }
}

// === writing ===

/// An object that is being made: where what was found meets the field that it fills.
pub(super) struct Draft<'e> {
    out: JsonObject,
    recorder: &'e dyn Recorder,
}

impl<'e> Draft<'e> {
    pub(super) fn new(recorder: &'e dyn Recorder) -> Self {
        Self { out: JsonObject::new(), recorder }
    }

    /// A text, if it was found.
    pub(super) fn text(&mut self, field: &str, found: Option<&Text<'_>>) -> &mut Self {
        if let Some(found) = found {
            self.recorder.took(field, found.place);
            self.out.text(field, &found.value);
        }
        self
    }

    /// A value that was made of what was found.
    pub(super) fn json(&mut self, field: &str, found: Option<&Found<Json<'_>>>) -> &mut Self {
        if let Some(found) = found {
            self.recorder.took(field, found.place);
            self.out.json(field, &found.value);
        }
        self
    }

    /// A value as it stands in the event.
    pub(super) fn raw(&mut self, field: &str, found: Option<&Found<Raw<'_>>>) -> &mut Self {
        if let Some(found) = found {
            self.recorder.took(field, found.place);
            self.out.raw(field, found.value.get());
        }
        self
    }

    /// A list, also if nothing is in it.
    pub(super) fn list<'i>(&mut self, field: &str, items: impl IntoIterator<Item = Json<'i>>) -> &mut Self {
        self.out.list(field, items);
        self
    }

    pub(super) fn finish(self) -> Json<'static> {
        self.out.finish()
    }
}
