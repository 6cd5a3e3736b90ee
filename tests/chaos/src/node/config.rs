use serde::{Deserialize, Serialize};

use crate::keys::Namespace;

/// The orders to a node at its start, in JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// Its number.
    pub node: u16,
    /// Where Redis is.
    pub redis: String,
    /// The addresses that servers tell of themselves, each with the one at which the node reaches
    /// it.
    pub places: Vec<(String, String)>,
    /// The answer to a server that comes back with older data: `redo`, `clear` or `trust`.
    pub on_data_loss: String,
    /// How long it waits for a server, in milliseconds.
    pub timeout_ms: u64,
    /// Where the database is.
    pub database: String,
    /// Where its names in Redis lie.
    pub namespace: Namespace,
    /// Whether it reads much and writes little, and loads only what has gone.
    pub is_gentle: bool,
    /// Whether it starts also where no server answers, and then serves nothing from L2 at first.
    pub starts_alone: bool,
    /// The seed of the node's random choices.
    pub seed: u64,
}
