//! Where a list goes on: text that is given out with a page and handed back for the next one. What is in it is nobody's
//! business but ours, so that it can change.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Serialize, Serializer};

use crate::queue::Seq;

/// A place in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor(String);

impl Cursor {
    /// The place behind a name.
    pub(super) fn of_name(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The name that the place is behind.
    pub(super) fn name(&self) -> &str {
        &self.0
    }

    /// The place between two of the order of work.
    pub(super) fn between(Seq(after): Seq, Seq(upto): Seq) -> Self {
        Self(format!("{after}-{upto}"))
    }

    /// What [`Cursor::between`] was made of.
    pub(super) fn ends(&self) -> Option<(Seq, Seq)> {
        let (after, upto) = self.0.split_once('-')?;
        Some((Seq(after.parse().ok()?), Seq(upto.parse().ok()?)))
    }

    /// What it was made of by [`From<Seq>`].
    pub(super) fn seq(&self) -> Option<Seq> {
        self.0.parse().ok().map(Seq)
    }
}

impl From<Seq> for Cursor {
    fn from(Seq(seq): Seq) -> Self {
        Self(seq.to_string())
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(&self.0))
    }
}

/// Text that was never given out as a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoCursor;

impl FromStr for Cursor {
    type Err = NoCursor;

    fn from_str(text: &str) -> Result<Self, NoCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| NoCursor)?;
        String::from_utf8(bytes).map(Self).map_err(|_| NoCursor)
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl schemars::JsonSchema for Cursor {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Cursor".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "Ask again with `cursor` set to this for more." })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was() {
        for cursor in [Cursor::from(Seq(7)), Cursor::between(Seq(1), Seq(9)), Cursor::of_name("acme")] {
            assert_eq!(cursor.to_string().parse(), Ok(cursor.clone()));
        }
        assert_eq!(Cursor::from(Seq(7)).seq(), Some(Seq(7)));
        assert_eq!(Cursor::between(Seq(1), Seq(9)).ends(), Some((Seq(1), Seq(9))));
        assert_eq!("7".parse::<Cursor>(), Err(NoCursor));
        assert_eq!("ä".parse::<Cursor>(), Err(NoCursor));
        assert_eq!("".parse::<Cursor>().map(|cursor| cursor.seq()), Ok(None));
    }
}
