mod frames;

use std::{
    collections::BTreeSet,
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

use self::frames::{first_frame, is_push};

/// A proxy on loopback that loses, delays and holds back what passes. Dropping it cuts every
/// connection.
///
/// ```
/// use larder_testkit::{Client, Proxy, RedisServer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = RedisServer::start().await?;
/// let proxy = Proxy::start(&server.addr()).await?;
/// let mut client = Client::connect(&proxy.addr(), None).await?;
/// assert_eq!(client.command(&["PING"]).await?.text().as_deref(), Some("PONG"));
/// proxy.cut();
/// assert!(client.command(&["PING"]).await.is_err());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    controls: Arc<Controls>,
    accepting: AbortHandle,
}

/// The direction in which bytes travel.
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
    /// The connections that are open, by their numbers.
    open: watch::Sender<BTreeSet<usize>>,
    /// The connections that the last cut has ended.
    cut: watch::Sender<BTreeSet<usize>>,
    to_server_stalled: watch::Sender<bool>,
    to_client_stalled: watch::Sender<bool>,
    deaf: AtomicBool,
    /// In bytes: a frame of this size or more is held back, with all that follows on its
    /// connection.
    narrow: watch::Sender<usize>,
    held_back: watch::Sender<usize>,
    /// In nanoseconds.
    delay: AtomicU64,
}

impl Proxy {
    /// Starts a proxy in front of `host:port`, in the current tokio runtime.
    ///
    /// # Errors
    /// If there is no free port on loopback.
    pub async fn start(target: &str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let controls = Arc::new(Controls {
            target: watch::Sender::new(target.to_owned()),
            refusing: AtomicBool::new(false),
            accepted: AtomicUsize::new(0),
            open: watch::Sender::default(),
            cut: watch::Sender::default(),
            to_server_stalled: watch::Sender::new(false),
            to_client_stalled: watch::Sender::new(false),
            deaf: AtomicBool::new(false),
            narrow: watch::Sender::new(usize::MAX),
            held_back: watch::Sender::new(0),
            delay: AtomicU64::new(0),
        });
        let accepting = tokio::spawn(accept(listener, controls.clone())).abort_handle();
        Ok(Self {
            address,
            controls,
            accepting,
        })
    }

    /// Returns the address at which the proxy listens, as `host:port`.
    pub fn addr(&self) -> String {
        self.address.to_string()
    }

    /// Returns the port on loopback at which the proxy listens.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns the address at which the proxy listens, as a URL.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Returns the number of connections that were accepted so far.
    pub fn connections(&self) -> usize {
        self.controls.accepted.load(Ordering::Acquire)
    }

    /// Ends every connection. New ones are accepted.
    pub fn cut(&self) {
        let open = self.controls.open.borrow().clone();
        self.controls.cut.send_replace(open);
    }

    /// Ends every connection but one of those that are open: the `spared`-th of them, modulo their
    /// number. Returns when the others have ended. New ones are accepted.
    pub async fn cut_all_but_one(&self, spared: usize) {
        let mut open = self.controls.open.subscribe();
        let mut cut = open.borrow_and_update().clone();
        let spared = cut.iter().nth(spared % cut.len().max(1)).copied();
        cut.retain(|number| Some(*number) != spared);
        self.controls.cut.send_replace(cut.clone());
        // The sender lives as long as `self`, so there is no error.
        let _ = open.wait_for(|open| open.is_disjoint(&cut)).await;
    }

    /// Ends every new connection at once, or accepts them again. Open connections stay.
    pub fn refuse(&self, yes: bool) {
        self.controls.refusing.store(yes, Ordering::Release);
    }

    /// Drops every push of the server while replies pass, or lets pushes pass again.
    pub fn deafen(&self, yes: bool) {
        self.controls.deaf.store(yes, Ordering::Release);
    }

    /// Delays every reply and push by this time, in order. [`Duration::ZERO`] ends it.
    pub fn delay(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.controls.delay.store(nanos, Ordering::Release);
    }

    /// Holds back every request and reply of `bytes` or more, and all that follows on the same
    /// connection, as a slow link does. `None` lets them go on.
    pub fn narrow(&self, bytes: Option<usize>) {
        self.controls
            .narrow
            .send_replace(bytes.unwrap_or(usize::MAX));
    }

