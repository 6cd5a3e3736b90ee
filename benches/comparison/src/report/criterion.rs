//! The estimates that criterion leaves in its folder.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::DeserializeOwned};

#[derive(Deserialize)]
struct Benchmark {
    full_id: String,
    throughput: Option<Throughput>,
}

#[derive(Deserialize)]
enum Throughput {
    Elements(u64),
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    point_estimate: f64,
    confidence_interval: Interval,
}

#[derive(Deserialize)]
struct Interval {
    lower_bound: f64,
    upper_bound: f64,
}

/// Returns a table of all estimates; empty, if there are none.
pub(super) fn table(folder: &Path) -> Option<String> {
    let mut lines: Vec<String> = found_in(folder)
        .into_iter()
        .filter_map(|new| line(&new))
        .collect();
    lines.sort();
    let mut text =
        "\n| benchmark | median | 95 % of the medians |\n| --- | ---: | ---: |\n".to_owned();
    lines.iter().for_each(|line| text.push_str(line));
    (!lines.is_empty()).then_some(text)
}

fn line(new: &Path) -> Option<String> {
    let benchmark: Benchmark = read(&new.join("benchmark.json"))?;
    let Estimates {
        median: Estimate {
            point_estimate,
            confidence_interval,
        },
    } = read(&new.join("estimates.json"))?;
    // A run of many reads is one sample; the table shows one read.
    let each = match benchmark.throughput {
        Some(Throughput::Elements(elements)) => elements as f64,
        _ => 1.0,
    };
    let mut line = String::new();
    let _ = writeln!(
        line,
        "| {} | {} | {} – {} |",
        benchmark.full_id,
        time(point_estimate / each),
        time(confidence_interval.lower_bound / each),
        time(confidence_interval.upper_bound / each)
    );
    Some(line)
}

fn time(nanos: f64) -> String {
    if nanos < 1e3 {
        format!("{nanos:.0} ns")
    } else {
        format!("{:.1} µs", nanos / 1e3)
    }
}

/// Every folder `new` below this one.
fn found_in(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match path.is_dir() {
                true if path.ends_with("new") => found.push(path),
                true => folders.push(path),
                false => {}
            }
        }
    }
    found
}

fn read<T: DeserializeOwned>(file: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}
