//! What the service tells the program that supervises it: systemd's notifications for units of `Type=notify`.
//!
//! The protocol is a few lines of text over a datagram socket (`sd_notify(3)`), so it needs no library. Who is not
//! supervised has no `NOTIFY_SOCKET`, and then nothing here does anything. Telling never fails the service: what cannot
//! be told is logged once, and the supervisor draws its conclusion.
//!
//! It must not know: what the service does. The variables of the environment are read in `settings`.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Once;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// What a supervisor has put into the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variables {
    /// `NOTIFY_SOCKET`: a path, or `@` and the name of an abstract socket.
    pub socket: Option<std::ffi::OsString>,
    /// `WATCHDOG_USEC`: microseconds after which a silent process is taken for dead.
    pub watchdog: Option<std::ffi::OsString>,
    /// `WATCHDOG_PID`: whom that concerns, if not everybody.
    pub watchdog_pid: Option<std::ffi::OsString>,
}

/// The way to the supervisor, if there is one.
#[derive(Debug)]
pub struct Supervisor {
    socket: Option<UnixDatagram>,
    /// How often a sign of life is given.
    pulse: Option<Duration>,
    /// That it does not listen any more is told once.
    complained: Once,
}

impl Supervisor {
    /// The supervisor that the variables name; none if they name none, or one that cannot be reached.
    pub fn of(variables: &Variables) -> Self {
        let nobody = Self { socket: None, pulse: None, complained: Once::new() };
        let Some(address) = &variables.socket else { return nobody };
        match connect(address) {
            Ok(socket) => {
                Self { socket: Some(socket), pulse: pulse(variables, std::process::id()), ..nobody }
            }
            Err(error) => {
                let address = address.to_string_lossy();
                tracing::warn!(%error, %address, "the supervisor of NOTIFY_SOCKET cannot be told anything");
                nobody
            }
        }
    }

    /// The service serves.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// The service reads its configuration again; it is ready again when it says so, whatever came of it.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        // The time tells units of `Type=notify-reload` that this is the answer to their signal.
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reading the configuration"));
    }

    /// The service has begun to end.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=draining");
    }

    /// Waits for `work` and gives signs of life meanwhile. Each is the proof that the runtime still takes up tasks.
    pub async fn watch<T>(&self, work: impl Future<Output = T>) -> T {
        let Some(pulse) = self.pulse else { return work.await };
        let signs = async {
            let mut tick = interval_at(Instant::now(), pulse);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut proof = JoinSet::new();
            loop {
                tick.tick().await;
                proof.spawn(async {});
                proof.join_next().await;
                self.tell("WATCHDOG=1");
            }
        };
        tokio::select! {
            done = work => done,
            never = signs => never,
        }
    }

    fn tell(&self, message: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(message.as_bytes()) {
            self.complained.call_once(|| {
                tracing::warn!(%error, "the supervisor could not be told how the service is");
            });
        }
    }
}

/// Half of the time that the supervisor waits, as `sd_watchdog_enabled(3)` advises; nothing if the watchdog is off or
/// watches another process.
fn pulse(variables: &Variables, this: u32) -> Option<Duration> {
    let number = |text: &OsStr| text.to_str()?.parse::<u64>().ok();
    if variables.watchdog_pid.as_deref().is_some_and(|pid| number(pid) != Some(u64::from(this))) {
        return None;
    }
    let micros = number(variables.watchdog.as_deref()?)?;
    (micros > 1).then(|| Duration::from_micros(micros / 2))
}

fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match address.as_bytes() {
        [b'/', ..] => socket.connect(address)?,
        [b'@', name @ ..] => socket.connect_addr(&named(name)?)?,
        _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "expected a path, or @ and a name")),
    }
    // A supervisor that does not listen must not hold us.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(target_os = "linux")]
fn named(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn named(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this system has no abstract sockets"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(watchdog: &str, pid: Option<&str>) -> Variables {
        Variables { socket: None, watchdog: Some(watchdog.into()), watchdog_pid: pid.map(Into::into) }
    }

    #[test]
    fn signs_of_life_come_twice_as_often_as_they_are_asked_for() {
        let second = Some(Duration::from_millis(500));
        for (watchdog, pid, expected) in [
            ("1000000", None, second),
            ("1000000", Some("42"), second),
            ("1000000", Some("43"), None),
            ("1000000", Some(""), None),
            ("0", None, None),
            ("1", None, None),
            ("soon", None, None),
        ] {
            assert_eq!(pulse(&variables(watchdog, pid), 42), expected, "{watchdog} {pid:?}");
        }
        assert_eq!(pulse(&Variables::default(), 42), None);
    }

    #[test]
    fn an_address_that_is_none_is_no_reason_to_fail() {
        for address in ["", "vsock:2:1", "relative", "/no/such/socket", "@wigzo-destination-nobody-listens"] {
            let variables = Variables { socket: Some(address.into()), ..Variables::default() };
            let supervisor = Supervisor::of(&variables);
            assert!(supervisor.socket.is_none(), "{address}");
            supervisor.ready("nobody hears it");
        }
    }
}
