//! What tests and examples of larder need: private Redis servers that stop with their test, a loopback proxy that
//! loses and delays, gates that put tasks into an order, and the suites that every store must pass.
//!
//! It is for tests: nothing of it belongs into a service.
//!
//! ```text
//! test ──▶ larder ──▶ Proxy ──▶ RedisServer (own port, temporary folder, gone with the test)
//!   └── Gate: "the loader has begun" … "let it end"
//! ```
//!
//! ```no_run
//! use larder_testkit::RedisServer;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = RedisServer::start().await?;
//! server.command(&["SET", "user:42", "{}"]).await?; // as a foreign program would
//! println!("{}", server.url());
//! # Ok(()) } // the server is gone
//! ```

mod client;
mod cluster;
pub mod conformance;
mod frames;
mod gate;
mod proxy;
mod server;

pub use client::{Client, Reply};
pub use cluster::RedisCluster;
pub use gate::{Gate, eventually};
pub use proxy::{Direction, Proxy};
pub use server::{RedisServer, RedisServerBuilder, ServerError, find_server};
