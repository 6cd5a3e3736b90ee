//! Reads of single keys. Reads that callers ask for at the same time go as one pipeline, which
//! costs this process less than as many commands by themselves.

use std::{
    future::poll_fn,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use deadpool_redis::redis::{
    Cmd, ErrorKind, Pipeline, RedisResult, Value, aio::MultiplexedConnection, cmd,
};
use futures_util::future::join_all;
use larder_core::Want;
use tokio::{runtime::Handle, sync::oneshot};

use crate::command::{
    look,
    reply::{LARGE_VALUE, ReadReply, unexpected},
    scripts,
    tracking::{Tracks, exemption},
};

/// Reads single keys over one connection.
pub(crate) struct ReadBatcher {
    connection: MultiplexedConnection,
    /// The runtime that the connection lives in, whichever runtime a caller is in.
    runtime: Handle,
    /// Whether a command can be exempted from tracking.
    exempts: bool,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    /// The number of reads and groups of reads that have not been answered.
    in_flight: usize,
    /// Reads that have not been sent yet.
    next: Vec<Read>,
}

/// The commands for one key: one for the beginning of its value, and one for its time to live if
/// the caller asks for that.
struct Question {
    start: Cmd,
    pttl: Option<Cmd>,
    form: Form,
}

/// How a key is asked for, and so what the server replies.
#[derive(Clone, Copy)]
struct Form {
    want: Want,
    tracks: Tracks,
}

struct Read {
    question: Question,
    reply: oneshot::Sender<RedisResult<ReadReply>>,
}

/// A read or a group that is in flight until this is dropped.
struct InFlight {
    batcher: Arc<ReadBatcher>,
    role: Role,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// It sends the reads that callers ask for next.
    Collector,
    /// It has sent all that it will send.
    Sender,
}

/// The reads of one pipeline: 16. They are answered together, and each may be nearly large (64
/// KiB).
const GROUP: usize = 16;

impl ReadBatcher {
    /// `exempts` says whether a command over the connection can be exempted from tracking.
    pub(crate) fn new(connection: MultiplexedConnection, exempts: bool) -> Arc<Self> {
        Arc::new(Self {
            connection,
            runtime: Handle::current(),
            exempts,
            queue: Mutex::default(),
        })
    }

    /// Reads the beginning of a key's value, and its time to live if the caller asks for that, in
    /// one round trip.
    ///
    /// # Cancellation
    /// A caller that gives up holds up no other caller's read.
    pub(crate) async fn read(
        self: &Arc<Self>,
        key: &str,
        want: Want,
        tracks: Tracks,
    ) -> RedisResult<ReadReply> {
        let tracks = match tracks {
            Tracks::None if !self.exempts => Tracks::All,
            tracks => tracks,
        };
        let question = Question::new(key, Form { want, tracks });
        match self.go_alone() {
            Some(in_flight) => in_flight.ask(question).await,
            None => self
                .enqueue(question)
                .await
                .unwrap_or_else(|_gone| Err((ErrorKind::Io, "the runtime shuts down").into())),
        }
    }

    /// Starts a read by itself, if no other one is in flight.
    fn go_alone(self: &Arc<Self>) -> Option<InFlight> {
        let mut queue = self.queue();
        if queue.in_flight > 0 {
            return None;
        }
        queue.in_flight = 1;
        Some(InFlight {
            batcher: self.clone(),
            role: Role::Sender,
        })
    }

    /// Adds a read to the next pipeline.
    fn enqueue(self: &Arc<Self>, question: Question) -> oneshot::Receiver<RedisResult<ReadReply>> {
        let (reply, replied) = oneshot::channel();
        let mut queue = self.queue();
        queue.next.push(Read { question, reply });
        let is_first = queue.next.len() == 1;
        queue.in_flight += usize::from(is_first);
        drop(queue); // a runtime that shuts down drops the task in here
        if is_first {
            // A task of its own: the reads of a pipeline must not depend on the first of their
            // callers being polled.
            self.runtime.spawn(
                InFlight {
                    batcher: self.clone(),
                    role: Role::Collector,
                }
                .ask_enqueued(),
            );
        }
        replied
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut queue = self.batcher.queue();
        queue.in_flight -= 1;
        let unsent = if self.role == Role::Collector {
            mem::take(&mut queue.next)
        } else {
            Vec::new()
        };
        drop(queue);
        drop(unsent); // which tells their callers
    }
}

impl InFlight {
    async fn ask(self, question: Question) -> RedisResult<ReadReply> {
        let mut connection = self.batcher.connection.clone();
        let form = question.form;
        if form.replies() == 1 {
            let reply = connection.send_packed_command(&question.start).await?;
            return form.next_reply(&mut [reply].into_iter());
        }
        let mut commands = Pipeline::with_capacity(form.replies());
        question.add_to(&mut commands);
        let replies = connection
            .send_packed_commands(&commands, 0, form.replies())
            .await?;
        form.next_reply(&mut replies.into_iter())
    }

    /// Sends all that callers ask for until the other tasks of this thread have run.
    async fn ask_enqueued(mut self) {
        other_tasks_have_run().await;
        let mut next = mem::take(&mut self.batcher.queue().next);
        self.role = Role::Sender;
        next.retain(|read| !read.reply.is_closed());
        let mut groups = Vec::new();
        while !next.is_empty() {
            let later = next.split_off(next.len().min(GROUP));
            groups.push(self.ask_group(mem::replace(&mut next, later)));
        }
        join_all(groups).await;
    }

    async fn ask_group(&self, reads: Vec<Read>) {
        let mut commands = Pipeline::with_capacity(2 * reads.len());
        let mut callers = Vec::with_capacity(reads.len());
        for Read { question, reply } in reads {
            callers.push((question.form, reply));
            question.add_to(&mut commands);
        }
        let replies = self
            .batcher
            .connection
            .clone()
            .send_packed_commands(&commands, 0, commands.len())
            .await;
        let mut replies = replies.map(Vec::into_iter);
        for (form, caller) in callers {
            let _gone = caller.send(match &mut replies {
                Ok(replies) => form.next_reply(replies),
                Err(error) => Err(error.clone()),
            });
        }
    }
}

impl Question {
    /// Asks for less than a large value, so that the next commands need not wait for long.
    fn new(key: &str, form: Form) -> Self {
        if form.tracks == Tracks::Found {
            return Self {
                start: scripts::look_call(key, LARGE_VALUE),
                pttl: None,
                form,
            };
        }
        const NAME: &str = "GETRANGE";
        const LIMITS: usize = "065535".len();
        let mut start = Cmd::with_capacity(4, NAME.len() + key.len() + LIMITS);
        start.arg(NAME).arg(key).arg(0).arg(LARGE_VALUE - 1);
        Self {
            start,
            pttl: form.want.has_ttl().then(|| cmd("PTTL").arg(key).take()),
            form,
        }
    }

    /// Adds the commands to a pipeline.
    fn add_to(self, commands: &mut Pipeline) {
        for command in [Some(self.start), self.pttl].into_iter().flatten() {
            if self.form.tracks == Tracks::None {
                commands.add_command(exemption()); // P33 only-kept-is-tracked
            }
            commands.add_command(command);
        }
    }
}

impl Form {
    /// The number of replies.
    fn replies(self) -> usize {
        match self.tracks {
            Tracks::Found => 1,
            Tracks::All => 1 + usize::from(self.want.has_ttl()),
            Tracks::None => 2 + 2 * usize::from(self.want.has_ttl()),
        }
    }

    /// The reply to one read among the replies to a pipeline.
    fn next_reply(self, replies: &mut impl Iterator<Item = Value>) -> RedisResult<ReadReply> {
        match self.tracks {
            Tracks::All => next_reply(replies, self.want),
            Tracks::Found => look::read_reply(replies.next().ok_or_else(unexpected)?),
            Tracks::None => {
                let ours = replies.by_ref().take(self.replies());
                // A copy, so that all of them are taken, whatever they say.
                let ours: Vec<Value> = ours.skip(1).step_by(2).collect();
                next_reply(&mut ours.into_iter(), self.want)
            }
        }
    }
}

/// The value, and its time to live if the caller asks for that, among the replies to a pipeline.
pub(crate) fn next_reply(
    replies: &mut impl Iterator<Item = Value>,
    want: Want,
) -> RedisResult<ReadReply> {
    let mut reply = || replies.next().ok_or_else(unexpected);
    Ok(ReadReply {
        value: reply()?,
        pttl: if want.has_ttl() { Some(reply()?) } else { None },
    })
}

/// Waits until the tasks have run that are ready to run on this thread now. (`yield_now` would look
/// for input in between.)
async fn other_tasks_have_run() {
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
