use crate::{
    claim::Result,
    patterns::NEEDS_REDIS,
    stage::Tour,
    steps::{At, Did, Steps},
};

/// An id that no user has.
const NOBODY: i64 = 77_777;

pub(crate) async fn show(tour: &Tour) -> Result {
    let (page, a) = (&tour.page, &tour.a);
    page.section(
        "1  Cache-aside",
        "Looks in L1, then in L2, then runs the loader, whose value goes into both.",
    )?;
    let mut steps = Steps::new(tour);

    let loaded = steps
        .call(At::A, "users.get_or_load(42)", a.user(42))
        .await?;
    steps.did(Did::loads(1), "cold: the loader asks SQLite")?;
    let again = steps
        .call(At::A, "users.get_or_load(42)", a.user(42))
        .await?;
    steps.did(Did::l1_hits(1), "from A's own memory")?;
    page.claim(loaded == again, || {
        "a hit returns what was loaded".to_owned()
    })?;

    if let Some(b) = &tour.b {
        let shared = steps
            .call(At::B, "users.get_or_load(42)", b.user(42))
            .await?;
        steps.did(Did::l2_hits(1), "what A loaded serves B too")?;
        page.claim(loaded == shared, || "B gets what A loaded".to_owned())?;
        steps
            .call(At::B, "users.get_or_load(42)", b.user(42))
            .await?;
        steps.did(Did::l1_hits(1), "and now B has it as well")?;
    }

    let call = format!("users.find_or_load({NOBODY})");
    let nobody = steps.call(At::A, &call, a.find_user(NOBODY)).await?;
    steps.did(Did::loads(1), "there is no such user")?;
    page.claim(nobody.is_none(), || format!("there is no user {NOBODY}"))?;
    let nobody = steps.call(At::A, &call, a.find_user(NOBODY)).await?;
    steps.did(Did::l1_hits(1), "absence is remembered too")?;
    page.claim(nobody.is_none(), || {
        format!("there still is no user {NOBODY}")
    })?;

    steps.show()?;
    if tour.b.is_none() {
        page.dim(NEEDS_REDIS)
    } else {
        Ok(())
    }
}
