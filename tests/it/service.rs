//! A real service process for a test: free ports, a temporary directory, nothing left behind.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::stand_in::StandIn;
use crate::wire::{self, Request};

/// How long a test waits for something that should happen; then it fails with everything it knows.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// How a service is to be started.
pub struct Setup {
    config: String,
    env: BTreeMap<String, String>,
    flags: Vec<String>,
    directory: Option<Arc<tempfile::TempDir>>,
    stand_in: Option<String>,
    config_file: Option<PathBuf>,
}

/// A running service.
pub struct Service {
    pub public: String,
    pub private: String,
    pub sandbox: String,
    pub directory: Arc<tempfile::TempDir>,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    client: reqwest::Client,
}

/// An answer of the service.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Service {
    /// A service with the built-in sandbox.
    pub fn sandbox() -> Setup {
        Setup {
            config: String::new(),
            env: BTreeMap::new(),
            flags: vec!["--sandbox".into()],
            directory: None,
            stand_in: None,
            config_file: None,
        }
    }

    /// A service that calls a stand-in which is a process of its own.
    pub fn calling(stand_in: &StandIn) -> Setup {
        let mut setup = Self::sandbox().env("WIGZO__ORGANIZATION_DEFAULTS__BASE_URL", &stand_in.url);
        setup.flags.clear();
        setup.stand_in = Some(stand_in.url.clone());
        setup
    }

    /// A request to the public side.
    pub async fn post(&self, path: &str, body: &str) -> Reply {
        self.send(self.client.post(format!("{}{path}", self.public)).body(body.to_owned())).await
    }

    /// Any request; see [`Service::client`].
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Reply {
        let response = request.send().await.unwrap_or_else(|error| panic!("{error:?}\n{}", self.log()));
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.text().await.unwrap_or_else(|error| panic!("{error:?}\n{}", self.log()));
        Reply { status, headers, body }
    }

    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// A look at the private side.
    pub async fn private(&self, path: &str) -> Reply {
        self.send(self.client.get(format!("{}{path}", self.private))).await
    }

    /// A word to the private side.
    pub async fn operate(&self, path: &str, body: &Value) -> Reply {
        let request = self.client.post(format!("{}{path}", self.private)).body(body.to_string());
        self.send(request.header("content-type", "application/json")).await
    }

    /// The calls that the sandbox has seen, oldest first, filtered by query parameters (`event_name=buy&…`).
    pub async fn calls(&self, filter: &str) -> Vec<Value> {
        let mut calls = Vec::new();
        let mut after = 0;
        loop {
            let page = format!("{}/_sandbox/calls?limit=10000&after={after}&{filter}", self.sandbox);
            let page = self.send(self.client.get(page.trim_end_matches('&'))).await.json();
            calls.extend(page["calls"].as_array().unwrap().iter().cloned());
            match page["next"].as_u64() {
                Some(next) => after = next,
                None => return calls,
            }
        }
    }

    /// Sets the sandbox's faults (a JSON array of rules).
    pub async fn faults(&self, rules: &Value) {
        let request = self.client.put(format!("{}/_sandbox/faults", self.sandbox)).body(rules.to_string());
        let reply = self.send(request).await;
        assert!(reply.status < 300, "{reply:?}");
    }

    /// The conservation count.
    pub async fn ledger(&self) -> Value {
        self.private("/api/stats").await.json()["ledger"].clone()
    }

    /// Waits until nothing waits any more and `accepted` events have been accepted.
    pub async fn settled(&self, accepted: u64) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stats = self.private("/api/stats").await.json();
            if stats["waiting_total"] == 0 && stats["ledger"]["accepted"].as_u64().unwrap() >= accepted {
                return stats["ledger"].clone();
            }
            assert!(Instant::now() < deadline, "not settled: {stats}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks a private route until its answer is as wanted.
    pub async fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let reply = self.private(path).await;
            if let Ok(answer) = serde_json::from_str(&reply.body)
                && wanted(&answer)
            {
                return answer;
            }
            assert!(Instant::now() < deadline, "{path} stays at {reply:?}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Asks for an event until it is in this state.
    pub async fn state(&self, number: u64, state: &str) -> Value {
        self.until(&format!("/api/events/{number}"), |record| record["state"] == state).await
    }

    /// Waits until no event is in flight: until then the scheduler has not heard of every result that is on disk.
    pub async fn quiet(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.metric("wigzo_destination_in_flight").await != 0 {
            assert!(Instant::now() < deadline, "never quiet\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The value of a metric's series, named with its labels.
    pub async fn metric(&self, series: &str) -> u64 {
        let metrics = self.private("/metrics").await.body;
        metric(&metrics, series).unwrap_or_else(|| panic!("no {series} in\n{metrics}"))
    }

    /// Everything that the service has logged.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Sends a signal by name, such as `TERM`.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().expect("the service has ended already").to_string();
        let sent = std::process::Command::new("kill").args(["-s", signal, &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the process to end.
    pub async fn ended(&mut self) -> ExitStatus {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ended.unwrap_or_else(|_| panic!("the service did not end\n{}", self.log())).unwrap()
    }

    /// Ends the service in order; fails if it does not end with 0.
    pub async fn end(mut self) {
        self.signal("INT");
        let status = self.ended().await;
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    /// Kills the service where it stands, and says how to start it again on the same directory.
    pub async fn kill(mut self) -> Arc<tempfile::TempDir> {
        self.child.kill().await.unwrap();
        Arc::clone(&self.directory)
    }
}

// === the wire and the process ===

impl Service {
    /// A request, byte for byte.
    pub async fn wire(&self, request: &Request) -> Reply {
        self.bytes(&request.bytes()).await
    }

    /// Bytes to the public side, and the reply to them.
    pub async fn bytes(&self, bytes: &[u8]) -> Reply {
        wire::exchange(&self.public, bytes).await
    }

    /// A look at the public side with a connection of its own.
    pub async fn get(&self, path: &str) -> Reply {
        self.wire(&Request::new("GET", path)).await
    }

    /// The text of the calls that the sandbox has seen, byte for byte.
    pub async fn calls_text(&self) -> String {
        self.send(self.client.get(format!("{}/_sandbox/calls?limit=10000", self.sandbox))).await.body
    }

    /// The number of the process.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("the service has ended already")
    }

    /// The most memory that the process has ever had, in MiB.
    pub fn peak_memory_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line VmHWM");
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    /// Waits for a condition; fails with the log when it does not come true.
    pub async fn eventually<F: Future<Output = bool>>(&self, what: &str, mut condition: impl FnMut() -> F) {
        let deadline = Instant::now() + PATIENCE;
        while !condition().await {
            assert!(Instant::now() < deadline, "still not: {what}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Setup {
    /// A service without the sandbox.
    pub fn plain() -> Self {
        Self { flags: Vec::new(), ..Service::sandbox() }
    }

    /// Adds configuration (TOML).
    pub fn config(mut self, toml: &str) -> Self {
        self.config.push_str(toml);
        self.config.push('\n');
        self
    }

    /// Uses this configuration file, and no queue directory but the one that it names.
    pub fn config_file(mut self, file: PathBuf) -> Self {
        self.config_file = Some(file);
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Logs what is wrong and nothing else: tens of thousands of lines help nobody.
    pub fn terse(self) -> Self {
        // The harness reads the addresses in the greeting.
        self.env("WIGZO__TELEMETRY__LOG", "warn,wigzo_destination::cli=info")
    }

    /// Starts on the directory of an earlier service.
    pub fn on(mut self, directory: Arc<tempfile::TempDir>) -> Self {
        self.directory = Some(directory);
        self
    }

    /// Starts the service and waits until it serves.
    pub async fn start(mut self) -> Service {
        let stand_in = self.stand_in.take();
        let (mut child, directory, config) = self.spawn();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (found, mut serving) = watch::channel(None);
        let stderr = child.stderr.take().unwrap();
        tokio::spawn({
            let log = Arc::clone(&log);
            async move {
                let mut lines = BufReader::new(stderr).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    if let Ok(line) = serde_json::from_str::<Value>(&line)
                        && line["message"] == "serving"
                    {
                        found.send_replace(Some(line));
                    }
                    log.lock().unwrap().push(line);
                }
            }
        });
        let ready = tokio::time::timeout(PATIENCE, serving.wait_for(Option::is_some)).await;
        let Ok(Ok(line)) = ready.map(|ready| ready.map(|line| line.clone().unwrap())) else {
            panic!("the service did not start on {}\n{}", config.display(), log.lock().unwrap().join("\n"));
        };
        let url = |key: &str| format!("http://{}", line[key].as_str().unwrap());
        let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        Service {
            public: url("public"),
            private: url("private"),
            sandbox: stand_in.unwrap_or_else(|| url("sandbox")),
            directory,
            child,
            log,
            client,
        }
    }

    /// Starts the service and kills it after this long, wherever it is by then.
    pub async fn start_and_kill(self, after: Duration) -> Arc<tempfile::TempDir> {
        let (mut child, directory, _) = self.spawn();
        tokio::time::sleep(after).await;
        child.kill().await.unwrap();
        directory
    }

    /// Starts a service that is expected to refuse: its exit code and what it said.
    pub async fn refused(self) -> (Option<i32>, String) {
        let (child, _directory, _) = self.spawn();
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn spawn(self) -> (Child, Arc<tempfile::TempDir>, PathBuf) {
        let directory = self.directory.unwrap_or_else(|| Arc::new(tempfile::tempdir().unwrap()));
        let mut command = program(directory.path());
        let config = self.config_file.unwrap_or_else(|| {
            let config = directory.path().join("config.toml");
            std::fs::write(&config, &self.config).unwrap();
            command
                .env("WIGZO__QUEUE__PATH", directory.path().join("queue"))
                .env("WIGZO__SANDBOX__QUEUE_PATH", directory.path().join("queue"));
            config
        });
        let child = command
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .args(&self.flags)
            .env("WIGZO__INGRESS__LISTEN", "127.0.0.1:0")
            .env("WIGZO__ADMIN__LISTEN", "127.0.0.1:0")
            .env("WIGZO__SANDBOX__LISTEN", "127.0.0.1:0")
            .env("WIGZO__TELEMETRY__LOG_FORMAT", "json")
            .envs(&self.env)
            .spawn()
            .unwrap();
        (child, directory, config)
    }
}

/// The value of a series in the text of `/metrics`.
pub fn metric(metrics: &str, series: &str) -> Option<u64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    line.parse().ok()
}

/// The program under test, with pipes, in a directory.
pub fn program(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wigzo-destination"));
    command
        .current_dir(directory)
        // No configuration of whoever runs the tests is found.
        .env("HOME", directory)
        .env_remove("XDG_CONFIG_HOME")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}
