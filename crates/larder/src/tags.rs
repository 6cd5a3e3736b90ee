//! The tags of a policy's entries: which they are, whether they are held, and the frame that names them in L2.

use std::{sync::Arc, time::Duration};

use larder_core::{Digest, Key, LaneState, Life, Moment, Stamp, StoreError, TagCell, TagStamp, ValueHeader};
use larder_lock::Leases;

use crate::{
    Error,
    encoding::{Value, encode},
    row::{Found, RowState},
};

/// What stands before a tag of the application, and before the tag of a policy, so that no two are the same.
const TAG: &str = "tag:";
const ROW: &str = "row:";

const LONGEST_TAG: usize = 1024;
const MOST_TAGS: usize = 256;

/// The order numbers from before a load or write began. P22 epoch-before-load
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TagEpochs {
    /// The process's own, for what is kept in L1 alone.
    pub(crate) own: u64,
    /// E; unknown if L2 did not say.
    pub(crate) remote: Option<u64>,
}

/// By what a value that L2 has is known again.
#[derive(Debug)]
pub(crate) struct Sealed {
    digest: Digest,
    size: usize,
    frame: Option<Framed>,
    /// When L2 has let go of it at the latest.
    pub(crate) ends: Moment,
}

/// The frame of such a value: its order number and its tags.
#[derive(Debug)]
struct Framed {
    order: u64,
    row: bool,
    tags: Box<[Box<str>]>,
}

impl Sealed {
    pub(crate) fn new(digest: Digest, size: usize, frame: Option<&ValueHeader<'_>>, ends: Moment) -> Self {
        Self { digest, size, frame: frame.map(Framed::from), ends }
    }
}

impl From<&ValueHeader<'_>> for Framed {
    fn from(frame: &ValueHeader<'_>) -> Self {
        Self {
            order: frame.order,
            row: frame.row,
            tags: frame.tags.iter().map(|tag| (*tag).into()).collect(),
        }
    }
}

impl Framed {
    fn frame(&self) -> ValueHeader<'_> {
        ValueHeader { order: self.order, row: self.row, tags: self.tags.iter().map(|tag| &**tag).collect() }
    }
}

/// Whether the tags of a value are held for L1.
pub(crate) enum Pinned {
    /// They are, if there are any.
    Kept(Option<Arc<TagStamp>>),
    /// One of them was invalidated since the load began, or may have been.
    Refused,
}

/// The full name of an application's tag.
pub(crate) fn tag_name(key: Option<&Key>, tag: &str) -> Result<String, Error> {
    if tag.is_empty() || tag.len() > LONGEST_TAG {
        let problem = format!("it has {} bytes, and must have 1 to {LONGEST_TAG}", tag.len());
        return Err(tag_error(key, tag, problem));
    }
    Ok(format!("{TAG}{tag}"))
}

fn tag_error(key: Option<&Key>, tag: &str, problem: String) -> Error {
    Error::Tag { key: key.map(Key::to_string), tag: tag.chars().take(80).collect(), problem }
}

/// The full name of the tag that all entries of a framed policy have.
pub(crate) fn row_tag(prefix: &str) -> String {
    format!("{ROW}{prefix}")
}

impl<T: Value> RowState<T> {
    /// The order numbers of now. E is only asked for if this process does not know it, or is not told of its changes.
    pub(crate) async fn tag_epochs(&self, key: &Key) -> TagEpochs {
        let own = self.shared.tags.own_epoch();
        let Some(leases) = &self.leases else { return TagEpochs { own, remote: None } };
        let lane = self.lane(key);
        let cell = self.shared.tags.epoch_cell(lane); // P24 tags-known-by-lane: before it is asked for
        // Also where it is told in no order with the replies: a number that is too old only makes the check stricter.
        let is_told = match leases.remote().lane_state(lane) {
            LaneState::Tracking | LaneState::Scattered | LaneState::Subscribed => true,
            LaneState::Untracked | LaneState::Down => false,
        };
        if let Some(order) = cell.known().filter(|_| is_told) {
            return TagEpochs { own, remote: Some(order) };
        }
        let remote = match leases.remote().tag_epoch(lane).await {
            Ok(order) => {
                cell.learn(order);
                Some(order)
            }
            // The error that the caller is about to meet anyway is told there.
            Err(_) => None,
        };
        TagEpochs { own, remote }
    }

