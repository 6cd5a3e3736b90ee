//! The words of each error.

use std::{error::Error as _, io, time::Duration};

use crate::{Policy, TtlTable};

fn error(text: &str) -> String {
    TtlTable::from_toml(text).unwrap_err().to_string()
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
            "the TTL table, policy \"a\", key \"lease\", line 3: it must be at least 100ms, because it is renewed after each third of it",
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
