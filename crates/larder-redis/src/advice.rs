use std::collections::HashMap;

use deadpool_redis::redis::{RedisResult, cmd};

use crate::command::target::Target;

/// Reads the server's settings that a cache depends on, in one command that every version knows,
/// and returns what to change.
pub(crate) async fn ask(mut on: Target) -> RedisResult<Vec<String>> {
    let settings: HashMap<String, String> = cmd("CONFIG")
        .arg("GET")
        .arg("maxmemory*")
        .query_async(&mut on.connection)
        .await?;
    Ok(of_memory(&settings).into_iter().collect())
}

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

#[cfg(test)]
mod tests {
    use super::*;

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
