//! The readers of everything that a server says, or that another program says through it. No input
//! may make one of them panic. Two callers try that: a test with random inputs, and the fuzzer in
//! `tests/fuzz`.
//!
//! A new function that reads a reply, a push, a message or an error's words is called here.

use std::{collections::HashMap, sync::LazyLock, time::Duration};

use deadpool_redis::redis::{Msg, PushInfo, RedisError, from_redis_value};
pub use deadpool_redis::redis::{PushKind, Value, VerbatimFormat, parse_redis_value};
use futures_util::FutureExt;
use larder_core::{ValueHeader, Want};

use crate::{
    advice,
    command::{
        look, many, mget,
        names::{Name, Names},
        publisher::{Message, Publisher, next_beat},
        reply::{LARGE_VALUE, ReadReply},
        scan,
        scripts::{ClaimReply, claim_reply, commit_reply, write_claim},
        slots::{SLOTS, hash_tag},
        tags,
    },
    config::RedisConfig,
    connection::{
        addresses::Addresses,
        dialer::problem_of_role,
        endpoint::read_error,
        identity::{REPLICATION_ID, RUN_ID, field_in},
        read_batch::next_reply,
        sentinel,
        server_push::{ServerPush, text},
        slot_map::{SlotMap, own_slots},
    },
    error,
    lane::get_many::in_replies,
    rights::{Missing, RIGHTS},
};

/// The words of a server, or of another program that speaks through it.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// Replies, pushes and messages, as the client library has read them.
    pub values: Vec<Value>,
    /// A name, a message, an `INFO`, or an error's words.
    pub text: String,
    /// The bytes that come over a new connection before the server closes it.
    pub bytes: Vec<u8>,
}

/// A reader, with a name for reports.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    /// The kind of words that it reads.
    pub name: &'static str,
    /// Panics if the code that reads it panics, or breaks a promise of its own.
    pub read: fn(&Said),
}

/// All readers.
pub const READERS: &[Reader] = &[
    reader("claims", claims),
    reader("values", values),
    reader("values of MGET", values_of_mget),
    reader("looks", looks),
    reader("sizes", sizes),
    reader("pins of tags", pins),
    reader("answers of scripts", answers_of_scripts),
    reader("scans", scans),
    reader("slot maps", slot_maps),
    reader("pushes", pushes),
    reader("messages", messages),
    reader("names", names),
    reader("settings", settings),
    reader("masters of sentinels", masters_of_sentinels),
    reader("texts", texts),
    reader("errors", errors),
    reader("farewells", farewells),
];

/// Texts that larder itself writes or looks for.
pub const WORDS: &[&str] = &[
    "larder:",
    "shop/larder:",
    "larder:{tags}",
    "larder:{tags}:tag:org:7",
    "larder:lease",
    "larder:lease:{",
    "larder:lease-tagged:",
    "larder:lease-slot:{7}:",
    "larder:probe:",
    "larder:beat:",
    "larder:prefix:",
    "user:42",
    "id 127.0.0.1:1@2 myself,master - 0 0 1 connected ",
    "[93->-id]",
    RUN_ID,
    REPLICATION_ID,
    "maxmemory",
    "maxmemory-policy",
    "tracking-table-max-keys",
    "noeviction",
    "config-epoch",
    "mymaster",
    "slave",
    "sentinel",
    "message",
    "invalidate",
    "WRONGTYPE ",
    "READONLY ",
    "NOPERM ",
    "NOAUTH ",
    "ERR ",
    "ERR unknown command 'HELLO'",
    "ERR Error running script (call to f_d9b4): ",
    "@user_script:",
    "13: ",
    "-OOM ",
    "0-16383",
    "18446744073709551615",
    "18446744073709551616",
    "\r\n",
    "}:",
    "}",
    "{",
    "|",
    ":",
    "-",
    " ",
    "\u{fc}",
];

/// Integers at which something may overflow.
pub const EDGES: [i64; 13] = [
    i64::MIN,
    i64::MIN + 1,
    -2,
    -1,
    0,
    1,
    16_383,
    16_384,
    65_535,
    65_536,
    u32::MAX as i64,
    i64::MAX - 1,
    i64::MAX,
];

const fn reader(name: &'static str, read: fn(&Said)) -> Reader {
    Reader { name, read }
}

impl Said {
    /// Each value as a reply by itself, and all of them as one.
    fn replies(&self) -> impl Iterator<Item = Value> {
        let all = Value::Array(self.values.clone());
        self.values.iter().cloned().chain([all])
    }
}

static NAMES: LazyLock<[Names; 2]> = LazyLock::new(|| [Names::default(), Names::new("shop")]);

