//! Reads of many values at once.

use std::sync::Arc;

use deadpool_redis::redis::{Pipeline, RedisResult, Value};
use futures_util::future::try_join_all;
use larder_core::{StoreError, Stored, Track, Want};

use crate::{
    command::{
        look,
        many::{read_commands, read_replies, size_commands, sizes},
        mget::{self, SlotGroup},
        reply::LARGE_VALUE,
        scripts,
        slots::slot,
        target::Target,
        tracking::{Tracks, send_untracked},
    },
    connection::session::{Link, Session},
    lane::current::CurrentSession,
};

/// The keys of one request: 1,000. A server answers nobody else meanwhile, and a reply must come in
/// time.
const KEYS_PER_REQUEST: usize = 1000;

/// The size in bytes from which on the values of one reply are large together: 1 MiB.
const LARGE_REPLY: usize = 16 * LARGE_VALUE;

/// The bytes of one reply that travels out of band, 4 MiB, unless one value is larger: it must
/// arrive in the time of one command.
const OUT_OF_BAND_REPLY: usize = 64 * LARGE_VALUE;

/// Reads many values, those of each server in one round trip for every thousand keys, or in two and
/// more once large values have been met: the lane asks for their sizes, and they travel out of
/// band.
pub(crate) async fn get_many(
    current: &CurrentSession,
    keys: &[&str],
    want: Want,
    track: Track,
) -> Result<Vec<Option<Stored>>, StoreError> {
    let session = current.get()?;
    let tracks = current.tracks(&session, track);
    let mut found: Vec<Option<Stored>> = keys.iter().map(|_| None).collect();
    let positions: Vec<usize> = (0..keys.len()).collect();
    for positions in positions.chunks(KEYS_PER_REQUEST) {
        let requests = by_server(&session, keys, positions);
        let asked = requests.iter().map(|(link, groups)| {
            let request = Request {
                current,
                link,
                keys,
                want,
                tracks,
            };
            let session = &session;
            async move { request.run(session, groups).await }
        });
        for (at, stored) in try_join_all(asked).await?.into_iter().flatten() {
            found[at] = Some(stored);
        }
    }
    if track == Track::Value {
        let absent = found.iter().filter(|stored| stored.is_none());
        current.absences.add(absent.count());
    }
    Ok(found)
}

/// The values that were found, each with its key's position.
type Found = Vec<(usize, Stored)>;

/// A request to one server. Keys are given by their positions.
#[derive(Clone, Copy)]
struct Request<'a> {
    current: &'a CurrentSession,
    link: &'a Link,
    keys: &'a [&'a str],
    want: Want,
    tracks: Tracks,
}

impl Request<'_> {
    async fn run(&self, session: &Arc<Session>, groups: &[SlotGroup]) -> Result<Found, StoreError> {
        let (current, at) = (self.current, groups.concat());
        if self.tracks == Tracks::Found {
            return self.look(session, &at).await;
        }
        if current.has_large_values() {
            let ask = async |on| self.sizes(on, &at).await;
            let sized = current
                .ask_on(session, self.link, self.key(&at), ask)
                .await?;
            return self.read_out_of_band(&sized).await;
        }
        // Without their sizes, which would cost as much again: what was met once is not met twice.
        let ask = async |on| self.read_by_mget(on, groups).await;
        let read = current.ask_on(session, self.link, self.key(&at), ask).await;
        if may_be_large(&read) {
            current.note_large_value();
        }
        let mut found = read?;
        let limit = current.max_value_size();
        let oversized: Vec<usize> = found
            .extract_if(.., |(_, stored)| stored.value.len() > limit)
            .map(|(at, _)| at)
            .collect();
        self.remove(&oversized).await?;
        Ok(found)
    }

    /// Reads the keys, of which the server tracks those that have a value.
    async fn look(&self, session: &Arc<Session>, at: &[usize]) -> Result<Found, StoreError> {
        let (current, key) = (self.current, self.key(at));
        // Their sizes alone, if some are large.
        let most = if current.has_large_values() {
            0
        } else {
            LARGE_VALUE
        };
        let keys: Vec<&str> = at.iter().map(|at| self.keys[*at]).collect();
        let ask = async |on| look::many(on, &keys, most).await;
        let looked = current.ask_on(session, self.link, key, ask).await?;
        let looked = at.iter().copied().zip(looked);
        let mut found = Found::new();
        let mut sized = Vec::new();
        for (at, looked) in looked {
            match looked {
                Some(looked) if looked.is_whole() => found.push((at, looked.stored)),
                Some(looked) => sized.push((at, looked.size)),
                None => {}
            }
        }
        if !sized.is_empty() {
            current.note_large_value();
            found.extend(self.read_out_of_band(&sized).await?);
        }
        Ok(found)
    }

    /// Sends commands over the lane.
    async fn send(&self, mut on: Target, commands: Pipeline) -> RedisResult<Vec<Value>> {
        if self.tracks == Tracks::None {
            return send_untracked(&mut on, commands).await;
        }
        on.connection
            .send_packed_commands(&commands, 0, commands.len())
            .await
    }

    async fn read_by_mget(&self, on: Target, groups: &[SlotGroup]) -> RedisResult<Found> {
        let commands = mget::read_commands(self.keys, groups, self.want);
        let replies = self.send(on, commands).await?;
        let found = mget::read_replies(groups, replies, self.want)?.into_iter();
        Ok(found
            .filter_map(|(at, stored)| Some((at, stored?)))
            .collect())
    }

    /// Removes values that are larger than any that is kept.
    async fn remove(&self, at: &[usize]) -> Result<(), StoreError> {
        let limit = self.current.max_value_size();
        for at in at {
            let ask = async |on| scripts::remove_oversized(on, self.keys[*at], limit).await;
            self.current
                .ask_out_of_band(self.link, self.keys[*at], ask)
                .await?;
        }
        Ok(())
    }

    /// Any of the keys, for an error.
    fn key(&self, at: &[usize]) -> &str {
        at.first().map_or("", |at| self.keys[*at])
    }

    async fn read(&self, mut on: Target, at: &[usize], most: usize) -> RedisResult<Found> {
        let commands = read_commands(at.iter().map(|at| self.keys[*at]), most, self.want);
        let replies = on
            .connection
            .send_packed_commands(&commands, 0, commands.len())
            .await?;
        let found = at.iter().copied().zip(read_replies(replies, self.want)?);
        Ok(found
            .filter_map(|(at, stored)| Some((at, stored?)))
            .collect())
    }

    /// The sizes of the values that are there.
    async fn sizes(&self, on: Target, at: &[usize]) -> RedisResult<Vec<(usize, usize)>> {
        let commands = size_commands(at.iter().map(|at| self.keys[*at]));
        let replies = self.send(on, commands).await?;
        let sized = at.iter().copied().zip(sizes(replies)?);
        Ok(sized.filter(|(_, size)| *size > 0).collect())
    }

    // P29 large-out-of-band: the lane has read the keys before.
    async fn read_out_of_band(&self, sized: &[(usize, usize)]) -> Result<Found, StoreError> {
        let (current, limit) = (self.current, self.current.max_value_size());
        let mut found = Vec::new();
        for at in in_replies(sized, limit) {
            let ask = async |on: Target| {
                let mut found = self.read(on.clone(), &at, limit.saturating_add(1)).await?;
                for (at, _) in found.extract_if(.., |(_, stored)| stored.value.len() > limit) {
                    scripts::remove_oversized(on.clone(), self.keys[at], limit).await?;
                }
                Ok(found)
            };
            found.extend(
                current
                    .ask_out_of_band(self.link, self.key(&at), ask)
                    .await?,
            );
        }
        let oversized = sized.iter().filter(|(_, size)| *size > limit);
        self.remove(&oversized.map(|(at, _)| *at).collect::<Vec<_>>())
            .await?;
        Ok(found)
    }
}

