//! Values on their way from a loader into the levels.

mod loaded;

pub(crate) use loaded::Content;
pub use loaded::{BoxError, LoadManyResult, LoadResult, Loaded};
