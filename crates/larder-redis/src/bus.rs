use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use deadpool_redis::redis::{RedisResult, aio::PubSubStream, cmd};
use futures_util::StreamExt;
use larder_core::{Push, Token};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tracing::{info, warn};

use crate::{RedisConfig, endpoint::Endpoint, lane::Lane, push::Listeners, wire::Voice};

/// The channel of a store whose server refuses tracking: the scripts tell on it what they change, and this process hears
/// what others' scripts have changed.
///
/// A message is its sender's name, and then the name in Redis that was changed.
pub(crate) struct Bus {
    voice: Voice,
    /// Whether this process hears what is told.
    up: AtomicBool,
    /// Wakes the task that listens: a lane has found that its server does not track.
    wanted: Notify,
    listeners: Arc<Listeners>,
    /// The number of the latest beat that came back.
    heard: watch::Sender<u64>,
    /// Whether it was tried to subscribe, with or without success.
    tried: watch::Sender<bool>,
}

/// A message that says that every key which begins so was invalidated.
const PREFIX: &str = "larder:prefix:";
/// A message to oneself, with a number.
const BEAT: &str = "larder:beat:";

/// The pause before the subscription is tried again.
const PAUSE: Duration = Duration::from_millis(200);

impl Bus {
    pub(crate) fn new(db: i64, listeners: Arc<Listeners>) -> Self {
        // A token is unique, and always of the same alphabet; the bar ends it.
        let voice = Voice {
            channel: format!("larder:bus:{db}").into(),
            sender: format!("{}|", Token::new().as_str()).into(),
        };
        Self {
            voice,
            up: AtomicBool::new(false),
            wanted: Notify::new(),
            listeners,
            heard: watch::Sender::new(0),
            tried: watch::Sender::new(false),
        }
    }

    /// What scripts need to tell.
    pub(crate) fn voice(&self) -> Voice {
        self.voice.clone()
    }

    /// Says that a lane may need the bus.
    pub(crate) fn want(&self) {
        self.wanted.notify_one();
    }

    /// Tells that every key of a prefix was invalidated.
    pub(crate) fn prefix_message(voice: &Voice, prefix: &str) -> String {
        format!("{}{PREFIX}{prefix}", voice.sender)
    }

    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// Waits until it was tried to subscribe.
    pub(crate) async fn tried(&self) {
        // The sender lives as long as `self`, so there is no error.
        let _ = self.tried.subscribe().wait_for(|tried| *tried).await;
    }

    fn handle(&self, lanes: &[Arc<Lane>], message: &str) {
        let Some((sender, name)) = message.split_once('|') else { return };
        if self.voice.sender.strip_suffix('|') == Some(sender) {
            // What it did itself, it knows; but for the sign of life.
            if let Some(beat) = name.strip_prefix(BEAT).and_then(|beat| beat.parse().ok()) {
                self.heard.send_replace(beat);
            }
        } else if let Some(prefix) = name.strip_prefix(PREFIX) {
            self.listeners.tally.pushes.add();
            self.listeners.tell(Push::Prefix(prefix));
        } else if !name.starts_with(BEAT) {
            self.listeners.tell_name(lanes.iter().map(|lane| lane.index()), name);
        }
    }

    /// Makes everything out of date: what was read while nobody listened, or was told while nobody heard.
    fn advance(&self, lanes: &[Arc<Lane>]) {
        lanes.iter().for_each(|lane| self.listeners.tell(Push::Lane(lane.index())));
    }

    /// Listens whenever a lane needs it, for as long as the store lives.
    pub(crate) async fn run(self: Arc<Self>, lanes: Vec<Arc<Lane>>, config: RedisConfig) {
        let mut refused = false;
        loop {
            let Some(endpoint) = lanes.iter().find_map(|lane| lane.bus_endpoint()) else {
                self.wanted.notified().await;
                continue;
            };
            // The limit covers a server that accepts and then says nothing.
            match tokio::time::timeout(config.connect_timeout, subscribe(&endpoint, &self.voice)).await {
                Ok(Ok((_sink, messages))) => {
                    refused = false;
                    // P26 scripts-publish: subscribed before it is believed; what was read until now nobody has told of.
                    self.up.store(true, Ordering::Release);
                    self.advance(&lanes);
                    self.tried.send_replace(true);
                    info!(channel = %self.voice.channel, "hears of other processes' changes over a channel");
                    let reason = tokio::select! {
                        () = self.listen(&lanes, messages) => "it has ended",
                        () = self.beat(&lanes, &config) => "it is deaf",
                    };
                    // P26 scripts-publish, in the order of P10 loss-told-before-successor: first nobody believes it any more.
                    self.up.store(false, Ordering::Release);
                    self.advance(&lanes);
                    self.listeners.tally.lanes_lost.add();
                    warn!(channel = %self.voice.channel, reason, "lost the subscription to other processes' changes");
                }
                failed => {
                    self.tried.send_replace(true);
                    if !refused {
                        let reason =
                            failed.err().map_or_else(|| "it was refused".to_owned(), |e| e.to_string());
                        warn!(channel = %self.voice.channel, %reason,
                            "cannot subscribe to other processes' changes: \
                             entries in L1 live at most as long as degraded_l1_ttl says");
                    }
                    refused = true;
                }
            }
            tokio::time::sleep(PAUSE.mul_f64(0.5 + fastrand::f64())).await;
        }
    }

    async fn listen(&self, lanes: &[Arc<Lane>], mut messages: PubSubStream) {
        while let Some(message) = messages.next().await {
            if let Ok(message) = message.get_payload::<String>() {
                self.handle(lanes, &message);
            }
        }
    }

    /// Sends a message to itself from time to time, and returns when one does not come back.
    // P13 silence-is-not-health and P27 channel-proves-alive: a subscription that is connected but deaf does not say so.
    async fn beat(&self, lanes: &[Arc<Lane>], config: &RedisConfig) {
        let mut heard = self.heard.subscribe();
        let mut beat = *heard.borrow();
        loop {
            tokio::time::sleep(config.ping_interval).await;
            let Some(lane) = lanes.iter().find(|lane| lane.needs_bus()) else { continue };
            beat += 1;
            let (message, sent) = (format!("{}{BEAT}{beat}", self.voice.sender), Instant::now());
            if lane.publish_message(&self.voice, &message).await.is_err() {
                continue; // the lane's own loss, which is told as such
            }
            // The limit is what every other answer has.
            match tokio::time::timeout(config.command_timeout, heard.wait_for(|heard| *heard >= beat)).await {
                Ok(_) => self.listeners.tally.note_lag(sent.elapsed()),
                Err(_) => {
                    self.listeners.tally.probe_failures.add();
                    return;
                }
            }
        }
    }
}

async fn subscribe(
    endpoint: &Endpoint,
    voice: &Voice,
) -> RedisResult<(deadpool_redis::redis::aio::PubSubSink, PubSubStream)> {
    let (mut sink, messages) = endpoint.client()?.get_async_pubsub().await?.split();
    sink.subscribe(&*voice.channel).await?;
    Ok((sink, messages))
}

impl Lane {
    /// Publishes a message, in a cluster at any of its masters: what one says may not reach the others.
    pub(crate) async fn publish_message(
        &self,
        voice: &Voice,
        message: &str,
    ) -> Result<(), larder_core::StoreError> {
        let anywhere = fastrand::u32(..).to_string();
        let publish = cmd("PUBLISH").arg(&*voice.channel).arg(message).clone();
        self.ask(&anywhere, async |mut on| publish.exec_async(&mut on.connection).await).await
    }
}
