//! The programs under measurement: how each is started, and what it costs the machine.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::load;
use crate::stand_in::Manner;

/// Where this package lies.
const HERE: &str = env!("CARGO_MANIFEST_DIR");

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Program {
    /// `wigzo-destination serve`, with its production configuration.
    Ours,
    /// The same as `scripts/guided.sh` makes it.
    Guided,
    /// The least that keeps an event before it answers (src/bare.rs).
    Bare,
    /// A forwarder with fastify and undici, which keeps nothing.
    Fastify,
    /// fastify in front of a BullMQ queue on a Redis that syncs each write.
    Bullmq,
    /// nginx as a proxy to the stand-in, which keeps nothing.
    Nginx,
}

impl Program {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "wigzo-destination",
            Self::Guided => "the same, guided",
            Self::Bare => "bare program",
            Self::Fastify => "fastify + undici",
            Self::Bullmq => "BullMQ worker",
            Self::Nginx => "nginx proxy",
        }
    }

    /// Whether an answer of 200 means that the event is on disk.
    pub fn is_durable(self) -> bool {
        matches!(self, Self::Ours | Self::Guided | Self::Bare | Self::Bullmq)
    }

    /// Whether it takes batches apart.
    pub fn takes_batches(self) -> bool {
        self != Self::Nginx
    }
}

/// A running program; killed when it goes.
#[derive(Debug)]
pub struct Running {
    pub address: SocketAddr,
    children: Vec<Child>,
    /// What it keeps.
    directory: tempfile::TempDir,
    /// From the start of its process until it took a connection.
    pub ready_after: Duration,
}

impl Running {
    pub fn start(
        program: Program,
        binary: &Path,
        stand_in: SocketAddr,
        organizations: usize,
    ) -> std::io::Result<Self> {
        let address = free_address()?;
        let directory = tempfile::tempdir()?;
        let mut running = Self { address, children: Vec::new(), directory, ready_after: Duration::ZERO };
        match program {
            Program::Ours | Program::Guided => running.ours(binary, stand_in, organizations)?,
            Program::Bare => running.run(
                Command::new(std::env::current_exe()?)
                    .args(["bare", "--listen", &address.to_string(), "--target", &stand_in.to_string()])
                    .arg("--directory")
                    .arg(running.directory.path()),
            )?,
            Program::Fastify => {
                let server = installed("fastify")?.join("server.mjs");
                running.run(
                    Command::new("node").arg(server).args([address.to_string(), stand_in.to_string()]),
                )?;
            }
            Program::Bullmq => running.bullmq(stand_in)?,
            Program::Nginx => running.nginx(stand_in)?,
        }
        running.wait()?;
        Ok(running)
    }

    /// Kills the service and starts it again on what it has kept, with another stand-in.
    pub fn restart_ours(&mut self, binary: &Path, stand_in: SocketAddr) -> std::io::Result<()> {
        for mut child in self.children.drain(..) {
            child.kill()?;
            child.wait()?;
        }
        self.ours(binary, stand_in, 1)?;
        self.wait()
    }

    /// Bytes of disk that it has taken.
    pub fn disk(&self) -> std::io::Result<u64> {
        use std::os::unix::fs::MetadataExt;
        let mut bytes = 0;
        for file in std::fs::read_dir(self.directory.path().join("queue"))? {
            bytes += file?.metadata()?.blocks() * 512;
        }
        Ok(bytes)
    }

    fn wait(&mut self) -> std::io::Result<()> {
        let began = Instant::now();
        wait_for(self.address)?;
        self.ready_after = began.elapsed();
        Ok(())
    }

