use std::time::Duration;

use crate::Line;

/// The median and the 99th percentile, in µs.
pub(crate) fn percentiles(mut taken: Vec<Duration>) -> [Line; 2] {
    taken.sort();
    let at = |percent: usize| {
        taken
            .get(taken.len() * percent / 100)
            .map_or(0.0, Duration::as_secs_f64)
    };
    [
        Line::value("p50", at(50) * 1e6),
        Line::value("p99", at(99) * 1e6),
    ]
}
