use larder_core::{Key, Stamp, StoreError, Stored, Want};

use super::{
    StampedeLock,
    caller::{Accepting, CutOff, Event, Lookup, Reader},
    context::Context,
    write_back::end_of,
};
use crate::{Follower, Joined, Leader, Leases};

impl<V: Clone + Send + Sync + 'static, E: Clone + Send + Sync + 'static> StampedeLock<V, E> {
    /// Looks into the levels.
    pub(super) async fn look<R: Reader<Value = V>>(&self, key: &Key, reader: &R) -> Lookup<V> {
        let context = &self.context;
        let local = reader.look(key);
        let Some(leases) = context
            .leases()
            .filter(|_| matches!(local, Lookup::Absent(_)))
        else {
            return local;
        };
        if !context.config.keeps_locally {
            // Nothing is kept that a later caller could find, so to share a look would make it wait
            // for an answer that is not for it (P16 only-for-earlier-callers).
            return context
                .look_remotely(leases, key, context.stamp(key), reader)
                .await;
        }
        loop {
            let (joined, before) = self
                .lookups
                .join_next(key, context.generations(), || context.stamp(key));
            match joined {
                // All who are in a flight joined it before its question. It is dropped only with
                // the runtime of its leader, which need not be this caller's.
                Joined::Follower(follower) => match follower.wait().await {
                    Some(lookup) => return lookup,
                    None => continue,
                },
                Joined::Leader(leader, follower) => {
                    let (context, leases) = (context.clone(), leases.clone());
                    let (key, reader) = (key.clone(), reader.clone());
                    // A task of its own: callers that share the look must not depend on this
                    // caller being polled.
                    tokio::spawn(async move {
                        context
                            .look_for_all(&leases, &key, leader, before, &reader)
                            .await;
                    });
                    return follower.wait().await.unwrap_or(Lookup::Absent(None));
                }
            }
        }
    }
}

impl Context {
    /// Looks into the levels for all who share the look, when the look before it has ended, for
    /// whose answer its callers were late.
    async fn look_for_all<R: Reader>(
        &self,
        leases: &Leases,
        key: &Key,
        leader: Leader<Lookup<R::Value>>,
        before: Option<Follower<Lookup<R::Value>>>,
        reader: &R,
    ) {
        let is_late = before.is_some();
        if let Some(before) = before {
            before.wait().await;
            leader.renew_stamp(self.stamp(key)); // P1 stamp-before-read
        }
        let asked = leader.ask();
        if leader.is_deserted() {
            return;
        }
        // Callers that are late would look there next.
        if is_late {
            let local = reader.look(key);
            if !matches!(local, Lookup::Absent(_)) {
                return leader.finish(local, asked);
            }
        }
        let lookup = self
            .look_remotely(leases, key, leader.stamp(), reader)
            .await;
        leader.finish(lookup, asked);
    }

    pub(super) async fn look_remotely<R: Reader>(
        &self,
        leases: &Leases,
        key: &Key,
        stamp: Stamp,
        reader: &R,
    ) -> Lookup<R::Value> {
        let remote = leases.remote();
        let found = match self.config.want {
            Want::ValueAndTtl => remote.get_with_ttl(key.as_str(), leases.track()).await,
            Want::Value => {
                let value = remote.get(key.as_str()).await;
                value.map(|value| value.map(|value| Stored { value, ttl: None }))
            }
        };
        match found {
            Ok(Some(stored)) => self.accept(key, stored, stamp, reader).await,
            found => self.note_absence(key, found, stamp, reader),
        }
    }

    /// Lets the caller judge a value.
    pub(super) async fn accept<R: Reader>(
        &self,
        key: &Key,
        stored: Stored,
        stamp: Stamp,
        reader: &R,
    ) -> Lookup<R::Value> {
        let ends = end_of(&stored, &self.config.clock);
        let lookup = match reader.accept(key, stored, ends, stamp) {
            Accepting::Done(lookup) => lookup,
            Accepting::Asking(asking) => asking.await,
        };
        self.note_reload(key, &lookup);
        lookup
    }

    /// Takes the answer of a store that has no value, or did not answer. `asked` is the stamp from
    /// before it was asked.
    pub(super) fn note_absence<R: Reader, T>(
        &self,
        key: &Key,
        found: Result<T, StoreError>,
        asked: Stamp,
        reader: &R,
    ) -> Lookup<R::Value> {
        match found {
            Ok(_) => Lookup::Absent(None),
            Err(error) => {
                reader.observe(key, Event::RemoteFailed(&error));
                Lookup::Unreachable(CutOff { error, asked })
            }
        }
    }

    /// Ends the backoff of a key that another process has reloaded.
    pub(super) fn note_reload<V>(&self, key: &Key, lookup: &Lookup<V>) {
        if matches!(lookup, Lookup::Fresh(_)) {
            self.backoff.end(key.hash());
        }
    }
}
