//! Memory of an entry.

use std::{fs, sync::Arc};

use tokio::runtime::Runtime;

use crate::{Key, Levels, Line, Problem, Subject, User, job::Job};

pub(crate) fn of_entries<S: Subject>(runtime: &Runtime, job: &Job) -> Result<Vec<Line>, Problem> {
    let keys = Arc::new(Key::first(job.part));
    let subject = runtime.block_on(S::open(&job.setting(Levels::Local, 2 * job.part)))?;
    let before = resident();
    let mut filled = Ok(());
    // On this thread, which is the only one that is counted.
    let counted = allocation_counter::measure(|| {
        filled = runtime.block_on(async {
            for key in &*keys {
                subject.insert(key, User::new(key.id, 210)).await?;
            }
            Ok::<_, Problem>(())
        });
    });
    filled?;
    let each = |bytes: i64| bytes as f64 / keys.len() as f64;
    let mut lines = vec![Line::value("heap", each(counted.bytes_current))];
    if let (Some(before), Some(after)) = (before, resident()) {
        lines.push(Line::value("resident", each(after - before)));
    }
    drop(subject);
    Ok(lines)
}

/// Returns the memory of this process in bytes, where the system says it (Linux does).
fn resident() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}
