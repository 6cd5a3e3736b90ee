//! Stores with different namespaces share a server, and neither sees the other.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by a panic"
)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use larder_core::{
    Claim, Invalidated, Key, LaneIndex, LaneState, Lanes, LeaseStore, Push, PushListener,
    Replacing, StoreError, TagEpoch, TagStore, Token, Track, ValueStore, WriteClaim,
};
use larder_redis::{Coherence, RedisConfig, RedisStore};
use larder_testkit::{RedisServer, Reply, eventually, no_tracking};

const MINUTE: Duration = Duration::from_secs(60);
const BOUND: Duration = Duration::from_secs(20);

/// Writes down the pushes that a store tells of.
#[derive(Default)]
struct Recorder(Mutex<Vec<String>>);

impl PushListener for Recorder {
    fn on_push(&self, push: Push<'_>) {
        self.0.lock().unwrap().push(format!("{push:?}"));
    }
}

impl Recorder {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

struct Tenant {
    name: &'static str,
    store: RedisStore,
    pushes: Arc<Recorder>,
}

impl Tenant {
    async fn new(server: &RedisServer, name: &'static str, state: LaneState) -> Self {
        let config = RedisConfig::new(server.url())
            .lanes(1)
            .probe_interval(Duration::from_millis(20))
            .coherence(match state {
                LaneState::Subscribed => Coherence::Channel,
                _ => Coherence::Auto,
            });
        let store = RedisStore::connect(config.namespace(name)).await.unwrap();
        assert_eq!(store.lane_state(LaneIndex(0)), state);
        let pushes = Arc::new(Recorder::default());
        let listener: Arc<dyn PushListener> = pushes.clone();
        store.subscribe(Arc::downgrade(&listener));
        Self {
            name,
            store,
            pushes,
        }
    }

    fn key(&self, key: &str) -> String {
        format!("{}/{key}", self.name)
    }

    async fn put(&self, key: &str, value: &[u8]) {
        let (key, token) = (self.key(key), Token::new());
        let claim = self
            .store
            .claim(&key, &token, MINUTE, Replacing::Nothing, Track::Value)
            .await
            .unwrap();
        assert_eq!(claim, Claim::Leased, "{key}");
        let done = self
            .store
            .commit(
                &key,
                &token,
                value,
                MINUTE,
                Replacing::Nothing,
                Track::Value,
            )
            .await
            .unwrap();
        assert!(done.is_done(), "{key}");
    }

    async fn begin_write(&self, key: &str, token: &Token) {
        let claim = self
            .store
            .begin_write(&self.key(key), token, MINUTE)
            .await
            .unwrap();
        assert_eq!(claim, WriteClaim::Leased, "{key}");
    }

    async fn value(&self, key: &str) -> Option<Vec<u8>> {
        self.store
            .get(&self.key(key))
            .await
            .unwrap()
            .map(|value| value.to_vec())
    }

