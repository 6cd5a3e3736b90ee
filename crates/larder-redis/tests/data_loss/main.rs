//! A server that comes back with older data: from a snapshot, from a log without its end, or as a
//! replica that lagged.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by a panic"
)]

mod cluster;
mod other_server;

use std::{path::PathBuf, time::Duration};

use larder_core::{
    Claim, Committed, Digest, Key, LaneIndex, Lanes, LeaseStore, Replacing, TagStore, Token, Track,
    ValueStore, WriteClaim,
};
use larder_redis::{OnDataLoss, RedisConfig, RedisStore};
use larder_testkit::{Proxy, RedisServer, Reply};
use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);
const BOUND: Duration = Duration::from_secs(20);
const TAG: &str = "org:7";

/// Every choice, and what a reader then gets in place of a value that the server forgot.
const CHOICES: [(OnDataLoss, Option<&str>); 3] = [
    (OnDataLoss::Redo, None),
    (OnDataLoss::Clear, None),
    (OnDataLoss::Trust, Some("v1")),
];

fn config(url: String, choice: OnDataLoss) -> RedisConfig {
    RedisConfig::new(url)
        .lanes(2)
        .probe_interval(Duration::from_millis(20))
        .on_data_loss(choice)
        .clear_on_data_loss(["item:"])
}

async fn connect(server: &RedisServer, choice: OnDataLoss) -> RedisStore {
    RedisStore::connect(config(server.url(), choice))
        .await
        .unwrap()
}

async fn write(store: &RedisStore, key: &str, value: &str) {
    let token = Token::new();
    let begun = store.begin_write(key, &token, MINUTE).await.unwrap();
    assert_eq!(begun, WriteClaim::Leased);
    let stored = store
        .commit(
            key,
            &token,
            value.as_bytes(),
            MINUTE,
            Replacing::Nothing,
            Track::Value,
        )
        .await;
    assert!(stored.unwrap().is_done());
}

