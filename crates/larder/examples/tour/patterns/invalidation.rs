use std::time::Duration;

use tokio::time::Instant;

use crate::{
    app::Instance,
    claim::{Result, until},
    patterns::NEEDS_REDIS,
    stage::Tour,
    steps::{At, Did, Steps},
};

pub(crate) async fn show(tour: &Tour) -> Result {
    let page = &tour.page;
    page.section(
        "3  Invalidation",
        "A value and all that is derived from it leave every level of every instance.",
    )?;
    let mut steps = Steps::new(tour);
    user_is_forgotten(tour, &mut steps).await?;
    user_is_deleted(tour, &mut steps).await?;
    steps.show()?;
    if tour.b.is_none() {
        page.dim(NEEDS_REDIS)
    } else {
        Ok(())
    }
}

/// A user and all that is derived from it leave every level, by one call.
async fn user_is_forgotten(tour: &Tour, steps: &mut Steps<'_>) -> Result {
    let a = &tour.a;
    steps
        .call(
            At::A,
            "get_or_load: user, posts, followers of 7",
            read_all(a),
        )
        .await?;
    steps.did(Did::loads(3), "three policies of the TTL table")?;
    if let Some(b) = &tour.b {
        steps.call(At::B, "the same three", read_all(b)).await?;
        steps.did(Did::l2_hits(3), "B has them too")?;
    }

    let watch = tour.b.clone().map(|b| tokio::spawn(gone(b)));
    tokio::task::yield_now().await;
    let start = Instant::now();
    steps
        .call(
            At::A,
            "larder.invalidate([user, posts, followers])",
            a.forget_user(7),
        )
        .await?;
    let returned = Instant::now();
    steps.did(Did::nothing(), "one call, three policies")?;
    if let Some(watch) = watch {
        let seen = watch.await??;
        steps
            .call(
                At::B,
                "get, until all three are gone",
                nothing_left(tour.b.as_ref()),
            )
            .await?;
        steps.took(seen.saturating_duration_since(start));
        steps.did(Did::nothing(), in_relation(seen, returned))?;
    }
    steps
        .call(At::A, "get: the same three", nothing_left(Some(a)))
        .await?;
    steps.did(Did::nothing(), "neither L1 nor L2 has them")?;
    let reader = tour.b.as_ref().unwrap_or(a);
    let at = if tour.b.is_some() { At::B } else { At::A };
    steps
        .call(at, "users.get_or_load(7)", reader.user(7))
        .await?;
    steps.did(Did::loads(1), "loaded anew")?;
    Ok(())
}

/// A user is deleted, and the answer that there is none is cached.
async fn user_is_deleted(tour: &Tour, steps: &mut Steps<'_>) -> Result {
    let (page, a) = (&tour.page, &tour.a);
    let deleted = steps
        .call(At::A, "users.write_around(7, …)", a.delete_user(7))
        .await?;
    steps.did(Did::writes(1), "DELETE …, and no level has it")?;
    page.claim(deleted == 1, || {
        format!("one user is deleted, not {deleted}")
    })?;
    let left = steps
        .call(At::A, "users.find_or_load(7)", a.find_user(7))
        .await?;
    steps.did(Did::loads(1), "SQLite says: no such user")?;
    page.claim(left.is_none(), || {
        format!("user 7 is deleted, but A has {left:?}")
    })?;
    if let Some(b) = &tour.b {
        let seen = until("B's forgetting of user 7", || async {
            Ok(b.find_user(7).await?.is_none().then_some(()))
        });
        steps.call(At::B, "users.find_or_load(7)", seen).await?;
        steps.did_once_pushed(Did::l2_hits(1), "A's answer serves B: absent")?;
    }
    Ok(())
}

async fn read_all(instance: &Instance) -> Result {
    instance.user(7).await?;
    instance.latest_posts(7).await?;
    instance.followers(7).await?;
    Ok(())
}

/// Waits until no level of the instance has any of the three, and returns when that was.
async fn gone(instance: Instance) -> Result<Instant> {
    until("B's loss of what A invalidated", || async {
        Ok(all_gone(&instance).await?.then(Instant::now))
    })
    .await
}

async fn nothing_left(instance: Option<&Instance>) -> Result {
    match instance {
        Some(instance) if !all_gone(instance).await? => {
            Err("what was invalidated is still there".into())
        }
        _ => Ok(()),
    }
}

async fn all_gone(instance: &Instance) -> Result<bool> {
    Ok(instance.users.get(7).await?.is_none()
        && instance.posts.get((7, "latest")).await?.is_none()
        && instance.followers.get(7).await?.is_none())
}

fn in_relation(seen: Instant, returned: Instant) -> String {
    let between = |earlier: Instant, later: Instant| later.saturating_duration_since(earlier);
    match between(returned, seen) {
        Duration::ZERO => {
            format!(
                "pushed {} before the call returned",
                crate::page::duration(between(seen, returned))
            )
        }
        after => format!(
            "pushed {} after the call returned",
            crate::page::duration(after)
        ),
    }
}
