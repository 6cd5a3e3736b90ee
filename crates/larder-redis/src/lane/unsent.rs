use std::collections::{HashMap, HashSet};

use deadpool_redis::redis::RedisError;
use futures_util::future::join_all;
use larder_core::{Key, Token};
use tracing::error;

use crate::{
    command::{scan, scripts},
    connection::session::Session,
    error::{is_denied, is_final, is_wrong_type, words},
    lane::clear::clear_before_service,
    redo::{
        Redo,
        log::{Forgotten, Kind},
    },
};

/// The invalidations that a lane could not send.
///
/// They are bounded: where they would be too many, a whole prefix takes the place of its keys, and
/// "every tag" the place of each tag.
#[derive(Debug, Default)]
pub(crate) struct Unsent {
    /// Keys to invalidate, by their prefix, which is empty where it is not known; each with the
    /// lease that ends with it, if there is one.
    keys: HashMap<Box<str>, HashMap<Key, Option<Token>>>,
    /// The number of these keys.
    len: usize,
    /// Prefixes to clear, without their colon. They are exact: under a shorter one other programs
    /// may have keys.
    prefixes: HashSet<Box<str>>,
    /// The beginnings of keys that a server forgot to clear.
    clears: HashSet<Box<str>>,
    tags: HashSet<String>,
    /// Whether every tag is to be invalidated.
    all_tags: bool,
    /// The times in a row that a server refused some of these in words that do not say why.
    unclear: usize,
}

/// The times that such a refusal is taken for one that may pass: a proxy can say anything.
const UNCLEAR_TRIES: usize = 3;

/// The invalidations that are sent at once: 1024.
const BATCH: usize = 1024;

/// The most prefixes that are remembered: 1024. Each costs a scan.
const MOST_PREFIXES: usize = 1024;

impl Unsent {
    pub(crate) fn len(&self) -> usize {
        self.len
            + self.prefixes.len()
            + self.clears.len()
            + self.tags.len()
            + usize::from(self.all_tags)
    }

    /// Whether all invalidations can be sent at once.
    pub(crate) fn is_brief(&self) -> bool {
        self.len() <= BATCH && self.prefixes.is_empty() && self.clears.is_empty() && !self.all_tags
    }

    /// Remembers a key among at most `max` keys and tags. `false` if there is no room: for a key
    /// whose prefix is not known, or with more prefixes than a table has policies.
    pub(crate) fn add_key(&mut self, key: &Key, own: Option<&Token>, max: usize) -> bool {
        let prefix = key.prefix();
        if self.prefixes.contains(prefix) {
            return true;
        }
        if let Some(ends) = self.keys.get_mut(prefix).and_then(|keys| keys.get_mut(key)) {
            // The first lease stays: while the lane is down, no later one can have been taken.
            *ends = ends.take().or_else(|| own.cloned());
            return true;
        }
        if !self.make_room(max) {
            return self.add_prefix(prefix);
        }
        if !self.prefixes.contains(prefix) {
            self.keys
                .entry(prefix.into())
                .or_default()
                .insert(key.clone(), own.cloned());
            self.len += 1;
        }
        true
    }

    /// Remembers a tag among at most `max` keys and tags.
    pub(crate) fn add_tag(&mut self, tag: &str, max: usize) {
        let is_there = self.all_tags || self.tags.contains(tag);
        if is_there || (self.make_room(max) && self.all_tags) {
            return;
        }
        if self.len + self.tags.len() < max {
            self.tags.insert(tag.to_owned());
        } else {
            self.add_all_tags();
        }
    }

    /// Remembers what a server has forgotten, however much that is.
    pub(crate) fn add_forgotten(&mut self, forgotten: Forgotten) {
        let Forgotten {
            keys,
            tags,
            prefixes,
            all_tags,
        } = forgotten;
        for key in keys {
            self.add_key(&Key::from_stored_name(&key), None, usize::MAX);
        }
        for tag in tags {
            self.add_tag(&tag, usize::MAX);
        }
        self.clears.extend(prefixes);
        if all_tags {
            self.add_all_tags();
        }
    }

    /// Remembers a prefix instead of its keys. A lease that would have ended with one of them is
    /// marked by the clear instead, and ends by its time.
    fn add_prefix(&mut self, prefix: &str) -> bool {
        if prefix.is_empty() || self.prefixes.len() >= MOST_PREFIXES {
            return false;
        }
        self.len -= self.keys.remove(prefix).map_or(0, |keys| keys.len());
        self.prefixes.insert(prefix.into())
    }

