//! The house keeps its plan: who may know whom, and how a room is built.
//!
//! Reads the sources as text: comments, literals and `#[cfg(test)]` items are blanked out, what remains is searched
//! for `crate::` and `super::` paths. Every arrow from one room to another must stand in [`ARROWS`]; any other fails
//! with the sentence that says why the plan has it so. A test may use any room.
//!
//! It must not know: what the rooms do. A new room needs a row in the table, nothing else.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// A room of ours, the rooms it may use, and why it may use no other.
struct Row {
    room: &'static str,
    may_use: &'static [&'static str],
    rule: &'static str,
}

/// Who may know whom. `room::Name` allows that one name and not the room.
const ARROWS: &[Row] = &[
    Row { room: "segment", may_use: &[], rule: "`segment` is pure and uses no other room" },
    Row { room: "wigzo", may_use: &[], rule: "`wigzo` is pure and uses no other room" },
    Row { room: "clock", may_use: &[], rule: "`clock` is at the bottom and uses no other room" },
    Row { room: "current", may_use: &[], rule: "`current` is at the bottom and uses no other room" },
    Row { room: "secret", may_use: &[], rule: "`secret` is at the bottom and uses no other room" },
    Row { room: "shutdown", may_use: &[], rule: "`shutdown` is at the bottom and uses no other room" },
    Row { room: "supervisor", may_use: &[], rule: "`supervisor` is at the bottom and uses no other room" },
    Row { room: "outcome", may_use: &[], rule: "`outcome` is pure and uses no other room" },
    Row {
        room: "translate",
        may_use: &["segment", "wigzo"],
        rule: "`translate` is pure: it turns what `segment` read into what `wigzo` sends and uses nothing else",
    },
    Row {
        room: "organization",
        may_use: &["secret", "translate", "wigzo", "clock::Span"],
        rule: "`organization` uses `secret`, `translate` (the profiles) and `wigzo`: it is data about tenants, not a part \
               of the way",
    },
    Row {
        room: "telemetry",
        may_use: &["outcome", "clock::Span", "clock::UnixMillis"],
        rule: "`telemetry` uses `outcome` only, beside times, so that every room can use `telemetry`",
    },
    Row {
        room: "queue",
        may_use: &["outcome", "clock", "telemetry"],
        rule: "`queue` stores opaque bytes: it uses `outcome`, `clock` and `telemetry`, and knows neither Segment nor \
               Wigzo nor the tenants' settings",
    },
    Row {
        room: "ingress",
        may_use: &[
            "segment",
            "organization",
            "queue",
            "outcome",
            "clock",
            "current",
            "telemetry",
            "secret",
            "shutdown",
        ],
        rule: "`ingress` ends at the queue: it knows neither Wigzo nor translation nor delivery",
    },
    Row {
        room: "delivery",
        may_use: &[
            "segment",
            "translate",
            "wigzo",
            "organization",
            "queue",
            "outcome",
            "clock",
            "telemetry",
            "secret",
            "shutdown",
        ],
        rule: "`delivery` begins at the queue: it knows neither the public nor the private HTTP side",
    },
    Row {
        room: "admin",
        may_use: &[
            "delivery",
            "segment",
            "translate",
            "wigzo",
            "organization",
            "queue",
            "outcome",
            "clock",
            "current",
            "telemetry",
            "secret",
            "shutdown",
        ],
        rule: "`admin` uses what `delivery` may and `delivery` itself, never `ingress`",
    },
    Row {
        room: "sandbox",
        may_use: &["wigzo", "clock", "shutdown"],
        rule: "`sandbox` plays Wigzo: it knows the list of endpoints in `wigzo`, `clock` and `shutdown`, and not who \
               calls it",
    },
    Row {
        room: "settings",
        may_use: &[
            "ingress",
            "admin",
            "queue",
            "delivery",
            "telemetry",
            "sandbox",
            "organization",
            "secret",
            "clock",
            "supervisor::Variables",
        ],
        rule: "`settings` composes the `Config` types of the rooms and uses nothing else of theirs",
    },
    Row {
        room: "app",
        may_use: &[
            "admin",
            "clock",
            "current",
            "delivery",
            "ingress",
            "organization",
            "outcome",
            "queue",
            "sandbox",
            "secret",
            "segment",
            "settings",
            "shutdown",
            "telemetry",
            "translate",
            "wigzo",
        ],
        rule: "`app` sees every room but `cli`, which starts it",
    },
    Row {
        room: "cli",
        may_use: &[
            "admin",
            "app",
            "clock",
            "delivery",
            "ingress",
            "organization",
            "outcome",
            "queue",
            "sandbox",
            "secret",
            "segment",
            "settings",
            "shutdown",
            "supervisor",
            "telemetry",
            "translate",
            "wigzo",
        ],
        rule: "`cli` sees every room",
    },
    Row {
        room: "main",
        may_use: &["cli"],
        rule: "`main.rs` starts the command that `cli` read, and does nothing else",
    },
];