/// Looks until there is something, and fails with the words for what is not there.
async fn wait_for<T>(missing: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + BOUND;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < give_up, "{missing}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Reads a value as soon as the store is connected again.
async fn read(store: &RedisStore, key: &str) -> Option<String> {
    let value = wait_for("no connection", async || store.get(key).await.ok()).await;
    value.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

async fn expect(store: &RedisStore, key: &str, value: Option<&str>, why: OnDataLoss) {
    assert_eq!(read(store, key).await.as_deref(), value, "{key} {why:?}");
}

/// Saves a snapshot, which the server loads when it is restarted. The stores have marked everything
/// that they did before.
async fn save(server: &RedisServer, choice: OnDataLoss) {
    if choice != OnDataLoss::Trust {
        marked(server).await;
    }
    let saved = server.command(&["SAVE"]).await.unwrap();
    assert_eq!(saved.text().as_deref(), Some("OK"));
}

/// Waits until the stores have marked everything that they have done so far: a mark that is written
/// meanwhile may be of before, and the next one is not.
async fn marked(server: &RedisServer) {
    for _ in 0..2 {
        let before = least_mark(server).await;
        let is_newer = async || (least_mark(server).await != before).then_some(());
        wait_for("no mark is written", is_newer).await;
    }
}

/// The least of all marks.
async fn least_mark(server: &RedisServer) -> u64 {
    let mut client = server.client().await.unwrap();
    let Reply::Array(names) = client
        .command(&["KEYS", "larder:probe:*mark:*"])
        .await
        .unwrap()
    else {
        panic!("KEYS");
    };
    let mut marks = Vec::new();
    for name in names {
        let mark = client.command(&["GET", &name.text().unwrap()]).await;
        marks.push(mark.unwrap().text().unwrap().parse().unwrap());
    }
    marks.into_iter().min().unwrap_or(0)
}

#[tokio::test]
async fn snapshot_brings_no_value_back_that_was_replaced() {
    for (choice, found) in CHOICES {
        let mut server = RedisServer::start().await.unwrap();
        let store = connect(&server, choice).await;
        for key in ["item:1", "item:2", "item:3"] {
            write(&store, key, "v1").await;
        }
        save(&server, choice).await;
        write(&store, "item:1", "v2").await;
        let gone = Key::from_stored_name("item:2");
        store.invalidate(&gone, None).await.unwrap();
        server.restart().await.unwrap();
        expect(&store, "item:1", found, choice).await;
        expect(&store, "item:2", found, choice).await;
        let losses = store.stats().data_losses;
        assert_eq!(
            losses > 0,
            choice != OnDataLoss::Trust,
            "{losses} {choice:?}"
        );
    }
}

#[tokio::test]
async fn value_that_a_load_replaced_or_removed_does_not_come_back() {
    for (choice, found) in CHOICES {
        let mut server = RedisServer::start().await.unwrap();
        let store = connect(&server, choice).await;
        let (token, old) = (Token::new(), Digest::of(b"v1"));
        for key in ["item:1", "item:2"] {
            write(&store, key, "v1").await;
        }
        save(&server, choice).await;
        let seen = Replacing::Value(&old);
        for key in ["item:1", "item:2"] {
            let claimed = store
                .claim(key, &token, MINUTE, seen, Track::Value)
                .await
                .unwrap();
            assert_eq!(claimed, Claim::Leased);
        }
        let replaced = store
            .commit("item:1", &token, b"v2", MINUTE, seen, Track::Value)
            .await;
        assert!(replaced.unwrap().is_done());
        let removed = store
            .touch("item:2", &token, &old, Duration::ZERO, Track::Value)
            .await;
        assert!(removed.unwrap().is_done());
        server.restart().await.unwrap();
        expect(&store, "item:1", found, choice).await;
        expect(&store, "item:2", found, choice).await;
    }
}

/// The server has data, and no mark: it does not know anything of what this process did.
#[tokio::test]
async fn snapshot_from_before_the_process_connected_brings_nothing_back() {
    for (choice, found) in CHOICES {
        let mut server = RedisServer::start().await.unwrap();
        server.command(&["SET", "item:1", "v1"]).await.unwrap();
        server.command(&["SAVE"]).await.unwrap();
        let store = connect(&server, choice).await;
        write(&store, "item:1", "v2").await;
        server.restart().await.unwrap();
        expect(&store, "item:1", found, choice).await;
    }
}

#[tokio::test]
async fn server_that_forgets_twice_is_corrected_twice() {
    let mut server = RedisServer::start().await.unwrap();
    let store = connect(&server, OnDataLoss::Redo).await;
    write(&store, "item:1", "v1").await;
    save(&server, OnDataLoss::Redo).await;
    write(&store, "item:1", "v2").await;
    for _ in 0..2 {
        server.restart().await.unwrap();
        expect(&store, "item:1", None, OnDataLoss::Redo).await;
    }
}

#[tokio::test]
async fn what_the_server_marks_as_known_stays() {
    let mut server = RedisServer::start().await.unwrap();
    let store = connect(&server, OnDataLoss::Redo).await;
    write(&store, "item:1", "known").await;
    write(&store, "item:2", "v1").await;
    save(&server, OnDataLoss::Redo).await;
    write(&store, "item:2", "v2").await;
    server.restart().await.unwrap();
    expect(&store, "item:1", Some("known"), OnDataLoss::Redo).await;
    expect(&store, "item:2", None, OnDataLoss::Redo).await;
}

#[tokio::test]
async fn log_without_its_end_brings_nothing_back() {
    for (choice, found) in CHOICES {
        let mut server = RedisServer::builder()
            .args(&["--appendonly", "yes", "--appendfsync", "always"])
            .start()
            .await
            .unwrap();
        let store = connect(&server, choice).await;
        write(&store, "item:1", "v1").await;
        let log = append_only_file(&server).await;
        let until = std::fs::metadata(&log).unwrap().len();
        write(&store, "item:1", "v2").await;
        server.kill();
        let file = std::fs::OpenOptions::new().write(true).open(&log).unwrap();
        assert!(file.metadata().unwrap().len() > until);
        file.set_len(until).unwrap();
        server.restart().await.unwrap();
        expect(&store, "item:1", found, choice).await;
    }
}

/// The file that the server appends its commands to.
async fn append_only_file(server: &RedisServer) -> PathBuf {
    let Reply::Array(folder) = server.command(&["CONFIG", "GET", "dir"]).await.unwrap() else {
        panic!("CONFIG GET");
    };
    let folder = PathBuf::from(folder[1].text().unwrap());
    let inner = folder.join("appendonlydir");
    let names = std::fs::read_dir(if inner.exists() { &inner } else { &folder }).unwrap();
    names
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.ends_with(".incr.aof") || name == "appendonly.aof"
        })
        .unwrap()
}

