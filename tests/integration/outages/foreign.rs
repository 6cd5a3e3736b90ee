//! Another program has written under names that larder uses: values of another type, numbers that
//! are none, lives without an end. Nothing stalls, nothing is lost, and what is larder's own heals.

use std::{sync::Arc, time::Duration};

use larder::{BreakerState, Error, Larder, StoreError};
use larder_core::{LaneState, Lanes};
use larder_redis::RedisStore;
use larder_testkit::{RedisServer, Reply};
use tokio::time::Instant;

use crate::support::{
    calls::{Items, get, gets, load, load_tagged, value},
    log::Log,
    policy::{MINUTE, builder_of, named, policy},
    redis::config,
    store::are,
    wait::BOUND,
    world::{World, scripts_run},
};

/// Garbage that another program may write under a name, as a command in which the name is left out.
const GARBAGE: [&[&str]; 16] = [
    &["SET", "", "abc"],
    &["SET", "", ""],
    &["SET", "", "wX"],
    &["SET", "", "w0123456789abcdef0123456789abcdef"],
    &["SET", "", "d0123456789abcdef0123456789abcdef"],
    &[
        "SET",
        "",
        "r0123456789abcdef0123456789abcdef",
        "PX",
        "9000000000000000",
    ],
    &["SET", "", "-1"],
    &["SET", "", "5"],
    &["SET", "", "18446744073709551616"],
    &["SET", "", "9007199254740993", "PX", "9000000000000000"],
    &["SET", "", "1e300"],
    &["RPUSH", "", "x"],
    &["SADD", "", "x"],
    &["ZADD", "", "1", "x"],
    &["HSET", "", "x", "y"],
    &["XADD", "", "*", "x", "y"],
];

async fn play(server: &RedisServer, garbage: &[&str], name: &str) {
    server.command(&["DEL", name]).await.unwrap();
    let words: Vec<&str> = garbage
        .iter()
        .map(|word| if word.is_empty() { name } else { word })
        .collect();
    // The first empty word is the name, the second one an empty value.
    let words = match garbage {
        ["SET", "", ""] => vec!["SET", name, ""],
        _ => words,
    };
    let done = server.command(&words).await.unwrap();
    assert!(!matches!(done, Reply::Error(_)), "{words:?}: {done:?}");
}

/// A process with a plain and a tagged policy, and its store.
async fn process(server: &RedisServer) -> (Arc<RedisStore>, Larder) {
    process_at(server.url()).await
}

/// Like [`process`], as the user of this address.
async fn process_at(url: String) -> (Arc<RedisStore>, Larder) {
    let config = config(url).command_timeout(Duration::from_secs(5));
    let store = Arc::new(RedisStore::connect(config).await.unwrap());
    let policies = [
        policy().max_wait(MINUTE),
        named("instant").instant_clear(true).max_wait(MINUTE),
    ];
    let larder = builder_of(&policies)
        .remote_store(store.clone())
        .build()
        .await
        .unwrap();
    (store, larder)
}

/// Nothing that was met so far has cost this process its lanes.
fn is_unharmed(store: &RedisStore, larder: &Larder, what: &str) {
    let stats = store.stats();
    assert_eq!(
        (stats.lanes_lost, stats.unsent, stats.breaker_opened),
        (0, 0, 0),
        "{what}"
    );
    assert_eq!(larder.stats().breaker, BreakerState::Closed, "{what}");
    assert!(are(store, LaneState::Tracking), "{what}");
}

