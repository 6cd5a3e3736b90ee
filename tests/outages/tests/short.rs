//! The whole product: every state of the database times every state of Redis, with and without
//! stale values.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use indicatif::ProgressBar;
use larder_outages::{Cell, Settings, markdown, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_cell_keeps_every_rule() {
    let settings = Settings {
        cells: Cell::all(),
        at_once: 9,
        progress: ProgressBar::hidden(),
    };
    let outcome = run(&settings).await.unwrap();
    println!("{}", markdown(&outcome));
    assert_eq!(outcome.cells.len(), 72);
    for cell in &outcome.cells {
        assert!(
            cell.reads > 200 && cell.writes > 20 && cell.loads > 20,
            "nothing happened: {cell:?}"
        );
    }
    assert!(outcome.is_good(), "{:#?}", outcome.broken());
}
