use std::{fmt, time::Duration};

use crate::{
    Policy,
    display::{percentage, shown},
};

/// A combination of a policy's keys that works but will hurt, with a remedy.
///
/// ```
/// use larder_ttl::TtlTable;
///
/// let table = TtlTable::from_toml("[posts]\nttl = '1h'\nl1_ttl = '2h'")?;
/// let advice = table.policy("posts").unwrap().advice();
/// assert_eq!((advice[0].policy.as_str(), advice[0].key), ("posts", "l1_ttl"));
/// assert_eq!(advice[0].remedy, "set it to less than ttl, or remove it");
/// # Ok::<(), larder_ttl::TableError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// The policy's name.
    pub policy: String,
    /// The key to change.
    pub key: &'static str,
    /// The harm to expect.
    pub problem: String,
    /// A better choice.
    pub remedy: String,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "policy {:?}, key {:?}: {}; {}",
            self.policy, self.key, self.problem, self.remedy
        )
    }
}

impl Policy {
    /// Lists the combinations of this policy's values that will hurt. For a policy of defaults the
    /// list is empty.
    ///
    /// ```
    /// use larder_ttl::TtlTable;
    ///
    /// for policy in TtlTable::default().policies() {
    ///     assert!(policy.advice().is_empty());
    /// }
    /// ```
    pub fn advice(&self) -> Vec<Advice> {
        let checks = [l1_ttl, stale_for, refresh_ahead, max_wait, max_loads];
        let advice = |(key, problem, remedy): Harm| Advice {
            policy: self.name().to_owned(),
            key,
            problem,
            remedy: remedy.to_owned(),
        };
        checks
            .into_iter()
            .filter_map(|check| check(self))
            .map(advice)
            .collect()
    }
}

/// A key, the harm that its value does, and a remedy.
type Harm = (&'static str, String, &'static str);

fn l1_ttl(policy: &Policy) -> Option<Harm> {
    let l1_ttl = policy.l1_ttl.filter(|l1_ttl| *l1_ttl > policy.ttl)?;
    let problem = format!(
        "{} is never reached, because ttl ends after {}",
        shown(l1_ttl),
        shown(policy.ttl)
    );
    Some(("l1_ttl", problem, "set it to less than ttl, or remove it"))
}

fn stale_for(policy: &Policy) -> Option<Harm> {
    // The default load_timeout counts too: only a very short stale_for is below it.
    if policy.stale_for.is_zero() || policy.load_timeout < policy.stale_for {
        return None;
    }
    let (stale_for, load_timeout) = (shown(policy.stale_for), shown(policy.load_timeout));
    let problem = format!(
        "the stale value is gone after {stale_for}, before a load that hangs is cancelled after {load_timeout}, so \
         there is nothing to serve when the load fails"
    );
    Some((
        "stale_for",
        problem,
        "set it to several times load_timeout, or lower load_timeout",
    ))
}

fn refresh_ahead(policy: &Policy) -> Option<Harm> {
    // The part of a life in which a reload is due is counted from its end, so a life that jitter
    // has shortened by as much as refresh_ahead is due from its start.
    policy
        .refresh_ahead
        .filter(|share| policy.jitter >= *share)?;
    let problem = format!(
        "jitter takes up to {} of a lifetime, so some values are due for a reload as soon as they are loaded",
        percentage(policy.jitter),
    );
    Some(("refresh_ahead", problem, "set it to well over jitter"))
}

fn max_wait(policy: &Policy) -> Option<Harm> {
    // By default a caller does give up first, on purpose. Only a policy that sets one of the two
    // may not know of the other.
    if (policy.max_wait.is_none() && policy.lease.is_none()) || policy.max_wait() >= policy.lease()
    {
        return None;
    }
    let problem = format!(
        "a caller gives up after {}, before the lease of a process that died ends after {}: readers load uncached, \
         and writers get an error",
        shown(policy.max_wait()),
        shown(policy.lease())
    );
    Some((
        "max_wait",
        problem,
        "set it to more than lease, or lower lease",
    ))
}

fn max_loads(policy: &Policy) -> Option<Harm> {
    let limit = policy.max_loads?;
    if policy.max_wait() > Duration::ZERO {
        return None;
    }
    let problem = format!(
        "with a max_wait of 0 no load waits until another one has ended, so every load past {limit} fails, or serves \
         a stale value, at once"
    );
    Some((
        "max_loads",
        problem,
        "set max_wait to what a caller can wait, or remove max_loads",
    ))
}

#[cfg(test)]
mod tests {
    use crate::TtlTable;

    /// Lists the keys that `advice` wants changed in a policy with these lines and a ttl of an
    /// hour.
    fn advised(lines: &str) -> Vec<&'static str> {
        let table = TtlTable::from_toml(&format!("[a]\nttl = '1h'\n{lines}")).unwrap();
        table
            .policy("a")
            .unwrap()
            .advice()
            .iter()
            .map(|advice| advice.key)
            .collect()
    }

    #[test]
    fn policies_of_defaults_need_no_advice() {
        for policy in TtlTable::default().policies() {
            assert_eq!(policy.advice(), [], "{}", policy.name());
        }
        let brief = TtlTable::from_toml("[a]\nttl = '1s'").unwrap();
        assert_eq!(brief.policy("a").unwrap().advice(), []);
    }

    #[test]
    fn harmful_combinations_are_advised_against_and_common_ones_are_not() {
        for (lines, key) in [
            ("l1_ttl = '2h'", "l1_ttl"),
            ("stale_for = '10s'", "stale_for"),
            ("stale_for = '1m'\nload_timeout = '2m'", "stale_for"),
            ("refresh_ahead = '50%'\njitter = '60%'", "refresh_ahead"),
            ("max_wait = '2s'", "max_wait"),
            ("lease = '1m'", "max_wait"),
            (
                "max_loads = 4\nmax_wait = '0s'\nlease = '100ms'",
                "max_loads",
            ),
        ] {
            assert!(advised(lines).contains(&key), "{lines}");
        }
        for lines in [
            "l1_ttl = '1h'",
            "stale_for = '10m'",
            "stale_for = '10m'\nsoft_timeout = '200ms'",
            "refresh_ahead = '80%'",
            "refresh_ahead = '95%'",
            "max_wait = '10s'",
            "lease = '5s'",
            "max_loads = 4",
            "negative_ttl = '1h'",
            "levels = 'l2'\ninstant_clear = true\non_outage = 'fail'",
        ] {
            assert!(advised(lines).is_empty(), "{lines}: {:?}", advised(lines));
        }
    }

    #[test]
    fn advice_names_the_policy_the_key_and_the_remedy() {
        let table = TtlTable::from_toml("[a]\nttl = '1h'\nl1_ttl = '2h'").unwrap();
        let advice = table.policy("a").unwrap().advice();
        assert_eq!(
            advice[0].to_string(),
            "policy \"a\", key \"l1_ttl\": 2h is never reached, because ttl ends after 1h; set it to less than ttl, or remove it"
        );
    }
}
