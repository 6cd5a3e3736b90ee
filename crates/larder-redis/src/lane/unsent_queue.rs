use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use deadpool_redis::redis::RedisResult;
use larder_core::{Key, RemoteEvent, StoreError, Token};
use tokio::sync::{Mutex, MutexGuard};

use crate::{
    command::names::Names,
    connection::session::Session,
    lane::{current::CurrentSession, unsent::Unsent},
    listeners::Listeners,
    redo::{Redo, log::Forgotten},
};

/// The invalidations of a lane that could not be sent. They are sent through the lane's next
/// session before any caller reads through it.
pub(crate) struct UnsentQueue {
    /// The most keys and tags that are remembered by themselves.
    max: usize,
    listeners: Arc<Listeners>,
    redo: Arc<Redo>,
    /// Invalidations that wait for a session.
    waiting: Mutex<Unsent>,
    /// Invalidations from before the session was opened, while they are sent through it.
    sending: Mutex<Unsent>,
    /// Entries in `waiting` plus `sending`, readable without either lock (for stats).
    count: AtomicU64,
}

/// Whether an invalidation is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remembered {
    Yes,
    /// It is not: the lane has a session, through which it can be sent.
    LaneIsUp,
}

/// The times that what callers add meanwhile is sent apart: 4. After that, callers who add more
/// must wait.
const ROUNDS: usize = 4;

impl UnsentQueue {
    pub(crate) fn new(max: usize, listeners: Arc<Listeners>, redo: Arc<Redo>) -> Self {
        Self {
            max,
            listeners,
            redo,
            waiting: Mutex::default(),
            sending: Mutex::default(),
            count: AtomicU64::new(0),
        }
    }

    /// The number of invalidations that have not been sent.
    pub(crate) fn len(&self) -> u64 {
        // Pairs with Release in `note_change`: a caller that sees none sees that all were sent.
        self.count.load(Ordering::Acquire)
    }

    /// Remembers the invalidation of a key while the lane is down, with the caller's own lease,
    /// which ends with it.
    pub(crate) async fn remember_key(
        &self,
        current: &CurrentSession,
        key: &Key,
        own: Option<&Token>,
    ) -> Result<Remembered, StoreError> {
        let add = |waiting: &mut Unsent| waiting.add_key(key, own, self.max);
        self.remember(current, key.as_str(), add).await
    }

    /// Remembers the invalidation of a tag while the lane is down.
    pub(crate) async fn remember_tag(
        &self,
        current: &CurrentSession,
        names: &Names,
        tag: &str,
    ) -> Result<Remembered, StoreError> {
        let add = |waiting: &mut Unsent| {
            waiting.add_tag(tag, self.max);
            true
        };
        self.remember(current, names.epoch(), add).await
    }

    async fn remember(
        &self,
        current: &CurrentSession,
        name: &str,
        add: impl FnOnce(&mut Unsent) -> bool,
    ) -> Result<Remembered, StoreError> {
        let mut waiting = self.waiting.lock().await;
        if !current.is_down_for(name) {
            return Ok(Remembered::LaneIsUp);
        }
        let before = waiting.len();
        if !add(&mut waiting) {
            return Err(StoreError::TooManyUnsent {
                address: current.shown().to_owned(),
                unsent: before,
            });
        }
        self.note_change(before, waiting.len());
        drop(waiting);
        self.listeners
            .tell_event(RemoteEvent::Unsent { count: self.len() });
        Ok(Remembered::Yes)
    }

    /// Adds what a server has forgotten, and returns the number of names. They are bounded by the
    /// redo log.
    pub(crate) async fn add_forgotten(&self, forgotten: Forgotten) -> u64 {
        let mut waiting = self.waiting.lock().await;
        let before = waiting.len();
        waiting.add_forgotten(forgotten);
        self.note_change(before, waiting.len());
        u64::try_from(waiting.len() - before).unwrap_or(u64::MAX)
    }

    /// Sends all that was remembered until now, and, as long as that is much, all that callers add
    /// meanwhile. While the guard lives, no other session is made ready.
    // P11 unsent-goes-first: a clear may take long, so what is remembered meanwhile goes elsewhere,
    // and is sent in the next round.
    pub(crate) async fn send_in_rounds(
        &self,
        session: &Session,
    ) -> RedisResult<MutexGuard<'_, Unsent>> {
        let mut sending = self.sending.lock().await;
        for round in 0..ROUNDS {
            self.send(&mut sending, session).await?;
            let mut waiting = self.waiting.lock().await;
            if round > 0 && waiting.is_brief() {
                break;
            }
            std::mem::swap(&mut *sending, &mut *waiting);
        }
        self.send(&mut sending, session).await?;
        Ok(sending)
    }

    /// Sends the rest. While the guard lives, callers who would add more wait.
    pub(crate) async fn send_rest(&self, session: &Session) -> RedisResult<MutexGuard<'_, Unsent>> {
        let mut waiting = self.waiting.lock().await;
        self.send(&mut waiting, session).await?;
        Ok(waiting)
    }

    // P11 unsent-goes-first
    async fn send(&self, unsent: &mut Unsent, session: &Session) -> RedisResult<()> {
        let (before, mut done) = (unsent.len(), 0);
        let sent = unsent.drain(session, &self.redo, &mut done).await;
        self.note_change(before, unsent.len());
        if done > 0 {
            self.listeners.stats.resent.add(done);
            self.listeners
                .tell_event(RemoteEvent::Resent { count: done });
        }
        sent
    }

    fn note_change(&self, before: usize, after: usize) {
        let number = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
        match after >= before {
            true => self
                .count
                .fetch_add(number(after - before), Ordering::Release),
            false => self
                .count
                .fetch_sub(number(before - after), Ordering::Release),
        };
    }
}

#[cfg(test)]
mod tests {
    use larder_testkit::{RedisServer, Reply};

    use super::*;
    use crate::{config::RedisConfig, connection::dialer::session, redo::log::Kind};

    fn of_key(name: &str) -> Forgotten {
        Forgotten {
            keys: vec![name.into()],
            ..Forgotten::default()
        }
    }

    /// The name of the one mark, and the segment in it.
    async fn mark(server: &RedisServer) -> (String, String) {
        let names = ["KEYS", "larder:probe:*mark:*"];
        let Reply::Array(names) = server.command(&names).await.unwrap() else {
            panic!("KEYS");
        };
        let name = names[0].text().unwrap();
        let segment = server.command(&["GET", &name]).await.unwrap();
        (name, segment.text().unwrap())
    }

    // P30 forgotten-is-redone: a master that was left out may be marked before it is told.
    #[tokio::test]
    async fn invalidation_that_is_sent_late_is_redone_although_its_first_segment_is_marked() {
        let server = RedisServer::start().await.unwrap();
        let config = RedisConfig::new(server.url());
        let session = session(&config).await;
        let redo = Arc::new(Redo::new(&config));
        let queue = UnsentQueue::new(10, Arc::default(), redo.clone());
        drop(redo.note(Kind::Key, "item:1"));
        queue.add_forgotten(of_key("item:1")).await;
        redo.begin(&session).await;
        let (name, before) = mark(&server).await;
        drop(queue.send_in_rounds(&session).await.unwrap());
        redo.begin(&session).await;
        assert_eq!(redo.look_for_loss(&session).await.unwrap(), None);
        // The server comes back with the data of before.
        server.command(&["SET", &name, &before]).await.unwrap();
        let forgotten = redo.look_for_loss(&session).await.unwrap();
        assert_eq!(forgotten, Some(of_key("item:1")));
    }
}
