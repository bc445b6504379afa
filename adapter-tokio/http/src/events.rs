//! The events of a node, as server-sent events.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use formation_core::Severity;
use formation_host::{ClusterHandle, PastEvent, describe};
use futures_lite::stream;
use serde::Serialize;

use crate::{App, millis, parameter};

/// How often something is sent, so that a client that is gone is noticed, and proxies keep the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// How long a client waits until it connects again.
const RETRY: Duration = Duration::from_secs(1);

/// The header with which a proxy is told to pass each event on at once.
const NO_BUFFERING: &str = "x-accel-buffering";

/// How many streams there may be, and how many there are.
#[derive(Clone, Debug)]
pub(crate) struct StreamPlaces {
    most: usize,
    taken: Arc<AtomicUsize>,
}

impl StreamPlaces {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, taken: Arc::default() }
    }

    fn take(&self) -> Option<StreamPlace> {
        let one_more = |taken: usize| (taken < self.most).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(StreamPlace(self.taken.clone()))
    }
}

/// The place of one stream. It is free again when this is dropped.
#[derive(Debug)]
struct StreamPlace(Arc<AtomicUsize>);

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(crate) async fn stream(State(app): State<App>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(place) = app.places.take() else {
        let why = format!("there are {} streams of events already\n", app.places.most);
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "10")], why).into_response();
    };
    // The header is that of a browser that connects again by itself: it knows more than the address, which stays the same.
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).or(parameter(&uri, "after"));
    let seen = seen(last.unwrap_or_default(), app.handle.node().incarnation.0);
    let reader = Reader { handle: app.handle, seen, next: VecDeque::new(), _place: place };
    let events = stream::unfold(reader, async |mut reader: Reader| {
        let event = reader.next().await?;
        Some((Ok::<_, Infallible>(event), reader))
    });
    let events = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    // A proxy such as nginx would hold the events back until it has many.
    ([(NO_BUFFERING, "no")], events).into_response()
}

/// The number of the event that a client has seen last. The numbers of another run say nothing.
fn seen(id: &str, incarnation: u64) -> u64 {
    let parts = id.split_once('-').and_then(|(run, number)| Some((run.parse().ok()?, number.parse().ok()?)));
    parts.filter(|(run, _): &(u64, u64)| *run == incarnation).map_or(0, |(_, number)| number)
}

/// One client.
#[derive(Debug)]
struct Reader {
    handle: ClusterHandle,
    /// The number of the event that was sent last.
    seen: u64,
    next: VecDeque<PastEvent>,
    _place: StreamPlace,
}

impl Reader {
    /// The next event. `None`: the node has stopped, and all were sent.
    async fn next(&mut self) -> Option<Event> {
        if self.next.is_empty() {
            self.next = self.handle.wait_for_events(self.seen).await.ok()?.into();
        }
        let past = self.next.pop_front()?;
        self.seen = past.number;
        let own = self.handle.node();
        let age = self.handle.now().since(past.at);
        let at = (SystemTime::now() - age).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let data = Data {
            number: past.number,
            unix_ms: millis(at),
            severity: past.event.severity(),
            line: describe(own, &past.event),
            event: past.event,
        };
        // It fails for no event: all maps in them have texts as keys.
        let event = Event::default().json_data(data).unwrap_or_default();
        Some(event.retry(RETRY).id(format!("{}-{}", own.incarnation.0, past.number)))
    }
}

/// The data of an event.
#[derive(Debug, Serialize)]
struct Data {
    number: u64,
    unix_ms: u64,
    severity: Severity,
    line: Option<String>,
    event: formation_core::Event,
}