/// Rooms that few may use, whoever asks; said before the asker's own rule, because it is the better explanation.
const CLOSED: &[(&str, &[&str], &str)] = &[
    ("admin", &["app", "cli", "settings"], "nobody but `app`, `cli` and `settings` uses `admin`"),
    (
        "settings",
        &["app", "cli"],
        "no room below knows `settings`: a room owns its `Config`, and `settings` composes them",
    ),
    ("app", &["cli"], "`app` is the composition root: nothing but `cli` uses it"),
    ("cli", &["main"], "`cli` is the outermost room: nothing but `main.rs` uses it"),
];

/// Where the outside world is not let in: the files whose path begins so, what may not be named there, and why.
const OUTSIDE: &[(&[&str], &[&str], &str)] = &[
    (
        &["src/segment", "src/wigzo", "src/translate", "src/outcome", "src/delivery/scheduler"],
        &[
            "async fn",
            "async move",
            "tokio::",
            "reqwest::",
            "rusqlite::",
            "hyper::",
            "axum::",
            "std::fs",
            "std::env",
            "std::net::Tcp",
            "SystemTime",
            "Instant::now",
            "fastrand::",
            "Uuid::now_v7",
            "Uuid::new_v4",
        ],
        "the pure rooms and the scheduler have no async, no I/O, no clock and no chance of their own: time and \
         randomness are arguments",
    ),
    (&["src/delivery"], &["axum::", "hyper::server"], "`delivery` knows no HTTP server types"),
    (&["src/queue"], &["axum::", "hyper::", "reqwest::"], "`queue` stores bytes: it knows no HTTP"),
];

/// Names under which anything and everything gathers.
const NO_ROOMS: &[&str] = &["utils", "util", "common", "types", "helpers", "helper", "misc"];

// === The checks ===

#[test]
fn every_arrow_between_rooms_is_in_the_plan() {
    let findings = check(&Source::all());
    assert!(findings.is_empty(), "{}", list(&findings));
}

#[test]
fn every_room_has_a_row_and_every_row_a_room() {
    let rooms: BTreeSet<_> = Source::all().iter().map(|source| source.room().to_owned()).collect();
    let rows: BTreeSet<_> = ARROWS.iter().map(|row| row.room.to_owned()).chain(["lib".to_owned()]).collect();
    assert_eq!(rooms, rows, "src/ (left) and the table ARROWS (right) list the same rooms");
    let known: BTreeSet<_> = ARROWS.iter().map(|row| row.room).collect();
    for row in ARROWS {
        for used in row.may_use {
            let room = used.split("::").next().unwrap_or_default();
            assert!(
                known.contains(room),
                "the row `{}` allows `{used}`, and there is no such room",
                row.room
            );
            assert_ne!(room, row.room, "a room may always use itself");
        }
    }
}

#[test]
fn the_plan_has_no_circle() {
    let mut left: Vec<_> = ARROWS.iter().collect();
    while !left.is_empty() {
        let names: BTreeSet<_> = left.iter().map(|row| row.room).collect();
        let before = left.len();
        left.retain(|row| {
            row.may_use.iter().any(|used| names.contains(used.split("::").next().unwrap_or_default()))
        });
        assert!(left.len() < before, "these rooms use each other in a circle: {names:?}");
    }
}

