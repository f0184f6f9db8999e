//! What the facts about a machine mean: pure, so that every finding has its row in a table of tests.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Serialize;
use url::{Host, Url};

use super::tokens::Oddity;
use crate::cli::plural::count;
use crate::clock::UnixMillis;

/// Everything that is known of the machine.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// What `check` would say; empty if the configuration is good.
    pub(super) problems: Vec<String>,
    /// How many organizations are configured.
    pub(super) organizations: usize,
    /// What is odd about the tokens of organizations, by their names.
    pub(super) odd_tokens: Vec<(String, Oddity)>,
    /// Files with secrets that every user of the machine may read.
    pub(super) exposed_files: Vec<PathBuf>,
    pub(super) disk: Disk,
    /// The most file descriptors that this process may open; `None`: as many as it likes.
    pub(super) open_files: Option<u64>,
    /// How many the configuration may need.
    pub(super) wanted_files: u64,
    pub(super) ports: Vec<Port>,
    /// What the running service says; `None` if none runs, or nobody was to be asked.
    pub(super) service: Option<Running>,
    pub(super) now: UnixMillis,
    /// When the newest file of the queue was written.
    pub(super) newest_file: Option<UnixMillis>,
    /// Where calls go; `None` if nobody was to be asked.
    pub(super) hosts: Option<Vec<WigzoHost>>,
}

/// The queue's directory and what it lies on.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    /// `queue.path`.
    pub(super) path: PathBuf,
    /// Whether another process holds the lock.
    pub(super) in_use: bool,
    /// How long it takes to bring a page to the disk, in the middle of several tries; or why it cannot be written.
    pub(super) sync: Result<Duration, String>,
    /// Bytes that this user may still write.
    pub(super) free: Option<u64>,
    /// Bytes that the directory holds already.
    pub(super) used: u64,
    /// `queue.max_disk`, in bytes.
    pub(super) limit: u64,
    /// Its file system, as the mount table calls it.
    pub(super) file_system: Option<String>,
}

/// An address that the service wants to listen on.
#[derive(Debug, Clone)]
pub(super) struct Port {
    pub(super) key: &'static str,
    pub(super) address: SocketAddr,
    pub(super) free: Result<(), ErrorKind>,
}

/// A `base_url`, and how far one gets there.
#[derive(Debug, Clone)]
pub(super) struct WigzoHost {
    pub(super) url: Url,
    pub(super) reach: Reach,
}

/// How far a connection came.
#[derive(Debug, Clone)]
pub(super) enum Reach {
    /// To its end, the TLS handshake included if the address has one.
    Connected(Duration),
    /// The name has no address.
    NoName(String),
    /// No address of it takes a connection.
    NoConnection(String),
    /// The connection is there, but not its encryption.
    NoTls(String),
}

/// A service that runs on the queue's directory.
#[derive(Debug, Clone)]
pub(super) enum Running {
    /// Its admin API could not be asked.
    Silent(String),
    /// It has answered.
    Answers {
        /// Why `/readyz` is not 200, if so.
        not_ready: Option<String>,
        /// Events that wait.
        waiting: u64,
        /// Dead letters that nobody has decided about.
        dead_letters: u64,
        /// Bytes of disk that its queue takes.
        used: u64,
        /// Organizations whose events are not sent, and why.
        stopped: Vec<(String, String)>,
    },
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What was looked at.
    pub(super) check: &'static str,
    pub(super) level: Level,
    /// What was seen.
    pub(super) message: String,
    /// What to do about it, if something is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// It works, and will not always.
    Warning,
    /// It does not work.
    Broken,
}

impl Level {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Broken => "broken",
        }
    }
}

/// The check that the exit code tells apart.
pub(super) const CONFIGURATION: &str = "configuration";

/// A sync that takes longer makes replies slow: each waits for one at least.
const SLOW_SYNC: Duration = Duration::from_millis(20);

/// Less room than this, and the first events would fill it.
const LEAST_ROOM: u64 = 64 << 20;

/// How much later than now a file may have been written: clocks of containers and file servers differ a little.
const CLOCK_TOLERANCE: Duration = Duration::from_mins(1);

/// 2026-01-01: this program did not exist before.
const FIRST_DAY: UnixMillis = UnixMillis(1_767_225_600_000);

/// Decides what the facts mean, in the order in which somebody would repair them.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = configuration(&facts.problems, facts.organizations);
    findings.extend(facts.odd_tokens.iter().map(|(organization, oddity)| {
        let (what, remedy) = oddity.said();
        warning("tokens", format!("the organization token of {organization} {what}"), remedy.to_owned())
    }));
    if facts.odd_tokens.is_empty() && facts.problems.is_empty() && facts.organizations > 0 {
        findings.push(ok("tokens", "the organization tokens look like tokens of Wigzo's".to_owned()));
    }
    findings.extend(facts.exposed_files.iter().map(|file| {
        let message = format!("{} can be read by every user of this machine", file.display());
        warning("secrets", message, format!("chmod 600 {}, or hand it over as a credential", file.display()))
    }));
    findings.extend(disk(&facts.disk));
    findings.extend(open_files(facts.open_files, facts.wanted_files));
    findings.extend(facts.ports.iter().map(|it| port(it, facts.disk.in_use)));
    findings.extend(facts.service.iter().flat_map(|it| service(it, facts.disk.limit)));
    findings.push(clock(facts.now, facts.newest_file));
    match &facts.hosts {
        Some(hosts) => findings.extend(hosts.iter().flat_map(host)),
        None => findings.push(ok("wigzo", "not asked (--offline)".to_owned())),
    }
    findings
}

