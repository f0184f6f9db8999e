//! Running a work under callgrind, and reading what it counted.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

/// How valgrind is called, and where profiles go.
pub(crate) struct Callgrind {
    /// This program's folder, and its name there: a path that is the same wherever the folder is moves nothing in memory.
    folder: PathBuf,
    program: PathBuf,
    profiles: PathBuf,
}

/// What a whole run took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Total {
    /// Instructions of all threads, without the kernel's and those that are left out.
    instructions: u64,
    /// Calls of the allocator for memory, enlargements included. What SQLite and aws-lc take is not among them.
    allocations: u64,
}

/// What one event takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counts {
    /// See [`Total`].
    pub(crate) instructions: u64,
    /// See [`Total`].
    pub(crate) allocations: f64,
}

/// What the counts depend on besides the code.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// The compiler.
    rustc: String,
    /// valgrind, which is the processor that the program sees.
    valgrind: String,
    /// The C library: it copies and compares bytes.
    libc: String,
    /// The features of that processor by which libraries choose their code.
    features: String,
}

// === impl Callgrind ===

impl Callgrind {
    /// Prepares the place for profiles.
    pub(crate) fn new() -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
        let (Some(folder), Some(name)) = (program.parent(), program.file_name()) else {
            return Err(format!("{}: no path of a program", program.display()));
        };
        let profiles = Path::new(env!("CARGO_TARGET_TMPDIR")).join("instructions");
        std::fs::create_dir_all(&profiles).map_err(|error| format!("{}: {error}", profiles.display()))?;
        Ok(Self { folder: folder.to_owned(), program: Path::new(".").join(name), profiles })
    }

    /// Where the profile of a work's last run is.
    pub(crate) fn profile(&self, work: &str) -> PathBuf {
        self.profiles.join(format!("{work}.out"))
    }

    /// Counts some rounds of a work, from start to end of the process, leaving out a function with what it calls.
    pub(crate) fn run(&self, work: &str, rounds: usize, left_out: Option<&str>) -> Result<Total, String> {
        let profile = self.profile(work);
        let mut command = self.valgrind("callgrind");
        command.arg(format!("--callgrind-out-file={}", profile.display()));
        said(command.arg(&self.program).args(["--work", work, "--rounds", &rounds.to_string()]))?;
        let text =
            std::fs::read_to_string(&profile).map_err(|error| format!("{}: {error}", profile.display()))?;
        let total = Total::of(&text, left_out);
        total.map_err(|error| format!("{}: {error}", profile.display()))
    }

    /// What counts depend on here.
    pub(crate) fn machine(&self) -> Result<Machine, String> {
        let valgrind = said(Command::new("valgrind").arg("--version"))?;
        let libc = said(Command::new("getconf").arg("GNU_LIBC_VERSION")).unwrap_or_default();
        let features = said(self.valgrind("none").arg("-q").arg(&self.program).arg("--features"))?;
        Ok(Machine { rustc: said(Command::new("rustc").arg("--version"))?, valgrind, libc, features })
    }

    /// valgrind with this tool, and nothing of the caller's environment. Threads get their turns in the order in which
    /// they ask.
    fn valgrind(&self, tool: &str) -> Command {
        let mut command = Command::new("valgrind");
        command.current_dir(&self.folder).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
        command.arg(format!("--tool={tool}")).arg("--fair-sched=try");
        command
    }
}