#[test]
fn pure_rooms_let_nothing_in_from_outside() {
    let mut findings = Vec::new();
    for source in Source::all() {
        for (places, banned, rule) in OUTSIDE {
            if places.iter().any(|place| source.name.starts_with(place)) {
                for ban in *banned {
                    if let Some(at) = find_token(&source.code, ban) {
                        findings.push(format!(
                            "{}:{}: {rule}: `{ban}`",
                            source.name,
                            line_of(&source.code, at)
                        ));
                    }
                }
            }
        }
    }
    assert!(findings.is_empty(), "{}", list(&findings));
}

#[test]
fn a_room_is_a_named_file_that_says_what_it_is_for() {
    let mut findings = Vec::new();
    for path in rust_files("src").into_iter().chain(rust_files("tests")) {
        let name = relative(&path);
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if stem == "mod" {
            findings.push(format!("{name}: no `mod.rs`: a module is `room.rs`, its parts lie in `room/`"));
        }
        for part in Path::new(&name).with_extension("").iter().filter_map(|part| part.to_str()) {
            if NO_ROOMS.contains(&part) {
                findings.push(format!(
                    "{name}: no module is called `{part}`: a thing lives with the noun it serves"
                ));
            }
        }
        if !read(&path).starts_with("//! ") {
            findings.push(format!(
                "{name}: a module opens with `//!`: what it is for, and what it must not know"
            ));
        }
    }
    assert!(findings.is_empty(), "{}", list(&findings));
}

/// Every arrow that is not in the plan, with the rule it breaks.
fn check(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.room() != "lib") {
        for arrow in source.arrows() {
            if let Some(rule) = broken_rule(source.room(), &arrow.path) {
                findings.push(format!(
                    "{}:{}: {rule}: `crate::{}`",
                    source.name,
                    arrow.line,
                    arrow.path.join("::")
                ));
            }
        }
    }
    findings
}

/// The sentence that forbids `room` to use `path` (without `crate`), if one does.
fn broken_rule(room: &str, path: &[String]) -> Option<&'static str> {
    let target = path.first().map(String::as_str)?;
    if target == "*" {
        return Some("a glob of the whole crate hides who knows whom");
    }
    if target == room {
        return None;
    }
    // What is not a room is a macro or a re-export of the crate itself; the compiler knows whether it exists.
    ARROWS.iter().find(|row| row.room == target)?;
    if let Some((_, _, rule)) =
        CLOSED.iter().find(|(closed, users, _)| *closed == target && !users.contains(&room))
    {
        return Some(rule);
    }
    let Some(row) = ARROWS.iter().find(|row| row.room == room) else {
        return Some("a room needs a row in tests/architecture.rs before it may use another");
    };
    let whole = path.join("::");
    let allowed = row.may_use.iter().any(|used| {
        if used.contains("::") {
            whole == *used || whole.starts_with(&format!("{used}::"))
        } else {
            *used == target
        }
    });
    if allowed { None } else { Some(row.rule) }
}

// === A source file ===

/// A file of `src/`, without comments, literals and tests; every remaining byte is on its own line still.
struct Source {
    /// From the root of the crate: `src/queue/sqlite.rs`.
    name: String,
    code: String,
}

/// A path that leads to another room, and the line it is on.
#[derive(Debug, PartialEq, Eq)]
struct Arrow {
    path: Vec<String>,
    line: usize,
}

impl Source {
    fn new(name: &str, text: &str) -> Self {
        Self { name: name.to_owned(), code: without_tests(&without_comments_and_literals(text)) }
    }

    /// Every file of `src/`, but those that only the tests have.
    fn all() -> Vec<Self> {
        let files = rust_files("src");
        assert!(files.len() > 10, "the sources are where they are expected: {files:?}");
        let mut tests = Vec::new();
        for file in &files {
            for module in test_modules(&without_comments_and_literals(&read(file))) {
                let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
                let parent = file.parent().map(Path::to_owned).unwrap_or_default();
                let folder = if matches!(stem, "lib" | "main") { parent } else { parent.join(stem) };
                tests.push(folder.join(module));
            }
        }
        files
            .iter()
            .filter(|file| !tests.iter().any(|test| file.with_extension("").starts_with(test)))
            .map(|file| Self::new(&relative(file), &read(file)))
            .collect()
    }

