//! The claims of the tour: each must be true, or the tour ends with an error.

use std::{error::Error, time::Duration};

use tokio::time::Instant;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;
pub(crate) type Result<T = (), E = BoxError> = std::result::Result<T, E>;

/// Nothing that must happen takes longer than this.
pub(crate) const BOUND: Duration = Duration::from_secs(10);

/// An error with the reasons below it, on one line.
pub(crate) fn in_words(error: &(dyn Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(reason) = next {
        words.push_str(": ");
        words.push_str(&reason.to_string());
        next = reason.source();
    }
    words
}

/// Looks until there is something, and returns it.
///
/// # Errors
/// Returns what `look` found, or an error if that was nothing within the bound.
pub(crate) async fn until<T, F>(what: &str, mut look: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let give_up = Instant::now() + BOUND;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if Instant::now() > give_up {
            return Err(format!("{what} did not happen within {BOUND:?}").into());
        }
        // An L1 hit does not await anything; others must get their turn.
        tokio::task::yield_now().await;
    }
}
