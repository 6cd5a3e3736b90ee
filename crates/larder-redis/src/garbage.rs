//! Random replies and messages, as a broken proxy or another program may send them: what reads them
//! returns an error or nothing, and does not panic.

use deadpool_redis::redis::{PushInfo, PushKind, Value, VerbatimFormat};
use fastrand::Rng;
use larder_core::Want;

use crate::{
    command::{
        many::{read_replies, sizes},
        names::Names,
        publisher::Publisher,
        reply::ReadReply,
        scripts::{claim_reply, write_claim},
        tags::pin,
    },
    connection::{
        server_push::{ServerPush, text},
        slot_map::{SlotMap, own_slots},
    },
};

const ROUNDS: usize = 20_000;

/// Integers at which something may overflow.
const EDGES: [i64; 9] = [i64::MIN, -2, -1, 0, 1, 16_383, 65_535, 65_536, i64::MAX];

fn bytes(random: &mut Rng) -> Vec<u8> {
    const WORDS: [&str; 10] = [
        "larder:{tags}",
        "larder:lease:{",
        "larder:lease-slot:{}:",
        "myself,master",
        "0-16383",
        "larder:beat:",
        "|",
        "18446744073709551616",
        "}{",
        "\u{fc}",
    ];
    let mut bytes = Vec::new();
    for _ in 0..random.usize(..6) {
        if random.bool() {
            bytes.extend(WORDS[random.usize(..WORDS.len())].as_bytes());
        } else {
            bytes.extend((0..random.usize(..9)).map(|_| random.u8(..)));
        }
    }
    bytes
}

fn value(random: &mut Rng, depth: usize) -> Value {
    let list = |random: &mut Rng| -> Vec<Value> {
        let len = if depth == 0 { 0 } else { random.usize(..5) };
        (0..len).map(|_| value(random, depth - 1)).collect()
    };
    match random.usize(..14) {
        0 => Value::Nil,
        1 => Value::Int(EDGES[random.usize(..EDGES.len())]),
        2 => Value::Int(random.i64(..)),
        3 => Value::BulkString(bytes(random)),
        4 => Value::Array(list(random)),
        5 => Value::SimpleString(String::from_utf8_lossy(&bytes(random)).into_owned()),
        6 => Value::Okay,
        7 => Value::Map(
            list(random)
                .into_iter()
                .map(|key| (key, Value::Nil))
                .collect(),
        ),
        8 => Value::Set(list(random)),
        9 => Value::Double(f64::from_bits(random.u64(..))),
        10 => Value::Boolean(random.bool()),
        11 => Value::VerbatimString {
            format: VerbatimFormat::Text,
            text: String::from_utf8_lossy(&bytes(random)).into_owned(),
        },
        12 => Value::Push {
            kind: PushKind::Invalidate,
            data: list(random),
        },
        // What a cluster says of its slots, nearly.
        _ => Value::Array(vec![
            Value::Int(EDGES[random.usize(..EDGES.len())]),
            Value::Int(EDGES[random.usize(..EDGES.len())]),
            Value::Array(list(random)),
        ]),
    }
}

#[test]
fn no_reply_or_message_makes_a_reader_panic() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = Rng::with_seed(seed);
    let (names, publisher) = (Names::new("shop"), Publisher::new("c".to_owned()));
    for _ in 0..ROUNDS {
        let mut reply = || value(&mut random, 3);
        let _ = claim_reply(reply());
        let _ = write_claim(reply());
        let _ = pin(reply());
        let _ = sizes(vec![reply(), reply()]);
        let _ = read_replies(vec![reply(), reply(), reply()], Want::ValueAndTtl);
        let _ = read_replies(vec![reply()], Want::Value);
        let pttl = Some(reply());
        let value = reply();
        let _ = ReadReply { value, pttl }.stored();
        let _ = SlotMap::parse(&Value::Array(vec![reply(), reply()]), "host");
        let data = vec![reply(), reply()];
        let push = PushInfo {
            kind: PushKind::Invalidate,
            data,
        };
        if let ServerPush::Changed(changed) = ServerPush::parse(&push) {
            changed.iter().filter_map(text).for_each(|name| {
                let _ = names.parse(name);
            });
        }
        let said = String::from_utf8_lossy(&bytes(&mut random)).into_owned();
        let _ = (publisher.parse(&said), own_slots(&said), names.parse(&said));
        let _ = Names::default().parse(&said);
    }
}
