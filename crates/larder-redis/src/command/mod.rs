//! The commands of this crate: the names of its keys, its scripts, its commands and their
//! replies.

pub(crate) mod look;
pub(crate) mod many;
pub(crate) mod mget;
pub(crate) mod names;
pub(crate) mod publisher;
pub(crate) mod reply;
pub(crate) mod scan;
pub(crate) mod scripts;
pub(crate) mod slots;
pub(crate) mod tags;
pub(crate) mod target;
pub(crate) mod tracking;
