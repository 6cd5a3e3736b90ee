use std::{path::Path, time::Duration};

use crate::{Levels, Policy, TableError, source::rows_of_toml};

/// The policies, by name. The built-in ones are there unless they are replaced.
///
/// | policy | prefix | ttl | levels | reason |
/// | --- | --- | --- | --- | --- |
/// | `session_token` | `session_token` | 24 h | `l2` | security |
/// | `user_profile` | `user` | 1 h | `both` | moderate change frequency |
/// | `static_config` | `static_config` | 24 h | `both` | rarely changes |
/// | `search_result` | `search_result` | 5 min | `both` | freshness |
/// | `rate_limit` | `rate_limit` | 1 min | `l2` | real-time accuracy |
#[derive(Clone, Debug, PartialEq)]
pub struct TtlTable {
    policies: Vec<Policy>,
}

impl TtlTable {
    /// The five built-in policies.
    pub fn builtin() -> Self {
        let policy = |name: &str, prefix: &str, seconds, levels, reason: &str| Policy {
            prefix: prefix.to_owned(),
            ttl: Duration::from_secs(seconds),
            levels,
            reason: reason.to_owned(),
            ..Policy::with_defaults(name.to_owned())
        };
        let policies = vec![
            policy("session_token", "session_token", 24 * 3600, Levels::L2, "security"),
            policy("user_profile", "user", 3600, Levels::Both, "moderate change frequency"),
            policy("static_config", "static_config", 24 * 3600, Levels::Both, "rarely changes"),
            policy("search_result", "search_result", 300, Levels::Both, "freshness"),
            policy("rate_limit", "rate_limit", 60, Levels::L2, "real-time accuracy"),
        ];
        Self { policies }
    }

    /// Reads policies from a TOML text, a table for each. They replace built-in policies of the same name as a whole, and
    /// stand beside the others.
    ///
    /// # Errors
    /// [`TableError`] with the policy, the key and the line.
    pub fn from_toml(text: &str) -> Result<Self, TableError> {
        Self::builtin().extended(rows_of_toml(text)?)
    }

    /// Reads policies from a TOML file, see [`from_toml`](Self::from_toml).
    ///
    /// # Errors
    /// [`TableError`] with the path if the file cannot be read, else with the policy, the key and the line.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, TableError> {
        let path = path.as_ref();
        let in_file = |problem: String| format!("{}: {problem}", path.display());
        let text =
            std::fs::read_to_string(path).map_err(|error| TableError::new(in_file(error.to_string())))?;
        Self::from_toml(&text)
            .map_err(|error| TableError { problem: in_file(error.problem.clone()), ..error })
    }

    /// Adds a policy, or replaces the one of the same name.
    ///
    /// # Errors
    /// [`TableError`] if its keys would mix with another policy's.
    pub fn with(self, policy: Policy) -> Result<Self, TableError> {
        self.extended(vec![(policy, None)])
    }

    /// The policy of this name.
    pub fn policy(&self, name: &str) -> Option<&Policy> {
        self.policies.iter().find(|policy| policy.name == name)
    }

    /// All policies, in the order in which they were added.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.policies.iter()
    }

    /// Adds or replaces policies, each with its line, and then checks them against each other.
    pub(crate) fn extended(mut self, policies: Vec<(Policy, Option<usize>)>) -> Result<Self, TableError> {
        let mut lines = vec![None; self.policies.len()];
        for (policy, line) in policies {
            match self.policies.iter().position(|present| present.name == policy.name) {
                Some(at) => (self.policies[at], lines[at]) = (policy, line),
                None => {
                    self.policies.push(policy);
                    lines.push(line);
                }
            }
        }
        for (at, policy) in self.policies.iter().enumerate() {
            for (before, other) in self.policies[..at].iter().enumerate() {
                let Some(problem) = overlap(policy, other) else { continue };
                // A built-in policy has no line: the other one of the pair is to be changed.
                let (culprit, line) =
                    if lines[at].is_some() { (policy, lines[at]) } else { (other, lines[before]) };
                return Err(TableError::new(problem).policy(&culprit.name).key("prefix").line(line));
            }
        }
        Ok(self)
    }
}

