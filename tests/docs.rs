//! The documents agree with the program: reasons, keys, commands, links and names that they mention exist.
//!
//! Documents are read as text. What they say about configuration is loaded by the same code that the service uses.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use wigzo_destination::outcome::{Outcome, Reason};
use wigzo_destination::queue::State;
use wigzo_destination::segment::{RejectionCode, Warning};
use wigzo_destination::settings::{Problems, Settings, Takes, keys};
use wigzo_destination::telemetry::{AuthenticationFailure, Metrics};

#[path = "docs/mapping.rs"]
mod mapping;

/// Rooms whose configuration has a section of its name; `section.key` in a document is a key of theirs.
const SECTIONS: [&str; 9] = [
    "ingress",
    "admin",
    "queue",
    "delivery",
    "telemetry",
    "reload",
    "sandbox",
    "organization_defaults",
    "organizations",
];

// === What an operator reads about one event ===

#[test]
fn the_readme_tells_every_outcome_and_reason_with_its_exact_meaning() {
    let readme = read("README.md");
    let rows = rows(&readme);
    let mut wrong = Vec::new();
    let lists = [
        Outcome::ALL.iter().map(|it| (it.as_str(), it.meaning())).collect::<Vec<_>>(),
        Reason::ALL.iter().map(|it| (it.as_str(), it.meaning())).collect(),
    ];
    for (name, meaning) in lists.iter().flatten() {
        let cell = format!("`{name}`");
        if !rows.iter().any(|row| row.first() == Some(&cell.as_str()) && row.get(1) == Some(meaning)) {
            wrong.push(format!("| {cell} | {meaning} |"));
        }
    }
    assert!(wrong.is_empty(), "README.md lacks these rows:\n{}", wrong.join("\n"));
}

#[test]
fn the_readme_has_no_reason_that_the_program_does_not_know() {
    let readme = read("README.md");
    let table = readme.split("| reason | meaning | state |").nth(1).expect("the table of reasons");
    let table = table.split("\n\n").next().unwrap_or_default();
    for row in rows(table).iter().filter(|row| row.first().is_some_and(|cell| cell.starts_with('`'))) {
        let name = row[0].trim_matches('`');
        assert!(Reason::parse(name).is_some(), "README.md explains `{name}`, which is no reason");
    }
}

#[test]
fn the_readme_names_every_rule_that_an_event_may_break() {
    let named: BTreeSet<String> = inline_code(&read("README.md")).into_iter().collect();
    for code in RejectionCode::ALL {
        assert!(named.contains(code.as_str()), "README.md does not name the code {}", code.as_str());
    }
}

#[test]
fn the_readme_tells_every_warning_with_its_exact_meaning() {
    let readme = read("README.md");
    let rows = rows(&readme);
    for warning in Warning::ALL {
        let row = [format!("`{}`", warning.as_str()), warning.meaning().to_owned()];
        assert!(rows.iter().any(|found| found == &row), "README.md lacks | {} |", row.join(" | "));
    }
}

#[test]
fn the_page_of_codes_is_the_table_of_the_program() {
    let page = codes_page();
    let path = root().join("docs/codes.md");
    #[expect(clippy::disallowed_methods, reason = "the developer's switch, not configuration")]
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    if update {
        fs::write(&path, &page).expect("docs/ can be written");
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == page,
        "docs/codes.md does not say what the program declares: UPDATE_GOLDEN=1 cargo test --test docs codes"
    );
}

