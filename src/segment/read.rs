//! The rules by which bytes become an [`Event`] (segment.md 3.2 to 3.4).
//!
//! Invariants:
//! * The first broken rule refuses the event; what is odd but has one clear reading is kept with a [`Warning`].
//! * JSON `null` is absence, everywhere.
//! * Only the fields that the event's type needs are judged: a `name` of any type may stand on a track event.
//! * No message quotes the event.

use std::borrow::Cow;

use super::consent;
use super::field::{Field, Filled};
use super::finding::{Rejection, RejectionCode as Code, Warning};
use super::value::{JsonType, deeper_than, is_empty_array, present, string_of};
use super::{Event, Kind, Object, Raw, Surroundings, Written};

/// Levels of nesting that every reader of the event downstream can follow (and JSON readers commonly stop at).
const MAX_DEPTH: usize = 128;

/// Segment's limit on `messageId`, in characters (segment.md 2.5).
const MESSAGE_ID_CHARACTERS: usize = 100;

/// What programs print where an id is missing, in any case: JavaScript, PHP, Java, C#, Python, Ruby, Go and Objective-C.
/// Taken for an id, one of them joins the users of all events that have it. Words that a person may have chosen
/// (`guest`, `anonymous`) are not here.
const PLACEHOLDERS: [&str; 10] =
    ["undefined", "null", "none", "nan", "nil", "(null)", "<null>", "<nil>", "[object object]", "false"];

/// Zeros from this length on are no number that a shop gives a user (`0` may be one).
const ZEROS_BYTES: usize = 8;

/// The longest of [`PLACEHOLDERS`].
const PLACEHOLDER_BYTES: usize = 15;

pub(super) fn read<'a>(raw: Raw<'a>, surroundings: &Surroundings<'a>) -> Result<Event<'a>, Rejection> {
    let mut reader = Reader::open(raw)?;
    let kind = reader.kind(surroundings.kind)?;
    let context = reader.context(surroundings)?;
    let integrations = reader.integrations(surroundings)?;
    let ids = reader.ids(kind)?;
    let event = reader.event_name(kind)?;
    consent::check(&event, &context)?;
    Ok(Event {
        kind,
        event,
        name: reader.page_text(kind, Field::Name, Code::NameNotString)?,
        category: reader.page_text(kind, Field::Category, Code::CategoryNotString)?,
        properties: reader.properties(kind)?,
        traits: reader.traits(kind, &context)?,
        message_id: reader.message_id()?,
        timestamp: reader.time(&[Field::Timestamp, Field::OriginalTimestamp])?,
        sent_at: reader.sent_at(surroundings)?,
        user_id: ids.user,
        anonymous_id: ids.anonymous,
        previous_id: ids.previous,
        group_id: ids.group,
        write_key: reader.filled(Field::WriteKey).last.and_then(string_of).filter(|key| !key.is_empty()),
        context,
        integrations,
        warnings: reader.warnings,
    })
}

/// The ids of one event, after the rules of its type.
struct Ids<'a> {
    user: Option<Cow<'a, str>>,
    anonymous: Option<Cow<'a, str>>,
    previous: Option<Cow<'a, str>>,
    group: Option<Cow<'a, str>>,
}

/// One event being read: its fields, and what was odd so far.
struct Reader<'a> {
    fields: [Filled<'a>; Field::COUNT],
    warnings: Vec<Warning>,
}

impl<'a> Reader<'a> {
    fn open(raw: Raw<'a>) -> Result<Self, Rejection> {
        if JsonType::of(raw) != JsonType::Object {
            return Err(Rejection::new(Code::NotAnObject, "", "An event must be a JSON object."));
        }
        shallow(raw, "")?;
        let mut fields = [Filled::default(); Field::COUNT];
        let walked = raw.members(|member| {
            let filled = Field::of(&member.name()?).and_then(|field| fields.get_mut(field as usize));
            if let Some(filled) = filled {
                filled.twice |= filled.last.replace(member.value).is_some();
            }
            Some(())
        });
        walked.ok_or_else(|| invalid_unicode(""))?;
        Ok(Self { fields, warnings: Vec::new() })
    }

    fn kind(&self, implied: Option<Kind>) -> Result<Kind, Rejection> {
        let unsupported = |message: &str| Rejection::new(Code::UnsupportedEventType, "/type", message);
        let Some(raw) = self.field(Field::Type)? else {
            return implied
                .ok_or_else(|| unsupported("The event has no \"type\", so it cannot be processed."));
        };
        let kind = string_of(raw).and_then(|name| Kind::parse(&name)).ok_or_else(|| {
            unsupported(
                "\"type\" must be one of identify, track, page, screen, group, alias (in lower case).",
            )
        })?;
        match implied {
            Some(implied) if implied != kind => Err(Rejection::new(
                Code::TypeMismatch,
                "/type",
                format!(
                    "The event says it is \"{}\" but was sent to the address for \"{}\".",
                    kind.as_str(),
                    implied.as_str()
                ),
            )),
            _ => Ok(kind),
        }
    }