/// What is wrong with the configuration, or that nothing is.
pub(super) fn configuration(problems: &[String], organizations: usize) -> Vec<Finding> {
    if problems.is_empty() {
        return vec![ok(CONFIGURATION, format!("good, {}", count(organizations, "organization")))];
    }
    // A problem says what would be right.
    let finding = |it: &String| Finding {
        check: CONFIGURATION,
        level: Level::Broken,
        message: it.clone(),
        remedy: None,
    };
    problems.iter().map(finding).collect()
}

fn disk(disk: &Disk) -> Vec<Finding> {
    const CHECK: &str = "disk";
    let path = disk.path.display();
    let mut findings = Vec::new();
    match &disk.sync {
        Err(error) => {
            let remedy = "let this user own the directory, or set another `queue.path`".to_owned();
            findings.push(broken(CHECK, format!("{path} cannot be written: {error}"), remedy));
        }
        Ok(took) if *took > SLOW_SYNC => {
            let message = format!("{path}: a sync takes {}", printed(*took));
            let remedy = "every reply waits for one; a local SSD needs a few milliseconds".to_owned();
            findings.push(warning(CHECK, message, remedy));
        }
        Ok(took) => {
            let used = if disk.in_use { "in use by a running service, " } else { "" };
            findings.push(ok(CHECK, format!("{path}: {used}a sync takes {}", printed(*took))));
        }
    }
    let (bytes, limit) = (|bytes| ByteSize::b(bytes).to_string(), ByteSize::b(disk.limit));
    match disk.free {
        Some(free) if free < LEAST_ROOM => {
            let message = format!("{path}: {} are free", bytes(free));
            findings.push(broken(CHECK, message, "make room, or set another `queue.path`".to_owned()));
        }
        Some(free) if free.saturating_add(disk.used) < disk.limit => {
            let message = format!("{path}: {} are free, and `queue.max_disk` is {limit}", bytes(free));
            let remedy =
                "lower `queue.max_disk`, so that senders are told before the disk is full".to_owned();
            findings.push(warning(CHECK, message, remedy));
        }
        Some(free) => findings.push(ok(CHECK, format!("{path}: {} are free", bytes(free)))),
        None => {}
    }
    if let Some((message, remedy)) = disk.file_system.as_deref().and_then(unfit) {
        let kind = disk.file_system.as_deref().unwrap_or_default();
        findings.push(warning(CHECK, format!("{path} is on {kind}: {message}"), remedy.to_owned()));
    }
    findings
}

/// Why a file system is no place for a queue, and what to do.
fn unfit(file_system: &str) -> Option<(&'static str, &'static str)> {
    match file_system {
        "tmpfs" | "ramfs" => Some((
            "a restart of the machine loses what was acknowledged",
            "set `queue.path` to a directory on a disk",
        )),
        "overlay" => Some((
            "removing the container loses what was acknowledged",
            "mount a volume, and set `queue.path` to it",
        )),
        "nfs" | "nfs4" | "cifs" | "smb3" | "9p" | "ceph" => Some((
            "locks and syncs over a network are not always what they promise to be",
            "set `queue.path` to a directory on a local disk",
        )),
        other if other.starts_with("fuse") => Some((
            "whether a sync reaches a disk depends on what is behind it",
            "set `queue.path` to a directory on a local disk",
        )),
        _ => None,
    }
}

fn open_files(limit: Option<u64>, wanted: u64) -> Option<Finding> {
    const CHECK: &str = "open files";
    let limit = limit?;
    Some(if limit < wanted {
        let message = format!("{limit} may be open, and connections and calls may need {wanted}");
        let remedy = "raise it (`LimitNOFILE=`, `ulimit -n`), or lower `ingress.max_connections`".to_owned();
        warning(CHECK, message, remedy)
    } else {
        ok(CHECK, format!("{limit} may be open, {wanted} may be needed"))
    })
}

