//! oxcache, compared. `cargo xtask bench` runs it.

use std::{process::ExitCode, sync::Arc, time::Duration};

use larder_comparison::{Contender, Database, Key, Levels, Problem, Setting, User, cannot, run};
use oxcache::{Cache, ChainCache, ChainLink, MokaMemoryBackend, RedisBackend};

const CONTENDERS: &[Contender] = &[Contender::of::<Subject>("oxcache", "L1 + L2")];

const TTL: Duration = Duration::from_secs(3600);

/// Without it, oxcache takes no Redis that does not speak TLS.
const INSECURE: (&str, &str) = ("OXCACHE_ALLOW_INSECURE_REDIS", "I_UNDERSTAND_THE_RISKS");

fn main() -> ExitCode {
    // SAFETY: there is no other thread yet.
    unsafe { std::env::set_var(INSECURE.0, INSECURE.1) };
    run(CONTENDERS)
}

/// Its typed cache over moka, over Redis, or over a chain of both.
#[derive(Clone)]
struct Subject(Arc<Cache<String, User>>);

impl larder_comparison::Subject for Subject {
    type Value = User;

    async fn open(setting: &Setting) -> Result<Self, Problem> {
        if setting.coherent {
            return cannot("no cross-process invalidation in 0.5.0-rc.1");
        }
        let moka = || MokaMemoryBackend::builder().capacity(setting.capacity).ttl(TTL).build();
        let builder = Cache::builder().ttl(TTL);
        let builder = match setting.levels {
            Levels::Local => builder.backend_arc(Arc::new(moka())),
            Levels::Remote => builder.backend_arc(Arc::new(RedisBackend::new(&setting.redis).await?)),
            Levels::All => {
                let redis = RedisBackend::new(&setting.redis).await?;
                let chain = ChainCache::builder()
                    .link(ChainLink::from_backend(moka()))
                    .link(ChainLink::from_backend(redis))
                    .default_time_to_live(TTL)
                    .enable_backfill();
                builder.backend_arc(Arc::new(chain.build()))
            }
        };
        Ok(Self(Arc::new(builder.build().await?)))
    }

    async fn get(&self, key: &Key) -> Option<Self::Value> {
        self.0.get(&key.text).await.ok().flatten()
    }

    async fn insert(&self, key: &Key, user: User) -> Result<(), Problem> {
        Ok(self.0.set(&key.text, &user).await?)
    }

    async fn get_or_load(&self, key: &Key, database: &Database) -> Result<Self::Value, Problem> {
        Ok(self.0.get_or(&key.text, || async { Ok(database.find(key.id).await) }).await?)
    }

    async fn invalidate(&self, key: &Key) -> Result<(), Problem> {
        Ok(self.0.delete(&key.text).await?)
    }
}
