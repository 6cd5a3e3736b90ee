use larder_core::{Key, Token};
use tokio::runtime::Handle;

use crate::Leases;

/// A lease that may exist. It is released when this is dropped, unless it is known to be over.
#[derive(Debug)]
pub(crate) struct ReleaseOnDrop {
    pub(crate) leases: Leases,
    pub(crate) key: Key,
    pub(crate) token: Token,
    of: Of,
    pub(crate) armed: bool,
}

/// The owner of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    Load,
    Writer,
}

/// A lease that is released in the background, or by the next claim if the runtime ends first.
struct Release {
    leases: Leases,
    key: Key,
    token: Token,
    /// Whether the next claim is to release it.
    is_left: bool,
}

impl ReleaseOnDrop {
    pub(crate) fn new(leases: &Leases, key: &Key, of: Of) -> Self {
        Self {
            leases: leases.clone(),
            key: key.clone(),
            token: Token::new(),
            of,
            armed: true,
        }
    }

    pub(crate) fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for ReleaseOnDrop {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let release = Release {
            leases: self.leases.clone(),
            key: self.key.clone(),
            token: self.token.clone(),
            // The database may still do what a writer sent: its lease then ends by its time.
            is_left: self.of == Of::Load,
        };
        // Without a runtime, and in one that shuts down, it is dropped in here.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(release.run());
        }
    }
}

impl Release {
    async fn run(mut self) {
        let (key, token) = (self.key.clone(), self.token.clone());
        self.leases.release(key, token).await;
        self.is_left = false;
    }
}

impl Drop for Release {
    // P19 loads-end-with-callers: a load that its runtime cuts off gives its lease back, too
    fn drop(&mut self) {
        if self.is_left {
            let lease = (self.key.clone(), self.token.clone());
            self.leases.leave(lease);
        }
    }
}
