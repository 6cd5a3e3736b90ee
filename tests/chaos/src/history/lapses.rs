use std::collections::HashMap;

use crate::{faults::Fault, journal::Link};

/// The times in which a process' writes do not bind the others: from a loss of data until the
/// process is connected again. A process that has died since is never connected again.
#[derive(Debug)]
pub(super) struct Lapses {
    losses: Vec<Loss>,
    /// For each process, its links in the order of time.
    links: HashMap<Option<u16>, Vec<Link>>,
}

#[derive(Clone, Copy, Debug)]
struct Loss {
    start: u64,
    end: u64,
}

impl Lapses {
    pub(super) fn new(faults: &[Fault], all: &[Link]) -> Self {
        let losses = faults.iter().filter(|fault| fault.kind.loses_data());
        let losses = losses.map(|&Fault { start, end, .. }| Loss { start, end });
        let mut links: HashMap<_, Vec<Link>> = HashMap::new();
        for link in all {
            links.entry(link.node).or_default().push(*link);
        }
        for of_node in links.values_mut() {
            of_node.sort_by_key(|link| link.start);
        }
        Self {
            losses: losses.collect(),
            links,
        }
    }

    /// When a process is connected again after a loss; never, if it died before.
    fn until(&self, node: Option<u16>, loss: Loss) -> u64 {
        let links = self.links.get(&node).map_or(&[][..], Vec::as_slice);
        let next = links.partition_point(|link| link.start < loss.end);
        links.get(next).map_or(u64::MAX, |link| link.end)
    }

    /// Since when a write that was told to the others binds a read of these times; none if it does
    /// not, because its process is not connected again.
    pub(super) fn binds(
        &self,
        node: Option<u16>,
        told: u64,
        (start, end): (u64, u64),
    ) -> Option<u64> {
        let mut since = told;
        for loss in self.losses.iter().filter(|loss| loss.start <= end) {
            let until = self.until(node, *loss);
            if told >= until {
                continue;
            }
            if until >= start {
                return None;
            }
            since = since.max(until);
        }
        (since < start).then_some(since)
    }

    /// Whether what a process wrote was lost after its death, so that nobody writes it anew.
    pub(super) fn lost_for_ever(&self, node: Option<u16>) -> bool {
        self.losses
            .iter()
            .any(|loss| self.until(node, *loss) == u64::MAX)
    }
}
