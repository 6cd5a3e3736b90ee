//! The table of commands, keys and channels is what a store asks of its server: no more, no less,
//! and what is missing of it is named.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by a panic"
)]

use std::{collections::BTreeSet, time::Duration};

use larder_core::{
    Digest, Key, LaneIndex, LaneState, Lanes, LeaseStore, Replacing, StoreError, TagStore, Token,
    Track, ValueStore, Want,
};
use larder_redis::{RIGHTS, RedisConfig, RedisStore, rights_in_markdown};
use larder_testkit::{RedisServer, Reply, find_server, version_of};

const MINUTE: Duration = Duration::from_secs(60);
const LANE: LaneIndex = LaneIndex(0);

/// The rules of a user that has just the rights of the table, and of these commands none.
fn rules(without: &[&str]) -> Vec<String> {
    let rules = [
        "on",
        ">pw",
        "resetkeys",
        "~item:*",
        "~larder:*",
        "resetchannels",
    ];
    let mut rules: Vec<String> = rules.map(str::to_owned).into();
    rules.extend(["&larder:bus:0".to_owned(), "-@all".to_owned()]);
    let rights = RIGHTS.iter().map(|right| right.command);
    // A server that does not know a subcommand refuses a rule about it.
    let is_known = |command: &&str| *command != "client|setinfo" || version() >= (7, 2);
    rules.extend(
        rights
            .filter(is_known)
            .filter(|command| !without.contains(command))
            .map(|command| format!("+{command}")),
    );
    rules
}

fn version() -> (u32, u32) {
    version_of(&find_server().unwrap()).unwrap()
}

async fn set_user(server: &RedisServer, rules: &[String]) {
    let words: Vec<&str> = ["ACL", "SETUSER", "app", "reset"]
        .into_iter()
        .chain(rules.iter().map(String::as_str))
        .collect();
    let done = server.command(&words).await.unwrap();
    assert_eq!(done, Reply::Status("OK".to_owned()), "{words:?}");
}

fn config(server: &RedisServer) -> RedisConfig {
    RedisConfig::new(format!("redis://app:pw@{}", server.addr()))
        .lanes(1)
        .ping_interval(Duration::from_millis(20))
        .probe_interval(Duration::from_millis(20))
        .prefixes(["item"])
}

async fn problem(server: &RedisServer) -> String {
    match RedisStore::connect(config(server)).await {
        Err(StoreError::Unfit { problem, .. }) => problem,
        other => panic!("{other:?}"),
    }
}

/// Everything that can be asked of a store.
async fn ask_everything(store: &RedisStore) {
    let token = Token::new();
    let large = vec![b'x'; 100 << 10];
    for value in [b"v".as_slice(), &large] {
        let key = "item:k";
        let epoch = store.tag_epoch(LANE).await.unwrap();
        store
            .claim(key, &token, MINUTE, Replacing::Nothing, Track::Value)
            .await
            .unwrap();
        assert!(store.renew(key, &token, MINUTE).await.unwrap());
        store.pin_tags(LANE, &["t"], epoch, MINUTE).await.unwrap();
        let done = store
            .commit(key, &token, value, MINUTE, Replacing::Nothing, Track::Value)
            .await;
        assert!(done.unwrap().is_done());
        assert!(store.holds(key, &Digest::of(value)).await.unwrap());
        assert_eq!(store.get(key).await.unwrap().unwrap().len(), value.len());
        store
            .get_with_ttl(key, Track::Value)
            .await
            .unwrap()
            .unwrap();
        for _ in 0..2 {
            let keys = [key, "item:none"];
            let found = store
                .get_many(LANE, &keys, Want::ValueAndTtl, Track::Value)
                .await
                .unwrap();
            assert!(found[0].is_some() && found[1].is_none(), "{found:?}");
        }
        let digest = Digest::of(value);
        store
            .claim(key, &token, MINUTE, Replacing::Value(&digest), Track::Value)
            .await
            .unwrap();
        assert!(
            store
                .touch(key, &token, &digest, 2 * MINUTE, Track::Value)
                .await
                .unwrap()
                .is_done()
        );
        store.begin_write(key, &token, MINUTE).await.unwrap();
        store.release(key, &token).await.unwrap();
        store.tags(LANE, &["t"]).await.unwrap();
        store.invalidate_tag("t").await.unwrap();
        store
            .invalidate(&Key::from_stored_name(key), None)
            .await
            .unwrap();
    }
    store.clear("item:").await.unwrap();
    store.advice().await;
    let is_probed = || store.stats().push_lag.is_some();
    assert!(larder_testkit::eventually(MINUTE, is_probed).await);
}

