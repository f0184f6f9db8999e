//! Which configuration files a command reads: those that it is given, else the first of the usual places.
//!
//! Invariant: one source decides. Files of two sources are never merged: a forgotten file in a usual place would change
//! what a command does that names its own.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::environment::config_home;

/// The variable that names a configuration file.
pub(super) const CONFIG: &str = "WIGZO_CONFIG";

/// The directory in the usual places, and the file in it.
const FILE: &str = "wigzo-destination/config.toml";

/// What decided which files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// `--config`.
    CommandLine,
    /// The environment variable `WIGZO_CONFIG`.
    Variable,
    /// It lies in a usual place.
    DefaultPath,
    /// There is none: defaults and environment variables alone.
    None,
}

impl Origin {
    /// Its stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CommandLine => "command_line",
            Self::Variable => "variable",
            Self::DefaultPath => "default_path",
            Self::None => "none",
        }
    }
}

/// The configuration files of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFiles {
    /// The files, in the order in which they are read.
    pub paths: Vec<PathBuf>,
    /// Why these.
    pub origin: Origin,
}

impl ConfigFiles {
    /// The files as they are without the current directory.
    pub fn absolute(&self) -> Vec<PathBuf> {
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        self.paths.iter().map(absolute).collect()
    }
}

/// `/etc/wigzo-destination/config.toml (default path)`.
impl fmt::Display for ConfigFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<_> = self.absolute().iter().map(|path| path.display().to_string()).collect();
        match self.origin {
            Origin::CommandLine => write!(f, "{} (--config)", paths.join(", ")),
            Origin::Variable => write!(f, "{} ({CONFIG})", paths.join(", ")),
            Origin::DefaultPath => write!(f, "{} (default path)", paths.join(", ")),
            Origin::None => f.write_str("none"),
        }
    }
}

/// The files to read: `given` on the command line, else that of `WIGZO_CONFIG`, else the first that exists of the user's
/// and the machine's.
pub fn config_files(given: &[PathBuf], env: &BTreeMap<String, String>) -> ConfigFiles {
    let usual =
        config_home().into_iter().chain([PathBuf::from("/etc")]).map(|directory| directory.join(FILE));
    locate(given, env, usual, |path| {
        // One in /etc that cannot be looked at is reported by whoever reads it, not passed over. A container may well run
        // as a user that cannot look into the home directory of its image.
        path.try_exists().unwrap_or(path.starts_with("/etc"))
    })
}

fn locate(
    given: &[PathBuf],
    env: &BTreeMap<String, String>,
    mut usual: impl Iterator<Item = PathBuf>,
    exists: impl Fn(&Path) -> bool,
) -> ConfigFiles {
    if !given.is_empty() {
        return ConfigFiles { paths: given.to_vec(), origin: Origin::CommandLine };
    }
    // Compose files pass a variable that is not set as an empty one.
    if let Some(path) = env.get(CONFIG).filter(|path| !path.is_empty()) {
        return ConfigFiles { paths: vec![path.into()], origin: Origin::Variable };
    }
    match usual.find(|path| exists(path)) {
        Some(path) => ConfigFiles { paths: vec![path], origin: Origin::DefaultPath },
        None => ConfigFiles { paths: Vec::new(), origin: Origin::None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `--config`, the variable, files that exist, what is read, and why.
    type Case<'a> = (&'a [&'a str], &'a str, &'a [&'a str], &'a [&'a str], Origin);

    #[test]
    fn the_first_source_decides_alone() {
        let usual = ["/home/u/.config/wigzo-destination/config.toml", "/etc/wigzo-destination/config.toml"];
        let table: &[Case<'_>] = &[
            (&["a.toml", "b.toml"], "c.toml", &usual, &["a.toml", "b.toml"], Origin::CommandLine),
            (&[], "c.toml", &usual, &["c.toml"], Origin::Variable),
            (&[], "", &usual, &usual[..1], Origin::DefaultPath),
            (&[], "", &usual[1..], &usual[1..], Origin::DefaultPath),
            (&[], "", &[], &[], Origin::None),
        ];
        for (given, variable, existing, expected, origin) in table {
            let given: Vec<PathBuf> = given.iter().map(PathBuf::from).collect();
            let env = BTreeMap::from([(CONFIG.to_owned(), (*variable).to_owned())]);
            let exists = |path: &Path| existing.iter().any(|it| path == Path::new(it));
            let found = locate(&given, &env, usual.iter().map(PathBuf::from), exists);
            let expected = expected.iter().map(PathBuf::from).collect();
            assert_eq!(found, ConfigFiles { paths: expected, origin: *origin });
        }
    }
}
