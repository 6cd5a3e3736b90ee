//! Passwords and tokens are renewed while they are in use.

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use larder::StoreError;
use larder_core::{LaneState, Lanes, LeaseStore, Replacing, Token, Track, ValueStore};
use larder_redis::{Coherence, Credentials, RedisConfig, RedisStore};
use larder_testkit::{RedisServer, Reply, no_tracking};
use tokio::{task::JoinSet, time::Instant};

use crate::support::{
    policy::{MINUTE, ms},
    redis::config,
    store::are,
    wait::{BOUND, holds},
};

const KEYS: usize = 16;
const LARGE: usize = 100 * 1024;

/// An issuer of tokens: the token of now is a user name with a password of its own.
struct Issuer {
    token: Mutex<String>,
    asked: AtomicUsize,
}

impl Issuer {
    fn new(token: &str) -> Arc<Self> {
        Arc::new(Self {
            token: Mutex::new(token.to_owned()),
            asked: AtomicUsize::new(0),
        })
    }

    fn issue(&self, token: &str) {
        token.clone_into(&mut self.token.lock().unwrap());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Options with which this issuer is asked every 100 ms.
    fn config(self: &Arc<Self>, url: String) -> RedisConfig {
        let issuer = self.clone();
        // A busy machine is given time.
        config(url)
            .command_timeout(ms(2000))
            .connect_timeout(ms(5000))
            .credentials(move || {
                issuer.asked.fetch_add(1, Ordering::Relaxed);
                let token = issuer.token.lock().unwrap().clone();
                let password = format!("password of {token}");
                let credentials = Credentials::new(token, password).renew_in(ms(100));
                async move { Ok::<_, io::Error>(credentials) }
            })
    }
}

async fn expect(server: &RedisServer, words: &[&str]) {
    let said = server.command(words).await.unwrap();
    assert!(!matches!(said, Reply::Error(_)), "{words:?}: {said:?}");
}

/// Makes the server accept a token.
async fn accept(server: &RedisServer, token: &str, rights: &[&str]) {
    let password = format!(">password of {token}");
    let words = [
        "ACL", "SETUSER", token, "on", &password, "~*", "&*", "+@all",
    ];
    expect(server, &[&words, rights].concat()).await;
}

/// How many connections are logged in with a token, by the server's own list.
async fn connections_with(server: &RedisServer, token: &str) -> usize {
    let list = server.command(&["CLIENT", "LIST"]).await.unwrap();
    let user = format!(" user={token} ");
    list.text().unwrap().matches(&user).count()
}

async fn fill(store: &RedisStore) {
    for n in 0..KEYS {
        let value = vec![b'v'; if n == 0 { LARGE } else { 10 }];
        let (key, token) = (format!("k{n}"), Token::new());
        let nothing = Replacing::Nothing;
        store
            .claim(&key, &token, MINUTE, nothing, Track::Value)
            .await
            .unwrap();
        store
            .commit(&key, &token, &value, MINUTE, nothing, Track::Value)
            .await
            .unwrap();
    }
}

/// Reads until it is told to stop, and returns how many reads there were. None may fail, or miss.
fn reads(store: &Arc<RedisStore>, stop: &Arc<AtomicUsize>) -> JoinSet<usize> {
    let mut readers = JoinSet::new();
    for reader in 0..4 {
        let (store, stop) = (store.clone(), stop.clone());
        readers.spawn(async move {
            let mut reads = 0;
            while stop.load(Ordering::Relaxed) == 0 {
                let key = format!("k{}", (reader + reads) % KEYS);
                let read = store.get(&key).await;
                assert!(matches!(read, Ok(Some(_))), "{key}: {read:?}");
                reads += 1;
            }
            reads
        });
    }
    readers
}

/// Replaces the token five times, each time as soon as every connection has the new one. The server
/// ends every connection that still has the old one.
async fn rotate(server: &RedisServer, issuer: &Issuer, rights: &[&str]) {
    for n in 1..=5 {
        let (old, new) = (format!("token-{}", n - 1), format!("token-{n}"));
        accept(server, &new, rights).await;
        issuer.issue(&new);
        let give_up = Instant::now() + BOUND;
        while connections_with(server, &old).await > 0 {
            assert!(Instant::now() < give_up, "{old} is still in use");
        }
        expect(server, &["ACL", "DELUSER", &old]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn token_that_is_replaced_under_load_costs_no_read() {
    let server = RedisServer::start().await.unwrap();
    accept(&server, "token-0", &[]).await;
    let issuer = Issuer::new("token-0");
    let config = issuer.config(server.url()).probe_interval(ms(50));
    let store = Arc::new(RedisStore::connect(config).await.unwrap());
    fill(&store).await;
    let stop = Arc::default();
    let mut readers = reads(&store, &stop);
    rotate(&server, &issuer, &[]).await;
    stop.store(1, Ordering::Relaxed);
    let mut total = 0;
    while let Some(reads) = readers.join_next().await {
        total += reads.unwrap();
    }
    let stats = store.stats();
    assert_eq!((stats.lanes_lost, stats.breaker_opened), (0, 0));
    assert!(total > 100 && are(&store, LaneState::Tracking), "{total}");
}

/// P26 scripts-publish: also the subscription that takes the place of pushes.
#[tokio::test(flavor = "multi_thread")]
async fn token_that_is_replaced_costs_no_subscription() {
    let server = RedisServer::start().await.unwrap();
    let rights = no_tracking();
    accept(&server, "token-0", rights).await;
    let issuer = Issuer::new("token-0");
    let config = issuer.config(server.url()).coherence(Coherence::Channel);
    let store = RedisStore::connect(config).await.unwrap();
    assert!(are(&store, LaneState::Subscribed));
    rotate(&server, &issuer, rights).await;
    assert_eq!(store.stats().lanes_lost, 0);
    assert!(are(&store, LaneState::Subscribed));
}

#[tokio::test(flavor = "multi_thread")]
async fn token_that_the_server_refuses_leaves_live_connections_in_use() {
    let server = RedisServer::start().await.unwrap();
    accept(&server, "token-0", &[]).await;
    let issuer = Issuer::new("token-0");
    let store = RedisStore::connect(issuer.config(server.url()))
        .await
        .unwrap();
    fill(&store).await;
    issuer.issue("unknown");
    let before = issuer.asked();
    holds("both lanes have asked", || issuer.asked() >= before + 2).await;
    assert!(store.get("k1").await.unwrap().is_some());
    assert_eq!(store.stats().lanes_lost, 0);
    // A token that is good again is taken.
    accept(&server, "token-1", &[]).await;
    issuer.issue("token-1");
    let give_up = Instant::now() + BOUND;
    while connections_with(&server, "token-0").await > 0 {
        assert!(Instant::now() < give_up, "the new token is not taken");
    }
    assert!(store.get("k1").await.unwrap().is_some());
}

async fn write_password(file: &Path, password: &str) {
    // A file that changes is replaced as a whole.
    let next = file.with_extension("next");
    tokio::fs::write(&next, format!("{password}\n"))
        .await
        .unwrap();
    tokio::fs::rename(next, file).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn password_file_that_changes_is_read_for_each_connection() {
    let mut server = RedisServer::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    write_password(&file, "first").await;
    let app = ["ACL", "SETUSER", "app", "on", "~*", "&*", "+@all"];
    expect(&server, &[&app[..], &[">first"]].concat()).await;
    let path = file.clone();
    let from_file = move || {
        let path = path.clone();
        async move {
            let password = tokio::fs::read_to_string(path).await?;
            io::Result::Ok(Credentials::new("app", password.trim_end()))
        }
    };
    let config = config(server.url()).credentials(from_file);
    let store = RedisStore::connect(config.clone()).await.unwrap();
    assert_eq!(store.get("k").await.unwrap(), None);
    server.restart().await.unwrap(); // which ends every connection
    write_password(&file, "second").await;
    expect(&server, &[&app[..], &[">second"]].concat()).await;
    holds("it is logged in", || are(&store, LaneState::Tracking)).await;
    assert_eq!(store.get("k").await.unwrap(), None);
    tokio::fs::remove_file(&file).await.unwrap();
    let error = RedisStore::connect(config).await.unwrap_err();
    let source = std::error::Error::source(&error).map(ToString::to_string);
    assert!(
        matches!(error, StoreError::Unreachable { .. })
            && source.is_some_and(|source| source.contains("the credentials provider failed")),
        "{error:?}"
    );
}

/// A provider that hangs is bounded like a server that does.
#[tokio::test(flavor = "multi_thread")]
async fn provider_that_hangs_is_an_error_in_time() {
    let server = RedisServer::start().await.unwrap();
    let hangs = || std::future::pending::<io::Result<Credentials>>();
    let config = config(server.url()).credentials(hangs);
    let start = Instant::now();
    let error = RedisStore::connect(config).await.unwrap_err();
    assert!(matches!(error, StoreError::TimedOut { .. }), "{error:?}");
    assert!(start.elapsed() < BOUND / 2, "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn user_and_password_of_setters_need_no_encoding() {
    let server = RedisServer::start().await.unwrap();
    let password = "s3cr?t@#/%";
    let on = format!(">{password}");
    expect(
        &server,
        &["ACL", "SETUSER", "app", "on", &on, "~*", "&*", "+@all"],
    )
    .await;
    let config = |password| config(server.url()).user("app").password(password);
    let store = RedisStore::connect(config(password)).await.unwrap();
    assert_eq!(store.get("k").await.unwrap(), None);
    assert_eq!(connections_with(&server, "app").await, 2);
    let error = RedisStore::connect(config("s3cret")).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(
        matches!(error, StoreError::Unauthorized { .. }) && !text.contains("s3cr"),
        "{text}"
    );
}
