//! The state at one moment: the database, Redis, the processes with their connections, and the
//! operations under way.

/// The whole state. Versions count the writes of the database; the newest is what everybody should
/// read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The version that the database holds.
    pub db: u8,
    /// The shared server.
    pub redis: Redis,
    /// The processes with a larder.
    pub processes: Vec<Process>,
    /// The operations of the processes, and of programs beside them.
    pub ops: Vec<Op>,
    /// How many faults of each kind may still happen.
    pub faults: Faults,
    /// The newest version whose write or invalidation has returned, so that it binds everybody.
    pub returned: u8,
    /// Whether the last lease ended by its time, or by eviction, and not by a script.
    pub expired: bool,
    /// Whether a reader was served an older value than it may be.
    pub served_old: bool,
    /// Whether a reader was served a stale value that its process knew to be out of date.
    pub served_outdated: bool,
}

/// The server: D, L, E and T of one key and one tag, and the names that each process tracks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Redis {
    /// D.
    pub value: Option<Stored>,
    /// L.
    pub lease: Option<Lease>,
    /// E; lost if zero.
    pub order: u8,
    /// The time of the server's clock, which E never exceeded.
    pub time: u8,
    /// T.
    pub tag: Option<u8>,
    /// The names that it tells each process of.
    pub tracks: Vec<Tracks>,
}

/// A value as L2 holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stored {
    /// The database's version that it is.
    pub version: u8,
    /// Its order number, if it has the tag.
    pub order: Option<u8>,
}

/// The holder of L.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The operation whose token it is.
    pub owner: usize,
    /// Its purpose.
    pub holder: Holder,
}

/// The purpose of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    /// To fill D.
    Reader,
    /// To write behind D.
    Writer,
    /// To write behind D, after an invalidation.
    Marked,
}

/// The names that a connection has read, and whose changes the server tells it.
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
    /// The whole row, where the server does not tell of each.
    Row,
}

/// A message of a connection. A connection brings them in the server's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// A push.
    Push(Name),
    /// An answer to what an operation asked.
    Reply(usize, Reply),
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// D, or that there is none.
    Value(Option<Stored>),
    /// The lease was given.
    Leased,
    /// Somebody else has it.
    Busy,
    /// T.
    Tag(Option<u8>),
    /// The commit stored its value, or not.
    Committed(bool),
    /// It is done.
    Done,
    /// The connection was lost; what was asked may have been done.
    Lost,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// Whether it runs.
    pub alive: bool,
    /// Its lane.
    pub link: Link,
    /// The messages of the lane that are not handled yet.
    pub inbox: Vec<Message>,
    /// The messages of the bus; in no order with `inbox`.
    pub channel: Vec<Name>,
    /// Whether it is subscribed to the bus, where there is one.
    pub subscribed: bool,
    /// Whether pushes do not arrive.
    pub deaf: bool,
    /// Whether it knows that nothing tells it of changes.
    pub degraded: bool,
    /// The key's cell.
    pub key_cell: u8,
    /// The lane's cell.
    pub lane_cell: u8,
    /// The row's cell.
    pub row_cell: u8,
    /// The tag's cell.
    pub tag: TagCell,
    /// The number of invalidations of the tag here, which judges loads while L2 is out of reach.
    pub own_tag: u8,
    /// L1.
    pub l1: Option<Entry>,
    /// The key is to be invalidated before anything is read through the lane; with the version that
    /// this is for.
    pub pending: Option<u8>,
    /// The tag is.
    pub pending_tag: Option<u8>,
    /// The newest version whose write or invalidation has returned here.
    pub returned: u8,
}

/// The state of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Link {
    /// Connected.
    Up,
    /// The server is gone, and the process has not noticed.
    Cut,
    /// Nobody can get the connection any more; the cells are still to be advanced.
    Withdrawn,
    /// The cells are advanced, and the connection can still be got. Only a mutant does so.
    Advanced,
    /// Not connected, and everybody in the process knows.
    Down,
}

/// The process's knowledge of the tag: `generation` counts how often it was made unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct TagCell {
    /// How often it was made unknown.
    pub generation: u8,
    /// T, as it was read.
    pub known: Option<u8>,
}

/// The cells of a value before it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Stamp {
    /// The key's.
    pub key: u8,
    /// The lane's.
    pub lane: u8,
    /// The row's.
    pub row: u8,
}

