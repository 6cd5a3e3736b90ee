//! A process with a larder, which reads and writes until it is told to stop, and tells of
//! everything that it did.

use std::{
    fmt, io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use larder::{Cache, Larder, Loaded, RedisConfig, TtlTable};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, BufWriter},
    sync::mpsc,
    task::JoinSet,
};

use crate::{
    Problem,
    clock::now,
    database::DatabaseClient,
    journal::{Line, Read, Write},
    keys::{Key, Namespace, PolicyName, TABLE, Versioned},
};

const READERS: u64 = 4;
const WRITERS: u64 = 2;

/// The arguments of a node, after the word `node`.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where Redis is.
    pub redis: String,
    /// Where the database is.
    pub database: String,
    /// Where its names in Redis lie.
    pub namespace: Namespace,
    /// The seed of the node's random choices.
    pub seed: u64,
}

/// Runs a node to its end, driven by standard input.
///
/// # Errors
/// If its larder cannot be built, or what it says is not heard.
pub async fn run(config: Config) -> Result<(), Problem> {
    let (lines, mut said) = mpsc::unbounded_channel();
    let speaking = tokio::spawn(async move {
        let mut output = BufWriter::new(tokio::io::stdout());
        while let Some(line) = said.recv().await {
            let line: Line = line;
            output.write_all(format!("{line}\n").as_bytes()).await?;
            if said.is_empty() {
                output.flush().await?;
            }
        }
        output.flush().await
    });
    let node = Arc::new(Node::start(&config, lines).await?);
    node.say(Line::Ready);
    let mut tasks = JoinSet::new();
    for seed in 0..READERS {
        tasks.spawn(
            node.clone()
                .read_on(fastrand::Rng::with_seed(config.seed ^ seed)),
        );
    }
    for seed in READERS..READERS + WRITERS {
        tasks.spawn(
            node.clone()
                .write_on(fastrand::Rng::with_seed(config.seed ^ seed)),
        );
    }
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    while let Some(order) = orders.next_line().await? {
        match order.as_str() {
            "stop" => {
                node.stopping.store(true, Ordering::Release);
                while let Some(ended) = tasks.join_next().await {
                    ended?;
                }
                node.say(Line::Stopped);
            }
            "copy" => node.copy().await,
            other => return Err(io::Error::other(format!("not understood: {other}")).into()),
        }
    }
    drop(node);
    speaking.await??;
    Ok(())
}

/// The caches of a larder, one for each policy.
pub(crate) struct Caches([Cache<u16, Versioned>; PolicyName::ALL.len()]);

impl Caches {
    pub(crate) async fn connect(
        redis: &str,
        namespace: Namespace,
    ) -> Result<(Larder, Self), larder::Error> {
        // Faults are noticed fast, so that many find their place in a run.
        let options = RedisConfig::new(redis)
            .lanes(2)
            .command_timeout(Duration::from_millis(300))
            .connect_timeout(Duration::from_millis(300))
            .ping_interval(Duration::from_millis(100))
            .probe_interval(Duration::from_millis(300));
        let table = TtlTable::from_toml(TABLE)?;
        let larder = Larder::builder()
            .ttl_table(table)
            .redis_config(options)
            .namespace(namespace.name())
            .build()
            .await?;
        let [a, b, c, d, e] = PolicyName::ALL.map(|policy| larder.cache(policy.name()));
        Ok((larder, Self([a?, b?, c?, d?, e?])))
    }

    pub(crate) fn of(&self, key: Key) -> &Cache<u16, Versioned> {
        &self.0[key.policy() as usize]
    }
}

struct Node {
    namespace: Namespace,
    larder: Larder,
    caches: Caches,
    database: Arc<DatabaseClient>,
    lines: mpsc::UnboundedSender<Line>,
    stopping: AtomicBool,
    /// Writes that returned while an invalidation was unsent: they do not bind the others yet.
    untold: Mutex<Vec<Write>>,
}

impl Node {
    async fn start(config: &Config, lines: mpsc::UnboundedSender<Line>) -> Result<Self, Problem> {
        let (larder, caches) = Caches::connect(&config.redis, config.namespace).await?;
        let database = Arc::new(DatabaseClient::new(config.database.clone()));
        Ok(Self {
            namespace: config.namespace,
            larder,
            caches,
            database,
            lines,
            stopping: AtomicBool::new(false),
            untold: Mutex::default(),
        })
    }

