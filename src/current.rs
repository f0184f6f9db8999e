//! A value that is in force until another one takes its place, in one step: what a reload changes.
//!
//! Whoever has taken the value keeps it for as long as the work on one thing lasts (a request, an answer), and so sees
//! one configuration from end to end, whatever is put in its place meanwhile.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;

/// The value in force. Clones share it; looking never waits.
pub struct Current<T>(Arc<ArcSwap<T>>);

impl<T> Current<T> {
    /// A first value.
    pub fn new(value: T) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(value)))
    }

    /// The value that is in force now.
    pub fn get(&self) -> Arc<T> {
        self.0.load_full()
    }

    /// Puts another value in force.
    pub fn replace(&self, value: T) {
        self.0.store(Arc::new(value));
    }
}

impl<T> Clone for Current<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: fmt::Debug> fmt::Debug for Current<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Current").field(&*self.get()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_taken_a_value_keeps_it() {
        let current = Current::new(1);
        let (taken, other) = (current.get(), current.clone());
        other.replace(2);
        assert_eq!((*taken, *current.get()), (1, 2));
    }
}
