use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

/// A gate in the way of the tested code, by which a test decides on the order of things.
///
/// ```
/// use larder_testkit::Gate;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let gate = Gate::new();
/// let load = tokio::spawn({
///     let gate = gate.clone();
///     async move {
///         gate.pass().await;
///         "loaded"
///     }
/// });
/// gate.reached().await; // the load has begun, and waits
/// gate.open();
/// assert_eq!(load.await?, "loaded");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Gate {
    arrived: Arc<watch::Sender<usize>>,
    open: Arc<watch::Sender<bool>>,
}

/// 30 s: the longest wait for a task that must come.
const BOUND: Duration = Duration::from_secs(30);

impl Gate {
    /// Makes a closed gate.
    pub fn new() -> Self {
        Self {
            arrived: Arc::new(watch::Sender::new(0)),
            open: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Makes an open gate: it counts arrivals and holds up no task.
    pub fn opened() -> Self {
        let gate = Self::new();
        gate.open();
        gate
    }

    /// Arrives at the gate and waits until it is open. The tested code calls this.
    pub async fn pass(&self) {
        self.arrived.send_modify(|arrived| *arrived += 1);
        // The sender lives as long as `self`, so there is no error.
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }

    /// Waits until a task has arrived.
    ///
    /// # Panics
    /// If no task comes within 30 s.
    pub async fn reached(&self) {
        self.reached_by(1).await;
    }

    /// Waits until `many` tasks have arrived, counted over the gate's whole life.
    ///
    /// # Panics
    /// If they do not come within 30 s.
    pub async fn reached_by(&self, many: usize) {
        let mut arrived = self.arrived.subscribe();
        let in_time =
            tokio::time::timeout(BOUND, arrived.wait_for(|arrived| *arrived >= many)).await;
        assert!(
            in_time.is_ok(),
            "the gate was not reached by {many}, but by {}",
            self.arrivals()
        );
    }

    /// Returns the number of arrivals so far.
    pub fn arrivals(&self) -> usize {
        *self.arrived.borrow()
    }

    /// Lets every task through, now and later.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Holds up the tasks that arrive from now on.
    pub fn close(&self) {
        self.open.send_replace(false);
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

/// Waits until the condition holds, and looks once a millisecond. Returns `false` if it does not
/// hold within the bound.
///
/// ```
/// use std::time::Duration;
/// use larder_testkit::eventually;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let mut looks = 0;
/// assert!(eventually(Duration::from_secs(5), || { looks += 1; looks == 3 }).await);
/// # }
/// ```
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