/// Puts values that are not too large, each given with its size, into replies of limited size.
pub(crate) fn in_replies(sized: &[(usize, usize)], limit: usize) -> Vec<Vec<usize>> {
    let (mut replies, mut room) = (Vec::<Vec<usize>>::new(), 0);
    for (at, size) in sized.iter().filter(|(_, size)| *size <= limit) {
        match replies.last_mut() {
            Some(reply) if *size <= room => {
                reply.push(*at);
                room -= size;
            }
            _ => {
                replies.push(vec![*at]);
                room = OUT_OF_BAND_REPLY.saturating_sub(*size);
            }
        }
    }
    replies
}

/// Tells whether a reply had large values, or so many that they are large together, or may have
/// been so large that it did not arrive in time.
fn may_be_large(read: &Result<Found, StoreError>) -> bool {
    match read {
        Ok(found) => {
            let sizes = found.iter().map(|(_, stored)| stored.value.len());
            sizes.clone().any(|size| size >= LARGE_VALUE) || sizes.sum::<usize>() >= LARGE_REPLY
        }
        Err(error) => matches!(error, StoreError::TimedOut { .. }),
    }
}

/// Splits keys, which are given by their positions, by the server that has them. A key whose server
/// is left out is in no request, and so not found.
fn by_server<'a>(
    session: &'a Session,
    keys: &[&str],
    positions: &[usize],
) -> Vec<(&'a Link, Vec<SlotGroup>)> {
    if let ([only], false) = (session.links(), session.is_scattered()) {
        return vec![(only, vec![positions.to_vec()])];
    }
    let mut slots: Vec<(u16, usize)> = positions.iter().map(|at| (slot(keys[*at]), *at)).collect();
    slots.sort_unstable();
    let mut requests: Vec<Vec<SlotGroup>> = vec![Vec::new(); session.slot_map.masters().len()];
    for group in slots.chunk_by(|(one, _), (other, _)| one == other) {
        let master = session.slot_map.master(group[0].0);
        requests[master].push(group.iter().map(|(_, at)| *at).collect());
    }
    let requests = requests.into_iter().enumerate();
    requests
        .filter(|(_, groups)| !groups.is_empty())
        .filter_map(|(master, groups)| Some((session.link_of(master)?, groups)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_cut_by_bytes_and_leave_out_what_is_too_large() {
        let mib = 1 << 20;
        let sized = [
            (0, mib),
            (1, 2 * mib),
            (2, mib),
            (3, 1),
            (4, 9 * mib),
            (5, 99 * mib),
            (6, 1),
        ];
        let replies = in_replies(&sized, 10 * mib);
        assert_eq!(replies, [vec![0, 1, 2], vec![3], vec![4], vec![6]]);
    }
}
