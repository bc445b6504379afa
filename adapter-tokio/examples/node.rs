//! One node of a cluster in its own process. Try three terminals:
//!
//! ```sh
//! node() { cargo run -q -p formation-tokio --example node -- --cluster demo \
//!     --seed 127.0.0.1:7001 --seed 127.0.0.1:7002 --seed 127.0.0.1:7003 "$@"; }
//! node --id a --listen 127.0.0.1:7001    # and b at 7002, c at 7003, each in its own terminal
//! ```

use std::{convert::Infallible, error::Error, future::pending, process::ExitCode};

use clap::Parser;
use formation_tokio::{Cluster, Config};
use tokio::{net::TcpListener, signal};

use crate::describe::describe;

#[path = "demo/describe.rs"]
mod describe;

/// Runs one node and prints what happens to it, until Ctrl-C makes it leave.
#[derive(Parser)]
struct Flags {
    /// The name of this node, its own in the cluster
    #[arg(long)]
    id: String,
    /// Where to accept the other nodes, host:port
    #[arg(long)]
    listen: String,
    /// Where the others dial this node, when that is not what it listens on
    #[arg(long)]
    advertise: Option<String>,
    /// The address of a voter; repeat it for each, the same on every node
    #[arg(long = "seed", required = true)]
    seeds: Vec<String>,
    /// The name of the cluster
    #[arg(long)]
    cluster: String,
    /// The directory in which this node, and no other, keeps its votes
    #[arg(long)]
    state_dir: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    match run(Flags::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: Flags) -> Result<(), Box<dyn Error>> {
    let address = flags.advertise.as_ref().unwrap_or(&flags.listen);
    let mut config = Config::builder(flags.cluster, flags.id, address).seeds(flags.seeds);
    if let Some(dir) = flags.state_dir {
        config = config.state_dir(dir);
    }
    let config = config.build()?;
    let listener = TcpListener::bind(&flags.listen)
        .await
        .map_err(|error| format!("cannot listen at {}: {error}; is another node there?", flags.listen))?;
    let cluster = Cluster::start(config, listener)?;
    let node = cluster.node();
    println!("{node} listens at {}; Ctrl-C leaves", flags.listen);

    let mut events = cluster.events();
    let print = async {
        while let Some(next) = events.next().await {
            match next {
                Ok(event) => {
                    if let Some(line) = describe(node, &event) {
                        println!("{} {line}", node.id);
                    }
                }
                Err(skipped) => println!("{} {skipped}", node.id),
            }
        }
    };
    let leave = async {
        signal::ctrl_c().await?;
        println!("{} leaving", node.id);
        cluster.leave().await?;
        // The last events are still to be printed.
        pending::<Result<Infallible, Box<dyn Error>>>().await
    };
    // The events end when the node has stopped, whether it left or was superseded.
    tokio::select! {
        () = print => Ok(()),
        Err(error) = leave => Err(error),
    }
}
