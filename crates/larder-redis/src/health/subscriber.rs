use std::{
    future::{Future, pending},
    sync::Arc,
    time::Duration,
};

use deadpool_redis::redis::{
    Msg, RedisResult,
    aio::{PubSubSink, PubSubStream},
};
use futures_util::StreamExt;
use larder_core::Push;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use crate::{
    command::{
        names::Names,
        publisher::{Message, next_beat},
    },
    config::RedisConfig,
    connection::{
        bus::{Bus, Subscription},
        endpoint::Endpoint,
    },
    error::words,
    lane::Lane,
    listeners::Listeners,
};

/// Subscribes to the invalidation channel whenever a lane needs it.
#[derive(Clone)]
pub(crate) struct Subscriber {
    pub(crate) bus: Arc<Bus>,
    pub(crate) names: Arc<Names>,
    pub(crate) listeners: Arc<Listeners>,
    pub(crate) lanes: Vec<Arc<Lane>>,
    pub(crate) config: RedisConfig,
}

/// The pause before the next try to subscribe, on average.
const PAUSE: Duration = Duration::from_millis(200);

/// The pause before a renewal that failed is tried again: 1 s.
const RENEWAL_PAUSE: Duration = Duration::from_secs(1);

/// A subscription to the invalidation channel.
struct Subscribed {
    messages: PubSubStream,
    /// Keeps the connection open.
    _sink: PubSubSink,
    /// When another one is to take its place; of one that was replaced, when it is closed.
    renew_at: Option<Instant>,
}

/// Waits until this moment, if there is one.
async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

/// Waits for the next message of a subscription, if there is one.
async fn next_of(subscribed: &mut Option<Subscribed>) -> Option<Msg> {
    match subscribed {
        Some(subscribed) => subscribed.messages.next().await,
        None => pending().await,
    }
}

/// Waits for a future, if there is one.
async fn output_of<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

/// Whether the log says that subscribing fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reported {
    Yes,
    No,
}

impl Subscriber {
    /// Runs for as long as the store lives.
    pub(crate) async fn run(self) {
        let mut failure = Reported::No;
        loop {
            let Some(endpoint) = self.lanes.iter().find_map(|lane| lane.bus_endpoint()) else {
                self.bus.wanted().await;
                continue;
            };
            // The limit covers a server that accepts and then says nothing.
            match timeout(self.config.connect_timeout, self.subscribe(&endpoint)).await {
                Ok(Ok(subscribed)) => {
                    failure = Reported::No;
                    self.serve(subscribed, &endpoint).await;
                }
                failed => {
                    self.bus.note_tried();
                    if failure == Reported::No {
                        let reason = match failed {
                            Ok(Err(refused)) => words(&refused),
                            _ => "no answer in time".to_owned(),
                        };
                        warn!(event = "channel_refused", channel = %self.bus.publisher.channel(), %reason,
                            "cannot subscribe to the invalidation channel: entries in L1 live at most as long as \
                             degraded_l1_ttl says");
                    }
                    failure = Reported::Yes;
                }
            }
            tokio::time::sleep(PAUSE.mul_f64(0.5 + fastrand::f64())).await;
        }
    }

    async fn subscribe(&self, endpoint: &Endpoint) -> RedisResult<Subscribed> {
        let (connection, renew_at) = endpoint.subscriber().await?;
        let (mut sink, messages) = connection.split();
        sink.subscribe(self.bus.publisher.channel()).await?;
        Ok(Subscribed {
            messages,
            _sink: sink,
            renew_at,
        })
    }

    /// Listens until the subscription ends or is found deaf.
    async fn serve(&self, subscribed: Subscribed, endpoint: &Endpoint) {
        let channel = self.bus.publisher.channel();
        // P26 scripts-publish: subscribed before it is believed; what was read until now nobody has
        // told of.
        self.bus.set_up(Subscription::Up);
        self.tell_lost();
        self.bus.note_tried();
        info!(event = "channel_subscribed", %channel, "subscribed to the invalidation channel");
        let reason = tokio::select! {
            () = self.listen(subscribed, endpoint) => "it has ended",
            () = self.beat() => "it is deaf",
        };
        // P26 scripts-publish, in the order of P10 loss-told-before-successor: first nobody
        // believes it any more.
        self.bus.set_up(Subscription::Down);
        self.tell_lost();
        self.listeners.stats.lanes_lost.add(1);
        warn!(event = "channel_lost", %channel, reason, "lost the subscription to the invalidation channel");
    }

