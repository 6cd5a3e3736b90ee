use std::{sync::Arc, time::Duration};

use larder_testkit::{Client, Reply};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};

use crate::{
    Problem,
    clock::now,
    database::Database,
    journal::{Link, Write},
    keys::{Key, Namespace, PolicyName, Versioned},
    servers::Places,
    told::{Shared, lock},
};

/// A program that knows nothing of larder: it writes the database, then Redis, and goes on only
/// when Redis has it. After a loss of data it writes all values anew.
pub(crate) struct Foreign {
    pub(crate) servers: Places,
    pub(crate) database: Arc<Database>,
    pub(crate) told: Shared,
    /// Held by others while it is not to write.
    pub(crate) quiet: Arc<tokio::sync::Mutex<()>>,
    /// Keys that are being loaded.
    pub(crate) wants: mpsc::Receiver<Key>,
    /// The number of losses of data so far.
    pub(crate) losses: watch::Receiver<usize>,
}

impl Foreign {
    pub(crate) async fn write_on(
        mut self,
        mut random: fastrand::Rng,
        stop: watch::Receiver<bool>,
    ) -> Result<(), Problem> {
        while !*stop.borrow() {
            let key = tokio::select! {
                biased;
                _ = self.losses.changed() => {
                    self.write_anew().await?;
                    continue;
                }
                Some(key) = self.wants.recv() => key,
                () = sleep(Duration::from_millis(random.u64(5..30))) => {
                    // In the other namespace, no process hears of a foreign program's write.
                    let policy = random.choice(PolicyName::FOREIGN).unwrap_or(PolicyName::Foreign);
                    Key::pick(Namespace::North, policy, &mut random)
                }
            };
            let quiet = self.quiet.clone();
            let _quiet = quiet.lock().await;
            let version = self.database.write(key);
            self.set(key, version).await?;
            let returned = now();
            let write = Write {
                node: None,
                key,
                version,
                returned,
                told: Some(returned),
            };
            lock(&self.told).history.writes.push(write);
        }
        if self.losses.has_changed()? {
            self.write_anew().await?;
        }
        Ok(())
    }

    async fn write_anew(&mut self) -> Result<(), Problem> {
        self.losses.mark_unchanged();
        let start = now();
        let keys = PolicyName::FOREIGN.map(|policy| Key::all(Namespace::North, policy));
        for key in keys.into_iter().flatten() {
            let version = self.database.version(key);
            if version > 0 {
                self.set(key, version).await?;
            }
        }
        let end = now();
        let link = Link {
            node: None,
            start,
            end,
        };
        lock(&self.told).history.links.push(link);
        Ok(())
    }

    async fn set(&self, key: Key, version: u32) -> Result<(), Problem> {
        let value = serde_json::to_string(&Versioned::new(key, version))?;
        while !self.try_set(key, &value).await {
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Asks one server after the other: only the master that has the key takes it.
    async fn try_set(&self, key: Key, value: &str) -> bool {
        for address in self.servers.get() {
            let Ok(mut client) = Client::connect(&address, None).await else {
                continue;
            };
            let name = key.to_string();
            if let Ok(Reply::Status(_)) = client.command(&["SET", &name, value]).await {
                return true;
            }
        }
        false
    }
}
