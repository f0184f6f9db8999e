//! Gathers the facts: the part of `doctor` that touches the machine. It decides nothing.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use rustls_platform_verifier::BuilderVerifierExt;
use serde_json::{Value, json};
use url::Url;

use super::super::connection::{Connection, read_json};
use super::super::delivery::why_stopped;
use super::super::{Failure, in_runtime, reachable};
use super::judge::{Disk, Facts, Port, Reach, Running, WigzoHost};
use super::tokens;
use crate::clock::{Clock, UnixMillis};
use crate::organization::BaseUrl;
use crate::settings::Settings;

/// Descriptors besides connections and calls: files, the runtime's own.
const OTHER_FILES: u64 = 100;

/// How often a page is brought to the disk; the one in the middle counts.
const SYNCS: usize = 9;

/// How long a handshake may take once there is a connection.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Looks at everything that the settings speak of.
pub(super) fn gather(settings: &Settings, offline: bool) -> Facts {
    let (problems, odd_tokens) = match settings.clone().check(false) {
        Ok(checked) => (Vec::new(), tokens::oddities(&checked.organizations)),
        Err(problems) => (super::lines(&problems), Vec::new()),
    };
    let wanted = settings.ingress.max_connections.saturating_add(settings.delivery.max_in_flight) as u64;
    let disk = disk(settings);
    let service = (disk.in_use && !offline).then(|| running(settings));
    Facts {
        problems,
        odd_tokens,
        organizations: settings.organizations.len(),
        exposed_files: secret_files(settings).into_iter().filter(|file| readable_by_all(file)).collect(),
        disk,
        service,
        open_files: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
        wanted_files: wanted.saturating_add(OTHER_FILES),
        ports: ports(settings),
        now: Clock::system().now(),
        newest_file: newest_file(&settings.queue.path),
        hosts: (!offline).then(|| hosts(settings)),
    }
}

// === secrets ===

fn secret_files(settings: &Settings) -> Vec<PathBuf> {
    let organizations = settings.organizations.values().flat_map(|it| {
        [&it.org_token_file, &it.token_file, &it.source_keys_file, &it.shared_secrets_file]
            .into_iter()
            .flatten()
    });
    organizations
        .chain([&settings.admin.token_file, &settings.admin.tokens_file])
        .filter(|it| !it.is_empty())
        .map(PathBuf::from)
        .collect()
}

/// What a container engine mounts for one container is for all users of that container, of whom there is one.
const MOUNTED_SECRETS: &str = "/run/secrets";

fn readable_by_all(file: &Path) -> bool {
    !file.starts_with(MOUNTED_SECRETS) && fs::metadata(file).is_ok_and(|it| it.mode() & 0o004 != 0)
}

// === disk ===

fn disk(settings: &Settings) -> Disk {
    let path = &settings.queue.path;
    // What does not exist yet will be made in the nearest directory above that does.
    let existing = absolute(path).ancestors().find(|it| it.exists()).map(Path::to_owned).unwrap_or_default();
    Disk {
        path: path.clone(),
        in_use: is_locked(&path.join("lock")),
        sync: sync(&existing).map_err(|error| error.to_string()),
        free: rustix::fs::statvfs(&existing).ok().map(|it| it.f_bavail.saturating_mul(it.f_frsize)),
        used: files(path).map(|(_, metadata)| metadata.blocks().saturating_mul(512)).sum(),
        limit: settings.queue.max_disk.as_u64(),
        file_system: fs::read_to_string("/proc/self/mounts").ok().and_then(|mounts| {
            file_system(&mounts, &existing.canonicalize().unwrap_or(existing.clone())).map(str::to_owned)
        }),
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// How long it takes to bring a page to the disk.
fn sync(directory: &Path) -> io::Result<Duration> {
    let path = directory.join(format!(".wigzo-destination-doctor-{}", std::process::id()));
    let measured = File::options().write(true).create_new(true).open(&path).and_then(|mut file| {
        let mut took = Vec::with_capacity(SYNCS);
        for _ in 0..SYNCS {
            let began = Instant::now();
            file.write_all(&[0x5a; 4096])?;
            file.sync_data()?;
            took.push(began.elapsed());
        }
        took.sort_unstable();
        Ok(took.get(SYNCS / 2).copied().unwrap_or_default())
    });
    // If it was never made there is nothing to remove.
    let _ = fs::remove_file(&path);
    measured
}

/// Whether a running service holds the directory. A lock file that cannot be opened is nobody's.
fn is_locked(lock: &Path) -> bool {
    File::options()
        .append(true)
        .open(lock)
        .is_ok_and(|file| matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)))
}

