use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use larder::{Clock, Error, MemoryRemote, MemoryServer};
use larder_testkit::Gate;

use crate::support::{Items, builder, larders};

/// No test waits for this long.
const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn closed_larder_refuses_every_call_before_it_runs_anything() {
    for larder in larders().await {
        let cache: Items = larder.cache("item").unwrap();
        cache.insert(1, "in L1".to_owned()).await.unwrap();
        let runs = Arc::new(AtomicU64::new(0));
        let run = || {
            let runs = runs.clone();
            move || async move {
                runs.fetch_add(1, Ordering::Relaxed);
                Ok::<_, Infallible>("loaded".to_owned())
            }
        };
        let loading = cache.loading((), |(), _| async {
            Ok::<_, Infallible>("loaded".to_owned())
        });
        larder.close(LONG).await.unwrap();
        let refused = [
            cache.get(1).await.map(drop),
            cache.get_or_load(1, run()).await.map(drop),
            cache.find_or_load(2, run()).await.map(drop),
            cache.get_many(&[1, 2]).await.map(drop),
            loading.get(1).await.map(drop),
            loading.get_many(&[1, 2]).await.map(drop),
            cache.write_through(1, run()).await.map(drop),
            cache.write_around(1, run()).await.map(drop),
            cache.insert(1, "new".to_owned()).await,
            cache.clear().await,
            larder.invalidate_tag("tag").await,
        ];
        for (n, refused) in refused.into_iter().enumerate() {
            assert!(
                matches!(refused, Err(Error::Closed)),
                "call {n}: {refused:?}"
            );
        }
        assert_eq!(runs.load(Ordering::Relaxed), 0);
        larder.close(LONG).await.unwrap(); // it is closed already
    }
}

#[tokio::test]
async fn close_waits_for_running_writes() {
    for larder in larders().await {
        let (cache, gate): (Items, _) = (larder.cache("item").unwrap(), Gate::new());
        let writing = {
            let (cache, gate) = (cache.clone(), gate.clone());
            tokio::spawn(async move {
                let writer = move || async move {
                    gate.pass().await;
                    Ok::<_, Infallible>("written".to_owned())
                };
                cache.write_through(1, writer).await
            })
        };
        gate.reached().await;
        let hurried = larder.close(Duration::from_millis(1)).await.unwrap_err();
        assert!(
            matches!(
                hurried,
                Error::Unsent {
                    running: 1,
                    unsent: 0,
                    ..
                }
            ),
            "{hurried:?}"
        );
        assert!(
            hurried.to_string().contains("1 of the larder's writes"),
            "{hurried}"
        );
        let closing = tokio::spawn(async move { larder.close(LONG).await });
        gate.open();
        closing.await.unwrap().unwrap();
        assert_eq!(writing.await.unwrap().unwrap().as_str(), "written");
    }
}

#[tokio::test]
async fn close_sends_what_an_outage_has_kept_or_says_how_much_it_was() {
    let server = MemoryServer::new(Clock::system());
    let [one, other] = [(); 2].map(|()| Arc::new(server.connect()));
    let build = async |store: &Arc<MemoryRemote>| {
        builder().remote_store(store.clone()).build().await.unwrap()
    };
    let (larder, reader) = (build(&one).await, build(&other).await);
    let (cache, elsewhere): (Items, Items) =
        (larder.cache("item").unwrap(), reader.cache("item").unwrap());
    elsewhere.insert(1, "old".to_owned()).await.unwrap();
    one.disconnect();
    cache.invalidate(1).await.unwrap();
    assert_eq!(elsewhere.get(1).await.unwrap().unwrap().as_str(), "old");
    let cut_off = larder.close(Duration::from_millis(1)).await.unwrap_err();
    assert!(
        matches!(
            cut_off,
            Error::Unsent {
                running: 0,
                unsent: 1,
                ..
            }
        ),
        "{cut_off:?}"
    );
    let closing = tokio::spawn(async move { larder.close(LONG).await });
    one.reconnect();
    closing.await.unwrap().unwrap();
    assert_eq!(elsewhere.get(1).await.unwrap(), None);
}
