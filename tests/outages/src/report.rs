use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use crate::{
    cell::RedisState,
    copies, faults,
    limits::{self, GRACE},
    run::{self, Outcome},
    tally::CellOutcome,
};

/// The report, in Markdown.
pub fn markdown(outcome: &Outcome) -> String {
    let mut text = head(outcome) + &rules(outcome);
    for redis in RedisState::ALL {
        let cells: Vec<_> = outcome
            .cells
            .iter()
            .filter(|cell| cell.cell.redis == redis)
            .collect();
        if cells.is_empty() {
            continue;
        }
        let _ = write!(
            text,
            "\n## Redis {}\n\n\
             | database | `stale_for` | longest read | longest write | failed reads | failed writes | loads | at a time | stale | equal after |\n\
             | --- | --- | ---: | ---: | --- | --- | ---: | ---: | ---: | ---: |\n",
            redis.name()
        );
        cells
            .into_iter()
            .for_each(|cell| text.push_str(&line(cell)));
    }
    text + &foot(outcome)
}

fn head(outcome: &Outcome) -> String {
    let first = outcome.cells.first();
    let limits = first.map_or_else(Default::default, |cell| {
        (cell.longest_read.1, cell.longest_write.1)
    });
    format!(
        "# What callers see when things break

Each line is a run of its own. Two processes read and write the same {keys} keys all the time, each with {readers} tasks
that read and {writers} that write. At first all is well. Then, for {broken}, the database and Redis are both as the line
says. Then all is well again. The run measures the result and the wait of every call.

- A *read* is `get_or_load`.
- A *write* is `write_through`, `write_around` or `invalidate`. Its writer gives up by itself after {writer}, as every writer
  should. Of the database's writes that fail or hang, half have taken place.

| column | what it says |
| --- | --- |
| longest read, longest write | the slowest call, from its beginning to its value or error. The policies' limits come to {read} for \
a read and {write} for a write; {grace} more break the rule |
| failed reads, failed writes | how many calls failed, with which `Error`, of how many. `Load` and `Write` are the database's own errors, handed \
through; `LoadTimedOut` says that it took longer than `load_timeout` |
| loads | how often the database was read |
| at a time | the most loads of one key at a time in one process; three break the rule |
| stale | reads that were given a value after its `ttl` |
| equal after | the time from the end of the faults until every copy in both processes and in Redis equals the database's value, \
all is sent and all connections are back. The callers go on for {afterwards} of it |

",
        readers = limits::READERS,
        writers = limits::WRITERS,
        keys = limits::Key::COUNT,
        broken = shown(run::BROKEN),
        writer = shown(limits::WRITER_LIMIT),
        read = shown(limits.0),
        write = shown(limits.1),
        grace = shown(GRACE),
        afterwards = shown(run::AFTERWARDS),
    )
}

fn rules(outcome: &Outcome) -> String {
    format!(
        "The rules:

- no call takes longer than the policies' limits;
- a read fails only if the database does;
- no caller is given a value that a write or an invalidation had replaced which returned in its process before;
- at most two loads of a key run at a time in a process, one of them outdated by an invalidation;
- nothing is given after its `ttl` without `stale_for`;
- all copies are equal within {bound};
- nothing panics.

The two policies, each for half of the keys, beside the defaults:

```toml
{policies}```

Redis has a `command_timeout` and `connect_timeout` of 300 ms, a `ping_interval` of 50 ms, a `probe_interval` of 200 ms.
A slow Redis answers {delay} late, a slow database takes 150 ms. Written by `cargo xtask outages` on {processors} cores.
",
        bound = shown(copies::BOUND),
        policies = limits::shown(),
        delay = shown(faults::DELAY),
        processors = outcome.processors,
    )
}

fn line(cell: &CellOutcome) -> String {
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
        cell.cell.database.name(),
        if cell.cell.stale_for { "30 s" } else { "" },
        ms(cell.longest_read.0),
        ms(cell.longest_write.0),
        errors(&cell.read_errors, cell.reads),
        errors(&cell.write_errors, cell.writes),
        cell.loads,
        cell.at_once,
        cell.stale,
        cell.equal_after.map_or_else(|| "**never**".to_owned(), ms),
    )
}

fn errors(errors: &BTreeMap<&'static str, usize>, of: usize) -> String {
    if errors.is_empty() {
        return format!("none of {of}");
    }
    let said: Vec<String> = errors
        .iter()
        .map(|(error, many)| format!("{many} {error}"))
        .collect();
    format!("{} of {of}", said.join(", "))
}

fn shown(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        ms(duration)
    } else {
        format!("{} s", duration.as_secs_f64())
    }
}

fn ms(duration: Duration) -> String {
    format!("{:.0} ms", duration.as_secs_f64() * 1e3)
}

fn foot(outcome: &Outcome) -> String {
    let lag = outcome
        .cells
        .iter()
        .map(|cell| cell.lag)
        .max()
        .unwrap_or_default();
    let again = outcome.cells.iter().filter(|cell| cell.runs > 1).count();
    let broken = outcome.broken();
    let verdict = if outcome.is_good() {
        "every cell kept every rule.".to_owned()
    } else {
        let lines: String = broken
            .iter()
            .map(|broken| format!("\n- {broken}"))
            .collect();
        format!(
            "{} rules were broken, and there were {} panics.\n{lines}",
            broken.len(),
            outcome.panics
        )
    };
    format!(
        "\n## Verdict\n\nOf {} cells, {verdict}\n\nThe machine woke sleepers late by at most {}, which all of the \
         times above contain. {again} cells were run again\nbecause the machine was so late that this alone may have broken a rule of time.\n",
        outcome.cells.len(),
        ms(lag)
    )
}
