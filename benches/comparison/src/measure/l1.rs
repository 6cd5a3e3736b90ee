//! Hits in L1.

use std::{hint::black_box, sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::Instant};

use crate::{Key, Levels, Line, Problem, Subject, draw, job::Job, measure::fill::fill};

/// The number of reads between two looks at the clock.
const STRIDE: usize = 256;
const DRAWN: usize = 1 << 20;
/// A cache with shards may evict a few entries although it has room for twice as many.
const MOST_MISSES: f64 = 0.01;

pub(crate) async fn hits<S: Subject>(job: &Job) -> Result<Vec<Line>, Problem> {
    let (subject, keys) = filled::<S>(job, 210).await?;
    let mut lines = Vec::new();
    for (name, drawn) in [
        ("uniform", draw::uniform(job.part, DRAWN)),
        ("zipf", draw::zipf(job.part, 0.99, DRAWN)),
    ] {
        let drawn: Arc<[u32]> = drawn.into();
        read(&subject, &keys, &drawn, job.span() / 4).await?; // warms up
        let one = read(&subject, &keys, &drawn, job.span()).await?;
        lines.push(Line::value(name, 1e9 / one));
        let all = on_all_cores(&subject, &keys, &drawn, job.span()).await?;
        lines.push(Line::value(&format!("{name}_all"), all / 1e6));
    }
    Ok(lines)
}

pub(crate) async fn growth<S: Subject>(job: &Job) -> Result<Vec<Line>, Problem> {
    let (subject, keys) = filled::<S>(job, 0).await?;
    let drawn = draw::zipf(job.part, 0.99, DRAWN);
    read(&subject, &keys, &drawn, job.span()).await?;
    let one = read(&subject, &keys, &drawn, job.span()).await?;
    Ok(vec![Line::value("hit", 1e9 / one)])
}

async fn filled<S: Subject>(job: &Job, about: usize) -> Result<(S, Arc<Vec<Key>>), Problem> {
    let subject = S::open(&job.setting(Levels::Local, 2 * job.part)).await?;
    let keys = Arc::new(Key::first(job.part));
    fill(&subject, &keys, about, cores()).await?;
    Ok((subject, keys))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

async fn on_all_cores<S: Subject>(
    subject: &S,
    keys: &Arc<Vec<Key>>,
    drawn: &Arc<[u32]>,
    span: Duration,
) -> Result<f64, Problem> {
    let mut running = JoinSet::new();
    for core in 0..cores() {
        let (subject, keys, drawn) = (subject.clone(), keys.clone(), drawn.clone());
        running.spawn(async move {
            let from = core * (drawn.len() / cores());
            read(&subject, &keys, &drawn[from..], span).await
        });
    }
    let mut sum = 0.0;
    while let Some(rate) = running.join_next().await {
        sum += rate??;
    }
    Ok(sum)
}

/// Reads keys as they are drawn, and returns the number of reads per second.
async fn read<S: Subject>(
    subject: &S,
    keys: &[Key],
    drawn: &[u32],
    span: Duration,
) -> Result<f64, Problem> {
    let (mut read, mut missed) = (0_usize, 0_usize);
    let start = Instant::now();
    let mut strides = drawn.chunks_exact(STRIDE).cycle();
    loop {
        for at in strides.next().into_iter().flatten() {
            missed += usize::from(black_box(subject.get(&keys[*at as usize]).await).is_none());
        }
        read += STRIDE;
        let elapsed = start.elapsed();
        if elapsed >= span {
            let share = missed as f64 / read as f64;
            if share > MOST_MISSES {
                return Err(format!("{:.0} % of the reads missed", 100.0 * share).into());
            }
            return Ok(read as f64 / elapsed.as_secs_f64());
        }
    }
}
