//! Partners: organizations that nobody configured, known by their token (segment.md 1.5, Direct Destination).
//!
//! The customer's organization token comes as the Basic user name, what else the customer has set in
//! `X-Segment-Settings`. Nothing is registered: [`Partner::to_stored`] is written beside each event and is all that
//! delivery needs ([why](../../docs/decisions/0007-partners-in-the-envelope.md)).
//!
//! Invariants:
//! * A partner's name is made from its token alone: the same token is the same organization, on every node and after
//!   every restart. No configured name has a dot, so the two never meet.
//! * A customer chooses how events are translated, never what is the operator's: addresses, limits, origins, replies.

use std::fmt;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::snapshot::is_org_token;
use super::{Config, ObeyIntegrations, ProfileName};
use crate::secret::Secret;
use crate::translate::{Contactless, EngageTrack, Identity, Mapping};

/// An organization that is known by its token, and what its customer has chosen.
#[derive(Debug, Clone)]
pub struct Partner {
    org_token: Secret,
    choices: Choices,
}

/// What `X-Segment-Settings` says.
#[derive(Debug, Clone, Default)]
pub struct PartnerSettings {
    org_token: Option<Secret>,
    choices: Choices,
}

/// What a customer may choose; what is absent is as `[organization_defaults]` says.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Choices {
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<ProfileName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<Identity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link_anonymous: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    contactless: Option<Contactless>,
    #[serde(skip_serializing_if = "Option::is_none")]
    engage_track: Option<EngageTrack>,
    #[serde(skip_serializing_if = "Option::is_none")]
    obey_integrations: Option<ObeyIntegrations>,
}

/// The names of [`Choices`].
const CHOICES: [&str; 6] =
    ["profile", "identity", "link_anonymous", "contactless", "engage_track", "obey_integrations"];

/// The form that is stored beside each event of a partner's.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    #[serde(rename = "orgToken")]
    org_token: std::borrow::Cow<'a, str>,
    #[serde(flatten)]
    choices: Choices,
}

/// `X-Segment-Settings` is too long, is not base64 of a JSON object, or an option in it has no value that is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the settings are not base64 of a JSON object with known values")]
pub struct BadSettings;

/// Why a request is no partner's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPartner {
    /// It shows no token.
    #[error("there is no organization token")]
    NoToken,
    /// It shows two that differ.
    #[error("the user name and the settings name different organization tokens")]
    Contradiction,
    /// What it shows cannot be an organization token.
    #[error("that is no organization token")]
    NotAToken,
}

/// The longest header that is read, in bytes. All our options together take less than a tenth of it; the rest is for
/// those that are not ours.
const MAX_HEADER: usize = 8 * 1024;

/// Base64 as the contract has it; whoever leaves out the padding means the same.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

// === impl Partner ===

impl Partner {
    /// What every partner's name begins with, and no configured one's.
    pub const PREFIX: &'static str = "partner.";

    /// The partner that a request claims to be: its token is the Basic user name, or `orgToken` in the settings, or both
    /// alike.
    ///
    /// # Errors
    /// There is no token, there are two, or it is none by its shape.
    pub fn claimed(user: Option<&str>, settings: PartnerSettings) -> Result<Self, NoPartner> {
        let PartnerSettings { org_token, choices } = settings;
        let user = user.filter(|user| !user.is_empty());
        let token = match (user, &org_token) {
            (None, None) => return Err(NoPartner::NoToken),
            (Some(user), Some(token)) if user != token.expose() => return Err(NoPartner::Contradiction),
            (Some(user), _) => user,
            (None, Some(token)) => token.expose(),
        };
        if !is_org_token(token) {
            return Err(NoPartner::NotAToken);
        }
        Ok(Self { org_token: Secret::new(token), choices })
    }

    /// Reads [`Partner::to_stored`] back. `None` if the text is not such a form. Members that this version does not know
    /// are passed over, so that an older service can work on a newer one's queue.
    pub fn from_stored(text: &str) -> Option<Self> {
        let Stored { org_token, choices } = serde_json::from_str(text).ok()?;
        is_org_token(&org_token).then(|| Self { org_token: Secret::new(org_token), choices })
    }