/// Every call that concerns the key's lease, or its tag, under the garbage that `again` plays.
async fn every_call(cache: &Items, larder: &Larder, again: impl AsyncFn()) {
    again().await;
    assert_eq!(load_tagged(cache, "k", "1", "t").await, "1");
    again().await;
    heals(cache).await;
    again().await;
    cache.insert("k", "2".to_owned()).await.unwrap();
    assert_eq!(get(cache, "k").await.as_deref(), Some("2"));
    again().await;
    cache.write_through("k", || value("3")).await.unwrap();
    again().await;
    cache.invalidate("k").await.unwrap();
    assert_eq!(get(cache, "k").await, None);
    assert_eq!(load_tagged(cache, "k", "4", "t").await, "4");
    again().await;
    larder.invalidate_tag("t").await.unwrap();
    assert_eq!(
        load_tagged(cache, "k", "5", "t").await,
        "5",
        "the tag was invalidated"
    );
    again().await;
    cache.clear().await.unwrap();
    assert_eq!(get(cache, "k").await, None);
    assert_eq!(load_tagged(cache, "k", "6", "t").await, "6");
}

/// Waits until the tagged value is kept: the one that was there, or, where the garbage took the
/// place of its tag's pin, one that was loaded anew.
async fn heals(cache: &Items) {
    let give_up = Instant::now() + BOUND;
    loop {
        let served = load_tagged(cache, "k", "1", "t").await;
        assert_eq!(served, "1");
        if get(cache, "k").await == Some(served) {
            return;
        }
        assert!(Instant::now() < give_up, "it is not kept");
    }
}

/// P14 no-wait-for-expiry-push, P21 tags-pinned-in-time, P22 epoch-before-load: a lease, a pin or
/// an epoch that no larder has written is none.
#[tokio::test(flavor = "multi_thread")]
async fn garbage_under_larders_own_names_is_a_miss_that_heals() {
    let server = RedisServer::start().await.unwrap();
    let (store, larder) = process(&server).await;
    let began = Instant::now();
    for policy in ["item", "instant"] {
        let cache: Items = larder.cache(policy).unwrap();
        for name in [
            format!("larder:lease:{{{policy}:k}}"),
            "larder:{tags}".to_owned(),
            "larder:{tags}:tag:t".to_owned(),
            format!("larder:{{tags}}:row:{policy}"),
        ] {
            for garbage in GARBAGE {
                let what = format!("{garbage:?} under {name}");
                every_call(&cache, &larder, || async {
                    play(&server, garbage, &name).await;
                })
                .await;
                is_unharmed(&store, &larder, &what);
                server.command(&["FLUSHALL"]).await.unwrap();
                gets(&cache, "k", None).await;
            }
        }
    }
    println!("{:?} in all", began.elapsed());
}

/// A lease whose end was lost keeps nobody waiting, and nobody polls for it.
#[tokio::test(flavor = "multi_thread")]
async fn lease_without_an_end_is_taken_over_at_once() {
    let world = World::new().await;
    let cache = world.cache(&policy().max_wait(MINUTE)).await;
    for lease in ["wX", "w0123456789abcdef0123456789abcdef"] {
        for kind in ["read", "write"] {
            let name = "larder:lease:{item:k}";
            world.server.command(&["SET", name, lease]).await.unwrap();
            let before = scripts_run(&world).await;
            match kind {
                "read" => assert_eq!(load(&cache, "k", "v").await, "v"),
                _ => drop(cache.write_through("k", || value("v")).await.unwrap()),
            }
            let run = scripts_run(&world).await - before;
            assert!(run <= 6, "{run} scripts for one {kind}: somebody polls");
            assert!(
                world.l2("item:k").await.is_some(),
                "{lease} {kind}: it is stored"
            );
            cache.invalidate("k").await.unwrap();
        }
    }
}

