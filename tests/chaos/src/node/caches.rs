use std::time::Duration;

use larder::{Cache, Coherence, Larder, OnDataLoss, RedisConfig, TtlTable};

use super::config::Config;
use crate::keys::{Key, Namespace, PolicyName, TABLE, Versioned};

/// The caches of a larder, one for each policy.
pub(crate) struct Caches([Cache<u16, Versioned>; PolicyName::ALL.len()]);

impl Caches {
    pub(crate) async fn connect(config: &Config) -> Result<(Larder, Self), larder::Error> {
        // Faults are noticed fast, so that many find their place in a run.
        let options = RedisConfig::new(&config.redis)
            .lanes(2)
            .command_timeout(Duration::from_millis(300))
            .connect_timeout(Duration::from_millis(300))
            .ping_interval(Duration::from_millis(100))
            .probe_interval(Duration::from_millis(300))
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
            .build()
            .await?;
        let [a, b, c, d, e, f, g] = PolicyName::ALL.map(|policy| larder.cache(policy.name()));
        Ok((larder, Self([a?, b?, c?, d?, e?, f?, g?])))
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
