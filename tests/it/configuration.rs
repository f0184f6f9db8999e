//! The commands and the configuration, as an operator meets them: what is wrong is said with its place and its remedy,
//! and no secret is ever shown.

use std::path::Path;
use std::process::Output;

use crate::service::{PATIENCE, Service, Setup, program};
use crate::wire::Request;

/// A directory to run commands in.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    async fn run(&self, arguments: &[&str], env: &[(&str, &str)]) -> Said {
        let mut command = program(self.0.path());
        let output = command.args(arguments).envs(env.iter().copied()).output();
        Said::from(tokio::time::timeout(PATIENCE, output).await.expect("it does not end").unwrap())
    }
}

/// What a command said.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

const TOKEN: (&str, &str) = ("WIGZO_ORG_TOKEN", "made-up-org-token");

// === check ===

#[tokio::test]
async fn a_good_configuration_is_said_to_be_good() {
    let bench = Bench::new();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/config/default.toml");
    for (arguments, env, file) in [
        (vec!["check"], vec![TOKEN], "none"),
        (vec!["check", "--sandbox"], vec![], "none"),
        (
            vec!["check", "--config", example],
            vec![TOKEN],
            concat!(env!("CARGO_MANIFEST_DIR"), "/config/default.toml (--config)"),
        ),
    ] {
        let said = bench.run(&arguments, &env).await;
        let good = format!("The configuration is good: 1 organization.\nConfiguration file: {file}\n");
        assert_eq!((said.code, said.out, said.err.as_str()), (Some(0), good, ""), "{arguments:?}");
    }
    let said = bench.run(&["check"], &[("WIGZO__INGRESS__PARTNER_MODE", "true")]).await;
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(
        said.out.starts_with("The configuration is good: 0 organizations.\n")
            && said.out.contains("\nPartner mode is on"),
        "{}",
        said.out
    );
    assert!(said.out.contains("Anybody who knows one can send in its name"), "{}", said.out);
    assert_eq!(std::fs::read_dir(bench.0.path()).unwrap().count(), 0, "a check leaves nothing behind");
}

/// Every problem is told at once: where it stands, which key, and what would be right.
#[tokio::test]
async fn every_problem_is_told_with_its_place_key_and_remedy() {
    let bench = Bench::new();
    let wrong = bench.put(
        "wrong.toml",
        r#"
[ingress]
listen = "localhost"
max_bdy = "8 MiB"
deadline = "3 canary-seconds"
[delivery]
max_in_flight = "canary-many"
[canary-section]
[organizations.acme]
org_tokn = "canary-token"
"#,
    );
    let broken = bench.put("broken.toml", "[queue\npath = \"canary-path\"");
    let said = bench
        .run(
            &["check", "--config", &wrong, "--config", &broken, "--config", "missing.toml"],
            &[("WIGZO_ORGTOKEN", "canary-variable"), ("WIGZO__QUEUE__PTH", "canary-path")],
        )
        .await;
    assert_eq!((said.code, said.out.as_str()), (Some(2), ""));
    let expected = [
        "missing.toml: the file does not exist; check the path given with --config or WIGZO_CONFIG"
            .to_owned(),
        format!("{broken}:1: not TOML: unclosed table"),
        format!("{wrong}:3: ingress.listen: "),
        format!("{wrong}:4: ingress.max_bdy: unknown key; did you mean `max_body`?"),
        format!("{wrong}:5: ingress.deadline: a duration is a whole number and a unit: \"250ms\", \"1s\""),
        format!("{wrong}:7: delivery.max_in_flight: expected a whole number"),
        format!("{wrong}:8: canary-section: unknown key; known here: admin, delivery, ingress"),
        format!("{wrong}:10: organizations.acme.org_tokn: unknown key; did you mean `org_token`?"),
        "environment variable WIGZO_ORGTOKEN: unknown variable; known are WIGZO_ORG_TOKEN".to_owned(),
        "environment variable WIGZO__QUEUE__PTH: queue.pth: unknown key; did you mean `path`?".to_owned(),
    ];
    for problem in &expected {
        assert!(said.err.contains(problem.as_str()), "{problem} is not in:\n{}", said.err);
    }
    assert_eq!(said.err.trim_end().lines().count(), expected.len(), "{}", said.err);
    for line in said.err.lines().filter(|line| !line.contains("canary-section: unknown key")) {
        assert!(!line.contains("canary"), "a value is repeated, it may be a secret: {line}");
    }
}