    async fn pin(&self, tag: &str) -> Option<TagEpoch> {
        let epoch = self.store.tag_epoch(LaneIndex(0)).await.unwrap();
        self.store
            .pin_tags(LaneIndex(0), &[tag], epoch, MINUTE)
            .await
            .unwrap()[0]
    }
}

async fn both_kinds_of_server() -> [(RedisServer, LaneState); 2] {
    let refuse = ["-client|tracking"];
    [
        (RedisServer::start().await.unwrap(), LaneState::Tracking),
        (
            RedisServer::builder()
                .refusing(&refuse)
                .start()
                .await
                .unwrap(),
            LaneState::Subscribed,
        ),
    ]
}

/// P21 tags-pinned-in-time, P25 clear-leaves-nothing, P26 scripts-publish: each of them within one
/// namespace only.
#[tokio::test(flavor = "multi_thread")]
async fn clears_tags_and_messages_of_one_namespace_are_not_seen_by_another() {
    for (server, state) in both_kinds_of_server().await {
        let (shop, blog) = (
            Tenant::new(&server, "shop", state).await,
            Tenant::new(&server, "blog", state).await,
        );
        for tenant in [&shop, &blog] {
            assert_eq!(tenant.store.lane_state(LaneIndex(0)), state);
            tenant.put("user:42", tenant.name.as_bytes()).await;
            assert!(tenant.pin("org:7").await.is_some());
        }
        let held = Token::new();
        blog.begin_write("user:7", &held).await;
        blog.pushes.take();

        remove_all(&shop).await;

        assert_eq!(shop.value("user:42").await, None);
        assert_eq!(
            blog.value("user:42").await.as_deref(),
            Some(b"blog".as_slice())
        );
        assert!(blog.store.tags(LaneIndex(0), &["org:7"]).await.unwrap()[0].is_some());
        assert!(
            blog.store
                .renew(&blog.key("user:7"), &held, MINUTE)
                .await
                .unwrap()
        );
        for push in pushes_until_the_next(&server, &blog).await {
            assert!(push.contains("\"blog/user:"), "{push}");
        }
    }
}

/// Removes all that a tenant has, in every way that there is.
async fn remove_all(tenant: &Tenant) {
    tenant.begin_write("user:7", &Token::new()).await;
    let key = Key::from_stored_name(&tenant.key("user:42"));
    assert_eq!(
        tenant.store.invalidate(&key, None).await.unwrap(),
        Invalidated::Done
    );
    tenant.put("user:43", b"x").await;
    assert_eq!(
        tenant.store.invalidate_tag("org:7").await.unwrap(),
        Invalidated::Done
    );
    assert_eq!(tenant.store.clear(&tenant.key("user:")).await.unwrap(), 1);
    assert_eq!(
        tenant.store.tags(LaneIndex(0), &["org:7"]).await.unwrap(),
        [None]
    );
}

/// Has the tenant told of one more change, so that whatever else would be told has been.
async fn pushes_until_the_next(server: &RedisServer, tenant: &Tenant) -> Vec<String> {
    let other = Tenant::new(server, tenant.name, tenant.store.lane_state(LaneIndex(0))).await;
    let key = tenant.key("user:42");
    other
        .store
        .invalidate(&Key::from_stored_name(&key), None)
        .await
        .unwrap();
    let last = format!("{:?}", Push::Value(&key));
    let told = eventually(BOUND, || tenant.pushes.0.lock().unwrap().contains(&last)).await;
    assert!(told, "{:?}", tenant.pushes.take());
    tenant.pushes.take()
}

/// Everything that a store writes or listens to lies under its namespace, so that an ACL can keep
/// it there.
#[tokio::test(flavor = "multi_thread")]
async fn user_of_one_namespace_needs_no_other_keys_and_channels() {
    for (server, state) in both_kinds_of_server().await {
        let mut user = vec![
            "ACL",
            "SETUSER",
            "default",
            "resetkeys",
            "resetchannels",
            "~shop/*",
            "&shop/*",
        ];
        if state == LaneState::Subscribed {
            user.extend(no_tracking());
        }
        server.command(&user).await.unwrap();
        let shop = Tenant::new(&server, "shop", state).await;
        shop.put("user:42", b"x").await;
        assert!(shop.pin("org:7").await.is_some());
        shop.begin_write("user:{a", &Token::new()).await;
        if state == LaneState::Tracking {
            let probed = eventually(BOUND, || shop.store.stats().push_lag.is_some()).await;
            assert!(probed, "{:?}", shop.store.stats());
        }
        assert_eq!(shop.store.lane_state(LaneIndex(0)), state);
        let Reply::Array(keys) = server.command(&["KEYS", "*"]).await.unwrap() else {
            panic!("no keys")
        };
        let keys: Vec<String> = keys.iter().filter_map(Reply::text).collect();
        assert!(
            keys.len() >= 4 && keys.iter().all(|key| key.starts_with("shop/")),
            "{keys:?}"
        );
        assert_eq!(
            shop.store.invalidate_tag("org:7").await.unwrap(),
            Invalidated::Done
        );
        assert_eq!(shop.store.clear("shop/user:").await.unwrap(), 1);
    }
}

#[tokio::test]
async fn namespace_that_cannot_stand_in_front_of_keys_is_an_error() {
    for namespace in ["", "a/b", "a:b", "a b"] {
        let config = RedisConfig::new("redis://127.0.0.1:1").namespace(namespace);
        let error = RedisStore::connect_lazy(config).unwrap_err();
        assert!(matches!(error, StoreError::Namespace { .. }), "{error}");
        assert!(error.to_string().contains("allowed"), "{error}");
    }
}