/// The commands that the server has run so far, as the table names them where it does.
async fn commands_run(server: &RedisServer) -> BTreeSet<String> {
    let stats = server.command(&["INFO", "commandstats"]).await.unwrap();
    stats
        .text()
        .unwrap()
        .lines()
        .filter_map(|line| Some(line.strip_prefix("cmdstat_")?.split_once(':')?.0.to_owned()))
        .collect()
}

/// Whether the server, which before 7.0 does not tell subcommands apart, may mean this right.
fn is_meant(right: &str, run: &str) -> bool {
    right == run || (right.split('|').next() == Some(run))
}

#[tokio::test(flavor = "multi_thread")]
async fn table_is_what_a_server_sees() {
    let server = RedisServer::start().await.unwrap();
    set_user(&server, &rules(&[])).await;
    server.command(&["CONFIG", "RESETSTAT"]).await.unwrap();
    let store = RedisStore::connect(config(&server)).await.unwrap();
    assert_eq!(store.lane_state(LANE), LaneState::Tracking);
    ask_everything(&store).await;
    server.command(&["SET", "item:left", "v"]).await.unwrap();
    assert_eq!(store.clear("item:").await.unwrap(), 1);
    let told_by_test = ["auth", "acl|setuser", "acl", "config|resetstat"];
    let run = commands_run(&server).await;
    for command in run
        .iter()
        .filter(|run| !told_by_test.contains(&run.as_str()))
    {
        assert!(
            RIGHTS.iter().any(|right| is_meant(right.command, command)),
            "{command} is not in the table"
        );
    }
    // Those that this server was not asked: it tracks, is no cluster, knows every script, and has
    // forgotten nothing.
    let idle = [
        "publish",
        "subscribe",
        "select",
        "cluster|nodes",
        "cluster|info",
        "script|load",
        "client|setinfo",
        "dbsize",
    ];
    for right in RIGHTS.iter().filter(|right| !idle.contains(&right.command)) {
        assert!(
            run.iter().any(|run| is_meant(right.command, run)),
            "{} is in the table, and was not used: {run:?}",
            right.command
        );
    }
    let mut refused = refused(&server).await;
    if version() < (7, 0) {
        refused.retain(|object| object != "client"); // SETINFO, which it does not know
    }
    assert!(refused.is_empty(), "the table lacks {refused:?}");
}

