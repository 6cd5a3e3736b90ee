use super::*;
use crate::OnOutage;

mod messages;

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
