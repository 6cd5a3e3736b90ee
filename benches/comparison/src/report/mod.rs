//! The report, in Markdown, and its charts.

mod chart;
mod criterion;
mod machine;
mod median;

use std::{fmt::Write as _, fs, path::Path};

use crate::{
    Answer, Problem,
    conductor::Outcome,
    question::{Cell, Kind, Part, Question},
};
use chart::{Bar, Curve};
pub use machine::Machine;
use median::{Summary, median};

/// Writes the report into this file, and its charts into the folder of that name beside it. The
/// last section is a table of criterion's estimates.
///
/// # Errors
/// A file cannot be written.
pub fn write(
    outcome: &Outcome,
    machine: &Machine,
    criterion: &Path,
    file: &Path,
) -> Result<(), Problem> {
    let folder = file.with_extension("");
    fs::create_dir_all(&folder)?;
    let mut text = head(outcome, machine);
    let here = folder
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    for question in &Question::ALL {
        if !outcome
            .given
            .iter()
            .any(|given| given.question == question.id)
        {
            continue;
        }
        let _ = write!(text, "\n## {}\n\n{}\n", question.title, question.about);
        let parts: Vec<&Part> = question.parts(outcome.quick).collect();
        if question.kind == Kind::Growth {
            let name = format!("{}.svg", question.id);
            fs::write(folder.join(&name), growth(outcome, question, &parts))?;
            let _ = write!(text, "\n![{}]({here}/{name})\n", question.title);
        }
        let tables: Vec<&[&Part]> = if question.split {
            parts.chunks(1).collect()
        } else {
            vec![parts.as_slice()]
        };
        for parts in tables {
            if question.split {
                let _ = write!(text, "\n### {}\n", parts[0].name);
            }
            if question.kind != Kind::Growth {
                for (name, svg) in bars(outcome, question, parts) {
                    fs::write(folder.join(&name), svg)?;
                    let _ = write!(text, "\n![{}]({here}/{name})\n", question.title);
                }
            }
            text.push_str(&table(outcome, question, parts));
        }
    }
    if let Some(table) = criterion::table(criterion) {
        let _ = write!(
            text,
            "\n## larder's calls, by criterion\n\n{CRITERION}{table}"
        );
    }
    Ok(fs::write(file, text)?)
}

const CRITERION: &str = "\
`cargo bench -p larder-benches`: one call after the other, in one process, beside the raw library where there is one. `l2_read/64`
is the time of a read while 64 tasks read.
";

fn head(outcome: &Outcome, machine: &Machine) -> String {
    let quick = if outcome.quick {
        "\n> **This is a quick run** (`cargo xtask bench --quick`): one short round, which shows that everything works. \
         Its numbers are not worth quoting.\n"
    } else {
        ""
    };
    format!(
        "# Benchmarks
{quick}
larder beside the caches that a service would take instead, and beside the raw libraries below it. Written by
`cargo xtask bench`, which needs a clone, the toolchain and a `redis-server`.

| | |
| --- | --- |
{machine}

- *Processes.* Every number is measured in a process of its own, in which only the one cache runs. The caches take turns,
  round by round; each number is the median of the rounds. Redis is on the same machine, and shares its cores.
- *Keys and values.* All caches have the same keys (`user:42`) and the same values: in memory a struct with five fields, in
  Redis about 300 bytes if nothing else is said.
- *Use.* Each cache is used as its own documentation says is fastest ([the adapters](../benches/peers/src)).
- *Lives.* Entries of larder, `hitbox`, `multi-tier-cache` and `oxcache` live for an hour, and so do all entries in Redis. In
  the memory of the others, entries have no life that a hit would have to look at.
- *Words.* *cannot*: the cache has no way to do it. *failed*: the error that it gave. `\"`: the same again. –: not measured.
"
    )
}

