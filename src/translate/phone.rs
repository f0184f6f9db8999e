//! Telephone numbers in one form (E.164: `+` and digits), if an organization asks for it.
//!
//! A number without `+` is read as somebody in the organization's country would dial it. What is no valid number there
//! stays as it was sent: a wrong number is the sender's to correct, not ours to lose.

use std::borrow::Cow;

use phonenumber::Mode;
use phonenumber::country::Id;
use phonenumber::metadata::{DATABASE, Database};
use serde::{Deserialize, Serialize};

/// The country in which numbers without `+` are dialled; none leaves every number as it was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PhoneCountry(Option<Id>);

/// A text that is no country's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected the two letters of a country in ISO 3166, such as \"IN\", or \"\" for numbers as they were sent"
)]
pub struct BadCountry;

impl PhoneCountry {
    /// The number in its one form, or as it was sent.
    pub(super) fn format(self, number: Cow<'_, str>) -> Cow<'_, str> {
        let Some(country) = self.0 else { return number };
        match phonenumber::parse(Some(country), &*number) {
            Ok(parsed) if parsed.is_valid() => parsed.format().mode(Mode::E164).to_string().into(),
            Ok(_) | Err(_) => number,
        }
    }

    /// The country's code; empty for none.
    pub fn as_str(&self) -> &str {
        self.0.as_ref().map_or("", AsRef::as_ref)
    }
}

impl TryFrom<String> for PhoneCountry {
    type Error = BadCountry;

    fn try_from(text: String) -> Result<Self, BadCountry> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let country = text.parse().map_err(|_| BadCountry)?;
        // Unpacks the tables of all countries, which takes a while: now, and not when an event waits for it.
        let _: &Database = &DATABASE;
        Ok(Self(Some(country)))
    }
}

impl From<PhoneCountry> for String {
    fn from(country: PhoneCountry) -> Self {
        country.as_str().to_owned()
    }
}

impl schemars::JsonSchema for PhoneCountry {
    fn schema_name() -> Cow<'static, str> {
        "PhoneCountry".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn country(code: &str) -> PhoneCountry {
        PhoneCountry::try_from(code.to_owned()).unwrap()
    }

    /// country | as it was sent | as it leaves; the numbers are of ranges that nobody is given, or examples
    #[test]
    fn numbers_take_one_form_or_stay_as_they_are() {
        for (code, sent, formatted) in [
            ("", "081234 56789", "081234 56789"),
            ("IN", "081234 56789", "+918123456789"),
            ("IN", "81234-56789", "+918123456789"),
            ("IN", "+91 (81234) 56789", "+918123456789"),
            ("IN", "00 91 8123456789", "+918123456789"),
            ("IN", "+1 202-555-0173", "+12025550173"),
            ("US", "(202) 555-0173", "+12025550173"),
            ("IN", "+910000000000", "+910000000000"),
            ("IN", "none", "none"),
            ("IN", "12", "12"),
            ("IN", "", ""),
        ] {
            assert_eq!(country(code).format(sent.into()), formatted, "{code} {sent}");
        }
    }

    #[test]
    fn only_a_country_is_one() {
        for bad in ["in", "IND", "India", "XX", " "] {
            assert_eq!(PhoneCountry::try_from(bad.to_owned()), Err(BadCountry), "{bad}");
        }
        assert_eq!(country("IN").as_str(), "IN");
        assert_eq!(country("").as_str(), "");
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in any::<String>()) {
            let once = country("IN").format(Cow::Borrowed(text.as_str())).into_owned();
            prop_assert_eq!(country("IN").format(Cow::Borrowed(once.as_str())), once.as_str());
        }

        #[test]
        fn what_resembles_a_number_is_taken(text in "[+(]?[0-9 ().-]{0,24}(x[0-9]{1,5})?") {
            let once = country("IN").format(Cow::Borrowed(text.as_str())).into_owned();
            prop_assert_eq!(country("IN").format(Cow::Borrowed(once.as_str())), once.as_str());
        }
    }
}
