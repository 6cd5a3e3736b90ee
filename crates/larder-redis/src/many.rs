use std::sync::Arc;

use deadpool_redis::redis::{Pipeline, RedisResult, Value, pipe};
use futures_util::future::try_join_all;
use larder_core::{StoreError, Stored};

use crate::{
    bulk::LARGE,
    keys::slot,
    lane::Lane,
    live::{Live, Node},
    store::{bytes, rest, unexpected},
    wire::Wire,
};

/// How many keys are asked for at once: a server answers nobody else meanwhile, and an answer must come in time.
const AT_ONCE: usize = 1000;

/// So many bytes in one answer are large together.
const TOGETHER: usize = 16 * LARGE;

/// Keys of one hash slot, which one `MGET` may name: where the server is no cluster, all of them. By their places among
/// those that were asked for.
type Group = Vec<usize>;

impl Lane {
    /// Reads many values, each server's in one round trip for every thousand, or in two once large values have been met:
    /// how large a value is, is known when it is here.
    pub(crate) async fn get_many(
        &self,
        keys: &[&str],
        with_ttl: bool,
    ) -> Result<Vec<Option<Stored>>, StoreError> {
        let live = self.live()?;
        let mut found: Vec<Option<Stored>> = keys.iter().map(|_| None).collect();
        let places: Vec<usize> = (0..keys.len()).collect();
        for places in places.chunks(AT_ONCE) {
            let groups = by_server(&live, keys, places);
            let asked =
                groups.into_iter().map(|(node, groups)| self.get_from(&live, node, keys, groups, with_ttl));
            for (at, stored) in try_join_all(asked).await?.into_iter().flatten() {
                found[at] = stored;
            }
        }
        Ok(found)
    }

    async fn get_from(
        &self,
        live: &Arc<Live>,
        node: &Node,
        keys: &[&str],
        groups: Vec<Group>,
        with_ttl: bool,
    ) -> Result<Vec<(usize, Option<Stored>)>, StoreError> {
        let first = groups.first().and_then(|group| group.first()).map_or("", |at| keys[*at]);
        let ask = async |mut on: Wire| {
            let asked = questions(keys, &groups, with_ttl);
            let replies = on.connection.send_packed_commands(&asked, 0, asked.len()).await?;
            answers(&groups, replies, with_ttl)
        };
        if !self.has_met_large() {
            let found = self.ask_on(live, node, first, ask).await;
            let sizes = found
                .iter()
                .flatten()
                .map(|(_, stored)| stored.as_ref().map_or(0, |stored| stored.value.len()));
            // Also what is large together, and what may have been so large that it did not arrive in time.
            let is_late = matches!(found, Err(StoreError::TimedOut { .. }));
            if is_late || sizes.clone().any(|size| size >= LARGE) || sizes.sum::<usize>() >= TOGETHER {
                self.meet_large();
            }
            return found;
        }
        // P29 large-out-of-band: the lane reads what it is to be told of, and the values travel beside it.
        let track = async |mut on: Wire| {
            let replies =
                on.connection.send_packed_commands(&tracking(keys, &groups), 0, groups.len()).await?;
            replies.into_iter().try_for_each(|reply| reply.extract_error().map(drop)) // else it tracks nothing
        };
        self.ask_on(live, node, first, track).await?;
        self.ask_beside(node, first, ask).await
    }
}

/// What is asked of which server.
fn by_server<'a>(live: &'a Live, keys: &[&str], places: &[usize]) -> Vec<(&'a Node, Vec<Group>)> {
    if let [only] = live.nodes() {
        return vec![(only, vec![places.to_vec()])];
    }
    let mut slots: Vec<(u16, usize)> = places.iter().map(|at| (slot(keys[*at]), *at)).collect();
    slots.sort_unstable();
    let mut servers: Vec<_> = live.nodes().iter().map(|node| (node, Vec::new())).collect();
    for group in slots.chunk_by(|(one, _), (other, _)| one == other) {
        let master = live.topology.master(group[0].0);
        servers[master].1.push(group.iter().map(|(_, at)| *at).collect());
    }
    servers.retain(|(_, groups)| !groups.is_empty());
    servers
}

fn tracking(keys: &[&str], groups: &[Group]) -> Pipeline {
    let mut tracked = pipe();
    for group in groups {
        let exist = tracked.cmd("EXISTS");
        for at in group {
            exist.arg(keys[*at]);
        }
    }
    tracked
}

fn questions(keys: &[&str], groups: &[Group], with_ttl: bool) -> Pipeline {
    let mut asked = pipe();
    for group in groups {
        let get = asked.cmd("MGET");
        for at in group {
            get.arg(keys[*at]);
        }
        if with_ttl {
            for at in group {
                asked.cmd("PTTL").arg(keys[*at]);
            }
        }
    }
    asked
}

fn answers(
    groups: &[Group],
    replies: Vec<Value>,
    with_ttl: bool,
) -> RedisResult<Vec<(usize, Option<Stored>)>> {
    let mut replies = replies.into_iter();
    let mut found = Vec::new();
    for group in groups {
        let values = match replies.next().ok_or_else(unexpected)?.extract_error()? {
            Value::Array(values) if values.len() == group.len() => values,
            _ => return Err(unexpected()),
        };
        for (at, value) in group.iter().zip(values) {
            let value = bytes(value)?.filter(|value| !value.is_empty()); // as for one key
            let stored = match with_ttl.then(|| replies.next()) {
                None => value.map(|value| Stored { value, ttl: None }),
                Some(None) => return Err(unexpected()),
                Some(Some(Value::Int(-2))) => None, // it expired between the two
                Some(Some(pttl)) => match value {
                    Some(value) => Some(Stored { value, ttl: rest(pttl)? }),
                    None => None,
                },
            };
            found.push((*at, stored));
        }
    }
    Ok(found)
}
