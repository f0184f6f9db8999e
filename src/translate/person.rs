//! Who somebody is, read from traits as Segment's own reference reader does (segment.md 3.6).
//!
//! It only reads. An accessor answers with text, or with nothing: an empty text, a boolean, an array or an object
//! is no name and no address.

use std::borrow::Cow;

use crate::segment::{Object, items_of, text_of};

/// A view of somebody's traits.
#[derive(Debug)]
pub(super) struct Traits<'e> {
    all: &'e Object<'e>,
    address: Object<'e>,
    user_id: Option<&'e str>,
}

impl<'e> Traits<'e> {
    /// A view of `traits`; a `userId` that looks like an e-mail stands in for a missing one.
    pub(super) fn new(traits: &'e Object<'e>, user_id: Option<&'e str>) -> Self {
        Self { all: traits, address: traits.object("address").unwrap_or_default(), user_id }
    }

    /// `email`, else the `userId` if it looks like one.
    pub(super) fn email(&self) -> Option<Cow<'e, str>> {
        self.text("email").or_else(|| self.user_id.filter(|id| looks_like_email(id)).map(Cow::Borrowed))
    }

    /// `phone`, else the first of `phones`.
    pub(super) fn phone(&self) -> Option<Cow<'e, str>> {
        self.text("phone").or_else(|| {
            let phones = items_of(self.all.get_like("phones")?)?;
            phones.first().copied().and_then(text_of)
        })
    }

    /// `name` trimmed, else `fullName`, else first and last name if both are there.
    pub(super) fn full_name(&self) -> Option<Cow<'e, str>> {
        self.name().or_else(|| self.text("fullName")).or_else(|| {
            let (first, last) = (self.text("firstName")?, self.text("lastName")?);
            Some(Cow::Owned(format!("{} {}", first.trim(), last.trim())))
        })
    }

    /// `firstName`, else the first word of `name`.
    pub(super) fn first_name(&self) -> Option<Cow<'e, str>> {
        self.text("firstName").or_else(|| {
            let name = self.name()?;
            let first = name.split(' ').next()?;
            Some(Cow::Owned(first.to_owned()))
        })
    }

    /// `lastName`, else what follows the first space of `name`.
    pub(super) fn last_name(&self) -> Option<Cow<'e, str>> {
        self.text("lastName").or_else(|| {
            let name = self.name()?;
            let (_, rest) = name.split_once(' ')?;
            Some(Cow::Owned(rest.trim().to_owned()))
        })
    }

    /// A part of the address: `address.X`, else `X`.
    pub(super) fn address(&self, part: &str) -> Option<Cow<'e, str>> {
        self.address.text(part).or_else(|| self.text(part))
    }

    /// The postal code, also under its name `zip`.
    pub(super) fn postal_code(&self) -> Option<Cow<'e, str>> {
        self.address
            .text("postalCode")
            .or_else(|| self.address.text("zip"))
            .or_else(|| self.text("postalCode"))
            .or_else(|| self.text("zip"))
    }

    /// Any other trait.
    pub(super) fn text(&self, key: &str) -> Option<Cow<'e, str>> {
        self.all.text(key)
    }

    fn name(&self) -> Option<Cow<'e, str>> {
        let name = self.text("name")?;
        let trimmed = name.trim();
        if trimmed.is_empty() { None } else { Some(Cow::Owned(trimmed.to_owned())) }
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
