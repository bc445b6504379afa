//! One node of a cluster in its own process. Try three terminals:
//!
//! ```sh
//! node() { cargo run -q -p formation-tokio --features tls --example node -- --cluster demo \
//!     --seed 127.0.0.1:7001 --seed 127.0.0.1:7002 --seed 127.0.0.1:7003 "$@"; }
//! node --id a --listen 127.0.0.1:7001    # and b at 7002, c at 7003, each in its own terminal
//! ```
//!
//! `--help` has all the rest: a file of settings, TLS, a cluster key, JSON.

use std::process::ExitCode;

use clap::Parser;
use formation_tokio as formation;
use tokio::{net::TcpListener, time::sleep as pause};

#[path = "../demo/describe.rs"]
mod describe;
mod report;
mod run;
mod settings;
mod signals;

#[tokio::main]
async fn main() -> ExitCode {
    report::log();
    report::exit_code(run::run(settings::Flags::parse()).await)
}
