use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use larder_core::LaneState;

use crate::connection::{bus::Bus, session::Session};

/// Whether a lane is told of changes.
pub(crate) struct Health {
    pub(crate) bus: Arc<Bus>,
    /// Whether the last probe did not come back. The flag outlives sessions.
    deaf: AtomicBool,
}

/// The result of the last probe of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hearing {
    Hears,
    Deaf,
}

impl Health {
    pub(crate) fn new(bus: Arc<Bus>) -> Self {
        Self {
            bus,
            deaf: AtomicBool::new(false),
        }
    }

    // P12 tracking-never-assumed, P26 scripts-publish, P27 channel-proves-alive: that changes are
    // told is never assumed.
    pub(crate) fn state(&self, session: Option<&Session>) -> LaneState {
        match session {
            None => LaneState::Down,
            Some(session) if session.tracks && !self.is_deaf() => match session.is_scattered() {
                false => LaneState::Tracking,
                true => LaneState::Scattered, // P24 tags-known-by-lane
            },
            // Other processes may track, and these publish nothing.
            Some(session) if !session.tracks && self.bus.tells_all() => LaneState::Subscribed,
            Some(_) => LaneState::Untracked,
        }
    }

    /// Whether the last probe did not come back.
    pub(crate) fn is_deaf(&self) -> bool {
        self.deaf.load(Ordering::Acquire)
    }

    /// Notes what a probe has shown, and returns what the one before it had shown.
    pub(crate) fn set(&self, hearing: Hearing) -> Hearing {
        // AcqRel pairs with the Acquire in `is_deaf`.
        match self.deaf.swap(hearing == Hearing::Deaf, Ordering::AcqRel) {
            true => Hearing::Deaf,
            false => Hearing::Hears,
        }
    }
}
