//! One node of a cluster in its own process, on smol: the same program as the example `node` of `formation-tokio`, with the same
//! flags, output, signals and exit codes, so that the two can be mixed in one cluster.
//!
//! ```sh
//! cargo run -q -p formation-smol --features tls --example smol-node -- --cluster demo --id a \
//!     --listen 127.0.0.1:7001 --seed 127.0.0.1:7001
//! ```

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use formation_smol as formation;
use smol::{Timer, net::TcpListener};

#[path = "../../../adapter-tokio/examples/demo/describe.rs"]
mod describe;
#[path = "../../../adapter-tokio/examples/node/report.rs"]
mod report;
#[path = "../../../adapter-tokio/examples/node/run.rs"]
mod run;
#[path = "../../../adapter-tokio/examples/node/settings.rs"]
mod settings;
mod signals;

fn main() -> ExitCode {
    report::log();
    report::exit_code(smol::block_on(run::run(settings::Flags::parse())))
}

async fn pause(time: Duration) {
    Timer::after(time).await;
}
