use std::{error::Error as _, io};

use larder::{Cache, Error};
use tracing::{Instrument, Span, info_span};

use crate::support::{Items, builder, larders};

#[tokio::test]
async fn loaders_own_error_reaches_every_caller_as_what_it_was() {
    for larder in larders().await {
        let cache: Items = larder.cache("item").unwrap();
        let down = || async {
            Err::<String, _>(io::Error::new(io::ErrorKind::TimedOut, "database is down"))
        };
        let many = |_: Vec<u64>| async {
            Err::<Vec<(u64, String)>, _>(io::Error::from(io::ErrorKind::TimedOut))
        };
        let failed = [
            cache.get_or_load(8, down).await.unwrap_err(),
            cache.get_or_load_many(&[8], many).await.unwrap_err(),
            cache.write_through(8, down).await.unwrap_err(),
            cache.write_around(8, down).await.unwrap_err(),
        ];
        for error in failed {
            let source = error
                .source()
                .and_then(|source| source.downcast_ref::<io::Error>());
            assert_eq!(
                source.map(io::Error::kind),
                Some(io::ErrorKind::TimedOut),
                "{error:?}"
            );
            assert_eq!(
                error.load_error::<io::Error>().map(io::Error::kind),
                Some(io::ErrorKind::TimedOut)
            );
            assert_eq!(error.key(), Some("item:8"));
            assert!(error.to_string().contains("item:8"), "{error}");
        }
    }
}

#[tokio::test]
async fn policy_in_use_with_other_types_is_an_error_that_names_them() {
    let larder = builder().build().await.unwrap();
    let _items: Items = larder.cache("item").unwrap();
    let keys = larder.cache::<String, String>("item").unwrap_err();
    assert!(matches!(keys, Error::KeyType { .. }), "{keys:?}");
    assert!(
        keys.to_string()
            .contains("keys of type u64, not alloc::string::String"),
        "{keys}"
    );
    let values = larder.cache::<u64, Vec<u8>>("item").unwrap_err();
    assert!(matches!(values, Error::PolicyType { .. }), "{values:?}");
    let _same: Cache<u64, String> = larder.cache("item").unwrap();
}

/// Loaders and writers run in tasks of their own; their spans are those of their callers all the
/// same.
#[tokio::test]
async fn loaders_and_writers_run_in_the_spans_of_their_callers() {
    let _subscribed =
        tracing::subscriber::set_default(tracing_subscriber::fmt().with_writer(io::sink).finish());
    for larder in larders().await {
        let cache: Items = larder.cache("item").unwrap();
        let name =
            || async { Ok::<_, io::Error>(Span::current().metadata().unwrap().name().to_owned()) };
        let span = || info_span!("request");
        let loaded = cache.get_or_load(1, name).instrument(span()).await.unwrap();
        let written = cache
            .write_through(2, name)
            .instrument(span())
            .await
            .unwrap();
        let around = cache
            .write_around(3, name)
            .instrument(span())
            .await
            .unwrap();
        let together = cache.loading_many((), |(), keys: Vec<u64>| async move {
            let name = Span::current().metadata().unwrap().name().to_owned();
            Ok::<_, io::Error>(keys.into_iter().map(move |key| (key, name.clone())))
        });
        let one = together.get(4).instrument(span()).await.unwrap();
        let many = together.get_many(&[5]).instrument(span()).await.unwrap();
        let names = [
            loaded.as_str(),
            written.as_str(),
            &around,
            one.as_str(),
            many[&5].as_str(),
        ];
        assert_eq!(names, ["request"; 5]);
    }
}