    /// The room that the file belongs to: `queue` for `src/queue.rs` and all below `src/queue/`.
    fn room(&self) -> &str {
        let inside = self.name.strip_prefix("src/").unwrap_or(&self.name);
        inside.split(['/', '.']).next().unwrap_or_default()
    }

    /// How many `super::` lead from the file's module to the root of the crate.
    fn depth(&self) -> usize {
        self.name.matches('/').count()
    }

    /// Every `crate::` path of the file, use trees spelled out, and every `super::` path that leaves the room.
    fn arrows(&self) -> Vec<Arrow> {
        let mut arrows = Vec::new();
        for root in ["crate", "wigzo_destination"] {
            // The library is `crate` to its own rooms, and has its name in `main.rs` alone.
            if (root == "crate") != (self.room() == "main") {
                self.follow(root, &mut arrows);
            }
        }
        let supers = "super::".repeat(self.depth());
        self.follow(supers.trim_end_matches("::"), &mut arrows);
        arrows
    }

    fn follow(&self, root: &str, arrows: &mut Vec<Arrow>) {
        let mut from = 0;
        while let Some(at) = self.code.get(from..).and_then(|rest| find_token(rest, root)).map(|at| at + from)
        {
            from = at + root.len();
            let before = self.code.get(..at).unwrap_or_default().trim_end();
            let rest = self.code.get(from..).unwrap_or_default().trim_start();
            // `a::crate::` is not ours; `super::super::` is found once, at its beginning.
            if let (Some(tree), false) = (rest.strip_prefix("::"), before.ends_with("::")) {
                let line = line_of(&self.code, at);
                arrows.extend(spell_out(tree).into_iter().map(|path| Arrow { path, line }));
            }
        }
    }
}

/// The paths of a use tree: `a::{b, c::{d, e}}` is `a::b`, `a::c::d` and `a::c::e`. Stops where the tree ends.
fn spell_out(tree: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    branch(tree.trim_start(), &[], &mut paths);
    paths
}

/// Reads one branch of a use tree and returns what follows it.
fn branch<'a>(text: &'a str, stem: &[String], paths: &mut Vec<Vec<String>>) -> &'a str {
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
            if rest.is_empty() {
                return rest;
            }
            if let Some(after) = rest.strip_prefix('}') {
                return after;
            }
            let before = rest.len();
            rest = branch(rest, stem, paths).trim_start();
            if let Some(renamed) = rest.strip_prefix("as ") {
                rest = renamed.trim_start().trim_start_matches(is_word);
            }
            if rest.len() == before {
                return rest;
            }
        }
    }
    if let Some(rest) = text.strip_prefix('*') {
        paths.push([stem, &["*".to_owned()]].concat());
        return rest;
    }
    let end = text.find(|c| !is_word(c)).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    if word.is_empty() {
        return rest;
    }
    let path = if word == "self" { stem.to_vec() } else { [stem, &[word.to_owned()]].concat() };
    match rest.trim_start().strip_prefix("::").map(str::trim_start) {
        // A turbofish ends a path.
        Some(more) if more.starts_with(|c| is_word(c) || c == '{' || c == '*') => branch(more, &path, paths),
        _ => {
            paths.push(path);
            rest
        }
    }
}

// === Reading Rust as text ===

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where `token` stands in `text` as a word of its own, not as a part of a longer one.
fn find_token(text: &str, token: &str) -> Option<usize> {
    text.match_indices(token).map(|(at, _)| at).find(|at| {
        let before = text.get(..*at).and_then(|before| before.chars().next_back());
        let after = text.get(at + token.len()..).and_then(|after| after.chars().next());
        let opens = before.is_none_or(|c| !is_word(c) && c != '$');
        let closes = !token.ends_with(is_word) || after.is_none_or(|c| !is_word(c));
        opens && closes
    })
}

fn line_of(text: &str, at: usize) -> usize {
    text.get(..at).unwrap_or_default().matches('\n').count() + 1
}

