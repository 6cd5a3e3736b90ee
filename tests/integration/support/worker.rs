use std::process::Stdio;

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::wait::BOUND;

/// A process of its own with a larder; see `src/worker.rs`. Killed when it is dropped.
pub(crate) struct Worker {
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    pub(crate) async fn start(url: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_worker"))
            .arg(url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut worker = Self {
            process,
            input,
            output,
        };
        assert_eq!(worker.line().await, "ready");
        worker
    }

    pub(crate) async fn tell(&mut self, line: &str) {
        self.input
            .write_all(format!("{line}\n").as_bytes())
            .await
            .unwrap();
    }

    pub(crate) async fn line(&mut self) -> String {
        let line = tokio::time::timeout(BOUND, self.output.next_line()).await;
        line.expect("the worker says nothing")
            .unwrap()
            .expect("the worker has ended")
    }

    /// SIGKILL: no destructor runs, nothing is released.
    pub(crate) async fn kill(&mut self) {
        self.process.kill().await.unwrap();
    }
}
