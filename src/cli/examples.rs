//! What `--help` teaches by example. Tests look up that every command and flag in it exists.

/// `serve`
pub(super) const SERVE: &str = "\
Examples:
  Try it, without an account:
    wigzo-destination serve --sandbox
  For one organization, on this machine only:
    WIGZO_ORG_TOKEN=3f0c1a52-7d44-4b0e-9a1b-5f6e7d8c9b0a wigzo-destination serve
  As a service:
    wigzo-destination serve --config /etc/wigzo-destination/config.toml

SIGTERM ends it in order: what was accepted is on disk and goes on after the next start.
Exit codes: 0 ended in order; 1 it failed, at the start or later: start it again; 2 the configuration is wrong.";

/// `sandbox`
pub(super) const SANDBOX: &str = "\
Examples:
  Start it, and let every second call fail:
    wigzo-destination sandbox
    curl -X PUT http://127.0.0.1:8090/_sandbox/faults -d '[{\"probability\": 0.5, \"status\": 503}]'
  What it has been sent, and what else it can do:
    curl http://127.0.0.1:8090/_sandbox/calls
    curl http://127.0.0.1:8090/_sandbox

Exit codes: 0 ended in order; 1 it cannot listen; 2 the configuration is wrong.";

/// `check`
pub(super) const CHECK: &str = "\
Examples:
  Before a restart:
    wigzo-destination check --config /etc/wigzo-destination/config.toml
  For a script: where each problem stands, and what would be right:
    wigzo-destination check --json --config /etc/wigzo-destination/config.toml

Exit codes: 0 good; 2 not.";

/// `print-config`
pub(super) const PRINT_CONFIG: &str = "\
Examples:
  Every key with its default and its meaning:
    wigzo-destination print-config --default
  What is in force, after all files and variables:
    wigzo-destination print-config --config /etc/wigzo-destination/config.toml

Exit codes: 0 printed; 2 the configuration is wrong.";

/// `translate`
pub(super) const TRANSLATE: &str = "\
Examples:
  One event:
    echo '{\"type\":\"track\",\"userId\":\"user-42\",\"event\":\"Product Viewed\"}' | wigzo-destination translate
  As an organization's own table has it, as JSON:
    wigzo-destination translate --config config.toml --organization shop --json events.jsonl

Exit codes: 0 every event would be taken; 2 the command line or the configuration is wrong; 3 an event would be refused.";

/// `profiles`
pub(super) const PROFILES: &str = "\
Examples:
  What there is, and one of them as a table:
    wigzo-destination profiles list
    wigzo-destination profiles show guide
  The table of an organization, with its changes:
    wigzo-destination profiles show --config config.toml --organization shop

Exit codes: 0 shown; 2 the command line or the configuration is wrong.";

/// `health`
pub(super) const HEALTH: &str = "\
Examples:
  The service of this configuration, and one elsewhere:
    wigzo-destination health
    wigzo-destination health --url http://127.0.0.1:8080/readyz

Exit codes: 0 ready; 1 not, or it does not answer; 2 the command line or the configuration is wrong.";

/// `doctor`
pub(super) const DOCTOR: &str = "\
It looks at the configuration, the tokens' shape, files with secrets, the disk and how long it takes to sync, file
descriptors, ports, the clock, and the way to Wigzo: name, connection, TLS. It calls nothing and changes nothing.

Examples:
  Before the first start, as the user of the service:
    wigzo-destination doctor --config /etc/wigzo-destination/config.toml
  For a script, and without any connection:
    wigzo-destination doctor --json --offline

Exit codes: 0 nothing is broken (warnings may stand); 1 something is; 2 the configuration is.";

/// `completions`
pub(super) const COMPLETIONS: &str = "\
Examples:
    wigzo-destination completions bash > /etc/bash_completion.d/wigzo-destination
    wigzo-destination completions fish > ~/.config/fish/completions/wigzo-destination.fish";

/// `man`
pub(super) const MAN: &str = "\
Examples:
    wigzo-destination man | man -l -
    wigzo-destination man --into /usr/local/share/man/man1

Exit codes: 0 printed or written; 1 the directory cannot be written.";
