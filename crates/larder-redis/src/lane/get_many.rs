//! Reads of many values at once.

use std::sync::Arc;

use futures_util::future::try_join_all;
use larder_core::{StoreError, Stored, Want};

use crate::{
    command::{
        mget::{SlotGroup, read_commands, read_replies, tracking_commands},
        reply::LARGE_VALUE,
        slots::slot,
        target::Target,
    },
    connection::session::{Link, Session},
    lane::current::CurrentSession,
};

/// The keys of one request: 1,000. A server answers nobody else meanwhile, and a reply must come in
/// time.
const KEYS_PER_REQUEST: usize = 1000;

/// The size in bytes from which on the values of one reply are large together: 1 MiB.
const LARGE_REPLY: usize = 16 * LARGE_VALUE;

/// Reads many values, those of each server in one round trip for every thousand keys, or in two
/// once large values have been met: how large a value is, is known only when it is here.
pub(crate) async fn get_many(
    current: &CurrentSession,
    keys: &[&str],
    want: Want,
) -> Result<Vec<Option<Stored>>, StoreError> {
    let session = current.get()?;
    let mut found: Vec<Option<Stored>> = keys.iter().map(|_| None).collect();
    let positions: Vec<usize> = (0..keys.len()).collect();
    for positions in positions.chunks(KEYS_PER_REQUEST) {
        let requests = by_server(&session, keys, positions);
        let asked = requests
            .iter()
            .map(|request| get_from_server(current, &session, keys, request, want));
        for (at, stored) in try_join_all(asked).await?.into_iter().flatten() {
            found[at] = stored;
        }
    }
    Ok(found)
}

/// The keys that one server has.
type Request<'a> = (&'a Link, Vec<SlotGroup>);

async fn get_from_server(
    current: &CurrentSession,
    session: &Arc<Session>,
    keys: &[&str],
    (link, groups): &Request<'_>,
    want: Want,
) -> Result<Vec<(usize, Option<Stored>)>, StoreError> {
    let first = groups
        .first()
        .and_then(|group| group.first())
        .map_or("", |at| keys[*at]);
    let read = async |mut on: Target| {
        let commands = read_commands(keys, groups, want);
        let replies = on
            .connection
            .send_packed_commands(&commands, 0, commands.len())
            .await?;
        read_replies(groups, replies, want)
    };
    if !current.has_large_values() {
        let found = current.ask_on(session, link, first, read).await;
        if may_be_large(&found) {
            current.note_large_value();
        }
        return found;
    }
    // P29 large-out-of-band: the lane reads the keys that it is to be told of, and the values
    // travel out of band.
    let track = async |mut on: Target| {
        let commands = tracking_commands(keys, groups);
        let replies = on
            .connection
            .send_packed_commands(&commands, 0, groups.len())
            .await?;
        replies
            .into_iter()
            .try_for_each(|reply| reply.extract_error().map(drop)) // an error tracks nothing
    };
    current.ask_on(session, link, first, track).await?;
    current.ask_out_of_band(link, first, read).await
}

/// Tells whether a reply had large values, or so many that they are large together, or may have
/// been so large that it did not arrive in time.
fn may_be_large(found: &Result<Vec<(usize, Option<Stored>)>, StoreError>) -> bool {
    match found {
        Ok(found) => {
            let mut sizes = found
                .iter()
                .filter_map(|(_, stored)| stored.as_ref().map(|stored| stored.value.len()));
            sizes.clone().any(|size| size >= LARGE_VALUE)
                || sizes.by_ref().sum::<usize>() >= LARGE_REPLY
        }
        Err(error) => matches!(error, StoreError::TimedOut { .. }),
    }
}

/// Splits keys, which are given by their positions, by the server that has them. A key whose server
/// is left out is in no request, and so not found.
fn by_server<'a>(session: &'a Session, keys: &[&str], positions: &[usize]) -> Vec<Request<'a>> {
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