    /// The stored form: a small JSON object with the token and what was chosen. It is a secret.
    pub fn to_stored(&self) -> String {
        let stored = Stored { org_token: self.org_token.expose().into(), choices: self.choices.clone() };
        serde_json::to_string(&stored).expect("BUG: a struct of text and choices is JSON")
    }

    /// Its name in the queue, in logs and in records: `partner.` and 16 hex digits of a hash of its token.
    pub fn name(&self) -> String {
        let mut context = digest::Context::new(&digest::SHA256);
        // A token has no blank, so no other text of ours is hashed alike.
        context.update(b"wigzo-destination partner ");
        context.update(self.org_token.expose().as_bytes());
        let hash = context.finish();
        let hash = hash.as_ref().iter().take(8);
        hash.fold(Self::PREFIX.to_owned(), |name, byte| format!("{name}{byte:02x}"))
    }

    /// Whether a name is a partner's.
    pub fn is_name(name: &str) -> bool {
        name.starts_with(Self::PREFIX)
    }

    /// The token.
    pub fn org_token(&self) -> &Secret {
        &self.org_token
    }

    /// What an operator would have written for it.
    pub(super) fn config(self) -> Config {
        let Choices { profile, identity, link_anonymous, contactless, engage_track, obey_integrations } =
            self.choices;
        Config {
            org_token: Some(self.org_token),
            profile,
            identity,
            obey_integrations,
            mapping: Mapping { link_anonymous, contactless, engage_track, ..Mapping::default() },
            ..Config::default()
        }
    }
}

// === impl PartnerSettings ===

impl PartnerSettings {
    /// Reads the header's value. Names count in any casing, with or without `_`, `-` and blanks; what is not ours is
    /// passed over, since Segment adds settings freely; `null` and empty text count as absent, as in a form that was not
    /// filled in.
    ///
    /// # Errors
    /// It cannot be read, or what is ours in it is not what the configuration would take.
    pub fn read(header: &str) -> Result<Self, BadSettings> {
        if header.len() > MAX_HEADER {
            return Err(BadSettings);
        }
        let json = BASE64.decode(header.trim()).map_err(|_| BadSettings)?;
        serde_json::from_slice(&json).map_err(|_| BadSettings)
    }
}

impl<'de> Deserialize<'de> for PartnerSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SettingsVisitor)
    }
}

struct SettingsVisitor;

impl<'de> Visitor<'de> for SettingsVisitor {
    type Value = PartnerSettings;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of settings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let (mut org_token, mut choices) = (None, Map::new());
        while let Some(key) = object.next_key::<String>()? {
            let key = letters(&key);
            if matches!(key.as_str(), "orgtoken" | "organizationtoken") {
                let token = object.next_value::<Option<String>>()?.filter(|token| !token.is_empty());
                // Two spellings of one setting: nobody could say which is meant.
                if token.is_some() && std::mem::replace(&mut org_token, token).is_some() {
                    return Err(A::Error::duplicate_field("orgToken"));
                }
            } else if let Some(name) = CHOICES.into_iter().find(|name| letters(name) == key) {
                let value = object.next_value::<Value>()?;
                let is_set = !value.is_null() && value != "";
                if is_set && choices.insert(name.to_owned(), value).is_some() {
                    return Err(A::Error::duplicate_field(name));
                }
            } else {
                object.next_value::<IgnoredAny>()?;
            }
        }
        let choices = serde_json::from_value(Value::Object(choices)).map_err(A::Error::custom)?;
        Ok(PartnerSettings { org_token: org_token.map(Secret::new), choices })
    }
}

