use std::fmt;

/// The fault of the database in a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DatabaseState {
    /// No fault.
    Fast,
    /// Each call takes some time.
    Slow,
    /// No call returns.
    Hanging,
    /// Each call fails; some writes take place all the same.
    Failing,
}

/// The fault of Redis in a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RedisState {
    /// No fault.
    Fast,
    /// Each reply is late.
    Slow,
    /// Redis is there and does not answer (SIGSTOP).
    Hanging,
    /// Connections are cut, and new ones refused.
    Refusing,
    /// Redis is killed, and starts again at the end, empty.
    Killed,
    /// Redis starts again at the beginning, empty.
    Restarted,
    /// Redis has become a replica, which refuses writes.
    ReadOnly,
    /// Redis has no memory left and evicts nothing.
    OutOfMemory,
    /// Redis starts again at the beginning, with another password.
    WrongPassword,
}

/// A combination of faults and of policies with or without stale values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// The fault of Redis.
    pub redis: RedisState,
    /// The fault of the database.
    pub database: DatabaseState,
    /// Whether the policies have `stale_for`.
    pub stale_for: bool,
}

impl DatabaseState {
    /// All states of the database.
    pub const ALL: [Self; 4] = [Self::Fast, Self::Slow, Self::Hanging, Self::Failing];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Slow => "slow",
            Self::Hanging => "hanging",
            Self::Failing => "failing",
        }
    }
}

impl RedisState {
    /// All states of Redis.
    pub const ALL: [Self; 9] = [
        Self::Fast,
        Self::Slow,
        Self::Hanging,
        Self::Refusing,
        Self::Killed,
        Self::Restarted,
        Self::ReadOnly,
        Self::OutOfMemory,
        Self::WrongPassword,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Slow => "slow",
            Self::Hanging => "hanging",
            Self::Refusing => "refusing connections",
            Self::Killed => "killed",
            Self::Restarted => "restarted empty",
            Self::ReadOnly => "read-only",
            Self::OutOfMemory => "out of memory",
            Self::WrongPassword => "restarted with another password",
        }
    }
}

impl Cell {
    /// All cells, in the order of the report.
    pub fn all() -> Vec<Self> {
        let mut cells = Vec::new();
        for redis in RedisState::ALL {
            for database in DatabaseState::ALL {
                cells.extend([false, true].map(|stale_for| Self {
                    redis,
                    database,
                    stale_for,
                }));
            }
        }
        cells
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stale = if self.stale_for { "with" } else { "without" };
        write!(
            f,
            "Redis {}, database {}, {stale} stale_for",
            self.redis.name(),
            self.database.name()
        )
    }
}
