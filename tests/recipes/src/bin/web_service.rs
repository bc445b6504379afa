//! A web service with `axum`. Every replica takes orders, and one of them, the master, ships them: that is its job. At SIGTERM a replica
//! ends in order: requests first, then the job, then the mastership, then its membership.
//!
//! ```sh
//! cargo run -p formation-recipes --bin web_service -- --id a --address 127.0.0.1:7001 --http 127.0.0.1:8001 \
//!     --state-dir /tmp/shop-a --shop /tmp/shop.json --seed 127.0.0.1:7001 --seed 127.0.0.1:7002 --seed 127.0.0.1:7003
//! curl http://127.0.0.1:8001/members
//! ```
//!
//! The page at `http://127.0.0.1:8001/formation` shows the cluster. A load balancer asks `/formation/readyz`.
//!
//! All but `main` is tested with three replicas in memory, in virtual time: `tests/recipes/web_service_in_memory.rs` of this package.
//! `main` only makes what a test makes in another way: the node, the listener and the signal.

use std::{collections::VecDeque, error::Error, fmt::Debug, io, path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
    serve::Listener,
};
use clap::Parser;
use formation_recipes::Store;
use formation_tokio::{Cluster, ClusterHandle, Config, Fence, Lease, StaleToken, Stopped, Term};
use serde::{Deserialize, Serialize};
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
    state_dir: PathBuf,
    /// The file of the shop, the same for all replicas. It stands for a database
    #[arg(long)]
    shop: PathBuf,
    /// The addresses of the voters, the same on all replicas
    #[arg(long = "seed")]
    seeds: Vec<String>,
}

/// The contents of the database.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Shop {
    /// It refuses a master that does not know yet that it is none any more.
    fence: Fence,
    pub(crate) ordered: VecDeque<String>,
    /// The shipped orders, and the term of each.
    pub(crate) shipped: Vec<(Term, String)>,
}

impl Shop {
    /// Ships the oldest order, if there is one. Without the fence, a late master would ship beside the next one.
    pub(crate) fn ship(&mut self, term: Term) -> Result<(), StaleToken> {
        self.fence.admit(term)?;
        self.shipped.extend(self.ordered.pop_front().map(|order| (term, order)));
        Ok(())
    }
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
    // The node ends when `cluster` is dropped, which is after the service.
    serve(&cluster, http, Arc::new(Store::new(args.shop)), terminate.recv()).await
}

/// The service, from its first request to its end. It ends when it is terminated.
///
/// # Errors
/// It has ended by itself, or has not left in time.
pub(crate) async fn serve<L: Listener<Addr: Debug>>(
    cluster: &ClusterHandle,
    http: L,
    shop: Arc<Store<Shop>>,
    terminated: impl Future,
) -> Result<(), Box<dyn Error>> {
    // They run in tasks of their own, which need a handle of the node.
    let (handle, members, shop_of_job) = (cluster.clone(), cluster.clone(), shop.clone());
    let mut job = tokio::spawn(async move {
        let id = handle.node().id.clone();
        handle.run_while_master(|lease| job(lease, id.to_string(), shop_of_job.clone())).await
    });

    let (stop, stopping) = oneshot::channel::<()>();
    // Everybody who reaches this port can read the page. An open page is a request under way, too.
    let app = Router::new().route("/orders", post(order)).with_state(shop);
    let app = app.route("/members", get(async move || Json(members.view())));
    let app = app.nest_service("/formation", formation_http::router(cluster.clone()));
    let server = axum::serve(http, app).with_graceful_shutdown(async {
        // It ends when `stop` is dropped.
        let _ = stopping.await;
    });
    let mut server = tokio::spawn(server.into_future());

    // Without the job or the server, this replica could stay the master, and nobody would do the work. A panic ends them, too.
    let failure = tokio::select! {
        _ = terminated => None,
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
async fn order(State(shop): State<Arc<Store<Shop>>>, what: String) -> Result<String, (StatusCode, String)> {
    let answer = format!("you get {what}\n");
    let ordered = shop.change(|shop| shop.ordered.push_back(what)).await;
    ordered.map(|()| answer).map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")))
}

/// The master's job, step by step. It is dropped when the lease ends, and begins anew when this replica is the master again.
async fn job(lease: Lease, id: String, shop: Arc<Store<Shop>>) -> io::Result<()> {
    let term = lease.term();
    loop {
        // Without a guard, `leave` would drop the job in the middle of a step.
        if let Ok(_guard) = lease.guard(STEP) {
            println!("{id} begins a step in term {term}");
            // It takes a while to pack.
            sleep(Duration::from_millis(50)).await;
            match shop.change(move |shop| shop.ship(term)).await? {
                Ok(()) => println!("{id} ends a step in term {term}"),
                // There is a newer master, so this lease has ended or is about to.
                Err(stale) => println!("{id} is refused: {stale}"),
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
}
