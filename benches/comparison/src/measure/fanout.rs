//! From an invalidation to the last process that served the old value: the part of one process.

use std::{borrow::Borrow, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, BufReader, stdin},
    time::{Instant, sleep},
};

use crate::{
    Key, Levels, Line, Problem, Subject, User,
    database::monotonic,
    job::{Job, say},
};

/// A time after which it is no delay any more, but a value that nobody removes.
pub(crate) const BOUND: Duration = Duration::from_secs(2);

/// Says that it is ready, and then follows the orders that it reads: `insert`, `watch` or
/// `invalidate`, each with the number of a key.
pub(crate) async fn member<S: Subject>(job: &Job) -> Result<Vec<Line>, Problem> {
    let mut setting = job.setting(Levels::All, 10_000);
    setting.coherent = true;
    let subject = S::open(&setting).await?;
    say(&"ready")?;
    let mut orders = BufReader::new(stdin()).lines();
    while let Some(order) = orders.next_line().await? {
        let (what, id) = order
            .split_once(' ')
            .ok_or("an order is a word and a number")?;
        let key = Key::new(id.trim().parse()?);
        match what {
            "insert" => {
                subject.insert(&key, User::new(key.id, 210)).await?;
                say(&monotonic())?;
            }
            "invalidate" => {
                let called = monotonic();
                subject.invalidate(&key).await?;
                say(&called)?;
            }
            _ => say(&watch(&subject, &key).await?)?,
        }
    }
    Ok(Vec::new())
}

/// Says that it has the value, and returns the moment from which it no longer serves it; 0 if it
/// served the value to the end.
async fn watch<S: Subject>(subject: &S, key: &Key) -> Result<u64, Problem> {
    let give_up = Instant::now() + BOUND;
    while !serves(subject, key).await {
        if Instant::now() >= give_up {
            return Err("the value that was inserted cannot be read".into());
        }
        sleep(Duration::from_millis(1)).await;
    }
    // Some caches promote a value into L1 only now and then: read until it is there.
    for _ in 0..50 {
        serves(subject, key).await;
    }
    say(&"watching")?;
    let give_up = Instant::now() + BOUND;
    while Instant::now() < give_up {
        if !serves(subject, key).await {
            return Ok(monotonic());
        }
        pause();
    }
    Ok(0)
}

/// Yields the processor, above all to this process's own tasks.
#[expect(
    clippy::disallowed_methods,
    reason = "tokio's timers are ten times as coarse, and this thread drives no task but this"
)]
fn pause() {
    std::thread::sleep(Duration::from_micros(100));
}

async fn serves<S: Subject>(subject: &S, key: &Key) -> bool {
    subject
        .get(key)
        .await
        .is_some_and(|user| user.borrow().id == key.id)
}
