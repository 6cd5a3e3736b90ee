use std::{collections::HashMap, sync::Arc, time::Duration};

use deadpool_redis::redis::{
    AsyncConnectionConfig, ProtocolVersion, RedisResult, Value, from_redis_value, pipe,
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use larder_core::StoreError;
use tokio::time::{Instant, timeout, timeout_at};

use crate::{config::RedisConfig, connection::endpoint::Endpoint, error::describe};

/// The sentinels that know which server is the master of a service.
///
/// Source: [Sentinel client spec](https://redis.io/docs/latest/develop/reference/sentinel-clients/).
pub(crate) struct Sentinels {
    endpoints: Vec<Arc<Endpoint>>,
    service: String,
    /// The store's address, as errors and logs show it.
    shown: String,
    options: AsyncConnectionConfig,
    /// How long to wait for one of them.
    limit: Duration,
}

/// A master as one sentinel names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    place: (String, u16),
    /// Grows with each failover.
    epoch: u64,
}

/// How long the answers of the other sentinels are waited for once most have answered: 100 ms.
const GRACE: Duration = Duration::from_millis(100);

impl Sentinels {
    pub(crate) fn new(
        endpoints: Vec<Arc<Endpoint>>,
        service: String,
        shown: String,
        config: &RedisConfig,
    ) -> Self {
        let options = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(config.connect_timeout))
            .set_response_timeout(Some(config.command_timeout));
        Self {
            endpoints,
            service,
            shown,
            options,
            limit: config.connect_timeout,
        }
    }

    pub(crate) fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    pub(crate) fn service(&self) -> &str {
        &self.service
    }

    /// The host and port of each server that a sentinel takes for the master, beginning with that
    /// of the latest failover: the other sentinels may not have heard of it. Of equally late ones
    /// the first is that which most sentinels name.
    ///
    /// # Errors
    /// That of a sentinel if none answers, or [`StoreError::Refused`] if none knows the service.
    pub(crate) async fn masters(&self) -> Result<Vec<(String, u16)>, StoreError> {
        let asked = self.endpoints.iter().map(|sentinel| self.ask(sentinel));
        let mut asked: FuturesUnordered<_> = asked.collect();
        let (mut named, mut failed, mut answers) = (Vec::new(), None, 0);
        let mut give_up = Instant::now() + self.limit.saturating_mul(2);
        while let Ok(Some(answer)) = timeout_at(give_up, asked.next()).await {
            match answer {
                Ok(master) => {
                    answers += 1;
                    named.extend(master);
                }
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
            if answers * 2 > self.endpoints.len() && !named.is_empty() {
                give_up = give_up.min(Instant::now() + GRACE);
            }
        }
        match failed {
            _ if !named.is_empty() => Ok(by_epoch(&named)),
            Some(error) if answers == 0 => Err(error),
            _ if answers == 0 => Err(StoreError::Unreachable {
                address: self.shown.clone(),
                source: None,
            }),
            _ => Err(StoreError::Refused {
                address: self.shown.clone(),
                reason: format!("no sentinel knows a service {}", self.service),
            }),
        }
    }

    /// Asks one sentinel; `None` if it does not know the service.
    async fn ask(&self, sentinel: &Endpoint) -> Result<Option<Named>, StoreError> {
        let asked = async {
            let protocol = ProtocolVersion::RESP2;
            let (mut connection, _) = sentinel.connect(protocol, &self.options).await?;
            let mut questions = pipe();
            questions
                .cmd("SENTINEL")
                .arg("get-master-addr-by-name")
                .arg(&self.service)
                .cmd("SENTINEL")
                .arg("master")
                .arg(&self.service);
            connection.send_packed_commands(&questions, 0, 2).await
        };
        let replies = match timeout(self.limit, asked).await {
            Ok(asked) => asked.and_then(named),
            Err(_elapsed) => {
                return Err(StoreError::TimedOut {
                    address: sentinel.shown.clone(),
                    after: self.limit,
                });
            }
        };
        replies.map_err(|error| describe(error, &sentinel.shown, self.limit, ""))
    }
}