/// variables | what is said
const REFUSED: &[(&[(&str, &str)], &str)] = &[
    (&[], "organizations: there is none; set WIGZO_ORG_TOKEN or add [organizations.NAME]"),
    (
        &[("WIGZO_ORG_TOKEN", "short")],
        "organizations.default.org_token: an organization token is 10 to 64 letters",
    ),
    (
        &[TOKEN, ("WIGZO__INGRESS__LISTEN", "0.0.0.0:0")],
        "organizations.default: has neither key nor secret, but ingress.listen is 0.0.0.0:0: anybody who reaches it could \
         send; set source_keys or shared_secrets (or WIGZO_SOURCE_KEYS, WIGZO_SHARED_SECRETS), or listen on 127.0.0.1",
    ),
    (&[TOKEN, ("WIGZO__INGRESS__LISTEN", "[::]:0")], "has neither key nor secret"),
    (
        &[TOKEN, ("WIGZO__ADMIN__LISTEN", "0.0.0.0:0")],
        "environment variable WIGZO__ADMIN__LISTEN: admin.listen: anybody on this network could read customer data; set \
         admin.token_file, or listen on 127.0.0.1",
    ),
    (&[TOKEN, ("WIGZO__ADMIN__TOKEN_FILE", "missing")], "admin.token_file: the file missing does not exist"),
    (
        &[TOKEN, ("WIGZO__ORGANIZATIONS__DEFAULT__SHARED_SECRETS_FILE", "missing")],
        "organizations.default.shared_secrets_file: the file missing does not exist",
    ),
    (
        &[TOKEN, ("WIGZO__ORGANIZATIONS__DEFAULT__ORG_TOKEN_FILE", "missing")],
        "organizations.default.org_token_file: org_token is set as well; keep one of the two",
    ),
    // Values with which a service would run and yet take or deliver nothing.
    (
        &[TOKEN, ("WIGZO__INGRESS__MAX_CONNECTIONS", "0")],
        "ingress.max_connections: expected a whole number, from 1",
    ),
    (&[TOKEN, ("WIGZO__INGRESS__MAX_EVENTS", "0")], "ingress.max_events: expected a whole number, from 1"),
    (
        &[TOKEN, ("WIGZO__INGRESS__MAX_BODY", "0 B")],
        "ingress.max_body: expected a size from \"1 KiB\" to \"16 MiB\"",
    ),
    (
        &[TOKEN, ("WIGZO__INGRESS__MAX_BODY", "1 GiB")],
        "ingress.max_body: expected a size from \"1 KiB\" to \"16 MiB\"",
    ),
    (&[TOKEN, ("WIGZO__INGRESS__MAX_EVENT", "0 B")], "ingress.max_event: expected at least \"1 KiB\""),
    (
        &[TOKEN, ("WIGZO__INGRESS__DEADLINE", "0s")],
        "ingress.deadline: expected a duration longer than nothing",
    ),
    (
        &[TOKEN, ("WIGZO__INGRESS__READ_TIMEOUT", "0ms")],
        "ingress.read_timeout: expected a duration longer than nothing",
    ),
    (
        &[TOKEN, ("WIGZO__INGRESS__IDLE_TIMEOUT", "0ms")],
        "ingress.idle_timeout: expected a duration longer than nothing",
    ),
    (&[TOKEN, ("WIGZO__INGRESS__KEY_HEADER", "X Key")], "ingress.key_header: expected the name of a header"),
    (
        &[TOKEN, ("WIGZO__DELIVERY__MAX_IN_FLIGHT", "0")],
        "delivery.max_in_flight: expected a whole number, from 1",
    ),
    (&[TOKEN, ("WIGZO__DELIVERY__WINDOW", "0")], "delivery.window: expected a whole number, from 1"),
    (
        &[TOKEN, ("WIGZO__DELIVERY__QUICK_RETRIES", "6")],
        "delivery.quick_retries: expected a whole number, from 0 to 5",
    ),
    (
        &[TOKEN, ("WIGZO__DELIVERY__CONNECT_TIMEOUT", "1m")],
        "delivery.connect_timeout: `connect_timeout` (1m) must not be longer than `timeout` (10s)",
    ),
    (
        &[TOKEN, ("WIGZO__DELIVERY__PROBE_CAP", "1s")],
        "delivery.probe_cap: `probe_base` (30s) must not be longer than `probe_cap` (1s)",
    ),
    (&[TOKEN, ("WIGZO__QUEUE__MAX_DISK", "63 MiB")], "queue.max_disk: expected at least \"64 MiB\""),
    (&[TOKEN, ("WIGZO__TELEMETRY__LOG", "a=b=c")], "telemetry.log: expected a level or levels per target"),
    (
        &[TOKEN, ("WIGZO__TELEMETRY__LOG_FORMAT", "xml")],
        "telemetry.log_format: expected one of \"auto\", \"json\", \"pretty\"",
    ),
];