/// A value that does not decode is replaced; one of another type is left alone, and served by the
/// loader.
#[tokio::test(flavor = "multi_thread")]
async fn garbage_under_a_values_name_heals_or_is_left_alone() {
    let server = RedisServer::start().await.unwrap();
    let (store, larder) = process(&server).await;
    for policy in ["item", "instant"] {
        let cache: Items = larder.cache(policy).unwrap();
        let name = format!("{policy}:k");
        for garbage in GARBAGE {
            let what = format!("{garbage:?} under {name}");
            play(&server, garbage, &name).await;
            let kind = server.command(&["TYPE", &name]).await.unwrap();
            assert_eq!(load(&cache, "k", "1").await, "1", "{what}");
            let inserted = cache.insert("k", "2".to_owned()).await;
            if kind == Reply::Status("string".to_owned()) {
                inserted.unwrap();
                gets(&cache, "k", Some("2")).await;
                let stored = server.command(&["GET", &name]).await.unwrap().text();
                assert!(stored.unwrap().ends_with("\"2\""), "{what}");
            } else {
                assert!(
                    matches!(
                        &inserted,
                        Err(Error::Store {
                            source: StoreError::WrongType { .. },
                            ..
                        })
                    ),
                    "{what}: {inserted:?}"
                );
                cache.write_through("k", || value("3")).await.unwrap();
                assert!(
                    cache.insert_many([("k", "4".to_owned())]).await.is_err(),
                    "{what}"
                );
                assert_eq!(
                    server.command(&["TYPE", &name]).await.unwrap(),
                    kind,
                    "{what}"
                );
            }
            is_unharmed(&store, &larder, &what);
            server.command(&["FLUSHALL"]).await.unwrap();
            gets(&cache, "k", None).await;
        }
    }
}

/// Bytes of another program are cut before they reach the log, and told once.
#[tokio::test]
async fn foreign_bytes_are_cut_in_the_log() {
    let log = Log::default();
    let _listening = log.listen();
    let world = World::new().await;
    let (store, larder) = process(&world.server).await;
    let cache: Items = larder.cache("item").unwrap();
    let huge = "z".repeat(2 << 20);
    for name in [
        "larder:{tags}",
        "larder:{tags}:tag:t",
        "larder:lease:{item:k}",
        "item:k",
    ] {
        world.server.command(&["SET", name, &huge]).await.unwrap();
        assert_eq!(load_tagged(&cache, "k", "v", "t").await, "v", "{name}");
        larder.invalidate_tag("t").await.unwrap();
        cache.invalidate("k").await.unwrap();
    }
    is_unharmed(&store, &larder, "2 MiB under every name");
    let longest = log.text().split(|c| c != 'z').map(str::len).max();
    assert!(longest.unwrap() <= 80, "{longest:?} foreign bytes");
    assert!(log.text().len() < 20_000, "{}", log.text().len());
}

/// Commands that managed services forbid or rename away are not needed: scripts are sent where they
/// cannot be loaded.
#[tokio::test(flavor = "multi_thread")]
async fn process_works_without_commands_that_services_forbid() {
    let users = ["-@dangerous", "-script", "-config", "-info", "-client"];
    let renamed = ["SCRIPT", "CONFIG", "CLIENT"];
    let users = users.map(|rule| (Some(rule), vec![]));
    let renamed = renamed.map(|command| (None, vec!["--rename-command", command, ""]));
    for (rule, args) in users.into_iter().chain(renamed) {
        let what = format!("{rule:?} {args:?}");
        let server = RedisServer::builder().args(&args).start().await.unwrap();
        let user = ["ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all"];
        let mut user: Vec<&str> = user.into_iter().chain(rule).collect();
        if rule == Some("-@dangerous") {
            user.push("+client|tracking"); // before Redis 7.0 all of CLIENT is dangerous
        }
        server.command(&user).await.unwrap();
        let url = format!("redis://app:pw@{}", server.addr());
        let (store, larder) = process_at(url).await;
        let tracks = !what.contains("client") && !what.contains("CLIENT");
        for policy in ["item", "instant"] {
            let cache: Items = larder.cache(policy).unwrap();
            every_call(&cache, &larder, async || {}).await;
        }
        let stats = store.stats();
        assert_eq!(
            (stats.lanes_lost, stats.unsent, stats.breaker_opened),
            (0, 0, 0),
            "{what}"
        );
        let state = match tracks {
            true => LaneState::Tracking,
            false => LaneState::Untracked,
        };
        assert!(are(&store, state), "{what}");
        let stored = server.command(&["GET", "item:k"]).await.unwrap();
        assert!(stored.text().is_some(), "{what}");
    }
}

