use std::time::Duration;

use larder::{Cache, Coherence, Larder, OnDataLoss, RedisConfig, TtlTable};

use super::config::Config;
use crate::keys::{Key, Namespace, PolicyName, TABLE, Versioned};

/// The caches of a larder, one for each policy.
pub(crate) struct Caches(Vec<Cache<u16, Versioned>>);

impl Caches {
    pub(crate) async fn connect(config: &Config) -> Result<(Larder, Self), larder::Error> {
        let timeout = Duration::from_millis(config.timeout_ms);
        let options = RedisConfig::new(&config.redis)
            .lanes(2)
            .command_timeout(timeout)
            .connect_timeout(timeout)
            .ping_interval(Duration::from_millis(100))
            .probe_interval(Duration::from_millis(300))
            .address_map(translate(config.places.clone()))
            .coherence(match config.namespace {
                Namespace::North => Coherence::Auto,
                Namespace::South => Coherence::Channel,
            })
            .on_data_loss(match config.on_data_loss.as_str() {
                "clear" => OnDataLoss::Clear,
                "trust" => OnDataLoss::Trust,
                _ => OnDataLoss::Redo,
            });
        let table = TtlTable::from_toml(TABLE)?;
        let larder = Larder::builder()
            .ttl_table(table)
            .redis_config(options)
            .namespace(config.namespace.name())
            .start_without_redis(config.starts_alone)
            .build()
            .await?;
        let caches = PolicyName::ALL.map(|policy| larder.cache(policy.name()));
        let caches = caches.into_iter().collect::<Result<_, _>>()?;
        Ok((larder, Self(caches)))
    }

    pub(crate) fn of(&self, key: Key) -> &Cache<u16, Versioned> {
        self.of_policy(key.policy())
    }

    fn of_policy(&self, policy: PolicyName) -> &Cache<u16, Versioned> {
        &self.0[policy as usize]
    }

    /// The version of each key that a reader without a loader is given.
    pub(crate) async fn copies(
        &self,
        namespace: Namespace,
        policy: PolicyName,
    ) -> Result<Vec<(Key, Option<u32>)>, larder::Error> {
        let keys: Vec<Key> = Key::all(namespace, policy).collect();
        let asked: Vec<u16> = keys.iter().map(|key| key.in_policy()).collect();
        let found = self.of_policy(policy).get_many(&asked).await?;
        let version = |key: Key| found.get(&key.in_policy()).map(|value| value.version);
        Ok(keys.into_iter().map(|key| (key, version(key))).collect())
    }
}

/// Leads to the proxy before each server. An address without one is taken as it is.
fn translate(places: Vec<(String, String)>) -> impl Fn(&str, u16) -> (String, u16) + Send + Sync {
    move |host, port| {
        let told = format!("{host}:{port}");
        let reached = places.iter().find(|(address, _)| *address == told);
        let reached = reached.and_then(|(_, reached)| {
            let (host, port) = reached.rsplit_once(':')?;
            Some((host.to_owned(), port.parse().ok()?))
        });
        reached.unwrap_or_else(|| (host.to_owned(), port))
    }
}
