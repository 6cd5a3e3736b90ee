use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{generations::LaneIndex, sync::lock};

/// The tags of one process's entries, and the tag epoch under which each is pinned.
///
/// A tag is known through the lane of the entry that has it, so each lane has cells of its own. For
/// entries that were read through no lane the process keeps an epoch and pins of its own.
///
/// An entry with tags carries a [`TagStamp`]. To invalidate a tag makes its cell unknown, however
/// many entries have the tag.
///
/// # Examples
/// ```
/// use larder_core::Tags;
///
/// let tags = Tags::new(0); // no remote store
/// let epoch = tags.own_epoch(); // before the load
/// let stamp = tags.pin(epoch, ["org:7"]).unwrap(); // after it
/// assert!(stamp.is_current());
///
/// tags.invalidate("org:7");
/// assert!(!stamp.is_current());
/// ```
pub struct Tags {
    lanes: Box<[Mutex<CellsByTag>]>,
    own: Mutex<Own>,
}

/// A number that grows with each invalidation of any tag, E in the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagEpoch(pub u64);

/// The cells of tags in use.
#[derive(Default)]
struct CellsByTag {
    cells: HashMap<Box<str>, Arc<TagCell>>,
    /// The number of cells at which those that are not in use are looked for.
    room: usize,
}

/// The epoch under which one tag is pinned, as one lane has read it.
///
/// A cell is unknown at first, then known once, then unknown for ever. A caller that asks later
/// gets a new cell.
pub struct TagCell(AtomicU64);

/// Larger than every epoch, so that an entry whose tag is not known is not valid.
const UNKNOWN: u64 = u64::MAX;
/// Like [`UNKNOWN`], and for ever.
const FORGOTTEN: u64 = u64::MAX - 1;

/// The epoch of an entry, and the cells of its tags.
#[derive(Debug)]
pub struct TagStamp {
    epoch: TagEpoch,
    cells: Box<[Arc<TagCell>]>,
}

/// The pins of a process without a remote store, or cut off from it.
struct Own {
    epoch: TagEpoch,
    pinned: CellsByTag,
}

/// The name of the cell that holds E. No tag has it.
const EPOCH: &str = "";

/// Cells of a lane that are never too many, 1,024, so that few cells are not walked over and over.
const ALWAYS_ROOM: usize = 1024;

impl Tags {
    /// Makes room for the tags of this many lanes.
    pub fn new(lanes: u16) -> Self {
        let own = Own {
            epoch: TagEpoch(1),
            pinned: CellsByTag::default(),
        };
        Self {
            lanes: (0..lanes).map(|_| Mutex::default()).collect(),
            own: Mutex::new(own),
        }
    }

    /// The cell of a tag. Get it **before** the remote store is asked.
    ///
    /// Only then does [`TagCell::learn`] notice that the tag was invalidated meanwhile.
    ///
    /// # Examples
    /// ```
    /// use larder_core::{LaneIndex, TagEpoch, TagStamp, Tags};
    ///
    /// let (tags, lane) = (Tags::new(1), LaneIndex(0));
    /// let cell = tags.cell(lane, "org:7"); // then the remote store is asked
    /// cell.learn(TagEpoch(5)); // its answer
    /// let stamp = TagStamp::new(TagEpoch(6), [cell]);
    /// assert!(stamp.is_current());
    ///
    /// tags.forget(lane, "org:7"); // a push names the tag
    /// assert!(!stamp.is_current());
    /// ```
    // P24 tags-known-by-lane
    pub fn cell(&self, lane: LaneIndex, tag: &str) -> Arc<TagCell> {
        let Some(lane) = self.lanes.get(usize::from(lane.0)) else {
            return Arc::default();
        };
        let mut known = lock(lane);
        match known.cells.get(tag) {
            Some(cell) => cell.clone(),
            None => known.add(tag, TagCell::default()),
        }
    }

