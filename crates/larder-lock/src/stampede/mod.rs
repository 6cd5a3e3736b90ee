//! The stampede lock: one load of a key at a time, over all processes.

pub(crate) mod batch;
pub(crate) mod caller;
mod context;
mod limits;
mod load_queue;
mod load_task;
mod lookup;
mod reload_backoff;
mod verdict;
pub(crate) mod write_back;

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;
use larder_core::{Key, Phase};
use tokio::{sync::oneshot, time::Instant};

use self::{
    caller::{Aging, Event, Failure, Loader, Lookup, Outcome, Reader},
    context::Context,
    load_task::LoadTask,
    verdict::Purpose,
};
pub use self::{
    context::{Request, StampedeConfig},
    limits::LoadLimits,
    load_queue::LoadPermit,
};
use crate::{Flights, Follower, Joined, Leader};

/// One load of a key at a time, in this process and, with leases, in all that share the remote
/// store.
///
/// The lock keeps a value only if no caller wrote or invalidated its key since its load began. It
/// gives the value only to callers for whom it is not too old. A load that an invalidation has
/// outdated goes on for its callers, and one current load may run beside it.
///
/// ```
#[doc = include_str!("../../doc/numbers.rs")]
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = MemoryServer::new(Clock::system()); // or a `RedisStore`
/// let (lock, _pushes) = process(Arc::new(server.connect()));
/// let key = Key::from_stored_name("visits:/");
///
/// assert_eq!(lock.get_or_load(request(&key, Numbers, Load(12))).await?, 12);
/// assert_eq!(server.read("visits:/").as_deref(), Some(b"12".as_slice()));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct StampedeLock<V, E> {
    lookups: Flights<Lookup<V>>,
    loads: Flights<Outcome<V, E>>,
    /// Loads for callers that have waited for others as long as they may.
    overdue: Flights<Outcome<V, E>>,
    refreshes: Flights<Outcome<V, E>>,
    context: Arc<Context>,
}

/// 30 years: the limit of a call that has none, which every clock can add to its time.
const LONGEST_CALL: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// How a caller fares with a load that is under way.
enum Waited<V, E> {
    Served(Outcome<V, E>),
    /// The outcome is not for this caller, which should look again.
    NotForUs,
}

impl<V: Clone + Send + Sync + 'static, E: Clone + Send + Sync + 'static> StampedeLock<V, E> {
    /// Makes a lock.
    pub fn new(config: StampedeConfig) -> Self {
        Self {
            lookups: Flights::new(),
            loads: Flights::new(),
            overdue: Flights::new(),
            refreshes: Flights::new(),
            context: Arc::new(Context::new(config)),
        }
    }

    /// Returns a value that is not stale from the local or the remote store, without loading.
    /// Concurrent callers share one lookup.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/numbers.rs"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = MemoryServer::new(Clock::system());
    /// # let (lock, _pushes) = process::<u64, Arc<io::Error>>(Arc::new(server.connect()));
    /// # let key = Key::from_stored_name("visits:/");
    /// assert_eq!(lock.get(&key, &Numbers).await, None);
    /// server.write("visits:/", "12", None); // by another program
    /// assert_eq!(lock.get(&key, &Numbers).await, Some(12));
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn get<R: Reader<Value = V>>(&self, key: &Key, reader: &R) -> Option<V> {
        served_by(self.look(key, reader).await)
    }

    /// Looks the key up, and loads it if no level has it. Concurrent callers share one load.
    ///
    /// A caller gets a stale value while one load runs over all processes, and if that load fails.
    /// It never gets a stale value whose key this process knows to be written or invalidated since.
    ///
    /// The call ends at the latest after the time of one call of the remote store, `max_wait` and
    /// `load_timeout` together.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/numbers.rs"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = MemoryServer::new(Clock::system());
    /// # let (lock, _pushes) = process(Arc::new(server.connect()));
    /// # let key = Key::from_stored_name("visits:/");
    /// assert_eq!(lock.get_or_load(request(&key, Numbers, Load(12))).await?, 12);
    /// let visits = lock.get_or_load(request(&key, Numbers, Load(13))).await?;
    /// assert_eq!(visits, 12, "they were not loaded again");
    /// # Ok(()) }
    /// ```
    ///
    /// # Cancellation
    /// A dropped caller leaves the load to the others. When the last caller is dropped, the lock
    /// cancels the load and releases its lease, unless the load replaces a value that is still
    /// served.
    ///
    /// # Errors
    /// The loader's own error, or the [`Failure`] of the load.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn get_or_load<R, L>(&self, request: Request<R, L>) -> impl Future<Output = Outcome<V, E>>
    where
        R: Reader<Value = V>,
        L: Loader<Value = V, Error = E>,
    {
        let came = Instant::now();
        // Not an `async fn`, which would hold the request twice.
        self.in_time(came, async move {
            match self.look(&request.key, &request.reader).await {
                Lookup::Fresh(value) => Ok(value),
                // Boxed, so that the future of a hit stays small.
                lookup => Box::pin(self.load_or_join(request, lookup, came)).await,
            }
        })
    }

