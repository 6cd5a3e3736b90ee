use std::{
    collections::{BTreeSet, HashMap},
    io,
    sync::{Arc, Mutex},
};

use larder_testkit::Gate;

/// A database that knows what it was asked for: each key's value is its name.
#[derive(Clone, Default)]
pub(crate) struct Database {
    asked: Arc<Mutex<Vec<BTreeSet<u64>>>>,
    gate: Option<Gate>,
}

impl Database {
    pub(crate) fn gated(gate: &Gate) -> Self {
        Self {
            gate: Some(gate.clone()),
            ..Self::default()
        }
    }

    /// Even numbers only are there.
    pub(crate) async fn find(self, keys: Vec<u64>) -> io::Result<HashMap<u64, String>> {
        self.asked
            .lock()
            .unwrap()
            .push(keys.iter().copied().collect());
        if let Some(gate) = &self.gate {
            gate.pass().await;
        }
        Ok(keys
            .into_iter()
            .filter(|key| key % 2 == 0)
            .map(|key| (key, name(key)))
            .collect())
    }

    pub(crate) fn asked(&self) -> Vec<BTreeSet<u64>> {
        self.asked.lock().unwrap().clone()
    }
}

/// The value of a key.
pub(crate) fn name(key: u64) -> String {
    format!("value {key}")
}
