use std::sync::Arc;

use larder_core::StoreError;

use crate::{Error, larder::in_runtime, row::Shared, tags::row_tag};

/// What is to be known of a policy that is cleared.
#[derive(Clone, Debug)]
pub(crate) struct RowClear {
    pub(crate) namespace: u16,
    pub(crate) prefix: String,
    pub(crate) in_l2: bool,
    pub(crate) framed: bool,
}

/// Clears policies in a task of its own, so that it is done also when the caller is gone.
// P25 clear-leaves-nothing
pub(crate) async fn clear_rows(shared: &Arc<Shared>, rows: Vec<RowClear>) -> Result<(), Error> {
    in_runtime()?;
    let shared = shared.clone();
    let name = rows.first().map(|row| format!("{}:*", row.prefix)).unwrap_or_default();
    let cleared = tokio::spawn(async move {
        let advance = || rows.iter().for_each(|row| shared.generations.bump_policy(row.namespace));
        // At once here; and again when L2 has none, because a read in between could bring an old value back.
        advance();
        let mut done = Ok(());
        for row in rows.iter().filter(|row| row.in_l2) {
            let cleared = clear_remotely(&shared, row).await;
            done = done.and(cleared.map_err(|error| Error::store(format_args!("{}:*", row.prefix), error)));
        }
        advance(); // P9 reply-invalidates-again
        done
    });
    cleared.await.map_err(|_| Error::Aborted { key: name })?
}

async fn clear_remotely(shared: &Shared, row: &RowClear) -> Result<(), StoreError> {
    let Some(leases) = &shared.leases else { return Ok(()) };
    if row.framed {
        return invalidate_tag(shared, &row_tag(&row.prefix)).await;
    }
    leases.clear(&format!("{}:", row.prefix)).await.map(|_| ())
}

/// Invalidates a tag by its full name: at once here, and again after the reply, whatever it was.
pub(crate) async fn invalidate_tag(shared: &Shared, name: &str) -> Result<(), StoreError> {
    shared.tags.invalidate(name);
    let done = match &shared.leases {
        Some(leases) => leases.remote().invalidate_tag(name).await.map(|_| ()),
        None => Ok(()),
    };
    shared.tags.invalidate(name); // P9 reply-invalidates-again
    done
}
