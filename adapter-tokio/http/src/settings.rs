//! The settings of a router: its limits, and who may change something.

use std::{fmt, io, sync::Arc, time::Duration};

use axum::{
    Router,
    middleware::map_response,
    routing::{get, post},
};
use formation_host::ClusterHandle;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;

use crate::{App, cluster, control, events, explanations::Explanations, listener::LimitedListener, secure};

/// The fewest bytes of a token: as many as nobody guesses over a network.
const MIN_TOKEN: usize = 16;

/// The settings of a router. The default is that of [`router`](crate::router): it only reads.
///
/// ```
/// use axum::Router;
/// use formation_host::ClusterHandle;
/// use formation_http::{Settings, Token, TokenTooShort};
///
/// /// The page for few people, who may also make the node resign or leave.
/// fn app(cluster: &ClusterHandle, secret: &str) -> Result<Router, TokenTooShort> {
///     Ok(Settings::new().event_streams(4).control(Token::new(secret)?).router(cluster.clone()))
/// }
/// ```
#[derive(Clone, Debug)]
#[must_use = "it does nothing before `router`"]
pub struct Settings {
    event_streams: usize,
    connections: usize,
    token: Option<Token>,
    leave_limit: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self::new()
    }
}

impl Settings {
    /// 32 streams of events and 96 connections at once, and no route that changes something.
    pub fn new() -> Self {
        Self { event_streams: 32, connections: 96, token: None, leave_limit: None }
    }

    /// How many streams of events are served at once. Further ones get 503. With 0 there are none.
    pub fn event_streams(self, most: usize) -> Self {
        Self { event_streams: most, ..self }
    }

    /// How many connections [`serve`](Self::serve) serves at once, and at least one. One source address (of IPv6 the first 64 bits) gets
    /// a third of them at most, so that it cannot lock the others out. Further ones are closed at once. [`router`](Self::router)
    /// has no connections of its own, and does not use this.
    pub fn connections(self, most: usize) -> Self {
        Self { connections: most, ..self }
    }

    /// How long `POST /leave` may take. Without it, it takes as long as [`leave`](ClusterHandle::leave) does.
    /// At the limit the node ends as by [`leave_within`](ClusterHandle::leave_within), and the answer is 503.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use formation_http::{Settings, Token, TokenTooShort};
    ///
    /// fn settings(secret: &str) -> Result<Settings, TokenTooShort> {
    ///     Ok(Settings::new().control(Token::new(secret)?).leave_within(Duration::from_secs(5)))
    /// }
    /// ```
    pub fn leave_within(self, limit: Duration) -> Self {
        Self { leave_limit: Some(limit), ..self }
    }

    /// Adds the routes that change something, for those who have the token.
    pub fn control(self, token: Token) -> Self {
        Self { token: Some(token), ..self }
    }

    /// The routes of a node. The documentation of this package lists them.
    pub fn router(self, handle: ClusterHandle) -> Router {
        let mut routes = Router::new()
            .route("/", get(cluster::page))
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(cluster::ready))
            .route("/metrics", get(crate::metrics))
            .route("/cluster", get(cluster::cluster))
            .route("/explain", get(cluster::explain))
            .route("/events", get(events::stream));
        if self.token.is_some() {
            routes = routes.route("/leave", post(control::leave)).route("/resign", post(control::resign));
            routes = routes.route("/voters", post(control::voters));
        }
        let places = events::StreamPlaces::new(self.event_streams);
        let explanations = Arc::new(Explanations::new(handle.clone()));
        let app = App { handle, places, explanations, token: self.token, leave_limit: self.leave_limit };
        routes.layer(map_response(secure)).with_state(app)
    }

    /// Serves the routes on a listener of their own until the node has stopped and the last answer is sent.
    ///
    /// Each connection takes a file of the process, which the node needs for its own connections. So there is a limit of
    /// [`connections`](Self::connections), and one on which nothing has been written for two minutes is closed.
    ///
    /// ```no_run
    /// use formation_host::ClusterHandle;
    /// use formation_http::Settings;
    /// use tokio::net::TcpListener;
    ///
    /// async fn serve(cluster: ClusterHandle) -> std::io::Result<()> {
    ///     Settings::new().connections(16).serve(cluster, TcpListener::bind("10.0.0.1:8000").await?).await
    /// }
    /// ```
    ///
    /// Cancel safe: a dropped future serves nothing any more.
    ///
    /// # Errors
    /// None at present: where the process has no more files, it waits until it has some.
    pub async fn serve(self, handle: ClusterHandle, listener: TcpListener) -> io::Result<()> {
        let listener = LimitedListener::new(listener, self.connections);
        let router = self.router(handle.clone());
        let stopped = async move {
            handle.stopped().await;
        };
        axum::serve(listener, router).with_graceful_shutdown(stopped).await
    }
}

/// The secret of those who may change something.
///
/// ```
/// use formation_http::Token;
///
/// assert!(Token::new("short").is_err());
/// let token = Token::new("9f2c7d1e5a804b6c3f17").expect("it is long enough");
/// assert_eq!(format!("{token:?}"), "Token(…)", "it is in no log");
/// ```
#[derive(Clone)]
pub struct Token(Arc<[u8]>);

impl Token {
    /// A token of at least 16 bytes. Make it from a random source, for example with `openssl rand -hex 16`.
    ///
    /// # Errors
    /// [`TokenTooShort`] if it has fewer bytes.
    pub fn new(secret: impl AsRef<[u8]>) -> Result<Self, TokenTooShort> {
        let secret = secret.as_ref();
        if secret.len() < MIN_TOKEN { Err(TokenTooShort) } else { Ok(Self(secret.into())) }
    }

    /// Compares in a time that says nothing about where the two differ.
    pub(crate) fn is(&self, given: &[u8]) -> bool {
        self.0.ct_eq(given).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A token has fewer than 16 bytes, and could be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token needs at least {MIN_TOKEN} bytes; make one with `openssl rand -hex 16`")]
pub struct TokenTooShort;
