//! The files around the program agree with it: image, compose file, licences, scripts.
//!
//! No container engine is needed: the files are read as text. What only the real tools can judge is asked of them
//! where they are installed, and noted as skipped where they are not.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

#[path = "support/skipped.rs"]
mod skipped;

use skipped::skipped;

// === The image ===

#[test]
fn the_image_is_built_by_the_compiler_that_cargo_toml_names() {
    let manifest = read("Cargo.toml");
    let version = value(&manifest, "rust-version");
    let dockerfile = read("Dockerfile");
    let bases: Vec<_> = lines(&dockerfile, "FROM ")
        .filter_map(|base| base.strip_prefix("rust:")?.split('-').next())
        .collect();
    assert_eq!(bases, [version], "Dockerfile builds with the `rust-version` of Cargo.toml");
}

#[test]
fn both_stages_have_the_same_glibc() {
    let dockerfile = read("Dockerfile");
    let bases: Vec<_> = lines(&dockerfile, "FROM ").collect();
    assert!(
        matches!(bases.as_slice(), [build, runtime] if build.contains("bookworm") && runtime.contains("debian12")),
        "bookworm is Debian 12: a binary does not run on an older glibc than it was linked against: {bases:?}"
    );
}

#[test]
fn the_image_runs_without_root_and_without_a_shell() {
    let dockerfile = read("Dockerfile");
    let user = lines(&dockerfile, "USER ").last().unwrap_or_default().to_owned();
    assert!(user.chars().all(|c| c.is_ascii_digit() || c == ':') && !user.starts_with('0'), "USER {user}");
    for instruction in ["CMD ", "ENTRYPOINT "] {
        for command in lines(&dockerfile, instruction) {
            assert!(command.starts_with('['), "{instruction}{command}: the shell form needs a shell");
        }
    }
    assert!(
        dockerfile.contains(r#"CMD ["/wigzo-destination", "health"]"#),
        "HEALTHCHECK asks the binary itself: there is no curl in the image"
    );
    assert!(
        lines(&dockerfile, "COPY ")
            .any(|copy| copy.contains("--chown=65532:65532") && copy.ends_with(" /data")),
        "the queue's directory belongs to the user that runs the service"
    );
}

#[test]
fn the_image_and_the_lock_file_agree() {
    for line in read("Dockerfile").lines().filter(|line| line.contains("cargo build")) {
        assert!(line.contains("--locked"), "{line}");
    }
    for script in ["tests/run", ".ci/run"] {
        for line in read(script).lines().filter(|line| line.trim_start().starts_with("cargo ")) {
            assert!(line.contains("--locked") || line.contains("cargo fmt"), "{script}: {line}");
        }
    }
}

#[test]
fn everything_that_the_image_copies_exists_and_reaches_the_builder() {
    let allowed = sent_to_the_builder();
    for source in copied() {
        assert!(root().join(&source).exists(), "Dockerfile copies {source}, which does not exist");
        assert!(allowed.contains(&source), "Dockerfile copies {source}, which .dockerignore keeps out");
    }
    for source in &allowed {
        assert!(root().join(source).exists(), ".dockerignore lets in {source}, which does not exist");
    }
}

#[test]
fn everything_that_the_binary_includes_is_copied_into_the_build() {
    let copied = copied();
    let mut files = 0;
    for path in rust_files("src") {
        files += 1;
        let text = fs::read_to_string(&path).unwrap_or_default();
        let production = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        for call in ["include_str!(", "include_bytes!("] {
            for rest in production.split(call).skip(1) {
                let Some(included) =
                    rest.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next())
                else {
                    continue;
                };
                let target = resolve(path.parent().unwrap_or(root()), included);
                let top = target.strip_prefix(root()).ok().and_then(|inside| inside.iter().next()?.to_str());
                assert!(
                    top.is_some_and(|top| copied.contains(top)),
                    "{} includes {included}, which Dockerfile does not copy into the build",
                    path.display()
                );
            }
        }
    }
    assert!(files > 10, "the sources are where they are expected");
}

