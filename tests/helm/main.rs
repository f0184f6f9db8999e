//! The Helm chart: rendered by Helm's own engine, judged by the schemas of Kubernetes, and held against the program that
//! it starts. Where the engine cannot be had the tests are skipped with the reason; in CI that is a failure.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails at once, and says where")]

#[path = "../support/python.rs"]
mod python;
#[path = "../support/skipped.rs"]
mod skipped;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use wigzo_destination::settings::Settings;

/// The oldest version that the chart names, and the newest.
const KUBERNETES: [&str; 2] = ["1.27", "1.37"];

/// Renders releases with these values; `None`, noted, where there is no engine.
fn render(cases: &[Value]) -> Option<Value> {
    let programs = match python::programs("helm") {
        Ok(programs) => programs,
        Err(reason) => {
            #[expect(clippy::disallowed_methods, reason = "the test runner's variable, not configuration")]
            let is_ci = std::env::var_os("CI").is_some();
            assert!(!is_ci, "Helm's engine: {reason}");
            skipped::skipped("the Helm chart by Helm's own engine", &reason);
            return None;
        }
    };
    let mut engine = Command::new(programs.join("python"))
        .arg(root().join("tests/helm/render.py"))
        .arg(chart())
        .args(KUBERNETES)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    engine.stdin.take().unwrap().write_all(json!(cases).to_string().as_bytes()).unwrap();
    let output = engine.wait_with_output().unwrap();
    assert!(output.status.success(), "render.py failed");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn chart() -> PathBuf {
    root().join("ops/helm/wigzo-destination")
}

/// Values with everything on.
fn everything() -> Value {
    json!({
        "existingSecret": "shop-secrets",
        "image": { "repository": "registry.example.com/wigzo-destination", "tag": "1.2.3", "pullPolicy": "Always" },
        "imagePullSecrets": [{ "name": "pull" }],
        "env": { "WIGZO__TELEMETRY__LOG": "debug" },
        "persistence": { "size": "20Gi", "storageClass": "ssd", "whenDeleted": "Delete" },
        "service": { "type": "LoadBalancer", "port": 443 },
        "ingress": { "enabled": true, "className": "nginx", "annotations": { "example.com/a": "b" },
            "host": "events.example.com", "tlsSecret": "events-tls" },
        "private": { "tokenKey": "admin_token" },
        "serviceMonitor": { "enabled": true, "interval": "15s", "labels": { "release": "prometheus" } },
        "podDisruptionBudget": { "maxUnavailable": 0 },
        "networkPolicy": {
            "publicFrom": [{ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "ingress" } } }],
            "privateFrom": [{ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "monitoring" } } }],
            "egressPorts": [443, 8443],
        },
        "podAnnotations": { "example.com/c": "d" },
        "nodeSelector": { "disk": "ssd" },
        "tolerations": [{ "key": "dedicated", "operator": "Exists" }],
        "affinity": { "nodeAffinity": {} },
    })
}

fn least() -> Value {
    json!({ "existingSecret": "shop-secrets" })
}

fn kinds(result: &Value) -> Vec<String> {
    let mut kinds: Vec<_> =
        result["objects"].as_array().unwrap().iter().map(|it| text(&it["kind"])).collect();
    kinds.sort_unstable();
    kinds
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

fn object<'a>(result: &'a Value, kind: &str) -> &'a Value {
    result["objects"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["kind"] == kind)
        .unwrap_or_else(|| panic!("no {kind}"))
}

