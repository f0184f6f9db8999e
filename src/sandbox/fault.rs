//! Faults on demand: the rules that make the sandbox slow, unwilling or rude, and the choice for one call.
//!
//! Rules are looked at in order. Each that fires adds its latency; the first that also says how to answer
//! ends the search, so one rule may slow everything down while a later one fails some of it. A rule fires when
//! the call matches, it is not used up, and its probability says so. Given the same seed, rules and calls, the
//! same calls fail: setting rules starts the randomness anew.
//!
//! Faults stand where a proxy or a failing server would, before any check of the call. Nothing here does I/O
//! or waits: a [`Decision`] says what the server is to do.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use super::call::{Fields, Target, deserialize_endpoint, serialize_endpoint};
use super::random::Random;
use crate::wigzo::{Endpoint, Reply, Verdict, verdict};

/// The longest latency that a rule may ask for: more is a slip of the pen.
const MAX_LATENCY_MS: u64 = 3_600_000;

/// One fault rule. A rule says at least one of `latency`, `status`, `body` and `effect`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// Only calls with this organization token. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org_token: Option<String>,
    /// Only calls to this endpoint (`identify`, `event`, `product`, `shipment`). Default: any.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "serialize_endpoint",
        deserialize_with = "deserialize_endpoint"
    )]
    pub endpoint: Option<Endpoint>,
    /// Only event calls whose `eventName` contains this text. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_name: Option<String>,
    /// How likely the rule fires on a call that matches, `0.0..=1.0`. Default: 1.
    pub probability: f64,
    /// How many times the rule may still fire. Default: without end. Read back, it says what is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
    /// How long the answer (or the effect) is held back. The call is recorded when it arrives. Default: not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// The status to answer with, `200..=599`. Default: 200 if there is a `body`, else the call's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The `Retry-After` header of the answer, as it is. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<String>,
    /// The text of the answer. `{"status":"failure"}` with status 200 is a soft failure. Default: a plain
    /// success or error, by the status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// What happens to the connection. Default: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
}

/// How long an answer is held back, in milliseconds (at most one hour).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Latency {
    /// Always the same.
    FixedMs(u64),
    /// Evenly spread between the two, both included.
    UniformMs(u64, u64),
    /// Exponentially distributed with this mean: mostly short, sometimes very long.
    ExponentialMeanMs(u64),
}

/// What happens to the connection of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// The connection is reset (TCP RST) without an answer; the call is not carried out.
    Reset,
    /// The call is carried out, then the connection is reset without an answer: the ambiguous case.
    ResetAfterRecord,
    /// The headers announce the whole body, half of it is sent, then the connection is closed.
    HalfBody,
    /// No answer, ever: the connection stays open until the caller closes it. The call is not carried out.
    Never,
}

/// What is wrong with a list of rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("rule {index} (counted from 0): {problem}")]
pub struct BadRule {
    /// Which rule, counted from 0.
    pub index: usize,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// What the server is to do with a call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Decision {
    /// How long to wait first.
    pub(super) latency: Duration,
    /// What to do then; `None`: answer as the call deserves.
    pub(super) fate: Option<Fate>,
}

/// What a rule makes of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    Answer(Scripted),
    HalfBody(Scripted),
    Reset,
    ResetAfterRecord,
    Never,
}

/// An answer that a rule dictates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scripted {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<HeaderValue>,
    pub(super) body: Bytes,
    /// Whether the service reads it as success.
    pub(super) success: bool,
}

impl Fate {
    /// The status that the caller gets to see, if any.
    pub(super) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Answer(scripted) | Self::HalfBody(scripted) => Some(scripted.status),
            Self::Reset | Self::ResetAfterRecord | Self::Never => None,
        }
    }

    /// Whether a complete call is carried out all the same.
    pub(super) fn carries_out(&self) -> bool {
        match self {
            Self::Answer(scripted) | Self::HalfBody(scripted) => scripted.success,
            Self::ResetAfterRecord => true,
            Self::Reset | Self::Never => false,
        }
    }
}

