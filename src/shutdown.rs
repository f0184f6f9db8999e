//! Long-lived tasks and how they end: one named set, and one token that is passed, not a global.
//!
//! Invariant: a long-lived task that panics ends the process. The queue is durable; a half-dead service is worse
//! than a restarted one.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

/// The two steps of an orderly end.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Cancelled at the first signal: stop taking in, finish what is in flight.
    pub drain: CancellationToken,
    /// Cancelled when the drain deadline has passed: put back what is still in flight.
    pub stop: CancellationToken,
}

/// Whether an operator has taken the process out of rotation: load balancers are told to turn away, and it goes on.
#[derive(Debug, Clone, Default)]
pub struct Rotation(Arc<AtomicBool>);

impl Rotation {
    /// Takes the process out, or brings it back; whether that is a change.
    pub fn set(&self, out: bool) -> bool {
        self.0.swap(out, Ordering::AcqRel) != out
    }

    /// Whether it is out.
    pub fn is_out(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The named set of long-lived tasks; the only place where tasks of the service are started.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<()>,
    names: Vec<(Id, &'static str)>,
}

impl Tasks {
    /// Starts a task under a name.
    pub fn start(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let id = self.set.spawn(task).id();
        self.names.push((id, name));
    }

    /// Waits for the next task to end: its name, and whether it ended in order (false: it panicked).
    /// `None` when no task is left.
    pub async fn ended(&mut self) -> Option<(&'static str, bool)> {
        let (id, in_order) = match self.set.join_next_with_id().await? {
            Ok((id, ())) => (id, true),
            Err(error) => (error.id(), false),
        };
        let name = self.names.iter().find(|(known, _)| *known == id).map_or("unknown", |(_, name)| name);
        Some((name, in_order))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_reported_by_name() {
        let mut tasks = Tasks::default();
        tasks.start("good", async {});
        assert_eq!(tasks.ended().await, Some(("good", true)));
        tasks.start("bad", async { panic!("on purpose") });
        assert_eq!(tasks.ended().await, Some(("bad", false)));
        assert_eq!(tasks.ended().await, None);
    }
}
