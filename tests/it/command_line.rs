//! The manners of the command line: help that tells exit codes, completions that shells understand, a manual.

use std::path::Path;
use std::process::Output;

use crate::manners::commands;
use crate::service::{PATIENCE, Service, program};
use crate::skipped::skipped;

async fn run(arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let output = program(directory.path()).args(arguments).output();
    tokio::time::timeout(PATIENCE, output).await.expect("it does not end").unwrap()
}

async fn said(arguments: &[&str]) -> String {
    let output = run(arguments).await;
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn the_help_tells_exit_codes_and_is_plain_where_nobody_looks() {
    let help = said(&["--help"]).await;
    for code in [
        "Exit codes:\n",
        "\n  0  in order",
        "\n  1  something failed, at the start",
        "\n  2  the command line",
    ] {
        assert!(help.contains(code), "{code}\n{help}");
    }
    assert!(!help.contains('\u{1b}'), "colours in a pipe: {help}");
    let wrong = run(&["serv"]).await;
    let complaint = String::from_utf8(wrong.stderr).unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(complaint.contains("a similar subcommand exists: 'serve'"), "{complaint}");
    assert!(!complaint.contains('\u{1b}'), "colours in a pipe: {complaint}");
}

#[tokio::test]
async fn shells_understand_their_completions_and_find_every_command_in_them() {
    let commands = commands().await;
    assert!(commands.len() > 6, "{commands:?}");
    let directory = tempfile::tempdir().unwrap();
    for (shell, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let script = said(&["completions", shell]).await;
        for command in &commands {
            assert!(script.contains(command.as_str()), "{shell}: {command}");
        }
        let file = directory.path().join(shell);
        std::fs::write(&file, &script).unwrap();
        match std::process::Command::new(shell).arg(check).arg(&file).output() {
            Ok(judged) => assert!(judged.status.success() && judged.stderr.is_empty(), "{shell}: {judged:?}"),
            Err(_) => skipped(&format!("completions for {shell}"), &format!("{shell} is not installed")),
        }
    }
}

#[tokio::test]
async fn every_command_has_its_page_in_the_manual() {
    let page = said(&["man"]).await;
    assert!(page.contains(".TH wigzo-destination 1") && page.contains("Exit codes:"), "{page}");
    let directory = tempfile::tempdir().unwrap();
    said(&["man", "--into", directory.path().to_str().unwrap()]).await;
    for command in commands().await.iter().filter(|it| *it != "help") {
        let page = directory.path().join(format!("wigzo-destination-{command}.1"));
        assert!(page.is_file(), "{page:?}");
        match std::process::Command::new("man").arg("--warnings").arg("-l").arg(&page).output() {
            Ok(judged) => {
                assert!(judged.status.success() && judged.stderr.is_empty(), "{command}: {judged:?}");
            }
            Err(_) => skipped("pages of the manual", "man is not installed"),
        }
    }
    let nowhere = run(&["man", "--into", "/no/such/directory"]).await;
    assert_eq!(nowhere.status.code(), Some(1));
}

// === where it looks ===

/// A configuration whose queue is called so.
fn named(queue: &str) -> String {
    format!("[queue]\npath = \"{queue}\"\n[organizations.{queue}]\norg_token = \"made-up-token-{queue}\"\n")
}

/// Flags, variables, the name of the configuration that is found, how it is shown, and why it is that one.
type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str, String, &'a str);

#[tokio::test]
async fn the_configuration_is_found_in_a_documented_order_and_never_merged() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let home = at.join(".config/wigzo-destination");
    let xdg = at.join("xdg/wigzo-destination");
    for (directory, name) in
        [(at.to_owned(), "flag"), (at.to_owned(), "variable"), (home.clone(), "home"), (xdg.clone(), "xdg")]
    {
        std::fs::create_dir_all(&directory).unwrap();
        let file = if directory == at { format!("{name}.toml") } else { "config.toml".to_owned() };
        std::fs::write(directory.join(file), named(name)).unwrap();
    }
    let (variable, config_home) = (("WIGZO_CONFIG", "variable.toml"), at.join("xdg"));
    let with_xdg = ("XDG_CONFIG_HOME", config_home.to_str().unwrap());
    let table: &[Case<'_>] = &[
        (
            &["--config", "flag.toml"],
            &[variable, with_xdg],
            "flag",
            format!("{} (--config)", at.join("flag.toml").display()),
            "command_line",
        ),
        (
            &[],
            &[variable, with_xdg],
            "variable",
            format!("{} (WIGZO_CONFIG)", at.join("variable.toml").display()),
            "variable",
        ),
        (
            &[],
            &[with_xdg],
            "xdg",
            format!("{} (default path)", xdg.join("config.toml").display()),
            "default_path",
        ),
        (
            &[],
            &[("WIGZO_CONFIG", ""), ("XDG_CONFIG_HOME", "not/absolute")],
            "home",
            format!("{} (default path)", home.join("config.toml").display()),
            "default_path",
        ),
    ];
    for (flags, env, name, shown, origin) in table {
        let run = async |command: &[&str]| {
            let output = program(at).args(command).args(*flags).envs(env.iter().copied()).output();
            let output = tokio::time::timeout(PATIENCE, output).await.unwrap().unwrap();
            assert_eq!(output.status.code(), Some(0), "{name}: {output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        let checked = run(&["check"]).await;
        assert!(
            checked.contains(&format!("1 organization.\nConfiguration file: {shown}\n")),
            "{name}: {checked}"
        );
        let checked: serde_json::Value = serde_json::from_str(&run(&["check", "--json"]).await).unwrap();
        assert_eq!(
            (&checked["organizations"][0], &checked["files_from"]),
            (&(*name).into(), &(*origin).into())
        );
        let printed = run(&["print-config"]).await;
        assert!(printed.starts_with(&format!("# Configuration file: {shown}\n")), "{name}: {printed}");
        assert!(printed.contains(&format!("/{name}\" # ")), "{name}: {printed}");
    }
    let missing = program(at).arg("check").env("WIGZO_CONFIG", "missing.toml").output().await.unwrap();
    assert_eq!(missing.status.code(), Some(2), "one that is named must be there: {missing:?}");
    assert!(
        String::from_utf8_lossy(&missing.stderr).contains("given with --config or WIGZO_CONFIG"),
        "{missing:?}"
    );
}

#[tokio::test]
async fn the_start_line_names_the_configuration() {
    let service = Service::sandbox().start().await;
    let line = service.log().lines().find(|line| line.contains("\"serving\"")).unwrap().to_owned();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let file = service.directory.path().join("config.toml");
    assert_eq!(line["config"], format!("{} (--config)", file.display()));
    service.end().await;
}

#[tokio::test]
async fn variables_say_where_the_admin_api_is_and_what_it_asks_for() {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "a-token-of-the-admin-api\n").unwrap();
    let token = token.to_str().unwrap();
    let service = Service::sandbox().config(&format!("[admin]\ntoken_file = '{token}'")).start().await;
    let url = ("WIGZO_ADMIN_URL", service.private.as_str());
    let run = async |arguments: &[&str], env: &[(&str, &str)]| {
        let output = program(directory.path()).args(arguments).envs(env.iter().copied()).output();
        let output = tokio::time::timeout(PATIENCE, output).await.unwrap().unwrap();
        let all = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(all).unwrap())
    };
    let list = &["events", "list"][..];
    let (good, wrong) =
        (("WIGZO_ADMIN_TOKEN", "a-token-of-the-admin-api"), ("WIGZO_ADMIN_TOKEN", "hush-wrong-token"));
    for (arguments, env, code, said) in [
        (list, &[url, good][..], Some(0), "no events"),
        (list, &[url, ("WIGZO_ADMIN_TOKEN_FILE", token)], Some(0), "no events"),
        (&["events", "list", "--token-file", token], &[url, wrong], Some(0), "no events"),
        (
            &["events", "list", "--url", url.1],
            &[("WIGZO_ADMIN_URL", "http://127.0.0.1:1"), good],
            Some(0),
            "no events",
        ),
        (list, &[url], Some(1), "it asks for a token; give one with --token-file"),
        (list, &[url, wrong], Some(1), "it does not know this token"),
        (list, &[("WIGZO_ADMIN_URL", "hush nonsense"), good], Some(2), "WIGZO_ADMIN_URL is no URL"),
        // An empty variable is one that is not set.
        (
            &["events", "list", "--url", url.1],
            &[("WIGZO_ADMIN_URL", ""), ("WIGZO_ADMIN_TOKEN", "")],
            Some(1),
            "asks for a token",
        ),
        (&["check", "--sandbox"], &[url, good], Some(0), "The configuration is good"),
        (&["events", "list", "--help"], &[url, wrong], Some(0), "WIGZO_ADMIN_TOKEN"),
    ] {
        let (ended, shown) = run(arguments, env).await;
        assert_eq!(ended, code, "{arguments:?} {env:?}: {shown}");
        assert!(shown.contains(said), "{arguments:?} {env:?}: {shown}");
        assert!(!shown.contains("hush"), "{arguments:?}: a secret is shown: {shown}");
    }
    service.end().await;
}

