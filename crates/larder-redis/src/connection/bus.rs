use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, watch};

use crate::{command::publisher::Publisher, config::coherence::Coherence};

/// The state of the invalidation channel. The scripts publish on it what they change where the
/// server refuses tracking, and the store's subscriber hears what other processes' scripts have
/// changed.
pub(crate) struct Bus {
    pub(crate) publisher: Publisher,
    pub(crate) coherence: Coherence,
    /// Whether this process is subscribed.
    is_up: AtomicBool,
    /// Wakes the subscriber: a lane has found that its server does not track.
    wanted: Notify,
    /// The number of the latest beat that came back.
    heard: watch::Sender<u64>,
    /// Whether the subscriber has tried to subscribe, with or without success.
    tried: watch::Sender<bool>,
}

impl Bus {
    pub(crate) fn new(channel: String, coherence: Coherence) -> Self {
        Self {
            publisher: Publisher::new(channel),
            coherence,
            is_up: AtomicBool::new(false),
            wanted: Notify::new(),
            heard: watch::Sender::new(0),
            tried: watch::Sender::new(false),
        }
    }

    /// Says that a lane may need the channel.
    pub(crate) fn want(&self) {
        self.wanted.notify_one();
    }

    /// Waits until a lane may need the channel.
    pub(crate) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Whether this process hears of every other process's changes.
    // P26 scripts-publish: only a fleet that is set so publishes all of its changes.
    pub(crate) fn tells_all(&self) -> bool {
        self.coherence == Coherence::Channel && self.is_up.load(Ordering::Acquire)
    }

    /// Notes whether the process is subscribed.
    pub(crate) fn set_up(&self, state: Subscription) {
        // Release pairs with the Acquire of the lanes that ask.
        self.is_up
            .store(state == Subscription::Up, Ordering::Release);
    }

    /// Notes that the subscriber has tried to subscribe.
    pub(crate) fn note_tried(&self) {
        self.tried.send_replace(true);
    }

    /// Waits until the subscriber has tried to subscribe.
    pub(crate) async fn tried(&self) {
        // The sender lives as long as `self`, so there is no error.
        let _ = self.tried.subscribe().wait_for(|tried| *tried).await;
    }

    /// Notes that a beat came back.
    pub(crate) fn note_heard(&self, beat: u64) {
        self.heard.send_replace(beat);
    }

    /// The latest beat that came back, and those to come.
    pub(crate) fn heard(&self) -> watch::Receiver<u64> {
        self.heard.subscribe()
    }
}

/// Whether a process hears what others publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subscription {
    Up,
    Down,
}