#[tokio::test]
async fn what_serve_would_refuse_check_refuses_with_the_same_words() {
    for (env, expected) in REFUSED {
        let bench = Bench::new();
        for command in ["check", "serve"] {
            let quiet = [("WIGZO__QUEUE__PATH", "queue"), ("WIGZO__TELEMETRY__LOG_FORMAT", "json")];
            let env: Vec<_> = quiet.iter().chain(*env).copied().collect();
            let said = bench.run(&[command], &env).await;
            assert_eq!(said.code, Some(2), "{command} {env:?}: {said:?}");
            assert!(said.err.contains(expected), "{command} {env:?}: {expected} is not in {}", said.err);
        }
        assert!(!bench.0.path().join("queue").exists(), "a refused start leaves nothing behind");
    }
}

// === print-config ===

#[tokio::test]
async fn a_printed_configuration_is_whole_and_shows_no_secret() {
    let bench = Bench::new();
    for name in ["org_token", "token", "source_keys", "shared_secrets"] {
        bench.put(name, &format!("canary-in-file-{name}\n"));
    }
    let file = bench.put(
        "config.toml",
        r#"
[delivery]
max_in_flight = 7
[organizations.acme]
org_token = "canary-org-token"
token = "canary-token"
source_keys = ["canary-key-1", "canary-key-2"]
shared_secrets = ["canary-secret"]
[organizations.filed]
org_token_file = "org_token"
token_file = "token"
source_keys_file = "source_keys"
shared_secrets_file = "shared_secrets"
"#,
    );
    let env = [
        ("WIGZO_ORG_TOKEN", "canary-of-default"),
        ("WIGZO_SOURCE_KEYS", "canary-a,canary-b"),
        ("WIGZO_SHARED_SECRETS", "canary-c"),
        ("WIGZO__DELIVERY__RETRY__BASE", "2s"),
    ];
    let said = bench.run(&["print-config", "--config", &file], &env).await;
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    assert!(!said.out.contains("canary"), "{}", said.out);
    for line in [
        format!("# Configuration file: {file} (--config)\n"),
        format!("[delivery]\nmax_in_flight = 7 # {file}:3\n"),
        "base = \"2s\" # environment variable WIGZO__DELIVERY__RETRY__BASE\n".to_owned(),
        "[organizations.default]\norg_token = \"***\" # environment variable WIGZO_ORG_TOKEN\n".to_owned(),
        "source_keys = [\"***\", \"***\"] # environment variable WIGZO_SOURCE_KEYS\n".to_owned(),
        format!("[organizations.filed]\norg_token_file = \"org_token\" # {file}:10\n"),
        "max_disk = \"10 GiB\" # default\n".to_owned(),
    ] {
        assert!(said.out.contains(&line), "{line} is not in {}", said.out);
    }
    // It is a configuration itself, which says of each value where it comes from.
    let again = bench.put("again.toml", &said.out.replace("***", "made-up-token"));
    assert_eq!(bench.run(&["print-config", "--config", &again], &[]).await.code, Some(0));
    let sections_and_comments = |line: &&str| !line.is_empty() && !line.starts_with(['#', '[']);
    for line in said.out.lines().filter(sections_and_comments) {
        let source = line.rsplit(" # ").next().unwrap();
        let known =
            source == "default" || source.starts_with(&file) || source.starts_with("environment variable ");
        assert!(known, "{line}");
    }
    // Nobody is told a secret by a refusal either.
    let said =
        bench.run(&["check", "--config", &file], &[("WIGZO_TOKEN", "canary with a blank"), env[0]]).await;
    assert_eq!(said.code, Some(2));
    assert!(!said.err.contains("canary"), "{}", said.err);
}