static PUBLISHER: LazyLock<Publisher> = LazyLock::new(|| Publisher::new("channel".to_owned()));

static ADDRESSES: LazyLock<Option<Addresses>> =
    LazyLock::new(|| Addresses::parse(&RedisConfig::new("redis://host")).ok());

fn claims(said: &Said) {
    for reply in said.replies() {
        let _ = write_claim(reply.clone());
        let _ = commit_reply(reply.clone());
        if let Ok(ClaimReply::Hit(stored)) = claim_reply(reply) {
            header(&stored.value);
        }
    }
}

fn values(said: &Said) {
    for want in [Want::Value, Want::ValueAndTtl] {
        let mut replies = said.values.clone().into_iter();
        while let Ok(reply) = next_reply(&mut replies, want) {
            let _ = reply.stored();
        }
        let Ok(found) = many::read_replies(said.values.clone(), want) else {
            continue;
        };
        let each = if want.has_ttl() { 2 } else { 1 };
        assert_eq!(
            found.len() * each,
            said.values.len(),
            "one value for each key"
        );
        for stored in found.iter().flatten() {
            assert!(!stored.value.is_empty(), "an empty value is none");
            header(&stored.value);
        }
    }
    if let [value, pttl] = said.values.as_slice() {
        let (value, pttl) = (value.clone(), Some(pttl.clone()));
        let _ = ReadReply { value, pttl }.stored_unless_empty();
    }
}

/// Reads the header of a value that another program may have written.
fn header(value: &[u8]) {
    let Ok((Some(header), rest)) = ValueHeader::read(value) else {
        return;
    };
    let mut again = Vec::new();
    assert_eq!(
        header.write(&mut again),
        Ok(()),
        "what was read can be written"
    );
    again.extend(rest);
    assert_eq!(again, value, "a header has one form");
}

fn values_of_mget(said: &Said) {
    for want in [Want::Value, Want::ValueAndTtl] {
        let groups = [vec![0], vec![2, 1]];
        if let Ok(found) = mget::read_replies(&groups, said.values.clone(), want) {
            let positions = found.iter().map(|(at, _)| *at);
            assert!(positions.eq([0, 2, 1]), "each key has its own value");
        }
    }
}

fn looks(said: &Said) {
    for reply in said.replies() {
        let _ = look::read_reply(reply.clone());
        if let Ok(Some(looked)) = look::looked(reply) {
            assert!(looked.size > 0, "an empty value is none");
        }
    }
}

fn sizes(said: &Said) {
    let Ok(sizes) = many::sizes(said.values.clone()) else {
        return;
    };
    assert_eq!(sizes.len(), said.values.len(), "one size for each key");
    let sized: Vec<(usize, usize)> = sizes.into_iter().enumerate().collect();
    for limit in [LARGE_VALUE, usize::MAX] {
        let small = sized.iter().filter(|(_, size)| *size <= limit);
        let replies = in_replies(&sized, limit).concat().into_iter();
        assert!(replies.eq(small.map(|(at, _)| *at)), "each is read once");
    }
}

fn pins(said: &Said) {
    for reply in said.replies() {
        if let Ok(Some(epoch)) = tags::pin(reply) {
            assert!(epoch < 10_u64.pow(16), "no epoch of another program");
        }
    }
}

/// Reads the types that scripts, and commands with one simple reply, are asked for.
fn answers_of_scripts(said: &Said) {
    for reply in said.replies() {
        let _ = from_redis_value::<bool>(reply.clone());
        let _ = from_redis_value::<u64>(reply.clone());
        let _ = from_redis_value::<Vec<Option<u64>>>(reply.clone());
        let _ = from_redis_value::<Option<Vec<u8>>>(reply);
    }
}

fn scans(said: &Said) {
    for reply in said.replies() {
        let _ = scan::step(reply.clone());
        let _ = scan::unlinked(reply);
    }
}

fn slot_maps(said: &Said) {
    for reply in said.replies() {
        let Some(slot_map) = SlotMap::parse(&reply, "host") else {
            continue;
        };
        let mut slots = 0;
        for (master, (host, port)) in slot_map.masters().iter().enumerate() {
            for (first, last) in slot_map.slots(master) {
                slots += last - first + 1;
                let masters = [first, last].map(|slot| slot_map.master(slot));
                assert_eq!(masters, [master; 2], "a slot leads to its master");
            }
            if let Some(addresses) = &*ADDRESSES {
                let _ = addresses.told(host, *port).place();
            }
        }
        assert_eq!(slots, SLOTS, "every slot has one master");
    }
}

