use std::{fmt, sync::Arc};

use larder_core::{Key, Outbox, OutboxEntry};
use larder_ttl::{Policy, TtlTable};

use crate::{
    Cache, CacheKey, Error, LarderBuilder, Stats,
    invalidate::{clear::clear_policies, invalidate_keys, invalidate_tag},
    outbox::{confirm_written, drain},
    policy::tag_name,
    process::Process,
    runtime::in_runtime,
    stats::Count,
    value::Value,
};

/// The two levels of one process, and the policies that live in them. Cheap to clone; all clones are the same larder.
///
/// Its calls must be made inside the tokio runtime in which it was built.
#[derive(Clone)]
pub struct Larder {
    process: Arc<Process>,
    table: Arc<TtlTable>,
}

impl Larder {
    /// Starts to describe a larder. Every option has a default that suits production, but for the address of Redis.
    pub fn builder() -> LarderBuilder {
        LarderBuilder::default()
    }

    pub(crate) fn new(process: Arc<Process>, table: TtlTable) -> Self {
        Self { process, table: Arc::new(table) }
    }

    /// Returns the cache of a policy, for keys and values of these types. The first call decides on the types.
    ///
    /// ```
    /// # use larder::{Cache, Larder};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// let larder = Larder::builder().build().await?;
    /// let users: Cache<u64, String> = larder.cache("user_profile")?;
    /// assert!(larder.cache::<u64, Vec<u8>>("user_profile").is_err());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::NoSuchPolicy`]; [`Error::KeyType`] or [`Error::PolicyType`] if the policy is in use with other types.
    pub fn cache<K: CacheKey + 'static, V: Value>(&self, name: &str) -> Result<Cache<K, V>, Error> {
        let policies = &self.process.policies;
        let Some(policy) = policies.iter().find(|policy| policy.name() == name) else {
            let known = self.table.policies().map(Policy::name).collect::<Vec<_>>().join(", ");
            return Err(Error::NoSuchPolicy { name: name.to_owned(), known });
        };
        policy.hold::<K, V>()?;
        Ok(Cache::new(self.process.clone(), policy.clone()))
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
        let process = &self.process;
        keys.retain(|key| {
            let policy = process.policy_of(key);
            if let Some(policy) = policy {
                policy.count(Count::Invalidation);
            }
            let remote = policy.is_none_or(|policy| policy.settings().levels().has_l2());
            if !remote {
                process.invalidate_locally(key);
            }
            remote
        });
        invalidate_keys(process, keys).await
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
        let process = self.process.clone();
        // A task of its own, so that the reply is handled also when the caller is gone.
        let invalidated = tokio::spawn(async move { invalidate_tag(&process, &name).await });
        invalidated.await.map_err(|_| Error::Aborted { key: tag.to_owned() })?.map_err(Error::remote)
    }

    /// Removes every entry of every policy of the table from every level of every process, see
    /// [`Cache::clear`](crate::Cache::clear).
    ///
    /// # Errors
    /// [`Error::Store`] if Redis is out of reach or refused; L1 is empty all the same.
    pub async fn clear(&self) -> Result<(), Error> {
        clear_policies(&self.process, self.process.policies.clone()).await
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
        // Boxed, because it is large, and rare.
        Box::pin(drain(&Arc::downgrade(&self.process), outbox)).await
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
        Box::pin(confirm_written(&self.process, outbox, intents)).await
    }

    /// The TTL table.
    pub fn ttl_table(&self) -> &TtlTable {
        &self.table
    }

    /// What happened in all policies so far, and to the connections to L2.
    pub fn stats(&self) -> Stats {
        let process = &self.process;
        let policies = process.policies.iter().map(|policy| policy.reporter.counters().read());
        let sum = policies.fold(process.drains.read(), |sum, policy| sum + policy);
        match &process.leases {
            Some(leases) => sum + Stats::from(leases.remote().stats()),
            None => sum,
        }
    }
}

impl fmt::Debug for Larder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Larder")
            .field("l1", &self.process.l1)
            .field("l2", &self.process.leases.as_ref().map(larder_lock::Leases::remote))
            .finish_non_exhaustive()
    }
}
