use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

use crate::{clock::now, keys::Key};

/// The source of truth: a version for each key, and when each was committed. Reads and writes take
/// some milliseconds, before and after the moment at which they take place.
#[derive(Debug)]
pub(crate) struct Database {
    address: SocketAddr,
    commits: Arc<Commits>,
    accepting: AbortHandle,
}

/// For each key, when each of its versions was committed; the first is version 1.
#[derive(Debug)]
struct Commits(Mutex<Vec<Vec<u64>>>);

impl Commits {
    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn version(&self, key: Key) -> u32 {
        u32::try_from(self.lock()[key.index()].len()).unwrap_or(u32::MAX)
    }

    fn commit(&self, key: Key) -> u32 {
        self.lock()[key.index()].push(now());
        self.version(key)
    }
}

const READ: u8 = b'r';
const WRITE: u8 = b'w';

impl Database {
    pub(crate) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let commits = Arc::new(Commits(Mutex::new(vec![Vec::new(); Key::COUNT])));
        let served = commits.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Ends with its connection.
                tokio::spawn(serve(stream, served.clone()));
            }
        });
        Ok(Self {
            address,
            commits,
            accepting: accepting.abort_handle(),
        })
    }

    pub(crate) fn addr(&self) -> String {
        self.address.to_string()
    }

    /// The version in the database; zero if the key was never written.
    pub(crate) fn version(&self, key: Key) -> u32 {
        self.commits.version(key)
    }

    /// Writes, without the time that it takes others.
    pub(crate) fn write(&self, key: Key) -> u32 {
        self.commits.commit(key)
    }

    /// When each version of each key was committed.
    pub(crate) fn commits(&self) -> Vec<Vec<u64>> {
        self.commits.lock().clone()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut stream: TcpStream, commits: Arc<Commits>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let (what, key) = (stream.read_u8().await?, Key(stream.read_u16().await?));
        pause().await;
        let version = if what == WRITE {
            commits.commit(key)
        } else {
            commits.version(key)
        };
        pause().await;
        stream.write_u32(version).await?;
    }
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(fastrand::u64(0..=1))).await;
}

/// A node's way to the database.
#[derive(Debug)]
pub(crate) struct DatabaseClient {
    address: String,
    idle: Mutex<Vec<TcpStream>>,
}

impl DatabaseClient {
    pub(crate) fn new(address: String) -> Self {
        Self {
            address,
            idle: Mutex::default(),
        }
    }

    pub(crate) async fn read(&self, key: Key) -> io::Result<u32> {
        self.ask(READ, key).await
    }

    pub(crate) async fn write(&self, key: Key) -> io::Result<u32> {
        self.ask(WRITE, key).await
    }

    async fn ask(&self, what: u8, key: Key) -> io::Result<u32> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle().pop();
        // Whoever is cancelled takes the connection along, with the answer that is still to come.
        let mut stream = match kept {
            Some(stream) => stream,
            None => TcpStream::connect(&self.address).await?,
        };
        let [high, low] = key.0.to_be_bytes();
        stream.write_all(&[what, high, low]).await?;
        let version = stream.read_u32().await?;
        idle().push(stream);
        Ok(version)
    }
}
