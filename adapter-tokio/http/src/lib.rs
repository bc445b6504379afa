//! A running node over HTTP, as a router of [`axum`]: health, metrics, JSON, events, and a page to look at.
//!
//! It works with the handle of a node on either adapter, and only reads.
//!
//! ```no_run
//! use formation_tokio::{Cluster, Config};
//! use tokio::net::TcpListener;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::builder("orders", "node-a", "10.0.0.1:7000")
//!     .seeds(["10.0.0.1:7000", "10.0.0.2:7000", "10.0.0.3:7000"])
//!     .build()?;
//! let cluster = Cluster::start(config, TcpListener::bind("0.0.0.0:7000").await?)?;
//!
//! // Beside the routes of a service: `Router::new().route(…).nest("/formation", formation_http::router(cluster.clone()))`.
//! let page = formation_http::router(cluster.clone());
//! axum::serve(TcpListener::bind("127.0.0.1:8000").await?, page).await?;
//! # Ok(())
//! # }
//! ```
//!
//! | path | answer |
//! | --- | --- |
//! | `/` | a page for people: members, master, lease, voters, why there is no master, the last events. It loads nothing from elsewhere |
//! | `/livez` | 200: the process answers |
//! | `/readyz` | 200: the node is a member of a formed cluster. 503 with the reason: it is not, or it leaves, or it has stopped |
//! | `/metrics` | the metrics of this node, in the text format of Prometheus |
//! | `/cluster` | the node, its master, its lease, its status and its view, as JSON. Times are in milliseconds |
//! | `/explain` | [`Explanation`](formation_core::Explanation) as JSON; 503 once the node has stopped |
//! | `/events` | the events as server-sent events, from the oldest that is kept |
//!
//! # Probes
//!
//! `/readyz` does not follow the master: a probe that does takes all replicas out of rotation at each failover. It fails once the node
//! has had no master for ten times [`down_after`](formation_core::Timing::down_after), which is 30 s with
//! [`Timing::lan`](formation_core::Timing::lan). If your service can do its work without a master for longer, do not use it for the load
//! balancer. `/livez` never looks at the cluster: a restart brings no quorum back.
//!
//! # Events
//!
//! Each has an id, and its data is an object of JSON:
//!
//! ```text
//! id: 7-12
//! data: {"number":12,"unix_ms":1764453600000,"severity":"Progress","line":"follows node-b, master of term 3","event":{…}}
//! ```
//!
//! The id is the incarnation of the node and the number of the event in this run. A client that sends the last one as `Last-Event-ID`, as
//! browsers do, gets what it has missed. The node keeps the last [`EVENT_HISTORY`](formation_host::EVENT_HISTORY) events, and fewer of those
//! that are details or are about unproven peers. A number that is missing was not kept. `line` is a sentence for people, and `null` for
//! details. `event` is the [`Event`](formation_core::Event).
//!
//! There are at most [`EVENT_STREAMS`] streams. Further ones get 503. A stream ends with its node, and not before. So a server that waits
//! for its connections at its end waits for an open page, too: leave the cluster first, serve this router on a listener of its own, or give
//! the wait a limit.
//!
//! # Who may read it
//!
//! Everybody who reaches the port. The answers name ids, addresses and the metadata of the members, and no keys. Serve it on an address
//! that only your operators reach, or behind the authentication of your service. A web site that an operator visits can read it too, by DNS
//! rebinding, where nothing checks the header `Host`.
//!
//! Each connection takes a file of the process, as the connections of the node do, and [`axum`] has no limit for them. Give the listener
//! one, or keep the port to yourself.
//!
//! # Map
//!
//! - `metrics`: the text for Prometheus.
//! - `events`: the server-sent events.
//! - `page.html`: the page, as it is sent.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod events;
mod metrics;

use std::time::Duration;

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    middleware::map_response,
    response::{Html, IntoResponse, Response},
    routing::get,
};
use formation_core::{Address, ClusterName, MembersView, Node, Phase, Status};
use formation_host::{ClusterHandle, Master};
use serde::Serialize;

pub use self::events::EVENT_STREAMS;
use self::events::StreamPlaces;

