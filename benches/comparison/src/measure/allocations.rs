//! Allocations of a hit in L1.

use std::sync::Arc;

use tokio::runtime::Runtime;

use crate::{Key, Levels, Line, Problem, Subject, draw, job::Job, measure::fill::fill};

const KEYS: u64 = 1000;

pub(crate) fn of_hits<S: Subject>(runtime: &Runtime, job: &Job) -> Result<Vec<Line>, Problem> {
    let hits = usize::try_from(job.part)?;
    let keys = Arc::new(Key::first(KEYS));
    let subject = runtime.block_on(S::open(&job.setting(Levels::Local, 2 * KEYS)))?;
    runtime.block_on(fill(&subject, &keys, 210, 1))?;
    let drawn = draw::zipf(KEYS, 0.99, hits);
    let read = || {
        runtime.block_on(async {
            for at in &drawn {
                drop(std::hint::black_box(subject.get(&keys[*at as usize]).await));
            }
        });
    };
    read(); // the first read's allocations are not a hit's
    let counted = allocation_counter::measure(read);
    let each = |number: u64| number as f64 / hits as f64;
    Ok(vec![
        Line::value("allocations", each(counted.count_total)),
        Line::value("bytes", each(counted.bytes_total)),
    ])
}
