//! A node, as the conductor has it: a process that it starts, tells and asks.

use std::{path::Path, process::Stdio, time::Duration};

use larder_testkit::Proxy;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};

use crate::{
    Problem,
    journal::{Line, Link},
    keys::{Key, Namespace},
    node::Config,
    servers::Servers,
    told::{Shared, lock},
};

/// A process that does not answer within this time has failed.
const BOUND: Duration = Duration::from_secs(30);

/// The values that one reader is served, by key.
pub(crate) type Copies = Vec<(Key, Option<u32>)>;

/// The settings that all nodes of a run have in common.
#[derive(Clone, Debug)]
pub(crate) struct Common<'a> {
    pub(crate) program: &'a Path,
    pub(crate) database: String,
    pub(crate) on_data_loss: &'a str,
    pub(crate) is_gentle: bool,
}

/// A node, as the conductor has it.
pub(crate) struct Member {
    pub(crate) node: u16,
    pub(crate) namespace: Namespace,
    /// One before each server.
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) pid: u32,
    input: ChildStdin,
    answers: mpsc::UnboundedReceiver<Answer>,
    listening: JoinHandle<()>,
    process: Child,
}

enum Answer {
    Stopped,
    Copies(Copies),
}

impl Member {
    /// Starts a node with proxies of its own before each server.
    pub(crate) async fn start(
        node: u16,
        namespace: Namespace,
        common: &Common<'_>,
        servers: &Servers,
        seed: u64,
        told: Shared,
    ) -> Result<Self, Problem> {
        let mut proxies = Vec::new();
        for address in servers.addresses() {
            proxies.push(Proxy::start(&address).await?);
        }
        Self::start_behind(proxies, node, namespace, common, servers, seed, told).await
    }

    /// Kills the process, and returns when nothing comes from it any more.
    pub(crate) async fn kill(&mut self) -> Result<(), Problem> {
        self.process.kill().await?;
        (&mut self.listening).await?;
        Ok(())
    }

    /// Starts another process in the place of one that was killed.
    pub(crate) async fn replace(
        &mut self,
        node: u16,
        common: &Common<'_>,
        servers: &Servers,
        seed: u64,
        told: Shared,
    ) -> Result<(), Problem> {
        let (namespace, proxies) = (self.namespace, std::mem::take(&mut self.proxies));
        *self = Self::start_behind(proxies, node, namespace, common, servers, seed, told).await?;
        Ok(())
    }

    async fn start_behind(
        proxies: Vec<Proxy>,
        node: u16,
        namespace: Namespace,
        common: &Common<'_>,
        servers: &Servers,
        seed: u64,
        told: Shared,
    ) -> Result<Self, Problem> {
        let reached: Vec<String> = proxies.iter().map(Proxy::addr).collect();
        let config = Config {
            node,
            redis: servers.url(namespace, &reached),
            places: servers.addresses().into_iter().zip(reached).collect(),
            on_data_loss: common.on_data_loss.to_owned(),
            // Faults are noticed fast, so that many find their place in a run.
            timeout_ms: 300,
            database: common.database.clone(),
            namespace,
            is_gentle: common.is_gentle,
            // A busy machine, or a fault, may keep the server from it for a while.
            starts_alone: true,
            seed,
        };
        let mut process = Command::new(common.program)
            .args(["node", &serde_json::to_string(&config)?])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let gone = "a node has ended";
        let (pid, input) = (process.id().ok_or(gone)?, process.stdin.take().ok_or(gone)?);
        let mut lines = BufReader::new(process.stdout.take().ok_or(gone)?).lines();
        let first = timeout(BOUND, lines.next_line()).await??.ok_or(gone)?;
        if Line::parse(&first, node) != Some(Line::Ready) {
            return Err(format!("a node said: {first}").into());
        }
        let (answer, answers) = mpsc::unbounded_channel();
        Ok(Self {
            node,
            namespace,
            proxies,
            pid,
            input,
            answers,
            // Ends with the process.
            listening: tokio::spawn(listen(node, lines, told, answer)),
            process,
        })
    }

    async fn ask(&mut self, order: &str) -> Result<Answer, Problem> {
        self.tell(order).await?;
        let answer = timeout(BOUND, self.answers.recv()).await;
        let answer = answer.map_err(|_| format!("node {} does not {order}", self.node))?;
        answer.ok_or_else(|| "a node has ended".into())
    }

    async fn tell(&mut self, order: &str) -> Result<(), Problem> {
        self.input.write_all(order.as_bytes()).await?;
        self.input.write_all(b"\n").await?;
        Ok(())
    }

    /// Ends every operation.
    pub(crate) async fn stop(&mut self) -> Result<(), Problem> {
        match self.ask("stop").await? {
            Answer::Stopped => Ok(()),
            Answer::Copies(_) => Err("a node does not stop".into()),
        }
    }

    /// Ends the operations under way, and begins no others until [`go_on`](Self::go_on).
    pub(crate) async fn pause(&mut self) -> Result<(), Problem> {
        match self.ask("pause").await? {
            Answer::Stopped => Ok(()),
            Answer::Copies(_) => Err("a node does not pause".into()),
        }
    }

    pub(crate) async fn go_on(&mut self) -> Result<(), Problem> {
        self.tell("go on").await
    }

    pub(crate) async fn copies(&mut self) -> Result<Copies, Problem> {
        match self.ask("copy").await? {
            Answer::Copies(copies) => Ok(copies),
            Answer::Stopped => Err("a node does not say what it holds".into()),
        }
    }
}

/// Takes down what a node says.
async fn listen(
    node: u16,
    mut lines: Lines<BufReader<ChildStdout>>,
    told: Shared,
    answer: mpsc::UnboundedSender<Answer>,
) {
    let mut copies = Vec::new();
    // An answer that nobody waits for any more is of a run that is over.
    let answer = |what| drop(answer.send(what));
    while let Ok(Some(line)) = lines.next_line().await {
        match Line::parse(&line, node) {
            Some(Line::Read(read)) => lock(&told).history.reads.push(read),
            Some(Line::Write(write)) => lock(&told).history.writes.push(write),
            Some(Line::Linked(link)) => {
                lock(&told).history.links.push(Link {
                    node: Some(node),
                    ..link
                });
            }
            Some(Line::Missed) => lock(&told).misses += 1,
            Some(Line::ReadFailed(error)) => lock(&told)
                .failed_reads
                .push(format!("node {node}: {error}")),
            Some(Line::WriteFailed(error)) => {
                *lock(&told).failed_writes.entry(error).or_default() += 1;
            }
            Some(Line::Stopped) => answer(Answer::Stopped),
            Some(Line::Copy(key, version)) => copies.push((key, version)),
            Some(Line::Copied) => answer(Answer::Copies(std::mem::take(&mut copies))),
            Some(Line::Ready) => {}
            None if line.is_empty() => {}
            None => lock(&told)
                .failed_reads
                .push(format!("node {node} said: {line}")),
        }
    }
}