// === Settings ===

#[test]
fn every_variable_of_the_image_and_of_compose_is_a_setting() {
    let known = known_settings();
    assert!(
        known.contains("ingress.listen") && known.contains("organizations.*.org_token_file"),
        "{known:?}"
    );
    for file in ["Dockerfile", "docker-compose.yml"] {
        let text = read(file);
        let mut found = 0;
        for rest in text.split("WIGZO__").skip(1) {
            let variable: String =
                rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let key = variable.to_ascii_lowercase().replace("__", ".");
            assert!(
                known.contains(&of_any_organization(&key)),
                "{file}: WIGZO__{variable}: there is no key `{key}`"
            );
            found += 1;
        }
        assert!(found > 0, "{file} sets something");
    }
}

#[test]
fn every_key_of_the_configuration_for_compose_is_a_setting() {
    let known = known_settings();
    let keys = keys(&read("config/compose.toml"), false);
    assert!(!keys.is_empty());
    for key in keys {
        assert!(known.contains(&of_any_organization(&key)), "config/compose.toml: there is no key `{key}`");
    }
}

// === Compose ===

#[test]
fn every_file_that_compose_mounts_exists_and_holds_something() {
    let compose = read("docker-compose.yml");
    let files: Vec<_> = compose.lines().filter_map(|line| line.trim().strip_prefix("file: ./")).collect();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        assert!(!read(file).trim().is_empty(), "docker-compose.yml mounts {file}");
    }
}

#[test]
fn every_secret_that_is_read_is_mounted_and_the_other_way_round() {
    let compose = read("docker-compose.yml");
    let read_as = |text: &str| -> BTreeSet<String> {
        text.split("/run/secrets/")
            .skip(1)
            .map(|rest| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect())
            .collect()
    };
    let used: BTreeSet<_> =
        read_as(&compose).union(&read_as(&read("config/compose.toml"))).cloned().collect();
    let list = compose.lines().find_map(|line| line.trim().strip_prefix("secrets: [")).unwrap_or_default();
    let granted: BTreeSet<_> =
        list.trim_end_matches(']').split(',').map(|name| name.trim().to_owned()).collect();
    assert_eq!(used, granted, "read under /run/secrets (left), granted to the service (right)");
    for secret in granted {
        assert!(compose.contains(&format!("\n  {secret}:\n    file: ")), "`secrets` declares {secret}");
    }
}

#[test]
fn the_first_event_of_the_comment_is_let_in() {
    let compose = read("docker-compose.yml");
    let key = compose.split("curl -u ").nth(1).and_then(|rest| rest.split(':').next()).unwrap_or_default();
    let keys = read("ops/compose/source_keys");
    assert!(
        keys.lines().any(|line| line == key),
        "the curl line's key `{key}` is in ops/compose/source_keys"
    );
}

#[test]
fn compose_itself_understands_the_file() {
    let mut compose = Command::new("docker");
    compose.current_dir(root()).args(["compose", "version"]);
    if !compose.output().is_ok_and(|output| output.status.success()) {
        skipped("docker compose config", "docker compose is not installed");
        return;
    }
    let judged = Command::new("docker").current_dir(root()).args(["compose", "config", "--quiet"]).output();
    let judged = judged.expect("docker was there a moment ago");
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stderr));
}

// === systemd ===

const UNIT: &str = "ops/systemd/wigzo-destination.service";

