//! Many callers of a cold key: the part of one process.

use std::{borrow::Borrow, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, BufReader, stdin},
    task::JoinSet,
};

use crate::{
    Database, Key, Levels, Line, Problem, Subject, database::monotonic, job::Job, job::say,
};

const CALLERS: usize = 100;
const LOAD: Duration = Duration::from_millis(50);

/// One storm, as one process saw it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) loads: u64,
    /// The end of its first load; 0 if it had none.
    pub(crate) first_end: u64,
    /// The moment at which its last caller had the value.
    pub(crate) served: u64,
}

/// Says that it is ready. Then it reads numbers of keys, and answers each with its view of the
/// storm for this key.
pub(crate) async fn member<S: Subject>(job: &Job) -> Result<Vec<Line>, Problem> {
    let subject = S::open(&job.setting(Levels::All, 10_000)).await?;
    say(&"ready")?;
    let mut orders = BufReader::new(stdin()).lines();
    while let Some(order) = orders.next_line().await? {
        let key = Key::new(order.trim().parse()?);
        say(&storm(&subject, &key).await?)?;
    }
    Ok(Vec::new())
}

async fn storm<S: Subject>(subject: &S, key: &Key) -> Result<Seen, Problem> {
    let database = Database::new(LOAD);
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (subject, key, database) = (subject.clone(), key.clone(), database.clone());
        callers.spawn(async move {
            let user = subject.get_or_load(&key, &database).await?;
            let served = monotonic();
            if user.borrow().id == key.id {
                Ok(served)
            } else {
                Err(Problem::from("another key's value"))
            }
        });
    }
    let mut served = 0;
    while let Some(one) = callers.join_next().await {
        served = one??.max(served);
    }
    Ok(Seen {
        loads: database.loads(),
        first_end: database.first_end(),
        served,
    })
}
