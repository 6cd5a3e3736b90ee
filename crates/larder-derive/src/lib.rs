//! The derive macro `CacheKey` of the larder crates: a type of the application becomes a key of a
//! cache.
//!
//! It is not used by itself: `larder` and `larder-core` re-export it beside the trait of that name.
//!
//! ```text
//! struct UserId(u64)              42                  the text of the only field
//! struct Post { user, slug }      42:latest           the fields in their order, joined by ':'
//! enum Page { Home, Of(UserId) }  Home   Of:42        the variant's name, then its fields
//! ```
//!
//! ```
//! use larder_core::{CacheKey, KeyBuf};
//!
//! #[derive(CacheKey)]
//! struct UserId(u64);
//!
//! #[derive(CacheKey)]
//! enum Page { Home, Of { user: UserId, slug: String } }
//!
//! let page = Page::Of { user: UserId(42), slug: "a:b".into() };
//! assert_eq!(KeyBuf::format::<Page>("page", &page).as_str(), "page:Of:42:a%3Ab");
//! assert_eq!(KeyBuf::format::<Page>("page", &Page::Home).as_str(), "page:Home");
//! ```

mod expand;

use proc_macro::TokenStream;

/// Implements `larder::CacheKey`: the fields' texts in the order of their declaration, joined by
/// `:`.
///
/// A struct of one field has the text of that field. An enum's first part is the variant's name. A
/// field of the type `PhantomData` has no text. Every other field's type must implement `CacheKey`.
///
/// # Attributes
/// - `#[cache_key(crate = path)]` on the type: where `larder` is found, if the application has
///   renamed the dependency.
/// - `#[cache_key(rename = "text")]` on a variant: its first part, so that the variant can be
///   renamed and the entries that are already stored are still found.
///
/// # Examples
/// ```
/// use larder::{CacheKey, KeyBuf};
///
/// #[derive(CacheKey)]
/// struct PostKey { user: u64, slug: String }
///
/// let key = PostKey { user: 42, slug: "latest".into() };
/// assert_eq!(KeyBuf::format::<PostKey>("posts", &key).as_str(), "posts:42:latest");
/// ```
#[proc_macro_derive(CacheKey, attributes(cache_key))]
pub fn derive_for_larder(input: TokenStream) -> TokenStream {
    expand::cache_key(input.into(), "larder").into()
}

/// Like [`CacheKey`](macro@CacheKey), for a crate that depends on `larder-core`:
/// `larder_core::CacheKey` is this macro.
#[proc_macro_derive(CoreCacheKey, attributes(cache_key))]
pub fn derive_for_larder_core(input: TokenStream) -> TokenStream {
    expand::cache_key(input.into(), "larder_core").into()
}
