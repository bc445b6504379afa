//! One node of a cluster in a process of its own, on tokio. Try three terminals:
//!
//! ```sh
//! node() { cargo run -q -p formation-tokio-node -- --cluster demo \
//!     --seed 127.0.0.1:7001 --seed 127.0.0.1:7002 --seed 127.0.0.1:7003 "$@"; }
//! node --id a --listen 127.0.0.1:7001    # and b at 7002, c at 7003, each in its own terminal
//! ```
//!
//! `--help` lists the rest: a configuration file, TLS, a cluster key, JSON.
#![forbid(unsafe_code)]

mod adapter;
mod signals;

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    formation_node::main::<adapter::Tokio>().await
}