/// `docs/codes.md`.
fn codes_page() -> String {
    let mut page = String::from(
        "# Codes\n\n\
         Printed from the code, not written: `UPDATE_GOLDEN=1 cargo test --test docs codes`.\n\n\
         `/api/events/{number}` says the same of each code of an event (`codes`), and `wigzo-destination events show` prints\n\
         it. Codes are stable; meanings and advice may be worded better.\n",
    );
    let mut table = |heading: &str, name: &str, rows: Vec<[&str; 3]>| {
        write!(page, "\n## {heading}\n\n| {name} | meaning | what to do |\n| --- | --- | --- |\n")
            .expect("a String takes any text");
        for [code, meaning, advice] in rows {
            writeln!(page, "| `{code}` | {meaning} | {advice} |").expect("a String takes any text");
        }
    };
    let rows = State::ALL.iter().map(|it| [it.as_str(), it.meaning(), it.advice()]);
    table("Statuses of an event", "status", rows.collect());
    let rows = Reason::ALL.iter().map(|it| [it.as_str(), it.meaning(), it.advice()]);
    table("Reasons", "reason", rows.collect());
    let rows = Warning::ALL.iter().map(|it| [it.as_str(), it.meaning(), it.advice()]);
    table("Warnings", "warning", rows.collect());
    let rows = AuthenticationFailure::ALL.iter().map(|it| [it.as_str(), it.meaning(), it.advice()]);
    table("Authentication failures", "reason", rows.collect());
    page
}

// === Configuration ===

#[test]
fn every_configuration_in_the_documents_loads() {
    let mut loaded = 0;
    for document in documents() {
        for (language, block) in blocks(&read(&document)) {
            if language != "toml" {
                continue;
            }
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("block.toml");
            fs::write(&file, &block).unwrap();
            if let Err(problems) = Settings::load(&[file], &BTreeMap::new()) {
                panic!("{document}:\n{block}\n{problems}");
            }
            loaded += 1;
        }
    }
    assert!(loaded >= 3, "README.md shows three configurations; found {loaded}");
}

#[test]
fn every_variable_in_the_documents_is_known() {
    let mut found = 0;
    for document in documents() {
        let text = read(&document);
        for (name, value) in variables(&text) {
            // The placeholder of the rule itself.
            if name == "WIGZO__SECTION__KEY" {
                continue;
            }
            found += 1;
            let problems = load_variable(&name, value.as_deref().unwrap_or("1"));
            let unknown = problems.iter().any(|problem| problem.contains("unknown"));
            assert!(!unknown, "{document}: {name}: {problems:?}");
            if value.is_some() {
                assert!(problems.is_empty(), "{document}: {name}: {problems:?}");
            }
        }
    }
    assert!(found > 0, "the documents name variables");
}