    /// The event's own context over the envelope's. Where it has none, an object under the old name `options` is it;
    /// anything else by that name is the sender's own affair.
    fn context(&mut self, surroundings: &Surroundings<'a>) -> Result<Object<'a>, Rejection> {
        let mut own = self.object(Field::Context, Code::ContextNotObject)?;
        if self.field(Field::Context)?.is_none()
            && let Some(options) = self.field(Field::Options)?
            && JsonType::of(options) == JsonType::Object
        {
            own = unicode_object(options, "/options")?;
        }
        let context = own.over(&enveloped(surroundings.context, "/context")?);
        for (_, value) in context.iter().filter(|(key, value)| !is_as_read(key, *value)) {
            self.warn(if is_empty_array(value) { Warning::EmptyArray } else { Warning::UnknownContext });
        }
        Ok(context)
    }

    fn integrations(&mut self, surroundings: &Surroundings<'a>) -> Result<Object<'a>, Rejection> {
        let own = self.object(Field::Integrations, Code::IntegrationsNotObject)?;
        Ok(own.over(&enveloped(surroundings.integrations, "/integrations")?))
    }

    fn ids(&mut self, kind: Kind) -> Result<Ids<'a>, Rejection> {
        let names: &[Field] =
            if kind == Kind::Alias { &[Field::UserId, Field::To] } else { &[Field::UserId] };
        let user = self.id(names)?;
        let anonymous = self.id(&[Field::AnonymousId, Field::SessionId])?;
        let (mut previous, mut group) = (None, None);
        match kind {
            Kind::Alias => {
                let user_missing = "An alias needs \"userId\": the id that the person has from now on.";
                let previous_missing = "An alias needs \"previousId\": the id that the person had before.";
                required(user.as_ref(), Code::UserIdRequired, "/userId", user_missing)?;
                previous = self.id(&[Field::PreviousId, Field::From])?;
                required(previous.as_ref(), Code::PreviousIdRequired, "/previousId", previous_missing)?;
                if user == previous {
                    self.warn(Warning::SelfAlias);
                }
            }
            Kind::Delete => {
                let missing = "A deletion needs \"userId\": the person to forget.";
                required(user.as_ref(), Code::UserIdRequired, "/userId", missing)?;
            }
            Kind::Identify | Kind::Track | Kind::Page | Kind::Screen | Kind::Group => {
                let missing = "The event needs \"userId\" or \"anonymousId\"; neither is set.";
                required(user.as_ref().or(anonymous.as_ref()), Code::NoUserAnonId, "", missing)?;
            }
        }
        if kind == Kind::Group {
            group = self.id(&[Field::GroupId])?;
            let missing = "A group event needs \"groupId\": the account that the person belongs to.";
            required(group.as_ref(), Code::GroupIdRequired, "/groupId", missing)?;
        }
        Ok(Ids { user, anonymous, previous, group })
    }

    fn event_name(&self, kind: Kind) -> Result<Cow<'a, str>, Rejection> {
        if kind != Kind::Track {
            return Ok(Cow::Borrowed(""));
        }
        let name = self.string(Field::Event, Code::EventNotString)?;
        name.filter(|name| !name.trim().is_empty()).ok_or_else(|| {
            Rejection::new(Code::EventNotDefined, "/event", "A track event needs a name in \"event\".")
        })
    }

