use std::{io, str, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use larder_core::{
    Clock, Digest, Generations, Key, KeyRef, MemoryServer, Moment, PolicyIndex, Push, PushListener,
    RemoteStore, Stamp, Stored, Want,
};
use larder_lock::{
    Accepting, Destination, Event, Leases, LoadLimits, Loader, Lookup, Reader, Refusal, Request,
    StampedeConfig, StampedeLock, TagEpochs, Waiters, WrittenBack,
};

/// Reads numbers, which the remote store holds as text. There is no local level.
#[derive(Clone, Debug)]
struct Numbers;

impl Reader for Numbers {
    type Value = u64;

    fn look(&self, _key: &Key) -> Lookup<u64> {
        Lookup::Absent(None)
    }

    fn accept<'a>(
        &'a self,
        _key: &'a Key,
        stored: Stored,
        _ends: Moment,
        _stamp: Stamp,
    ) -> Accepting<'a, u64> {
        let text = str::from_utf8(&stored.value).ok();
        Accepting::Done(match text.and_then(|text| text.parse().ok()) {
            Some(number) => Lookup::Fresh(number),
            // A load may replace exactly these bytes.
            None => Lookup::Absent(Some(Digest::of(&stored.value))),
        })
    }

    fn observe(&self, _key: &Key, _event: Event<'_>) {}
}

/// Loads this number, which then lives for a minute.
#[derive(Debug)]
struct Load(u64);

impl Loader for Load {
    type Value = u64;
    type Error = Arc<io::Error>;

    fn load(
        &mut self,
        _key: &Key,
        _previous: Option<u64>,
    ) -> BoxFuture<'static, Result<u64, Arc<io::Error>>> {
        let number = self.0; // a query of the database
        Box::pin(async move { Ok(number) })
    }

    async fn write_back(
        &mut self,
        _key: &Key,
        number: &u64,
        _epochs: TagEpochs,
        to: Destination<'_>,
    ) -> WrittenBack {
        let Destination::Remote(commit) = to else {
            return WrittenBack::DONE; // the remote store is out of reach
        };
        let text = number.to_string();
        match commit.store(text.as_bytes(), Duration::from_secs(60)).await {
            Ok(committed) if committed.is_done() => WrittenBack::DONE,
            Ok(_refused) => WrittenBack::Refused(Refusal::Lease),
            Err(error) => WrittenBack::Failed(error),
        }
    }
}

/// Carries the store's pushes to those who must hear of them.
struct Pushes {
    generations: Arc<Generations>,
    waiters: Waiters,
}

impl PushListener for Pushes {
    fn on_push(&self, push: Push<'_>) {
        match push {
            Push::Value(key) => self.generations.bump_key(KeyRef::new(key).hash()),
            Push::Lane(lane) => self.generations.bump_lane(lane),
            Push::Prefix(_) => self.generations.bump_policy(PolicyIndex(0)),
            Push::Lease(_) | Push::Tag(..) | Push::TagEpoch(_) => {}
        }
        self.waiters.on_push(push);
    }
}

/// Makes the lock of a process. The store knows its listener weakly: keep both.
fn process<V, E>(remote: Arc<dyn RemoteStore>) -> (StampedeLock<V, E>, Arc<Pushes>)
where
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    let generations = Arc::new(Generations::new(1024, remote.lanes(), 1));
    let leases = Leases::new(remote);
    let pushes = Arc::new(Pushes {
        generations: generations.clone(),
        waiters: leases.waiters().clone(),
    });
    let weak = Arc::downgrade(&pushes);
    leases.remote().subscribe(weak);
    let lock = StampedeLock::new(StampedeConfig {
        leases: Some(leases),
        generations,
        policy: PolicyIndex(0),
        tags: None,
        clock: Clock::system(),
        limits: LoadLimits::default(),
        keeps_locally: false,
        nesting: Arc::default(),
        want: Want::Value,
    });
    (lock, pushes)
}

/// Makes a read of this key, with the load that it brings along.
fn request<R, L>(key: &Key, reader: R, loader: L) -> Request<R, L> {
    Request {
        key: key.clone(),
        reader,
        loader,
        in_batch: false,
    }
}
