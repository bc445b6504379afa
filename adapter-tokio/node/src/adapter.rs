//! A node on tokio, as the program runs it.

use std::{error::Error, io, time::Duration};

use formation_node::{Adapter, Request};
use formation_tokio::{Cluster, Config, Credentials, Event, Events, Leadership, Node, Tcp, Timestamp, Tls};
use tokio::{net::TcpListener, time};

use crate::signals::Signals;

pub(crate) struct Tokio(Cluster);

impl Adapter for Tokio {
    type Events = Events;
    type Signals = Signals;

    async fn start(config: Config, listen: &str, credentials: Option<Credentials>) -> Result<Self, Box<dyn Error>> {
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|error| format!("cannot listen at {listen}: {error}; is another node there?"))?;
        let transport = Tcp::new(listener);
        let cluster = match credentials {
            Some(credentials) => Cluster::start_on(config, Tls::new(transport, credentials))?,
            None => Cluster::start_on(config, transport)?,
        };
        Ok(Self(cluster))
    }

    fn node(&self) -> &Node {
        self.0.node()
    }

    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn leadership(&self) -> Option<Leadership> {
        self.0.leadership()
    }

    fn events(&self) -> Events {
        self.0.events()
    }

    async fn next_event(events: &mut Events) -> Option<Result<Event, u64>> {
        Some(events.next().await?.map_err(|skipped| skipped.0))
    }

    async fn leave(&self) {
        // It fails only when the node has stopped already.
        let _ = self.0.leave().await;
    }

    fn signals() -> io::Result<Signals> {
        Signals::new()
    }

    async fn next_request(signals: &mut Signals) -> Request {
        signals.next().await
    }

    async fn pause(time: Duration) {
        time::sleep(time).await;
    }
}
