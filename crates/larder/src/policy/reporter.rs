use std::{
    fmt::{self, Display},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use larder_core::{Key, KeyBuf, StoreError};
use tracing::warn;

use crate::{
    Error,
    observe::{Count, Counters, Event, Hook, Level, LoadOutcome},
    value::{CachedValue, CallId, Origin},
};

/// Counts and tells what happens under one policy, in one step, so that the numbers and the events
/// cannot drift apart.
#[derive(Debug)]
pub(crate) struct Reporter {
    policy: String,
    /// The larder's name, if it has one.
    larder: Option<Arc<str>>,
    counters: Arc<Counters>,
    /// The number of calls that L1 alone did not serve.
    calls: AtomicU64,
    hook: Option<Hook>,
    warned: Warned,
}

/// The kinds of trouble that have been logged already: each is logged once for each policy, and
/// counted always.
#[derive(Debug, Default)]
struct Warned {
    undecodable: AtomicBool,
    unstorable: AtomicBool,
    refused: AtomicBool,
}

fn first(flag: &AtomicBool) -> bool {
    !flag.swap(true, Ordering::Relaxed) // Relaxed: it orders nothing
}

impl Reporter {
    pub(crate) fn new(policy: &str, larder: Option<Arc<str>>, hook: Option<Hook>) -> Self {
        let (policy, counters, warned) = (policy.to_owned(), Arc::default(), Warned::default());
        Self {
            policy,
            larder,
            counters,
            calls: AtomicU64::default(),
            hook,
            warned,
        }
    }

    pub(crate) fn policy(&self) -> &str {
        &self.policy
    }

    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Counts an event, logs it, and calls the application's hook.
    pub(crate) fn record(&self, event: &Event<'_>) {
        if let Some(count) = counted_as(event) {
            self.counters.add(count);
        }
        #[cfg(feature = "metrics")]
        if let Event::Load { took, .. } = event {
            let labels =
                crate::observe::metrics::labels(self.larder.as_deref(), Some(&self.policy));
            metrics::histogram!("larder_load_seconds", labels).record(took.as_secs_f64());
        }
        tracing::debug!(larder = self.larder.as_deref(), ?event);
        if let Some(hook) = &self.hook {
            hook.tell(event);
        }
    }

    /// Counts something of which no event tells.
    pub(crate) fn count(&self, count: Count) {
        self.counters.add(count);
    }

    /// Records a hit in L1. Without a hook it costs one comparison, and it is not logged.
    #[inline]
    pub(crate) fn l1_hit(&self, key: &KeyBuf) {
        self.counters.add(Count::L1Hit);
        if let Some(hook) = &self.hook {
            self.tell_l1_hit(hook, key.as_str());
        }
    }

    #[cold]
    fn tell_l1_hit(&self, hook: &Hook, key: &str) {
        hook.tell(&Event::Hit {
            policy: &self.policy,
            key,
            level: Level::L1,
        });
    }

    /// Names a call of the facade that L1 alone does not serve.
    pub(crate) fn next_call(&self) -> CallId {
        CallId(self.calls.fetch_add(1, Ordering::Relaxed)) // Relaxed: it orders nothing
    }

    /// Counts calls that fail. A call that succeeds is counted where its value is known, by
    /// [`served`](Self::served) or [`found`](Self::found).
    pub(crate) fn failed(&self, calls: usize) {
        (0..calls).for_each(|_| self.counters.add(Count::Error));
    }

    /// Counts a call by the origin of its value, and tells of a hit.
    pub(crate) fn served(&self, key: &Key, call: CallId, value: &CachedValue) {
        let key = key.as_str();
        match value.origin {
            Origin::L1(by) if by == call => {
                self.record_hit(Event::Hit {
                    policy: &self.policy,
                    key,
                    level: Level::L1,
                });
            }
            Origin::L2(by) if by == call => {
                self.record_hit(Event::Hit {
                    policy: &self.policy,
                    key,
                    level: Level::L2,
                });
            }
            Origin::Stale => {} // counted where it was served
            Origin::Load(by) if by == call => self.counters.add(Count::Loaded),
            Origin::L1(_) | Origin::L2(_) | Origin::Load(_) | Origin::None => {
                self.counters.add(Count::Joined);
            }
        }
    }

    /// Counts a call without a loader: by the origin of its value, or as one that found nothing.
    pub(crate) fn found(&self, key: &Key, call: CallId, value: Option<&CachedValue>) {
        match value {
            Some(value) => self.served(key, call, value),
            None => {
                self.counters.add(Count::Absent);
                self.miss(key);
            }
        }
    }

    /// Counts a hit, and calls the application's hook; it is too frequent to be logged.
    fn record_hit(&self, event: Event<'_>) {
        if let Some(count) = counted_as(&event) {
            self.counters.add(count);
        }
        if let Some(hook) = &self.hook {
            hook.tell(&event);
        }
    }

    pub(crate) fn miss(&self, key: &Key) {
        self.record(&Event::Miss {
            policy: &self.policy,
            key: key.as_str(),
        });
    }

    pub(crate) fn stale(&self, key: &Key) {
        self.record(&Event::Stale {
            policy: &self.policy,
            key: key.as_str(),
        });
    }

    pub(crate) fn refresh(&self, key: &Key) {
        self.record(&Event::Refresh {
            policy: &self.policy,
            key: key.as_str(),
        });
    }

    pub(crate) fn load_ended(&self, key: &Key, took: Duration, outcome: LoadOutcome) {
        self.record(&Event::Load {
            policy: &self.policy,
            key: key.as_str(),
            took,
            outcome,
        });
    }

    /// Records that a value is kept nowhere: its key was written or invalidated meanwhile.
    pub(crate) fn refused(&self, key: &Key) {
        self.record(&Event::Refused {
            policy: &self.policy,
            key: key.as_str(),
        });
    }

    /// Records that a value in L2 does not decode.
    pub(crate) fn undecodable(&self, key: &Key, reason: &dyn Display) {
        self.counters.add(Count::Undecodable);
        if first(&self.warned.undecodable) {
            warn!(larder = self.larder.as_deref(), policy = self.policy, %key, %reason,
                "a value in L2 cannot be read and is loaded anew; \
                 further ones of this policy are only counted");
        }
    }

    /// Records that a value is served but cannot be kept.
    pub(crate) fn unstorable(&self, reason: &Error) {
        self.counters.add(Count::Unstorable);
        if first(&self.warned.unstorable) {
            let reason = Chain(reason);
            warn!(larder = self.larder.as_deref(), policy = self.policy, %reason,
                "a value is served but not kept; further ones of this policy are only counted");
        }
    }

    /// Records that a call of L2 failed.
    pub(crate) fn remote_failed(&self, error: &StoreError) {
        self.counters.add(Count::L2Error);
        // The store logs a lost connection; a refusal is the policy's own trouble.
        if matches!(
            error,
            StoreError::WrongType { .. } | StoreError::Refused { .. }
        ) && first(&self.warned.refused)
        {
            let error = Chain(error);
            warn!(larder = self.larder.as_deref(), policy = self.policy, %error,
                "L2 refuses, reads go to the loader; \
                 further refusals of this policy are only counted");
        }
    }
}

/// Shows an error with all its sources: the remedy often stands in the last one.
struct Chain<'a>(&'a dyn std::error::Error);

impl Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(source) = next {
            write!(f, ": {source}")?;
            next = source.source();
        }
        Ok(())
    }
}

/// The counter that an event adds to.
fn counted_as(event: &Event<'_>) -> Option<Count> {
    Some(match event {
        Event::Hit {
            level: Level::L1, ..
        } => Count::L1Hit,
        Event::Hit {
            level: Level::L2, ..
        } => Count::L2Hit,
        Event::Stale { .. } => Count::StaleHit,
        Event::Refresh { .. } => Count::Refresh,
        Event::Refused { .. } => Count::Refused,
        Event::Load { outcome, .. } => match outcome {
            LoadOutcome::Loaded | LoadOutcome::Absent | LoadOutcome::NotModified => return None,
            _ => Count::LoadError,
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use larder_core::CodecError;

    use super::*;

    #[test]
    fn warning_shows_the_remedy_that_stands_in_a_source() {
        let source = CodecError::new("use string keys");
        let error = Error::Encode {
            key: "user:1".to_owned(),
            source,
        };
        assert!(
            Chain(&error).to_string().ends_with(": use string keys"),
            "{}",
            Chain(&error)
        );
    }
}