    /// Remembers to invalidate every tag. That makes misses, never hits (P21 tags-pinned-in-time).
    fn add_all_tags(&mut self) {
        self.tags = HashSet::new();
        self.all_tags = true;
    }

    /// Makes room for one more, at the cost of the prefix with the most keys, or of the tags.
    /// `false` if that is impossible.
    fn make_room(&mut self, max: usize) -> bool {
        while self.len + self.tags.len() >= max {
            let known = self.keys.iter().filter(|(prefix, _)| !prefix.is_empty());
            let largest = known
                .map(|(prefix, keys)| (keys.len(), prefix.clone()))
                .max();
            let has_room = match largest {
                Some((len, prefix)) if len >= self.tags.len() => self.add_prefix(&prefix),
                _ if !self.tags.is_empty() => {
                    self.add_all_tags();
                    true
                }
                _ => false,
            };
            if !has_room {
                return false;
            }
        }
        true
    }

    /// Sends everything, and adds to `done` the number of what is done. An error leaves the rest.
    ///
    /// The order does not matter: invalidating a name twice, or before or after others, comes to
    /// the same.
    // P11 unsent-goes-first: before any caller reads through the lane.
    pub(crate) async fn drain(
        &mut self,
        on: &Session,
        redo: &Redo,
        done: &mut u64,
    ) -> Result<(), RedisError> {
        self.send_keys(on, redo, done).await?;
        self.send_prefixes(on, redo, done).await?;
        self.send_tags(on, redo, done).await?;
        if self.all_tags
            && let Some(link) = on.tags_link()
        {
            let _noted = redo.note(Kind::AllTags, "");
            scan::clear_tags(link.target.clone()).await?;
            self.all_tags = false;
            *done += 1;
        }
        Ok(())
    }

    async fn send_keys(
        &mut self,
        on: &Session,
        redo: &Redo,
        done: &mut u64,
    ) -> Result<(), RedisError> {
        // Those of a master that is left out wait for the session that has it again.
        let ready: Vec<_> = self
            .keys
            .values()
            .flatten()
            .filter_map(|(key, own)| {
                let target = &on.link(key.as_str())?.target;
                Some((key.clone(), own.clone(), target))
            })
            .collect();
        for batch in ready.chunks(BATCH) {
            // P30 forgotten-is-redone: this server may forget in its turn, and the segment with the
            // first note may be marked by now, if it waited for a master that was left out.
            let note = |(key, ..): &(Key, _, _)| redo.note(Kind::Key, key.as_str());
            let _noted: Vec<_> = batch.iter().map(note).collect();
            let sent = batch.iter().map(|(key, own, target)| {
                scripts::invalidate((*target).clone(), key.as_str(), own.as_ref())
            });
            let sent = join_all(sent).await;
            let names = batch.iter().map(|(key, ..)| key.as_str());
            let mut tries = self.unclear;
            let left = forget_done(sent.into_iter().zip(names), &mut tries, |nth| {
                self.forget(&batch[nth].0);
                *done += 1;
            });
            self.unclear = tries;
            left?;
        }
        Ok(())
    }

    async fn send_prefixes(
        &mut self,
        on: &Session,
        redo: &Redo,
        done: &mut u64,
    ) -> Result<(), RedisError> {
        let prefixes: Vec<_> = self.prefixes.iter().cloned().collect();
        for prefix in prefixes {
            clear(on, redo, &format!("{prefix}:")).await?;
            // A master that is left out is yet to be cleared.
            if on.is_whole() {
                self.prefixes.remove(&prefix);
                *done += 1;
            }
        }
        // A master that is left out has its own mark, and is looked at when it is back.
        while let Some(prefix) = self.clears.iter().next().cloned() {
            clear(on, redo, &prefix).await?;
            self.clears.remove(&prefix);
            *done += 1;
        }
        Ok(())
    }

