use std::{fmt, time::Duration};

use crate::{Row, TtlTable};

/// An aligned table for people.
impl fmt::Display for TtlTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = vec![
            ["row", "keys", "ttl", "l1 ttl", "levels", "jitter", "absent", "lease", "reason"]
                .map(str::to_owned),
        ];
        lines.extend(self.rows().map(cells));
        let widths: Vec<usize> = (0..lines[0].len())
            .map(|i| lines.iter().map(|line| line[i].chars().count()).max().unwrap_or(0))
            .collect();
        for (n, line) in lines.iter().enumerate() {
            let padded: Vec<String> =
                line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            writeln!(f, "{}", padded.join("  ").trim_end())?;
            if n == 0 {
                let rule: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
                writeln!(f, "{}", rule.join("  "))?;
            }
        }
        Ok(())
    }
}

fn cells(row: &Row) -> [String; 9] {
    let l1_ttl = if row.levels().has_l1() { shown(row.l1_ttl()) } else { "–".to_owned() };
    [
        row.name().to_owned(),
        format!("{}:…", row.key_prefix()),
        shown(row.ttl()),
        l1_ttl,
        row.levels().name().to_owned(),
        format!("{}%", (row.jitter() * 1000.0).round() / 10.0),
        row.negative_ttl().map_or("–".to_owned(), shown),
        shown(row.lease()),
        row.reason().to_owned(),
    ]
}

fn shown(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_aligned_and_has_the_reasons() {
        let shown = TtlTable::default().to_string();
        assert!(shown.contains("user_profile   user:…           1h    1m      both    10%     –       10s    moderate change frequency"), "{shown}");
        assert!(shown.contains("session_token  session_token:…  1day  –       l2"), "{shown}");
        assert_eq!(shown.lines().count(), 7);
    }
}
