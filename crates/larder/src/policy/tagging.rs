use std::{sync::Arc, time::Duration};

use larder_core::{
    Key, LaneIndex, LaneState, RemoteStore, StoreError, TagCell, TagEpoch, TagStamp, Tags,
    ValueHeader,
};
use larder_lock::TagEpochs;

use crate::Error;

/// The tags of a policy's entries: which they are, and whether they are pinned.
#[derive(Debug)]
pub(crate) struct Tagging {
    tags: Arc<Tags>,
    remote: Option<Arc<dyn RemoteStore>>,
    prefix: String,
    /// Whether each entry has the policy's own tag, by which the policy is cleared.
    instant_clear: bool,
}

/// Stands before a tag of the application, and before the tag of a policy, so that no two are
/// equal.
const TAG: &str = "tag:";
const POLICY: &str = "policy:";

/// In bytes: Redis holds a key for each tag.
const LONGEST_TAG: usize = 1024;
const MOST_TAGS: usize = 256;

/// The tags of an entry that may be kept, if it has any.
pub(crate) type PinnedTags = Option<Arc<TagStamp>>;

/// One of a value's tags was invalidated since the value was loaded, or may have been.
pub(crate) struct Unpinned;

/// The full name of an application's tag.
/// `key` is that of the entry which is to have the tag, if it is about one.
pub(crate) fn tag_name(key: Option<&Key>, tag: &str) -> Result<String, Error> {
    if tag.is_empty() || tag.len() > LONGEST_TAG {
        let problem = format!(
            "it has {} bytes, and must have 1 to {LONGEST_TAG}",
            tag.len()
        );
        return Err(tag_error(key, tag, problem));
    }
    Ok(format!("{TAG}{tag}"))
}

fn tag_error(key: Option<&Key>, tag: &str, problem: String) -> Error {
    Error::Tag {
        key: key.map(Key::to_string),
        tag: tag.chars().take(80).collect(),
        problem,
    }
}

/// The full name of the tag that all entries of a policy with `instant_clear` have.
pub(crate) fn policy_tag(prefix: &str) -> String {
    format!("{POLICY}{prefix}")
}

impl Tagging {
    pub(crate) fn new(
        tags: Arc<Tags>,
        remote: Option<Arc<dyn RemoteStore>>,
        prefix: String,
        instant_clear: bool,
    ) -> Self {
        Self {
            tags,
            remote,
            prefix,
            instant_clear,
        }
    }

    pub(crate) fn instant_clear(&self) -> bool {
        self.instant_clear
    }

    /// The epochs of this moment, for a write through this lane.
    pub(crate) async fn epochs(&self, lane: LaneIndex) -> TagEpochs {
        TagEpochs::now(&self.tags, self.remote.as_deref(), lane).await
    }

    /// The full names of an entry's tags in L2; none for one that is stored without a header.
    pub(crate) fn names(&self, key: &Key, tags: &[Box<str>]) -> Result<Vec<String>, Error> {
        self.names_with(key, tags, self.instant_clear)
    }

    /// Checks that the tags can be used at all.
    pub(crate) fn check(&self, key: &Key, tags: &[Box<str>]) -> Result<(), Error> {
        self.names_with(key, tags, false).map(drop)
    }

    fn names_with(
        &self,
        key: &Key,
        tags: &[impl AsRef<str>],
        with_policy_tag: bool,
    ) -> Result<Vec<String>, Error> {
        if tags.len() > MOST_TAGS {
            let problem = format!("an entry has {} tags, and may have {MOST_TAGS}", tags.len());
            return Err(tag_error(Some(key), tags[0].as_ref(), problem));
        }
        let name = |tag: &_| tag_name(Some(key), AsRef::<str>::as_ref(tag));
        let mut names = tags.iter().map(name).collect::<Result<Vec<_>, _>>()?;
        names.sort_unstable();
        names.dedup();
        if with_policy_tag {
            names.push(policy_tag(&self.prefix));
        }
        Ok(names)
    }

