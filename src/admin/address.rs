//! Every address of the private side: the one table from which the router, the roles and the OpenAPI document are made.

use http::Method;

use super::tokens::Role;

/// What can be asked for, or done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Operation {
    /// Counts and standings of now.
    Stats,
    /// Events that match.
    Events,
    /// One event with everything that is known of it.
    Event,
    /// One waiting event is tried at once.
    RetryEvent,
    /// Events that were refused.
    Rejected,
    /// Requests that could not be authenticated.
    RefusedRequests,
    /// Organizations that match.
    Organizations,
    /// One organization.
    Organization,
    /// No more deliveries of an organization.
    Pause,
    /// Deliveries of an organization again.
    Resume,
    /// Waiting events of an organization are tried at once.
    Retry,
    /// A made-up event on the real way.
    TestEvent,
    /// What events would become.
    Translate,
    /// Dead letters that match.
    DeadLetters,
    /// One dead letter with everything that is known of it.
    DeadLetter,
    /// Dead letters go back to the queue.
    Replay,
    /// Dead letters go to the history.
    Discard,
    /// Dead letters as lines.
    Export,
    /// Lines as events.
    Import,
    /// Events of another queue, as lines.
    Move,
    /// Whether the process is out of rotation.
    Rotation,
    /// Out of rotation, or back into it.
    Drain,
    /// Which lines are logged.
    LogLevel,
    /// Other lines from now on.
    SetLogLevel,
    /// The metrics.
    Metrics,
    /// The OpenAPI document.
    Document,
}

impl Operation {
    /// All of them, in the order in which people should read them.
    pub(super) const ALL: [Self; 26] = [
        Self::Stats,
        Self::Events,
        Self::Event,
        Self::RetryEvent,
        Self::Rejected,
        Self::RefusedRequests,
        Self::Organizations,
        Self::Organization,
        Self::Pause,
        Self::Resume,
        Self::Retry,
        Self::TestEvent,
        Self::Translate,
        Self::DeadLetters,
        Self::DeadLetter,
        Self::Replay,
        Self::Discard,
        Self::Export,
        Self::Import,
        Self::Move,
        Self::Rotation,
        Self::Drain,
        Self::LogLevel,
        Self::SetLogLevel,
        Self::Metrics,
        Self::Document,
    ];

    /// Its path, with parameters in braces: the router and OpenAPI write them alike.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Stats => "/api/stats",
            Self::Events => "/api/events",
            Self::Event => "/api/events/{number}",
            Self::RetryEvent => "/api/events/{number}/retry",
            Self::Rejected => "/api/rejected",
            Self::RefusedRequests => "/api/requests/refused",
            Self::Organizations => "/api/organizations",
            Self::Organization => "/api/organizations/{name}",
            Self::Pause => "/api/organizations/{name}/pause",
            Self::Resume => "/api/organizations/{name}/resume",
            Self::Retry => "/api/organizations/{name}/retry",
            Self::TestEvent => "/api/organizations/{name}/test-event",
            Self::Translate => "/api/translate",
            Self::DeadLetters => "/api/dead-letters",
            Self::DeadLetter => "/api/dead-letters/{number}",
            Self::Replay => "/api/dead-letters/replay",
            Self::Discard => "/api/dead-letters/discard",
            Self::Export => "/api/dead-letters/export",
            Self::Import => "/api/dead-letters/import",
            Self::Move => "/api/queue/import",
            Self::Rotation | Self::Drain => "/api/drain",
            Self::LogLevel | Self::SetLogLevel => "/api/log-level",
            Self::Metrics => "/metrics",
            Self::Document => "/api/openapi.json",
        }
    }

    /// Its name, as an audit line and OpenAPI have it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Stats => "stats",
            Self::Events => "events",
            Self::Event => "event",
            Self::RetryEvent => "retry_event",
            Self::Rejected => "rejected",
            Self::RefusedRequests => "refused_requests",
            Self::Organizations => "organizations",
            Self::Organization => "organization",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Retry => "retry",
            Self::TestEvent => "test_event",
            Self::Translate => "translate",
            Self::DeadLetters => "dead_letters",
            Self::DeadLetter => "dead_letter",
            Self::Replay => "replay",
            Self::Discard => "discard",
            Self::Export => "export",
            Self::Import => "import",
            Self::Move => "queue_import",
            Self::Rotation => "rotation",
            Self::Drain => "drain",
            Self::LogLevel => "log_level",
            Self::SetLogLevel => "set_log_level",
            Self::Metrics => "metrics",
            Self::Document => "document",
        }
    }

    /// What it does.
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Stats
            | Self::Events
            | Self::Event
            | Self::Rejected
            | Self::RefusedRequests
            | Self::Organizations
            | Self::Organization
            | Self::DeadLetters
            | Self::DeadLetter
            | Self::Export
            | Self::Rotation
            | Self::LogLevel
            | Self::Metrics
            | Self::Document => Kind::Look,
            Self::Translate => Kind::Ask,
            Self::Pause
            | Self::Resume
            | Self::Retry
            | Self::RetryEvent
            | Self::TestEvent
            | Self::Replay
            | Self::Discard
            | Self::Import
            | Self::Move
            | Self::Drain
            | Self::SetLogLevel => Kind::Change,
        }
    }

    /// The type of the body that it takes, if it takes one.
    pub(super) fn media_type(self) -> Option<&'static str> {
        match (self, self.kind()) {
            (_, Kind::Look) => None,
            (Self::Import | Self::Move, _) => Some(super::body::LINES),
            (_, Kind::Ask | Kind::Change) => Some(super::body::JSON),
        }
    }
}

/// What an operation does to the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It shows something.
    Look,
    /// It shows something, and the question is too large for an address.
    Ask,
    /// It changes something, and an audit line says so.
    Change,
}

impl Kind {
    /// The methods that are taken.
    pub(super) fn methods(self) -> &'static [Method] {
        match self {
            Self::Look => &[Method::GET, Method::HEAD],
            Self::Ask | Self::Change => &[Method::POST],
        }
    }

    /// The role that is needed.
    pub(super) fn role(self) -> Role {
        match self {
            Self::Look | Self::Ask => Role::Read,
            Self::Change => Role::Operate,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// An operation that does not stand in the list would have no route.
    #[test]
    fn every_operation_has_its_place_and_its_name() {
        let places: HashSet<_> = Operation::ALL.iter().map(|it| (it.path(), it.kind().methods())).collect();
        let names: HashSet<_> = Operation::ALL.iter().map(|it| it.name()).collect();
        assert_eq!((places.len(), names.len()), (Operation::ALL.len(), Operation::ALL.len()));
        assert_eq!(Operation::ALL.len(), Operation::Document as usize + 1);
    }
}