    /// Loads the key with a load that begins after this call. Concurrent calls in all processes
    /// share one load. Its value goes to all of them and into both levels. The levels go on serving
    /// readers meanwhile.
    ///
    /// The lock keeps the value nowhere if a caller wrote or invalidated the key during the load,
    /// or if another process's older load took longer than `max_wait`.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/numbers.rs"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = MemoryServer::new(Clock::system());
    /// # let (lock, _pushes) = process(Arc::new(server.connect()));
    /// # let key = Key::from_stored_name("visits:/");
    /// lock.get_or_load(request(&key, Numbers, Load(12))).await?;
    /// assert_eq!(lock.refresh(request(&key, Numbers, Load(13))).await?, 13);
    /// assert_eq!(lock.get(&key, &Numbers).await, Some(13));
    /// # Ok(()) }
    /// ```
    ///
    /// # Cancellation
    /// As for [`get_or_load`](Self::get_or_load).
    ///
    /// # Errors
    /// As for [`get_or_load`](Self::get_or_load).
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn refresh<R, L>(&self, request: Request<R, L>) -> Outcome<V, E>
    where
        R: Reader<Value = V>,
        L: Loader<Value = V, Error = E>,
    {
        let (came, _nested) = (Instant::now(), self.context.wait_for_load(&request.key)?);
        let loading = self.load_after(&self.refreshes, request, came, Purpose::Refresh);
        self.in_time(came, loading).await
    }

    /// Starts a reload of a value that is still served, in the background. It starts none if a
    /// reload is under way, or during the backoff after a failed one. One reload runs at a time
    /// over all processes.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn reload<R, L>(&self, request: Request<R, L>, aging: Aging<V>)
    where
        R: Reader<Value = V>,
        L: Loader<Value = V, Error = E>,
    {
        let context = &self.context;
        if context.backoff.is_on(request.key.hash(), aging.phase) {
            return;
        }
        let stamp = || context.stamp(&request.key);
        if let Joined::Leader(leader, follower) =
            self.loads.join(&request.key, context.generations(), stamp)
        {
            follower.go_on();
            let (lookup, now) = (Lookup::Aging(aging), Instant::now());
            let (task, _) = LoadTask::new(context, leader, request, lookup, Purpose::Reload, now);
            tokio::spawn(task.run()); // a task of its own: nobody waits for it
        }
    }

    /// Takes one of `max_loads` for a load of many keys, whose parts take none. `None` if
    /// `max_loads` was reached for all of `max_wait`.
    pub async fn permit(&self) -> Option<LoadPermit> {
        let permit = self.context.queue.permit();
        // The limit is the policy's own.
        tokio::time::timeout(self.context.config.limits.max_wait, permit)
            .await
            .ok()
    }

    /// As [`get_or_load`](Self::get_or_load), for a caller that has looked already.
    pub(crate) fn get_or_load_from<R, L>(
        &self,
        request: Request<R, L>,
        lookup: Lookup<V>,
    ) -> impl Future<Output = Outcome<V, E>>
    where
        R: Reader<Value = V>,
        L: Loader<Value = V, Error = E>,
    {
        let came = Instant::now();
        self.in_time(came, Box::pin(self.load_or_join(request, lookup, came)))
    }

