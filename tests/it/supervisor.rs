//! What systemd is told, over a socket like its own: ready, alive, stopping, each at its time.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use crate::service::{PATIENCE, Service};

/// A supervisor's end of the socket.
struct Listener(UnixDatagram);

impl Listener {
    fn new(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    /// The next message; waiting for it must not hold the runtime that reads the service's log.
    async fn next(&self) -> String {
        let socket = self.0.try_clone().unwrap();
        let heard = tokio::task::spawn_blocking(move || {
            let mut message = [0; 1_024];
            let length = socket.recv(&mut message).expect("nothing was said");
            String::from_utf8_lossy(&message[..length]).into_owned()
        });
        heard.await.unwrap()
    }

    /// The next message that is no sign of life.
    async fn next_word(&self) -> String {
        loop {
            let message = self.next().await;
            if message != "WATCHDOG=1" {
                return message;
            }
        }
    }
}

#[tokio::test]
async fn systemd_hears_that_the_service_is_ready_alive_and_stopping() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let listener = Listener::new(UnixDatagram::bind(&path).unwrap());
    let mut service = Service::sandbox()
        .config("[ingress]\ndrain_grace = \"1s\"")
        .env("NOTIFY_SOCKET", path.to_str().unwrap())
        .env("WATCHDOG_USEC", "200000")
        .start()
        .await;
    let address = service.public.trim_start_matches("http://").to_owned();
    assert_eq!(listener.next().await, format!("READY=1\nSTATUS=taking events on {address}"));
    assert_eq!(service.get("/readyz").await.status, 200);
    for _ in 0..3 {
        assert_eq!(listener.next().await, "WATCHDOG=1");
    }
    service.signal("HUP");
    let reloading = listener.next_word().await;
    let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|rest| rest.split_once('\n'));
    assert!(time.is_some_and(|(time, _)| time.parse::<u64>().is_ok_and(|time| time > 0)), "{reloading}");
    assert_eq!(listener.next_word().await, format!("READY=1\nSTATUS=taking events on {address}"));
    service.signal("TERM");
    assert_eq!(listener.next_word().await, "STOPPING=1\nSTATUS=draining");
    // A drain may take longer than the watchdog's patience.
    assert_eq!(listener.next().await, "WATCHDOG=1");
    assert_eq!(service.ended().await.code(), Some(0), "{}", service.log());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_abstract_socket_is_one_too() {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::SocketAddr;

    let name = format!("wigzo-destination-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let listener = Listener::new(UnixDatagram::bind_addr(&address).unwrap());
    let service = Service::sandbox().env("NOTIFY_SOCKET", &format!("@{name}")).start().await;
    assert!(listener.next().await.starts_with("READY=1\n"));
    service.end().await;
    assert!(
        listener.next().await.starts_with("STOPPING=1\n"),
        "without a watchdog there are no signs of life"
    );
}

#[tokio::test]
async fn a_service_that_does_not_start_is_never_ready() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let (code, said) = Service::sandbox()
        .config("[queue]\nmax_disk = \"1 MiB\"")
        .env("NOTIFY_SOCKET", path.to_str().unwrap())
        .refused()
        .await;
    assert_eq!(code, Some(2), "{said}");
    assert!(socket.recv(&mut [0; 16]).is_err(), "nothing was said");
}

#[tokio::test]
async fn a_supervisor_that_went_away_is_no_reason_to_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let listener = Listener::new(UnixDatagram::bind(&path).unwrap());
    let service = Service::sandbox()
        .env("NOTIFY_SOCKET", path.to_str().unwrap())
        .env("WATCHDOG_USEC", "40000")
        .start()
        .await;
    assert!(listener.next().await.starts_with("READY=1\n"));
    drop(listener);
    std::fs::remove_file(&path).unwrap();
    let until = Instant::now() + Duration::from_millis(200);
    let told = || service.log().contains("the supervisor could not be told how the service is");
    service.eventually("it is told", async || told()).await;
    while Instant::now() < until {
        assert_eq!(service.get("/livez").await.status, 200);
    }
    service.end().await;
}

/// As a program that embeds it does: nothing follows the configuration, and nothing holds the queue open at the end.
#[tokio::test]
async fn a_service_in_process_ends_though_it_follows_no_configuration() {
    use wigzo_destination::app::{App, End, Haste};

    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("c.toml");
    let queue = directory.path().join("queue");
    let local = "listen = \"127.0.0.1:0\"";
    let text =
        format!("[queue]\npath = {queue:?}\n[ingress]\n{local}\n[admin]\n{local}\n[sandbox]\n{local}\n");
    std::fs::write(&config, text).unwrap();
    let settings =
        wigzo_destination::settings::Settings::load(&[config], &std::collections::BTreeMap::new()).unwrap();
    let app = App::start(settings, true, wigzo_destination::clock::Clock::system()).await.unwrap();
    let end = tokio::time::timeout(PATIENCE, app.run(async { Haste::Prompt })).await.expect("it ends");
    assert_eq!(end, End::InOrder);
}
