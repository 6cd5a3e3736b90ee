//! Calls on their way to the server and back.

use futures_util::FutureExt;
use larder_core::{MemoryRemote, StoreError};
use tokio::sync::oneshot;

/// The order in which the server sends the reply to a call, and the pushes that the call causes
/// for its own connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// As a server does that tracks.
    ReplyFirst,
    /// As it looks to a caller that has sent a `PING` along with the call.
    PushesFirst,
}

/// A call on its way.
pub(crate) trait Question: Send {
    /// Takes effect at the server.
    fn run(&mut self, remote: &MemoryRemote);
    /// Hands the reply to its caller, who may be gone.
    fn answer(&mut self);
    /// Lets the caller know that the connection is lost.
    fn forsake(&mut self);
    /// Says when the pushes come.
    fn order(&self) -> Order;
    /// Names it, for the trace.
    fn name(&self) -> &str;
}

struct Asked<R, F> {
    name: String,
    order: Order,
    effect: Option<F>,
    reply: Option<Result<R, StoreError>>,
    caller: Option<oneshot::Sender<Result<R, StoreError>>>,
}

/// The place at which a caller waits for its reply.
pub(crate) type Reply<R> = oneshot::Receiver<Result<R, StoreError>>;

/// Makes a call, and the place at which its caller waits.
pub(crate) fn question<R: Send + 'static>(
    name: String,
    order: Order,
    effect: impl FnOnce(&MemoryRemote) -> Result<R, StoreError> + Send + 'static,
) -> (Box<dyn Question>, Reply<R>) {
    let (caller, reply) = oneshot::channel();
    let asked = Asked {
        name,
        order,
        effect: Some(effect),
        reply: None,
        caller: Some(caller),
    };
    (Box::new(asked), reply)
}

impl<R, F> Question for Asked<R, F>
where
    R: Send,
    F: FnOnce(&MemoryRemote) -> Result<R, StoreError> + Send,
{
    fn run(&mut self, remote: &MemoryRemote) {
        self.reply = self.effect.take().map(|effect| effect(remote));
    }

    fn answer(&mut self) {
        if let (Some(reply), Some(caller)) = (self.reply.take(), self.caller.take()) {
            let _ = caller.send(reply); // it may be gone
        }
    }

    fn forsake(&mut self) {
        self.caller = None;
    }

    fn order(&self) -> Order {
        self.order
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// The reply of a store that never waits.
pub(crate) fn at_once<R>(
    call: impl Future<Output = Result<R, StoreError>>,
) -> Result<R, StoreError> {
    call.now_or_never().unwrap_or_else(|| Err(unreachable()))
}

/// The error of a call over a connection that is lost.
pub(crate) fn unreachable() -> StoreError {
    StoreError::Unreachable {
        address: "simulation".to_owned(),
        source: None,
    }
}
