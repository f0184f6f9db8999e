//! Who may do what on the private side: the tokens, and the names and roles that they stand for.
//!
//! Invariants:
//! * A token is kept as its hash and compared with every known one in full: how long an answer takes says nothing.
//! * The files are looked at again while the service runs, so a token comes and goes without a restart. Files that have
//!   become unreadable change nothing: those who had access keep it, and the log says so.
//! * No message repeats what stands in a file.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::Config;

/// What a token allows. Each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look at everything, personal data included, and change nothing.
    Read,
    /// Change things as well.
    Operate,
}

impl Role {
    /// The stable string.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Read, Self::Operate].into_iter().find(|role| role.as_str() == text)
    }
}

/// Who asks, as an audit line names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Who {
    /// The name of a token, or `loopback`.
    pub(super) name: Arc<str>,
    pub(super) role: Role,
}

/// The name of whoever asks where no token is needed.
const LOOPBACK: &str = "loopback";

/// The name of the token in `admin.token_file`.
const UNNAMED: &str = "admin";

/// The least length of a token with a name: long enough that nobody guesses it.
const LEAST: usize = 16;

/// The longest name.
const LONGEST_NAME: usize = 63;

/// How old what is known of the files may be.
const FRESH: Duration = Duration::from_secs(1);

/// What is wrong with a file of tokens.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct BadTokens {
    /// The key that names the file.
    pub key: &'static str,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// The tokens of the private side.
#[derive(Debug)]
pub struct Tokens {
    config: Config,
    known: RwLock<Known>,
    looked: Mutex<Looked>,
}

#[derive(Debug)]
struct Looked {
    at: Instant,
    /// What was wrong the last time, so that it is said once.
    problem: Option<BadTokens>,
}

type Known = Vec<(Hash, Who)>;
type Hash = [u8; 32];

impl Tokens {
    /// Reads the files that a configuration names.
    ///
    /// # Errors
    /// The first problem of a file.
    pub fn open(config: &Config) -> Result<Self, BadTokens> {
        let known = read_files(config)?;
        Ok(Self {
            config: config.clone(),
            known: RwLock::new(known),
            looked: Mutex::new(Looked { at: Instant::now(), problem: None }),
        })
    }

    /// Whether none is asked for: there is no file.
    pub(super) fn is_open(&self) -> bool {
        self.config.token_file.is_empty() && self.config.tokens_file.is_empty()
    }

    /// Who sent a request with these headers; `None`: somebody without a good token.
    pub(super) fn who(&self, headers: &HeaderMap) -> Option<Who> {
        if self.is_open() {
            return Some(Who { name: LOOPBACK.into(), role: Role::Operate });
        }
        let shown = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?;
        self.look_again();
        let shown = hash(shown);
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().fold(None, |found, (token, who)| match verify_slices_are_equal(token, &shown) {
            Ok(()) => Some(who.clone()),
            Err(_) => found,
        })
    }

    /// Reads the files again if what is known of them is not fresh.
    fn look_again(&self) {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.at.elapsed() < FRESH {
            return;
        }
        looked.at = Instant::now();
        match read_files(&self.config) {
            Ok(read) => {
                looked.problem = None;
                let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
                if *known != read {
                    tracing::info!(target: "audit", tokens = read.len(), "the tokens of the private side have changed in their files");
                    *known = read;
                }
            }
            Err(problem) => {
                if looked.problem.as_ref() != Some(&problem) {
                    tracing::error!(%problem, "the tokens of the private side cannot be read anew; those read before stay good");
                    looked.problem = Some(problem);
                }
            }
        }
    }
}

fn hash(token: &str) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
}

fn read_files(config: &Config) -> Result<Known, BadTokens> {
    let mut known = Vec::new();
    let path = &config.token_file;
    if !path.is_empty() {
        let key = "admin.token_file";
        let bad = |message: &str| BadTokens { key, message: format!("the file {path} {message}") };
        let text = read(key, path)?;
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let token = lines.next().ok_or_else(|| bad("is empty"))?;
        if lines.next().is_some() {
            return Err(bad("holds several lines; expected one"));
        }
        known.push((hash(token.trim()), Who { name: UNNAMED.into(), role: Role::Operate }));
    }
    let path = &config.tokens_file;
    if !path.is_empty() {
        let key = "admin.tokens_file";
        let text = read(key, path)?;
        let named = named(&text)
            .map_err(|message| BadTokens { key, message: format!("the file {path} {message}") })?;
        known.extend(named);
    }
    Ok(known)
}

fn read(key: &'static str, path: &str) -> Result<String, BadTokens> {
    std::fs::read_to_string(path).map_err(|error| {
        let why = match error.kind() {
            std::io::ErrorKind::NotFound => "does not exist".to_owned(),
            std::io::ErrorKind::PermissionDenied => "may not be read by this user".to_owned(),
            other => format!("cannot be read ({other})"),
        };
        BadTokens { key, message: format!("the file {path} {why}") }
    })
}

