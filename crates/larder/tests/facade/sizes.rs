use std::convert::Infallible;

use crate::support::{Items, larders};

/// 256 bytes: a hit moves its future into its caller's, and the caller's into its task.
const SMALL: usize = 256;

#[tokio::test]
async fn futures_of_reads_are_small_because_only_a_miss_is_boxed() {
    for larder in larders().await {
        let cache: Items = larder.cache("item").unwrap();
        let loader = || async { Ok::<_, Infallible>(String::new()) };
        let one = cache.loading((), |(), _| async { Ok::<_, Infallible>(String::new()) });
        let many = cache.loading_many((), |(), _| async {
            Ok::<_, Infallible>([(1, String::new())])
        });
        let sizes = [
            size_of_val(&cache.get(1)),
            size_of_val(&cache.get_or_load(1, loader)),
            size_of_val(&cache.find_or_load(1, loader)),
            size_of_val(&one.get(1)),
            size_of_val(&one.find(1)),
            size_of_val(&many.get(1)),
            size_of_val(&many.find(1)),
        ];
        println!("bytes: {sizes:?}");
        assert!(sizes.iter().all(|size| *size <= SMALL), "{sizes:?}");
    }
}