#[tokio::test]
async fn replica_that_lagged_and_was_promoted_brings_nothing_back() {
    for (choice, found) in CHOICES {
        let (master, replica) = (
            RedisServer::start().await.unwrap(),
            RedisServer::start().await.unwrap(),
        );
        let proxy = Proxy::start(&master.addr()).await.unwrap();
        let store = RedisStore::connect(config(proxy.url(), choice))
            .await
            .unwrap();
        write(&store, "item:1", "v1").await;
        replicate(&master, &replica).await;
        // From here on the replica lags.
        replica.command(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
        write(&store, "item:1", "v2").await;
        expect(&store, "item:1", Some("v2"), choice).await;
        // The old master goes on living, and nobody is led to it any more.
        proxy.lead_to(&replica.addr());
        proxy.cut();
        expect(&store, "item:1", found, choice).await;
    }
}

async fn replicate(master: &RedisServer, replica: &RedisServer) {
    let address = master.addr();
    let (host, port) = address.split_once(':').unwrap();
    let at_once = ["CONFIG", "SET", "repl-diskless-sync-delay", "0"];
    master.command(&at_once).await.unwrap();
    replica.command(&["REPLICAOF", host, port]).await.unwrap();
    wait_for("the replica is never in step", async || {
        let found = replica.command(&["GET", "item:1"]).await.unwrap();
        (found != Reply::Nil).then_some(())
    })
    .await;
}

#[tokio::test]
async fn tag_that_was_invalidated_stays_so_on_every_lane() {
    for choice in [OnDataLoss::Redo, OnDataLoss::Trust] {
        let mut server = RedisServer::start().await.unwrap();
        let store = connect(&server, choice).await;
        let lanes = [LaneIndex(0), LaneIndex(1)];
        let epoch = store.tag_epoch(lanes[0]).await.unwrap();
        store
            .pin_tags(lanes[0], &[TAG], epoch, MINUTE)
            .await
            .unwrap();
        save(&server, choice).await;
        store.invalidate_tag(TAG).await.unwrap();
        server.restart().await.unwrap();
        for lane in lanes {
            let pinned = tags(&store, lane).await;
            assert_eq!(pinned.is_some(), choice == OnDataLoss::Trust, "{lane:?}");
        }
    }
}

async fn tags(store: &RedisStore, lane: LaneIndex) -> Option<larder_core::TagEpoch> {
    let ask = async || store.tags(lane, &[TAG]).await.ok();
    wait_for("no connection", ask).await[0]
}

#[tokio::test]
async fn clear_that_was_forgotten_is_done_again() {
    for (choice, found) in [(OnDataLoss::Redo, None), (OnDataLoss::Trust, Some("v1"))] {
        let mut server = RedisServer::start().await.unwrap();
        let store = connect(&server, choice).await;
        for key in ["other:1", "other:2", "other:3", "other:4"] {
            write(&store, key, "v1").await;
        }
        save(&server, choice).await;
        store.clear("other:").await.unwrap();
        server.restart().await.unwrap();
        for key in ["other:1", "other:2", "other:3", "other:4"] {
            expect(&store, key, found, choice).await;
        }
    }
}

/// A load that began before an invalidation does not commit, although its lease came back.
#[tokio::test]
async fn lease_that_comes_back_is_broken_again() {
    for choice in [OnDataLoss::Redo, OnDataLoss::Trust] {
        let mut server = RedisServer::start().await.unwrap();
        let (store, other) = (
            connect(&server, choice).await,
            connect(&server, choice).await,
        );
        let token = Token::new();
        let claimed = other
            .claim("item:1", &token, MINUTE, Replacing::Nothing, Track::Value)
            .await;
        assert_eq!(claimed.unwrap(), Claim::Leased);
        save(&server, choice).await;
        let key = Key::from_stored_name("item:1");
        store.invalidate(&key, None).await.unwrap();
        server.restart().await.unwrap();
        expect(&store, "item:1", None, choice).await;
        read(&other, "item:1").await;
        let late = other
            .commit(
                "item:1",
                &token,
                b"v1",
                MINUTE,
                Replacing::Nothing,
                Track::Value,
            )
            .await
            .unwrap();
        assert_eq!(late == Committed::Refused, choice == OnDataLoss::Redo);
    }
}

#[tokio::test]
async fn log_that_does_not_reach_back_clears_the_prefixes() {
    let mut server = RedisServer::start().await.unwrap();
    let config = config(server.url(), OnDataLoss::Redo).max_redo(2);
    let store = RedisStore::connect(config).await.unwrap();
    let keys: Vec<String> = (0..20).map(|n| format!("item:{n}")).collect();
    for key in &keys {
        write(&store, key, "v1").await;
    }
    write(&store, "untouched:1", "v1").await;
    save(&server, OnDataLoss::Redo).await;
    for key in &keys {
        write(&store, key, "v2").await;
    }
    server.restart().await.unwrap();
    for key in &keys {
        expect(&store, key, None, OnDataLoss::Redo).await;
    }
}

#[tokio::test]
async fn connection_that_is_lost_is_no_loss_of_data() {
    let server = RedisServer::start().await.unwrap();
    let store = connect(&server, OnDataLoss::Redo).await;
    write(&store, "item:1", "v1").await;
    let killed = server.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    assert!(!matches!(killed.unwrap(), Reply::Error(_)));
    expect(&store, "item:1", Some("v1"), OnDataLoss::Redo).await;
    assert_eq!(store.stats().data_losses, 0);
}

#[tokio::test]
async fn server_that_comes_back_empty_keeps_what_others_put_there() {
    let mut server = RedisServer::start().await.unwrap();
    let store = connect(&server, OnDataLoss::Redo).await;
    write(&store, "item:1", "v1").await;
    server.restart().await.unwrap();
    expect(&store, "item:1", None, OnDataLoss::Redo).await;
    assert_eq!(store.stats().data_losses, 0);
}
