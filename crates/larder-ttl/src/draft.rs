use std::{collections::HashMap, num::NonZeroU32, time::Duration};

use crate::{
    Levels, OnOutage, Policy, TableError,
    scalar::{LONGEST, Scalar},
};

/// A policy while its keys come in, from whatever source: the one place where they are checked.
pub(crate) struct Draft {
    policy: Policy,
    line: Option<usize>,
    /// The lines of the keys that have been set.
    set: HashMap<&'static str, Option<usize>>,
}

const KEYS: [&str; 19] = [
    "prefix",
    "ttl",
    "reason",
    "l1_ttl",
    "levels",
    "jitter",
    "negative_ttl",
    "stale_for",
    "refresh_ahead",
    "soft_timeout",
    "load_timeout",
    "lease",
    "max_wait",
    "degraded_l1_ttl",
    "max_loads",
    "on_outage",
    "codec",
    "instant_clear",
    "schema",
];

const SHORTEST_TTL: Duration = Duration::from_millis(1);
/// Three renewals must fit into a lease, each with a round trip.
const SHORTEST_LEASE: Duration = Duration::from_millis(100);
const LONGEST_PREFIX: usize = 64;
/// What larder's own keys in the store begin with.
const RESERVED: &str = "larder";

impl Draft {
    pub(crate) fn new(name: &str, line: Option<usize>) -> Self {
        Self { policy: Policy::with_defaults(name.to_owned()), line, set: HashMap::new() }
    }

    /// Takes one key.
    pub(crate) fn set(&mut self, key: &str, value: &Scalar, line: Option<usize>) -> Result<(), TableError> {
        let Some(known) = KEYS.into_iter().find(|known| *known == key) else {
            return Err(self.error(format!("there is no such key; {}", suggestion(key))).key(key).line(line));
        };
        self.set.insert(known, line);
        self.assign(known, value).map_err(|problem| self.error(problem).key(key).line(line))
    }

    fn assign(&mut self, key: &str, value: &Scalar) -> Result<(), String> {
        let policy = &mut self.policy;
        match key {
            "prefix" => policy.prefix = value.text()?.to_owned(),
            "ttl" => policy.ttl = value.duration()?,
            "reason" => policy.reason = value.text()?.to_owned(),
            "l1_ttl" => policy.l1_ttl = Some(value.duration()?),
            "levels" => {
                policy.levels = match value.text()? {
                    "both" => Levels::Both,
                    "l1" => Levels::L1,
                    "l2" => Levels::L2,
                    other => return Err(format!("{other:?} is not \"both\", \"l1\" or \"l2\"")),
                }
            }
            "jitter" => policy.jitter = value.share()?,
            "negative_ttl" => policy.negative_ttl = value.optional_duration()?,
            "stale_for" => policy.stale_for = value.duration()?,
            "refresh_ahead" => {
                policy.refresh_ahead = match value {
                    Scalar::Text(text) if text == "off" => None,
                    value => Some(value.share()?),
                }
            }
            "soft_timeout" => policy.soft_timeout = value.optional_duration()?,
            "load_timeout" => policy.load_timeout = value.duration()?,
            "lease" => policy.lease = Some(value.duration()?),
            "max_wait" => policy.max_wait = Some(value.duration()?),
            "degraded_l1_ttl" => policy.degraded_l1_ttl = value.duration()?,
            "max_loads" => policy.max_loads = NonZeroU32::new(value.count()?),
            "on_outage" => {
                policy.on_outage = match value.text()? {
                    "serve" => OnOutage::Serve,
                    "fail" => OnOutage::Fail,
                    other => return Err(format!("{other:?} is not \"serve\" or \"fail\"")),
                }
            }
            "codec" => policy.codec = value.text()?.to_owned(),
            "instant_clear" => policy.instant_clear = value.boolean()?,
            "schema" => policy.schema = value.count()?,
            _ => {}
        }
        Ok(())
    }

    /// Checks the policy as a whole.
    pub(crate) fn finish(self) -> Result<Policy, TableError> {
        let policy = &self.policy;
        if !self.set.contains_key("ttl") {
            let problem = "it has no ttl; say how long a value lives, such as ttl = \"1h\"";
            return Err(self.error(problem.to_owned()).key("ttl").line(self.line));
        }
        self.check_ranges()?;
        self.check_stale()?;
        check_prefix(&policy.prefix).map_err(|problem| self.at("prefix", problem))?;
        Ok(self.policy)
    }

