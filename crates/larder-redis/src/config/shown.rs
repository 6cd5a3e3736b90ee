//! Addresses as errors and logs show them.

/// Shows an address without anything that may be a user name or password: nothing before its last
/// `@`, and no query.
pub(crate) fn redacted(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => (format!("{scheme}://"), rest),
        _ => (String::new(), url),
    };
    let query = rest.find('?');
    let Some(at) = rest.rfind('@') else {
        return format!(
            "{scheme}{}",
            without_password(&rest[..query.unwrap_or(rest.len())])
        );
    };
    // A question mark before the last `@` is part of a password, or it begins a query with an `@`
    // in one of its values: in that case, what follows the `@` is secret too.
    if query.is_some_and(|query| {
        query < at && (scheme.contains("unix") || rest[query..at].contains('='))
    }) {
        return format!("{scheme}…");
    }
    let shown = &rest[at + 1..];
    format!(
        "{scheme}{}",
        &shown[..shown.find(['?', '#']).unwrap_or(shown.len())]
    )
}

/// Whether a text is a scheme of which it is known that it holds no secret.
fn is_scheme(text: &str) -> bool {
    matches!(
        text.rsplit('+').next(),
        Some(
            "redis"
                | "rediss"
                | "valkey"
                | "valkeys"
                | "sentinel"
                | "unix"
                | "http"
                | "https"
                | "tcp"
        )
    ) && text
        .bytes()
        .all(|byte| byte.is_ascii_alphabetic() || byte == b'+')
}

/// Hides what stands in the place of the port and is no number: whoever forgot the host wrote a
/// password there.
fn without_password(host: &str) -> String {
    match host.rsplit_once(':') {
        Some((host, port))
            if !port.starts_with(|c: char| c.is_ascii_digit()) && !host.starts_with(['/', '[']) =>
        {
            format!("{host}:…")
        }
        _ => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_address_has_no_credentials() {
        for (url, shown) in [
            ("redis://host:1/2", "redis://host:1/2"),
            ("rediss://u:p@ss@host:1", "rediss://host:1"),
            (
                "unix:///run/redis.sock?pass=secret&db=1",
                "unix:///run/redis.sock",
            ),
            ("unix:///run/redis.sock?pass=sec@ret", "unix://…"),
            ("unix:///run/a@b.sock", "unix://b.sock"),
            ("u:p@host", "host"),
            ("u:p://q@host", "host"),
            ("redis://u:p?q@host:1", "redis://host:1"),
            ("redis://u:p#q@host:1/2?protocol=resp3", "redis://host:1/2"),
            ("redis://u:p/q@host", "redis://host"),
            ("redis://host?pass=p@q", "redis://…"),
            ("redis://u:p?q=r@host", "redis://…"),
            ("redis://u:secret", "redis://u:…"),
            ("redis://[::1]:6379", "redis://[::1]:6379"),
            (
                "redis+sentinel://u:p@one:1,two/service/1",
                "redis+sentinel://one:1,two/service/1",
            ),
        ] {
            assert_eq!(redacted(url), shown, "{url}");
        }
    }
}
