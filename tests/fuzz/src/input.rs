use larder_redis::fuzzing::{
    EDGES, PushKind, Said, Value, VerbatimFormat, WORDS, parse_redis_value,
};
use libfuzzer_sys::arbitrary::{Arbitrary, Result, Unstructured};

/// A server's words, made from the fuzzer's bytes. When the bytes end, every choice is the first
/// one, which is the simplest.
#[derive(Debug)]
pub struct Input {
    pub said: Said,
    /// The bytes of memory that it takes.
    pub given: u64,
}

/// Values may lie in one another this deep.
const DEPTH: usize = 4;

/// Lengths of repeated bytes. Longer ones reach no other code, and make a run slow.
const LENGTHS: [usize; 8] = [2, 8, 17, 32, 80, 81, 255, 4096];

/// The beginning of a value with one tag of three bytes.
const HEADER: &[u8] = &[0xFB, 1, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 1, 0, 3];

impl<'a> Arbitrary<'a> for Input {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let mut said = Ok(Said::default());
        // Not those of a copy: the client library's errors share their words.
        let taken = allocation_counter::measure(|| said = make(u)).bytes_current;
        Ok(Self {
            said: said?,
            given: taken.try_into().unwrap_or_default(),
        })
    }
}

fn make(u: &mut Unstructured<'_>) -> Result<Said> {
    match choice(u, 2)? {
        0 => Ok(Said {
            values: values(u, DEPTH)?,
            text: text(u)?,
            bytes: bytes(u)?,
        }),
        _ => Ok(from_stream(u.bytes(u.len())?)),
    }
}

/// Reads the bytes as those of a connection, so that the client library's parser makes the values.
fn from_stream(stream: &[u8]) -> Said {
    let values = match parse_redis_value(stream) {
        Ok(Value::Array(values)) => values,
        Ok(value) => vec![value],
        Err(_) => Vec::new(),
    };
    Said {
        values,
        text: String::from_utf8_lossy(stream).into_owned(),
        bytes: stream.to_vec(),
    }
}

/// Chooses a number below this one.
fn choice(u: &mut Unstructured<'_>, choices: usize) -> Result<usize> {
    Ok(usize::from(u8::arbitrary(u)?) % choices)
}

fn one_of<T: Clone>(u: &mut Unstructured<'_>, choices: &[T]) -> Result<T> {
    Ok(choices[choice(u, choices.len())?].clone())
}

fn values(u: &mut Unstructured<'_>, depth: usize) -> Result<Vec<Value>> {
    let length = if depth == 0 { 0 } else { choice(u, 7)? };
    (0..length).map(|_| value(u, depth - 1)).collect()
}

fn value(u: &mut Unstructured<'_>, depth: usize) -> Result<Value> {
    Ok(match choice(u, 17)? {
        0 => Value::Nil,
        1 => Value::Okay,
        2 => Value::Int(number(u)?),
        3 | 4 => Value::BulkString(bytes(u)?),
        5 => Value::SimpleString(text(u)?),
        6 | 7 => Value::Array(values(u, depth)?),
        8 => Value::Map(pairs(u, depth)?),
        9 => Value::Set(values(u, depth)?),
        10 => Value::Push {
            kind: one_of(
                u,
                &[PushKind::Invalidate, PushKind::Message, PushKind::PMessage],
            )?,
            data: values(u, depth)?,
        },
        11 => Value::Attribute {
            data: Box::new(Value::BulkString(bytes(u)?)),
            attributes: pairs(u, depth)?,
        },
        12 => Value::Double(f64::arbitrary(u)?),
        13 => Value::Boolean(bool::arbitrary(u)?),
        14 => Value::VerbatimString {
            format: VerbatimFormat::Text,
            text: text(u)?,
        },
        15 => line(u)?,
        _ => slot_map(u)?,
    })
}

fn pairs(u: &mut Unstructured<'_>, depth: usize) -> Result<Vec<(Value, Value)>> {
    let mut values = values(u, depth)?.into_iter();
    let pairs = std::iter::from_fn(|| Some((values.next()?, values.next()?)));
    Ok(pairs.collect())
}

fn number(u: &mut Unstructured<'_>) -> Result<i64> {
    match choice(u, 2)? {
        0 => one_of(u, &EDGES),
        _ => i64::arbitrary(u),
    }
}

/// An error or a large number, which only the client library's parser can make, from its line.
fn line(u: &mut Unstructured<'_>) -> Result<Value> {
    let kind = one_of(u, &['-', '('])?;
    let line = text(u)?.replace(['\r', '\n'], "");
    Ok(parse_redis_value(format!("{kind}{line}\r\n").as_bytes()).unwrap_or_default())
}

/// The slots of a cluster, mostly as a server would say them: without a gap, and to the last one.
fn slot_map(u: &mut Unstructured<'_>) -> Result<Value> {
    let (mut rows, mut first) = (Vec::new(), 0_i64);
    for to_come in (0..=choice(u, 8)?).rev() {
        let last = match (choice(u, 8)?, to_come) {
            (7, _) => number(u)?,
            (_, 0) => 16_383,
            _ => first.saturating_add(i64::from(u8::arbitrary(u)?) * 16),
        };
        let host = one_of(u, &["a", "b", ""])?;
        let port = match choice(u, 8)? {
            7 => number(u)?,
            _ => 6379,
        };
        let master = vec![Value::BulkString(host.into()), Value::Int(port)];
        rows.push(Value::Array(vec![
            Value::Int(first),
            Value::Int(last),
            Value::Array(master),
        ]));
        first = match choice(u, 8)? {
            7 => number(u)?,
            _ => last.wrapping_add(1),
        };
    }
    Ok(Value::Array(rows))
}

fn text(u: &mut Unstructured<'_>) -> Result<String> {
    Ok(String::from_utf8_lossy(&bytes(u)?).into_owned())
}

fn bytes(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for _ in 0..choice(u, 8)? {
        match choice(u, 8)? {
            0..4 => bytes.extend(one_of(u, WORDS)?.as_bytes()),
            4 => bytes.extend(number(u)?.to_string().as_bytes()),
            5 => bytes.extend(HEADER),
            6 => {
                let length = one_of(u, &LENGTHS)?;
                bytes.resize(bytes.len() + length, u8::arbitrary(u)?);
            }
            _ => {
                let length = choice(u, 32)?.min(u.len());
                bytes.extend(u.bytes(length)?);
            }
        }
    }
    Ok(bytes)
}