    async fn send_tags(
        &mut self,
        on: &Session,
        redo: &Redo,
        done: &mut u64,
    ) -> Result<(), RedisError> {
        let Some(link) = on.tags_link() else {
            return Ok(());
        };
        while !self.tags.is_empty() {
            let batch: Vec<_> = self.tags.iter().take(BATCH).cloned().collect();
            let _noted: Vec<_> = batch.iter().map(|tag| redo.note(Kind::Tag, tag)).collect();
            let target = &link.target;
            let sent = join_all(
                batch
                    .iter()
                    .map(|tag| scripts::invalidate_tag(target.clone(), tag)),
            )
            .await;
            let names = batch.iter().map(String::as_str);
            let mut tries = self.unclear;
            let left = forget_done(sent.into_iter().zip(names), &mut tries, |nth| {
                self.tags.remove(&batch[nth]);
                *done += 1;
            });
            self.unclear = tries;
            left?;
        }
        Ok(())
    }

    fn forget(&mut self, key: &Key) {
        let Some(keys) = self.keys.get_mut(key.prefix()) else {
            return;
        };
        if keys.remove(key).is_some() {
            self.len -= 1;
        }
        if keys.is_empty() {
            self.keys.remove(key.prefix());
        }
    }
}

// P25 clear-leaves-nothing: what this clears may include keys that were never remembered, as every
// clear does.
async fn clear(on: &Session, redo: &Redo, prefix: &str) -> Result<(), RedisError> {
    let _noted = redo.note(Kind::Prefix, prefix);
    let cleared = clear_before_service(on, prefix).await;
    if let Err(error) = &cleared
        && is_denied(error)
    {
        // Not forgotten, because without the clear callers would read old values.
        error!(event = "clear_denied", %prefix, reason = words(error),
            "the user may not clear a prefix, so Redis stays unused: allow SCAN and UNLINK");
    }
    cleared
}

/// Has each invalidation forgotten, by its position, that is done or would be refused again, and
/// returns the last error if anything is left. Counts the tries that met an unclear refusal.
// P11 unsent-goes-first: a refusal must not keep the lane down for ever.
fn forget_done<'a>(
    sent: impl Iterator<Item = (Result<(), RedisError>, &'a str)>,
    unclear_tries: &mut usize,
    mut forget: impl FnMut(usize),
) -> Result<(), RedisError> {
    let (mut left, mut refused, mut is_unclear) = (Ok(()), 0_usize, false);
    for (nth, (sent, name)) in sent.enumerate() {
        match sent {
            Err(error) if !is_final(&error) => {
                left = Err(error);
                continue;
            }
            Err(error)
                if *unclear_tries + 1 < UNCLEAR_TRIES
                    && !is_wrong_type(&error)
                    && !is_denied(&error) =>
            {
                (left, is_unclear) = (Err(error), true);
                continue;
            }
            // A key of another type is none of ours.
            Err(error) if !is_wrong_type(&error) => {
                if refused == 0 {
                    error!(event = "invalidation_denied", %name, reason = words(&error),
                        "the server refuses to invalidate a key or tag: others may be served what it held");
                }
                refused += 1;
            }
            Err(_) | Ok(()) => {}
        }
        forget(nth);
    }
    if refused > 1 {
        error!(
            event = "invalidation_denied",
            refused, "so it does for others"
        );
    }
    match (is_unclear, &left) {
        (true, _) => *unclear_tries += 1,
        (false, Ok(())) => *unclear_tries = 0,
        // An outage says nothing about them.
        (false, Err(_)) => {}
    }
    left
}

#[cfg(test)]
mod tests {
    use deadpool_redis::redis::parse_redis_value;
    use larder_core::KeyBuf;

    use super::*;

    /// How many of these refusals are forgotten, and whether anything is left.
    fn forgotten(tries: &mut usize, refusals: &[&str]) -> (usize, bool) {
        let sent = refusals.iter().map(|words| {
            let reply = parse_redis_value(format!("-{words}\r\n").as_bytes());
            (reply.unwrap().extract_error().map(drop), *words)
        });
        let mut count = 0;
        let left = forget_done(sent, tries, |_| count += 1);
        (count, left.is_err())
    }

    #[test]
    fn refusal_that_does_not_say_why_is_forgotten_at_the_third_try() {
        let (proxy, denied) = ("ERR upstream failure", "NOPERM no right to this key");
        let mut tries = 0;
        assert_eq!(forgotten(&mut tries, &[proxy, denied]), (1, true));
        assert_eq!(forgotten(&mut tries, &["OOM no room"]), (0, true));
        assert_eq!(
            forgotten(&mut tries, &[proxy, "WRONGTYPE a list"]),
            (1, true)
        );
        assert_eq!(forgotten(&mut tries, &[proxy]), (1, false));
        assert_eq!(forgotten(&mut tries, &[proxy]), (0, true), "it counts anew");
        for _ in 0..2 * UNCLEAR_TRIES {
            assert_eq!(forgotten(&mut tries, &["LOADING a dataset"]), (0, true));
        }
    }

