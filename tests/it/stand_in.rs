//! The stand-in for Wigzo as a process of its own: it outlives the services that call it.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

use crate::service::{PATIENCE, program};

/// A running stand-in; it ends when it is dropped.
pub struct StandIn {
    pub url: String,
    _child: Child,
    _directory: tempfile::TempDir,
}

impl StandIn {
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut child = program(directory.path())
            .arg("sandbox")
            .env("WIGZO__SANDBOX__LISTEN", "127.0.0.1:0")
            .env("WIGZO__TELEMETRY__LOG_FORMAT", "json")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let ready = async {
            let mut seen = Vec::new();
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Ok(line) = serde_json::from_str::<Value>(&line)
                    && let Some(address) = line["sandbox"].as_str()
                {
                    return format!("http://{address}");
                }
                seen.push(line);
            }
            panic!("the stand-in ended: {seen:#?}");
        };
        let url = tokio::time::timeout(PATIENCE, ready).await.expect("the stand-in does not start");
        // Nobody looks at the rest; a full pipe would stop the process.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { url, _child: child, _directory: directory }
    }
}
