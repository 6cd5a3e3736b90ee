use std::{future::Future, sync::Arc, time::Duration};

use deadpool_redis::redis::{RedisResult, aio::PubSub};
use futures_util::{StreamExt, future::join_all};
use tokio::time::{sleep, timeout};
use tracing::{debug, info};

use crate::{
    connection::{
        addresses::Addresses,
        endpoint::Endpoint,
        sentinel::{Sentinels, announced},
    },
    lane::Lane,
};

/// The channel on which a sentinel announces that another server is the master.
const CHANNEL: &str = "+switch-master";

/// The pause before the next try to subscribe at a sentinel, on average: 1 s.
const PAUSE: Duration = Duration::from_secs(1);

/// Listens at each sentinel for failovers, and has the lanes reconnect to the new master, for as
/// long as the store lives. A lane that misses the announcement finds out by itself: its connection
/// is lost, or its server takes no writes.
pub(crate) async fn run(addresses: Arc<Addresses>, lanes: Vec<Arc<Lane>>, limit: Duration) {
    let Some(sentinels) = addresses.sentinels() else {
        return;
    };
    let listening = sentinels.endpoints().iter().map(|sentinel| Listener {
        addresses: &addresses,
        sentinels,
        sentinel,
        lanes: &lanes,
        limit,
    });
    join_all(listening.map(Listener::run)).await;
}

/// A listener at one sentinel.
struct Listener<'a> {
    addresses: &'a Addresses,
    sentinels: &'a Sentinels,
    sentinel: &'a Endpoint,
    lanes: &'a [Arc<Lane>],
    /// How long a try to subscribe may take.
    limit: Duration,
}

impl Listener<'_> {
    async fn run(self) {
        loop {
            match in_time(self.limit, self.subscribe()).await {
                Some(Ok(subscription)) => self.listen(subscription).await,
                Some(Err(error)) => {
                    debug!(event = "sentinel_refused", address = %self.sentinel.shown, %error,
                        "cannot subscribe at a sentinel");
                }
                None => {}
            }
            sleep(PAUSE.mul_f64(0.5 + fastrand::f64())).await;
        }
    }

    async fn subscribe(&self) -> RedisResult<PubSub> {
        let (mut subscription, _) = self.sentinel.subscriber().await?;
        subscription.subscribe(CHANNEL).await?;
        Ok(subscription)
    }

    /// Listens until the subscription ends.
    async fn listen(&self, mut subscription: PubSub) {
        // What was announced while this process was not subscribed.
        if let Ok(masters) = self.sentinels.masters().await
            && let [(host, port), ..] = masters.as_slice()
        {
            self.follow(host, *port);
        }
        let mut messages = subscription.on_message();
        while let Some(message) = messages.next().await {
            let Ok(message) = message.get_payload::<String>() else {
                continue;
            };
            if let Some((host, port)) = announced(&message, self.sentinels.service()) {
                self.follow(&host, port);
            }
        }
    }

    /// Has each lane that is connected to another server reconnect.
    fn follow(&self, host: &str, port: u16) {
        let master = self.addresses.told(host, port);
        for lane in self.lanes {
            let Some(session) = lane.current.load() else {
                continue;
            };
            let place = master.place();
            if session
                .links()
                .iter()
                .all(|link| link.endpoint.place() == place)
            {
                continue;
            }
            info!(event = "master_switched", address = %master.shown, lane = lane.index().0,
                "the sentinels name another master");
            let old = session
                .links()
                .first()
                .map_or("", |link| &link.endpoint.shown);
            lane.current
                .drop_session(&session, old, &"another server is the master");
        }
    }
}

/// The output of a future, if it comes in time.
async fn in_time<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    timeout(limit, future).await.ok()
}
