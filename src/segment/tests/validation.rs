//! `tests/golden/validation.txt`: each rule and each oddity as a case, readable as documentation.
//!
//! A case: `== title`, what stands around the event as `@ stored form` (path type, envelope), the events as `< json`,
//! and below each what is found: `! code pointer: message` if it is refused, `? code` per oddity, `= kept` if nothing
//! is odd. A file that differs from what the code does fails with the whole text as it would be now.

use std::fmt::Write as _;

use super::super::{Event, RejectionCode, Surroundings, Warning};
use super::raw;

fn found(json: &str, around: &str) -> String {
    match Event::read(raw(json), &Surroundings::from_stored(around).expect("a stored form")) {
        Err(found) => format!("! {} {}: {}\n", found.code.as_str(), found.pointer, found.message),
        Ok(event) if event.warnings.is_empty() => "= kept\n".to_owned(),
        Ok(event) => event.warnings.iter().fold(String::new(), |mut out, warning| {
            writeln!(out, "? {}", warning.as_str()).unwrap();
            out
        }),
    }
}

/// A depth that a line of the table would not show well.
fn spelled_out(json: &str) -> String {
    json.replace("{128 levels}", &format!("{}{}", "[".repeat(128), "]".repeat(128)))
        .replace("{101 characters}", &"x".repeat(101))
}

#[test]
fn the_table_of_rules_holds() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/validation.txt");
    let text = std::fs::read_to_string(path).unwrap();
    let (mut now, mut around) = (String::new(), "");
    for line in text.lines() {
        match line.split_at_checked(2) {
            Some(("! " | "? " | "= ", _)) => continue,
            Some(("==", _)) => around = "",
            Some(("@ ", stored)) => around = stored,
            _ => {}
        }
        writeln!(now, "{line}").unwrap();
        if let Some(json) = line.strip_prefix("< ") {
            now += &found(&spelled_out(json), around);
        }
    }
    assert!(text == now, "{path} differs; as it would be now:\n{now}");

    let missing = |codes: Vec<&'static str>, mark: &str| {
        codes.into_iter().find(|code| !text.contains(&format!("\n{mark} {code}")))
    };
    let refusals = RejectionCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(missing(refusals, "!"), None, "a rule without an example");
    let oddities = Warning::ALL.iter().map(|warning| warning.as_str()).collect();
    assert_eq!(missing(oddities, "?"), None, "an oddity without an example");
}
