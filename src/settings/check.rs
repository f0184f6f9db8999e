//! What no key can say alone: contradictions between keys, and what the secret files hold.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

use bytesize::ByteSize;
use http::HeaderName;

use super::layer::unreadable;
use super::problem::join;
use super::{Problem, Problems, Settings};
use crate::admin::{BadTokens, Tokens};
use crate::clock::Span;
use crate::organization::{BaseUrl, Config, Organizations};
use crate::secret::Secret;
use crate::telemetry::BadEndpoint;

/// The least disk space that a queue can work with.
const LEAST_DISK: ByteSize = ByteSize::mib(64);

/// The most events that may be in flight: far above what one process could work on.
const MOST_IN_FLIGHT: usize = 100_000;

/// The least body of a request with which an event could come.
const LEAST_BODY: ByteSize = ByteSize::kib(1);

/// The largest one. What its events may grow to with their envelope must still fit into what the queue lets wait for
/// the disk, or such a request would be told to come again for ever.
const MOST_BODY: ByteSize = ByteSize::mib(16);

/// The organization token that `--sandbox` makes up; the sandbox takes any.
const SANDBOX_TOKEN: &str = "sandbox-org-token";

/// A configuration that can be served.
#[derive(Debug)]
pub struct Checked {
    /// The settings, as they were loaded (and with the sandbox's organization, if it was added).
    pub settings: Settings,
    /// The organizations, with the secrets of their files.
    pub organizations: Organizations,
    /// Who may do what on the private side.
    pub admin_tokens: Tokens,
}

impl Settings {
    /// Checks what keys mean together and reads the secret files. With `sandbox`, a configuration without any
    /// organization gets one, unless partner mode needs none: `default`, with a made-up token and the sandbox's address (the one that
    /// [`Settings::redirect_to`] was given, else `sandbox.listen`).
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn check(mut self, sandbox: bool) -> Result<Checked, Problems> {
        let mut findings = Findings { settings: &self, problems: Vec::new() };
        findings.check_ranges();
        let admin_tokens = findings.admin_tokens();
        let mut problems = findings.problems;
        if self.organizations.is_empty() && sandbox && !self.ingress.partner_mode {
            self.organizations.insert("default".to_owned(), self.sandbox_organization());
        }
        let mut findings = Findings { settings: &self, problems: Vec::new() };
        let organizations = findings.organizations();
        problems.append(&mut findings.problems);
        match (organizations, admin_tokens) {
            (Some(organizations), Some(admin_tokens)) if problems.is_empty() => {
                Ok(Checked { settings: self, organizations, admin_tokens })
            }
            _ => Err(Problems(problems)),
        }
    }

    fn sandbox_organization(&self) -> Config {
        let listen = || BaseUrl::try_from(format!("http://{}", self.sandbox.listen)).ok();
        Config {
            org_token: Some(Secret::new(SANDBOX_TOKEN)),
            base_url: self.redirected.clone().or_else(listen),
            ..Config::default()
        }
    }
}

impl Checked {
    /// What can be served, and is probably not meant.
    pub fn warnings(&self) -> Vec<Problem> {
        let mut findings = Findings { settings: &self.settings, problems: Vec::new() };
        let enabled = self.organizations.iter().filter(|it| !it.disabled).count();
        if self.settings.delivery.max_in_flight <= enabled {
            findings.add(
                "delivery.max_in_flight",
                format!(
                    "leaves no calls for others when organizations hang: {enabled} of them are enabled; set at least {}",
                    enabled + 1
                ),
            );
        }
        findings.problems
    }
}

/// The findings so far on some settings.
struct Findings<'a> {
    settings: &'a Settings,
    problems: Vec<Problem>,
}

