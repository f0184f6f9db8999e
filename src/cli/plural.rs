//! Counts in sentences.

use std::fmt::Display;

/// `1 event`, `2 events`. For nouns that add an s.
pub(in crate::cli) fn count(number: impl Display, noun: &str) -> String {
    let number = number.to_string();
    let s = if number == "1" { "" } else { "s" };
    format!("{number} {noun}{s}")
}

/// `1 event waits`, `2 events wait`. For nouns and verbs that follow the rule.
pub(in crate::cli) fn count_that(number: impl Display, noun: &str, verb: &str) -> String {
    let counted = count(number, noun);
    let s = if counted.ends_with('s') { "" } else { "s" };
    format!("{counted} {verb}{s}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        assert_eq!(
            ["0 events", "1 event", "2 events", "11 events"],
            [0, 1, 2, 11].map(|it| count(it, "event"))
        );
        assert_eq!(["1 event waits", "2 events wait"], [1, 2].map(|it| count_that(it, "event", "wait")));
    }
}