    /// Waits until this number of requests and replies has been held back, see
    /// [`narrow`](Self::narrow).
    pub async fn holds_back(&self, many: usize) {
        // The sender lives as long as `self`, so there is no error.
        let _ = self
            .controls
            .held_back
            .subscribe()
            .wait_for(|held| *held >= many)
            .await;
    }

    /// Leads to another `host:port` from the next connection on, like an address after a failover.
    pub fn lead_to(&self, target: &str) {
        self.controls.target.send_replace(target.to_owned());
    }

    /// Holds back all bytes of one direction, or lets them go on. No byte is lost.
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

    /// Waits while the frame is too large to pass.
    async fn pass(&self, frame: &[u8]) {
        if frame.len() >= *self.narrow.borrow() {
            self.held_back.send_modify(|held| *held += 1);
            // An error says that the proxy is gone.
            let _ = self
                .narrow
                .subscribe()
                .wait_for(|limit| frame.len() < *limit)
                .await;
        }
    }
}

async fn accept(listener: TcpListener, controls: Arc<Controls>) {
    while let Ok((client, _)) = listener.accept().await {
        let number = controls.accepted.fetch_add(1, Ordering::AcqRel);
        if controls.refusing.load(Ordering::Acquire) {
            continue;
        }
        let (mut cut, controls) = (controls.cut.subscribe(), controls.clone());
        controls.open.send_if_modified(|open| open.insert(number));
        tokio::spawn(async move {
            tokio::select! {
                _ = connect(client, &controls) => {}
                _ = cut.wait_for(|cut| cut.contains(&number)) => {}
            }
            controls.open.send_if_modified(|open| open.remove(&number));
        });
    }
}

async fn connect(client: TcpStream, controls: &Controls) -> io::Result<()> {
    let target = controls.target.borrow().clone();
    let server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        ended = carry(from_client, to_server, controls) => ended,
        ended = carry_frames(from_server, to_client, controls) => ended,
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    controls: &Controls,
) -> io::Result<()> {
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

/// Carries whole frames, because only these can be told apart: pushes and replies.
async fn carry_frames(
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    controls: &Controls,
) -> io::Result<()> {
    // Reading goes on while frames are delayed: otherwise their delays would add up.
    let (queue, queued) = mpsc::unbounded_channel();
    let writing = write_in_time(queued, to);
    tokio::pin!(writing);
    tokio::select! {
        // The frames before the server's end still arrive.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Client, RedisServer, Reply};

    async fn answers(client: &mut Client) -> bool {
        client.command(&["PING"]).await.is_ok()
    }

    #[tokio::test]
    async fn proxy_delays_cuts_stalls_and_refuses() {
        let server = RedisServer::start().await.unwrap();
        let proxy = Proxy::start(&server.addr()).await.unwrap();
        let mut client = Client::connect(&proxy.addr(), None).await.unwrap();
        assert!(answers(&mut client).await);

        proxy.stall(Direction::ToClient, true);
        let held = tokio::spawn(async move { (client.command(&["INCR", "n"]).await, client) });
        while server.command(&["GET", "n"]).await.unwrap() == Reply::Nil {}
        assert!(!held.is_finished(), "the reply is held back");
        proxy.stall(Direction::ToClient, false);
        let (reply, mut client) = held.await.unwrap();
        assert_eq!(reply.unwrap(), Reply::Integer(1));

        let delay = Duration::from_millis(50);
        proxy.delay(delay);
        let start = Instant::now();
        assert!(answers(&mut client).await);
        assert!(start.elapsed() >= delay, "{:?}", start.elapsed());
        proxy.delay(Duration::ZERO);

        proxy.refuse(true);
        proxy.cut();
        assert!(!answers(&mut client).await);
        let mut refused = Client::connect(&proxy.addr(), None).await.unwrap();
        assert!(!answers(&mut refused).await);
        proxy.refuse(false);
        let mut first = Client::connect(&proxy.addr(), None).await.unwrap();
        let mut second = Client::connect(&proxy.addr(), None).await.unwrap();
        assert!(answers(&mut first).await && answers(&mut second).await);
        proxy.cut_all_but_one(1).await;
        assert!(!answers(&mut first).await && answers(&mut second).await);
        proxy.cut_all_but_one(0).await;
        assert!(answers(&mut second).await);
    }
}
