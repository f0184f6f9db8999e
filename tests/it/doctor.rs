//! `doctor` on real machines: this one, in good and in bad order.

use std::net::TcpListener;
use std::path::Path;
use std::process::Output;

use serde_json::Value;
use tokio::io::AsyncReadExt as _;

use crate::service::{PATIENCE, Service, program};
use crate::stand_in::StandIn;

async fn doctor(directory: &Path, config: &str, flags: &[&str]) -> Output {
    let file = directory.join("doctor.toml");
    std::fs::write(&file, config).unwrap();
    let output = program(directory).arg("doctor").arg("--config").arg(&file).args(flags).output();
    tokio::time::timeout(PATIENCE, output).await.expect("it does not end").unwrap()
}

/// The findings of one check.
fn findings<'a>(report: &'a Value, check: &str) -> Vec<&'a Value> {
    report["findings"].as_array().unwrap().iter().filter(|it| it["check"] == check).collect()
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn config_of(queue: &Path, base_url: &str, listen: &str) -> String {
    format!(
        "[ingress]\nlisten = \"{listen}\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[queue]\npath = \"{}\"\n\
         [organizations.shop]\norg_token = \"made-up-org-token\"\nbase_url = \"{base_url}\"\n",
        queue.display()
    )
}

#[tokio::test]
async fn a_machine_in_order_is_said_to_be_so_and_left_as_it_was() {
    let stand_in = StandIn::start().await;
    let directory = tempfile::tempdir().unwrap();
    let queue = directory.path().join("not/yet/there");
    let config = config_of(&queue, &stand_in.url, "127.0.0.1:0");
    let output = doctor(directory.path(), &config, &["--json"]).await;
    let report = report(&output);
    assert_eq!((output.status.code(), &report["healthy"]), (Some(0), &Value::Bool(true)), "{report}");
    for check in ["configuration", "disk", "ports", "clock", "wigzo"] {
        assert!(!findings(&report, check).is_empty(), "{check}: {report}");
    }
    let wigzo = findings(&report, "wigzo")[0]["message"].as_str().unwrap();
    assert!(wigzo.starts_with(&format!("{}: connected in ", stand_in.url)), "{wigzo}");
    assert_eq!(
        std::fs::read_dir(directory.path()).unwrap().count(),
        1,
        "its own configuration, nothing else"
    );
    let calls = reqwest::get(format!("{}/_sandbox/calls", stand_in.url)).await.unwrap().text().await.unwrap();
    let calls: Value = serde_json::from_str(&calls).unwrap();
    assert_eq!(calls["calls"], serde_json::json!([]), "a connection is no call");

    let offline = doctor(directory.path(), &config, &["--offline"]).await;
    let said = String::from_utf8(offline.stdout).unwrap();
    assert!(said.contains("ok       wigzo          not asked (--offline)\n"), "{said}");
}

#[tokio::test]
async fn what_is_broken_is_told_with_its_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "no directory").unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let config = config_of(&file.join("queue"), &closed, &listen);
    let output = doctor(directory.path(), &config, &["--json"]).await;
    let report = report(&output);
    assert_eq!((output.status.code(), &report["healthy"]), (Some(1), &Value::Bool(false)), "{report}");
    for (check, said, remedy) in [
        ("disk", "cannot be written", "queue.path"),
        ("ports", "is taken", "stop what listens there"),
        ("wigzo", "no connection", "base_url"),
    ] {
        let found = findings(&report, check);
        let broken =
            found.iter().find(|it| it["level"] == "broken").unwrap_or_else(|| panic!("{check}: {report}"));
        assert!(broken["message"].as_str().unwrap().contains(said), "{broken}");
        assert!(broken["remedy"].as_str().unwrap().contains(remedy), "{broken}");
    }
}

#[tokio::test]
async fn names_and_encryption_are_looked_at_too() {
    let stand_in = StandIn::start().await;
    let directory = tempfile::tempdir().unwrap();
    let queue = directory.path().join("queue");
    for (base_url, said) in [
        // RFC 6761: a name that never has an address.
        ("https://wigzo.invalid".to_owned(), "its name has no address"),
        // The sandbox speaks no TLS.
        (stand_in.url.replace("http:", "https:"), "no TLS"),
    ] {
        let output =
            doctor(directory.path(), &config_of(&queue, &base_url, "127.0.0.1:0"), &["--json"]).await;
        let report = report(&output);
        assert_eq!(output.status.code(), Some(1), "{report}");
        let message = findings(&report, "wigzo")[0]["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("{base_url}: {said}: ")), "{message}");
    }
}

/// A server with a certificate of an authority of our own, and that authority's certificate in a file: the system's
/// certificates are replaced by it through the variable that OpenSSL introduced.
#[tokio::test]
async fn encryption_is_trusted_as_the_calls_would_trust_it() {
    let directory = tempfile::tempdir().unwrap();
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let roots = directory.path().join("roots.pem");
    std::fs::write(&roots, issued.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(issued.signing_key.serialize_der().into());
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (heard, mut after_the_handshake) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let mut spoken = Vec::new();
                let _ = stream.read_to_end(&mut spoken).await;
                let _ = heard.send(spoken);
            }
        }
    });
    let queue = directory.path().join("queue");
    for (host, trusted, said) in [
        ("localhost", true, "connected in "),
        ("localhost", false, "no TLS: "),
        // The certificate is another name's.
        ("127.0.0.1", true, "no TLS: "),
    ] {
        let base_url = format!("https://{host}:{port}");
        let file = directory.path().join("tls.toml");
        std::fs::write(&file, config_of(&queue, &base_url, "127.0.0.1:0")).unwrap();
        let mut doctor = program(directory.path());
        doctor.arg("doctor").arg("--json").arg("--config").arg(&file);
        if trusted {
            doctor.env("SSL_CERT_FILE", &roots);
        }
        let output = tokio::time::timeout(PATIENCE, doctor.output()).await.expect("it does not end").unwrap();
        let report = report(&output);
        let message = findings(&report, "wigzo")[0]["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("{base_url}: {said}")), "{message}");
        assert_eq!(output.status.code(), Some(i32::from(!said.starts_with("connected"))), "{report}");
        if said.starts_with("connected") {
            let spoken =
                tokio::time::timeout(PATIENCE, after_the_handshake.recv()).await.expect("a handshake");
            assert_eq!(spoken, Some(Vec::new()), "a request was made");
        }
    }
}

