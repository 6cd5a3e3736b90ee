use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use larder::{Cache, Error, Loaded, LoadingCache};

use crate::support::{Items, larders};

/// A database that knows what it was asked for: even numbers only are there.
#[derive(Clone, Default)]
struct Database(Arc<Mutex<Vec<Vec<u64>>>>);

impl Database {
    async fn find(self, key: u64) -> Result<Option<String>, Infallible> {
        self.0.lock().unwrap().push(vec![key]);
        Ok(key.is_multiple_of(2).then(|| format!("value {key}")))
    }

    async fn find_many(
        self,
        mut keys: Vec<u64>,
    ) -> Result<HashMap<u64, Loaded<String>>, Infallible> {
        keys.sort_unstable();
        self.0.lock().unwrap().push(keys.clone());
        let even = keys.into_iter().filter(|key| key.is_multiple_of(2));
        Ok(even
            .map(|key| (key, Loaded::new(format!("value {key}")).tag("even")))
            .collect())
    }

    fn asked(&self) -> Vec<Vec<u64>> {
        let mut asked = self.0.lock().unwrap().clone();
        asked.sort_unstable();
        asked
    }
}

fn one(cache: &Items) -> (LoadingCache<u64, String>, Database) {
    let database = Database::default();
    (cache.loading(database.clone(), Database::find), database)
}

fn many(cache: &Items) -> (LoadingCache<u64, String>, Database) {
    let database = Database::default();
    (
        cache.loading_many(database.clone(), Database::find_many),
        database,
    )
}

#[tokio::test]
async fn loader_given_once_loads_each_missing_key_once() {
    for larder in larders().await {
        let (loading, database) = one(&larder.cache("item").unwrap());
        assert_eq!(loading.get_if_cached(2).await.unwrap(), None);
        for _ in 0..2 {
            assert_eq!(loading.get(2).await.unwrap().as_str(), "value 2");
            assert_eq!(loading.find(&3).await.unwrap(), None);
            assert!(
                matches!(loading.get(&3).await, Err(Error::Absent { key, .. }) if key == "item:3")
            );
        }
        assert_eq!(database.asked(), [[2], [3]]);
        let found = loading.get_many(&[2, 3, 4, 5]).await.unwrap();
        assert_eq!((found.len(), found[&4].as_str()), (2, "value 4"));
        assert_eq!(database.asked(), [[2], [3], [4], [5]]);
        loading.invalidate(2).await.unwrap();
        loading.get(2).await.unwrap();
        assert_eq!(database.asked().len(), 5);
    }
}

#[tokio::test]
async fn loader_of_many_keys_is_called_once_for_concurrent_callers() {
    for larder in larders().await {
        let cache: Items = larder.cache("item").unwrap();
        let (loading, database) = many(&cache);
        let loading = loading.window(Duration::from_millis(20));
        let (two, three, four) = tokio::join!(loading.get(2), loading.find(3), loading.get(4));
        assert_eq!(
            (two.unwrap().as_str(), four.unwrap().as_str()),
            ("value 2", "value 4")
        );
        assert_eq!(three.unwrap(), None);
        assert_eq!(database.asked(), [[2, 3, 4]]);
        assert_eq!(loading.get_many(&[2, 6, 7, 8]).await.unwrap().len(), 3);
        assert_eq!(database.asked(), [vec![2, 3, 4], vec![6, 7, 8]]);
        larder.invalidate_tag("even").await.unwrap();
        assert_eq!(cache.get_many(&[2, 6, 8]).await.unwrap().len(), 0);
    }
}

#[tokio::test]
async fn keys_are_given_as_they_are_borrowed_or_by_their_parts() {
    for larder in larders().await {
        let pages: Cache<(u64, String), String> = larder.cache("item").unwrap();
        let key = (42, "latest".to_owned());
        pages.insert(&key, "page".to_owned()).await.unwrap();
        for found in [
            pages.get(&key).await,
            pages.get(key.clone()).await,
            pages.get((42, "latest")).await,
            pages.get((&42, &key.1)).await,
        ] {
            assert_eq!(found.unwrap().unwrap().as_str(), "page");
        }
        assert_eq!(pages.get((42, "latest:")).await.unwrap(), None);
    }
}

#[tokio::test]
async fn refresh_asks_the_database_whatever_the_levels_have() {
    for larder in larders().await {
        let cache: Items = larder.cache("item").unwrap();
        for (loading, database) in [one(&cache), many(&cache)] {
            loading.insert(2, "old".to_owned()).await.unwrap();
            assert_eq!(loading.get(2).await.unwrap().as_str(), "old");
            assert_eq!(loading.refresh(&2).await.unwrap().as_str(), "value 2");
            assert_eq!(loading.get(2).await.unwrap().as_str(), "value 2");
            assert!(matches!(
                loading.refresh(3).await,
                Err(Error::Absent { .. })
            ));
            assert_eq!(database.asked(), [[2], [3]]);
        }
    }
}