#[test]
fn every_key_in_the_documents_is_known() {
    let mut found = 0;
    for document in documents() {
        for code in inline_code(&read(&document)) {
            let key = code.split(" = ").next().unwrap_or_default();
            let steps: Vec<&str> = key.split('.').collect();
            let is_key = steps.len() > 1
                && SECTIONS.contains(&steps[0])
                && steps.iter().all(|step| step.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
                // Files of the queue and of the code.
                && !matches!(steps.last(), Some(&("sqlite" | "rs")));
            if !is_key {
                continue;
            }
            found += 1;
            let name = format!("WIGZO__{}", steps.join("__").to_ascii_uppercase());
            let problems = load_variable(&name, "1");
            assert!(
                !problems.iter().any(|problem| problem.contains("unknown")),
                "{document}: `{key}`: {problems:?}"
            );
        }
    }
    assert!(found > 10, "the documents name keys; found {found}");
}

#[test]
fn the_operations_guide_names_every_key_that_needs_a_restart() {
    let guide = read("docs/operations.md");
    let section = guide.split("### Keys that need a restart").nth(1).expect("the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let named: BTreeSet<String> =
        inline_code(section).into_iter().filter(|code| code.contains('.')).collect();
    let expected: BTreeSet<String> =
        keys().filter(|(_, takes)| *takes == Takes::Restart).map(|(key, _)| key.to_owned()).collect();
    assert_eq!(named, expected, "docs/operations.md (left), the declaration in the code (right)");
}

// === Commands ===

#[test]
fn every_command_in_the_documents_exists() {
    let mut found = BTreeSet::new();
    for document in documents() {
        let text = read(&document);
        let shell =
            blocks(&text).into_iter().filter(|(language, _)| language == "sh").map(|(_, block)| block);
        for line in shell.chain(inline_code(&text)).flat_map(|code| lines(&code)) {
            found.extend(check_command(&document, &line));
        }
    }
    // The examples in the program's own help.
    let all = help(&[]).expect("the help");
    let list = all.split("Commands:\n").nth(1).and_then(|list| list.split("\n\n").next()).unwrap_or_default();
    for command in list.lines().filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next()) {
        let text = help(&[command]).unwrap_or_default();
        let examples = text.split("\nExamples:\n").nth(1).unwrap_or_default();
        for line in examples.lines().filter_map(|line| line.strip_prefix("    ")) {
            // Behind a pipe, or behind variables.
            let line = line.rsplit("| ").find(|part| part.contains("wigzo-destination ")).unwrap_or(line);
            found.extend(check_command("--help", line.split("  #").next().unwrap_or_default()));
        }
    }
    for command in ["serve", "check", "print-config", "health", "translate", "profiles", "backup", "export"] {
        assert!(found.contains(command), "the documents show no {command}; found {found:?}");
    }
    assert!(root().join("tests/run").is_file());
}

/// Checks that a line's command and flags exist, if it calls the program; which command it is.
fn check_command(document: &str, line: &str) -> Option<String> {
    let arguments = arguments(line)?;
    let mut words = arguments.iter().filter(|word| !word.starts_with('-')).map(String::as_str);
    let command = words.next().unwrap_or_default().to_owned();
    let help = match (command.as_str(), words.next()) {
        ("dead-letters" | "delivery" | "events" | "organizations" | "profiles" | "requests", Some(part)) => {
            help(&[&command, part])
        }
        _ => help(&[&command]),
    };
    assert!(help.is_some(), "{document}: there is no command {command:?}: {line}");
    let help = help.unwrap_or_default();
    for flag in arguments.iter().filter(|word| word.starts_with("--")) {
        assert!(
            help.contains(&format!("{flag} ")) || help.contains(&format!("{flag}\n")),
            "{document}: {line}: {flag}"
        );
    }
    Some(command)
}

// === Links and names ===

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    for document in documents() {
        let text = without_blocks(&read(&document));
        for target in links(&text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let from = root().join(&document);
            let to = if path.is_empty() { from } else { from.parent().unwrap().join(path) };
            if !to.exists() {
                broken.push(format!("{document}: {target}: no such file"));
            } else if !anchor.is_empty() && !headings(&fs::read_to_string(&to).unwrap()).contains(anchor) {
                broken.push(format!("{document}: {target}: no such heading"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_function_in_the_documents_exists() {
    let sources = sources();
    let mut missing = Vec::new();
    for document in documents() {
        for code in inline_code(&read(&document)) {
            let Some(path) = code.strip_suffix("()") else { continue };
            let name = path.rsplit("::").next().unwrap_or_default();
            let defined = [format!("fn {name}("), format!("fn {name}<")];
            if !sources.iter().any(|source| defined.iter().any(|it| source.contains(it))) {
                missing.push(format!("{document}: {code}"));
            }
        }
    }
    assert!(missing.is_empty(), "no such function:\n{}", missing.join("\n"));
}

#[test]
fn every_metric_in_the_documents_exists() {
    let metrics = Metrics::default();
    let known: BTreeSet<String> =
        metrics.declarations().flat_map(|it| it.series().chain([it.name.clone()])).collect();
    for document in documents() {
        for code in inline_code(&read(&document)) {
            if code.starts_with("wigzo_destination_") || code.starts_with("process_") {
                assert!(known.contains(&code), "{document}: there is no metric {code}");
            }
        }
    }
}

#[test]
fn every_library_has_its_reason() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let dependencies: BTreeSet<&str> =
        manifest["dependencies"].as_table().unwrap().keys().map(String::as_str).collect();
    let text = read("docs/architecture.md");
    let table = text.split("## Libraries").nth(1).expect("the section");
    let rows = rows(table);
    let named: BTreeSet<&str> =
        rows.iter().filter_map(|row| row.first()?.strip_prefix('`')?.strip_suffix('`')).collect();
    assert_eq!(named, dependencies, "docs/architecture.md, Libraries, and Cargo.toml");
}

// === helpers ===

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    let text = fs::read_to_string(root().join(file)).map_err(|error| format!("{file}: {error}"));
    text.expect("a file of ours")
}

/// README.md and everything below docs/.
fn documents() -> Vec<String> {
    let mut found = vec!["README.md".to_owned()];
    for path in files(&root().join("docs"), "md") {
        found.push(path.strip_prefix(root()).unwrap_or(&path).display().to_string());
    }
    found
}

fn sources() -> Vec<String> {
    files(&root().join("src"), "rs")
        .iter()
        .map(|path| fs::read_to_string(path).expect("a source file"))
        .collect()
}

/// Every file of this kind below a folder, in order.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Fenced blocks: their language and their text, without the indent of the fence.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some((language.trim().to_owned(), String::new())),
            (Some(_), Some(_)) => found.extend(open.take()),
            (None, Some((_, block))) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fenced block is not closed");
    found
}

fn without_blocks(text: &str) -> String {
    let mut inside = false;
    let kept = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    });
    kept.collect::<Vec<_>>().join("\n")
}

/// Inline code outside of blocks.
fn inline_code(text: &str) -> Vec<String> {
    without_blocks(text).split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The rows of all tables: cells, trimmed.
fn rows(text: &str) -> Vec<Vec<&str>> {
    text.lines()
        .filter_map(|line| line.strip_prefix('|')?.trim_end().strip_suffix('|'))
        .map(|row| row.split('|').map(str::trim).collect())
        .collect()
}

/// The targets of links.
fn links(text: &str) -> Vec<String> {
    text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
}

/// The anchors of a document's headings, as the usual viewers make them.
fn headings(text: &str) -> BTreeSet<String> {
    without_blocks(text)
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            let words = line.trim_start_matches('#').trim().to_lowercase();
            words
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect()
}

/// `WIGZO__…` and `WIGZO_…` names, with the value where one is assigned.
fn variables(text: &str) -> Vec<(String, Option<String>)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("WIGZO_") {
        let (_, rest) = text.split_at(at);
        let name: String = rest.chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').collect();
        let value = rest.strip_prefix(&name).and_then(|rest| rest.strip_prefix('=')).map(|value| {
            value.chars().take_while(|c| !c.is_whitespace() && !matches!(c, '`' | '\\')).collect::<String>()
        });
        found.push((name, value.filter(|value| !value.is_empty() && value != "…")));
    }
    found
}

/// What is wrong with one variable alone.
fn load_variable(name: &str, value: &str) -> Vec<String> {
    match Settings::load(&[], &BTreeMap::from([(name.to_owned(), value.to_owned())])) {
        Ok(_) => Vec::new(),
        Err(Problems(problems)) => problems.iter().map(ToString::to_string).collect(),
    }
}

/// The lines of a shell text, with continued ones joined and comments cut off.
fn lines(code: &str) -> Vec<String> {
    code.replace("\\\n", " ")
        .lines()
        .map(|line| line.split("  #").next().unwrap_or_default().trim().to_owned())
        .collect()
}

/// What a line hands to the program, if it calls it.
fn arguments(line: &str) -> Option<Vec<String>> {
    let words: Vec<&str> = line.split_whitespace().skip_while(|word| word.starts_with("WIGZO_")).collect();
    let arguments = match words.as_slice() {
        ["wigzo-destination", arguments @ ..] => arguments,
        ["cargo", "run", rest @ ..] => rest.get(1 + rest.iter().position(|word| *word == "--")?..)?,
        _ => return None,
    };
    (!arguments.is_empty()).then(|| arguments.iter().map(|&word| word.to_owned()).collect())
}

/// What the program says about a command; `None` if it does not know it.
fn help(command: &[&str]) -> Option<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_wigzo-destination"))
        .args(command)
        .arg("--help")
        .output()
        .expect("the program runs");
    output.status.success().then(|| String::from_utf8(output.stdout).expect("help is text"))
}
