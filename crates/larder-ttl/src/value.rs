use std::time::Duration;

/// The value of a key, whatever it was read from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Integer(i64),
    Boolean(bool),
    /// From code: TOML writes a duration as text.
    Duration(Duration),
    /// From code, as a part of one: TOML writes a percentage.
    Share(f64),
    Table(Vec<Setting>),
    /// A kind that no key takes, in words: a list, a date.
    Other(&'static str),
}

/// One key of a table, with its value and its line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Setting {
    pub(crate) key: String,
    pub(crate) value: Value,
    pub(crate) line: Option<usize>,
}

/// The longest duration: no sum of two of them overflows, in Redis or here.
pub(crate) const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

impl Value {
    fn shown(&self) -> String {
        match self {
            Self::Text(text) => format!("{text:?}"),
            Self::Integer(number) => number.to_string(),
            Self::Boolean(value) => value.to_string(),
            Self::Duration(duration) => humantime::format_duration(*duration).to_string(),
            Self::Share(share) => format!("{}%", share * 100.0),
            Self::Table(_) => "a table".to_owned(),
            Self::Other(kind) => (*kind).to_owned(),
        }
    }

    pub(crate) fn duration(&self) -> Result<Duration, String> {
        let duration = match self {
            Self::Duration(duration) => *duration,
            Self::Text(text) if text.trim() == "0" => Duration::ZERO,
            Self::Text(text) => humantime::parse_duration(text.trim()).map_err(|_| {
                format!("{text:?} is not a duration; write a number with a unit, such as \"90s\" or \"1h\"")
            })?,
            Self::Integer(number) => {
                return Err(format!("{number} has no unit; write \"{number}s\" if seconds are meant"));
            }
            other => return Err(format!("{} is not a duration such as \"90s\"", other.shown())),
        };
        if duration > LONGEST {
            return Err("a duration is at most 100 years".to_owned());
        }
        Ok(duration)
    }

    /// Reads a duration that may be `off`; zero means the same.
    pub(crate) fn optional_duration(&self) -> Result<Option<Duration>, String> {
        if self.is_off() {
            return Ok(None);
        }
        self.duration()
            .map(|duration| (!duration.is_zero()).then_some(duration))
    }

    /// Reads a share such as `"10%"`, as a part of one.
    pub(crate) fn share(&self) -> Result<f64, String> {
        let wrong = || {
            format!(
                "{} is not a share; write a percentage such as \"10%\"",
                self.shown()
            )
        };
        let share = match self {
            Self::Share(share) => *share,
            Self::Text(text) => {
                let number = text.trim().strip_suffix('%').ok_or_else(wrong)?;
                number.trim().parse::<f64>().map_err(|_| wrong())? / 100.0
            }
            _ => return Err(wrong()),
        };
        if !(0.0..1.0).contains(&share) {
            return Err(format!(
                "{} is out of range; a share is at least 0% and less than 100%",
                self.shown()
            ));
        }
        Ok(share)
    }

    /// Reads a share that may be `off`.
    pub(crate) fn optional_share(&self) -> Result<Option<f64>, String> {
        if self.is_off() {
            Ok(None)
        } else {
            self.share().map(Some)
        }
    }

    fn is_off(&self) -> bool {
        matches!(self, Self::Text(text) if text == "off")
    }

    pub(crate) fn text(&self) -> Result<&str, String> {
        match self {
            Self::Text(text) => Ok(text),
            other => Err(format!("{} is not text; put it in quotes", other.shown())),
        }
    }

    pub(crate) fn boolean(&self) -> Result<bool, String> {
        match self {
            Self::Boolean(value) => Ok(*value),
            other => Err(format!("{} is neither true nor false", other.shown())),
        }
    }

    pub(crate) fn count(&self) -> Result<u32, String> {
        match self {
            Self::Integer(number) => u32::try_from(*number).map_err(|_| {
                format!(
                    "{number} is out of range; it is a number from 0 to {}",
                    u32::MAX
                )
            }),
            other => Err(format!("{} is not a whole number", other.shown())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn durations_need_a_unit_and_an_end() {
        assert_eq!(text("1h 30m").duration(), Ok(Duration::from_secs(5400)));
        assert_eq!(text("200ms").duration(), Ok(Duration::from_millis(200)));
        assert_eq!(text("0").duration(), Ok(Duration::ZERO));
        assert_eq!(
            Value::Integer(5).duration().unwrap_err(),
            "5 has no unit; write \"5s\" if seconds are meant"
        );
        assert!(
            text("1 fortnite")
                .duration()
                .unwrap_err()
                .contains("is not a duration")
        );
        assert!(
            text("200y")
                .duration()
                .unwrap_err()
                .contains("at most 100 years")
        );
        assert!(text("99999999999999999999h").duration().is_err());
        assert_eq!(text("off").optional_duration(), Ok(None));
    }

    #[test]
    fn shares_are_percentages_below_a_hundred() {
        assert_eq!(text("10%").share(), Ok(0.1));
        for wrong in ["10", "100%", "-1%", "NaN%", "%"] {
            assert!(text(wrong).share().is_err(), "{wrong}");
        }
        assert_eq!(Value::Share(0.07).share(), Ok(0.07));
        for wrong in [1.0, -0.1, f64::NAN, f64::INFINITY] {
            assert!(Value::Share(wrong).share().is_err(), "{wrong}");
        }
    }
}
