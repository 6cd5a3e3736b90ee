use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use deadpool_redis::redis::{RedisError, RedisResult, cmd};
use larder_core::Token;

use crate::{
    connection::session::{Link, Session},
    error::is_final,
};

/// The marks of a lane: on each master a key with the number of the newest segment of the redo log
/// that was answered in full.
pub(crate) struct Marks {
    /// In the name of each mark, so that no other lane has it.
    token: Token,
    /// The marks on the masters of the last session, by their names.
    written: Mutex<HashMap<String, Written>>,
}

#[derive(Clone, Default)]
struct Written {
    segment: u64,
    /// The run of the server that confirmed it; `None` if the server does not tell.
    run_id: Option<String>,
    /// The history of data that this server continued. A server that became a replica and was
    /// promoted again has another one, and may lack the newest of what it had.
    replication_id: Option<String>,
}

impl Written {
    /// Whether it is of the server at the other end, and of the data that it has now.
    fn is_of(&self, link: &Link) -> bool {
        let is_same_run = self.run_id.is_some() && self.run_id == link.run_id;
        is_same_run && self.replication_id == link.replication_id
    }
}

/// How long a mark outlives its process, in milliseconds: a day. A server that was away for longer
/// has forgotten, as far as the process can know.
const LIFE_MS: u64 = 24 * 3600 * 1000;

impl Marks {
    pub(crate) fn new() -> Self {
        Self {
            token: Token::new(),
            written: Mutex::default(),
        }
    }

    fn written(&self) -> MutexGuard<'_, HashMap<String, Written>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest segment that all servers of the session know, if one of them may have forgotten
    /// anything.
    pub(crate) async fn known(&self, session: &Session) -> RedisResult<Option<u64>> {
        let before = self.written().clone();
        let mut forgot = None;
        for (name, written) in before {
            // One that is left out is looked at by the session that has it again.
            let Some(link) = session.link(&name) else {
                continue;
            };
            let mark = read(link, &name).await?;
            let is_there = mark.is_some();
            let known = mark.and_then(|mark| mark.parse().ok()).unwrap_or(0);
            if written.is_of(link) && known >= written.segment {
                continue;
            }
            if !is_there && was_empty(link).await? {
                continue;
            }
            forgot = Some(forgot.map_or(known, |least: u64| least.min(known)));
        }
        Ok(forgot)
    }

    /// Writes the marks of a session, and tells of each master that takes none.
    pub(crate) async fn write(
        &self,
        session: &Session,
        segment: u64,
        mut failed: impl FnMut(&Link, &RedisError),
    ) {
        for link in session.links() {
            let name = link.probe.mark(&self.token);
            let mut set = cmd("SET");
            set.arg(&name).arg(segment).arg("PX").arg(LIFE_MS);
            match set.exec_async(&mut link.target.connection.clone()).await {
                Ok(()) => self.note_written(&name, link, segment),
                Err(error) => {
                    // The run alone tells, until a mark can be written.
                    self.note_written(&name, link, 0);
                    failed(link, &error);
                }
            }
        }
    }

    /// Forgets the marks of earlier sessions, once this one's are written, but those on masters
    /// that are left out.
    pub(crate) fn keep_only(&self, session: &Session) {
        let links = session.links().iter();
        let names: Vec<_> = links.map(|link| link.probe.mark(&self.token)).collect();
        self.written()
            .retain(|name, _| names.contains(name) || session.link(name).is_none());
    }

    fn note_written(&self, name: &str, link: &Link, segment: u64) {
        let mut all = self.written();
        let written = all.entry(name.to_owned()).or_default();
        if !written.is_of(link) {
            *written = Written {
                segment: 0,
                run_id: link.run_id.clone(),
                replication_id: link.replication_id.clone(),
            };
        }
        written.segment = written.segment.max(segment);
    }
}

/// Reads a mark; an empty text stands for one that cannot be read.
async fn read(link: &Link, name: &str) -> RedisResult<Option<String>> {
    let mark = cmd("GET")
        .arg(name)
        .query_async::<Option<Vec<u8>>>(&mut link.target.connection.clone())
        .await;
    match mark {
        Err(error) if is_final(&error) => Ok(Some(String::new())),
        mark => Ok(mark?.map(|mark| String::from_utf8(mark).unwrap_or_default())),
    }
}

/// Whether the server was empty at some moment of this run: all that it has is newer. The first
/// process that finds it empty says so to the others.
async fn was_empty(link: &Link) -> RedisResult<bool> {
    let (name, mut on) = (link.probe.empty(), link.target.connection.clone());
    let size = cmd("DBSIZE").query_async::<u64>(&mut on).await;
    match (size, &link.run_id) {
        (Err(error), _) if !is_final(&error) => Err(error),
        (Ok(0), None) => Ok(true),
        (Ok(0), Some(run_id)) => {
            let mut set = cmd("SET");
            set.arg(&name).arg(run_id).arg("PX").arg(LIFE_MS);
            set.exec_async(&mut on).await.map(|()| true)
        }
        (_, None) => Ok(false),
        // After the size, which another process changes by saying so.
        (_, Some(_)) => Ok(read(link, &name).await? == link.run_id),
    }
}