#[test]
fn every_variable_of_the_unit_is_a_setting_and_every_credential_is_read() {
    let unit = read(UNIT);
    let known = known_settings();
    for rest in unit.split("WIGZO__").skip(1) {
        let variable = rest.split('=').next().unwrap_or_default();
        let key = of_any_organization(&variable.to_ascii_lowercase().replace("__", "."));
        assert!(known.contains(&key), "{UNIT}: WIGZO__{variable}: there is no key `{key}`");
    }
    let loaded: BTreeSet<_> =
        lines(&unit, "LoadCredential=").filter_map(|line| line.split(':').next()).collect();
    let read: BTreeSet<_> =
        lines(&unit, "Environment=").filter_map(|line| line.split("=%d/").nth(1)).collect();
    assert!(!loaded.is_empty());
    assert_eq!(loaded, read, "credentials that are loaded (left), and read (right)");
}

#[test]
fn the_unit_waits_for_a_drain() {
    let defaults = read("config/default.toml");
    let seconds = |text: &str| text.trim_end_matches('s').parse::<u32>().ok();
    let drain: u32 = ["drain_grace", "drain_deadline"]
        .iter()
        .map(|key| seconds(value(&defaults, key)).unwrap_or_else(|| unreachable!("{key} is in seconds")))
        .sum();
    let unit = read(UNIT);
    let wait = lines(&unit, "TimeoutStopSec=").next().and_then(seconds);
    assert!(wait.is_some_and(|wait| wait >= drain + 10), "TimeoutStopSec {wait:?}, a drain takes {drain} s");
    assert_eq!(lines(&unit, "RestartPreventExitStatus=").next(), Some("2"), "a wrong configuration");
}

#[test]
fn systemd_itself_understands_the_unit_and_finds_it_confined() {
    let directory = tempfile::tempdir().unwrap_or_else(|error| unreachable!("{error}"));
    let file = directory.path().join("wigzo-destination.service");
    // It looks whether the program and its manual are there.
    let unit = read(UNIT)
        .replace("/usr/local/bin/wigzo-destination", env!("CARGO_BIN_EXE_wigzo-destination"))
        .replace("Documentation=man:wigzo-destination(1)\n", "");
    fs::write(&file, unit).unwrap_or_else(|error| unreachable!("{error}"));
    // Points of exposure, of 100; what has not been thought about has 96.
    for arguments in [vec!["verify"], vec!["security", "--no-pager", "--offline=yes", "--threshold=15"]] {
        let Ok(judged) = Command::new("systemd-analyze").args(&arguments).arg(&file).output() else {
            skipped("systemd-analyze verify", "systemd-analyze is not installed");
            return;
        };
        let said = String::from_utf8_lossy(&[judged.stdout, judged.stderr].concat()).into_owned();
        assert!(judged.status.success(), "systemd-analyze {}:\n{said}", arguments.join(" "));
        assert!(arguments != ["verify"] || !said.contains(".service:"), "{said}");
    }
}

// === Scripts and papers ===

#[test]
fn scripts_are_executable_and_whole() {
    let scripts: Vec<_> = fs::read_dir(root().join("scripts"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| format!("scripts/{}", entry.file_name().display()))
        .collect();
    assert!(scripts.len() > 3, "{scripts:?}");
    for script in [".ci/run", "tests/run"].into_iter().chain(scripts.iter().map(String::as_str)) {
        let text = read(script);
        assert!(text.starts_with("#!/usr/bin/env bash\n"), "{script} says what runs it");
        assert!(text.contains("\nset -euo pipefail\n"), "{script} stops at the first failure");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(root().join(script)).map_or(0, |metadata| metadata.permissions().mode());
            assert!(mode & 0o111 != 0, "{script} is executable");
        }
        match Command::new("bash").arg("-n").arg(root().join(script)).output() {
            Ok(judged) => {
                assert!(judged.status.success(), "{script}: {}", String::from_utf8_lossy(&judged.stderr));
            }
            Err(_) => skipped(script, "bash is not installed"),
        }
    }
    assert!(read(".ci/run").contains("tests/run"), "CI runs the README's test command");
}