/// P11 unsent-goes-first: what is refused for its own sake blocks nothing else, now or when it is
/// sent again.
#[tokio::test(flavor = "multi_thread")]
async fn refused_command_blocks_its_own_key_only() {
    let server = RedisServer::start().await.unwrap();
    let (store, larder) = process(&server).await;
    let cache: Items = larder.cache("item").unwrap();
    for key in ["other", "k"] {
        load(&cache, key, "v").await;
    }
    let deny = [
        "ACL",
        "SETUSER",
        "default",
        "resetkeys",
        "~item:other",
        "~larder:*",
    ];
    server.command(&deny).await.unwrap();
    let refused = cache.invalidate("k").await;
    assert!(
        matches!(
            &refused,
            Err(Error::Store {
                source: StoreError::Refused { .. },
                ..
            })
        ),
        "{refused:?}"
    );
    is_unharmed(&store, &larder, "a key that the user may not touch");
    cache.insert("other", "new".to_owned()).await.unwrap();
    let allow = ["ACL", "SETUSER", "default", "allkeys", "-time"];
    server.command(&allow).await.unwrap();
    assert!(
        larder.invalidate_tag("t").await.is_err(),
        "its script fails"
    );
    is_unharmed(&store, &larder, "a script that fails");
    assert_eq!(load(&cache, "new", "v").await, "v");
    let stored = server.command(&["GET", "item:new"]).await.unwrap();
    assert!(stored.text().is_some(), "the other calls go on");
}

/// How many bytes the server has sent.
async fn sent_bytes(server: &RedisServer) -> u64 {
    let info = server.command(&["INFO", "stats"]).await.unwrap().text();
    let info = info.unwrap();
    let sent = info.split("total_net_output_bytes:").nth(1).unwrap();
    sent.lines().next().unwrap().trim().parse().unwrap()
}

/// The limit of writing holds for reading: a larger value is not read whole, kept nowhere, and
/// replaced.
#[tokio::test(flavor = "multi_thread")]
async fn value_beyond_the_limit_is_neither_read_whole_nor_kept() {
    const LIMIT: usize = 1 << 20;
    let world = World::new().await;
    let larder = builder_of(&[policy()])
        .redis_config(world.config())
        .max_value_size(LIMIT)
        .build()
        .await
        .unwrap();
    let cache: Items = larder.cache("item").unwrap();
    let huge = format!("\"{}\"", "x".repeat(8 * LIMIT));
    let foreign = async |key: &str| {
        let set = ["SET", &format!("item:{key}"), &huge];
        world.server.command(&set).await.unwrap();
    };
    foreign("k").await;
    let before = sent_bytes(&world.server).await;
    assert_eq!(load(&cache, "k", "v").await, "v");
    let sent = sent_bytes(&world.server).await - before;
    assert!(sent < 2 * LIMIT as u64, "{sent} bytes for one value");
    assert_eq!(world.l2("item:k").await.as_deref(), Some("\"v\""));
    let keys: Vec<String> = (0..8).map(|n| n.to_string()).collect();
    for key in &keys {
        foreign(key).await;
    }
    cache.insert("0", "small".to_owned()).await.unwrap();
    let before = sent_bytes(&world.server).await;
    let found = cache.get_many(&keys).await.unwrap();
    assert_eq!(found.len(), 1, "the one that is small");
    let sent = sent_bytes(&world.server).await - before;
    assert!(
        sent < LIMIT as u64,
        "{sent} bytes, though their sizes are asked first"
    );
    for key in &keys[1..] {
        assert_eq!(world.l2(&format!("item:{key}")).await, None);
        assert_eq!(load(&cache, key, "v").await, "v");
        assert_eq!(
            world.l2(&format!("item:{key}")).await.as_deref(),
            Some("\"v\"")
        );
    }
    foreign("k").await;
    cache.insert("k", "w".to_owned()).await.unwrap();
    gets(&cache, "k", Some("w")).await;
}
