use std::{fmt, sync::Arc, time::Duration};

use larder_core::{Key, Outbox, OutboxEntry};
use larder_ttl::{Policy, TtlTable};

use crate::{
    Cache, CacheKey, Error, Stats,
    invalidate::{clear::clear_policies, invalidate_keys, invalidate_tag},
    observe::Count,
    outbox::{confirm_written, drain},
    policy::tag_name,
    process::Process,
    value::Value,
};

/// The two levels of one process, and the policies whose entries live in them. Cheap to clone; all
/// clones share the levels.
///
/// Call its methods inside a tokio runtime; which one does not matter. The runtime that built the
/// larder drives its connections. When that ends, the larder drops from L1 what it has read through
/// them, and the next call that L1 cannot serve connects again, in its own runtime. A runtime that
/// lives without being run, such as a single-threaded one outside of `block_on`, handles no message
/// of Redis: drop it, or L1 may serve old values.
///
/// ```
/// # use larder::{Cache, Larder};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
/// let larder = Larder::builder().build().await?; // `.redis("redis://…")` adds the L2
/// let users: Cache<u64, String> = larder.cache("user_profile")?;
/// users.insert(42, "Ada".to_owned()).await?;
/// assert_eq!(users.get(42).await?.unwrap().as_str(), "Ada");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Larder {
    process: Arc<Process>,
    table: Arc<TtlTable>,
}

impl Larder {
    pub(crate) fn new(process: Arc<Process>, table: TtlTable) -> Self {
        Self {
            process,
            table: Arc::new(table),
        }
    }

