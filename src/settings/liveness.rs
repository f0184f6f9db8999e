//! Which keys a running service takes over, and which need a restart: one declaration, from which the defaults file and
//! the documents are printed, and by which a reload decides.
//!
//! A key needs a restart where what it sets up is made once: a listener, the queue's files, the HTTP client. A test
//! compares the table with the schema, so no key is without a row.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Settings;

/// When a changed value takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// With the reload.
    Live,
    /// With the next start; until then the old one stays in force.
    Restart,
}

use Takes::{Live, Restart};

impl Takes {
    /// In words, for `config/default.toml`.
    pub(super) fn words(self) -> &'static str {
        match self {
            Live => "Live.",
            Restart => "Needs a restart.",
        }
    }
}

/// Every key. A name without a key stands for all keys below it.
const KEYS: &[(&str, Takes)] = &[
    ("ingress.listen", Restart),
    ("ingress.max_body", Live),
    ("ingress.max_event", Live),
    ("ingress.max_events", Live),
    ("ingress.deadline", Live),
    ("ingress.read_timeout", Live),
    ("ingress.idle_timeout", Restart),
    ("ingress.max_connections", Restart),
    ("ingress.partner_mode", Live),
    ("ingress.partner_waiting_events", Live),
    ("ingress.unproven_partners", Live),
    ("ingress.key_header", Live),
    ("ingress.failed_auth_per_minute", Live),
    ("ingress.drain_grace", Restart),
    ("ingress.drain_deadline", Restart),
    ("admin.listen", Restart),
    ("admin.token_file", Live),
    ("admin.tokens_file", Live),
    ("queue.engine", Restart),
    ("queue.path", Restart),
    ("queue.max_disk", Restart),
    ("queue.dedup_window", Restart),
    ("queue.dedup_entries", Restart),
    ("queue.history_retention", Restart),
    ("queue.history_size", Restart),
    ("queue.max_dead_letters", Restart),
    ("queue.history_full_per_second", Restart),
    ("queue.history_full_per_second_in_all", Restart),
    ("delivery.max_in_flight", Restart),
    ("delivery.connect_timeout", Restart),
    ("delivery.timeout", Restart),
    ("delivery.quick_retries", Restart),
    ("delivery.on_ambiguous", Live),
    ("delivery.max_age", Live),
    ("delivery.unproven_partner_max_age", Live),
    ("delivery.lane_hold", Live),
    ("delivery.probe_base", Live),
    ("delivery.probe_cap", Live),
    ("delivery.window", Live),
    ("delivery.retry.base", Live),
    ("delivery.retry.cap", Live),
    ("delivery.retry.horizon", Live),
    ("delivery.retry.retry_after_cap", Live),
    ("delivery.retry.soft_failures", Live),
    ("delivery.breaker.lanes", Live),
    ("delivery.breaker.base", Live),
    ("delivery.breaker.cap", Live),
    ("telemetry.log_format", Restart),
    ("telemetry.log", Live),
    ("telemetry.log_summary", Restart),
    ("telemetry.metric_organizations", Restart),
    ("telemetry.traces.endpoint", Restart),
    ("telemetry.traces.protocol", Restart),
    ("telemetry.traces.sample", Restart),
    ("telemetry.traces.propagate", Restart),
    ("telemetry.traces.service_name", Restart),
    ("telemetry.traces.environment", Restart),
    ("reload.poll", Live),
    ("sandbox.listen", Restart),
    ("sandbox.queue_path", Restart),
    ("sandbox.keep_calls", Restart),
    ("sandbox.keep_bytes", Restart),
    ("sandbox.seed", Restart),
    ("organization_defaults", Live),
    ("organizations", Live),
];

/// Every key with when it takes effect, in the order of the sections. `organizations` and `organization_defaults` stand
/// for all of theirs.
pub fn keys() -> impl Iterator<Item = (&'static str, Takes)> {
    KEYS.iter().copied()
}

/// When a key, or all keys of a section, take effect.
pub(super) fn of(key: &str) -> Option<Takes> {
    KEYS.iter().find(|(known, _)| *known == key).map(|(_, takes)| *takes)
}

impl Settings {
    /// Puts the values in force back where this configuration has others for keys that need a restart; the keys.
    pub fn keep_until_restart(&mut self, in_force: &Self) -> Vec<&'static str> {
        let mut kept = Vec::new();
        keep("ingress", &mut self.ingress, &in_force.ingress, &mut kept);
        keep("admin", &mut self.admin, &in_force.admin, &mut kept);
        keep("queue", &mut self.queue, &in_force.queue, &mut kept);
        keep("delivery", &mut self.delivery, &in_force.delivery, &mut kept);
        keep("telemetry", &mut self.telemetry, &in_force.telemetry, &mut kept);
        keep("reload", &mut self.reload, &in_force.reload, &mut kept);
        keep("sandbox", &mut self.sandbox, &in_force.sandbox, &mut kept);
        kept
    }
}

