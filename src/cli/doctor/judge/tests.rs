//! Every finding once: one fact of a healthy machine is changed, and what is said about it.

use super::*;

fn healthy() -> Facts {
    Facts {
        problems: Vec::new(),
        organizations: 2,
        odd_tokens: Vec::new(),
        exposed_files: Vec::new(),
        disk: Disk {
            path: "data".into(),
            in_use: false,
            sync: Ok(Duration::from_micros(1_500)),
            free: Some(20 << 30),
            used: 0,
            limit: 10 << 30,
            file_system: Some("ext4".to_owned()),
        },
        open_files: Some(65_536),
        wanted_files: 5_220,
        ports: vec![port_of(Ok(()))],
        service: None,
        now: UnixMillis(1_790_000_000_000),
        newest_file: None,
        hosts: Some(vec![host_of("https://wigzo.example", Reach::Connected(Duration::from_millis(42)))]),
    }
}

fn port_of(free: Result<(), ErrorKind>) -> Port {
    Port { key: "ingress.listen", address: "127.0.0.1:8080".parse().unwrap(), free }
}

fn host_of(url: &str, reach: Reach) -> WigzoHost {
    WigzoHost { url: url.parse().unwrap(), reach }
}

#[test]
fn a_healthy_machine_is_said_to_be_healthy() {
    let said: Vec<_> = judge(&healthy())
        .into_iter()
        .map(|it| format!("{} {}: {}", it.level.as_str(), it.check, it.message))
        .collect();
    assert_eq!(
        said,
        [
            "ok configuration: good, 2 organizations",
            "ok tokens: the organization tokens look like tokens of Wigzo's",
            "ok disk: data: a sync takes 1.5 ms",
            "ok disk: data: 20.0 GiB are free",
            "ok open files: 65536 may be open, 5220 may be needed",
            "ok ports: 127.0.0.1:8080 is free for `ingress.listen`",
            "ok clock: it is 2026-09-21T14:13:20.000Z",
            "ok wigzo: https://wigzo.example: connected in 42.0 ms, TLS included",
        ]
    );
}

/// What is changed | how bad it is, where, what is said
type Row = (fn(&mut Facts), Level, &'static str, &'static str);

fn running(not_ready: Option<&str>, used: u64, stopped: &[(&str, &str)]) -> Running {
    Running::Answers {
        not_ready: not_ready.map(str::to_owned),
        waiting: 3,
        dead_letters: 1,
        used,
        stopped: stopped.iter().map(|(name, why)| ((*name).to_owned(), (*why).to_owned())).collect(),
    }
}

