//! Who somebody is, read from traits as Segment's own reference reader does (segment.md 3.6).
//!
//! It only reads. An accessor answers with text, or with nothing: an empty text, a boolean, an array or an object
//! is no name and no address.

use std::borrow::Cow;

use super::field::{Found, Part, Text, cut};
use crate::segment::{Object, items_of, text_of};

/// A view of somebody's traits.
#[derive(Debug)]
pub(super) struct Traits<'o, 'e> {
    all: Part<'o, 'e>,
    address: Object<'e>,
    user_id: Option<&'e str>,
}

impl<'o, 'e> Traits<'o, 'e> {
    /// A view of `traits`; a `userId` that looks like an e-mail stands in for a missing one.
    pub(super) fn new(traits: Part<'o, 'e>, user_id: Option<&'e str>) -> Self {
        Self { all: traits, address: traits.object.object("address").unwrap_or_default(), user_id }
    }

    /// `email`, else the `userId` if it looks like one.
    pub(super) fn email(&self) -> Option<Text<'e>> {
        self.text("email").or_else(|| {
            let id = self.user_id.filter(|id| looks_like_email(id))?;
            Some(Found::new(Cow::Borrowed(id), "", "userId"))
        })
    }

    /// `phone`, else the first of `phones`.
    pub(super) fn phone(&self) -> Option<Text<'e>> {
        self.text("phone").or_else(|| {
            let phones = self.all.raw("phones")?;
            let first = items_of(phones.value)?.first().copied().and_then(text_of)?;
            Some(phones.map(|_| first))
        })
    }

    /// `name` trimmed, else `fullName`, else first and last name if both are there.
    pub(super) fn full_name(&self) -> Option<Text<'e>> {
        self.name().or_else(|| self.text("fullName")).or_else(|| {
            let (first, last) = (self.text("firstName")?, self.text("lastName")?);
            Some(first.map(|first| Cow::Owned(format!("{} {}", first.trim(), last.value.trim()))))
        })
    }

    /// `firstName`, else the first word of `name`.
    pub(super) fn first_name(&self) -> Option<Text<'e>> {
        self.text("firstName").or_else(|| {
            let name = self.name()?;
            Some(Found { value: cut(name.value, |name| name.split(' ').next())?, place: name.place })
        })
    }

    /// `lastName`, else what follows the first space of `name`.
    pub(super) fn last_name(&self) -> Option<Text<'e>> {
        self.text("lastName").or_else(|| {
            let name = self.name()?;
            let rest = cut(name.value, |name| Some(name.split_once(' ')?.1.trim()));
            Some(Found { value: rest?, place: name.place })
        })
    }

    /// A part of the address: `address.X`, else `X`.
    pub(super) fn address(&self, key: &'static str) -> Option<Text<'e>> {
        self.address_part().text(key).or_else(|| self.text(key))
    }

    /// The postal code, also under its name `zip`.
    pub(super) fn postal_code(&self) -> Option<Text<'e>> {
        const KEYS: [&str; 2] = ["postalCode", "zip"];
        self.address_part().first(&KEYS).or_else(|| self.all.first(&KEYS))
    }

    /// Any other trait.
    pub(super) fn text(&self, key: &'static str) -> Option<Text<'e>> {
        self.all.text(key)
    }

    fn address_part(&self) -> Part<'_, 'e> {
        let name = match self.all.name {
            "context.traits" => "context.traits.address",
            "properties" => "properties.address",
            _ => "traits.address",
        };
        Part::new(name, &self.address)
    }

    fn name(&self) -> Option<Text<'e>> {
        let name = self.text("name")?;
        let trimmed = cut(name.value, |name| Some(name.trim()).filter(|name| !name.is_empty()));
        Some(Found { value: trimmed?, place: name.place })
    }
}

/// Something, an `@`, something with a dot inside: as loose as Segment's own test.
fn looks_like_email(text: &str) -> bool {
    text.split_once('@').is_some_and(|(mailbox, host)| {
        let inner_dot = host.trim_start_matches('.').trim_end_matches('.').contains('.');
        !mailbox.is_empty() && inner_dot && !text.contains(char::is_whitespace)
    })
}

#[cfg(test)]
mod tests {
    use super::looks_like_email;

    #[test]
    fn an_email_has_a_mailbox_and_a_host() {
        for yes in ["buyer@shop.example", "a+b@x.y.z", "उपयोगकर्ता@shop.example"] {
            assert!(looks_like_email(yes), "{yes}");
        }
        for no in ["", "@", "user-42", "@shop.example", "a@localhost", "a@.example", "a@example.", "a b@x.y"]
        {
            assert!(!looks_like_email(no), "{no}");
        }
    }
}
