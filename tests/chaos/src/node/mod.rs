//! A process with a larder, which reads and writes until it is told to stop, and tells of
//! everything that it did.

mod caches;
mod config;
mod reads;
mod writes;

use std::{
    fmt, io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    time::Duration,
};

use larder::{Cache, Larder, Loaded};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, BufWriter},
    sync::{RwLock, mpsc},
    task::JoinSet,
};

pub(crate) use self::caches::Caches;
pub use self::config::Config;
use crate::{
    Problem,
    causes::with_causes,
    clock::now,
    database::DatabaseClient,
    journal::{Line, Link, Write},
    keys::{BEACON, Key, Namespace, PolicyName, Versioned},
};

const READERS: u64 = 4;
const WRITERS: u64 = 2;

/// Runs a node to its end, driven by standard input.
///
/// # Errors
/// If its larder cannot be built, or what it says is not heard.
pub async fn run(config: Config) -> Result<(), Problem> {
    if std::env::var_os("CHAOS_LOG").is_some() {
        let log = tracing_subscriber::fmt().with_writer(io::stderr);
        log.with_ansi(false).init();
    }
    let (lines, said) = mpsc::unbounded_channel();
    let speaking = tokio::spawn(speak(said));
    let node = Arc::new(Node::start(&config, lines).await?);
    node.say(Line::Ready);
    let mut tasks = JoinSet::new();
    let random = |task| fastrand::Rng::with_seed(config.seed ^ task);
    for task in 0..READERS {
        tasks.spawn(node.clone().read_on(random(task)));
    }
    for task in READERS..READERS + WRITERS {
        tasks.spawn(node.clone().write_on(random(task)));
    }
    let beacon = tokio::spawn(node.clone().look_on());
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    let mut paused = None;
    while let Some(order) = orders.next_line().await? {
        match order.as_str() {
            "stop" => {
                node.stopping.store(true, Ordering::Release);
                while let Some(ended) = tasks.join_next().await {
                    ended?;
                }
                node.say(Line::Stopped);
            }
            "pause" => {
                paused = Some(node.running.clone().write_owned().await);
                node.say(Line::Stopped);
            }
            "go on" => drop(paused.take()),
            "copy" => node.copy().await,
            other => return Err(io::Error::other(format!("not understood: {other}")).into()),
        }
    }
    beacon.abort();
    let _ = beacon.await;
    drop(node);
    speaking.await??;
    Ok(())
}

async fn speak(mut said: mpsc::UnboundedReceiver<Line>) -> io::Result<()> {
    let mut output = BufWriter::new(tokio::io::stdout());
    while let Some(line) = said.recv().await {
        output.write_all(format!("{line}\n").as_bytes()).await?;
        if said.is_empty() {
            output.flush().await?;
        }
    }
    output.flush().await
}

struct Node {
    namespace: Namespace,
    is_gentle: bool,
    larder: Larder,
    caches: Caches,
    beacon: Cache<u16, u16>,
    database: Arc<DatabaseClient>,
    lines: mpsc::UnboundedSender<Line>,
    stopping: AtomicBool,
    /// Held by each operation, and by the conductor while nothing is to happen.
    running: Arc<RwLock<()>>,
    /// The key that a writer of this process has written last, or writes now: a race with a write
    /// needs reads of just that key.
    under_way: AtomicU16,
    /// Writes that returned while an invalidation was unsent: they do not bind the others yet.
    untold: Mutex<Vec<Write>>,
}

/// Entries by which a node tells whether it reaches every server, with each of its connections:
/// so many that each connection has some of them.
const BEACONS: u16 = 48;
/// 20 ms: how exactly it is known when a node is connected again.
const LOOK: Duration = Duration::from_millis(20);

impl Node {
    async fn start(config: &Config, lines: mpsc::UnboundedSender<Line>) -> Result<Self, Problem> {
        let (larder, caches) = Caches::connect(config).await?;
        let beacon = larder.cache(BEACON)?;
        let database = Arc::new(DatabaseClient::new(config.database.clone(), config.node));
        Ok(Self {
            namespace: config.namespace,
            is_gentle: config.is_gentle,
            larder,
            caches,
            beacon,
            database,
            lines,
            stopping: AtomicBool::new(false),
            running: Arc::default(),
            under_way: AtomicU16::new(Key::of(config.namespace, PolicyName::Item, 0).0),
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

    fn pick(&self, random: &mut fastrand::Rng) -> Key {
        let policies = if self.is_gentle {
            &PolicyName::LASTING[..]
        } else {
            &PolicyName::ALL[..]
        };
        let policy = random.choice(policies).copied();
        Key::pick(self.namespace, policy.unwrap_or(PolicyName::Item), random)
    }

    /// Says when every server answers over every connection.
    async fn look_on(self: Arc<Self>) {
        let beacons: Vec<u16> = (0..BEACONS).collect();
        loop {
            let (start, before) = (now(), self.beacon.stats().l2_hits);
            let found = self.beacon.get_many(&beacons).await;
            let end = now();
            let hits = self.beacon.stats().l2_hits - before;
            let link = Link {
                node: None,
                start,
                end,
            };
            match found {
                Ok(_) if hits == u64::from(BEACONS) => self.say(Line::Linked(link)),
                _ => {
                    let light = |keys: Vec<u16>| async move {
                        Ok::<_, io::Error>(
                            keys.into_iter().map(|key| (key, key)).collect::<Vec<_>>(),
                        )
                    };
                    // While a server is out of reach there is no light.
                    let _ = self.beacon.get_or_load_many(&beacons, light).await;
                }
            }
            tokio::time::sleep(LOOK).await;
        }
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
        for policy in PolicyName::ALL {
            let copies = self.caches.copies(self.namespace, policy).await;
            match copies {
                Ok(copies) => {
                    for (key, version) in copies {
                        self.say(Line::Copy(key, version));
                    }
                }
                Err(error) => self.say(Line::ReadFailed(with_causes(&error))),
            }
        }
        self.say(Line::Copied);
    }
}

fn loaded(key: Key, version: u32) -> Loaded<Versioned> {
    let loaded = Loaded::new(Versioned::new(key, version));
    match key.tag() {
        Some(tag) => loaded.tag(tag),
        None => loaded,
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").finish_non_exhaustive()
    }
}
