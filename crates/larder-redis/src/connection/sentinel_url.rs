use crate::connection::endpoint::ENCODE;

/// The port of a sentinel, if the address gives no other one.
const SENTINEL_PORT: u16 = 26379;

/// The parts of an address of the form
/// `redis+sentinel://[user:password@]host[:port],…/service[/db]`.
pub(crate) struct SentinelUrl<'a> {
    is_tls: bool,
    /// The user name and password with the `@` behind them, or nothing.
    login: &'a str,
    /// The host and port of each sentinel; there is at least one.
    pub(crate) sentinels: Vec<(String, u16)>,
    pub(crate) service: String,
    db: &'a str,
}

impl<'a> SentinelUrl<'a> {
    /// Parses an address; `None` if it has another form. An error is the problem of the address,
    /// without any part of it.
    pub(crate) fn parse(url: &'a str) -> Option<Result<Self, String>> {
        let (scheme, rest) = url.split_once("://")?;
        let is_tls = match scheme {
            "redis+sentinel" | "valkey+sentinel" => false,
            "rediss+sentinel" | "valkeys+sentinel" => true,
            _ => return None,
        };
        Some(Self::of(is_tls, rest))
    }

    fn of(is_tls: bool, rest: &'a str) -> Result<Self, String> {
        let (login, rest) = rest.split_at(rest.rfind('@').map_or(0, |at| at + 1));
        if login.contains(['?', '#', '/']) {
            return Err(ENCODE.to_owned());
        }
        let form = "it must have the form redis+sentinel://host:port,host:port/service/db";
        let (hosts, path) = rest.split_once('/').ok_or(form)?;
        let (service, db) = path.split_once('/').unwrap_or((path, "0"));
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let is_db = !db.is_empty() && db.bytes().all(|digit| digit.is_ascii_digit());
        if service.is_empty() || !service.chars().all(is_name) || !is_db {
            return Err(form.to_owned());
        }
        let sentinels: Option<Vec<_>> = hosts.split(',').map(host_and_port).collect();
        Ok(Self {
            is_tls,
            login,
            sentinels: sentinels.ok_or(form)?,
            service: service.to_owned(),
            db,
        })
    }

    /// An address of the kind of the master's, with a sentinel's host and port.
    pub(crate) fn master_url(&self) -> String {
        let Self { login, db, .. } = self;
        let scheme = if self.is_tls { "rediss" } else { "redis" };
        format!("{scheme}://{login}localhost/{db}")
    }
}

/// Splits the address of a sentinel; `None` if it is none.
fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = match text.rsplit_once(':') {
        // An IPv6 address stands in brackets.
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (text, SENTINEL_PORT),
    };
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':');
    let host = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    (!host.is_empty() && host.chars().all(is_allowed)).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_has_sentinels_service_and_database() {
        let url = "valkey+sentinel://u:p@one,two:7,[::1]:8,[::2]/my-master.1/4";
        let parsed = SentinelUrl::parse(url).unwrap().unwrap();
        let named = |host: &str, port| (host.to_owned(), port);
        assert_eq!(
            parsed.sentinels,
            [
                named("one", 26379),
                named("two", 7),
                named("::1", 8),
                named("::2", 26379)
            ]
        );
        assert_eq!(
            (&*parsed.service, parsed.master_url()),
            ("my-master.1", "redis://u:p@localhost/4".to_owned())
        );
        assert!(SentinelUrl::parse("redis://host/service").is_none());
    }
}
