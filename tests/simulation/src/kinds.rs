//! The kinds of faults.

/// Something that can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The connections of a lane are lost, and the process knows at once.
    Cut,
    /// Bytes are held back; then they arrive, or the connections count as lost.
    Stall,
    /// Pushes are lost, until the process notices and gives up the connections.
    Deafness,
    /// The server evicts a value.
    Value,
    /// The server evicts a lease.
    Lease,
    /// The server evicts the pin of a tag.
    Tag,
    /// The server is emptied.
    Flush,
    /// A process is killed, and another one takes its place.
    Death,
}

impl Kind {
    /// Those that may come together: what a process that is dead owes, nobody does.
    pub(crate) const TOGETHER: [Self; 7] = [
        Self::Cut,
        Self::Stall,
        Self::Deafness,
        Self::Value,
        Self::Lease,
        Self::Tag,
        Self::Flush,
    ];
}