    /// The full names of an entry's tags; none for one that is to be stored without a frame.
    fn names(&self, key: &Key, tags: &[Box<str>], row: bool) -> Result<Vec<String>, Error> {
        if tags.len() > MOST_TAGS {
            let problem = format!("an entry has {} tags, and may have {MOST_TAGS}", tags.len());
            return Err(tag_error(Some(key), &tags[0], problem));
        }
        let mut names = tags.iter().map(|tag| tag_name(Some(key), tag)).collect::<Result<Vec<_>, _>>()?;
        names.sort_unstable();
        names.dedup();
        if row {
            names.push(row_tag(&self.prefix));
        }
        Ok(names)
    }

    /// Checks that the tags can be used at all.
    pub(crate) fn check_tags(&self, key: &Key, found: &Found<T>) -> Result<(), Error> {
        self.names(key, found.tags(), false).map(drop)
    }

    /// Encodes a value and holds its tags. `None` if one of them was invalidated since these numbers were read, or may
    /// have been.
    pub(crate) async fn seal(
        &self,
        leases: &Leases,
        key: &Key,
        found: &Found<T>,
        orders: TagEpochs,
        ttl: Duration,
    ) -> Result<Option<(Vec<u8>, Sealed)>, Error> {
        let sealed = |bytes: Vec<u8>, frame: Option<&ValueHeader<'_>>| {
            let sealed = Sealed::new(Digest::of(&bytes), bytes.len(), frame, Moment::NEVER);
            Some((bytes, sealed))
        };
        let names = self.names(key, found.tags(), self.policy.instant_clear())?;
        if names.is_empty() {
            return Ok(sealed(self.encode(key, found.value.as_deref(), None)?, None));
        }
        let Some(order) = orders.remote else { return Ok(None) };
        let tags = found.tags().iter().map(|tag| &**tag).collect();
        let frame = ValueHeader { order, row: self.policy.instant_clear(), tags };
        let bytes = self.encode(key, found.value.as_deref(), Some(&frame))?;
        let holds = self.hold(leases, key, &names, order, ttl).await;
        Ok(holds.then(|| sealed(bytes, Some(&frame))).flatten())
    }

    /// Holds the tags of a value that is to live on. `false` if one of them was invalidated since it was loaded, or may
    /// have been.
    pub(crate) async fn pin_again(&self, leases: &Leases, key: &Key, kept: &Sealed, ttl: Duration) -> bool {
        let Some(frame) = &kept.frame else { return true };
        match self.names(key, &frame.tags, frame.row) {
            Ok(names) => self.hold(leases, key, &names, frame.order, ttl).await,
            Err(_) => false, // it was written with other limits than ours
        }
    }

    // P23 tags-pinned-before-commit: before the value is committed.
    async fn hold(&self, leases: &Leases, key: &Key, names: &[String], order: u64, ttl: Duration) -> bool {
        let lane = self.lane(key);
        let cells: Vec<_> = names.iter().map(|name| self.shared.tags.cell(lane, name)).collect(); // P24 tags-known-by-lane
        let asked: Vec<&str> = names.iter().map(String::as_str).collect();
        match leases.remote().pin_tags(lane, &asked, order, ttl).await {
            Ok(held) => learn(order, cells, held).is_some(),
            Err(error) => {
                self.note_remote(&error);
                false
            }
        }
    }

    /// Keeps in L1 what L2 has taken, if it is still there. `tracked` is its stamp if its commit has read it too.
    // P4 l1-read-from-l2: what L1 has was read from L2, also what this process has stored there itself.
    pub(crate) async fn keep_committed(
        &self,
        leases: &Leases,
        key: &Key,
        value: Option<&Arc<T>>,
        sealed: &Sealed,
        life: Life,
        tracked: Option<Stamp>,
    ) {
        if !self.has_l1 {
            return;
        }
        if let Some(stamp) = tracked.filter(|stamp| self.shared.generations.is_current(key.hash(), stamp)) {
            match self.still_held(leases, key, sealed).await {
                Ok(Some(tags)) => self.keep(key, value, life, stamp, tags, Some(sealed.size)),
                Ok(None) => return,
                Err(error) => return self.note_remote(&error),
            }
            if self.shared.generations.is_current(key.hash(), &stamp) {
                return;
            }
        }
        // The push for the commit itself is handled before the first answer is here: it is in the way once at most.
        for _ in 0..2 {
            let stamp = self.stamp(key); // P1 stamp-before-read
            match self.confirm(leases, key, sealed).await {
                Ok(Some(tags)) => {
                    self.keep(key, value, life, stamp, tags, Some(sealed.size));
                }
                Ok(None) => return,
                Err(error) => return self.note_remote(&error),
            }
            if self.shared.generations.is_current(key.hash(), &stamp) {
                return;
            }
        }
    }

    /// Asks L2 whether it still has a value, and stamps it with its tags, if it has any. `None` if it has not.
    async fn confirm(
        &self,
        leases: &Leases,
        key: &Key,
        sealed: &Sealed,
    ) -> Result<Option<Option<Arc<TagStamp>>>, StoreError> {
        if !leases.remote().holds(key.as_str(), &sealed.digest).await? {
            return Ok(None);
        }
        self.still_held(leases, key, sealed).await
    }

    /// Stamps a value that L2 has with its tags, if it has any. `None` if one of them is not held for it any more.
    async fn still_held(
        &self,
        leases: &Leases,
        key: &Key,
        sealed: &Sealed,
    ) -> Result<Option<Option<Arc<TagStamp>>>, StoreError> {
        match &sealed.frame {
            None => Ok(Some(None)),
            Some(frame) => Ok(self.verify(leases, key, &frame.frame()).await?.map(Some)),
        }
    }

    /// Holds the tags of a value that is kept in L1 alone.
    pub(crate) fn pin_locally(
        &self,
        key: &Key,
        found: &Found<T>,
        orders: TagEpochs,
    ) -> Result<Pinned, Error> {
        let names = self.names(key, found.tags(), false)?;
        if names.is_empty() {
            return Ok(Pinned::Kept(None));
        }
        Ok(match self.shared.tags.hold(orders.own, names.iter().map(String::as_str)) {
            Some(stamp) => Pinned::Kept(Some(Arc::new(stamp))),
            None => Pinned::Refused,
        })
    }

    /// Tells whether an entry of L2 is valid by its tags, and stamps it with them. `None` says that it is not.
    // P21 tags-pinned-in-time
    pub(crate) async fn verify(
        &self,
        leases: &Leases,
        key: &Key,
        frame: &ValueHeader<'_>,
    ) -> Result<Option<Arc<TagStamp>>, StoreError> {
        let lane = self.lane(key);
        let mut names: Vec<String> = frame.tags.iter().map(|tag| format!("{TAG}{tag}")).collect();
        if frame.row {
            names.push(row_tag(&self.prefix));
        }
        let cells: Vec<_> = names.iter().map(|name| self.shared.tags.cell(lane, name)).collect();
        // P24 tags-known-by-lane, P26 scripts-publish: only a push that comes before the answer lets what is known stand for what is true.
        let is_in_order = leases.remote().lane_state(lane) == LaneState::Tracking;
        let known: Option<Vec<u64>> =
            cells.iter().map(|cell| cell.known()).collect::<Option<_>>().filter(|_| is_in_order);
        let held = match known {
            Some(known) => known.into_iter().map(Some).collect(),
            None => {
                let asked: Vec<&str> = names.iter().map(String::as_str).collect();
                leases.remote().tags(lane, &asked).await?
            }
        };
        Ok(learn(frame.order, cells, held))
    }

    /// The bytes under which a value is stored, if they are within the limit.
    pub(crate) fn encode(
        &self,
        key: &Key,
        value: Option<&T>,
        frame: Option<&ValueHeader<'_>>,
    ) -> Result<Vec<u8>, Error> {
        let wrong = |source| Error::Encode { key: key.to_string(), source };
        let mut bytes = Vec::new();
        frame.map_or(Ok(()), |frame| frame.write(&mut bytes)).map_err(wrong)?;
        encode(value, &mut bytes).map_err(wrong)?;
        let (size, limit) = (bytes.len(), self.shared.max_value_size);
        if size > limit {
            return Err(Error::ValueTooLarge { key: key.to_string(), size, limit });
        }
        Ok(bytes)
    }
}

/// Notes what the store said of the tags, and stamps the entry if all of them are held as they must be.
fn learn(order: u64, cells: Vec<Arc<TagCell>>, held: Vec<Option<u64>>) -> Option<Arc<TagStamp>> {
    let mut is_valid = cells.len() == held.len();
    for (cell, held) in cells.iter().zip(held) {
        match held {
            Some(held) => cell.learn(held),
            None => is_valid = false,
        }
        is_valid &= held.is_some_and(|held| held <= order);
    }
    is_valid.then(|| Arc::new(TagStamp::new(order, cells)))
}
