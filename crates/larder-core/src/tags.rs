use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// What one process knows of the tags that its entries carry: under which order number each is held.
///
/// There is a board for each lane, because a tag is known through the lane of the entry that has it, and one more for
/// entries that were read through none: there the process has an order of its own.
///
/// An entry with tags carries a [`TagStamp`]. To invalidate a tag is to make its cell unknown, however many entries
/// have it.
pub struct Tags {
    lanes: Box<[Board]>,
    own: Mutex<Own>,
}

type Board = Mutex<CellsByTag>;

/// Generations by their tags, without those that nobody uses any more.
#[derive(Default)]
struct CellsByTag {
    cells: HashMap<Box<str>, Arc<TagCell>>,
    /// How many cells there may be before those that are not in use are looked for.
    room: usize,
}

/// The order number under which one tag is held, as one lane has read it.
///
/// A cell is unknown at first, is known once, and then unknown for ever: whoever asks later gets a new cell.
pub struct TagCell(AtomicU64);

/// Both are larger than every order number, so that an entry whose tag is not known is not valid.
const UNKNOWN: u64 = u64::MAX;
const FORGOTTEN: u64 = u64::MAX - 1;

/// The order number of an entry, and the cells of its tags.
#[derive(Debug)]
pub struct TagStamp {
    order: u64,
    cells: Box<[Arc<TagCell>]>,
}

/// What a process without a remote store, or cut off from it, keeps by itself.
struct Own {
    order: u64,
    held: CellsByTag,
}

/// The name of the cell that holds E; no tag has it.
const ORDER: &str = "";
/// So many cells are never too many.
const ALWAYS_ROOM: usize = 1024;

impl Tags {
    /// Makes boards for so many lanes.
    pub fn new(lanes: u16) -> Self {
        let own = Own { order: 1, held: CellsByTag::default() };
        Self { lanes: (0..lanes).map(|_| Board::default()).collect(), own: Mutex::new(own) }
    }

    /// The cell of a tag. Get it **before** the remote store is asked: only then does [`TagCell::learn`] notice that
    /// the tag was invalidated meanwhile.
    // P24 tags-known-by-lane
    pub fn cell(&self, lane: u16, tag: &str) -> Arc<TagCell> {
        let Some(board) = self.lanes.get(usize::from(lane)) else { return Arc::default() };
        let mut board = lock(board);
        match board.cells.get(tag) {
            Some(cell) => cell.clone(),
            None => board.add(tag, TagCell::default()),
        }
    }

    /// The cell of the order number E itself, see [`cell`](Self::cell).
    pub fn epoch_cell(&self, lane: u16) -> Arc<TagCell> {
        self.cell(lane, ORDER)
    }

    /// Makes a tag unknown that a lane was told of.
    pub fn forget(&self, lane: u16, tag: &str) {
        if let Some(cell) = self.lanes.get(usize::from(lane)).and_then(|board| lock(board).cells.remove(tag))
        {
            cell.forget();
        }
    }

    /// Makes E unknown, which a lane was told of.
    pub fn forget_epoch(&self, lane: u16) {
        self.forget(lane, ORDER);
    }

    /// Makes everything unknown that was read through this lane.
    pub fn forget_lane(&self, lane: u16) {
        if let Some(board) = self.lanes.get(usize::from(lane)) {
            lock(board).cells.drain().for_each(|(_, cell)| cell.forget());
        }
    }

    /// Invalidates a tag in this process: every entry that has it is out of date, and every load that has begun.
    pub fn invalidate(&self, tag: &str) {
        let mut own = lock(&self.own);
        own.order += 1;
        if let Some(cell) = own.held.cells.remove(tag) {
            cell.forget();
        }
        drop(own);
        for lane in 0..u16::try_from(self.lanes.len()).unwrap_or(u16::MAX) {
            self.forget(lane, tag);
            self.forget_epoch(lane);
        }
    }

    /// The process's own order number, for a load without a remote store. Get it **before** the load begins.
    // P22 epoch-before-load
    pub fn own_epoch(&self) -> u64 {
        lock(&self.own).order
    }

    /// Holds tags for an entry of this process alone, under its own order; `None` if one of them was invalidated since
    /// `order`, or may have been.
    // P23 tags-pinned-before-commit
    pub fn hold<'a>(&self, order: u64, tags: impl IntoIterator<Item = &'a str>) -> Option<TagStamp> {
        let mut own = lock(&self.own);
        let mut cells = Vec::new();
        for tag in tags {
            if let Some(cell) = own.held.cells.get(tag) {
                cells.push(cell.clone());
            } else if own.order == order {
                cells.push(own.held.add(tag, TagCell(AtomicU64::new(order))));
            } else {
                return None;
            }
        }
        Some(TagStamp::new(order, cells)).filter(TagStamp::is_current)
    }
}

