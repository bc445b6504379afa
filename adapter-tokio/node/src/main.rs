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

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(formation_node::main::<adapter::Tokio>());
    // A disk that does not answer must not hold up the end of a process that was told to stop.
    runtime.shutdown_background();
    code
}
