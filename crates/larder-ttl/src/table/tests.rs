use std::{error::Error as _, io};

use super::*;
use crate::OnOutage;

fn error(text: &str) -> String {
    TtlTable::from_toml(text).unwrap_err().to_string()
}

#[test]
fn builtin_policies_have_their_reasons() {
    let table = TtlTable::default();
    let policies: Vec<_> = table
        .policies()
        .map(|policy| {
            (
                policy.name(),
                policy.prefix(),
                policy.ttl().as_secs(),
                policy.levels(),
                policy.reason(),
            )
        })
        .collect();
    assert_eq!(
        policies,
        [
            (
                "session_token",
                "session_token",
                86_400,
                Levels::L2,
                "security"
            ),
            (
                "user_profile",
                "user",
                3600,
                Levels::Both,
                "moderate change frequency"
            ),
            (
                "static_config",
                "static_config",
                86_400,
                Levels::Both,
                "rarely changes"
            ),
            (
                "search_result",
                "search_result",
                300,
                Levels::Both,
                "freshness"
            ),
            (
                "rate_limit",
                "rate_limit",
                60,
                Levels::L2,
                "real-time accuracy"
            ),
        ]
    );
    assert_eq!(
        table.policy("user_profile").unwrap().l1_ttl(),
        Duration::from_secs(60)
    );
}

#[test]
fn text_replaces_a_builtin_policy_as_a_whole_and_adds_others() {
    let table = TtlTable::from_toml(
        "[user_profile]\nttl = '10s'\n[posts]\nttl = '5m'\nnegative_ttl = '30s'\njitter = '0%'\nschema = 2\n",
    )
    .unwrap();
    let user = table.policy("user_profile").unwrap();
    assert_eq!(
        (user.prefix(), user.reason(), user.l1_ttl().as_secs()),
        ("user_profile", "", 10)
    );
    let posts = table.policy("posts").unwrap();
    assert_eq!(
        (posts.key_prefix().as_str(), posts.jitter()),
        ("posts@2", 0.0)
    );
    assert_eq!(posts.negative_ttl(), Some(Duration::from_secs(30)));
    assert_eq!(table.policies().count(), 6);
    let defaults = (
        user.lease().as_secs(),
        user.load_timeout().as_secs(),
        user.max_wait().as_secs(),
    );
    assert_eq!(
        (defaults, user.degraded_l1_ttl().as_secs(), user.schema()),
        ((10, 10, 5), 2, 1)
    );
}

#[test]
fn wrong_values_name_policy_key_and_line() {
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
        (
            "[a]\nttl = '0s'",
            "the TTL table, policy \"a\", key \"ttl\", line 2: it must be at least 1ms",
        ),
        (
            "[a]\nttl = '1h'\nlevels = 'l2'\nl1_ttl = '5s'",
            "the TTL table, policy \"a\", key \"l1_ttl\", line 4: it is for policies with levels = \"both\"; with \"l1\" an entry lives for its ttl",
        ),
        (
            "[a]\nttl = '1h'\nlease = '1ms'",
            "the TTL table, policy \"a\", key \"lease\", line 3: it must be at least 100ms, because it is renewed three times in its life",
        ),
        (
            "[a]\nttl = '1h'\nprefix = 'larder'",
            "the TTL table, policy \"a\", key \"prefix\", line 3: \"larder\" is kept for larder's own keys; choose another",
        ),
        (
            "[a]\nttl = '1h'\nprefix = 'user:posts'",
            "the TTL table, policy \"a\", key \"prefix\", line 3: \"user:posts\" holds ':'; a prefix is made of letters, digits and _ . -, such as prefix = \"user.posts\"",
        ),
        (
            "['user posts']\nttl = '1h'",
            "the TTL table, policy \"user posts\", key \"prefix\", line 1: without a prefix of its own, the policy's name is in front of its keys, and \"user posts\" holds ' '; a prefix is made of letters, digits and _ . -, such as prefix = \"user.posts\"",
        ),
        (
            "[a]\nttl = '1h'\nprefix = ''",
            "the TTL table, policy \"a\", key \"prefix\", line 3: a prefix has 1 to 64 characters, and \"\" has 0",
        ),
        (
            "[a]\nttl = '1h'\n[b]\nttl = '1h'\nprefix = 'a'",
            "the TTL table, policy \"b\", key \"prefix\", line 5: policies \"a\" and \"b\" share the prefix \"a\"; give one another prefix",
        ),
        (
            "ttl = '1h'",
            "the TTL table, key \"ttl\", line 1: ttl is a key of a policy: write the policy's name above it, such as [user_profile]",
        ),
        (
            "posts = '1h'",
            "the TTL table, key \"posts\", line 1: a policy is a table: write [posts] and its keys below",
        ),
        (
            "buildin = false",
            "the TTL table, key \"buildin\", line 1: there is no such key; is \"builtin\" meant?",
        ),
        (
            "builtin = 'no'",
            "the TTL table, key \"builtin\", line 1: \"no\" is neither true nor false",
        ),
        (
            "[a]\nttl = '1h'\nbuiltin = false",
            "the TTL table, policy \"a\", key \"builtin\", line 3: there is no such key; write builtin at the top of the table, above the first policy",
        ),
        (
            "[z]\nttl = 'x'\n[a]\nttl = 'x'",
            "the TTL table, policy \"z\", key \"ttl\", line 2: \"x\" is not a duration; write a number with a unit, such as \"90s\" or \"1h\"",
        ),
        (
            "[a]\nttl = '5s'\nnegative_ttl = '6s'",
            "the TTL table, policy \"a\", key \"negative_ttl\", line 3: it must not be longer than ttl",
        ),
    ] {
        assert_eq!(error(text), message);
    }
    let syntax = error("[a]\nttl = \n");
    assert!(syntax.contains("line 2"), "{syntax}");
}

