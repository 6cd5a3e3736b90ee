//! The text of keys, as an application makes them: borrowed forms, derived types, and that no two
//! keys are mixed up.

use std::{
    borrow::Cow, collections::HashMap, fmt::Debug, marker::PhantomData, num::NonZero, sync::Arc,
};

use larder_core::{CacheKey, Key, KeyBuf};

fn text<K: ?Sized>(key: impl CacheKey<K>) -> String {
    KeyBuf::format("user", &key).as_str().to_owned()
}

/// Stands for a cache before the compiler: its type fixes `K`, its argument is anything that names
/// a `K`.
struct CacheOf<K>(PhantomData<K>);

impl<K> CacheOf<K> {
    fn get(&self, key: impl CacheKey<K>) -> String {
        text(key)
    }
}

fn cache_of<K>() -> CacheOf<K> {
    CacheOf(PhantomData)
}

#[derive(Clone, Copy, Debug, CacheKey)]
struct UserId(u64);

#[derive(Debug, CacheKey)]
struct Post {
    user: UserId,
    slug: String,
}

#[derive(Debug, CacheKey)]
struct Borrowed<'a>(UserId, &'a str);

#[derive(Debug, CacheKey)]
enum Page {
    Home,
    #[cache_key(rename = "user")]
    User(UserId),
    Post {
        post: Post,
        draft: bool,
    },
}

#[derive(Debug, CacheKey)]
struct Id<T> {
    raw: u32,
    of: PhantomData<T>,
}

#[derive(Debug, CacheKey)]
struct In<T, const N: u8>
where
    T: Copy,
{
    region: &'static str,
    key: T,
}

#[test]
fn keys_of_all_kinds_are_joined_to_the_prefix() {
    assert_eq!(text::<u64>(42), "user:42");
    assert_eq!(text::<i64>(-1), "user:-1");
    assert_eq!(text::<NonZero<u8>>(NonZero::<u8>::MAX), "user:255");
    assert_eq!(text::<String>("42"), text::<u8>(42));
    assert_eq!(text::<(u8, String)>((1, "posts")), "user:1:posts");
    assert_eq!(
        text::<(u8, String, u8)>((1, String::from("a"), 3)),
        "user:1:a:3"
    );
    assert_eq!(text::<str>(Cow::Borrowed("é")), "user:é");
    assert_eq!(text::<(bool, char)>((true, ':')), "user:true:%3A");
    assert_eq!(text::<str>("a{b}{}%"), "user:a%7Bb%7D%7B%7D%25");
    assert_eq!(text::<Option<u8>>(Some(1)), "user:Some:1");
    assert_eq!(text::<Option<u8>>(None::<u8>), "user:None");
}

#[test]
fn derived_keys_have_the_text_of_their_fields() {
    let post = || Post {
        user: UserId(7),
        slug: "a:b".into(),
    };
    assert_eq!(text::<UserId>(UserId(42)), "user:42");
    assert_eq!(text::<Post>(post()), "user:7:a%3Ab");
    assert_eq!(text::<Borrowed>(Borrowed(UserId(7), "a:b")), "user:7:a%3Ab");
    assert_eq!(text::<Page>(Page::Home), "user:Home");
    assert_eq!(text::<Page>(Page::User(UserId(1))), "user:user:1");
    assert_eq!(
        text::<Page>(Page::Post {
            post: post(),
            draft: true
        }),
        "user:Post:7:a%3Ab:true"
    );
    let id = Id::<String> {
        raw: 3,
        of: PhantomData,
    };
    assert_eq!(text::<Id<String>>(&id), "user:3");
    assert_eq!(
        text::<In<_, 1>>(In::<_, 1> {
            region: "eu",
            key: UserId(3)
        }),
        "user:eu:3"
    );
}