#[test]
fn the_licences_of_cargo_toml_are_here() {
    assert_eq!(value(&read("Cargo.toml"), "license"), "MIT OR Apache-2.0");
    assert!(read("LICENSE-MIT").starts_with("MIT License"));
    assert!(read("LICENSE-APACHE").contains("Version 2.0, January 2004"));
}

#[test]
fn the_change_log_knows_the_version() {
    let changes = read("CHANGELOG.md");
    let version = value(&read("Cargo.toml"), "version").to_owned();
    assert!(
        changes.contains("\n## [Unreleased]") || changes.contains(&format!("\n## [{version}]")),
        "CHANGELOG.md has a section for what is not released, or for {version}"
    );
}

// === Reading ===

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| unreachable!("{file}: {error}"))
}

/// The value of the first `key = "value"`.
fn value<'a>(toml: &'a str, key: &str) -> &'a str {
    toml.lines()
        .find_map(|line| {
            line.strip_prefix(key)?
                .trim_start()
                .strip_prefix('=')?
                .trim()
                .strip_prefix('"')?
                .split('"')
                .next()
        })
        .unwrap_or_default()
}

/// The arguments of every instruction of a kind.
fn lines<'a>(dockerfile: &'a str, instruction: &'a str) -> impl Iterator<Item = &'a str> {
    dockerfile.lines().filter_map(move |line| line.trim_start().strip_prefix(instruction)).map(str::trim)
}

/// What the image copies from the check-out (not from another stage).
fn copied() -> BTreeSet<String> {
    let dockerfile = read("Dockerfile");
    let mut copied = BTreeSet::new();
    for copy in lines(&dockerfile, "COPY ").filter(|copy| !copy.contains("--from=")) {
        let mut words: Vec<_> = copy.split_whitespace().filter(|word| !word.starts_with("--")).collect();
        let target = words.pop();
        assert!(target.is_some() && !words.is_empty(), "COPY {copy}");
        copied.extend(words.into_iter().map(str::to_owned));
    }
    assert!(!copied.is_empty());
    copied
}

/// What `.dockerignore` lets through.
fn sent_to_the_builder() -> BTreeSet<String> {
    let ignore = read(".dockerignore");
    let mut rules = ignore.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    assert_eq!(rules.next(), Some("*"), ".dockerignore keeps everything out, then lets in what is needed");
    rules
        .map(|rule| {
            rule.strip_prefix('!').unwrap_or_else(|| unreachable!("{rule}: expected `!path`")).to_owned()
        })
        .collect()
}

/// Every key of the generated list of defaults, commented ones too; an organization's name is `*`.
fn known_settings() -> BTreeSet<String> {
    keys(&read("config/default.toml"), true).into_iter().map(|key| of_any_organization(&key)).collect()
}

/// `organizations.NAME.key` with `*` for the name.
fn of_any_organization(key: &str) -> String {
    match key.strip_prefix("organizations.").and_then(|rest| rest.split_once('.')) {
        Some((_, key)) => format!("organizations.*.{key}"),
        None => key.to_owned(),
    }
}

/// The full names of the keys of a TOML file of plain sections.
fn keys(toml: &str, commented_too: bool) -> BTreeSet<String> {
    let mut section = String::new();
    let mut keys = BTreeSet::new();
    for line in toml.lines() {
        let line = if commented_too { line.strip_prefix("# ").unwrap_or(line) } else { line };
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if let Some((key, _)) = line.split_once(" = ") {
            // A sentence with an equals sign in it is no key.
            if !key.is_empty()
                && key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            {
                keys.insert(format!("{section}.{key}"));
            }
        }
    }
    keys
}

/// `base/path` with `..` followed, without asking the file system.
fn resolve(base: &Path, path: &str) -> PathBuf {
    let mut resolved = base.to_owned();
    for part in Path::new(path).components() {
        match part {
            Component::ParentDir => {
                resolved.pop();
            }
            Component::CurDir => {}
            other => resolved.push(other),
        }
    }
    resolved
}

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
    found
}
