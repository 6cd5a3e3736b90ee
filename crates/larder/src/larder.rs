use std::{
    any::{Any, type_name},
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::future::join_all;
use larder_core::{Key, Outbox, OutboxEntry};
use larder_ttl::{Policy, TtlTable};

use crate::{
    Cache, Error, LarderBuilder, Stats,
    clear::{RowClear, clear_rows, invalidate_tag},
    coherence::invalidate_locally,
    encoding::Value,
    outbox::{replay, settle_recorded},
    row::{RowState, Shared},
    stats::{Count, Counters},
    tags::tag_name,
};

/// The two levels of one process, and the policies that live in them. Cheap to clone; all clones are the same larder.
///
/// Its calls must be made inside the tokio runtime in which it was built.
#[derive(Clone)]
pub struct Larder {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) table: TtlTable,
    /// In the order of the table, which is the order of the namespace cells.
    pub(crate) heads: Vec<RowHead>,
    pub(crate) rows: Mutex<HashMap<String, TypedRow>>,
}

/// What is known of a policy before its type is.
#[derive(Clone)]
pub(crate) struct RowHead {
    /// What its keys begin with in L2, without the colon.
    pub(crate) prefix: String,
    pub(crate) in_l2: bool,
    pub(crate) framed: bool,
    pub(crate) counters: Arc<Counters>,
}

/// A policy that has been asked for, with the type that it holds.
pub(crate) struct TypedRow {
    type_name: &'static str,
    state: Arc<dyn Any + Send + Sync>,
}

/// How many invalidations of one call are under way at once.
const AT_ONCE: usize = 1024;

impl Larder {
    /// Starts to describe a larder. Every option has a default that suits production, but for the address of Redis.
    pub fn builder() -> LarderBuilder {
        LarderBuilder::default()
    }

    pub(crate) fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// Returns the cache of a policy, for values of this type. The first call decides on the type.
    ///
    /// # Errors
    /// [`Error::NoSuchPolicy`]; [`Error::PolicyType`] if the policy is in use with another type.
    pub fn cache<T: Value>(&self, row: &str) -> Result<Cache<T>, Error> {
        let inner = &*self.inner;
        let rows = inner.table.policies().zip(&inner.heads).enumerate();
        let Some((index, (policy, head))) = rows.into_iter().find(|(_, (policy, _))| policy.name() == row)
        else {
            let known = inner.table.policies().map(Policy::name).collect::<Vec<_>>().join(", ");
            return Err(Error::NoSuchPolicy { name: row.to_owned(), known });
        };
        let mut rows = inner.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let typed = rows.entry(row.to_owned()).or_insert_with(|| {
            // Rows past the last cell share it, which costs a needless miss when one of them is cleared.
            let namespace = u16::try_from(index).unwrap_or(u16::MAX);
            let state = RowState::<T>::new(inner.shared.clone(), policy, namespace, head.counters.clone());
            TypedRow { type_name: type_name::<T>(), state: Arc::new(state) }
        });
        let held = typed.type_name;
        match typed.state.clone().downcast() {
            Ok(state) => Ok(Cache::new(state)),
            Err(_) => Err(Error::PolicyType { name: row.to_owned(), held, asked: type_name::<T>() }),
        }
    }

    /// Removes entries of any policies from every level of every process: a value and whatever is derived from it.
    ///
    /// # Consistency
    /// Each key is invalidated atomically; a reader may see one gone and the next one not yet.
    ///
    /// # Errors
    /// [`Error::Key`] before anything is done; [`Error::Store`] if Redis refused one, after all others are done.
    /// With Redis out of reach it succeeds, see [`Cache::invalidate`].
    pub async fn invalidate(&self, keys: impl IntoIterator<Item = Key>) -> Result<(), Error> {
        let mut keys: Vec<Key> = keys.into_iter().collect();
        keys.iter().try_for_each(Key::check)?;
        let shared = &self.inner.shared;
        keys.retain(|key| {
            let head = RowHead::of(&self.inner.heads, key);
            if let Some(head) = head {
                head.counters.add(Count::Invalidation);
            }
            let remote = head.is_none_or(|head| head.in_l2);
            if !remote {
                invalidate_locally(&shared.generations, &shared.l1, key.as_ref());
            }
            remote
        });
        invalidate_keys(shared, keys).await
    }

    /// Removes every entry that was loaded or written with this tag, of any policy, from every level of every process. It
    /// takes one step, however many there are, and none of them is looked for.
    ///
    /// # Consistency
    /// As for [`invalidate`](Self::invalidate). A value whose load or write began before is not kept, and not given
    /// to those who ask later.
    ///
    /// # Errors
    /// [`Error::Tag`] if it is empty or too long; [`Error::Store`] if Redis refused. With Redis out of reach it
    /// succeeds: it is remembered, and done before this process reads Redis again.
    pub async fn invalidate_tag(&self, tag: &str) -> Result<(), Error> {
        let name = tag_name(None, tag)?;
        in_runtime()?;
        let shared = self.inner.shared.clone();
        // A task of its own, so that the reply is handled also when the caller is gone.
        let invalidated = tokio::spawn(async move { invalidate_tag(&shared, &name).await });
        invalidated.await.map_err(|_| Error::Aborted { key: tag.to_owned() })?.map_err(Error::remote)
    }