#[test]
fn what_is_rendered_is_what_kubernetes_takes() {
    let off = json!({ "existingSecret": "s", "podDisruptionBudget": { "enabled": false }, "networkPolicy": { "enabled": false } });
    let Some(rendered) = render(&[least(), everything(), off]) else { return };
    for (place, result) in rendered["results"].as_array().unwrap().iter().enumerate() {
        assert_eq!(result["problems"], json!([]), "case {place}: {result:#}");
    }
    let warnings: Vec<_> = rendered["lint"]["messages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|it| it["severity"].as_u64() > Some(1))
        .collect();
    assert!(warnings.is_empty() && rendered["lint"]["errors"] == json!([]), "{:#}", rendered["lint"]);
    let core = ["ConfigMap", "Service", "Service", "StatefulSet"];
    assert_eq!(kinds(&rendered["results"][2]), core);
    let mut all: Vec<_> = core.iter().chain(&["NetworkPolicy", "PodDisruptionBudget"]).collect();
    all.sort_unstable();
    assert_eq!(kinds(&rendered["results"][0]).iter().collect::<Vec<_>>(), all.clone());
    all.extend(&["Ingress", "ServiceMonitor"]);
    all.sort_unstable();
    assert_eq!(kinds(&rendered["results"][1]).iter().collect::<Vec<_>>(), all);
}

#[test]
fn values_that_cannot_work_are_refused_with_what_to_do() {
    let with = |key: &str, value: Value| {
        let mut values = least();
        values[key] = value;
        values
    };
    let cases = [
        (json!({}), "existingSecret: name a Secret"),
        (with("engine", json!("postgres")), "engine: postgres is not to be had"),
        (with("serviceMonitor", json!({ "enabled": true })), "needs private.tokenKey"),
        (with("ingress", json!({ "enabled": true })), "needs ingress.host"),
        (with("replicas", json!(3)), "'replicas' not allowed"),
        (with("persistence", json!({ "size": "ten" })), "/persistence/size"),
        (with("terminationGracePeriodSeconds", json!(5)), "/terminationGracePeriodSeconds"),
        (with("env", json!({ "WIGZO__TELEMETRY__LOG": 1 })), "/env/WIGZO__TELEMETRY__LOG"),
    ];
    let values: Vec<_> = cases.iter().map(|(values, _)| values.clone()).collect();
    let values = [vec![least()], values].concat();
    let Some(rendered) = render(&values) else { return };
    for (place, (values, wanted)) in cases.iter().enumerate() {
        let result = &rendered["results"][place + 1];
        let said = result["refused"].as_str().unwrap_or_else(|| panic!("{values} is taken: {result}"));
        assert!(said.contains(wanted), "{values}: {said}");
    }
}

#[test]
fn the_pod_may_do_nothing_that_the_service_does_not_need() {
    let Some(rendered) = render(&[least(), everything()]) else { return };
    for result in rendered["results"].as_array().unwrap() {
        let pod = &object(result, "StatefulSet")["spec"]["template"]["spec"];
        assert_eq!(pod["automountServiceAccountToken"], false);
        let security = &pod["securityContext"];
        assert_eq!((&security["runAsNonRoot"], &security["runAsUser"]), (&json!(true), &json!(65_532)));
        assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");
        let containers = pod["containers"].as_array().unwrap();
        assert_eq!(containers.len(), 1);
        let security = &containers[0]["securityContext"];
        assert_eq!(
            (&security["readOnlyRootFilesystem"], &security["allowPrivilegeEscalation"]),
            (&json!(true), &json!(false))
        );
        assert_eq!(security["capabilities"], json!({ "drop": ["ALL"] }));
        let writable: Vec<_> = containers[0]["volumeMounts"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|it| it["readOnly"] != true)
            .map(|it| text(&it["mountPath"]))
            .collect();
        assert_eq!(writable, ["/data", "/tmp"]);
        // The user of the image.
        let dockerfile = std::fs::read_to_string(root().join("Dockerfile")).unwrap();
        assert!(dockerfile.contains("USER 65532:65532"));
    }
    let policy = |result: &Value| object(result, "NetworkPolicy")["spec"].clone();
    let closed = policy(&rendered["results"][0]);
    assert_eq!(
        closed["ingress"],
        json!([{ "ports": [{ "port": "public" }] }]),
        "nobody reaches the private side"
    );
    let open = policy(&rendered["results"][1]);
    assert_eq!(open["ingress"][1]["ports"], json!([{ "port": "private" }]));
    assert!(open["ingress"][1]["from"][0].is_object() && open["ingress"][0]["from"][0].is_object());
    assert_eq!(
        open["egress"][1]["ports"],
        json!([{ "port": 443, "protocol": "TCP" }, { "port": 8_443, "protocol": "TCP" }])
    );
}

#[test]
fn what_the_pod_is_told_is_what_the_service_knows() {
    let Some(rendered) = render(&[least(), everything()]) else { return };
    let directory = tempfile::tempdir().unwrap();
    for result in rendered["results"].as_array().unwrap() {
        let config = text(&object(result, "ConfigMap")["data"]["config.toml"]);
        let file = directory.path().join("config.toml");
        std::fs::write(&file, &config).unwrap();
        let set = &object(result, "StatefulSet")["spec"]["template"]["spec"];
        let container = &set["containers"][0];
        let env: BTreeMap<String, String> = container["env"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| (text(&it["name"]), text(&it["value"])))
            .collect();
        let settings = Settings::load(&[file], &env).unwrap_or_else(|problems| panic!("{problems}"));

        let ports: BTreeMap<String, u64> = container["ports"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| (text(&it["name"]), it["containerPort"].as_u64().unwrap()))
            .collect();
        assert_eq!(ports["public"], u64::from(settings.ingress.listen.port()));
        assert!(settings.ingress.listen.ip().is_unspecified());
        assert_eq!(settings.admin.listen.ip().is_loopback(), settings.admin.token_file.is_empty());
        assert_eq!(
            ports.get("private").copied(),
            (!settings.admin.token_file.is_empty()).then(|| u64::from(settings.admin.listen.port()))
        );
        let mounts: BTreeSet<PathBuf> = container["volumeMounts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| PathBuf::from(text(&it["mountPath"])))
            .collect();
        let organization = &settings.organizations["default"];
        let files = [&organization.org_token_file, &organization.source_keys_file].into_iter().flatten();
        for file in files.map(PathBuf::from).chain([settings.queue.path.clone()]) {
            let is_mounted = mounts.iter().any(|mount| file.starts_with(mount));
            assert!(is_mounted, "{} is in no mount: {mounts:?}", file.display());
        }
        for (probe, path) in
            [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")]
        {
            assert_eq!(container[probe]["httpGet"], json!({ "path": path, "port": "public" }));
        }
        let drain = settings.ingress.drain_grace.0 + settings.ingress.drain_deadline.0;
        let patience = set["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert!(patience > drain.as_secs() + 5, "the pod is killed while it drains");
        let size = text(
            &object(result, "StatefulSet")["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]
                ["storage"],
        );
        let size: u64 = size.trim_end_matches("Gi").parse::<u64>().unwrap() << 30;
        assert!(size > settings.queue.max_disk.as_u64() * 5 / 4, "the log needs room too");
    }
}

#[test]
fn objects_find_each_other() {
    let Some(rendered) = render(&[everything()]) else { return };
    let result = &rendered["results"][0];
    let set = &object(result, "StatefulSet")["spec"];
    let labels = &set["template"]["metadata"]["labels"];
    let objects = result["objects"].as_array().unwrap();
    let selects =
        |selector: &Value| selector.as_object().unwrap().iter().all(|(name, value)| labels[name] == *value);
    let services: Vec<_> = objects.iter().filter(|it| it["kind"] == "Service").collect();
    for selector in [
        &set["selector"]["matchLabels"],
        &object(result, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        &object(result, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        &services[0]["spec"]["selector"],
        &services[1]["spec"]["selector"],
    ] {
        assert!(selects(selector), "{selector} is not {labels}");
    }
    let named = |name: &Value| services.iter().find(|it| it["metadata"]["name"] == *name).copied();
    let pod = named(&set["serviceName"]).expect("the Service that names the pod");
    assert_eq!(pod["spec"]["clusterIP"], "None");
    let backend = &object(result, "Ingress")["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"];
    let public = named(&backend["name"]).expect("the Service behind the Ingress");
    assert_eq!(public["spec"]["ports"][0]["name"], backend["port"]["name"]);

    // The monitor selects one of the two, asks a port that it has, with the token that the service asks for, and calls the
    // job as the alerts do.
    let monitor = &object(result, "ServiceMonitor")["spec"];
    let wanted = monitor["selector"]["matchLabels"].as_object().unwrap();
    let selected: Vec<_> = services
        .iter()
        .filter(|it| wanted.iter().all(|(name, value)| it["metadata"]["labels"][name] == *value))
        .collect();
    assert_eq!(selected.len(), 1);
    assert_eq!(selected[0]["spec"]["ports"][0]["name"], monitor["endpoints"][0]["port"]);
    let credentials = &monitor["endpoints"][0]["authorization"]["credentials"];
    assert_eq!(credentials, &json!({ "name": "shop-secrets", "key": "admin_token" }));
    let job = &selected[0]["metadata"]["labels"][monitor["jobLabel"].as_str().unwrap()];
    let alerts = std::fs::read_to_string(root().join("ops/prometheus/alerts.yml")).unwrap();
    assert!(alerts.contains(&format!("job=\"{}\"", job.as_str().unwrap())), "{job}");
}

#[test]
fn the_chart_has_the_version_of_the_program_and_explains_every_value() {
    let about = std::fs::read_to_string(chart().join("Chart.yaml")).unwrap();
    for line in ["version: ", "appVersion: \""] {
        assert!(about.contains(&format!("\n{line}{}", env!("CARGO_PKG_VERSION"))), "{line}");
    }
    let values = std::fs::read_to_string(chart().join("values.yaml")).unwrap();
    let schema: Value =
        serde_json::from_str(&std::fs::read_to_string(chart().join("values.schema.json")).unwrap()).unwrap();
    let known: BTreeSet<&str> = schema["properties"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .filter(|it| *it != "global")
        .collect();
    let is_key = |line: &&str| line.starts_with(|c: char| c.is_ascii_alphabetic());
    let stated: BTreeSet<&str> =
        values.lines().filter(is_key).filter_map(|line| Some(line.split_once(':')?.0)).collect();
    assert_eq!(stated, known, "values.yaml (left), values.schema.json (right)");
    assert!(Path::new(&chart()).join("templates/NOTES.txt").is_file());
}