    /// Ends a call that takes longer than all its limits together. The caller has then waited for
    /// others as long as it may, and for loaders that take nearly as long as they may.
    ///
    /// Not an `async fn`, which would hold the call twice and make each read move it once more.
    fn in_time(
        &self,
        came: Instant,
        call: impl Future<Output = Outcome<V, E>>,
    ) -> impl Future<Output = Outcome<V, E>> {
        let limits = &self.context.config.limits;
        let call_timeout = match self.context.remote() {
            Some(remote) => remote.call_timeout(),
            None => Some(Duration::ZERO),
        };
        let limit = call_timeout.map_or(LONGEST_CALL, |call_timeout| {
            call_timeout
                .saturating_add(limits.max_wait)
                .saturating_add(limits.load_timeout)
                .min(LONGEST_CALL)
        });
        let ended = tokio::time::timeout_at(came + limit, call);
        ended.map(move |ended| ended.unwrap_or_else(|_| Err(Failure::TimedOut(limit).into())))
    }

    /// Loads the key or joins its load, unless that would wait for the work around the call.
    async fn load_or_join<R, L>(
        &self,
        request: Request<R, L>,
        lookup: Lookup<V>,
        came: Instant,
    ) -> Outcome<V, E>
    where
        R: Reader<Value = V>,
        L: Loader<Value = V, Error = E>,
    {
        match (self.context.wait_for_load(&request.key), &lookup) {
            (Err(_), Lookup::Aging(aging)) => Ok(aging.serve(&request.key, &request.reader)),
            (Err(cycle), _) => Err(cycle.into()),
            (Ok(_waiting), _) => self.load_or_follow(request, lookup, came).await,
        }
    }

    /// Leads a load or follows one, until there is an outcome for this caller.
    async fn load_or_follow<R, L>(
        &self,
        mut request: Request<R, L>,
        lookup: Lookup<V>,
        came: Instant,
    ) -> Outcome<V, E>
    where
        R: Reader<Value = V>,
        L: Loader<Value = V, Error = E>,
    {
        let (context, key, reader) = (&self.context, request.key.clone(), request.reader.clone());
        let limits = &context.config.limits;
        let (mut looked, mut starts_over) = (Some(lookup), false);
        loop {
            let lookup = match looked.take() {
                Some(lookup) => lookup,
                None => self.look(&key, &reader).await,
            };
            let aging = match &lookup {
                Lookup::Fresh(value) => return Ok(value.clone()),
                Lookup::Aging(aging) => Some(aging.clone()),
                Lookup::Absent(_) | Lookup::Unreachable(_) => None,
            };
            if let Some(aging) = &aging
                && context.backoff.is_on(key.hash(), aging.phase)
            {
                return Ok(aging.serve(&key, &reader));
            }
            // A caller that was in vain once does not wait for others for ever.
            let waited = starts_over.then(|| came.elapsed());
            if waited.is_some_and(|waited| waited >= limits.max_wait) {
                return self.serve_overdue(request, came, lookup).await;
            }
            let stamp = || context.stamp(&key);
            let so_long = waited.unwrap_or_default();
            match self.loads.join(&key, context.generations(), stamp) {
                Joined::Follower(follower) => {
                    reader.observe(&key, Event::Waiting);
                    context.follow(&key, &follower);
                    let waiting = self.wait(&key, &follower, aging, so_long, &reader);
                    let rest = waited.map_or(Duration::MAX, |waited| limits.max_wait - waited);
                    if let Ok(Waited::Served(served)) = tokio::time::timeout(rest, waiting).await {
                        return served;
                    }
                }
                Joined::Leader(leader, follower) => {
                    let given_back = self.start(leader, &follower, request, lookup, came);
                    // The leader joined before anything was asked for, so every outcome is for it.
                    match self.wait(&key, &follower, aging, so_long, &reader).await {
                        Waited::Served(served) => return served,
                        Waited::NotForUs => match given_back.await {
                            Ok(given_back) => request = given_back,
                            Err(_gone) => return Err(Failure::Dropped.into()),
                        },
                    }
                }
            }
            starts_over = true;
        }
    }

    /// Starts a load, and returns the channel through which its leader may get the request back.
    fn start<R, L>(
        &self,
        leader: Leader<Outcome<V, E>>,
        follower: &Follower<Outcome<V, E>>,
        request: Request<R, L>,
        lookup: Lookup<V>,
        came: Instant,
    ) -> oneshot::Receiver<Request<R, L>>
    where
        R: Reader<Value = V>,
        L: Loader<Value = V, Error = E>,
    {
        let purpose = Purpose::of(&lookup);
        if purpose == Purpose::Reload {
            follower.go_on();
        }
        let (task, given_back) =
            LoadTask::new(&self.context, leader, request, lookup, purpose, came);
        // A task of its own: the load outlives the caller that started it, and callers that share
        // it must not depend on that caller being polled.
        tokio::spawn(task.run());
        given_back
    }