/// The tokens of a file with names: `ROLE NAME TOKEN` on each line. A name may have several tokens, so that a new one can
/// be handed out before the old one goes.
fn named(text: &str) -> Result<Known, String> {
    let mut known = Known::new();
    let mut roles = BTreeMap::new();
    for (line, text) in (1..).zip(text.lines()) {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (role, name, token) = match words.as_slice() {
            [] => continue,
            [first, ..] if first.starts_with('#') => continue,
            [role, name, token] => (role, name, token),
            _ => return Err(format!("has on line {line} something else than a role, a name and a token")),
        };
        let role = Role::parse(role)
            .ok_or_else(|| format!("begins line {line} with another role than read or operate"))?;
        if !is_name(name) {
            return Err(format!(
                "has on line {line} a name that is not 1 to {LONGEST_NAME} letters, digits, `-`, `_` and `.`, or is kept \
                 for the service: {LOOPBACK}, {UNNAMED}"
            ));
        }
        if token.len() < LEAST {
            return Err(format!("has on line {line} a token of fewer than {LEAST} characters"));
        }
        if *roles.entry(*name).or_insert(role) != role {
            return Err(format!("gives on line {line} a second role to the same name; use two names"));
        }
        let hash = hash(token);
        if known.iter().any(|(earlier, _)| *earlier == hash) {
            return Err(format!("has on line {line} a token that stands on an earlier line already"));
        }
        known.push((hash, Who { name: Arc::from(*name), role }));
    }
    if known.is_empty() { Err("holds no token".to_owned()) } else { Ok(known) }
}

fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=LONGEST_NAME).contains(&name.len())
        && name.chars().all(plain)
        && ![LOOPBACK, UNNAMED].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: &str = "made-up-token-of-alice";
    const BOB: &str = "made-up-token-of-bob-1";

    fn shown(token: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, format!("Bearer {token}").parse().unwrap())])
    }

    #[test]
    fn lines_are_a_role_a_name_and_a_token() {
        let text =
            format!("# who\n\noperate alice {ALICE}\n  read\tbob  {BOB} \nread bob made-up-token-of-bob-2\n");
        let read = named(&text).unwrap();
        let names: Vec<_> = read.iter().map(|(_, who)| (&*who.name, who.role.as_str())).collect();
        assert_eq!(names, [("alice", "operate"), ("bob", "read"), ("bob", "read")]);
    }

    #[test]
    fn a_bad_line_is_told_by_its_number_and_never_repeated() {
        let good = format!("read bob {BOB}\n");
        for (line, message) in [
            ("", "holds no token"),
            ("# nobody", "holds no token"),
            ("read alice", "line 1 something else"),
            ("read alice made-up-token-of-alice more", "line 1 something else"),
            ("admin alice made-up-token-of-alice", "line 1 with another role"),
            ("read al/ice made-up-token-of-alice", "line 1 a name that is not"),
            ("read loopback made-up-token-of-alice", "line 1 a name that is not"),
            ("read admin made-up-token-of-alice", "line 1 a name that is not"),
            ("read alice made-up", "line 1 a token of fewer than 16"),
            ("operate bob made-up-token-of-alice\nread bob made-up-token-of-bob-2", "line 2 a second role"),
            (&format!("{good}operate alice {BOB}"), "line 2 a token that stands"),
        ] {
            let refused = named(line).unwrap_err();
            assert!(refused.contains(message), "{line}: {refused}");
            assert!(!refused.contains("made-up") && !refused.contains("alice"), "{refused}");
        }
    }

    #[test]
    fn a_token_is_known_in_full_only() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("tokens");
        std::fs::write(&file, format!("operate alice {ALICE}\nread bob {BOB}\n")).unwrap();
        let config = Config { tokens_file: file.display().to_string(), ..Config::default() };
        let tokens = Tokens::open(&config).unwrap();
        let name = |token: &str| tokens.who(&shown(token)).map(|who| who.name.to_string());
        assert_eq!(name(ALICE).as_deref(), Some("alice"));
        assert_eq!(name(BOB).as_deref(), Some("bob"));
        for token in ["", "ade-up-token-of-alice", &format!("{ALICE}x"), "alice", "Bearer"] {
            assert_eq!(name(token), None, "{token}");
        }
        assert_eq!(tokens.who(&HeaderMap::new()), None);
        assert!(!format!("{tokens:?}").contains("made-up"));
    }

    #[test]
    fn files_are_read_anew_and_a_bad_one_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("tokens");
        std::fs::write(&file, format!("read alice {ALICE}\n")).unwrap();
        let config = Config { tokens_file: file.display().to_string(), ..Config::default() };
        let tokens = Tokens::open(&config).unwrap();
        let age = || tokens.looked.lock().unwrap().at -= FRESH;
        std::fs::write(&file, format!("read alice {ALICE}\nread bob {BOB}\n")).unwrap();
        age();
        assert!(tokens.who(&shown(ALICE)).is_some() && tokens.who(&shown(BOB)).is_some());
        for bad in ["", "read alice"] {
            std::fs::write(&file, bad).unwrap();
            age();
            assert!(tokens.who(&shown(BOB)).is_some(), "{bad:?}");
        }
        std::fs::write(&file, format!("read bob {BOB}\n")).unwrap();
        age();
        assert!(tokens.who(&shown(ALICE)).is_none() && tokens.who(&shown(BOB)).is_some());
    }
}
