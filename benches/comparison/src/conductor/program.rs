use std::{path::PathBuf, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::{
    Line, Problem,
    job::{Entrant, Job},
};

/// A program that brings contenders.
#[derive(Clone, Debug)]
pub(super) struct Program(PathBuf);

/// A time that no job takes: a job that does will never end.
const BOUND: Duration = Duration::from_secs(300);

impl Program {
    pub(super) fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    pub(super) fn path(&self) -> &PathBuf {
        &self.0
    }

    /// Lists the contenders that it brings.
    pub(super) async fn list(&self) -> Result<Vec<Entrant>, Problem> {
        lines(&self.finish("list").await?)
    }

    /// Runs a job that needs no other process.
    pub(super) async fn measure(&self, job: &Job) -> Result<Vec<Line>, Problem> {
        lines(&self.finish(&serde_json::to_string(job)?).await?)
    }

    async fn finish(&self, arg: &str) -> Result<String, Problem> {
        let mut command = Command::new(&self.0);
        command.arg(arg).stdin(Stdio::null()).kill_on_drop(true);
        let ended = timeout(BOUND, command.output()).await;
        let output = ended.map_err(|_| format!("not finished within {} s", BOUND.as_secs()))??;
        if !output.status.success() {
            return Err(last_words(&output.stderr).into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Starts a process that takes its orders line by line, and waits until it is ready.
    pub(super) async fn start(&self, job: &Job) -> Result<Member, Problem> {
        let mut command = Command::new(&self.0);
        command.arg(serde_json::to_string(job)?).kill_on_drop(true);
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let orders = process.stdin.take().ok_or("a process without an input")?;
        let said = process.stdout.take().ok_or("a process without an output")?;
        let mut member = Member {
            _process: process,
            orders,
            said: BufReader::new(said).lines(),
        };
        member.hear::<String>().await?;
        Ok(member)
    }
}

/// A process that takes orders; it ends when this value is dropped.
pub(super) struct Member {
    _process: Child,
    orders: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
}

impl Member {
    pub(super) async fn tell(&mut self, order: &str) -> Result<(), Problem> {
        self.orders
            .write_all(format!("{order}\n").as_bytes())
            .await?;
        Ok(self.orders.flush().await?)
    }

    /// Reads its next line. A line about all cells is the reason why it goes no further.
    pub(super) async fn hear<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, Problem> {
        let said = timeout(BOUND, self.said.next_line())
            .await
            .map_err(|_| "a process says nothing any more")??;
        let said = said.ok_or("a process has ended too early")?;
        if let Ok(line) = serde_json::from_str::<Line>(&said) {
            return Err(line.answer.into());
        }
        Ok(serde_json::from_str(&said)?)
    }
}

fn lines<T: serde::de::DeserializeOwned>(said: &str) -> Result<Vec<T>, Problem> {
    Ok(said
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?)
}

/// The last line that a failed process wrote.
fn last_words(stderr: &[u8]) -> String {
    let said = String::from_utf8_lossy(stderr);
    let panic = said
        .lines()
        .skip_while(|line| !line.contains("panicked at"))
        .nth(1);
    panic
        .or(said.lines().rfind(|line| !line.trim().is_empty()))
        .unwrap_or("it died in silence")
        .to_owned()
}
