//! A node, as the conductor has it: a process that it starts, tells and asks.

use std::{path::Path, process::Stdio, time::Duration};

use larder_testkit::{Proxy, RedisServer};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::{oneshot, watch},
    time::timeout,
};

use crate::told::{Shared, lock};
use crate::{
    Problem,
    database::Database,
    journal::Line,
    keys::{Key, Namespace},
};

/// A process that does not answer within this time has failed.
const BOUND: Duration = Duration::from_secs(30);

/// The values that one reader is served, by key.
pub(crate) type Copies = Vec<(Key, Option<u32>)>;

/// A node, as the conductor has it.
pub(crate) struct Member {
    pub(crate) proxy: Proxy,
    pub(crate) pid: u32,
    input: ChildStdin,
    copies: Option<oneshot::Receiver<Copies>>,
    stopped: watch::Receiver<bool>,
    _process: Child,
}

impl Member {
    pub(crate) async fn start(
        (index, namespace): (u8, Namespace),
        program: &Path,
        server: &RedisServer,
        database: &Database,
        seed: u64,
        told: Shared,
    ) -> Result<Self, Problem> {
        let proxy = Proxy::start(&server.addr()).await?;
        let mut process = Command::new(program)
            .args([
                "node",
                &proxy.url(),
                &database.addr(),
                namespace.name(),
                &seed.to_string(),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let gone = "a node has ended";
        let (pid, input) = (process.id().ok_or(gone)?, process.stdin.take().ok_or(gone)?);
        let mut lines = BufReader::new(process.stdout.take().ok_or(gone)?).lines();
        let first = timeout(BOUND, lines.next_line()).await??.ok_or(gone)?;
        if Line::parse(&first, index) != Some(Line::Ready) {
            return Err(format!("a node said: {first}").into());
        }
        let (stops, stopped) = watch::channel(false);
        let (copied, copies) = oneshot::channel();
        // Ends with the process.
        tokio::spawn(listen(index, lines, told, stops, copied));
        Ok(Self {
            proxy,
            pid,
            input,
            copies: Some(copies),
            stopped,
            _process: process,
        })
    }

    pub(crate) async fn stop(&mut self) -> Result<(), Problem> {
        self.input.write_all(b"stop\n").await?;
        timeout(BOUND, self.stopped.wait_for(|stopped| *stopped))
            .await
            .map_err(|_| "a node does not stop")??;
        Ok(())
    }

    pub(crate) async fn copies(&mut self) -> Result<Copies, Problem> {
        self.input.write_all(b"copy\n").await?;
        let copies = self
            .copies
            .take()
            .ok_or("a node was asked twice for its copies")?;
        Ok(timeout(BOUND, copies)
            .await
            .map_err(|_| "a node does not say what it holds")??)
    }
}

/// Takes down what a node says.
async fn listen(
    index: u8,
    mut lines: Lines<BufReader<ChildStdout>>,
    told: Shared,
    stops: watch::Sender<bool>,
    copied: oneshot::Sender<Copies>,
) {
    let (mut copies, mut copied) = (Vec::new(), Some(copied));
    while let Ok(Some(line)) = lines.next_line().await {
        match Line::parse(&line, index) {
            Some(Line::Read(read)) => lock(&told).history.reads.push(read),
            Some(Line::Write(write)) => lock(&told).history.writes.push(write),
            Some(Line::Missed) => lock(&told).misses += 1,
            Some(Line::ReadFailed(error)) => lock(&told)
                .failed_reads
                .push(format!("node {index}: {error}")),
            Some(Line::WriteFailed(error)) => {
                *lock(&told).failed_writes.entry(error).or_default() += 1
            }
            Some(Line::Stopped) => drop(stops.send_replace(true)),
            Some(Line::Copy(key, version)) => copies.push((key, version)),
            Some(Line::Copied) => {
                if let Some(copied) = copied.take() {
                    // The receiver waits, or the run is over.
                    let _ = copied.send(std::mem::take(&mut copies));
                }
            }
            Some(Line::Ready) => {}
            None => lock(&told)
                .failed_reads
                .push(format!("node {index} said: {line}")),
        }
    }
}