/// The same text with spaces for everything in comments, strings and characters. Line breaks stay.
fn without_comments_and_literals(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let after_word = code.chars().next_back().is_some_and(is_word);
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = raw_string(rest).filter(|_| !after_word) {
            length
        } else if next == '"' {
            quoted(rest, '"')
        } else if next == '\'' && is_character(rest) {
            quoted(rest, '\'')
        } else {
            code.push(next);
            rest = rest.get(next.len_utf8()..).unwrap_or_default();
            continue;
        };
        let (blank, more) = rest.split_at(length);
        code.extend(blank.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = more;
    }
    code
}

/// The length of a block comment, and of those inside it.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut previous = ' ';
    for (at, c) in text.char_indices() {
        match (previous, c) {
            ('/', '*') => (depth, previous) = (depth + 1, ' '),
            ('*', '/') if depth == 1 => return at + 1,
            ('*', '/') => (depth, previous) = (depth - 1, ' '),
            _ => previous = c,
        }
    }
    text.len()
}

/// The length of a raw string with its quotes and signs, if one begins here.
fn raw_string(text: &str) -> Option<usize> {
    let opening =
        text.strip_prefix("br").or_else(|| text.strip_prefix("cr")).or_else(|| text.strip_prefix('r'))?;
    let signs = opening.len() - opening.trim_start_matches('#').len();
    let body = opening.trim_start_matches('#').strip_prefix('"')?;
    let closing = format!("\"{}", "#".repeat(signs));
    let end = body.find(&closing).map_or(body.len(), |at| at + closing.len());
    Some(text.len() - body.len() + end)
}

/// The length of a literal in quotes, escapes minded.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if !escaped && c == quote {
            return at + c.len_utf8();
        }
        escaped = !escaped && c == '\\';
    }
    text.len()
}

/// Whether a `'` begins a character, and not a lifetime.
fn is_character(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    match (chars.next(), chars.next()) {
        (Some('\\'), _) => true,
        (Some(_), Some(close)) => close == '\'',
        _ => false,
    }
}

/// Where an attribute stands that keeps an item to the tests, and where the item itself begins.
fn test_items(code: &str) -> Vec<(usize, usize)> {
    let mut items = Vec::new();
    for (at, _) in code.match_indices("#[cfg(") {
        let condition: String =
            code.get(at + "#[cfg(".len()..).unwrap_or_default().chars().take(10).collect();
        if condition.starts_with("test)")
            || condition.starts_with("all(test,")
            || condition.starts_with("all(test)")
        {
            let mut start = at;
            while let Some(rest) = code.get(start..).filter(|rest| rest.trim_start().starts_with("#[")) {
                let open = start + (rest.len() - rest.trim_start().len()) + 1;
                start = open + balanced(code.get(open..).unwrap_or_default());
            }
            items.push((at, start));
        }
    }
    items
}

/// The length of a text in brackets, from the one it begins with to the one that closes it.
fn balanced(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth <= 1 => return at + 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

/// The same text with spaces for every item that only the tests have.
fn without_tests(code: &str) -> String {
    let mut kept = code.to_owned();
    for (from, start) in test_items(code) {
        let item = code.get(start..).unwrap_or_default();
        // An item ends with its block, or, without one, with a semicolon; a `use` tree in braces has both.
        let semicolon = item.find(';').unwrap_or(item.len());
        let brace = item.find('{').unwrap_or(item.len());
        let is_use = item.trim_start().trim_start_matches("pub ").starts_with("use ");
        let length = if is_use || semicolon < brace {
            semicolon
        } else {
            brace + balanced(item.get(brace..).unwrap_or_default())
        };
        let end = (start + length).min(code.len());
        let blank: String = code
            .get(from..end)
            .unwrap_or_default()
            .chars()
            .flat_map(|c| std::iter::repeat_n(if c == '\n' { '\n' } else { ' ' }, c.len_utf8()))
            .collect();
        kept.replace_range(from..end, &blank);
    }
    kept
}

/// The names of the modules that are declared for the tests alone: `#[cfg(test)] mod tests;`.
fn test_modules(code: &str) -> Vec<String> {
    test_items(code)
        .into_iter()
        .filter_map(|(_, start)| {
            let item = code.get(start..)?.split_once(';')?.0;
            let name = item
                .trim()
                .trim_start_matches("pub")
                .trim_start_matches("(crate)")
                .trim()
                .strip_prefix("mod ")?;
            name.chars().all(is_word).then(|| name.to_owned())
        })
        .collect()
}

// === Files ===

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| unreachable!("{}: {error}", path.display()))
}

