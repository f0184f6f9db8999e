//! Where the queue is: the service and every command use the same directory, and test events of a sandbox stay in one of
//! their own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::service::{PATIENCE, Service, Setup, program};
use crate::stand_in::StandIn;

/// A machine as `docs/operations.md` sets it up under systemd, below a directory.
struct Machine {
    root: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { root: tempfile::tempdir().unwrap() };
        for directory in ["etc/wigzo-destination", "var/lib", "var/backups", "run/credentials", "somewhere"] {
            std::fs::create_dir_all(machine.at(directory)).unwrap();
        }
        for (name, secret) in
            [("org_token", "3f0c1a52-7d44-4b0e-9a1b-5f6e7d8c9b0a\n"), ("source_keys", "wk_shop_web\n")]
        {
            std::fs::write(machine.at("etc/wigzo-destination").join(name), secret).unwrap();
            std::fs::write(machine.at("run/credentials").join(name), secret).unwrap();
        }
        std::fs::write(machine.config(), machine.below(&shipped("config.toml"))).unwrap();
        machine
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn config(&self) -> PathBuf {
        self.at("etc/wigzo-destination/config.toml")
    }

    fn queue(&self) -> PathBuf {
        self.at("var/lib/wigzo-destination")
    }

    /// A shipped file with its absolute paths below this machine.
    fn below(&self, text: &str) -> String {
        ["/etc/", "/var/"].into_iter().fold(text.to_owned(), |text, directory| {
            let below = format!("\"{}{directory}", self.root.path().display());
            text.replace(&format!("\"{directory}"), &below)
        })
    }

    /// The environment that the unit gives the service.
    fn environment_of_the_unit(&self) -> BTreeMap<String, String> {
        let unit = shipped("wigzo-destination.service");
        let variables = unit.lines().filter_map(|line| line.strip_prefix("Environment=")?.split_once('='));
        let credentials = self.at("run/credentials");
        variables
            .map(|(name, value)| (name.to_owned(), value.replace("%d", credentials.to_str().unwrap())))
            .collect()
    }

    fn service(&self, wigzo: &StandIn) -> Setup {
        let mut setup = Service::calling(wigzo)
            .config_file(self.config())
            .env("WIGZO__DELIVERY__RETRY__BASE", "1h")
            .env("WIGZO__DELIVERY__RETRY__CAP", "1h");
        for (name, value) in self.environment_of_the_unit() {
            setup = setup.env(&name, &value);
        }
        setup
    }

    /// A command as root types it, in some directory and without the unit's environment.
    async fn run(&self, arguments: &[&str]) -> (i32, String) {
        let config = self.config();
        let output = program(&self.at("somewhere"))
            .args(arguments)
            .args(["--config", config.to_str().unwrap()])
            .output();
        let output = tokio::time::timeout(PATIENCE, output).await.expect("the command hangs").unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().expect("an exit code"), String::from_utf8(said).unwrap())
    }

    async fn done(&self, arguments: &[&str]) -> String {
        let (code, said) = self.run(arguments).await;
        assert_eq!(code, 0, "{arguments:?}: {said}");
        said
    }
}

fn shipped(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ops/systemd").join(file)).unwrap()
}

async fn track(service: &Service, id: &str) {
    let event = json!({ "userId": "user-42", "event": "Seat Chosen", "messageId": id });
    let request = service.client().post(format!("{}/v1/track", service.public));
    let reply = service.send(request.basic_auth("wk_shop_web", Some("")).body(event.to_string())).await;
    assert_eq!(reply.status, 200, "{reply:?}");
}

