//! Feeds replies, pushes, messages and raw bytes to everything in larder-redis that reads what a
//! server says. libFuzzer makes the inputs, and keeps those that reach new code.
//!
//! `cargo xtask fuzz` builds and runs it.

#![no_main]

mod input;

use input::Input;
use larder_redis::fuzzing::READERS;
use libfuzzer_sys::fuzz_target;

/// Bytes that a reader may hold beside what it reads, 64 KiB: for tables that are made once, and
/// for the client library's parser.
const FIXED: u64 = 64 * 1024;

/// The most bytes that a reader may hold for each byte that it is given. The client library's
/// errors alone quote a reply byte by byte, which takes 17.
const FACTOR: u64 = 64;

fuzz_target!(|input: Input| {
    let Input { said, given } = input;
    for reader in READERS {
        let held = allocation_counter::measure(|| (reader.read)(&said)).bytes_max;
        assert!(
            held <= FIXED + FACTOR * given,
            "the reader of {} holds {held} bytes for {given}",
            reader.name
        );
    }
});
