//! A table of calls: the call, its work in the levels and in the database, and its time.

use std::time::Duration;

use comfy_table::{Attribute, Cell, CellAlignment, Color, ColumnConstraint};
use larder::Larder;
use tokio::time::Instant;

use crate::{
    claim::{BoxError, Result},
    database::Database,
    page::{self, Page},
    stage::Tour,
};

pub(crate) struct Steps<'t> {
    page: &'t Page,
    database: &'t Database,
    a: &'t Larder,
    b: Option<&'t Larder>,
    rows: Vec<Row>,
}

/// The place of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    A,
    B,
    Both,
    /// A program that knows nothing of larder.
    Foreign,
}

/// The work of calls in the levels, and the number of statements that reached the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Did {
    pub(crate) l1_hits: u64,
    pub(crate) l2_hits: u64,
    pub(crate) loads: u64,
    pub(crate) statements: u64,
}

struct Row {
    at: At,
    call: String,
    did: Did,
    took: Duration,
    note: String,
}

impl Did {
    pub(crate) fn nothing() -> Self {
        Self::default()
    }
    pub(crate) fn l1_hits(l1_hits: u64) -> Self {
        Self {
            l1_hits,
            ..Self::default()
        }
    }
    pub(crate) fn l2_hits(l2_hits: u64) -> Self {
        Self {
            l2_hits,
            ..Self::default()
        }
    }
    /// Loads of one statement each.
    pub(crate) fn loads(loads: u64) -> Self {
        Self {
            loads,
            statements: loads,
            ..Self::default()
        }
    }
    /// Writes to the database.
    pub(crate) fn writes(statements: u64) -> Self {
        Self {
            statements,
            ..Self::default()
        }
    }
}

impl<'t> Steps<'t> {
    pub(crate) fn new(tour: &'t Tour) -> Self {
        let b = tour.b.as_ref().map(|b| &b.larder);
        Self {
            page: &tour.page,
            database: &tour.database,
            a: &tour.a.larder,
            b,
            rows: Vec::new(),
        }
    }

    /// Makes a call, and begins its row.
    ///
    /// # Errors
    /// Those of the call.
    pub(crate) async fn call<T, E: Into<BoxError>>(
        &mut self,
        at: At,
        call: &str,
        future: impl Future<Output = Result<T, E>>,
    ) -> Result<T> {
        let before = self.counts(at);
        let start = Instant::now();
        let outcome = future.await;
        let took = start.elapsed();
        let after = self.counts(at);
        let did = Did {
            l1_hits: after.l1_hits - before.l1_hits,
            l2_hits: after.l2_hits - before.l2_hits,
            loads: after.loads - before.loads,
            statements: after.statements - before.statements,
        };
        self.rows.push(Row {
            at,
            call: call.to_owned(),
            did,
            took,
            note: String::new(),
        });
        outcome.map_err(Into::into)
    }

    /// Adds a note to the last call, and checks its work in the levels and the database.
    ///
    /// # Errors
    /// If it did something else.
    pub(crate) fn did(&mut self, expected: Did, note: impl Into<String>) -> Result {
        if let Some(row) = self.rows.last_mut() {
            row.note = note.into();
            self.page.claim(row.did == expected, || {
                format!(
                    "{} does {expected:?}; what it did was {:?}",
                    row.call, row.did
                )
            })?;
        }
        Ok(())
    }

    /// Like `did`, for a call that was repeated until a push had come: until then, L1 served the
    /// old value.
    ///
    /// # Errors
    /// If it did something else.
    pub(crate) fn did_once_pushed(&mut self, expected: Did, note: impl Into<String>) -> Result {
        self.did(
            Did {
                l1_hits: self.last().l1_hits,
                ..expected
            },
            note,
        )
    }

    /// Adds a note to the last call, whose counts depend on chance.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        if let Some(row) = self.rows.last_mut() {
            row.note = note.into();
        }
    }

    /// Corrects the time of the last call, if the tour waited for more than the call.
    pub(crate) fn took(&mut self, took: Duration) {
        if let Some(row) = self.rows.last_mut() {
            row.took = took;
        }
    }

    /// Returns the work of the last call.
    pub(crate) fn last(&self) -> Did {
        self.rows.last().map(|row| row.did).unwrap_or_default()
    }

    pub(crate) fn show(&self) -> Result {
        let mut table = self.page.table(&[
            "at",
            "call",
            "L1",
            "L2",
            "loads",
            "SQL",
            "took",
            "what happened",
        ]);
        if self.page.is_wide()
            && let Some(calls) = table.column_mut(1)
        {
            calls.set_constraint(ColumnConstraint::ContentWidth);
        }
        for row in &self.rows {
            table.add_row([
                Cell::new(row.at.name()).add_attribute(Attribute::Bold),
                Cell::new(&row.call),
                counted(row.did.l1_hits, page::L1),
                counted(row.did.l2_hits, page::L2),
                counted(row.did.loads, page::LOAD),
                counted(row.did.statements, page::WRITE),
                Cell::new(page::duration(row.took)).set_alignment(CellAlignment::Right),
                Cell::new(&row.note).add_attribute(Attribute::Dim),
            ]);
        }
        self.page.show(&table)
    }

    fn counts(&self, at: At) -> Did {
        let mut counts = Did {
            statements: self.database.statements(),
            ..Did::default()
        };
        let larders = [(At::A, Some(self.a)), (At::B, self.b)];
        for (instance, larder) in larders {
            let Some(larder) = larder else { continue };
            if at == instance || at == At::Both {
                let stats = larder.stats();
                counts.l1_hits += stats.l1_hits;
                counts.l2_hits += stats.l2_hits;
                counts.loads += stats.loads;
            }
        }
        counts
    }
}

impl At {
    fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
            Self::Both => "A+B",
            Self::Foreign => "–",
        }
    }
}

fn counted(number: u64, colour: Color) -> Cell {
    let cell = match number {
        0 => Cell::new("·").add_attribute(Attribute::Dim),
        _ => Cell::new(page::count(number)).fg(colour),
    };
    cell.set_alignment(CellAlignment::Right)
}