fn port(port: &Port, service_runs: bool) -> Finding {
    const CHECK: &str = "ports";
    let Port { key, address, free } = port;
    match free {
        Ok(()) => ok(CHECK, format!("{address} is free for `{key}`")),
        Err(ErrorKind::AddrInUse) if service_runs => {
            ok(CHECK, format!("{address} is taken, as it should be while the service runs"))
        }
        Err(ErrorKind::AddrInUse) => {
            let remedy = format!("stop what listens there, or set another `{key}`");
            broken(CHECK, format!("{address} is taken"), remedy)
        }
        Err(ErrorKind::PermissionDenied) => {
            let remedy = format!("set `{key}` to a port from 1024 on, with a proxy in front");
            broken(CHECK, format!("this user may not listen on {address}"), remedy)
        }
        Err(ErrorKind::AddrNotAvailable) => {
            let remedy = format!("set `{key}` to an address of this machine, or to 0.0.0.0");
            broken(CHECK, format!("{address} is no address of this machine"), remedy)
        }
        Err(error) => {
            broken(CHECK, format!("{address} cannot be listened on: {error}"), format!("set another `{key}`"))
        }
    }
}

/// A queue that is fuller than this will soon refuse requests.
const FULL_PERCENT: u64 = 80;

fn service(running: &Running, limit: u64) -> Vec<Finding> {
    const CHECK: &str = "service";
    let (not_ready, waiting, dead_letters, used, stopped) = match running {
        Running::Silent(error) => {
            let remedy =
                "a process holds the queue's directory: check `admin.listen`, `admin.token_file` and its log";
            return vec![broken(CHECK, error.clone(), remedy.to_owned())];
        }
        Running::Answers { not_ready, waiting, dead_letters, used, stopped } => {
            (not_ready, waiting, dead_letters, *used, stopped)
        }
    };
    let mut findings = Vec::new();
    match not_ready {
        Some(why) => {
            let remedy = "look into its log, and into docs/runbook.md".to_owned();
            findings.push(broken(CHECK, format!("it runs, and /readyz says: {why}"), remedy));
        }
        None => findings.push(ok(
            CHECK,
            format!("it runs and is ready; events waiting: {waiting}, dead letters: {dead_letters}"),
        )),
    }
    let percent = used.saturating_mul(100) / limit.max(1);
    if percent >= FULL_PERCENT {
        let message = format!("the queue takes {percent} % of `queue.max_disk`; at 100 % requests get 429");
        findings.push(warning(
            CHECK,
            message,
            "raise `queue.max_disk`, or see what does not go out".to_owned(),
        ));
    }
    findings.extend(stopped.iter().map(|(organization, why)| {
        let remedy = format!("correct it, then: wigzo-destination delivery resume {organization}");
        warning(CHECK, format!("events of {organization} are not sent: {why}"), remedy)
    }));
    findings
}

fn clock(now: UnixMillis, newest_file: Option<UnixMillis>) -> Finding {
    const CHECK: &str = "clock";
    let remedy = || "set the clock, and keep it right by NTP".to_owned();
    if now < FIRST_DAY {
        return broken(CHECK, format!("it is said to be {now}"), remedy());
    }
    match newest_file {
        Some(newest) if newest > now.plus(CLOCK_TOLERANCE) => {
            let message = format!("it is said to be {now}, and the queue was written at {newest}");
            warning(CHECK, message, remedy())
        }
        _ => ok(CHECK, format!("it is {now}")),
    }
}

fn host(host: &WigzoHost) -> Vec<Finding> {
    const CHECK: &str = "wigzo";
    let url = host.url.as_str().trim_end_matches('/');
    let encrypted = host.url.scheme() == "https";
    let mut findings = vec![match &host.reach {
        Reach::Connected(took) => {
            let how = if encrypted { "TLS included" } else { "without TLS" };
            ok(CHECK, format!("{url}: connected in {}, {how}", printed(*took)))
        }
        Reach::NoName(error) => {
            let remedy = "check `base_url` and this machine's name servers".to_owned();
            broken(CHECK, format!("{url}: its name has no address: {error}"), remedy)
        }
        Reach::NoConnection(error) => {
            let remedy =
                "check `base_url`, the firewall and whether Wigzo is up; no proxy is used".to_owned();
            broken(CHECK, format!("{url}: no connection: {error}"), remedy)
        }
        Reach::NoTls(error) => {
            let remedy = "check `base_url`, the clock, and that the system's certificates are installed \
                          (Debian: ca-certificates)";
            broken(CHECK, format!("{url}: no TLS: {error}"), remedy.to_owned())
        }
    }];
    if !encrypted && !is_loopback(&host.url) {
        let message = format!("{url}: tokens and personal data travel unencrypted");
        findings.push(warning(CHECK, message, "set `base_url` to https".to_owned()));
    }
    findings
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Milliseconds with one digit after the point: what syncs and connections are measured in.
fn printed(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1_000.0)
}

fn ok(check: &'static str, message: String) -> Finding {
    Finding { check, level: Level::Ok, message, remedy: None }
}

fn warning(check: &'static str, message: String, remedy: String) -> Finding {
    Finding { check, level: Level::Warning, message, remedy: Some(remedy) }
}

fn broken(check: &'static str, message: String, remedy: String) -> Finding {
    Finding { check, level: Level::Broken, message, remedy: Some(remedy) }
}

#[cfg(test)]
mod tests;