#[tokio::test]
async fn a_running_service_is_no_fault() {
    let service = Service::sandbox().start().await;
    let queue = service.directory.path().join("queue");
    let address = |url: &str| url.trim_start_matches("http://").to_owned();
    let config = config_of(&queue, &service.sandbox, &address(&service.public)).replace(
        "[admin]\nlisten = \"127.0.0.1:0\"",
        &format!("[admin]\nlisten = \"{}\"", address(&service.private)),
    );
    let output = doctor(service.directory.path(), &config, &["--json"]).await;
    let first = report(&output);
    assert_eq!(output.status.code(), Some(0), "{first}");
    let said = first.to_string();
    assert!(said.contains("it runs and is ready; events waiting: 0, dead letters: 0"), "{said}");
    assert!(said.contains("in use by a running service"), "{said}");
    assert!(said.contains("is taken, as it should be while the service runs"), "{said}");
    assert_eq!(service.post("/v1/track", r#"{"userId":"u","event":"A"}"#).await.status, 200);
    service.settled(1).await;

    // What it says of itself is passed on: here, that nothing is sent.
    let pause = serde_json::json!({ "why": "stock-taking" });
    assert_eq!(service.operate("/api/organizations/default/pause", &pause).await.status, 200);
    service.until("/api/stats", |stats| stats["delivery"][0]["state"] == "held").await;
    let output = doctor(service.directory.path(), &config, &["--json"]).await;
    let report = report(&output);
    let found = findings(&report, "service");
    let held = found.iter().find(|it| it["level"] == "warning").unwrap_or_else(|| panic!("{report}"));
    assert!(
        held["message"].as_str().unwrap().starts_with("events of default are not sent: it is held"),
        "{held}"
    );
    service.end().await;
}

#[tokio::test]
async fn a_service_that_does_not_answer_is_told() {
    let service = Service::sandbox().start().await;
    let queue = service.directory.path().join("queue");
    // Its admin API is elsewhere.
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = config_of(&queue, &service.sandbox, "127.0.0.1:0")
        .replace("[admin]\nlisten = \"127.0.0.1:0\"", &format!("[admin]\nlisten = \"{nowhere}\""));
    let output = doctor(service.directory.path(), &config, &["--json"]).await;
    let report = report(&output);
    assert_eq!(output.status.code(), Some(1), "{report}");
    let found = findings(&report, "service");
    assert!(found[0]["remedy"].as_str().unwrap().contains("check `admin.listen`"), "{report}");
    service.end().await;
}

#[tokio::test]
async fn a_wrong_configuration_has_a_code_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    for (config, said) in [
        ("[queue]\nmax_dsk = \"1 GiB\"", "queue.max_dsk: unknown key; did you mean `max_disk`?"),
        ("[queue]\nmax_disk = \"1 MiB\"", "queue.max_disk: expected at least \"64 MiB\""),
    ] {
        let output = doctor(directory.path(), config, &["--json", "--offline"]).await;
        let report = report(&output);
        assert_eq!((output.status.code(), &report["healthy"]), (Some(2), &Value::Bool(false)), "{report}");
        let found = findings(&report, "configuration");
        assert!(found.iter().any(|it| it["message"].as_str().unwrap().contains(said)), "{said}: {report}");
    }
}

#[tokio::test]
async fn in_partner_mode_the_address_of_those_who_may_come_is_looked_at() {
    let stand_in = StandIn::start().await;
    let directory = tempfile::tempdir().unwrap();
    let config = format!(
        "[ingress]\npartner_mode = true\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [organization_defaults]\nbase_url = \"{}\"\n",
        stand_in.url
    );
    let output = doctor(directory.path(), &config, &["--json"]).await;
    let report = report(&output);
    assert_eq!(output.status.code(), Some(0), "{report}");
    let message = findings(&report, "wigzo")[0]["message"].as_str().unwrap();
    assert!(message.starts_with(&stand_in.url), "{message}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_secret_that_everybody_can_read_is_told() {
    use std::os::unix::fs::PermissionsExt as _;

    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "made-up-org-token").unwrap();
    let config = format!(
        "[ingress]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [organizations.shop]\norg_token_file = \"{}\"\n",
        token.display()
    );
    for (mode, told) in [(0o644, 1), (0o600, 0)] {
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(mode)).unwrap();
        let output = doctor(directory.path(), &config, &["--json", "--offline"]).await;
        assert_eq!(findings(&report(&output), "secrets").len(), told, "{mode:o}");
        assert!(!String::from_utf8_lossy(&output.stdout).contains("made-up-org-token"));
    }
}