impl Findings<'_> {
    fn add(&mut self, key: impl Into<String>, message: impl fmt::Display) {
        let key = key.into();
        let place = self.settings.places.find(&key).cloned();
        self.problems.push(Problem { place, key, message: message.to_string() });
    }

    /// The numbers that depend on each other, and those whose rooms take any number.
    fn check_ranges(&mut self) {
        let delivery = &self.settings.delivery;
        let retry = &delivery.retry;
        if !(1..=MOST_IN_FLIGHT).contains(&delivery.max_in_flight) {
            self.add(
                "delivery.max_in_flight",
                format!("expected a whole number, from 1 to {MOST_IN_FLIGHT}"),
            );
        }
        self.check_order(
            "delivery",
            ("connect_timeout", delivery.connect_timeout),
            ("timeout", delivery.timeout),
        );
        self.check_order("delivery", ("probe_base", delivery.probe_base), ("probe_cap", delivery.probe_cap));
        let breaker = delivery.breaker;
        self.check_order("delivery.breaker", ("base", breaker.base), ("cap", breaker.cap));
        self.check_order("delivery.retry", ("base", retry.base), ("cap", retry.cap));
        self.check_order("delivery.retry", ("cap", retry.cap), ("horizon", retry.horizon));
        if self.settings.queue.max_disk < LEAST_DISK {
            self.add("queue.max_disk", "expected at least \"64 MiB\"");
        }
        self.check_ingress();
        self.check_positive();
        if let Err(bad) = self.settings.telemetry.filter() {
            self.add("telemetry.log", bad);
        }
        if let Err(bad) = self.settings.telemetry.traces.check() {
            let key = match bad {
                BadEndpoint::NotBuilt(_) => "telemetry.traces.protocol",
                BadEndpoint::Address | BadEndpoint::Client => "telemetry.traces.endpoint",
            };
            self.add(key, bad);
        }
    }

    /// What would make a service that takes no request.
    fn check_ingress(&mut self) {
        let ingress = &self.settings.ingress;
        if !(LEAST_BODY..=MOST_BODY).contains(&ingress.max_body) {
            self.add("ingress.max_body", "expected a size from \"1 KiB\" to \"16 MiB\"");
        }
        if ingress.max_event < LEAST_BODY {
            self.add("ingress.max_event", "expected at least \"1 KiB\"");
        }
        if !ingress.key_header.is_empty() && HeaderName::try_from(&ingress.key_header).is_err() {
            self.add("ingress.key_header", "expected the name of a header, such as \"X-Source-Key\"");
        }
    }

    /// Spans within which something must be possible.
    fn check_positive(&mut self) {
        let Settings { ingress, delivery, telemetry, .. } = self.settings;
        for (key, span) in [
            ("telemetry.log_summary", telemetry.log_summary),
            ("ingress.deadline", ingress.deadline),
            ("ingress.read_timeout", ingress.read_timeout),
            ("ingress.idle_timeout", ingress.idle_timeout),
            ("delivery.connect_timeout", delivery.connect_timeout),
            ("delivery.timeout", delivery.timeout),
            ("delivery.probe_base", delivery.probe_base),
            ("delivery.breaker.base", delivery.breaker.base),
            ("delivery.unproven_partner_max_age", delivery.unproven_partner_max_age),
        ] {
            if span.0.is_zero() {
                self.add(key, "expected a duration longer than nothing, such as \"1s\"");
            }
        }
    }

    /// Two spans of a section, of which the first must not be the longer one. The finding is on the one that was set.
    fn check_order(&mut self, section: &str, less: (&str, Span), more: (&str, Span)) {
        if less.1 <= more.1 {
            return;
        }
        let culprit = [less.0, more.0]
            .into_iter()
            .map(|key| join(section, key))
            .find(|key| self.settings.places.has(key))
            .unwrap_or_else(|| section.to_owned());
        self.add(
            culprit,
            format!("`{}` ({}) must not be longer than `{}` ({})", less.0, less.1, more.0, more.1),
        );
    }

    /// The tokens of the private side, from their files.
    fn admin_tokens(&mut self) -> Option<Tokens> {
        let admin = &self.settings.admin;
        if admin.token_file.is_empty() && admin.tokens_file.is_empty() && !is_loopback(admin.listen) {
            self.add(
                "admin.listen",
                "anybody on this network could read customer data; set admin.token_file, or listen on 127.0.0.1",
            );
        }
        Tokens::open(admin).map_err(|BadTokens { key, message }| self.add(key, message)).ok()
    }

    /// The organizations, with what their files hold.
    fn organizations(&mut self) -> Option<Organizations> {
        let settings = self.settings;
        if settings.organizations.is_empty() && !settings.ingress.partner_mode {
            self.add("organizations", "there is none; set WIGZO_ORG_TOKEN or add [organizations.NAME]");
            return None;
        }
        let mut complete = BTreeMap::new();
        for (name, config) in &settings.organizations {
            let config = self.with_files(name, config.clone());
            self.check_reachable(name, &config);
            complete.insert(name.clone(), config);
        }
        match Organizations::build(&settings.organization_defaults, &complete) {
            Ok(organizations) => {
                if settings.ingress.partner_mode {
                    for problem in organizations.partner_problems() {
                        self.add(problem.key, problem.message);
                    }
                }
                Some(organizations)
            }
            Err(found) => {
                for problem in found {
                    // Why a file could not be read has been said; that it was not read need not be.
                    if !self.problems.iter().any(|said| said.key == problem.key) {
                        self.add(problem.key, problem.message);
                    }
                }
                None
            }
        }
    }

    /// Without key and secret everybody who reaches the port can send in the organization's name.
    fn check_reachable(&mut self, name: &str, config: &Config) {
        let listen = self.settings.ingress.listen;
        let guarded = !config.source_keys.is_empty()
            || !config.shared_secrets.is_empty()
            || config.source_keys_file.is_some()
            || config.shared_secrets_file.is_some();
        if guarded || config.open || is_loopback(listen) {
            return;
        }
        let shorthand = if name == "default" { " (or WIGZO_SOURCE_KEYS, WIGZO_SHARED_SECRETS)" } else { "" };
        self.add(
            format!("organizations.{name}"),
            format!(
                "has neither key nor secret, but ingress.listen is {listen}: anybody who reaches it could send; set \
                 source_keys or shared_secrets{shorthand}, or listen on 127.0.0.1"
            ),
        );
    }

    /// The configuration with the secrets of its files in the keys beside them.
    fn with_files(&mut self, name: &str, mut config: Config) -> Config {
        let key = |key: &str| format!("organizations.{name}.{key}");
        if let Some(path) = &config.org_token_file {
            if config.org_token.is_some() {
                self.add(key("org_token_file"), "org_token is set as well; keep one of the two");
            } else {
                config.org_token = self.secret_file(&key("org_token_file"), path);
            }
        }
        if let Some(path) = &config.token_file {
            if config.token.is_some() {
                self.add(key("token_file"), "token is set as well; keep one of the two");
            } else {
                config.token = self.secret_file(&key("token_file"), path);
            }
        }
        if let Some(path) = &config.source_keys_file {
            config.source_keys.extend(self.secret_lines(&key("source_keys_file"), path));
        }
        if let Some(path) = &config.shared_secrets_file {
            config.shared_secrets.extend(self.secret_lines(&key("shared_secrets_file"), path));
        }
        config
    }

    /// The one secret that a file holds.
    fn secret_file(&mut self, key: &str, path: &str) -> Option<Secret> {
        let mut lines = self.secret_lines(key, path);
        if lines.len() > 1 {
            self.add(key, format!("the file {path} holds several lines; expected one"));
            return None;
        }
        lines.pop()
    }

    /// The secrets of a file, one on each line; none after a problem.
    fn secret_lines(&mut self, key: &str, path: &str) -> Vec<Secret> {
        match self.settings.disk.text(Path::new(path)) {
            Ok(text) => {
                let lines: Vec<_> =
                    text.lines().filter(|line| !line.trim().is_empty()).map(Secret::new).collect();
                if lines.is_empty() {
                    self.add(key, format!("the file {path} is empty"));
                }
                lines
            }
            Err(error) => {
                self.add(key, format!("the file {path} {}", unreadable(&error)));
                Vec::new()
            }
        }
    }
}

/// Whether only this machine can reach the address.
fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
