use std::fmt;

use crate::{faults::Fault, journal::Read};

/// A read that broke the promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The read.
    pub read: Read,
    /// The promise that it broke.
    pub kind: Kind,
    /// The faults that can have to do with it.
    pub faults: Vec<Fault>,
}

/// How a read can break the promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It was given a version that the database did not have yet.
    FromTheFuture,
    /// It was given what its own process had replaced by then.
    OlderThanOwnWrite {
        /// Since when.
        since: u64,
    },
    /// It was given from L2 what somebody had replaced by then.
    OlderThanL2 {
        /// Since when.
        since: u64,
    },
    /// It was given what another process had replaced so long before that its process must have
    /// known.
    ToldLongAgo {
        /// Since when.
        since: u64,
    },
    /// It asked for a new load, and was given what the database had replaced before it asked.
    OlderThanRefresh {
        /// Since when.
        since: u64,
    },
}

impl Kind {
    pub(super) fn since(self) -> Option<u64> {
        match self {
            Self::FromTheFuture => None,
            Self::OlderThanOwnWrite { since }
            | Self::OlderThanL2 { since }
            | Self::ToldLongAgo { since }
            | Self::OlderThanRefresh { since } => Some(since),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Read {
            node,
            key,
            version,
            start,
            ..
        } = self.read;
        write!(f, "node {node} was given version {version} of {key}")?;
        let ms = |from: u64, to: u64| (to as f64 - from as f64) / 1e6;
        let Some(since) = self.kind.since() else {
            return write!(f, ", which the database did not have");
        };
        let what = match self.kind {
            Kind::OlderThanOwnWrite { .. } => "a newer write of its own had returned",
            Kind::OlderThanL2 { .. } => "a newer write (it has no L1) had returned",
            Kind::OlderThanRefresh { .. } => "the database had a newer one (it is a refresh)",
            Kind::ToldLongAgo { .. } | Kind::FromTheFuture => {
                "a newer write elsewhere had returned, or was made known again"
            }
        };
        write!(f, " {:.3} ms after {what}", ms(since, start))?;
        for fault in &self.faults {
            write!(
                f,
                "; {:+.0} ms from that write: {fault}",
                ms(since, fault.start)
            )?;
        }
        Ok(())
    }
}
