use std::{
    io,
    net::SocketAddr,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::AbortHandle,
};

use crate::{
    clock::now,
    keys::{Key, Namespace, PolicyName},
};

/// A write that took place in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// When, in nanoseconds.
    pub at: u64,
    /// When the process asked its cache to write.
    pub asked: u64,
    /// The process that wrote; none for the foreign program.
    pub node: Option<u16>,
    /// Whether the process invalidates by itself after it has written.
    pub by_hand: bool,
}

/// The source of truth: a version for each key, and when each was committed. Reads and writes take
/// some milliseconds, before and after the moment at which they take place.
#[derive(Debug)]
pub(crate) struct Database {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    /// For each key, its versions; the first is version 1.
    commits: Mutex<Vec<Vec<Commit>>>,
    /// When each key was read.
    loads: Mutex<Vec<u64>>,
    /// Keys of the foreign program that are being loaded: it is to write them just then.
    wanted: mpsc::Sender<Key>,
    /// The process that is not answered when it writes next, and who is told then.
    doomed: Mutex<Option<(u16, oneshot::Sender<()>)>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<Vec<Commit>>> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn loads(&self) -> MutexGuard<'_, Vec<u64>> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn doomed(&self) -> MutexGuard<'_, Option<(u16, oneshot::Sender<()>)>> {
        self.doomed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells who waits for a write of this process, if somebody does.
    fn is_doomed(&self, node: Option<u16>) -> bool {
        let doomed = self.doomed().take_if(|(doomed, _)| Some(*doomed) == node);
        doomed.is_some_and(|(_, written)| written.send(()).is_ok())
    }

    fn version(&self, key: Key) -> u32 {
        u32::try_from(self.lock()[key.index()].len()).unwrap_or(u32::MAX)
    }

    fn commit(&self, key: Key, commit: Commit) -> u32 {
        let mut commits = self.lock();
        let of_key = &mut commits[key.index()];
        of_key.push(Commit {
            at: now(),
            ..commit
        });
        u32::try_from(of_key.len()).unwrap_or(u32::MAX)
    }
}

/// A question to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Read = b'r' as isize,
    Write = b'w' as isize,
    /// A write after which the process invalidates by itself.
    WriteByHand = b'h' as isize,
}

impl Database {
    /// Starts it, and returns the keys of the foreign program that are being loaded.
    pub(crate) async fn start() -> io::Result<(Self, mpsc::Receiver<Key>)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (wanted, wants) = mpsc::channel(1);
        let shared = Arc::new(Shared {
            commits: Mutex::new(vec![Vec::new(); Key::COUNT]),
            loads: Mutex::default(),
            wanted,
            doomed: Mutex::default(),
        });
        let served = shared.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Ends with its connection.
                tokio::spawn(serve(stream, served.clone()));
            }
        });
        let database = Self {
            address,
            shared,
            accepting: accepting.abort_handle(),
        };
        Ok((database, wants))
    }

    pub(crate) fn addr(&self) -> String {
        self.address.to_string()
    }

    /// The version in the database; zero if the key was never written.
    pub(crate) fn version(&self, key: Key) -> u32 {
        self.shared.version(key)
    }

    /// Writes as the foreign program, without the time that it takes others.
    pub(crate) fn write(&self, key: Key) -> u32 {
        let asked = now();
        let commit = Commit {
            at: asked,
            asked,
            node: None,
            by_hand: false,
        };
        self.shared.commit(key, commit)
    }

    /// Waits until the process has written a value that L2 alone is to keep, and never answers it.
    pub(crate) async fn wait_for_write(&self, node: u16) {
        let (written, is_written) = oneshot::channel();
        *self.shared.doomed() = Some((node, written));
        // An error says that somebody else waits now.
        let _ = is_written.await;
    }

    /// All writes of each key, in the order of its versions.
    pub(crate) fn commits(&self) -> Vec<Vec<Commit>> {
        self.shared.lock().clone()
    }

    /// The number of reads in this time.
    pub(crate) fn loads(&self, times: Range<u64>) -> usize {
        let loads = self.shared.loads();
        loads.iter().filter(|at| times.contains(at)).count()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let node = Some(stream.read_u16().await?);
    loop {
        let (what, key) = (stream.read_u8().await?, Key(stream.read_u16().await?));
        let asked = stream.read_u64().await?;
        pause().await;
        let version = if what == Request::Read as u8 {
            shared.loads().push(now());
            shared.version(key)
        } else {
            let by_hand = what == Request::WriteByHand as u8;
            let commit = Commit {
                at: asked,
                asked,
                node,
                by_hand,
            };
            let version = shared.commit(key, commit);
            if !by_hand && key.policy().is_without_l1() && shared.is_doomed(node) {
                stream.read_u8().await?; // until it is dead
            }
            version
        };
        let is_foreign =
            key.namespace() == Namespace::North && PolicyName::FOREIGN.contains(&key.policy());
        if is_foreign && fastrand::u8(0..4) == 0 {
            // If it is at work already, it is disturbed by chance.
            let _ = shared.wanted.try_send(key);
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        pause().await;
        stream.write_u32(version).await?;
    }
}

/// Seldom long, so that processes are killed and locks are lost in the middle of it.
async fn pause() {
    let millis = match fastrand::u8(0..32) {
        0 => fastrand::u64(5..=40),
        _ => fastrand::u64(0..=1),
    };
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// A node's way to the database.
#[derive(Debug)]
pub(crate) struct DatabaseClient {
    address: String,
    node: u16,
    idle: Mutex<Vec<TcpStream>>,
}

impl DatabaseClient {
    pub(crate) fn new(address: String, node: u16) -> Self {
        Self {
            address,
            node,
            idle: Mutex::default(),
        }
    }

    /// Asks on behalf of a call to the cache that began at `asked`.
    pub(crate) async fn ask(&self, what: Request, key: Key, asked: u64) -> io::Result<u32> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle().pop();
        // Whoever is cancelled takes the connection along, with the answer that is still to come.
        let mut stream = match kept {
            Some(stream) => stream,
            None => {
                let mut stream = TcpStream::connect(&self.address).await?;
                stream.write_u16(self.node).await?;
                stream
            }
        };
        let [high, low] = key.0.to_be_bytes();
        stream.write_all(&[what as u8, high, low]).await?;
        stream.write_u64(asked).await?;
        let version = stream.read_u32().await?;
        idle().push(stream);
        Ok(version)
    }
}
