//! Hits among all reads.

use crate::{Key, Levels, Line, Problem, Subject, User, draw, job::Job};

pub(crate) async fn ratios<S: Subject>(job: &Job) -> Result<Vec<Line>, Problem> {
    let capacity = job.part;
    let many = 10 * capacity;
    let keys = Key::first(many);
    let len = if job.quick { 150_000 } else { 1_000_000 };
    let mut lines = Vec::new();
    for (name, drawn) in [
        ("zipf", draw::zipf(many, 0.99, len)),
        ("scan", draw::zipf_and_scans(many, capacity, len)),
        ("web", draw::zipf(many, 0.77, len)),
    ] {
        // One after the other, each in a cache of its own.
        let subject = S::open(&job.setting(Levels::Local, capacity)).await?;
        let mut hits = 0_u32;
        for (read, at) in drawn.iter().enumerate() {
            let key = &keys[*at as usize];
            match subject.get(key).await {
                Some(_) if read >= len / 3 => hits += 1,
                Some(_) => {}
                None => subject.insert(key, User::new(key.id, 0)).await?,
            }
        }
        lines.push(Line::value(
            name,
            100.0 * f64::from(hits) / (len - len / 3) as f64,
        ));
    }
    Ok(lines)
}
