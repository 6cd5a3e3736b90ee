//! The checked configurations: each small enough for a search of all states, and together all of
//! the protocol.

use crate::{
    Protocol,
    state::{Faults, Kind, Outcome},
};

const READ: Kind = Kind::Read { tagged: false };
const TAGGED: Kind = Kind::Read { tagged: true };
const WRITE: Kind = Kind::WriteThrough(Outcome::Good);
const RELOAD: Kind = Kind::Reload { fails: false };
const REFRESH: Kind = Kind::Refresh;
const FAILED_RELOAD: Kind = Kind::Reload { fails: true };
const FAIL: Kind = Kind::WriteThrough(Outcome::Fails);

const NONE: Faults = Faults {
    expiry: 0,
    death: 0,
    loss: 0,
    eviction: 0,
    forgetting: 0,
    deafness: 0,
    unsubscription: 0,
    restart: 0,
    mark: 0,
    overflow: 0,
};
const EXPIRY: Faults = Faults { expiry: 1, ..NONE };
const DEATH: Faults = Faults { death: 1, ..NONE };
const LOSS: Faults = Faults { loss: 1, ..NONE };
const EVICTION: Faults = Faults {
    eviction: 1,
    ..NONE
};
const FORGETTING: Faults = Faults {
    forgetting: 1,
    ..NONE
};
const DEAFNESS: Faults = Faults {
    deafness: 1,
    ..NONE
};
const UNSUBSCRIPTION: Faults = Faults {
    unsubscription: 1,
    ..NONE
};
const DATA_LOSS: Faults = Faults { restart: 1, ..NONE };

fn of(name: &'static str, ops: &[(usize, Kind)], faults: Faults) -> Protocol {
    Protocol {
        name,
        ops: ops.to_vec(),
        faults,
        ..Protocol::default()
    }
}

fn cached(protocol: Protocol) -> Protocol {
    Protocol {
        cached: Some(false),
        ..protocol
    }
}

fn tagged(protocol: Protocol) -> Protocol {
    Protocol {
        cached: Some(true),
        ..protocol
    }
}

fn on_bus(protocol: Protocol) -> Protocol {
    Protocol {
        bus: true,
        ..protocol
    }
}

/// Configurations with at most one fault, in which every promise of the protocol holds.
pub fn sound() -> Vec<Protocol> {
    let mut sound = faithful();
    sound.extend(forgetful());
    // A lane may also track what is not there.
    let eager = ["readers and a writer", "a foreign writer"];
    let eager = faithful().into_iter().filter(|it| eager.contains(&it.name));
    sound.extend(eager.map(|it| Protocol {
        tracks_absences: true,
        ..it
    }));
    sound
}

