use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{task::JoinSet, time::Instant};

use crate::{
    claim::Result,
    page,
    patterns::NEEDS_REDIS,
    stage::Tour,
    steps::{At, Did, Steps},
};

const TASKS: u64 = 1000;
const QUERY: Duration = Duration::from_millis(50);

pub(crate) async fn show(tour: &Tour) -> Result {
    let page = &tour.page;
    page.section(
        "5  Stampede prevention",
        "One load per cold key, across all tasks and all instances.",
    )?;
    let mut steps = Steps::new(tour);
    let at = if tour.b.is_some() { At::Both } else { At::A };
    let call = format!("{} × search.get_or_load(\"Rust\")", page::count(TASKS));

    let asked = steps.call(at, &call, ask_at_once(tour)).await?;
    let did = steps.last();
    page.claim(did.loads == 1 && did.statements == 1, || {
        format!("{TASKS} tasks that want a cold key are one load and one statement, not {did:?}")
    })?;
    let loaded = asked.loaded.ok_or("the loader did not run")?;
    let last = asked.served.saturating_duration_since(loaded);
    steps.note(format!(
        "cold: all wait for one query of {}",
        page::duration(QUERY)
    ));
    page.claim(last < QUERY, || {
        format!("the last is served {last:?} after the load, as if it had polled")
    })?;

    let asked = steps.call(at, &call, ask_at_once(tour)).await?;
    steps.did(Did::l1_hits(TASKS), "warm")?;
    page.claim(asked.loaded.is_none(), || {
        "a warm key is not loaded".to_owned()
    })?;

    steps.show()?;
    let last = page::duration(last);
    page.line(&format!(
        "The last of the {} was served {last} after the query had ended.",
        page::count(TASKS)
    ))?;
    if tour.b.is_none() {
        page.dim(NEEDS_REDIS)
    } else {
        Ok(())
    }
}

struct Asked {
    /// When the loader ended, if one ran.
    loaded: Option<Instant>,
    /// When the last task was served.
    served: Instant,
}

/// All tasks at once, half of them at each instance.
async fn ask_at_once(tour: &Tour) -> Result<Asked> {
    let loaded = Arc::new(OnceLock::new());
    let mut served = Instant::now();
    let mut tasks = JoinSet::new();
    for instance in tour
        .instances()
        .into_iter()
        .cycle()
        .take(usize::try_from(TASKS)?)
    {
        let (instance, loaded) = (instance.clone(), loaded.clone());
        tasks.spawn(async move {
            let note_end = move || {
                let _ = loaded.set(Instant::now()); // a second load is noticed by its count
            };
            let found = instance.search("Rust", QUERY, note_end).await?;
            Ok::<_, larder::Error>((found, Instant::now()))
        });
    }
    while let Some(task) = tasks.join_next().await {
        let (found, at) = task??;
        if found.is_empty() {
            return Err("the search found nothing".into());
        }
        served = served.max(at);
    }
    Ok(Asked {
        loaded: loaded.get().copied(),
        served,
    })
}
