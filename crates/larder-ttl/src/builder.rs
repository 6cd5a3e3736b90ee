use std::time::Duration;

use crate::{Levels, OnOutage, Policy, TableError, draft::Draft, scalar::Scalar};

/// A policy from code; [`build`](Self::build) checks it. What is not set has the default of design.
#[derive(Clone, Debug)]
pub struct RowBuilder {
    name: String,
    keys: Vec<(&'static str, Scalar)>,
}

/// Writes a duration so that it is read back exactly.
fn duration(duration: Duration) -> Scalar {
    Scalar::Text(humantime::format_duration(duration).to_string())
}

fn percentage(share: f64) -> Scalar {
    Scalar::Text(format!("{}%", share * 100.0))
}

impl RowBuilder {
    pub(crate) fn new(name: String, ttl: Duration) -> Self {
        Self { name, keys: vec![("ttl", duration(ttl))] }
    }

    fn with(mut self, key: &'static str, value: Scalar) -> Self {
        self.keys.push((key, value));
        self
    }

    /// Begins the policy's keys with this; see [`Policy::prefix`].
    #[must_use]
    pub fn prefix(self, prefix: impl Into<String>) -> Self {
        self.with("prefix", Scalar::Text(prefix.into()))
    }

    /// Says why the lifetime is what it is.
    #[must_use]
    pub fn reason(self, reason: impl Into<String>) -> Self {
        self.with("reason", Scalar::Text(reason.into()))
    }

    /// See [`Policy::l1_ttl`].
    #[must_use]
    pub fn l1_ttl(self, ttl: Duration) -> Self {
        self.with("l1_ttl", duration(ttl))
    }

    /// See [`Policy::levels`].
    #[must_use]
    pub fn levels(self, levels: Levels) -> Self {
        self.with("levels", Scalar::Text(levels.name().to_owned()))
    }

    /// See [`Policy::jitter`]: a share of one, such as 0.1.
    #[must_use]
    pub fn jitter(self, share: f64) -> Self {
        self.with("jitter", percentage(share))
    }

    /// See [`Policy::negative_ttl`]; zero: absence is not remembered.
    #[must_use]
    pub fn negative_ttl(self, ttl: Duration) -> Self {
        self.with("negative_ttl", duration(ttl))
    }

    /// See [`Policy::stale_for`]; zero: not at all.
    #[must_use]
    pub fn stale_for(self, time: Duration) -> Self {
        self.with("stale_for", duration(time))
    }

    /// See [`Policy::refresh_ahead`]: a share of one, such as 0.8.
    #[must_use]
    pub fn refresh_ahead(self, share: f64) -> Self {
        self.with("refresh_ahead", percentage(share))
    }

    /// See [`Policy::soft_timeout`]; zero: a stale value is served at once.
    #[must_use]
    pub fn soft_timeout(self, timeout: Duration) -> Self {
        self.with("soft_timeout", duration(timeout))
    }

    /// See [`Policy::load_timeout`].
    #[must_use]
    pub fn load_timeout(self, timeout: Duration) -> Self {
        self.with("load_timeout", duration(timeout))
    }

    /// See [`Policy::lease`].
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        self.with("lease", duration(lease))
    }

    /// See [`Policy::max_wait`].
    #[must_use]
    pub fn max_wait(self, wait: Duration) -> Self {
        self.with("max_wait", duration(wait))
    }

    /// See [`Policy::degraded_l1_ttl`].
    #[must_use]
    pub fn degraded_l1_ttl(self, ttl: Duration) -> Self {
        self.with("degraded_l1_ttl", duration(ttl))
    }

    /// See [`Policy::max_loads`]; zero: no limit.
    #[must_use]
    pub fn max_loads(self, loads: u32) -> Self {
        self.with("max_loads", Scalar::Integer(loads.into()))
    }

    /// See [`Policy::on_outage`].
    #[must_use]
    pub fn on_outage(self, policy: OnOutage) -> Self {
        self.with("on_outage", Scalar::Text(policy.name().to_owned()))
    }

    /// See [`Policy::instant_clear`].
    #[must_use]
    pub fn instant_clear(self, yes: bool) -> Self {
        self.with("instant_clear", Scalar::Boolean(yes))
    }

    /// See [`Policy::schema`].
    #[must_use]
    pub fn schema(self, schema: u32) -> Self {
        self.with("schema", Scalar::Integer(schema.into()))
    }

    /// Checks the policy.
    ///
    /// # Errors
    /// [`TableError`] with the key that is out of range or does not go with another.
    pub fn build(self) -> Result<Policy, TableError> {
        let mut draft = Draft::new(&self.name, None);
        for (key, value) in &self.keys {
            draft.set(key, value, None)?;
        }
        draft.finish()
    }
}
