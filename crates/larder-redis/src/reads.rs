//! Reads of single keys. Those that are asked for at the same time go together: a pipeline of many commands costs this process
//! less than as many commands by themselves.

use std::{
    future::poll_fn,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use deadpool_redis::redis::{Cmd, ErrorKind, Pipeline, RedisResult, Value, aio::MultiplexedConnection, cmd};
use futures_util::future::join_all;
use tokio::{runtime::Handle, sync::oneshot};

use crate::{bulk::LARGE, store::unexpected};

/// The reads of single keys over one connection.
pub(crate) struct Reads {
    connection: MultiplexedConnection,
    /// The one that the connection lives in, whoever reads.
    runtime: Handle,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    /// How many reads and groups of reads have not been answered.
    under_way: usize,
    /// Asked for, and not sent yet.
    next: Vec<Read>,
}

/// What is asked of a key: the start of its value, and the rest of its life if that is wanted.
struct Question {
    start: Cmd,
    rest: Option<Cmd>,
}

/// What a server says of a key.
pub(crate) struct Answer {
    pub(crate) value: Value,
    /// The rest of its life, if that was asked for.
    pub(crate) rest: Option<Value>,
}

struct Read {
    question: Question,
    answer: oneshot::Sender<RedisResult<Answer>>,
}

/// A read or a group under way, until it is dropped.
struct Turn {
    reads: Arc<Reads>,
    /// Whether what is asked for next is for it to send.
    collects: bool,
}

/// At most so many go together: they are answered together too, and each may be nearly large.
const GROUP: usize = 16;

impl Reads {
    pub(crate) fn new(connection: MultiplexedConnection) -> Arc<Self> {
        Arc::new(Self { connection, runtime: Handle::current(), queue: Mutex::default() })
    }

    /// Reads the start of a key's value, and the rest of its life if that is asked for, in one round trip.
    ///
    /// # Cancellation
    /// Nobody else's read is held up.
    pub(crate) async fn read(self: &Arc<Self>, key: &str, with_ttl: bool) -> RedisResult<Answer> {
        let question = Question::new(key, with_ttl);
        match self.alone() {
            Some(turn) => turn.ask(question).await,
            None => self
                .together(question)
                .await
                .unwrap_or_else(|_gone| Err((ErrorKind::Io, "the runtime shuts down").into())),
        }
    }

    /// If nothing is under way, there is nobody to go with.
    fn alone(self: &Arc<Self>) -> Option<Turn> {
        let mut queue = self.queue();
        if queue.under_way > 0 {
            return None;
        }
        queue.under_way = 1;
        Some(Turn { reads: self.clone(), collects: false })
    }

    fn together(self: &Arc<Self>, question: Question) -> oneshot::Receiver<RedisResult<Answer>> {
        let (answer, answered) = oneshot::channel();
        let mut queue = self.queue();
        queue.next.push(Read { question, answer });
        let is_first = queue.next.len() == 1;
        queue.under_way += usize::from(is_first);
        drop(queue); // a runtime that shuts down drops the task in here
        if is_first {
            // A task of its own: those who go together must not depend on the first of them being polled.
            self.runtime.spawn(Turn { reads: self.clone(), collects: true }.ask_together());
        }
        answered
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut queue = self.reads.queue();
        queue.under_way -= 1;
        let unsent = if self.collects { mem::take(&mut queue.next) } else { Vec::new() };
        drop(queue);
        drop(unsent); // which tells those who wait
    }
}

impl Turn {
    async fn ask(self, question: Question) -> RedisResult<Answer> {
        let mut connection = self.reads.connection.clone();
        let Question { start, rest } = question;
        let Some(rest) = rest else {
            return Ok(Answer { value: connection.send_packed_command(&start).await?, rest: None });
        };
        let mut asked = Pipeline::with_capacity(2);
        asked.add_command(start).add_command(rest);
        let replies = connection.send_packed_commands(&asked, 0, 2).await?;
        Answer::next(&mut replies.into_iter(), true)
    }

    /// Asks all that is asked for by the time that the other tasks of this thread have run.
    async fn ask_together(mut self) {
        others_have_run().await;
        let mut next = mem::take(&mut self.reads.queue().next);
        self.collects = false;
        next.retain(|read| !read.answer.is_closed());
        let mut groups = Vec::new();
        while !next.is_empty() {
            let later = next.split_off(next.len().min(GROUP));
            groups.push(self.ask_group(mem::replace(&mut next, later)));
        }
        join_all(groups).await;
    }

    async fn ask_group(&self, reads: Vec<Read>) {
        let mut asked = Pipeline::with_capacity(2 * reads.len());
        let mut asking = Vec::with_capacity(reads.len());
        for Read { question: Question { start, rest }, answer } in reads {
            asking.push((rest.is_some(), answer));
            asked.add_command(start);
            rest.into_iter().for_each(|rest| {
                asked.add_command(rest);
            });
        }
        let replies = self.reads.connection.clone().send_packed_commands(&asked, 0, asked.len()).await;
        let mut replies = replies.map(Vec::into_iter);
        for (with_ttl, answer) in asking {
            let _gone = answer.send(match &mut replies {
                Ok(replies) => Answer::next(replies, with_ttl),
                Err(error) => Err(error.clone()),
            });
        }
    }
}

impl Question {
    /// Asks for at most so much of a value that what is asked next need not wait for it long.
    fn new(key: &str, with_ttl: bool) -> Self {
        const NAME: &str = "GETRANGE";
        const LIMITS: usize = "065535".len();
        let mut start = Cmd::with_capacity(4, NAME.len() + key.len() + LIMITS);
        start.arg(NAME).arg(key).arg(0).arg(LARGE - 1);
        Self { start, rest: with_ttl.then(|| cmd("PTTL").arg(key).take()) }
    }
}

impl Answer {
    fn next(replies: &mut impl Iterator<Item = Value>, with_ttl: bool) -> RedisResult<Self> {
        let mut reply = || replies.next().ok_or_else(unexpected);
        Ok(Self { value: reply()?, rest: if with_ttl { Some(reply()?) } else { None } })
    }
}

/// Waits until the tasks have run that are ready to run on this thread now. (`yield_now` would look for input in between.)
async fn others_have_run() {
    let mut have_run = false;
    let waits = poll_fn(|context| {
        if mem::replace(&mut have_run, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    });
    waits.await;
}
