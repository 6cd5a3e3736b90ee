//! Writes of the database and all levels.

use tokio::time::Instant;

use crate::{
    Database, Key, Levels, Line, Problem, Subject, User, job::Job,
    measure::percentiles::percentiles,
};

const KEYS: u64 = 1000;

pub(crate) async fn latency<S: Subject>(job: &Job) -> Result<Vec<Line>, Problem> {
    let subject = S::open(&job.setting(Levels::All, 100_000)).await?;
    let keys = Key::first(KEYS);
    let span = job.span();
    let written = tokio::spawn(async move {
        let database = Database::default();
        let (mut taken, start) = (Vec::new(), Instant::now());
        for key in keys.iter().cycle() {
            let user = User::new(key.id, 210);
            let before = Instant::now();
            subject.write_through(key, user, &database).await?;
            taken.push(before.elapsed());
            if start.elapsed() >= 2 * span {
                break;
            }
        }
        Ok::<_, Problem>(taken)
    });
    Ok(percentiles(written.await??).into())
}
