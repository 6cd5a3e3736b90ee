use std::collections::BTreeMap;

use futures_util::future::join_all;
use larder_core::{Key, LaneIndex, Phase, Stamp, StoreError, Stored, Want};

use crate::{Leases, Load, Look, StampedeLock, stampede::Sought};

impl<V: Clone + Send + Sync + 'static> StampedeLock<V> {
    /// Looks many keys up in both levels, without loading: for each the value, if there is one that is not stale.
    pub async fn get_many<L: Look<Value = V>>(&self, mut looks: Vec<(Key, L)>) -> Vec<Option<V>> {
        let sought = self.look_many(&mut looks).await;
        let served = sought.into_iter().map(|sought| match sought {
            Sought::Present(present) if present.phase != Phase::Stale => Some(present.value),
            _ => None,
        });
        served.collect()
    }

    /// Looks many keys up in both levels, and loads those that neither has, each as
    /// [`get_or_load`](Self::get_or_load) does: what is said there holds for each of them by itself.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn get_or_load_many<L: Load<Value = V>>(&self, mut loads: Vec<(Key, L)>) -> Vec<V> {
        let sought = self.look_many(&mut loads).await;
        let mut missing = Vec::new();
        let mut values: Vec<Option<V>> = Vec::with_capacity(loads.len());
        for ((key, load), sought) in loads.into_iter().zip(sought) {
            match sought {
                // Its loader is dropped here, before the others are asked for, so that they need not wait for it.
                Sought::Present(present) if present.phase == Phase::Fresh => values.push(Some(present.value)),
                sought => {
                    values.push(None);
                    missing.push(async move { self.get_or_load_from(&key, load, Some(sought)).await });
                }
            }
        }
        let mut loaded = join_all(missing).await.into_iter();
        values.into_iter().filter_map(|value| value.or_else(|| loaded.next())).collect()
    }

    /// Looks into the levels: into the local one because it may have a stale value.
    async fn look_many<L: Look<Value = V>>(&self, looks: &mut [(Key, L)]) -> Vec<Sought<V>> {
        let cached = |look: &(Key, L)| look.1.cached().map_or(Sought::Nothing(None), Sought::Present);
        let mut sought: Vec<Sought<V>> = looks.iter().map(cached).collect();
        if let Some(leases) = &self.context.leases {
            let looks = looks.iter_mut().zip(&mut sought);
            let missing = looks.filter(|(_, sought)| matches!(sought, Sought::Nothing(_))).collect();
            self.ask_many(leases, missing).await;
        }
        sought
    }

    /// Looks into the remote store. Nobody shares these looks: to find out who could would cost more than to look again.
    async fn ask_many<L: Look<Value = V>>(
        &self,
        leases: &Leases,
        missing: Vec<(&mut (Key, L), &mut Sought<V>)>,
    ) {
        let stamps: Vec<Stamp> = missing.iter().map(|(look, _)| self.context.stamp(&look.0)).collect(); // P1 stamp-before-read
        let needs_ttl = missing.iter().any(|(look, _)| look.1.needs_ttl());
        let want = if needs_ttl { Want::ValueAndTtl } else { Want::Value };
        let found = {
            let keys: Vec<_> = missing.iter().map(|(look, _)| look.0.as_str()).zip(&stamps).collect();
            find_many(leases, &keys, want).await
        };
        let mut slow = Vec::new();
        for ((((key, look), sought), found), stamp) in missing.into_iter().zip(found).zip(&stamps) {
            if let Ok(Some(stored)) = &found
                && look.asks_more(stored)
            {
                // All of them ask at the same time.
                slow.push(async move { *sought = self.context.take(key, found, stamp, look).await });
            } else {
                *sought = self.context.take(key, found, stamp, look).await;
            }
        }
        join_all(slow).await;
    }
}

/// Reads each key through its lane, all lanes at once.
async fn find_many(
    leases: &Leases,
    keys: &[(&str, &Stamp)],
    want: Want,
) -> Vec<Result<Option<Stored>, StoreError>> {
    let remote = leases.remote();
    let mut found: Vec<Result<Option<Stored>, StoreError>> = Vec::with_capacity(keys.len());
    let mut lanes: BTreeMap<LaneIndex, (Vec<usize>, Vec<&str>)> = BTreeMap::new();
    for (at, (key, stamp)) in keys.iter().enumerate() {
        let (places, of_lane) = lanes.entry(stamp.lane()).or_default();
        places.push(at);
        of_lane.push(key);
        found.push(Ok(None));
    }
    let asked = lanes.into_iter().map(|(lane, (places, keys))| async move {
        let answer = remote.get_many(lane, &keys, want).await;
        (places, answer)
    });
    for (places, answer) in join_all(asked).await {
        match answer {
            Ok(stored) => places.into_iter().zip(stored).for_each(|(at, stored)| found[at] = Ok(stored)),
            Err(error) => places.into_iter().for_each(|at| found[at] = Err(error.clone())),
        }
    }
    found
}
