use std::collections::BTreeMap;

use futures_util::future::join_all;
use larder_core::{Key, LaneIndex, Stamp, StoreError, Stored, Want};

use super::{
    StampedeLock,
    caller::{Accepting, Loader, Lookup, Outcome, Reader},
    context::Request,
    served_by,
    write_back::end_of,
};
use crate::Leases;

/// Many keys in one call.
impl<V: Clone + Send + Sync + 'static, E: Clone + Send + Sync + 'static> StampedeLock<V, E> {
    /// Looks many keys up in both levels, without loading: for each the value, if there is one that
    /// is not stale.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/numbers.rs"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = MemoryServer::new(Clock::system());
    /// # let (lock, _pushes) = process::<u64, Arc<io::Error>>(Arc::new(server.connect()));
    /// # let key = Key::from_stored_name("visits:/");
    /// server.write("visits:/", "12", None);
    /// let other = Key::from_stored_name("visits:/about");
    /// assert_eq!(lock.get_many(&[(key, Numbers), (other, Numbers)]).await, [Some(12), None]);
    /// # Ok(()) }
    /// ```
    pub async fn get_many<R: Reader<Value = V>>(&self, reads: &[(Key, R)]) -> Vec<Option<V>> {
        let reads: Vec<_> = reads.iter().map(|(key, reader)| (key, reader)).collect();
        self.look_many(&reads)
            .await
            .into_iter()
            .map(served_by)
            .collect()
    }

    /// Looks many keys up in both levels, and loads those that neither has, each as
    /// [`get_or_load`](Self::get_or_load) does.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/numbers.rs"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = MemoryServer::new(Clock::system());
    /// # let (lock, _pushes) = process(Arc::new(server.connect()));
    /// # let key = Key::from_stored_name("visits:/");
    /// let other = Key::from_stored_name("visits:/about");
    /// let requests = [(&key, 12), (&other, 3)].map(|(key, n)| request(key, Numbers, Load(n)));
    /// let visits = lock.get_or_load_many(requests.into()).await;
    /// assert_eq!((visits[0].as_ref().ok(), visits[1].as_ref().ok()), (Some(&12), Some(&3)));
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn get_or_load_many<R, L>(&self, requests: Vec<Request<R, L>>) -> Vec<Outcome<V, E>>
    where
        R: Reader<Value = V>,
        L: Loader<Value = V, Error = E>,
    {
        let lookups = {
            let reads: Vec<_> = requests
                .iter()
                .map(|request| (&request.key, &request.reader))
                .collect();
            self.look_many(&reads).await
        };
        let mut missing = Vec::new();
        let mut outcomes = Vec::with_capacity(requests.len());
        for (request, lookup) in requests.into_iter().zip(lookups) {
            match lookup {
                // Its loader is dropped here, before the others are asked for, so that they need
                // not wait for it.
                Lookup::Fresh(value) => outcomes.push(Some(Ok(value))),
                lookup => {
                    outcomes.push(None);
                    missing.push(self.get_or_load_from(request, lookup));
                }
            }
        }
        let mut loaded = join_all(missing).await.into_iter();
        outcomes
            .into_iter()
            .filter_map(|outcome| outcome.or_else(|| loaded.next()))
            .collect()
    }

    /// Looks into the levels: into the local one because it may have a stale value.
    async fn look_many<R: Reader<Value = V>>(&self, reads: &[(&Key, &R)]) -> Vec<Lookup<V>> {
        let mut lookups: Vec<Lookup<V>> =
            reads.iter().map(|(key, reader)| reader.look(key)).collect();
        if let Some(leases) = self.context.leases() {
            let reads = reads.iter().zip(&mut lookups);
            let missing = reads
                .filter(|(_, lookup)| matches!(lookup, Lookup::Absent(_)))
                .collect();
            self.ask_many(leases, missing).await;
        }
        lookups
    }

    /// Looks into the remote store. These looks are not shared: to find callers for that would cost
    /// more than to look again.
    async fn ask_many<R: Reader<Value = V>>(
        &self,
        leases: &Leases,
        missing: Vec<(&(&Key, &R), &mut Lookup<V>)>,
    ) {
        let context = &self.context;
        // P1 stamp-before-read
        let stamps: Vec<Stamp> = missing
            .iter()
            .map(|((key, _), _)| context.stamp(key))
            .collect();
        let found = {
            let keys = missing.iter().map(|((key, _), _)| key.as_str());
            let keys: Vec<_> = keys.zip(&stamps).collect();
            find_many(leases, &keys, context.config.want).await
        };
        let mut asking = Vec::new();
        for ((((key, reader), lookup), found), stamp) in missing.into_iter().zip(found).zip(stamps)
        {
            let stored = match found {
                Ok(Some(stored)) => stored,
                found => {
                    *lookup = context.note_absence(key, found, stamp, *reader);
                    continue;
                }
            };
            let ends = end_of(&stored, &context.config.clock);
            match reader.accept(key, stored, ends, stamp) {
                Accepting::Done(judged) => {
                    context.note_reload(key, &judged);
                    *lookup = judged;
                }
                // All of them ask at the same time.
                Accepting::Asking(judging) => asking.push(async move {
                    let judged = judging.await;
                    context.note_reload(key, &judged);
                    *lookup = judged;
                }),
            }
        }
        join_all(asking).await;
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
        let answer = remote.get_many(lane, &keys, want, leases.track()).await;
        (places, answer)
    });
    for (places, answer) in join_all(asked).await {
        match answer {
            Ok(stored) => {
                places
                    .into_iter()
                    .zip(stored)
                    .for_each(|(at, stored)| found[at] = Ok(stored));
            }
            Err(error) => places
                .into_iter()
                .for_each(|at| found[at] = Err(error.clone())),
        }
    }
    found
}
