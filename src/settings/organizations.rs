//! Editing the organizations of a configuration: where the change goes, whether what results is good, and then at once.
//!
//! Invariant: a file is replaced only when the whole configuration that would result has been loaded and checked as at a
//! start. Two edits at a time wait for each other.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::edit::{Change, Home, Unfit, edited};
use super::layer::unreadable;
use super::replace::replace;
use super::{Edit, Place, Problems, Settings, Source, organizations_beside};

/// Why an organization was not changed. Nothing was written then.
#[derive(Debug, thiserror::Error)]
pub enum Unchanged {
    /// There is no file to edit.
    #[error("there is no configuration file to edit; name one with --config FILE or WIGZO_CONFIG")]
    NoFile,
    /// There is no organization of this name.
    #[error("there is no organization {0}; `organizations list` shows those that there are")]
    Unknown(String),
    /// There is one of this name already.
    #[error("organization {name} is configured already, in {place}")]
    Known {
        /// Its name.
        name: String,
        /// Where.
        place: Place,
    },
    /// It is not configured in a file.
    #[error("organization {name} is configured by {place}; change it there")]
    NotInAFile {
        /// Its name.
        name: String,
        /// Where.
        place: Place,
    },
    /// The configuration cannot be loaded, or what would result cannot be served.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// The file does not fit the change.
    #[error("{}: {unfit}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// Why.
        unfit: Unfit,
    },
    /// Something else has the last word on the key.
    #[error("{name} would stay as it is: a later file or an environment variable sets `{key}`")]
    Overruled {
        /// The organization.
        name: String,
        /// The key.
        key: &'static str,
    },
    /// A file or directory cannot be read or written.
    #[error("{} {}", path.display(), unreadable(error))]
    File {
        /// Which.
        path: PathBuf,
        /// The operating system's word.
        error: io::Error,
    },
}

impl Source {
    /// Makes a change of an organization; returns the file in which it was made. `own_file`: a new organization gets a file of its
    /// own, even if there is no directory for them yet.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub fn change(&self, name: &str, change: &Change, own_file: bool) -> Result<PathBuf, Unchanged> {
        let last = self.files().last().ok_or(Unchanged::NoFile)?;
        let _lock = lock(last)?;
        let settings = self.load().0?;
        let (path, home) = match change {
            Change::Add(_) => self.new_home(&settings, name, own_file)?,
            Change::Disable(_) | Change::AddSourceKey(_) | Change::DropOldSourceKeys => {
                home(&settings, name)?
            }
        };
        let failed = |error| Unchanged::File { path: path.clone(), error };
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.map_err(failed)?,
        };
        let text =
            edited(&text, home, change).map_err(|unfit| Unchanged::Unfit { path: path.clone(), unfit })?;
        let edit = Edit { path: path.clone(), text: text.clone() };
        let checked = Settings::load_edited(self.files(), self.env(), edit)?.check(false)?;
        if let Some(key) = overruled(&checked.settings, name, change) {
            return Err(Unchanged::Overruled { name: name.to_owned(), key });
        }
        if let Some(directory) = path.parent().filter(|it| home == Home::WholeFile && !it.exists()) {
            fs::create_dir(directory).map_err(failed)?;
        }
        replace(&path, &text).map_err(failed)?;
        Ok(path)
    }

    /// Where a new organization goes: into a file of its own if there is a directory for them, else into the last file.
    fn new_home<'a>(
        &self,
        settings: &Settings,
        name: &'a str,
        own_file: bool,
    ) -> Result<(PathBuf, Home<'a>), Unchanged> {
        if let Some(place) = settings.place_of(name) {
            return Err(Unchanged::Known { name: name.to_owned(), place: place.clone() });
        }
        let last = self.files().last().ok_or(Unchanged::NoFile)?;
        let directories = self.files().iter().rev().map(|file| organizations_beside(file));
        let existing = directories.into_iter().find(|directory| directory.is_dir());
        match existing.or_else(|| own_file.then(|| organizations_beside(last))) {
            Some(directory) => Ok((directory.join(format!("{name}.toml")), Home::WholeFile)),
            None => Ok((last.clone(), Home::Section(name))),
        }
    }
}

/// Where an organization is.
fn home<'a>(settings: &Settings, name: &'a str) -> Result<(PathBuf, Home<'a>), Unchanged> {
    let place = settings.place_of(name).ok_or_else(|| Unchanged::Unknown(name.to_owned()))?;
    match place {
        // A key that stands on no line stands for the whole file.
        Place::File { path, line: None } => Ok((path.clone(), Home::WholeFile)),
        Place::File { path, line: Some(_) } => Ok((path.clone(), Home::Section(name))),
        Place::Variable(_) => Err(Unchanged::NotInAFile { name: name.to_owned(), place: place.clone() }),
    }
}

/// The key on which something else than the edited file has the last word.
fn overruled(settings: &Settings, name: &str, change: &Change) -> Option<&'static str> {
    let organization = settings.organizations.get(name)?;
    let has = |key: &str| organization.source_keys.iter().any(|it| it.expose() == key);
    match change {
        Change::Disable(disabled) => (organization.disabled != *disabled).then_some("disabled"),
        Change::AddSourceKey(key) => (!has(key.expose())).then_some("source_keys"),
        Change::DropOldSourceKeys => (organization.source_keys.len() != 1).then_some("source_keys"),
        Change::Add(_) => None,
    }
}

/// Holds the directory of a file until it is dropped.
fn lock(file: &Path) -> Result<File, Unchanged> {
    let directory = file.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let locked = File::open(directory).and_then(|opened| opened.lock().map(|()| opened));
    locked.map_err(|error| Unchanged::File { path: directory.to_owned(), error })
}
