use larder_core::{Committed, Key, Stamp};
use larder_lock::{Aging, Commit, Destination, Kept, Lookup, Refusal, TagEpochs, WrittenBack};

use crate::{
    policy::{ActivePolicy, Unpinned},
    value::CachedValue,
};

/// Puts a loaded value into the levels.
pub(super) struct WriteBack<'a> {
    pub(super) policy: &'a ActivePolicy,
    pub(super) key: &'a Key,
    /// Whether it replaces a value that is still served.
    pub(super) replaces: bool,
    /// Whether it replaces whatever the levels have.
    pub(super) is_refresh: bool,
}

impl WriteBack<'_> {
    pub(super) async fn run(
        &self,
        value: &CachedValue,
        epochs: TagEpochs,
        to: Destination<'_>,
    ) -> WrittenBack {
        match to {
            Destination::Remote(commit) => self.commit(value, epochs, commit).await,
            Destination::Local { stamp, kept } => self.keep(value, epochs, (stamp, kept)),
        }
    }

    /// Puts a value into L2, and then into L1.
    async fn commit(
        &self,
        value: &CachedValue,
        epochs: TagEpochs,
        commit: Commit<'_>,
    ) -> WrittenBack {
        let (policy, key) = (self.policy, self.key);
        let Some(span) = policy.lifetimes.span(value) else {
            return self.commit_nothing(commit).await;
        };
        let ttl = span.in_remote();
        let encoded;
        let (bytes, image) = match value.image.as_ref().filter(|_| value.is_renewed) {
            Some(image) if policy.pin_again(key, image, ttl).await => (None, &**image),
            Some(_) => return refuse(commit).await,
            None => match policy.encode_and_pin(key, value, epochs, ttl).await {
                Ok(Some(pinned)) => {
                    encoded = pinned;
                    (Some(&encoded.0), &encoded.1)
                }
                Ok(None) => return refuse(commit).await,
                Err(reason) => {
                    policy.reporter.unstorable(&reason);
                    return self.commit_nothing(commit).await;
                }
            },
        };
        let (from, before) = (policy.clock.now(), policy.levels.stamp(key));
        let done = match bytes {
            Some(bytes) => commit.store(bytes, ttl).await,
            None => commit.renew(ttl).await,
        };
        match done {
            Ok(Committed::Refused) => WrittenBack::Refused(Refusal::Lease),
            Ok(how) => {
                let (value, tracked) = (value.value.as_ref(), how.tracked(before));
                if self.is_refresh && how != (Committed::Tracked { told: true }) {
                    // P9 reply-invalidates-again: no push outdates what this process had before
                    policy.levels.invalidate_locally(key);
                }
                policy
                    .keep_committed(key, value, image, (from, span), tracked)
                    .await;
                WrittenBack::Done {
                    not_due: policy.lifetimes.not_due(&span),
                }
            }
            Err(error) => WrittenBack::Failed(error),
        }
    }

    /// Keeps nothing in L2: neither the value, nor the one that it was to replace.
    async fn commit_nothing(&self, commit: Commit<'_>) -> WrittenBack {
        let done = if self.replaces {
            commit.remove().await
        } else {
            commit.release().await
        };
        match done {
            Ok(Committed::Refused) => WrittenBack::Refused(Refusal::Lease),
            Ok(_) => {
                if self.replaces {
                    // P9 reply-invalidates-again: no push tells this process of it
                    self.policy.levels.invalidate_locally(self.key);
                }
                WrittenBack::DONE
            }
            Err(error) => WrittenBack::Failed(error),
        }
    }

    /// Keeps a value in L1 alone.
    fn keep(
        &self,
        value: &CachedValue,
        epochs: TagEpochs,
        (stamp, kept): (Stamp, Kept),
    ) -> WrittenBack {
        let (policy, key) = (self.policy, self.key);
        let from = policy.clock.now();
        let Some(span) = policy.lifetimes.span(value) else {
            return self.keep_nothing();
        };
        let tags = match value.is_renewed {
            // It has the tags that it had; if it is gone, it was invalidated meanwhile.
            true => match policy.levels.look_again(key) {
                Lookup::Aging(Aging { tags, .. }) => tags,
                _ => return WrittenBack::Refused(Refusal::Outdated),
            },
            false => match policy.tagging.pin_locally(key, value.tags(), epochs) {
                Ok(Ok(tags)) => tags,
                Ok(Err(Unpinned)) => return WrittenBack::Refused(Refusal::Outdated),
                Err(reason) => {
                    policy.reporter.unstorable(&reason);
                    return self.keep_nothing();
                }
            },
        };
        policy.keep(
            key,
            value.value.as_ref(),
            (from, span, kept),
            stamp,
            tags,
            None,
        );
        WrittenBack::DONE
    }

    fn keep_nothing(&self) -> WrittenBack {
        if self.replaces {
            self.policy.levels.remove(self.key);
        }
        WrittenBack::DONE
    }
}

/// Gives up a commit whose tags were invalidated since the load began.
async fn refuse(commit: Commit<'_>) -> WrittenBack {
    let _ = commit.release().await; // an error leaves the lease to its time
    WrittenBack::Refused(Refusal::Outdated)
}