/// A node without a master is ready for this many times `down_after`.
const READY_WITHOUT_MASTER: u32 = 10;

/// The page needs nothing from elsewhere, and nothing may be loaded into it.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The state that all handlers share.
#[derive(Clone, Debug)]
struct App {
    handle: ClusterHandle,
    places: StreamPlaces,
}

/// The routes of a node. The documentation of this package lists them.
///
/// ```
/// use axum::Router;
/// use formation_host::ClusterHandle;
///
/// /// A service with its own routes, and this page below `/formation`.
/// fn app(cluster: &ClusterHandle) -> Router {
///     Router::new().nest("/formation", formation_http::router(cluster.clone()))
/// }
/// ```
pub fn router(handle: ClusterHandle) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/cluster", get(cluster))
        .route("/explain", get(explain))
        .route("/events", get(events::stream))
        .layer(map_response(secure))
        .with_state(App { handle, places: StreamPlaces::default() })
}

/// Each answer is of this moment, and is what it says.
async fn secure(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

async fn page() -> Html<&'static str> {
    Html(include_str!("page.html"))
}

async fn ready(State(app): State<App>) -> (StatusCode, String) {
    match not_ready(&app.handle) {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

/// Why this node is not ready, if it is not.
fn not_ready(handle: &ClusterHandle) -> Option<String> {
    let phase = handle.status().phase;
    if matches!(phase, Phase::Leaving | Phase::Stopped) {
        return Some(format!("this node is {phase}"));
    }
    let own = handle.node();
    if handle.view().get(&own.id).is_none_or(|member| member.node != *own) {
        return Some("this node is no member of a cluster yet".to_owned());
    }
    let without = handle.now().since(handle.without_master_since()?);
    let limit = handle.config().timing().down_after.saturating_mul(READY_WITHOUT_MASTER);
    (without > limit).then(|| format!("there has been no master for {without:.0?}"))
}

async fn metrics(State(app): State<App>) -> Response {
    let explanation = app.handle.explain().await.ok();
    let text = metrics::text(&app.handle, explanation.as_ref());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn explain(State(app): State<App>) -> Response {
    match app.handle.explain().await {
        Ok(explanation) => Json(explanation).into_response(),
        Err(stopped) => (StatusCode::SERVICE_UNAVAILABLE, Json(Failure { error: stopped.to_string() })).into_response(),
    }
}

/// The answer when there is nothing to show.
#[derive(Debug, Serialize)]
struct Failure {
    error: String,
}

/// The answer of `/cluster`.
#[derive(Debug, Serialize)]
struct Overview<'a> {
    cluster: &'a ClusterName,
    node: &'a Node,
    address: &'a Address,
    is_voter: bool,
    is_ready: bool,
    master: Option<Shown>,
    /// How long this node is the master, if its lease is not renewed again. `None`: it is not the master.
    lease_ms: Option<u64>,
    /// How long a lease is.
    lease_length_ms: u64,
    /// How long this node has had no master, if it has none.
    without_master_ms: Option<u64>,
    /// Why it has none, for people.
    no_master: Option<String>,
    suppressed_events: u64,
    status: Status,
    view: MembersView,
}

#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    master: Master,
    is_this_node: bool,
}

async fn cluster(State(app): State<App>) -> Response {
    let no_master = app.handle.explain().await.ok().and_then(|explanation| explanation.no_master);
    let (handle, config, now) = (&app.handle, app.handle.config(), app.handle.now());
    let overview = Overview {
        cluster: config.cluster(),
        node: handle.node(),
        address: config.address(),
        is_voter: config.is_voter(),
        is_ready: not_ready(handle).is_none(),
        master: handle.master().map(|master| Shown { is_this_node: master.node == *handle.node(), master }),
        lease_ms: handle.leadership().map(|leadership| millis(leadership.valid_until.since(now))),
        lease_length_ms: millis(config.timing().lease),
        without_master_ms: handle.without_master_since().map(|since| millis(now.since(since))),
        no_master: no_master.map(|why| why.to_string()),
        suppressed_events: handle.suppressed_events(),
        status: handle.status(),
        view: handle.view(),
    };
    Json(overview).into_response()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
