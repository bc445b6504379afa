//! One node of a cluster in a process of its own, on smol: the same program as `formation-tokio-node`, with the same flags,
//! output, signals and exit codes, so that both can run in one cluster.
//!
//! ```sh
//! cargo run -q -p formation-smol-node -- --cluster demo --id a --listen 127.0.0.1:7001 --single
//! ```
#![forbid(unsafe_code)]

mod adapter;
mod signals;

use std::process::ExitCode;

fn main() -> ExitCode {
    smol::block_on(formation_node::main::<adapter::Smol>())
}
