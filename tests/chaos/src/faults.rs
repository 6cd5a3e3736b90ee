use std::fmt;

/// Something that went wrong for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The kind of fault.
    pub kind: FaultKind,
    /// The process that it hit; none if it was a server.
    pub node: Option<u16>,
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
    /// A process is killed, and another one takes its place.
    Death,
    /// The server is killed, and starts again from a snapshot of an earlier moment.
    Snapshot,
    /// The server is killed, and starts again from a log of its commands that lost its end.
    LostLog,
    /// A replica that lagged takes the server's place: at its address, or by leading the address
    /// elsewhere.
    Replica,
    /// The address leads to a replica that lagged, while the server before goes on, with one
    /// connection of each process.
    Move,
    /// The master is killed, and its cluster or its sentinels promote a replica that lagged.
    Failover,
}

/// How the servers of a run belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topology {
    /// One server.
    Single,
    /// Three masters with a replica each.
    Cluster,
    /// A master and a replica, with three sentinels.
    Sentinel,
}

impl Topology {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Single, Self::Cluster, Self::Sentinel];

    /// Its name, as an option.
    pub fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Cluster => "cluster",
            Self::Sentinel => "sentinel",
        }
    }

    /// The topology of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|topology| topology.name() == name)
    }

    /// The faults that it can have.
    pub fn faults(self) -> Vec<FaultKind> {
        let mut faults = FaultKind::ALL.to_vec();
        faults.retain(|fault| match self {
            Self::Single => *fault != FaultKind::Failover,
            Self::Cluster => *fault != FaultKind::Move,
            // A master that is away for long is replaced, whatever the reason.
            Self::Sentinel => {
                *fault == FaultKind::Failover
                    || !(fault.loses_data() || *fault == FaultKind::Restart)
            }
        });
        faults
    }
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Cut,
        Self::Refusal,
        Self::Stall,
        Self::Deafness,
        Self::Kill,
        Self::Flush,
        Self::Eviction,
        Self::Restart,
        Self::Stop,
        Self::Death,
        Self::Snapshot,
        Self::LostLog,
        Self::Replica,
        Self::Move,
        Self::Failover,
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
            Self::Death => "a process killed (SIGKILL)",
            Self::Snapshot => "server restarted from a snapshot",
            Self::LostLog => "server restarted from a log without its end",
            Self::Replica => "a lagging replica in the server's place",
            Self::Move => "address led to a lagging replica",
            Self::Failover => "failover to a lagging replica",
        }
    }

    /// The fault of this name, as an option: its name in the code, such as `cut`.
    pub fn named(name: &str) -> Option<Self> {
        let is_it = |kind: &Self| format!("{kind:?}").eq_ignore_ascii_case(name);
        Self::ALL.into_iter().find(is_it)
    }

    /// Whether the server comes back with the data of an earlier moment.
    pub(crate) fn loses_data(self) -> bool {
        matches!(
            self,
            Self::Snapshot | Self::LostLog | Self::Replica | Self::Move | Self::Failover
        )
    }

    pub(crate) fn hits_a_node(self) -> bool {
        matches!(
            self,
            Self::Cut | Self::Refusal | Self::Stall | Self::Deafness | Self::Stop | Self::Death
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
