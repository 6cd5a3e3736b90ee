use std::sync::Arc;

use larder_testkit::RedisServer;

use crate::{app::Instance, database::Database, page::Page};

/// The page, the database, and the instances of the application: every part of the tour needs them.
pub(crate) struct Tour {
    pub(crate) page: Page,
    pub(crate) database: Database,
    /// Two instances of the application in one process; with their own L1, as if they were two
    /// processes.
    pub(crate) a: Instance,
    /// There is no second one without Redis, because nothing would keep the two coherent.
    pub(crate) b: Option<Instance>,
    pub(crate) redis: Option<Arc<RedisServer>>,
}

impl Tour {
    pub(crate) fn instances(&self) -> Vec<&Instance> {
        [Some(&self.a), self.b.as_ref()]
            .into_iter()
            .flatten()
            .collect()
    }
}
