//! A hit in L1 allocates nothing.

use futures_util::FutureExt;
use larder::Larder;

#[tokio::test]
async fn hit_in_l1_allocates_nothing() {
    let cache = Larder::builder().build().await.unwrap().cache::<String>("user_profile").unwrap();
    let loader = || async { Ok::<String, std::io::Error>(String::new()) };
    cache.insert(42, "value".to_owned()).await.unwrap();
    cache.insert((42, "a rather long part of a key, as they come"), "value".to_owned()).await.unwrap();
    // The first use of a thread's counters and of moka's buffers is not a hit's.
    for _ in 0..1000 {
        cache.get(42).await.unwrap().unwrap();
    }
    let counted = allocation_counter::measure(|| {
        for _ in 0..1000 {
            cache.get(42).now_or_never().unwrap().unwrap().unwrap();
            cache.get("42").now_or_never().unwrap().unwrap().unwrap();
            cache
                .get((42, "a rather long part of a key, as they come"))
                .now_or_never()
                .unwrap()
                .unwrap()
                .unwrap();
            cache.get_or_load(42, loader).now_or_never().unwrap().unwrap();
        }
    });
    assert_eq!((counted.count_total, counted.bytes_total), (0, 0));
}
