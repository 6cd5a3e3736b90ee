use std::{collections::HashMap, sync::Arc, time::Duration};

use deadpool_redis::redis::{
    AsyncConnectionConfig, Cmd, ProtocolVersion, RedisResult, aio::MultiplexedConnection, cmd,
};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::{
    command::target::Target,
    config::RedisConfig,
    connection::{
        endpoint::Endpoint,
        identity::field_in,
        session::{Link, Session},
    },
    error::is_replica,
    health::ping::ping,
    lane::{Lane, health::Hearing},
};

/// Probes from time to time whether each lane is told of changes, for as long as the store lives.
pub(crate) async fn run(lanes: Vec<Arc<Lane>>, config: RedisConfig) {
    let mut writers = Writers::new(&config);
    loop {
        // A lane that is deaf is probed more often.
        let deaf = lanes.iter().any(|lane| lane.health.is_deaf());
        let pause = if deaf {
            config.ping_interval.min(config.probe_interval)
        } else {
            config.probe_interval
        };
        tokio::time::sleep(pause).await;
        writers.close_idle();
        for lane in &lanes {
            probe(lane, &mut writers).await;
            lane.write_marks().await;
            lane.current.absences.take_one(); // of those that stay absent, after this time
        }
        if let Some(lane) = lanes.first() {
            let count = tracked_names(lane).await;
            lane.current.listeners.stats.note_tracked_names(count);
        }
    }
}

/// The result of a probe of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probed {
    Heard,
    NotHeard,
    /// There is no proof either way: the connection was lost meanwhile, which is told as such.
    Unknown,
}

/// Probes whether a lane is told of changes, by each of its servers.
async fn probe(lane: &Lane, writers: &mut Writers) {
    let Some(session) = lane.current.load().filter(|session| session.tracks) else {
        return;
    };
    let mut all_heard = true;
    for link in session.links() {
        match probe_link(lane, &session, link, writers).await {
            Probed::Heard => {}
            Probed::NotHeard => return note_deaf(lane, &session, &link.endpoint.shown),
            Probed::Unknown => all_heard = false,
        }
    }
    if all_heard && lane.health.set(Hearing::Hears) == Hearing::Deaf {
        // What was read in between may not be tracked.
        lane.current.tell_lost();
        info!(event = "pushes_back", address = %lane.current.shown(), lane = lane.index().0, "invalidations are pushed again");
    }
}

/// Has a connection read a key of its own, has the key written by another connection, and pings.
// P27 channel-proves-alive: the server sends the push before the reply to the ping, so there is
// nothing to wait for.
async fn probe_link(
    lane: &Lane,
    session: &Arc<Session>,
    link: &Link,
    writers: &mut Writers,
) -> Probed {
    let name = link.probe.name.as_str();
    // A server that was demoted refuses a write, though it passes on what the new master is told.
    // Nothing is pushed for it, because nobody has read the key yet.
    let set = writers.set(name);
    let write = async |mut on: Target| set.exec_async(&mut on.connection).await;
    // Of any type and size: the write has replaced it.
    let read = async |mut on: Target| cmd("EXISTS").arg(name).exec_async(&mut on.connection).await;
    let current = &lane.current;
    if current.ask_on(session, link, name, write).await.is_err()
        || current.ask_on(session, link, name, read).await.is_err()
    {
        return Probed::Unknown;
    }
    let before = link.probe.pushes();
    link.probe.note_write();
    if writers.write(&link.endpoint, name).await.is_err()
        || ping(&lane.current, session, link).await.is_err()
        // Once the lane has a newer session, it does not know the name any more.
        || !lane.current.is_in_service(session)
    {
        return Probed::Unknown;
    }
    if link.probe.pushes() == before {
        Probed::NotHeard
    } else {
        Probed::Heard
    }
}

/// Asks the servers of a lane how many names they track, for all of their clients.
async fn tracked_names(lane: &Lane) -> Option<u64> {
    let session = lane.current.load().filter(|session| session.tracks)?;
    let mut sum = 0;
    for link in session.links() {
        let info = cmd("INFO").arg("stats").take();
        let ask = async |mut on: Target| info.query_async::<String>(&mut on.connection).await;
        let told = lane.current.ask_on(&session, link, "", ask).await.ok()?;
        sum += field_in(&told, "tracking_total_keys:")?
            .trim()
            .parse::<u64>()
            .ok()?;
    }
    Some(sum)
}

fn note_deaf(lane: &Lane, session: &Arc<Session>, address: &str) {
    lane.current.listeners.stats.probe_failures.add(1);
    let before = lane.health.set(Hearing::Deaf); // in the order of P10 loss-told-before-successor: before the loss is told
    lane.current.tell_lost();
    if before == Hearing::Hears {
        warn!(event = "pushes_missing", %address, lane = lane.index().0,
            "a connection is alive, but invalidations are not pushed to it: until they are, entries in L1 live at most as \
             long as degraded_l1_ttl says");
        lane.current.drop_session(session, address, &"it is deaf"); // a new connection may hear
    }
}

/// The connections that write what the lanes have read: one to each server.
struct Writers {
    options: AsyncConnectionConfig,
    /// How long a written key lives.
    life: Duration,
    /// By the place that they lead to.
    open: HashMap<String, Writer>,
}

struct Writer {
    connection: MultiplexedConnection,
    /// When its credentials end.
    renew_at: Option<Instant>,
    /// Whether it was used since the last look.
    is_used: bool,
}

impl Writers {
    fn new(config: &RedisConfig) -> Self {
        let options = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(config.connect_timeout))
            .set_response_timeout(Some(config.command_timeout));
        let life = config.probe_interval.saturating_mul(10);
        let life = life.clamp(Duration::from_secs(1), Duration::from_secs(3600));
        Self {
            options,
            life,
            open: HashMap::new(),
        }
    }

    /// Closes the connections to servers that no lane has any more, and those whose credentials
    /// end.
    fn close_idle(&mut self) {
        self.open.retain(|_, writer| {
            let is_due = writer.renew_at.is_some_and(|at| at <= Instant::now());
            std::mem::take(&mut writer.is_used) && !is_due
        });
    }

    /// Writes a probe's key.
    async fn write(&mut self, endpoint: &Endpoint, name: &str) -> RedisResult<()> {
        let place = endpoint.place();
        if let Some(mut writer) = self.open.remove(&place) {
            match self.write_over(&mut writer, name).await {
                // Its server was demoted, and the address may lead to another one by now.
                Err(error) if is_replica(&error) => {}
                Err(error) => return Err(error), // one that failed is not kept
                Ok(()) => {
                    self.open.insert(place, writer);
                    return Ok(());
                }
            }
        }
        let protocol = ProtocolVersion::RESP2;
        let (connection, renew_at) = endpoint.connect(protocol, &self.options).await?;
        let mut writer = Writer {
            connection,
            renew_at,
            is_used: true,
        };
        self.write_over(&mut writer, name).await?;
        self.open.insert(place, writer);
        Ok(())
    }

    async fn write_over(&self, writer: &mut Writer, name: &str) -> RedisResult<()> {
        writer.is_used = true;
        self.set(name).exec_async(&mut writer.connection).await
    }

    fn set(&self, name: &str) -> Cmd {
        let life_ms = u64::try_from(self.life.as_millis()).unwrap_or(u64::MAX);
        let mut set = cmd("SET");
        set.arg(name).arg(fastrand::u64(..)).arg("PX").arg(life_ms);
        set
    }
}
