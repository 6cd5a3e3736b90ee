//! The code that valgrind counts.

use std::{hint::black_box, sync::Arc};

use tokio::runtime::Runtime;

use crate::{Key, Levels, Line, Problem, Subject, draw, job::Job, measure::fill::fill};

const KEYS: u64 = 1000;

/// The function whose instructions valgrind counts, by its name in this module.
pub(crate) const COUNTED: &str = "*instructions::counted_hits*";

pub(crate) fn of_hits<S: Subject>(runtime: &Runtime, job: &Job) -> Result<Vec<Line>, Problem> {
    let keys = Arc::new(Key::first(KEYS));
    let subject = runtime.block_on(S::open(&job.setting(Levels::Local, 2 * KEYS)))?;
    runtime.block_on(fill(&subject, &keys, 210, 1))?;
    let drawn = draw::zipf(KEYS, 0.99, usize::try_from(job.part)?);
    let found = counted_hits(runtime, &subject, &keys, &drawn);
    if found == drawn.len() {
        Ok(Vec::new())
    } else {
        Err("a read missed".into())
    }
}

#[inline(never)]
fn counted_hits<S: Subject>(runtime: &Runtime, subject: &S, keys: &[Key], drawn: &[u32]) -> usize {
    runtime.block_on(async {
        let mut found = 0;
        for at in drawn {
            found += usize::from(black_box(subject.get(&keys[*at as usize]).await).is_some());
        }
        found
    })
}