/// Every Rust file below a folder of the crate, in order.
fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn list(findings: &[String]) -> String {
    let mut text = format!("{} finding(s):\n", findings.len());
    for finding in findings {
        let _ = writeln!(text, "  {finding}");
    }
    text
}

// === Tests of the reader itself ===

mod reader {
    use super::{
        Arrow, Source, broken_rule, check, find_token, spell_out, test_modules, without_comments_and_literals,
    };

    fn paths(text: &str) -> Vec<String> {
        Source::new("src/room.rs", text).arrows().into_iter().map(|arrow| arrow.path.join("::")).collect()
    }

    #[test]
    fn use_trees_are_spelled_out() {
        for (tree, expected) in [
            ("queue::Queue;", vec!["queue::Queue"]),
            ("queue;", vec!["queue"]),
            ("queue as q;", vec!["queue"]),
            ("{admin, queue::{self, Seq as S}, clock::*};", vec!["admin", "queue", "queue::Seq", "clock::*"]),
            (
                "{\n    clock::Span,\n    queue::{Attempt, sqlite::{Reader, Writer}},\n};\nuse x::y;",
                vec!["clock::Span", "queue::Attempt", "queue::sqlite::Reader", "queue::sqlite::Writer"],
            ),
            ("*;", vec!["*"]),
            ("{};", vec![]),
            ("{", vec![]),
            ("clock::now::<u8>()", vec!["clock::now"]),
            ("queue :: Seq", vec!["queue::Seq"]),
        ] {
            let found: Vec<_> = spell_out(tree).iter().map(|path| path.join("::")).collect();
            assert_eq!(found, expected, "{tree}");
        }
    }

    #[test]
    fn paths_are_found_wherever_they_stand() {
        assert_eq!(
            paths("use crate::queue::Queue;\nfn f(x: &crate::clock::Clock) {}"),
            ["queue::Queue", "clock::Clock"]
        );
        assert_eq!(paths("pub(crate) use crate::wigzo::{Call, Verdict};"), ["wigzo::Call", "wigzo::Verdict"]);
        assert_eq!(paths("use\n    crate\n    ::queue\n    ::Seq;"), ["queue::Seq"]);
        assert_eq!(
            paths("$crate::queue::push!(); mycrate::queue::x; other::crate::queue"),
            Vec::<String>::new()
        );
        assert_eq!(paths("pub(crate) fn f() {} use crate as us;"), Vec::<String>::new());
        assert_eq!(paths("impl<'a> From<crate::queue::Seq> for X<'a> {}"), ["queue::Seq"]);
    }

    #[test]
    fn a_way_out_through_super_is_an_arrow_too() {
        let arrows = |name, text| {
            let found = Source::new(name, text).arrows();
            found.into_iter().map(|arrow| arrow.path.join("::")).collect::<Vec<_>>()
        };
        assert_eq!(arrows("src/room.rs", "use super::queue::Seq;"), ["queue::Seq"]);
        assert_eq!(arrows("src/room/part.rs", "use super::Thing;"), Vec::<String>::new());
        assert_eq!(arrows("src/room/part.rs", "use super::super::queue::Seq;"), ["queue::Seq"]);
    }

