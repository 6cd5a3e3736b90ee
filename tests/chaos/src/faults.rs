use std::fmt;

/// Something that went wrong for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The kind of fault.
    pub kind: FaultKind,
    /// Whom it hit; none if it was the server.
    pub node: Option<usize>,
    /// When it began, in nanoseconds.
    pub start: u64,
    /// When it was over.
    pub end: u64,
}

/// A fault that the conductor can inject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// The connections of a node are cut; it can connect again at once.
    Cut,
    /// The connections of a node are cut, and it cannot connect.
    Refusal,
    /// Bytes from a node are held back, or bytes to it.
    Stall,
    /// A node is connected, and no pushes reach it.
    Deafness,
    /// `CLIENT KILL` of all connections.
    Kill,
    /// `FLUSHALL`.
    Flush,
    /// The server has too little memory, and evicts at random.
    Eviction,
    /// The server is killed, and starts again, empty.
    Restart,
    /// A process is stopped for longer than its leases live.
    Stop,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Cut,
        Self::Refusal,
        Self::Stall,
        Self::Deafness,
        Self::Kill,
        Self::Flush,
        Self::Eviction,
        Self::Restart,
        Self::Stop,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cut => "connections of a process cut",
            Self::Refusal => "a process cut off",
            Self::Stall => "bytes held back",
            Self::Deafness => "pushes lost",
            Self::Kill => "CLIENT KILL",
            Self::Flush => "FLUSHALL",
            Self::Eviction => "eviction",
            Self::Restart => "server restarted empty",
            Self::Stop => "a process stopped (SIGSTOP)",
        }
    }

    pub(crate) fn hits_a_node(self) -> bool {
        matches!(
            self,
            Self::Cut | Self::Refusal | Self::Stall | Self::Deafness | Self::Stop
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        if let Some(node) = self.node {
            write!(f, ", node {node}")?;
        }
        write!(f, ", for {:.0} ms", (self.end - self.start) as f64 / 1e6)
    }
}
