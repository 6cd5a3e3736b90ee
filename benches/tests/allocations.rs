//! A hit in L1 allocates nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::{convert::Infallible, future::Future};

use futures_util::FutureExt;
use larder::{Cache, Larder};

const LONG: &str = "a rather long part of a key, as they come";

/// A future that is ready at once.
fn now<T, E: std::fmt::Debug>(call: impl Future<Output = Result<T, E>>) -> T {
    call.now_or_never().unwrap().unwrap()
}

#[tokio::test]
async fn hit_in_l1_allocates_nothing() {
    let larder = Larder::builder().build().await.unwrap();
    let users: Cache<u64, String> = larder.cache("user_profile").unwrap();
    let sessions: Cache<String, String> = larder.cache("session_token").unwrap();
    let pages: Cache<(u64, String), String> = larder.cache("search_result").unwrap();
    let loader = || async { Ok::<_, Infallible>(String::new()) };
    let loading = users.loading((), |(), _| async { Ok::<_, Infallible>(String::new()) });
    let together = users.loading_many((), |(), _| async {
        Ok::<_, Infallible>(Vec::<(u64, String)>::new())
    });
    users.insert(42, "value".to_owned()).await.unwrap();
    sessions.insert("42", "value".to_owned()).await.unwrap();
    pages.insert((42, LONG), "value".to_owned()).await.unwrap();
    // The first use of a thread's counters and of moka's buffers is not a hit's.
    for _ in 0..1000 {
        users.get(42).await.unwrap().unwrap();
    }
    let counted = allocation_counter::measure(|| {
        for _ in 0..1000 {
            now(users.get(42)).unwrap();
            now(sessions.get("42")).unwrap();
            now(pages.get((42, LONG))).unwrap();
            now(users.get_or_load(42, loader));
            now(loading.get(42));
            now(together.get(42));
        }
    });
    assert_eq!((counted.count_total, counted.bytes_total), (0, 0));
}
