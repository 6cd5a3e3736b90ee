use std::{collections::HashMap, num::NonZeroU32, time::Duration};

use crate::{
    Levels, OnOutage, Policy, TableError,
    value::{LONGEST, Value},
};

/// A policy while its keys come in, from whatever source. All checks of a single policy are here.
pub(crate) struct PolicyDraft {
    policy: Policy,
    line: Option<usize>,
    /// The keys that were set, each with its line.
    set: HashMap<String, Option<usize>>,
}

/// Every key that a policy may have; [`PolicyDraft::assign`] takes each.
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

/// The switch at the top of a table, beside the policies.
pub(crate) const BUILTIN: &str = "builtin";

const SHORTEST_TTL: Duration = Duration::from_millis(1);
/// 100 ms: a process renews its lease after each third of it, and each renewal is a round trip.
const SHORTEST_LEASE: Duration = Duration::from_millis(100);
/// 24 h: what is longer in Redis is not believed.
const LONGEST_LEASE: Duration = Duration::from_secs(24 * 3600);
const LONGEST_PREFIX: usize = 64;
/// The prefix of larder's own keys in the store.
const RESERVED: &str = "larder";

/// Reports whether a policy may have this key.
pub(crate) fn is_key(name: &str) -> bool {
    KEYS.contains(&name)
}

impl PolicyDraft {
    pub(crate) fn new(name: &str, line: Option<usize>) -> Self {
        Self {
            policy: Policy::with_defaults(name.to_owned()),
            line,
            set: HashMap::new(),
        }
    }

    /// Takes one key.
    pub(crate) fn set(
        &mut self,
        key: &str,
        value: &Value,
        line: Option<usize>,
    ) -> Result<(), TableError> {
        self.set.insert(key.to_owned(), line);
        self.assign(key, value)
            .map_err(|problem| self.error(problem).key(key).line(line))
    }

    fn assign(&mut self, key: &str, value: &Value) -> Result<(), String> {
        let policy = &mut self.policy;
        match key {
            "prefix" => policy.prefix = value.text()?.to_owned(),
            "ttl" => policy.ttl = value.duration()?,
            "reason" => policy.reason = value.text()?.to_owned(),
            "l1_ttl" => policy.l1_ttl = Some(value.duration()?),
            "levels" => policy.levels = Levels::from_name(value.text()?)?,
            "jitter" => policy.jitter = value.share()?,
            "negative_ttl" => policy.negative_ttl = value.optional_duration()?,
            "stale_for" => policy.stale_for = value.duration()?,
            "refresh_ahead" => policy.refresh_ahead = value.optional_share()?,
            "soft_timeout" => policy.soft_timeout = value.optional_duration()?,
            "load_timeout" => policy.load_timeout = value.duration()?,
            "lease" => policy.lease = Some(value.duration()?),
            "max_wait" => policy.max_wait = Some(value.duration()?),
            "degraded_l1_ttl" => policy.degraded_l1_ttl = value.duration()?,
            "max_loads" => policy.max_loads = NonZeroU32::new(value.count()?),
            "on_outage" => policy.on_outage = OnOutage::from_name(value.text()?)?,
            "codec" => policy.codec = value.text()?.to_owned(),
            "instant_clear" => policy.instant_clear = value.boolean()?,
            "schema" => policy.schema = value.count()?,
            unknown => return Err(format!("there is no such key; {}", suggestion(unknown))),
        }
        Ok(())
    }

