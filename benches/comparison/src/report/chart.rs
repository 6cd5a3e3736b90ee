//! Charts as SVG, which need nothing else.

use std::fmt::Write as _;

/// A bar with its name and its number.
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) value: f64,
    pub(super) shown: String,
}

/// One subject's points.
pub(super) struct Curve {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 820.0;
const LEFT: f64 = 200.0;
const RIGHT: f64 = 90.0;
const TOP: f64 = 40.0;
const ROW: f64 = 24.0;

const OWN: &str = "#e15759";
const OTHER: &str = "#4e79a7";
const COLOURS: [&str; 12] = [
    "#4e79a7", "#f28e2b", "#76b7b2", "#59a14f", "#edc948", "#b07aa1", "#9c755f", "#7f7f7f",
    "#17becf", "#bcbd22", "#1f3b57", "#d37295",
];

/// Bars from 0, longest where the value is largest.
pub(super) fn bars(title: &str, bars: &[Bar]) -> String {
    let most = bars
        .iter()
        .map(|bar| bar.value)
        .fold(0.0, f64::max)
        .max(f64::MIN_POSITIVE);
    let height = TOP + ROW * bars.len() as f64 + 10.0;
    let mut svg = head(title, height);
    for (row, bar) in bars.iter().enumerate() {
        let y = TOP + ROW * row as f64;
        let length = (bar.value / most * (WIDTH - LEFT - RIGHT)).max(1.0);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{:.0}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LEFT}\" y=\"{:.0}\" width=\"{length:.1}\" height=\"{}\" fill=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{:.0}\">{}</text>",
            LEFT - 8.0,
            y + 15.0,
            escape(&bar.name),
            y + 3.0,
            ROW - 7.0,
            if is_own(&bar.name) { OWN } else { OTHER },
            LEFT + length + 6.0,
            y + 15.0,
            escape(&bar.shown),
        );
    }
    svg + "</svg>\n"
}

const HEIGHT: f64 = 460.0;
const BOTTOM: f64 = 40.0;
const LEGEND: f64 = 190.0;
const AXIS: f64 = 60.0;

/// Lines over a logarithmic scale from left to right, and another one upwards.
pub(super) fn curves(title: &str, ticks: &[(f64, &str)], curves: &[Curve]) -> String {
    let values = || {
        curves
            .iter()
            .flat_map(|curve| curve.points.iter().map(|point| point.1))
    };
    let low = values()
        .fold(f64::INFINITY, f64::min)
        .max(1.0)
        .log10()
        .floor();
    let high = values().fold(1.0, f64::max).log10().ceil().max(low + 1.0);
    let first = ticks.first().map_or(0.0, |tick| tick.0.log10());
    let last = ticks
        .last()
        .map_or(1.0, |tick| tick.0.log10())
        .max(first + 1.0);
    let x = |at: f64| AXIS + (at.log10() - first) / (last - first) * (WIDTH - AXIS - LEGEND);
    let y = |value: f64| {
        let share = (value.max(1.0).log10() - low) / (high - low);
        HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)
    };
    let mut svg = head(title, HEIGHT);
    let mut power = low;
    while power <= high {
        let at = y(10_f64.powf(power));
        let _ = writeln!(
            svg,
            "<line x1=\"{AXIS}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ccc\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{:.0}</text>",
            WIDTH - LEGEND,
            AXIS - 6.0,
            at + 4.0,
            10_f64.powf(power),
        );
        power += 1.0;
    }
    for (at, name) in ticks {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{name}</text>",
            x(*at),
            HEIGHT - BOTTOM + 20.0
        );
    }
    for (index, curve) in curves.iter().enumerate() {
        let place = |(at, value): &(f64, f64)| format!("{:.1},{:.1}", x(*at), y(*value));
        let points: Vec<String> = curve.points.iter().map(place).collect();
        line(&mut svg, index, &curve.name, &points.join(" "));
    }
    svg + "</svg>\n"
}

/// Draws one subject's line, and its name in the legend.
fn line(svg: &mut String, index: usize, name: &str, points: &str) {
    let own = is_own(name);
    let colour = if own {
        OWN
    } else {
        COLOURS[index % COLOURS.len()]
    };
    let row = TOP + 18.0 * index as f64;
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{}\"/>\
         <rect x=\"{}\" y=\"{:.0}\" width=\"14\" height=\"4\" fill=\"{colour}\"/>\
         <text x=\"{}\" y=\"{:.0}\">{}</text>",
        points,
        if own { 3 } else { 2 },
        WIDTH - LEGEND + 14.0,
        row - 4.0,
        WIDTH - LEGEND + 34.0,
        row + 2.0,
        escape(name),
    );
}

fn head(title: &str, height: f64) -> String {
    // A ground of its own, because a page may be dark.
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-size=\"13\" font-family=\"sans-serif\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\
         <text x=\"12\" y=\"24\" font-size=\"15\" font-weight=\"bold\">{}</text>\n",
        escape(title)
    )
}

fn is_own(name: &str) -> bool {
    name.starts_with("larder")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