    /// The cell of the tag epoch itself, see [`cell`](Self::cell).
    pub fn epoch_cell(&self, lane: LaneIndex) -> Arc<TagCell> {
        self.cell(lane, EPOCH)
    }

    /// Makes a tag unknown, because a push through this lane named it.
    pub fn forget(&self, lane: LaneIndex, tag: &str) {
        let lane = self.lanes.get(usize::from(lane.0));
        if let Some(cell) = lane.and_then(|lane| lock(lane).cells.remove(tag)) {
            cell.forget();
        }
    }

    /// Makes the tag epoch unknown, because a push through this lane named it.
    pub fn forget_epoch(&self, lane: LaneIndex) {
        self.forget(lane, EPOCH);
    }

    /// Makes everything unknown that was read through this lane.
    pub fn forget_lane(&self, lane: LaneIndex) {
        if let Some(lane) = self.lanes.get(usize::from(lane.0)) {
            lock(lane).cells.drain().for_each(|(_, cell)| cell.forget());
        }
    }

    /// Invalidates a tag in this process: every entry that has it, and every load that has begun.
    pub fn invalidate(&self, tag: &str) {
        let mut own = lock(&self.own);
        own.epoch.0 += 1;
        if let Some(cell) = own.pinned.cells.remove(tag) {
            cell.forget();
        }
        drop(own);
        for lane in LaneIndex::all(u16::try_from(self.lanes.len()).unwrap_or(u16::MAX)) {
            self.forget(lane, tag);
            self.forget_epoch(lane);
        }
    }

    /// The process's own epoch, for a load without a remote store. Get it **before** the load
    /// begins.
    // P22 epoch-before-load
    pub fn own_epoch(&self) -> TagEpoch {
        lock(&self.own).epoch
    }

    /// Pins tags for an entry of this process alone, under its own epoch.
    ///
    /// `None` if a tag was invalidated since `epoch`, or may have been.
    // P23 tags-pinned-before-commit
    pub fn pin<'a>(
        &self,
        epoch: TagEpoch,
        tags: impl IntoIterator<Item = &'a str>,
    ) -> Option<TagStamp> {
        let mut own = lock(&self.own);
        let mut cells = Vec::new();
        for tag in tags {
            if let Some(cell) = own.pinned.cells.get(tag) {
                cells.push(cell.clone());
            } else if own.epoch == epoch {
                cells.push(own.pinned.add(tag, TagCell(AtomicU64::new(epoch.0))));
            } else {
                return None;
            }
        }
        Some(TagStamp::new(epoch, cells)).filter(TagStamp::is_current)
    }
}

impl CellsByTag {
    fn add(&mut self, tag: &str, cell: TagCell) -> Arc<TagCell> {
        if self.cells.len() >= self.room.max(ALWAYS_ROOM) {
            // A cell with one owner is in use here only, and no caller can get it without the lock.
            self.cells.retain(|_, cell| Arc::strong_count(cell) > 1);
            self.room = 2 * self.cells.len();
        }
        let cell = Arc::new(cell);
        self.cells.insert(tag.into(), cell.clone());
        cell
    }
}

impl TagCell {
    /// The epoch under which the tag is pinned, if this is known.
    pub fn known(&self) -> Option<TagEpoch> {
        let epoch = self.0.load(Ordering::Acquire);
        (epoch < FORGOTTEN).then_some(TagEpoch(epoch))
    }

    /// Takes note of the remote store's answer, unless the tag was made unknown after this cell was
    /// got.
    // P24 tags-known-by-lane: from unknown only, and never from forgotten.
    pub fn learn(&self, epoch: TagEpoch) {
        let epoch = epoch.0.min(FORGOTTEN - 1);
        let learned = self
            .0
            .compare_exchange(UNKNOWN, epoch, Ordering::AcqRel, Ordering::Acquire);
        if learned.is_err_and(|known| known != epoch) {
            // It changed without a push, as it may where the server pushes nothing.
            self.forget();
        }
    }

