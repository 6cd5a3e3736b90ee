use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

/// A gate in the tested code's way: a test waits until somebody stands before it, does what it came for, and opens it.
#[derive(Clone, Debug)]
pub struct Gate {
    arrived: Arc<watch::Sender<usize>>,
    open: Arc<watch::Sender<bool>>,
}

/// No test waits longer than this for anything that must happen.
const BOUND: Duration = Duration::from_secs(30);

impl Gate {
    /// Makes a closed gate.
    pub fn new() -> Self {
        Self { arrived: Arc::new(watch::Sender::new(0)), open: Arc::new(watch::Sender::new(false)) }
    }

    /// Makes a gate that lets everybody through.
    pub fn opened() -> Self {
        let gate = Self::new();
        gate.open();
        gate
    }

    /// Arrives, and waits until the gate is open. What the tested code calls.
    pub async fn pass(&self) {
        self.arrived.send_modify(|arrived| *arrived += 1);
        // The sender lives as long as `self`, so there is no error.
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }

    /// Waits until somebody has arrived.
    ///
    /// # Panics
    /// If nobody comes within 30 s.
    pub async fn reached(&self) {
        self.reached_by(1).await;
    }

    /// Waits until so many have arrived, over the gate's whole life.
    ///
    /// # Panics
    /// If they don't come within 30 s.
    pub async fn reached_by(&self, many: usize) {
        let mut arrived = self.arrived.subscribe();
        let in_time = tokio::time::timeout(BOUND, arrived.wait_for(|arrived| *arrived >= many)).await;
        assert!(in_time.is_ok(), "the gate was not reached by {many}, but by {}", self.arrivals());
    }

    /// How many have arrived so far.
    pub fn arrivals(&self) -> usize {
        *self.arrived.borrow()
    }

    /// Lets everybody through, now and later.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Holds up those who arrive from now on.
    pub fn close(&self) {
        self.open.send_replace(false);
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

/// Waits until the condition holds, looking about once a millisecond; `false` if it does not within the bound.
pub async fn eventually(bound: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let give_up = Instant::now() + bound;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= give_up {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn closed_gate_holds_until_it_is_opened() {
        let gate = Gate::new();
        let passing = tokio::spawn({
            let gate = gate.clone();
            async move { gate.pass().await }
        });
        gate.reached().await;
        assert!(!passing.is_finished());
        gate.open();
        passing.await.unwrap();
        gate.pass().await;
        assert_eq!(gate.arrivals(), 2);
    }
}