/// The rules in force, with what is left of each.
#[derive(Debug)]
pub(super) struct Faults {
    armed: Vec<Armed>,
    random: Random,
    seed: u64,
}

/// A checked rule with its answer made ready.
#[derive(Debug)]
struct Armed {
    rule: Rule,
    fate: Option<Fate>,
}

// === impl Rule ===

impl Default for Rule {
    fn default() -> Self {
        Self {
            org_token: None,
            endpoint: None,
            event_name: None,
            probability: 1.0,
            next: None,
            latency: None,
            status: None,
            retry_after: None,
            body: None,
            effect: None,
        }
    }
}

impl Rule {
    /// Checks the rule and makes its answer ready.
    fn arm(self) -> Result<Armed, &'static str> {
        if !(0.0..=1.0).contains(&self.probability) {
            return Err("probability must lie between 0 and 1");
        }
        if let Some(latency) = self.latency {
            latency.check()?;
        }
        let answers = self.status.is_some() || self.body.is_some();
        if self.retry_after.is_some() && self.status.is_none() {
            return Err("retry_after needs a status");
        }
        let fate = match self.effect {
            None if answers => Some(Fate::Answer(self.scripted()?)),
            None if self.latency.is_some() => None,
            None => return Err("the rule does nothing: give latency, status, body or effect"),
            Some(Effect::HalfBody) => match self.scripted()? {
                scripted if scripted.body.len() < 2 => {
                    return Err("half_body needs a body of two bytes or more");
                }
                scripted => Some(Fate::HalfBody(scripted)),
            },
            Some(_) if answers => return Err("this effect sends no answer: status and body have no meaning"),
            Some(Effect::Reset) => Some(Fate::Reset),
            Some(Effect::ResetAfterRecord) => Some(Fate::ResetAfterRecord),
            Some(Effect::Never) => Some(Fate::Never),
        };
        Ok(Armed { rule: self, fate })
    }

    fn scripted(&self) -> Result<Scripted, &'static str> {
        let status = self.status.unwrap_or(200);
        let status = StatusCode::from_u16(status)
            .ok()
            .filter(|status| (200..=599).contains(&status.as_u16()))
            .ok_or("status must lie between 200 and 599")?;
        let body = match &self.body {
            Some(body) => Bytes::from(body.clone()),
            None if status.is_success() => Bytes::from_static(super::answer::SUCCESS.as_bytes()),
            None => Bytes::from_static(br#"{"status":"error","message":"a fault on demand"}"#),
        };
        let retry_after = self.retry_after.as_deref().map(HeaderValue::from_str).transpose();
        let retry_after = retry_after.map_err(|_| "retry_after is no header value")?;
        let reply = Reply::Answer { status: status.as_u16(), retry_after: None, body: &body };
        let success = verdict(&reply) == Verdict::Delivered;
        Ok(Scripted { status, retry_after, body, success })
    }
}

// === impl Latency ===

impl Latency {
    fn check(self) -> Result<(), &'static str> {
        let longest = match self {
            Self::FixedMs(ms) | Self::ExponentialMeanMs(ms) => ms,
            Self::UniformMs(low, high) if low > high => return Err("uniform_ms must be [low, high]"),
            Self::UniformMs(_, high) => high,
        };
        if longest > MAX_LATENCY_MS { Err("latency must not be longer than one hour") } else { Ok(()) }
    }

    fn draw(self, random: &mut Random) -> Duration {
        match self {
            Self::FixedMs(ms) => Duration::from_millis(ms),
            Self::UniformMs(low, high) => {
                let low = Duration::from_millis(low);
                low + Duration::from_millis(high).saturating_sub(low).mul_f64(random.fraction())
            }
            // The inverse of the distribution function; 1 - fraction is never zero.
            Self::ExponentialMeanMs(mean) => {
                Duration::from_millis(mean).mul_f64(-(1.0 - random.fraction()).ln())
            }
        }
    }
}

// === impl Faults ===

impl Faults {
    /// No rules.
    pub(super) fn none(seed: u64) -> Self {
        Self { armed: Vec::new(), random: Random::seeded(seed), seed }
    }