fn pushes(said: &Said) {
    let of_values = PushInfo {
        kind: PushKind::Invalidate,
        data: said.values.clone(),
    };
    let pushes = said.values.iter().filter_map(|value| match value {
        Value::Push { kind, data } => Some(PushInfo {
            kind: kind.clone(),
            data: data.clone(),
        }),
        _ => None,
    });
    for push in pushes.chain([of_values]) {
        if let ServerPush::Changed(changed) = ServerPush::parse(&push) {
            changed.iter().filter_map(text).for_each(name);
        }
    }
}

fn names(said: &Said) {
    name(&said.text);
}

fn name(name: &str) {
    for names in &*NAMES {
        let _ = names.is_probe(name);
        match names.parse(name) {
            Name::Tag(tag) => assert_eq!(names.tag(tag), name, "a tag has one name"),
            Name::TagEpoch => assert_eq!(names.epoch(), name, "the epoch has one name"),
            Name::Lease(key) => assert_eq!(names.key_of_lease(name), Some(key)),
            Name::Value(key) => assert_eq!(key, name, "any other name is that of a value"),
        }
        // It takes milliseconds to find the name of a lease whose slot is that of no hash tag.
        let is_plain = !name.is_empty() && !name.contains(['{', '}']);
        if is_plain || hash_tag(name).is_some() {
            let lease = names.lease(name);
            let key = names.key_of_lease(&lease);
            assert_eq!(key.as_deref(), Some(name), "a lease leads to its key");
        }
    }
}

fn messages(said: &Said) {
    for value in said.replies() {
        let payload = Msg::from_owned_value(value).map(|message| message.get_payload::<String>());
        if let Some(Ok(payload)) = payload {
            let _ = PUBLISHER.parse(&payload);
        }
    }
    let _ = PUBLISHER.parse(&said.text);
    // Another program may repeat what this process has published.
    let own = PUBLISHER.prefix_message("");
    let sender = own.split_once('|').map_or("", |(sender, _)| sender);
    if let Message::OwnBeat(beat) = PUBLISHER.parse(&format!("{sender}|{}", said.text)) {
        let _ = next_beat(beat);
    }
}

fn settings(said: &Said) {
    for reply in said.replies() {
        if let Ok(settings) = from_redis_value::<HashMap<String, String>>(reply) {
            let _ = advice::of_memory(&settings);
            let _ = advice::of_tracked_names(&settings);
        }
    }
}

fn masters_of_sentinels(said: &Said) {
    let answers = said.values.chunks(2).map(<[Value]>::to_vec);
    let named: Vec<_> = answers
        .filter_map(|answer| sentinel::named(answer).ok().flatten())
        .collect();
    let masters = sentinel::by_epoch(&named);
    assert!(masters.len() <= named.len(), "each master once");
    let _ = sentinel::announced(&said.text, "mymaster");
}

fn texts(said: &Said) {
    let replies = said.replies().filter_map(|reply| {
        let _ = problem_of_role(&reply);
        from_redis_value::<String>(reply).ok()
    });
    for text in replies.chain([said.text.clone()]) {
        let _ = (field_in(&text, RUN_ID), field_in(&text, REPLICATION_ID));
        let _ = own_slots(&text);
    }
}

fn errors(said: &Said) {
    let line = said.text.replace(['\r', '\n'], "");
    let replies = parse_redis_value(format!("-{line}\r\n").as_bytes()).into_iter();
    for reply in replies.chain(said.replies()) {
        if let Err(error) = reply.extract_error() {
            read_words(error);
        }
    }
}

fn farewells(said: &Said) {
    let read = read_error(said.bytes.as_slice()).now_or_never();
    if let Some(Some(error)) = read {
        read_words(error);
    }
    if let Ok(value) = parse_redis_value(&said.bytes) {
        let _ = value.extract_error();
    }
}

fn read_words(refusal: RedisError) {
    let _ = error::is_final(&refusal);
    let _ = error::is_replica(&refusal);
    let _ = error::is_denied(&refusal);
    let _ = error::is_without_resp3(&refusal);
    let mut missing = Missing::default();
    // One that a store needs, and one that it can do without.
    for right in [RIGHTS.first(), RIGHTS.last()].into_iter().flatten() {
        let _ = missing.note(right, &refusal, "user:*", "larder:bus:0");
    }
    let _ = missing.problem();
    let shown = error::words(&refusal).chars().count();
    assert!(shown <= 81, "{shown} characters are shown");
    let _ = error::describe(refusal, "host", Duration::ZERO, "user:42").to_string();
}
