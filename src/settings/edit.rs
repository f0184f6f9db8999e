//! Edits of one organization's keys in the text of a configuration file. Pure: text in, text out.
//!
//! Comments, blank lines and the order of everything stay as they are; only what the change names is touched.

use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value, value};

use super::ORGANIZATIONS;
use crate::secret::Secret;

/// Where an organization's keys stand in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Home<'a> {
    /// Below `organizations.NAME`.
    Section(&'a str),
    /// The whole file is one organization.
    WholeFile,
}

/// What is to be changed about an organization.
#[derive(Debug, Clone)]
pub enum Change {
    /// It is added, with these keys.
    Add(Vec<(&'static str, New)>),
    /// It is switched off, or on again.
    Disable(bool),
    /// It gets one more source key.
    AddSourceKey(Secret),
    /// Of the source keys in the file only the last one stays.
    DropOldSourceKeys,
}

/// A value for a new organization.
#[derive(Debug, Clone)]
pub enum New {
    /// Text that is no secret.
    Text(String),
    /// A secret.
    Secret(Secret),
    /// A list of one secret.
    List(Secret),
}

/// Why a text cannot be changed so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is not TOML. Loading says it better.
    #[error("it is not TOML")]
    NotToml,
    /// The organization does not stand where it was said to be.
    #[error("the organization is not written there as a table, as in [organizations.NAME]")]
    NotATable,
    /// `source_keys` is no list.
    #[error("`source_keys` is not a list there")]
    NotAList,
    /// There are no source keys in the file of which some could be dropped.
    #[error("it has no more than one source key there; nothing to drop")]
    NothingToDrop,
}

/// The text with the change made.
///
/// # Errors
/// The text does not fit the change.
pub(super) fn edited(text: &str, home: Home<'_>, change: &Change) -> Result<String, Unfit> {
    let mut document: DocumentMut = text.parse().map_err(|_| Unfit::NotToml)?;
    match change {
        Change::Add(keys) => add(&mut document, home, keys)?,
        Change::Disable(disabled) => set(organization(&mut document, home)?, "disabled", (*disabled).into()),
        Change::AddSourceKey(key) => {
            let organization = organization(&mut document, home)?;
            let keys = organization.entry("source_keys").or_insert(value(Array::new()));
            append(keys.as_array_mut().ok_or(Unfit::NotAList)?, key.expose());
        }
        Change::DropOldSourceKeys => {
            let keys =
                organization(&mut document, home)?.get_mut("source_keys").ok_or(Unfit::NothingToDrop)?;
            let keys = keys.as_array_mut().ok_or(Unfit::NotAList)?;
            if keys.len() < 2 {
                return Err(Unfit::NothingToDrop);
            }
            keep_last(keys);
        }
    }
    Ok(document.to_string())
}

/// The organization's table, with a header or inline.
fn organization<'a>(document: &'a mut DocumentMut, home: Home<'_>) -> Result<&'a mut dyn TableLike, Unfit> {
    match home {
        Home::WholeFile => Ok(document.as_table_mut()),
        Home::Section(name) => document
            .get_mut(ORGANIZATIONS)
            .and_then(|all| all.as_table_like_mut()?.get_mut(name)?.as_table_like_mut())
            .ok_or(Unfit::NotATable),
    }
}

fn add(document: &mut DocumentMut, home: Home<'_>, keys: &[(&'static str, New)]) -> Result<(), Unfit> {
    let mut table = Table::new();
    for (key, new) in keys {
        table.insert(
            key,
            value(match new {
                New::Text(text) => Value::from(text.as_str()),
                New::Secret(secret) => Value::from(secret.expose()),
                New::List(secret) => Value::Array(Array::from_iter([secret.expose()])),
            }),
        );
    }
    match home {
        Home::WholeFile => document.as_table_mut().extend(table),
        Home::Section(name) => {
            let mut implied = Table::new();
            implied.set_implicit(true);
            let all = document.entry(ORGANIZATIONS).or_insert(Item::Table(implied));
            let all = all.as_table_mut().ok_or(Unfit::NotATable)?;
            table.decor_mut().set_prefix("\n");
            all.insert(name, Item::Table(table));
        }
    }
    Ok(())
}

/// Sets a key. What stands around its value stays.
fn set(table: &mut dyn TableLike, key: &str, mut new: Value) {
    if let Some(old) = table.get_mut(key).and_then(Item::as_value_mut) {
        *new.decor_mut() = old.decor().clone();
        *old = new;
    } else {
        table.insert(key, value(new));
    }
}

/// Appends to a list, written like what comes before: on a line of its own if that is. Comments stay on their lines.
fn append(list: &mut Array, text: &str) {
    let mut new = Value::from(text);
    let indent = list.iter().last().and_then(indent_of);
    let Some(indent) = indent else { return list.push(new) };
    // What follows the last value, up to the bracket, may hold a comment about it.
    let mut trailing = list.trailing().as_str().unwrap_or_default().to_owned();
    if let Some(last) = list.iter_mut().last() {
        let suffix = last.decor().suffix().and_then(|it| it.as_str()).unwrap_or_default();
        trailing.insert_str(0, suffix);
        last.decor_mut().set_suffix("");
    }
    let (about_last, closing) = trailing.rsplit_once('\n').unwrap_or(("", ""));
    new.decor_mut().set_prefix(format!("{about_last}\n{indent}"));
    let closing = format!("\n{closing}");
    list.push_formatted(new);
    list.set_trailing(closing);
    list.set_trailing_comma(true);
}