    /// Pins the tags of a value of this epoch that is about to be stored for `ttl`. `false` if one
    /// of them was invalidated since, or may have been.
    // P23 tags-pinned-before-commit: the commit comes after this
    pub(crate) async fn pin(
        &self,
        lane: LaneIndex,
        names: &[String],
        epoch: TagEpoch,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let Some(remote) = &self.remote else {
            return Ok(false);
        };
        let cells = self.cells(lane, names);
        let asked: Vec<&str> = names.iter().map(String::as_str).collect();
        let pinned = remote.pin_tags(lane, &asked, epoch, ttl).await?;
        let is_valid = learn(epoch, cells, pinned).is_some();
        if !is_valid {
            // The tag epoch has moved, perhaps without a push: by another program, or where the
            // server pushes nothing.
            self.tags.forget_epoch(lane);
        }
        Ok(is_valid)
    }

    /// Pins the tags of a stored value again that is to live on, as [`pin`](Self::pin) does.
    pub(crate) async fn pin_again(
        &self,
        key: &Key,
        lane: LaneIndex,
        header: &ValueHeader<'_>,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        match self.names_with(key, &header.tags, header.policy_tag) {
            Ok(names) => self.pin(lane, &names, header.epoch, ttl).await,
            Err(_) => Ok(false), // another process wrote it, with other limits than ours
        }
    }

    /// Pins the tags of a value that is kept in L1 alone.
    pub(crate) fn pin_locally(
        &self,
        key: &Key,
        tags: &[Box<str>],
        epochs: TagEpochs,
    ) -> Result<Result<PinnedTags, Unpinned>, Error> {
        let names = self.names_with(key, tags, false)?;
        if names.is_empty() {
            return Ok(Ok(None));
        }
        let pinned = self.tags.pin(epochs.own, names.iter().map(String::as_str));
        Ok(pinned.map(|stamp| Some(Arc::new(stamp))).ok_or(Unpinned))
    }

    /// Judges a value of L2 by its tags, and stamps it with them. `None`: it is outdated.
    // P21 tags-pinned-in-time: each tag is pinned under no more than the value's own epoch
    pub(crate) async fn judge(
        &self,
        lane: LaneIndex,
        header: &ValueHeader<'_>,
    ) -> Result<Option<Arc<TagStamp>>, StoreError> {
        let Some(remote) = &self.remote else {
            return Ok(None);
        };
        let mut names: Vec<String> = header
            .tags
            .iter()
            .map(|tag| format!("{TAG}{tag}"))
            .collect();
        if header.policy_tag {
            names.push(policy_tag(&self.prefix));
        }
        let cells = self.cells(lane, &names);
        // P24 tags-known-by-lane: only where a push comes before the answer, what is known is true.
        // P26 scripts-publish: on the bus it comes in no order, so the tags are read anew.
        let is_in_order = remote.lane_state(lane) == LaneState::Tracking;
        let known: Option<Vec<TagEpoch>> = cells
            .iter()
            .map(|cell| cell.known())
            .collect::<Option<_>>()
            .filter(|_| is_in_order);
        let pinned = match known {
            Some(known) => known.into_iter().map(Some).collect(),
            None => {
                let asked: Vec<&str> = names.iter().map(String::as_str).collect();
                remote.tags(lane, &asked).await?
            }
        };
        Ok(learn(header.epoch, cells, pinned))
    }

    // P24 tags-known-by-lane: taken before the store is asked
    fn cells(&self, lane: LaneIndex, names: &[String]) -> Vec<Arc<TagCell>> {
        names
            .iter()
            .map(|name| self.tags.cell(lane, name))
            .collect()
    }
}

/// Notes what the store said of the tags, and stamps the entry if each of them is pinned in time.
fn learn(
    epoch: TagEpoch,
    cells: Vec<Arc<TagCell>>,
    pinned: Vec<Option<TagEpoch>>,
) -> Option<Arc<TagStamp>> {
    let mut is_valid = cells.len() == pinned.len();
    for (cell, pinned) in cells.iter().zip(pinned) {
        match pinned {
            Some(pinned) => cell.learn(pinned),
            None => is_valid = false,
        }
        is_valid &= pinned.is_some_and(|pinned| pinned <= epoch);
    }
    is_valid.then(|| Arc::new(TagStamp::new(epoch, cells)))
}
