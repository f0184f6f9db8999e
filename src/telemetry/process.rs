//! What the operating system knows about this process, under the names that every Prometheus library uses, so that
//! ready-made dashboards and alerts work. Linux tells it in `/proc`; elsewhere nothing is shown.

use std::sync::atomic::{AtomicU64, Ordering};
use std::{fs, io};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Unit;

use super::declaration::Declared;
use super::gauge;

/// Times in `/proc/self/stat` are counted in this part of a second. Linux shows it to programs as 100 on every machine
/// that this program is built for, whatever the kernel's own clock does.
const TICKS_PER_SECOND: f64 = 100.0;

/// The metrics of the process.
#[derive(Debug, Default)]
pub(super) struct Process {
    cpu: Counter<f64, AtomicU64>,
    resident: Gauge,
    open_files: Gauge,
    most_files: Gauge,
    threads: Gauge,
    started: Gauge<f64, AtomicU64>,
}

/// What was read at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Facts {
    cpu_seconds: f64,
    resident_bytes: u64,
    most_files: u64,
    threads: u64,
    started: f64,
}

impl Process {
    pub(super) fn register(&self, registry: &mut Declared) {
        registry.register_with_unit(
            "cpu",
            "Processor time that the process has used",
            Unit::Seconds,
            self.cpu.clone(),
        );
        registry.register_with_unit(
            "resident_memory",
            "Memory of the process that is not swapped out",
            Unit::Bytes,
            self.resident.clone(),
        );
        registry.register("open_fds", "Open file descriptors, connections included", self.open_files.clone());
        registry.register("max_fds", "The most file descriptors that may be open", self.most_files.clone());
        registry.register("threads", "Threads of the process", self.threads.clone());
        registry.register_with_unit(
            "start_time",
            "When the process started, since 1970",
            Unit::Seconds,
            self.started.clone(),
        );
    }

    /// Reads everything anew. False where this cannot be known: then nothing should be shown.
    pub(super) fn refresh(&self) -> bool {
        let Some(facts) = read().ok().flatten() else { return false };
        self.cpu.inner().store(facts.cpu_seconds.to_bits(), Ordering::Relaxed);
        self.resident.set(gauge(facts.resident_bytes));
        self.most_files.set(gauge(facts.most_files));
        self.threads.set(gauge(facts.threads));
        self.started.set(facts.started);
        // One of them is the folder that is being counted.
        let open = fs::read_dir("/proc/self/fd").map_or(0, |open| open.count().saturating_sub(1));
        self.open_files.set(gauge(open as u64));
        true
    }
}

fn read() -> io::Result<Option<Facts>> {
    let file = |path| fs::read_to_string(path);
    Ok(facts(
        &file("/proc/self/stat")?,
        &file("/proc/self/status")?,
        &file("/proc/self/limits")?,
        &file("/proc/stat")?,
    ))
}

/// The facts from the text of `/proc/self/stat`, `/proc/self/status`, `/proc/self/limits` and `/proc/stat`.
fn facts(stat: &str, status: &str, limits: &str, machine: &str) -> Option<Facts> {
    // The second field is the program's name in brackets, which may hold anything. From the third on: proc(5).
    let (_, fields) = stat.rsplit_once(") ")?;
    let field = |number: usize| fields.split(' ').nth(number - 3)?.trim().parse::<f64>().ok();
    let line = |text: &str, name: &str| -> Option<String> {
        text.lines().find_map(|line| line.strip_prefix(name)).map(|rest| rest.trim().to_owned())
    };
    let first = |text: String| text.split_whitespace().next().map(str::to_owned);
    let most_files = first(line(limits, "Max open files")?)?;
    Some(Facts {
        cpu_seconds: (field(14)? + field(15)?) / TICKS_PER_SECOND,
        resident_bytes: first(line(status, "VmRSS:")?)?.parse::<u64>().ok()? * 1_024,
        // The word is "unlimited" if there is no limit.
        most_files: most_files.parse().unwrap_or(u64::MAX),
        threads: line(status, "Threads:")?.parse().ok()?,
        started: line(machine, "btime ")?.parse::<f64>().ok()? + field(22)? / TICKS_PER_SECOND,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "4242 (a ) b) S 1 4242 4242 0 -1 4194560 900 0 0 0 150 50 0 0 20 0 7 0 6000 1000 200";
    const STATUS: &str = "Name:\ta\nVmPeak:\t 999 kB\nVmRSS:\t    2048 kB\nThreads:\t7\n";
    const LIMITS: &str =
        "Limit   Soft Limit  Hard Limit  Units\nMax open files            1024       4096  files\n";
    const MACHINE: &str = "cpu  1 2 3\nbtime 1700000000\nprocesses 5\n";

    #[test]
    fn the_facts_are_read_whatever_the_program_is_called() {
        let expected = Facts {
            cpu_seconds: 2.0,
            resident_bytes: 2_097_152,
            most_files: 1_024,
            threads: 7,
            started: 1_700_000_060.0,
        };
        assert_eq!(facts(STAT, STATUS, LIMITS, MACHINE), Some(expected));
        let unlimited = LIMITS.replace("1024", "unlimited");
        assert_eq!(facts(STAT, STATUS, &unlimited, MACHINE).unwrap().most_files, u64::MAX);
    }

    #[test]
    fn what_is_missing_is_not_made_up() {
        for (stat, status, limits, machine) in [
            ("", STATUS, LIMITS, MACHINE),
            ("4242 (a) S 1", STATUS, LIMITS, MACHINE),
            (STAT, "Threads:\t7\n", LIMITS, MACHINE),
            (STAT, STATUS, "", MACHINE),
            (STAT, STATUS, LIMITS, "cpu 1\n"),
        ] {
            assert_eq!(facts(stat, status, limits, machine), None, "{stat} {status} {limits} {machine}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_alive() {
        let process = Process::default();
        assert!(process.refresh());
        assert!(process.resident.get() > 0 && process.open_files.get() > 2 && process.threads.get() > 0);
        assert!(process.started.get() > 1_600_000_000.0);
    }
}