// === what it says when something is wrong ===

#[tokio::test]
async fn a_service_that_is_not_reached_is_told_with_cause_and_remedy() {
    let service = Service::sandbox().start().await;
    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let no_http = format!("http://{}", other.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = other.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"220 mail.example.com\r\n").await;
        }
    });
    let plain = service.private.replace("http://", "https://");
    for (url, parts) in [
        ("http://127.0.0.1:1", &["Connection refused", "is the service running?"][..]),
        ("http://no-such-host.invalid:9090", &["lookup address", "is the name right?"]),
        (plain.as_str(), &["is it https?"]),
        (no_http.as_str(), &["is this the address of the service?"]),
        (service.public.as_str(), &["404"]),
    ] {
        let output = run(&["delivery", "list", "--url", url]).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{url}: {said}");
        for part in parts.iter().chain(["--url", "WIGZO_ADMIN_URL", url].iter()) {
            assert!(said.contains(part), "{url}: no {part:?} in {said}");
        }
    }
    for (url, part) in [
        ("http://127.0.0.1:1/readyz", "is the service running?"),
        ("http://no-such-host.invalid/", "is the name right?"),
    ] {
        let output = run(&["health", "--url", url]).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{url}: {said}");
        assert!(said.contains(part) && said.contains("--url"), "{url}: {said}");
    }
    service.end().await;
}

