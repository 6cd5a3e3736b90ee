use serde::{Deserialize, Serialize};

/// The kind of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Hits in L1; the part is the number of keys.
    L1,
    /// Hits in L2; the part is the length of the long text in each value.
    L2,
    /// Many callers of a cold key; the part is the number of processes.
    Storm,
    /// Writes of the database and all levels.
    Write,
    /// From an invalidation to the last process that served the old value; the part is the number
    /// of other processes.
    Fanout,
    /// Heap and resident memory of an entry.
    Memory,
    /// Hits among all reads, in an L1 that is too small.
    Ratio,
    /// Hits in L1 with ever more keys; the part is their number.
    Growth,
    /// Allocations of a hit.
    Allocations,
    /// Hits and nothing else, to have their instructions counted; the part is their number.
    Hits,
}

/// A question that all subjects are asked, and one section of the report.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// The kind of its measurement.
    pub kind: Kind,
    /// Its name on the command line and in the names of files.
    pub id: &'static str,
    /// The section's heading.
    pub title: &'static str,
    /// The exact measurement, in words.
    pub about: &'static str,
    /// The sizes that it is asked for; each is a job of its own.
    pub parts: &'static [Part],
    /// The numbers that are measured for each part.
    pub cells: &'static [Cell],
    /// The number of turns of each subject.
    pub rounds: u32,
    /// Whether each part is a table of its own.
    pub split: bool,
}

/// One size of a question.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The number that the job is given.
    pub number: u64,
    /// Its name in the tables.
    pub name: &'static str,
    /// Whether a quick run has it too.
    pub quick: bool,
}

/// One measured number.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// Its name in the job's answers.
    pub id: &'static str,
    /// Its name in the tables.
    pub name: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// The number of digits behind the point that mean something.
    pub digits: usize,
}

const fn part(number: u64, name: &'static str, quick: bool) -> Part {
    Part {
        number,
        name,
        quick,
    }
}

const fn cell(id: &'static str, name: &'static str, unit: &'static str, digits: usize) -> Cell {
    Cell {
        id,
        name,
        unit,
        digits,
    }
}