#[test]
fn policies_may_say_how_stale_values_loads_and_outages_are_treated() {
    let table = TtlTable::from_toml(
        "[a]\nttl = '1h'\nstale_for = '10m'\nrefresh_ahead = '80%'\nsoft_timeout = '200ms'\n\
         degraded_l1_ttl = '5s'\nmax_loads = 5\non_outage = 'fail'\ncodec = 'json'\n\
         [b]\nttl = '1h'\nstale_for = '0s'\nrefresh_ahead = 'off'\nsoft_timeout = 'off'\nmax_loads = 0\n\
         on_outage = 'serve'\n[c]\nttl = '1h'",
    )
    .unwrap();
    let policy = table.policy("a").unwrap();
    assert_eq!(
        (
            policy.stale_for().as_secs(),
            policy.refresh_ahead(),
            policy.soft_timeout()
        ),
        (600, Some(0.8), Some(Duration::from_millis(200)))
    );
    assert_eq!(
        (
            policy.degraded_l1_ttl().as_secs(),
            policy.max_loads().map(u32::from),
            policy.on_outage()
        ),
        (5, Some(5), OnOutage::Fail)
    );
    for name in ["b", "c"] {
        let policy = table.policy(name).unwrap();
        assert_eq!(
            (
                policy.stale_for(),
                policy.refresh_ahead(),
                policy.soft_timeout()
            ),
            (Duration::ZERO, None, None)
        );
        assert_eq!(
            (policy.max_loads(), policy.on_outage()),
            (None, OnOutage::Serve)
        );
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
            "it must be less than load_timeout, after which the load is cancelled",
        ),
        (
            "stale_for = '1h'\nload_timeout = '1s'\nsoft_timeout = '1s'",
            "soft_timeout",
            "it must be less than load_timeout, after which the load is cancelled",
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
        (
            "on_outage = 'panic'",
            "on_outage",
            "\"panic\" is not \"serve\" or \"fail\"",
        ),
        (
            "stale_for = '36500days'",
            "stale_for",
            "ttl and stale_for together are at most 100 years",
        ),
        (
            "degraded_l1_ttl = '0s'",
            "degraded_l1_ttl",
            "it must be at least 1ms",
        ),
        (
            "max_loads = -1",
            "max_loads",
            "-1 is out of range; it is a number from 0 to 4294967295",
        ),
        (
            "codec = 'postcard'",
            "codec",
            "not supported yet; remove it",
        ),
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
    assert_eq!(table.policy("posts").unwrap().key_prefix(), "posts@3");
    for (text, problem) in [
        (
            r#"{"posts": {"ttl": 5}}"#,
            "policy \"posts\", key \"ttl\": 5 has no unit",
        ),
        (
            r#"{"posts": {"ttl": ["5m"]}}"#,
            "policy \"posts\", key \"ttl\": a list is not a duration",
        ),
        (
            r#"{"posts": {"ttl": null}}"#,
            "policy \"posts\", key \"ttl\": nothing is not a duration",
        ),
        (
            r#"{"posts": {"ttl": {}}}"#,
            "policy \"posts\", key \"ttl\": a table is not a duration",
        ),
        (
            r#"{"posts": "5m"}"#,
            "key \"posts\": a policy is a table: write [posts] and its keys below",
        ),
        (
            r#"["posts"]"#,
            "the TTL table is a map of policies, each a map of its keys",
        ),
        (
            r#"{"user": {"ttl": "5m"}}"#,
            "\"user_profile\", which is built in",
        ),
    ] {
        let error = serde_json::from_str::<TtlTable>(text)
            .unwrap_err()
            .to_string();
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn policies_from_code_are_checked_alike() {
    let policy = Policy::builder("posts", Duration::from_millis(1500))
        .jitter(0.25)
        .build()
        .unwrap();
    assert_eq!(
        (policy.ttl(), policy.jitter()),
        (Duration::from_millis(1500), 0.25)
    );
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
    assert_eq!(
        TtlTable::from_toml(text).unwrap().policy("posts"),
        Some(&policy)
    );
    assert!(
        Policy::builder("posts", Duration::from_secs(1))
            .refresh_ahead(0.0)
            .build()
            .is_err()
    );
    let error = Policy::builder("posts", Duration::ZERO)
        .build()
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("key \"ttl\": it must be at least 1ms"),
        "{error}"
    );
    assert!(Policy::builder("posts", Duration::MAX).build().is_err());
    assert!(
        Policy::builder("posts", Duration::from_secs(1))
            .jitter(f64::NAN)
            .build()
            .is_err()
    );
}

#[test]
fn missing_file_names_its_path() {
    let error = TtlTable::from_file("/does/not/exist.toml").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the TTL table /does/not/exist.toml: the file cannot be read"
    );
    let cause = error
        .source()
        .and_then(|cause| cause.downcast_ref::<io::Error>())
        .unwrap();
    assert_eq!(cause.kind(), io::ErrorKind::NotFound);
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
        let text: String = (0..random.usize(..12))
            .map(|_| pieces[random.usize(..pieces.len())])
            .collect();
        let _ = TtlTable::from_toml(&text).map_err(|error| error.to_string());
    }
}

