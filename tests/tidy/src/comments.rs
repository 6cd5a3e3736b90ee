//! Checks of comments: first words, columns, and the names of rules.

use crate::{Rule, Source, rules::numbers_in};

/// A line that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The file, from the project's root.
    pub path: String,
    /// The line, from 1.
    pub line: usize,
    /// Says what is wrong, and what to do.
    pub problem: String,
}

/// The longest line of a comment, in characters.
pub const COLUMNS: usize = 100;

/// First words of a line that says nothing without the text around it.
const HEADLESS: [&str; 10] = [
    "The same",
    "What",
    "Who",
    "Whoever",
    "Whatever",
    "So many",
    "So much",
    "That which",
    "How it",
    "How that",
];

/// Finds lines of doc comments that begin with a question word or with "The same": they do not
/// stand alone.
pub fn headless(source: &Source) -> Vec<Remark> {
    remarks(source, |line| {
        let said = line.trim_start();
        let said = said
            .strip_prefix("/// ")
            .or_else(|| said.strip_prefix("//! "))?;
        let begins = |words: &&&str| {
            said.strip_prefix(**words)
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '\''))
        };
        let words = HEADLESS.iter().find(begins)?;
        Some(format!(
            "a doc comment says {words:?} first: begin with a verb or a noun phrase that stands alone"
        ))
    })
}

/// Finds lines of comments that are longer than [`COLUMNS`], but for rows of tables and links,
/// which cannot be wrapped.
pub fn too_wide(source: &Source) -> Vec<Remark> {
    remarks(source, |line| {
        let mark = if source.path.ends_with(".lua") {
            "--"
        } else {
            "//"
        };
        let said = line
            .trim_start()
            .strip_prefix(mark)?
            .trim_start_matches(['/', '!'])
            .trim_start();
        let unbreakable = said.starts_with('|') || said.contains("](") || said.contains("://");
        let columns = line.chars().count();
        (columns > COLUMNS && !unbreakable)
            .then(|| format!("a comment of {columns} columns: wrap it at {COLUMNS}"))
    })
}

/// Finds rules of the protocol that a comment calls by their number alone, or by another slug than
/// docs/protocol.md does.
pub fn unnamed_rules(source: &Source, rules: &[Rule]) -> Vec<Remark> {
    remarks(source, |line| {
        let comment = comment(line, source.path.ends_with(".lua"))?;
        numbers_in(comment).into_iter().find_map(|(number, rest)| {
            let Some(rule) = rules.iter().find(|rule| rule.number == number) else {
                return Some(format!("docs/protocol.md has no rule P{number}"));
            };
            let said = rest.strip_prefix(' ').unwrap_or_default();
            let said = said
                .split(|c: char| !c.is_alphanumeric() && c != '-')
                .next()
                .unwrap_or_default();
            (said != rule.slug).then(|| {
                format!(
                    "P{number} without its slug: write \"P{number} {}\"",
                    rule.slug
                )
            })
        })
    })
}

/// The comment of a line, from its mark on.
pub(crate) fn comment(line: &str, lua: bool) -> Option<&str> {
    let mark = if lua { "--" } else { "//" };
    let found = line.match_indices(mark).find(|(at, _)| {
        let before = &line[..*at];
        // Not within a text, nor in an address.
        let quotes = before.matches('"').count() - before.matches("\\\"").count();
        quotes.is_multiple_of(2) && !before.ends_with(':')
    });
    found.map(|(at, _)| &line[at..])
}

fn remarks(source: &Source, problem: impl Fn(&str) -> Option<String>) -> Vec<Remark> {
    let found = source.text.lines().enumerate().filter_map(|(at, line)| {
        Some(Remark {
            path: source.path.clone(),
            line: at + 1,
            problem: problem(line)?,
        })
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rust(text: &str) -> Source {
        Source {
            path: "a.rs".to_owned(),
            text: text.to_owned(),
        }
    }

    fn lines(remarks: Vec<Remark>) -> Vec<usize> {
        remarks.into_iter().map(|remark| remark.line).collect()
    }

    #[test]
    fn headless_first_words_are_found_in_doc_comments_only() {
        let doc = [
            "//! What it is.",
            "    /// The same for many.",
            "/// Whoever waits",
            "/// Somewhat like it",
            "// What follows",
            "/// Whether it waits",
            "/// The samething",
            "/// So many",
            "/// What's new",
        ];
        assert_eq!(lines(headless(&rust(&doc.join("\n")))), [1, 2, 3, 8]);
    }

    #[test]
    fn wide_comments_are_found_unless_they_cannot_be_wrapped() {
        let wide = "a ".repeat(60);
        let source = rust(&format!(
            "/// {wide}\n// {wide}\n/// | {wide} |\n// see https://a.example/{wide}\nlet a = \"{wide}\"; // b\n// short"
        ));
        assert_eq!(lines(too_wide(&source)), [1, 2]);
        assert!(too_wide(&rust(&format!("// {}", "a".repeat(97)))).is_empty());
        assert_eq!(
            lines(too_wide(&rust(&format!("// {}", "é".repeat(98))))),
            [1]
        );
    }

    #[test]
    fn rules_are_called_by_number_and_slug() {
        let rules = [
            Rule {
                number: 1,
                slug: "stamp-before-read".to_owned(),
                statement: String::new(),
            },
            Rule {
                number: 12,
                slug: "tracking-never-assumed".to_owned(),
                statement: String::new(),
            },
        ];
        let text = [
            "f(); // P1 stamp-before-read: because",
            "// P1: because",
            "// P12 stamp-before-read",
            "// P3 unknown-rule",
            "/// P1 stamp-before-read, P12 tracking-never-assumed: both",
            "/// P1 stamp-before-read, P12: both",
            "let a = \"// P1 \";",
            "// MP1, P1x and p1",
        ];
        assert_eq!(
            lines(unnamed_rules(&rust(&text.join("\n")), &rules)),
            [2, 3, 4, 6]
        );
        let lua = Source {
            path: "a.lua".to_owned(),
            text: "x() -- P1\n-- P1 stamp-before-read".to_owned(),
        };
        assert_eq!(lines(unnamed_rules(&lua, &rules)), [1]);
    }
}
