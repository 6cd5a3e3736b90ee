use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use larder::{Larder, Outbox, OutboxEntry, OutboxError};

/// Stands for the outbox table of the application's database.
#[derive(Default)]
struct Table(Mutex<BTreeMap<i64, String>>);

impl Table {
    /// Records that a key must be invalidated, in the transaction that changes its data.
    fn record(&self, id: i64, key: String) -> OutboxEntry {
        self.0.lock().unwrap().insert(id, key.clone());
        OutboxEntry { id, key }
    }

    fn is_empty(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }
}

#[async_trait::async_trait]
impl Outbox for Table {
    async fn unconfirmed(&self, after: i64, limit: usize) -> Result<Vec<OutboxEntry>, OutboxError> {
        let table = self.0.lock().unwrap();
        let later = table.iter().filter(|(id, _)| **id > after).take(limit);
        let entry = |(id, key): (&i64, &String)| OutboxEntry {
            id: *id,
            key: key.clone(),
        };
        Ok(later.map(entry).collect())
    }

    async fn confirm(&self, ids: &[i64]) -> Result<(), OutboxError> {
        self.0.lock().unwrap().retain(|id, _| !ids.contains(id));
        Ok(())
    }
}