/// The blanks before a value, if it begins a line.
fn indent_of(value: &Value) -> Option<String> {
    let prefix = value.decor().prefix()?.as_str()?;
    prefix.rsplit_once('\n').map(|(_, indent)| indent.to_owned())
}

/// Leaves the last value of a list, without what was said about the others.
fn keep_last(list: &mut Array) {
    let mut left = list.len();
    list.retain(|_| {
        left -= 1;
        left == 0
    });
    if let Some(last) = list.iter_mut().last() {
        let prefix = indent_of(last).map(|indent| format!("\n{indent}")).unwrap_or_default();
        last.decor_mut().set_prefix(prefix);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Change {
        Change::AddSourceKey(Secret::new(text))
    }

    #[test]
    fn only_what_the_change_names_is_touched() {
        let file = "\
# The shops.
[queue]
path = \"data\"   # on the fast disk

# The first one.
[organizations.acme]
org_token   = \"made-up-org-token\"
source_keys = [ # two
  \"wk_a\",   # web
  \"wk_b\",
]
# Its table.
[organizations.acme.events.\"Signed Up\"]
calls = []

[organizations.beta]
source_keys = [\"wk_c\"]
disabled = true # until spring
org_token = \"made-up-org-token\"
";
        let change = |home, change: &Change| edited(file, Home::Section(home), change).unwrap();
        let differs = |after: &str| -> Vec<String> {
            let before: Vec<_> = file.lines().collect();
            after.lines().filter(|line| !before.contains(line)).map(str::to_owned).collect()
        };
        assert_eq!(
            change("beta", &Change::Disable(false)),
            file.replace("disabled = true #", "disabled = false #")
        );
        assert_eq!(differs(&change("acme", &Change::Disable(true))), ["disabled = true"]);
        assert_eq!(differs(&change("acme", &key("wk_new"))), ["  \"wk_new\","]);
        assert_eq!(change("beta", &key("wk_new")), file.replace("[\"wk_c\"]", "[\"wk_c\", \"wk_new\"]"));
        let dropped = change("acme", &Change::DropOldSourceKeys);
        assert!(dropped.contains("source_keys = [\n  \"wk_b\",\n]\n"), "{dropped}");
        let keys = vec![
            ("org_token", New::Secret(Secret::new("made-up-org-token"))),
            ("source_keys", New::List(Secret::new("wk_\"x"))),
            ("profile", New::Text("guide".to_owned())),
        ];
        let added = change("gamma", &Change::Add(keys.clone()));
        let section = "\n[organizations.gamma]\norg_token = \"made-up-org-token\"\nsource_keys = ['wk_\"x']\nprofile = \"guide\"\n";
        assert_eq!(added, format!("{file}{section}"));
        let whole = edited("", Home::WholeFile, &Change::Add(keys)).unwrap();
        assert_eq!(whole, section.split_once("]\n").unwrap().1);
    }

    #[test]
    fn a_list_grows_as_it_is_written() {
        for (list, expected) in [
            ("[]", r#"["new"]"#),
            (r#"["a"]"#, r#"["a", "new"]"#),
            ("[\n  \"a\", # web\n]", "[\n  \"a\", # web\n  \"new\",\n]"),
            ("[\n\t\"a\" # web\n  ]", "[\n\t\"a\", # web\n\t\"new\",\n  ]"),
            (
                "[\n  # web\n  \"a\",\n  # app\n  \"b\",\n]",
                "[\n  # web\n  \"a\",\n  # app\n  \"b\",\n  \"new\",\n]",
            ),
        ] {
            let text = format!("[organizations.a]\nsource_keys = {list}\nopen = true\n");
            let after = edited(&text, Home::Section("a"), &key("new")).unwrap();
            assert_eq!(after, text.replace(list, expected));
        }
    }

    #[test]
    fn other_ways_to_write_a_table_are_understood() {
        for (text, expected) in [
            (
                "organizations.a.org_token = \"t\"\n",
                "organizations.a.org_token = \"t\"\norganizations.a.disabled = true\n",
            ),
            (
                "[organizations]\na = { org_token = \"t\" }\n",
                "[organizations]\na = { org_token = \"t\" , disabled = true }\n",
            ),
            (
                "[organizations]\na.org_token = \"t\"\n",
                "[organizations]\na.org_token = \"t\"\na.disabled = true\n",
            ),
        ] {
            let after = edited(text, Home::Section("a"), &Change::Disable(true)).unwrap();
            assert_eq!(after.replace(' ', ""), expected.replace(' ', ""), "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_told() {
        for (text, change, expected) in [
            ("[organizations.a", key("wk"), Unfit::NotToml),
            ("[organizations.b]\n", key("wk"), Unfit::NotATable),
            ("organizations = 1\n", key("wk"), Unfit::NotATable),
            ("organizations = 1\n", Change::Add(Vec::new()), Unfit::NotATable),
            ("[organizations.a]\nsource_keys = \"wk\"\n", key("wk"), Unfit::NotAList),
            ("[organizations.a]\nsource_keys = \"wk\"\n", Change::DropOldSourceKeys, Unfit::NotAList),
            ("[organizations.a]\nsource_keys = [\"wk\"]\n", Change::DropOldSourceKeys, Unfit::NothingToDrop),
            ("[organizations.a]\n", Change::DropOldSourceKeys, Unfit::NothingToDrop),
        ] {
            assert_eq!(edited(text, Home::Section("a"), &change), Err(expected), "{text}");
        }
    }
}
