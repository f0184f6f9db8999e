//! How far a long command is: a bar on a terminal, nothing anywhere else.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Bytes,
    Things,
}

/// A bar on standard error, if that is a terminal. It goes away when it is dropped.
#[derive(Debug)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// A bar for so many things, each called so; 0: how many is not known yet.
    pub(super) fn of(total: u64, unit: Unit, what: &'static str) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        let template = match unit {
            Unit::Bytes => "{bar:32} {percent:>3}%  {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left",
            Unit::Things => "{bar:32} {percent:>3}%  {human_pos} of {human_len} {msg}  {per_sec}  {eta} left",
        };
        let style =
            ProgressStyle::with_template(template).expect("BUG: a fixed template").progress_chars("=> ");
        Self(bar.with_style(style).with_message(what))
    }

    /// A count of things of which nobody knows how many there will be.
    pub(super) fn counting(what: &'static str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{spinner} {human_pos} {msg}  {per_sec}")
            .expect("BUG: a fixed template");
        Self(bar.with_style(style).with_message(what))
    }

    /// So much is done; of 0: nobody knows of how many.
    pub(super) fn at(&self, done: u64, total: u64) {
        if total > 0 && self.0.length() != Some(total) {
            self.0.set_length(total);
        }
        self.0.set_position(done);
    }

    /// So much is done: a bar where somebody sees it, else a line for whoever reads the log of a script.
    pub(super) fn step(&self, done: u64, total: u64, line: &str) {
        if self.0.is_hidden() {
            super::complain(line);
        } else {
            self.at(done, total);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