/// No field of a request, no path of the API: the flag that was typed, or should have been.
#[tokio::test]
async fn errors_speak_of_what_was_typed() {
    let service = Service::sandbox().start().await;
    let long = "x".repeat(501);
    for (arguments, code, said) in [
        (
            &["dead-letters", "replay"][..],
            2,
            "say which dead letters: their numbers, a filter such as --reason",
        ),
        (&["dead-letters", "replay", "1", "--all"], 2, "say only one of numbers, filters and --all"),
        (&["dead-letters", "discard", "1", "--yes", "--why", " "], 2, "--why: say why"),
        (
            &["dead-letters", "discard", "--all", "--yes", "--why", &long],
            2,
            "Say in --why, in 1 to 500 characters",
        ),
        (&["dead-letters", "show", "7"], 1, "There is no dead letter of this number. `events show NUMBER`"),
        (
            &["dead-letters", "list", "--reason", "wigzo_40"],
            2,
            "'--reason <REASON>': \"wigzo_40\" is no reason",
        ),
        (&["events", "list", "--kind", "tracks"], 2, "'--kind <TYPE>': \"tracks\" is no type of event"),
        (
            &["events", "list", "--since", "tomorrow"],
            2,
            "'--since <TIME>': expected how long ago (30m, 2h, 1d)",
        ),
        (&["events", "list", "--state", "delivred"], 2, "--state: expected one of waiting"),
        (
            &["delivery", "retry", "--organization", "default", "--reason", "wigzo_40"],
            2,
            "--reason: \"wigzo_40\"",
        ),
        (&["delivery", "pause", "default", "--why", &long], 2, "--why: expected 1 to 500 characters"),
        (&["delivery", "pause", "nobody"], 1, "No organization has this name. `delivery list`"),
    ] {
        let mut all = arguments.to_vec();
        all.extend(["--url", &service.private]);
        let output = run(&all).await;
        let shown = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {shown}");
        assert!(shown.contains(said), "{arguments:?}: {shown}");
        assert!(!shown.contains("/api/") && !shown.contains('{'), "{arguments:?}: {shown}");
    }
    service.end().await;
}