/// Puts the values in force back in one section. Sections hold no secrets, so their values are compared as they print.
fn keep<T: Serialize + DeserializeOwned>(
    section: &str,
    new: &mut T,
    in_force: &T,
    kept: &mut Vec<&'static str>,
) {
    const PLAIN: &str = "BUG: a section is made of values that JSON can hold";
    let (mut mixed, old) =
        (serde_json::to_value(&*new).expect(PLAIN), serde_json::to_value(in_force).expect(PLAIN));
    let before = kept.len();
    for (key, takes) in KEYS {
        let Some(rest) = key.strip_prefix(section).and_then(|rest| rest.strip_prefix('.')) else { continue };
        let pointer = format!("/{}", rest.replace('.', "/"));
        if *takes == Restart && mixed.pointer(&pointer) != old.pointer(&pointer) {
            put(&mut mixed, rest, old.pointer(&pointer).cloned());
            kept.push(key);
        }
    }
    if kept.len() > before {
        *new = serde_json::from_value(mixed).expect("BUG: each value was one of this section's");
    }
}

/// Puts a value at a path, or takes away what is there.
fn put(tree: &mut Value, path: &str, value: Option<Value>) {
    let (outer, key) = path.rsplit_once('.').unwrap_or(("", path));
    let pointer = if outer.is_empty() { String::new() } else { format!("/{}", outer.replace('.', "/")) };
    let Some(members) = tree.pointer_mut(&pointer).and_then(Value::as_object_mut) else { return };
    match value {
        Some(value) => drop(members.insert(key.to_owned(), value)),
        None => drop(members.remove(key)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::problem::join;
    use super::super::schema::{Kind, Node, Schema};
    use super::*;

    /// Every key below a node, where the table has none for the whole.
    fn leaves(node: Node<'_>, path: &str, found: &mut Vec<String>) {
        for key in node.keys() {
            let path = join(path, key);
            let Some(child) = node.child(key) else { continue };
            match child.kind() {
                Kind::Section(_) if of(&path).is_none() => leaves(child, &path, found),
                Kind::Section(_) | Kind::Named(_) | Kind::Value => found.push(path),
            }
        }
    }

    #[test]
    fn every_key_has_one_row_and_every_row_a_key() {
        let mut found = Vec::new();
        leaves(Schema::of_settings().root(), "", &mut found);
        let mut rows: Vec<_> = keys().map(|(key, _)| key.to_owned()).collect();
        found.sort();
        rows.sort();
        assert_eq!(found, rows, "keys of the schema (left), rows of the table KEYS (right)");
    }

    #[test]
    fn what_needs_a_restart_is_kept_and_the_rest_is_taken() {
        let in_force = Settings::default();
        let mut new: Settings = toml::from_str(
            r#"
            [ingress]
            listen = "127.0.0.1:9999"
            max_body = "4 MiB"
            [queue]
            path = "elsewhere"
            max_dead_letters = 7
            [delivery]
            timeout = "7s"
            max_age = "9d"
            [delivery.retry]
            base = "3s"
            [reload]
            poll = "9s"
            "#,
        )
        .unwrap();
        let kept = new.keep_until_restart(&in_force);
        assert_eq!(kept, ["ingress.listen", "queue.path", "queue.max_dead_letters", "delivery.timeout"]);
        assert_eq!(
            (new.ingress.listen, new.queue.path.clone()),
            (in_force.ingress.listen, in_force.queue.path.clone())
        );
        assert_eq!((new.queue.max_dead_letters, new.delivery.timeout), (0, in_force.delivery.timeout));
        assert_eq!(new.ingress.max_body, bytesize::ByteSize::mib(4));
        assert_eq!(new.delivery.max_age.map(|span| span.to_string()).as_deref(), Some("9d"));
        assert_eq!(
            (new.delivery.retry.base.to_string(), new.reload.poll.to_string()),
            ("3s".into(), "9s".into())
        );
        assert!(new.keep_until_restart(&in_force).is_empty(), "nothing is left that differs");
    }

    #[test]
    fn a_key_that_can_be_absent_is_kept_as_that() {
        let mut tree = serde_json::json!({ "outer": { "key": 1 } });
        put(&mut tree, "outer.key", None);
        assert_eq!(tree, serde_json::json!({ "outer": {} }));
        put(&mut tree, "outer.key", Some(2.into()));
        put(&mut tree, "top", Some(3.into()));
        assert_eq!(tree, serde_json::json!({ "outer": { "key": 2 }, "top": 3 }));
    }
}