    /// The name or the category, which only pages and screens have.
    fn page_text(
        &mut self,
        kind: Kind,
        field: Field,
        refusal: Code,
    ) -> Result<Option<Cow<'a, str>>, Rejection> {
        match kind {
            Kind::Page | Kind::Screen => {
                let text = self.string(field, refusal)?;
                Ok(self.unless_empty(text, Warning::EmptyName))
            }
            Kind::Identify | Kind::Track | Kind::Group | Kind::Alias | Kind::Delete => Ok(None),
        }
    }

    fn properties(&mut self, kind: Kind) -> Result<Object<'a>, Rejection> {
        match kind {
            Kind::Track | Kind::Page | Kind::Screen => {
                self.object(Field::Properties, Code::PropertiesNotObject)
            }
            Kind::Identify | Kind::Group | Kind::Alias | Kind::Delete => Ok(Object::default()),
        }
    }

    /// An identify without traits of its own takes those of its context: `RudderStack`'s Python library sends them
    /// there only (segment.md 3.2). In the context they were never promised to be an object.
    fn traits(&mut self, kind: Kind, context: &Object<'a>) -> Result<Object<'a>, Rejection> {
        match kind {
            Kind::Identify if self.field(Field::Traits)?.is_none() => context
                .get("traits")
                .filter(|traits| JsonType::of(*traits) == JsonType::Object)
                .map_or(Ok(Object::default()), |traits| unicode_object(traits, "/context/traits")),
            Kind::Identify | Kind::Group => self.object(Field::Traits, Code::TraitsNotObject),
            Kind::Track | Kind::Page | Kind::Screen | Kind::Alias | Kind::Delete => Ok(Object::default()),
        }
    }

    fn message_id(&mut self) -> Result<Option<Cow<'a, str>>, Rejection> {
        let id = self.id_as(&[Field::MessageId], Code::MessageIdNotString)?;
        if id.as_ref().is_some_and(|id| id.chars().count() > MESSAGE_ID_CHARACTERS) {
            self.warn(Warning::LongMessageId);
        }
        Ok(id)
    }

    /// The first time among the fields that can be read; if none can, the first as it was written.
    fn time(&mut self, fields: &[Field]) -> Result<Option<Written<'a>>, Rejection> {
        let mut unreadable = None;
        for &field in fields {
            let Some(raw) = self.field(field)? else { continue };
            let time = match JsonType::of(raw) {
                JsonType::String => {
                    let text = string_of(raw).ok_or_else(|| invalid_unicode(field.pointer()))?;
                    if text.is_empty() {
                        continue;
                    }
                    Written::text(text)
                }
                JsonType::Number => Written::number(raw.get()),
                JsonType::Null | JsonType::Boolean | JsonType::Array | JsonType::Object => {
                    self.warn(Warning::UnreadableTime);
                    continue;
                }
            };
            if time.moment.is_some() {
                return Ok(Some(time));
            }
            self.warn(Warning::UnreadableTime);
            unreadable.get_or_insert(time);
        }
        Ok(unreadable)
    }

    /// The event's own, else the envelope's.
    fn sent_at(&mut self, surroundings: &Surroundings<'a>) -> Result<Option<Written<'a>>, Rejection> {
        if let Some(own) = self.time(&[Field::SentAt])? {
            return Ok(Some(own));
        }
        let envelope = surroundings.sent_at.clone().map(Written::text);
        if envelope.as_ref().is_some_and(|sent_at| sent_at.moment.is_none()) {
            self.warn(Warning::UnreadableTime);
        }
        Ok(envelope)
    }

    fn id(&mut self, fields: &[Field]) -> Result<Option<Cow<'a, str>>, Rejection> {
        self.id_as(fields, Code::IdNotString)
    }

    /// The first id among a field and its old names that is neither empty nor a placeholder.
    fn id_as(&mut self, fields: &[Field], refusal: Code) -> Result<Option<Cow<'a, str>>, Rejection> {
        for &field in fields {
            let Some(raw) = self.field(field)? else { continue };
            let id = match JsonType::of(raw) {
                JsonType::String => string_of(raw).ok_or_else(|| invalid_unicode(field.pointer()))?,
                JsonType::Number => {
                    self.warn(Warning::NumericId);
                    Cow::Borrowed(raw.get())
                }
                JsonType::Null | JsonType::Boolean | JsonType::Array | JsonType::Object => {
                    return Err(Rejection::new(
                        refusal,
                        field.pointer(),
                        format!("\"{}\" must be text.", field.key()),
                    ));
                }
            };
            if id.trim().is_empty() {
                self.warn(Warning::EmptyId);
            } else if is_placeholder(&id, field) {
                self.warn(Warning::PlaceholderId);
            } else {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    fn string(&self, field: Field, refusal: Code) -> Result<Option<Cow<'a, str>>, Rejection> {
        match self.field(field)? {
            None => Ok(None),
            Some(raw) if JsonType::of(raw) == JsonType::String => {
                string_of(raw).map(Some).ok_or_else(|| invalid_unicode(field.pointer()))
            }
            Some(_) => {
                Err(Rejection::new(refusal, field.pointer(), format!("\"{}\" must be text.", field.key())))
            }
        }
    }

    /// The object in a field; absent, it is empty.
    fn object(&mut self, field: Field, refusal: Code) -> Result<Object<'a>, Rejection> {
        match self.field(field)? {
            None => Ok(Object::default()),
            Some(raw) if JsonType::of(raw) == JsonType::Object => unicode_object(raw, field.pointer()),
            Some(raw) if is_empty_array(raw) => {
                self.warn(Warning::EmptyArray);
                Ok(Object::default())
            }
            Some(_) => {
                let message = format!("\"{}\" must be a JSON object.", field.key());
                Err(Rejection::new(refusal, field.pointer(), message))
            }
        }
    }

    /// A top-level field that we must understand, so it must not occur twice; `null` is absent.
    fn field(&self, field: Field) -> Result<Option<Raw<'a>>, Rejection> {
        let Filled { last, twice } = self.filled(field);
        if twice {
            let message = format!("\"{}\" occurs twice in the event.", field.key());
            return Err(Rejection::new(Code::DuplicateKey, field.pointer(), message));
        }
        Ok(last.and_then(present))
    }

    fn filled(&self, field: Field) -> Filled<'a> {
        self.fields.get(field as usize).copied().unwrap_or_default()
    }

    /// Notes what was odd, once.
    fn warn(&mut self, warning: Warning) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    fn unless_empty(&mut self, text: Option<Cow<'a, str>>, warning: Warning) -> Option<Cow<'a, str>> {
        if text.as_ref().is_some_and(|text| text.is_empty()) {
            self.warn(warning);
            return None;
        }
        text
    }
}

