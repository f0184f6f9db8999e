//! Asking before what cannot be undone.

use std::io::{BufRead, IsTerminal, Write};

use clap::Args;

use super::Failure;

/// Whether a person has agreed to what cannot be undone.
#[derive(Debug, Args)]
pub(super) struct Confirmation {
    /// Do it without asking. Where standard input is no terminal, nothing is done without it
    #[arg(long)]
    yes: bool,
}

impl Confirmation {
    /// Whether somebody must be asked.
    pub(super) fn is_needed(&self) -> bool {
        !self.yes
    }

    /// Refuses where nobody can be asked. Called before any work, so that a script learns at once what it lacks.
    pub(super) fn can_be_given(&self, action: &str) -> Result<(), Failure> {
        // The question goes to standard error: one that nobody sees is none.
        if self.yes || std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
            return Ok(());
        }
        Err(Failure::usage(format!(
            "{action} cannot be undone, and there is no terminal to ask on: nothing was done. Say --yes"
        )))
    }

    /// Asks whether this should be done: a sentence that says exactly what, with counts.
    pub(super) fn ask(&self, what: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        let mut stderr = std::io::stderr();
        let _ = write!(stderr, "{what} This cannot be undone. Go on? [y/N] ");
        let _ = stderr.flush();
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).map_err(Failure::running)?;
        if is_yes(&answer) { Ok(()) } else { Err(Failure::running("Nothing was done.")) }
    }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        for (answer, yes) in [
            ("y\n", true),
            ("YES\r\n", true),
            (" yes ", true),
            ("\n", false),
            ("", false),
            ("n", false),
            ("yess", false),
        ] {
            assert_eq!(is_yes(answer), yes, "{answer:?}");
        }
    }
}