    /// Replaces the rules and starts the randomness anew; on a mistake nothing changes.
    pub(super) fn set(&mut self, rules: Vec<Rule>) -> Result<(), BadRule> {
        let armed = rules.into_iter().enumerate();
        let armed = armed.map(|(index, rule)| rule.arm().map_err(|problem| BadRule { index, problem }));
        self.armed = armed.collect::<Result<_, _>>()?;
        self.random = Random::seeded(self.seed);
        Ok(())
    }

    /// The rules, `next` counted down.
    pub(super) fn rules(&self) -> Vec<Rule> {
        self.armed.iter().map(|armed| armed.rule.clone()).collect()
    }

    /// What is to happen to a call.
    pub(super) fn decide(&mut self, target: &Target<'_>, fields: Option<&Fields<'_>>) -> Decision {
        let mut decision = Decision::default();
        for armed in &mut self.armed {
            if !armed.fires(target, fields, &mut self.random) {
                continue;
            }
            if let Some(latency) = armed.rule.latency {
                decision.latency += latency.draw(&mut self.random);
            }
            if armed.fate.is_some() {
                decision.fate.clone_from(&armed.fate);
                break;
            }
        }
        decision
    }
}

impl Armed {
    fn fires(&mut self, target: &Target<'_>, fields: Option<&Fields<'_>>, random: &mut Random) -> bool {
        if self.rule.next == Some(0) || !self.matches(target, fields) {
            return false;
        }
        // A certain rule draws no number, so that adding one does not shift the luck of the others.
        if self.rule.probability < 1.0 && random.fraction() >= self.rule.probability {
            return false;
        }
        if let Some(next) = &mut self.rule.next {
            *next -= 1;
        }
        true
    }

