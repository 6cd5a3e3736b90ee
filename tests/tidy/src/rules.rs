//! The rules of the protocol, as docs/protocol.md states them.

/// A rule, as docs/protocol.md states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The number after `P`.
    pub number: u32,
    /// The name behind the number, such as `stamp-before-read`.
    pub slug: String,
    /// The statement, without the reasons.
    pub statement: String,
}

/// The file with the statements of the rules.
pub const PROTOCOL: &str = "docs/protocol.md";

/// Reads the rules from the text of docs/protocol.md: headings such as
/// `### P9 reply-invalidates-again`, each with the statement in bold below it.
pub fn stated(protocol: &str) -> Vec<Rule> {
    let mut lines = protocol.lines();
    let mut rules = Vec::new();
    while let Some(line) = lines.next() {
        let Some((number, slug)) = heading(line) else {
            continue;
        };
        let paragraph = lines
            .by_ref()
            .skip_while(|line| line.is_empty())
            .take_while(|line| !line.is_empty());
        let statement = paragraph.collect::<Vec<_>>().join(" ").replace("**", "");
        rules.push(Rule {
            number,
            slug,
            statement,
        });
    }
    rules.sort_by_key(|rule| rule.number);
    rules
}

fn heading(line: &str) -> Option<(u32, String)> {
    let (number, slug) = line.strip_prefix("### P")?.split_once(' ')?;
    Some((number.parse().ok()?, slug.trim().to_owned()))
}

/// Finds the rules that a text names (a `P` and a number), each with the text behind the number.
pub(crate) fn numbers_in(text: &str) -> Vec<(u32, &str)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices('P') {
        let (before, after) = (&text[..at], &text[at + 1..]);
        let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
        let rest = &after[digits.len()..];
        let in_word = |c: char| c.is_alphanumeric() || c == '_';
        if !before.ends_with(in_word)
            && !rest.starts_with(in_word)
            && let Ok(number) = digits.parse()
        {
            found.push((number, rest));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_from_their_headings() {
        let text = "# A\n\n### P2 second-rule\n\n**It holds,\nalways.**\n\nMore.\n### P1 first-rule\n**One.**\n### Other\n";
        let rule = |number, slug: &str, statement: &str| Rule {
            number,
            slug: slug.to_owned(),
            statement: statement.to_owned(),
        };
        assert_eq!(stated(text)[1], rule(2, "second-rule", "It holds, always."));
        assert_eq!(stated(text)[0].number, 1);
        assert_eq!(stated(text).len(), 2);
    }

    #[test]
    fn numbers_are_found_as_words_only() {
        let found: Vec<u32> = numbers_in("P1, P22: MP3 P4x p5 (P6)")
            .into_iter()
            .map(|(number, _)| number)
            .collect();
        assert_eq!(found, [1, 22, 6]);
    }
}
