//! A disk that fails on command, for a real service: `tests/support/disk.c` between the process and its queue.
//!
//! It also knows what a power cut would leave, page by page: what was synced, and of the rest whatever chance takes.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use crate::service::Setup;

/// The library, built once for all tests.
static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/disk.c");
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    // Under its name at once and whole: another run of the tests may use it already.
    let (library, fresh) =
        (directory.join("disk.so"), directory.join(format!("disk-{}.so", std::process::id())));
    let built = std::process::Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&fresh)
        .arg(source)
        .output()
        .expect("SQLite has been compiled, so there is a C compiler");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    fs::rename(fresh, &library).unwrap();
    library
});

/// What can be told to the disk; the order is that of `disk.c`.
#[derive(Clone, Copy)]
pub enum Knob {
    /// Bytes by which files may still grow; negative: as many as they like.
    Room,
    /// Syncs that still succeed before one fails.
    SyncsLeft,
    /// How many syncs then fail; negative: all.
    SyncsToFail,
    /// 1: every write fails.
    WritesFail,
    /// 1: every write writes half.
    WritesShort,
    /// How long a sync takes.
    SyncMs,
    /// What is added to the wall clock.
    ClockMs,
    /// Whether the directory above the queue's was synced with it.
    ParentSynced,
    /// How many syncs have begun, and how many have ended.
    SyncsBegun,
    SyncsEnded,
}

const KNOBS: usize = Knob::SyncsEnded as usize + 1;
const PAGE: usize = 4_096;
const SECTOR: usize = 512;

/// The disk of one queue.
pub struct Disk {
    directory: Arc<tempfile::TempDir>,
    control: File,
}

impl Disk {
    /// An empty disk that works.
    pub fn new() -> Self {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        fs::create_dir(directory.path().join("disk")).unwrap();
        let control = File::create_new(directory.path().join("disk/control")).unwrap();
        control.write_all_at(&[0; KNOBS * 8], 0).unwrap();
        let disk = Self { directory, control };
        disk.set(Knob::Room, -1);
        disk
    }

    /// Has a service keep its queue on this disk.
    pub fn under(&self, setup: Setup) -> Setup {
        setup
            .env("LD_PRELOAD", LIBRARY.to_str().unwrap())
            .env("DISK_ROOT", self.queue().to_str().unwrap())
            .env("DISK_STATE", self.state("").to_str().unwrap())
            .on(Arc::clone(&self.directory))
    }

    /// Turns a knob; it counts from the next write or sync on.
    pub fn set(&self, knob: Knob, to: i64) {
        self.control.write_all_at(&to.to_ne_bytes(), knob as u64 * 8).unwrap();
    }

    /// Reads a knob.
    pub fn get(&self, knob: Knob) -> i64 {
        let mut bytes = [0; 8];
        self.control.read_exact_at(&mut bytes, knob as u64 * 8).unwrap();
        i64::from_ne_bytes(bytes)
    }

    /// The disk works again.
    pub fn heal(&self) {
        for knob in [Knob::SyncsLeft, Knob::SyncsToFail, Knob::WritesFail, Knob::WritesShort, Knob::SyncMs] {
            self.set(knob, 0);
        }
        self.set(Knob::Room, -1);
    }

    /// The directory for a service's files.
    pub fn directory(&self) -> Arc<tempfile::TempDir> {
        Arc::clone(&self.directory)
    }

    /// The queue's directory.
    pub fn queue(&self) -> PathBuf {
        // As the kernel names it.
        self.directory.path().canonicalize().unwrap().join("queue")
    }

    /// Leaves of the queue what a power cut would leave: what was synced, and of later pages some, or some of their
    /// sectors. No service may be running.
    pub fn cut_power(&self, chance: &mut fastrand::Rng) {
        let mut left = Vec::new();
        for name in names(&self.state("")).iter().filter_map(|name| name.strip_suffix(".entry")) {
            let mut content = fs::read(self.state(name)).unwrap_or_default();
            let cache = fs::read(self.queue().join(name)).unwrap_or_default();
            let dirty = fs::read(self.state(&format!("{name}.dirty"))).unwrap_or_default();
            // Nothing, a little, or nearly everything of what was not synced.
            let odds = *chance.choice(&[0.0, 0.2, 0.5, 0.95]).unwrap();
            for page in (0..dirty.len()).filter(|&page| dirty[page] != 0) {
                if chance.f64() < odds {
                    let sectors = if chance.bool() { 0..8 } else { 0..chance.usize(1..8) };
                    for start in sectors.map(|sector| page * PAGE + sector * SECTOR) {
                        let end = (start + SECTOR).min(cache.len());
                        if start < end {
                            content.resize(content.len().max(end), 0);
                            content[start..end].copy_from_slice(&cache[start..end]);
                        }
                    }
                }
            }
            left.push((name.to_owned(), content));
        }
        if self.queue().exists() {
            fs::remove_dir_all(self.queue()).unwrap();
        }
        for name in names(&self.state("")).iter().filter(|name| *name != "control") {
            fs::remove_file(self.state(name)).unwrap();
        }
        if self.get(Knob::ParentSynced) == 0 {
            return;
        }
        fs::create_dir(self.queue()).unwrap();
        for (name, content) in left {
            fs::write(self.queue().join(&name), &content).unwrap();
            fs::write(self.state(&name), &content).unwrap();
            fs::write(self.state(&format!("{name}.entry")), "").unwrap();
        }
    }

    fn state(&self, name: &str) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join("disk").join(name)
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
