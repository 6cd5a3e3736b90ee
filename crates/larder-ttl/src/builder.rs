use std::time::Duration;

use crate::{Levels, OnOutage, Policy, TableError, draft::PolicyDraft, value::Value};

/// A builder of a policy in code; [`build`](Self::build) checks it.
///
/// Values that are not set have the defaults that [`Policy`] documents.
///
/// ```
/// use std::time::Duration;
/// use larder_ttl::{Policy, TtlTable};
///
/// let posts = Policy::builder("posts", Duration::from_secs(300)).jitter(0.2).build()?;
/// let table = TtlTable::default().with(posts)?;
/// assert_eq!(table.policy("posts").unwrap().ttl(), Duration::from_secs(300));
/// # Ok::<(), larder_ttl::TableError>(())
/// ```
#[derive(Clone, Debug)]
pub struct PolicyBuilder {
    name: String,
    keys: Vec<(&'static str, Value)>,
}

// Here, because a policy does not know who builds it.
impl Policy {
    /// Starts a policy in code, with the two values that every policy needs.
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_ttl::Policy;
    ///
    /// let posts = Policy::builder("posts", Duration::from_secs(300)).build()?;
    /// assert_eq!(posts.prefix(), "posts");
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    pub fn builder(name: impl Into<String>, ttl: Duration) -> PolicyBuilder {
        PolicyBuilder {
            name: name.into(),
            keys: vec![("ttl", Value::Duration(ttl))],
        }
    }
}

impl PolicyBuilder {
    fn with(mut self, key: &'static str, value: Value) -> Self {
        self.keys.push((key, value));
        self
    }

    /// Sets the text in front of the policy's keys, see [`Policy::prefix`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_ttl::Policy;
    ///
    /// let posts = Policy::builder("posts", Duration::from_secs(3600)).prefix("p").build()?;
    /// assert_eq!(posts.prefix(), "p");
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    #[must_use]
    pub fn prefix(self, prefix: impl Into<String>) -> Self {
        self.with("prefix", Value::Text(prefix.into()))
    }

    /// Says why the lifetime is what it is.
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_ttl::Policy;
    ///
    /// let posts = Policy::builder("posts", Duration::from_secs(3600))
    ///     .reason("edits are rare")
    ///     .build()?;
    /// assert_eq!(posts.reason(), "edits are rare");
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    #[must_use]
    pub fn reason(self, reason: impl Into<String>) -> Self {
        self.with("reason", Value::Text(reason.into()))
    }

    /// Sets the lifetime of an entry in L1, see [`Policy::l1_ttl`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_ttl::Policy;
    ///
    /// let posts = Policy::builder("posts", Duration::from_secs(3600))
    ///     .l1_ttl(Duration::from_secs(5))
    ///     .build()?;
    /// assert_eq!(posts.l1_ttl(), Duration::from_secs(5));
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    #[must_use]
    pub fn l1_ttl(self, ttl: Duration) -> Self {
        self.with("l1_ttl", Value::Duration(ttl))
    }

    /// Sets the levels in which entries live, see [`Policy::levels`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_ttl::{Levels, Policy};
    ///
    /// let posts = Policy::builder("posts", Duration::from_secs(3600))
    ///     .levels(Levels::L2)
    ///     .build()?;
    /// assert_eq!(posts.levels(), Levels::L2);
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    #[must_use]
    pub fn levels(self, levels: Levels) -> Self {
        self.with("levels", Value::Text(levels.name().to_owned()))
    }

    /// Sets the largest share by which a lifetime is shortened, such as 0.1; see
    /// [`Policy::jitter`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_ttl::Policy;
    ///
    /// let posts = Policy::builder("posts", Duration::from_secs(3600)).jitter(0.2).build()?;
    /// assert_eq!(posts.jitter(), 0.2);
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    #[must_use]
    pub fn jitter(self, share: f64) -> Self {
        self.with("jitter", Value::Share(share))
    }

    /// Sets how long a cache remembers that a value is absent, see [`Policy::negative_ttl`]. Zero:
    /// not at all.
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_ttl::Policy;
    ///
    /// let posts = Policy::builder("posts", Duration::from_secs(3600))
    ///     .negative_ttl(Duration::from_secs(30))
    ///     .build()?;
    /// assert_eq!(posts.negative_ttl(), Some(Duration::from_secs(30)));
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    #[must_use]
    pub fn negative_ttl(self, ttl: Duration) -> Self {
        self.with("negative_ttl", Value::Duration(ttl))
    }

    /// Sets how long the stores keep a value past its `ttl`, see [`Policy::stale_for`]. Zero: not
    /// at all.
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_ttl::Policy;
    ///
    /// let posts = Policy::builder("posts", Duration::from_secs(3600))
    ///     .stale_for(Duration::from_secs(600))
    ///     .build()?;
    /// assert_eq!(posts.stale_for(), Duration::from_secs(600));
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    #[must_use]
    pub fn stale_for(self, time: Duration) -> Self {
        self.with("stale_for", Value::Duration(time))
    }

    /// Sets the share of the `ttl`, such as 0.8, after which a read starts a reload; see
    /// [`Policy::refresh_ahead`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_ttl::Policy;
    ///
    /// let posts = Policy::builder("posts", Duration::from_secs(3600))
    ///     .refresh_ahead(0.8)
    ///     .build()?;
    /// assert_eq!(posts.refresh_ahead(), Some(0.8));
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    #[must_use]
    pub fn refresh_ahead(self, share: f64) -> Self {
        self.with("refresh_ahead", Value::Share(share))
    }

