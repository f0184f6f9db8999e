//! The command `organizations`: files are edited in one step or not at all, and secrets stay where they are.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::service::{PATIENCE, Service, program};

/// What a run of the program ended with and said.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

/// Runs `organizations` in a directory, with this on standard input.
async fn run(directory: &Path, input: &str, arguments: &[&str]) -> Ran {
    let mut child = program(directory)
        .arg("organizations")
        .args(arguments)
        .args(["--config", "config.toml"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

async fn done(directory: &Path, input: &str, arguments: &[&str]) -> String {
    let ran = run(directory, input, arguments).await;
    assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.err);
    ran.out
}

const CONFIG: &str = "\
# The shops of the harbour.
[queue]
path = \"data\" # on the fast disk

# The oldest.
[organizations.acme]
org_token = \"hush-org-token\"
source_keys = [\"wk_hush\"] # of the web shop
shared_secrets = [\"hush-secret\"]
max_in_flight = 9
";

fn folder(config: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.toml"), config).unwrap();
    fs::set_permissions(folder.path().join("config.toml"), fs::Permissions::from_mode(0o640)).unwrap();
    folder
}

fn text(folder: &Path, file: &str) -> String {
    fs::read_to_string(folder.join(file)).unwrap()
}

fn mode(folder: &Path, file: &str) -> u32 {
    fs::metadata(folder.join(file)).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn what_is_configured_is_shown_without_its_secrets() {
    let folder = folder(CONFIG);
    let at = folder.path();
    let table = done(at, "", &["list"]).await;
    assert!(table.contains("acme  enabled   standard  1     1        config.toml:6"), "{table}");
    let list: Value = serde_json::from_str(&done(at, "", &["list", "--json"]).await).unwrap();
    assert_eq!(
        (&list["name"], &list["disabled"], &list["source_keys"]),
        (&"acme".into(), &false.into(), &1.into())
    );
    let shown = done(at, "", &["show", "acme"]).await;
    assert!(shown.contains("# acme, configured in config.toml:6\n"), "{shown}");
    assert!(shown.contains("org_token = \"***\"") && shown.contains("max_in_flight = 9"), "{shown}");
    assert!(shown.contains("identity = \"user_first\""), "the value in force: {shown}");
    let json = done(at, "", &["show", "acme", "--json"]).await;
    let as_json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&as_json["name"], &as_json["weight"]), (&"acme".into(), &1.into()));
    for said in [table, list.to_string(), shown, json] {
        assert!(!said.contains("hush"), "{said}");
    }
    let unknown = run(at, "", &["show", "beta"]).await;
    assert_eq!(unknown.code, 2);
    assert!(unknown.err.contains("there is no organization beta"), "{}", unknown.err);
}

#[tokio::test]
async fn an_organization_is_added_switched_off_and_on_and_gets_keys() {
    let folder = folder(CONFIG);
    let at = folder.path();
    let key = done(at, "hush-other-token\n", &["add", "beta", "--profile", "guide"]).await;
    let key = key.trim();
    assert!(key.starts_with("wk_") && key.len() == 35, "{key}");
    let added = format!(
        "{CONFIG}\n[organizations.beta]\norg_token = \"hush-other-token\"\nsource_keys = [\"{key}\"]\nprofile = \"guide\"\n"
    );
    assert_eq!(text(at, "config.toml"), added, "and nothing else has changed");
    assert_eq!(mode(at, "config.toml"), 0o640, "it is as private as it was");

    done(at, "", &["disable", "acme"]).await;
    let disabled = added.replace("max_in_flight = 9\n", "max_in_flight = 9\ndisabled = true\n");
    assert_eq!(text(at, "config.toml"), disabled);
    assert!(done(at, "", &["list"]).await.contains("acme  disabled"));
    done(at, "", &["enable", "acme"]).await;
    assert_eq!(text(at, "config.toml"), disabled.replace("disabled = true", "disabled = false"));

    let second = done(at, "", &["rotate-key", "acme"]).await;
    let second = second.trim();
    let both = format!("source_keys = [\"wk_hush\", \"{second}\"] # of the web shop");
    assert!(text(at, "config.toml").contains(&both), "{}", text(at, "config.toml"));
    let before = text(at, "config.toml");
    let unsure = run(at, "", &["rotate-key", "acme", "--drop-old"]).await;
    assert_eq!((unsure.code, unsure.out.as_str()), (2, ""), "nobody was asked");
    assert!(unsure.err.contains("cannot be undone") && unsure.err.contains("--yes"), "{}", unsure.err);
    assert_eq!(text(at, "config.toml"), before);
    let dropped = run(at, "", &["rotate-key", "acme", "--drop-old", "--yes"]).await;
    assert_eq!((dropped.code, dropped.out.contains(second)), (0, false), "it was printed once");
    assert!(dropped.out.starts_with("1 old source key dropped"), "{}", dropped.out);
    assert!(text(at, "config.toml").contains(&format!("source_keys = [\"{second}\"] # of the web shop")));
    assert_eq!(run(at, "", &["rotate-key", "acme", "--drop-old"]).await.code, 2, "none is left to drop");
    let left: Vec<_> = fs::read_dir(at).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["config.toml"], "nothing is left behind");
}

#[tokio::test]
async fn each_can_have_a_file_of_its_own() {
    let folder = folder(CONFIG);
    let at = folder.path();
    done(at, "hush-other-token", &["add", "beta", "--own-file"]).await;
    assert_eq!(text(at, "config.toml"), CONFIG);
    assert_eq!(mode(at, "organizations.d/beta.toml"), 0o600);
    // From now on all do.
    fs::write(at.join("gamma_token"), "hush-third-token").unwrap();
    done(at, "", &["add", "gamma", "--org-token-file", "gamma_token"]).await;
    assert!(
        text(at, "organizations.d/gamma.toml").starts_with("org_token_file = \"gamma_token\"\nsource_keys")
    );
    done(at, "", &["disable", "beta"]).await;
    assert!(text(at, "organizations.d/beta.toml").contains("\ndisabled = true\n"));
    let table = done(at, "", &["list"]).await;
    assert!(table.contains("organizations.d/gamma.toml") && table.contains("beta   disabled"), "{table}");
    // One that is in two places is a mistake.
    fs::write(at.join("organizations.d/acme.toml"), "org_token = \"hush-org-token\"").unwrap();
    let twice = run(at, "", &["list"]).await;
    assert_eq!(twice.code, 2);
    assert!(twice.err.contains("organizations.d/acme.toml: organizations.acme: this organization is configured in config.toml:6 as well"), "{}", twice.err);
}

#[tokio::test]
async fn what_would_not_be_served_is_not_written() {
    let folder = folder(CONFIG);
    let at = folder.path();
    for (input, arguments, said) in [
        ("short", &["add", "beta"][..], "organizations.beta.org_token: an organization token is 10 to 64"),
        ("hush-other-token", &["add", "Beta"], "the name is 1 to 63 lower-case letters"),
        ("hush-other-token", &["add", "acme"], "organization acme is configured already, in config.toml:6"),
        ("", &["add", "beta"], "no organization token"),
        ("", &["add", "beta", "--org-token-file", "none"], "the file none does not exist"),
        ("", &["disable", "beta"], "there is no organization beta"),
        ("", &["rotate-key", "acme", "--drop-old"], "nothing to drop"),
        ("", &["add", "beta", "--no-key"], "--shared-secrets-file"),
    ] {
        let ran = run(at, input, arguments).await;
        assert_eq!(ran.code, 2, "{arguments:?} {}", ran.err);
        assert!(ran.err.contains(said), "{arguments:?}: {}", ran.err);
        assert!(!ran.err.contains("hush") && ran.out.is_empty(), "{arguments:?}: {}{}", ran.err, ran.out);
        assert_eq!(text(at, "config.toml"), CONFIG, "{arguments:?}");
    }
    assert!(!at.join("organizations.d").exists());
    let mut overruled = program(at);
    overruled.args(["organizations", "disable", "acme", "--config", "config.toml"]);
    let overruled = overruled.env("WIGZO__ORGANIZATIONS__ACME__DISABLED", "false").output().await.unwrap();
    assert_eq!(overruled.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&overruled.stderr).contains("an environment variable sets `disabled`"));
    assert_eq!(text(at, "config.toml"), CONFIG);
}

#[tokio::test]
async fn edits_at_the_same_time_wait_for_each_other() {
    let folder = folder(CONFIG);
    let at = folder.path();
    let names: Vec<_> = (0..8).map(|number| format!("shop-{number}")).collect();
    let mut adding = tokio::task::JoinSet::new();
    for name in names.clone() {
        let at = at.to_owned();
        adding.spawn(async move { done(&at, "hush-other-token", &["add", &name]).await });
    }
    assert_eq!(adding.join_all().await.len(), 8);
    let list = done(at, "", &["list", "--json"]).await;
    assert_eq!(list.lines().count(), 9, "{list}");
}

/// From the command to the first event, without a restart.
#[tokio::test]
async fn a_running_service_takes_the_change_over() {
    let service = Service::sandbox()
        .config("[reload]\npoll = \"20ms\"\n[organizations.acme]\norg_token = \"hush-org-token\"\nsource_keys = [\"wk_acme\"]\n")
        .start()
        .await;
    let key = done(service.directory.path(), "hush-other-token", &["add", "beta"]).await;
    let post = || {
        let event = r#"{"type":"track","userId":"user-42","event":"Seen","messageId":"m-1"}"#;
        let request = service.client().post(format!("{}/v1/track", service.public));
        service.send(request.basic_auth(key.trim(), Some("")).body(event))
    };
    service.eventually("the key is known", async || post().await.status == 200).await;
    assert_eq!(service.settled(1).await["delivered"], 1);
    assert!(!service.log().contains("hush") && !service.log().contains(key.trim()), "{}", service.log());
    service.end().await;
}