fn files(directory: &Path) -> impl Iterator<Item = (PathBuf, fs::Metadata)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
}

fn newest_file(directory: &Path) -> Option<UnixMillis> {
    let written = files(directory).filter_map(|(_, metadata)| metadata.modified().ok()).max()?;
    Some(UnixMillis(0).plus(written.duration_since(UNIX_EPOCH).ok()?))
}

/// The type of the file system that holds `path`, from the text of the mount table (proc(5)).
fn file_system<'a>(mounts: &'a str, path: &Path) -> Option<&'a str> {
    let mount = |line: &'a str| {
        let mut fields = line.split(' ').skip(1);
        let (point, kind) = (fields.next()?, fields.next()?);
        // A blank in a path is written as an octal number.
        let point = PathBuf::from(point.replace("\\040", " "));
        path.starts_with(&point).then(|| (point.components().count(), kind))
    };
    // Of two mounts on one point the later one is seen; `max_by_key` takes the last of equals.
    mounts.lines().filter_map(mount).max_by_key(|(depth, _)| *depth).map(|(_, kind)| kind)
}

// === the running service ===

/// How long the running service may take for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Organizations that are listed with why their events are not sent.
const LISTED: usize = 20;

fn running(settings: &Settings) -> Running {
    ask_service(settings).unwrap_or_else(|failure| Running::Silent(failure.message))
}

fn ask_service(settings: &Settings) -> Result<Running, Failure> {
    let (probe, stats) = in_runtime(async {
        let service = Connection::to_service_of(settings, PATIENCE)?;
        let stats = read_json(service.get("/api/stats", &json!({})).await?).await?;
        let listen = reachable(settings.ingress.listen);
        let probe = tokio::task::spawn_blocking(move || super::super::ask(listen, "/readyz")).await;
        Ok((probe, stats))
    })?;
    let not_ready = match probe {
        Ok(Ok(answer)) if answer.split(' ').nth(1) == Some("200") => None,
        Ok(Ok(answer)) => {
            Some(answer.split_once("\r\n\r\n").map_or(answer.clone(), |(_, body)| body.to_owned()))
        }
        Ok(Err(error)) => Some(format!("{}: {error}", reachable(settings.ingress.listen))),
        Err(error) => Some(error.to_string()),
    };
    let sum = |key: &str| {
        let counts = stats.get(key).and_then(Value::as_object).into_iter().flatten();
        counts.filter_map(|(_, count)| count.as_u64()).sum()
    };
    let of = |key: &str| stats.get(key).and_then(Value::as_u64).unwrap_or_default();
    let delivery = stats.get("delivery").and_then(Value::as_array).into_iter().flatten();
    let stopped = delivery.filter_map(|it| {
        let standing = it.get("state")?.as_str()?;
        let name = it.get("organization")?.as_str()?;
        (!matches!(standing, "open" | "disabled")).then(|| (name.to_owned(), why_stopped(it)))
    });
    Ok(Running::Answers {
        not_ready,
        waiting: of("waiting_total"),
        dead_letters: sum("dead_letters"),
        used: of("disk_bytes"),
        stopped: stopped.take(LISTED).collect(),
    })
}

// === network ===

