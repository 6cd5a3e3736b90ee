use std::time::Duration;

use larder_core::{LaneIndex, LaneState, RemoteStore};
use larder_ttl::{Advice, Levels, Policy, TtlTable};
use tracing::warn;

/// An entry that nobody tells of changes should not live longer in L1.
const LONGEST_UNTOLD: Duration = Duration::from_secs(5 * 60);

/// How long the server may take to tell of its settings, where the store sets no limit.
const LONGEST_ANSWER: Duration = Duration::from_secs(1);

/// Logs what is possible but will hurt: in each policy, in the policies together with this
/// connection, and in the server.
pub(crate) async fn advise(table: &TtlTable, remote: Option<&dyn RemoteStore>) {
    let of_rows = table.policies().flat_map(Policy::advice);
    let of_connection = remote
        .into_iter()
        .flat_map(|remote| with_connection(table, remote));
    for Advice {
        policy,
        key,
        problem,
        remedy,
    } in of_rows.chain(of_connection)
    {
        warn!(policy, key, remedy, "{problem}");
    }
    let Some(remote) = remote else { return };
    // Advice is not worth waiting for a server that does not answer.
    let told = tokio::time::timeout(
        remote.call_timeout().unwrap_or(LONGEST_ANSWER),
        remote.advice(),
    )
    .await;
    for problem in told.unwrap_or_default() {
        warn!("the settings of the server will hurt: {problem}");
    }
}

/// Finds what is fine in a policy alone, but not with this connection.
fn with_connection(table: &TtlTable, remote: &dyn RemoteStore) -> Vec<Advice> {
    let untold = LaneIndex::all(remote.lanes()).any(|lane| {
        matches!(
            remote.lane_state(lane),
            LaneState::Subscribed | LaneState::Untracked
        )
    });
    let patience = remote.call_timeout().unwrap_or_default();
    let mut found = Vec::new();
    for policy in table.policies() {
        let mut add = |key, problem, remedy: &str| {
            found.push(Advice {
                policy: policy.name().to_owned(),
                key,
                problem,
                remedy: remedy.to_owned(),
            });
        };
        if policy.levels().has_l2() && policy.lease() < patience {
            let problem = format!(
                "a lease of {:?} can end while its renewal waits for an answer, which may take {patience:?}",
                policy.lease()
            );
            add(
                "lease",
                problem,
                "set it to several times the command_timeout, or lower command_timeout",
            );
        }
        if untold && policy.levels() == Levels::Both && policy.l1_ttl() > LONGEST_UNTOLD {
            let problem = format!(
                "the server does not push changes, so what other programs write is noticed only when an entry's \
                 {:?} in L1 end",
                policy.l1_ttl()
            );
            add(
                "l1_ttl",
                problem,
                "set it to at most 5m, or use a server that allows CLIENT TRACKING",
            );
        }
    }
    found
}
