//! Values below the typed door: of any type, with what their loader said of them.

mod codec;
mod loaded;
mod stored;

pub use codec::Value;
pub(crate) use codec::{ReadBack, ValueCodec};
pub use loaded::{BoxError, LoadManyResult, LoadResult, Loaded};
pub(crate) use stored::{CachedValue, CallId, Origin, StoredImage, typed};