impl Question {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 9] = [
        Self {
            kind: Kind::L1,
            id: "l1",
            title: "A hit in L1",
            about: "Every key is there. One task reads one key after the other; then one \
                    task for each core does. Each cache shares or copies the value as it \
                    usually does. Caches whose keys are texts are given the text; larder is \
                    given the number and makes the text itself. An async cache is asked \
                    through one more `async fn`, and the number is fetched from a table: \
                    some 10 ns, which [`ratios`](guides/l1-stores.md#measured) leaves out, \
                    where larder stands beside its stores alone. Zipf's exponent is 0.99.",
            parts: &[
                part(10_000, "10 k keys", true),
                part(1_000_000, "1 M keys", false),
            ],
            cells: &[
                cell("uniform", "uniform, 1 task", "ns", 0),
                cell("zipf", "Zipf, 1 task", "ns", 0),
                cell("uniform_all", "uniform, all cores", "M/s", 2),
                cell("zipf_all", "Zipf, all cores", "M/s", 2),
            ],
            rounds: 3,
            split: true,
        },
        Self {
            kind: Kind::L2,
            id: "l2",
            title: "A hit in L2",
            about: "The process keeps nothing: each cache is set up with Redis as its only \
                    level, and the raw clients do a `GET` and decode the JSON. Latency is \
                    that of one task, throughput that of many; keys are uniform.",
            parts: &[part(210, "300 B", true), part(30 << 10, "30 KiB", true)],
            cells: &[
                cell("p50", "1 task, median", "µs", 1),
                cell("p99", "1 task, 99 %", "µs", 1),
                cell("tasks_64", "64 tasks", "k/s", 1),
                cell("tasks_256", "256 tasks", "k/s", 1),
            ],
            rounds: 3,
            split: true,
        },
        Self {
            kind: Kind::Storm,
            id: "storm",
            title: "A storm of misses",
            about: "100 tasks in each process ask for one cold key at the same time; the \
                    database takes 50 ms. *Loads* are all reads of the database. *Served* is \
                    the time from the end of the first load until the last of all tasks has \
                    the value. Each cache has all the levels that it has.",
            parts: &[part(1, "1 process", true), part(4, "4 processes", true)],
            cells: &[
                cell("loads", "loads", "", 0),
                cell("served", "served", "ms", 2),
            ],
            rounds: 3,
            split: false,
        },
        Self {
            kind: Kind::Write,
            id: "write",
            title: "A write through all levels",
            about: "One task writes one key after the other. The database takes no time, so \
                    this is the price of keeping the cache in step. larder's `write_through` \
                    takes a lease, commits only if nobody interfered, and has the server \
                    tell all other processes. The others have no such call: they write the \
                    database, then the cache.",
            parts: &[part(0, "", true)],
            cells: &[cell("p50", "median", "µs", 1), cell("p99", "99 %", "µs", 1)],
            rounds: 3,
            split: false,
        },
        Self {
            kind: Kind::Fanout,
            id: "fanout",
            title: "An invalidation reaches other processes",
            about: "A key is in the L1 of every other process, and each of them reads it \
                    every 0.1 ms. The time runs from the call of `invalidate` in one process \
                    until the last of the others no longer serves the old value. On a \
                    machine with few cores that is mostly the time until each of them has \
                    had its turn. Medians of all trials.",
            parts: &[
                part(1, "1 process", true),
                part(4, "4 processes", true),
                part(16, "16 processes", true),
            ],
            cells: &[cell("gone", "until gone", "ms", 2)],
            rounds: 3,
            split: false,
        },
        Self {
            kind: Kind::Memory,
            id: "memory",
            title: "Memory of an entry",
            about: "100,000 entries of about 300 bytes in L1. *Heap* is what was allocated \
                    and not freed, counted by the allocator. *Resident* is by how much the \
                    process grew (`VmRSS`). Both contain key and value.",
            parts: &[part(100_000, "", true)],
            cells: &[
                cell("heap", "heap", "bytes", 0),
                cell("resident", "resident", "bytes", 0),
            ],
            rounds: 1,
            split: false,
        },
        Self {
            kind: Kind::Ratio,
            id: "ratio",
            title: "Hit ratio",
            about: "100,000 keys, room for 10,000 entries. Each miss is followed by an \
                    insertion, and the first third of the reads does not count. *Scans* are \
                    Zipf's reads, every fourth part of which is a scan of 10,000 keys that \
                    are asked for once. *Web* is the shape that Breslau, Cao, Fan, Phillips \
                    and Shenker found in the traces of web proxies (*Web Caching and \
                    Zipf-like Distributions*, INFOCOM 1999): independent reads, Zipf-like, \
                    with an exponent of its own for each trace. Of the exponents that have \
                    been reported, 0.60 to 1.03 (Krashakov, Teslyuk and Shchur, \
                    arXiv:cs/0404010), 0.77 is taken.",
            parts: &[part(10_000, "", true)],
            cells: &[
                cell("zipf", "Zipf 0.99", "%", 1),
                cell("scan", "Zipf and scans", "%", 1),
                cell("web", "web", "%", 1),
            ],
            rounds: 1,
            split: false,
        },
        Self {
            kind: Kind::Growth,
            id: "growth",
            title: "A hit in L1 against the number of keys",
            about: "One task, Zipf 0.99, values of about 100 bytes.",
            parts: &[
                part(1_000, "1 k", true),
                part(10_000, "10 k", true),
                part(100_000, "100 k", true),
                part(1_000_000, "1 M", false),
                part(10_000_000, "10 M", false),
            ],
            cells: &[cell("hit", "hit", "ns", 0)],
            rounds: 1,
            split: false,
        },
        Self {
            kind: Kind::Allocations,
            id: "work",
            title: "Work of a hit in L1",
            about: "Allocations are counted over 10,000 hits. Instructions are what \
                    `valgrind --tool=callgrind` counts in the same hits.",
            parts: &[part(10_000, "", true)],
            cells: &[
                cell("allocations", "allocations", "", 2),
                cell("bytes", "allocated", "bytes", 0),
                cell("instructions", "instructions", "", 0),
            ],
            rounds: 1,
            split: false,
        },
    ];

    /// The parts of this run.
    pub fn parts(&self, quick: bool) -> impl Iterator<Item = &'static Part> {
        self.parts.iter().filter(move |part| part.quick || !quick)
    }

    /// The rounds of this run.
    pub fn rounds(&self, quick: bool) -> u32 {
        if quick { 1 } else { self.rounds }
    }
}