    fn matches(&self, target: &Target<'_>, fields: Option<&Fields<'_>>) -> bool {
        let rule = &self.rule;
        rule.endpoint.is_none_or(|endpoint| endpoint == target.endpoint)
            && rule.org_token.as_deref().is_none_or(|token| target.org_token == Some(token))
            && rule.event_name.as_deref().is_none_or(|part| {
                target.endpoint == Endpoint::Event
                    && fields.and_then(Fields::event_name).is_some_and(|name| name.contains(part))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Target<'_> =
        Target { endpoint: Endpoint::Event, org_token: Some("org-token-0001"), token: None };

    fn faults(rules: &str) -> Faults {
        let mut faults = Faults::none(1);
        faults.set(serde_json::from_str(rules).unwrap()).unwrap();
        faults
    }

    fn statuses(faults: &mut Faults, calls: usize) -> Vec<Option<u16>> {
        let decide = |_| faults.decide(&CALL, None).fate.and_then(|fate| fate.status()).map(|s| s.as_u16());
        (0..calls).map(decide).collect()
    }

    #[test]
    fn a_rule_is_used_up_after_its_next_calls() {
        let mut faults = faults(r#"[{"next":2,"status":503},{"next":1,"status":429}]"#);
        assert_eq!(statuses(&mut faults, 4), [Some(503), Some(503), Some(429), None]);
        assert!(faults.rules().iter().all(|rule| rule.next == Some(0)));
    }

    #[test]
    fn the_same_seed_fails_the_same_calls() {
        let rules = r#"[{"probability":0.3,"status":500},{"latency":{"exponential_mean_ms":10}}]"#;
        let first = statuses(&mut faults(rules), 1_000);
        let mut again = faults(rules);
        assert_eq!(statuses(&mut again, 1_000), first);
        assert_ne!(statuses(&mut again, 1_000), first, "the luck goes on");
        again.set(again.rules()).unwrap();
        assert_eq!(statuses(&mut again, 1_000), first, "setting rules starts anew");
        let failed = first.iter().flatten().count();
        assert!((250..350).contains(&failed), "{failed} of 1000");
    }

    #[test]
    fn rules_match_by_organization_endpoint_and_event_name() {
        let event = Fields::parse(br#"{"eventName":"order_completed"}"#).unwrap();
        let cases = [
            (r#"[{"status":500}]"#, true),
            (r#"[{"status":500,"org_token":"org-token-0001"}]"#, true),
            (r#"[{"status":500,"org_token":"org-token-0002"}]"#, false),
            (r#"[{"status":500,"endpoint":"event"}]"#, true),
            (r#"[{"status":500,"endpoint":"identify"}]"#, false),
            (r#"[{"status":500,"event_name":"order"}]"#, true),
            (r#"[{"status":500,"event_name":"view"}]"#, false),
            (r#"[{"status":500,"probability":0}]"#, false),
        ];
        for (rules, fires) in cases {
            assert_eq!(faults(rules).decide(&CALL, Some(&event)).fate.is_some(), fires, "{rules}");
        }
    }

    #[test]
    fn latencies_add_up_and_follow_their_distribution() {
        let mut both =
            faults(r#"[{"latency":{"fixed_ms":5}},{"latency":{"uniform_ms":[10,20]},"status":500}]"#);
        let mut total = Duration::ZERO;
        for _ in 0..1_000 {
            let decision = both.decide(&CALL, None);
            assert!((15..=25).contains(&decision.latency.as_millis()), "{decision:?}");
            total += decision.latency;
        }
        assert!((19_500..20_500).contains(&total.as_millis()), "{total:?}");
        let mut exponential = faults(r#"[{"latency":{"exponential_mean_ms":100}}]"#);
        let total: Duration = (0..10_000).map(|_| exponential.decide(&CALL, None).latency).sum();
        assert!((950_000..1_050_000).contains(&total.as_millis()), "{total:?}");
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            ("{}", "does nothing"),
            (r#"{"status":500,"probability":1.5}"#, "probability"),
            (r#"{"status":100}"#, "200 and 599"),
            (r#"{"status":99}"#, "200 and 599"),
            (r#"{"effect":"reset","status":500}"#, "sends no answer"),
            (r#"{"effect":"never","body":"x"}"#, "sends no answer"),
            (r#"{"effect":"half_body","body":"x"}"#, "two bytes"),
            (r#"{"latency":{"uniform_ms":[2,1]}}"#, "[low, high]"),
            (r#"{"latency":{"fixed_ms":3600001}}"#, "one hour"),
            (r#"{"latency":{"fixed_ms":1},"retry_after":"1"}"#, "needs a status"),
            (r#"{"status":503,"retry_after":"a\nb"}"#, "no header value"),
        ];
        for (rule, problem) in cases {
            let rules =
                vec![Rule { status: Some(500), ..Rule::default() }, serde_json::from_str(rule).unwrap()];
            let bad = Faults::none(1).set(rules).unwrap_err();
            assert!(bad.index == 1 && bad.to_string().contains(problem), "{rule}: {bad}");
        }
        for rule in
            [r#"{"stat":1}"#, r#"{"endpoint":"learn"}"#, r#"{"effect":"explode"}"#, r#"{"latency":5}"#]
        {
            assert!(serde_json::from_str::<Rule>(rule).is_err(), "{rule}");
        }
    }

    #[test]
    fn a_soft_failure_is_not_carried_out() {
        let carried_out = |rule: &str| faults(rule).decide(&CALL, None).fate.unwrap().carries_out();
        assert!(!carried_out(r#"[{"body":"{\"status\":\"failure\"}"}]"#));
        assert!(carried_out(r#"[{"body":"{\"status\":\"success\"}"}]"#));
        assert!(carried_out(r#"[{"status":204}]"#));
        assert!(!carried_out(r#"[{"status":302}]"#));
        assert!(carried_out(r#"[{"effect":"half_body"}]"#));
        assert!(!carried_out(r#"[{"effect":"half_body","status":502}]"#));
        assert!(carried_out(r#"[{"effect":"reset_after_record"}]"#));
        assert!(!carried_out(r#"[{"effect":"reset"}]"#));
        assert!(!carried_out(r#"[{"effect":"never"}]"#));
    }
}
