use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex},
};

use larder_core::{Key, PolicyIndex};

use crate::sync::lock;

tokio::task_local! {
    /// The work whose loader or writer this task runs.
    static CURRENT: Work;
}

/// The loads and writes of a process that wait for others: a loader or a writer may ask for other
/// keys. A wait that would have no end, because what is waited for waits in its turn, is refused.
///
/// It knows the waits of one process, and those of a task that the loader or writer has spawned
/// only if they are [carried](carry) along.
#[derive(Debug, Default)]
pub struct Nesting {
    /// For each step whose loader or writer waits, the steps that it waits for.
    waits: Mutex<HashMap<Step, Vec<Arc<[Step]>>>>,
}

/// A load or a write of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Load(Key),
    Write(Key),
}

/// A load or write whose loader or writer is running: what it calls is nested in it.
///
/// ```
/// use std::sync::Arc;
/// use larder_core::Key;
/// use larder_lock::{Nesting, Work};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let (nesting, key) = (Arc::new(Nesting::default()), Key::from_stored_name("user:42"));
/// let writer = async {
///     let outer = Work::current(&nesting).expect("it is inside the write");
///     // Another writer of the key would wait for this one.
///     outer.wait_for_write(&key).map(drop)
/// };
/// let refused = Work::write(&nesting, &key).run(writer).await;
/// assert_eq!(refused.unwrap_err().to_string(), "user:42 → user:42");
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Work {
    nesting: Arc<Nesting>,
    steps: Steps,
    /// The policy of a load.
    policy: Option<PolicyIndex>,
    /// The policies of the loads around it.
    outer: Vec<PolicyIndex>,
}

/// One step, without an allocation, or those of a loader of several keys.
#[derive(Clone, Debug)]
enum Steps {
    One(Step),
    Many(Vec<Step>),
}

/// A wait for other loads or writes, until it is dropped.
#[derive(Debug)]
pub struct Waiting {
    outer: Work,
    inner: Arc<[Step]>,
}

/// A wait that would have no end: the keys in their order, from one back to itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Cycle {
    keys: Vec<Key>,
}

impl Work {
    /// A load of this key, inside the work of the caller.
    pub(crate) fn load(
        nesting: &Arc<Nesting>,
        key: &Key,
        policy: PolicyIndex,
        outer: Option<&Self>,
    ) -> Self {
        Self {
            nesting: nesting.clone(),
            steps: Steps::One(Step::Load(key.clone())),
            policy: Some(policy),
            outer: outer.map(Self::policies).unwrap_or_default(),
        }
    }

    /// A write of this key, inside the work of the caller.
    pub fn write(nesting: &Arc<Nesting>, key: &Key) -> Self {
        Self {
            nesting: nesting.clone(),
            steps: Steps::One(Step::Write(key.clone())),
            policy: None,
            outer: Self::current(nesting).map_or_else(Vec::new, |outer| outer.policies()),
        }
    }

    /// The work of a loader that serves all of these loads; none, if there are none.
    pub fn of_all(loads: impl IntoIterator<Item = Self>) -> Option<Self> {
        loads.into_iter().reduce(|mut all, load| {
            let mut steps = all.steps.as_slice().to_vec();
            steps.extend_from_slice(load.steps.as_slice());
            all.steps = Steps::Many(steps);
            all.outer.extend(load.outer);
            all
        })
    }

    /// The work whose loader or writer makes this call; none, if the call is not nested.
    pub fn current(nesting: &Arc<Nesting>) -> Option<Self> {
        let current = CURRENT.try_with(Self::clone).ok();
        current.filter(|work| Arc::ptr_eq(&work.nesting, nesting))
    }

    /// Runs the loader or writer of this work.
    pub async fn run<F: Future>(self, work: F) -> F::Output {
        CURRENT.scope(self, work).await
    }

    /// Whether it is inside a load of this policy, which has taken one of its
    /// [`max_loads`](crate::LoadLimits::max_loads).
    pub fn is_inside(&self, policy: PolicyIndex) -> bool {
        self.outer.contains(&policy)
    }

    /// Whether it is a load of this policy, or inside one.
    pub(crate) fn holds(&self, policy: PolicyIndex) -> bool {
        self.policy == Some(policy) || self.is_inside(policy)
    }

    /// Notes that this work waits for a load of the key, which may have to wait for a writer.
    ///
    /// # Errors
    /// The [`Cycle`], if that waits for this work.
    pub fn wait_for_load(&self, key: &Key) -> Result<Waiting, Cycle> {
        self.wait_for([Step::Load(key.clone()), Step::Write(key.clone())].into())
    }

    /// Notes that this work waits for other writers of the key.
    ///
    /// # Errors
    /// The [`Cycle`], if one of them waits for this work.
    pub fn wait_for_write(&self, key: &Key) -> Result<Waiting, Cycle> {
        self.wait_for([Step::Write(key.clone())].into())
    }

    fn wait_for(&self, inner: Arc<[Step]>) -> Result<Waiting, Cycle> {
        let mut waits = lock(&self.nesting.waits);
        if let Some(keys) = self.way_back(&waits, &inner) {
            return Err(Cycle { keys });
        }
        for step in self.steps.as_slice() {
            let of_step = waits.entry(step.clone()).or_default();
            of_step.push(inner.clone());
        }
        drop(waits);
        let outer = self.clone();
        Ok(Waiting { outer, inner })
    }

