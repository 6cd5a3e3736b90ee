use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::AbortHandle,
    time::{Instant, sleep_until},
};

use crate::frames::{first_frame, is_push};

/// A way to a server that a test can make worse: on loopback, and gone when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    controls: Arc<Controls>,
    accepting: AbortHandle,
}

/// Which way bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Requests.
    ToServer,
    /// Replies and pushes.
    ToClient,
}

#[derive(Debug)]
struct Controls {
    target: watch::Sender<String>,
    refusing: AtomicBool,
    accepted: AtomicUsize,
    /// Counts the cuts: a connection that sees it change ends.
    cuts: watch::Sender<usize>,
    to_server_stalled: watch::Sender<bool>,
    to_client_stalled: watch::Sender<bool>,
    deaf: AtomicBool,
    /// A frame of so many bytes or more is held back, and all that comes after it on its connection.
    narrow: watch::Sender<usize>,
    held_back: watch::Sender<usize>,
    /// In nanoseconds.
    delay: AtomicU64,
}

impl Proxy {
    /// Starts a proxy in front of `host:port`. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// If no port on loopback can be had.
    pub async fn start(target: &str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let controls = Arc::new(Controls {
            target: watch::Sender::new(target.to_owned()),
            refusing: AtomicBool::new(false),
            accepted: AtomicUsize::new(0),
            cuts: watch::Sender::new(0),
            to_server_stalled: watch::Sender::new(false),
            to_client_stalled: watch::Sender::new(false),
            deaf: AtomicBool::new(false),
            narrow: watch::Sender::new(usize::MAX),
            held_back: watch::Sender::new(0),
            delay: AtomicU64::new(0),
        });
        let accepting = tokio::spawn(accept(listener, controls.clone())).abort_handle();
        Ok(Self { address, controls, accepting })
    }

    /// Where the proxy listens, as `host:port`.
    pub fn addr(&self) -> String {
        self.address.to_string()
    }

    /// The port on loopback at which it listens.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Where the proxy listens, as an address for a cache.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// How many connections were ever accepted.
    pub fn connections(&self) -> usize {
        self.controls.accepted.load(Ordering::Acquire)
    }