#[tokio::test]
async fn times_are_taken_as_people_type_them() {
    let service = Service::sandbox().start().await;
    service.post("/v1/track", r#"{"userId":"u","event":"A","messageId":"m"}"#).await;
    service.settled(1).await;
    for (flag, time, found) in [
        ("--since", "2h", true),
        ("--since", "30m", true),
        ("--since", "1d", true),
        ("--since", "yesterday", true),
        ("--since", "2026-01-02", true),
        ("--since", "2026-01-02T03:04:05Z", true),
        ("--until", "2h", false),
        ("--until", "yesterday", false),
        ("--until", "now", true),
    ] {
        let output = run(&["events", "list", "--json", flag, time, "--url", &service.private]).await;
        assert_eq!(output.status.code(), Some(0), "{flag} {time}: {output:?}");
        assert_eq!(!output.stdout.is_empty(), found, "{flag} {time}: {output:?}");
    }
    service.end().await;
}

// === which program it is ===

/// Runs the build script by itself: what it tells the compiler.
fn build_script(script: &Path, root: &Path, env: &[(&str, &str)]) -> String {
    let mut command = std::process::Command::new(script);
    for name in ["BUILD_COMMIT", "SOURCE_DATE_EPOCH", "GIT_DIR", "GIT_WORK_TREE"] {
        command.env_remove(name);
    }
    command
        .env("CARGO_MANIFEST_DIR", root)
        .env("CARGO_FEATURE_OTLP_GRPC", "1")
        .env("CARGO_FEATURE_DEFAULT", "1");
    let output = command.current_dir(root).envs(env.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_build_script_tells_commit_and_date_and_builds_without_a_history() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("script");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/build.rs");
    let compiled = std::process::Command::new("rustc")
        .args(["--edition", "2024", "--cap-lints", "allow", source, "-o"])
        .arg(&script)
        .output();
    match compiled {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(error) => return skipped("the build script", &format!("rustc: {error}")),
    }
    // An unpacked archive, within somebody's repository.
    let git = |at: &Path, arguments: &[&str]| {
        let mut git = std::process::Command::new("git");
        git.args([
            "-c",
            "user.name=made-up",
            "-c",
            "user.email=made-up@example.com",
            "-c",
            "init.defaultBranch=main",
        ]);
        git.args(arguments).current_dir(at).output().is_ok_and(|output| output.status.success())
    };
    let archive = directory.path().join("outer/archive");
    std::fs::create_dir_all(archive.join("src")).unwrap();
    std::fs::write(archive.join("src/main.rs"), "fn main() {}").unwrap();
    let plain = build_script(&script, &archive, &[("SOURCE_DATE_EPOCH", "1767323045")]);
    for line in ["BUILD_COMMIT=unknown\n", "BUILD_EPOCH=1767323045\n", "BUILD_FEATURES=otlp-grpc\n"] {
        assert!(plain.contains(&format!("cargo:rustc-env={line}")), "{plain}");
    }
    let given =
        build_script(&script, &archive, &[("BUILD_COMMIT", "0123456789ab"), ("SOURCE_DATE_EPOCH", "soon")]);
    assert!(
        given.contains("BUILD_COMMIT=0123456789ab\n") && given.contains("BUILD_EPOCH=unknown\n"),
        "{given}"
    );
    // Cargo runs a script at every build whose inputs do not exist.
    for watched in given.lines().filter_map(|line| line.strip_prefix("cargo:rerun-if-changed=")) {
        assert!(archive.join(watched).exists(), "{watched}");
    }
    let outer = directory.path().join("outer");
    if !git(&outer, &["init"]) {
        return skipped("the commit in --version", "git is not installed");
    }
    assert!(git(&outer, &["add", "."]) && git(&outer, &["commit", "-m", "all"]));
    let within = build_script(&script, &archive, &[]);
    assert!(within.contains("BUILD_COMMIT=unknown\n"), "the commit of another repository: {within}");
    assert!(
        git(&archive, &["init"]) && git(&archive, &["add", "."]) && git(&archive, &["commit", "-m", "all"])
    );
    let commit = |text: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix("cargo:rustc-env=BUILD_COMMIT="));
        line.unwrap().to_owned()
    };
    let clean = commit(&build_script(&script, &archive, &[]));
    assert!(clean.len() >= 12 && clean.bytes().all(|byte| byte.is_ascii_hexdigit()), "{clean}");
    std::fs::write(archive.join("src/main.rs"), "fn main() { }").unwrap();
    let modified = build_script(&script, &archive, &[]);
    assert_eq!(commit(&modified), format!("{clean}-modified"));
    assert!(modified.contains("rerun-if-changed=.git/logs/HEAD"), "{modified}");
}
