//! A running node over HTTP, as a router of [`axum`]: health, metrics, JSON, events, and a page to look at.
//!
//! It works with the handle of a node on either adapter, and only reads, unless you ask for more.
//!
//! ```no_run
//! use formation_http::Settings;
//! use formation_tokio::{Cluster, Config};
//! use tokio::net::TcpListener;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::builder("orders", "node-a", "10.0.0.1:7000")
//!     .seeds(["10.0.0.1:7000", "10.0.0.2:7000", "10.0.0.3:7000"])
//!     .build()?;
//! let cluster = Cluster::start(config, TcpListener::bind("0.0.0.0:7000").await?)?;
//!
//! // Beside the routes of a service: `Router::new().route(…).nest_service("/formation", formation_http::router(cluster.clone()))`.
//! Settings::new().serve(cluster.clone(), TcpListener::bind("127.0.0.1:8000").await?).await?;
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
//! | `/cluster` | the node, its master, its lease, its status and its view, as JSON, all at one moment. Times are in milliseconds. With `?have=` and the `members` of an earlier answer, `view` is `null` if the members are the same |
//! | `/explain` | [`Explanation`](formation_core::Explanation) as JSON; 503 once the node has stopped, and while its driver does not answer within 2 seconds |
//! | `/events` | the events as server-sent events, from the oldest that is kept, or after the one with the id of `?after=` |
//! | `POST /leave`, `POST /resign` | only with [`Settings::control`]: the node leaves, or hands its mastership over |
//! | `POST /voters` | only with [`Settings::control`], and only on the master: the voters change. The body is JSON: `{"add": "10.0.0.4:7000"}`, `{"remove": "10.0.0.3:7000"}`, or `{"set": [...]}` with all of them. 200 once they have changed; 202 with what the change waits for if that takes longer than 30 seconds: it goes on; 409 with the master to ask on another node; 422 for voters that cannot be |
//!
//! Mount it with `nest_service`: behind `nest`, `axum` does not find the page at a path that ends with `/`.
//!
//! Whoever asks, the driver of the node computes at most one explanation at a time, and one in 100 ms while its master and its term
//! stay the same. `/cluster`, `/explain` and `/metrics` share it.
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
//! browsers do, gets what it has missed. The node keeps the last
//! [`event_history`](formation_core::Limits::event_history) events, as far as they take no more than
//! [`event_history_bytes`](formation_core::Limits::event_history_bytes), and fewer of those that are details or are about unproven peers. A number that is missing was not kept. `line` is a sentence for people, and `null` for
//! details. `event` is the [`Event`](formation_core::Event).
//!
//! There are at most [`Settings::event_streams`] streams. Further ones get 503. A page that nobody sees has none. A stream ends with its node, and not before. So a server that waits
//! for its connections at its end waits for an open page, too: leave the cluster first, serve this router on a listener of its own, or give
//! the wait a limit.
//!
//! # Who may read it
//!
//! Everybody who reaches the port. The answers name ids, addresses and the metadata of the members, and no keys. Serve it on an address
//! that only your operators reach, or behind the authentication of your service. A web site that an operator visits can read it too, by DNS
//! rebinding, where nothing checks the header `Host`.
//!
//! Each connection takes a file of the process, as the connections of the node do. [`Settings::serve`] has a limit for them, and
//! [`axum::serve`](fn@axum::serve) has none: give the listener of your service one, or keep the port to yourself.
//!
//! # Who may change something
//!
//! Nobody, unless you call [`Settings::control`] with a token. Then a request with `Authorization: Bearer` and the token may make the node
//! leave or resign, and change the voters of the cluster. The comparison takes the same time wherever the two differ. Other requests get 401, and change nothing. Serve these
//! routes on TLS, or on an address that only the machine itself reaches: who reads the token can use it.
//!
//! Another web site cannot use the browser of an operator for that. The token is no cookie, so the browser adds it to no request. A form
//! cannot send the header, and a script of another site may send it only after a preflight request, which gets no permission here. A page
//! that reaches this port by DNS rebinding can send the header, and does not know the token. The page of this package has no button for
//! it, and asks for no token.
//!
//! # Map
//!
//! - `settings`: what a router is made with.
//! - `listener`: the limit of connections.
//! - `cluster`: the page, and the node as JSON.
//! - `explanations`: when the driver of the node is asked to explain.
//! - `metrics`: the text for Prometheus.
//! - `events`: the server-sent events.
//! - `control`: the routes that change something.
//! - `page.html`: the page, as it is sent.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod cluster;
mod control;
mod events;
mod explanations;
mod listener;
mod metrics;
mod settings;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, Uri, header},
    response::{IntoResponse, Response},
};
use formation_host::ClusterHandle;

pub use self::settings::{Settings, Token, TokenTooShort};
use self::{events::StreamPlaces, explanations::Explanations};

/// The page needs nothing from elsewhere, and nothing may be loaded into it.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The state that all handlers share.
#[derive(Clone, Debug)]
struct App {
    handle: ClusterHandle,
    places: StreamPlaces,
    explanations: Arc<Explanations>,
    token: Option<Token>,
    leave_limit: Option<Duration>,
}

/// The routes of a node, which only read. The documentation of this package lists them. [`Settings`] has more to choose from.
///
/// ```
/// use axum::Router;
/// use formation_host::ClusterHandle;
///
/// /// A service with its own routes, and this page below `/formation`.
/// fn app(cluster: &ClusterHandle) -> Router {
///     Router::new().nest_service("/formation", formation_http::router(cluster.clone()))
/// }
/// ```
pub fn router(handle: ClusterHandle) -> Router {
    Settings::new().router(handle)
}

/// Each answer is of this moment, and is what it says.
async fn secure(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

async fn metrics(State(app): State<App>) -> Response {
    let explanation = app.explanations.now().await.1.ok();
    let text = metrics::text(&app.handle.metrics(explanation.as_deref()));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// A parameter of the address. None of them has a character that has to be decoded.
fn parameter<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    uri.query()?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
