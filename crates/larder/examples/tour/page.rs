//! The text of the tour on the terminal: as wide as that is, within reason, and in colours where
//! they are welcome.

use std::{
    io::{self, IsTerminal, Write},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table};

use crate::claim::Result;

/// Headings are underlined, and nothing else is drawn. The sixth and seventh characters are those
/// of that line.
const UNDERLINED: &str = "     ──            ";
const INDENT: &str = "  ";
/// Of the lines, with their indent. In the widest, no call needs a second line.
const WIDEST: u16 = 120;
const NARROWEST: u16 = 80;

pub(crate) struct Page {
    colours: bool,
    width: u16,
    claims: AtomicUsize,
}

/// The colours of the levels and of their work, in every table and chart.
pub(crate) const L1: Color = Color::Green;
pub(crate) const L2: Color = Color::Cyan;
pub(crate) const LOAD: Color = Color::Yellow;
pub(crate) const WRITE: Color = Color::Magenta;

impl Page {
    pub(crate) fn new() -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let colours = io::stdout().is_terminal() && !set("NO_COLOR") && !dumb;
        let terminal = Table::new().width();
        let width = terminal.unwrap_or(WIDEST).clamp(NARROWEST, WIDEST) - 2;
        Self {
            colours,
            width,
            claims: AtomicUsize::new(0),
        }
    }

    /// Checks a claim of the tour.
    ///
    /// # Errors
    /// The claim, if it does not hold.
    pub(crate) fn claim(&self, holds: bool, claim: impl FnOnce() -> String) -> Result {
        if !holds {
            return Err(format!("this does not hold: {}", claim()).into());
        }
        self.claims.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn claims(&self) -> usize {
        self.claims.load(Ordering::Relaxed)
    }

    pub(crate) fn title(&self, name: &str, what: &str) -> Result {
        self.blank()?;
        self.line(&format!("{}  {what}", self.paint("1", name)))?;
        self.blank()
    }

    pub(crate) fn fact(&self, name: &str, fact: &str) -> Result {
        self.line(&format!(
            "{} {fact}",
            self.paint("2", &format!("{name:<11}"))
        ))
    }

    pub(crate) fn section(&self, title: &str, about: &str) -> Result {
        let rule = "─".repeat(usize::from(self.width).saturating_sub(title.chars().count() + 4));
        self.blank()?;
        self.line(&format!(
            "{} {} {}",
            self.paint("36", "──"),
            self.paint("1", title),
            self.paint("36", &rule)
        ))?;
        self.line(about)
    }

    pub(crate) fn dim(&self, text: &str) -> Result {
        self.line(&self.paint("2", text))
    }

    pub(crate) fn done(&self, text: &str) -> Result {
        self.line(&format!("{} {text}", self.paint("32", "✓")))
    }

    pub(crate) fn blank(&self) -> Result {
        Ok(writeln!(io::stdout())?)
    }

    /// Writes lines of text, each indented.
    pub(crate) fn line(&self, text: &str) -> Result {
        let mut out = io::stdout().lock();
        for line in text.lines() {
            writeln!(out, "{INDENT}{line}")?;
        }
        Ok(())
    }

    /// A table with these headings, for [`show`](Self::show).
    pub(crate) fn table(&self, headings: &[&str]) -> Table {
        let mut table = Table::new();
        table.load_preset(UNDERLINED);
        table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(self.width);
        match self.colours {
            true => table.enforce_styling(),
            false => table.force_no_tty(),
        };
        table.set_header(
            headings
                .iter()
                .map(|heading| Cell::new(heading).add_attribute(Attribute::Dim)),
        );
        table
    }

    pub(crate) fn show(&self, table: &Table) -> Result {
        self.line(&table.to_string())
    }

    /// Text in a colour of the tables.
    pub(crate) fn coloured(&self, colour: Color, text: &str) -> String {
        let code = match colour {
            L1 => "32",
            L2 => "36",
            LOAD => "33",
            WRITE => "35",
            _ => "0",
        };
        self.paint(code, text)
    }

    /// Tells whether there is room for long calls and their notes on one line.
    pub(crate) fn is_wide(&self) -> bool {
        self.width > 110
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colours {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// A duration with three digits, such as `41.2 µs`.
pub(crate) fn duration(duration: Duration) -> String {
    let nanos = duration.as_secs_f64() * 1e9;
    let (value, unit) = match nanos {
        ..1e3 => return format!("{nanos:.0} ns"),
        ..1e6 => (nanos / 1e3, "µs"),
        ..1e9 => (nanos / 1e6, "ms"),
        _ => (nanos / 1e9, "s"),
    };
    match value {
        ..10.0 => format!("{value:.2} {unit}"),
        ..100.0 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

/// A number with its thousands apart, such as `10,000`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A rate per second, such as `1.21 M/s`.
pub(crate) fn rate(each_second: f64) -> String {
    match each_second {
        ..1e3 => format!("{each_second:.0} /s"),
        ..1e4 => format!("{:.2} k/s", each_second / 1e3),
        ..1e6 => format!("{:.0} k/s", each_second / 1e3),
        _ => format!("{:.2} M/s", each_second / 1e6),
    }
}
