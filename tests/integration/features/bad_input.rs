//! Bad input is a clear error, and nothing is lost.

use larder::{Cache, Error, KeyError, Larder, RedisConfig, StoreError};
use larder_core::{Lanes, LeaseStore, Replacing, Token, Track, ValueStore};
use larder_redis::RedisStore;
use larder_testkit::RedisServer;

use crate::support::{
    calls::{Items, get, gets, load, value},
    policy::{MINUTE, builder, ms},
    redis::config,
    wait::holds,
    world::{World, cache_of},
};

#[tokio::test(flavor = "multi_thread")]
async fn empty_and_huge_keys_are_refused_by_every_call() {
    let world = World::new().await;
    let larder = world.larder().await;
    let cache: Items = larder.cache("item").unwrap();
    for key in [String::new(), "x".repeat(1 << 20)] {
        let key = key.as_str();
        let errors = [
            cache.get(key).await.map(drop),
            cache.get_or_load(key, || value("x")).await.map(drop),
            cache.write_through(key, || value("x")).await.map(drop),
            cache.write_around(key, || value("x")).await.map(drop),
            cache.insert(key, "x".to_owned()).await,
            cache.invalidate(key).await,
            larder.invalidate([cache.key("good"), cache.key(key)]).await,
        ];
        for error in errors {
            match (key.is_empty(), error) {
                (true, Err(Error::Key(KeyError::Empty { .. }))) => {}
                (false, Err(Error::Key(KeyError::TooLong { len, .. }))) => {
                    assert_eq!(len, (1 << 20) + 5)
                }
                (_, other) => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(cache.stats().loads, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn value_of_100_mib_is_refused_before_it_is_sent() {
    let world = World::new().await;
    let cache = world.items().await;
    let huge = "x".repeat(100 << 20);
    cache.insert("k", "old".to_owned()).await.unwrap();
    let refused = cache.insert("k", huge.clone()).await.unwrap_err();
    assert!(
        matches!(refused, Error::ValueTooLarge { size, limit, .. } if size == (100 << 20) + 2 && limit == 16 << 20)
    );
    assert!(
        refused.to_string().contains("raise max_value_size"),
        "{refused}"
    );
    assert_eq!(
        get(&cache, "k").await.as_deref(),
        Some("old"),
        "nothing was touched"
    );
    let loaded = huge.clone();
    let served = cache
        .get_or_load("huge", || async { Ok::<_, std::io::Error>(loaded) })
        .await
        .unwrap();
    assert_eq!(
        served.len(),
        100 << 20,
        "what was loaded is served, and kept nowhere"
    );
    assert_eq!(
        (get(&cache, "huge").await, world.l2("item:huge").await),
        (None, None)
    );
    let written = cache
        .write_through("k", || async { Ok::<_, std::io::Error>(huge) })
        .await
        .unwrap();
    assert_eq!(written.len(), 100 << 20);
    assert_eq!(
        (get(&cache, "k").await, world.l2("item:k").await),
        (None, None),
        "nor the old value"
    );
    assert_eq!(cache.stats().unstorable, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_row_and_second_type_are_errors_that_say_what_there_is() {
    let larder = builder().build().await.unwrap();
    let unknown = larder
        .cache::<String, String>("itme")
        .unwrap_err()
        .to_string();
    assert!(
        unknown.contains("no policy \"itme\"") && unknown.contains("item, other"),
        "{unknown}"
    );
    let _items = larder.cache::<String, String>("item").unwrap();
    let twice = larder.cache::<String, u64>("item").unwrap_err().to_string();
    assert!(
        twice.contains("holds alloc::string::String, not u64"),
        "{twice}"
    );
    let twice = larder.cache::<u64, String>("item").unwrap_err().to_string();
    assert!(
        twice.contains("has keys of type alloc::string::String, not u64"),
        "{twice}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_address_is_an_error_that_shows_no_password() {
    for url in [
        "",
        "localhost:6379",
        "http://u:s3cret@host",
        "redis://u:s3cret@host:port",
        "rediss://",
    ] {
        let error = Larder::builder().redis(url).build().await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(!text.contains("s3cret"), "{text}");
    }
}

#[test]
fn build_outside_a_runtime_is_an_error() {
    let mut build = std::pin::pin!(Larder::builder().build());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match build.as_mut().poll(&mut context) {
        std::task::Poll::Ready(Err(Error::NoRuntime)) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_and_unix_addresses_work() {
    if !larder_testkit::has_tls() {
        return println!("left out: the server is built without TLS");
    }
    let server = RedisServer::builder().tls().start().await.unwrap();
    let tls =
        RedisConfig::new(server.tls_url().unwrap()).root_certificate(server.certificate().unwrap());
    for (n, config) in [tls, RedisConfig::new(server.unix_url())]
        .into_iter()
        .enumerate()
    {
        let cache: Items = cache_of(builder().redis_config(config)).await;
        let key = format!("k{n}");
        assert_eq!(load(&cache, &key, "value").await, "value");
        server
            .command(&["DEL", &format!("item:{key}")])
            .await
            .unwrap();
        gets(&cache, &key, None).await;
    }
    let untrusted = Larder::builder()
        .redis(server.tls_url().unwrap())
        .build()
        .await
        .unwrap_err();
    let source = std::error::Error::source(&untrusted).unwrap().to_string();
    assert!(source.contains("cannot be reached"), "{source}");
    let wrong = RedisConfig::new(server.tls_url().unwrap()).root_certificate("not a certificate");
    assert!(Larder::builder().redis_config(wrong).build().await.is_err());
}

/// The server takes no connection without the certificate: neither those of lanes, nor those of
/// large values, nor that of probes.
#[tokio::test(flavor = "multi_thread")]
async fn server_that_asks_for_certificates_takes_only_the_right_one() {
    if !larder_testkit::has_tls() {
        return println!("left out: the server is built without TLS");
    }
    let options = RedisServer::builder().tls_with_client_certificates();
    let server = options.clone().start().await.unwrap();
    let other = options.start().await.unwrap();
    let config = config(server.tls_url().unwrap())
        .root_certificate(server.certificate().unwrap())
        .probe_interval(ms(50))
        // A busy machine is given time for the handshakes.
        .connect_timeout(ms(5000))
        .command_timeout(ms(5000));
    let (chain, key) = server.client_certificate().unwrap();
    let known = config.clone().client_certificate(chain, key);
    let store = RedisStore::connect(known.clone()).await.unwrap();
    let large = vec![b'v'; 100 * 1024];
    let (token, nothing) = (Token::new(), Replacing::Nothing);
    store
        .claim("k", &token, MINUTE, nothing, Track::Value)
        .await
        .unwrap();
    let kept = store
        .commit("k", &token, &large, MINUTE, nothing, Track::Value)
        .await;
    kept.unwrap();
    for _ in 0..2 {
        let read = store.get("k").await.unwrap().unwrap();
        assert!(read == large, "{} bytes", read.len());
    }
    holds("the probes write", || store.stats().push_lag.is_some()).await;
    let cache: Items = cache_of(builder().redis_config(known)).await;
    assert_eq!(load(&cache, "k", "value").await, "value");
    server.command(&["DEL", "item:k"]).await.unwrap();
    gets(&cache, "k", None).await;
    // Without one, and with one that the server does not trust.
    let (foreign, foreign_key) = other.client_certificate().unwrap();
    let untrusted = config.clone().client_certificate(foreign, foreign_key);
    for refused in [config.clone(), untrusted] {
        let error = RedisStore::connect(refused).await.unwrap_err();
        assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
    }
    let mixed = config.client_certificate(chain, foreign_key);
    let error = RedisStore::connect(mixed).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Address { problem, .. }
            if problem.contains("the client certificate cannot be used")),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn value_that_cannot_be_json_is_served_and_not_kept() {
    type Map = std::collections::HashMap<(u8, u8), u8>;
    let world = World::new().await;
    let cache: Cache<String, Map> = world.larder().await.cache("item").unwrap();
    let map = Map::from([((1, 2), 3)]);
    assert!(matches!(
        cache.insert("k", map.clone()).await,
        Err(Error::Encode { .. })
    ));
    let served = cache
        .get_or_load("k", || async { Ok::<_, std::io::Error>(map) })
        .await
        .unwrap();
    assert_eq!(served.len(), 1);
    assert_eq!(cache.stats().unstorable, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn handles_are_shared_and_their_futures_can_be_sent() {
    fn sent<T: Send>(value: T) -> T {
        value
    }
    fn shared<T: Clone + Send + Sync + 'static>(value: T) -> T {
        value
    }
    let larder = shared(builder().build().await.unwrap());
    let cache = shared(larder.cache::<String, String>("item").unwrap());
    sent(cache.get_or_load("1", || value("x"))).await.unwrap();
    sent(cache.get("1")).await.unwrap();
    sent(cache.write_through("1", || value("x"))).await.unwrap();
    sent(cache.write_around("1", || value("x"))).await.unwrap();
    sent(cache.insert("1", "x".to_owned())).await.unwrap();
    sent(larder.invalidate([cache.key("1")])).await.unwrap();
    sent(cache.clear()).await.unwrap();
    assert_eq!(larder.stats().writes, 3);
}

/// Its JSON is `null`, which stands for "absent".
#[tokio::test(flavor = "multi_thread")]
async fn value_that_looks_like_absence_is_served_and_not_kept_in_l2() {
    let world = World::new().await;
    let cache: Cache<String, Option<u32>> = world.larder().await.cache("item").unwrap();
    let refused = cache.insert("k", None::<u32>).await;
    assert!(matches!(refused, Err(Error::Encode { .. })), "{refused:?}");
    let loader = || async { Ok::<_, std::convert::Infallible>(None::<u32>) };
    assert_eq!(*cache.get_or_load("k", loader).await.unwrap(), None);
    assert_eq!(world.l2("item:k").await, None);
    assert_eq!(cache.stats().unstorable, 1);
}

/// Serde code of the application that panics.
#[derive(Debug)]
struct Explosive;

impl serde::Serialize for Explosive {
    fn serialize<S: serde::Serializer>(&self, _to: S) -> Result<S::Ok, S::Error> {
        panic!("on purpose")
    }
}

impl<'de> serde::Deserialize<'de> for Explosive {
    fn deserialize<D: serde::Deserializer<'de>>(_from: D) -> Result<Self, D::Error> {
        panic!("on purpose")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn serde_code_that_panics_takes_nobody_down() {
    let world = World::new().await;
    world.server.command(&["SET", "item:k", "1"]).await.unwrap();
    let cache: Cache<String, Explosive> = world.larder().await.cache("item").unwrap();
    let loader = || async { Ok::<_, std::convert::Infallible>(Explosive) };
    cache.get_or_load("k", loader).await.unwrap();
    let stats = cache.stats();
    assert_eq!(
        (stats.undecodable, stats.unstorable, stats.loads),
        (1, 1, 1)
    );
    assert!(matches!(
        cache.insert("k", Explosive).await,
        Err(Error::Encode { .. })
    ));
    cache.write_through("k", loader).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn call_outside_a_runtime_is_an_error() {
    let cache: Items = cache_of(builder()).await;
    let outside = std::thread::spawn(move || {
        futures_util::FutureExt::now_or_never(cache.get_or_load("k", || value("x"))).unwrap()
    });
    assert!(matches!(outside.join().unwrap(), Err(Error::NoRuntime)));
}
