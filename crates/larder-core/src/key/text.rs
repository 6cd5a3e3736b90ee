//! How integers, texts and tuples are written as parts of a key.

use std::{borrow::Cow, num::NonZero, rc::Rc, sync::Arc};

use super::buf::{CacheKey, KeyBuf};

impl<K: ?Sized, Q: CacheKey<K> + ?Sized> CacheKey<K> for &Q {
    #[inline]
    fn write_to(&self, out: &mut KeyBuf) {
        (**self).write_to(out);
    }
}

macro_rules! integer_keys {
    ($($integer:ty)*) => { $(
        impl CacheKey for $integer {
            #[inline]
            fn write_to(&self, out: &mut KeyBuf) {
                match u32::try_from(*self) {
                    Ok(small) => out.push_number(small),
                    Err(_) => out.push_raw(itoa::Buffer::new().format(*self)),
                }
            }
        }

        impl CacheKey for NonZero<$integer> {
            #[inline]
            fn write_to(&self, out: &mut KeyBuf) {
                self.get().write_to(out);
            }
        }
    )* };
}
integer_keys!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);

/// Each text names keys of each of the types behind it.
macro_rules! text_keys {
    ($($text:ty)* => $keys:tt) => { $( text_keys!(@one $text => $keys); )* };
    (@one $text:ty => [$($key:ty)*]) => { $(
        impl CacheKey<$key> for $text {
            #[inline]
            fn write_to(&self, out: &mut KeyBuf) {
                out.push(self);
            }
        }
    )* };
}
text_keys! {
    str String Box<str> Arc<str> Rc<str> Cow<'_, str> =>
    [str String Box<str> Arc<str> Rc<str> Cow<'_, str> &str]
}

impl CacheKey for bool {
    fn write_to(&self, out: &mut KeyBuf) {
        out.push_raw(if *self { "true" } else { "false" });
    }
}

impl CacheKey for char {
    fn write_to(&self, out: &mut KeyBuf) {
        out.push(self.encode_utf8(&mut [0; 4]));
    }
}

#[cfg(feature = "uuid")]
impl CacheKey for uuid::Uuid {
    fn write_to(&self, out: &mut KeyBuf) {
        out.push_raw(
            self.hyphenated()
                .encode_lower(&mut uuid::Uuid::encode_buffer()),
        );
    }
}

/// Written like any enum: `None`, or `Some:` and the key.
impl<K, Q: CacheKey<K>> CacheKey<Option<K>> for Option<Q> {
    fn write_to(&self, out: &mut KeyBuf) {
        match self {
            None => out.push_raw("None"),
            Some(key) => {
                out.push_raw("Some");
                out.next_part();
                key.write_to(out);
            }
        }
    }
}

macro_rules! tuple_keys {
    ($($first:ident $first_key:ident $($rest:ident $rest_key:ident)*;)*) => { $(
        impl<$first_key, $($rest_key,)* $first, $($rest),*>
            CacheKey<($first_key, $($rest_key,)*)> for ($first, $($rest,)*)
        where
            $first: CacheKey<$first_key>,
            $($rest: CacheKey<$rest_key>,)*
        {
            #[expect(non_snake_case, reason = "the type parameters name the parts")]
            #[inline]
            fn write_to(&self, out: &mut KeyBuf) {
                let ($first, $($rest,)*) = self;
                $first.write_to(out);
                $( out.next_part(); $rest.write_to(out); )*
            }
        }
    )* };
}
tuple_keys! {
    A KA B KB;
    A KA B KB C KC;
    A KA B KB C KC D KD;
    A KA B KB C KC D KD E KE;
    A KA B KB C KC D KD E KE F KF;
}