#[test]
fn a_builtin_prefix_is_refused_with_the_ways_out() {
    let remedy = "give \"user\" another prefix, or replace the built-in policy by a [user_profile] of your own, or leave \
                  out all built-in policies with builtin = false at the top of the table (in code: TtlTable::empty())";
    let problem =
        format!("\"user\" is already the prefix of \"user_profile\", which is built in; {remedy}");
    assert_eq!(
        error("[user]\nttl = '1m'"),
        format!("the TTL table, policy \"user\", key \"prefix\", line 1: {problem}")
    );
    let user = || {
        Policy::builder("user", Duration::from_secs(60))
            .build()
            .unwrap()
    };
    let refused = TtlTable::default().with(user()).unwrap_err().to_string();
    assert_eq!(
        refused,
        format!("the TTL table, policy \"user\", key \"prefix\": {problem}")
    );

    // Each of the ways out.
    let table = |text| TtlTable::from_toml(text).unwrap();
    assert_eq!(
        table("[user]\nttl = '1m'\nprefix = 'users'")
            .policies()
            .count(),
        6
    );
    assert_eq!(
        table("[user]\nttl = '1m'\n[user_profile]\nttl = '1h'")
            .policies()
            .count(),
        6
    );
    let own = table("builtin = false\n[user]\nttl = '1m'");
    assert_eq!(own.policies().collect::<Vec<_>>(), [&user()]);
    assert_eq!(TtlTable::empty().with(user()).unwrap(), own);
}

#[test]
fn a_policy_that_takes_its_own_builtin_name_may_not_take_another_builtin_prefix() {
    let message = error("[user_profile]\nttl = '1h'\nprefix = 'rate_limit'");
    assert!(
        message.contains("policy \"user_profile\", key \"prefix\", line 3"),
        "{message}"
    );
    assert!(
        message.contains("\"rate_limit\", which is built in"),
        "{message}"
    );
}

#[test]
fn tables_may_start_empty() {
    assert_eq!(TtlTable::empty().policies().count(), 0);
    assert_eq!(
        TtlTable::from_toml("builtin = false").unwrap(),
        TtlTable::empty()
    );
    assert_eq!(
        TtlTable::from_toml("builtin = true").unwrap(),
        TtlTable::builtin()
    );
    assert_eq!(TtlTable::from_toml("").unwrap(), TtlTable::builtin());
    // The map of another format has no order.
    let json = |text| serde_json::from_str::<TtlTable>(text).unwrap();
    assert_eq!(json(r#"{"builtin": false}"#), TtlTable::empty());
    let user = json(r#"{"user": {"ttl": "1m"}, "builtin": false}"#);
    assert_eq!(
        user,
        TtlTable::from_toml("builtin = false\n[user]\nttl = '1m'").unwrap()
    );
    // A policy may be called so too.
    assert!(
        TtlTable::from_toml("[builtin]\nttl = '1m'")
            .unwrap()
            .policy("builtin")
            .is_some()
    );
}

#[test]
fn prefixes_hold_nothing_that_separates_the_parts_of_a_key() {
    for bad in [":", "/", "@", "%", "{", " ", "*", "é", "\n"] {
        for prefix in [format!("a{bad}b"), format!("{bad}a"), format!("a{bad}")] {
            let policy = Policy::builder("p", Duration::from_secs(1))
                .prefix(&prefix)
                .build();
            let problem = policy.unwrap_err().to_string();
            assert!(
                problem.contains("a prefix is made of letters, digits and _ . -"),
                "{problem}"
            );
        }
    }
    let with_prefix = |prefix: &str| {
        Policy::builder("p", Duration::from_secs(1))
            .prefix(prefix)
            .build()
    };
    assert!(with_prefix("aZ0_.-").is_ok() && with_prefix(&"a".repeat(64)).is_ok());
    assert!(with_prefix(&"a".repeat(65)).is_err());
}
