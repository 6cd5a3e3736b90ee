//! Tools for the tests of larder and of stores for it: private Redis servers that stop with their
//! test, a loopback proxy that loses and delays, gates that put tasks into an order, and the
//! [conformance suites](conformance) that every store must pass.
//!
//! It is for tests: a service does not need it.
//!
//! ```text
//! test ──▶ larder ──▶ Proxy ──▶ RedisServer (own port, temporary folder, stopped with the test)
//!   └── Gate: "the loader has begun" … "let it end"
//! ```
//!
//! ```
//! use larder_testkit::RedisServer;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = RedisServer::start().await?;
//! server.command(&["SET", "user:42", "{}"]).await?; // as another program would
//! println!("{}", server.url());
//! # Ok(()) } // the server is gone
//! ```

mod gate;
mod proxy;
mod redis;

pub mod conformance;

pub use gate::{Gate, eventually};
pub use proxy::{Direction, Proxy};
pub use redis::{
    Client, RedisCluster, RedisSentinels, RedisServer, RedisServerBuilder, Reply, SERVER_VARIABLE,
    ServerError, find_server, has_tls, no_tracking, version_of,
};

/// The example of the README, which the tests run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
