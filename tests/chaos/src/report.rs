use std::{collections::BTreeSet, fmt::Write as _, process::Command};

use crate::{
    faults::{Fault, FaultKind},
    history::Stale,
    outcome::Outcome,
};

const WIDTH: f64 = 1_200.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 40.0;
/// The powers of ten between which staleness lies, in nanoseconds: 1 µs to 10 s.
const LEAST: f64 = 3.0;
const MOST: f64 = 10.0;

/// One colour for each kind of fault.
const COLOURS: [&str; FaultKind::ALL.len()] = [
    "#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#edc948", "#b07aa1", "#9c755f",
    "#7f7f7f", "#ff9da7", "#bab0ac", "#d37295", "#a0cbe8", "#8cd17d", "#f1ce63",
];

/// The report: one page that needs nothing else.
pub fn html(outcome: &Outcome) -> String {
    let verdict = if outcome.is_good() {
        "The promise was kept."
    } else {
        "The promise was broken."
    };
    let faults: String = outcome.faults().into_iter().fold(String::new(), |mut rows, (kind, many)| {
        let _ = write!(
            rows,
            "<tr><td><span style=\"background:{}\">&nbsp;&nbsp;&nbsp;</span> {}</td><td>{many}</td></tr>",
            colour(kind),
            kind.name()
        );
        rows
    });
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>larder under faults</title>\
         <style>body{{font:15px/1.5 system-ui,sans-serif;max-width:1240px;margin:2em auto;padding:0 1em}}\
         pre{{background:#f4f4f4;padding:1em;overflow:auto}}td{{padding:0 1.5em 0 0}}</style>\
         <h1>larder under faults</h1><p><b>{verdict}</b> Commit {}, on {}.</p>\
         <h2>Staleness in other processes</h2>\
         <p>Each dot is a read that was given from its process's L1 what another process had replaced, and how long before \
         it had. Bands are faults. Reads that were given the newest value have no dot.</p>{}\
         <table>{faults}</table><h2>Figures</h2><pre>{}</pre></html>\n",
        escape(&said_by("git", &["rev-parse", "--short", "HEAD"])),
        escape(&said_by("uname", &["-srm"])),
        chart(outcome),
        escape(&outcome.to_string()),
    )
}

fn chart(outcome: &Outcome) -> String {
    let reads = outcome.history.reads.iter().map(|read| read.end);
    let end = reads
        .chain(outcome.history.faults.iter().map(|fault| fault.end))
        .max()
        .unwrap_or(outcome.start);
    let seconds = (end.saturating_sub(outcome.start) as f64 / 1e9).max(1.0);
    let x =
        |at: u64| LEFT + at.saturating_sub(outcome.start) as f64 / 1e9 / seconds * (WIDTH - LEFT);
    let y = |age: u64| {
        let power = (age.max(1) as f64).log10().clamp(LEAST, MOST);
        (HEIGHT - BOTTOM) * (1.0 - (power - LEAST) / (MOST - LEAST))
    };
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-size=\"12\" font-family=\"sans-serif\">"
    );
    draw_faults(&mut svg, outcome, &x);
    draw_grid(&mut svg, seconds, &y);
    // Dots that cannot be told apart are drawn once.
    let dots: BTreeSet<String> = outcome
        .verdict
        .stale
        .iter()
        .map(|stale| dot(stale, x(stale.at), y(stale.age)))
        .collect();
    svg.extend(dots);
    svg + "</svg>"
}

fn draw_faults(svg: &mut String, outcome: &Outcome, x: &impl Fn(u64) -> f64) {
    for fault @ Fault {
        kind, start, end, ..
    } in &outcome.history.faults
    {
        let (from, to) = (x(*start), x(*end));
        let _ = write!(
            svg,
            "<rect x=\"{from:.1}\" y=\"0\" width=\"{:.1}\" height=\"{}\" fill=\"{}\" opacity=\"0.35\"><title>{}</title></rect>",
            (to - from).max(1.5),
            HEIGHT - BOTTOM,
            colour(*kind),
            escape(&fault.to_string())
        );
    }
}

fn draw_grid(svg: &mut String, seconds: f64, y: &impl Fn(u64) -> f64) {
    for (power, name) in [
        "1 µs", "10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s", "10 s",
    ]
    .iter()
    .enumerate()
    {
        let at = y(10_u64.pow(u32::try_from(power).unwrap_or(0) + 3));
        let _ = write!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ccc\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>",
            LEFT - 6.0,
            at + 4.0
        );
    }
    for tick in 0..=10 {
        let share = f64::from(tick) / 10.0;
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{:.0} s</text>",
            LEFT + share * (WIDTH - LEFT - 20.0),
            HEIGHT - BOTTOM + 18.0,
            share * seconds
        );
    }
}

fn dot(stale: &Stale, x: f64, y: f64) -> String {
    let colour = if stale.faulty { "#c00" } else { "#06c" };
    format!("<circle cx=\"{x:.0}\" cy=\"{y:.0}\" r=\"1.8\" fill=\"{colour}\"/>")
}

fn colour(kind: FaultKind) -> &'static str {
    COLOURS[kind as usize]
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn said_by(program: &str, args: &[&str]) -> String {
    let said = Command::new(program)
        .args(args)
        .output()
        .ok()
        .filter(|output| output.status.success());
    said.map_or_else(
        || "unknown".to_owned(),
        |said| String::from_utf8_lossy(&said.stdout).trim().to_owned(),
    )
}