    /// Checks the policy as a whole.
    pub(crate) fn finish(self) -> Result<Policy, TableError> {
        if !self.set.contains_key("ttl") {
            let problem = "it has no ttl; say how long a value lives, such as ttl = \"1h\"";
            return Err(self.error(problem.to_owned()).key("ttl").line(self.line));
        }
        self.check_ranges()?;
        self.check_stale()?;
        self.check_prefix()
            .map_err(|problem| self.at("prefix", problem))?;
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
                "it must be at least 100ms, because it is renewed after each third of it",
            ),
            (
                "lease",
                policy.lease() <= LONGEST_LEASE,
                "it must be at most 24h: a lease that lives longer is taken for one that lost its end",
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

    /// Checks the keys about values that are served past their time, or reloaded before it.
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
                "it must be less than load_timeout, after which the load is cancelled",
            ),
            (
                "refresh_ahead",
                policy.refresh_ahead.is_none_or(|share| share > 0.0),
                "it must be more than 0%, or every read would reload; write \"off\" for no reload",
            ),
        ])
    }

    /// Checks the charset, which keeps the text of every key unambiguous: `:`, `/` and `@` separate
    /// what stands around a prefix.
    fn check_prefix(&self) -> Result<(), String> {
        let prefix = &self.policy.prefix;
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if let Some(bad) = prefix.chars().find(|c| !good(*c)) {
            let fixed: String = prefix
                .chars()
                .map(|c| if good(c) { c } else { '.' })
                .collect();
            let from_name = match self.set.contains_key("prefix") {
                true => "",
                false => {
                    "without a prefix of its own, the policy's name is in front of its keys, and "
                }
            };
            return Err(format!(
                "{from_name}{prefix:?} holds {bad:?}; a prefix is made of letters, digits and _ . -, such as \
                 prefix = {fixed:?}"
            ));
        }
        if prefix.is_empty() || prefix.len() > LONGEST_PREFIX {
            let characters = prefix.len();
            return Err(format!(
                "a prefix has 1 to {LONGEST_PREFIX} characters, and {prefix:?} has {characters}"
            ));
        }
        if prefix == RESERVED {
            return Err(format!(
                "{prefix:?} is kept for larder's own keys; choose another"
            ));
        }
        Ok(())
    }

    fn check(&self, checks: &[(&str, bool, &str)]) -> Result<(), TableError> {
        match checks.iter().find(|(_, holds, _)| !holds) {
            Some((key, _, problem)) => Err(self.at(key, (*problem).to_owned())),
            None => Ok(()),
        }
    }

    fn at(&self, key: &str, problem: String) -> TableError {
        self.error(problem).key(key).line(self.line_of(key))
    }

    /// The line of a key; of the policy, if the key is not set.
    pub(crate) fn line_of(&self, key: &str) -> Option<usize> {
        self.set.get(key).copied().flatten().or(self.line)
    }

    fn error(&self, problem: String) -> TableError {
        TableError::new(problem).policy(&self.policy.name)
    }
}

/// Names the nearest known key, or all of them.
fn suggestion(key: &str) -> String {
    if key == BUILTIN {
        return format!("write {BUILTIN} at the top of the table, above the first policy");
    }
    let nearest = KEYS
        .into_iter()
        .map(|known| (strsim::levenshtein(key, known), known))
        .min();
    match nearest {
        Some((distance, known)) if distance <= 2 => format!("is {known:?} meant?"),
        _ => format!("a policy has {}", KEYS.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_key_is_taken_and_no_other() {
        for key in KEYS {
            let problem = PolicyDraft::new("a", None)
                .assign(key, &Value::Other("a list"))
                .unwrap_err();
            assert!(
                !problem.contains("there is no such key"),
                "{key}: {problem}"
            );
        }
        let problem = PolicyDraft::new("a", None)
            .assign("framed", &Value::Boolean(true))
            .unwrap_err();
        assert!(
            problem.starts_with("there is no such key; a policy has prefix, ttl, "),
            "{problem}"
        );
    }

    #[test]
    fn unknown_keys_are_answered_with_the_nearest_one() {
        for (key, nearest) in [
            ("tll", "ttl"),
            ("l1ttl", "l1_ttl"),
            ("max_load", "max_loads"),
            ("lese", "lease"),
        ] {
            assert_eq!(suggestion(key), format!("is {nearest:?} meant?"));
        }
    }
}
