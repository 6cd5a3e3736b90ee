use std::sync::Arc;

use tokio::task::JoinSet;

use crate::{Key, Problem, Subject, User};

/// Puts all keys into a subject, in batches.
pub(crate) async fn fill<S: Subject>(
    subject: &S,
    keys: &Arc<Vec<Key>>,
    about: usize,
    at_once: usize,
) -> Result<(), Problem> {
    let mut running = JoinSet::new();
    let chunk = keys.len().div_ceil(at_once).max(1);
    for start in (0..keys.len()).step_by(chunk) {
        let (subject, keys) = (subject.clone(), keys.clone());
        running.spawn(async move {
            for key in keys[start..].iter().take(chunk) {
                subject.insert(key, User::new(key.id, about)).await?;
            }
            Ok::<_, Problem>(())
        });
    }
    while let Some(filled) = running.join_next().await {
        filled??;
    }
    Ok(())
}
