//! Bars of Unicode blocks.

use std::time::Duration;

use comfy_table::Color;
use hdrhistogram::Histogram;

use crate::page::{self, Page};

const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A bar of `share` (0 to 1) of `width` columns. A share above 0 is always visible.
pub(crate) fn bar(share: f64, width: u16) -> String {
    let eighths = eighths(share, width);
    let (full, rest) = (eighths / 8, eighths % 8);
    format!("{}{}", "█".repeat(full), EIGHTHS[rest])
}

fn eighths(share: f64, width: u16) -> usize {
    let exact = share.clamp(0.0, 1.0) * f64::from(width) * 8.0;
    let least = usize::from(share > 0.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it lies between 0 and 8 × 65,535"
    )]
    let rounded = exact.round() as usize;
    rounded.max(least)
}

/// A bar that grows by the same amount with each factor of ten, from 10 ns to 10 ms.
pub(crate) fn log_bar(duration: Duration, width: u16) -> String {
    let decades = (duration.as_secs_f64() / 10e-9).log10();
    bar(decades / 6.0, width)
}

/// A line of bars over time, as high as their values.
pub(crate) fn sparkline(values: &[f64]) -> String {
    let highest = values.iter().copied().fold(0.0, f64::max);
    let height = |value: &f64| {
        let share = if highest > 0.0 { value / highest } else { 0.0 };
        HEIGHTS[eighths(share, 1).clamp(1, 8) - 1]
    };
    values.iter().map(height).collect()
}

/// One histogram of latencies (in ns) in a [`histograms`] chart.
pub(crate) struct Column<'h> {
    pub(crate) name: &'static str,
    pub(crate) colour: Color,
    pub(crate) latencies: &'h Histogram<u64>,
}

/// Histograms side by side over one logarithmic scale of time. The bars of each add up to 100 %.
pub(crate) fn histograms(page: &Page, columns: &[Column<'_>]) -> String {
    const WIDTH: u16 = 19;
    let mut chart = format!("{:>15}", "");
    for column in columns {
        let heading = format!("  {:<width$}", column.name, width = usize::from(WIDTH));
        chart.push_str(&page.coloured(column.colour, &heading));
    }
    chart.push('\n');
    for (low, high) in filled_steps(columns) {
        let label = |nanos| {
            page::duration(Duration::from_nanos(nanos))
                .replace(".00", "")
                .replace(".0", "")
        };
        chart.push_str(&format!(
            "{:>15}",
            format!("{} – {}", label(low), label(high))
        ));
        for column in columns {
            let counted = column.latencies.count_between(low, high - 1);
            let most = steps()
                .map(|(low, high)| column.latencies.count_between(low, high - 1))
                .max();
            let share = ratio(counted, most.unwrap_or(0));
            let bar = bar(share, WIDTH);
            let padding = usize::from(WIDTH).saturating_sub(bar.chars().count());
            chart.push_str(&format!(
                "  {}{}",
                page.coloured(column.colour, &bar),
                " ".repeat(padding)
            ));
        }
        chart.push('\n');
    }
    chart
}

/// 1, 2, 5, 10, 20, 50 … ns, in pairs.
fn steps() -> impl Iterator<Item = (u64, u64)> {
    let bounds = (0..10).flat_map(|decade| [1, 2, 5].map(|digit| digit * 10_u64.pow(decade)));
    bounds.clone().zip(bounds.skip(1))
}

/// The range from the first step with a count to the last one.
fn filled_steps(columns: &[Column<'_>]) -> impl Iterator<Item = (u64, u64)> {
    let some = columns.iter().filter(|column| !column.latencies.is_empty());
    let lowest = some
        .clone()
        .map(|column| column.latencies.min())
        .min()
        .unwrap_or(0);
    let highest = some.map(|column| column.latencies.max()).max().unwrap_or(0);
    steps().filter(move |(low, high)| *high > lowest && *low <= highest)
}

/// A part of a whole, 0 if there is no whole.
#[expect(
    clippy::cast_precision_loss,
    reason = "nobody sees the difference in a bar"
)]
pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}
