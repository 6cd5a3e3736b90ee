//! Hits in L2.

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::Instant};

use crate::{
    Key, Levels, Line, Problem, Subject, draw,
    job::Job,
    measure::{fill::fill, percentiles::percentiles},
};

/// Large values are fewer, so that all of them together are not much more.
const MOST_BYTES: u64 = 30 << 20;

pub(crate) async fn hits<S: Subject>(job: &Job) -> Result<Vec<Line>, Problem> {
    let many = (MOST_BYTES / job.part).min(10_000);
    let subject = S::open(&job.setting(Levels::Remote, 1)).await?;
    let keys = Arc::new(Key::first(many));
    fill(&subject, &keys, usize::try_from(job.part)?, 64).await?;
    let drawn: Arc<[u32]> = draw::uniform(many, 1 << 16).into();

    let mut lines = vec![];
    throughput(&subject, &keys, &drawn, 64, job.span() / 4).await?; // warms up
    let one = tokio::spawn(latencies(
        subject.clone(),
        keys.clone(),
        drawn.clone(),
        job.span(),
    ));
    lines.extend(percentiles(one.await??));
    for tasks in [64, 256] {
        let rate = throughput(&subject, &keys, &drawn, tasks, job.span()).await?;
        lines.push(Line::value(&format!("tasks_{tasks}"), rate / 1e3));
    }
    Ok(lines)
}

async fn latencies<S: Subject>(
    subject: S,
    keys: Arc<Vec<Key>>,
    drawn: Arc<[u32]>,
    span: Duration,
) -> Result<Vec<Duration>, Problem> {
    let (mut taken, start) = (Vec::new(), Instant::now());
    for at in drawn.iter().cycle() {
        let before = Instant::now();
        subject
            .get(&keys[*at as usize])
            .await
            .ok_or("a read missed")?;
        taken.push(before.elapsed());
        if start.elapsed() >= span {
            break;
        }
    }
    Ok(taken)
}

async fn throughput<S: Subject>(
    subject: &S,
    keys: &Arc<Vec<Key>>,
    drawn: &Arc<[u32]>,
    tasks: usize,
    span: Duration,
) -> Result<f64, Problem> {
    let (mut running, start) = (JoinSet::new(), Instant::now());
    for task in 0..tasks {
        let (subject, keys, drawn) = (subject.clone(), keys.clone(), drawn.clone());
        running.spawn(async move {
            let mut read = 0_u32;
            for at in drawn.iter().cycle().skip(task * 211) {
                subject
                    .get(&keys[*at as usize])
                    .await
                    .ok_or("a read missed")?;
                read += 1;
                if start.elapsed() >= span {
                    break;
                }
            }
            Ok::<_, Problem>(read)
        });
    }
    let mut read = 0;
    while let Some(some) = running.join_next().await {
        read += some??;
    }
    Ok(f64::from(read) / start.elapsed().as_secs_f64())
}
