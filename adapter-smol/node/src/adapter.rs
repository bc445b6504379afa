//! A node on smol, as the program runs it.

use std::{io, time::Duration};

use formation_node::{Adapter, Request};
use formation_smol::{Cluster, Config, Credentials, Environment, StartError, Tcp, Tls};
use smol::{Timer, net::TcpListener};

use crate::signals::Signals;

pub(crate) struct Smol;

impl Adapter for Smol {
    const PROGRAM: &'static str = env!("CARGO_BIN_NAME");
    type Listener = TcpListener;
    type Cluster = Cluster;
    type Signals = Signals;

    async fn listen(address: &str) -> io::Result<TcpListener> {
        TcpListener::bind(address).await
    }

    fn start(
        config: Config,
        listener: TcpListener,
        credentials: Option<Credentials>,
        environment: &Environment,
    ) -> Result<Cluster, StartError> {
        let tcp = Tcp::new(listener);
        match credentials {
            Some(credentials) => Cluster::start_with(config, Tls::new(tcp, credentials), environment),
            None => Cluster::start_with(config, tcp, environment),
        }
    }

    fn signals() -> io::Result<Signals> {
        Signals::new()
    }

    async fn next_request(signals: &mut Signals) -> Request {
        signals.next().await
    }

    async fn pause(time: Duration) {
        Timer::after(time).await;
    }
}