/// Whether some key of one policy could be a key of the other.
fn overlap(a: &Policy, b: &Policy) -> Option<String> {
    let inside = |inner: &Policy, outer: &Policy| {
        inner.prefix.strip_prefix(&outer.prefix).is_some_and(|rest| rest.starts_with(':'))
    };
    let (a_name, b_name, prefix) = (&a.name, &b.name, &a.prefix);
    if a.prefix == b.prefix {
        return Some(format!(
            "policies {b_name:?} and {a_name:?} share the prefix {prefix:?}; give one another prefix"
        ));
    }
    let (inner, outer) = if inside(a, b) {
        (a, b)
    } else if inside(b, a) {
        (b, a)
    } else {
        return None;
    };
    Some(format!(
        "the prefix {:?} of policy {:?} lies inside {:?} of policy {:?}, whose keys could reach into it; \
         separate its parts by something else than a colon",
        inner.prefix, inner.name, outer.prefix, outer.name
    ))
}

impl Default for TtlTable {
    fn default() -> Self {
        Self::builtin()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OnOutage;

    fn error(text: &str) -> String {
        TtlTable::from_toml(text).unwrap_err().to_string()
    }

    #[test]
    fn builtin_rows_have_their_reasons() {
        let table = TtlTable::default();
        let policies: Vec<_> = table
            .policies()
            .map(|policy| {
                (policy.name(), policy.prefix(), policy.ttl().as_secs(), policy.levels(), policy.reason())
            })
            .collect();
        assert_eq!(
            policies,
            [
                ("session_token", "session_token", 86_400, Levels::L2, "security"),
                ("user_profile", "user", 3600, Levels::Both, "moderate change frequency"),
                ("static_config", "static_config", 86_400, Levels::Both, "rarely changes"),
                ("search_result", "search_result", 300, Levels::Both, "freshness"),
                ("rate_limit", "rate_limit", 60, Levels::L2, "real-time accuracy"),
            ]
        );
        assert_eq!(table.policy("user_profile").unwrap().l1_ttl(), Duration::from_secs(60));
    }

    #[test]
    fn text_replaces_a_builtin_row_as_a_whole_and_adds_others() {
        let table = TtlTable::from_toml(
            "[user_profile]\nttl = '10s'\n[posts]\nttl = '5m'\nnegative_ttl = '30s'\njitter = '0%'\nschema = 2\n",
        )
        .unwrap();
        let user = table.policy("user_profile").unwrap();
        assert_eq!((user.prefix(), user.reason(), user.l1_ttl().as_secs()), ("user_profile", "", 10));
        let posts = table.policy("posts").unwrap();
        assert_eq!((posts.key_prefix().as_str(), posts.jitter()), ("posts:v2", 0.0));
        assert_eq!(posts.negative_ttl(), Some(Duration::from_secs(30)));
        assert_eq!(table.policies().count(), 6);
        let defaults = (user.lease().as_secs(), user.load_timeout().as_secs(), user.max_wait().as_secs());
        assert_eq!((defaults, user.degraded_l1_ttl().as_secs(), user.schema()), ((10, 10, 5), 2, 1));
    }

    #[test]
    fn wrong_values_name_row_key_and_line() {
        for (text, message) in [
            (
                "[a]\nttl = '1 fortnite'",
                "the TTL table, policy \"a\", key \"ttl\", line 2: \"1 fortnite\" is not a duration; write a number with a unit, such as \"90s\" or \"1h\"",
            ),
            (
                "\n[a]\nttl = '1h'\nttll = 5",
                "the TTL table, policy \"a\", key \"ttll\", line 4: there is no such key; is \"ttl\" meant?",
            ),
            (
                "[a]\nreason = 'x'",
                "the TTL table, policy \"a\", key \"ttl\", line 1: it has no ttl; say how long a value lives, such as ttl = \"1h\"",
            ),
            ("[a]\nttl = '0s'", "the TTL table, policy \"a\", key \"ttl\", line 2: it must be at least 1ms"),
            (
                "[a]\nttl = '1h'\nlevels = 'l2'\nl1_ttl = '5s'",
                "the TTL table, policy \"a\", key \"l1_ttl\", line 4: it is for policies with levels = \"both\"; with \"l1\" an entry lives for its ttl",
            ),
            (
                "[a]\nttl = '1h'\nlease = '1ms'",
                "the TTL table, policy \"a\", key \"lease\", line 3: it must be at least 100ms, because it is renewed three times in its life",
            ),
            (
                "[a]\nttl = '1h'\nprefix = 'larder:x'",
                "the TTL table, policy \"a\", key \"prefix\", line 3: \"larder:x\" is kept for larder's own keys; choose another",
            ),
            (
                "[a]\nttl = '1h'\nprefix = 'a{b}'",
                "the TTL table, policy \"a\", key \"prefix\", line 3: \"a{b}\" holds '{'; a prefix is made of letters, digits and _ . - :",
            ),
            (
                "[a]\nttl = '1h'\n[b]\nttl = '1h'\nprefix = 'a'",
                "the TTL table, policy \"b\", key \"prefix\", line 3: policies \"a\" and \"b\" share the prefix \"a\"; give one another prefix",
            ),
            (
                "ttl = '1h'",
                "the TTL table, key \"ttl\", line 1: a policy is a table: write [ttl] and its keys below",
            ),
            (
                "[a]\nttl = '5s'\nnegative_ttl = '6s'",
                "the TTL table, policy \"a\", key \"negative_ttl\", line 3: it must not be longer than ttl",
            ),
        ] {
            assert_eq!(error(text), message);
        }
        let nested = error("[posts]\nttl='1h'\nprefix='user:posts'");
        assert!(
            nested.contains("policy \"posts\", key \"prefix\", line 1")
                && nested.contains("lies inside \"user\""),
            "{nested}"
        );
        let syntax = error("[a]\nttl = \n");
        assert!(syntax.contains("line 2"), "{syntax}");
    }

    #[test]
    fn rows_may_say_how_stale_values_loads_and_outages_are_treated() {
        let table = TtlTable::from_toml(
            "[a]\nttl = '1h'\nstale_for = '10m'\nrefresh_ahead = '80%'\nsoft_timeout = '200ms'\n\
             degraded_l1_ttl = '5s'\nmax_loads = 5\non_outage = 'fail'\ncodec = 'json'\n\
             [b]\nttl = '1h'\nstale_for = '0s'\nrefresh_ahead = 'off'\nsoft_timeout = 'off'\nmax_loads = 0\n\
             on_outage = 'serve'\n[c]\nttl = '1h'",
        )
        .unwrap();
        let policy = table.policy("a").unwrap();
        assert_eq!(
            (policy.stale_for().as_secs(), policy.refresh_ahead(), policy.soft_timeout()),
            (600, Some(0.8), Some(Duration::from_millis(200)))
        );
        assert_eq!(
            (policy.degraded_l1_ttl().as_secs(), policy.max_loads().map(u32::from), policy.on_outage()),
            (5, Some(5), OnOutage::Fail)
        );
        for name in ["b", "c"] {
            let policy = table.policy(name).unwrap();
            assert_eq!(
                (policy.stale_for(), policy.refresh_ahead(), policy.soft_timeout()),
                (Duration::ZERO, None, None)
            );
            assert_eq!((policy.max_loads(), policy.on_outage()), (None, OnOutage::Serve));
        }
    }

    #[test]
    fn combinations_that_cannot_work_are_refused_by_the_key_that_is_to_change() {
        for (keys, key, problem) in [
            (
                "soft_timeout = '200ms'",
                "soft_timeout",
                "without stale_for there is no stale value to serve after it; set stale_for, or remove it",
            ),
            (
                "stale_for = '1h'\nsoft_timeout = '10s'",
                "soft_timeout",
                "it must be less than load_timeout, after which the load is given up",
            ),
            (
                "stale_for = '1h'\nload_timeout = '1s'\nsoft_timeout = '1s'",
                "soft_timeout",
                "it must be less than load_timeout, after which the load is given up",
            ),
            (
                "refresh_ahead = '0%'",
                "refresh_ahead",
                "it must be more than 0%, or every read would reload; write \"off\" for no reload",
            ),
            (
                "refresh_ahead = '100%'",
                "refresh_ahead",
                "\"100%\" is out of range; a share is at least 0% and less than 100%",
            ),
            (
                "levels = 'l1'\non_outage = 'fail'",
                "on_outage",
                "with levels = \"l1\" there is no shared store that could be out of reach; remove it",
            ),
            ("on_outage = 'panic'", "on_outage", "\"panic\" is not \"serve\" or \"fail\""),
            ("stale_for = '36500days'", "stale_for", "ttl and stale_for together are at most 100 years"),
            ("degraded_l1_ttl = '0s'", "degraded_l1_ttl", "it must be at least 1ms"),
            ("max_loads = -1", "max_loads", "-1 is out of range; it is a number from 0 to 4294967295"),
            ("codec = 'postcard'", "codec", "not supported yet; remove it"),
        ] {
            let text = format!("[a]\nttl = '1h'\n{keys}");
            let line = text.lines().position(|line| line.starts_with(key)).unwrap() + 1;
            let message = format!("the TTL table, policy \"a\", key \"{key}\", line {line}: {problem}");
            assert_eq!(error(&text), message);
        }
        assert!(error("[a]\nttl='1h'\nstale_for='x'").contains("is not a duration"));
    }

    #[test]
    fn other_formats_are_checked_alike() {
        let table: TtlTable = serde_json::from_str(r#"{"posts": {"ttl": "5m", "schema": 3}}"#).unwrap();
        assert_eq!(table.policy("posts").unwrap().key_prefix(), "posts:v3");
        let error = serde_json::from_str::<TtlTable>(r#"{"posts": {"ttl": 5}}"#).unwrap_err().to_string();
        assert!(error.contains("policy \"posts\", key \"ttl\": 5 has no unit"), "{error}");
    }

    #[test]
    fn rows_from_code_are_checked_alike() {
        let policy = Policy::builder("posts", Duration::from_millis(1500)).jitter(0.25).build().unwrap();
        assert_eq!((policy.ttl(), policy.jitter()), (Duration::from_millis(1500), 0.25));
        let table = TtlTable::default().with(policy).unwrap();
        assert!(table.policy("posts").is_some());
        let policy = Policy::builder("posts", Duration::from_secs(60))
            .stale_for(Duration::from_secs(30))
            .refresh_ahead(0.8)
            .soft_timeout(Duration::from_millis(200))
            .degraded_l1_ttl(Duration::from_secs(1))
            .max_loads(3)
            .on_outage(OnOutage::Fail)
            .instant_clear(true)
            .build()
            .unwrap();
        let text = "[posts]\nttl='1m'\nstale_for='30s'\nrefresh_ahead='80%'\nsoft_timeout='200ms'\n\
                    degraded_l1_ttl='1s'\nmax_loads=3\non_outage='fail'\ninstant_clear=true";
        assert_eq!(TtlTable::from_toml(text).unwrap().policy("posts"), Some(&policy));
        assert!(Policy::builder("posts", Duration::from_secs(1)).refresh_ahead(0.0).build().is_err());
        let error = Policy::builder("posts", Duration::ZERO).build().unwrap_err().to_string();
        assert!(error.contains("key \"ttl\": it must be at least 1ms"), "{error}");
        assert!(Policy::builder("posts", Duration::MAX).build().is_err());
        assert!(Policy::builder("posts", Duration::from_secs(1)).jitter(f64::NAN).build().is_err());
    }

    #[test]
    fn missing_file_names_its_path() {
        let error = TtlTable::from_file("/does/not/exist.toml").unwrap_err().to_string();
        assert!(error.contains("/does/not/exist.toml"), "{error}");
    }

    #[test]
    fn garbage_is_an_error_and_never_a_panic() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let pieces = [
            "[a]",
            "[[b]]",
            "ttl",
            " = ",
            "'1h'",
            "\n",
            "\"",
            "{",
            "}",
            "é",
            "99999999999999999999",
            "-1",
            "[",
            ".",
            "%",
            "prefix",
            "true",
        ];
        for _ in 0..5000 {
            let text: String =
                (0..random.usize(..12)).map(|_| pieces[random.usize(..pieces.len())]).collect();
            let _ = TtlTable::from_toml(&text).map_err(|error| error.to_string());
        }
    }
}
