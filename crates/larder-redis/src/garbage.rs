//! Random replies and messages, as a broken proxy or another program may send them: what reads them
//! returns an error or nothing, and does not panic.

use fastrand::Rng;

use crate::fuzzing::{EDGES, PushKind, READERS, Said, Value, VerbatimFormat, WORDS};

const ROUNDS: usize = 20_000;

fn bytes(random: &mut Rng) -> Vec<u8> {
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

fn text(random: &mut Rng) -> String {
    String::from_utf8_lossy(&bytes(random)).into_owned()
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
        5 => Value::SimpleString(text(random)),
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
            text: text(random),
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
    for _ in 0..ROUNDS {
        let said = Said {
            values: (0..3).map(|_| value(&mut random, 3)).collect(),
            text: text(&mut random),
            bytes: bytes(&mut random),
        };
        READERS.iter().for_each(|reader| (reader.read)(&said));
    }
}