    #[test]
    fn comments_literals_and_tests_are_no_arrows() {
        for text in [
            "// use crate::queue::Seq;",
            "/// See [`crate::queue`].\nfn f() {}",
            "/* crate::queue /* crate::clock */ crate::queue */",
            "const A: &str = \"crate::queue \\\" crate::queue\";",
            "const A: &str = r#\"crate::queue \" crate::queue\"#;",
            "const A: &[u8] = br\"crate::queue\\\";",
            "#[cfg(test)]\nuse crate::queue::{Seq, Place};",
            "#[cfg(test)]\nmod tests { fn f() { crate::queue::x(); { } } use crate::clock; }",
            "#[cfg(all(test, unix))]\n#[expect(dead_code, reason = \"x\")]\nfn f() { crate::queue::x() }",
            "#[cfg(test)]\nmod tests;",
        ] {
            assert_eq!(paths(text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn what_follows_a_comment_a_literal_or_a_test_is_read() {
        for text in [
            "/* x */ use crate::queue::Seq;",
            "const QUOTE: char = '\"'; use crate::queue::Seq; const OTHER: char = '\\'';",
            "const A: &str = \"\\\\\"; use crate::queue::Seq;",
            "fn f<'a>(x: &'a str) {} use crate::queue::Seq;",
            "#[cfg(test)]\nmod tests { fn f() { } }\nuse crate::queue::Seq;",
            "#[cfg(test)]\nuse crate::clock::{A, B};\nuse crate::queue::Seq;",
            "#[cfg(not(test))]\nuse crate::queue::Seq;",
            "#[cfg(testing)]\nuse crate::queue::Seq;",
            "let é = \"é\"; #[cfg(test)] mod t { const É: char = 'é'; } use crate::queue::Seq;",
        ] {
            assert_eq!(paths(text), ["queue::Seq"], "{text}");
        }
    }

    #[test]
    fn lines_survive_the_blanking() {
        let source = Source::new(
            "src/room.rs",
            "//! x\n\"a\nb\";\n#[cfg(test)]\nmod t {\n}\nuse crate::queue::Seq;\n",
        );
        assert_eq!(source.arrows(), [Arrow { path: vec!["queue".to_owned(), "Seq".to_owned()], line: 7 }]);
    }

    #[test]
    fn files_of_tests_are_known_by_their_declaration() {
        let modules = |text| test_modules(&without_comments_and_literals(text));
        assert_eq!(modules("#[cfg(test)]\nmod tests;\nmod wire;"), ["tests"]);
        assert_eq!(modules("#[cfg(test)]\n#[expect(x)]\npub(crate) mod model;"), ["model"]);
        assert_eq!(modules("#[cfg(test)]\nmod tests { fn f() {} }\nmod wire;"), Vec::<String>::new());
    }

    #[test]
    fn tokens_are_whole_words() {
        assert_eq!(find_token("mytokio::spawn", "tokio::"), None);
        assert_eq!(find_token("use tokio::spawn", "tokio::"), Some(4));
        assert_eq!(find_token("SystemTimeError", "SystemTime"), None);
    }

    #[test]
    fn the_broken_rule_is_named() {
        let sources = [
            Source::new("src/queue/sqlite.rs", "use crate::segment::Event;"),
            Source::new("src/delivery.rs", "use crate::admin::Config;"),
            Source::new("src/telemetry.rs", "use crate::clock::{Clock, Span};"),
            Source::new("src/translate.rs", "use crate::*;"),
            Source::new("src/main.rs", "fn main() { wigzo_destination::app::run() }"),
            Source::new("src/attic.rs", "use crate::queue::Seq;"),
        ];
        let findings = check(&sources);
        let expected = [
            "src/queue/sqlite.rs:1: `queue` stores opaque bytes",
            "src/delivery.rs:1: nobody but `app`, `cli` and `settings` uses `admin`",
            "src/telemetry.rs:1: `telemetry` uses `outcome` only",
            "src/translate.rs:1: a glob",
            "src/main.rs:1: `app` is the composition root",
            "src/attic.rs:1: a room needs a row",
        ];
        assert_eq!(findings.len(), expected.len(), "{findings:?}");
        for (finding, expected) in findings.iter().zip(expected) {
            assert!(finding.starts_with(expected), "{finding}\nexpected to begin: {expected}");
        }
    }

    #[test]
    fn one_name_of_a_room_can_be_allowed_alone() {
        let rule =
            |path: &str| broken_rule("telemetry", &path.split("::").map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(rule("clock::Span"), None);
        assert_eq!(rule("clock::Span::ZERO"), None);
        assert!(rule("clock::Spanner").is_some());
        assert!(rule("clock").is_some());
        assert_eq!(rule("anything_else"), None);
    }
}
