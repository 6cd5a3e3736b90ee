use crate::{
    Answer,
    conductor::Outcome,
    question::{Cell, Part, Question},
};

/// The result of a cell over all rounds.
#[derive(Clone, Debug)]
pub(super) enum Summary {
    Value(f64),
    /// The reason why there is no value.
    Said(Answer),
}

/// Returns the median of the measured values, or the reason why there is none. `None`: no subject
/// was asked.
pub(super) fn median(
    outcome: &Outcome,
    question: &Question,
    part: &Part,
    cell: &Cell,
    subject: &str,
) -> Option<Summary> {
    let mut values = Vec::new();
    let mut said = None;
    for given in &outcome.given {
        let asked =
            given.question == question.id && given.part == part.number && given.subject == subject;
        if !asked || !(given.line.cell == cell.id || given.line.cell == "*") {
            continue;
        }
        match &given.line.answer {
            Answer::Value(value) => values.push(*value),
            other => said = Some(other.clone()),
        }
    }
    // A failure in one round is told, also if others went well.
    if let Some(said) = said {
        return Some(said.into());
    }
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let even = values.len().is_multiple_of(2);
    match values.get(middle) {
        Some(upper) if even => Some(Summary::Value(f64::midpoint(*upper, values[middle - 1]))),
        found => found.copied().map(Summary::Value),
    }
}