    fn check_ranges(&self) -> Result<(), TableError> {
        let policy = &self.policy;
        self.check(&[
            ("ttl", policy.ttl >= SHORTEST_TTL, "it must be at least 1ms"),
            (
                "l1_ttl",
                policy.l1_ttl.is_none_or(|ttl| ttl >= SHORTEST_TTL),
                "it must be at least 1ms; to keep entries out of L1, set levels = \"l2\"",
            ),
            (
                "l1_ttl",
                policy.l1_ttl.is_none() || policy.levels == Levels::Both,
                "it is for policies with levels = \"both\"; with \"l1\" an entry lives for its ttl",
            ),
            (
                "negative_ttl",
                policy.negative_ttl.is_none_or(|ttl| ttl <= policy.ttl),
                "it must not be longer than ttl",
            ),
            ("load_timeout", policy.load_timeout >= SHORTEST_TTL, "it must be at least 1ms"),
            (
                "lease",
                policy.lease() >= SHORTEST_LEASE,
                "it must be at least 100ms, because it is renewed three times in its life",
            ),
            ("schema", policy.schema >= 1, "it counts from 1"),
            ("degraded_l1_ttl", policy.degraded_l1_ttl >= SHORTEST_TTL, "it must be at least 1ms"),
            (
                "on_outage",
                policy.on_outage == OnOutage::Serve || policy.levels.has_l2(),
                "with levels = \"l1\" there is no shared store that could be out of reach; remove it",
            ),
            ("codec", policy.codec == "json", "not supported yet; remove it"),
        ])
    }

    /// What belongs to values that are served past their time, or reloaded before it.
    fn check_stale(&self) -> Result<(), TableError> {
        let policy = &self.policy;
        self.check(&[
            // Each of them is at most `LONGEST`, so the sum is no overflow.
            (
                "stale_for",
                policy.ttl + policy.stale_for <= LONGEST,
                "ttl and stale_for together are at most 100 years",
            ),
            (
                "soft_timeout",
                policy.soft_timeout.is_none() || !policy.stale_for.is_zero(),
                "without stale_for there is no stale value to serve after it; set stale_for, or remove it",
            ),
            (
                "soft_timeout",
                policy.soft_timeout.is_none_or(|timeout| timeout < policy.load_timeout),
                "it must be less than load_timeout, after which the load is given up",
            ),
            (
                "refresh_ahead",
                policy.refresh_ahead.is_none_or(|share| share > 0.0),
                "it must be more than 0%, or every read would reload; write \"off\" for no reload",
            ),
        ])
    }

    fn check(&self, checks: &[(&str, bool, &str)]) -> Result<(), TableError> {
        match checks.iter().find(|(_, holds, _)| !holds) {
            Some((key, _, problem)) => Err(self.at(key, (*problem).to_owned())),
            None => Ok(()),
        }
    }

    fn at(&self, key: &str, problem: String) -> TableError {
        self.error(problem).key(key).line(self.set.get(key).copied().flatten().or(self.line))
    }

    fn error(&self, problem: String) -> TableError {
        TableError::new(problem).policy(&self.policy.name)
    }
}

fn check_prefix(prefix: &str) -> Result<(), String> {
    if prefix.is_empty() || prefix.len() > LONGEST_PREFIX {
        return Err(format!(
            "a prefix has 1 to {LONGEST_PREFIX} characters, and {prefix:?} has {}",
            prefix.len()
        ));
    }
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | ':');
    if let Some(bad) = prefix.chars().find(|c| !good(*c)) {
        return Err(format!("{prefix:?} holds {bad:?}; a prefix is made of letters, digits and _ . - :"));
    }
    if prefix.starts_with(':') || prefix.ends_with(':') {
        return Err(format!("{prefix:?} begins or ends with a colon, which only separates a prefix's parts"));
    }
    if prefix == RESERVED || prefix.starts_with("larder:") {
        return Err(format!("{prefix:?} is kept for larder's own keys; choose another"));
    }
    Ok(())
}

/// Names the nearest known key, or all of them.
fn suggestion(key: &str) -> String {
    let nearest = KEYS.into_iter().map(|known| (distance(key, known), known)).min();
    match nearest {
        Some((distance, known)) if distance <= 2 => format!("is {known:?} meant?"),
        _ => format!("a policy has {}", KEYS.join(", ")),
    }
}

/// How many characters must be added, removed or changed to make one text the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut policy: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = policy[0];
        policy[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let change = diagonal + usize::from(from != *to);
            diagonal = policy[j + 1];
            policy[j + 1] = change.min(diagonal + 1).min(policy[j] + 1);
        }
    }
    policy[b.len()]
}
