use std::fmt;

/// What the database is like while it is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DatabaseState {
    /// It is well.
    Fast,
    /// Each call takes some time.
    Slow,
    /// No call returns.
    Hanging,
    /// Each call fails; some writes take place all the same.
    Failing,
}

/// What Redis is like while it is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RedisState {
    /// It is well.
    Fast,
    /// Each reply is late.
    Slow,
    /// It is there and does not answer (SIGSTOP).
    Hanging,
    /// Connections are cut, and new ones refused.
    Refusing,
    /// It is killed, and starts again at the end, empty.
    Killed,
    /// It starts again at the beginning, empty.
    Restarted,
    /// It has become a replica, which refuses writes.
    ReadOnly,
    /// It has no memory left and evicts nothing.
    OutOfMemory,
    /// It starts again at the beginning, with another password.
    WrongPassword,
}

/// One combination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// What Redis is like.
    pub redis: RedisState,
    /// What the database is like.
    pub database: DatabaseState,
    /// Whether the rows have `stale_for`.
    pub stale_for: bool,
}

impl DatabaseState {
    /// All of them.
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
    /// All of them.
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
    /// The whole product, in the order of the report.
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
