use larder_core::{LaneIndex, LaneState, RemoteStore, TagEpoch, Tags};

/// The tag epochs from before a load or write began: a value with tags is kept only if none of them
/// was invalidated since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TagEpochs {
    /// The process's own, for a value that is kept in the local level alone.
    pub own: TagEpoch,
    /// The remote store's; `None` if it did not say.
    pub remote: Option<TagEpoch>,
}

impl TagEpochs {
    /// Reads the epochs of this moment. The remote store is asked only if this process does not
    /// know its epoch, or is not told of its changes.
    // P22 epoch-before-load: called before the loader or the writer runs
    pub async fn now(tags: &Tags, remote: Option<&dyn RemoteStore>, lane: LaneIndex) -> Self {
        let own = tags.own_epoch();
        let Some(remote) = remote else {
            return Self { own, remote: None };
        };
        let cell = tags.epoch_cell(lane); // P24 tags-known-by-lane: before it is asked for
        // Also where pushes come in no order with replies: an epoch that is too old only makes the
        // check stricter.
        let is_told = match remote.lane_state(lane) {
            LaneState::Tracking | LaneState::Scattered | LaneState::Subscribed => true,
            LaneState::Untracked | LaneState::Down => false,
        };
        if let Some(epoch) = cell.known().filter(|_| is_told) {
            return Self {
                own,
                remote: Some(epoch),
            };
        }
        // The caller is about to meet the same error, and reports it.
        let epoch = remote.tag_epoch(lane).await.ok();
        if let Some(epoch) = epoch {
            cell.learn(epoch);
        }
        Self { own, remote: epoch }
    }
}
