use std::sync::atomic::{AtomicU32, Ordering};

/// Counts the lookups of a lane that found nothing, less those whose key has a value since. A
/// server that tracks a key which stays without a value never forgets it.
#[derive(Debug, Default)]
pub(crate) struct Absences(AtomicU32);

/// 100: loads that run at a time are seldom more. A server needs about 20 KB for as many names.
const MANY: u32 = 100;

/// 200: after lookups that found nothing, the lane takes this less 100 probes to forget them.
const MOST: u32 = 2 * MANY;

// Relaxed, all of them: the count is a hint which way to read costs less, and either way is right.
impl Absences {
    /// Takes note of lookups that found nothing.
    pub(crate) fn add(&self, number: usize) {
        let number = u32::try_from(number).unwrap_or(MOST);
        if number > 0 {
            self.change(|count| count.saturating_add(number).min(MOST));
        }
    }

    /// Takes note that a key has a value for which a lookup found none, or that time has passed.
    pub(crate) fn take_one(&self) {
        if self.0.load(Ordering::Relaxed) > 0 {
            self.change(|count| count.saturating_sub(1));
        }
    }

    /// Tells whether many lookups came to nothing.
    pub(crate) fn are_many(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= MANY
    }

    fn change(&self, change: impl Fn(u32) -> u32) {
        let changed = |count| Some(change(count));
        let _always = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, changed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absences_are_many_only_if_no_values_follow() {
        let absences = Absences::default();
        for _ in 0..1000 {
            absences.add(1);
            absences.take_one();
        }
        assert!(!absences.are_many());
        absences.take_one();
        absences.add(99);
        assert!(!absences.are_many());
        absences.add(1);
        assert!(absences.are_many());
    }

    #[test]
    fn absences_are_forgotten_in_bounded_time() {
        let absences = Absences::default();
        absences.add(usize::MAX);
        for _ in 0..101 {
            assert!(absences.are_many());
            absences.take_one();
        }
        assert!(!absences.are_many());
    }
}