/// Reads a sentinel's replies.
pub(crate) fn named(replies: Vec<Value>) -> RedisResult<Option<Named>> {
    let mut replies = replies.into_iter();
    let place = replies.next().unwrap_or(Value::Nil).extract_error()?;
    let Some((host, port)) = from_redis_value::<Option<(String, u16)>>(place)? else {
        return Ok(None);
    };
    // Without it this sentinel counts as the one that knows least.
    let details = replies.next().and_then(|reply| {
        let details = reply.extract_error().ok()?;
        from_redis_value::<HashMap<String, String>>(details).ok()
    });
    let epoch = details.and_then(|details| details.get("config-epoch")?.parse().ok());
    Ok(Some(Named {
        place: (host, port),
        epoch: epoch.unwrap_or_default(),
    }))
}

/// The places by their latest epoch, and by the number of sentinels that name them with it.
pub(crate) fn by_epoch(named: &[Named]) -> Vec<(String, u16)> {
    let mut counts: HashMap<&(String, u16), (u64, usize)> = HashMap::new();
    for Named { place, epoch } in named {
        let (latest, count) = counts.entry(place).or_default();
        match (*latest).cmp(epoch) {
            std::cmp::Ordering::Less => (*latest, *count) = (*epoch, 1),
            std::cmp::Ordering::Equal => *count += 1,
            std::cmp::Ordering::Greater => {}
        }
    }
    let mut places: Vec<_> = counts.into_iter().collect();
    places.sort_unstable_by(|one, other| other.1.cmp(&one.1).then(one.0.cmp(other.0)));
    places.into_iter().map(|(place, _)| place.clone()).collect()
}

/// Reads an announcement of sentinels, `{service} {host} {port} {new host} {new port}`, and returns
/// the new place of this service's master.
pub(crate) fn announced(message: &str, service: &str) -> Option<(String, u16)> {
    let words: Vec<_> = message.splitn(6, ' ').collect();
    match words.as_slice() {
        [of, _, _, host, port] if *of == service => Some(((*host).to_owned(), port.parse().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named_at(host: &str, epoch: u64) -> Named {
        Named {
            place: (host.to_owned(), 1),
            epoch,
        }
    }

    #[test]
    fn master_of_the_latest_failover_comes_first() {
        let hosts = |named: &[Named]| {
            let places = by_epoch(named).into_iter();
            places.map(|(host, _)| host).collect::<Vec<_>>()
        };
        let (old, new) = (named_at("old", 3), named_at("new", 4));
        assert_eq!(hosts(&[old.clone(), old.clone(), new]), ["new", "old"]);
        let one = named_at("one", 3);
        assert_eq!(hosts(&[one, old.clone(), old]), ["old", "one"]);
    }

    #[test]
    fn sentinel_that_does_not_know_the_service_names_nobody() {
        let bulk = |text: &str| Value::BulkString(text.into());
        let place = || Value::Array(vec![bulk("10.0.0.5"), bulk("6379")]);
        let details = Value::Array(vec![bulk("config-epoch"), bulk("7")]);
        let at = |epoch| Named {
            place: ("10.0.0.5".to_owned(), 6379),
            epoch,
        };
        assert_eq!(named(vec![place(), details]).unwrap(), Some(at(7)));
        assert_eq!(named(vec![place(), Value::Nil]).unwrap(), Some(at(0)));
        assert_eq!(named(vec![Value::Nil, Value::Nil]).unwrap(), None);
    }

    #[test]
    fn announcement_names_the_new_master_of_its_service() {
        let message = "mymaster 10.0.0.5 6379 10.0.0.6 6380";
        let new = ("10.0.0.6".to_owned(), 6380);
        assert_eq!(announced(message, "mymaster"), Some(new));
        assert_eq!(announced(message, "other"), None);
        assert_eq!(announced("mymaster 10.0.0.5", "mymaster"), None);
        assert_eq!(
            announced(&format!("{message} more words"), "mymaster"),
            None
        );
    }
}
