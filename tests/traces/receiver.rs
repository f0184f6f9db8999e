//! A real OTLP receiver for a test: Python, with the official protobuf definitions, in a process of its own.

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

use crate::install::Packages;
use crate::service::PATIENCE;

const PACKAGES: Packages = Packages::Pip(&["opentelemetry-proto==1.45.2", "grpcio==1.85.3"]);

/// A running receiver; it ends with the test.
pub struct Receiver {
    pub http: String,
    #[cfg_attr(not(feature = "otlp-grpc"), expect(dead_code, reason = "the program under test has no gRPC"))]
    pub grpc: String,
    lines: Arc<Mutex<Vec<Value>>>,
    _child: Child,
}

impl Receiver {
    /// Starts one on free ports, or says why there can be none here.
    pub async fn start() -> Result<Self, String> {
        Self::at(None).await
    }

    /// The same on this port for HTTP.
    pub async fn at(port: Option<u16>) -> Result<Self, String> {
        let folder = PACKAGES.install().await?;
        let mut command = Command::new("python3");
        command
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/traces/receiver.py"))
            .args(port.map(|port| port.to_string()))
            .env("PYTHONPATH", &folder)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| format!("python3 could not be run: {error}"))?;
        let mut read = BufReader::new(child.stdout.take().unwrap()).lines();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (listening, listens) = oneshot::channel();
        tokio::spawn({
            let lines = Arc::clone(&lines);
            async move {
                let mut listening = Some(listening);
                while let Ok(Some(line)) = read.next_line().await {
                    let line: Value = serde_json::from_str(&line).unwrap();
                    match listening.take() {
                        Some(listening) => drop(listening.send(line)),
                        None => lines.lock().unwrap().push(line),
                    }
                }
            }
        });
        let addresses = tokio::time::timeout(PATIENCE, listens).await;
        let addresses: Value =
            addresses.expect("it listens in time").map_err(|_| "the receiver ended".to_owned())?;
        let address = |way: &str| addresses[way].as_str().unwrap().to_owned();
        Ok(Self { http: address("http"), grpc: address("grpc"), lines, _child: child })
    }

    /// The spans that have come so far.
    pub fn spans(&self) -> Vec<Value> {
        self.lines.lock().unwrap().clone()
    }

    /// The spans, once there are so many of a name.
    pub async fn until(&self, name: &str, count: usize) -> Vec<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let spans = self.spans();
            if spans.iter().filter(|span| span["name"] == name).count() >= count {
                return spans;
            }
            assert!(Instant::now() < deadline, "not {count} spans {name}: {spans:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