    /// Starts a stand-in as a process of its own.
    pub fn stand_in(manner: Manner) -> std::io::Result<Self> {
        let address = free_address()?;
        let mut running = Self {
            address,
            children: Vec::new(),
            directory: tempfile::tempdir()?,
            ready_after: Duration::ZERO,
        };
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["stand-in", "--listen", &address.to_string()]);
        command.args(["--delay", &manner.delay.as_millis().to_string()]);
        if let Some(every) = manner.failing {
            command.args(["--failing", &every.to_string()]);
        }
        running.run(&mut command)?;
        wait_for(address)?;
        Ok(running)
    }

    fn ours(&mut self, binary: &Path, stand_in: SocketAddr, organizations: usize) -> std::io::Result<()> {
        use std::fmt::Write as _;
        let mut config = format!(
            "[ingress]\nlisten = \"{}\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[organization_defaults]\nbase_url = \
             \"http://{stand_in}\"\n",
            self.address
        );
        for number in 0..organizations {
            let key = load::source_key(number);
            write!(
                config,
                "[organizations.shop{number}]\norg_token = \"made-up-org-token-{number}\"\nsource_keys = [\"{key}\"]\n"
            )
            .map_err(std::io::Error::other)?;
        }
        let path = self.directory.path().join("config.toml");
        std::fs::write(&path, config)?;
        self.run(
            Command::new(binary)
                .arg("serve")
                .arg("--config")
                .arg(path)
                .env("WIGZO__QUEUE__PATH", self.directory.path().join("queue"))
                .env("WIGZO__TELEMETRY__LOG_FORMAT", "json"),
        )
    }

    fn bullmq(&mut self, stand_in: SocketAddr) -> std::io::Result<()> {
        let here = installed("bullmq")?;
        let redis = free_address()?;
        self.run(
            Command::new("redis-server")
                .args(["--bind", "127.0.0.1", "--port", &redis.port().to_string(), "--save", ""])
                .args(["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"])
                .arg("--dir")
                .arg(self.directory.path()),
        )?;
        wait_for(redis)?;
        let redis = redis.port().to_string();
        self.run(
            Command::new("node").arg(here.join("worker.mjs")).args([redis.clone(), stand_in.to_string()]),
        )?;
        self.run(Command::new("node").arg(here.join("server.mjs")).args([self.address.to_string(), redis]))
    }

    fn nginx(&mut self, stand_in: SocketAddr) -> std::io::Result<()> {
        let template = std::fs::read_to_string(Path::new(HERE).join("baselines/nginx/nginx.conf"))?;
        let directory = self.directory.path().display().to_string();
        let config = template
            .replace("DIRECTORY", &directory)
            .replace("LISTEN", &self.address.to_string())
            .replace("STAND_IN", &stand_in.to_string());
        let path = self.directory.path().join("nginx.conf");
        std::fs::write(&path, config)?;
        self.run(Command::new("nginx").arg("-p").arg(self.directory.path()).arg("-c").arg(path))
    }

    fn run(&mut self, command: &mut Command) -> std::io::Result<()> {
        let program = command.get_program().to_owned();
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(
                |error| std::io::Error::other(format!("{}: {error}; is it installed?", program.display())),
            )?;
        self.children.push(child);
        Ok(())
    }

    /// User and system time of all its processes so far.
    pub fn cpu(&self) -> Duration {
        self.pids().into_iter().map(cpu_of).sum()
    }

    /// Memory that its processes hold now, in bytes.
    pub fn memory(&self) -> u64 {
        self.pids().into_iter().map(|pid| status_of(pid, "VmRSS:")).sum()
    }

    /// The most memory that its processes have held, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.pids().into_iter().map(|pid| status_of(pid, "VmHWM:")).sum()
    }

    /// Its processes, and the workers of those that have some.
    fn pids(&self) -> Vec<u32> {
        let mut pids = Vec::new();
        for child in &self.children {
            let pid = child.id();
            pids.push(pid);
            let workers =
                std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            pids.extend(workers.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        pids
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            // TERM lets nginx end its workers.
            let _ = Command::new("kill").args(["-s", "TERM", &child.id().to_string()]).status();
            let deadline = Instant::now() + Duration::from_secs(2);
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn cpu_of(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(2).filter_map(|it| it.parse::<u64>().ok()).sum();
    // A tick is a hundredth of a second on every Linux that people run.
    Duration::from_millis(ticks * 10)
}

fn status_of(pid: u32, key: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1_024
}

/// An address that was free a moment ago.
fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn wait_for(address: SocketAddr) -> std::io::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match TcpStream::connect(address) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// The directory of a Node baseline, its packages installed.
fn installed(name: &str) -> std::io::Result<PathBuf> {
    let directory = Path::new(HERE).join("baselines").join(name);
    if !directory.join("node_modules").exists() {
        eprintln!("installing the packages of {name} …");
        let status = Command::new("npm")
            .args(["install", "--silent", "--no-audit", "--no-package-lock"])
            .current_dir(&directory)
            .status()?;
        if !status.success() {
            return Err(std::io::Error::other(format!("npm install failed in {}", directory.display())));
        }
    }
    Ok(directory)
}
