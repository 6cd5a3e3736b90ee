//! The state at one moment: the database, Redis, the processes with their connections, and the
//! operations under way.

/// The state of the whole system. A version counts the writes of the database; every reader should
/// see the newest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The version that the database holds.
    pub db: u8,
    /// The shared server.
    pub redis: Redis,
    /// The processes with a larder.
    pub processes: Vec<Process>,
    /// The operations of the processes, and of foreign programs.
    pub ops: Vec<Op>,
    /// The faults of each kind that may still happen.
    pub faults: Faults,
    /// The newest version whose write or invalidation has returned, so that it binds all processes.
    pub returned: u8,
    /// Data with which the server would come back: its own at one earlier moment.
    pub snapshot: Option<Box<Redis>>,
    /// Whether the server has come back with it.
    pub forgot: bool,
    /// Whether the last lease ended by its time, or by eviction, and not by a script.
    pub expired: bool,
    /// Whether a reader was served an older value than it may be.
    pub served_old: bool,
    /// Whether a reader was served a stale value that its process knew to be outdated.
    pub served_outdated: bool,
    /// Whether a refresh returned a value whose load began before the call.
    pub refreshed_old: bool,
}

/// The server: D, L, E and T of one key and one tag, and the names that each connection tracks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Redis {
    /// D.
    pub value: Option<Stored>,
    /// L.
    pub lease: Option<Lease>,
    /// E, the tag epoch. Zero: the server has lost it.
    pub epoch: u8,
    /// The server's clock. E was never larger.
    pub time: u8,
    /// T.
    pub tag: Option<u8>,
    /// The names that each process's connection tracks.
    pub tracks: Vec<Tracks>,
    /// The newest segment of each process's redo log that the server knows to be closed.
    pub marks: Vec<u8>,
    /// Its run: another one after each restart.
    pub run: u8,
}

/// A value as L2 holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stored {
    /// Its version.
    pub version: u8,
    /// Its tag epoch, if it has the tag.
    pub epoch: Option<u8>,
}

/// A held L.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The operation whose token it is.
    pub owner: usize,
    /// Its kind of holder.
    pub holder: Holder,
    /// The refreshes that had sent their first claim when it was taken, if its time tells that: a
    /// bit for each operation.
    pub new_to: u8,
}

/// The kind of a lease's holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    /// A reader, to fill D.
    Reader,
    /// A writer, to write behind D.
    Writer,
    /// A writer whose lease an invalidation has marked.
    Marked,
}

/// The names that a connection has read, and whose changes the server pushes to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Tracks {
    /// D.
    pub value: bool,
    /// L.
    pub lease: bool,
    /// T.
    pub tag: bool,
}

/// A name that a push carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Name {
    /// D.
    Value,
    /// L.
    Lease,
    /// T.
    Tag,
    /// All entries of the policy, where the server does not push each name.
    Policy,
}

/// A message on a connection, in the server's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// A push.
    Push(Name),
    /// The reply to an operation's command.
    Reply(usize, Reply),
}

/// A reply of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// D, or that there is none.
    Value(Option<Stored>),
    /// The lease was given.
    Leased,
    /// Another operation has the lease: certainly (`true`) since after this refresh's first claim.
    Busy(bool),
    /// T.
    Tag(Option<u8>),
    /// The commit stored its value, or not.
    Committed(bool),
    /// The command has run.
    Done,
    /// The connection was lost. The command may have run.
    Lost,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// Whether it runs.
    pub alive: bool,
    /// Its lane.
    pub link: Link,
    /// Messages of the lane that the process has not handled.
    pub inbox: Vec<Message>,
    /// Messages of the bus that the process has not handled, in no order with `inbox`.
    pub channel: Vec<Name>,
    /// Whether it is subscribed to the bus, where there is one.
    pub subscribed: bool,
    /// Whether pushes do not arrive.
    pub deaf: bool,
    /// Whether it knows that no push tells it of changes.
    pub degraded: bool,
    /// The key's generation.
    pub key_generation: u8,
    /// The lane's generation.
    pub lane_generation: u8,
    /// The policy's generation.
    pub policy_generation: u8,
    /// The tag's cell.
    pub tag: TagCell,
    /// Invalidations of the tag in this process. They outdate values that were loaded while L2 was
    /// out of reach.
    pub own_tag: u8,
    /// L1.
    pub l1: Option<Entry>,
    /// An unsent invalidation of the key, which goes before any read through the lane: the version
    /// whose write it belongs to.
    pub unsent: Option<u8>,
    /// An unsent invalidation of the tag, likewise.
    pub unsent_tag: Option<u8>,
    /// The newest version whose write or invalidation has returned here.
    pub returned: u8,
    /// Names that it has written and invalidated lately.
    pub log: RedoLog,
}