    /// Sets how long a caller waits before it gets a stale value, see [`Policy::soft_timeout`].
    /// Zero: not at all.
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_ttl::Policy;
    ///
    /// let posts = Policy::builder("posts", Duration::from_secs(3600))
    ///     .stale_for(Duration::from_secs(600))
    ///     .soft_timeout(Duration::from_millis(200))
    ///     .build()?;
    /// assert_eq!(posts.soft_timeout(), Some(Duration::from_millis(200)));
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    #[must_use]
    pub fn soft_timeout(self, timeout: Duration) -> Self {
        self.with("soft_timeout", Value::Duration(timeout))
    }

    /// Sets the time after which a load is cancelled, see [`Policy::load_timeout`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_ttl::Policy;
    ///
    /// let posts = Policy::builder("posts", Duration::from_secs(3600))
    ///     .load_timeout(Duration::from_secs(3))
    ///     .build()?;
    /// assert_eq!(posts.load_timeout(), Duration::from_secs(3));
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    #[must_use]
    pub fn load_timeout(self, timeout: Duration) -> Self {
        self.with("load_timeout", Value::Duration(timeout))
    }

    /// Sets the life of a lease, see [`Policy::lease`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_ttl::Policy;
    ///
    /// let posts = Policy::builder("posts", Duration::from_secs(3600))
    ///     .lease(Duration::from_secs(3))
    ///     .build()?;
    /// assert_eq!(posts.lease(), Duration::from_secs(3));
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        self.with("lease", Value::Duration(lease))
    }

    /// Sets the longest wait for another load or write, see [`Policy::max_wait`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_ttl::Policy;
    ///
    /// let posts = Policy::builder("posts", Duration::from_secs(3600))
    ///     .max_wait(Duration::from_secs(15))
    ///     .build()?;
    /// assert_eq!(posts.max_wait(), Duration::from_secs(15));
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    #[must_use]
    pub fn max_wait(self, wait: Duration) -> Self {
        self.with("max_wait", Value::Duration(wait))
    }

    /// Sets the lifetime of an entry in L1 while no invalidation can arrive, see
    /// [`Policy::degraded_l1_ttl`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_ttl::Policy;
    ///
    /// let posts = Policy::builder("posts", Duration::from_secs(3600))
    ///     .degraded_l1_ttl(Duration::from_secs(1))
    ///     .build()?;
    /// assert_eq!(posts.degraded_l1_ttl(), Duration::from_secs(1));
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    #[must_use]
    pub fn degraded_l1_ttl(self, ttl: Duration) -> Self {
        self.with("degraded_l1_ttl", Value::Duration(ttl))
    }

    /// Sets how many loads may run at once in this process, see [`Policy::max_loads`]. Zero: any
    /// number.
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_ttl::Policy;
    ///
    /// let posts = Policy::builder("posts", Duration::from_secs(3600)).max_loads(8).build()?;
    /// assert_eq!(posts.max_loads().map(u32::from), Some(8));
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    #[must_use]
    pub fn max_loads(self, loads: u32) -> Self {
        self.with("max_loads", Value::Integer(loads.into()))
    }

    /// Sets the behaviour while the shared store is out of reach, see [`Policy::on_outage`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_ttl::{OnOutage, Policy};
    ///
    /// let posts = Policy::builder("posts", Duration::from_secs(3600))
    ///     .on_outage(OnOutage::Fail)
    ///     .build()?;
    /// assert_eq!(posts.on_outage(), OnOutage::Fail);
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    #[must_use]
    pub fn on_outage(self, behaviour: OnOutage) -> Self {
        self.with("on_outage", Value::Text(behaviour.name().to_owned()))
    }

    /// Makes `clear` a single step, at the price of plain JSON in the shared store; see
    /// [`Policy::instant_clear`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_ttl::Policy;
    ///
    /// let posts = Policy::builder("posts", Duration::from_secs(3600))
    ///     .instant_clear(true)
    ///     .build()?;
    /// assert!(posts.instant_clear());
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    #[must_use]
    pub fn instant_clear(self, yes: bool) -> Self {
        self.with("instant_clear", Value::Boolean(yes))
    }

    /// Sets the version of the type's shape, see [`Policy::schema`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_ttl::Policy;
    ///
    /// let posts = Policy::builder("posts", Duration::from_secs(3600)).schema(2).build()?;
    /// assert_eq!(posts.key_prefix(), "posts@2");
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    #[must_use]
    pub fn schema(self, schema: u32) -> Self {
        self.with("schema", Value::Integer(schema.into()))
    }

    /// Checks the policy.
    ///
    /// # Errors
    /// [`TableError`] with the key whose value is out of range or contradicts another one.
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_ttl::Policy;
    ///
    /// let error = Policy::builder("posts", Duration::ZERO).build().unwrap_err();
    /// let said = "the TTL table, policy \"posts\", key \"ttl\": it must be at least 1ms";
    /// assert_eq!(error.to_string(), said);
    /// ```
    pub fn build(self) -> Result<Policy, TableError> {
        let mut draft = PolicyDraft::new(&self.name, None);
        for (key, value) in &self.keys {
            draft.set(key, value, None)?;
        }
        draft.finish()
    }
}