/// The commands, keys and channels that the server has refused to its users.
async fn refused(server: &RedisServer) -> Vec<String> {
    let Reply::Array(entries) = server.command(&["ACL", "LOG"]).await.unwrap() else {
        panic!("no log");
    };
    let object = |entry: &Reply| match entry {
        Reply::Array(fields) => fields
            .chunks(2)
            .find(|field| field[0].text().as_deref() == Some("object"))
            .and_then(|field| field.get(1)?.text()),
        _ => None,
    };
    entries.iter().map(|entry| object(entry).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_command_that_is_needed_is_named_when_it_is_missing() {
    let server = RedisServer::start().await.unwrap();
    for right in RIGHTS {
        set_user(&server, &rules(&[right.command])).await;
        if right.without.is_some() {
            let store = RedisStore::connect(config(&server)).await.unwrap();
            assert_ne!(store.lane_state(LANE), LaneState::Down, "{}", right.command);
        } else {
            let problem = problem(&server).await;
            let named = format!("commands {}", right.command.to_uppercase());
            assert!(problem.contains(&named), "{named}: {problem}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_channel_are_named_when_they_are_missing() {
    let server = RedisServer::start().await.unwrap();
    for (lost, named) in [
        ("~item:*", "the keys item:*"),
        ("~larder:*", "the keys larder:*"),
        ("&larder:bus:0", "the channel larder:bus:0"),
    ] {
        let denied: &[&str] = if lost.starts_with('&') {
            &["client|tracking"]
        } else {
            &[]
        };
        let rules: Vec<String> = rules(denied)
            .into_iter()
            .filter(|rule| rule != lost)
            .collect();
        set_user(&server, &rules).await;
        let problem = problem(&server).await;
        assert!(problem.ends_with(named), "{problem}");
    }
}

/// P26 scripts-publish: a process that the server tells of changes needs no channel, and one that
/// it does not tell must be able to tell others.
#[tokio::test(flavor = "multi_thread")]
async fn channel_is_needed_only_where_tracking_is_refused() {
    let server = RedisServer::start().await.unwrap();
    let mut plain = rules(&["publish", "subscribe"]);
    plain.retain(|rule| !rule.starts_with('&'));
    set_user(&server, &plain).await;
    let store = RedisStore::connect(config(&server)).await.unwrap();
    assert_eq!(store.lane_state(LANE), LaneState::Tracking);
    set_user(&server, &rules(&["client|tracking", "publish"])).await;
    let problem = problem(&server).await;
    assert!(problem.ends_with("the commands PUBLISH"), "{problem}");
}

/// The store works without everything that it can do without at once, and on a server that allows
/// nothing dangerous.
#[tokio::test(flavor = "multi_thread")]
async fn store_works_without_what_is_not_needed() {
    let server = RedisServer::start().await.unwrap();
    let optional: Vec<&str> = RIGHTS
        .iter()
        .filter(|right| right.without.is_some() && right.command != "publish")
        .map(|right| right.command)
        .collect();
    set_user(&server, &rules(&optional)).await;
    let store = RedisStore::connect(config(&server)).await.unwrap();
    assert_eq!(store.lane_state(LANE), LaneState::Untracked);
    let mut safe = ["on", ">pw", "~*", "&*", "+@all", "-@dangerous"]
        .map(str::to_owned)
        .to_vec();
    if version() < (7, 0) {
        safe.push("+client|tracking".to_owned()); // there all of CLIENT is dangerous
    }
    set_user(&server, &safe).await;
    let store = RedisStore::connect(config(&server)).await.unwrap();
    assert_ne!(
        store.lane_state(LANE),
        LaneState::Untracked,
        "it hears of changes"
    );
    let key = Key::from_stored_name("item:k");
    store.invalidate(&key, None).await.unwrap();
    assert_eq!(store.advice().await, Vec::<String>::new());
    assert_eq!(store.clear("item:").await.unwrap(), 0);
}

/// P33 only-kept-is-tracked: where the user may neither exempt a command nor send `GETEX`, the
/// server tracks more, and does the same.
#[tokio::test(flavor = "multi_thread")]
async fn store_that_cannot_say_what_is_tracked_works() {
    let server = RedisServer::start().await.unwrap();
    set_user(&server, &rules(&["client|caching", "getex"])).await;
    let store = RedisStore::connect(config(&server)).await.unwrap();
    assert_eq!(store.lane_state(LANE), LaneState::Tracking);
    ask_everything(&store).await;
    let absent: Vec<String> = (0..1000).map(|n| format!("item:none{n}")).collect();
    let absent: Vec<&str> = absent.iter().map(String::as_str).collect();
    let found = store
        .get_many(LANE, &absent, Want::ValueAndTtl, Track::Value)
        .await
        .unwrap();
    assert!(found.iter().all(Option::is_none));
    ask_everything(&store).await; // by the scripts that read for many absences
}

#[tokio::test(flavor = "multi_thread")]
async fn replica_and_sentinel_are_named() {
    let server = RedisServer::start().await.unwrap();
    set_user(&server, &rules(&[])).await;
    server
        .command(&["REPLICAOF", "127.0.0.1", "1"])
        .await
        .unwrap();
    assert!(problem(&server).await.contains("it is a replica"));
    let sentinel = RedisServer::builder().sentinel().start().await.unwrap();
    let refused = RedisStore::connect(RedisConfig::new(sentinel.url())).await;
    match refused {
        Err(StoreError::Unfit { problem, .. }) => {
            assert!(problem.contains("it is a Sentinel"), "{problem}");
        }
        other => panic!("{other:?}"),
    }
}

/// `LARDER_WRITE_DOCS=1` writes the table instead of comparing it.
#[test]
fn guide_has_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guides/redis.md");
    let guide = std::fs::read_to_string(path).unwrap();
    let (begin, end) = ("<!-- rights: begin -->\n", "<!-- rights: end -->");
    let (before, rest) = guide.split_once(begin).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    let expected = format!("{before}{begin}\n{}\n{end}{after}", rights_in_markdown());
    if std::env::var_os("LARDER_WRITE_DOCS").is_some() {
        std::fs::write(path, &expected).unwrap();
    } else {
        assert_eq!(guide, expected, "run this test with LARDER_WRITE_DOCS=1");
    }
}