    /// Removes every entry of every policy of the table from every level of every process, see
    /// [`Cache::clear`](crate::Cache::clear).
    ///
    /// # Errors
    /// [`Error::Store`] if Redis is out of reach or refused; L1 is empty all the same.
    pub async fn clear(&self) -> Result<(), Error> {
        let rows = self.inner.heads.iter().enumerate().map(|(index, head)| RowClear {
            namespace: u16::try_from(index).unwrap_or(u16::MAX),
            prefix: head.prefix.clone(),
            in_l2: head.in_l2,
            framed: head.framed,
        });
        clear_rows(&self.inner.shared, rows.collect()).await
    }

    /// Does what writes have recorded in an outbox but did not live to do, and returns how much it was: each key is
    /// invalidated in every level of every process, and its intent is confirmed once Redis has done it.
    ///
    /// An intent whose invalidation was merely put off, because Redis is out of reach, stays. So does one that is
    /// recorded while its key is being invalidated: intents are confirmed by their ids. The policy of a key, which says
    /// in what levels it is, is found by the key's beginning; a key of no policy is invalidated in L2 all the same.
    ///
    /// # Consistency
    /// Each key is invalidated as by [`invalidate`](Self::invalidate). Until then readers may be served what the write
    /// has replaced. That several processes replay one outbox is harmless.
    ///
    /// # Cancellation
    /// What was not confirmed stays, and is done again by the next replay.
    ///
    /// # Errors
    /// [`Error::Outbox`] if it fails; [`Error::Store`] if Redis refused a key, after all others are done.
    pub async fn drain_outbox(&self, outbox: &dyn Outbox) -> Result<u64, Error> {
        let inner = &*self.inner;
        // Boxed, because it is large, and rare.
        Box::pin(replay(&Arc::downgrade(&inner.shared), &inner.heads, outbox)).await
    }

    /// Does at once what a write has just recorded, and returns how many of its intents were confirmed: what the
    /// process that wrote the database calls after its commit. The others are left to [`drain_outbox`](Self::drain_outbox).
    ///
    /// # Consistency
    /// As for [`invalidate`](Self::invalidate).
    ///
    /// # Cancellation
    /// The keys are invalidated all the same; intents that were not confirmed are left to a replay.
    ///
    /// # Errors
    /// As for [`drain_outbox`](Self::drain_outbox). With Redis out of reach it succeeds and confirms nothing.
    pub async fn confirm_written(&self, outbox: &dyn Outbox, intents: &[OutboxEntry]) -> Result<u64, Error> {
        let inner = &*self.inner;
        Box::pin(settle_recorded(&inner.shared, &inner.heads, outbox, intents)).await
    }

    /// The TTL table.
    pub fn ttl_table(&self) -> &TtlTable {
        &self.inner.table
    }

    /// What happened in all policies so far, and to the connections to L2.
    pub fn stats(&self) -> Stats {
        let rows = self.inner.heads.iter().map(|head| head.counters.read());
        let sum = rows.fold(self.inner.shared.replays.numbers.read(), |sum, row| sum + row);
        match &self.inner.shared.leases {
            Some(leases) => sum + Stats::from(leases.remote().stats()),
            None => sum,
        }
    }
}

/// What spawns tasks needs a runtime; without one, tokio would panic.
pub(crate) fn in_runtime() -> Result<(), Error> {
    tokio::runtime::Handle::try_current().map(drop).map_err(|_| Error::NoRuntime)
}

/// Invalidates in a task of its own, so that the replies are handled also when the caller is gone.
pub(crate) async fn invalidate_keys(shared: &Arc<Shared>, keys: Vec<Key>) -> Result<(), Error> {
    in_runtime()?;
    let shared = shared.clone();
    let name = keys.first().map(Key::to_string).unwrap_or_default();
    let invalidated = tokio::spawn(async move {
        let mut done = Ok(());
        for chunk in keys.chunks(AT_ONCE) {
            for one in join_all(chunk.iter().map(|key| invalidate_key(&shared, key))).await {
                done = done.and(one);
            }
        }
        done
    });
    invalidated.await.map_err(|_| Error::Aborted { key: name })?
}

async fn invalidate_key(shared: &Shared, key: &Key) -> Result<(), Error> {
    // At once here, however long L2 takes to answer; and again then, because a read in between could bring the value back.
    invalidate_locally(&shared.generations, &shared.l1, key.as_ref());
    let done = match &shared.leases {
        Some(leases) => leases.invalidate(key).await.map(|_| ()),
        None => Ok(()),
    };
    invalidate_locally(&shared.generations, &shared.l1, key.as_ref()); // P9 reply-invalidates-again: after the reply, whatever it was
    done.map_err(|error| Error::store(key, error))
}

impl fmt::Debug for Larder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Larder")
            .field("l1", &self.inner.shared.l1)
            .field("l2", &self.inner.shared.leases.as_ref().map(larder_lock::Leases::remote))
            .finish_non_exhaustive()
    }
}
