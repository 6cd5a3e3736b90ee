//! Keys: how a value of the application names an entry, and how the stores look the name up.

pub(crate) mod buf;
pub(crate) mod hash;
pub(crate) mod owned;
mod text;