    fn say(&self, line: Line) {
        // If nobody listens any more, the process is about to end.
        let _ = self.lines.send(line);
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    async fn read_on(self: Arc<Self>, mut random: fastrand::Rng) {
        while !self.is_stopping() {
            for _ in 0..3 {
                let policy = random.choice(PolicyName::ALL).unwrap_or(PolicyName::Item);
                self.read(
                    Key::pick(self.namespace, policy, &mut random),
                    random.u8(..) < 64,
                )
                .await;
            }
            tokio::time::sleep(Duration::from_millis(random.u64(1..8))).await;
        }
    }

    async fn read(&self, key: Key, only_cached: bool) {
        let cache = self.caches.of(key);
        let start = now();
        let read = if only_cached {
            cache.get(key.in_policy()).await
        } else {
            let database = self.database.clone();
            let loader =
                move || async move { database.read(key).await.map(|version| loaded(key, version)) };
            cache.get_or_load(key.in_policy(), loader).await.map(Some)
        };
        let end = now();
        match read {
            Ok(Some(value)) if value.key != key => {
                self.say(Line::ReadFailed(format!(
                    "{key} was given the value of {}",
                    value.key
                )));
            }
            // The conductor knows which node this is.
            Ok(Some(value)) => {
                self.say(Line::Read(Read {
                    node: 0,
                    key,
                    version: value.version,
                    start,
                    end,
                }));
            }
            Ok(None) => self.say(Line::Missed),
            Err(error) => self.say(Line::ReadFailed(full(&error))),
        }
    }

    async fn write_on(self: Arc<Self>, mut random: fastrand::Rng) {
        while !self.is_stopping() {
            let policy = [
                PolicyName::Item,
                PolicyName::Shared,
                PolicyName::Tagged,
                PolicyName::Instant,
            ][random.usize(0..4)];
            self.write(Key::pick(self.namespace, policy, &mut random), &mut random)
                .await;
            self.tell();
            tokio::time::sleep(Duration::from_millis(random.u64(2..14))).await;
        }
        // What could not be sent is sent once the node is connected again, or the conductor gives
        // up.
        while !self.tell() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn write(&self, key: Key, random: &mut fastrand::Rng) {
        let (cache, database) = (self.caches.of(key), self.database.clone());
        let writer = move || async move { database.write(key).await };
        let written = match (random.u8(0..100), key.tag()) {
            (0..40, _) => {
                let writer =
                    move || async move { writer().await.map(|version| loaded(key, version)) };
                cache
                    .write_through(key.in_policy(), writer)
                    .await
                    .map(|value| vec![(key, value.version)])
            }
            (40..60, _) => cache
                .write_around(key.in_policy(), writer)
                .await
                .map(|version| vec![(key, version)]),
            (60..66, _) => {
                let writer = move || async move {
                    let _version = writer().await?;
                    Err::<Loaded<Versioned>, _>(io::Error::other(
                        "failed on purpose, after the write",
                    ))
                };
                cache
                    .write_through(key.in_policy(), writer)
                    .await
                    .map(|_| Vec::new())
            }
            (66..68, _) => self.write_then(&[key], cache.clear()).await,
            (68..84, Some(tag)) => {
                self.write_then(&[key, key.neighbour()], self.larder.invalidate_tag(&tag))
                    .await
            }
            _ => {
                self.write_then(&[key], cache.invalidate(key.in_policy()))
                    .await
            }
        };
        let returned = now();
        match written {
            Ok(written) => {
                let write = |(key, version)| Write {
                    node: None,
                    key,
                    version,
                    returned,
                    told: None,
                };
                self.untold().extend(written.into_iter().map(write));
            }
            Err(error) => {
                // Without the key, so that equal failures are counted together.
                let text = full(&error);
                let text = error
                    .key()
                    .map_or(text.clone(), |key| text.replace(key, "a key"));
                self.say(Line::WriteFailed(text));
            }
        }
    }

    /// Writes the database as a program does that invalidates by hand.
    async fn write_then(
        &self,
        keys: &[Key],
        invalidate: impl Future<Output = Result<(), larder::Error>>,
    ) -> Result<Vec<(Key, u32)>, larder::Error> {
        let mut written = Vec::new();
        for key in keys {
            match self.database.write(*key).await {
                Ok(version) => written.push((*key, version)),
                Err(error) => self.say(Line::WriteFailed(full(&error))),
            }
        }
        invalidate.await.map(|()| written)
    }

    /// Says what has returned, if nothing is left that could not be sent: by now it binds
    /// everybody.
    fn tell(&self) -> bool {
        let mut untold = self.untold();
        if self.larder.stats().unsent > 0 {
            return untold.is_empty();
        }
        let told = now();
        for write in untold.drain(..) {
            self.say(Line::Write(Write {
                told: Some(told),
                ..write
            }));
        }
        true
    }

    fn untold(&self) -> std::sync::MutexGuard<'_, Vec<Write>> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what every copy is, without loading.
    async fn copy(&self) {
        for key in Key::all(self.namespace) {
            match self.caches.of(key).get(key.in_policy()).await {
                Ok(value) => self.say(Line::Copy(key, value.map(|value| value.version))),
                Err(error) => self.say(Line::ReadFailed(full(&error))),
            }
        }
        self.say(Line::Copied);
    }
}

fn loaded(key: Key, version: u32) -> Loaded<Versioned> {
    let loaded = Loaded::new(Versioned { key, version });
    match key.tag() {
        Some(tag) => loaded.tag(tag),
        None => loaded,
    }
}

/// An error with its causes.
fn full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").finish_non_exhaustive()
    }
}