/// Configurations whose server keeps what it was told.
fn faithful() -> Vec<Protocol> {
    vec![
        of(
            "readers and an invalidation",
            &[(0, READ), (0, READ), (1, READ), (1, Kind::Invalidate)],
            NONE,
        ),
        of(
            "readers and an invalidation of their own",
            &[(0, READ), (0, READ), (0, Kind::Invalidate)],
            NONE,
        ),
        of(
            "a reader and two invalidations",
            &[
                (0, READ),
                (1, READ),
                (0, Kind::Invalidate),
                (1, Kind::Invalidate),
            ],
            NONE,
        ),
        of(
            "readers and a writer",
            &[(0, READ), (1, READ), (1, WRITE)],
            NONE,
        ),
        of(
            "readers and a writer, an expired lease",
            &[(0, READ), (1, READ), (1, WRITE)],
            EXPIRY,
        ),
        of(
            "readers and a writer, a death",
            &[(0, READ), (1, READ), (1, WRITE)],
            DEATH,
        ),
        of(
            "two writers and a reader",
            &[(0, WRITE), (1, WRITE), (0, READ)],
            NONE,
        ),
        of(
            "two writers and a reader, a death",
            &[(0, WRITE), (1, WRITE), (0, READ)],
            DEATH,
        ),
        of(
            "a writer and an invalidation",
            &[(0, WRITE), (1, Kind::Invalidate), (1, READ)],
            NONE,
        ),
        Protocol {
            // A process that invalidates by hand and dies before leaves the old value: `excepted`.
            immortal: Some(1),
            ..of(
                "a writer that dies and an invalidation",
                &[(0, WRITE), (1, Kind::Invalidate), (1, READ)],
                DEATH,
            )
        },
        of(
            "a write-around",
            &[(0, READ), (1, READ), (1, Kind::WriteAround)],
            EXPIRY,
        ),
        of("a failing writer", &[(0, READ), (1, READ), (1, FAIL)], NONE),
        of(
            "a failing writer, an expired lease",
            &[(0, READ), (1, FAIL)],
            EXPIRY,
        ),
        of(
            "a foreign writer",
            &[(0, READ), (1, READ), (0, Kind::Foreign)],
            NONE,
        ),
        cached(of(
            "cached, and a writer elsewhere",
            &[(0, READ), (0, READ), (1, WRITE)],
            LOSS,
        )),
        cached(of(
            "cached, and a lost connection",
            &[(0, READ), (1, Kind::Invalidate)],
            LOSS,
        )),
        cached(of(
            "cached, and a writer that is cut off",
            &[(0, WRITE), (0, READ), (1, READ)],
            LOSS,
        )),
        cached(of(
            "cached, and an eviction",
            &[(0, READ), (1, WRITE), (1, READ)],
            EVICTION,
        )),
        cached(of(
            "cached, and a deaf connection",
            &[(0, READ), (1, WRITE)],
            DEAFNESS,
        )),
        cached(of(
            "cached, and a clear",
            &[(0, READ), (1, READ), (1, Kind::Clear)],
            NONE,
        )),
        of(
            "a clear during loads",
            &[(0, READ), (1, READ), (1, Kind::Clear)],
            NONE,
        ),
        of(
            "a clear and a writer",
            &[(0, READ), (0, WRITE), (1, Kind::Clear)],
            NONE,
        ),
        tagged(of(
            "tagged, and its tag is removed",
            &[(0, TAGGED), (1, TAGGED), (1, Kind::InvalidateTag)],
            NONE,
        )),
        tagged(of(
            "tagged, and an eviction",
            &[(0, TAGGED), (1, Kind::InvalidateTag), (1, TAGGED)],
            EVICTION,
        )),
        tagged(of(
            "tagged, and a lost connection",
            &[(0, TAGGED), (0, TAGGED), (1, Kind::InvalidateTag)],
            LOSS,
        )),
        tagged(of(
            "tagged, and its remover is cut off",
            &[(0, TAGGED), (0, Kind::InvalidateTag)],
            LOSS,
        )),
        tagged(of(
            "tagged, and L1 lets go",
            &[(0, TAGGED), (0, TAGGED), (1, Kind::InvalidateTag)],
            FORGETTING,
        )),
        of(
            "a tag is removed during loads",
            &[(0, TAGGED), (0, TAGGED), (1, Kind::InvalidateTag)],
            NONE,
        ),
        of(
            "a tag is removed during loads elsewhere",
            &[(0, TAGGED), (1, TAGGED), (1, Kind::InvalidateTag)],
            NONE,
        ),
        of(
            "a tag is removed during a load, an eviction",
            &[(0, TAGGED), (1, Kind::InvalidateTag)],
            EVICTION,
        ),
        of(
            "a tag is removed twice",
            &[
                (0, TAGGED),
                (1, Kind::InvalidateTag),
                (1, Kind::InvalidateTag),
                (0, TAGGED),
            ],
            NONE,
        ),
        cached(of(
            "stale, and invalidations",
            &[
                (0, FAILED_RELOAD),
                (0, Kind::Invalidate),
                (1, Kind::Invalidate),
            ],
            NONE,
        )),
        cached(of(
            "stale, and a reader",
            &[(0, FAILED_RELOAD), (0, READ), (1, Kind::Invalidate)],
            NONE,
        )),
        cached(of(
            "stale, and two reloads and a writer",
            &[(0, RELOAD), (1, RELOAD), (1, WRITE)],
            NONE,
        )),
        cached(of(
            "stale, and a reload and an expiry",
            &[(0, RELOAD), (1, WRITE)],
            EVICTION,
        )),
        cached(of(
            "stale, and a lost connection",
            &[(0, FAILED_RELOAD), (1, WRITE)],
            LOSS,
        )),
        cached(of(
            "stale, and a foreign writer",
            &[(0, RELOAD), (1, RELOAD), (0, Kind::Foreign)],
            NONE,
        )),
        of(
            "a refresh, and a load from before it",
            &[(0, READ), (1, REFRESH), (1, Kind::Invalidate)],
            NONE,
        ),
        of(
            "a refresh, and a load from before it, an expired lease",
            &[(0, READ), (1, REFRESH), (1, Kind::Invalidate)],
            EXPIRY,
        ),
        cached(of(
            "refreshes in one process",
            &[(0, REFRESH), (0, REFRESH), (1, Kind::Invalidate)],
            NONE,
        )),
        cached(of(
            "refreshes in two processes",
            &[(0, REFRESH), (1, REFRESH), (1, Kind::Invalidate)],
            NONE,
        )),
        cached(of(
            "a refresh and a writer, a lost connection",
            &[(0, REFRESH), (1, WRITE)],
            LOSS,
        )),
        cached(of(
            "a refresh and a reload",
            &[(0, REFRESH), (1, RELOAD), (1, Kind::Invalidate)],
            NONE,
        )),
        on_bus(cached(of(
            "bus: a refresh",
            &[(0, REFRESH), (1, READ), (1, Kind::Invalidate)],
            NONE,
        ))),
        on_bus(cached(of(
            "bus: stale",
            &[(0, FAILED_RELOAD), (1, RELOAD), (1, Kind::Invalidate)],
            NONE,
        ))),
        on_bus(cached(of(
            "bus: a writer",
            &[(0, READ), (1, READ), (1, WRITE)],
            NONE,
        ))),
        on_bus(cached(of(
            "bus: a lost subscription",
            &[(0, READ), (1, WRITE)],
            UNSUBSCRIPTION,
        ))),
        on_bus(of(
            "bus: an invalidation",
            &[(0, READ), (0, READ), (0, Kind::Invalidate)],
            NONE,
        )),
        on_bus(tagged(of(
            "bus: a tag is removed here",
            &[(0, TAGGED), (0, Kind::InvalidateTag)],
            FORGETTING,
        ))),
        on_bus(cached(of(
            "bus: a clear",
            &[(0, READ), (1, READ), (1, Kind::Clear)],
            NONE,
        ))),
        on_bus(tagged(of(
            "bus: a tag is removed",
            &[(0, TAGGED), (0, TAGGED), (1, Kind::InvalidateTag)],
            NONE,
        ))),
        on_bus(tagged(of(
            "bus: L1 lets go",
            &[(0, TAGGED), (0, TAGGED), (1, Kind::InvalidateTag)],
            FORGETTING,
        ))),
        Protocol {
            blind: true,
            ..cached(of(
                "neither tracking nor bus",
                &[(0, READ), (1, WRITE)],
                NONE,
            ))
        },
        Protocol {
            without_l2: true,
            ..of(
                "no L2: two writers",
                &[(0, READ), (0, WRITE), (0, WRITE)],
                NONE,
            )
        },
        Protocol {
            without_l2: true,
            ..of("no L2: readers", &[(0, READ), (0, READ), (0, WRITE)], NONE)
        },
    ]
}