/// Whether an id names nobody: a word for a missing value, the field's own name (a template that was never filled in), or
/// many zeros (a device id that is withheld, the nil UUID).
fn is_placeholder(id: &str, field: Field) -> bool {
    let id = id.trim();
    let is_zero =
        id.len() >= ZEROS_BYTES && id.starts_with('0') && id.bytes().all(|byte| matches!(byte, b'0' | b'-'));
    let is_word = || PLACEHOLDERS.iter().any(|word| word.eq_ignore_ascii_case(id));
    is_zero || (id.len() <= PLACEHOLDER_BYTES && (is_word() || id.eq_ignore_ascii_case(field.key())))
}

/// Whether a member of the context has a type that its readers understand (segment.md 3.5). Members that nobody reads
/// here may be anything.
fn is_as_read(key: &str, value: Raw<'_>) -> bool {
    use JsonType::{Null, Object, String};
    let types: &[JsonType] = match key {
        "page" | "traits" | "device" => &[Null, Object],
        // Some clients send a bare name.
        "library" => &[Null, Object, String],
        "locale" => &[Null, String],
        _ => return true,
    };
    types.contains(&JsonType::of(value))
}

fn required<T>(
    found: Option<&T>,
    code: Code,
    pointer: &'static str,
    message: &'static str,
) -> Result<(), Rejection> {
    found.map(|_| ()).ok_or_else(|| Rejection::new(code, pointer, message))
}

/// What the envelope says for all of its events. [`super::decode`] passes on objects only.
fn enveloped<'a>(raw: Option<Raw<'a>>, pointer: &'static str) -> Result<Object<'a>, Rejection> {
    let Some(raw) = raw else { return Ok(Object::default()) };
    shallow(raw, pointer)?;
    unicode_object(raw, pointer)
}

fn shallow(raw: Raw<'_>, pointer: &'static str) -> Result<(), Rejection> {
    if deeper_than(raw, MAX_DEPTH) {
        let message = format!("The event is nested more than {MAX_DEPTH} levels deep.");
        return Err(Rejection::new(Code::TooDeep, pointer, message));
    }
    Ok(())
}

/// An object whose keys are all Unicode text.
fn unicode_object<'a>(raw: Raw<'a>, pointer: &'static str) -> Result<Object<'a>, Rejection> {
    Object::parse(raw).ok_or_else(|| invalid_unicode(pointer))
}