fn table(outcome: &Outcome, question: &Question, parts: &[&Part]) -> String {
    let columns: Vec<(&Part, &Cell)> = parts
        .iter()
        .flat_map(|part| question.cells.iter().map(move |cell| (*part, cell)))
        .collect();
    let mut text = "\n| | levels |".to_owned();
    for (part, cell) in &columns {
        let part = if question.split || part.name.is_empty() {
            String::new()
        } else {
            format!("{}, ", part.name)
        };
        let unit = if cell.unit.is_empty() {
            String::new()
        } else {
            format!(", {}", cell.unit)
        };
        let _ = write!(text, " {part}{}{unit} |", cell.name);
    }
    let _ = write!(text, "\n| --- | --- |{}\n", " ---: |".repeat(columns.len()));
    for entrant in &outcome.entrants {
        let _ = write!(text, "| {} | {} |", entrant.name, entrant.levels);
        let mut said_before = None;
        for (part, cell) in &columns {
            let shown = match median(outcome, question, part, cell, &entrant.name) {
                Some(Summary::Value(value)) => number(value, cell.digits),
                // A ditto mark for a repeated text.
                Some(Summary::Said(said)) if said_before.as_ref() == Some(&said) => "\"".to_owned(),
                Some(Summary::Said(said)) => {
                    said_before = Some(said.clone());
                    said.to_string().replace('|', "\\|").replace('\n', " ")
                }
                None => "–".to_owned(),
            };
            let _ = write!(text, " {shown} |");
        }
        text.push('\n');
    }
    text
}

/// With a thin space between thousands.
fn number(value: f64, digits: usize) -> String {
    let plain = format!("{value:.digits$}");
    let (whole, rest) = plain
        .split_once('.')
        .map_or((plain.as_str(), None), |(whole, rest)| (whole, Some(rest)));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) && whole.len() > 4 {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    rest.map_or_else(|| grouped.clone(), |rest| format!("{grouped}.{rest}"))
}

/// Draws a chart for the first cell of each unit, which says most, and for each count.
fn bars(outcome: &Outcome, question: &Question, parts: &[&Part]) -> Vec<(String, String)> {
    let mut charts = Vec::new();
    let Some(part) = parts.last() else {
        return charts;
    };
    let mut units = Vec::new();
    for cell in question.cells {
        if !cell.unit.is_empty() && units.contains(&cell.unit) {
            continue;
        }
        units.push(cell.unit);
        let bars: Vec<Bar> = outcome
            .entrants
            .iter()
            .filter_map(
                |entrant| match median(outcome, question, part, cell, &entrant.name)? {
                    Summary::Value(value) => Some(Bar {
                        name: entrant.name.clone(),
                        value,
                        shown: number(value, cell.digits),
                    }),
                    Summary::Said(_) => None,
                },
            )
            .collect();
        if bars.is_empty() {
            continue;
        }
        let part_name = if part.name.is_empty() {
            String::new()
        } else {
            format!("{}: ", part.name)
        };
        let title = format!(
            "{} – {part_name}{} ({})",
            question.title, cell.name, cell.unit
        );
        let name = format!("{}-{}-{}.svg", question.id, part.number, cell.id);
        charts.push((name, chart::bars(&title.replace(" ()", ""), &bars)));
    }
    charts
}

fn growth(outcome: &Outcome, question: &Question, parts: &[&Part]) -> String {
    let curves = outcome.entrants.iter().filter_map(|entrant| {
        let points: Vec<(f64, f64)> = parts
            .iter()
            .filter_map(|part| {
                match median(outcome, question, part, &question.cells[0], &entrant.name)? {
                    Summary::Value(value) => Some((part.number as f64, value)),
                    Summary::Said(_) => None,
                }
            })
            .collect();
        (points.len() > 1).then(|| Curve {
            name: entrant.name.clone(),
            points,
        })
    });
    let ticks: Vec<(f64, &str)> = parts
        .iter()
        .map(|part| (part.number as f64, part.name))
        .collect();
    chart::curves(
        &format!("{} ({})", question.title, question.cells[0].unit),
        &ticks,
        &curves.collect::<Vec<_>>(),
    )
}

impl From<Answer> for Summary {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Value(value) => Self::Value(value),
            said => Self::Said(said),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_grouped() {
        assert_eq!(number(1234.4, 0), "1234");
        assert_eq!(number(1_234_567.0, 0), "1\u{202f}234\u{202f}567");
        assert_eq!(number(12_345.678, 1), "12\u{202f}345.7");
    }
}