#[tokio::test]
async fn the_printed_defaults_are_the_file_in_the_repository() {
    let file = include_str!("../../config/default.toml");
    let said = Bench::new().run(&["print-config", "--default"], &[]).await;
    assert_eq!(
        (said.code, said.out.as_str()),
        (Some(0), file),
        "print-config --default > config/default.toml"
    );
}

// === secrets from files, and the shorthands ===

#[tokio::test]
async fn one_variable_makes_an_organization() {
    let service = Service::sandbox().env("WIGZO_ORG_TOKEN", "made-up-org-token").start().await;
    let event = r#"{"userId":"u","event":"A","messageId":"m"}"#;
    assert_eq!(service.post("/v1/track", event).await.status, 200);
    service.settled(1).await;
    assert_eq!(service.calls("").await[0]["org_token"], "made-up-org-token");
    assert_eq!(service.private("/api/events/1").await.json()["organization"], "default");
    service.end().await;
}

#[tokio::test]
async fn secrets_are_read_from_files() {
    let bench = Bench::new();
    let (token, keys) =
        (bench.put("token", "made-up-token-filed\n"), bench.put("keys", "wk_one\r\n\nwk_two\n"));
    let service = Service::sandbox()
        .config(&format!("[organizations.filed]\norg_token_file = '{token}'\nsource_keys_file = '{keys}'"))
        .start()
        .await;
    for (key, status) in
        [("wk_one", 200), ("wk_two", 200), ("", 401), ("wk_one\\r", 401), ("made-up-token-filed", 401)]
    {
        let event = format!(r#"{{"userId":"u","event":"A","messageId":"{key}"}}"#);
        let reply = service.wire(&Request::post("/v1/track").bearer(key).body(event)).await;
        assert_eq!(reply.status, status, "{key:?}");
    }
    service.settled(2).await;
    assert_eq!(service.calls("org_token=made-up-token-filed").await.len(), 2);
    service.end().await;
}

// === the private side ===

#[tokio::test]
async fn the_private_side_asks_for_its_token() {
    let bench = Bench::new();
    let token = bench.put("token", "canary-admin-token\n");
    let service = Service::sandbox()
        .env("WIGZO__ADMIN__LISTEN", "0.0.0.0:0")
        .env("WIGZO__ADMIN__TOKEN_FILE", &token)
        .start()
        .await;
    for path in ["/metrics", "/api/stats", "/api/events", "/api/events/1", "/nowhere"] {
        let url = format!("{}{path}", service.private);
        for authorization in
            [None, Some("Bearer canary-admin-toke"), Some("Bearer "), Some("canary-admin-token")]
        {
            let mut request = service.client().get(&url);
            if let Some(authorization) = authorization {
                request = request.header("Authorization", authorization);
            }
            let reply = service.send(request).await;
            assert_eq!(reply.status, 401, "{path} {authorization:?}");
            assert_eq!(reply.headers["content-type"], "application/json");
        }
        let reply = service.send(service.client().get(&url).bearer_auth("canary-admin-token")).await;
        assert!(
            matches!((path, reply.status), ("/api/events/1" | "/nowhere", 404) | (_, 200)),
            "{path} {reply:?}"
        );
    }
    assert!(!service.log().contains("canary"));
    service.end().await;
}

// === starting twice ===

#[tokio::test]
async fn a_port_in_use_is_told_with_its_key() {
    let service = Service::sandbox().start().await;
    let public = service.public.strip_prefix("http://").unwrap();
    for (variable, what, key) in [
        ("WIGZO__INGRESS__LISTEN", "the public side", "ingress.listen"),
        ("WIGZO__ADMIN__LISTEN", "the private side", "admin.listen"),
        ("WIGZO__SANDBOX__LISTEN", "the sandbox", "sandbox.listen"),
    ] {
        let (code, said) = Service::sandbox().env(variable, public).refused().await;
        assert_eq!(code, Some(1), "{said}");
        let expected = format!("{what} cannot listen on {public}: ");
        assert!(said.contains(&expected), "{said}");
        assert!(said.contains(&format!("stop what listens there, or set another `{key}`")), "{said}");
    }
    service.end().await;
}

#[tokio::test]
async fn one_process_owns_a_directory() {
    let service = Service::sandbox().start().await;
    let queue = service.directory.path().join("queue");
    let (code, said) =
        Service::sandbox().env("WIGZO__SANDBOX__QUEUE_PATH", &queue.display().to_string()).refused().await;
    assert_eq!(code, Some(1), "{said}");
    let remedy = "is in use by another process: stop it, or give this one another `queue.path`";
    assert!(said.contains(&format!("{} {remedy}", queue.display())), "{said}");
    let event = r#"{"userId":"u","event":"A","messageId":"m"}"#;
    assert_eq!(service.post("/v1/track", event).await.status, 200, "the owner is not disturbed");
    service.settled(1).await;
    service.end().await;
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_told() {
    let bench = Bench::new();
    bench.put("file", "");
    let setup = Setup::plain().env(TOKEN.0, TOKEN.1);
    let path = bench.0.path().join("file/queue").display().to_string();
    let (code, said) = setup.env("WIGZO__QUEUE__PATH", &path).refused().await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("check that the directory exists and this user may write to it"), "{said}");
}

// === health and help ===

#[tokio::test]
async fn the_health_command_says_how_a_service_is() {
    let mut service = Service::sandbox().config("[ingress]\ndrain_grace = \"10m\"").start().await;
    let bench = Bench::new();
    let listen = service.public.strip_prefix("http://").unwrap().to_owned();
    let (by_config, by_url) =
        ([("WIGZO__INGRESS__LISTEN", listen.as_str())], format!("{}/livez", service.public));

    let said = bench.run(&["health"], &by_config).await;
    assert_eq!((said.code, said.out.as_str()), (Some(0), "{\"status\":\"ready\"}\n"), "{said:?}");
    let said = bench.run(&["health", "--url", &by_url], &[]).await;
    assert_eq!((said.code, said.out.as_str()), (Some(0), "{\"status\":\"alive\"}\n"), "{said:?}");
    let anywhere = listen.replace("127.0.0.1", "0.0.0.0");
    let said = bench.run(&["health"], &[("WIGZO__INGRESS__LISTEN", &anywhere)]).await;
    assert_eq!(said.code, Some(0), "one that listens everywhere is asked on loopback: {said:?}");

    service.signal("TERM");
    service.eventually("draining", async || service.get("/readyz").await.status == 503).await;
    let said = bench.run(&["health"], &by_config).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.out.contains("draining") && said.err.contains("answered 503"), "{said:?}");

    service.signal("TERM");
    assert_eq!(service.ended().await.code(), Some(1));
    let said = bench.run(&["health"], &by_config).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains(&listen), "{said:?}");
}

