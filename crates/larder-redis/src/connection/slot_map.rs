use std::collections::HashMap;

use deadpool_redis::redis::Value;

use crate::command::slots::SLOTS;

/// A map from hash slots to the masters of a cluster.
///
/// Source: [`CLUSTER SLOTS`](https://redis.io/docs/latest/commands/cluster-slots/).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SlotMap {
    /// The host and port of each master; none if the server is no cluster.
    masters: Vec<(String, u16)>,
    /// In the order of the slots, and without a gap.
    ranges: Vec<Range>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    master: usize,
}

impl SlotMap {
    /// The map of one server that is no cluster, and so has every slot.
    pub(crate) fn standalone() -> Self {
        Self {
            masters: Vec::new(),
            ranges: vec![Range {
                first: 0,
                last: SLOTS - 1,
                master: 0,
            }],
        }
    }

    /// Reads the reply of a server that was asked at `host`. `None` if a slot has no master, or if
    /// it is no such reply.
    pub(crate) fn parse(slots: &Value, host: &str) -> Option<Self> {
        let Value::Array(rows) = slots else {
            return None;
        };
        let mut rows = rows.iter().map(row).collect::<Option<Vec<_>>>()?;
        rows.sort_unstable();
        let (mut masters, mut numbers) = (Vec::new(), HashMap::new());
        let mut ranges: Vec<Range> = Vec::new();
        for (first, last, said, port) in rows {
            // A server that does not know its own name, or is told not to say it, is where we asked
            // it.
            let place = (if said.is_empty() { host } else { said }.to_owned(), port);
            let master = *numbers.entry(place.clone()).or_insert_with(|| {
                masters.push(place);
                masters.len() - 1
            });
            if first != ranges.last().map_or(0, |range| range.last + 1)
                || !(first..SLOTS).contains(&last)
            {
                return None;
            }
            match ranges.last_mut().filter(|range| range.master == master) {
                Some(range) => range.last = last,
                None => ranges.push(Range {
                    first,
                    last,
                    master,
                }),
            }
        }
        (ranges.last()?.last == SLOTS - 1).then_some(Self { masters, ranges })
    }

    /// The host and port of each master; none if the server is no cluster.
    pub(crate) fn masters(&self) -> &[(String, u16)] {
        &self.masters
    }

    /// The number of the master that has a slot.
    pub(crate) fn master(&self, slot: u16) -> usize {
        let at = self.ranges.partition_point(|range| range.last < slot);
        self.ranges.get(at).map_or(0, |range| range.master)
    }

    /// The slots of a master, as ranges: the first and the last slot of each.
    pub(crate) fn slots(&self, master: usize) -> impl Iterator<Item = (u16, u16)> {
        let its = move |range: &&Range| range.master == master;
        self.ranges
            .iter()
            .filter(its)
            .map(|range| (range.first, range.last))
    }
}

/// The first and last slot of a row of the reply, and the host and port of its master.
fn row(row: &Value) -> Option<(u16, u16, &str, u16)> {
    let Value::Array(row) = row else { return None };
    let [first, last, Value::Array(master), ..] = row.as_slice() else {
        return None;
    };
    let [host, port, ..] = master.as_slice() else {
        return None;
    };
    let host = match host {
        Value::Nil => "",
        Value::BulkString(host) => std::str::from_utf8(host).ok()?,
        Value::SimpleString(host) => host,
        _ => return None,
    };
    Some((number(first)?, number(last)?, host, number(port)?))
}

fn number(value: &Value) -> Option<u16> {
    let Value::Int(number) = value else {
        return None;
    };
    u16::try_from(*number).ok()
}

/// The slots that a server says are its own. `None` while one of them migrates to or from another
/// server.
///
/// Source: [`CLUSTER NODES`](https://redis.io/docs/latest/commands/cluster-nodes/).
pub(crate) fn own_slots(nodes: &str) -> Option<Vec<(u16, u16)>> {
    let own = nodes.lines().find(|line| {
        let flags = line.split_whitespace().nth(2);
        flags.is_some_and(|flags| flags.split(',').any(|f| f == "myself"))
    })?;
    let slots = own.split_whitespace().skip(8).map(|slots| {
        let (first, last) = slots.split_once('-').unwrap_or((slots, slots));
        Some((first.parse().ok()?, last.parse().ok()?)) // `[93->-…]` is one that migrates
    });
    slots.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[(i64, i64, Value, i64)]) -> Value {
        let row = |(first, last, host, port): &(i64, i64, Value, i64)| {
            let master = Value::Array(vec![host.clone(), Value::Int(*port), Value::Nil]);
            Value::Array(vec![Value::Int(*first), Value::Int(*last), master])
        };
        Value::Array(rows.iter().map(row).collect())
    }

    fn host(name: &str) -> Value {
        Value::BulkString(name.into())
    }

    #[test]
    fn every_slot_leads_to_its_master() {
        let said = rows(&[
            (200, 16383, host("b"), 2),
            (0, 99, host("a"), 1),
            (100, 150, host("b"), 2),
            (151, 199, host("a"), 1),
        ]);
        let slot_map = SlotMap::parse(&said, "asked").unwrap();
        assert_eq!(
            slot_map.masters(),
            [("a".to_owned(), 1), ("b".to_owned(), 2)]
        );
        for (slot, master) in [
            (0, 0),
            (99, 0),
            (100, 1),
            (150, 1),
            (151, 0),
            (199, 0),
            (200, 1),
            (16383, 1),
        ] {
            assert_eq!(slot_map.master(slot), master, "{slot}");
        }
        assert_eq!(slot_map.slots(0).collect::<Vec<_>>(), [(0, 99), (151, 199)]);
        assert_eq!(
            (
                SlotMap::standalone().master(16383),
                SlotMap::standalone().masters().len()
            ),
            (0, 0)
        );
    }

    #[test]
    fn server_without_a_name_is_where_it_was_asked() {
        for unnamed in [Value::Nil, host("")] {
            let slot_map = SlotMap::parse(&rows(&[(0, 16383, unnamed, 7)]), "asked").unwrap();
            assert_eq!(slot_map.masters(), [("asked".to_owned(), 7)]);
        }
    }

    #[test]
    fn slots_without_a_master_are_no_slot_map() {
        for said in [
            rows(&[]),
            rows(&[(0, 16382, host("a"), 1)]),
            rows(&[(1, 16383, host("a"), 1)]),
            rows(&[(0, 5, host("a"), 1), (7, 16383, host("a"), 1)]),
            rows(&[(0, 16384, host("a"), 1)]),
            Value::Okay,
        ] {
            assert_eq!(SlotMap::parse(&said, "asked"), None, "{said:?}");
        }
    }

    #[test]
    fn own_slots_are_known_unless_one_migrates() {
        let line = |flags: &str, slots: &str| {
            format!("id 127.0.0.1:1@2 {flags} - 0 0 1 connected{slots}\n")
        };
        let nodes = line("master", " 0-5") + &line("myself,master", " 6-9 11");
        assert_eq!(own_slots(&nodes), Some(vec![(6, 9), (11, 11)]));
        assert_eq!(own_slots(&line("myself,master", "")), Some(Vec::new()));
        for open in [" 6-9 [7->-id]", " 6-9 [11-<-id]"] {
            assert_eq!(own_slots(&line("myself,master", open)), None);
        }
        assert_eq!(own_slots(&line("master", " 0-5")), None);
    }
}