impl CellsByTag {
    fn add(&mut self, tag: &str, cell: TagCell) -> Arc<TagCell> {
        if self.cells.len() >= self.room.max(ALWAYS_ROOM) {
            // Nobody can get a cell that is in use here only: whoever would must hold the lock.
            self.cells.retain(|_, cell| Arc::strong_count(cell) > 1);
            self.room = 2 * self.cells.len();
        }
        let cell = Arc::new(cell);
        self.cells.insert(tag.into(), cell.clone());
        cell
    }
}

impl TagCell {
    /// The order number under which the tag is held, if this is known.
    pub fn known(&self) -> Option<u64> {
        let order = self.0.load(Ordering::Acquire);
        (order < FORGOTTEN).then_some(order)
    }

    /// Takes note of what the remote store answered; in vain if the tag was made unknown since this cell was got.
    // P24 tags-known-by-lane: from unknown only, and never from forgotten.
    pub fn learn(&self, order: u64) {
        let order = order.min(FORGOTTEN - 1);
        if let Err(known) = self.0.compare_exchange(UNKNOWN, order, Ordering::AcqRel, Ordering::Acquire)
            && known != order
        {
            // It changed without our being told, as it may where the server pushes nothing.
            self.forget();
        }
    }

    fn forget(&self) {
        // Release, pairs with the Acquire loads: who sees an invalidation return sees its effect.
        self.0.store(FORGOTTEN, Ordering::Release);
    }

    #[inline]
    fn at_most(&self, order: u64) -> bool {
        self.0.load(Ordering::Acquire) <= order
    }
}

impl Default for TagCell {
    fn default() -> Self {
        Self(AtomicU64::new(UNKNOWN))
    }
}

impl TagStamp {
    /// Stamps an entry that has this order number, and tags with these cells.
    pub fn new(order: u64, cells: impl Into<Box<[Arc<TagCell>]>>) -> Self {
        Self { order: order.min(FORGOTTEN - 1), cells: cells.into() }
    }

    /// Tells whether every tag is held, under no more than the entry's own number.
    // P21 tags-pinned-in-time: one load for each tag, and no lock.
    #[inline]
    pub fn is_current(&self) -> bool {
        self.cells.iter().all(|cell| cell.at_most(self.order))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing done under these locks can panic half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn number_that_was_asked_for_before_the_tag_was_forgotten_is_not_learned() {
        let tags = Tags::new(1);
        let asked = tags.cell(0, "t");
        tags.forget(0, "t");
        asked.learn(5);
        assert!(!TagStamp::new(9, [asked]).is_current());
        let again = tags.cell(0, "t");
        again.learn(5);
        assert!(TagStamp::new(5, [again.clone()]).is_current());
        assert!(!TagStamp::new(4, [again]).is_current(), "held under more than the entry's number");
    }

    #[test]
    fn unknown_tag_makes_entries_invalid_and_a_lost_lane_forgets_its_own_only() {
        let tags = Tags::new(2);
        let (one, other) = (tags.cell(0, "t"), tags.cell(1, "t"));
        assert!(!TagStamp::new(u64::MAX, [one.clone()]).is_current());
        one.learn(1);
        other.learn(1);
        tags.forget_lane(0);
        assert_eq!((one.known(), other.known()), (None, Some(1)));
        tags.invalidate("t");
        assert_eq!(other.known(), None);
    }

    #[test]
    fn tag_invalidated_during_a_load_refuses_its_value_and_a_later_load_lives() {
        let tags = Tags::new(0);
        let before = tags.own_epoch();
        tags.invalidate("t");
        assert!(tags.hold(before, ["t"]).is_none());
        let after = tags.own_epoch();
        let kept = tags.hold(after, ["t", "u"]).unwrap();
        tags.invalidate("other");
        assert!(kept.is_current());
        tags.invalidate("u");
        assert!(!kept.is_current());
        assert!(tags.hold(after, ["t"]).is_some(), "it is held since before");
        assert!(tags.hold(after, ["u"]).is_none());
    }

    #[test]
    fn cells_that_nobody_uses_are_given_up() {
        let tags = Tags::new(1);
        let used = tags.cell(0, "used");
        used.learn(1);
        for n in 0..10 * ALWAYS_ROOM {
            tags.cell(0, &n.to_string());
        }
        assert!(lock(&tags.lanes[0]).cells.len() <= ALWAYS_ROOM);
        assert_eq!(tags.cell(0, "used").known(), Some(1));
    }
}
