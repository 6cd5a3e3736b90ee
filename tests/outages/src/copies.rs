use std::{sync::Arc, time::Duration};

use larder_testkit::{RedisServer, Reply};
use tokio::time::{Instant, sleep, timeout};

use crate::{Problem, database::Database, limits::Key, member::Member};

/// 5 s: the longest time after the end of the faults until every copy equals the database's value.
pub(crate) const BOUND: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);
/// 300 ms: copies that are equal must still be so then, because a message could be under way.
const SETTLED: Duration = Duration::from_millis(300);

/// Waits until every copy in every level equals the database's value, and stays so. Returns the
/// time since `healed`, or the differences at the end of the bound.
pub(crate) async fn equal(
    healed: Instant,
    members: &[Arc<Member>],
    server: &RedisServer,
    database: &Database,
) -> Result<Result<Duration, Vec<String>>, Problem> {
    loop {
        let took = healed.elapsed();
        let mut unequal = differing(members, server, database).await?;
        if unequal.is_empty() {
            sleep(SETTLED).await;
            unequal = differing(members, server, database).await?;
            unequal.extend(misread(members, database).await);
        }
        if unequal.is_empty() {
            return Ok(Ok(took));
        }
        if healed.elapsed() > BOUND {
            return Ok(Err(unequal));
        }
        sleep(PAUSE).await;
    }
}

/// The copies that differ, and the members that have not recovered.
async fn differing(
    members: &[Arc<Member>],
    server: &RedisServer,
    database: &Database,
) -> Result<Vec<String>, Problem> {
    let mut unequal = Vec::new();
    let mut look = |whose: &str, key: Key, copy: Option<u32>| {
        let held = database.version(key);
        if let Some(copy) = copy.filter(|copy| *copy != held) {
            unequal.push(format!(
                "{whose} has version {copy} of {key}, and the database {held}"
            ));
        }
    };
    // A server that has just come back may still be busy with old commands.
    let mut client = timeout(BOUND, server.client()).await??;
    for key in Key::all() {
        for (index, member) in members.iter().enumerate() {
            let copy = member.cache(key).get(key.number()).await?;
            look(
                &format!("process {index}"),
                key,
                copy.map(|value| value.version),
            );
        }
        let value = timeout(BOUND, client.command(&["GET", &key.to_string()])).await??;
        look("Redis", key, version(&value)?);
    }
    let unwell = members
        .iter()
        .enumerate()
        .filter(|(_, member)| !member.is_well());
    unequal.extend(
        unwell.map(|(index, _)| {
            format!("process {index} is not connected, or has not sent everything")
        }),
    );
    Ok(unequal)
}

/// Reads that return another value than the database's.
async fn misread(members: &[Arc<Member>], database: &Database) -> Vec<String> {
    let mut misread = Vec::new();
    for key in Key::all() {
        for (index, member) in members.iter().enumerate() {
            let held = database.version(key);
            match member.load(key).await {
                Ok(value) if value.version == held => {}
                read => misread.push(format!(
                    "process {index} reads {read:?} of {key}, and the database has {held}"
                )),
            }
        }
    }
    misread
}

/// The version in a value of Redis, behind its header if it has one.
fn version(value: &Reply) -> Result<Option<u32>, Problem> {
    const BEFORE: &str = "{\"version\":";
    let Some(text) = value.text() else {
        return Ok(None);
    };
    let (_, rest) = text
        .split_once(BEFORE)
        .ok_or_else(|| format!("not a value of ours: {text}"))?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Ok(Some(digits.parse()?))
}