/// A value in L1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The database's version that it is.
    pub version: u8,
    /// Its cells.
    pub stamp: Stamp,
    /// Its order number and the generation of its tag's cell, if it has the tag.
    pub tag: Option<(u8, u8)>,
    /// The process's own count for the tag, if it was loaded while L2 was out of reach.
    pub own_tag: Option<u8>,
    /// Whether it lives for the short time only.
    pub degraded: bool,
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
    /// Whether it has asked something, and not taken the answer.
    pub is_asking: bool,
    /// The answer that it was given.
    pub reply: Option<Reply>,
    /// The cells before what it reads or writes.
    pub stamp: Stamp,
    /// The generation of the tag's cell before T was asked for.
    pub tag_seen: u8,
    /// E, from before it loads or writes.
    pub order: u8,
    /// The value that L2 has and the tag has not been asked for, or what was loaded or written.
    pub value: Option<Stored>,
    /// No older version may be served to it; none before it has begun.
    pub floor: Option<u8>,
    /// The floor while its process is cut off, and hears of its own writes only.
    pub floor_alone: u8,
    /// The number of things that its flight has asked for.
    pub asked: u8,
    /// The moments at which it asked L2, the loader, and for the value to be stored.
    pub marks: [u8; 3],
    /// The flight that it has joined, and when.
    pub joined: Option<(usize, u8)>,
    /// Whether it is in the list of those who wait for the lease.
    pub waiting: bool,
    /// Whether it was woken.
    pub woken: bool,
    /// The digest of what it may replace in L2.
    pub replaces: Option<Stored>,
    /// The stale value that may be served in place of its load, and its stamp, which outlives a
    /// wait.
    pub stale: Option<(u8, Stamp)>,
}

impl Op {
    /// An operation that has not begun.
    pub(crate) fn new(process: usize, kind: Kind) -> Self {
        Self {
            kind,
            process,
            step: Step::Start,
            is_asking: false,
            reply: None,
            stamp: Stamp::default(),
            tag_seen: 0,
            order: 0,
            value: None,
            floor: None,
            floor_alone: 0,
            asked: 0,
            marks: [0; 3],
            joined: None,
            waiting: false,
            woken: false,
            replaces: None,
            stale: None,
        }
    }
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
    /// `write_through`.
    WriteThrough(Outcome),
    /// `write_around`.
    WriteAround,
    /// A program of the process that writes the database and then calls `invalidate`.
    Invalidate,
    /// A program of the process that writes the database and then calls `invalidate_tag`.
    InvalidateTag,
    /// A program of the process that writes the database and then clears a policy of plain values.
    Clear,
    /// A foreign program that writes the database and then D.
    Foreign,
}

impl Kind {
    /// Whether it is a read of either kind.
    pub fn is_read(self) -> bool {
        matches!(self, Self::Read { .. } | Self::Reload { .. })
    }
}

/// The outcome of a writer.
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
    /// Nothing has happened yet.
    Start,
    /// It waits for the flight that it has joined.
    Joined,
    /// Ask L2 for the value.
    Get,
    /// Ask for T, to judge a value of L2.
    AskTag,
    /// Ask for the lease.
    Claim,
    /// Sleep until the lease may be free.
    Sleep,
    /// Ask for E.
    Order,
    /// Read the database.
    Load,
    /// The load ends.
    Loaded,
    /// Create T where E has just been seen unchanged. Only a mutant does so.
    HoldLate,
    /// Hold the tag.
    Hold,
    /// Store the value.
    Commit,
    /// Read what was stored.
    Confirm,
    /// Ask for its tag.
    ConfirmTag,
    /// Read the database, while L2 is out of reach.
    LoadAlone,
    /// That load ends.
    LoadedAlone,
    /// Ask for the writer's lease.
    Begin,
    /// Write the database.
    WriteDb,
    /// Write the database without a lease.
    WriteDbAlone,
    /// That write ends.
    CommitAlone,
    /// Remove what is cached.
    Withdraw,
    /// End the leases of the row.
    ClearLeases,
    /// Remove the values of the row.
    ClearValues,
    /// Write D, as another program.
    Set,
    /// The database changes after the writer has failed.
    WriteLate,
    /// It has ended.
    Done,
    /// Its process has died.
    Dead,
}

/// How many faults of each kind may still happen.
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
    /// Pushes stop to arrive.
    pub deafness: u8,
    /// A subscription to the bus is lost.
    pub unsubscription: u8,
}
