//! What the README and the guides in `docs/` tell their readers to type works as it stands there.
//!
//! Every fenced shell block of theirs has a row in [`BLOCKS`]: it is run here, or another test runs it, or it cannot run in
//! a test, with the reason. A block without a row fails, and so does a row without its block.
//!
//! Blocks of one document are run in their order, in one directory, against one service with the sandbox. Only what a
//! machine has but once is replaced: the ports, and directories such as `/etc`, which lie below the test's own.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::service::{PATIENCE, Service};
use crate::skipped::skipped;

/// How a block is tried.
enum How {
    /// It is run, ends with 0, and shows these.
    Shows(&'static [&'static str]),
    /// Another test runs it: its file, and what stands in it.
    By(&'static str, &'static str),
    /// It is not run, for this reason.
    Not(&'static str),
}

use How::{By, Not, Shows};

const MINUTES: &str = "it measures for minutes";
const DOCKER: &str = "it needs Docker; tests/packaging.rs holds the files against the program";
const PRIVATE_SIDE: &str = "tests/it/private_side.rs";
const AT_A_TERMINAL: &str = r#"run(&service, &["events", "list""#;
const CLUSTER: &str = "it needs a cluster; tests/helm renders the chart by Helm's own engine";

/// Documents whose blocks are all run by another test: its file, and what stands in it.
const ELSEWHERE: &[(&str, &str, &str)] = &[(
    "docs/admin-api.md",
    "tests/it/private_side.rs",
    "fn every_route_is_in_the_document_and_every_example_does",
)];

