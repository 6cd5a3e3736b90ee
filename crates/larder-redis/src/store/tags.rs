use std::time::Duration;

use async_trait::async_trait;
use larder_core::{Invalidated, LaneIndex, StoreError, TagEpoch, TagStore};

use super::RedisStore;
use crate::{
    command::{scripts, tags},
    lane::{
        current::TRIES,
        invalidate::{Sent, invalidate_tag},
        note_in_all,
        unsent_queue::Remembered,
    },
    redo::log::Kind,
};

fn epochs(replies: Vec<Option<u64>>) -> Vec<Option<TagEpoch>> {
    replies
        .into_iter()
        .map(|epoch| epoch.map(TagEpoch))
        .collect()
}

#[async_trait]
impl TagStore for RedisStore {
    async fn tag_epoch(&self, lane: LaneIndex) -> Result<TagEpoch, StoreError> {
        self.lane_at(lane)
            .await?
            .current
            .ask(self.names.epoch(), scripts::tag_epoch)
            .await
            .map(TagEpoch)
    }

    async fn tags(
        &self,
        lane: LaneIndex,
        tags: &[&str],
    ) -> Result<Vec<Option<TagEpoch>>, StoreError> {
        let ask = async |on| tags::read(on, tags).await;
        Ok(epochs(
            self.lane_at(lane)
                .await?
                .current
                .ask(self.names.epoch(), ask)
                .await?,
        ))
    }

    async fn pin_tags(
        &self,
        lane: LaneIndex,
        tags: &[&str],
        epoch: TagEpoch,
        ttl: Duration,
    ) -> Result<Vec<Option<TagEpoch>>, StoreError> {
        let ask = async |on| scripts::pin_tags(on, tags, epoch.0, ttl).await;
        Ok(epochs(
            self.lane_at(lane)
                .await?
                .current
                .ask(self.names.epoch(), ask)
                .await?,
        ))
    }

    async fn invalidate_tag(&self, tag: &str) -> Result<Invalidated, StoreError> {
        let lanes = self.awake().await;
        let _noted = note_in_all(lanes, Kind::Tag, tag);
        for _ in 0..TRIES {
            for lane in lanes {
                if invalidate_tag(&lane.current, tag).await? == Sent::Yes {
                    return Ok(Invalidated::Done);
                }
            }
            // P11 unsent-goes-first: entries with the tag are read through every lane, so each one
            // must send it before a caller reads through it.
            let mut all_are_down = true;
            for lane in lanes {
                all_are_down &= lane
                    .unsent
                    .remember_tag(&lane.current, &self.names, tag)
                    .await?
                    == Remembered::Yes;
            }
            if all_are_down {
                return Ok(Invalidated::Deferred);
            }
        }
        // Connections come and fail: leave it to the next ones.
        for lane in lanes {
            while lane
                .unsent
                .remember_tag(&lane.current, &self.names, tag)
                .await?
                == Remembered::LaneIsUp
            {
                lane.current.give_up(&"an invalidation failed on it");
            }
        }
        Ok(Invalidated::Deferred)
    }
}