#[tokio::test]
async fn the_command_line_explains_itself() {
    let bench = Bench::new();
    let said = bench.run(&["--help"], &[]).await;
    assert_eq!(said.code, Some(0));
    for command in ["serve", "sandbox", "check", "print-config", "health"] {
        assert!(said.out.lines().any(|line| line.trim_start().starts_with(command)), "{}", said.out);
        let said = bench.run(&[command, "--help"], &[]).await;
        assert_eq!(said.code, Some(0), "{command}");
        assert!(said.out.contains("--config <FILE>"), "{command}: {}", said.out);
    }
    let version = bench.run(&["--version"], &[]).await;
    assert!(
        version.out.starts_with(concat!("wigzo-destination ", env!("CARGO_PKG_VERSION"), " (commit "))
            && version.out.contains(", built 2")
            && version.out.contains(", features: "),
        "{}",
        version.out
    );
    let short = bench.run(&["-V"], &[]).await;
    assert_eq!(short.out, concat!("wigzo-destination ", env!("CARGO_PKG_VERSION"), "\n"));
    for wrong in [&["serv"][..], &["serve", "--port", "1"], &["serve", "--config"], &[]] {
        let said = bench.run(wrong, &[]).await;
        assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{wrong:?}");
        assert!(said.err.contains("--help"), "{wrong:?}: {}", said.err);
    }
    assert_eq!(std::fs::read_dir(Path::new(bench.0.path())).unwrap().count(), 0);
}