    /// Returns the cache of a policy, for keys and values of these types. The first call for a
    /// policy fixes its types.
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
    /// [`Error::NoSuchPolicy`]; [`Error::KeyType`] or [`Error::PolicyType`] if the policy is in use
    /// with other types.
    pub fn cache<K: CacheKey + 'static, V: Value>(
        &self,
        policy: &str,
    ) -> Result<Cache<K, V>, Error> {
        let name = policy;
        let Some(policy) = self
            .process
            .policies
            .iter()
            .find(|policy| policy.name() == name)
        else {
            let known = self
                .table
                .policies()
                .map(Policy::name)
                .collect::<Vec<_>>()
                .join(", ");
            return Err(Error::NoSuchPolicy {
                name: name.to_owned(),
                known,
            });
        };
        policy.hold::<K, V>()?;
        Ok(Cache::new(self.process.clone(), policy.clone()))
    }

    /// Removes entries of any policies from every level of every process: a value and everything
    /// derived from it.
    ///
    /// ```
    /// # use larder::Larder;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let larder = Larder::builder().build().await?;
    /// let users = larder.cache::<u64, String>("user_profile")?;
    /// let found = larder.cache::<(u64, String), Vec<u64>>("search_result")?;
    /// found.insert((42, "friends"), vec![7]).await?;
    ///
    /// larder.invalidate([users.key(42), found.key((42, "friends"))]).await?;
    /// assert_eq!(found.get((42, "friends")).await?, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Consistency
    /// The larder invalidates each key atomically. A reader may find one key gone, and the next one
    /// not yet.
    ///
    /// # Errors
    /// [`Error::Key`], before the larder invalidates any key. [`Error::Store`] if Redis refused a
    /// key, after the larder has tried all others. While Redis is out of reach the call succeeds,
    /// see [`Cache::invalidate`].
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

    /// Removes every entry that was loaded or written with this tag, of any policy, from every
    /// level of every process. It takes one step, however many entries there are: each later read
    /// judges its entry by the tag.
    ///
    /// ```
    /// # use larder::{Larder, Loaded};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let larder = Larder::builder().build().await?;
    /// let users = larder.cache::<u64, String>("user_profile")?;
    /// users.insert(42, Loaded::new("Ada".to_owned()).tag("org:7")).await?;
    ///
    /// larder.invalidate_tag("org:7").await?;
    /// assert_eq!(users.get(42).await?, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Consistency
    /// As for [`invalidate`](Self::invalidate). If a load or write with this tag began before, the
    /// larder does not cache its value, and gives it to no later caller.
    ///
    /// # Errors
    /// [`Error::Tag`] if the tag is empty or too long; [`Error::Store`] if Redis refused. While
    /// Redis is out of reach the call succeeds: this process remembers the invalidation, and sends
    /// it before it reads Redis again.
    pub async fn invalidate_tag(&self, tag: &str) -> Result<(), Error> {
        let name = tag_name(None, tag)?;
        let process = self.process.clone();
        // A task of its own, so that the reply is handled also when the caller is gone.
        let invalidating = async move { invalidate_tag(&process, &name).await };
        let invalidated = self.process.lifecycle.spawn(invalidating)?.await;
        invalidated
            .map_err(|_| Error::Aborted {
                key: tag.to_owned(),
            })?
            .map_err(Error::remote)
    }

    /// Removes every entry of every policy of the table from every level of every process, see
    /// [`Cache::clear`].
    ///
    /// ```
    /// # use larder::Larder;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let larder = Larder::builder().build().await?;
    /// let users = larder.cache::<u64, String>("user_profile")?;
    /// users.insert(42, "Ada".to_owned()).await?;
    /// larder.clear().await?;
    /// assert_eq!(users.get(42).await?, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Store`] if Redis is out of reach or refused; L1 is empty all the same.
    pub async fn clear(&self) -> Result<(), Error> {
        clear_policies(&self.process, self.process.policies.clone()).await
    }

    /// Invalidates the keys that writers have recorded in an outbox, and returns the number of
    /// entries done. The larder removes each key from every level of every process, and confirms
    /// its entry once Redis has done so.
    ///
    /// While Redis is out of reach, entries stay unconfirmed. The larder confirms entries by their
    /// ids, so an entry that a writer records meanwhile stays too. It invalidates a key that
    /// belongs to none of its policies in L2.
    ///
    /// The example `outbox.rs` of this crate shows it on SQLite; here a map stands for the table.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/table.rs"));
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let (larder, outbox) = (Larder::builder().build().await?, Table::default());
    /// let users = larder.cache::<u64, String>("user_profile")?;
    /// users.insert(42, "Ada".to_owned()).await?;
    /// // A process that died has renamed user 42, and has recorded that in the same transaction.
    /// outbox.record(1, users.key(42).to_string());
    ///
    /// assert_eq!(larder.drain_outbox(&outbox).await?, 1);
    /// assert_eq!(users.get(42).await?, None);
    /// assert!(outbox.is_empty());
    /// # Ok(()) }
    /// ```
    ///
    /// # Consistency
    /// As for [`invalidate`](Self::invalidate). Until the drain reaches a key, readers may get the
    /// value that the write has replaced. Several processes may drain one outbox.
    ///
    /// # Cancellation
    /// An unconfirmed entry stays, and the next drain does it again.
    ///
    /// # Errors
    /// [`Error::Outbox`] if the outbox fails; [`Error::Store`] if Redis refused a key, after the
    /// larder has tried all others.
    pub async fn drain_outbox(&self, outbox: &dyn Outbox) -> Result<u64, Error> {
        // Boxed, because it is large, and rare.
        Box::pin(drain(&Arc::downgrade(&self.process), outbox)).await
    }

    /// Invalidates the keys of entries that this process has just recorded, and returns the number
    /// of entries confirmed. Call it after the commit of the database's transaction. It leaves
    /// entries that it cannot confirm to [`drain_outbox`](Self::drain_outbox).
    ///
    /// The example `outbox.rs` of this crate shows it on SQLite; here a map stands for the table.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/table.rs"));
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let (larder, outbox) = (Larder::builder().build().await?, Table::default());
    /// let users = larder.cache::<u64, String>("user_profile")?;
    /// users.insert(42, "Ada".to_owned()).await?;
    /// // The transaction that renames user 42 records its key; it has just committed.
    /// let entry = outbox.record(1, users.key(42).to_string());
    ///
    /// assert_eq!(larder.confirm_written(&outbox, &[entry]).await?, 1);
    /// assert_eq!(users.get(42).await?, None);
    /// assert!(outbox.is_empty());
    /// # Ok(()) }
    /// ```
    ///
    /// # Consistency
    /// As for [`invalidate`](Self::invalidate).
    ///
    /// # Cancellation
    /// The larder invalidates the keys all the same, and leaves unconfirmed entries to a drain.
    ///
    /// # Errors
    /// As for [`drain_outbox`](Self::drain_outbox). While Redis is out of reach the call succeeds
    /// and confirms no entry.
    pub async fn confirm_written(
        &self,
        outbox: &dyn Outbox,
        entries: &[OutboxEntry],
    ) -> Result<u64, Error> {
        Box::pin(confirm_written(&self.process, outbox, entries)).await
    }

    /// Returns the TTL table.
    ///
    /// ```
    /// # use larder::Larder;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// let larder = Larder::builder().build().await?;
    /// assert!(larder.ttl_table().policy("user_profile").is_some());
    /// # Ok(()) }
    /// ```
    pub fn ttl_table(&self) -> &TtlTable {
        &self.table
    }

    /// Returns the counts of all policies, and of the connections to L2, since the larder was
    /// built.
    ///
    /// ```
    /// # use larder::Larder;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let larder = Larder::builder().build().await?;
    /// larder.cache::<u64, String>("user_profile")?.insert(42, "Ada".to_owned()).await?;
    /// assert_eq!(larder.stats().writes, 1);
    /// # Ok(()) }
    /// ```
    pub fn stats(&self) -> Stats {
        let process = &self.process;
        let policies = process
            .policies
            .iter()
            .map(|policy| policy.reporter.counters().read());
        let sum = policies.fold(process.drains.read(), |sum, policy| sum + policy);
        match &process.leases {
            Some(leases) => sum + Stats::from(leases.remote().stats()),
            None => sum,
        }
    }

    /// Closes the larder, before the process ends. It waits for running writes and invalidations,
    /// sends unsent invalidations, and ends the larder's tasks and connections. It takes at most
    /// `limit`.
    ///
    /// Every later call of the larder and its caches fails with [`Error::Closed`], also one that L1
    /// could serve, and calls no loader or writer. A running load goes on for the callers that wait
    /// for it. Closing a closed larder is no error.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use larder::{Error, Larder};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Error> {
    /// let larder = Larder::builder().build().await?;
    /// let users = larder.cache::<u64, String>("user_profile")?;
    /// users.insert(42, "Ada".to_owned()).await?;
    ///
    /// larder.close(Duration::from_secs(5)).await?;
    /// assert!(matches!(users.get(42).await, Err(Error::Closed)));
    /// # Ok(()) }
    /// ```
    ///
    /// # Cancellation
    /// The larder is closed. Its tasks go on until another call ends them, or it is dropped.
    ///
    /// # Errors
    /// [`Error::Unsent`] if `limit` ended first, with the numbers of writes and invalidations that
    /// were left. The larder is closed all the same, but its connections to L2 go on, and send the
    /// rest as soon as they can. Call `close` again to wait for that, or drop the larder and its
    /// caches to end the connections. [`Error::NoRuntime`].
    pub async fn close(&self, limit: Duration) -> Result<(), Error> {
        Box::pin(self.process.close(limit)).await
    }
}

impl fmt::Debug for Larder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Larder")
            .field("name", &self.process.name)
            .field("l1", &self.process.l1)
            .field(
                "l2",
                &self
                    .process
                    .leases
                    .as_ref()
                    .map(larder_lock::Leases::remote),
            )
            .finish_non_exhaustive()
    }
}
