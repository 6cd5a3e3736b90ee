use std::{future::Future, sync::Arc, time::Duration};

use larder_core::{Claim, Digest, LaneState, RemoteStore, Replacing, Token, Track, WriteClaim};

use super::process::Process;

/// Holds a [`RemoteStore`] to its contract.
///
/// Each call of `connect` connects one more process to the same server. The server must be empty,
/// and no other program may use it. The suite takes a few seconds, because leases and values have
/// to expire.
///
/// ```
/// use std::sync::Arc;
///
/// use larder_core::{Clock, MemoryServer, RemoteStore};
/// use larder_testkit::conformance;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let server = MemoryServer::new(Clock::system());
/// conformance::remote_store(async || Arc::new(server.connect()) as Arc<dyn RemoteStore>).await;
/// # }
/// ```
///
/// # Panics
/// If the store breaks a rule of the protocol; the message names the rule.
pub async fn remote_store<F, Fut>(connect: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn RemoteStore>>,
{
    let pair = Pair {
        one: Process::new(connect().await),
        other: Process::new(connect().await),
    };
    pair.lanes_are_fixed();
    pair.first_claim_gets_the_lease_and_its_commit_is_read_by_all()
        .await;
    pair.invalidated_reader_cannot_commit().await;
    pair.expired_lease_holder_cannot_commit().await;
    pair.renewed_lease_outlives_its_first_end().await;
    super::writers::conform(&pair.one, &pair.other).await;
    pair.release_tells_whether_anybody_interfered().await;
    pair.foreign_token_changes_nothing().await;
    pair.claim_replaces_exactly_the_bytes_that_were_seen().await;
    pair.value_expires_with_its_ttl().await;
    super::pushes::conform(&pair.one, &pair.other).await;
    pair.clear_empties_its_prefix_only().await;
    pair.keys_of_any_text_work().await;
    super::tags::conform(&pair.one, &pair.other).await;
    super::reload::conform(&pair.one, &pair.other).await;
}

struct Pair {
    one: Process,
    other: Process,
}

const LEASE: Duration = Duration::from_secs(20);
const TTL: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(60);
const BOUND: Duration = Duration::from_secs(10);

impl Pair {
    fn lanes_are_fixed(&self) {
        let store = &self.one.store;
        assert!(store.lanes() >= 1);
        for key in ["a:1", "a:2", "{tag}:1", ""] {
            assert!(
                store.lane(key).0 < store.lanes(),
                "a lane outside the range"
            );
            assert_eq!(store.lane(key), store.lane(key), "a key has one lane");
            let state = store.lane_state(store.lane(key));
            assert!(
                !matches!(state, LaneState::Untracked | LaneState::Down),
                "{state:?}"
            );
        }
    }

    async fn first_claim_gets_the_lease_and_its_commit_is_read_by_all(&self) {
        let (key, token) = ("t1:1", Token::new());
        assert_eq!(self.one.read(key).await, None);
        assert_eq!(self.one.claim(key, &token).await, Claim::Leased);
        for process in [&self.one, &self.other] {
            match process.claim(key, &Token::new()).await {
                Claim::Busy(rest) => {
                    assert!(rest <= LEASE && rest > LEASE / 2, "the rest is {rest:?}")
                }
                claim => panic!("a held lease was given away: {claim:?}"),
            }
        }
        assert!(
            self.one.commit(key, &token, "v").await,
            "P3 clean-lease-commits: a held, clean lease commits"
        );
        for process in [&self.one, &self.other] {
            let stored = process
                .store
                .get_with_ttl(key, Track::Value)
                .await
                .expect("get")
                .expect("a value");
            let ttl = stored.ttl.expect("a ttl");
            assert!(
                stored.value == "v" && ttl <= TTL && ttl > TTL / 2,
                "{stored:?}"
            );
            match process.claim(key, &Token::new()).await {
                Claim::Hit(hit) => assert_eq!(hit.value, "v"),
                claim => panic!("a value is a hit: {claim:?}"),
            }
        }
        assert!(
            !self.one.commit(key, &token, "again").await,
            "P3 clean-lease-commits: a lease commits once"
        );
    }

    async fn invalidated_reader_cannot_commit(&self) {
        for invalidator in [&self.one, &self.other] {
            let (key, token) = ("t2:1", Token::new());
            assert_eq!(self.one.claim(key, &token).await, Claim::Leased);
            invalidator.invalidate(key).await;
            assert!(
                !self.one.commit(key, &token, "old").await,
                "P5 invalidation-marks-writers: a load is refused after an invalidation"
            );
            assert_eq!(self.other.read(key).await, None);
        }
    }

    async fn expired_lease_holder_cannot_commit(&self) {
        let (key, late, next) = ("t3:1", Token::new(), Token::new());
        let claim = self
            .one
            .store
            .claim(key, &late, SHORT, Replacing::Nothing, Track::Value)
            .await
            .expect("claim");
        assert_eq!(claim, Claim::Leased);
        while let Claim::Busy(rest) = self.other.claim(key, &next).await {
            assert!(rest <= SHORT, "the rest is {rest:?}");
            tokio::time::sleep(rest + Duration::from_millis(1)).await;
        }
        assert!(
            !self.one.commit(key, &late, "late").await,
            "P3 clean-lease-commits: an expired lease does not commit"
        );
        let renewed = self
            .one
            .store
            .renew(key, &late, LEASE)
            .await
            .expect("renew");
        assert!(!renewed, "an expired lease is not renewed");
        assert!(
            self.other.commit(key, &next, "next").await,
            "the late one does not disturb the next one"
        );
        assert_eq!(self.one.read(key).await.as_deref(), Some("next"));
    }

    async fn renewed_lease_outlives_its_first_end(&self) {
        let (key, token) = ("t4:1", Token::new());
        let claim = self
            .one
            .store
            .claim(key, &token, SHORT * 10, Replacing::Nothing, Track::Value)
            .await
            .expect("claim");
        assert_eq!(claim, Claim::Leased);
        assert!(
            self.one
                .store
                .renew(key, &token, LEASE)
                .await
                .expect("renew")
        );
        match self.other.claim(key, &Token::new()).await {
            Claim::Busy(rest) => assert!(rest > LEASE / 2, "the rest is {rest:?}"),
            claim => panic!("a renewed lease was given away: {claim:?}"),
        }
        assert!(self.one.store.release(key, &token).await.expect("release"));
    }

    async fn release_tells_whether_anybody_interfered(&self) {
        let key = "t8:1";
        for (interfere, clean) in [(false, true), (true, false)] {
            for writes in [false, true] {
                let token = Token::new();
                if writes {
                    assert_eq!(self.one.begin_write(key, &token).await, WriteClaim::Leased);
                } else {
                    assert_eq!(self.one.claim(key, &token).await, Claim::Leased);
                }
                if interfere {
                    self.other.invalidate(key).await;
                }
                let released = self.one.store.release(key, &token).await.expect("release");
                assert_eq!(
                    released, clean,
                    "interfered: {interfere}, a writer's lease: {writes}"
                );
            }
        }
    }

    async fn foreign_token_changes_nothing(&self) {
        let (key, holder, stranger) = ("t9:1", Token::new(), Token::new());
        assert_eq!(self.one.claim(key, &holder).await, Claim::Leased);
        assert!(
            !self
                .other
                .store
                .release(key, &stranger)
                .await
                .expect("release")
        );
        assert!(
            !self
                .other
                .store
                .renew(key, &stranger, LEASE)
                .await
                .expect("renew")
        );
        assert!(!self.other.commit(key, &stranger, "?").await);
        assert!(
            self.one.commit(key, &holder, "v").await,
            "a lease is given up only by its owner"
        );
    }

    async fn claim_replaces_exactly_the_bytes_that_were_seen(&self) {
        let (key, token) = ("t10:1", Token::new());
        self.one.fill(key, "seen").await;
        let (seen, foreign) = (Digest::of(b"seen"), Digest::of(b"something else"));
        let (replacing, track) = (Replacing::Value(&seen), Track::Value);
        let hit = self
            .one
            .store
            .claim(key, &token, LEASE, Replacing::Value(&foreign), track)
            .await
            .expect("claim");
        assert!(
            matches!(hit, Claim::Hit(_)),
            "other bytes are a hit: {hit:?}"
        );
        let leased = self
            .one
            .store
            .claim(key, &token, LEASE, replacing, track)
            .await
            .expect("claim");
        assert_eq!(
            leased,
            Claim::Leased,
            "the bytes that were seen are not a hit"
        );
        let store = &self.one.store;
        assert!(
            store
                .commit(key, &token, b"better", TTL, replacing, track)
                .await
                .expect("commit")
                .is_done()
        );
        assert_eq!(self.other.read(key).await.as_deref(), Some("better"));
        let better = Digest::of(b"better");
        let leased = store
            .claim(key, &token, LEASE, Replacing::Value(&better), Track::Value)
            .await
            .expect("claim");
        assert_eq!(leased, Claim::Leased);
        let refused = store
            .commit(key, &token, b"late", TTL, replacing, track)
            .await
            .expect("commit")
            .is_done();
        assert!(
            !refused,
            "P3 clean-lease-commits: what is there is not what the claim found"
        );
        assert_eq!(self.other.read(key).await.as_deref(), Some("better"));
    }

    async fn value_expires_with_its_ttl(&self) {
        let (key, token) = ("t11:1", Token::new());
        assert_eq!(self.one.claim(key, &token).await, Claim::Leased);
        let stored = self
            .one
            .store
            .commit(key, &token, b"v", SHORT, Replacing::Nothing, Track::Value)
            .await
            .expect("commit")
            .is_done();
        assert!(stored);
        let start = tokio::time::Instant::now();
        while self.other.read(key).await.is_some() {
            assert!(start.elapsed() < BOUND, "the value outlives its ttl");
            tokio::time::sleep(SHORT / 10).await;
        }
    }

    async fn clear_empties_its_prefix_only(&self) {
        let (loading, elsewhere) = (Token::new(), Token::new());
        for n in 0..50 {
            self.one.fill(&format!("t*16:{n}"), "v").await;
            self.one.fill(&format!("tx16:{n}"), "v").await;
        }
        assert_eq!(
            self.one.claim("t*16:loading", &loading).await,
            Claim::Leased
        );
        assert_eq!(
            self.one.claim("tx16:loading", &elsewhere).await,
            Claim::Leased
        );
        let cleared = self.other.store.clear("t*16:").await.expect("clear");
        assert_eq!(cleared, 50);
        assert!(
            !self.one.commit("t*16:loading", &loading, "old").await,
            "a load that began before is refused"
        );
        assert!(
            self.one.commit("tx16:loading", &elsewhere, "v").await,
            "other prefixes are not touched"
        );
        for n in 0..50 {
            assert_eq!(self.one.read(&format!("t*16:{n}")).await, None);
            assert_eq!(
                self.one.read(&format!("tx16:{n}")).await.as_deref(),
                Some("v")
            );
        }
    }

    async fn keys_of_any_text_work(&self) {
        for key in [
            "t17:{a}:b",
            "t17:a}b",
            "t17:{}",
            "t17:}{",
            "t17:ü ∞",
            "t17:a\r\nb",
            "t17:*",
            "t17:{x",
        ] {
            let token = Token::new();
            self.other.forget();
            assert_eq!(self.one.claim(key, &token).await, Claim::Leased, "{key:?}");
            assert!(
                matches!(self.other.claim(key, &Token::new()).await, Claim::Busy(_)),
                "{key:?}"
            );
            assert!(self.one.commit(key, &token, "v").await, "{key:?}");
            self.other.hears(&format!("lease {key}")).await;
            assert_eq!(self.other.read(key).await.as_deref(), Some("v"), "{key:?}");
        }
    }
}
