//! A web service with `axum`. Every replica answers requests, and one of them, the master, has a job beside that. At SIGTERM a replica ends
//! in order: requests first, then the job, then the mastership, then its membership.
//!
//! ```sh
//! cargo run -p formation-recipes --bin web_service -- --id a --address 127.0.0.1:7001 --http 127.0.0.1:8001 \
//!     --state-dir /tmp/shop-a --seed 127.0.0.1:7001 --seed 127.0.0.1:7002 --seed 127.0.0.1:7003
//! curl http://127.0.0.1:8001/formation/cluster
//! ```
//!
//! The page at `http://127.0.0.1:8001/formation` shows the cluster. A load balancer asks `/formation/readyz`.

use std::{error::Error, time::Duration};

use axum::{Router, routing::post};
use clap::Parser;
use formation_tokio::{Cluster, Config, Lease, Stopped};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    time::{sleep, timeout},
};

/// How long the requests under way may take at the end, and how long the rest may take. The supervisor of your service has to wait for longer
/// than both together before it kills the service. With Kubernetes, that is `terminationGracePeriodSeconds`.
const REQUESTS: Duration = Duration::from_secs(2);
const GOODBYE: Duration = Duration::from_secs(5);

/// The longest time that one step of the job takes. It has to be shorter than the lease, which is 1 s by default.
const STEP: Duration = Duration::from_millis(500);

#[derive(Parser)]
struct Args {
    /// The name of this replica
    #[arg(long)]
    id: String,
    /// Where the other replicas reach it
    #[arg(long)]
    address: String,
    /// Where clients reach it
    #[arg(long)]
    http: String,
    /// A directory of its own, for its votes
    #[arg(long)]
    state_dir: String,
    /// The addresses of the voters, the same on all replicas
    #[arg(long = "seed")]
    seeds: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let config =
        Config::builder("shop", &args.id, &args.address).seeds(&args.seeds).state_dir(&args.state_dir).build()?;
    // Before the node starts, so that no SIGTERM ends the process without a goodbye.
    let mut terminate = signal(SignalKind::terminate())?;
    // Before the node starts, too: a replica whose port is in use never becomes a member.
    let http = TcpListener::bind(&args.http).await?;
    let cluster = Cluster::start(config, TcpListener::bind(&args.address).await?)?;

    // Both run in tasks of their own, which need a handle of the node. The node itself ends when `cluster` is dropped.
    let handle = cluster.clone();
    let mut job = tokio::spawn(async move { handle.run_while_master(|lease| job(lease, args.id.clone())).await });

    let (stop, stopping) = oneshot::channel::<()>();
    // Everybody who reaches this port can read the page. An open page is a request under way, too.
    let app = Router::new().route("/orders", post(order)).nest("/formation", formation_http::router(cluster.clone()));
    let server = axum::serve(http, app).with_graceful_shutdown(async {
        // It ends when `stop` is dropped.
        let _ = stopping.await;
    });
    let mut server = tokio::spawn(server.into_future());

    // Without the job or the server, this replica could stay the master, and nobody would do the work. A panic ends them, too.
    let failure = tokio::select! {
        _ = terminate.recv() => None,
        ended = &mut job => Some(match ended {
            // For example, a newer process has the same id. Then this one is of no use.
            Ok(Err(Stopped)) => format!("the node has stopped: {}", cluster.stopped().await),
            ended => format!("the job has ended: {ended:?}"),
        }),
        ended = &mut server => Some(format!("the server has ended: {ended:?}")),
    };

    // 1. No request is accepted any more. Those under way get their answers.
    drop(stop);
    if !server.is_finished() && timeout(REQUESTS, server).await.is_err() {
        eprintln!("requests are left without an answer after {REQUESTS:?}");
    }
    // 2. The step of the job that is under way ends, and the job with it. Then the next master is elected, and this replica leaves the
    // cluster: the others need not wait for its lease to end.
    let left = cluster.leave_within(GOODBYE).await;
    if let Some(failure) = failure {
        return Err(failure.into());
    }
    left?;
    // The node has stopped, so the job has ended, too.
    let _ = job.await?;
    Ok(())
}

/// What the service is there for. Every replica does it.
async fn order(what: String) -> String {
    format!("you get {what}\n")
}

/// The master's job, step by step. It is dropped when the lease ends, and begins anew when this replica is the master again.
async fn job(lease: Lease, id: String) {
    loop {
        // Without a guard, `leave` would drop the job in the middle of a step.
        if let Ok(_guard) = lease.guard(STEP) {
            println!("{id} begins a step in term {}", lease.term());
            sleep(Duration::from_millis(50)).await;
            println!("{id} ends a step in term {}", lease.term());
        }
        sleep(Duration::from_millis(50)).await;
    }
}