    /// The keys on a way from one of these steps to this work, if there is one.
    fn way_back(
        &self,
        waits: &HashMap<Step, Vec<Arc<[Step]>>>,
        inner: &[Step],
    ) -> Option<Vec<Key>> {
        let mut seen: HashSet<&Step> = HashSet::new();
        let mut ways: Vec<Vec<&Step>> = inner.iter().map(|step| vec![step]).collect();
        while let Some(way) = ways.pop() {
            let last = *way.last()?;
            if self.steps.as_slice().contains(last) {
                return Some([last].into_iter().chain(way).map(Step::key).collect());
            }
            if seen.insert(last) {
                let next = waits.get(last).into_iter().flatten();
                let next = next.flat_map(|steps| steps.iter());
                ways.extend(next.map(|step| [&way[..], &[step]].concat()));
            }
        }
        None
    }

    fn policies(&self) -> Vec<PolicyIndex> {
        self.outer.iter().copied().chain(self.policy).collect()
    }
}

/// Takes the work of the caller along into another task.
pub fn carry<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let work = CURRENT.try_with(Work::clone).ok();
    async move {
        match work {
            Some(work) => work.run(future).await,
            None => future.await,
        }
    }
}

impl Step {
    fn key(&self) -> Key {
        let (Self::Load(key) | Self::Write(key)) = self;
        key.clone()
    }
}

impl Steps {
    fn as_slice(&self) -> &[Step] {
        match self {
            Self::One(step) => std::slice::from_ref(step),
            Self::Many(steps) => steps,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut waits = lock(&self.outer.nesting.waits);
        for step in self.outer.steps.as_slice() {
            let Some(of_step) = waits.get_mut(step) else {
                continue;
            };
            of_step.retain(|inner| !Arc::ptr_eq(inner, &self.inner));
            if of_step.is_empty() {
                waits.remove(step);
            }
        }
    }
}

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, key) in self.keys.iter().enumerate() {
            let arrow = if nth == 0 { "" } else { " → " };
            write!(f, "{arrow}{key}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const POLICIES: [PolicyIndex; 2] = [PolicyIndex(0), PolicyIndex(1)];

    fn key(name: &str) -> Key {
        Key::from_stored_name(name)
    }

    fn load(nesting: &Arc<Nesting>, name: &str) -> Work {
        Work::load(nesting, &key(name), POLICIES[0], None)
    }

    fn cycle(waiting: Result<Waiting, Cycle>) -> String {
        waiting.unwrap_err().to_string()
    }

    #[test]
    fn wait_is_refused_that_comes_back_to_itself() {
        let nesting = Arc::new(Nesting::default());
        let [a, b, c] = ["a", "b", "c"].map(|name| load(&nesting, name));
        assert_eq!(cycle(a.wait_for_load(&key("a"))), "a → a");
        let _ab = a.wait_for_load(&key("b")).unwrap();
        let bc = b.wait_for_load(&key("c")).unwrap();
        assert_eq!(cycle(c.wait_for_load(&key("a"))), "c → a → b → c");
        drop(bc);
        assert!(c.wait_for_load(&key("a")).is_ok(), "b waits no longer");
        assert_eq!(lock(&nesting.waits).len(), 1);
    }

    #[test]
    fn load_waits_for_a_writer_and_a_writer_waits_for_no_load() {
        let nesting = Arc::new(Nesting::default());
        let (load, write) = (load(&nesting, "a"), Work::write(&nesting, &key("a")));
        assert_eq!(cycle(write.wait_for_load(&key("a"))), "a → a");
        assert_eq!(cycle(write.wait_for_write(&key("a"))), "a → a");
        assert!(load.wait_for_write(&key("a")).is_ok());
        let other = Work::write(&nesting, &key("b"));
        let _waiting = write.wait_for_write(&key("b")).unwrap();
        assert_eq!(cycle(other.wait_for_write(&key("a"))), "b → a → b");
    }

    #[test]
    fn loader_of_several_keys_waits_for_none_of_them() {
        let nesting = Arc::new(Nesting::default());
        let both = Work::of_all([load(&nesting, "a"), load(&nesting, "b")]).unwrap();
        assert_eq!(cycle(both.wait_for_load(&key("b"))), "b → b");
        let _waiting = both.wait_for_load(&key("c")).unwrap();
        let c = load(&nesting, "c");
        assert_eq!(cycle(c.wait_for_load(&key("a"))), "c → a → c");
        assert!(Work::of_all([]).is_none());
    }

    #[test]
    fn nested_work_knows_the_loads_around_it_also_in_another_task() {
        let nesting = Arc::new(Nesting::default());
        let outer = load(&nesting, "a");
        let inside = async {
            let carried = carry(async { Work::current(&nesting) });
            let current = CURRENT
                .scope(Work::write(&nesting, &key("w")), carried)
                .await;
            let inner = Work::load(&nesting, &key("b"), POLICIES[1], current.as_ref());
            POLICIES.map(|policy| (inner.is_inside(policy), inner.holds(policy)))
        };
        let known = outer.run(inside).now_or_never().unwrap();
        assert_eq!(known, [(true, true), (false, true)]);
        assert!(Work::current(&nesting).is_none());
        let other_process = Arc::new(Nesting::default());
        let foreign = load(&nesting, "a").run(async { Work::current(&other_process) });
        assert!(foreign.now_or_never().unwrap().is_none());
    }
}
