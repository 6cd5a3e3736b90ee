//! A server that forgot: it came back with the data of an earlier moment, or a replica that lagged
//! took its place.
//!
//! Each lane keeps a log of the names that it replaced or invalidated lately, in segments. A *mark*
//! on each master says which segments are closed and answered in full. What a server has is what it
//! once had, so a server that knows a mark has done all of these segments. Before anybody reads
//! through a connection to another server, or to one with an older mark, all later segments are
//! invalidated again.

pub(crate) mod choice;
pub(crate) mod log;
pub(crate) mod marks;

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use deadpool_redis::redis::{RedisError, RedisResult};
use tracing::warn;

use self::{
    choice::OnDataLoss,
    log::{Forgotten, Kind, Noted, RedoLog},
    marks::Marks,
};
use crate::{
    config::RedisConfig,
    connection::session::{Link, Session},
};

/// The redo log of a lane, and its marks.
pub(crate) struct Redo {
    choice: OnDataLoss,
    /// Prefixes and tags with everything that the server may hold.
    clears: Mutex<BTreeSet<String>>,
    tags: Vec<String>,
    log: RedoLog,
    marks: Marks,
}

impl Redo {
    pub(crate) fn new(config: &RedisConfig) -> Self {
        let is_kept = config.on_data_loss == OnDataLoss::Redo;
        Self {
            choice: config.on_data_loss,
            clears: Mutex::new(config.clear_on_data_loss.iter().cloned().collect()),
            tags: config.invalidate_on_data_loss.clone(),
            log: RedoLog::new(if is_kept { config.max_redo } else { 0 }),
            marks: Marks::new(),
        }
    }

    fn clears(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.clears.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a prefix to those that are cleared if the log does not reach back.
    pub(crate) fn clear_also(&self, prefix: &str) {
        self.clears().insert(prefix.to_owned());
    }

    /// Notes a name before the command is sent that replaces or invalidates it. Drop the note once
    /// the reply was handled.
    // P30 forgotten-is-redone
    pub(crate) fn note(&self, kind: Kind, name: &str) -> Noted<'_> {
        match self.choice {
            OnDataLoss::Redo => self.log.note(kind, name),
            OnDataLoss::Clear | OnDataLoss::Trust => Noted::nothing(),
        }
    }

    /// Finds out whether a server of this session has forgotten anything, and returns what is to be
    /// invalidated again; `None` if none has.
    ///
    /// # Errors
    /// That of a connection: then nobody may read through the session.
    // P30 forgotten-is-redone: called while the lane has no session, so that an operation is either
    // noted already, or finds that its session was replaced.
    pub(crate) async fn look_for_loss(&self, session: &Session) -> RedisResult<Option<Forgotten>> {
        if self.choice == OnDataLoss::Trust {
            return Ok(None);
        }
        let Some(known) = self.marks.known(session).await? else {
            return Ok(None);
        };
        let logged = self.log.since(known);
        let is_complete = logged.is_some() && self.choice == OnDataLoss::Redo;
        let mut forgotten = logged.unwrap_or_else(|| self.log.all());
        if !is_complete {
            let clears = self.clears().clone();
            if clears.is_empty() && self.tags.is_empty() {
                warn!(
                    event = "redo_incomplete",
                    "a server came back with older data than this process can correct: entries end by their time"
                );
            }
            let clears = clears.iter().map(|prefix| prefix.as_str().into());
            forgotten.prefixes.extend(clears);
            let tags = self.tags.iter().map(|tag| tag.as_str().into());
            forgotten.tags.extend(tags);
        }
        Ok(Some(forgotten))
    }

    /// Begins to write marks through a session that is about to be in service. A master that takes
    /// none is lost, which is soon noticed, or takes no writes for now: then its run alone tells it
    /// from others.
    pub(crate) async fn begin(&self, session: &Session) {
        self.write_marks(session, |_, _| {}).await;
        self.marks.keep_only(session);
    }

    /// Closes the segment, and marks on each server of the session what is answered. Tells of each
    /// server that takes no mark.
    pub(crate) async fn write_marks(
        &self,
        session: &Session,
        failed: impl FnMut(&Link, &RedisError),
    ) {
        if self.choice != OnDataLoss::Trust {
            let answered = self.log.close();
            self.marks.write(session, answered, failed).await;
        }
    }
}