fn invalid_unicode(pointer: &'static str) -> Rejection {
    let message = "A key or a value that must be read holds half of a Unicode character (a lone surrogate).";
    Rejection::new(Code::InvalidUnicode, pointer, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Raw<'_> {
        Raw::parse(text).unwrap()
    }

    fn read_alone(text: &str) -> Result<Event<'_>, Rejection> {
        read(raw(text), &Surroundings::default())
    }

    /// `{"type": kind, "userId": "u1", …members}`
    fn of(kind: &str, members: &str) -> String {
        format!(r#"{{"type":"{kind}","userId":"u1"{}{members}}}"#, if members.is_empty() { "" } else { "," })
    }

    /// event | code and place of the refusal
    #[test]
    fn refusals_of_the_whole_event() {
        let table = [
            ("1", "not_an_object", ""),
            ("null", "not_an_object", ""),
            ("[]", "not_an_object", ""),
            (r#""{}""#, "not_an_object", ""),
            (r#"{"\ud800":1,"type":"track"}"#, "invalid_unicode", ""),
            ("{}", "unsupported_event_type", "/type"),
            (r#"{"type":null}"#, "unsupported_event_type", "/type"),
            (r#"{"type":""}"#, "unsupported_event_type", "/type"),
            (r#"{"type":"Track"}"#, "unsupported_event_type", "/type"),
            (r#"{"type":" track"}"#, "unsupported_event_type", "/type"),
            (r#"{"type":"delete","anonymousId":"a"}"#, "user_id_required", "/userId"),
            (r#"{"type":["track"]}"#, "unsupported_event_type", "/type"),
            (r#"{"type":1}"#, "unsupported_event_type", "/type"),
            (r#"{"type":"\ud800"}"#, "unsupported_event_type", "/type"),
            (r#"{"type":"track","type":"track"}"#, "duplicate_key", "/type"),
            (r#"{"type":"page"}"#, "no_user_anon_id", ""),
            (r#"{"type":"page","userId":null,"anonymousId":null}"#, "no_user_anon_id", ""),
            (r#"{"type":"page","userId":""}"#, "no_user_anon_id", ""),
            (r#"{"type":"page","userId":"","anonymousId":""}"#, "no_user_anon_id", ""),
            (r#"{"type":"page","userId":" \t"}"#, "no_user_anon_id", ""),
            (r#"{"type":"page","userId":"undefined","anonymousId":"null"}"#, "no_user_anon_id", ""),
            (r#"{"type":"page","userId":"000000000"}"#, "no_user_anon_id", ""),
            (r#"{"type":"delete","userId":"null"}"#, "user_id_required", "/userId"),
            (r#"{"type":"group","userId":"u","groupId":"None"}"#, "group_id_required", "/groupId"),
            (r#"{"type":"alias","userId":"u","previousId":"NaN"}"#, "previous_id_required", "/previousId"),
            (r#"{"type":"alias","userId":"nil","previousId":"p"}"#, "user_id_required", "/userId"),
            (r#"{"type":"page","groupId":"g"}"#, "no_user_anon_id", ""),
            (r#"{"type":"page","user_id":"u"}"#, "no_user_anon_id", ""),
            (r#"{"type":"page","userId":true}"#, "id_not_string", "/userId"),
            (r#"{"type":"page","userId":{},"anonymousId":"a"}"#, "id_not_string", "/userId"),
            (r#"{"type":"page","userId":"u","anonymousId":[]}"#, "id_not_string", "/anonymousId"),
            (r#"{"type":"page","sessionId":false}"#, "id_not_string", "/sessionId"),
            (r#"{"type":"page","userId":"\udc00"}"#, "invalid_unicode", "/userId"),
            (r#"{"type":"page","userId":"u","userId":"u"}"#, "duplicate_key", "/userId"),
            (r#"{"type":"page","userId":"u","\u0075serId":"v"}"#, "duplicate_key", "/userId"),
            (r#"{"type":"group","userId":"u"}"#, "group_id_required", "/groupId"),
            (r#"{"type":"group","userId":"u","groupId":""}"#, "group_id_required", "/groupId"),
            (r#"{"type":"group","userId":"u","groupId":[]}"#, "id_not_string", "/groupId"),
            (r#"{"type":"group","groupId":"g"}"#, "no_user_anon_id", ""),
            (r#"{"type":"alias","userId":"u"}"#, "previous_id_required", "/previousId"),
            (r#"{"type":"alias","userId":"u","previousId":null}"#, "previous_id_required", "/previousId"),
            (r#"{"type":"alias","userId":"u","previousId":{}}"#, "id_not_string", "/previousId"),
            (r#"{"type":"alias","previousId":"p"}"#, "user_id_required", "/userId"),
            (r#"{"type":"alias","previousId":"p","anonymousId":"a"}"#, "user_id_required", "/userId"),
        ];
        for (text, code, pointer) in table {
            let found = read_alone(text).map(|_| ()).unwrap_err();
            assert_eq!((found.code.as_str(), found.pointer), (code, pointer), "{text}");
        }
    }

    /// type | members beside type and userId | code and place of the refusal
    #[test]
    fn refusals_of_a_field() {
        let table = [
            ("track", "", "event_not_defined", "/event"),
            ("track", r#""event":null"#, "event_not_defined", "/event"),
            ("track", r#""event":"""#, "event_not_defined", "/event"),
            ("track", r#""event":" \t""#, "event_not_defined", "/event"),
            ("track", r#""event":7"#, "event_not_string", "/event"),
            ("track", r#""event":{"name":"A"}"#, "event_not_string", "/event"),
            ("track", r#""event":"\ud83d""#, "invalid_unicode", "/event"),
            ("track", r#""event":"A","event":"A""#, "duplicate_key", "/event"),
            ("track", r#""event":"A","properties":[1]"#, "properties_not_object", "/properties"),
            ("track", r#""event":"A","properties":"""#, "properties_not_object", "/properties"),
            ("track", r#""event":"A","properties":{"\ud800":1}"#, "invalid_unicode", "/properties"),
            ("page", r#""properties":1"#, "properties_not_object", "/properties"),
            ("screen", r#""properties":{},"properties":{}"#, "duplicate_key", "/properties"),
            ("page", r#""name":7"#, "name_not_string", "/name"),
            ("screen", r#""category":{}"#, "category_not_string", "/category"),
            ("identify", r#""traits":[{}]"#, "traits_not_object", "/traits"),
            ("identify", r#""traits":"x""#, "traits_not_object", "/traits"),
            ("identify", r#""context":{"traits":{"\ud800":1}}"#, "invalid_unicode", "/context/traits"),
            ("group", r#""groupId":"g","traits":true"#, "traits_not_object", "/traits"),
            ("page", r#""context":[null]"#, "context_not_object", "/context"),
            ("page", r#""context":"x""#, "context_not_object", "/context"),
            ("page", r#""context":{"\udfff":1}"#, "invalid_unicode", "/context"),
            ("page", r#""integrations":true"#, "integrations_not_object", "/integrations"),
            ("page", r#""integrations":["All"]"#, "integrations_not_object", "/integrations"),
            ("page", r#""messageId":{}"#, "message_id_not_string", "/messageId"),
            ("page", r#""messageId":true"#, "message_id_not_string", "/messageId"),
            ("page", r#""timestamp":"\ud800""#, "invalid_unicode", "/timestamp"),
        ];
        for (kind, members, code, pointer) in table {
            let text = of(kind, members);
            let found = read_alone(&text).map(|_| ()).unwrap_err();
            assert_eq!((found.code.as_str(), found.pointer), (code, pointer), "{text}");
        }
    }

    /// event | what was odd about it; all of these are kept
    #[test]
    fn oddities_are_kept_and_noted() {
        let long = of("page", &format!(r#""messageId":"{}""#, "é".repeat(101)));
        let limit = of("page", &format!(r#""messageId":"{}""#, "é".repeat(100)));
        let table: [(&str, &[Warning]); 42] = [
            (&of("page", ""), &[]),
            (&of("page", r#""name":null,"category":null,"properties":null,"context":null"#), &[]),
            (&of("page", r#""integrations":null,"messageId":null,"timestamp":null,"anonymousId":null"#), &[]),
            (&of("page", r#""name":"""#), &[Warning::EmptyName]),
            (&of("screen", r#""name":"","category":"""#), &[Warning::EmptyName]),
            (&of("track", r#""event":"A","name":7,"category":[],"traits":1,"groupId":{}"#), &[]),
            (&of("identify", r#""properties":[],"event":7,"name":1,"name":2"#), &[]),
            (&of("alias", r#""previousId":"p","properties":1,"traits":1"#), &[]),
            (&of("page", r#""previousId":{},"from":1,"to":[],"options":"x""#), &[]),
            (&of("page", r#""anonymousId":"""#), &[Warning::EmptyId]),
            (&of("page", r#""messageId":"""#), &[Warning::EmptyId]),
            (r#"{"type":"page","userId":"","anonymousId":"a"}"#, &[Warning::EmptyId]),
            (r#"{"type":"page","userId":7,"anonymousId":8}"#, &[Warning::NumericId]),
            (&of("page", r#""messageId":7"#), &[Warning::NumericId]),
            (&of("group", r#""groupId":7"#), &[Warning::NumericId]),
            (&limit, &[]),
            (&long, &[Warning::LongMessageId]),
            (&of("page", r#""timestamp":true"#), &[Warning::UnreadableTime]),
            (&of("page", r#""sentAt":{}"#), &[Warning::UnreadableTime]),
            (&of("page", r#""timestamp":"noon""#), &[Warning::UnreadableTime]),
            (&of("page", r#""timestamp":1e400"#), &[Warning::UnreadableTime]),
            (&of("page", r#""timestamp":"noon","sentAt":"now""#), &[Warning::UnreadableTime]),
            (&of("page", r#""timestamp":"","sentAt":"2026-01-02""#), &[]),
            (&of("alias", r#""previousId":"u1""#), &[Warning::SelfAlias]),
            (&of("page", r#""properties":{"a":1,"a":2},"context":{"b":1,"b":2}"#), &[]),
            (&of("page", r#""properties":{"a":"\ud800","b":{"\ud800":1}}"#), &[]),
            (&of("page", r#""other":1,"other":2,"writeKey":"wk","_metadata":{},"projectId":null"#), &[]),
            (&of("page", r#""anonymousId":" ""#), &[Warning::EmptyId]),
            (&of("page", r#""anonymousId":"undefined""#), &[Warning::PlaceholderId]),
            (&of("page", r#""messageId":"null""#), &[Warning::PlaceholderId]),
            (&of("page", r#""anonymousId":0"#), &[Warning::NumericId]),
            (&of("page", r#""properties":[]"#), &[Warning::EmptyArray]),
            (
                &of("track", r#""event":"A","properties":[ ],"context":[],"integrations":[]"#),
                &[Warning::EmptyArray],
            ),
            (&of("identify", r#""traits":[]"#), &[Warning::EmptyArray]),
            (&of("group", r#""groupId":"g","traits":[]"#), &[Warning::EmptyArray]),
            (&of("page", r#""integrations":{"Wigzo":[]}"#), &[]),
            (&of("page", r#""context":{"page":[],"device":[],"library":[]}"#), &[Warning::EmptyArray]),
            (
                &of("page", r#""context":{"page":[],"device":[1]}"#),
                &[Warning::EmptyArray, Warning::UnknownContext],
            ),
            (&of("identify", r#""context":{"traits":[]}"#), &[Warning::EmptyArray]),
            (&of("identify", r#""context":{"traits":[1]}"#), &[Warning::UnknownContext]),
            (
                &of("page", r#""context":{"page":"/","locale":1,"Wigzo":true,"ip":1}"#),
                &[Warning::UnknownContext],
            ),
            (&of("page", r#""context":{"library":"x","page":null,"device":{},"app":1,"Page":1}"#), &[]),
        ];
        for (text, warnings) in table {
            assert_eq!(read_alone(text).map(|event| event.warnings).as_deref(), Ok(warnings), "{text}");
        }
    }

    #[test]
    fn placeholders_are_no_ids() {
        let placeholders = [
            "undefined",
            "null",
            "NULL",
            "None",
            "NaN",
            "nil",
            "(null)",
            "<null>",
            "<nil>",
            "[object Object]",
            "false",
            " undefined ",
            "000000000000",
            "00000000-0000-0000-0000-000000000000",
        ];
        for id in placeholders {
            let text = format!(r#"{{"type":"page","userId":"{id}","anonymousId":"a"}}"#);
            let event = read_alone(&text).unwrap();
            assert_eq!((event.user_id.as_deref(), event.person()), (None, "a"), "{id}");
            assert_eq!(event.warnings, [Warning::PlaceholderId], "{id}");
        }
        let ids = [
            "u-1",
            "nobody",
            "guest",
            "anonymous",
            "Nan Goldin",
            "nullable",
            "undefined-7",
            "0x0",
            "00000000-1",
            "0",
            "007",
            "-",
            "id",
            "userId",
        ];
        for id in ids {
            let text = format!(r#"{{"type":"page","anonymousId":"{id}"}}"#);
            let event = read_alone(&text).unwrap();
            assert_eq!(
                (event.anonymous_id.as_deref(), event.warnings.as_slice()),
                (Some(id), &[][..]),
                "{id}"
            );
        }
        let text = r#"{"type":"page","userId":"u","anonymousId":"anonymousId"}"#;
        assert_eq!(read_alone(text).unwrap().anonymous_id, None, "a field's own name");
        let text = r#"{"type":"page","anonymousId":"null","sessionId":"s"}"#;
        assert_eq!(read_alone(text).unwrap().anonymous_id.as_deref(), Some("s"));
        assert_eq!(PLACEHOLDERS.iter().map(|word| word.len()).max(), Some(PLACEHOLDER_BYTES));
    }

    #[test]
    fn the_type_comes_from_the_event_or_the_path() {
        let at = |kind, text: &str| {
            let surroundings = Surroundings { kind, ..Surroundings::default() };
            read(raw(text), &surroundings).map(|event| event.kind).map_err(|found| found.code)
        };
        for kind in Kind::ALL {
            let text = r#"{"userId":"u","event":"e","groupId":"g","previousId":"p"}"#;
            assert_eq!(at(Some(kind), text), Ok(kind));
            let named = text.replacen('{', &format!(r#"{{"type":"{}","#, kind.as_str()), 1);
            assert_eq!(at(None, named.as_str()), Ok(kind));
            assert_eq!(at(Some(kind), named.as_str()), Ok(kind));
        }
        assert_eq!(at(Some(Kind::Page), r#"{"type":"track","userId":"u"}"#), Err(Code::TypeMismatch));
        assert_eq!(at(Some(Kind::Page), r#"{"type":"Page","userId":"u"}"#), Err(Code::UnsupportedEventType));
        assert_eq!(at(Some(Kind::Page), r#"{"type":null,"userId":"u"}"#), Ok(Kind::Page));
    }

    #[test]
    fn every_field_is_read() {
        let text = r#"{"type":"page","messageId":"m","userId":9007199254740993001,"anonymousId":" a ","name":"N",
            "category":"C","properties":{"price":1299.00},"context":{"ip":"203.0.113.9"},"integrations":{"All":true},
            "timestamp":"2026-01-02T03:05:00.000Z","originalTimestamp":"2025-01-01","sentAt":1767323100000}"#;
        let event = read_alone(text).unwrap();
        assert_eq!(event.message_id.as_deref(), Some("m"));
        assert_eq!(event.user_id.as_deref(), Some("9007199254740993001"));
        assert_eq!(event.anonymous_id.as_deref(), Some(" a "));
        assert_eq!((event.name.as_deref(), event.category.as_deref()), (Some("N"), Some("C")));
        assert_eq!(event.properties.get("price").map(Raw::get), Some("1299.00"));
        assert_eq!(event.context.text("ip").as_deref(), Some("203.0.113.9"));
        assert_eq!(event.integrations.whole().map(Raw::get), Some(r#"{"All":true}"#));
        assert_eq!(event.timestamp, Some(Written::text("2026-01-02T03:05:00.000Z".into())));
        assert_eq!(event.sent_at, Some(Written::number("1767323100000")));
        assert_eq!(event.event, "");
    }

    /// `timestamp` and `originalTimestamp` | the time that is taken
    #[test]
    fn the_first_usable_time_is_taken() {
        let table = [
            (r#""timestamp":"t","originalTimestamp":"o""#, Some("t")),
            (r#""originalTimestamp":"o""#, Some("o")),
            (r#""timestamp":null,"originalTimestamp":"o""#, Some("o")),
            (r#""timestamp":"","originalTimestamp":"o""#, Some("o")),
            (r#""timestamp":{},"originalTimestamp":"o""#, Some("o")),
            (r#""timestamp":"noon","originalTimestamp":"2026-01-02""#, Some("2026-01-02")),
            (r#""timestamp":1767323100.250"#, Some("1767323100.250")),
            (r#""timestamp":[]"#, None),
            (r#""receivedAt":"r""#, None),
        ];
        for (members, time) in table {
            let text = of("page", members);
            let event = read_alone(&text).unwrap();
            assert_eq!(event.timestamp.as_ref().map(|time| time.text.as_ref()), time, "{text}");
        }
    }

    #[test]
    fn old_names_are_understood_where_the_new_ones_are_absent() {
        let alias = read_alone(r#"{"type":"alias","from":"p","to":"u"}"#).unwrap();
        assert_eq!((alias.previous_id.as_deref(), alias.user_id.as_deref()), (Some("p"), Some("u")));
        let alias =
            read_alone(r#"{"type":"alias","from":"1","to":"2","previousId":"p","userId":"u"}"#).unwrap();
        assert_eq!((alias.previous_id.as_deref(), alias.user_id.as_deref()), (Some("p"), Some("u")));
        let page = read_alone(r#"{"type":"page","sessionId":"s","options":{"ip":"203.0.113.9"}}"#).unwrap();
        assert_eq!(page.anonymous_id.as_deref(), Some("s"));
        assert_eq!(page.context.text("ip").as_deref(), Some("203.0.113.9"));
        let page = read_alone(
            r#"{"type":"page","sessionId":"s","anonymousId":"a","context":{},"options":{"ip":1}}"#,
        );
        let page = page.unwrap();
        assert_eq!(page.anonymous_id.as_deref(), Some("a"));
        assert!(page.context.is_empty());
    }

    /// members of an identify | the city that is found in its traits
    #[test]
    fn an_identify_without_traits_takes_those_of_its_context() {
        let table = [
            (r#""traits":{"city":"Pune"},"context":{"traits":{"city":"Goa"}}"#, Some("Pune")),
            (r#""traits":{},"context":{"traits":{"city":"Goa"}}"#, None),
            (r#""traits":null,"context":{"traits":{"city":"Goa"}}"#, Some("Goa")),
            (r#""context":{"traits":{"city":"Goa"}}"#, Some("Goa")),
            (r#""context":{"traits":null}"#, None),
        ];
        for (members, city) in table {
            let text = of("identify", members);
            assert_eq!(read_alone(&text).unwrap().traits.text("city").as_deref(), city, "{text}");
        }
        let track = of("track", r#""event":"A","context":{"traits":{"city":"Goa"}}"#);
        assert!(read_alone(&track).unwrap().traits.is_empty());
    }

    #[test]
    fn the_envelope_lies_under_the_event() {
        let surroundings = Surroundings {
            context: Some(raw(r#"{"ip":"192.0.2.1","locale":"hi-IN"}"#)),
            integrations: Some(raw(r#"{"All":false}"#)),
            sent_at: Some(Cow::Borrowed("envelope")),
            kind: None,
            settings: None,
            trace: None,
        };
        let text = of("page", r#""context":{"ip":"203.0.113.9"},"integrations":{"Wigzo":true}"#);
        let event = read(raw(&text), &surroundings).unwrap();
        assert_eq!(event.context.text("ip").as_deref(), Some("203.0.113.9"));
        assert_eq!(event.context.text("locale").as_deref(), Some("hi-IN"));
        assert_eq!(event.integrations.iter().count(), 2);
        assert_eq!(event.sent_at, Some(Written::text("envelope".into())));
        let text = of("page", r#""sentAt":"own""#);
        let event = read(raw(&text), &surroundings).unwrap();
        assert_eq!(event.sent_at, Some(Written::text("own".into())));
        assert_eq!(event.context.whole().map(Raw::get), surroundings.context.map(Raw::get));
    }

    #[test]
    fn nesting_is_bounded_in_the_event_and_its_envelope() {
        // The event and `properties` are two levels themselves.
        let event = |levels: usize| {
            of("page", &format!(r#""properties":{{"a":{}{}}}"#, "[".repeat(levels), "]".repeat(levels)))
        };
        assert!(read_alone(&event(126)).is_ok());
        let found = read_alone(&event(127)).map(|_| ()).unwrap_err();
        assert_eq!((found.code, found.pointer), (Code::TooDeep, ""));

        let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(128), "]".repeat(128));
        let surroundings = Surroundings { context: Some(raw(&deep)), ..Surroundings::default() };
        let shallow = of("page", "");
        let found = read(raw(&shallow), &surroundings).map(|_| ()).unwrap_err();
        assert_eq!((found.code, found.pointer), (Code::TooDeep, "/context"));
    }

    #[test]
    fn messages_name_the_field_and_never_the_value() {
        let secret = "asha@shop.example";
        for text in [
            format!(r#"{{"type":"{secret}"}}"#),
            of("page", &format!(r#""context":"{secret}""#)),
            of("page", &format!(r#""messageId":["{secret}"]"#)),
            of("track", &format!(r#""event":["{secret}"]"#)),
        ] {
            let found = read_alone(&text).map(|_| ()).unwrap_err();
            let key = found.pointer.trim_start_matches('/');
            assert!(found.message.contains(&format!("\"{key}\"")), "{}", found.message);
            assert!(!found.message.contains("asha"), "{}", found.message);
        }
    }
}