/// The redo log of a process: in which segment it last noted each name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct RedoLog {
    /// The segment in which operations are noted now, less one.
    pub closed: u8,
    /// The key's segment.
    pub key: Option<u8>,
    /// The tag's segment.
    pub tag: Option<u8>,
    /// The newest segment of which names were dropped.
    pub dropped: u8,
    /// The newest mark that the server has confirmed.
    pub written: u8,
    /// The run of the server that it was last connected to.
    pub run: u8,
}

/// The state of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Link {
    /// Connected.
    Up,
    /// The connection is lost, and the process has not noticed.
    Cut,
    /// No operation can get the connection any more; the generations are still to be bumped.
    Withdrawn,
    /// The generations are bumped, and operations can still get the connection. Only a mutant does
    /// this.
    Bumped,
    /// Not connected, and the whole process knows.
    Down,
    /// About to be connected: the generations are bumped, and no operation can get the connection
    /// yet.
    Ready,
}

/// The tag as a process knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct TagCell {
    /// The number of times that it was made unknown.
    pub generation: u8,
    /// T, as it was read.
    pub known: Option<u8>,
}

/// The generations of a value from before it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Stamp {
    /// The key's.
    pub key: u8,
    /// The lane's.
    pub lane: u8,
    /// The policy's.
    pub policy: u8,
}

/// A value in L1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its version.
    pub version: u8,
    /// Its generations.
    pub stamp: Stamp,
    /// Its tag epoch and the generation of its tag's cell, if it has the tag.
    pub tag: Option<(u8, u8)>,
    /// The process's own count for the tag, if it was loaded while L2 was out of reach.
    pub own_tag: Option<u8>,
    /// Whether its process knew, when it was kept, that no push tells it of changes.
    pub degraded: bool,
    /// Whether it was loaded or written while L2 was out of reach.
    pub without_l2: bool,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Op {
    /// Its kind.
    pub kind: Kind,
    /// The process that it runs in.
    pub process: usize,
    /// Its next step.
    pub step: Step,
    /// Whether it has sent a command, and not taken the reply.
    pub is_asking: bool,
    /// The reply that the process has handed to it.
    pub reply: Option<Reply>,
    /// The generations from before its read or write.
    pub stamp: Stamp,
    /// The generation of the tag's cell from before T was asked for.
    pub tag_seen: u8,
    /// E, from before its load.
    pub epoch: u8,
    /// The value: from L2 while its tag is checked, or loaded, or written.
    pub value: Option<Stored>,
    /// The oldest version that it may be served; `None` before it has begun.
    pub floor: Option<u8>,
    /// Like `floor`, while its process is cut off and knows only of its own writes.
    pub local_floor: u8,
    /// The number of reads and loads that its flight has started.
    pub asked: u8,
    /// The values of `asked` when it last asked L2, started the loader, and began to store.
    pub marks: [u8; 3],
    /// The flight that it has joined, and that flight's `asked` at that time.
    pub joined: Option<(usize, u8)>,
    /// Whether it is in the list of waiters for the lease.
    pub waiting: bool,
    /// Whether it was woken.
    pub woken: bool,
    /// The digest of the value that it may replace in L2.
    pub replaces: Option<Stored>,
    /// The stale value that may be served in place of its load, and its stamp, which outlives a
    /// wait.
    pub stale: Option<(u8, Stamp)>,
    /// Whether a refresh has met a load of another operation that began after its first claim.
    pub other_is_new: bool,
    /// The segment in which its command is noted, until the reply is taken.
    pub noted: Option<u8>,
}

