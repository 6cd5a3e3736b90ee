use std::{fmt, time::Duration};

use crate::{Policy, TtlTable};

const HEADS: [&str; 11] = [
    "policy", "keys", "ttl", "l1 ttl", "levels", "jitter", "absent", "stale", "refresh", "lease",
    "reason",
];
/// Columns that are shown only if some policy sets them.
const RARE: [&str; 2] = ["stale", "refresh"];
const NONE: &str = "–";

/// Shows an aligned table for people, with the reasons.
impl fmt::Display for TtlTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = vec![HEADS.map(str::to_owned).to_vec()];
        lines.extend(self.policies().map(|policy| cells(policy).to_vec()));
        // An empty column would only make the others harder to find.
        let shown: Vec<bool> = (0..HEADS.len())
            .map(|i| !RARE.contains(&HEADS[i]) || lines[1..].iter().any(|line| line[i] != NONE))
            .collect();
        for line in &mut lines {
            let mut shown = shown.iter();
            line.retain(|_| shown.next() == Some(&true));
        }
        let widths: Vec<usize> = (0..lines[0].len())
            .map(|i| {
                lines
                    .iter()
                    .map(|line| line[i].chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        for (n, line) in lines.iter().enumerate() {
            let padded: Vec<String> = line
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            writeln!(f, "{}", padded.join("  ").trim_end())?;
            if n == 0 {
                let rule: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
                writeln!(f, "{}", rule.join("  "))?;
            }
        }
        Ok(())
    }
}

fn cells(policy: &Policy) -> [String; HEADS.len()] {
    let some = |duration: Option<Duration>| duration.map_or(NONE.to_owned(), shown);
    [
        policy.name().to_owned(),
        format!("{}:…", policy.key_prefix()),
        shown(policy.ttl()),
        some(policy.levels().has_l1().then(|| policy.l1_ttl())),
        policy.levels().name().to_owned(),
        percentage(policy.jitter()),
        some(policy.negative_ttl()),
        some(Some(policy.stale_for()).filter(|time| !time.is_zero())),
        policy.refresh_ahead().map_or(NONE.to_owned(), percentage),
        shown(policy.lease()),
        policy.reason().to_owned(),
    ]
}

pub(crate) fn percentage(share: f64) -> String {
    format!("{}%", (share * 1000.0).round() / 10.0)
}

pub(crate) fn shown(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_aligned_and_has_the_reasons() {
        let shown = TtlTable::default().to_string();
        assert!(shown.contains("user_profile   user:…           1h    1m      both    10%     –       10s    moderate change frequency"), "{shown}");
        assert!(
            shown.contains("session_token  session_token:…  1day  –       l2"),
            "{shown}"
        );
        assert_eq!(shown.lines().count(), 7);
    }

    #[test]
    fn columns_that_few_policies_need_are_there_for_these() {
        let text = "[posts]\nttl = '5m'\nstale_for = '10m'\nrefresh_ahead = '80%'\nreason = 'x'";
        let shown = TtlTable::from_toml(text).unwrap().to_string();
        assert!(
            shown.contains("absent  stale  refresh  lease  reason"),
            "{shown}"
        );
        assert!(
            shown.contains("10%     –       10m    80%      10s    x"),
            "{shown}"
        );
        assert!(
            shown.contains("10%     –       –      –        10s    security"),
            "{shown}"
        );
    }
}
