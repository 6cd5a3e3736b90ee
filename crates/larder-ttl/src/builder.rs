use std::time::Duration;

use crate::{Levels, OnOutage, Row, TableError, draft::Draft, scalar::Scalar};

/// A row from code; [`build`](Self::build) checks it. What is not set has the default of design.
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

    /// Begins the row's keys with this; see [`Row::prefix`].
    #[must_use]
    pub fn prefix(self, prefix: impl Into<String>) -> Self {
        self.with("prefix", Scalar::Text(prefix.into()))
    }

    /// Says why the lifetime is what it is.
    #[must_use]
    pub fn reason(self, reason: impl Into<String>) -> Self {
        self.with("reason", Scalar::Text(reason.into()))
    }

    /// See [`Row::l1_ttl`].
    #[must_use]
    pub fn l1_ttl(self, ttl: Duration) -> Self {
        self.with("l1_ttl", duration(ttl))
    }

    /// See [`Row::levels`].
    #[must_use]
    pub fn levels(self, levels: Levels) -> Self {
        self.with("levels", Scalar::Text(levels.name().to_owned()))
    }

    /// See [`Row::jitter`]: a share of one, such as 0.1.
    #[must_use]
    pub fn jitter(self, share: f64) -> Self {
        self.with("jitter", percentage(share))
    }

    /// See [`Row::negative_ttl`]; zero: absence is not remembered.
    #[must_use]
    pub fn negative_ttl(self, ttl: Duration) -> Self {
        self.with("negative_ttl", duration(ttl))
    }

    /// See [`Row::stale_for`]; zero: not at all.
    #[must_use]
    pub fn stale_for(self, time: Duration) -> Self {
        self.with("stale_for", duration(time))
    }

    /// See [`Row::refresh_ahead`]: a share of one, such as 0.8.
    #[must_use]
    pub fn refresh_ahead(self, share: f64) -> Self {
        self.with("refresh_ahead", percentage(share))
    }

    /// See [`Row::soft_timeout`]; zero: a stale value is served at once.
    #[must_use]
    pub fn soft_timeout(self, timeout: Duration) -> Self {
        self.with("soft_timeout", duration(timeout))
    }

    /// See [`Row::load_timeout`].
    #[must_use]
    pub fn load_timeout(self, timeout: Duration) -> Self {
        self.with("load_timeout", duration(timeout))
    }

    /// See [`Row::lease`].
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        self.with("lease", duration(lease))
    }

    /// See [`Row::max_wait`].
    #[must_use]
    pub fn max_wait(self, wait: Duration) -> Self {
        self.with("max_wait", duration(wait))
    }

    /// See [`Row::degraded_l1_ttl`].
    #[must_use]
    pub fn degraded_l1_ttl(self, ttl: Duration) -> Self {
        self.with("degraded_l1_ttl", duration(ttl))
    }

    /// See [`Row::max_loads`]; zero: no limit.
    #[must_use]
    pub fn max_loads(self, loads: u32) -> Self {
        self.with("max_loads", Scalar::Integer(loads.into()))
    }

    /// See [`Row::on_outage`].
    #[must_use]
    pub fn on_outage(self, policy: OnOutage) -> Self {
        self.with("on_outage", Scalar::Text(policy.name().to_owned()))
    }

    /// See [`Row::framed`].
    #[must_use]
    pub fn framed(self, yes: bool) -> Self {
        self.with("framed", Scalar::Boolean(yes))
    }

    /// See [`Row::schema`].
    #[must_use]
    pub fn schema(self, schema: u32) -> Self {
        self.with("schema", Scalar::Integer(schema.into()))
    }

    /// Checks the row.
    ///
    /// # Errors
    /// [`TableError`] with the key that is out of range or does not go with another.
    pub fn build(self) -> Result<Row, TableError> {
        let mut draft = Draft::new(&self.name, None);
        for (key, value) in &self.keys {
            draft.set(key, value, None)?;
        }
        draft.finish()
    }
}
