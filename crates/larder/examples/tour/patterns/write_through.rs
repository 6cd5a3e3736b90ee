use std::sync::Arc;

use tokio::task::JoinSet;

use crate::{
    app::Instance,
    claim::{Result, until},
    model::User,
    patterns::NEEDS_REDIS,
    stage::Tour,
    steps::{At, Did, Steps},
};

const NAME: &str = "Ada King";
const WRITERS: u64 = 20;

pub(crate) async fn show(tour: &Tour) -> Result {
    let page = &tour.page;
    page.section(
        "2  Write-through",
        "The database and both levels are written as one operation.",
    )?;
    let mut steps = Steps::new(tour);
    one_write(tour, &mut steps).await?;
    writes_at_once(tour, &mut steps).await?;
    steps.show()?;
    if tour.b.is_none() {
        page.dim(NEEDS_REDIS)
    } else {
        Ok(())
    }
}

/// A user gets another name, which both instances read.
async fn one_write(tour: &Tour, steps: &mut Steps<'_>) -> Result {
    let (page, a) = (&tour.page, &tour.a);
    let renamed = steps
        .call(At::A, "users.write_through(42, …)", a.rename(42, NAME))
        .await?;
    steps.did(Did::writes(1), format!("UPDATE … SET name = '{NAME}'"))?;
    let read = steps
        .call(At::A, "users.get_or_load(42)", a.user(42))
        .await?;
    steps.did(Did::l1_hits(1), "the new name, without a load")?;
    page.claim(read.name == NAME && read == renamed, || {
        format!("A reads {NAME}, not {}", read.name)
    })?;
    if let Some(redis) = &tour.redis {
        let stored = steps
            .call(
                At::Foreign,
                "redis-cli GET user:42",
                redis.command(&["GET", "user:42"]),
            )
            .await?;
        let stored = stored.text().unwrap_or_default();
        let user: User = serde_json::from_str(&stored)?;
        steps.did(Did::nothing(), stored)?;
        page.claim(user == *renamed, || {
            format!("L2 has {renamed:?}, not {user:?}")
        })?;
    }
    if let Some(b) = &tour.b {
        let seen = until("B's read of the new name", || async {
            let user = b.user(42).await?;
            Ok((user.name == NAME).then_some(user))
        });
        steps.call(At::B, "users.get_or_load(42)", seen).await?;
        steps.did_once_pushed(Did::l2_hits(1), "B's L1 was emptied by a push")?;
    }
    Ok(())
}

/// Many writers count at the same time, and none of their writes is lost.
async fn writes_at_once(tour: &Tour, steps: &mut Steps<'_>) -> Result {
    let (page, a) = (&tour.page, &tour.a);
    let writing = write_at_once(a, tour.b.as_ref());
    let at = if tour.b.is_some() { At::Both } else { At::A };
    let writes = if tour.b.is_some() {
        2 * WRITERS
    } else {
        WRITERS
    };
    steps
        .call(
            at,
            &format!("{writes} × users.write_through(42, …)"),
            writing,
        )
        .await?;
    steps.did(Did::writes(writes), "concurrent: logins = logins + 1")?;
    let database = tour.database.user(42).await?;
    page.claim(database.logins.cast_unsigned() == writes, || {
        format!(
            "{writes} writes are {writes} logins, not {}",
            database.logins
        )
    })?;
    let read = steps
        .call(At::A, "users.get_or_load(42)", a.user(42))
        .await?;
    steps.note(format!("{} logins, as SQLite says", read.logins));
    page.claim(*read == database, || {
        format!("A has {database:?}, not {read:?}")
    })?;
    if let Some(b) = &tour.b {
        let agreed = until("B's agreement with the database", || agreed(b, &database));
        let read = steps.call(At::B, "users.get_or_load(42)", agreed).await?;
        steps.note(format!("{} logins too", read.logins));
    }
    Ok(())
}

/// The instance's value, if it is the database's.
async fn agreed(instance: &Instance, database: &User) -> Result<Option<Arc<User>>> {
    let user = instance.user(42).await?;
    Ok((*user == *database).then_some(user))
}

async fn write_at_once(a: &Instance, b: Option<&Instance>) -> Result {
    let mut writers = JoinSet::new();
    for instance in [Some(a), b].into_iter().flatten() {
        for _ in 0..WRITERS {
            let instance = instance.clone();
            writers.spawn(async move { instance.log_in(42).await });
        }
    }
    while let Some(written) = writers.join_next().await {
        written??;
    }
    Ok(())
}