#[test]
fn argument_is_the_key_a_reference_or_a_borrowed_form_of_its_parts() {
    let (ids, slug) = (UserId(42), String::from("latest"));
    assert_eq!(cache_of::<u64>().get(42), "user:42");
    let borrowed = &ids;
    assert_eq!(
        cache_of::<UserId>().get(ids),
        cache_of::<UserId>().get(borrowed)
    );
    assert_eq!(
        cache_of::<String>().get("x"),
        cache_of::<String>().get(String::from("x"))
    );
    assert_eq!(
        cache_of::<Arc<str>>().get(&slug),
        cache_of::<&'static str>().get("latest")
    );
    let posts = cache_of::<(UserId, String)>();
    assert_eq!(posts.get((ids, "latest")), "user:42:latest");
    assert_eq!(posts.get((&ids, &slug)), posts.get(&(ids, slug.clone())));
    assert_eq!(
        cache_of::<(u8, (i64, String))>().get((1, (-2, "x"))),
        "user:1:-2:x"
    );
}

#[cfg(feature = "uuid")]
#[test]
fn uuid_is_written_with_hyphens() {
    let nil = uuid::Uuid::nil();
    assert_eq!(
        text::<uuid::Uuid>(nil),
        "user:00000000-0000-0000-0000-000000000000"
    );
}

/// Texts that look like separators, escapes and the names of variants.
const TRICKY: [&str; 15] = [
    "", ":", "%", "%3A", "%25", "a:b", "1", "None", "Some", "Some:1", "1:posts", "v2", "{", "}",
    "%7B",
];

/// Notes a key's text, and fails if another key has it.
fn note<K: Debug + CacheKey>(seen: &mut HashMap<String, String>, key: K) {
    let name = format!("{key:?}");
    if let Some(other) = seen.insert(text::<K>(&key), name.clone()) {
        assert_eq!(other, name, "two keys have the text {}", text::<K>(&key));
    }
}

#[test]
fn no_two_keys_of_a_type_have_the_same_text() {
    let [mut texts, mut pairs, mut options, mut nested, mut pages] =
        [(); 5].map(|()| HashMap::new());
    for one in TRICKY {
        note(&mut texts, one);
        for two in TRICKY {
            note(&mut pairs, (one, two));
            let post = Post {
                user: UserId(two.len() as u64),
                slug: one.to_owned(),
            };
            note(
                &mut pages,
                Page::Post {
                    post,
                    draft: two.is_empty(),
                },
            );
            for three in TRICKY {
                let option = |text: &'static str| (!text.is_empty()).then_some(text);
                note(
                    &mut options,
                    (option(one), Some(option(two)), option(three)),
                );
                note(&mut nested, ((one, option(two)), three));
            }
        }
    }
    note(&mut pages, Page::Home);
    note(&mut pages, Page::User(UserId(1)));
    assert_eq!(pairs.len(), TRICKY.len().pow(2));
}

#[test]
fn one_text_is_not_the_text_of_a_tuple() {
    assert_ne!(text::<str>("1:posts"), text::<(u8, String)>((1, "posts")));
    let tuples = TRICKY
        .iter()
        .flat_map(|one| TRICKY.map(|two| text::<(&str, &str)>((*one, two))));
    let tuples: Vec<String> = tuples.collect();
    assert!(
        TRICKY
            .iter()
            .all(|one| !tuples.contains(&text::<str>(*one)))
    );
}

#[test]
fn numbers_of_every_length_are_written_in_full() {
    let mut n = 1_u64;
    while let Some(next) = n.checked_mul(10) {
        for n in [n - 1, n, n + 1, 5 * (n / 3)] {
            assert_eq!(text::<u64>(n), format!("user:{n}"));
        }
        n = next;
    }
    assert_eq!(text::<u32>(u32::MAX), format!("user:{}", u32::MAX));
    assert_eq!(text::<u128>(u128::MAX), format!("user:{}", u128::MAX));
    assert_eq!(text::<i64>(i64::MIN), format!("user:{}", i64::MIN));
}

#[test]
fn borrowed_and_owned_keys_hash_alike() {
    for len in 0..200 {
        let prefix = "p".repeat(len);
        let long = (12_345_678, &*prefix, 9);
        for buf in [
            KeyBuf::format::<u8>(&prefix, &42),
            KeyBuf::format::<(u32, String, u8)>("user", &long),
        ] {
            assert_eq!(buf.as_ref().hash(), buf.to_key().hash(), "{buf:?}");
            assert_eq!(buf.to_key(), Key::from_stored_name(buf.as_str()));
            let shorter = Key::from_stored_name(&buf.as_str()[1..]);
            assert_ne!(buf.to_key().hash(), shorter.hash());
        }
    }
}
