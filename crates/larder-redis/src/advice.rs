use std::collections::HashMap;

use deadpool_redis::redis::{RedisResult, cmd};

use crate::command::target::Target;

/// Reads the server's settings that a cache depends on, and returns what to change.
pub(crate) async fn ask(mut on: Target) -> RedisResult<Vec<String>> {
    let mut settings = HashMap::new();
    // Redis 6.2 takes one pattern at a time.
    for pattern in ["maxmemory*", TABLE] {
        let mut asked = cmd("CONFIG");
        asked.arg("GET").arg(pattern);
        let told: HashMap<String, String> = asked.query_async(&mut on.connection).await?;
        settings.extend(told);
    }
    let advice = [of_memory(&settings), of_tracked_names(&settings)];
    Ok(advice.into_iter().flatten().collect())
}

/// The setting that limits the names that a server tracks.
const TABLE: &str = "tracking-table-max-keys";

/// 200 bytes: a server needs about 125 for a name that it tracks, and the name.
const TRACKED_NAME: u64 = 200;

/// Advice about the limit on memory. Without a limit, and with any policy that evicts, there is
/// none: values, leases and tags have lifetimes, so `volatile-*` finds them too.
pub(crate) fn of_memory(settings: &HashMap<String, String>) -> Option<String> {
    let limit: u64 = settings
        .get("maxmemory")?
        .parse()
        .ok()
        .filter(|limit| *limit > 0)?;
    (settings.get("maxmemory-policy")? == "noeviction").then(|| {
        format!(
            "with maxmemory-policy noeviction the server refuses every write once it holds its maxmemory of {limit} \
             bytes; set maxmemory-policy to allkeys-lru, or to volatile-lru if it holds more than caches"
        )
    })
}

/// Advice about the names that the server tracks, where they may take more than a quarter of its
/// memory: then the server evicts values to remember names.
pub(crate) fn of_tracked_names(settings: &HashMap<String, String>) -> Option<String> {
    let number = |name| settings.get(name)?.parse::<u64>().ok();
    let limit = number("maxmemory").filter(|limit| *limit > 0)?;
    let most = number(TABLE)?;
    let fitting = (limit / 4 / TRACKED_NAME).max(1);
    // Zero: no limit.
    (most == 0 || most > fitting).then(|| {
        let most = if most == 0 {
            "any number of".to_owned()
        } else {
            format!("up to {most}")
        };
        format!(
            "the server remembers {most} names that its clients have read ({TABLE}), at about {TRACKED_NAME} bytes each, \
             and evicts values of its maxmemory of {limit} bytes for them; set {TABLE} to {fitting} or less"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_may_take_more_than_a_quarter_of_the_memory_are_advised_against() {
        let advice = |limit: &str, most: &str| {
            let settings = [("maxmemory", limit), (TABLE, most)];
            let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
            of_tracked_names(&settings.into())
        };
        let said = advice("20000000", "1000000").unwrap();
        assert!(said.contains("up to 1000000 names"), "{said}");
        assert!(said.contains("to 25000 or less"), "{said}");
        assert!(advice("20000000", "0").is_some_and(|said| said.contains("any number of")));
        assert_eq!(advice("20000000", "25000"), None);
        assert_eq!(advice("800000000", "1000000"), None);
        assert_eq!(advice("0", "1000000"), None, "no limit on memory");
        assert_eq!(of_tracked_names(&HashMap::new()), None);
    }

    #[test]
    fn only_a_limit_without_eviction_is_advised_against() {
        let advice = |limit: &str, policy: &str| {
            let settings = [
                ("maxmemory", limit),
                ("maxmemory-policy", policy),
                ("maxmemory-samples", "5"),
            ];
            of_memory(
                &settings
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .into(),
            )
        };
        assert!(
            advice("1048576", "noeviction").is_some_and(|advice| advice.contains("allkeys-lru"))
        );
        for (limit, policy) in [
            ("0", "noeviction"),
            ("1048576", "allkeys-lru"),
            ("1048576", "volatile-ttl"),
        ] {
            assert_eq!(advice(limit, policy), None, "{limit} {policy}");
        }
        assert_eq!(
            of_memory(&HashMap::new()),
            None,
            "a server that tells nothing"
        );
    }
}