    /// Ends every connection; new ones are accepted.
    pub fn cut(&self) {
        self.controls.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Ends every new connection at once, or accepts them again. Those that are open stay.
    pub fn refuse(&self, yes: bool) {
        self.controls.refusing.store(yes, Ordering::Release);
    }

    /// Loses every push of the server, while replies pass, or lets pushes pass again.
    pub fn deafen(&self, yes: bool) {
        self.controls.deaf.store(yes, Ordering::Release);
    }

    /// Has every reply and push arrive so much later than it was sent, in order; zero ends it.
    pub fn delay(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.controls.delay.store(nanos, Ordering::Release);
    }

    /// Holds back every request and reply of so many bytes or more, and all that comes after it on the same connection, as
    /// a slow link does, or lets them go on.
    pub fn narrow(&self, bytes: Option<usize>) {
        self.controls.narrow.send_replace(bytes.unwrap_or(usize::MAX));
    }

    /// Waits until so many requests and replies have been held back.
    pub async fn holds_back(&self, many: usize) {
        // The sender lives as long as `self`, so there is no error.
        let _ = self.controls.held_back.subscribe().wait_for(|held| *held >= many).await;
    }

    /// Leads to another `host:port` from the next connection on, as an address does after a failover.
    pub fn lead_to(&self, target: &str) {
        self.controls.target.send_replace(target.to_owned());
    }

    /// Holds back all bytes of one direction, or lets them go on; none are lost.
    pub fn stall(&self, direction: Direction, yes: bool) {
        self.controls.stalled(direction).send_replace(yes);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

impl Controls {
    fn stalled(&self, direction: Direction) -> &watch::Sender<bool> {
        match direction {
            Direction::ToServer => &self.to_server_stalled,
            Direction::ToClient => &self.to_client_stalled,
        }
    }

    /// Waits while a frame is too large to pass.
    async fn pass(&self, frame: &[u8]) {
        if frame.len() >= *self.narrow.borrow() {
            self.held_back.send_modify(|held| *held += 1);
            // An error says that the proxy is gone.
            let _ = self.narrow.subscribe().wait_for(|limit| frame.len() < *limit).await;
        }
    }
}

async fn accept(listener: TcpListener, controls: Arc<Controls>) {
    while let Ok((client, _)) = listener.accept().await {
        controls.accepted.fetch_add(1, Ordering::AcqRel);
        if controls.refusing.load(Ordering::Acquire) {
            continue;
        }
        let mut cuts = controls.cuts.subscribe();
        let connection = connect(client, controls.clone());
        tokio::spawn(async move {
            tokio::select! {
                _ = connection => {}
                _ = cuts.changed() => {}
            }
        });
    }
}

async fn connect(client: TcpStream, controls: Arc<Controls>) -> io::Result<()> {
    let target = controls.target.borrow().clone();
    let server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        ended = carry(from_client, to_server, &controls) => ended,
        ended = carry_frames(from_server, to_client, &controls) => ended,
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, controls: &Controls) -> io::Result<()> {
    let mut stalled = controls.stalled(Direction::ToServer).subscribe();
    let (mut buffer, mut read) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let len = from.read(&mut read).await?;
        // An error says that the proxy is gone.
        if len == 0 || stalled.wait_for(|stalled| !stalled).await.is_err() {
            return Ok(());
        }
        buffer.extend_from_slice(&read[..len]);
        let mut done = 0;
        while let Some(len) = first_frame(&buffer[done..]) {
            let frame = &buffer[done..done + len];
            controls.pass(frame).await;
            to.write_all(frame).await?;
            done += len;
        }
        buffer.drain(..done);
    }
}

/// Carries whole replies and pushes, so that pushes can be told from replies.
async fn carry_frames(from: OwnedReadHalf, to: OwnedWriteHalf, controls: &Controls) -> io::Result<()> {
    // What is delayed must not hold up what is read meanwhile, else delays would add up.
    let (queue, queued) = mpsc::unbounded_channel();
    let writing = write_in_time(queued, to);
    tokio::pin!(writing);
    tokio::select! {
        // What the server said last arrives too.
        ended = read_frames(from, queue, controls) => ended.and(writing.await),
        ended = &mut writing => ended,
    }
}

async fn write_in_time(
    mut queued: mpsc::UnboundedReceiver<(Instant, Vec<u8>)>,
    mut to: OwnedWriteHalf,
) -> io::Result<()> {
    while let Some((at, frames)) = queued.recv().await {
        if at > Instant::now() {
            sleep_until(at).await;
        }
        to.write_all(&frames).await?;
    }
    Ok(())
}

async fn read_frames(
    mut from: OwnedReadHalf,
    queue: mpsc::UnboundedSender<(Instant, Vec<u8>)>,
    controls: &Controls,
) -> io::Result<()> {
    let mut stalled = controls.to_client_stalled.subscribe();
    let (mut buffer, mut read) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let len = from.read(&mut read).await?;
        // An error says that the proxy is gone.
        if len == 0 || stalled.wait_for(|stalled| !stalled).await.is_err() {
            return Ok(());
        }
        buffer.extend_from_slice(&read[..len]);
        let (mut passed, mut done) = (Vec::new(), 0);
        while let Some(len) = first_frame(&buffer[done..]) {
            let frame = &buffer[done..done + len];
            if frame.len() >= *controls.narrow.borrow() {
                let before = std::mem::take(&mut passed);
                if queue.send((Instant::now(), before)).is_err() {
                    return Ok(());
                }
                controls.pass(frame).await;
            }
            if !(controls.deaf.load(Ordering::Acquire) && is_push(frame)) {
                passed.extend_from_slice(frame);
            }
            done += len;
        }
        buffer.drain(..done);
        let at = Instant::now() + Duration::from_nanos(controls.delay.load(Ordering::Acquire));
        if queue.send((at, passed)).is_err() {
            return Ok(());
        }
    }
}
