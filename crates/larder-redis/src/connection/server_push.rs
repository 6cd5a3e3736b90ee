use deadpool_redis::redis::{PushInfo, PushKind, Value};

/// A message that a server sends without being asked.
#[derive(Debug, PartialEq)]
pub(crate) enum ServerPush<'a> {
    /// The connection has ended.
    Ended,
    /// The keys with these names have changed.
    Changed(&'a [Value]),
    /// The server was emptied.
    Emptied,
    /// Nothing that concerns a cache.
    Other,
}

impl<'a> ServerPush<'a> {
    pub(crate) fn parse(push: &'a PushInfo) -> Self {
        match (&push.kind, push.data.first()) {
            (PushKind::Disconnection, _) => Self::Ended,
            (PushKind::Invalidate, Some(Value::Array(names))) => Self::Changed(names),
            // Without names.
            (PushKind::Invalidate, _) => Self::Emptied,
            _ => Self::Other,
        }
    }
}

/// A key's name as text; one that is not UTF-8 was neither written nor read by a larder.
pub(crate) fn text(name: &Value) -> Option<&str> {
    let Value::BulkString(name) = name else {
        return None;
    };
    std::str::from_utf8(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invalidate(data: Vec<Value>) -> PushInfo {
        PushInfo {
            kind: PushKind::Invalidate,
            data,
        }
    }

    #[test]
    fn invalidation_without_names_says_that_the_server_was_emptied() {
        let names = vec![Value::BulkString(b"user:42".to_vec())];
        assert_eq!(
            ServerPush::parse(&invalidate(vec![Value::Array(names.clone())])),
            ServerPush::Changed(&names)
        );
        assert_eq!(
            ServerPush::parse(&invalidate(vec![Value::Nil])),
            ServerPush::Emptied
        );
        assert_eq!(
            ServerPush::parse(&PushInfo {
                kind: PushKind::Disconnection,
                data: Vec::new()
            }),
            ServerPush::Ended
        );
        assert_eq!(text(&names[0]), Some("user:42"));
        assert_eq!(text(&Value::BulkString(vec![0xff])), None);
    }
}