/// The document, how the block begins, and how it is tried.
const BLOCKS: &[(&str, &str, How)] = &[
    ("README.md", "cargo run --release -- serve --sandbox", By("tests/newcomer", "block 1.sh")),
    ("README.md", "curl http://127.0.0.1:8080/v1/track -d", By("tests/newcomer", "block 2.sh")),
    ("README.md", "curl http://127.0.0.1:9090/api/events/1", By("tests/newcomer", "block 5.sh")),
    ("README.md", "echo '{\"type\":\"track\"", By("tests/newcomer", "block 6.sh")),
    ("README.md", "./tests/run", Not("it is what runs this test")),
    ("README.md", "WIGZO_ORG_TOKEN=3f0c1a52-7d44-4b0e-9a1b-5f6e7d8c9b0a cargo run", Shows(&["serving"])),
    (
        "README.md",
        "WIGZO_ORG_TOKEN=3f0c1a52-7d44-4b0e-9a1b-5f6e7d8c9b0a \\\nWIGZO_SOURCE_KEYS",
        Shows(&["serving"]),
    ),
    ("README.md", "docker compose up", Not(DOCKER)),
    ("README.md", "echo \"partner.$(", Shows(&["partner.20712d9a8e81b532"])),
    (
        "README.md",
        "WIGZO__DELIVERY__RETRY__BASE=2s",
        By("tests/docs.rs", "fn every_variable_in_the_documents_is_known"),
    ),
    (
        "README.md",
        "wigzo-destination check --config shop.toml",
        Shows(&["The configuration is good", "org_token = \"***\"", "max_in_flight", "ok       wigzo"]),
    ),
    ("README.md", "wigzo-destination organizations list", Shows(&["shop", "acme"])),
    ("README.md", "wigzo-destination events list", By(PRIVATE_SIDE, AT_A_TERMINAL)),
    ("README.md", "curl 'http://127.0.0.1:9090/api/rejected", Shows(&["\"rejected\":[{", "no_user_anon_id"])),
    (
        "docs/dead-letters.md",
        "wigzo-destination dead-letters list",
        Shows(&["NUMBER", "wigzo_400", "\n  to do "]),
    ),
    (
        "docs/dead-letters.md",
        "wigzo-destination dead-letters replay --reason",
        Shows(&["Would replay ", "2 dead letters replayed."]),
    ),
    (
        "docs/dead-letters.md",
        "wigzo-destination dead-letters discard 3",
        Shows(&["1 dead letter discarded."]),
    ),
    ("docs/dead-letters.md", "wigzo-destination dead-letters export", Shows(&[" imported"])),
    (
        "docs/dead-letters.md",
        "curl -s -X POST http://127.0.0.1:9090/api/dead-letters/replay",
        Shows(&["\"matched\":"]),
    ),
    (
        "docs/decisions/0007-partners-in-the-envelope.md",
        "printf 'wigzo-destination partner",
        Shows(&["20712d9a8e81b532"]),
    ),
    (
        "docs/mapping.md",
        "wigzo-destination translate events.json",
        Shows(&["profile standard", "profile guide", "organization acme"]),
    ),
    ("docs/operations.md", "cargo install", Not("it builds for minutes what the other steps have built")),
    ("docs/operations.md", "scripts/guided.sh", By(".ci/run", "scripts/guided.sh")),
    (
        "docs/operations.md",
        "wigzo-destination check --config /etc/wigzo-destination/config.toml   # would",
        Shows(&["The configuration is good: 1 organization.", "ok       disk", "serving"]),
    ),
    ("docs/operations.md", "wigzo-destination completions bash", Shows(&[])),
    ("docs/operations.md", "docker build", Not(DOCKER)),
    ("docs/operations.md", "docker compose up", Not(DOCKER)),
    ("docs/operations.md", "cargo build --profile dist --locked", Shows(&[])),
    ("docs/operations.md", "kubectl create secret", Not(CLUSTER)),
    ("docs/operations.md", "kubectl exec", Not(CLUSTER)),
    (
        "docs/operations.md",
        "wigzo-destination print-config --default",
        Shows(&["max_disk", "org_token_file", "\"good\":true"]),
    ),
    (
        "docs/operations.md",
        "wigzo-destination organizations add",
        Shows(&[
            "acme     enabled",
            "# acme, configured in",
            "old source key dropped",
            "acme is disabled",
            "acme is enabled",
        ]),
    ),
    ("docs/operations.md", "wigzo-destination backup", Shows(&["sound; "])),
    ("docs/operations.md", "wigzo-destination restore", Shows(&["sound; "])),
    (
        "docs/operations.md",
        "wigzo-destination dead-letters list --reason restored",
        Shows(&["Would replay ", " replayed."]),
    ),
    ("docs/operations.md", "wigzo-destination export", Shows(&[" records, "])),
    ("docs/operations.md", "wigzo-destination import", Shows(&["imported"])),
    ("docs/performance.md", "scripts/bench.sh", Not(MINUTES)),
    ("docs/performance.md", "scripts/guided.sh", By(".ci/run", "scripts/guided.sh")),
    ("docs/performance.md", "scripts/flame-graph.sh", Not(MINUTES)),
    ("docs/performance.md", "cargo bench --bench isolation", Not(MINUTES)),
    ("docs/performance.md", "cargo bench --bench segment", Not(MINUTES)),
    ("docs/performance.md", "cargo bench --bench queue", Not(MINUTES)),
    ("docs/performance.md", "scripts/instructions.sh", By(".ci/run", "scripts/instructions.sh")),
    ("docs/reliability.md", "scripts/crash.sh", By("tests/it/crash.rs", "async fn harness")),
    ("docs/runbook.md", "wigzo-destination check", Shows(&["The configuration is good"])),
    (
        "docs/runbook.md",
        "curl http://127.0.0.1:8080/readyz",
        Shows(&["\"ledger\"", "# TYPE wigzo_destination_"]),
    ),
    ("docs/runbook.md", "wigzo-destination events list --state retrying", By(PRIVATE_SIDE, AT_A_TERMINAL)),
    (
        "docs/runbook.md",
        "wigzo-destination delivery retry",
        By("tests/it/retry_now.rs", r#"&["delivery", "retry", "--organization""#),
    ),
    ("docs/runbook.md", "wigzo-destination events list --state dead", By(PRIVATE_SIDE, AT_A_TERMINAL)),
    (
        "docs/runbook.md",
        "wigzo-destination delivery list --standing",
        By(PRIVATE_SIDE, r#"&["delivery", "list", "--standing""#),
    ),
    ("docs/runbook.md", "wigzo-destination delivery list", By(PRIVATE_SIDE, r#"&["delivery", "list"]"#)),
    (
        "docs/operations.md",
        "curl http://127.0.0.1:9090/api/log-level",
        By("tests/it/logs.rs", "/api/log-level"),
    ),
    (
        "docs/segment-setup.md",
        "curl -u wk_shop_web:",
        By("tests/it/guides.rs", "fn the_requests_of_the_setup_guide"),
    ),
    ("docs/segment-setup.md", "BODY=", By("tests/it/guides.rs", "fn the_requests_of_the_setup_guide")),
    (
        "docs/segment-setup.md",
        "curl https://HOST/webhook/shop",
        By("tests/it/guides.rs", "fn the_requests_of_the_setup_guide"),
    ),
];

// === every block has its row ===

#[test]
fn every_command_in_the_documents_is_run_or_says_why_not() {
    let mut rows: Vec<_> = BLOCKS.iter().map(|(document, begins, _)| (*document, *begins)).collect();
    let mut missing = Vec::new();
    for document in documents() {
        if let Some((_, file, what)) = ELSEWHERE.iter().find(|(of, ..)| *of == document) {
            let text = std::fs::read_to_string(root().join(file)).unwrap();
            assert!(text.contains(what), "{document}: there is no {what:?} in {file}");
            continue;
        }
        for (language, block) in blocks(&document) {
            if language != "sh" {
                continue;
            }
            match rows.iter().position(|(of, begins)| *of == document && block.starts_with(begins)) {
                Some(row) => drop(rows.remove(row)),
                None => missing.push(format!("{document}: {}", block.lines().next().unwrap_or_default())),
            }
        }
    }
    assert!(missing.is_empty(), "blocks that nobody runs:\n{}", missing.join("\n"));
    assert!(rows.is_empty(), "rows without a block: {rows:#?}");
    for (document, begins, how) in BLOCKS {
        match how {
            By(file, what) => {
                let text = std::fs::read_to_string(root().join(file)).unwrap();
                assert!(text.contains(what), "{document}: {begins}: there is no {what:?} in {file}");
            }
            Not(reason) => assert!(reason.len() > 10, "{document}: {begins}: why not?"),
            Shows(_) => {}
        }
    }
}

// === running them ===

/// Where the commands of a document are typed.
struct Desk {
    directory: tempfile::TempDir,
    service: Option<Service>,
    /// Where the service is, by the port that the documents name. A service may be started while they are read.
    addresses: RefCell<BTreeMap<&'static str, String>>,
}

/// Directories of a machine, which here lie below the desk.
const MACHINE: [&str; 4] = ["/etc/", "/run/", "/usr/local/", "/var/"];

/// What is there on a machine before anything is installed.
const DIRECTORIES: [&str; 10] = [
    "bin",
    "etc/bash_completion.d",
    "etc/fish/completions",
    "etc/systemd/system",
    "usr/local/bin",
    "usr/local/share/man/man1",
    "usr/local/share/zsh/site-functions",
    "var/backups",
    "run/secrets",
    "target/dist",
];

/// The program on the path: what serves is told to stop once it does.
const PROGRAM: &str = r#"#!/bin/sh
[ "$1" = serve ] || exec REAL "$@"
REAL "$@" 2>serve.log & service=$!
for _ in $(seq 1200); do
    grep -q serving serve.log && break
    kill -0 $service 2>/dev/null || break
    sleep 0.05
done
kill -INT $service; wait $service; code=$?
cat serve.log
exit $code
"#;

/// What `cargo run` runs, without building it again.
const CARGO: &str = "#!/bin/sh\n[ \"$1\" = build ] && exit\nwhile [ \"$1\" != -- ]; do shift; done\nshift\nexec wigzo-destination \"$@\"\n";

impl Desk {
    fn new(service: Option<Service>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        for path in DIRECTORIES {
            std::fs::create_dir_all(at(path)).unwrap();
        }
        let real = env!("CARGO_BIN_EXE_wigzo-destination");
        for (name, text) in
            [("wigzo-destination", PROGRAM.replace("REAL", real)), ("cargo", CARGO.to_owned())]
        {
            let file = at("bin").join(name);
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        std::os::unix::fs::symlink(real, at("target/dist/wigzo-destination")).unwrap();
        let desk = Self { directory, service: None, addresses: RefCell::default() };
        for file in ["config.toml", "wigzo-destination.service"] {
            let file = Path::new("ops/systemd").join(file);
            desk.write(file.to_str().unwrap(), &std::fs::read_to_string(root().join(&file)).unwrap());
        }
        if let Some(service) = &service {
            desk.at(service);
        }
        Self { service, ..desk }
    }

    /// The commands that follow are for this service.
    fn at(&self, service: &Service) {
        for (port, url) in [("8080", &service.public), ("9090", &service.private), ("8090", &service.sandbox)]
        {
            self.addresses.borrow_mut().insert(port, url.trim_start_matches("http://").to_owned());
        }
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.directory.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, self.here(text)).unwrap();
    }

    /// A text with the addresses and directories of this desk.
    fn here(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (port, address) in self.addresses.borrow().iter() {
            text = text.replace(&format!("127.0.0.1:{port}"), address);
        }
        // Where a service is to be started, any free port will do.
        text = text.replace("0.0.0.0:8080", "127.0.0.1:0");
        for directory in MACHINE {
            for before in [" ", "\"", "'", "="] {
                let below = format!("{before}{}{directory}", self.directory.path().display());
                text = text.replace(&format!("{before}{directory}"), &below);
            }
        }
        text
    }

    async fn run(&self, block: &str, env: &[(&str, &str)]) -> Output {
        // Nobody's init system is touched.
        let script: Vec<_> =
            block.lines().filter(|line| !line.trim_start().starts_with("systemctl ")).collect();
        let script = self.here(&script.join("\n"));
        let path =
            std::process::Command::new("sh").args(["-c", "printf %s \"$PATH\""]).output().unwrap().stdout;
        let path =
            format!("{}:{}", self.directory.path().join("bin").display(), String::from_utf8(path).unwrap());
        let mut shell = Command::new("sh");
        shell.args(["-ec", &script]).current_dir(&self.directory).env("PATH", path).env("NO_COLOR", "1");
        shell.env("ORG_TOKEN", "partner-org-token");
        for (variable, port) in [("INGRESS", "8080"), ("ADMIN", "9090")] {
            let address = self.addresses.borrow().get(port).cloned();
            let address = address.unwrap_or_else(|| "127.0.0.1:0".to_owned());
            // A block that sets it means what it says.
            shell.env(format!("WIGZO__{variable}__LISTEN"), address);
        }
        shell.envs(env.iter().copied());
        let run = shell.stdin(std::process::Stdio::null()).kill_on_drop(true).output();
        tokio::time::timeout(PATIENCE, run)
            .await
            .unwrap_or_else(|_| panic!("it does not end: {script}"))
            .unwrap()
    }

    /// Runs the blocks of a document that are to be run here, in their order.
    async fn walk(&self, document: &str, env: &[(&str, &str)], mut before: impl AsyncFnMut(&str)) {
        for (language, block) in blocks(document) {
            let row = BLOCKS.iter().find(|(of, begins, _)| *of == document && block.starts_with(begins));
            let (true, Some((.., Shows(shown)))) = (language == "sh", row) else { continue };
            before(&block).await;
            let output = self.run(&block, env).await;
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let all = format!("{document}:\n{block}\n{said}{}", String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success(), "{}: {all}", output.status);
            for part in *shown {
                assert!(said.contains(part), "no {part:?} in\n{all}");
            }
        }
    }

    fn service(&self) -> &Service {
        self.service.as_ref().expect("this desk has a service")
    }

    async fn end(self) {
        if let Some(service) = self.service {
            service.end().await;
        }
    }
}

/// Whether the shell has this program; noted if not.
fn has(program: &str) -> bool {
    let found = std::process::Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    let has = found.is_ok_and(|found| found.status.success());
    if !has {
        skipped("commands of the guides in docs/", &format!("{program} is not installed"));
    }
    has
}

/// A desk with a service at which five events of these people have died, the first with the id m-1.
async fn with_dead_letters(people: [&str; 5]) -> Desk {
    let service = Service::sandbox().config("[delivery]\nquick_retries = 0\n").start().await;
    service.faults(&json!([{ "status": 400 }])).await;
    for (n, person) in (1..).zip(people) {
        let event = json!({ "userId": person, "event": "Order Completed", "messageId": format!("m-{n}"),
            "properties": { "order_id": format!("o-{n}") } });
        assert_eq!(service.post("/v1/track", &event.to_string()).await.status, 200);
        service.settled(n).await;
    }
    assert_eq!(service.post("/v1/track", r#"{"event":"A","messageId":"m-1"}"#).await.status, 400);
    Desk::new(Some(service))
}

const SHOP: &str = "[organizations.NAME]\norg_token = \"3f0c1a52-7d44-4b0e-9a1b-5f6e7d8c9b0a\"\nsource_keys = [\"wk_shop_web\"]\n";

#[tokio::test]
async fn the_commands_of_the_readme_work() {
    if !has("curl") {
        return;
    }
    let desk = with_dead_letters(["user-42"; 5]).await;
    let wigzo = &desk.service().sandbox;
    let shop = SHOP.replace("NAME", "shop");
    desk.write("shop.toml", &format!("[queue]\npath = \"shop\"\n{shop}base_url = \"{wigzo}\"\n"));
    desk.write("run/secrets/acme_org_token", "7d3b5c1e-0f4a-4c57-9d2e-3b1a6f0c8e21\n");
    // What is served besides takes other ports, and calls nobody outside.
    let env = [
        ("WIGZO__QUEUE__PATH", "queue"),
        ("WIGZO__ORGANIZATION_DEFAULTS__BASE_URL", wigzo.as_str()),
        ("WIGZO__INGRESS__LISTEN", "127.0.0.1:0"),
        ("WIGZO__ADMIN__LISTEN", "127.0.0.1:0"),
    ];
    desk.walk("README.md", &env, async |_: &str| {}).await;
    assert!(desk.directory.path().join("queue/queue.sqlite").is_file());
    desk.end().await;
}

#[tokio::test]
async fn the_commands_about_dead_letters_work() {
    if !has("curl") {
        return;
    }
    let desk = with_dead_letters(["user-1", "user-2", "user-3", "load-test", "user-5"]).await;
    let quiet = async |_: &str| {
        // What was replayed has died again, so that the next block finds it.
        desk.service().settled(5).await;
    };
    desk.walk("docs/dead-letters.md", &[], quiet).await;
    desk.end().await;
}

#[tokio::test]
async fn the_commands_of_the_runbook_and_the_other_pages_work() {
    if !has("curl") {
        return;
    }
    let desk = with_dead_letters(["user-42"; 5]).await;
    desk.write(
        "events.json",
        r#"{"type":"track","userId":"user-42","event":"Product Viewed","properties":{"product_id":"p"}}"#,
    );
    desk.write("config.toml", &SHOP.replace("NAME", "acme"));
    desk.write("etc/wigzo-destination/config.toml", &SHOP.replace("NAME", "shop"));
    for document in ["docs/runbook.md", "docs/mapping.md", "docs/decisions/0007-partners-in-the-envelope.md"]
    {
        desk.walk(document, &[], async |_: &str| {}).await;
    }
    desk.end().await;
}

/// From the first line to the last: installed, configured, backed up, put back, looked at, moved.
#[tokio::test]
async fn the_commands_of_the_operations_guide_work() {
    let desk = Desk::new(None);
    let wigzo = crate::stand_in::StandIn::start().await;
    let (_, config) =
        blocks("docs/operations.md").into_iter().find(|(language, _)| language == "toml").unwrap();
    desk.write("etc/wigzo-destination/config.toml", &config);
    desk.write("etc/wigzo-destination/org_token", "3f0c1a52-7d44-4b0e-9a1b-5f6e7d8c9b0a\n");
    desk.write("etc/wigzo-destination/source_keys", "wk_shop_web\n");
    desk.write("run/secrets/acme_org_token", "7d3b5c1e-0f4a-4c57-9d2e-3b1a6f0c8e21\n");
    let at = |path: &str| desk.directory.path().join(path);
    let queue = at("var/lib/wigzo-destination");
    let base = wigzo.url.clone();
    let mut service = None;
    let walk = async {
        let prepare = async |block: &str| {
            if block.starts_with("wigzo-destination backup") {
                // A service runs there, and events wait.
                let config = "[delivery.retry]\nbase = \"1h\"\ncap = \"1h\"\n[organizations.shop]\norg_token = \"3f0c1a52-7d44-4b0e-9a1b-5f6e7d8c9b0a\"\nsource_keys = [\"wk_shop_web\"]\n";
                let running = Service::calling(&wigzo)
                    .env("WIGZO__QUEUE__PATH", queue.to_str().unwrap())
                    .config(config)
                    .start()
                    .await;
                running.faults(&json!([{ "status": 503 }])).await;
                for n in 0..3 {
                    let event = json!({ "userId": "user-42", "event": "A", "messageId": format!("m-{n}") })
                        .to_string();
                    let request = running
                        .client()
                        .post(format!("{}/v1/track", running.public))
                        .basic_auth("wk_shop_web", Some(""));
                    assert_eq!(running.send(request.body(event)).await.status, 200);
                }
                service = Some(running);
            } else if block.starts_with("cargo build --profile dist") {
                // Another machine: they are made there.
                for secret in ["org_token", "source_keys"] {
                    std::fs::remove_file(at("etc/wigzo-destination").join(secret)).unwrap();
                }
            } else if block.starts_with("wigzo-destination restore") {
                // The disk is lost.
                drop(service.take().unwrap().kill().await);
                std::fs::rename(&queue, at("var/lib/lost")).unwrap();
            } else if block.starts_with("wigzo-destination dead-letters list --reason restored") {
                let running = Service::calling(&wigzo)
                    .env("WIGZO__QUEUE__PATH", queue.to_str().unwrap())
                    .config("[organizations.shop]\norg_token = \"3f0c1a52-7d44-4b0e-9a1b-5f6e7d8c9b0a\"\nsource_keys = [\"wk_shop_web\"]\n")
                    .start()
                    .await;
                desk.at(&running);
                service = Some(running);
            } else if block.starts_with("wigzo-destination export") {
                let running = service.take().unwrap();
                running.faults(&json!([])).await;
                running.settled(3).await;
                running.end().await;
            } else if block.starts_with("wigzo-destination import") {
                std::fs::rename(&queue, at("var/lib/old")).unwrap();
            }
        };
        let env = [("WIGZO__ORGANIZATION_DEFAULTS__BASE_URL", base.as_str())];
        desk.walk("docs/operations.md", &env, prepare).await;
    };
    walk.await;
    for file in [
        "etc/bash_completion.d/wigzo-destination",
        "usr/local/share/man/man1/wigzo-destination-backup.1",
        "usr/local/bin/wigzo-destination",
        "etc/systemd/system/wigzo-destination.service",
        "var/backups/queue.sqlite",
    ] {
        assert!(at(file).is_file(), "{file}");
    }
    let mode = |file: &str| {
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(at(file)).unwrap().permissions()) & 0o777
    };
    assert_eq!(
        (mode("etc/wigzo-destination/org_token"), mode("usr/local/bin/wigzo-destination")),
        (0o600, 0o755)
    );
}

// === the setup guide ===

/// Each request of the setup guide gets the reply that stands below it.
#[tokio::test]
async fn the_requests_of_the_setup_guide_are_answered_as_it_says() {
    if !has("curl") || !has("openssl") {
        return;
    }
    let blocks = blocks("docs/segment-setup.md");
    let (_, organization) = blocks.iter().find(|(language, _)| language == "toml").expect("an organization");
    let service = Service::sandbox().config(organization).start().await;
    let mut answered = 0;
    for pair in blocks.windows(2) {
        let [(from, script), (to, expected)] = pair else { continue };
        if from != "sh" || to != "json" {
            continue;
        }
        let script = script.replace("https://HOST", &service.public);
        let run = Command::new("sh").args(["-ec", &script]).kill_on_drop(true).output();
        let output = tokio::time::timeout(PATIENCE, run).await.expect("it does not end").unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let reply: Value =
            serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {script}\n{output:?}"));
        assert_eq!(reply, serde_json::from_str::<Value>(expected).unwrap(), "{script}");
        answered += 1;
    }
    assert_eq!(answered, 3, "the guide's requests");
    let ledger = service.settled(2).await;
    assert_eq!(ledger["delivered"], 2, "{ledger}");
    service.end().await;
}

// === reading ===

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// README.md and every page below docs/.
fn documents() -> Vec<String> {
    let mut found = vec!["README.md".to_owned()];
    let mut folders = vec![PathBuf::from("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "md") {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

/// A document's fenced blocks: language and text, without the indent of the fence.
fn blocks(document: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(root().join(document)).unwrap();
    let mut found = Vec::new();
    let mut open: Option<(usize, String, String)> = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some((indent, language.trim().to_owned(), String::new())),
            (Some(_), Some(_)) => found.extend(open.take().map(|(_, language, text)| (language, text))),
            (None, Some((indent, _, block))) => {
                block.push_str(line.get(*indent..).unwrap_or_default());
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    found
}