fn ports(settings: &Settings) -> Vec<Port> {
    let wanted = [("ingress.listen", settings.ingress.listen), ("admin.listen", settings.admin.listen)];
    // Held until both are bound: the two must not be the same.
    let bound: Vec<_> = wanted.iter().map(|(_, address)| TcpListener::bind(address)).collect();
    let free = bound.iter().map(|it| it.as_ref().map(|_| ()).map_err(io::Error::kind));
    wanted.into_iter().zip(free).map(|((key, address), free)| Port { key, address, free }).collect()
}

/// Each address once: most organizations share one.
fn hosts(settings: &Settings) -> Vec<WigzoHost> {
    let default = &settings.organization_defaults.base_url;
    let configured = settings.organizations.values().map(|it| it.base_url.as_ref().unwrap_or(default));
    // Whoever comes in partner mode gets the defaults.
    let partners = settings.ingress.partner_mode.then_some(default);
    let all: BTreeSet<&Url> = configured.chain(partners).map(BaseUrl::url).collect();
    let timeout = settings.delivery.connect_timeout.0;
    all.into_iter().map(|url| WigzoHost { url: url.clone(), reach: reach(url, timeout) }).collect()
}

/// Connects as a call would, and asks for nothing.
fn reach(url: &Url, timeout: Duration) -> Reach {
    let began = Instant::now();
    let addresses = match url.socket_addrs(|| None) {
        Ok(addresses) if !addresses.is_empty() => addresses,
        Ok(_) => return Reach::NoName("it is known and has none".to_owned()),
        Err(error) => return Reach::NoName(error.to_string()),
    };
    let stream = match connect(&addresses, timeout) {
        Ok(stream) => stream,
        Err(error) => return Reach::NoConnection(error.to_string()),
    };
    if url.scheme() == "https"
        && let Err(error) = handshake(url.host_str().unwrap_or_default(), stream)
    {
        return Reach::NoTls(error);
    }
    Reach::Connected(began.elapsed())
}

/// The first address that takes a connection, else the error of the last.
fn connect(addresses: &[SocketAddr], timeout: Duration) -> io::Result<TcpStream> {
    let mut last = io::ErrorKind::AddrNotAvailable.into();
    for address in addresses {
        match TcpStream::connect_timeout(address, timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A TLS handshake that trusts whom the service's calls trust: the system's certificates.
fn handshake(host: &str, mut stream: TcpStream) -> Result<(), String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(BuilderVerifierExt::with_platform_verifier)
        .map_err(|error| text(&error))?
        .with_no_client_auth();
    let name =
        ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(|error| text(&error))?;
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(|error| text(&error))?;
    stream
        .set_read_timeout(Some(HANDSHAKE))
        .and_then(|()| stream.set_write_timeout(Some(HANDSHAKE)))
        .map_err(|error| text(&error))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).map_err(|error| text(&error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_system_of_a_path_is_that_of_its_nearest_mount() {
        let mounts = "overlay / overlay rw 0 0\n/dev/sda1 /var ext4 rw 0 0\ntmpfs /var/run tmpfs rw 0 0\n\
                      /dev/sdb1 /my\\040disk xfs rw 0 0\n/dev/sdc1 /twice ext4 rw 0 0\ntmpfs /twice tmpfs rw 0 0\n";
        for (path, expected) in [
            ("/data", "overlay"),
            ("/var/lib/wigzo-destination", "ext4"),
            ("/var/run/x", "tmpfs"),
            ("/variety", "overlay"),
            ("/my disk/queue", "xfs"),
            ("/twice/queue", "tmpfs"),
        ] {
            assert_eq!(file_system(mounts, Path::new(path)), Some(expected), "{path}");
        }
        assert_eq!(file_system("", Path::new("/data")), None);
    }

    #[test]
    fn a_probe_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        assert!(sync(directory.path()).unwrap() > Duration::ZERO);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        assert!(sync(&directory.path().join("missing")).is_err());
    }
}
