use std::time::Duration;

use larder::{Cache, Levels};
use tokio::time::Instant;

use crate::{
    claim::Result,
    patterns::NEEDS_REDIS,
    stage::Tour,
    steps::{At, Did, Steps},
};

const TOKEN: &str = "t-81c2";
const LOADERS_TTL: Duration = Duration::from_millis(100);
/// The time between two looks at an entry.
const LOOK: Duration = Duration::from_millis(2);

pub(crate) async fn show(tour: &Tour) -> Result {
    let (page, a) = (&tour.page, &tour.a);
    page.section(
        "4  The TTL table",
        "Says for each type of data how long it may be cached, where, and why.",
    )?;
    page.blank()?;
    page.line(&a.larder.ttl_table().to_string())?;
    page.blank()?;
    let mut steps = Steps::new(tour);
    offers(tour, &mut steps).await?;
    sessions(tour, &mut steps).await?;
    steps.show()?;
    if tour.b.is_none() {
        page.dim(NEEDS_REDIS)
    } else {
        Ok(())
    }
}

/// A policy whose entries stay out of the processes' memory: a session that one instance ends is
/// over everywhere at once.
async fn sessions(tour: &Tour, steps: &mut Steps<'_>) -> Result {
    let (page, a) = (&tour.page, &tour.a);
    page.claim(a.sessions.policy().levels() == Levels::L2, || {
        "sessions live in L2 alone".to_owned()
    })?;
    let hit = if tour.redis.is_some() {
        Did::l2_hits(1)
    } else {
        Did::l1_hits(1)
    };
    steps
        .call(
            At::A,
            "sessions.write_through(token, …)",
            a.open_session(TOKEN, 42),
        )
        .await?;
    steps.did(Did::writes(1), "its policy says levels = \"l2\"")?;
    for _ in 0..2 {
        let session = steps
            .call(At::A, "sessions.find_or_load(token)", a.session(TOKEN))
            .await?;
        let note = if tour.redis.is_some() {
            "never in L1"
        } else {
            "in L1, because there is no L2"
        };
        steps.did(hit, note)?;
        page.claim(session.is_some_and(|session| session.user == 42), || {
            "user 42 is logged in".to_owned()
        })?;
    }
    let (other, at) = tour.b.as_ref().map_or((a, At::A), |b| (b, At::B));
    steps
        .call(
            at,
            "sessions.write_around(token, …)",
            other.close_session(TOKEN),
        )
        .await?;
    steps.did(Did::writes(1), "logged out")?;
    let session = steps
        .call(At::A, "sessions.find_or_load(token)", a.session(TOKEN))
        .await?;
    steps.did(Did::loads(1), "over, with no push to wait for")?;
    page.claim(session.is_none(), || "user 42 is logged out".to_owned())
}

/// A value lives as long as its policy says, or its loader.
async fn offers(tour: &Tour, steps: &mut Steps<'_>) -> Result {
    let (page, a) = (&tour.page, &tour.a);
    let policy = a.offers.policy();
    let (ttl, jitter) = (policy.ttl(), policy.jitter());
    steps
        .call(At::A, "offers.insert(1, 20)", a.offers.insert(1, 20))
        .await?;
    steps.did(Did::nothing(), format!("its policy says ttl = {ttl:?}"))?;
    let start = Instant::now();
    steps
        .call(
            At::A,
            "offers.get(1), until it is None",
            expired(&a.offers, 1),
        )
        .await?;
    let lived = start.elapsed();
    steps.note(format!("expired, its jitter is {:.0}%", jitter * 100.0));
    // The clock of L1 ticks coarsely.
    let shortest = ttl
        .mul_f64(1.0 - jitter)
        .saturating_sub(Duration::from_millis(20));
    page.claim(lived >= shortest, || {
        format!("a value of {ttl:?} lives at least {shortest:?}, not {lived:?}")
    })?;

    let offer = a.offer(2, LOADERS_TTL);
    steps.call(At::A, "offers.get_or_load(2)", offer).await?;
    steps.did(
        Did {
            loads: 1,
            ..Did::nothing()
        },
        format!("its loader says {LOADERS_TTL:?}"),
    )?;
    let start = Instant::now();
    steps
        .call(
            At::A,
            "offers.get(2), until it is None",
            expired(&a.offers, 2),
        )
        .await?;
    let lived = start.elapsed();
    steps.note("expired sooner than its policy");
    page.claim(lived < ttl, || {
        format!("the loader's {LOADERS_TTL:?} goes before {ttl:?}, not {lived:?}")
    })?;
    Ok(())
}

async fn expired(cache: &Cache<i64, u8>, key: i64) -> Result {
    let give_up = Instant::now() + crate::claim::BOUND;
    while cache.get(key).await?.is_some() {
        if Instant::now() > give_up {
            return Err("an entry outlives its TTL".into());
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}
