//! Questions that several processes of a subject answer together.

use crate::{
    Line, Problem,
    conductor::program::{Member, Program},
    job::Job,
    measure::{fanout::BOUND, storm::Seen},
};

pub(super) async fn storm(program: &Program, job: &Job) -> Result<Vec<Line>, Problem> {
    let mut members = Vec::new();
    for _ in 0..job.part {
        members.push(program.start(job).await?);
    }
    let (mut loads, mut served) = (Vec::new(), Vec::new());
    for key in 0..trials(job) {
        for member in &mut members {
            member.tell(&key.to_string()).await?;
        }
        let mut all = Vec::new();
        for member in &mut members {
            all.push(member.hear::<Seen>().await?);
        }
        loads.push(all.iter().map(|seen| seen.loads).sum::<u64>() as f64);
        let first_end = all
            .iter()
            .map(|seen| seen.first_end)
            .filter(|end| *end > 0)
            .min()
            .unwrap_or(0);
        let last = all.iter().map(|seen| seen.served).max().unwrap_or(0);
        served.push(last.saturating_sub(first_end) as f64 / 1e6);
    }
    let lines = |cell, values: Vec<f64>| {
        values
            .into_iter()
            .map(move |value| Line::value(cell, value))
    };
    Ok(lines("loads", loads)
        .chain(lines("served", served))
        .collect())
}

pub(super) async fn fanout(program: &Program, job: &Job) -> Result<Vec<Line>, Problem> {
    let mut writer = program.start(job).await?;
    let mut readers = Vec::new();
    for _ in 0..job.part {
        readers.push(program.start(job).await?);
    }
    let mut lines = Vec::new();
    for key in 0..trials(job) {
        order(&mut writer, "insert", key).await?;
        for reader in &mut readers {
            reader.tell(&format!("watch {key}")).await?;
        }
        for reader in &mut readers {
            reader.hear::<String>().await?;
        }
        let called = order(&mut writer, "invalidate", key).await?;
        let mut last = 0;
        for reader in &mut readers {
            match reader.hear::<u64>().await? {
                0 => {
                    return Err(format!(
                        "the old value is still served after {} s",
                        BOUND.as_secs()
                    )
                    .into());
                }
                gone => last = gone.max(last),
            }
        }
        lines.push(Line::value(
            "gone",
            last.saturating_sub(called) as f64 / 1e6,
        ));
    }
    Ok(lines)
}

/// Has the writer do something, and returns when it says that it began.
async fn order(writer: &mut Member, what: &str, key: u64) -> Result<u64, Problem> {
    writer.tell(&format!("{what} {key}")).await?;
    writer.hear().await
}

fn trials(job: &Job) -> u64 {
    if job.quick { 3 } else { 7 }
}