    /// Serves a caller that has used up its `max_wait`: with the value of a level, else with a load
    /// that all such callers share.
    async fn serve_overdue<R, L>(
        &self,
        request: Request<R, L>,
        came: Instant,
        lookup: Lookup<V>,
    ) -> Outcome<V, E>
    where
        R: Reader<Value = V>,
        L: Loader<Value = V, Error = E>,
    {
        let (key, reader) = (&request.key, &request.reader);
        match lookup {
            Lookup::Aging(aging) => Ok(aging.serve(key, reader)),
            Lookup::Unreachable(cut_off) if self.context.config.limits.needs_remote => {
                let why = Failure::CutOff(cut_off.error);
                reader.observe(
                    key,
                    Event::Failed {
                        why: &why,
                        took: Duration::ZERO,
                    },
                );
                Err(why.into())
            }
            _ => {
                self.load_after(&self.overdue, request, came, Purpose::Overdue)
                    .await
            }
        }
    }

    /// Loads for a caller that came at this moment. It shares a load whose first question was sent
    /// after that.
    async fn load_after<R, L>(
        &self,
        flights: &Flights<Outcome<V, E>>,
        mut request: Request<R, L>,
        came: Instant,
        purpose: Purpose,
    ) -> Outcome<V, E>
    where
        R: Reader<Value = V>,
        L: Loader<Value = V, Error = E>,
    {
        let (context, key) = (&self.context, request.key.clone());
        loop {
            match flights.join_expired(&key, came, || context.stamp(&key)) {
                Joined::Follower(follower) => {
                    request.reader.observe(&key, Event::Waiting);
                    context.follow(&key, &follower);
                    if let Some(served) = follower.wait().await {
                        return served;
                    }
                }
                Joined::Leader(leader, follower) => {
                    let (lookup, now) = (Lookup::Absent(None), Instant::now());
                    let (task, given_back) =
                        LoadTask::new(context, leader, request, lookup, purpose, now);
                    tokio::spawn(task.run()); // a task like any load, whose panic is its own
                    if let Some(served) = follower.wait().await {
                        return served;
                    }
                    match given_back.await {
                        Ok(given_back) => request = given_back,
                        Err(_gone) => return Err(Failure::Dropped.into()),
                    }
                }
            }
        }
    }

    /// Waits for a load. With a stale value at hand, waits at most `soft_timeout` less the time
    /// that the caller has waited already.
    async fn wait<R: Reader<Value = V>>(
        &self,
        key: &Key,
        follower: &Follower<Outcome<V, E>>,
        aging: Option<Aging<V>>,
        waited: Duration,
        reader: &R,
    ) -> Waited<V, E> {
        let to_the_end = async || {
            follower
                .wait()
                .await
                .map_or(Waited::NotForUs, Waited::Served)
        };
        let Some(aging) = aging else {
            return to_the_end().await;
        };
        let soft = match self.context.config.limits.soft_timeout {
            Some(soft) if aging.phase == Phase::Stale => {
                soft.saturating_sub(waited.max(follower.age()))
            }
            _ => return Waited::Served(Ok(aging.serve(key, reader))),
        };
        // The timeout is the policy's own: a stale value is better than a longer wait.
        let failed = match tokio::time::timeout(soft, follower.wait()).await {
            Ok(Some(Err(error))) => Some(error),
            Ok(Some(served)) => return Waited::Served(served),
            Ok(None) => return Waited::NotForUs,
            Err(_elapsed) => None,
        };
        follower.go_on();
        // P28 stale-only-while-current: never one that was written or invalidated meanwhile
        match failed {
            _ if aging.is_current(key, self.context.generations()) => {
                Waited::Served(Ok(aging.serve(key, reader)))
            }
            Some(error) => Waited::Served(Err(error)),
            None => to_the_end().await,
        }
    }
}

/// The value that a look may serve without a load.
pub(crate) fn served_by<V>(lookup: Lookup<V>) -> Option<V> {
    match lookup {
        Lookup::Fresh(value) => Some(value),
        Lookup::Aging(aging) if aging.phase != Phase::Stale => Some(aging.value),
        _ => None,
    }
}