    fn forget(&self) {
        // Release, pairs with the Acquire loads: a caller that saw an invalidation return sees its
        // effect.
        self.0.store(FORGOTTEN, Ordering::Release);
    }

    #[inline]
    fn at_most(&self, epoch: TagEpoch) -> bool {
        self.0.load(Ordering::Acquire) <= epoch.0
    }
}

impl Default for TagCell {
    fn default() -> Self {
        Self(AtomicU64::new(UNKNOWN))
    }
}

impl TagStamp {
    /// Stamps an entry that has this epoch, and tags with these cells.
    pub fn new(epoch: TagEpoch, cells: impl Into<Box<[Arc<TagCell>]>>) -> Self {
        Self {
            epoch: epoch.min(TagEpoch(FORGOTTEN - 1)),
            cells: cells.into(),
        }
    }

    /// Tells whether every tag is pinned, under no later epoch than the entry's own.
    // P21 tags-pinned-in-time: one load for each tag, and no lock.
    #[inline]
    pub fn is_current(&self) -> bool {
        self.cells.iter().all(|cell| cell.at_most(self.epoch))
    }
}

impl fmt::Debug for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known: usize = self.lanes.iter().map(|board| lock(board).cells.len()).sum();
        f.debug_struct("Tags")
            .field("lanes", &self.lanes.len())
            .field("known", &known)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TagCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TagCell").field(&self.known()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoch_that_was_asked_for_before_the_tag_was_forgotten_is_not_learned() {
        let tags = Tags::new(1);
        let asked = tags.cell(LaneIndex(0), "t");
        tags.forget(LaneIndex(0), "t");
        asked.learn(TagEpoch(5));
        assert!(!TagStamp::new(TagEpoch(9), [asked]).is_current());
        let again = tags.cell(LaneIndex(0), "t");
        again.learn(TagEpoch(5));
        assert!(TagStamp::new(TagEpoch(5), [again.clone()]).is_current());
        assert!(
            !TagStamp::new(TagEpoch(4), [again]).is_current(),
            "pinned under a later epoch than the entry's"
        );
    }

    #[test]
    fn unknown_tag_makes_entries_invalid_and_a_lost_lane_forgets_its_own_only() {
        let tags = Tags::new(2);
        let (one, other) = (tags.cell(LaneIndex(0), "t"), tags.cell(LaneIndex(1), "t"));
        assert!(!TagStamp::new(TagEpoch(u64::MAX), [one.clone()]).is_current());
        one.learn(TagEpoch(1));
        other.learn(TagEpoch(1));
        tags.forget_lane(LaneIndex(0));
        assert_eq!((one.known(), other.known()), (None, Some(TagEpoch(1))));
        tags.invalidate("t");
        assert_eq!(other.known(), None);
    }

    #[test]
    fn tag_invalidated_during_a_load_refuses_its_value_and_a_later_load_lives() {
        let tags = Tags::new(0);
        let before = tags.own_epoch();
        tags.invalidate("t");
        assert!(tags.pin(before, ["t"]).is_none());
        let after = tags.own_epoch();
        let kept = tags.pin(after, ["t", "u"]).unwrap();
        tags.invalidate("other");
        assert!(kept.is_current());
        tags.invalidate("u");
        assert!(!kept.is_current());
        assert!(
            tags.pin(after, ["t"]).is_some(),
            "it is pinned since before"
        );
        assert!(tags.pin(after, ["u"]).is_none());
    }

    #[test]
    fn cells_out_of_use_are_given_up() {
        let tags = Tags::new(1);
        let used = tags.cell(LaneIndex(0), "used");
        used.learn(TagEpoch(1));
        for n in 0..10 * ALWAYS_ROOM {
            tags.cell(LaneIndex(0), &n.to_string());
        }
        assert!(lock(&tags.lanes[0]).cells.len() <= ALWAYS_ROOM);
        assert_eq!(tags.cell(LaneIndex(0), "used").known(), Some(TagEpoch(1)));
    }
}