/// What a command prints.
fn said(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().display().to_string();
    let output = command
        .output()
        .map_err(|error| format!("{name}: {error}; scripts/instructions.sh installs what is needed"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{name} ended with {}:\n{said}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The features of the processor, as the program sees it, by which libraries choose their code.
pub(crate) fn features() -> String {
    #[cfg(target_arch = "x86_64")]
    let found = {
        macro_rules! found {
            ($($name:tt)*) => { [$(std::arch::is_x86_feature_detected!($name).then_some($name)),*] };
        }
        found!("sse4.2" "avx" "avx2" "avx512f" "aes" "pclmulqdq" "sha" "bmi1" "bmi2")
    };
    #[cfg(not(target_arch = "x86_64"))]
    let found: [Option<&str>; 0] = [];
    let found: Vec<&str> =
        std::iter::once(std::env::consts::ARCH).chain(found.into_iter().flatten()).collect();
    found.join(" ")
}

// === impl Total ===

impl Total {
    /// Reads a profile in callgrind's format ("Callgrind Format Specification" in valgrind's manual).
    fn of(profile: &str, left_out: Option<&str>) -> Result<Self, String> {
        let mut names = HashMap::new();
        let (mut caller, mut target) = ("", "");
        let (mut instructions, mut less, mut allocations) = (None, None, 0);
        let mut lines = profile.lines();
        while let Some(line) = lines.next() {
            if let Some(name) = line.strip_prefix("fn=") {
                caller = spelled(name, &mut names);
            } else if let Some(name) = line.strip_prefix("cfn=") {
                target = spelled(name, &mut names);
            } else if let Some(calls) = line.strip_prefix("calls=") {
                // Behind each such line stands where, and what the calls took.
                let took = lines.next().unwrap_or_default();
                if allocates(target) && !is_allocator(caller) {
                    allocations += number(calls.split(' ').next())?;
                }
                if left_out.is_some_and(|function| target.ends_with(function)) {
                    less = Some(less.unwrap_or(0) + number(took.split(' ').nth(1))?);
                }
            } else if let Some(total) = line.strip_prefix("totals: ") {
                instructions = Some(number(Some(total))?);
            }
        }
        match (instructions, left_out, less) {
            (None, ..) => Err("no profile of callgrind".to_owned()),
            (_, Some(function), None) => Err(format!("nothing calls {function}, which is to be left out")),
            (Some(all), ..) => Ok(Self { instructions: all - less.unwrap_or(0), allocations }),
        }
    }

    /// What this run took more than another one, for each of so many events.
    pub(crate) fn beyond(self, other: Self, events: usize) -> Counts {
        let events = events as u64;
        let tenths = (self.allocations.saturating_sub(other.allocations) * 10 + events / 2) / events;
        Counts {
            instructions: (self.instructions.saturating_sub(other.instructions) + events / 2) / events,
            #[expect(clippy::cast_precision_loss, reason = "a small number")]
            allocations: tenths as f64 / 10.0,
        }
    }
}

fn number(text: Option<&str>) -> Result<u64, String> {
    let text = text.unwrap_or_default().trim();
    text.parse().map_err(|_| format!("not a number: {text:?}"))
}

/// A function's name, which stands behind its number the first time only.
fn spelled<'p>(text: &'p str, names: &mut HashMap<&'p str, &'p str>) -> &'p str {
    match text.split_once(' ') {
        Some((number, name)) => {
            names.insert(number, name);
            name
        }
        None => names.get(text).copied().unwrap_or_default(),
    }
}

/// Whether a function of mimalloc hands out memory.
fn allocates(function: &str) -> bool {
    is_allocator(function) && function.contains("alloc") && !function.contains("free")
}

fn is_allocator(function: &str) -> bool {
    function.starts_with("mi_") || function.starts_with("_mi_")
}

// === impl Machine ===

impl Machine {
    /// How this machine differs from the one on which a baseline was made.
    pub(crate) fn difference(&self, then: &Self) -> Option<String> {
        let parts = [
            (&then.rustc, &self.rustc),
            (&then.valgrind, &self.valgrind),
            (&then.libc, &self.libc),
            (&then.features, &self.features),
        ];
        let differing = parts.into_iter().filter(|(then, now)| then != now);
        let told: Vec<String> =
            differing.map(|(then, now)| format!("{now:?} here, {then:?} there")).collect();
        (!told.is_empty()).then(|| told.join("; "))
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rustc, valgrind, libc, features } = self;
        write!(f, "{rustc}; {valgrind}; {libc}; {features}")
    }
}