    /// Makes everything out of date that was read while nobody listened, or was told while nobody
    /// heard.
    fn tell_lost(&self) {
        self.lanes.iter().for_each(|lane| lane.current.tell_lost());
    }

    async fn listen(&self, mut subscribed: Subscribed, endpoint: &Endpoint) {
        let mut renewal = None;
        let mut older: Option<Subscribed> = None;
        loop {
            let renew_at = subscribed.renew_at;
            let close_at = older.as_ref().and_then(|older| older.renew_at);
            tokio::select! {
                message = subscribed.messages.next() => match message {
                    Some(message) => self.handle(&message),
                    None => return,
                },
                // What was published before the newer subscription comes over the older one alone.
                message = next_of(&mut older) => match message {
                    Some(message) => self.handle(&message),
                    None => older = None,
                },
                () = due(renew_at), if renewal.is_none() => {
                    // A subscribed connection of the older protocol cannot log in anew, so that
                    // another one takes its place.
                    let limit = self.config.connect_timeout;
                    renewal = Some(Box::pin(timeout(limit, self.subscribe(endpoint))));
                }
                renewed = output_of(&mut renewal) => {
                    renewal = None;
                    match renewed {
                        Ok(Ok(newer)) => {
                            let mut replaced = std::mem::replace(&mut subscribed, newer);
                            // A beat that is on its way has come by then, or is late anyway.
                            replaced.renew_at = Some(Instant::now() + self.config.command_timeout);
                            older = Some(replaced);
                        }
                        _failed => subscribed.renew_at = Some(Instant::now() + RENEWAL_PAUSE),
                    }
                }
                () = due(close_at) => {
                    older = None;
                    // P26 scripts-publish: what it was told last is missed, if anything was.
                    self.tell_lost();
                }
            }
        }
    }

    fn handle(&self, message: &Msg) {
        let Ok(message) = message.get_payload::<String>() else {
            return;
        };
        match self.bus.publisher.parse(&message) {
            Message::Changed(name) => {
                let lanes = self.lanes.iter().map(|lane| lane.index());
                self.listeners.tell_change(&self.names, lanes, name);
            }
            Message::Cleared(prefix) => {
                self.listeners.stats.pushes.add(1);
                self.listeners.tell(Push::Prefix(prefix));
            }
            Message::OwnBeat(beat) => self.bus.note_heard(beat),
            Message::Other => {}
        }
    }

    /// Sends a message to this process itself from time to time, and returns when one does not come
    /// back.
    // P13 silence-is-not-health and P27 channel-proves-alive: a subscription that is connected but
    // deaf does not say so.
    async fn beat(&self) {
        let mut heard = self.bus.heard();
        let mut beat = *heard.borrow();
        loop {
            tokio::time::sleep(self.config.ping_interval).await;
            let Some(lane) = self.lanes.iter().find(|lane| lane.needs_bus()) else {
                continue;
            };
            beat = next_beat(beat);
            let (message, sent) = (self.bus.publisher.beat_message(beat), Instant::now());
            if lane
                .current
                .publish(&self.bus.publisher, &message)
                .await
                .is_err()
            {
                continue; // the lane's own loss, which is told as such
            }
            // The limit is that of any other reply.
            let heard = heard.wait_for(|heard| *heard == beat);
            match timeout(self.config.command_timeout, heard).await {
                Ok(_) => self.listeners.stats.note_push_lag(sent.elapsed()),
                Err(_) => {
                    self.listeners.stats.probe_failures.add(1);
                    return;
                }
            }
        }
    }
}