const ROWS: &[Row] = &[
    (
        |it| it.service = Some(Running::Silent("http://127.0.0.1:9090/: refused".to_owned())),
        Level::Broken,
        "service",
        "http://127.0.0.1:9090/: refused",
    ),
    (
        |it| it.service = Some(running(Some("not ready: the queue is full"), 0, &[])),
        Level::Broken,
        "service",
        "it runs, and /readyz says: not ready: the queue is full",
    ),
    (
        |it| it.service = Some(running(None, 9 << 30, &[])),
        Level::Warning,
        "service",
        "the queue takes 90 % of `queue.max_disk`",
    ),
    (
        |it| it.service = Some(running(None, 0, &[("shop", "it is suspended, wigzo_401")])),
        Level::Warning,
        "service",
        "events of shop are not sent: it is suspended, wigzo_401",
    ),
    (
        |it| it.problems = vec!["queue.max_disk: expected at least \"64 MiB\"".to_owned()],
        Level::Broken,
        "configuration",
        "queue.max_disk: expected",
    ),
    (
        |it| it.odd_tokens = vec![("shop".to_owned(), Oddity::Shape)],
        Level::Warning,
        "tokens",
        "the organization token of shop is neither a UUID",
    ),
    (
        |it| it.odd_tokens = vec![("shop".to_owned(), Oddity::SourceKey)],
        Level::Warning,
        "tokens",
        "the organization token of shop is one of the source keys",
    ),
    (
        |it| it.odd_tokens = vec![("shop".to_owned(), Oddity::Shared)],
        Level::Warning,
        "tokens",
        "the organization token of shop is another organization's",
    ),
    (
        |it| it.exposed_files = vec!["/etc/token".into()],
        Level::Warning,
        "secrets",
        "/etc/token can be read by",
    ),
    (|it| it.disk.sync = Err("denied".to_owned()), Level::Broken, "disk", "data cannot be written: denied"),
    (|it| it.disk.sync = Ok(Duration::from_millis(21)), Level::Warning, "disk", "data: a sync takes 21.0 ms"),
    (|it| it.disk.free = Some(1 << 20), Level::Broken, "disk", "data: 1.0 MiB are free"),
    (
        |it| it.disk.free = Some(5 << 30),
        Level::Warning,
        "disk",
        "data: 5.0 GiB are free, and `queue.max_disk` is 10.0 GiB",
    ),
    (
        |it| it.disk.file_system = Some("tmpfs".to_owned()),
        Level::Warning,
        "disk",
        "data is on tmpfs: a restart",
    ),
    (
        |it| it.disk.file_system = Some("overlay".to_owned()),
        Level::Warning,
        "disk",
        "data is on overlay: removing",
    ),
    (|it| it.disk.file_system = Some("nfs4".to_owned()), Level::Warning, "disk", "data is on nfs4: locks"),
    (
        |it| it.disk.file_system = Some("fuse.sshfs".to_owned()),
        Level::Warning,
        "disk",
        "data is on fuse.sshfs",
    ),
    (|it| it.open_files = Some(1_024), Level::Warning, "open files", "1024 may be open"),
    (
        |it| it.ports = vec![port_of(Err(ErrorKind::AddrInUse))],
        Level::Broken,
        "ports",
        "127.0.0.1:8080 is taken",
    ),
    (
        |it| it.ports = vec![port_of(Err(ErrorKind::PermissionDenied))],
        Level::Broken,
        "ports",
        "this user may not listen on 127.0.0.1:8080",
    ),
    (
        |it| it.ports = vec![port_of(Err(ErrorKind::AddrNotAvailable))],
        Level::Broken,
        "ports",
        "127.0.0.1:8080 is no address of this machine",
    ),
    (
        |it| it.ports = vec![port_of(Err(ErrorKind::OutOfMemory))],
        Level::Broken,
        "ports",
        "127.0.0.1:8080 cannot be listened on",
    ),
    (|it| it.now = UnixMillis(0), Level::Broken, "clock", "it is said to be 1970-01-01"),
    (
        |it| it.newest_file = Some(it.now.plus(Duration::from_hours(1))),
        Level::Warning,
        "clock",
        "it is said to be 2026-09-21T14:13:20.000Z, and the queue was written at 2026-09-21T15:13:20.000Z",
    ),
    (
        |it| it.hosts = Some(vec![host_of("https://w.example/x/", Reach::NoName("none".to_owned()))]),
        Level::Broken,
        "wigzo",
        "https://w.example/x: its name has no address: none",
    ),
    (
        |it| it.hosts = Some(vec![host_of("https://w.example", Reach::NoConnection("refused".to_owned()))]),
        Level::Broken,
        "wigzo",
        "https://w.example: no connection: refused",
    ),
    (
        |it| it.hosts = Some(vec![host_of("https://w.example", Reach::NoTls("expired".to_owned()))]),
        Level::Broken,
        "wigzo",
        "https://w.example: no TLS: expired",
    ),
    (
        |it| it.hosts = Some(vec![host_of("http://w.example", Reach::Connected(Duration::ZERO))]),
        Level::Warning,
        "wigzo",
        "http://w.example: tokens and personal data travel unencrypted",
    ),
];

#[test]
fn every_fault_is_one_finding_with_its_remedy() {
    for (change, level, check, message) in ROWS {
        let mut facts = healthy();
        change(&mut facts);
        let findings: Vec<_> = judge(&facts).into_iter().filter(|it| it.level != Level::Ok).collect();
        let [found] = findings.as_slice() else { panic!("{message}: {findings:?}") };
        assert_eq!((found.level, found.check), (*level, *check), "{found:?}");
        assert!(found.message.starts_with(message), "{message}: {found:?}");
        let remedied = found.remedy.as_ref().is_some_and(|remedy| !remedy.is_empty());
        assert!(remedied || *check == CONFIGURATION, "{found:?}");
    }
}

#[test]
fn what_is_no_fault_is_none() {
    let changes: &[fn(&mut Facts)] = &[
        |it| {
            it.disk.in_use = true;
            it.ports = vec![port_of(Err(ErrorKind::AddrInUse))];
        },
        |it| {
            it.disk.free = Some(5 << 30);
            it.disk.used = 6 << 30;
        },
        |it| it.hosts = None,
        |it| it.hosts = Some(vec![host_of("http://127.0.0.1:8090", Reach::Connected(Duration::ZERO))]),
        |it| it.hosts = Some(vec![host_of("http://[::1]:8090", Reach::Connected(Duration::ZERO))]),
        |it| it.newest_file = Some(it.now.plus(Duration::from_secs(5))),
        |it| it.open_files = None,
        |it| it.disk.free = None,
        |it| it.disk.file_system = None,
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut facts = healthy();
        change(&mut facts);
        let findings: Vec<_> = judge(&facts).into_iter().filter(|it| it.level != Level::Ok).collect();
        assert!(findings.is_empty(), "{number}: {findings:?}");
    }
}
