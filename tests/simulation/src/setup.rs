//! The choices that a seed makes for a whole history.

use std::{fmt, sync::OnceLock};

use larder::{L1Store, TtlTable};
use larder_chaos::{PolicyName, Problem};

use crate::{
    kinds::Kind,
    names::POLICIES,
    store::{Channel, Shape},
};

/// The choices for one history. Few policies, keys and kinds of faults at a time, and others in the
/// next history, so that each combination is tried hard.
pub(crate) struct Setup {
    pub(crate) policies: Vec<PolicyName>,
    /// The number of each policy's keys.
    pub(crate) keys: usize,
    pub(crate) shape: Shape,
    /// The options of its policies, by their place in the list.
    variant: usize,
    pub(crate) table: TtlTable,
    pub(crate) faults: Vec<Kind>,
    /// The longest time between two faults, in milliseconds.
    pub(crate) calm: u64,
    /// The longest part of a question to the database, in milliseconds.
    pub(crate) database: u64,
    /// Of sixteen operations, so many write.
    pub(crate) writes: u8,
}

/// Processes of a history.
pub(crate) const NODES: u16 = 3;
/// Tasks of a process that call its caches.
pub(crate) const CLIENTS: u16 = 3;
/// Operations of each task.
pub(crate) const OPERATIONS: usize = 16;

impl Setup {
    pub(crate) fn choose() -> Result<Self, Problem> {
        let channels = [
            Channel::Pushes,
            Channel::Pushes,
            Channel::Scattered,
            Channel::Bus,
        ];
        let channel = fastrand::choice(channels).unwrap_or(Channel::Pushes);
        let (mut policies, mut faults) = (POLICIES.to_vec(), Kind::TOGETHER.to_vec());
        if channel == Channel::Bus {
            // No message tells of a foreign program's write, nor that the server was emptied.
            policies.retain(|policy| !matches!(policy, PolicyName::Foreign | PolicyName::Guest));
            faults.retain(|fault| *fault != Kind::Flush);
        }
        fastrand::shuffle(&mut policies);
        policies.truncate(fastrand::usize(1..=3));
        fastrand::shuffle(&mut faults);
        faults.truncate(fastrand::usize(0..=4));
        if fastrand::u8(0..8) == 0 {
            faults = vec![Kind::Death, Kind::Value];
        }
        let variant = fastrand::usize(0..VARIANTS.len());
        Ok(Self {
            policies,
            keys: fastrand::usize(1..=3),
            shape: Shape {
                lanes: fastrand::u16(1..=2),
                channel,
            },
            table: tables()?[variant].clone(),
            variant,
            faults,
            calm: fastrand::choice([8, 40, 200]).unwrap_or(40),
            database: fastrand::choice([2, 12, 12, 150]).unwrap_or(12),
            writes: fastrand::u8(3..10),
        })
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("policies", &self.policies)
            .field("keys", &self.keys)
            .field("shape", &self.shape)
            .field("options", &VARIANTS[self.variant])
            .field("faults", &self.faults)
            .field("calm", &self.calm)
            .field("database", &self.database)
            .field("writes", &self.writes)
            .finish_non_exhaustive()
    }
}

/// Either map of L1.
pub(crate) fn l1_store() -> L1Store {
    match fastrand::bool() {
        true => L1Store::Moka,
        false => L1Store::Quick,
    }
}

/// Options of every policy, and of that whose values are soon stale.
const VARIANTS: [(&str, &str); 4] = [
    ("max_wait = '5s'", "soft_timeout = '3ms'"),
    ("max_wait = '5s'\nrefresh_ahead = '50%'", ""),
    ("max_wait = '40ms'", ""),
    ("max_wait = '5s'\nmax_loads = 1", "soft_timeout = '20ms'"),
];

fn tables() -> Result<&'static [TtlTable], Problem> {
    static TABLES: OnceLock<Vec<TtlTable>> = OnceLock::new();
    if let Some(tables) = TABLES.get() {
        return Ok(tables);
    }
    let tables = VARIANTS.iter().map(|(all, stale)| table(all, stale));
    let tables = tables.collect::<Result<_, _>>()?;
    Ok(TABLES.get_or_init(|| tables))
}

/// Lifetimes are longer than a history, so that nothing old goes unseen, but for values that are
/// soon stale.
fn table(all: &str, stale: &str) -> Result<TtlTable, Problem> {
    let mut text = "builtin = false\n".to_owned();
    for policy in POLICIES {
        let more = match policy {
            PolicyName::Shared | PolicyName::Grouped | PolicyName::Guest => "levels = 'l2'",
            PolicyName::Instant => "instant_clear = true",
            _ => "",
        };
        let (name, is_stale) = (policy.name(), policy == PolicyName::Stale);
        let (life, more) = match is_stale {
            true => ("ttl = '30ms'\nstale_for = '1h'", stale),
            false => ("ttl = '1h'", more),
        };
        text += &format!("[{name}]\n{life}\nlease = '100ms'\n{all}\n{more}\n");
    }
    Ok(TtlTable::from_toml(&text)?)
}