    fn key(prefix: &str, n: usize) -> Key {
        KeyBuf::format(prefix, &n).to_key()
    }

    fn prefixes(unsent: &Unsent) -> Vec<&str> {
        let mut prefixes: Vec<_> = unsent.prefixes.iter().map(|prefix| &**prefix).collect();
        prefixes.sort_unstable();
        prefixes
    }

    #[test]
    fn full_unsent_clears_the_prefix_with_the_most_keys() {
        let mut unsent = Unsent::default();
        for n in 0..3 {
            assert!(unsent.add_key(&key("many:v2", n), None, 5));
        }
        assert!(unsent.add_key(&key("few", 1), None, 5) && unsent.add_key(&key("few", 2), None, 5));
        assert!(
            unsent.add_key(&key("few", 2), Some(&Token::new()), 5),
            "it is there already"
        );
        assert_eq!((unsent.len(), prefixes(&unsent)), (5, vec![]));
        assert!(unsent.add_key(&key("few", 3), None, 5));
        assert_eq!(
            (unsent.len(), prefixes(&unsent)),
            (4, vec!["many:v2"]),
            "exactly that prefix"
        );
        assert!(unsent.add_key(&key("many:v2", 9), None, 5));
        assert_eq!(unsent.len(), 4, "it is covered");
    }

    #[test]
    fn unsent_that_holds_nothing_clears_at_once() {
        let mut unsent = Unsent::default();
        assert!(
            unsent.add_key(&key("item", 1), None, 0) && unsent.add_key(&key("item", 2), None, 0)
        );
        unsent.add_tag("t", 0);
        unsent.add_tag("u", 0);
        assert_eq!(
            (unsent.len(), prefixes(&unsent), unsent.all_tags),
            (2, vec!["item"], true)
        );
    }

    #[test]
    fn key_of_unknown_prefix_is_never_replaced_by_a_clear() {
        let mut unsent = Unsent::default();
        let jobs = [1, 2, 3].map(|n| Key::from_stored_name(format!("jobs:{n}").as_str()));
        assert!(unsent.add_key(&jobs[0], None, 2) && unsent.add_key(&jobs[1], None, 2));
        assert!(
            !unsent.add_key(&jobs[2], None, 2),
            "there is no room, and nothing to be cleared instead"
        );
        assert!(unsent.add_key(&jobs[1], None, 2) && unsent.add_key(&key("item", 1), None, 2));
        assert_eq!((unsent.len(), prefixes(&unsent)), (3, vec!["item"]));
        assert!(
            !unsent.add_key(&KeyBuf::format("", &1).to_key(), None, 2),
            "an empty prefix is everything"
        );
    }

    #[test]
    fn full_unsent_invalidates_all_tags_if_most_are_tags() {
        let mut unsent = Unsent::default();
        for n in 0..3 {
            unsent.add_tag(&format!("t{n}"), 4);
        }
        assert!(unsent.add_key(&key("item", 1), None, 4));
        assert!(unsent.add_key(&key("item", 2), None, 4));
        assert_eq!(
            (unsent.len(), unsent.all_tags, prefixes(&unsent)),
            (3, true, vec![])
        );
        unsent.add_tag("t4", 4);
        assert_eq!(unsent.len(), 3, "it is covered");
        let mut unsent = Unsent::default();
        assert!(unsent.add_key(&key("item", 1), None, 1));
        unsent.add_tag("t", 1);
        assert_eq!(
            (unsent.len(), prefixes(&unsent), unsent.tags.len()),
            (2, vec!["item"], 1)
        );
    }

    #[test]
    fn prefixes_are_bounded_too() {
        let mut unsent = Unsent::default();
        let remembered = (0..3 * MOST_PREFIXES)
            .filter(|n| unsent.add_key(&key(&format!("p{n}"), 1), None, 10))
            .count();
        assert_eq!(
            (remembered, unsent.len()),
            (MOST_PREFIXES + 10, MOST_PREFIXES + 10)
        );
    }
}
