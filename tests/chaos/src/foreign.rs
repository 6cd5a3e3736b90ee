use std::{sync::Arc, time::Duration};

use larder_testkit::Reply;
use tokio::{sync::watch, time::sleep};

use crate::told::{Shared, lock};
use crate::{
    Problem,
    clock::now,
    database::Database,
    journal::Write,
    keys::{Key, Namespace, PolicyName, Versioned},
};

/// A program that knows nothing of larder: it writes the database, then Redis, and goes on only
/// when Redis has it.
pub(crate) struct Foreign {
    pub(crate) server: String,
    pub(crate) database: Arc<Database>,
    pub(crate) told: Shared,
    pub(crate) quiet: Arc<tokio::sync::Mutex<()>>,
}

impl Foreign {
    pub(crate) async fn write_on(
        self,
        mut random: fastrand::Rng,
        stop: watch::Receiver<bool>,
    ) -> Result<(), Problem> {
        while !*stop.borrow() {
            sleep(Duration::from_millis(random.u64(5..30))).await;
            let _quiet = self.quiet.lock().await;
            let namespace = random.choice(Namespace::ALL).unwrap_or(Namespace::North);
            let key = Key::pick(namespace, PolicyName::Foreign, &mut random);
            let version = self.database.write(key);
            let value = serde_json::to_string(&Versioned { key, version })?;
            while self.set(key, &value).await.is_err() {
                sleep(Duration::from_millis(5)).await;
            }
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
        Ok(())
    }

    async fn set(&self, key: Key, value: &str) -> std::io::Result<()> {
        let mut client = larder_testkit::Client::connect(&self.server, None).await?;
        match client.command(&["SET", &key.to_string(), value]).await? {
            Reply::Status(_) => Ok(()),
            other => Err(std::io::Error::other(format!("{other:?}"))),
        }
    }
}