/// A setting's name without casing and the signs between its words.
fn letters(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOKEN: &str = "made-up-org-token";

    fn header(json: &str) -> String {
        BASE64.encode(json)
    }

    /// settings | the stored form of a partner that shows nothing else; `None`: malformed
    #[test]
    fn settings_are_read_in_any_casing_and_stored_in_one() {
        let table: [(&str, Option<&str>); 23] = [
            (r#"{"orgToken":"made-up-org-token"}"#, Some(r#"{"orgToken":"made-up-org-token"}"#)),
            (r#"{"ORGTOKEN":"made-up-org-token"}"#, Some(r#"{"orgToken":"made-up-org-token"}"#)),
            (r#"{"Organization Token":"made-up-org-token"}"#, Some(r#"{"orgToken":"made-up-org-token"}"#)),
            (
                r#"{"region":"in","org_token":"made-up-org-token","more":{"orgToken":"x"},"list":[1,{}]}"#,
                Some(r#"{"orgToken":"made-up-org-token"}"#),
            ),
            (
                r#"{"orgToken":"made-up-org-token","Link-Anonymous":false,"engageTrack":"event","IDENTITY":"raw",
                    "obeyIntegrations":"always","contactless":"skip","Profile":"standard"}"#,
                Some(
                    r#"{"orgToken":"made-up-org-token","profile":"standard","identity":"raw","link_anonymous":false,"contactless":"skip","engage_track":"event","obey_integrations":"always"}"#,
                ),
            ),
            (
                r#"{"orgToken":"made-up-org-token","profile":"","identity":null,"org_token":null}"#,
                Some(r#"{"orgToken":"made-up-org-token"}"#),
            ),
            (
                r#"{"orgToken":"made-up-org-token","baseUrl":"https://shop.example","max_in_flight":9,"token":"t",
                    "reportRejections":false,"corsOrigins":[],"open":true,"sourceKeys":["wk"],"sharedSecrets":[]}"#,
                Some(r#"{"orgToken":"made-up-org-token"}"#),
            ),
            (r#"{"orgToken":"made-up-org-token","orgtoken":"made-up-org-token"}"#, None),
            (r#"{"orgToken":"made-up-org-token","identity":"raw","Identity":"raw"}"#, None),
            (r#"{"orgToken":7}"#, None),
            (r#"{"orgToken":["made-up-org-token"]}"#, None),
            (r#"{"orgToken":"made-up-org-token","profile":"unknown"}"#, None),
            (r#"{"orgToken":"made-up-org-token","profile":1}"#, None),
            (r#"{"orgToken":"made-up-org-token","identity":"USER_FIRST"}"#, None),
            (r#"{"orgToken":"made-up-org-token","linkAnonymous":"true"}"#, None),
            (r#"{"orgToken":"made-up-org-token","contactless":true}"#, None),
            (r#"{"orgToken":"\ud800"}"#, None),
            (r#"{"orgToken":"made-up-org-token"} x"#, None),
            ("[]", None),
            ("\"made-up-org-token\"", None),
            ("null", None),
            ("", None),
            ("{", None),
        ];
        for (settings, stored) in table {
            let read = PartnerSettings::read(&header(settings));
            let found = read.map(|read| Partner::claimed(None, read).map(|partner| partner.to_stored()));
            assert_eq!(found, stored.map(|stored| Ok(stored.to_owned())).ok_or(BadSettings), "{settings}");
        }
    }

    #[test]
    fn a_header_is_base64_and_not_endless() {
        for good in ["e30=", "e30", " e30= "] {
            assert!(PartnerSettings::read(good).is_ok(), "{good}");
        }
        for bad in ["", "e3", "e30==", "{}", "e3-_", "e30=e30="] {
            assert_eq!(PartnerSettings::read(bad).err(), Some(BadSettings), "{bad}");
        }
        let filled = |length: usize| header(&format!(r#"{{"a":"{}"}}"#, "x".repeat(length)));
        assert!(PartnerSettings::read(&filled(6_000)).is_ok());
        assert!(PartnerSettings::read(&filled(6_200)).is_err(), "longer than 8 KiB");
    }

    /// user name | token in the settings | what is found
    #[test]
    fn a_claim_is_one_token() {
        let other = "another-org-token";
        for (user, token, expected) in [
            (Some(TOKEN), None, Ok(TOKEN)),
            (Some(TOKEN), Some(TOKEN), Ok(TOKEN)),
            (None, Some(TOKEN), Ok(TOKEN)),
            (Some(""), Some(TOKEN), Ok(TOKEN)),
            (Some(TOKEN), Some(other), Err(NoPartner::Contradiction)),
            (Some("wk"), Some(TOKEN), Err(NoPartner::Contradiction)),
            (Some("short"), None, Err(NoPartner::NotAToken)),
            (Some("has a blank in it"), None, Err(NoPartner::NotAToken)),
            (None, Some("short"), Err(NoPartner::NotAToken)),
            (Some(""), None, Err(NoPartner::NoToken)),
            (None, None, Err(NoPartner::NoToken)),
        ] {
            let settings = PartnerSettings { org_token: token.map(Secret::new), choices: Choices::default() };
            let found =
                Partner::claimed(user, settings).map(|partner| partner.org_token().expose().to_owned());
            assert_eq!(found, expected.map(str::to_owned), "{user:?} {token:?}");
        }
    }

    /// `printf 'wigzo-destination partner %s' made-up-org-token | sha256sum | cut -c1-16`
    #[test]
    fn a_name_comes_from_the_token_alone() {
        let plain = Partner::from_stored(r#"{"orgToken":"made-up-org-token"}"#).unwrap();
        let chosen = Partner::from_stored(r#"{"orgToken":"made-up-org-token","identity":"raw"}"#).unwrap();
        assert_eq!(plain.name(), "partner.c14269e1cbe68be0");
        assert_eq!(chosen.name(), plain.name());
        assert!(Partner::is_name(&plain.name()) && !Partner::is_name("partner"));
        let shown = format!("{plain:?}");
        assert!(!shown.contains(TOKEN), "{shown}");
    }

    #[test]
    fn what_was_not_stored_by_us_is_no_partner() {
        assert!(
            Partner::from_stored(r#"{"orgToken":"made-up-org-token","later":1}"#).is_some(),
            "a newer version's"
        );
        for text in
            ["", "{}", r#"{"orgToken":"short"}"#, r#"{"orgToken":"made-up-org-token","identity":"other"}"#]
        {
            assert!(Partner::from_stored(text).is_none(), "{text}");
        }
    }

    #[test]
    fn every_choice_has_its_name() {
        let all = r#"{"profile":"standard","identity":"raw","link_anonymous":true,"contactless":"send",
            "engage_track":"both","obey_integrations":"never"}"#;
        let Choices { profile, identity, link_anonymous, contactless, engage_track, obey_integrations } =
            serde_json::from_str(all).unwrap();
        // A choice that is added does not compile here until it is named.
        let every =
            Choices { profile, identity, link_anonymous, contactless, engage_track, obey_integrations };
        let printed = serde_json::to_value(every).unwrap();
        let names: Vec<&str> = printed.as_object().unwrap().keys().map(String::as_str).collect();
        let mut expected = CHOICES;
        expected.sort_unstable();
        assert_eq!(names, expected);
    }

    proptest! {
        #[test]
        fn any_header_is_read_or_refused_and_what_is_stored_is_read_back(
            json in r#"\{("(org_?[tT]oken|identity|profile|x)":("[a-z0-9-]{0,20}"|null|true|[0-9]),?){0,4}\}"#,
            raw in any::<String>(),
        ) {
            let _ = PartnerSettings::read(&raw);
            if let Ok(settings) = PartnerSettings::read(&header(&json))
                && let Ok(partner) = Partner::claimed(None, settings)
            {
                let stored = partner.to_stored();
                let back = Partner::from_stored(&stored).expect("what was stored is read");
                prop_assert_eq!(back.to_stored(), stored);
                prop_assert_eq!(back.name(), partner.name());
            }
        }
    }
}