#[tokio::test]
async fn commands_find_the_queue_of_the_systemd_layout() {
    let (machine, wigzo) = (Machine::new(), StandIn::start().await);
    let queue = machine.queue();
    let service = machine.service(&wigzo).start().await;
    service.faults(&json!([{ "status": 503 }])).await;
    track(&service, "m-1").await;
    track(&service, "m-2").await;
    service.until("/api/stats", |stats| stats["waiting_total"] == 2).await;

    let said = machine.done(&["check"]).await;
    assert!(said.contains("The configuration is good"), "{said}");
    let said = machine.done(&["print-config"]).await;
    assert!(said.contains(&format!("path = \"{}\"", queue.display())), "{said}");
    let said = machine.done(&["organizations", "list"]).await;
    assert!(said.contains("default"), "{said}");
    let said = machine.done(&["backup", machine.at("var/backups/queue.sqlite").to_str().unwrap()]).await;
    assert!(said.contains("2 events wait in it"), "{said}");

    // The disk is lost.
    drop(service.kill().await);
    std::fs::rename(&queue, machine.at("var/lib/lost")).unwrap();
    let copy = machine.at("var/backups/queue.sqlite");
    let said = machine.done(&["restore", "--waiting", "send", copy.to_str().unwrap()]).await;
    assert!(said.starts_with(&queue.display().to_string()), "{said}");
    let said = machine.done(&["export", machine.at("var/backups/q.jsonl").to_str().unwrap()]).await;
    assert!(said.contains("2 waiting"), "{said}");

    let service = machine.service(&wigzo).start().await;
    assert!(service.log().contains(r#""waiting":2"#), "{}", service.log());
    service.until("/api/stats", |stats| stats["waiting_total"] == 2).await;
    service.signal("INT");
    let mut service = service;
    assert_eq!(service.ended().await.code(), Some(0));
    assert!(service.log().contains("stopped; 2 events wait"), "{}", service.log());
    let left: Vec<_> = std::fs::read_dir(machine.at("somewhere")).unwrap().collect();
    assert!(left.is_empty(), "a command has written into its current directory: {left:?}");
}

#[tokio::test]
async fn a_restore_without_a_named_directory_is_refused() {
    let machine = Machine::new();
    let wigzo = StandIn::start().await;
    machine.service(&wigzo).start().await.end().await;
    let copy = machine.at("var/backups/queue.sqlite");
    machine.done(&["backup", copy.to_str().unwrap()]).await;
    std::fs::write(machine.config(), "").unwrap();
    let (code, said) = machine.run(&["restore", "--waiting", "hold", copy.to_str().unwrap()]).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("nothing was restored") && said.contains("--into DIRECTORY"), "{said}");
    let (code, said) = machine.run(&["import", machine.at("none.jsonl").to_str().unwrap()]).await;
    assert_eq!(code, 2, "{said}");
    assert_eq!(std::fs::read_dir(machine.at("somewhere")).unwrap().count(), 0);
    let said =
        machine.done(&["restore", "--waiting", "hold", "--into", "here", copy.to_str().unwrap()]).await;
    let here = machine.at("somewhere").canonicalize().unwrap().join("here");
    assert!(said.starts_with(&here.display().to_string()), "{said}");
    assert!(here.join("queue.sqlite").is_file());
}

#[tokio::test]
async fn test_events_of_a_sandbox_never_reach_wigzo() {
    let wigzo = StandIn::start().await;
    let sandbox = Service::sandbox()
        .config("[delivery.retry]\nbase = \"1h\"\ncap = \"1h\"\n")
        .env("WIGZO__SANDBOX__QUEUE_PATH", "")
        .start()
        .await;
    sandbox.faults(&json!([{ "status": 503 }])).await;
    let event = r#"{"userId":"user-42","event":"Test","messageId":"m-1"}"#;
    assert_eq!(sandbox.post("/v1/track", event).await.status, 200);
    let directory = sandbox.directory.clone();
    sandbox.end().await;
    let (queue, of_sandbox) = (directory.path().join("queue"), directory.path().join("queue/sandbox"));
    assert!(of_sandbox.join("queue.sqlite").is_file());

    let real = Service::calling(&wigzo).env("WIGZO_ORG_TOKEN", "org-token-acme-1");
    let real = real.on(directory.clone()).start().await;
    // The same message id is no duplicate here, and the sandbox's event is not delivered.
    let reply = real.post("/v1/track", event).await;
    assert_eq!(reply.json()["accepted"], 1, "{reply:?}");
    let ledger = real.settled(1).await;
    assert_eq!((&ledger["accepted"], &ledger["delivered"]), (&json!(1), &json!(1)));
    real.end().await;

    let refused = Service::calling(&wigzo)
        .env("WIGZO_ORG_TOKEN", "org-token-acme-1")
        .env("WIGZO__QUEUE__PATH", of_sandbox.to_str().unwrap());
    let (code, said) = refused.on(directory.clone()).refused().await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("holds test events of `serve --sandbox`"), "{said}");

    let refused = Service::sandbox().env("WIGZO__SANDBOX__QUEUE_PATH", queue.to_str().unwrap());
    let (code, said) = refused.on(directory.clone()).refused().await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("holds events for Wigzo"), "{said}");

    // It remembers what it is for across a restart.
    let sandbox = Service::sandbox().env("WIGZO__SANDBOX__QUEUE_PATH", "").on(directory).start().await;
    let stats: Value = sandbox.until("/api/stats", |stats| stats["ledger"]["accepted"] == 1).await;
    assert!(stats["waiting_total"].as_u64() <= Some(1), "{stats}");
    sandbox.end().await;
}