/// Configurations in which the server comes back with the data of an earlier moment.
fn forgetful() -> Vec<Protocol> {
    let marked = Faults {
        mark: 1,
        ..DATA_LOSS
    };
    vec![
        cached(of(
            "data loss: an invalidation",
            &[(0, Kind::Invalidate), (0, READ)],
            marked,
        )),
        cached(of(
            "data loss: an invalidation, and a reader elsewhere",
            &[(0, Kind::Invalidate), (1, READ)],
            DATA_LOSS,
        )),
        of(
            "data loss: an invalidation during a load",
            &[(1, READ), (0, Kind::Invalidate)],
            DATA_LOSS,
        ),
        cached(of(
            "data loss: twice",
            &[(0, Kind::Invalidate)],
            Faults {
                restart: 2,
                ..DATA_LOSS
            },
        )),
        cached(of(
            "data loss: a log that is full",
            &[(0, Kind::Invalidate)],
            Faults {
                overflow: 1,
                ..marked
            },
        )),
        cached(of(
            "data loss: a writer",
            &[(0, WRITE), (1, READ)],
            DATA_LOSS,
        )),
        cached(of(
            "data loss: two writers",
            &[(0, WRITE), (1, WRITE)],
            DATA_LOSS,
        )),
        cached(of(
            "data loss: a writer that is cut off",
            &[(0, WRITE)],
            Faults { loss: 1, ..marked },
        )),
        cached(of(
            "data loss: a clear",
            &[(0, Kind::Clear), (0, READ)],
            DATA_LOSS,
        )),
        cached(of(
            "data loss: a refresh",
            &[(0, REFRESH), (0, Kind::Invalidate)],
            DATA_LOSS,
        )),
        tagged(of(
            "data loss: a tag is removed",
            &[(0, Kind::InvalidateTag), (1, TAGGED)],
            DATA_LOSS,
        )),
        on_bus(cached(of(
            "bus: data loss",
            &[(0, Kind::Invalidate), (1, READ)],
            DATA_LOSS,
        ))),
    ]
}

/// Configurations that docs/protocol.md excepts from its promises: an old value stays in each.
pub fn excepted() -> Vec<Protocol> {
    vec![
        cached(of(
            "a process that invalidates by hand dies before",
            &[(0, Kind::Invalidate), (1, READ)],
            DEATH,
        )),
        of(
            "a lease runs out under a writer that dies",
            &[(0, WRITE), (1, READ)],
            Faults { expiry: 1, ..DEATH },
        ),
        of(
            "a failed write lands after its lease has ended",
            &[
                (0, Kind::WriteThrough(Outcome::FailsAndWritesLater)),
                (1, READ),
            ],
            NONE,
        ),
        cached(of(
            "a process that is cut off dies with an unsent invalidation",
            &[(0, WRITE), (1, READ)],
            Faults { loss: 1, ..DEATH },
        )),
    ]
}
