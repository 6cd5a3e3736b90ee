//! Short runs of the history checker, with every kind of fault.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

use std::time::Duration;

use indicatif::ProgressBar;
use larder_chaos::{FaultKind, Outcome, Rounds, Settings, Topology, html, meter, run};
use tokio::sync::Mutex;

/// One run at a time: its processes need the machine.
static TURN: Mutex<()> = Mutex::const_new(());

async fn run_on(topology: Topology, faults: &[FaultKind], seconds: u64) -> Outcome {
    let settings = Settings {
        program: env!("CARGO_BIN_EXE_chaos").into(),
        length: Duration::from_secs(seconds),
        seed: fastrand::u64(..),
        pause: Duration::from_millis(200),
        topology,
        faults: faults.to_vec(),
        on_data_loss: "redo".to_owned(),
        stops_early: false,
        progress: ProgressBar::hidden(),
    };
    let outcome = run(&settings).await.unwrap();
    assert!(outcome.is_good(), "{outcome}");
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn every_read_under_faults_keeps_the_promise() {
    let _turn = TURN.lock().await;
    let faults = Topology::Single.faults();
    let outcome = run_on(Topology::Single, &faults, 22).await;
    assert!(outcome.history.reads.len() > 5_000, "{outcome}");
    assert!(outcome.history.writes.len() > 500, "{outcome}");
    assert_eq!(outcome.faults().len(), faults.len(), "{outcome}");
    let report = html(&outcome);
    assert!(
        report.contains("<svg") && report.ends_with("</html>\n"),
        "{report}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_read_during_failovers_keeps_the_promise() {
    let _turn = TURN.lock().await;
    let faults = [FaultKind::Failover, FaultKind::Death, FaultKind::Cut];
    for topology in [Topology::Cluster, Topology::Sentinel] {
        let outcome = run_on(topology, &faults, 9).await;
        assert!(
            outcome.faults().contains_key(&FaultKind::Failover),
            "{outcome}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_is_kept_in_each_round_of_the_meter() {
    let _turn = TURN.lock().await;
    let rounds = |on_data_loss: &str| Rounds {
        program: env!("CARGO_BIN_EXE_chaos").into(),
        topology: Topology::Single,
        fault: FaultKind::Snapshot,
        number: 1,
        watched: Duration::ZERO,
        on_data_loss: on_data_loss.to_owned(),
        seed: fastrand::u64(..),
        progress: ProgressBar::hidden(),
    };
    for choice in ["redo", "clear"] {
        let metered = meter(&rounds(choice)).await.unwrap();
        assert!(metered.is_good(), "{choice}: {metered}");
    }
}
