//! Identifiers by which a server can be told from others, and its data from other data.

use deadpool_redis::redis::{RedisResult, aio::MultiplexedConnection, cmd};

use crate::error::{is_busy, is_loss, is_outage};

/// The field of an `INFO` with the identifier of the server's run.
pub(crate) const RUN_ID: &str = "run_id:";

/// The field of an `INFO` with the identifier of the history of data.
pub(crate) const REPLICATION_ID: &str = "master_replid:";

/// Asks for the identifier of a server's run; `None` if it does not say.
pub(crate) async fn run_id(connection: &mut MultiplexedConnection) -> RedisResult<Option<String>> {
    ask(connection, "server", RUN_ID).await
}

/// Asks for the identifier of the history of data that a master continues; `None` if the server
/// does not say. It changes when a replica is promoted, also if it was a master before.
pub(crate) async fn replication_id(
    connection: &mut MultiplexedConnection,
) -> RedisResult<Option<String>> {
    ask(connection, "replication", REPLICATION_ID).await
}

async fn ask(
    connection: &mut MultiplexedConnection,
    section: &str,
    field: &str,
) -> RedisResult<Option<String>> {
    let mut info = cmd("INFO");
    match info.arg(section).query_async::<String>(connection).await {
        Ok(info) => Ok(field_in(&info, field)),
        Err(error) if is_loss(&error) || is_outage(&error) || is_busy(&error) => Err(error),
        Err(_refused) => Ok(None),
    }
}

/// The value of a field in the text of an `INFO`.
pub(crate) fn field_in(info: &str, field: &str) -> Option<String> {
    info.lines()
        .find_map(|line| line.strip_prefix(field).map(str::to_owned))
}