/// The kind of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `get_or_load`, of a value with the tag or without.
    Read {
        /// Whether its value has the tag.
        tagged: bool,
    },
    /// `get_or_load` that finds a stale value, and serves it if the load fails, or is another
    /// process's.
    Reload {
        /// Whether the load fails.
        fails: bool,
    },
    /// `refresh`.
    Refresh,
    /// `write_through`.
    WriteThrough(Outcome),
    /// `write_around`.
    WriteAround,
    /// A program of the process that writes the database and then calls `invalidate`.
    Invalidate,
    /// A program of the process that writes the database and then calls `invalidate_tag`.
    InvalidateTag,
    /// A program of the process that writes the database and then calls `clear`, of a policy
    /// without instant clear.
    Clear,
    /// A program without a larder that writes the database and then D.
    Foreign,
}

impl Kind {
    /// Whether it may end in a load: a read of either kind, or a refresh.
    pub fn loads(self) -> bool {
        matches!(
            self,
            Self::Read { .. } | Self::Reload { .. } | Self::Refresh
        )
    }
}

/// The outcome of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It succeeds.
    Good,
    /// It fails, before or after the database has changed.
    Fails,
    /// It fails, and the database may change later.
    FailsAndWritesLater,
}

/// The next step of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Begin.
    Start,
    /// Wait for the flight that it has joined.
    Joined,
    /// Ask L2 for the value.
    Get,
    /// Ask for T, to check a value of L2.
    AskTag,
    /// Ask for the lease.
    Claim,
    /// Sleep until the lease may be free.
    Sleep,
    /// Read E.
    ReadEpoch,
    /// Read the database.
    Load,
    /// End the load.
    Loaded,
    /// Create T although E was checked in an earlier step. Only a mutant does this.
    PinLate,
    /// Pin the tag.
    Pin,
    /// Store the value.
    Commit,
    /// Read the stored value.
    Confirm,
    /// Ask for the stored value's tag.
    ConfirmTag,
    /// Read the database, while L2 is out of reach.
    LoadWithoutL2,
    /// End that load.
    LoadedWithoutL2,
    /// Ask for the writer's lease.
    Begin,
    /// Write the database.
    WriteDb,
    /// Write the database without a lease, while L2 is out of reach.
    WriteDbWithoutL2,
    /// End that write.
    CommitWithoutL2,
    /// Invalidate the cached value, or the tag.
    Invalidate,
    /// Invalidate the leases of the policy.
    ClearLeases,
    /// Remove the values of the policy.
    ClearValues,
    /// Write D, as a foreign program.
    Set,
    /// Change the database, after the writer has failed.
    WriteLate,
    /// It has ended.
    Done,
    /// Its process has died.
    Dead,
}

/// The faults of each kind that may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Faults {
    /// A held lease runs out.
    pub expiry: u8,
    /// A process dies.
    pub death: u8,
    /// A connection is lost.
    pub loss: u8,
    /// The server evicts a key.
    pub eviction: u8,
    /// An L1 evicts its entry.
    pub forgetting: u8,
    /// Pushes no longer arrive.
    pub deafness: u8,
    /// A process loses its subscription to the bus.
    pub unsubscription: u8,
    /// The server comes back with the data of an earlier moment.
    pub restart: u8,
    /// A process closes a segment of its redo log, and marks it on the server.
    pub mark: u8,
    /// A redo log drops its closed segments.
    pub overflow: u8,
}
