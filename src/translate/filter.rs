//! What a row takes out of its calls' values, and what it puts in.

use std::collections::BTreeMap;

use crate::segment::{Object, Raw, alike};
use crate::wigzo::{Json, JsonObject};

/// Members that go, stay and come. Names are meant in any spelling, as everywhere in an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) drop: Option<Vec<String>>,
    pub(super) keep: Option<Vec<String>>,
    pub(super) set: Option<BTreeMap<String, Json<'static>>>,
}

impl Filter {
    /// Whether it changes nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.drop.is_none() && self.keep.is_none() && self.set.is_none()
    }

    /// This filter, and where it states nothing the other one.
    pub(super) fn over(&self, under: &Self) -> Self {
        Self {
            drop: self.drop.as_ref().or(under.drop.as_ref()).cloned(),
            keep: self.keep.as_ref().or(under.keep.as_ref()).cloned(),
            set: self.set.as_ref().or(under.set.as_ref()).cloned(),
        }
    }

    /// The key that takes a member away, if one does.
    pub(super) fn takes(&self, name: &str) -> Option<&'static str> {
        if self.drop.iter().flatten().any(|dropped| alike(dropped, name)) {
            return Some("drop");
        }
        let kept = self.keep.as_ref().is_none_or(|keep| keep.iter().any(|kept| alike(kept, name)));
        (!kept).then_some("keep")
    }

    /// The value as the row wants it; a value that is no object stays as it is.
    pub(super) fn apply<'j>(&self, value: Json<'j>) -> Json<'j> {
        if self.is_empty() {
            return value;
        }
        let Some(object) = Object::parse(Raw::trusted(value.as_str())) else { return value };
        let set = || self.set.iter().flatten();
        let mut out = JsonObject::new();
        for (name, value) in object.iter() {
            let replaced = set().any(|(constant, _)| alike(constant, name));
            if !replaced && self.takes(name).is_none() {
                out.raw(name, value.get());
            }
        }
        for (name, constant) in set() {
            out.json(name, constant);
        }
        out.finish()
    }
}
