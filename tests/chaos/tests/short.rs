//! A short run of the history checker, with every kind of fault.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

use std::time::Duration;

use indicatif::ProgressBar;
use larder_chaos::{Settings, Topology, html, run};

#[tokio::test(flavor = "multi_thread")]
async fn every_read_under_faults_keeps_the_promise() {
    let seed = fastrand::u64(..);
    let settings = Settings {
        program: env!("CARGO_BIN_EXE_chaos").into(),
        length: Duration::from_secs(24),
        seed,
        pause: Duration::from_millis(200),
        topology: Topology::Single,
        on_data_loss: "redo".to_owned(),
        stops_early: false,
        progress: ProgressBar::hidden(),
    };
    let outcome = run(&settings).await.unwrap();
    println!("{outcome}");
    assert!(outcome.is_good(), "{outcome}");
    assert!(outcome.history.reads.len() > 5_000, "{outcome}");
    assert!(outcome.history.writes.len() > 500, "{outcome}");
    let kinds = outcome.faults().len();
    assert_eq!(kinds, Topology::Single.faults().len(), "{outcome}");
    let report = html(&outcome);
    assert!(
        report.contains("<svg") && report.ends_with("</html>\n"),
        "{report}"
    );
}
