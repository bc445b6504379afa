//! Work that is divided among the members: each worker computes from its view which shards are its own, by rendezvous hashing. No master
//! has to assign anything, and when a worker is gone, only its shards move.
//!
//! ```sh
//! cargo run -p formation-recipes --bin sharding -- --id a --role worker --address 127.0.0.1:7001 --store /tmp/shards.json \
//!     --state-dir /tmp/sharding-a --seed 127.0.0.1:7001 --seed 127.0.0.1:7002 --seed 127.0.0.1:7003
//! ```
//!
//! # Two workers may have one shard for a moment
//!
//! All nodes get the same views, but not at the same time. While a new view is on its way, the old and the new owner of a shard both work on
//! it, and a worker that is cut off or paused keeps its last view for longer. There are two ways to deal with that:
//!
//! - A fence for each shard, as here: the store remembers with which view a shard was written last, and refuses older views. The writes of the
//!   old owner end with the first write of the new one. View ids are ordered, and each is the id of one view only (G3).
//! - Let the master assign the shards, in `run_while_master`, and write the assignment to a store with its term. A shard then moves when the
//!   store says so. It takes one more step, and a master.

use std::{cell::Cell, collections::BTreeMap, error::Error, io, path::PathBuf, pin::pin, time::Duration};

use clap::Parser;
use formation_recipes::Store;
use formation_tokio::{Cluster, ClusterHandle, Config, MembersView, NodeId, Stopped, Tags, ViewId, Watch};
use sha2::{Digest, Sha256};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    time::sleep,
};

/// Far more than workers, so that each of them has about as many.
const SHARDS: u32 = 32;

#[derive(Parser)]
struct Args {
    /// The name of this node
    #[arg(long)]
    id: String,
    /// What it does: `worker`, or something else
    #[arg(long)]
    role: String,
    /// Where the other nodes reach it
    #[arg(long)]
    address: String,
    /// The file with the shards, the same on all nodes
    #[arg(long)]
    store: String,
    /// A directory of its own, for its votes
    #[arg(long)]
    state_dir: PathBuf,
    /// The addresses of the voters, the same on all nodes
    #[arg(long = "seed")]
    seeds: Vec<String>,
}

/// The nodes that share the work. A suspect one keeps its shards: it may be back in a moment, and each move has its price.
fn workers(view: &MembersView) -> Vec<NodeId> {
    view.with_tag("role", "worker").map(|member| member.node.id.clone()).collect()
}

/// The owner of a shard is the worker with the largest hash for it. If another worker goes, it still is the one with the largest.
fn owner(shard: u32, workers: &[NodeId]) -> Option<&NodeId> {
    // A hash that is the same in each version of your service, on each machine. That of `std::hash` may change.
    workers.iter().max_by_key(|worker| Sha256::digest(format!("{shard} {worker}")))
}

/// The shards of this node.
fn own(id: &NodeId, view: &MembersView) -> Vec<u32> {
    let workers = workers(view);
    let shards = (0..SHARDS).filter(|shard| owner(*shard, &workers) == Some(id)).collect();
    println!("{id} owns {shards:?} of {} workers in view {}", workers.len(), view.id());
    shards
}

/// What is stored of each shard: here only with which view it was written last.
pub(crate) type Shards = BTreeMap<u32, ViewId>;

/// One write to a shard. It is refused if the shard was written with a newer view.
fn write(shards: &mut Shards, shard: u32, view: ViewId) -> Result<(), ViewId> {
    let newest = shards.entry(shard).or_default();
    if view < *newest {
        return Err(*newest);
    }
    *newest = view;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let tags = Tags::new([("role", &args.role)])?;
    let config = Config::builder("shards", &args.id, &args.address)
        .seeds(&args.seeds)
        .state_dir(&args.state_dir)
        .metadata(tags)
        .build()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let cluster = Cluster::start(config, TcpListener::bind(&args.address).await?)?;
    serve(&cluster, &Store::new(&args.store), terminate.recv()).await
}

/// The service on a running node, from its first view to its end. It ends when it is terminated.
///
/// # Errors
/// It has ended by itself, or the store has failed.
pub(crate) async fn serve(
    cluster: &ClusterHandle,
    store: &Store<Shards>,
    terminated: impl Future,
) -> Result<(), Box<dyn Error>> {
    let mut terminated = pin!(terminated);
    let id = &cluster.node().id;
    let mut watch = cluster.watch();
    let mut view = watch.current();
    let mut shards = own(id, &view);
    loop {
        let newest = Cell::new(view.id());
        tokio::select! {
            next = moved(id, &shards, &newest, &mut watch) => (view, shards) = next?,
            worked = work(id, &shards, &newest, store) => worked?,
            _ = &mut terminated => break,
        }
    }
    cluster.leave().await?;
    Ok(())
}

/// Follows the views until this node has other shards. Until then, it may write with each newer view.
///
/// It must not pass over views in which the workers are the same. While this process was paused, the others may have removed it, taken its
/// shards, and taken it back. To this node, the workers have not changed then, but its old view is refused.
async fn moved(
    id: &NodeId,
    shards: &[u32],
    newest: &Cell<ViewId>,
    watch: &mut Watch,
) -> Result<(MembersView, Vec<u32>), Stopped> {
    loop {
        let view = watch.changed().await?;
        let next = own(id, &view);
        if next != shards {
            return Ok((view, next));
        }
        newest.set(view.id());
    }
}

/// The work on the shards of this node. It is dropped when they change.
async fn work(id: &NodeId, shards: &[u32], newest: &Cell<ViewId>, store: &Store<Shards>) -> io::Result<()> {
    loop {
        for &shard in shards {
            let view = newest.get();
            println!("{id} writes shard {shard} in view {view}");
            let name = id.clone();
            store
                .change(move |shards| match write(shards, shard, view) {
                    Ok(()) => println!("{name} has written shard {shard}"),
                    // A newer view is on its way here.
                    Err(newest) => println!("{name} is refused: shard {shard} was written with view {newest}"),
                })
                .await?;
            sleep(Duration::from_millis(10)).await;
        }
        sleep(Duration::from_millis(50)).await;
    }
}
